//! A Delta table as the end of a lane: the thin shell around [`DeltaCommitBuilder`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::AsArray as _;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, PutMode, PutOptions, PutPayload};

use super::action::Action;
use super::canonical::{canonical_schema, check_names};
use super::checkpoint::{file_objects, struct_column};
use super::checkpoint_write::write_checkpoint;
use super::commit::{DeltaCommitBuilder, DeltaCommitFile, DeltaCommitStep, entry_of, output_path};
use super::confirm::Walk;
use super::create::new_table_schema;
use super::error::{invalid, unsupported};
use super::evolve::{evolution, follow};
use super::gate::check_append;
use super::log::{Loaded, Log};
use super::marker::entry_marker;
use super::options::DeltaOptions;
use super::parquet_stream::ParquetStream;
use super::partitioner::ColumnPartitioner;
use super::snapshot::Snapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::LaneId;
use crate::options::Evolve;
use crate::partitioning::Partitioner;
use crate::quarantine::QuarantineReason;
use crate::schema::has_stored_names;
use crate::sink::{
    CommitOutcome, Confirmation, Decided, Decision, Entry, Marker, TableCommit, TableInfo, TableLayout, TableSink,
    TableState, refuse_table_of,
};
use crate::time::Timestamp;

/// A Delta table in an object store.
///
/// Reads any log that the protocol allows, appends where nothing asks for more than that, and refuses the
/// rest before anything is uploaded. Commits are put only where nothing is, so the store must be able to do
/// that, and **every other writer must do so too**: Spark's default on S3 does not, and can overwrite a
/// commit of anybody's.
///
/// Never removes anything: neither log nor data files.
///
/// Reading takes memory for a few megabytes of a checkpoint's small columns (for a row group, if it has no page index) and
/// for one commit at a time, whatever the table's size; writing a checkpoint holds the commits since the last one and the compressed
/// checkpoint, since stores put only whole objects where nothing is. [`decided`](TableSink::decided) on a
/// worker's first call and [`confirm`](TableSink::confirm) read the commits between the entry and the newest.
///
/// A column that holds only nulls (Arrow's `Null`) is not stored: readers fail on Delta's `void`.
#[derive(Debug)]
pub struct DeltaSink {
    log: Log,
    options: DeltaOptions,
    memory: Mutex<Memory>,
}

/// What has been read before; each part is checked against the log before it is used again.
#[derive(Debug, Default)]
struct Memory {
    loaded: Option<Loaded>,
    entry: Option<(LaneId, Marker, Entry)>,
}

/// What became of a put.
enum Put {
    /// Nobody has the version, though the store said so (S3 does while two writers are at it).
    Again,
    Landed(Entry),
    Lost(Vec<Action>),
}

impl DeltaSink {
    /// The table whose root is `root` in `store`. Nothing is read or written yet.
    pub fn new(store: Arc<dyn ObjectStore>, root: Path, options: DeltaOptions) -> Self {
        Self {
            log: Log::new(store, root),
            options,
            memory: Mutex::default(),
        }
    }

    async fn load(&self) -> Result<Option<Snapshot>> {
        let known = self.remembered(|memory| memory.loaded.clone());
        let loaded = self.log.load(known.as_ref()).await?;
        let snapshot = loaded.as_ref().map(|loaded| loaded.snapshot.clone());
        self.remembered(|memory| memory.loaded = loaded);
        Ok(snapshot)
    }

    /// Before a table is created.
    async fn check_place(&self) -> Result<()> {
        let metadata = self.log.root().clone().join("metadata");
        let is_mark = |name: &str| {
            let metadata = [".metadata.json", ".metadata.json.gz"];
            name == "version-hint.text" || metadata.iter().any(|suffix| name.ends_with(suffix))
        };
        refuse_table_of("iceberg", self.log.store().as_ref(), &metadata, is_mark).await
    }

    fn remembered<T>(&self, with: impl FnOnce(&mut Memory) -> T) -> T {
        // What is remembered is replaced as a whole, so a panic elsewhere leaves nothing half-done.
        with(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest entry of a lane, with its commit as far as that is still there.
    async fn newest_entry(&self, table: &Snapshot, lane: LaneId, marker: Marker) -> Result<Decided> {
        let remembered = self.remembered(|memory| memory.entry.clone());
        if let Some((known_lane, known, entry)) = remembered
            && (known_lane, known) == (lane, marker)
            && entry.version <= table.version()
        {
            return Ok(Decided {
                marker,
                entry: Some(entry),
            });
        }
        let found = self.find_entry(lane, marker, table).await?;
        let entry = found.map(|(version, commit)| entry_of(self.log.root(), version, &commit));
        if let Some(entry) = &entry {
            self.remembered(|memory| memory.entry = Some((lane, marker, entry.clone())));
        }
        Ok(Decided { marker, entry })
    }

    /// Walks back from the newest entry of a lane to the commit that holds that of this seq, while there are commits.
    async fn find_entry(&self, lane: LaneId, wanted: Marker, table: &Snapshot) -> Result<Option<(u64, Vec<Action>)>> {
        let newest = table.entry_version(lane);
        for version in (0..=newest.unwrap_or_else(|| table.version())).rev() {
            // Commits of others, which may list very many files, are looked through for the marker alone.
            let is_ours = newest == Some(version);
            let commit = self.log.commit(version, |action| is_ours || action.path().is_none());
            let Some(commit) = commit.await? else {
                return Ok(None);
            };
            match entry_marker(&commit, lane)? {
                Some(found) if found.seq == wanted.seq && is_ours => return Ok(Some((version, commit))),
                Some(found) if found.seq == wanted.seq => {
                    let whole = self.log.commit(version, |_| true).await?;
                    return Ok(whole.map(|commit| (version, commit)));
                }
                // Seqs only grow: what is wanted is not further back.
                Some(found) if found.seq < wanted.seq => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }

    async fn put(&self, file: &DeltaCommitFile) -> Result<Put> {
        let payload = PutPayload::from_bytes(file.bytes().clone());
        let options = PutOptions::from(PutMode::Create);
        let refused = match self.log.store().put_opts(file.path(), payload, options).await {
            Ok(_) => return Ok(Put::Landed(file.entry().clone())),
            Err(error @ (StoreError::NotImplemented { .. } | StoreError::NotSupported { .. })) => {
                return Err(unsupported(
                    "the store has no put-if-absent, without which commits can overwrite each other",
                )
                .with_source(error));
            }
            Err(error) => error,
        };
        // No answer proves that nothing was written; only reading does.
        let unknown = |cause: Error| {
            let message = format!(
                "commit may have landed or not, read the table. object=`{}`",
                file.path()
            );
            Error::new(ErrorKind::Unavailable, message).with_source(cause)
        };
        match self.log.commit_state(file.version()).await.map_err(unknown)? {
            Some((found, _)) if file.is_same_commit(&found) => Ok(Put::Landed(file.entry().clone())),
            Some((found, _)) => Ok(Put::Lost(found)),
            None if matches!(
                refused,
                StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }
            ) =>
            {
                Ok(Put::Again)
            }
            None => Err(unknown(Error::from_store("put", file.path(), refused))),
        }
    }

    /// A checkpoint makes reading faster; failing to write one harms nobody.
    async fn checkpoint_if_due(&self, table: &Snapshot, version: u64, now: Timestamp) {
        let property = table.metadata().configuration.get("delta.checkpointInterval");
        let interval = property
            .and_then(|text| text.trim().parse::<u64>().ok())
            .filter(|interval| *interval > 0)
            .unwrap_or(self.options.checkpoint_interval);
        if version > 0 && version.checked_rem(interval) == Some(0) {
            let _ = write_checkpoint(&self.log, version, now).await;
        }
    }

    /// Writes a checkpoint of the table's newest version, if there is none: what a commit does by itself
    /// every [`checkpoint_interval`](DeltaOptions::checkpoint_interval) versions. Idempotent.
    ///
    /// # Errors
    ///
    /// `Unsupported` where the table wants checkpoints of another kind; `Unavailable` to be tried again.
    pub async fn checkpoint(&self, now: Timestamp) -> Result<()> {
        let Some(table) = self.load().await? else {
            return Err(invalid("there is no table"));
        };
        check_append(&table, &self.options)?;
        write_checkpoint(&self.log, table.version(), now).await
    }

    /// Whether all files of a decision are in the table, from its whole log.
    async fn all_live(&self, version: u64, decision: &Decision) -> Result<bool> {
        let Some(segment) = self.log.segment(Some(version)).await? else {
            return Ok(false);
        };
        let root = self.log.root();
        let wanted: BTreeSet<_> = decision.outputs.iter().map(|output| output.path.clone()).collect();
        let mut live = BTreeSet::new();
        if let Some((checkpoint, state)) = &segment.checkpoint {
            for object in file_objects(self.log.store(), &self.log.dir(), checkpoint, state).await? {
                let mut stream = ParquetStream::open(self.log.store().clone(), object, &["add.path"]).await?;
                while let Some(batch) = stream.next().await? {
                    let Some(paths) = struct_column(&batch, "add").and_then(|add| add.column_by_name("path")) else {
                        continue;
                    };
                    for path in paths.as_string_opt::<i32>().into_iter().flatten().flatten() {
                        let path = output_path(root, path);
                        if wanted.contains(&path) {
                            live.insert(path);
                        }
                    }
                }
            }
        }
        for (version, _) in &segment.commits {
            let ours = |action: &Action| {
                action
                    .path()
                    .is_some_and(|path| wanted.contains(&output_path(root, path)))
            };
            let Some(commit) = self.log.commit(*version, ours).await? else {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("a commit went away while the log was read. version=`{version}`"),
                ));
            };
            for action in &commit {
                if let Action::Remove(remove) = action {
                    live.remove(&output_path(root, &remove.path));
                }
            }
            for action in &commit {
                if let Action::Add(add) = action {
                    live.insert(output_path(root, &add.path));
                }
            }
        }
        Ok(live == wanted)
    }

    /// The walk over the commits after an entry; `None` when they are not all there any more.
    async fn walk(&self, table: &Snapshot, decision: &Decision) -> Result<Option<Confirmation>> {
        let (version, commit) = match decision.table_version {
            Some(version) => match self.log.commit(version, |_| true).await? {
                Some(commit) => (version, commit),
                None => return Ok(None),
            },
            None => match self.find_entry(decision.lane, Marker::from(decision), table).await? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        let mut walk = match Walk::begin(self.log.root(), version, &commit, decision)? {
            Ok(walk) => walk,
            Err(reason) => return Ok(Some(Confirmation::Refuted { reason })),
        };
        for version in version.saturating_add(1)..=table.version() {
            let Some(commit) = self.log.commit(version, walk.wants()).await? else {
                return Ok(None);
            };
            if let Err(reason) = walk.step(version, &commit) {
                return Ok(Some(Confirmation::Refuted { reason }));
            }
        }
        Ok(Some(Confirmation::Confirmed))
    }
}

#[async_trait]
impl TableSink for DeltaSink {
    fn canonical_schema(&self, source: &Schema, table: Option<&Schema>) -> Result<SchemaRef, QuarantineReason> {
        let schema = canonical_schema(source)?;
        if !table.is_some_and(|table| has_stored_names(table.fields())) {
            check_names(&schema)?;
        }
        Ok(schema)
    }

    async fn decided(&self, lane: LaneId) -> Result<TableState> {
        let Some(table) = self.load().await? else {
            return Ok(TableState::default());
        };
        check_append(&table, &self.options)?;
        let decided = match table.marker(lane)? {
            Some(marker) => Some(self.newest_entry(&table, lane, marker).await?),
            None => None,
        };
        Ok(TableState {
            table: Some(TableInfo {
                uuid: table.metadata().id.clone(),
                version: table.version(),
                schema: table.schema().clone(),
                evolution: evolution(&table),
            }),
            decided,
            other_lanes: table.other_lanes(lane),
            superseded: table.is_superseded(lane),
        })
    }

    async fn prepare(&self, _lane: LaneId, schema: &SchemaRef, evolve: Evolve) -> Result<TableLayout> {
        let (schema, partitioner) = match self.load().await? {
            Some(table) => {
                check_append(&table, &self.options)?;
                let partitioner = ColumnPartitioner::of(table.metadata(), table.schema())?;
                (follow(&table, schema, evolve)?.files, partitioner)
            }
            None => {
                self.check_place().await?;
                (Arc::new(new_table_schema(schema, &self.options)?), None)
            }
        };
        Ok(TableLayout {
            store: self.log.store().clone(),
            data_dir: self.log.root().clone().join("data"),
            metadata_dir: None,
            schema,
            partitioner: partitioner.map(|partitioner| Arc::new(partitioner) as Arc<dyn Partitioner>),
        })
    }

    async fn commit(&self, commit: &TableCommit) -> Result<CommitOutcome> {
        let base = self.load().await?;
        if base.is_none() {
            self.check_place().await?;
        }
        let mut builder = DeltaCommitBuilder::new(self.log.root().clone(), self.options.clone()).with_base(base);
        for _ in 0..=self.options.max_commit_races {
            let file = match builder.build(commit)? {
                DeltaCommitStep::Put(file) => file,
                DeltaCommitStep::Diverged { found } => return Ok(CommitOutcome::Diverged { found }),
                DeltaCommitStep::Outdated { reason } => return Ok(CommitOutcome::Outdated { reason }),
                DeltaCommitStep::Decided(marker) => {
                    let Some(table) = builder.base() else {
                        return Err(Error::new(ErrorKind::Internal, "a seq is decided in no table"));
                    };
                    let decided = self.newest_entry(table, commit.lane, marker).await?;
                    return Ok(CommitOutcome::Decided(decided));
                }
            };
            match self.put(&file).await? {
                Put::Again => {}
                Put::Landed(entry) => {
                    if builder.rebase(file.actions()).is_ok()
                        && let Some(table) = builder.base()
                    {
                        self.checkpoint_if_due(table, file.version(), commit.now).await;
                    }
                    return Ok(CommitOutcome::Committed(entry));
                }
                Put::Lost(winner) => {
                    builder.rebase(&winner)?;
                    let mut next = file.version().saturating_add(1);
                    while let Some((winner, _)) = self.log.commit_state(next).await? {
                        builder.rebase(&winner)?;
                        next = next.saturating_add(1);
                    }
                }
            }
        }
        Ok(CommitOutcome::Contended)
    }

    async fn confirm(&self, decision: &Decision) -> Result<Confirmation> {
        let refuted = |reason: String| Ok(Confirmation::Refuted { reason });
        let Some(table) = self.load().await? else {
            return refuted("the table is gone".to_owned());
        };
        if let Some(version) = decision.table_version
            && version > table.version()
        {
            return refuted(format!(
                "the table was rolled back to version {}, the entry was in {version}",
                table.version()
            ));
        }
        let marker = match table.marker(decision.lane)? {
            Some(marker) if marker.seq >= decision.seq => marker,
            found => {
                let found = found.map_or_else(|| "none".to_owned(), |marker| marker.seq.to_string());
                return refuted(format!(
                    "the table knows nothing of seq {}, its newest entry of the lane is {found}",
                    decision.seq
                ));
            }
        };
        if marker.seq == decision.seq && marker != Marker::from(decision) {
            return refuted(format!("the table's marker of seq {} is another one", decision.seq));
        }
        if let Some(confirmation) = self.walk(&table, decision).await? {
            return Ok(confirmation);
        }
        // The commits have been cleaned away: the marker has outlived them, the files must have too.
        if decision.outputs.is_empty() || self.all_live(table.version(), decision).await? {
            return Ok(Confirmation::Confirmed);
        }
        refuted(format!(
            "not all files of seq {} are in the table, and the log does not say any more why",
            decision.seq
        ))
    }
}
