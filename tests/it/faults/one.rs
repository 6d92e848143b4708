//! One fault at every operation of a whole run, on every kind of store.

use firnline::testing::{Fault, Faults, Operation, OperationKind, Profile};

use crate::faults::oracle::{check_end, check_swept, entries};
use crate::faults::rig::{Driver, Rig, Script};
use crate::faults::{PROFILES, every};

/// A whole run; what it does.
pub(super) fn run(profile: Profile, faults: Faults, what: &str) -> Vec<Operation> {
    let rig = Rig::on(profile, faults);
    let script = Script::whole_run();
    let mut driver = Driver::new(&rig, script.clone());
    driver.to_the_end();
    let status = driver.status();
    check_end(&rig, &script, &status, what);
    check_swept(&rig, what);
    rig.faults.log()
}

/// Whether a fault can strike such an operation: objects are read as they were written last, by every store that is
/// supported; only listings and states lag behind.
pub(super) fn strikes(fault: Fault, operation: &Operation) -> bool {
    let lags = [OperationKind::List, OperationKind::StateList, OperationKind::StateLoad];
    fault != Fault::StaleRead || lags.contains(&operation.kind)
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

/// Everywhere on a store without limits; one of `stride` operations, and one of five times as many on other stores,
/// unless all is asked for.
fn strike_everywhere(fault: Fault, stride: usize) {
    let mut runs = 0;
    for profile in PROFILES {
        let operations = run(profile, Faults::none(), "no fault");
        assert!(
            operations.len() > 100,
            "a whole run has more operations than {}",
            operations.len()
        );
        let stride = if profile == Profile::S3 { stride } else { 5 * stride };
        let struck = operations.iter().filter(|operation| strikes(fault, operation));
        for operation in struck.step_by(every(stride)) {
            let what = format!("{fault:?} at {operation:?} on {profile:?}");
            let log = run(profile, Faults::at(operation.index, fault), &what);
            assert!(log.iter().any(|operation| operation.fault.is_some()), "{what}");
            runs += 1;
        }
    }
    println!("{runs} runs with {fault:?}");
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
fn a_listing_or_state_that_lags_behind_costs_nothing() {
    strike_everywhere(Fault::StaleRead, 1);
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
