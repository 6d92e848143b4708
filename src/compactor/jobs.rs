//! Which work is due, and what follows from work that is done.

use std::sync::Arc;

use crate::compactor::busy::LONGEST_PAUSE_MS;
use crate::compactor::events::uploaded_again;
use crate::compactor::job::{Done, Job, JobOutcome, ReclaimWork, Work};
use crate::compactor::lane::Lane;
use crate::compactor::lane_work::{DecidedPlan, Found};
use crate::compactor::upkeep::{Upkeep, UpkeepDone};
use crate::compactor::{Compactor, LaneSlot};
use crate::error::{Error, Result};
use crate::halt::{Halt, LaneError};
use crate::ids::Seq;
use crate::naming::{Namespace, ObjectKey};
use crate::quarantine::QuarantineReason;
use crate::reclaim::Reclaimed;
use crate::sink::{BadSource, Outcome, OutputFile};
use crate::time::Timestamp;
use crate::trace::event;
use crate::window::{Arrival, Observed, PlanDraft, WindowTracker};

/// Most plans whose sources one job deletes.
const MOST_RECLAIMED_AT_ONCE: usize = 32;

/// How often a lane is swept.
const UPKEEP_EVERY_MS: u64 = 86_400_000;

/// What a finished job has come to.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct JobReport {
    /// Plans whose rows are now in the table.
    pub committed: Vec<CommittedPlan>,
    /// Seqs that were spent without adding anything.
    pub voided: Vec<Seq>,
    /// Sources set aside.
    pub quarantined: Vec<(ObjectKey, QuarantineReason)>,
    /// Sources that this job has deleted; not those that were gone already.
    pub reclaimed_sources: usize,
    /// Leftovers of failed attempts deleted.
    pub swept: usize,
    /// Why the job did not finish; it is tried again by itself.
    pub error: Option<Error>,
    /// Why the lane stands still now.
    pub halted: Option<Halt>,
}

impl JobReport {
    /// Tells the host's subscriber.
    #[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "nobody listens"))]
    fn trace(&self, namespace: &Namespace) {
        for plan in &self.committed {
            event!(info, namespace = %crate::printable::printable(namespace), seq = plan.seq.get(), window = plan.window_key, sources = plan.sources, rows = plan.rows, "committed");
        }
        for seq in &self.voided {
            event!(warn, namespace = %crate::printable::printable(namespace), seq = seq.get(), "voided");
        }
        for (key, reason) in &self.quarantined {
            event!(warn, namespace = %crate::printable::printable(namespace), key = %crate::printable::printable(key), %reason, "set aside");
        }
        if let Some(error) = &self.error {
            event!(warn, namespace = %crate::printable::printable(namespace), error = error.chain(), "job failed, it is tried again");
        }
        if let Some(halt) = &self.halted {
            event!(error, namespace = %crate::printable::printable(namespace), %halt, "lane halted");
        }
    }
}

/// A plan whose rows are in the table.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CommittedPlan {
    /// The namespace.
    pub namespace: Namespace,
    /// Its place in the lane.
    pub seq: Seq,
    /// `{namespace}:{start ms}`.
    pub window_key: String,
    /// How often the window had been planned before.
    pub generation: u64,
    /// Source files.
    pub sources: usize,
    /// Rows.
    pub rows: u64,
    /// Bytes of the sources.
    pub bytes_in: u64,
    /// The files now in the table.
    pub outputs: Vec<OutputFile>,
    /// From the start of the job to its end, by the host's clock, in milliseconds.
    pub duration_ms: u64,
}

impl Compactor {
    /// The next piece of work that is due, `None` if there is none now.
    ///
    /// Jobs of different lanes may run at the same time; a lane has one at a time that plans, and one that
    /// deletes. Read-only compactors have no work.
    pub fn poll_job(&mut self, now: Timestamp) -> Option<Job> {
        if self.writable().is_err() {
            return None;
        }
        self.end_listing();
        self.free_dropped();
        self.look_again(now);
        self.unsettled_job(now)
            .or_else(|| self.reclaim_job(now))
            .or_else(|| self.compact_job(now))
            .or_else(|| self.upkeep_job(now))
    }

    /// When to call [`poll_job`](Self::poll_job) again if no event comes first; now, if there is work.
    pub fn next_deadline(&self, now: Timestamp) -> Option<Timestamp> {
        let lanes = self
            .lanes
            .values()
            .filter_map(|slot| self.deadline_of(slot.open()?, now));
        // A listing that is not under way any more was dropped: it still keeps windows from being planned.
        let listing = self.listing.then_some(now);
        lanes
            .chain(self.tracker.poll_deadline(now))
            .chain(listing)
            .min()
            .map(|at| at.max(now))
    }

    fn deadline_of(&self, lane: &Lane, now: Timestamp) -> Option<Timestamp> {
        if let Some(halted) = &lane.halted {
            return (!lane.working.is_busy()).then_some(halted.look_again_at);
        }
        if lane.working.is_dropped() {
            return Some(now);
        }
        let not_before = lane.backoff.not_before.unwrap_or(Timestamp::MIN);
        let turn = (lane.unsettled && !lane.working.is_busy()).then_some(not_before);
        let not_before = lane.reclaim_backoff.not_before.unwrap_or(Timestamp::MIN);
        let grace = self.shared.options.delete_grace_ms;
        let reclaims = lane.to_reclaim.iter().filter(|_| !lane.reclaiming.is_busy());
        let reclaim = reclaims.filter_map(|seq| lane.reclaim_due(*seq, grace, now)).min();
        let upkeep = (!lane.reclaiming.is_busy()).then(|| self.upkeep_due(lane)).flatten();
        [
            turn,
            reclaim.map(|at| at.max(not_before)),
            upkeep.map(|at| at.max(not_before)),
            lane.shelf.next_rested(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Frees lanes whose job was dropped.
    fn free_dropped(&mut self) {
        for (namespace, slot) in &mut self.lanes {
            if let LaneSlot::Open(lane) = slot
                && lane.working.was_dropped()
            {
                lane.unsettled = true;
                lane.progress.set(None);
                self.tracker.abandoned(namespace, None);
            }
        }
    }

    /// Lets lanes try again whose halt may have been mended, and sources whose rest is over.
    fn look_again(&mut self, now: Timestamp) {
        for slot in self.lanes.values_mut() {
            let LaneSlot::Open(lane) = slot else { continue };
            if lane.halted.as_ref().is_some_and(|halted| halted.look_again_at <= now) && !lane.working.is_busy() {
                lane.try_again(&mut self.tracker);
            }
            for file in lane.shelf.rested(now) {
                let key = file.key.clone();
                match self.tracker.handle_file(file, Arrival::Event, now) {
                    Observed::Recorded | Observed::Updated | Observed::AlreadyPending => {
                        lane.shelf.remove(&key);
                    }
                    Observed::BelowBoundary { .. } | Observed::Deferred => lane.shelf.rest_again(&key, now),
                }
            }
        }
    }

    /// A turn for a lane whose newest plan may be undecided.
    fn unsettled_job(&mut self, now: Timestamp) -> Option<Job> {
        let namespace = self.lanes.iter().find_map(|(namespace, slot)| {
            let lane = slot.open()?;
            let due = lane.unsettled && lane.halted.is_none() && !lane.working.is_busy() && lane.backoff.may_run(now);
            due.then(|| namespace.clone())
        })?;
        self.lane_job(&namespace, None, now)
    }

    fn compact_job(&mut self, now: Timestamp) -> Option<Job> {
        loop {
            let draft = self.tracker.poll_plan(now)?;
            let namespace = draft.namespace.clone();
            let ready = self
                .lanes
                .get(&namespace)
                .and_then(LaneSlot::open)
                .is_some_and(|lane| !lane.working.is_busy());
            if ready {
                return self.lane_job(&namespace, Some(draft), now);
            }
            // A turn without a draft is under way; its end, however it ends, brings the next look.
            self.tracker.abandoned(&namespace, Some(now + LONGEST_PAUSE_MS));
        }
    }

    fn lane_job(&mut self, namespace: &Namespace, draft: Option<PlanDraft>, now: Timestamp) -> Option<Job> {
        let lane = self.lanes.get(namespace).and_then(LaneSlot::open)?;
        let work = self.lane_work(lane, draft, now);
        let lane = self.lanes.get_mut(namespace).and_then(LaneSlot::open_mut)?;
        Some(Job {
            namespace: namespace.clone(),
            token: lane.working.start(),
            started_at: now,
            work: Work::Lane(Box::new(work)),
        })
    }

    fn reclaim_job(&mut self, now: Timestamp) -> Option<Job> {
        let grace = self.shared.options.delete_grace_ms;
        for (namespace, slot) in &mut self.lanes {
            let LaneSlot::Open(lane) = slot else { continue };
            if lane.halted.is_some() || lane.reclaiming.is_busy() || !lane.reclaim_backoff.may_run(now) {
                continue;
            }
            let due = |seq: &Seq| lane.reclaim_due(*seq, grace, now).is_some_and(|at| at <= now);
            let seqs: Vec<_> = lane
                .to_reclaim
                .iter()
                .copied()
                .filter(due)
                .take(MOST_RECLAIMED_AT_ONCE)
                .collect();
            if seqs.is_empty() {
                continue;
            }
            let work = ReclaimWork {
                shared: Arc::clone(&self.shared),
                sink: Arc::clone(&lane.table.sink),
                register: lane.register.clone(),
                seqs,
            };
            return Some(Job {
                namespace: namespace.clone(),
                token: lane.reclaiming.start(),
                started_at: now,
                work: Work::Reclaim(Box::new(work)),
            });
        }
        None
    }

    /// When a lane is swept next: a day after the last time, at first once an orphan could be old enough.
    fn upkeep_due(&self, lane: &Lane) -> Option<Timestamp> {
        let first = lane
            .register
            .plans()
            .find_map(|(seq, _)| lane.register.decision(seq).map(|d| d.decided_at))?;
        Some(match lane.memory.swept_at {
            Some(at) => at + UPKEEP_EVERY_MS,
            None => first + self.shared.options.orphan_min_age_ms,
        })
    }

    fn upkeep_job(&mut self, now: Timestamp) -> Option<Job> {
        let namespace = self.lanes.iter().find_map(|(namespace, slot)| {
            let lane = slot.open()?;
            let idle = lane.halted.is_none()
                && !lane.working.is_busy()
                && !lane.reclaiming.is_busy()
                && lane.reclaim_backoff.may_run(now);
            (idle && self.upkeep_due(lane)? <= now).then(|| namespace.clone())
        })?;
        let lane = self.lanes.get_mut(&namespace).and_then(LaneSlot::open_mut)?;
        let reclaimed = lane
            .register
            .plans()
            .map(|(seq, _)| seq)
            .filter(|seq| lane.memory.is_reclaimed(*seq));
        let upkeep = Upkeep {
            shared: Arc::clone(&self.shared),
            sink: Arc::clone(&lane.table.sink),
            reclaimed: reclaimed.collect(),
            register: lane.register.clone(),
            adopted: lane.manifest.adopted,
            shelved: lane.shelf.keys().cloned().collect(),
            now,
            done: UpkeepDone::default(),
        };
        Some(Job {
            namespace,
            token: lane.reclaiming.start(),
            started_at: now,
            work: Work::Upkeep(Box::new(upkeep)),
        })
    }

    /// Takes over what a job has done, and saves it.
    ///
    /// An outcome that never comes is no harm: the next job finds out how far the work came.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the state could not be saved: the report is lost, nothing else; go on.
    pub async fn finish_job(&mut self, outcome: JobOutcome, now: Timestamp) -> Result<JobReport> {
        let JobOutcome {
            namespace,
            token,
            started_at,
            done,
        } = outcome;
        let mut report = JobReport::default();
        let Some(lane) = self.lanes.get_mut(&namespace).and_then(LaneSlot::open_mut) else {
            return Ok(report);
        };
        let is_turn = matches!(done, Done::Lane { .. });
        // A look at a lane that has nothing undecided does not say that its next draft can be read.
        let only_looked = matches!(&done, Done::Lane { found, drafted, .. } if !drafted && found.decided.is_empty());
        let random = self.shared.randomness.random_u128();
        let tracker = &mut self.tracker;
        let result = match done {
            Done::Lane {
                register,
                found,
                result,
                ..
            } => {
                if !lane.working.is_of(&token) {
                    // The lane was made anew meanwhile: what the old one has done was judged then.
                    return Ok(report);
                }
                lane.progress.set(None);
                lane.register.catch_up(*register);
                let took_ms = now.millis_since(started_at);
                let derived = lane.take_over(tracker, found, now, took_ms, &mut report).await;
                // Whoever drops this future before drops the token with it, and the lane is free again.
                lane.working.finish(&token);
                // Only now: until then the tracker knows which files have changed since they were drafted.
                tracker.abandoned(&namespace, None);
                let result = result.and(derived);
                lane.unsettled = result.is_err();
                result
            }
            Done::Reclaim { reclaimed, result } => {
                lane.reclaiming.finish(&token);
                for (seq, done) in reclaimed {
                    lane.reclaimed(tracker, seq, done, now, &mut report)?;
                }
                result
            }
            Done::Upkeep { done, result } => {
                lane.reclaiming.finish(&token);
                report.swept = done.swept;
                if result.is_ok() {
                    lane.memory.swept_at = Some(now);
                }
                let raised = match done.floor {
                    Some(floor) => {
                        lane.register.raise_floor(floor);
                        lane.floor_raised(tracker, now)
                    }
                    None => Ok(()),
                };
                result.and_then(|()| raised.map_err(LaneError::from))
            }
        };
        let backoff = if is_turn {
            &mut lane.backoff
        } else {
            &mut lane.reclaim_backoff
        };
        match result {
            Ok(()) => {
                if !only_looked {
                    backoff.succeeded();
                }
                if lane.halted.is_none() {
                    lane.end_trial(tracker, self.shared.options.delete_grace_ms, now);
                }
            }
            Err(LaneError::Halted(halt)) => {
                report.halted = Some(halt.clone());
                lane.halt(tracker, halt, now);
            }
            Err(LaneError::Failed(error)) => {
                backoff.failed(now, &error, random);
                if is_turn {
                    tracker.abandoned(&namespace, backoff.not_before);
                }
                report.error = Some(error);
            }
        }
        report.trace(&namespace);
        self.saved().await?;
        Ok(report)
    }
}

impl Lane {
    /// What a turn has found out.
    async fn take_over(
        &mut self,
        tracker: &mut WindowTracker,
        found: Found,
        now: Timestamp,
        duration_ms: u64,
        report: &mut JobReport,
    ) -> Result<(), LaneError> {
        // A file of which other content has been announced meanwhile stays pending: that is judged in its turn.
        let changed = |tracker: &WindowTracker, key: &ObjectKey, namespace: &Namespace| {
            tracker.changed_since_draft(namespace, key) == Some(true)
        };
        for key in found.taken {
            if !changed(tracker, &key, &self.namespace) {
                tracker.forget_file(&self.namespace, &key);
            }
        }
        for (file, planned, seq) in found.uploaded_again {
            if changed(tracker, &file.key, &self.namespace) {
                continue;
            }
            if seq.is_some_and(|seq| self.memory.is_reclaimed(seq)) {
                let reason = uploaded_again(&planned, &file);
                report.quarantined.push((file.key.clone(), reason.clone()));
                self.set_aside(tracker, &file, reason, now)?;
            } else {
                tracker.forget_file(&self.namespace, &file.key);
            }
        }
        for (file, reason) in found.quarantined {
            if changed(tracker, &file.key, &self.namespace) {
                continue;
            }
            report.quarantined.push((file.key.clone(), reason.clone()));
            self.set_aside(tracker, &file, reason, now)?;
        }
        let ours: Vec<_> = found.decided.iter().map(|decided| decided.plan.seq).collect();
        for DecidedPlan { plan, decision } in found.decided {
            let seq = plan.seq;
            self.register.decided_by(seq, now);
            match decision.outcome {
                Outcome::Data => {
                    let keys = self.keys_done(tracker, &plan.sources);
                    tracker.committed(&self.namespace, plan.window, &keys);
                    for source in &plan.sources {
                        if self.memory.released.get(&source.key) == Some(&source.etag) {
                            self.memory.released.remove(&source.key);
                        }
                    }
                    report.committed.push(CommittedPlan {
                        namespace: self.namespace.clone(),
                        seq,
                        window_key: plan.window.key(&self.namespace),
                        generation: plan.generation,
                        sources: plan.sources.len(),
                        rows: plan.rows(),
                        bytes_in: plan.bytes(),
                        outputs: decision.outputs,
                        duration_ms,
                    });
                }
                Outcome::Void => {
                    report.voided.push(seq);
                    for BadSource { index, reason } in decision.bad_sources {
                        if let Some(source) = plan.sources.get(index).cloned()
                            && !self.has_newer(tracker, &source)
                        {
                            report.quarantined.push((source.key.clone(), reason.clone()));
                            self.set_aside(tracker, &source.into(), reason, now)?;
                        }
                    }
                    tracker.voided(&self.namespace, plan.window);
                }
            }
        }
        // Then what follows from every decision that is new, also from those of others.
        self.derive(tracker, now, |seq| !ours.contains(&seq)).await
    }

    fn reclaimed(
        &mut self,
        tracker: &mut WindowTracker,
        seq: Seq,
        done: Reclaimed,
        now: Timestamp,
        report: &mut JobReport,
    ) -> Result<()> {
        report.reclaimed_sources += done.deleted;
        for (file, planned) in done.uploaded_again {
            if self.shelf.get(&file.key).is_none() {
                let reason = uploaded_again(&planned, &file);
                report.quarantined.push((file.key.clone(), reason.clone()));
                self.set_aside(tracker, &file, reason, now)?;
            }
        }
        for file in done.replaced {
            // Perhaps nobody has told of the other content: it is judged as if somebody had.
            if self.shelf.get(&file.key).is_none() {
                let _ = tracker.handle_file(file, Arrival::Event, now);
            }
        }
        self.to_reclaim.remove(&seq);
        let register = &self.register;
        self.memory.reclaimed(seq, |seq| {
            register
                .decision(seq)
                .is_some_and(|decision| decision.outcome == Outcome::Void)
        });
        Ok(())
    }
}
