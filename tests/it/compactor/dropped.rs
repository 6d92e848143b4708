//! Futures that their host drops, wherever they are: what they were about is taken up again.
#![cfg(feature = "testing")]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use firnline::object_store::ObjectStore;
use firnline::testing::{YieldingStateStore, YieldingStore};
use firnline::{Compactor, CompactorBuilder, Place, Timestamp};
use futures::executor::block_on;
use futures::task::noop_waker_ref;

use super::sources::garbage_pages;
use super::support::{DAY, END, MINUTE, put, quarantine, two_good};
use crate::world::{HOUR, World, at, work_until};

/// What a future comes to within so many polls.
pub(super) fn polled<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(noop_waker_ref());
    (0..polls).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    })
}

/// A compactor whose stores give way at every operation, still to be opened.
pub(super) fn builder(world: &World) -> CompactorBuilder {
    let place = |url: &str, store: &Arc<dyn ObjectStore>| {
        Place::new(url, Arc::new(YieldingStore::new(Arc::clone(store))), "").unwrap()
    };
    let tables: Arc<dyn ObjectStore> = Arc::new(YieldingStore::new(Arc::clone(&world.tables)));
    let tables = crate::table_log::tables("mem://tables", &tables);
    CompactorBuilder::new(
        place("mem://bucket", &world.bucket),
        place("mem://control", &world.control),
        tables,
        YieldingStateStore::new(Arc::clone(&world.state)),
        world.options.clone(),
    )
}

pub(super) fn yielding(world: &World, now: Timestamp) -> Compactor {
    block_on(builder(world).open(now)).unwrap()
}

/// Two good files and a bad one, so that a plan is void and another one commits. Of the host's call number `dropped` the
/// future is dropped after some polls; `true`: it would have gone on.
fn run(dropped: usize, polls: usize) -> bool {
    let what = format!("call {dropped}, {polls} polls");
    let world = World::new();
    let mut compactor = yielding(&world, at(END));
    let bad = format!("data/users/{}-w3-0.parquet", HOUR + 3);
    let event = put(&world.bucket, &bad, garbage_pages());
    assert!(block_on(compactor.handle_events(&[event], at(END))).all_saved());
    let (_, rows) = two_good(&world, &mut compactor);
    let (mut calls, mut was_dropped) = (0, false);
    let mut now = END;
    while now < END + 3 * DAY {
        while let Some(job) = compactor.poll_job(at(now)) {
            let outcome = match calls == dropped {
                true => polled(job.run(), polls),
                false => Some(block_on(job.run())),
            };
            was_dropped |= outcome.is_none();
            calls += 1;
            let Some(outcome) = outcome else { continue };
            let finish = compactor.finish_job(outcome, at(now));
            let report = match calls == dropped {
                true => polled(finish, polls),
                false => Some(block_on(finish)),
            };
            was_dropped |= report.is_none();
            calls += 1;
            let halted = report.and_then(|report| report.unwrap().halted);
            assert!(halted.is_none(), "{what}: {halted:?}");
        }
        now += 10 * MINUTE;
    }
    assert_eq!(world.table_rows("users"), rows, "{what}");
    assert_eq!(world.sources(), std::slice::from_ref(&bad), "{what}");
    assert_eq!(quarantine(&compactor, at(now)), [(bad, "corrupt".to_owned())], "{what}");
    was_dropped
}

#[test]
fn a_call_that_is_dropped_at_any_poll_is_taken_up_again() {
    let mut dropped = 0;
    for call in 0..6 {
        for polls in 0.. {
            if !run(call, polls) {
                break;
            }
            dropped += 1;
        }
    }
    assert!(dropped > 100, "{dropped}");
}

/// What another worker has decided is read while a job is finished, and that is dropped after some polls; `true`: it would
/// have gone on.
fn run_behind_another(polls: usize) -> bool {
    let (world, later) = (World::new(), at(END + 60 * MINUTE));
    let mut ours = yielding(&world, at(END));
    let mut theirs = yielding(&world, at(END));
    let (events, mut rows) = two_good(&world, &mut ours);
    assert!(block_on(theirs.handle_events(&events, at(END))).all_saved());
    work_until(&mut theirs, at(END), later);
    let (late, more) = world.write_some("users", HOUR + 3_000, "w1", 1, 5);
    assert!(block_on(ours.handle_events(&[late], later)).all_saved());
    let mut was_dropped = false;
    while let Some(job) = ours.poll_job(later) {
        let outcome = block_on(job.run());
        was_dropped |= polled(ours.finish_job(outcome, later), polls).is_none();
        if was_dropped {
            break;
        }
    }
    work_until(&mut ours, later, at(END + 3 * DAY));
    rows.extend(more);
    rows.sort();
    assert_eq!(world.table_rows("users"), rows, "{polls} polls");
    assert_eq!(world.sources(), Vec::<String>::new(), "{polls} polls");
    was_dropped
}

#[test]
fn a_lane_is_free_again_whose_turn_was_dropped_while_decisions_of_others_were_read() {
    let dropped = (0..1_000).take_while(|polls| run_behind_another(*polls)).count();
    assert!(dropped > 1, "{dropped}");
}
