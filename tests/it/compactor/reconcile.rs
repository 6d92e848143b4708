//! The listing: a backfill in whole windows, what notifications have lost, and nothing the second time.
#![cfg(feature = "testing")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use firnline::testing::{FaultStateStore, Faults, OperationKind, YieldingStore};
use firnline::{EventOutcome, HealthState, ObjectEvent, WaitingFor};
use futures::executor::block_on;
use futures::future::FutureExt;

use super::support::{DAY, END, HookStore, MINUTE, Moment, away, commits, errors, put, quarantine, sorted, tell};
use crate::world::{HOUR, Row, World, at, parquet_of, work, work_until};

/// Long after the files.
const NOW: i64 = HOUR + 30 * DAY;

fn backlog(world: &World, hours: i64, per_hour: i64) -> Vec<Row> {
    let mut rows = Vec::new();
    for hour in 0..hours {
        for n in 0..per_hour {
            let writer = format!("w{}", n % 3);
            let sequence = (hour * per_hour + n).cast_unsigned();
            rows.extend(
                world
                    .write_some("users", HOUR + hour * 3_600_000 + n, &writer, sequence, 2)
                    .1,
            );
        }
    }
    rows.sort();
    rows
}

fn state_writes(faults: &Faults) -> usize {
    let writes = [OperationKind::StateSave, OperationKind::StateDelete];
    faults
        .log()
        .iter()
        .filter(|operation| writes.contains(&operation.kind))
        .count()
}

fn watched(world: &mut World) -> Faults {
    let faults = Faults::none();
    world.state = Arc::new(FaultStateStore::new(Arc::clone(&world.state), &faults));
    faults
}

#[test]
fn an_old_bucket_is_migrated_in_whole_windows_and_the_second_listing_changes_nothing() {
    let mut world = World::new();
    world.options = world.options.with_min_files_to_compact(3);
    let faults = watched(&mut world);
    let rows = backlog(&world, 4, 5);
    let mut compactor = world.open(at(NOW));
    let listed = block_on(compactor.reconcile(at(NOW))).unwrap();
    assert_eq!(
        (listed.listed, listed.recorded, listed.set_aside, listed.deferred),
        (20, 20, 0, 0)
    );
    let status = compactor.status(at(NOW));
    assert_eq!(status.counters.found_by_listing, 20);
    assert_eq!(
        status.health.state,
        HealthState::Healthy,
        "nobody waits for notifications"
    );
    assert_eq!(
        status.windows.iter().map(|w| w.file_count).collect::<Vec<_>>(),
        [5, 5, 5, 5]
    );
    let writes = state_writes(&faults);
    let again = block_on(compactor.reconcile(at(NOW))).unwrap();
    assert_eq!(
        (again.listed, again.recorded, again.set_aside, again.deferred),
        (20, 0, 0, 0)
    );
    assert_eq!(compactor.status(at(NOW)), status);
    assert_eq!(state_writes(&faults), writes);
    // Settled since the listing has ended; no writer is waited for that long.
    let reports = work_until(&mut compactor, at(NOW), at(NOW + 10 * MINUTE));
    assert_eq!(
        commits(&reports),
        [(1, 0, 5, 10), (2, 0, 5, 10), (3, 0, 5, 10), (4, 0, 5, 10)]
    );
    assert_eq!(world.table_rows("users"), rows);
    assert_eq!(world.sources(), Vec::<String>::new());
    let after = block_on(compactor.reconcile(at(NOW + 10 * MINUTE))).unwrap();
    assert_eq!((after.listed, after.recorded), (0, 0));
}

#[test]
fn a_listing_within_the_grace_recognises_what_is_committed() {
    let mut world = World::new();
    world.options = world.options.with_delete_grace_ms(DAY.cast_unsigned());
    let faults = watched(&mut world);
    let rows = backlog(&world, 2, 3);
    let mut compactor = world.open(at(NOW));
    block_on(compactor.reconcile(at(NOW))).unwrap();
    let reports = work_until(&mut compactor, at(NOW), at(NOW + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 3, 6), (2, 0, 3, 6)]);
    let writes = state_writes(&faults);
    for _ in 0..2 {
        let listed = block_on(compactor.reconcile(at(NOW + 10 * MINUTE))).unwrap();
        assert_eq!((listed.listed, listed.recorded), (6, 0));
    }
    assert_eq!(state_writes(&faults), writes);
    // Nor does the next process, even without its state.
    world.state = Arc::new(firnline::MemoryStateStore::new());
    let mut compactor = world.open(at(NOW + 10 * MINUTE));
    let listed = block_on(compactor.reconcile(at(NOW + 10 * MINUTE))).unwrap();
    assert_eq!((listed.listed, listed.recorded), (6, 0));
    let reports = work_until(&mut compactor, at(NOW + 10 * MINUTE), at(NOW + 3 * DAY));
    assert_eq!(commits(&reports), []);
    assert_eq!(world.table_rows("users"), rows);
    assert_eq!(world.sources(), Vec::<String>::new());
}

#[test]
fn a_file_whose_notification_was_lost_is_found() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (told, rows) = world.write_some("users", HOUR + 1, "w1", 0, 3);
    assert_eq!(tell(&mut compactor, &[told], at(END)), [Ok(EventOutcome::Recorded)]);
    let (_, lost) = world.write_some("users", HOUR + 2, "w2", 0, 3);
    let (_, elsewhere) = world.write_some("others", HOUR + 2, "w2", 0, 3);
    put(&world.bucket, "data/users/nonsense.parquet", Vec::new());
    put(&world.bucket, "data/users/_SUCCESS", Vec::new());
    put(&world.bucket, "unrelated/x.parquet", Vec::new());
    let listed = block_on(compactor.reconcile(at(END))).unwrap();
    // The file that was told of without an etag was known.
    assert_eq!((listed.listed, listed.recorded, listed.set_aside), (5, 2, 1));
    assert_eq!(compactor.status(at(END)).counters.found_by_listing, 2);
    assert_eq!(compactor.status(at(END)).health.state, HealthState::Degraded);
    assert_eq!(
        quarantine(&compactor, at(END)),
        [("data/users/nonsense.parquet".to_owned(), "malformed".to_owned())]
    );
    work_until(&mut compactor, at(END), at(END + 2 * DAY));
    assert_eq!(world.table_rows("users"), sorted(&[&rows, &lost]));
    assert_eq!(world.table_rows("others"), elsewhere);
}

#[test]
fn more_objects_than_a_page_are_all_found() {
    let mut world = World::new();
    world.options = world.options.with_max_plan_files(3_000);
    let one = parquet_of(&[(HOUR * 1_000, "same".to_owned(), 1)]);
    for n in 0..2_345 {
        put(
            &world.bucket,
            &format!("data/users/{}-w{}-{n}.parquet", HOUR + n, n % 7),
            one.clone(),
        );
    }
    let mut compactor = world.open(at(NOW));
    let listed = block_on(compactor.reconcile(at(NOW))).unwrap();
    assert_eq!((listed.listed, listed.recorded), (2_345, 2_345));
    let again = block_on(compactor.reconcile(at(NOW))).unwrap();
    assert_eq!((again.listed, again.recorded), (2_345, 0));
    drop(compactor);
    let mut compactor = world.open(at(NOW));
    assert_eq!(compactor.status(at(NOW)).windows[0].file_count, 2_345);
    let again = block_on(compactor.reconcile(at(NOW))).unwrap();
    assert_eq!(again.recorded, 0);
}

#[test]
fn a_listing_that_fails_half_way_is_begun_again_and_planning_waits_for_a_new_namespace_only() {
    let mut world = World::new();
    let fails = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&fails);
    let inner = Arc::clone(&world.bucket);
    world.bucket = HookStore::new(&inner, move |moment, operation, path| {
        let listing = (moment, operation) == (Moment::Before, "list") && path.as_ref() == "data";
        if listing && flag.load(Ordering::SeqCst) {
            Err(away())
        } else {
            Ok(())
        }
    });
    let mut compactor = world.open(at(END));
    let (_, rows) = super::support::two_good(&world, &mut compactor);
    let error = block_on(compactor.reconcile(at(END + MINUTE))).unwrap_err();
    assert!(error.is_retryable());
    let reports = work(&mut compactor, at(END + MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 2, 40)]);
    fails.store(false, Ordering::SeqCst);
    assert_eq!(block_on(compactor.reconcile(at(END + MINUTE))).unwrap().recorded, 0);
    assert_eq!(world.table_rows("users"), rows);
}

/// Polls a future up to `polls` times; says whether it ended.
fn poll_times<F: Future + Unpin>(mut future: F, polls: usize) -> Option<F::Output> {
    let mut context = Context::from_waker(std::task::Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(output) = future.poll_unpin(&mut context) {
            return Some(output);
        }
    }
    None
}

#[test]
fn a_listing_dropped_at_any_await_blocks_nothing_for_ever() {
    let mut ended = false;
    let mut polls = 1;
    while !ended {
        let mut world = World::new();
        let rows = backlog(&world, 2, 3);
        let yielding = Arc::new(YieldingStore::new(Arc::clone(&world.bucket)));
        let plain = Arc::clone(&world.bucket);
        world.bucket = yielding;
        let mut compactor = world.open(at(NOW));
        // One namespace is known before, the backlog's is not.
        let first = put(
            &plain,
            &format!("data/known/{HOUR}-w1-0.parquet"),
            parquet_of(&rows[..2]),
        );
        let second = put(
            &plain,
            &format!("data/known/{HOUR}-w2-0.parquet"),
            parquet_of(&rows[2..4]),
        );
        tell(&mut compactor, &[first, second], at(NOW));
        ended = poll_times(Box::pin(compactor.reconcile(at(NOW))), polls).is_some();
        let deadline = compactor.next_deadline(at(NOW));
        assert!(
            deadline.is_some_and(|at| at <= crate::world::at(NOW + MINUTE)),
            "{polls}: {deadline:?}"
        );
        let reports = work_until(&mut compactor, at(NOW), at(NOW + 10 * MINUTE));
        assert_eq!(errors(&reports), Vec::<String>::new());
        assert_eq!(world.table_rows("known"), sorted(&[&rows[..4]]), "{polls}");
        // A namespace that was not listed to its end waits for the next listing, or the next event.
        let waiting = compactor.status(at(NOW + 10 * MINUTE)).windows;
        assert!(
            waiting.iter().all(|w| w.waiting_for == Some(WaitingFor::Listing)),
            "{waiting:?}"
        );
        if polls % 2 == 0 {
            block_on(compactor.reconcile(at(NOW + 10 * MINUTE))).unwrap();
        } else {
            let nothing: [ObjectEvent; 0] = [];
            tell(&mut compactor, &nothing, at(NOW + 10 * MINUTE));
            block_on(compactor.reconcile(at(NOW + 10 * MINUTE))).unwrap();
        }
        work_until(&mut compactor, at(NOW + 10 * MINUTE), at(NOW + 30 * MINUTE));
        assert_eq!(world.table_rows("users"), rows, "{polls}");
        assert_eq!(world.sources(), Vec::<String>::new(), "{polls}");
        polls += 1;
    }
    assert!(polls > 5, "{polls} polls explore nothing");
}
