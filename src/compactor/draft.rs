//! From the pending files of a window to a plan: identity, schema, and what cannot be merged set aside.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use futures::{FutureExt, StreamExt};

use crate::compactor::columns::{Columns, choose, columns};
use crate::compactor::lane_work::{CONCURRENT_READS, LaneWork, table_error};
use crate::compactor::shared::Shared;
use crate::error::{Error, ErrorKind};
use crate::halt::LaneError;
use crate::ids::{Seq, Sha256Digest};
use crate::ledger::{Register, SettledSource, Verdict};
use crate::merge::{SourceError, SourceFooter, read_footer};
use crate::naming::{ETag, ObjectKey, SourceFile};
use crate::options::OnReplaced;
use crate::plan::{Plan, PlannedSource};
use crate::quarantine::QuarantineReason;
use crate::reclaim::head;
use crate::schema::{NamesById, SharedSchemas, TableColumns, strip_metadata};
use crate::sink::TableState;
use crate::time::Timestamp;
use crate::window::PlanDraft;

/// A source that some plan of its window has taken, or that was judged when the lane was adopted.
#[derive(Clone, Debug)]
pub(crate) struct TakenSource {
    pub(crate) etag: ETag,
    /// The plan that has taken it.
    pub(crate) seq: Option<Seq>,
    /// Size and footer digest of the planned content; `None` for a source judged before the lane.
    pub(crate) content: Option<(u64, Sha256Digest)>,
    /// Whether nobody can tell if its rows are in the table.
    pub(crate) unknown: bool,
}

impl TakenSource {
    /// Whether a file has the same content under another etag: a writer's repeated upload.
    pub(crate) fn same_content(&self, size: u64, footer: Sha256Digest) -> bool {
        self.content == Some((size, footer))
    }
}

/// The sources of the window that starts at `start` which are in a plan that is not void.
pub(crate) async fn taken_sources(
    register: &Register,
    start: Timestamp,
    adopted: bool,
) -> Result<BTreeMap<ObjectKey, Vec<TakenSource>>, LaneError> {
    let mut taken: BTreeMap<ObjectKey, Vec<TakenSource>> = BTreeMap::new();
    let seqs: Vec<_> = register.covering(start).collect();
    for seq in seqs {
        for source in register.load_plan(seq).await?.sources {
            taken.entry(source.key).or_default().push(TakenSource {
                etag: source.etag,
                seq: Some(seq),
                content: Some((source.size, source.footer)),
                unknown: false,
            });
        }
    }
    if adopted {
        for SettledSource { key, etag, verdict } in register.settled(start).await? {
            taken.entry(key).or_default().push(TakenSource {
                etag,
                seq: None,
                content: None,
                unknown: verdict == Verdict::Unknown,
            });
        }
    }
    Ok(taken)
}

/// A source that can be part of a plan.
struct Candidate {
    file: SourceFile,
    told: Told,
    columns: Columns,
}

/// What a plan needs of a footer; all footers of a plan together may be large.
struct Told {
    size: u64,
    etag: ETag,
    rows: u64,
    digest: Sha256Digest,
    /// Under the names of the table, or why it cannot be.
    schema: Result<SchemaRef, QuarantineReason>,
}

impl From<&SourceFooter> for Told {
    fn from(footer: &SourceFooter) -> Self {
        Self {
            size: footer.size,
            etag: footer.etag.clone(),
            rows: footer.rows,
            digest: footer.digest,
            schema: Ok(Arc::clone(&footer.schema)),
        }
    }
}

impl LaneWork {
    /// Turns a draft into the next plan; `None` when nothing of it can be merged now.
    pub(crate) async fn plan(&mut self, draft: PlanDraft, table: &TableState) -> Result<Option<Plan>, LaneError> {
        let taken = taken_sources(&self.register, draft.window.start, self.manifest.adopted).await?;
        let mut files = draft.files;
        files.sort_by(|a, b| a.order().cmp(&b.order()));
        let files = self.within_limit(files).await?;
        let (evolve, match_field_ids) = (self.shared.options.evolve, self.shared.options.match_field_ids);
        let table = table.table.as_ref().map(|info| TableColumns {
            schema: Arc::clone(&info.schema),
            evolve,
            evolution: info.evolution.clone(),
        });
        let of_table = table.as_ref().map(|table| table.schema.as_ref());
        let mut names = match_field_ids.then(|| NamesById::of(of_table));
        let candidates = self
            .read(files, &taken, draft.window.start, table.as_ref(), &mut names)
            .await?;
        let (candidates, schema) = self.choose_schema(candidates, table.as_ref());
        let Some(schema) = schema else { return Ok(None) };
        let with_ids = |schema: &SchemaRef| match &names {
            Some(names) => names.with_ids(schema),
            None => strip_metadata(schema),
        };
        let layout = self
            .sink
            .prepare(self.manifest.lane, &with_ids(&schema), evolve)
            .await
            .map_err(table_error)?;
        let head = self.register.head();
        Ok(Some(Plan {
            version: Plan::VERSION,
            lane: self.manifest.lane,
            seq: head.next(),
            previous: self.register.hash(head),
            namespace: draft.namespace,
            window: draft.window,
            generation: self.register.covering(draft.window.start).count() as u64,
            sources: candidates.into_iter().map(planned).collect(),
            schema: with_ids(&layout.schema),
            sort_order: self.manifest.sort_order.clone(),
            evolve,
            match_field_ids,
        }))
    }

    /// While plans are being halved, only the first files up to the limit, at least one.
    async fn within_limit(&self, files: Vec<SourceFile>) -> Result<Vec<SourceFile>, LaneError> {
        let (memory, _) = self.attempts.load(self.shared.state.as_ref()).await?;
        let Some(limit) = memory.limit_bytes else {
            return Ok(files);
        };
        let mut bytes = 0_u64;
        let within = files.into_iter().enumerate().take_while(|(index, file)| {
            bytes = bytes.saturating_add(file.size);
            *index == 0 || bytes <= limit
        });
        Ok(within.map(|(_, file)| file).collect())
    }

    /// Reads the footers. What is taken already is dropped, what is bad set aside.
    async fn read(
        &mut self,
        files: Vec<SourceFile>,
        taken: &BTreeMap<ObjectKey, Vec<TakenSource>>,
        start: Timestamp,
        table: Option<&TableColumns>,
        names: &mut Option<NamesById>,
    ) -> Result<Vec<Candidate>, LaneError> {
        let shared = Arc::clone(&self.shared);
        let reads: Vec<_> = files.into_iter().map(|file| look_into(&shared, file).boxed()).collect();
        let mut read = futures::stream::iter(reads).buffered(CONCURRENT_READS);
        let mut schemas = SharedSchemas::default();
        let mut candidates = Vec::new();
        let mut unavailable = Vec::new();
        let mut vanished = Vec::new();
        while let Some((file, footer)) = read.next().await {
            match footer {
                Ok(mut footer) => {
                    let mut told = Told::from(&footer);
                    if let Some(names) = names {
                        told.schema = names.name(footer.metadata.file_metadata(), &footer.schema);
                    }
                    told.schema = told.schema.map(|schema| schemas.share(schema));
                    if let Ok(schema) = &told.schema {
                        footer.schema = Arc::clone(schema);
                    }
                    if let Some(mut candidate) = self.judge(file, told, taken, table) {
                        self.footers.keep(&candidate.file.key, footer);
                        candidate.columns.schema = candidate.columns.schema.map(|schema| schemas.share(schema));
                        candidates.push(candidate);
                    }
                }
                Err(SourceError::Bad(QuarantineReason::Vanished)) => vanished.push(file),
                Err(SourceError::Bad(reason)) => self.found.quarantined.push((file, reason)),
                Err(SourceError::Unavailable(error)) => unavailable.push((file, error)),
            }
        }
        self.judge_vanished(vanished, start).await?;
        self.wait_for(unavailable, candidates.is_empty()).await?;
        Ok(candidates)
    }

    /// A file that is gone and in a plan has been reclaimed; the register is read again first, since others may
    /// have planned, committed and reclaimed it since this turn began.
    async fn judge_vanished(&mut self, vanished: Vec<SourceFile>, start: Timestamp) -> Result<(), LaneError> {
        if vanished.is_empty() {
            return Ok(());
        }
        // Into a copy: this turn plans from the register as it was when the table was read.
        let mut register = self.register.clone();
        register.refresh().await?;
        let taken = taken_sources(&register, start, self.manifest.adopted).await?;
        for file in vanished {
            if taken.contains_key(&file.key) {
                self.found.taken.push(file.key);
            } else {
                self.found.quarantined.push((file, QuarantineReason::Vanished));
            }
        }
        Ok(())
    }

    /// Drops a source that is taken already; another content under a taken key goes by the policy.
    fn judge(
        &mut self,
        mut file: SourceFile,
        told: Told,
        taken: &BTreeMap<ObjectKey, Vec<TakenSource>>,
        table: Option<&TableColumns>,
    ) -> Option<Candidate> {
        file.etag = Some(told.etag.clone());
        file.size = told.size;
        let released = self.released.get(&file.key) == Some(&told.etag);
        let earlier: Vec<_> = taken
            .get(&file.key)
            .into_iter()
            .flatten()
            .filter(|source| !(released && source.unknown))
            .collect();
        if earlier.iter().any(|t| t.etag == told.etag) {
            self.found.taken.push(file.key);
            return None;
        }
        if let Some(same) = earlier.iter().find(|t| t.same_content(told.size, told.digest)) {
            self.found.uploaded_again.push((file, same.etag.clone(), same.seq));
            return None;
        }
        if let Some(first) = earlier.first()
            && !released
            && self.shared.options.on_replaced == OnReplaced::Quarantine
        {
            let reason = QuarantineReason::Replaced {
                planned: first.etag.to_string(),
                found: told.etag.to_string(),
            };
            self.found.quarantined.push((file, reason));
            return None;
        }
        let order = &self.manifest.sort_order;
        let columns = columns(self.sink.as_ref(), table, order, &told.schema, told.rows);
        Some(Candidate { file, told, columns })
    }

    /// Waits for sources that the store does not answer for; one alone only for so long.
    async fn wait_for(&mut self, unavailable: Vec<(SourceFile, Error)>, alone: bool) -> Result<(), LaneError> {
        let mut waiting = None;
        for (file, error) in unavailable {
            if error.kind() != ErrorKind::Unavailable {
                return Err(error.into());
            }
            let since = self.unreadable_since(&file.key).await?;
            // When nothing can be read, it is the store and not the file, unless the store answers otherwise.
            if self.now.millis_since(since) >= self.shared.options.max_window_age_ms
                && (!alone || self.bucket_answers().await)
            {
                let detail = error.chain();
                let reason = QuarantineReason::Unreadable { since, detail };
                self.found.quarantined.push((file, reason));
            } else {
                waiting = Some(error);
            }
        }
        waiting.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Whether the bucket can be listed.
    async fn bucket_answers(&self) -> bool {
        let bucket = &self.shared.bucket;
        let listed = bucket.store().list(Some(bucket.prefix())).next().await;
        listed.is_none_or(|first| first.is_ok())
    }

    /// One schema for the plan; files that do not fit it are set aside.
    fn choose_schema(
        &mut self,
        candidates: Vec<Candidate>,
        table: Option<&TableColumns>,
    ) -> (Vec<Candidate>, Option<SchemaRef>) {
        let columns: Vec<_> = candidates.iter().map(|candidate| candidate.columns.clone()).collect();
        let mut chosen = choose(table, &self.manifest.sort_order, &columns);
        let mut kept = Vec::with_capacity(candidates.len());
        for (index, candidate) in candidates.into_iter().enumerate() {
            match chosen.rejected.remove(&index) {
                Some(reason) => self.found.quarantined.push((candidate.file, reason)),
                None => kept.push(candidate),
            }
        }
        (kept, chosen.schema)
    }
}

/// Reads a footer. Of a file that is bad the etag is found out too, so that it is judged anew when its content
/// changes, whatever was announced of it.
async fn look_into(shared: &Shared, mut file: SourceFile) -> (SourceFile, Result<SourceFooter, SourceError>) {
    let path = match shared.bucket.path(file.key.as_str()) {
        Ok(path) => path,
        Err(error) => return (file, Err(SourceError::Bad(QuarantineReason::corrupt(error)))),
    };
    let store = shared.bucket.store().as_ref();
    let footer = read_footer(store, &path, None).await;
    if !matches!(footer, Err(SourceError::Bad(_))) {
        return (file, footer);
    }
    let found = head(store, &path).await.ok().flatten();
    let Some((etag, size)) = found.and_then(|meta| Some((ETag::new(meta.e_tag?), meta.size))) else {
        return (file, footer);
    };
    let footer = read_footer(store, &path, Some(&etag)).await;
    file.etag = Some(etag);
    file.size = size;
    (file, footer)
}

fn planned(candidate: Candidate) -> PlannedSource {
    let Candidate { file, told, .. } = candidate;
    PlannedSource {
        size: told.size,
        etag: told.etag,
        rows: told.rows,
        footer: told.digest,
        key: file.key,
        name: file.name,
    }
}
