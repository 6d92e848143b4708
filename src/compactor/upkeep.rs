//! Keeping a lane small: sweeping what failed attempts have left, and forgetting old plans.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::compactor::draft::taken_sources;
use crate::compactor::lane_work::table_error;
use crate::compactor::shared::Shared;
use crate::error::Error;
use crate::halt::LaneError;
use crate::ids::Seq;
use crate::ledger::{Floor, Register};
use crate::naming::ObjectKey;
use crate::plan::PlannedSource;
use crate::reclaim::{Committed, confirm, delete_all, head, leftovers, orphans};
use crate::sink::{Outcome, TableSink};
use crate::time::Timestamp;

/// One round of upkeep of a lane.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) shared: Arc<Shared>,
    pub(crate) sink: Arc<dyn TableSink>,
    pub(crate) register: Register,
    pub(crate) adopted: bool,
    /// Seqs whose sources have been deleted.
    pub(crate) reclaimed: BTreeSet<Seq>,
    /// Keys that are set aside, and so are remembered without their plan.
    pub(crate) shelved: BTreeSet<ObjectKey>,
    pub(crate) now: Timestamp,
    pub(crate) done: UpkeepDone,
}

/// What a round of upkeep did.
#[derive(Debug, Default)]
pub(crate) struct UpkeepDone {
    pub(crate) swept: usize,
    pub(crate) floor: Option<Floor>,
}

impl Upkeep {
    pub(crate) async fn run(&mut self) -> Result<(), LaneError> {
        let known = self.register.floor().seq;
        let halt = match self.sweep_and_prune().await {
            Err(LaneError::Halted(halt)) => halt,
            done => return done,
        };
        // What is missed may be what another worker has forgotten.
        self.register.refresh().await?;
        let floor = *self.register.floor();
        if floor.seq == known {
            return Err(halt.into());
        }
        self.done.floor = Some(floor);
        self.sweep_and_prune().await
    }

    async fn sweep_and_prune(&mut self) -> Result<(), LaneError> {
        self.sweep().await?;
        self.prune().await
    }

    async fn sweep(&mut self) -> Result<(), LaneError> {
        let Some((seq, _)) = self.register.plans().next_back() else {
            return Ok(());
        };
        let plan = self.register.load_plan(seq).await?;
        let layout = self
            .sink
            .prepare(self.register.lane(), &plan.schema, plan.evolve)
            .await
            .map_err(table_error)?;
        let older_than = self.now - self.shared.options.orphan_min_age_ms;
        let register = &self.register;
        let store = layout.store.as_ref();
        let decided = |seq| {
            register.decision(seq).map(|decision| Committed {
                attempt: decision.attempt,
                version: decision.table_version,
            })
        };
        for dir in [Some(&layout.data_dir), layout.metadata_dir.as_ref()]
            .into_iter()
            .flatten()
        {
            for (seq, paths) in orphans(store, dir, register.lane(), decided, older_than).await? {
                match confirm(self.sink.as_ref(), &register.known_decision(seq).await?).await {
                    Ok(()) => self.done.swept += delete_all(store, paths).await?,
                    // Perhaps only because its history is that short: they stay.
                    Err(error) if error.is_refuted() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let over = |seq| seq <= register.floor().seq || register.decision(seq).is_some();
        for dir in [register.attempts_dir(), register.scratch_dir()] {
            let paths = leftovers(register.store().as_ref(), &dir, over, older_than).await?;
            self.done.swept += delete_all(register.store().as_ref(), paths).await?;
        }
        Ok(())
    }

    /// Forgets the longest run of oldest plans that nothing can be asked about any more; never the newest.
    async fn prune(&mut self) -> Result<(), LaneError> {
        let newest = self.register.newest_decided();
        let old = self.now - self.shared.options.horizon_ms;
        let mut floor = *self.register.floor();
        let seqs: Vec<Seq> = self.register.plans().map(|(seq, _)| seq).collect();
        for seq in seqs {
            let (Some(plan), Some(decision)) = (self.register.plan(seq), self.register.decision(seq)) else {
                break;
            };
            let window = plan.window;
            let hash = plan.hash;
            if seq >= newest || decision.since(self.now) >= old || window.end >= old {
                break;
            }
            let forgettable = match decision.outcome {
                Outcome::Data => self.reclaimed.contains(&seq) && self.all_gone(seq).await?,
                Outcome::Void => self.all_elsewhere(seq, window.start).await?,
            };
            if !forgettable {
                break;
            }
            floor.seq = seq;
            floor.plan_hash = Some(hash);
            floor.boundary = floor.boundary.max(Some(window.end));
        }
        if floor.seq > self.register.floor().seq {
            self.register.prune(floor).await?;
            self.done.floor = Some(floor);
        }
        Ok(())
    }

    /// Whether no source of a plan is in the bucket in the content that was merged.
    async fn all_gone(&self, seq: Seq) -> Result<bool, LaneError> {
        for source in self.register.load_plan(seq).await?.sources {
            if self.is_there(&source).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether every source of a void plan is in a later plan, set aside, or gone.
    async fn all_elsewhere(&self, seq: Seq, window_start: Timestamp) -> Result<bool, LaneError> {
        let taken = taken_sources(&self.register, window_start, self.adopted).await?;
        for source in self.register.load_plan(seq).await?.sources {
            let elsewhere = taken.contains_key(&source.key) || self.shelved.contains(&source.key);
            if !elsewhere && self.is_there(&source).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn is_there(&self, source: &PlannedSource) -> Result<bool, Error> {
        let path = self.shared.bucket.path(source.key.as_str())?;
        let found = head(self.shared.bucket.store().as_ref(), &path).await?;
        let etag = found.and_then(|meta| meta.e_tag).map(crate::naming::ETag::new);
        Ok(etag.is_some_and(|etag| etag == source.etag))
    }
}
