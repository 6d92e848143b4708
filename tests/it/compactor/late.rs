//! A late file ends in the table exactly once, whatever its window is going through when it arrives.

use firnline::{EventOutcome, Options};
use futures::executor::block_on;

use super::support::{DAY, END, MINUTE, commits, errors, sorted, tell, two_good};
use crate::world::{HOUR, Row, World, at, work_until};

const LATE: i64 = END + 2 * DAY;

fn world_with_grace() -> World {
    let mut world = World::new();
    world.options = world.options.with_delete_grace_ms(3_600_000);
    world
}

/// Asserts that all rows are in once, all sources gone, and what was committed.
fn ends_with(world: &World, rows: &[&[Row]], reports: &[firnline::JobReport], expected: &[(u64, u64, usize, u64)]) {
    assert_eq!(errors(reports), Vec::<String>::new());
    assert_eq!(commits(reports), expected);
    assert_eq!(world.table_rows("users"), sorted(rows));
    assert_eq!(world.sources(), Vec::<String>::new());
}

#[test]
fn before_its_window_is_ready_it_is_part_of_the_first_generation() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let (event, late) = world.write_some("users", HOUR + 9, "w1", 1, 5);
    assert_eq!(
        tell(&mut compactor, &[event], at(END + 1_000)),
        [Ok(EventOutcome::Recorded)]
    );
    let reports = work_until(&mut compactor, at(END + 1_000), at(LATE));
    ends_with(&world, &[&rows, &late], &reports, &[(1, 0, 3, 45)]);
}

#[test]
fn while_its_window_is_planned_it_is_the_next_generation() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let now = at(END + MINUTE);
    let job = compactor.poll_job(now).unwrap();
    let (event, late) = world.write_some("users", HOUR + 9, "w1", 1, 5);
    assert_eq!(tell(&mut compactor, &[event], now), [Ok(EventOutcome::Recorded)]);
    let outcome = block_on(job.run());
    let first = block_on(compactor.finish_job(outcome, now)).unwrap();
    assert_eq!(commits(&[first]), [(1, 0, 2, 40)]);
    let status = compactor.status(now);
    assert_eq!((status.windows[0].generation, status.windows[0].file_count), (1, 1));
    let reports = work_until(&mut compactor, now, at(LATE));
    ends_with(&world, &[&rows, &late], &reports, &[(2, 1, 1, 5)]);
}

#[test]
fn between_run_and_finish_it_is_the_next_generation() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let now = at(END + MINUTE);
    let job = compactor.poll_job(now).unwrap();
    let outcome = block_on(job.run());
    let (event, late) = world.write_some("users", HOUR + 9, "w2", 1, 5);
    assert_eq!(tell(&mut compactor, &[event], now), [Ok(EventOutcome::Recorded)]);
    let first = block_on(compactor.finish_job(outcome, now)).unwrap();
    assert_eq!(commits(&[first]), [(1, 0, 2, 40)]);
    let reports = work_until(&mut compactor, now, at(LATE));
    ends_with(&world, &[&rows, &late], &reports, &[(2, 1, 1, 5)]);
}

#[test]
fn between_commit_and_reclaim_it_is_the_next_generation() {
    let world = world_with_grace();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let first = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(commits(&first), [(1, 0, 2, 40)]);
    assert_eq!(world.sources().len(), 2, "the grace is not over");
    let (event, late) = world.write_some("users", HOUR + 9, "w1", 1, 5);
    assert_eq!(
        tell(&mut compactor, &[event], at(END + 10 * MINUTE)),
        [Ok(EventOutcome::Recorded)]
    );
    let reports = work_until(&mut compactor, at(END + 10 * MINUTE), at(LATE));
    ends_with(&world, &[&rows, &late], &reports, &[(2, 1, 1, 5)]);
}

#[test]
fn after_the_reclaim_it_is_the_next_generation_and_the_one_after_that_counts_on() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (events, rows) = two_good(&world, &mut compactor);
    let first = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(commits(&first), [(1, 0, 2, 40)]);
    assert_eq!(world.sources(), Vec::<String>::new());
    let (event, late) = world.write_some("users", HOUR + 9, "w1", 1, 5);
    let mut told = events;
    told.push(event);
    assert_eq!(
        tell(&mut compactor, &told, at(END + 10 * MINUTE)),
        [
            Ok(EventOutcome::Duplicate),
            Ok(EventOutcome::Duplicate),
            Ok(EventOutcome::Recorded)
        ]
    );
    let second = work_until(&mut compactor, at(END + 10 * MINUTE), at(LATE));
    assert_eq!(commits(&second), [(2, 1, 1, 5)]);
    drop(compactor);
    // The generation is the register's, and so survives a restart.
    let mut compactor = world.open(at(LATE));
    let (event, later) = world.write_some("users", HOUR + 10, "w1", 2, 6);
    assert_eq!(tell(&mut compactor, &[event], at(LATE)), [Ok(EventOutcome::Recorded)]);
    let third = work_until(&mut compactor, at(LATE), at(LATE + 2 * DAY));
    ends_with(&world, &[&rows, &late, &later], &third, &[(3, 2, 1, 6)]);
}

#[test]
fn a_window_larger_than_a_plan_is_cut_into_plans_in_order_and_nothing_of_it_waits_for_a_minimum() {
    let mut world = World::new();
    world.options = Options::with_max_plan_files(world.options, 2).with_min_files_to_compact(5);
    let mut compactor = world.open(at(END));
    let mut rows = Vec::new();
    let mut events = Vec::new();
    for sequence in 0..5_u64 {
        let (event, more) = world.write_some("users", HOUR + 10 * sequence.cast_signed(), "w1", sequence, 4);
        events.push(event);
        rows.extend(more);
    }
    assert_eq!(tell(&mut compactor, &events, at(END)).len(), 5);
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    ends_with(&world, &[&rows], &reports, &[(1, 0, 2, 8), (2, 1, 2, 8), (3, 2, 1, 4)]);
}
