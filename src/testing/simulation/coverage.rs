//! Which operation of which call was struck by which fault, and what became of the call.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use crate::testing::{Fault, Operation, OperationKind};

/// An operation that was struck, as far as it counts for the question whether all kinds of trouble were tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// What a worker was about.
    pub call: Call,
    /// What the operation was on: `bucket source`, `control plans`, `table commit`, `state lanes`, ...
    pub object: String,
    /// What it was.
    pub kind: OperationKind,
    /// What went wrong.
    pub fault: Fault,
    /// What the call came to.
    pub ending: Ending,
}

/// What a worker calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Call {
    /// [`CompactorBuilder::open`](crate::CompactorBuilder::open).
    Open,
    /// [`Compactor::handle_events`](crate::Compactor::handle_events).
    HandleEvents,
    /// [`Compactor::reconcile`](crate::Compactor::reconcile).
    Reconcile,
    /// [`Job::run`](crate::Job::run).
    RunJob,
    /// [`Compactor::finish_job`](crate::Compactor::finish_job).
    FinishJob,
}

/// What a call comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Ending {
    /// It did what it is there for.
    Done,
    /// It said that it could not.
    Failed,
    /// Its future was dropped: it took too long, or its worker died.
    Dropped,
}

/// The calls of a simulation.
#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<Shared>);

#[derive(Debug, Default)]
struct Shared {
    endings: Vec<(Call, Ending)>,
    /// The operations of polls, and the numbers of their calls.
    polls: Vec<(Range<usize>, usize)>,
}

impl Calls {
    /// The number of a call that begins.
    pub(super) fn begin(&self, call: Call) -> usize {
        let mut shared = self.lock();
        shared.endings.push((call, Ending::Dropped));
        shared.endings.len() - 1
    }

    /// Polls a call.
    pub(super) fn poll<T>(
        &self,
        number: usize,
        operations: impl Fn() -> usize,
        poll: impl FnOnce() -> Poll<T>,
    ) -> Poll<T> {
        let before = operations();
        let polled = poll();
        let after = operations();
        if before < after {
            self.lock().polls.push((before..after, number));
        }
        polled
    }

    /// Says what became of a call that was not dropped.
    pub(super) fn end(&self, number: usize, is_done: bool) {
        if let Some((_, ending)) = self.lock().endings.get_mut(number) {
            *ending = if is_done { Ending::Done } else { Ending::Failed };
        }
    }

    /// The cells of what was struck.
    pub(super) fn cells(&self, log: &[Operation], object: impl Fn(&Operation) -> String) -> Vec<Cell> {
        let shared = self.lock();
        let mut cells = Vec::new();
        for (operations, number) in &shared.polls {
            let Some((call, ending)) = shared.endings.get(*number) else {
                continue;
            };
            for operation in log.get(operations.clone()).unwrap_or_default() {
                if let Some(fault) = operation.fault {
                    cells.push(Cell {
                        call: *call,
                        object: object(operation),
                        kind: operation.kind,
                        fault,
                        ending: *ending,
                    });
                }
            }
        }
        cells
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
