//! The guide's queue consumer: every batch meets a compactor that has just been made, and the state carries over.

use firnline::EventOutcome;
use futures::executor::block_on;

use super::support::{DAY, END, MINUTE, commits, sorted, tell};
use crate::world::{HOUR, World, at, work};

#[test]
fn a_fresh_compactor_per_invocation_gathers_a_window_and_compacts_it_once() {
    let world = World::new();
    let mut rows = Vec::new();
    let mut committed = Vec::new();
    for sequence in 0..6_u64 {
        let now = at(HOUR + sequence.cast_signed() * 10 * MINUTE + 1);
        let (event, more) = world.write_some("users", now.as_millis(), "w1", sequence, 4);
        rows.extend(more);
        let mut compactor = world.open(now);
        assert_eq!(
            tell(&mut compactor, &[event.clone(), event], now),
            [Ok(EventOutcome::Recorded), Ok(EventOutcome::Duplicate)]
        );
        committed.extend(commits(&work(&mut compactor, now)));
        let status = compactor.status(now);
        assert_eq!(
            (status.active_windows, status.windows[0].file_count),
            (1, sequence as usize + 1)
        );
    }
    assert_eq!(committed, []);
    // An alarm, not an event.
    let mut now = at(END);
    while let Some(next) = world.open(now).next_deadline(now).filter(|next| *next < at(END + DAY)) {
        now = next.max(now + 1);
        committed.extend(commits(&work(&mut world.open(now), now)));
    }
    assert_eq!(committed, [(1, 0, 6, 24)]);
    assert_eq!(world.table_rows("users"), sorted(&[&rows]));
    assert_eq!(world.sources(), Vec::<String>::new());
}

#[test]
fn jobs_dropped_before_and_after_they_ran_are_done_by_the_next_invocation() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = super::support::two_good(&world, &mut compactor);
    let now = at(END + MINUTE);
    drop(compactor.poll_job(now).unwrap());
    assert_eq!(
        compactor.next_deadline(now),
        Some(now),
        "a dropped job is work that is due"
    );
    // First a look at how far that came.
    let outcome = block_on(compactor.poll_job(now).unwrap().run());
    let report = block_on(compactor.finish_job(outcome, now)).unwrap();
    assert_eq!(commits(&[report]), []);
    let job = compactor.poll_job(now).unwrap();
    drop(block_on(job.run()));
    assert_eq!(compactor.next_deadline(now), Some(now));
    assert_eq!(world.table_rows("users"), rows, "committed, though nobody was told");
    drop(compactor);
    let mut compactor = world.open(now);
    assert_eq!(commits(&work(&mut compactor, now)), []);
    assert_eq!(world.table_rows("users"), rows);
    assert_eq!(world.sources(), Vec::<String>::new());
    assert_eq!(compactor.status(now).active_windows, 0);
}

#[test]
fn a_job_dropped_by_a_compactor_that_lives_on_is_done_again_by_itself() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = super::support::two_good(&world, &mut compactor);
    let now = at(END + MINUTE);
    drop(block_on(compactor.poll_job(now).unwrap().run()));
    assert_eq!(super::support::errors(&work(&mut compactor, now)), Vec::<String>::new());
    assert_eq!(world.table_rows("users"), rows);
    assert_eq!(world.sources(), Vec::<String>::new());
    assert_eq!(compactor.status(now).active_windows, 0);
}
