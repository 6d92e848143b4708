//! One turn of a lane: from a draft, or from whatever a crash has left, to a decided plan.
//!
//! ```text
//! register + table ──► free ──► draft ──► plan object ─┐
//!                 ├──► undecided ──────────────────────┴─► merge ──► commit ──► read back ─┐
//!                 └──► to record ──────────────────────────────────────────────────────────┴─► decision object
//! ```
//!
//! Every arrow may be where the process dies; the next turn starts at the left and finds out.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::compactor::attempts::{self, AttemptsKey};
use crate::compactor::footers::Footers;
use crate::compactor::lane_merge::Merged;
use crate::compactor::progress::Progress;
use crate::compactor::shared::Shared;
use crate::error::{Error, ErrorKind};
use crate::halt::{Halt, LaneError};
use crate::ids::{AttemptId, HashPrefix, Seq};
use crate::ledger::manifest::LaneManifest;
use crate::ledger::{Register, Standing, check};
use crate::naming::{ETag, ObjectKey, SourceFile};
use crate::plan::Plan;
use crate::quarantine::QuarantineReason;
use crate::sink::{
    BadSource, CommitOutcome, Decided, Decision, Outcome, OutputFile, TableChange, TableCommit, TableSink, TableState,
};
use crate::status::PlanPhase;
use crate::time::Timestamp;
use crate::window::PlanDraft;

/// How often a turn starts over when others move the lane under it.
const MOST_ROUNDS: usize = 6;

/// Footers read at once.
pub(crate) const CONCURRENT_READS: usize = 32;

/// Everything one turn needs, and what it finds out.
#[derive(Debug)]
pub(crate) struct LaneWork {
    pub(crate) shared: Arc<Shared>,
    pub(crate) manifest: LaneManifest,
    pub(crate) sink: Arc<dyn TableSink>,
    pub(crate) register: Register,
    pub(crate) attempts: AttemptsKey,
    pub(crate) progress: Progress,
    pub(crate) draft: Option<PlanDraft>,
    /// Contents that an operator has released though they seemed taken.
    pub(crate) released: BTreeMap<ObjectKey, ETag>,
    pub(crate) now: Timestamp,
    pub(crate) found: Found,
    /// Of the sources of the next plan.
    pub(crate) footers: Footers,
}

/// What a turn has found out, whether or not it succeeded.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Sources to be set aside.
    pub(crate) quarantined: Vec<(SourceFile, QuarantineReason)>,
    /// Pending files that are in a plan or were judged before.
    pub(crate) taken: Vec<ObjectKey>,
    /// Files with the size and footer of what some plan has taken, its entity tag, and the plan.
    pub(crate) uploaded_again: Vec<(SourceFile, ETag, Option<Seq>)>,
    /// Plans decided, in order.
    pub(crate) decided: Vec<DecidedPlan>,
}

/// A plan and how it ended.
#[derive(Clone, Debug)]
pub(crate) struct DecidedPlan {
    pub(crate) plan: Plan,
    pub(crate) decision: Decision,
}

impl LaneWork {
    /// Runs one turn.
    pub(crate) async fn run(&mut self) -> Result<(), LaneError> {
        let (standing, table) = self.stand().await?;
        match standing {
            Standing::ToRecord(seq, decided) => {
                let plan = self.register.load_plan(seq).await?;
                self.record(plan, &decided, Vec::new(), None).await
            }
            Standing::Undecided(seq) => {
                let plan = self.register.load_plan(seq).await?;
                self.carry_out(plan).await
            }
            Standing::Free => {
                let Some(draft) = self.draft.take() else { return Ok(()) };
                match self.plan(draft, &table).await? {
                    Some(plan) => {
                        let plan = self.register.put_plan(&plan).await?;
                        self.carry_out(plan).await
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// Reads table and register until both are of one moment, and says where the lane stands.
    ///
    /// Others may commit and record between the two reads; only what is seen twice in a row is a reason to halt.
    pub(crate) async fn stand(&mut self) -> Result<(Standing, TableState), LaneError> {
        let mut seen = None;
        loop {
            let table = self.sink.decided(self.manifest.lane).await.map_err(table_error)?;
            self.register.refresh().await?;
            match check(&self.register, &table) {
                Ok(standing) => return Ok((standing, table)),
                Err(halt) => {
                    let marker = table.decided.as_ref().map(|decided| decided.marker);
                    let now = (marker, self.register.head(), self.register.newest_decided());
                    if seen == Some(now) {
                        return Err(halt.into());
                    }
                    seen = Some(now);
                }
            }
        }
    }

    /// Whether the plan is still to be decided; takes up a decision that somebody else has made.
    pub(super) async fn still_undecided(&mut self, plan: &Plan, bad: &[BadSource]) -> Result<bool, LaneError> {
        match self.stand().await?.0 {
            Standing::Undecided(seq) if seq == plan.seq => Ok(true),
            Standing::ToRecord(seq, decided) if seq == plan.seq => {
                self.record(plan.clone(), &decided, bad.to_vec(), None).await?;
                Ok(false)
            }
            _ => {
                self.take_up(plan).await?;
                Ok(false)
            }
        }
    }

    /// Takes up the decision that somebody else has recorded.
    async fn take_up(&mut self, plan: &Plan) -> Result<(), LaneError> {
        let Some((decision, _)) = self.register.load_decision(plan.seq).await? else {
            return Err(Halt::RegisterLost {
                detail: format!("decision gone. seq=`{}`", plan.seq),
            }
            .into());
        };
        self.found.decided.push(DecidedPlan {
            plan: plan.clone(),
            decision,
        });
        Ok(())
    }

    /// Merges, commits and records a plan, unless somebody else does.
    async fn carry_out(&mut self, plan: Plan) -> Result<(), LaneError> {
        for _ in 0..MOST_ROUNDS {
            let (attempt, change, outputs, bad) = match self.merge(&plan).await? {
                Merged::Elsewhere => return Ok(()),
                Merged::Files(attempt, files) => {
                    let outputs = files.iter().map(OutputFile::from).collect();
                    let append = TableChange::Append {
                        schema: Arc::clone(&plan.schema),
                        evolve: plan.evolve,
                        files,
                    };
                    (attempt, append, outputs, Vec::new())
                }
                Merged::Void(bad) => {
                    let schema = Arc::clone(&plan.schema);
                    let attempt = AttemptId::random(self.shared.randomness.as_ref());
                    (attempt, TableChange::Void { schema }, Vec::new(), bad)
                }
            };
            self.progress.update(|progress| progress.phase = PlanPhase::Committing);
            if !self.still_undecided(&plan, &bad).await? {
                return Ok(());
            }
            if let TableChange::Append { files, .. } = &change
                && !self.outputs_there(&plan, files).await?
            {
                continue;
            }
            let outcome = self
                .sink
                .commit(&TableCommit {
                    lane: self.manifest.lane,
                    seq: plan.seq,
                    plan_hash: self.register.hash(plan.seq),
                    attempt,
                    base: self.base(plan.seq),
                    now: self.now,
                    new_table_uuid: self.manifest.new_table_uuid,
                    sort_order: plan.sort_order.clone(),
                    change,
                })
                .await
                .map_err(table_error)?;
            if let CommitOutcome::Outdated { .. } = outcome {
                self.forget_uploaded(plan.seq).await?;
                continue;
            }
            if outcome == CommitOutcome::Contended {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("too many others commit to the table. seq=`{}`", plan.seq),
                )
                .into());
            }
            // Whatever the commit said, only what the table says counts.
            match self.stand().await?.0 {
                Standing::ToRecord(seq, decided) if seq == plan.seq => {
                    let ours = decided.marker.attempt == attempt;
                    let (bad, outputs) = if ours { (bad, Some(outputs)) } else { (Vec::new(), None) };
                    return self.record(plan, &decided, bad, outputs).await;
                }
                Standing::Undecided(seq) if seq == plan.seq => {}
                _ => return self.take_up(&plan).await,
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "the plan could not be decided, others move the table. seq=`{}`",
                plan.seq
            ),
        )
        .into())
    }

    /// What the table's marker must be before the entry of `seq`.
    fn base(&self, seq: Seq) -> Option<(Seq, HashPrefix)> {
        let before = seq.previous();
        match self.register.hash(before) {
            Some(hash) => Some((before, hash.prefix())),
            // An adopted table starts with a marker of seq 0.
            None => self.manifest.adopted.then_some((Seq::ZERO, HashPrefix::from_u64(0))),
        }
    }

    /// Writes down what the table says of a plan, and what follows from it.
    async fn record(
        &mut self,
        plan: Plan,
        decided: &Decided,
        bad_sources: Vec<BadSource>,
        known_outputs: Option<Vec<OutputFile>>,
    ) -> Result<(), LaneError> {
        let seq = plan.seq;
        let marker = decided.marker;
        let plan_hash = self.register.hash(seq).ok_or_else(|| Halt::RegisterLost {
            detail: format!("the table is at seq {seq}, which has no plan"),
        })?;
        let outputs = match (&decided.entry, known_outputs) {
            (_, Some(outputs)) => outputs,
            (Some(entry), None) => entry.outputs.clone(),
            // The log has been cleaned: the attempt's own list is as good.
            (None, None) => attempts::load_files(&self.register, seq, marker.attempt, Timestamp::MIN)
                .await?
                .unwrap_or_default()
                .iter()
                .map(OutputFile::from)
                .collect(),
        };
        let decision = Decision {
            version: 1,
            lane: self.manifest.lane,
            seq,
            outcome: marker.outcome,
            plan_hash,
            attempt: marker.attempt,
            table_version: decided.entry.as_ref().map(|entry| entry.version),
            outputs,
            decided_at: self.now,
            bad_sources: if marker.outcome == Outcome::Void {
                bad_sources
            } else {
                Vec::new()
            },
        };
        let decision = self.register.put_decision(&decision).await?;
        let (most, half) = (self.shared.options.max_plan_bytes, (plan.bytes() / 2).max(1));
        let broke = decision.outcome == Outcome::Void && decision.bad_sources.is_empty();
        let keys: Vec<_> = plan.sources.iter().map(|source| source.key.clone()).collect();
        self.attempts
            .update(self.shared.state.as_ref(), |memory| {
                if broke {
                    memory.limit_bytes = Some(half);
                } else if decision.outcome == Outcome::Data && memory.seq <= seq {
                    memory.succeeded(most);
                }
                for key in &keys {
                    memory.unreadable.remove(key);
                }
                if memory.seq <= seq {
                    *memory = memory.clone().of(seq.next());
                }
            })
            .await?;
        self.found.decided.push(DecidedPlan { plan, decision });
        Ok(())
    }
}

/// Trouble with the table halts the lane and never voids; a table that does not answer is asked again.
pub(crate) fn table_error(error: Error) -> LaneError {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Conflict | ErrorKind::Internal => LaneError::Failed(error),
        _ => LaneError::Halted(Halt::TableTrouble { detail: error.chain() }),
    }
}
