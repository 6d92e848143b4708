//! What a running job is doing, for the status.

use std::sync::{Arc, Mutex, PoisonError};

use crate::ids::Seq;
use crate::merge::MergeObserver;
use crate::plan::Window;
use crate::status::PlanPhase;
use crate::time::Timestamp;

/// Shared between a lane and its job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<Mutex<Option<RunningPlan>>>);

/// How far a plan is.
#[derive(Clone, Debug)]
pub(crate) struct RunningPlan {
    pub(crate) seq: Seq,
    pub(crate) window: Window,
    pub(crate) phase: PlanPhase,
    pub(crate) attempt: u32,
    pub(crate) started_at: Timestamp,
    pub(crate) rows: u64,
    pub(crate) rows_total: u64,
}

impl Progress {
    pub(crate) fn get(&self) -> Option<RunningPlan> {
        self.lock().clone()
    }

    pub(crate) fn set(&self, progress: Option<RunningPlan>) {
        *self.lock() = progress;
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut RunningPlan)) {
        if let Some(progress) = self.lock().as_mut() {
            change(progress);
        }
    }

    // Nothing that could panic runs under the lock.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<RunningPlan>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MergeObserver for Progress {
    fn rows(&self, merged: u64, total: u64) {
        self.update(|progress| {
            progress.rows = merged;
            progress.rows_total = total;
        });
    }
}
