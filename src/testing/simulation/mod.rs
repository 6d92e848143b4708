//! Whole compactions in virtual time, decided by a seed: several workers that sleep, die and wake as zombies, requests
//! that fail before or after they were carried out, hang, are throttled or answered stale, events that are lost, late and
//! told many times, files that come late or are damaged, a state that is lost or goes back, other writers on the tables.
//!
//! After every step the promises of this crate are looked at, from the stored objects and the log of operations alone;
//! some time after all trouble has ended, everything must be done. Workers take turns request by request on one thread,
//! no clock is asked and nothing waits, so that the same seed gives the same run, operation by operation.
//!
//! ```no_run
//! # use firnline::testing::{SimulatedTables, Simulation};
//! # fn all(tables: impl SimulatedTables + Clone) {
//! for seed in 0..1_000 {
//!     let report = Simulation::new(seed, tables.clone()).run();
//!     report.unwrap_or_else(|violation| panic!("{violation}"));
//! }
//! # }
//! ```

mod checks;
mod coverage;
mod rows;
mod run;
mod script;
mod tables;
mod troubles;
mod violation;
mod watch;
mod worker;
mod world;

use std::sync::Arc;

pub use self::coverage::{Call, Cell, Ending};
pub use self::tables::{ForeignChange, ForeignFile, Published, PublishedEntry, SimulatedTables};
pub use self::troubles::Troubles;
pub use self::violation::{Promise, Violation};

use self::run::Run;
use self::violation::Broken;
use self::watch::line;
use crate::ids::Sha256Digest;
use crate::state::StateStore;

/// Operations that a violation shows.
const TRACE: usize = 60;

/// One schedule.
#[derive(Debug)]
pub struct Simulation {
    seed: u64,
    troubles: Troubles,
    tables: Arc<dyn SimulatedTables>,
    state: Option<Arc<dyn StateStore>>,
}

/// What a schedule came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimulationReport {
    /// Its troubles.
    pub troubles: Troubles,
    /// Times that a worker was polled.
    pub steps: u64,
    /// Operations on all stores.
    pub operations: usize,
    /// Operations that were struck by a fault.
    pub struck: usize,
    /// Entries in tables.
    pub entries: u64,
    /// Those of them that put nothing in.
    pub voids: u64,
    /// What was struck.
    pub cells: Vec<Cell>,
    /// The same for the same seed: of all operations in their order.
    pub digest: Sha256Digest,
}

impl Simulation {
    /// The schedule of `seed`, with the troubles that are drawn from it.
    pub fn new(seed: u64, tables: impl SimulatedTables) -> Self {
        Self {
            seed,
            troubles: Troubles::drawn(seed),
            tables: Arc::new(tables),
            state: None,
        }
    }

    /// Other troubles.
    #[must_use]
    pub fn with_troubles(mut self, troubles: Troubles) -> Self {
        self.troubles = troubles;
        self
    }

    /// A state store of the host's, empty and in memory, instead of one that can be taken back: it is neither lost nor
    /// rewound.
    #[must_use]
    pub fn with_state_store(mut self, state: impl StateStore) -> Self {
        self.state = Some(Arc::new(state));
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// The first promise that is broken.
    pub fn run(self) -> Result<SimulationReport, Violation> {
        let seed = self.seed;
        let mut run = Run::new(self);
        match run.finish() {
            Ok(()) => Ok(run.report()),
            Err(Broken { promise, detail }) => {
                let log = run.world.faults.log();
                let from = log.len().saturating_sub(TRACE);
                Err(Violation {
                    seed,
                    promise,
                    detail: format!("{detail}. now=`{}` {:?}", run.world.now().to_iso(), run.troubles),
                    trace: log.iter().skip(from).map(line).collect(),
                })
            }
        }
    }
}
