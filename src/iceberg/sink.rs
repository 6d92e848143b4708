//! An Iceberg table as the end of a lane: the thin shell around [`IcebergCommitBuilder`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;

use super::arrow_schema::{arrow_schema, fit_columns, new_schema};
use super::canonical::canonical_schema;
use super::catalog::{Catalog, CatalogOutcome, CatalogTable};
use super::commit::{IcebergCommit, IcebergCommitBuilder, IcebergCommitStep};
use super::confirm::{entry_snapshot, is_in_history};
use super::error::invalid;
use super::evolve::{evolution, evolved};
use super::files::{Root, TableFiles};
use super::gate::check_append;
use super::manifest::{EntryStatus, ManifestReader};
use super::manifest_list::{ManifestContent, ManifestFile, read_manifest_list};
use super::marker;
use super::metadata::TableMetadata;
use super::options::IcebergOptions;
use super::partitioner::SpecPartitioner;
use super::snapshot::Snapshot;
use super::version::FormatVersion;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{LaneId, Randomness, SystemRandomness};
use crate::options::{Evolve, SortField};
use crate::partitioning::Partitioner;
use crate::quarantine::QuarantineReason;
use crate::sink::{
    CommitOutcome, Confirmation, Decided, Decision, Entry, Marker, Outcome, OutputFile, TableCommit, TableInfo,
    TableLayout, TableSink, TableState, refuse_table_of,
};
use crate::time::Timestamp;

/// An Iceberg table, wherever its [`Catalog`] keeps it.
///
/// Appends to tables of format version 2 and 3 and refuses what asks for more than that before anything is uploaded.
/// Never removes anything: neither metadata nor data files.
///
/// Every entry is a snapshot; one that adds nothing is an empty append. Committing reads the current manifest list and
/// writes a manifest, a manifest list and the metadata.
#[derive(Debug)]
pub struct IcebergSink {
    catalog: Arc<dyn Catalog>,
    files: TableFiles,
    root: Path,
    options: IcebergOptions,
    randomness: Arc<dyn Randomness>,
    sort_order: Vec<SortField>,
    entry: Mutex<Option<(LaneId, Marker, Entry)>>,
    /// The manifest list that a commit is going to ask for, with its URI.
    list: Mutex<Option<(String, Bytes)>>,
}

impl IcebergSink {
    /// The table that `catalog` knows, whose files lie at `root` of `store`; `location` is the URI of that root.
    /// Nothing is read or written yet.
    pub fn new(
        catalog: Arc<dyn Catalog>,
        store: Arc<dyn ObjectStore>,
        root: Path,
        location: &str,
        options: IcebergOptions,
    ) -> Self {
        Self {
            catalog,
            files: TableFiles::new(store, Root::new(root.clone(), location)),
            root,
            options,
            randomness: Arc::new(SystemRandomness),
            sort_order: Vec::new(),
            entry: Mutex::default(),
            list: Mutex::default(),
        }
    }

    /// Where the ids of snapshots come from; [`SystemRandomness`] unless this is called.
    #[must_use]
    pub fn with_randomness(mut self, randomness: Arc<dyn Randomness>) -> Self {
        self.randomness = randomness;
        self
    }

    /// The order that a table declares which [`prepare`](TableSink::prepare) creates, so that its files can be known
    /// to be sorted: that of the compactor's [options](crate::Options::sort_order). One that a commit creates declares
    /// that of the commit.
    #[must_use]
    pub fn with_sort_order(mut self, sort_order: Vec<SortField>) -> Self {
        self.sort_order = sort_order;
        self
    }

    fn builder(&self) -> IcebergCommitBuilder {
        IcebergCommitBuilder::new(self.root.clone(), self.files.root().uri(), self.options.clone())
    }

    async fn load(&self) -> Result<Option<CatalogTable>> {
        let table = self.catalog.load().await?;
        if let Some(table) = &table {
            check_append(&table.metadata)?;
        }
        Ok(table)
    }

    /// The version in which a new table would be made.
    fn new_version(&self) -> Result<FormatVersion> {
        FormatVersion::try_from(i64::from(self.options.format_version))
    }

    /// Creates the table before anything is written to it.
    async fn create(&self, columns: &SchemaRef) -> Result<CatalogTable> {
        let uuid = uuid::Builder::from_random_bytes(self.randomness.random_u128().to_be_bytes()).into_uuid();
        let new = self
            .builder()
            .new_table(columns, &self.sort_order, uuid, Timestamp::from_millis(0))?;
        let answer = self.catalog.create(new).await;
        // No answer proves that nothing was created; only reading the table does.
        match (self.load().await, answer) {
            (Ok(Some(table)), _) => Ok(table),
            (_, Err(answer)) => Err(answer),
            (Err(e), Ok(())) => Err(e),
            (Ok(None), Ok(())) => Err(Error::new(
                ErrorKind::Unavailable,
                "table has been created and is not there",
            )),
        }
    }

    /// Files would be written where the catalog does not expect them.
    fn check_location(&self, table: Option<&CatalogTable>) -> Result<()> {
        let Some(location) = table.map(|table| table.metadata.location()) else {
            return Ok(());
        };
        if self.files.root().is_at(location) {
            return Ok(());
        }
        Err(invalid(format!(
            "the catalog has the table elsewhere, open it there. catalog=`{location}` sink=`{}`",
            self.files.root().uri()
        )))
    }

    /// The newest entry of a lane, with its files as far as its snapshot has not been expired.
    async fn newest_entry(&self, table: &TableMetadata, lane: LaneId, marker: Marker) -> Result<Decided> {
        let remembered = self.entry.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let snapshot = entry_snapshot(table, lane, &marker);
        let entry = match (snapshot, remembered) {
            (None, _) => None,
            (Some(snapshot), Some((known_lane, known, entry)))
                if (known_lane, known) == (lane, marker) && entry.version == snapshot.snapshot_id.cast_unsigned() =>
            {
                Some(entry)
            }
            (Some(snapshot), _) => Some(Entry {
                version: snapshot.snapshot_id.cast_unsigned(),
                outputs: match marker.outcome {
                    Outcome::Data => self.added_by(snapshot).await?,
                    Outcome::Void => Vec::new(),
                },
            }),
        };
        if let Some(entry) = &entry {
            let remembered = Some((lane, marker, entry.clone()));
            *self.entry.lock().unwrap_or_else(PoisonError::into_inner) = remembered;
        }
        Ok(Decided { marker, entry })
    }

    async fn manifests(&self, snapshot: &Snapshot) -> Result<Vec<ManifestFile>> {
        let uri = list_of(snapshot)?;
        read_manifest_list(&self.files.read(uri).await?, uri)
    }

    /// Reads the manifest list of the current snapshot for the next commit, unless that has been done.
    async fn read_list(&self, table: &TableMetadata) -> Result<()> {
        let Some(current) = table.current_snapshot() else {
            return Ok(());
        };
        let uri = list_of(current)?;
        let known = |list: &Option<(String, Bytes)>| list.as_ref().is_some_and(|(known, _)| known == uri);
        if known(&self.list.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        let bytes = self.files.read(uri).await?;
        read_manifest_list(&bytes, uri)?;
        *self.list.lock().unwrap_or_else(PoisonError::into_inner) = Some((uri.to_owned(), bytes));
        Ok(())
    }

    /// A manifest list that has been read for this commit; it is of no use to another.
    fn taken_list(&self, uri: &str) -> Option<Bytes> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.take_if(|(known, _)| known == uri).map(|(_, bytes)| bytes)
    }

    /// Before a table is created.
    async fn check_place(&self) -> Result<()> {
        let log = self.root.clone().join("_delta_log");
        refuse_table_of("delta", self.files.store().as_ref(), &log, |_| true).await
    }

    /// The files that a snapshot has added.
    async fn added_by(&self, snapshot: &Snapshot) -> Result<Vec<OutputFile>> {
        let id = snapshot.snapshot_id;
        let mut files = Vec::new();
        for manifest in self.manifests(snapshot).await? {
            let is_new = manifest.added_snapshot_id == id && manifest.added_files_count != Some(0);
            if is_new && manifest.content == ManifestContent::Data {
                self.each_file(&manifest, |status, snapshot_id, file| {
                    if status == EntryStatus::Added && snapshot_id == id {
                        files.push(file);
                    }
                })
                .await?;
            }
        }
        Ok(files)
    }

    /// Whether all `outputs` are in the table as it is now.
    async fn all_live(&self, table: &TableMetadata, outputs: &[OutputFile]) -> Result<bool> {
        let Some(current) = table.current_snapshot() else {
            return Ok(outputs.is_empty());
        };
        let mut wanted: BTreeSet<&str> = outputs.iter().map(|output| output.path.as_str()).collect();
        for manifest in self.manifests(current).await? {
            if wanted.is_empty() {
                break;
            }
            if manifest.content == ManifestContent::Data && manifest.has_live_files() {
                self.each_file(&manifest, |status, _, file| {
                    if status != EntryStatus::Deleted {
                        wanted.remove(file.path.as_str());
                    }
                })
                .await?;
            }
        }
        Ok(wanted.is_empty())
    }

    /// Hands out the files of a manifest: what became of each, in which snapshot, and the file.
    async fn each_file(
        &self,
        manifest: &ManifestFile,
        mut visit: impl FnMut(EntryStatus, i64, OutputFile) + Send,
    ) -> Result<()> {
        let bytes = self.files.read(&manifest.path).await?;
        // Of which partition is not asked: an old spec may be of columns that are gone.
        for entry in ManifestReader::new(&bytes, manifest, &[])? {
            let entry = entry?;
            // What lies in another store is nobody's output here.
            let Ok(path) = self.files.root().path_of(&entry.data_file.file_path) else {
                continue;
            };
            let file = OutputFile {
                path: path.to_string(),
                size: entry.data_file.file_size,
                rows: entry.data_file.record_count,
            };
            visit(entry.status, entry.snapshot_id, file);
        }
        Ok(())
    }

    /// Writes the objects of a commit and publishes it; `None` if another commit was first.
    async fn publish(&self, commit: IcebergCommit) -> Result<Option<Entry>> {
        for (uri, bytes) in &commit.objects {
            self.files.write(uri, bytes.clone()).await?;
        }
        let answer = match self.catalog.commit(&commit.change).await {
            Ok(CatalogOutcome::Committed(_)) => return Ok(Some(commit.entry)),
            Ok(CatalogOutcome::Conflict) => return Ok(None),
            Err(answer) => answer,
        };
        // No answer proves that nothing was changed; only reading the table does.
        let Ok(table) = self.catalog.load().await else {
            return Err(answer);
        };
        let id = commit.entry.version.cast_signed();
        let landed = table.is_some_and(|table| table.metadata.snapshot_by_id(id).is_some());
        if landed { Ok(Some(commit.entry)) } else { Err(answer) }
    }
}

#[async_trait]
impl TableSink for IcebergSink {
    fn canonical_schema(
        &self,
        source: &ArrowSchema,
        table: Option<&ArrowSchema>,
    ) -> Result<SchemaRef, QuarantineReason> {
        canonical_schema(source, self.new_version().unwrap_or_default(), table)
    }

    async fn decided(&self, lane: LaneId) -> Result<TableState> {
        let Some(table) = self.load().await? else {
            return Ok(TableState::default());
        };
        let (table, properties) = (&table.metadata, table.metadata.properties());
        let decided = match marker::marker_of(properties, lane)? {
            Some(marker) => Some(self.newest_entry(table, lane, marker).await?),
            None => None,
        };
        Ok(TableState {
            table: Some(TableInfo {
                uuid: table.uuid().unwrap_or_default().to_owned(),
                version: table.current_snapshot().map_or(0, |s| s.snapshot_id.cast_unsigned()),
                schema: arrow_schema(table.schema()),
                evolution: evolution(table),
            }),
            decided,
            other_lanes: marker::other_lanes(properties, lane),
            superseded: marker::is_superseded(properties, lane),
        })
    }

    /// Reads the list of the current snapshot's manifests, so that one that cannot be read is noticed before anything is
    /// uploaded; a commit on the same snapshot does not read it again.
    ///
    /// Where the catalog [assigns ids](Catalog::assigns_ids), a table that is not there yet is created first, without
    /// rows, and its ids are read back: files are written with those. It stays if nothing is ever committed to it. One
    /// that such a catalog has at another location than this sink's is refused as `Invalid`.
    async fn prepare(&self, _lane: LaneId, schema: &SchemaRef, evolve: Evolve) -> Result<TableLayout> {
        let mut table = self.load().await?;
        match &table {
            Some(table) => self.read_list(&table.metadata).await?,
            None => self.check_place().await?,
        }
        if self.catalog.assigns_ids() {
            if table.is_none() {
                table = Some(self.create(schema).await?);
            }
            self.check_location(table.as_ref())?;
        }
        let (columns, partitioner) = match table {
            Some(table) => {
                let evolved = evolved(&table.metadata, schema, evolve, table.metadata.last_updated())?;
                let table = evolved.map_or(table.metadata, |evolved| Arc::new(evolved.table));
                fit_columns(table.schema(), schema)?;
                (arrow_schema(table.schema()), SpecPartitioner::of(&table)?)
            }
            None => {
                self.new_version()?;
                (arrow_schema(&new_schema(schema)?), None)
            }
        };
        Ok(TableLayout {
            store: Arc::clone(self.files.store()),
            data_dir: self.files.data_dir(),
            metadata_dir: Some(self.files.metadata_dir()),
            schema: columns,
            partitioner: partitioner.map(|partitioner| Arc::new(partitioner) as Arc<dyn Partitioner>),
        })
    }

    async fn commit(&self, commit: &TableCommit) -> Result<CommitOutcome> {
        let mut builder = self.builder().with_base(self.load().await?);
        let mut races = 0;
        let mut commit_id = self.randomness.random_u128();
        while races <= self.options.max_commit_races {
            match builder.build(commit, uuid::Uuid::from_u128(commit_id))? {
                IcebergCommitStep::Diverged { found } => return Ok(CommitOutcome::Diverged { found }),
                IcebergCommitStep::Outdated { reason } => return Ok(CommitOutcome::Outdated { reason }),
                IcebergCommitStep::Decided(marker) => {
                    let Some(table) = builder.base() else {
                        return Err(Error::new(ErrorKind::Internal, "a seq is decided in no table"));
                    };
                    let decided = self.newest_entry(&table.metadata, commit.lane, marker).await?;
                    return Ok(CommitOutcome::Decided(decided));
                }
                IcebergCommitStep::Read(uris) => {
                    for uri in uris {
                        let bytes = match self.taken_list(&uri) {
                            Some(bytes) => bytes,
                            None => self.files.read(&uri).await?,
                        };
                        builder = builder.with_object(uri, bytes);
                    }
                }
                IcebergCommitStep::Create(table) => {
                    self.check_place().await?;
                    self.catalog.create(*table).await?;
                    builder = builder.with_base(self.load().await?);
                    races += 1;
                }
                IcebergCommitStep::Write(next) => {
                    if let Some(entry) = self.publish(*next).await? {
                        return Ok(CommitOutcome::Committed(entry));
                    }
                    // Names of another commit are never used again.
                    commit_id = self.randomness.random_u128();
                    builder = builder.with_base(self.load().await?);
                    races += 1;
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
        let table = &table.metadata;
        let expected = Marker::from(decision);
        match marker::marker_of(table.properties(), decision.lane)? {
            Some(marker) if marker == expected || marker.seq > decision.seq => {}
            Some(marker) if marker.seq == decision.seq => {
                return refuted(format!("the table's marker of seq {} is another one", decision.seq));
            }
            found => {
                let found = found.map_or_else(|| "none".to_owned(), |marker| marker.seq.to_string());
                return refuted(format!(
                    "the table knows nothing of seq {}, its newest entry of the lane is {found}",
                    decision.seq
                ));
            }
        }
        if let Some(snapshot) = entry_snapshot(table, decision.lane, &expected) {
            let id = snapshot.snapshot_id;
            if is_in_history(table, id) {
                let added = self.added_by(snapshot).await?;
                let paths = |outputs: &[OutputFile]| outputs.iter().map(|o| o.path.clone()).collect::<BTreeSet<_>>();
                if paths(&added) == paths(&decision.outputs) {
                    return Ok(Confirmation::Confirmed);
                }
                return refuted(format!(
                    "snapshot {id} holds other files than those decided for seq {}",
                    decision.seq
                ));
            }
        }
        // The snapshot was expired, or the table was set back: what was put in must still be there.
        if self.all_live(table, &decision.outputs).await? && !was_set_back(table, decision, &expected) {
            return Ok(Confirmation::Confirmed);
        }
        refuted(format!(
            "seq {} is not in the table's history, and not all its files are in the table",
            decision.seq
        ))
    }
}

/// Where the manifests of a snapshot are listed.
fn list_of(snapshot: &Snapshot) -> Result<&str> {
    snapshot.manifest_list.as_deref().ok_or_else(|| {
        let id = snapshot.snapshot_id;
        invalid(format!("snapshot has no manifest list. snapshot=`{id}`"))
    })
}

/// Whether an entry without files is known not to be in the table: its snapshot is there, beside the history.
fn was_set_back(table: &TableMetadata, decision: &Decision, marker: &Marker) -> bool {
    decision.outputs.is_empty() && entry_snapshot(table, decision.lane, marker).is_some()
}
