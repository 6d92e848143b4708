//! Other writers on the same table: appends between any two operations, and a RESTORE that takes rows out.

use std::sync::Arc;

use firnline::object_store::ObjectStore;
use firnline::testing::Faults;
use futures::executor::block_on;

use crate::faults::every;
use crate::faults::oracle::{check_always, entries};
use crate::faults::rig::{DAY, Driver, MINUTE, NAMESPACE, Rig, Script};
use crate::table_log::{self, TakeOut, take_out};
use crate::world::{HOUR, Row, at, parquet_of};

fn foreign_rows(number: usize) -> Vec<Row> {
    vec![(1_000 * HOUR, format!("foreign-{number:05}"), 7)]
}

/// Another writer appends a file.
fn append(tables: &Arc<dyn ObjectStore>, number: usize) -> bool {
    let bytes = parquet_of(&foreign_rows(number));
    table_log::append(tables, NAMESPACE, &format!("part-{number:05}.parquet"), bytes, 1)
}

#[test]
fn an_append_of_another_writer_between_any_two_operations_costs_nothing() {
    let fault_free = Rig::new(Faults::none());
    Driver::new(&fault_free, Script::whole_run()).to_the_end();
    let operations = fault_free.tables.operations();
    assert!(operations > 50, "{operations}");
    let mut appended = 0;
    for index in (0..operations).step_by(every(1)) {
        let what = format!("an append before operation {index} of the tables");
        let rig = Rig::new(Faults::none());
        let script = Script::whole_run();
        let done = Arc::new(std::sync::Mutex::new(false));
        // The store below the one that counts, so that the append is no operation of ours.
        let (below, noted) = (Arc::clone(&rig.tables_below), Arc::clone(&done));
        rig.tables
            .before(index, move || *noted.lock().unwrap() = append(&below, 0));
        let mut driver = Driver::new(&rig, script.clone());
        driver.to_the_end();
        check_always(&rig, &what);
        let mut expected = script.good_rows();
        if *done.lock().unwrap() {
            appended += 1;
            expected.extend(foreign_rows(0));
            expected.sort();
        }
        assert_eq!(rig.truth.table_rows(NAMESPACE), expected, "{what}");
        assert_eq!(rig.truth.sources(), script.corrupt_keys(), "{what}");
        assert_eq!(*rig.halts.lock().unwrap(), Vec::<String>::new(), "{what}");
    }
    assert!(appended * 2 > operations / every(1), "{appended} of {operations}");
}

#[test]
fn a_table_that_others_append_to_before_every_commit_takes_all_rows() {
    let rig = Rig::new(Faults::none());
    let script = Script::whole_run();
    let mut driver = Driver::new(&rig, script.clone());
    let mut expected = script.good_rows();
    for minutes in (0..6 * 24 * 60).step_by(20) {
        driver.until(at(HOUR + minutes * MINUTE));
        if append(&rig.tables_below, minutes as usize) {
            expected.extend(foreign_rows(minutes as usize));
        }
    }
    driver.to_the_end();
    expected.sort();
    check_always(&rig, "appends all the time");
    assert_eq!(rig.truth.table_rows(NAMESPACE), expected);
    assert_eq!(rig.truth.sources(), script.corrupt_keys());
}

#[test]
fn rows_taken_out_by_a_restore_or_overwrite_keep_their_sources_and_halt_the_lane() {
    for how in table_log::rewinds() {
        let operation = format!("{how:?}");
        let rig = Rig::new(Faults::none());
        let mut driver = Driver::new(&rig, Script::whole_run());
        driver.until(at(HOUR + 100 * MINUTE));
        assert_eq!(entries(&rig).len(), 1, "{operation}");
        let first = rig.truth.live_files(NAMESPACE);
        // The second window is committed, its grace is not over.
        driver.until(at(HOUR + 160 * MINUTE));
        assert_eq!(entries(&rig).len(), 3, "{operation}");
        let sources = rig.truth.sources();
        assert_eq!(sources.len(), 4, "{operation}: {sources:?}");
        take_out(&rig.truth.tables, NAMESPACE, *how, &first);
        driver.script.steps.clear();
        driver.until(at(HOUR + 3 * DAY));
        assert_eq!(entries(&rig).len(), 3, "{operation}: the late file has been put in");
        let status = driver.status();
        assert_eq!(status.halts.len(), 1, "{operation}: {status:#?}");
        assert!(
            status.halts[0].reason.starts_with("table rolled back"),
            "{operation}: {status:#?}"
        );
        for key in &sources {
            assert!(rig.truth.sources().contains(key), "{operation}: `{key}` is gone");
        }
        check_always(&rig, &operation);
    }
}

#[test]
fn rows_deleted_on_purpose_do_not_come_back_and_their_sources_go() {
    let rig = Rig::new(Faults::none());
    let script = Script::whole_run();
    let mut driver = Driver::new(&rig, script.clone());
    driver.until(at(HOUR + 100 * MINUTE));
    let gone = rig.truth.table_rows(NAMESPACE);
    assert_eq!(gone.len(), 9);
    take_out(&rig.truth.tables, NAMESPACE, TakeOut::Delete, &[]);
    driver.to_the_end();
    let mut expected = script.good_rows();
    expected.retain(|row| !gone.contains(row));
    assert_eq!(rig.truth.table_rows(NAMESPACE), expected);
    assert_eq!(rig.truth.sources(), script.corrupt_keys());
    check_always(&rig, "deleted");
}

#[test]
fn a_lane_that_looks_whether_its_halt_is_mended_plans_nothing_before_it_knows() {
    let rig = Rig::new(Faults::none());
    let mut driver = Driver::new(&rig, Script::whole_run());
    driver.until(at(HOUR + 100 * MINUTE));
    let first = rig.truth.live_files(NAMESPACE);
    driver.until(at(HOUR + 160 * MINUTE));
    take_out(&rig.truth.tables, NAMESPACE, TakeOut::Restore, &first);
    driver.script.steps.clear();
    // The late file has been ready for long.
    driver.until(at(HOUR + 3 * DAY));
    let mut compactor = driver.compactor.unwrap();
    rig.set(compactor.next_deadline(rig.now()).unwrap());
    let now = rig.now();
    let turn = compactor.poll_job(now).unwrap();
    let reclaim = compactor.poll_job(now).unwrap();
    assert_eq!((turn.kind(), reclaim.kind()), ("compact", "reclaim"));
    let outcome = block_on(turn.run());
    let report = block_on(compactor.finish_job(outcome, now)).unwrap();
    assert!(report.halted.is_none(), "marker and register agree");
    assert!(
        compactor.poll_job(now).is_none(),
        "whether the rows are there is not known yet"
    );
    let outcome = block_on(reclaim.run());
    let report = block_on(compactor.finish_job(outcome, now)).unwrap();
    assert!(report.halted.is_some(), "{report:?}");
    assert_eq!(entries(&rig).len(), 3);
}
