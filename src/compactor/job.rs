//! The unit of work that a host runs: on the spot, or on whatever it spawns with.

use std::sync::Arc;

use futures::FutureExt;

use crate::compactor::lane_work::{Found, LaneWork};
use crate::compactor::shared::Shared;
use crate::compactor::upkeep::{Upkeep, UpkeepDone};
use crate::error::{Error, ErrorKind};
use crate::halt::LaneError;
use crate::ids::Seq;
use crate::ledger::Register;
use crate::naming::Namespace;
use crate::reclaim::{Reclaimed, reclaim};
use crate::sink::TableSink;
use crate::time::Timestamp;
use crate::trace::in_job_span;

/// Work of one lane: merging and committing a window, deleting reclaimed sources, or sweeping orphans.
///
/// It owns all it needs: await [`Job::run`] in place, or spawn it. Hand the outcome to
/// [`Compactor::finish_job`](crate::Compactor::finish_job). A job that is dropped, before or while it runs,
/// harms nothing: its lane becomes free, and the next job finds out how far it came.
#[derive(Debug)]
#[must_use = "a job does nothing until it is run"]
pub struct Job {
    pub(crate) namespace: Namespace,
    pub(crate) token: Arc<()>,
    pub(crate) started_at: Timestamp,
    pub(crate) work: Work,
}

/// What a job does.
#[derive(Debug)]
pub(crate) enum Work {
    Lane(Box<LaneWork>),
    Reclaim(Box<ReclaimWork>),
    Upkeep(Box<Upkeep>),
}

/// Deletes the sources of committed plans whose grace is over.
#[derive(Debug)]
pub(crate) struct ReclaimWork {
    pub(crate) shared: Arc<Shared>,
    pub(crate) sink: Arc<dyn TableSink>,
    pub(crate) register: Register,
    pub(crate) seqs: Vec<Seq>,
}

/// What a job has done, for [`Compactor::finish_job`](crate::Compactor::finish_job).
#[derive(Debug)]
#[must_use = "hand it to `finish_job`"]
pub struct JobOutcome {
    pub(crate) namespace: Namespace,
    pub(crate) token: Arc<()>,
    pub(crate) started_at: Timestamp,
    pub(crate) done: Done,
}

/// How a job ended.
#[derive(Debug)]
pub(crate) enum Done {
    Lane {
        register: Box<Register>,
        found: Found,
        /// Whether it had files to plan, and did not only look where the lane stands.
        drafted: bool,
        result: Result<(), LaneError>,
    },
    Reclaim {
        reclaimed: Vec<(Seq, Reclaimed)>,
        result: Result<(), LaneError>,
    },
    Upkeep {
        done: UpkeepDone,
        result: Result<(), LaneError>,
    },
}

impl Job {
    /// The namespace it works on.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What it is about, in a word: `compact`, `reclaim` or `upkeep`.
    pub fn kind(&self) -> &'static str {
        match self.work {
            Work::Lane(_) => "compact",
            Work::Reclaim(_) => "reclaim",
            Work::Upkeep(_) => "upkeep",
        }
    }

    /// Does the work. Dropping the future at any await breaks nothing.
    ///
    /// A panic in a part that the host has supplied ends this job only: it is caught and reported.
    pub async fn run(self) -> JobOutcome {
        let (namespace, kind) = (self.namespace.clone(), self.kind());
        // Boxed, since it holds a merge.
        in_job_span(namespace.as_str(), kind, self.work().boxed()).await
    }

    async fn work(self) -> JobOutcome {
        let Self {
            namespace,
            token,
            started_at,
            work,
        } = self;
        let done = match work {
            Work::Lane(mut work) => {
                let drafted = work.draft.is_some();
                let result = caught(work.run().boxed()).await;
                let LaneWork { register, found, .. } = *work;
                Done::Lane {
                    register: Box::new(register),
                    found,
                    drafted,
                    result,
                }
            }
            Work::Reclaim(work) => {
                let mut reclaimed = Vec::new();
                let result = caught(work.run(&mut reclaimed)).await;
                Done::Reclaim { reclaimed, result }
            }
            Work::Upkeep(mut work) => {
                let result = caught(work.run()).await;
                Done::Upkeep {
                    done: work.done,
                    result,
                }
            }
        };
        JobOutcome {
            namespace,
            token,
            started_at,
            done,
        }
    }
}

impl ReclaimWork {
    async fn run(&self, reclaimed: &mut Vec<(Seq, Reclaimed)>) -> Result<(), LaneError> {
        for seq in &self.seqs {
            let done = match self.one(*seq).await {
                Err(LaneError::Halted(halt)) => {
                    // What is missed may be what another worker has reclaimed and forgotten.
                    let mut register = self.register.clone();
                    register.refresh().await?;
                    if *seq > register.floor().seq {
                        return Err(halt.into());
                    }
                    Reclaimed::default()
                }
                done => done?,
            };
            reclaimed.push((*seq, done));
        }
        Ok(())
    }

    async fn one(&self, seq: Seq) -> Result<Reclaimed, LaneError> {
        let decision = self.register.known_decision(seq).await?;
        let plan = self.register.load_plan(seq).await?;
        reclaim(&self.shared.bucket, self.sink.as_ref(), &plan, &decision).await
    }
}

/// Turns a panic into an error. What the work had changed in memory is dropped with it or holds, since its
/// results are only taken over as a whole; what it had written is found again.
async fn caught(work: impl Future<Output = Result<(), LaneError>>) -> Result<(), LaneError> {
    match std::panic::AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => {
            let words = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".to_owned());
            Err(Error::new(ErrorKind::Internal, format!("a job panicked: {words}")).into())
        }
    }
}
