//! Whole compactions in virtual time, by the seeds of their schedules, on tables of both formats.
//!
//! `FIRNLINE_SEED=n` runs one schedule, `FIRNLINE_SEEDS=a..b` those from a to b, `FIRNLINE_TIMES=n` n times as many.
#![cfg(feature = "testing")]

mod coverage;
mod delta;
mod iceberg;

use std::ops::Range;

use firnline::testing::{Simulation, SimulationReport, Troubles};

use self::delta::DeltaLogs;
use self::iceberg::IcebergLogs;
use crate::faults::times;
use crate::table_log::is_iceberg;

/// Those of the environment, else the first ones.
fn seeds(count: u64) -> Range<u64> {
    let asked = |name: &str| std::env::var(name).ok();
    if let Some(seed) = asked("FIRNLINE_SEED") {
        let seed = seed.parse().unwrap();
        return seed..seed + 1;
    }
    match asked("FIRNLINE_SEEDS") {
        Some(range) => {
            let (from, to) = range.split_once("..").unwrap();
            from.parse().unwrap()..to.parse().unwrap()
        }
        None => 0..times(count),
    }
}

fn run(simulation: Simulation) -> SimulationReport {
    simulation.run().unwrap_or_else(|violation| panic!("{violation}"))
}

/// Runs all, and tells of the first few that break a promise.
fn run_all(count: u64, simulation: impl Fn(u64) -> Simulation) {
    let (mut schedules, mut operations, mut struck, mut broken) = (0_u64, 0, 0, Vec::new());
    for seed in seeds(count) {
        match simulation(seed).run() {
            Ok(report) => {
                schedules += 1;
                operations += report.operations;
                struck += report.struck;
            }
            Err(violation) if broken.len() < 3 => broken.push(violation.to_string()),
            Err(_) => break,
        }
    }
    println!("{schedules} schedules, {operations} operations, {struck} of them struck");
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

#[test]
fn schedules_on_delta_tables_keep_every_promise() {
    run_all(150, |seed| Simulation::new(seed, DeltaLogs::default()));
}

#[test]
fn schedules_on_iceberg_tables_keep_every_promise() {
    run_all(100, |seed| Simulation::new(seed, IcebergLogs::default()));
}

#[test]
fn a_seed_gives_the_same_run_operation_by_operation() {
    let twice = |seed: u64, tables: &dyn Fn() -> Simulation| {
        let (first, second) = (run(tables()), run(tables()));
        assert_eq!(first, second, "seed {seed}");
        assert!(first.operations > 100, "{first:?}");
    };
    for seed in seeds(10) {
        twice(seed, &|| Simulation::new(seed, DeltaLogs::default()));
        twice(seed, &|| Simulation::new(seed, IcebergLogs::default()));
    }
}

#[test]
fn a_run_without_trouble_commits_without_a_void_where_nothing_is_damaged() {
    let run_of = |tables: Simulation| run(tables.with_troubles(Troubles::none()));
    let report = if is_iceberg() {
        run_of(Simulation::new(3, IcebergLogs::default()))
    } else {
        run_of(Simulation::new(3, DeltaLogs::default()))
    };
    assert!(report.entries > 1 && report.struck == 0, "{report:?}");
}
