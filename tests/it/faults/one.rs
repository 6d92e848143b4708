//! One fault at every operation of a whole run.

use firnline::testing::{Fault, Faults};

use crate::faults::every;
use crate::faults::oracle::{check_end, check_swept, entries};
use crate::faults::rig::{Driver, Rig, Script};

fn run(faults: Faults, what: &str) -> usize {
    let rig = Rig::new(faults);
    let script = Script::whole_run();
    let mut driver = Driver::new(&rig, script.clone());
    driver.to_the_end();
    let status = driver.status();
    check_end(&rig, &script, &status, what);
    check_swept(&rig, what);
    assert_eq!(rig.faults.struck(), what != "no fault", "{what}");
    rig.faults.operations()
}

#[test]
fn a_whole_run_has_a_void_two_windows_and_a_late_generation() {
    let rig = Rig::new(Faults::none());
    let script = Script::whole_run();
    let mut driver = Driver::new(&rig, script.clone());
    driver.to_the_end();
    let outcomes: Vec<_> = entries(&rig).iter().map(|entry| (entry.seq, entry.void)).collect();
    assert_eq!(outcomes, [(1, false), (2, true), (3, false), (4, false)]);
    let status = driver.status();
    check_end(&rig, &script, &status, "no fault");
}

fn strike_everywhere(fault: Fault, stride: usize) {
    let operations = run(Faults::none(), "no fault");
    assert!(operations > 100, "a whole run has more operations than {operations}");
    for index in (0..operations).step_by(every(stride)) {
        run(
            Faults::at(index, fault),
            &format!("{fault:?} at {index} of {operations}"),
        );
    }
}

#[test]
fn a_crash_before_any_operation_costs_nothing() {
    strike_everywhere(Fault::CrashBefore, 1);
}

#[test]
fn a_crash_after_any_operation_costs_nothing() {
    strike_everywhere(Fault::CrashAfter, 1);
}

#[test]
fn an_error_of_any_operation_that_was_not_applied_costs_nothing() {
    strike_everywhere(Fault::ErrorNotApplied, 3);
}

#[test]
fn an_error_of_any_operation_that_was_applied_costs_nothing() {
    strike_everywhere(Fault::AppliedButError, 2);
}

#[test]
fn a_request_that_arrives_when_its_caller_has_gone_on_costs_nothing() {
    strike_everywhere(Fault::AppliedLate, 2);
}

#[test]
fn a_throttled_operation_costs_nothing() {
    strike_everywhere(Fault::Throttle, 5);
}

#[test]
fn a_future_dropped_while_any_operation_hangs_costs_nothing() {
    strike_everywhere(Fault::Hang, 2);
}

#[test]
fn a_future_dropped_after_any_operation_was_applied_costs_nothing() {
    strike_everywhere(Fault::HangAfter, 2);
}

#[test]
fn a_body_torn_in_any_read_costs_nothing() {
    strike_everywhere(Fault::TornBody, 3);
}
