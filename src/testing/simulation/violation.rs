//! What a simulation finds.

use std::fmt;

/// A promise that was broken, and how to see it again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The seed of the schedule.
    pub seed: u64,
    /// Which promise.
    pub promise: Promise,
    /// What was found.
    pub detail: String,
    /// The operations before it, the last ones last.
    pub trace: Vec<String>,
}

/// What must hold, whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Promise {
    /// The rows that a lane has put in are those of its committed plans' sources.
    Rows,
    /// Each source is in at most one committed plan, each seq has at most one entry.
    Once,
    /// A source is deleted only after its rows have been in the table for the grace.
    Grace,
    /// Files are sorted.
    Order,
    /// No committed object is overwritten or deleted.
    Kept,
    /// A file whose event was acknowledged is not forgotten.
    Remembered,
    /// Nothing is deleted but what a committed plan lists, and leftovers.
    Deletions,
    /// When nothing goes wrong any more, everything comes to an end.
    Ends,
    /// A reader of a view sees each row once.
    View,
    /// No lane halts, and nothing fails for good, where nobody has damaged anything.
    NoHalt,
    /// The simulation itself.
    Simulation,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            promise,
            detail,
            trace,
        } = self;
        write!(f, "{promise:?} is broken. seed=`{seed}`: {detail}")?;
        trace.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

impl std::error::Error for Violation {}

/// A promise that was broken, before it is known by which schedule.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) promise: Promise,
    pub(super) detail: String,
}

impl Broken {
    pub(super) fn new(promise: Promise, detail: impl Into<String>) -> Self {
        Self {
            promise,
            detail: detail.into(),
        }
    }

    /// What cannot be in a simulation of stores in memory.
    pub(super) fn simulation(error: impl fmt::Display) -> Self {
        Self::new(Promise::Simulation, error.to_string())
    }
}

/// Breaks a promise unless something holds.
pub(super) fn holds(holds: bool, promise: Promise, detail: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds {
        Ok(())
    } else {
        Err(Broken::new(promise, detail()))
    }
}
