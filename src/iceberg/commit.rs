//! From a table's state and a change to the files of the next snapshot. Pure: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::Schema as ArrowSchema;
use bytes::Bytes;
use object_store::path::Path;
use uuid::Uuid;

use super::arrow_schema::{fit_columns, new_schema};
use super::catalog::{CatalogChange, CatalogTable};
use super::datum::Datum;
use super::error::invalid;
use super::evolve::{Evolved, evolved};
use super::files::Root;
use super::gate::check_append;
use super::manifest::{ManifestDataFile, ManifestHeader, ManifestReader, ManifestWriter};
use super::manifest_list::{ManifestFile, ManifestList, read_manifest_list};
use super::manifest_merge::{ManifestBin, ManifestMergeConfig, merge_manifest_entries, plan_manifest_merge};
use super::marker;
use super::metadata::{NewTable, TableMetadata};
use super::metrics::MetricsConfig;
use super::options::IcebergOptions;
use super::partition::PartitionSpec;
use super::partition_column::PartitionColumn;
use super::partitioner::SpecPartitioner;
use super::snapshot::{MAIN_BRANCH, Snapshot, SnapshotRef};
use super::sorted::{new_sort_order, order_of_files};
use super::summary::append_summary;
use super::types::Type;
use super::update::{TableRequirement, TableUpdate};
use super::version::FormatVersion;
use crate::data_file::DataFile;
use crate::error::Result;
use crate::options::SortField;
use crate::partitioning::Partitioner;
use crate::sink::{Entry, LanesInTable, Marker, OutputFile, Settled, TableChange, TableCommit};
use crate::time::Timestamp;

/// Makes the next snapshot of an Iceberg table: state and change in; manifest, manifest list and the conditional
/// change of the metadata out.
///
/// Does no I/O: it says which objects it wants to have [read](IcebergCommitStep::Read), is called again with them, and
/// gives what is to be [written](IcebergCommitStep::Write). A commit that loses against another one is made anew from
/// the table as it is then; its data files stay as they are.
///
/// Whoever has a [`Catalog`](super::Catalog) lets it create the table and hands it the
/// [change](IcebergCommit::change). By itself, for a table that is its own catalog:
///
/// ```
/// use std::sync::Arc;
///
/// use firnline::arrow::datatypes::{DataType, Field, Schema};
/// use firnline::iceberg::{
///     CatalogTable, IcebergCommitBuilder, IcebergCommitStep, IcebergOptions, TableMetadata,
/// };
/// use firnline::object_store::path::Path;
/// use firnline::{AttemptId, DataFile, Evolve, LaneId, PlanHash, Seq, TableChange, TableCommit, Timestamp};
///
/// let commit = TableCommit {
///     lane: LaneId::from_u128(1),
///     seq: Seq::new(1),
///     plan_hash: Some(PlanHash::of(b"plan")),
///     attempt: AttemptId::from_u64(7),
///     base: None,
///     now: Timestamp::from_millis(1_700_000_000_000),
///     new_table_uuid: "6a92d155-a59b-42ee-bd4b-b4ec7fd1f875".parse()?,
///     sort_order: vec![],
///     change: TableChange::Append {
///         schema: Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)])),
///         evolve: Evolve::default(),
///         files: vec![DataFile {
///             path: "tables/users/data/a.parquet".into(),
///             size: 1_024,
///             rows: 3,
///             columns: vec![],
///             split_offsets: vec![4],
///             sorted: true,
///             partition: None,
///         }],
///     },
/// };
/// let location = "s3://bucket/tables/users";
/// let builder = IcebergCommitBuilder::new(Path::from("tables/users"), location, IcebergOptions::default());
///
/// // There is no table yet. Put its first version, only if nothing is there, and start from it.
/// let IcebergCommitStep::Create(new) = builder.build(&commit, "7d0f4b9e-1f5c-4a53-8f0e-3c1f5f0a9b11".parse()?)? else {
///     panic!("without a base there is no table")
/// };
/// let table = CatalogTable {
///     metadata: Arc::new(TableMetadata::create(*new)?),
///     metadata_location: format!("{location}/metadata/v1.metadata.json"),
/// };
/// assert!(table.metadata.encode()?.starts_with(b"{")); // the bytes to be put there
///
/// // A table with snapshots would have its manifest list read first.
/// let builder = builder.with_base(Some(table));
/// let IcebergCommitStep::Write(next) = builder.build(&commit, "0c2f5a52-93b5-4a0b-9c57-cf5c9a0d3a5e".parse()?)? else {
///     panic!("nothing stands in the way of a first commit")
/// };
///
/// // Manifest and manifest list have names that nobody else has: write them where they say.
/// for (uri, _bytes) in &next.objects {
///     assert!(uri.starts_with("s3://bucket/tables/users/metadata/") && uri.ends_with(".avro"));
/// }
/// // Then put what the change makes of the metadata at `v2.metadata.json`, only if nothing is there: that publishes
/// // the snapshot. If something is, load the table again, and build again with another id.
/// let metadata = next.change.apply()?;
/// let snapshot = metadata.current_snapshot().map(|snapshot| snapshot.snapshot_id.cast_unsigned());
/// assert_eq!(snapshot, Some(next.entry.version));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct IcebergCommitBuilder {
    root: Root,
    options: IcebergOptions,
    base: Option<CatalogTable>,
    objects: BTreeMap<String, Bytes>,
}

/// What is to be done about a change.
#[derive(Clone, Debug)]
#[must_use]
pub enum IcebergCommitStep {
    /// There is no table: create this one, and start from it.
    Create(Box<NewTable>),
    /// The table already has an entry of this seq or a later one.
    Decided(Marker),
    /// The table's marker is not the base of the change, or the table belongs to another lane.
    Diverged {
        /// The marker.
        found: Option<Marker>,
    },
    /// The files were written for other columns or partitions than the table has: they have to be written again.
    Outdated {
        /// What does not fit.
        reason: String,
    },
    /// Read these objects, by URI, and hand them to [`with_object`](IcebergCommitBuilder::with_object).
    Read(Vec<String>),
    /// Write the objects, then hand the change to the table's catalog.
    Write(Box<IcebergCommit>),
}

/// A snapshot to be published.
#[derive(Clone, Debug)]
pub struct IcebergCommit {
    /// Objects to be written first, by URI. Their names are new.
    pub objects: Vec<(String, Bytes)>,
    /// The change of the table's metadata.
    pub change: CatalogChange,
    /// The entry that the table holds once the change is in.
    pub entry: Entry,
}

impl IcebergCommitBuilder {
    /// A builder for the table at `root` of a store, whose URI is `location`.
    pub fn new(root: Path, location: &str, options: IcebergOptions) -> Self {
        Self {
            root: Root::new(root, location),
            options,
            base: None,
            objects: BTreeMap::new(),
        }
    }

    /// Starts from the table as it is now; `None` if there is none.
    #[must_use]
    pub fn with_base(mut self, base: Option<CatalogTable>) -> Self {
        self.base = base;
        self
    }

    /// Adds an object that has been asked for. Objects never change, so those of a commit that was lost are of use
    /// to the next.
    #[must_use]
    pub fn with_object(mut self, uri: String, bytes: Bytes) -> Self {
        self.objects.insert(uri, bytes);
        self
    }

    /// The table that the next snapshot is built on.
    pub fn base(&self) -> Option<&CatalogTable> {
        self.base.as_ref()
    }

    /// Decides what is to be done about `commit`, and builds it. `commit_id` is random, and another one for every
    /// snapshot that is tried: the snapshot's id and the names of its files are made of it.
    ///
    /// # Errors
    ///
    /// `Unsupported` or `Invalid` naming what is in the way: nothing of `commit` can be put in.
    pub fn build(&self, commit: &TableCommit, commit_id: Uuid) -> Result<IcebergCommitStep> {
        let Some(base) = &self.base else {
            return self.without_table(commit);
        };
        let table = &base.metadata;
        if let Some(step) = settled(table, commit)? {
            return Ok(step);
        }
        check_append(table)?;
        let evolved = match &commit.change {
            TableChange::Append { schema, evolve, .. } => evolved(table, schema, *evolve, commit.now)?,
            TableChange::Adopt { .. } | TableChange::Void { .. } => None,
        };
        let table = evolved
            .as_ref()
            .map_or_else(|| table.as_ref(), |evolved| &evolved.table);
        let files = commit.files();
        let partitioner = SpecPartitioner::of(table)?;
        if let Some(reason) = misfit(table, partitioner.as_ref(), &commit.change)? {
            return Ok(IcebergCommitStep::Outdated { reason });
        }
        let current = match table.current_snapshot().map(|snapshot| &snapshot.manifest_list) {
            None => Vec::new(),
            Some(None) => return Err(invalid("the table's current snapshot has no manifest list")),
            Some(Some(uri)) => match self.objects.get(uri) {
                None => return Ok(IcebergCommitStep::Read(vec![uri.clone()])),
                Some(bytes) => read_manifest_list(bytes, uri)?,
            },
        };
        let naming = Naming::new(table, commit, commit_id);
        let mut manifests = NewManifests {
            builder: self,
            table,
            naming: &naming,
            written: BTreeMap::new(),
        };
        let merged = match manifests.with(commit, current)? {
            Ok(merged) => merged,
            Err(uris) => return Ok(IcebergCommitStep::Read(uris)),
        };
        let mut objects: Vec<(String, Bytes)> = manifests.written.into_iter().collect();
        let list_uri = self.metadata_uri(&naming.name("snap.avro"));
        let parent = table.current_snapshot();
        let list = ManifestList {
            format_version: table.format_version().number(),
            snapshot_id: naming.id,
            parent_snapshot_id: parent.map(|parent| parent.snapshot_id),
            sequence_number: table.next_sequence_number(),
            first_row_id: table.next_row_id().and_then(|id| id.try_into().ok()).unwrap_or(0),
            manifests: merged,
        }
        .write()?;
        objects.push((list_uri.clone(), list.bytes.into()));
        let is_v3 = table.format_version() >= FormatVersion::V3;
        let new = Snapshot {
            snapshot_id: naming.id,
            parent_snapshot_id: parent.map(|parent| parent.snapshot_id),
            sequence_number: table.next_sequence_number(),
            timestamp_ms: table.next_timestamp(commit.now),
            manifest_list: Some(list_uri),
            summary: self.summary(table, commit, files)?,
            schema_id: Some(table.schema().schema_id),
            first_row_id: table.next_row_id().filter(|_| is_v3),
            added_rows: is_v3.then(|| i64::try_from(list.assigned_rows).unwrap_or(i64::MAX)),
            ..Snapshot::default()
        };
        Ok(IcebergCommitStep::Write(Box::new(IcebergCommit {
            objects,
            entry: Entry {
                version: naming.id.cast_unsigned(),
                outputs: files.iter().map(OutputFile::from).collect(),
            },
            change: change(base, commit, evolved, new)?,
        })))
    }

    fn without_table(&self, commit: &TableCommit) -> Result<IcebergCommitStep> {
        let (TableChange::Append { schema, .. } | TableChange::Void { schema }) = &commit.change else {
            return Err(invalid("there is no table to adopt"));
        };
        if commit.base.is_some() {
            return Ok(IcebergCommitStep::Diverged { found: None });
        }
        let table = self.new_table(schema, &commit.sort_order, commit.new_table_uuid, commit.now)?;
        Ok(IcebergCommitStep::Create(Box::new(table)))
    }

    /// What a table for these columns is created with.
    pub(super) fn new_table(
        &self,
        columns: &ArrowSchema,
        sort_order: &[SortField],
        uuid: Uuid,
        now: Timestamp,
    ) -> Result<NewTable> {
        let schema = new_schema(columns)?;
        Ok(NewTable {
            uuid,
            location: self.root.uri().to_owned(),
            format_version: FormatVersion::try_from(i64::from(self.options.format_version))?,
            sort_order: new_sort_order(&schema, sort_order),
            schema,
            partition_spec: PartitionSpec::unpartitioned(),
            properties: self.options.properties.clone(),
            now,
        })
    }

    fn metadata_uri(&self, name: &str) -> String {
        format!("{}/metadata/{name}", self.root.uri())
    }

    fn summary(
        &self,
        table: &TableMetadata,
        commit: &TableCommit,
        files: &[DataFile],
    ) -> Result<BTreeMap<String, String>> {
        let parent = table.current_snapshot().map(|snapshot| &snapshot.summary);
        let mut summary = append_summary(parent, files, partitions(files));
        summary.insert("engine-name".to_owned(), self.options.engine_name.clone());
        summary.insert("engine-version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        summary.insert(marker::marker_key(commit.lane), marker::marker_text(&commit.marker()?));
        Ok(summary)
    }
}

/// The change of the metadata that adds a snapshot and moves marker and reference with it, and the schema if that is
/// another one.
fn change(
    base: &CatalogTable,
    commit: &TableCommit,
    evolved: Option<Evolved>,
    snapshot: Snapshot,
) -> Result<CatalogChange> {
    let table = &base.metadata;
    let mut properties = BTreeMap::new();
    // A lane that has been adopted before keeps its marker.
    let is_adopted = matches!(commit.change, TableChange::Adopt { .. })
        && marker::marker_of(table.properties(), commit.lane)?.is_some();
    if !is_adopted {
        let text = marker::marker_text(&commit.marker()?);
        properties.insert(marker::marker_key(commit.lane), text);
    }
    if let TableChange::Adopt { supersedes } = &commit.change {
        let old = supersedes.iter().filter(|lane| **lane != commit.lane);
        properties.extend(old.map(|lane| (marker::superseded_key(*lane), "true".to_owned())));
    }
    let main = table.refs().get(MAIN_BRANCH);
    let mut requirements = vec![
        TableRequirement::AssertTableUuid {
            uuid: table.uuid().unwrap_or_default().to_owned(),
        },
        TableRequirement::AssertRefSnapshotId {
            reference: MAIN_BRANCH.to_owned(),
            snapshot_id: main.map(|main| main.snapshot_id),
        },
    ];
    // The tuples of its files are of this spec.
    if commit.files().iter().any(|file| file.partition.is_some()) {
        let default_spec_id = table.default_spec().spec_id;
        requirements.push(TableRequirement::AssertDefaultSpecId { default_spec_id });
    }
    let reference = SnapshotRef {
        snapshot_id: snapshot.snapshot_id,
        ..main
            .cloned()
            .unwrap_or_else(|| SnapshotRef::branch(snapshot.snapshot_id))
    };
    let mut updates = Vec::new();
    if let Some(evolved) = evolved {
        requirements.extend(evolved.requirements);
        updates.extend(evolved.updates);
    }
    updates.extend([
        TableUpdate::AddSnapshot { snapshot },
        TableUpdate::SetSnapshotRef {
            ref_name: MAIN_BRANCH.to_owned(),
            reference,
        },
        TableUpdate::SetProperties { updates: properties },
    ]);
    Ok(CatalogChange {
        base: base.clone(),
        requirements,
        updates,
        now: commit.now,
    })
}

/// Whether the marker alone says how `commit` ends.
fn settled(table: &TableMetadata, commit: &TableCommit) -> Result<Option<IcebergCommitStep>> {
    let properties = table.properties();
    let lanes = LanesInTable {
        marker: marker::marker_of(properties, commit.lane)?,
        others: marker::other_lanes(properties, commit.lane),
        is_superseded: &|lane| marker::is_superseded(properties, lane),
    };
    Ok(lanes.settle(commit).map(|settled| match settled {
        Settled::Decided(marker) => IcebergCommitStep::Decided(marker),
        Settled::Diverged(found) => IcebergCommitStep::Diverged { found },
    }))
}

/// Why files cannot be added to a table that is there; those of a void have no need to fit.
fn misfit(
    table: &TableMetadata,
    partitioner: Option<&SpecPartitioner>,
    change: &TableChange,
) -> Result<Option<String>> {
    let TableChange::Append { schema, files, .. } = change else {
        return Ok(None);
    };
    fit_columns(table.schema(), schema)?;
    let wanted = partitioner.map(Partitioner::id);
    for file in files {
        let found = file.partition.as_ref().map(|partition| partition.spec.as_str());
        if found != wanted {
            return Ok(Some(format!(
                "file is of another partition spec than the table. file=`{}` spec=`{found:?}` table=`{wanted:?}`",
                file.path
            )));
        }
        for column in &file.columns {
            let field = table.schema().field_by_path(&column.path);
            if column.field_id.is_none() || field.map(|field| field.id) != column.field_id {
                let (path, id) = (column.path.join("."), column.field_id);
                return Ok(Some(format!(
                    "column has another id in the table. file=`{}` column=`{path}` id=`{id:?}` table=`{:?}`",
                    file.path,
                    field.map(|field| field.id)
                )));
            }
        }
    }
    Ok(None)
}

fn header(table: &TableMetadata, spec: &PartitionSpec, snapshot_id: i64) -> Result<ManifestHeader> {
    let schema = table.schema();
    let fields = serde_json::to_value(spec).map_err(|e| invalid(format!("partition spec cannot be written: {e}")))?;
    Ok(ManifestHeader {
        format_version: table.format_version().number(),
        snapshot_id,
        schema: schema.to_json().to_string(),
        schema_id: schema.schema_id,
        partition_spec: fields.get("fields").map(ToString::to_string).unwrap_or_default(),
        partition_spec_id: spec.spec_id,
        columns: columns(table, spec)?,
    })
}

/// The parts of a spec's partition tuple.
fn columns(table: &TableMetadata, spec: &PartitionSpec) -> Result<Vec<PartitionColumn>> {
    let fields = spec.partition_type(table.schema())?.fields;
    let columns = fields.into_iter().map(|field| match field.field_type {
        Type::Primitive(primitive) => Ok(PartitionColumn {
            field_id: field.id,
            name: field.name,
            primitive,
        }),
        other => Err(invalid(format!(
            "not the type of a partition. field=`{}` type=`{other:?}`",
            field.name
        ))),
    });
    columns.collect()
}

/// The partition tuple of a file that fits the table's spec.
fn tuple(file: &DataFile, columns: &[PartitionColumn]) -> Result<Vec<Option<Datum>>> {
    let Some(partition) = &file.partition else {
        return Ok(vec![None; columns.len()]);
    };
    let wrong = || invalid(format!("file has no such partition. file=`{}`", file.path));
    if partition.values.len() != columns.len() {
        return Err(wrong());
    }
    let values = columns
        .iter()
        .zip(&partition.values)
        .map(|(column, value)| match value {
            None => Ok(None),
            Some(value) => column.of_file(value).map(Some).ok_or_else(wrong),
        });
    values.collect()
}

/// How many partitions files belong to.
fn partitions(files: &[DataFile]) -> usize {
    // By their text, in which every value is told apart, NaN too.
    let partitions: BTreeSet<String> = files.iter().map(|file| format!("{:?}", file.partition)).collect();
    partitions.len()
}

/// The manifests that a commit writes.
struct NewManifests<'a> {
    builder: &'a IcebergCommitBuilder,
    table: &'a TableMetadata,
    naming: &'a Naming,
    /// Their objects, by URI.
    written: BTreeMap<String, Bytes>,
}

impl NewManifests<'_> {
    /// The manifests of the next snapshot, newest first: one of the files that it adds, and `current`, of which some
    /// become one as the table's properties say. Or what has to be read before.
    fn with(
        &mut self,
        commit: &TableCommit,
        current: Vec<ManifestFile>,
    ) -> Result<Result<Vec<ManifestFile>, Vec<String>>> {
        let mut manifests = current;
        if !commit.files().is_empty() {
            manifests.insert(0, self.added(commit)?);
        }
        let config = ManifestMergeConfig::from_properties(self.table.properties());
        let bins: Vec<_> = if commit.files().is_empty() {
            // An empty append is to be cheap; the next one with files merges.
            manifests.into_iter().map(ManifestBin::Keep).collect()
        } else {
            plan_manifest_merge(manifests, &config)
                .into_iter()
                .flat_map(|bin| self.mergeable(bin))
                .collect()
        };
        let missing: Vec<String> = bins
            .iter()
            .filter_map(|bin| match bin {
                ManifestBin::Keep(_) => None,
                ManifestBin::Merge(bin) => Some(bin),
            })
            .flatten()
            .filter(|manifest| self.object(&manifest.path).is_none())
            .map(|manifest| manifest.path.clone())
            .collect();
        if !missing.is_empty() {
            return Ok(Err(missing));
        }
        let mut manifests = Vec::with_capacity(bins.len());
        for (number, bin) in bins.into_iter().enumerate() {
            manifests.push(match bin {
                ManifestBin::Keep(manifest) => manifest,
                ManifestBin::Merge(bin) => self.merged(&bin, number + 1)?,
            });
        }
        Ok(Ok(manifests))
    }

    /// A bin as it can be merged: manifests of a spec whose columns are gone stay as they are.
    fn mergeable(&self, bin: ManifestBin) -> Vec<ManifestBin> {
        let ManifestBin::Merge(manifests) = bin else {
            return vec![bin];
        };
        let spec = manifests.first().and_then(|first| self.spec(first.partition_spec_id));
        if spec.is_none_or(|spec| columns(self.table, spec).is_ok()) {
            return vec![ManifestBin::Merge(manifests)];
        }
        manifests.into_iter().map(ManifestBin::Keep).collect()
    }

    fn spec(&self, id: i32) -> Option<&PartitionSpec> {
        self.table.partition_specs().iter().find(|spec| spec.spec_id == id)
    }

    /// The manifest of the files that the commit adds.
    fn added(&mut self, commit: &TableCommit) -> Result<ManifestFile> {
        let (schema, spec) = (self.table.schema(), self.table.default_spec());
        let header = header(self.table, spec, self.naming.id)?;
        let columns = header.columns.clone();
        let mut writer = ManifestWriter::new(header)?;
        let metrics = MetricsConfig::from_properties(self.table.properties(), schema);
        let sort_order_id = order_of_files(self.table, &commit.sort_order);
        for file in commit.files() {
            let uri = self.builder.root.uri_of(&file.path)?;
            writer.add(ManifestDataFile {
                partition: tuple(file, &columns)?,
                sort_order_id: sort_order_id.filter(|_| file.sorted),
                ..ManifestDataFile::from_parquet(file, uri, schema, &metrics)
            })?;
        }
        Ok(self.finish(writer, 0))
    }

    /// One manifest in the place of several.
    fn merged(&mut self, bin: &[ManifestFile], number: usize) -> Result<ManifestFile> {
        let spec_id = bin.first().map(|manifest| manifest.partition_spec_id);
        let spec = spec_id.and_then(|id| self.spec(id)).ok_or_else(|| {
            invalid(format!(
                "manifest names a partition spec that is not there. spec=`{spec_id:?}`"
            ))
        })?;
        let header = header(self.table, spec, self.naming.id)?;
        let columns = header.columns.clone();
        let mut writer = ManifestWriter::new(header)?;
        for manifest in bin {
            let bytes = self.object(&manifest.path).cloned().unwrap_or_default();
            let entries = ManifestReader::new(&bytes, manifest, &columns)?;
            merge_manifest_entries(&mut writer, entries, self.naming.id)?;
            // What this commit has made itself is nowhere else.
            self.written.remove(&manifest.path);
        }
        Ok(self.finish(writer, number))
    }

    fn finish(&mut self, writer: ManifestWriter, number: usize) -> ManifestFile {
        let uri = self.builder.metadata_uri(&self.naming.name(&format!("m{number}.avro")));
        let (bytes, manifest) = writer.finish(uri.clone());
        self.written.insert(uri, bytes.into());
        manifest
    }

    fn object(&self, uri: &str) -> Option<&Bytes> {
        self.written.get(uri).or_else(|| self.builder.objects.get(uri))
    }
}

/// The id of a snapshot, and the names of its files.
struct Naming {
    id: i64,
    stem: String,
}

impl Naming {
    fn new(table: &TableMetadata, commit: &TableCommit, commit_id: Uuid) -> Self {
        let (high, low) = commit_id.as_u64_pair();
        let mut id = ((high ^ low) >> 1).cast_signed().max(1);
        while table.snapshot_by_id(id).is_some() {
            id = id.checked_add(1).unwrap_or(1);
        }
        let stem = format!("{}-{}-{}-{id}", commit.lane, commit.seq, commit.attempt);
        Self { id, stem }
    }

    fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.stem)
    }
}
