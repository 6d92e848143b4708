//! The state lost or rewound, the control prefix lost, the table gone back: halted where somebody must decide, and
//! never a row doubled or a source deleted that the table does not have.

use firnline::object_store::ObjectStoreExt;
use firnline::object_store::path::Path;
use firnline::testing::{Fault, Faults};
use firnline::{Compactor, Namespace, ObjectEvent, ObjectKey, Status};
use futures::executor::block_on;

use crate::faults::every;
use crate::faults::oracle::{check_always, check_end, entries};
use crate::faults::rig::{DAY, Driver, MINUTE, NAMESPACE, Rig, Script, end, poll_through};
use crate::table_log;
use crate::world::{HOUR, Row, World, at};

/// The jobs of a whole run without trouble.
fn jobs() -> usize {
    let rig = Rig::new(Faults::none());
    let mut driver = Driver::new(&rig, Script::whole_run());
    driver.to_the_end();
    driver.jobs
}

/// Does something to the world before the job number `job`, and drives to the end; `lists`: with a listing on the way.
fn disturbed(job: usize, dies: bool, lists: bool, what: &str, disturb: impl FnOnce(&Rig)) {
    println!("{what}"); // shown when it fails
    let rig = Rig::new(Faults::none());
    let script = Script::whole_run();
    let mut driver = Driver::new(&rig, script.clone());
    let and_die = move |rig: &Rig| {
        disturb(rig);
        dies
    };
    driver.before_job = Some((job, Box::new(and_die)));
    if lists {
        driver.until(end());
        let compactor = driver.compactor.as_mut().unwrap();
        block_on(compactor.reconcile(rig.now())).unwrap();
    }
    driver.to_the_end();
    let status = driver.status();
    check_end(&rig, &script, &status, what);
}

#[test]
fn a_state_that_is_lost_before_any_job_costs_nothing() {
    for job in 0..jobs() {
        for dies in [true, false] {
            disturbed(job, dies, false, &format!("job {job}, dies {dies}"), |rig| {
                rig.state.wipe();
            });
        }
    }
}

#[test]
fn a_key_of_the_state_that_is_rewound_before_any_job_costs_nothing() {
    let rig = Rig::new(Faults::none());
    let mut driver = Driver::new(&rig, Script::whole_run());
    driver.to_the_end();
    let keys = rig.state.keys();
    assert!(keys.len() > 4, "{keys:?}");
    let mut number = 0;
    for job in 0..driver.jobs {
        for key in 0..keys.len() {
            for steps in [1, 2, 100] {
                for dies in [true, false] {
                    number += 1;
                    if number % every(7) != 0 {
                        continue;
                    }
                    let what = format!("job {job}, key number {key}, {steps} back, dies {dies}");
                    // That a single key is an older one is not noticed: this is what listings are for.
                    disturbed(job, dies, true, &what, |rig| {
                        if let Some(key) = rig.state.keys().get(key) {
                            rig.state.rewind(key, steps);
                        }
                    });
                }
            }
        }
    }
}

fn wipe(world: &World, of: impl Fn(&World) -> std::sync::Arc<dyn firnline::object_store::ObjectStore>, prefix: &str) {
    let store = of(world);
    for path in world.list(&store, &Path::from(prefix)) {
        block_on(store.delete(&path)).unwrap();
    }
}

fn users() -> Namespace {
    Namespace::new(NAMESPACE)
}

fn halt_of(status: &Status) -> String {
    assert_eq!(status.halts.len(), 1, "{status:#?}");
    status.halts[0].reason.clone()
}

/// A run up to a moment, after which the worker has died; the rest of its script.
fn run_until(rig: &Rig, minutes: i64) -> Script {
    let mut driver = Driver::new(rig, Script::whole_run());
    driver.until(at(HOUR + minutes * MINUTE));
    driver.script
}

/// Goes on with a halted lane for days: nothing is deleted, nothing committed.
fn stands_still(rig: &Rig, rest: &Script, expected: &str) -> Compactor {
    let before = (entries(rig).len(), rig.truth.sources());
    let mut driver = Driver::new(rig, rest.clone());
    driver.script.steps.clear();
    // The first notification after the loss.
    let known = rig.truth.sources().pop().unwrap();
    driver.queue.push(ObjectEvent::created(known));
    let until = rig.now() + 2 * DAY as u64;
    driver.until(until);
    let halt = halt_of(&driver.status());
    assert!(halt.starts_with(expected), "{halt}");
    assert_eq!((entries(rig).len(), rig.truth.sources()), before, "{expected}");
    driver.compactor.unwrap()
}

/// The host after a notification that tells nothing new.
fn woken(rig: &Rig, rest: &Script) -> Compactor {
    let mut driver = Driver::new(rig, rest.clone());
    driver.script.steps.clear();
    let known = rig.truth.sources().pop().unwrap();
    driver.queue.push(ObjectEvent::created(known));
    driver.until(rig.now() + 1);
    driver.compactor.unwrap()
}

/// Goes on after a door with the rest of the script, to the end.
fn go_on(rig: &Rig, rest: Script, compactor: Compactor) -> (Status, Script) {
    rig.halts.lock().unwrap().clear();
    let mut driver = Driver::new(rig, rest);
    driver.compactor = Some(compactor);
    let until = rig.now() + 8 * DAY as u64;
    driver.until(until);
    (driver.status(), driver.script)
}

/// Minutes of the run at which there is: a commit, one reclaimed; a void; two windows; a late file pending.
const MOMENTS: [i64; 5] = [62, 100, 128, 140, 300];

#[test]
fn a_lost_control_prefix_halts_the_lane_and_adopt_goes_on() {
    for minutes in MOMENTS {
        for keep_state in [true, false] {
            let what = format!("control lost after {minutes} minutes, state kept {keep_state}");
            let rig = Rig::new(Faults::none());
            let rest = run_until(&rig, minutes);
            let in_table = rig.truth.table_rows(NAMESPACE);
            let sources = rig.truth.sources();
            wipe(&rig.truth, |world| world.control.clone(), "");
            if !keep_state {
                rig.state.wipe();
            }
            let mut compactor = stands_still(&rig, &rest, "plan register lost");
            let door = block_on(compactor.adopt(&users())).unwrap();
            let report = block_on(compactor.go_through(door, rig.now())).unwrap();
            // Nobody can tell any more which of the files in the bucket are in the table.
            assert_eq!(report.quarantined, sources.len(), "{what}");
            assert_eq!(report.pending, 0, "{what}");
            let (status, _) = go_on(&rig, rest.clone(), compactor);
            assert!(status.halts.is_empty(), "{what}: {status:#?}");
            let gone: Vec<_> = sources
                .iter()
                .filter(|key| !rig.truth.sources().contains(key))
                .collect();
            assert!(gone.is_empty(), "{what}: {gone:?}");
            // What came later is in, once; what was in still is.
            let mut expected = in_table;
            let later = rest
                .sources
                .iter()
                .filter(|source| !sources.contains(&source.key) && !source.corrupt);
            for row in later.flat_map(|source| source.rows.clone()) {
                if !expected.contains(&row) {
                    expected.push(row);
                }
            }
            expected.sort();
            assert_eq!(rig.truth.table_rows(NAMESPACE), expected, "{what}");
        }
    }
}

#[test]
fn files_in_doubt_after_an_adoption_go_in_once_when_they_are_released() {
    let rig = Rig::new(Faults::none());
    // The first window is committed and reclaimed, the second has just begun.
    let rest = run_until(&rig, 125);
    let script = Script::whole_run();
    wipe(&rig.truth, |world| world.control.clone(), "");
    rig.state.wipe();
    let mut compactor = stands_still(&rig, &rest, "plan register lost");
    let door = block_on(compactor.adopt(&users())).unwrap();
    let _ = block_on(compactor.go_through(door, rig.now())).unwrap();
    // The operator knows which are in the table.
    let in_table = rig.truth.table_rows(NAMESPACE);
    let known = |key: &str| {
        let source = script.sources.iter().find(|source| source.key == key).unwrap();
        in_table.contains(&source.rows[0])
    };
    for key in rig.truth.sources() {
        let door = match known(&key) {
            true => compactor.discard(&ObjectKey::new(key)),
            false => compactor.release(&ObjectKey::new(key)),
        };
        let _ = block_on(compactor.go_through(door.unwrap(), rig.now())).unwrap();
    }
    let (status, _) = go_on(&rig, rest, compactor);
    assert!(status.halts.is_empty() && status.windows.is_empty(), "{status:#?}");
    assert_eq!(rig.truth.table_rows(NAMESPACE), script.good_rows());
}

#[test]
fn a_table_that_lost_its_newest_commit_halts_the_lane_and_replay_puts_it_in_again() {
    for minutes in MOMENTS {
        let what = format!("rolled back after {minutes} minutes");
        let rig = Rig::new(Faults::none());
        let rest = run_until(&rig, minutes);
        let newest = entries(&rig).pop().unwrap();
        let lost = match newest.void {
            true => Vec::new(),
            false => rows_of_commit(&rig, &newest.commit),
        };
        let reclaimed = lost.iter().any(|row| {
            let script = Script::whole_run();
            let of = script
                .sources
                .iter()
                .find(|source| source.rows.contains(row))
                .unwrap()
                .clone();
            !rig.truth.sources().contains(&of.key)
        });
        block_on(rig.truth.tables.delete(&Path::from(newest.commit.clone()))).unwrap();
        let mut compactor = stands_still(&rig, &rest, "table rolled back");
        let door = block_on(compactor.replay(&users())).unwrap();
        let _ = block_on(compactor.go_through(door, rig.now())).unwrap();
        let (status, script) = go_on(&rig, rest, compactor);
        assert!(
            status.halts.is_empty() && status.windows.is_empty(),
            "{what}: {status:#?}"
        );
        let mut expected = script.good_rows();
        if reclaimed {
            expected.retain(|row| !lost.contains(row));
        }
        assert_eq!(
            rig.truth.table_rows(NAMESPACE),
            expected,
            "{what}, reclaimed {reclaimed}"
        );
    }
}

fn rows_of_commit(rig: &Rig, commit: &str) -> Vec<crate::world::Row> {
    let read = |path: &Path| block_on(async { rig.truth.tables.get(path).await.unwrap().bytes().await.unwrap() });
    let files = table_log::files_of(&rig.truth.tables, NAMESPACE, commit);
    files
        .iter()
        .flat_map(|path| crate::world::rows_of(read(path)))
        .collect()
}

#[test]
fn a_table_that_was_dropped_halts_the_lane_and_replay_makes_it_anew() {
    for (minutes, adopted) in MOMENTS
        .into_iter()
        .flat_map(|minutes| [(minutes, false), (minutes, true)])
    {
        let what = format!("dropped after {minutes} minutes, adopted before: {adopted}");
        let rig = Rig::new(Faults::none());
        let rest = run_until(&rig, minutes);
        if adopted {
            // What is left of the bucket counts as in the table from now on: as long as there is one.
            let mut compactor = woken(&rig, &rest);
            let door = block_on(compactor.adopt(&users())).unwrap();
            let _ = block_on(compactor.go_through(door, rig.now())).unwrap();
        }
        wipe(&rig.truth, |world| world.tables.clone(), NAMESPACE);
        let there = rig.truth.sources();
        let mut compactor = if adopted {
            // Without a plan it has not looked at the table yet.
            woken(&rig, &rest)
        } else {
            stands_still(&rig, &rest, "table rolled back")
        };
        let door = block_on(compactor.replay(&users())).unwrap();
        let _ = block_on(compactor.go_through(door, rig.now())).unwrap();
        let (status, script) = go_on(&rig, rest, compactor);
        assert!(
            status.halts.is_empty() && status.windows.is_empty(),
            "{what}: {status:#?}"
        );
        let expected = rows_there(&script, &there, minutes);
        assert_eq!(rig.truth.table_rows(NAMESPACE), expected, "{what}");
    }
}

/// The rows of what was still in the bucket after so many minutes, and of what came later.
fn rows_there(script: &Script, there: &[String], minutes: i64) -> Vec<Row> {
    let written_later = |key: &String| {
        let name = key.split('/').next_back().unwrap();
        let millis = name.split('-').next().unwrap().parse::<i64>().unwrap();
        (millis - HOUR) / MINUTE > minutes || (key.contains("w3-1") && minutes < 130)
    };
    let sources = script.sources.iter().filter(|source| !source.corrupt);
    let mut rows: Vec<_> = sources
        .filter(|source| there.contains(&source.key) || written_later(&source.key))
        .flat_map(|source| source.rows.clone())
        .collect();
    rows.sort();
    rows
}

#[test]
fn what_was_discarded_as_being_in_a_table_is_put_in_again_when_that_is_gone() {
    let minutes = 100;
    let rig = Rig::new(Faults::none());
    let rest = run_until(&rig, minutes);
    wipe(&rig.truth, |world| world.control.clone(), "");
    rig.state.wipe();
    let mut compactor = stands_still(&rig, &rest, "plan register lost");
    let door = block_on(compactor.adopt(&users())).unwrap();
    let _ = block_on(compactor.go_through(door, rig.now())).unwrap();
    let there = rig.truth.sources();
    for key in &there {
        let door = compactor.discard(&ObjectKey::new(key.clone())).unwrap();
        let _ = block_on(compactor.go_through(door, rig.now())).unwrap();
    }
    wipe(&rig.truth, |world| world.tables.clone(), NAMESPACE);
    let door = block_on(compactor.replay(&users())).unwrap();
    let _ = block_on(compactor.go_through(door, rig.now())).unwrap();
    let (status, script) = go_on(&rig, rest, compactor);
    assert!(status.halts.is_empty(), "{status:#?}");
    assert_eq!(rig.truth.table_rows(NAMESPACE), rows_there(&script, &there, minutes));
}

#[test]
fn a_lane_that_halts_deletes_nothing_however_long_it_stands() {
    let rig = Rig::new(Faults::none());
    let rest = run_until(&rig, 128);
    wipe(&rig.truth, |world| world.control.clone(), "");
    let _ = stands_still(&rig, &rest, "plan register lost");
    // A plan's object is gone with the control prefix, so deletions are judged by what was there before.
    let deletes = rig
        .faults
        .log()
        .iter()
        .filter(|op| op.kind == firnline::testing::OperationKind::Delete)
        .count();
    assert_eq!(deletes, 3, "the first window's, an hour after its commit");
    let rig = Rig::new(Faults::none());
    let _ = run_until(&rig, 128);
    check_always(&rig, "before");
}

/// What has happened to a lane that an operator is called for.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Control,
    NewestCommit,
}

/// A damaged world after so many minutes, its lane halted; and the rest of the script.
fn damaged(minutes: i64, loss: Loss) -> (Rig, Script, Vec<crate::world::Row>) {
    let mut rig = Rig::new(Faults::none());
    // Long enough that sources of plans that are in the table are still in the bucket.
    rig.world.options = rig.world.options.clone().with_delete_grace_ms(6 * 3_600_000);
    let rest = run_until(&rig, minutes);
    match loss {
        Loss::Control => wipe(&rig.truth, |world| world.control.clone(), ""),
        Loss::NewestCommit => {
            let newest = entries(&rig).pop().unwrap();
            block_on(rig.truth.tables.delete(&Path::from(newest.commit))).unwrap();
        }
    }
    let in_table = rig.truth.table_rows(NAMESPACE);
    (rig, rest, in_table)
}

fn some_source(rig: &Rig) -> String {
    rig.truth.sources().pop().unwrap()
}

/// Opens the lane, has it notified of a file that is there, and goes through the operator's door while it is halted.
async fn through_the_door(rig: &Rig, loss: Loss, known: String) -> firnline::Result<Compactor> {
    let mut compactor = rig.open().await?;
    let _ = compactor.handle_events(&[ObjectEvent::created(known)], rig.now()).await;
    for _ in 0..2 {
        if compactor.status(rig.now()).halts.is_empty() {
            break;
        }
        let door = match loss {
            Loss::Control => compactor.adopt(&users()).await?,
            Loss::NewestCommit => compactor.replay(&users()).await?,
        };
        compactor.go_through(door, rig.now()).await?;
    }
    Ok(compactor)
}

#[test]
fn a_crash_anywhere_in_a_door_costs_nothing() {
    for (loss, minutes) in [
        (Loss::NewestCommit, 160),
        (Loss::NewestCommit, 62),
        (Loss::Control, 160),
    ] {
        let (rig, ..) = damaged(minutes, loss);
        let before = rig.faults.operations();
        block_on(through_the_door(&rig, loss, some_source(&rig))).unwrap();
        let operations = rig.faults.operations() - before;
        assert!(operations > 20, "{loss:?}: {operations}");
        for index in (0..operations).step_by(every(5)) {
            for fault in [Fault::CrashBefore, Fault::CrashAfter] {
                let what = format!("{loss:?} after {minutes} minutes, {fault:?} at {index} of {operations}");
                let (rig, rest, in_table) = damaged(minutes, loss);
                let _ = rig.faults.clone().and(rig.faults.operations() + index, fault);
                let broken = poll_through(through_the_door(&rig, loss, some_source(&rig)));
                drop(broken);
                rig.faults.restart();
                rig.set(rig.now() + 10 * MINUTE as u64);
                let compactor = block_on(through_the_door(&rig, loss, some_source(&rig)))
                    .unwrap_or_else(|e| panic!("{what}: {}", e.chain()));
                let (status, script) = go_on(&rig, rest, compactor);
                assert!(
                    status.halts.is_empty() && status.windows.is_empty(),
                    "{what}: {status:#?}"
                );
                let rows = rig.truth.table_rows(NAMESPACE);
                let mut once = rows.clone();
                once.dedup();
                assert_eq!(rows, once, "{what}: rows doubled");
                assert!(in_table.iter().all(|row| rows.contains(row)), "{what}: rows lost");
                // What is not in the table is in the bucket, where an operator sees it.
                for source in script.sources.iter().filter(|source| !rows.contains(&source.rows[0])) {
                    let quarantined = status
                        .quarantine
                        .files
                        .iter()
                        .any(|file| file.key.as_str() == source.key);
                    assert!(quarantined, "{what}: `{}` is nowhere", source.key);
                    assert!(
                        rig.truth.sources().contains(&source.key),
                        "{what}: `{}` is gone",
                        source.key
                    );
                }
            }
        }
    }
}
