//! The search itself: what it counts, and that it tells a shortest way to what is broken.

#![allow(clippy::unwrap_used, reason = "a test")]

use firnline_model::cases::CASES;
use firnline_model::config::Config;
use firnline_model::model::LaneModel;
use firnline_model::mutants::{Mutant, Mutants};
use firnline_model::properties::NONE_FORGOTTEN;
use firnline_model::search::search;

fn model(config: &str, mutants: &[Mutant]) -> LaneModel {
    LaneModel {
        config: Config::named(config).unwrap(),
        mutants: Mutants::of(mutants),
    }
}

#[test]
fn three_workers_without_a_fault_keep_every_promise() {
    let found = search(model("three", &[]));
    assert!(found.violation.is_none());
    assert_eq!((found.states, found.steps, found.depth), (51_993, 196_666, 34));
}

#[test]
fn a_late_file_that_is_dropped_is_forgotten_once_its_window_is_planned() {
    let found = search(model("plain", &[Mutant::LateFileDropped]));
    let violation = found.violation.unwrap();
    assert_eq!(violation.property, NONE_FORGOTTEN);
    let trace: Vec<_> = violation.trace.iter().map(ToString::to_string).collect();
    assert_eq!(
        trace,
        [
            "worker 1 reads what is pending in window 1",
            "worker 1 drafts AB as seq 1",
            "worker 1 puts plan 1 of AB",
            "file C arrives late, its event is saved and acknowledged",
        ]
    );
}

#[test]
fn every_rule_is_left_out_somewhere() {
    let is_tried = |mutant: &&Mutant| CASES.iter().any(|case| case.mutants.contains(mutant));
    assert_eq!(Mutant::ALL.iter().find(|mutant| !is_tried(mutant)), None);
    assert!(CASES.iter().all(|case| Config::named(case.config).is_some()));
}
