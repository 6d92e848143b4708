//! The operator's doors: what each says, does, and leaves for ever.

use std::sync::Arc;

use firnline::object_store::path::Path;
use firnline::{Compactor, DoorReport, ErrorKind, EventOutcome, MemoryStateStore, ObjectEvent, OnUnsorted};
use futures::executor::block_on;

use super::support::{
    DAY, END, MINUTE, commits, content, delete, ns, object_key, put, quarantine, sorted, tell, two_good,
};
use crate::world::{HOUR, Row, World, at, parquet_of, work, work_until};

const T: i64 = END + 10 * MINUTE;

fn third() -> String {
    format!("data/users/{}-w3-0.parquet", HOUR + 3_000)
}

fn some_rows(writer: &str, count: i64) -> Vec<Row> {
    (0..count)
        .map(|i| ((HOUR + 3_000 + i) * 1_000, format!("{writer}-{i:05}"), i))
        .collect()
}

/// Two good files are committed, and the third is in quarantine for `kind`.
fn set_aside(bytes: Vec<u8>, kind: &str) -> (World, Compactor, Vec<Row>, ObjectEvent) {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let event = put(&world.bucket, &third(), bytes);
    tell(&mut compactor, std::slice::from_ref(&event), at(END));
    work_until(&mut compactor, at(END), at(T));
    assert_eq!(quarantine(&compactor, at(T)), [(third(), kind.to_owned())]);
    (world, compactor, rows, event)
}

fn released(compactor: &mut Compactor, now: i64) {
    let door = compactor.release(&object_key(&third())).unwrap();
    assert_eq!(
        door.to_string(),
        format!("release `{}`: it is pending again and judged anew", third())
    );
    let report = block_on(compactor.go_through(door, at(now))).unwrap();
    assert_eq!(report.pending, 1);
    assert_eq!(quarantine(compactor, at(now)), []);
}

#[test]
fn a_bad_file_that_is_released_unchanged_goes_straight_back() {
    let (world, mut compactor, rows, _) = set_aside(b"garbage".to_vec(), "corrupt");
    released(&mut compactor, T);
    let reports = work(&mut compactor, at(T));
    assert_eq!(commits(&reports), []);
    assert_eq!(quarantine(&compactor, at(T)), [(third(), "corrupt".to_owned())]);
    assert_eq!(world.table_rows("users"), rows);
}

#[test]
fn a_bad_file_that_was_mended_is_committed_at_once_after_its_release() {
    let mut unsorted = some_rows("w3", 9);
    unsorted.swap(2, 3);
    let (world, mut compactor, rows, _) = set_aside(parquet_of(&unsorted), "unsorted");
    let _ = put(&world.bucket, &third(), parquet_of(&some_rows("w3", 9)));
    released(&mut compactor, T);
    let reports = work(&mut compactor, at(T));
    assert_eq!(commits(&reports), [(3, 1, 1, 9)]);
    assert_eq!(world.table_rows("users"), sorted(&[&rows, &some_rows("w3", 9)]));
    assert_eq!(world.sources(), Vec::<String>::new());
}

#[test]
fn a_file_out_of_order_is_sorted_after_its_release_where_that_is_allowed() {
    let mut unsorted = some_rows("w3", 9);
    unsorted.swap(2, 3);
    let (mut world, compactor, rows, _) = set_aside(parquet_of(&unsorted), "unsorted");
    drop(compactor);
    world.options = world.options.with_on_unsorted(OnUnsorted::Resort);
    let mut compactor = world.open(at(T));
    released(&mut compactor, T);
    let reports = work(&mut compactor, at(T));
    assert_eq!(commits(&reports), [(3, 1, 1, 9)]);
    assert_eq!(world.table_rows("users"), sorted(&[&rows, &some_rows("w3", 9)]));
    assert_eq!(world.sources(), Vec::<String>::new());
    let control = world.list(&world.control, &Path::default());
    assert!(
        !control.iter().any(|path| path.as_ref().contains("scratch")),
        "{control:?}"
    );
}

#[test]
fn a_vanished_file_is_looked_for_again_after_its_release() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let event = put(&world.bucket, &third(), parquet_of(&some_rows("w3", 9)));
    tell(&mut compactor, &[event], at(END));
    delete(&world.bucket, &third());
    work_until(&mut compactor, at(END), at(T));
    assert_eq!(quarantine(&compactor, at(T)), [(third(), "vanished".to_owned())]);
    let _ = put(&world.bucket, &third(), parquet_of(&some_rows("w3", 9)));
    released(&mut compactor, T);
    assert_eq!(commits(&work(&mut compactor, at(T))), [(2, 1, 1, 9)]);
    assert_eq!(world.table_rows("users"), sorted(&[&rows, &some_rows("w3", 9)]));
}

#[test]
fn a_replaced_file_that_is_released_is_appended() {
    let mut world = World::new();
    world.options = world.options.with_delete_grace_ms(3_600_000);
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let event = put(&world.bucket, &third(), parquet_of(&some_rows("old", 9)));
    tell(&mut compactor, &[event], at(END));
    assert_eq!(commits(&work_until(&mut compactor, at(END), at(T))), [(1, 0, 3, 49)]);
    let event = put(&world.bucket, &third(), parquet_of(&some_rows("new", 4)));
    assert_eq!(tell(&mut compactor, &[event], at(T)), [Ok(EventOutcome::SetAside)]);
    released(&mut compactor, T);
    let reports = work_until(&mut compactor, at(T), at(T + DAY));
    assert_eq!(commits(&reports), [(2, 1, 1, 4)]);
    let all = sorted(&[&rows, &some_rows("old", 9), &some_rows("new", 4)]);
    assert_eq!(world.table_rows("users"), all);
    assert_eq!(world.sources(), Vec::<String>::new());
}

#[test]
fn a_release_is_remembered_by_the_next_process() {
    let mut world = World::new();
    world.options = world.options.with_delete_grace_ms(3_600_000);
    let mut compactor = world.open(at(END));
    two_good(&world, &mut compactor);
    work_until(&mut compactor, at(END), at(T));
    let first = world.sources()[0].clone();
    let event = put(&world.bucket, &first, parquet_of(&some_rows("new", 4)));
    assert_eq!(tell(&mut compactor, &[event], at(T)), [Ok(EventOutcome::SetAside)]);
    let door = compactor.release(&object_key(&first)).unwrap();
    block_on(compactor.go_through(door, at(T))).unwrap();
    drop(compactor);
    let mut compactor = world.open(at(T));
    assert_eq!(commits(&work_until(&mut compactor, at(T), at(T + DAY))), [(2, 1, 1, 4)]);
}

#[test]
fn a_discarded_file_is_hidden_for_ever_and_stays_in_the_bucket() {
    let (world, mut compactor, rows, event) = set_aside(b"garbage".to_vec(), "corrupt");
    let door = compactor.discard(&object_key(&third())).unwrap();
    assert_eq!(
        door.to_string(),
        format!("discard `{}`: it stays in the bucket and is never compacted", third())
    );
    let report = block_on(compactor.go_through(door, at(T))).unwrap();
    assert_eq!((report.left, report.pending), (1, 0));
    assert_eq!(quarantine(&compactor, at(T)), []);
    for process in 0..2 {
        assert_eq!(
            tell(&mut compactor, std::slice::from_ref(&event), at(T)),
            [Ok(EventOutcome::Duplicate)]
        );
        let listed = block_on(compactor.reconcile(at(T))).unwrap();
        assert_eq!(
            (listed.listed, listed.recorded, listed.set_aside),
            (1, 0, 0),
            "{process}"
        );
        assert_eq!(work_until(&mut compactor, at(T), at(T + 2 * DAY)).len(), 0);
        assert_eq!(quarantine(&compactor, at(T)), []);
        let error = compactor.release(&object_key(&third())).unwrap_err();
        assert_eq!(error.to_string(), format!("not in quarantine. key=`{}`", third()));
        drop(compactor);
        compactor = world.open(at(T));
    }
    assert_eq!(world.sources(), [third()]);
    assert_eq!(world.table_rows("users"), rows);
}

#[test]
fn a_discard_is_forgotten_with_the_state_and_the_file_is_shown_again_but_never_skipped() {
    let (mut world, mut compactor, rows, _) = set_aside(b"garbage".to_vec(), "corrupt");
    let door = compactor.discard(&object_key(&third())).unwrap();
    block_on(compactor.go_through(door, at(T))).unwrap();
    drop(compactor);
    world.state = Arc::new(MemoryStateStore::new());
    let mut compactor = world.open(at(T));
    work_until(&mut compactor, at(T), at(T + 2 * DAY));
    assert_eq!(quarantine(&compactor, at(T)), [(third(), "corrupt".to_owned())]);
    assert_eq!(world.table_rows("users"), rows);
}

#[test]
fn a_discarded_malformed_key_stays_hidden() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let bad = "data/users/nonsense.parquet";
    let event = put(&world.bucket, bad, Vec::new());
    tell(&mut compactor, std::slice::from_ref(&event), at(END));
    let door = compactor.discard(&object_key(bad)).unwrap();
    block_on(compactor.go_through(door, at(END))).unwrap();
    assert_eq!(quarantine(&compactor, at(END)), []);
    let mut compactor = world.open(at(END));
    assert_eq!(tell(&mut compactor, &[event], at(END)), [Ok(EventOutcome::Duplicate)]);
    assert_eq!(block_on(compactor.reconcile(at(END))).unwrap().set_aside, 0);
    assert_eq!(quarantine(&compactor, at(END)), []);
}

#[test]
fn a_key_that_is_not_in_quarantine_has_no_doors() {
    let world = World::new();
    let compactor = world.open(at(END));
    for error in [
        compactor.release(&object_key("data/users/x")).unwrap_err(),
        compactor.discard(&object_key("data/users/x")).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.to_string(), "not in quarantine. key=`data/users/x`");
    }
}

#[test]
fn a_door_that_has_been_gone_through_is_a_conflict() {
    let (_world, mut compactor, _, _) = set_aside(b"garbage".to_vec(), "corrupt");
    let door = compactor.release(&object_key(&third())).unwrap();
    block_on(compactor.go_through(door.clone(), at(T))).unwrap();
    let error = block_on(compactor.go_through(door, at(T))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

/// A committed window within its grace, whose control objects are then lost.
fn lost_register() -> (World, Vec<Row>) {
    let mut world = World::new();
    world.options = world.options.with_delete_grace_ms(3_600_000);
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    assert_eq!(commits(&work_until(&mut compactor, at(END), at(T))), [(1, 0, 2, 40)]);
    (world, rows)
}

#[test]
fn a_table_that_was_dropped_halts_the_lane_and_replay_puts_in_again_what_is_still_there() {
    let (world, rows) = lost_register();
    for (path, _) in content(&world.tables) {
        delete(&world.tables, &path);
    }
    let mut compactor = world.open(at(T));
    assert_eq!(
        compactor.status(T_AT).halts[0].reason,
        "table rolled back: there is no table, but seq 1 was in it; `replay` puts in again what is missing, `adopt` \
         takes the table as it is"
    );
    let door = block_on(compactor.replay(&ns("users"))).unwrap();
    assert_eq!(
        door.to_string(),
        "replay: what the table no longer has is put in again. namespace=`users`: 2 source files are pending, 0 are \
         left in the bucket since their rows are in the table, 0 go to quarantine since nobody can tell, 0 are \
         neither in the table nor in the bucket"
    );
    let report = block_on(compactor.go_through(door, at(T))).unwrap();
    let mut expected = DoorReport::default();
    expected.pending = 2;
    assert_eq!(report, expected);
    let reports = work_until(&mut compactor, at(T), at(T + 2 * DAY));
    assert_eq!(commits(&reports), [(1, 0, 2, 40)]);
    assert_eq!(world.table_rows("users"), rows);
    assert_eq!(world.sources(), Vec::<String>::new());
}

#[test]
fn a_door_that_another_worker_was_first_through_is_a_conflict_and_made_again_puts_in_nothing_twice() {
    let (world, rows) = lost_register();
    for (path, _) in content(&world.tables) {
        delete(&world.tables, &path);
    }
    let mut first = world.open(at(T));
    let mut second = world.open(at(T));
    let late = block_on(second.replay(&ns("users"))).unwrap();
    let door = block_on(first.replay(&ns("users"))).unwrap();
    assert_eq!(block_on(first.go_through(door, at(T))).unwrap().pending, 2);
    // Neither before the first worker has put in again what was missing, nor afterwards.
    let error = block_on(second.go_through(late.clone(), at(T))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(commits(&work(&mut first, at(T))), [(1, 0, 2, 40)]);
    let error = block_on(second.go_through(late, at(T))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let door = block_on(second.replay(&ns("users"))).unwrap();
    let report = block_on(second.go_through(door, at(T))).unwrap();
    assert_eq!((report.pending, report.quarantined, report.left), (0, 0, 2));
    let reports = work_until(&mut second, at(T), at(T + 2 * DAY));
    assert_eq!(commits(&reports), []);
    work_until(&mut first, at(T), at(T + 2 * DAY));
    assert_eq!(world.table_rows("users"), rows);
}

const T_AT: firnline::Timestamp = firnline::Timestamp::from_millis(T);

#[test]
fn a_lost_register_halts_the_lane_and_adopt_goes_on_with_what_comes() {
    let (mut world, rows) = lost_register();
    for (path, _) in content(&world.control) {
        delete(&world.control, &path);
    }
    world.state = Arc::new(MemoryStateStore::new());
    let mut compactor = world.open(at(T));
    let (event, more) = world.write_some("users", HOUR + 99, "w9", 0, 5);
    tell(&mut compactor, std::slice::from_ref(&event), at(T));
    assert_eq!(work_until(&mut compactor, at(T), at(T + MINUTE)).len(), 0);
    let halts = compactor.status(at(T)).halts;
    assert_eq!(halts.len(), 1);
    assert!(
        halts[0]
            .reason
            .starts_with("plan register lost: the table belongs to another lane"),
        "{}",
        halts[0].reason
    );
    let door = block_on(compactor.adopt(&ns("users"))).unwrap();
    let report = block_on(compactor.go_through(door, at(T))).unwrap();
    // Nobody can tell of any of the three whether it is in the table.
    assert_eq!((report.pending, report.quarantined, report.left), (0, 3, 0));
    assert_eq!(compactor.status(at(T)).halts, []);
    let door = compactor.release(&event.key).unwrap();
    assert_eq!(
        door.to_string(),
        format!(
            "release `{}`: it is pending again and judged anew. WARNING: nobody can tell whether its rows are in the \
             table already, and if they are, they will be in it TWICE. Look first: read some of its rows and ask the \
             table for them; where it has them, `discard` the file instead",
            event.key
        )
    );
    block_on(compactor.go_through(door, at(T))).unwrap();
    let (another, yet_more) = world.write_some("users", HOUR + 100, "w9", 1, 6);
    assert_eq!(tell(&mut compactor, &[another], at(T)), [Ok(EventOutcome::Recorded)]);
    let reports = work_until(&mut compactor, at(T), at(T + 2 * DAY));
    assert_eq!(commits(&reports).iter().map(|c| c.3).sum::<u64>(), 11);
    assert_eq!(world.table_rows("users"), sorted(&[&rows, &more, &yet_more]));
    assert_eq!(world.sources().len(), 2, "those that nobody can tell of are kept");
    // What was released and committed is known: its notification tells nothing new.
    let told = tell(&mut compactor, &[event], at(T + 2 * DAY));
    assert_eq!(told, [Ok(EventOutcome::Duplicate)]);
    assert_eq!(compactor.status(at(T + 2 * DAY)).quarantine.count, 2);
}
