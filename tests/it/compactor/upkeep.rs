//! What failed attempts have left is swept, old plans are forgotten, and what cannot be judged then is set aside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use firnline::object_store::ObjectStore;
use firnline::object_store::path::Path;
use firnline::{Compactor, EventOutcome, JobReport, MemoryStateStore};

use super::sources::{bad_key, garbage_pages};
use super::support::{
    DAY, END, HookStore, MINUTE, Moment, away, commits, content, failing_commits, put, quarantine, sorted, tell,
    two_good, voids,
};
use crate::table_log;
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
    assert_eq!(voids(&reports), [2]);
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

/// A plan committed half a day ago by the machine's clock, after which every kind of file lies beside its own: what
/// another attempt at it has left in tables and control objects, and what is not ours to judge.
fn beside_orphans() -> (World, Compactor, i64, [Vec<String>; 2]) {
    let start = real_now() - DAY / 2;
    let world = World::new();
    let mut compactor = world.open(at(start));
    let events = ["w1", "w2"].map(|writer| world.write_some("users", start - start % HOUR_MS - 1, writer, 0, 3).0);
    tell(&mut compactor, &events, at(start));
    let reports = work_until(&mut compactor, at(start), at(start + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 2, 6)]);
    let ours = data_files(&world.tables);
    let name = ours[0].strip_prefix("users/data/").unwrap();
    let [lane, "1", _, "00000.parquet"] = name.split('-').collect::<Vec<_>>()[..] else {
        panic!("{name}")
    };
    let other_lane = lane.chars().rev().collect::<String>();
    let attempt = "0123456789abcdef";
    let orphan = format!("users/data/{lane}-1-{attempt}-00000.parquet");
    let not_to_be_judged = [
        format!("users/data/{lane}-2-{attempt}-00000.parquet"),
        format!("users/data/{other_lane}-1-{attempt}-00000.parquet"),
        "users/data/part-00000.parquet".to_owned(),
    ];
    for path in not_to_be_judged.iter().chain([&orphan]) {
        let _ = put(&world.tables, path, "bytes");
    }
    for part in ["attempts", "scratch"] {
        for seq in [1, 2] {
            let _ = put(
                &world.control,
                &format!("lanes/users/{lane}/{part}/{seq}-{attempt}/0"),
                "bytes",
            );
        }
    }
    let mut kept = [ours, not_to_be_judged.to_vec()].concat();
    kept.sort();
    let mut all = kept.clone();
    all.push(orphan);
    all.sort();
    (world, compactor, start + 10 * MINUTE, [all, kept])
}

const HOUR_MS: i64 = 3_600_000;

#[test]
fn what_an_attempt_has_left_goes_at_three_days_and_nothing_of_another_lane_or_an_undecided_seq_does() {
    let (world, mut compactor, start, [all, kept]) = beside_orphans();
    // The first upkeep, when they are two and a half days old.
    let reports = work_until(&mut compactor, at(start), at(real_now() + 3 * DAY - HOUR_MS));
    assert!(!reports.is_empty(), "there was an upkeep");
    assert_eq!((swept(&reports), data_files(&world.tables)), (0, all));
    assert_eq!(control_objects(&world, "/attempts/"), 3);
    let reports = work_until(&mut compactor, at(real_now() + 3 * DAY), at(real_now() + 4 * DAY));
    // The data file, what the committed attempt had written down, and what the other one had.
    assert_eq!((swept(&reports), data_files(&world.tables)), (4, kept));
    let left = |part| control_objects(&world, &format!("/{part}/2-"));
    assert_eq!((control_objects(&world, "/attempts/"), left("attempts")), (1, 1));
    assert_eq!((control_objects(&world, "/scratch/"), left("scratch")), (1, 1));
    assert_eq!(world.table_rows("users").len(), 6);
}

#[test]
fn nothing_is_swept_of_an_entry_that_the_table_does_not_confirm() {
    let (world, mut compactor, start, [all, _]) = beside_orphans();
    let how = table_log::rewinds().last().unwrap();
    table_log::take_out(&world.tables, "users", *how, &[]);
    let until = real_now() + 6 * DAY;
    work_until(&mut compactor, at(start), at(until));
    assert_eq!(data_files(&world.tables), all);
    // Nothing is lost by leaving them, and a table may also have forgotten an entry that is long reclaimed.
    assert_eq!(compactor.status(at(until)).halts, []);
}

#[test]
fn a_plan_that_breaks_is_halved_down_to_one_file_however_large_and_then_grows_again() {
    let start = real_now() + 400 * DAY;
    let hour = start - start % HOUR_MS;
    let mut world = World::new();
    let left = failing_commits(&mut world, usize::MAX);
    let mut compactor = world.open(at(start));
    let mut rows = Vec::new();
    for (sequence, count) in [(0_u64, 2_000), (1, 1), (2, 1)] {
        let t = hour - HOUR_MS + sequence.cast_signed();
        let (event, more) = world.write_some("users", t, "w1", sequence, count);
        rows.extend(more);
        tell(&mut compactor, &[event], at(start));
    }
    rows.sort();
    let reports = work_until(&mut compactor, at(start), at(start + 2 * DAY));
    assert_eq!((commits(&reports), voids(&reports)), (vec![], vec![]));
    left.store(0, Ordering::SeqCst);
    let reports = work_until(&mut compactor, at(start + 2 * DAY), at(start + 3 * DAY));
    assert_eq!(voids(&reports), [1]);
    // The first is larger than half of all.
    assert_eq!(commits(&reports), [(2, 0, 1, 2_000), (3, 1, 2, 2)]);
    assert_eq!(world.table_rows("users"), rows);
}

/// Three windows, each of two files, committed one after the other, the second first; the keys of their files.
fn three_windows(world: &World) -> Vec<String> {
    let mut compactor = world.open(at(END));
    let mut told = Vec::new();
    for (seq, hour) in (1..).zip([1, 0, 2]) {
        let t = HOUR + hour * HOUR_MS;
        let events = ["w1", "w2"].map(|writer| world.write_some("users", t, writer, hour.cast_unsigned(), 3).0);
        told.extend(events.iter().map(super::support::key));
        let now = HOUR + (2 + hour) * HOUR_MS;
        tell(&mut compactor, &events, at(now));
        let reports = work_until(&mut compactor, at(now), at(now + 10 * MINUTE));
        assert_eq!(commits(&reports), [(seq, 0, 2, 6)]);
    }
    assert_eq!(control_objects(world, "/plans/"), 3);
    told
}

/// Three windows, committed one after the other; then everything up to the newest is forgotten.
fn pruned() -> (World, Compactor, i64, Vec<String>) {
    let world = World::new();
    let told = three_windows(&world);
    let now = real_now() + 36 * DAY;
    let mut compactor = world.open(at(now));
    work_until(&mut compactor, at(now), at(now + 2 * DAY));
    (world, compactor, now + 2 * DAY, told)
}

#[test]
fn old_windows_that_were_committed_of_late_are_not_forgotten_before_the_horizon() {
    let world = World::new();
    three_windows(&world);
    let now = real_now();
    let mut compactor = world.open(at(now));
    work_until(&mut compactor, at(now), at(now + 34 * DAY));
    assert_eq!(control_objects(&world, "/plans/"), 3);
    work_until(&mut compactor, at(now + 34 * DAY), at(now + 37 * DAY));
    assert_eq!(control_objects(&world, "/plans/"), 1);
}

#[test]
fn without_its_floor_in_writing_no_plan_is_forgotten() {
    let mut world = World::new();
    three_windows(&world);
    let refuses = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&refuses);
    world.control = HookStore::new(&world.control, move |moment, operation, path| {
        let floor = (moment, operation) == (Moment::Before, "put") && path.as_ref().contains("/floor/");
        if floor && flag.load(Ordering::SeqCst) {
            Err(away())
        } else {
            Ok(())
        }
    });
    let now = real_now() + 36 * DAY;
    let mut compactor = world.open(at(now));
    let reports = work_until(&mut compactor, at(now), at(now + 2 * DAY));
    assert!(
        super::support::errors(&reports)[0].starts_with("create failed."),
        "{reports:?}"
    );
    let objects = |part| control_objects(&world, part);
    assert_eq!(
        (objects("/plans/"), objects("/decided/"), objects("/floor/")),
        (3, 3, 0)
    );
    refuses.store(false, Ordering::SeqCst);
    work_until(&mut compactor, at(now + 2 * DAY), at(now + 4 * DAY));
    assert_eq!(
        (objects("/plans/"), objects("/decided/"), objects("/floor/")),
        (1, 1, 1)
    );
}

#[test]
fn a_void_is_forgotten_once_its_culprit_is_set_aside_and_that_stays_so() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    two_good(&world, &mut compactor);
    let event = put(&world.bucket, &bad_key(), garbage_pages());
    tell(&mut compactor, &[event], at(END));
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!((voids(&reports), commits(&reports)), (vec![1], vec![(2, 0, 2, 40)]));
    let events = ["w1", "w2"].map(|writer| world.write_some("users", END + 1, writer, 5, 3).0);
    tell(&mut compactor, &events, at(END + HOUR_MS));
    let reports = work_until(&mut compactor, at(END + HOUR_MS), at(END + HOUR_MS + 10 * MINUTE));
    assert_eq!(commits(&reports), [(3, 0, 2, 6)]);
    let now = real_now() + 36 * DAY;
    let mut compactor = world.open(at(now));
    work_until(&mut compactor, at(now), at(now + 2 * DAY));
    assert_eq!(control_objects(&world, "/plans/"), 1);
    for _ in 0..2 {
        assert_eq!(quarantine(&compactor, at(now)), [(bad_key(), "corrupt".to_owned())]);
        assert_eq!(world.sources(), [bad_key()]);
        compactor = world.open(at(now + 2 * DAY));
    }
}

/// A worker whose register is behind: another one has forgotten plans since.
fn behind_the_floor(world: &World) -> (Compactor, i64) {
    three_windows(world);
    let now = real_now() + 36 * DAY;
    let loser = World {
        state: Arc::new(MemoryStateStore::new()),
        ..world.clone()
    };
    // One that takes all plans for not reclaimed, as far as that goes.
    let behind = loser.open(at(now));
    let mut compactor = world.open(at(now));
    work_until(&mut compactor, at(now), at(now + DAY));
    assert_eq!(control_objects(world, "/plans/"), 1);
    (behind, now + DAY)
}

#[test]
fn a_worker_does_not_halt_for_plans_that_another_one_has_forgotten() {
    let world = World::new();
    let (mut behind, now) = behind_the_floor(&world);
    let reports = work_until(&mut behind, at(now), at(now + 2 * DAY));
    assert!(reports.iter().all(|report| report.halted.is_none()), "{reports:#?}");
    assert_eq!(super::support::errors(&reports), Vec::<String>::new());
    let (late, _) = world.write_some("users", HOUR + 5, "w9", 0, 3);
    assert_eq!(
        tell(&mut behind, &[late], at(now + 2 * DAY)),
        [Ok(EventOutcome::SetAside)]
    );
}

#[test]
fn a_late_file_of_a_window_that_another_worker_has_forgotten_is_set_aside_at_once() {
    let world = World::new();
    let (mut behind, now) = behind_the_floor(&world);
    let (late, _) = world.write_some("users", HOUR + 5, "w9", 0, 3);
    let key = super::support::key(&late);
    assert_eq!(tell(&mut behind, &[late], at(now)), [Ok(EventOutcome::SetAside)]);
    assert_eq!(quarantine(&behind, at(now)), [(key, "belowBoundary".to_owned())]);
}

#[test]
fn upkeep_goes_on_above_what_another_worker_has_forgotten() {
    let world = World::new();
    three_windows(&world);
    let now = real_now() + 36 * DAY;
    let mut behind = world.open(at(now));
    let mut compactor = world.open(at(now));
    work_until(&mut compactor, at(now), at(now + DAY));
    assert_eq!(control_objects(&world, "/plans/"), 1);
    let reports = work_until(&mut behind, at(now + DAY), at(now + 3 * DAY));
    assert!(!reports.is_empty(), "there was an upkeep");
    assert!(reports.iter().all(|report| report.halted.is_none()), "{reports:#?}");
    assert_eq!(super::support::errors(&reports), Vec::<String>::new());
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
        &format!("data/users/{}-w9-0.parquet", HOUR + HOUR_MS + 5),
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
    // By now the first three plans are forgotten; of two floors the higher one holds.
    assert_eq!(
        (control_objects(&world, "/plans/"), control_objects(&world, "/floor/")),
        (1, 2)
    );
    assert_eq!(compactor.status(at(now)).halts, []);
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
