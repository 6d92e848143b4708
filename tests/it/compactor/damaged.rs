//! A control object that is not what it should be stops its own lane and no other.

use std::sync::Arc;

use firnline::EventOutcome;
use firnline::arrow::array::{ArrayRef, RecordBatch, StructArray};
use firnline::arrow::datatypes::{DataType, Field};
use firnline::parquet::file::properties::WriterProperties;

use super::support::{put, tell};
use crate::merge::support::{decode, encode};
use crate::world::{HOUR, World, at, parquet_of, work_until};

#[test]
fn a_damaged_manifest_halts_its_lane_and_the_others_go_on() {
    let world = World::new();
    put(&world.control, "lanes/broken/lane.json", b"{".to_vec());
    let now = at(HOUR + 3_600_000);
    let mut compactor = world.open(now);
    let (first, mut rows) = world.write_some("users", HOUR + 1, "w1", 0, 5);
    let (second, more) = world.write_some("users", HOUR + 2, "w2", 0, 5);
    let (third, _) = world.write_some("broken", HOUR + 2, "w2", 0, 5);
    let told = tell(&mut compactor, &[first, second, third], now);
    assert_eq!(told[..2], [Ok(EventOutcome::Recorded), Ok(EventOutcome::Recorded)]);
    assert!(told[2].is_err(), "not to be acknowledged: {told:?}");
    work_until(&mut compactor, now, at(HOUR + 4 * 3_600_000));
    rows.extend(more);
    rows.sort();
    assert_eq!(world.table_rows("users"), rows);
    let halts = compactor.status(now).halts;
    assert_eq!(halts.len(), 1);
    assert_eq!(halts[0].namespace.as_str(), "broken");
    assert!(halts[0].reason.contains("lane.json"), "{}", halts[0].reason);
    assert_eq!(world.sources(), ["data/broken/1699999200002-w2-0.parquet"]);
}

/// What becomes of a window of two good files and one whose bytes are not what a writer wrote.
fn committed_beside(bytes: Vec<u8>) {
    let world = World::new();
    let mut compactor = world.open(at(HOUR));
    let (first, mut rows) = world.write_some("users", HOUR + 1, "w1", 0, 4);
    let (second, more) = world.write_some("users", HOUR + 2, "w2", 0, 4);
    let bad = put(&world.bucket, &format!("data/users/{}-w3-0.parquet", HOUR + 3), bytes);
    let told = tell(&mut compactor, &[first, second, bad], at(HOUR + 4));
    assert!(told.iter().all(Result::is_ok), "{told:?}");
    let late = at(HOUR + 4 * 3_600_000);
    work_until(&mut compactor, at(HOUR + 4), late);
    rows.extend(more);
    let (_, theirs) = World::new().write_some("users", HOUR + 3, "w3", 0, 4);
    let status = compactor.status(late);
    assert_eq!(status.halts, []);
    let set_aside = !status.quarantine.files.is_empty();
    let table = world.table_rows("users");
    assert!(rows.iter().all(|row| table.contains(row)), "{table:?}");
    // A change of what a footer says beside its rows does no harm.
    let expected = if set_aside {
        rows.len()
    } else {
        rows.len() + theirs.len()
    };
    assert_eq!(table.len(), expected);
}

#[test]
fn good_files_are_committed_beside_one_that_is_cut_or_changed_anywhere() {
    let (_, rows) = World::new().write_some("users", HOUR + 3, "w3", 0, 4);
    let file = parquet_of(&rows);
    // Some of the places; `merge::hostile` tries all of them on the merge alone.
    for place in (0..file.len()).step_by(37) {
        committed_beside(file[..place].to_vec());
        let mut changed = file.clone();
        changed[place] ^= 1 << (place % 8);
        committed_beside(changed);
    }
}

#[test]
fn a_reason_of_any_length_is_remembered() {
    let name = "x".repeat(100_000);
    let (_, rows) = World::new().write_some("users", HOUR + 3, "w3", 0, 4);
    let batch = decode(parquet_of(&rows)).remove(0);
    // A number that has become a struct, whose field has a long name.
    let inner = Field::new(name, DataType::Int64, true);
    let odd = StructArray::from(vec![(Arc::new(inner), batch.column(2).clone())]);
    let columns = [
        batch.column(0).clone(),
        batch.column(1).clone(),
        Arc::new(odd) as ArrayRef,
    ];
    let drifted = RecordBatch::try_from_iter(["ts", "id", "n"].into_iter().zip(columns)).unwrap();
    committed_beside(encode(&drifted, WriterProperties::default()));
}
