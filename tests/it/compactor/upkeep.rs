//! What failed attempts have left is swept, old plans are forgotten, and what cannot be judged then is set aside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use firnline::object_store::ObjectStore;
use firnline::object_store::path::Path;
use firnline::{Compactor, EventOutcome, JobReport};

use super::support::{
    DAY, END, HookStore, MINUTE, Moment, away, commits, content, put, quarantine, sorted, tell, two_good,
};
use crate::table_log::is_commit;
use crate::world::{HOUR, World, at, parquet_of, work, work_until};

/// Stores in memory date objects by the machine's clock, and what is swept and forgotten goes by that date.
fn real_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn data_files(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    let paths = content(store).into_iter().map(|(path, _)| path);
    paths
        .filter(|path| path.ends_with(".parquet") && path.contains("/data/"))
        .collect()
}

fn control_objects(world: &World, part: &str) -> usize {
    content(&world.control)
        .iter()
        .filter(|(path, _)| path.contains(part))
        .count()
}

fn swept(reports: &[JobReport]) -> usize {
    reports.iter().map(|report| report.swept).sum()
}

/// Fails this many commits of the table's log before anything is written.
fn failing_commits(world: &mut World, failures: usize) -> Arc<AtomicUsize> {
    let left = Arc::new(AtomicUsize::new(failures));
    let counter = Arc::clone(&left);
    world.tables = HookStore::new(&world.tables, move |moment, operation, path| {
        let commit = (moment, operation) == (Moment::Before, "put") && is_commit(path.as_ref());
        let strikes = |left: usize| left.checked_sub(1);
        if commit
            && counter
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, strikes)
                .is_ok()
        {
            return Err(away());
        }
        Ok(())
    });
    left
}

#[test]
fn orphans_are_swept_only_when_they_are_old_enough_and_their_seq_is_decided() {
    // The lane's first upkeep falls before its orphans are old, by the machine's clock.
    let start = real_now() - 3 * DAY - 12 * 3_600_000;
    let hour = start - start % 3_600_000;
    let mut world = World::new();
    world.options = world.options.with_attempt_max_age_ms(1);
    let left = failing_commits(&mut world, 1);
    let mut compactor = world.open(at(start));
    let mut rows = Vec::new();
    let mut write = |compactor: &mut Compactor, sequence: u64, now: i64| {
        for writer in ["w1", "w2"] {
            let (event, more) = world.write_some("users", hour - 3_600_000, writer, sequence, 3);
            rows.extend(more);
            assert_eq!(tell(compactor, &[event], at(now)), [Ok(EventOutcome::Recorded)]);
        }
        rows.sort();
        rows.clone()
    };
    let first = write(&mut compactor, 0, start);
    // By the machine's clock the uploaded files are not old, so `attemptMaxAgeMs` has to be passed by days.
    let reports = work(&mut compactor, at(start + MINUTE));
    assert_eq!((commits(&reports), data_files(&world.tables).len()), (vec![], 1));
    let reports = work_until(&mut compactor, at(start + 2 * MINUTE), at(start + 5 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 2, 6)]);
    assert_eq!(world.table_rows("users"), first);
    assert_eq!(left.load(Ordering::SeqCst), 0);
    let files = data_files(&world.tables).len();
    let reports = work_until(&mut compactor, at(start + 5 * MINUTE), at(real_now() + 2 * DAY));
    assert_eq!((swept(&reports), data_files(&world.tables).len()), (0, files));
    work_until(&mut compactor, at(real_now() + 2 * DAY), at(real_now() + 6 * DAY));
    assert_eq!(data_files(&world.tables).len(), world.live_files("users").len());
    assert_eq!(control_objects(&world, "/attempts/"), 0);
    assert_eq!(world.table_rows("users"), first);
}

#[test]
fn another_attempts_files_are_swept_once_the_seq_is_decided_and_not_before() {
    // Far in the future of the machine's clock: every object is old.
    let start = real_now() + 400 * DAY;
    let hour = start - start % 3_600_000;
    let mut world = World::new();
    let left = failing_commits(&mut world, 0);
    let mut compactor = world.open(at(start));
    let mut rows = Vec::new();
    for writer in ["w1", "w2"] {
        let (event, more) = world.write_some("users", hour - 3_600_000, writer, 0, 3);
        rows.extend(more);
        tell(&mut compactor, &[event], at(start));
    }
    let reports = work_until(&mut compactor, at(start), at(start + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 2, 6)]);
    // The second plan: two attempts upload, neither is committed.
    left.store(usize::MAX, Ordering::SeqCst);
    for writer in ["w1", "w2"] {
        let (event, more) = world.write_some("users", hour - 3_600_000, writer, 1, 3);
        rows.extend(more);
        tell(&mut compactor, &[event], at(start + 10 * MINUTE));
    }
    rows.sort();
    let mut now = start + 10 * MINUTE;
    while data_files(&world.tables).len() < 3 {
        now += MINUTE;
        assert_eq!(commits(&work(&mut compactor, at(now))), []);
    }
    // Days of upkeep leave the files of the undecided seq alone.
    let of_days: Vec<_> = (1..6)
        .map(|day| swept(&work(&mut compactor, at(now + day * DAY))))
        .collect();
    // Only what the first plan's attempt had written down.
    assert_eq!(of_days, [0, 0, 1, 0, 0]);
    let files = data_files(&world.tables).len();
    assert!(files >= 3, "{files}");
    left.store(0, Ordering::SeqCst);
    let reports = work_until(&mut compactor, at(now + 6 * DAY), at(now + 12 * DAY));
    assert_eq!(commits(&reports), [(3, 1, 1, 3), (4, 2, 1, 3)]);
    // Five attempts named no culprit, and so the plan was halved.
    assert_eq!(super::support::voids(&reports), [2]);
    assert!(
        swept(&reports) > files - 1,
        "the orphans and what their attempts wrote down"
    );
    assert_eq!(world.table_rows("users"), rows);
    assert_eq!(
        data_files(&world.tables).len(),
        world.live_files("users").len(),
        "only live files are left"
    );
    assert_eq!(control_objects(&world, "/attempts/"), 0);
}

/// Three windows, each of two files, committed one after the other; then everything up to the newest is forgotten.
fn pruned() -> (World, Compactor, i64, Vec<String>) {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let mut told = Vec::new();
    for hour in 0..3 {
        let t = HOUR + hour * 3_600_000;
        let mut events = Vec::new();
        for writer in ["w1", "w2"] {
            events.push(world.write_some("users", t, writer, hour.cast_unsigned(), 3).0);
        }
        told.extend(events.iter().map(super::support::key));
        let now = t + 3_600_000;
        tell(&mut compactor, &events, at(now));
        let reports = work_until(&mut compactor, at(now), at(now + 10 * MINUTE));
        assert_eq!(commits(&reports), [(hour.cast_unsigned() + 1, 0, 2, 6)]);
    }
    assert_eq!(control_objects(&world, "/plans/"), 3);
    drop(compactor);
    let now = real_now() + 36 * DAY;
    let mut compactor = world.open(at(now));
    work_until(&mut compactor, at(now), at(now + 2 * DAY));
    (world, compactor, now + 2 * DAY, told)
}

#[test]
fn plans_beyond_the_horizon_are_forgotten_but_the_newest() {
    let (world, compactor, _, _) = pruned();
    let left: Vec<_> = content(&world.control).into_iter().map(|(path, _)| path).collect();
    let ends = |end: &str| left.iter().filter(|path| path.ends_with(end)).count();
    assert_eq!(
        (ends("/plans/3.json"), ends("/decided/3.json"), ends("/floor/2.json")),
        (1, 1, 1)
    );
    assert_eq!(
        (control_objects(&world, "/plans/"), control_objects(&world, "/decided/")),
        (1, 1)
    );
    assert_eq!(compactor.status(at(END)).halts, []);
    assert_eq!(world.table_rows("users").len(), 18);
}

#[test]
fn below_the_boundary_a_late_file_is_set_aside_and_a_redelivered_event_of_a_reclaimed_one_ignored() {
    let (world, mut compactor, now, told) = pruned();
    let rows = world.table_rows("users");
    let reclaimed = firnline::ObjectEvent::created(told[0].clone());
    assert_eq!(
        tell(&mut compactor, &[reclaimed], at(now)),
        [Ok(EventOutcome::Duplicate)]
    );
    let late = put(
        &world.bucket,
        &format!("data/users/{}-w9-0.parquet", HOUR + 5),
        parquet_of(&[(HOUR * 1_000, "late".to_owned(), 1)]),
    );
    let twice = [late.clone(), late.clone()];
    assert_eq!(
        tell(&mut compactor, &twice, at(now)),
        [Ok(EventOutcome::SetAside), Ok(EventOutcome::Duplicate)]
    );
    let late_key = super::support::key(&late);
    assert_eq!(
        quarantine(&compactor, at(now)),
        [(late_key.clone(), "belowBoundary".to_owned())]
    );
    let error = compactor.release(&late.key).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "a file of a forgotten window cannot be released: copy the object to a key with a later timestamp. \
             key=`{late_key}` boundary=`{}`",
            at(HOUR + 2 * 3_600_000)
        )
    );
    // The newest plan's window is above the boundary, and takes late files as ever.
    let (event, more) = world.write_some("users", HOUR + 2 * 3_600_000 + 9, "w9", 9, 3);
    assert_eq!(tell(&mut compactor, &[event], at(now)), [Ok(EventOutcome::Recorded)]);
    let reports = work_until(&mut compactor, at(now), at(now + 3 * DAY));
    assert_eq!(commits(&reports), [(4, 1, 1, 3)]);
    assert_eq!(world.table_rows("users"), sorted(&[&rows, &more]));
    assert_eq!(world.sources(), [late_key.clone()]);
    // All of that holds for the next process too.
    let mut compactor = world.open(at(now + 3 * DAY));
    assert_eq!(
        quarantine(&compactor, at(now)),
        [(late_key, "belowBoundary".to_owned())]
    );
    let reclaimed = firnline::ObjectEvent::created(told[1].clone());
    assert_eq!(
        tell(&mut compactor, &[reclaimed], at(now)),
        [Ok(EventOutcome::Duplicate)]
    );
}

#[test]
fn a_plan_whose_sources_are_still_there_is_not_forgotten() {
    let mut world = World::new();
    let keeps = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&keeps);
    world.bucket = HookStore::new(&world.bucket, move |moment, operation, _| {
        let delete = (moment, operation) == (Moment::Before, "delete");
        if delete && flag.load(Ordering::SeqCst) {
            Err(away())
        } else {
            Ok(())
        }
    });
    let mut compactor = world.open(at(END));
    let (_, mut rows) = two_good(&world, &mut compactor);
    work_until(&mut compactor, at(END), at(END + 2 * MINUTE));
    let mut events = Vec::new();
    for writer in ["w1", "w2"] {
        let (event, more) = world.write_some("users", END + 1, writer, 5, 3);
        events.push(event);
        rows.extend(more);
    }
    rows.sort();
    tell(&mut compactor, &events, at(END + 3_600_000));
    work_until(&mut compactor, at(END + 3_600_000), at(END + 3_600_000 + 10 * MINUTE));
    assert_eq!(control_objects(&world, "/decided/"), 2);
    drop(compactor);
    let now = real_now() + 36 * DAY;
    let mut compactor = world.open(at(now));
    work_until(&mut compactor, at(now), at(now + 2 * DAY));
    assert_eq!((control_objects(&world, "/plans/"), world.sources().len()), (2, 4));
    keeps.store(false, Ordering::SeqCst);
    work_until(&mut compactor, at(now + 2 * DAY), at(now + 4 * DAY));
    assert_eq!((control_objects(&world, "/plans/"), world.sources().len()), (1, 0));
    assert_eq!(world.table_rows("users"), rows);
    let _ = Path::default();
}
