//! Every other call of a host, dropped after each of its polls and made again.
#![cfg(feature = "testing")]

use std::sync::Arc;

use firnline::testing::VirtualClock;
use firnline::{Compactor, Door, MemoryEventSource, MemoryStateStore, Result};
use futures::executor::block_on;

use super::dropped::{builder, polled, yielding};
use super::support::{DAY, END, MINUTE, content, delete, ns, object_key, put, quarantine, sorted, two_good};
use crate::world::{HOUR, Row, World, at, parquet_of, work_until};

const T: i64 = END + 10 * MINUTE;

/// Tries it with a future dropped after 0, 1, 2 and more polls, while it says that the future would have gone on.
fn at_every_poll(dropped: impl Fn(usize) -> bool) {
    let count = (0..100_000).take_while(|polls| dropped(*polls)).count();
    assert!(count > 1, "{count} polls");
    println!("dropped after each of {count} polls");
}

/// All rows in the table and none anywhere else, in the end.
fn check(world: &World, compactor: &mut Compactor, rows: &[Row], what: &str) {
    work_until(compactor, at(T), at(T + 3 * DAY));
    assert_eq!(world.table_rows("users"), sorted(&[rows]), "{what}");
    assert_eq!(world.sources(), Vec::<String>::new(), "{what}");
    assert_eq!(compactor.status(at(T + 3 * DAY)).halts, [], "{what}");
}

#[test]
fn an_opening_that_is_dropped_is_made_again() {
    for read_only in [false, true] {
        at_every_poll(|polls| {
            let world = World::new();
            let mut before = world.open(at(END));
            let (_, rows) = two_good(&world, &mut before);
            // A plan is there and has been merged, which nobody has been told of.
            drop(block_on(before.poll_job(at(T)).unwrap().run()));
            let dropped = match read_only {
                true => polled(builder(&world).open_read_only(at(T)), polls),
                false => polled(builder(&world).open(at(T)), polls),
            };
            check(&world, &mut yielding(&world, at(T)), &rows, &format!("{polls} polls"));
            dropped.is_none()
        });
    }
}

#[test]
fn notifications_whose_call_was_dropped_come_again() {
    for anew in [false, true] {
        at_every_poll(|polls| {
            let world = World::new();
            let mut compactor = yielding(&world, at(END));
            let (first, mut rows) = world.write_some("users", HOUR + 1_000, "w1", 0, 5);
            let (second, more) = world.write_some("users", HOUR + 2_000, "w2", 0, 5);
            rows.extend(more);
            let events = [first, second];
            let was_dropped = polled(compactor.handle_events(&events, at(END)), polls).is_none();
            if anew {
                compactor = yielding(&world, at(END));
            }
            assert!(block_on(compactor.handle_events(&events, at(END))).all_saved());
            check(&world, &mut compactor, &rows, &format!("{polls} polls"));
            was_dropped
        });
    }
}

#[test]
fn a_listing_that_is_dropped_is_made_again() {
    at_every_poll(|polls| {
        let world = World::new();
        let mut compactor = yielding(&world, at(END));
        let (_, mut rows) = world.write_some("users", HOUR + 1_000, "w1", 0, 5);
        rows.extend(world.write_some("users", HOUR + 2_000, "w2", 0, 5).1);
        let was_dropped = polled(compactor.reconcile(at(T)), polls).is_none();
        let listed = block_on(compactor.reconcile(at(T))).unwrap();
        assert_eq!((listed.listed, listed.refused), (2, 0));
        check(&world, &mut compactor, &rows, &format!("{polls} polls"));
        was_dropped
    });
}

#[test]
fn a_loop_that_is_dropped_goes_on_in_the_next_one() {
    at_every_poll(|polls| {
        let world = World::new();
        let mut compactor = yielding(&world, at(T));
        let (event, mut rows) = world.write_some("users", HOUR + 1_000, "w1", 0, 5);
        rows.extend(world.write_some("users", HOUR + 2_000, "w2", 0, 5).1);
        let (source, clock) = (MemoryEventSource::default(), VirtualClock::new(at(T)));
        source.push([Ok(event)]);
        source.close();
        // Each poll goes as far as the next operation of a store.
        let was_dropped = polled(compactor.run(&source, &clock), 7 * polls).is_none();
        // As every loop begins.
        block_on(compactor.reconcile(at(T))).unwrap();
        check(&world, &mut compactor, &rows, &format!("{} polls", 7 * polls));
        was_dropped
    });
}

#[test]
fn a_view_that_is_dropped_changes_nothing() {
    at_every_poll(|polls| {
        let mut world = World::new();
        world.options = world.options.with_delete_grace_ms(3_600_000);
        let mut compactor = yielding(&world, at(END));
        let (_, rows) = two_good(&world, &mut compactor);
        work_until(&mut compactor, at(END), at(T));
        let before = (content(&world.control), content(&world.tables));
        let was_dropped = polled(compactor.read_view(&ns("users"), at(T)), polls).is_none();
        assert_eq!((content(&world.control), content(&world.tables)), before);
        check(&world, &mut compactor, &rows, &format!("{polls} polls"));
        was_dropped
    });
}

/// A door of a namespace, asked for and gone through; the first time dropped after so many polls of either.
fn through(world: &World, polls: usize, door: &impl AsyncFn(&Compactor) -> Result<Door>) -> (bool, Compactor) {
    let mut compactor = yielding(world, at(T));
    let was_dropped = match polled(door(&compactor), polls) {
        None => true,
        Some(door) => polled(compactor.go_through(door.unwrap(), at(T)), polls).is_none(),
    };
    // By another process, as long as there is something to be decided.
    let mut compactor = yielding(world, at(T));
    if !compactor.status(at(T)).halts.is_empty() {
        let door = block_on(door(&compactor)).unwrap();
        block_on(compactor.go_through(door, at(T))).unwrap();
    }
    (was_dropped, compactor)
}

/// A committed window within its grace.
fn committed() -> (World, Vec<Row>) {
    let mut world = World::new();
    world.options = world.options.with_delete_grace_ms(3_600_000);
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    work_until(&mut compactor, at(END), at(T));
    (world, rows)
}

#[test]
fn a_replay_that_is_dropped_is_made_again() {
    at_every_poll(|polls| {
        let (world, rows) = committed();
        for (path, _) in content(&world.tables) {
            delete(&world.tables, &path);
        }
        let (was_dropped, mut compactor) = through(&world, polls, &async |c| c.replay(&ns("users")).await);
        check(&world, &mut compactor, &rows, &format!("{polls} polls"));
        was_dropped
    });
}

#[test]
fn an_adoption_that_is_dropped_is_made_again() {
    at_every_poll(|polls| {
        let (mut world, mut rows) = committed();
        for (path, _) in content(&world.control) {
            delete(&world.control, &path);
        }
        world.state = Arc::new(MemoryStateStore::new());
        let old: Vec<String> = world.sources();
        block_on(yielding(&world, at(T)).reconcile(at(T))).unwrap();
        let (was_dropped, mut compactor) = through(&world, polls, &async |c| c.adopt(&ns("users")).await);
        let (event, more) = world.write_some("users", HOUR + 100, "w9", 1, 6);
        assert!(block_on(compactor.handle_events(&[event], at(T))).all_saved());
        work_until(&mut compactor, at(T), at(T + 3 * DAY));
        rows.extend(more);
        assert_eq!(world.table_rows("users"), sorted(&[&rows]), "{polls} polls");
        // Nobody can tell of them whether they are in the table.
        assert_eq!(world.sources(), old, "{polls} polls");
        was_dropped
    });
}

#[test]
fn a_release_or_discard_that_is_dropped_is_made_again() {
    let key = object_key(&format!("data/users/{}-w3-0.parquet", HOUR + 3_000));
    for discards in [false, true] {
        at_every_poll(|polls| {
            let world = World::new();
            let mut compactor = yielding(&world, at(END));
            let (_, mut rows) = two_good(&world, &mut compactor);
            let event = put(&world.bucket, key.as_str(), b"garbage".to_vec());
            assert!(block_on(compactor.handle_events(&[event], at(END))).all_saved());
            work_until(&mut compactor, at(END), at(T));
            let mended: Vec<Row> = vec![((HOUR + 3_000) * 1_000, "w3".to_owned(), 1)];
            let _ = put(&world.bucket, key.as_str(), parquet_of(&mended));
            let door = |compactor: &Compactor| match discards {
                true => compactor.discard(&key),
                false => compactor.release(&key),
            };
            let first = door(&compactor).unwrap();
            let was_dropped = polled(compactor.go_through(first, at(T)), polls).is_none();
            let mut compactor = yielding(&world, at(T));
            if let Ok(door) = door(&compactor) {
                block_on(compactor.go_through(door, at(T))).unwrap();
            }
            let kept = if discards {
                vec![key.as_str().to_owned()]
            } else {
                Vec::new()
            };
            if !discards {
                rows.extend(mended);
            }
            work_until(&mut compactor, at(T), at(T + 3 * DAY));
            assert_eq!(world.table_rows("users"), sorted(&[&rows]), "{polls} polls");
            assert_eq!(world.sources(), kept, "{polls} polls");
            assert_eq!(quarantine(&compactor, at(T + 3 * DAY)), [], "{polls} polls");
            was_dropped
        });
    }
}
