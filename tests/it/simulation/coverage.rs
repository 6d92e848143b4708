//! That the schedules meet every kind of trouble: which operation of which call is struck by which fault, and what becomes of
//! the call.
//!
//! `cells.txt` lists the operations of each call and what an error of each comes to; from that follows what can be met. What
//! is met and cannot be fails the test. How much of what can be met is met is printed, and with `FIRNLINE_FULL=1` what is not.

use std::collections::{BTreeMap, BTreeSet};

use firnline::testing::{Cell, Ending, Fault, OperationKind, Simulation, Troubles};

use super::delta::DeltaLogs;
use super::iceberg::IcebergLogs;
use super::{run, seeds};
use crate::faults::full;

const TABLE: &str = include_str!("cells.txt");

/// What an error of an operation comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// The call fails.
    Fails,
    /// The call fails, and other operations of it may be under way.
    FailsBeside,
    /// The call looks again or does without, and may go on to anything.
    GoesOn,
    /// Likewise, and other operations of it may fail meanwhile.
    GoesOnBeside,
}

/// The operations of `cells.txt`: call, object and kind.
fn rows() -> BTreeMap<String, Course> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rows = lines.map(|line| {
        let (row, course) = line.rsplit_once('|').unwrap();
        let course = match course.trim() {
            "fails" => Course::Fails,
            "fails beside" => Course::FailsBeside,
            "goes on" => Course::GoesOn,
            "goes on beside" => Course::GoesOnBeside,
            other => panic!("{other}"),
        };
        (words(row), course)
    });
    rows.collect()
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn row_of(cell: &Cell) -> String {
    words(&format!("{:?} | {} | {:?}", cell.call, cell.object, cell.kind))
}

/// Why a cell cannot be met; `None`: it can.
fn unreachable(kind: OperationKind, course: Course, fault: Fault, ending: Ending) -> Option<&'static str> {
    let is_listing = matches!(
        kind,
        OperationKind::List | OperationKind::StateList | OperationKind::StateLoad
    );
    let waits = matches!(fault, Fault::Hang | Fault::HangAfter);
    match (fault, ending) {
        (Fault::StaleRead, _) if !is_listing => Some("objects are read as they were written last"),
        // What is stale is an answer like any other.
        (Fault::StaleRead, _) => None,
        (_, Ending::Done) if waits => Some("a call that waits for ever never ends well"),
        (_, Ending::Failed) if waits && matches!(course, Course::Fails | Course::GoesOn) => {
            Some("a call that waits for ever does nothing else that could fail")
        }
        (_, Ending::Done) if matches!(course, Course::Fails | Course::FailsBeside) => {
            Some("what this operation is for cannot be done without it")
        }
        (_, Ending::Dropped) if !waits && course == Course::Fails => {
            Some("the call fails at once, and waits for nothing")
        }
        _ => None,
    }
}

#[test]
fn every_kind_of_trouble_is_met() {
    let rows = rows();
    let mut met: BTreeMap<Cell, u64> = BTreeMap::new();
    for seed in seeds(20) {
        let mut troubles = Troubles::drawn(seed);
        troubles.faults = 20;
        for simulation in [
            Simulation::new(seed, DeltaLogs::default()),
            Simulation::new(seed, IcebergLogs::default()),
        ] {
            for cell in run(simulation.with_troubles(troubles)).cells {
                *met.entry(cell).or_default() += 1;
            }
        }
    }
    let mut wrong = BTreeSet::new();
    for (cell, count) in &met {
        let why = match rows.get(&row_of(cell)) {
            Some(course) => unreachable(cell.kind, *course, cell.fault, cell.ending),
            None => Some("it is not in cells.txt"),
        };
        wrong.extend(why.map(|why| format!("{} {:?} {:?} ({count}): {why}", row_of(cell), cell.fault, cell.ending)));
    }
    let seen: BTreeSet<String> = met
        .keys()
        .map(|cell| name(&row_of(cell), cell.fault, cell.ending))
        .collect();
    let (mut can_be, mut missing) = (0_usize, Vec::new());
    for (row, course) in &rows {
        let kind = kind_of(row);
        for fault in Fault::ALL
            .into_iter()
            .filter(|fault| !matches!(fault, Fault::CrashBefore | Fault::CrashAfter))
        {
            for ending in [Ending::Done, Ending::Failed, Ending::Dropped] {
                if unreachable(kind, *course, fault, ending).is_some() {
                    continue;
                }
                can_be += 1;
                let name = name(row, fault, ending);
                missing.extend((!seen.contains(&name)).then_some(name));
            }
        }
    }
    println!("{} of {can_be} cells met", can_be - missing.len());
    if full() {
        for name in &missing {
            println!("not met: {name}");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn name(row: &str, fault: Fault, ending: Ending) -> String {
    format!("{row} {fault:?} {ending:?}")
}

/// The kind of operation that a row names last.
fn kind_of(row: &str) -> OperationKind {
    let kinds = [
        OperationKind::AbortMultipart,
        OperationKind::CompleteMultipart,
        OperationKind::CreateMultipart,
        OperationKind::Delete,
        OperationKind::Get,
        OperationKind::Head,
        OperationKind::List,
        OperationKind::Part,
        OperationKind::Put,
        OperationKind::PutCreate,
        OperationKind::PutUpdate,
        OperationKind::StateDelete,
        OperationKind::StateList,
        OperationKind::StateLoad,
        OperationKind::StateSave,
    ];
    let kind = row.rsplit(' ').next().unwrap();
    kinds.into_iter().find(|known| format!("{known:?}") == kind).unwrap()
}
