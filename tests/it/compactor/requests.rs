//! How often a store is asked: requests cost money and time.

use std::sync::Arc;

use super::support::{END, MINUTE, commits};
use crate::merge::recording::{Recording, Request};
use crate::world::{HOUR, Row, World, at, work_until};
use futures::executor::block_on;

/// Rows whose ids hardly compress.
fn rows(writer: u64, count: u64) -> Vec<Row> {
    let scattered = |i: u64| (writer * 1_000_000 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let row = |i| {
        (
            HOUR * 1_000 + i64::try_from(i).unwrap(),
            format!("{:016x}", scattered(i)),
            7,
        )
    };
    (0..count).map(row).collect()
}

/// How often each of two sources of so many rows is asked for until its rows are in the table.
fn reads(count: u64) -> Vec<usize> {
    let recording = Recording::default();
    let mut world = World::new();
    world.bucket = Arc::new(recording.clone());
    let mut compactor = world.open(at(END));
    let mut events = Vec::new();
    for writer in 0..2 {
        events.push(world.write("users", HOUR + 1_000, &format!("w{writer}"), 0, &rows(writer, count)));
    }
    let _ = block_on(compactor.handle_events(&events, at(END)));
    recording.clear();
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 2, 2 * count)]);
    let of = |writer: u64| {
        let mine =
            |request: &&Request| matches!(request, Request::Get { path, .. } if path.contains(&format!("-w{writer}-")));
        recording.log().iter().filter(mine).count()
    };
    vec![of(0), of(1)]
}

#[test]
fn a_small_source_is_read_twice_and_a_tiny_one_once() {
    assert_eq!(
        reads(30_000),
        [2, 2],
        "its end when it is planned, the rest when it is merged"
    );
    assert_eq!(reads(30), [1, 1], "its end is all of it");
}
