//! One attempt at a plan: its sources merged and uploaded, or why they cannot be.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use futures::{FutureExt, StreamExt};

use crate::compactor::attempts::{self, Attempts, MOST_ATTEMPTS};
use crate::compactor::lane_work::{CONCURRENT_READS, LaneWork, table_error};
use crate::compactor::progress::RunningPlan;
use crate::compactor::shared::Shared;
use crate::data_file::DataFile;
use crate::error::{Error, ErrorKind};
use crate::halt::LaneError;
use crate::ids::{AttemptId, Seq};
use crate::merge::{
    MergeError, MergeInput, MergeOptions, MergeTarget, ParquetMerger, SourceError, SourceFooter, Sources, read_footer,
};
use crate::naming::ObjectKey;
use crate::options::Options;
use crate::plan::{Plan, PlannedSource};
use crate::quarantine::QuarantineReason;
use crate::reclaim::output_stem;
use crate::sink::{BadSource, TableLayout};
use crate::status::PlanPhase;
use crate::time::Timestamp;

/// How an attempt to merge ended.
pub(super) enum Merged {
    /// Somebody else has decided the plan.
    Elsewhere,
    /// The files are uploaded.
    Files(AttemptId, Vec<DataFile>),
    /// The plan cannot be carried out: void it, these are the sources at fault (none: it broke too often).
    Void(Vec<BadSource>),
}

impl LaneWork {
    pub(super) async fn outputs_there(&mut self, plan: &Plan, files: &[DataFile]) -> Result<bool, LaneError> {
        let layout = self
            .sink
            .prepare(self.manifest.lane, &plan.schema, plan.evolve)
            .await
            .map_err(table_error)?;
        let there = attempts::all_there(&layout, files).await?;
        if !there {
            self.forget_uploaded(plan.seq).await?;
        }
        Ok(there)
    }

    /// The files of the attempt cannot be used: the next one writes its own.
    pub(super) async fn forget_uploaded(&mut self, seq: Seq) -> Result<(), LaneError> {
        let forget = |memory: &mut Attempts| {
            *memory = memory.clone().of(seq);
            memory.uploaded = None;
        };
        self.attempts.update(self.shared.state.as_ref(), forget).await?;
        Ok(())
    }

    /// Uploads the merged files of a plan, or finds those of an earlier attempt, or why there can be none.
    pub(super) async fn merge(&mut self, plan: &Plan) -> Result<Merged, LaneError> {
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
            .prepare(self.manifest.lane, &plan.schema, plan.evolve)
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
        let merger = self.merger(plan);
        let sources = merger.sources(self.shared.bucket.store(), &layout.schema);
        let sources = match self.inputs(plan, &layout, sources.map_err(Error::from)?).await? {
            Ok(sources) => sources,
            Err(bad) => return self.culprits(plan, &layout, bad).await,
        };
        let target = self.target(plan, &layout, attempt);
        let merged = merger.merge_sources(sources, target, &self.progress).await;
        let output = match merged {
            Ok(output) => output,
            Err(MergeError::Source { index, reason }) => {
                return self.culprits(plan, &layout, vec![BadSource { index, reason }]).await;
            }
            Err(MergeError::SourceUnavailable { index, source }) => {
                return self.unreadable(plan, &layout, index, source).await;
            }
            Err(error @ MergeError::Partition { .. }) if error.kind() == ErrorKind::Data => {
                // Merged rows do not say whose they are; those of each source alone do.
                return match self.culprits(plan, &layout, Vec::new()).await? {
                    Merged::Void(bad) if bad.is_empty() => Err(Error::from(error).into()),
                    merged => Ok(merged),
                };
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

    /// Where the files of an attempt go: under names that nobody else can have.
    fn target(&self, plan: &Plan, layout: &TableLayout, attempt: AttemptId) -> MergeTarget {
        let (lane, seq) = (self.manifest.lane, plan.seq);
        let plan_hash = self.register.hash(seq).map(|hash| hash.to_string());
        let scratch = self.register.scratch_dir().join(format!("{seq}-{attempt}"));
        MergeTarget {
            store: Arc::clone(&layout.store),
            dir: layout.data_dir.clone(),
            stem: output_stem(lane, seq, attempt),
            schema: Arc::clone(&layout.schema),
            partitioner: layout.partitioner.clone(),
            key_value_metadata: vec![
                ("firnline.lane".to_owned(), lane.to_string()),
                ("firnline.seq".to_owned(), seq.to_string()),
                ("firnline.plan".to_owned(), plan_hash.unwrap_or_default()),
            ],
            scratch: Some((Arc::clone(self.register.store()), scratch)),
        }
    }

    /// The merger, turned to the plan's own sort order.
    fn merger(&self, plan: &Plan) -> ParquetMerger {
        let merger = &self.shared.merger;
        merger.with_options(merger.options().clone().with_sort_order(plan.sort_order.clone()))
    }

    /// Counts an attempt before it starts, or gives one back that was in vain through nobody's fault.
    async fn count(&mut self, seq: Seq, by: i32) -> Result<Attempts, LaneError> {
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
    async fn inputs(
        &mut self,
        plan: &Plan,
        layout: &TableLayout,
        mut sources: Sources,
    ) -> Result<Result<Sources, Vec<BadSource>>, LaneError> {
        let shared = Arc::clone(&self.shared);
        let names = plan.match_field_ids.then_some(&plan.schema);
        let reads: Vec<_> = plan
            .sources
            .iter()
            .map(|source| open(&shared, source, self.footers.take(source), names).boxed())
            .collect();
        let mut opened = futures::stream::iter(reads).buffered(CONCURRENT_READS).enumerate();
        let mut bad = Vec::new();
        let mut unavailable = None;
        while let Some((index, opened)) = opened.next().await {
            match opened {
                Ok(input) => sources.add(input),
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
            return match self.unreadable(plan, layout, index, error).await? {
                Merged::Void(bad) => Ok(Err(bad)),
                Merged::Elsewhere | Merged::Files(..) => Ok(Err(Vec::new())),
            };
        }
        Ok(Ok(sources))
    }

    /// After a source has turned out bad: looks whether the plan has been decided meanwhile (then a racer has
    /// merged and reclaimed it), otherwise looks at all the others, so that one void is enough.
    async fn culprits(&mut self, plan: &Plan, layout: &TableLayout, bad: Vec<BadSource>) -> Result<Merged, LaneError> {
        // Whoever has voided it may have gone without saying why.
        if !self.still_undecided(plan, &bad).await? {
            return Ok(Merged::Elsewhere);
        }
        let merger = self.merger(plan);
        let names = plan.match_field_ids.then_some(&plan.schema);
        let mut bad = bad;
        // One at a time, since each may use the whole budget.
        for (index, source) in plan.sources.iter().enumerate() {
            if bad.iter().any(|bad| bad.index == index) {
                continue;
            }
            let input = match open(&self.shared, source, None, names).await {
                Ok(input) => input,
                Err(SourceError::Bad(reason)) => {
                    bad.push(BadSource { index, reason });
                    continue;
                }
                Err(SourceError::Unavailable(error)) => return Err(error.into()),
            };
            let store = self.shared.bucket.store();
            let partitioner = layout.partitioner.as_ref();
            match merger.verify_in(store, &input, &plan.schema, partitioner).await {
                Ok(()) => {}
                Err(MergeError::Source { reason, .. }) => bad.push(BadSource { index, reason }),
                Err(error) => return Err(Error::from(error).into()),
            }
        }
        bad.sort_by_key(|bad| bad.index);
        let shortened = bad.into_iter().map(|BadSource { index, reason }| BadSource {
            index,
            reason: reason.shortened(),
        });
        Ok(Merged::Void(shortened.collect()))
    }

    /// A source that the store does not answer for: waited for, until it alone has been unreadable for too long.
    async fn unreadable(
        &mut self,
        plan: &Plan,
        layout: &TableLayout,
        index: usize,
        error: Error,
    ) -> Result<Merged, LaneError> {
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
        self.culprits(plan, layout, vec![BadSource { index, reason }]).await
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
}

/// Opens a source in the content that was planned, with the `names` that the table has for the ids of columns.
async fn open(
    shared: &Shared,
    source: &PlannedSource,
    known: Option<SourceFooter>,
    names: Option<&SchemaRef>,
) -> Result<MergeInput, SourceError> {
    let footer = match known {
        Some(footer) => footer,
        None => {
            let path = shared.bucket.path(source.key.as_str());
            let path = path.map_err(SourceError::Unavailable)?;
            read_footer(shared.bucket.store().as_ref(), &path, Some(&source.etag)).await?
        }
    };
    if footer.digest != source.footer || footer.size != source.size {
        return Err(SourceError::Bad(QuarantineReason::Replaced {
            planned: source.etag.to_string(),
            found: footer.etag.to_string(),
        }));
    }
    Ok(MergeInput {
        footer: match names {
            Some(names) => footer.named_by(names)?,
            None => footer,
        },
        writer: source.name.writer.clone(),
        sequence: source.name.sequence,
    })
}

/// The options of the merger that follow from a compactor's.
pub(crate) fn merge_options(options: &Options) -> MergeOptions {
    MergeOptions::default()
        .with_memory_budget_bytes(options.memory_budget_bytes)
        .with_target_file_size_bytes(options.target_file_size_bytes)
        .with_codec(options.codec)
        .with_sort_order(options.sort_order.clone())
        .with_on_unsorted(options.on_unsorted)
        .with_copy_row_groups(options.copy_row_groups)
}
