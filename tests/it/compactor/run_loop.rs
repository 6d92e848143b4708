//! The loop: acknowledges only what is saved, sleeps by the host's clock, and may be dropped anywhere.
#![cfg(feature = "testing")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use firnline::testing::{VirtualClock, YieldingStore};
use firnline::{
    Clock, Compactor, DeleteOutcome, Error, ErrorKind, HealthState, MemoryEventSource, ParseError, Result, SaveOutcome,
    StateKey, StateStore, StateVersion, StoredState,
};
use futures::stream::BoxStream;

use super::support::{DAY, END, MINUTE, put, quarantine, sorted};
use crate::world::{HOUR, Row, World, at};

/// Runs the loop, moving the clock from deadline to deadline up to `until`; then the source is closed.
fn run_until(compactor: &mut Compactor, source: &MemoryEventSource, clock: &VirtualClock, until: i64) -> Result<()> {
    let mut context = Context::from_waker(Waker::noop());
    let mut run = Box::pin(compactor.run(source, clock));
    for _ in 0..1_000_000 {
        if let Poll::Ready(result) = run.as_mut().poll(&mut context) {
            return result;
        }
        match clock.next_deadline() {
            Some(next) if next <= clock.now() => {}
            Some(next) if next <= at(until) => clock.set(next),
            _ => {
                clock.set(clock.now().max(at(until)));
                source.close();
            }
        }
    }
    panic!("the loop does not end");
}

#[test]
fn what_is_announced_is_compacted_and_acknowledged_and_the_loop_ends_with_its_source() {
    let world = World::new();
    let source = MemoryEventSource::default();
    let clock = VirtualClock::new(at(END));
    let (first, mut rows) = world.write_some("users", HOUR + 1, "w1", 0, 3);
    let (second, more) = world.write_some("users", HOUR + 2, "w2", 0, 3);
    rows.extend(more);
    let receipts = [source.push([Ok(first.clone()), Ok(second)]), source.push([Ok(first)])];
    // A file that nobody announced is found by the listing at the start.
    rows.extend(world.write_some("users", HOUR + 3, "w1", 1, 3).1);
    let mut compactor = world.open(at(END));
    run_until(&mut compactor, &source, &clock, END + 10 * MINUTE).unwrap();
    assert_eq!(source.acked(), receipts);
    assert_eq!(world.table_rows("users"), sorted(&[&rows]));
    assert_eq!(world.sources(), Vec::<String>::new());
}

#[test]
fn a_bad_message_in_a_batch_is_counted_and_left_to_its_queue() {
    let world = World::new();
    let source = MemoryEventSource::default();
    let clock = VirtualClock::new(at(END));
    let (first, mut rows) = world.write_some("users", HOUR + 1, "w1", 0, 3);
    let (second, more) = world.write_some("users", HOUR + 2, "w2", 0, 3);
    rows.extend(more);
    let good = source.push([Ok(first)]);
    let oops = || ParseError::NotJson {
        detail: "oops".to_owned(),
    };
    let bad = source.push([Err(oops())]);
    let (third, yet_more) = world.write_some("users", HOUR + 3, "w3", 0, 3);
    rows.extend(yet_more);
    let partly = source.push([Err(oops()), Ok(third), Err(oops())]);
    let empty = source.push([]);
    let also_good = source.push([Ok(second)]);
    let mut compactor = world.open(at(END));
    run_until(&mut compactor, &source, &clock, END + 10 * MINUTE).unwrap();
    assert_eq!(source.acked(), [good, empty, also_good]);
    assert_eq!(source.unacked(), [bad, partly]);
    let status = compactor.status(clock.now());
    assert_eq!((status.counters.bad_messages, status.counters.found_by_listing), (3, 3));
    assert_eq!(status.health.state, HealthState::Degraded);
    assert_eq!(world.table_rows("users"), sorted(&[&rows]));
}

#[test]
fn a_message_of_a_namespace_that_stands_still_is_not_acknowledged_and_a_malformed_key_is() {
    let world = World::new();
    let source = MemoryEventSource::default();
    let clock = VirtualClock::new(at(END));
    let (outer, rows) = world.write_some("eu", HOUR + 1, "w1", 0, 3);
    let (inner, _) = world.write_some("eu/users", HOUR + 2, "w2", 0, 3);
    let malformed = put(&world.bucket, "data/eu/x.parquet", Vec::new());
    let first = source.push([Ok(outer.clone())]);
    let both = source.push([Ok(outer), Ok(inner)]);
    let third = source.push([Ok(malformed)]);
    let mut compactor = world.open(at(END));
    run_until(&mut compactor, &source, &clock, END + 2 * DAY).unwrap();
    assert_eq!(source.acked(), [first, third]);
    assert_eq!(source.unacked(), [both]);
    assert_eq!(world.table_rows("eu"), rows);
    assert_eq!(
        quarantine(&compactor, clock.now()),
        [
            (
                format!("data/eu/users/{}-w2-0.parquet", HOUR + 2),
                "tableRootOverlap".to_owned()
            ),
            ("data/eu/x.parquet".to_owned(), "malformed".to_owned()),
        ]
    );
}

#[test]
fn a_backlog_beyond_the_limit_is_taken_in_part_by_part_and_stops_no_other_namespace() {
    let mut world = World::new();
    world.options = world.options.with_max_pending_files(8).with_min_files_to_compact(1);
    let mut rows = Vec::new();
    for (sequence, millis) in (0..30).zip(HOUR..) {
        rows.extend(world.write_some("users", millis, "w1", sequence, 2).1);
    }
    let (_, late) = world.write_some("visits", HOUR + 1, "w1", 0, 2);
    let source = MemoryEventSource::default();
    source.close();
    let clock = VirtualClock::new(at(END));
    let mut compactor = world.open(at(END));
    run_until(&mut compactor, &source, &clock, END + 10 * MINUTE).unwrap();
    assert_eq!(world.table_rows("users"), sorted(&[&rows]));
    assert_eq!(world.table_rows("visits"), late);
}

#[test]
fn no_message_is_acknowledged_for_which_there_is_no_room() {
    let mut world = World::new();
    world.options = world.options.with_max_pending_files(2);
    let source = MemoryEventSource::default();
    let clock = VirtualClock::new(at(HOUR));
    let mut compactor = world.open(at(HOUR));
    let mut files = Vec::new();
    for sequence in 0..4 {
        files.push(world.write_some("users", HOUR + 1, "w1", sequence, 2));
    }
    let receipts: Vec<_> = files
        .iter()
        .map(|(event, _)| source.push([Ok(event.clone())]))
        .collect();
    run_until(&mut compactor, &source, &clock, HOUR + 1).unwrap();
    assert_eq!(source.acked(), receipts[..2]);
    assert_eq!(source.unacked(), receipts[2..]);
}

/// A state store whose next saves fail.
#[derive(Debug)]
struct Failing(Arc<dyn StateStore>, Arc<AtomicUsize>);

impl Failing {
    fn strike(&self) -> Result<()> {
        let left = self
            .1
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match left {
            Ok(_) => Err(Error::new(ErrorKind::Unavailable, "state store is away")),
            Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl StateStore for Failing {
    async fn load(&self, key: &StateKey) -> Result<Option<StoredState>> {
        self.0.load(key).await
    }

    async fn save(&self, key: &StateKey, bytes: Bytes, expected: Option<&StateVersion>) -> Result<SaveOutcome> {
        self.strike()?;
        self.0.save(key, bytes, expected).await
    }

    async fn delete(&self, key: &StateKey, expected: &StateVersion) -> Result<DeleteOutcome> {
        self.strike()?;
        self.0.delete(key, expected).await
    }

    fn list(&self, prefix: &StateKey) -> BoxStream<'_, Result<StateKey>> {
        self.0.list(prefix)
    }
}

#[test]
fn what_could_not_be_saved_is_not_acknowledged_until_it_is_delivered_again_and_saved() {
    let mut world = World::new();
    let failures = Arc::new(AtomicUsize::new(0));
    world.state = Arc::new(Failing(Arc::clone(&world.state), Arc::clone(&failures)));
    let mut compactor = world.open(at(HOUR));
    let (event, rows) = world.write_some("users", HOUR + 1, "w1", 0, 3);
    let source = MemoryEventSource::default();
    let clock = VirtualClock::new(at(HOUR));
    let first = source.push([Ok(event)]);
    let mut context = Context::from_waker(Waker::noop());
    {
        failures.store(1_000, Ordering::SeqCst);
        let mut run = Box::pin(compactor.run(&source, &clock));
        for _ in 0..20 {
            assert!(run.as_mut().poll(&mut context).is_pending());
        }
    }
    assert_eq!(source.acked(), []);
    failures.store(0, Ordering::SeqCst);
    assert_eq!(source.redeliver(), 1);
    run_until(&mut compactor, &source, &clock, HOUR + MINUTE).unwrap();
    assert_eq!(source.acked(), [first]);
    drop(compactor);
    let mut compactor = world.open(at(HOUR + MINUTE));
    assert_eq!(compactor.status(at(HOUR + MINUTE)).windows[0].file_count, 1);
    crate::world::work_until(&mut compactor, at(HOUR + MINUTE), at(END + 2 * DAY));
    assert_eq!(world.table_rows("users"), rows);
}

/// A fresh bucket with three files told of and one not.
fn three_and_one() -> (World, MemoryEventSource, Vec<Row>) {
    let mut world = World::new();
    let source = MemoryEventSource::default();
    let mut rows = Vec::new();
    for (writer, sequence) in [("w1", 0), ("w2", 0), ("w1", 1)] {
        let (event, more) = world.write_some("users", HOUR + 1, writer, sequence, 2);
        rows.extend(more);
        source.push([Ok(event)]);
    }
    rows.extend(world.write_some("users", HOUR + 9, "w2", 1, 2).1);
    rows.sort();
    world.bucket = Arc::new(YieldingStore::new(Arc::clone(&world.bucket)));
    world.tables = Arc::new(YieldingStore::new(Arc::clone(&world.tables)));
    world.control = Arc::new(YieldingStore::new(Arc::clone(&world.control)));
    (world, source, rows)
}

#[test]
fn a_loop_dropped_at_any_await_leaves_every_row_to_the_next_one_exactly_once() {
    let mut polls = 0;
    loop {
        let (world, source, rows) = three_and_one();
        let clock = VirtualClock::new(at(END));
        let mut compactor = world.open(at(END));
        let mut ended = false;
        {
            let mut context = Context::from_waker(Waker::noop());
            let mut run = Box::pin(compactor.run(&source, &clock));
            for _ in 0..polls {
                if run.as_mut().poll(&mut context).is_ready() {
                    ended = true;
                    break;
                }
                // Time goes on only when the loop waits for nothing else.
                if clock.next_deadline().is_some_and(|next| next > at(END + 20 * MINUTE)) {
                    source.close();
                } else if polls % 2 == 0 {
                    clock.advance(2_000);
                } else if let Some(next) = clock.next_deadline() {
                    clock.set(next.max(clock.now()));
                }
            }
        }
        // The same compactor goes on, or another process.
        if polls % 3 == 0 {
            drop(compactor);
            compactor = world.open(clock.now());
        }
        source.redeliver();
        run_until(&mut compactor, &source, &clock, END + DAY).unwrap();
        assert_eq!(world.table_rows("users"), rows, "{polls}");
        assert_eq!(world.sources(), Vec::<String>::new(), "{polls}");
        assert_eq!(source.unacked(), [], "{polls}");
        if ended || polls > 3_000 {
            break;
        }
        polls += 1;
    }
    assert!(polls > 50, "{polls} polls explore nothing");
}
