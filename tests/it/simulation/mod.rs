//! Whole compactions in virtual time, by the seeds of their schedules, on tables of both formats.
//!
//! `FIRNLINE_SEED=n` runs one schedule, `FIRNLINE_TIMES=n` n times as many.
#![cfg(feature = "testing")]

mod delta;
mod iceberg;

use std::ops::Range;

use firnline::testing::{Simulation, SimulationReport, Troubles};

use self::delta::DeltaLogs;
use self::iceberg::IcebergLogs;
use crate::faults::times;
use crate::table_log::is_iceberg;

fn seeds(count: u64) -> Range<u64> {
    match std::env::var("FIRNLINE_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..times(count),
    }
}

fn run(simulation: Simulation) -> SimulationReport {
    simulation.run().unwrap_or_else(|violation| panic!("{violation}"))
}

#[test]
fn schedules_on_delta_tables_keep_every_promise() {
    for seed in seeds(150) {
        run(Simulation::new(seed, DeltaLogs::default()));
    }
}

#[test]
fn schedules_on_iceberg_tables_keep_every_promise() {
    for seed in seeds(100) {
        run(Simulation::new(seed, IcebergLogs::default()));
    }
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
