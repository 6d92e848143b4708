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

use futures::{FutureExt, StreamExt};

use crate::compactor::attempts::{self, AttemptsKey, MOST_ATTEMPTS};
use crate::compactor::progress::{Progress, RunningPlan};
use crate::compactor::shared::Shared;
use crate::data_file::DataFile;
use crate::error::{Error, ErrorKind};
use crate::halt::{Halt, LaneError};
use crate::ids::{AttemptId, HashPrefix, Seq};
use crate::ledger::manifest::LaneManifest;
use crate::ledger::{Register, Standing, check};
use crate::merge::{MergeError, MergeInput, MergeOptions, MergeTarget, ParquetMerger, SourceError, read_footer};
use crate::naming::{ETag, ObjectKey, SourceFile};
use crate::plan::{Plan, PlannedSource};
use crate::quarantine::QuarantineReason;
use crate::reclaim::OutputName;
use crate::sink::{
    BadSource, CommitOutcome, Decided, Decision, Outcome, OutputFile, TableChange, TableCommit, TableSink, TableState,
};
use crate::status::PlanPhase;
use crate::time::Timestamp;
use crate::window::PlanDraft;

/// How often a turn starts over when others move the lane under it.
const MOST_ROUNDS: usize = 6;

/// Footers read at once.
pub(crate) const CONCURRENT_READS: usize = 16;

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
}

/// What a turn has found out, whether or not it succeeded.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Sources to be set aside.
    pub(crate) quarantined: Vec<(SourceFile, QuarantineReason)>,
    /// Pending files that are in a plan or were judged before.
    pub(crate) taken: Vec<ObjectKey>,
    /// Plans decided, in order.
    pub(crate) decided: Vec<DecidedPlan>,
}

/// A plan and how it ended.
#[derive(Clone, Debug)]
pub(crate) struct DecidedPlan {
    pub(crate) plan: Plan,
    pub(crate) decision: Decision,
}

/// How an attempt to merge ended.
enum Merged {
    /// Somebody else has decided the plan.
    Elsewhere,
    /// The files are uploaded.
    Files(AttemptId, Vec<DataFile>),
    /// The plan cannot be carried out: void it, these are the sources at fault (none: it broke too often).
    Void(Vec<BadSource>),
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
    async fn still_undecided(&mut self, plan: &Plan, bad: &[BadSource]) -> Result<bool, LaneError> {
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
                    let schema = Arc::clone(&plan.schema);
                    (attempt, TableChange::Append { schema, files }, outputs, Vec::new())
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
                    change,
                })
                .await
                .map_err(table_error)?;
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

    async fn outputs_there(&mut self, plan: &Plan, files: &[DataFile]) -> Result<bool, LaneError> {
        let layout = self
            .sink
            .prepare(self.manifest.lane, &plan.schema)
            .await
            .map_err(table_error)?;
        let there = attempts::all_there(&layout, files).await?;
        if !there {
            let seq = plan.seq;
            self.attempts
                .update(self.shared.state.as_ref(), |memory| {
                    *memory = memory.clone().of(seq);
                    memory.uploaded = None;
                })
                .await?;
        }
        Ok(there)
    }

    /// Uploads the merged files of a plan, or finds those of an earlier attempt, or why there can be none.
    async fn merge(&mut self, plan: &Plan) -> Result<Merged, LaneError> {
        let seq = plan.seq;
        let (memory, _) = self.attempts.load(self.shared.state.as_ref()).await?;
        let memory = memory.of(seq);
        self.progress.set(Some(RunningPlan {
            seq,
            window: plan.window,
            phase: PlanPhase::Planned,
            attempt: memory.started,
            started_at: self.now,
            rows: 0,
            rows_total: plan.rows(),
        }));
        let layout = self
            .sink
            .prepare(self.manifest.lane, &plan.schema)
            .await
            .map_err(table_error)?;
        if let Some(attempt) = memory.uploaded {
            let not_before = self.now - self.shared.options.attempt_max_age_ms;
            let files = attempts::load_files(&self.register, seq, attempt, not_before).await?;
            if let Some(files) = files
                && attempts::all_there(&layout, &files).await?
            {
                return Ok(Merged::Files(attempt, files));
            }
        }
        if memory.started >= MOST_ATTEMPTS {
            return Ok(Merged::Void(Vec::new()));
        }
        let memory = self.count(seq, 1).await?;
        self.progress.update(|progress| {
            progress.attempt = memory.started;
            progress.phase = PlanPhase::Merging;
        });
        let attempt = AttemptId::random(self.shared.randomness.as_ref());
        let inputs = match self.inputs(plan).await? {
            Ok(inputs) => inputs,
            Err(bad) => return self.culprits(plan, bad).await,
        };
        let name = OutputName {
            lane: self.manifest.lane,
            seq,
            attempt,
        };
        let target = MergeTarget {
            store: Arc::clone(&layout.store),
            dir: layout.data_dir.clone(),
            stem: name.stem(),
            schema: Arc::clone(&plan.schema),
            key_value_metadata: vec![
                ("firnline.lane".to_owned(), self.manifest.lane.to_string()),
                ("firnline.seq".to_owned(), seq.to_string()),
                (
                    "firnline.plan".to_owned(),
                    self.register.hash(seq).map(|hash| hash.to_string()).unwrap_or_default(),
                ),
            ],
            scratch: Some((
                Arc::clone(self.register.store()),
                self.register.scratch_dir().join(format!("{seq}-{attempt}")),
            )),
        };
        let merger = self.merger(plan);
        let merged = merger
            .merge(self.shared.bucket.store(), inputs, target, &self.progress)
            .await;
        let output = match merged {
            Ok(output) => output,
            Err(MergeError::Source { index, reason }) => {
                return self.culprits(plan, vec![BadSource { index, reason }]).await;
            }
            Err(MergeError::SourceUnavailable { index, source }) => {
                return self.unreadable(plan, index, source).await;
            }
            Err(error) => {
                let error = Error::from(error);
                if error.is_retryable() {
                    self.count(seq, -1).await?;
                }
                return Err(error.into());
            }
        };
        if output.rows != plan.rows() {
            return Err(Error::new(
                ErrorKind::Internal,
                format!(
                    "rows lost or made up. seq=`{seq}` in=`{}` out=`{}`",
                    plan.rows(),
                    output.rows
                ),
            )
            .into());
        }
        attempts::save_files(&self.register, seq, attempt, &output.files).await?;
        self.attempts
            .update(self.shared.state.as_ref(), |memory| {
                *memory = memory.clone().of(seq);
                memory.uploaded = Some(attempt);
            })
            .await?;
        Ok(Merged::Files(attempt, output.files))
    }

    /// The merger, turned to the plan's own sort order.
    fn merger(&self, plan: &Plan) -> ParquetMerger {
        let options = self.shared.merger.options().clone();
        ParquetMerger::new(options.with_sort_order(plan.sort_order.clone()))
    }

    /// Counts an attempt before it starts, or gives one back that was in vain through nobody's fault.
    async fn count(&mut self, seq: Seq, by: i32) -> Result<attempts::Attempts, LaneError> {
        let counted = self
            .attempts
            .update(self.shared.state.as_ref(), |memory| {
                *memory = memory.clone().of(seq);
                memory.started = memory.started.saturating_add_signed(by);
            })
            .await?;
        Ok(counted)
    }

    /// Opens every source in the content that was planned, or says which are not there in it.
    async fn inputs(&mut self, plan: &Plan) -> Result<Result<Vec<MergeInput>, Vec<BadSource>>, LaneError> {
        let shared = Arc::clone(&self.shared);
        let reads: Vec<_> = plan
            .sources
            .iter()
            .map(|source| open(&shared, source).boxed())
            .collect();
        let opened: Vec<_> = futures::stream::iter(reads).buffered(CONCURRENT_READS).collect().await;
        let mut inputs = Vec::with_capacity(opened.len());
        let mut bad = Vec::new();
        let mut unavailable = None;
        for (index, opened) in opened.into_iter().enumerate() {
            match opened {
                Ok(input) => inputs.push(input),
                Err(SourceError::Bad(reason)) => bad.push(BadSource { index, reason }),
                Err(SourceError::Unavailable(error)) => {
                    unavailable.get_or_insert((index, error));
                }
            }
        }
        if !bad.is_empty() {
            return Ok(Err(bad));
        }
        if let Some((index, error)) = unavailable {
            return match self.unreadable(plan, index, error).await? {
                Merged::Void(bad) => Ok(Err(bad)),
                Merged::Elsewhere | Merged::Files(..) => Ok(Err(Vec::new())),
            };
        }
        Ok(Ok(inputs))
    }

    /// After a source has turned out bad: looks whether the plan has been decided meanwhile (then a racer has
    /// merged and reclaimed it), otherwise looks at all the others, so that one void is enough.
    async fn culprits(&mut self, plan: &Plan, bad: Vec<BadSource>) -> Result<Merged, LaneError> {
        if !self.still_undecided(plan, &[]).await? {
            return Ok(Merged::Elsewhere);
        }
        let merger = self.merger(plan);
        let mut bad = bad;
        // One at a time, since each may use the whole budget.
        for (index, source) in plan.sources.iter().enumerate() {
            if bad.iter().any(|bad| bad.index == index) {
                continue;
            }
            let input = match open(&self.shared, source).await {
                Ok(input) => input,
                Err(SourceError::Bad(reason)) => {
                    bad.push(BadSource { index, reason });
                    continue;
                }
                Err(SourceError::Unavailable(error)) => return Err(error.into()),
            };
            let store = self.shared.bucket.store();
            match merger.verify_source(store, &input, &plan.schema).await {
                Ok(()) => {}
                Err(MergeError::Source { reason, .. }) => bad.push(BadSource { index, reason }),
                Err(error) => return Err(Error::from(error).into()),
            }
        }
        bad.sort_by_key(|bad| bad.index);
        Ok(Merged::Void(bad))
    }

    /// A source that the store does not answer for: waited for, until it alone has been unreadable for too long.
    async fn unreadable(&mut self, plan: &Plan, index: usize, error: Error) -> Result<Merged, LaneError> {
        if error.kind() != ErrorKind::Unavailable {
            return Err(error.into());
        }
        self.count(plan.seq, -1).await?;
        let Some(source) = plan.sources.get(index) else {
            return Err(error.into());
        };
        let since = self.unreadable_since(&source.key).await?;
        if self.now.millis_since(since) < self.shared.options.max_window_age_ms {
            return Err(error.into());
        }
        let reason = QuarantineReason::Unreadable {
            since,
            detail: error.chain(),
        };
        self.culprits(plan, vec![BadSource { index, reason }]).await
    }

    /// Since when a source has been unreadable, counting from now if it was readable before.
    pub(crate) async fn unreadable_since(&mut self, key: &ObjectKey) -> Result<Timestamp, LaneError> {
        let now = self.now;
        let memory = self
            .attempts
            .update(self.shared.state.as_ref(), |memory| {
                memory.unreadable.entry(key.clone()).or_insert(now);
            })
            .await?;
        Ok(memory.unreadable.get(key).copied().unwrap_or(now).min(now))
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

/// Opens a source in the content that was planned.
async fn open(shared: &Shared, source: &PlannedSource) -> Result<MergeInput, SourceError> {
    let path = shared
        .bucket
        .path(source.key.as_str())
        .map_err(SourceError::Unavailable)?;
    let footer = read_footer(shared.bucket.store().as_ref(), &path, Some(&source.etag)).await?;
    if footer.digest != source.footer || footer.size != source.size {
        return Err(SourceError::Bad(QuarantineReason::Replaced {
            planned: source.etag.to_string(),
            found: footer.etag.to_string(),
        }));
    }
    Ok(MergeInput {
        footer,
        writer: source.name.writer.clone(),
        sequence: source.name.sequence,
    })
}

/// Trouble with the table halts the lane and never voids; a table that does not answer is asked again.
pub(crate) fn table_error(error: Error) -> LaneError {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Conflict | ErrorKind::Internal => LaneError::Failed(error),
        _ => LaneError::Halted(Halt::TableTrouble { detail: error.chain() }),
    }
}

/// The options of the merger that follow from a compactor's.
pub(crate) fn merge_options(options: &crate::options::Options) -> MergeOptions {
    MergeOptions::default()
        .with_memory_budget_bytes(options.memory_budget_bytes)
        .with_target_file_size_bytes(options.target_file_size_bytes)
        .with_codec(options.codec)
        .with_sort_order(options.sort_order.clone())
}
