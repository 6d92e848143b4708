//! From a table's state and a change to the bytes of the next commit. Pure: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use object_store::path::Path;
use parquet::arrow::ArrowSchemaConverter;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::action::{Action, Add, CommitInfo, decode_path, encode_path};
use super::create::new_table;
use super::error::invalid;
use super::evolve::{Followed, follow};
use super::gate::check_append;
use super::marker;
use super::options::DeltaOptions;
use super::partitioner::ColumnPartitioner;
use super::row_ids;
use super::snapshot::Snapshot;
use super::stats::file_stats;
use super::stats_columns::StatsColumns;
use crate::data_file::DataFile;
use crate::error::Result;
use crate::ids::Sha256Digest;
use crate::partitioning::{Partitioner, stored};
use crate::schema::{has_stored_names, with_stored_names};
use crate::sink::{Entry, LanesInTable, Marker, OutputFile, Settled, TableChange, TableCommit};

/// Makes the next commit of a Delta table: state and change in, bytes and their place out.
///
/// The caller puts the bytes where [`DeltaCommitFile::path`] says, **only if nothing is there**. If
/// something is, it is another commit of that version: hand it to [`rebase`](Self::rebase) and
/// [`build`](Self::build) again, unless [`DeltaCommitFile::is_same_commit`] says that it is this very one.
///
/// ```
/// use std::sync::Arc;
///
/// use firnline::arrow::datatypes::{DataType, Field, Schema};
/// use firnline::delta::{DeltaCommitBuilder, DeltaCommitStep, DeltaOptions};
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
///
/// // There is no table yet, so the builder has no base.
/// let builder = DeltaCommitBuilder::new(Path::from("tables/users"), DeltaOptions::default());
/// let DeltaCommitStep::Put(file) = builder.build(&commit)? else {
///     panic!("nothing stands in the way of a first commit")
/// };
/// assert_eq!(file.path().as_ref(), "tables/users/_delta_log/00000000000000000000.json");
/// assert!(file.bytes().starts_with(b"{\"commitInfo\":"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct DeltaCommitBuilder {
    root: Path,
    options: DeltaOptions,
    base: Option<Snapshot>,
}

/// What is to be done about a change.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum DeltaCommitStep {
    /// The table already has an entry of this seq or a later one.
    Decided(Marker),
    /// The table's marker is not the base of the change, or the table belongs to another lane.
    Diverged {
        /// The marker.
        found: Option<Marker>,
    },
    /// The files were written for other partitions than the table has: they have to be written again.
    Outdated {
        /// What does not fit.
        reason: String,
    },
    /// Put this, if nothing is there.
    Put(DeltaCommitFile),
}

/// A commit to be put.
#[derive(Clone, Debug, PartialEq)]
pub struct DeltaCommitFile {
    version: u64,
    path: Path,
    txn_id: Uuid,
    actions: Vec<Action>,
    bytes: Bytes,
    entry: Entry,
}

impl DeltaCommitFile {
    /// The version of the table that this makes.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Where it is to be put.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is to be put: one JSON action a line.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The entry that the table holds once this has been put.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(super) fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// Whether `found`, read from where this was to be put, is this commit: it has landed, whatever the
    /// store said.
    pub fn is_same_commit(&self, found: &[Action]) -> bool {
        super::action::own_txn_id(found, self.txn_id)
    }
}

impl DeltaCommitBuilder {
    /// A builder for a table that is not there yet, at `root`.
    pub fn new(root: Path, options: DeltaOptions) -> Self {
        Self {
            root,
            options,
            base: None,
        }
    }

    /// Starts from the state of a table that is there.
    #[must_use]
    pub fn with_base(mut self, base: Option<Snapshot>) -> Self {
        self.base = base;
        self
    }

    /// The state that the next commit is built on.
    pub fn base(&self) -> Option<&Snapshot> {
        self.base.as_ref()
    }

    /// Takes in the commit of another writer that has won the version which was to be put.
    ///
    /// Appends conflict with no change of data; whether schema, features and marker still allow the change
    /// is asked anew by [`build`](Self::build).
    ///
    /// # Errors
    ///
    /// `Invalid` or `Unsupported` when the table is not what it should be any more.
    pub fn rebase(&mut self, winner: &[Action]) -> Result<()> {
        match &mut self.base {
            Some(base) => base.apply(winner),
            none => {
                *none = Some(Snapshot::from_actions(0, winner)?);
                Ok(())
            }
        }
    }

    /// Decides what is to be done about `commit`, and builds it.
    ///
    /// # Errors
    ///
    /// `Unsupported` or `Invalid` naming what is in the way: nothing of `commit` can be put in.
    pub fn build(&self, commit: &TableCommit) -> Result<DeltaCommitStep> {
        if let Some(base) = &self.base {
            if let Some(step) = Self::settled(base, commit)? {
                return Ok(step);
            }
            check_append(base, &self.options)?;
            // A void adds nothing that would have to fit.
            if let TableChange::Append { schema, evolve, files } = &commit.change {
                let followed = follow(base, schema, *evolve)?;
                if let Some(reason) = outdated(base, &followed.files, files)? {
                    return Ok(DeltaCommitStep::Outdated { reason });
                }
                return self.file(commit, Some(followed)).map(DeltaCommitStep::Put);
            }
        } else if commit.base.is_some() && !matches!(commit.change, TableChange::Adopt { .. }) {
            return Ok(DeltaCommitStep::Diverged { found: None });
        }
        self.file(commit, None).map(DeltaCommitStep::Put)
    }

    /// Whether the marker alone says how `commit` ends.
    fn settled(base: &Snapshot, commit: &TableCommit) -> Result<Option<DeltaCommitStep>> {
        let lanes = LanesInTable {
            marker: base.marker(commit.lane)?,
            others: base.other_lanes(commit.lane),
            is_superseded: &|lane| base.is_superseded(lane),
        };
        Ok(lanes.settle(commit).map(|settled| match settled {
            Settled::Decided(marker) => DeltaCommitStep::Decided(marker),
            Settled::Diverged(found) => DeltaCommitStep::Diverged { found },
        }))
    }

    /// The commit, of files for whose columns the table is `followed`.
    fn file(&self, commit: &TableCommit, followed: Option<Followed>) -> Result<DeltaCommitFile> {
        let version = self.base.as_ref().map_or(0, |base| base.version().saturating_add(1));
        let txn_id = commit_txn_id(commit);
        let marker = commit.marker()?;
        let files = commit.files();
        let schema = match &commit.change {
            TableChange::Adopt { .. } => None,
            TableChange::Append { schema, .. } | TableChange::Void { schema } => Some(schema),
        };
        let mut actions = Vec::with_capacity(files.len() + 8);
        let (table_schema, stats) = match (&self.base, schema) {
            (Some(base), _) => {
                let (metadata, table) = match followed {
                    Some(followed) => (followed.metadata, followed.table),
                    None => (None, Arc::clone(base.schema())),
                };
                actions.extend(metadata.map(Action::MetaData));
                (table, StatsColumns::of(base))
            }
            (None, Some(schema)) => {
                let (protocol, metadata) = new_table(schema, commit, &self.options)?;
                let created = [Action::Protocol(protocol), Action::MetaData(metadata)];
                let created_table = Snapshot::from_actions(0, &created)?;
                check_append(&created_table, &self.options)?;
                actions.extend(created);
                (created_table.schema().clone(), StatsColumns::of(&created_table))
            }
            (None, None) => return Err(invalid("there is no table to adopt")),
        };
        actions.extend(self.txns(commit, &marker)?.into_iter().map(Action::Txn));
        let adds = self.adds(commit, files, &table_schema, &stats)?;
        let (adds, row_ids) = match &self.base {
            Some(base) => row_ids::assigned(base, version, adds, files)?,
            None => (adds, None),
        };
        actions.extend(row_ids.map(Action::DomainMetadata));
        let outputs = files.iter().map(OutputFile::from).collect();
        actions.extend(adds.into_iter().map(Action::Add));
        let info = self.commit_info(commit, &marker, txn_id, files);
        actions.insert(0, Action::CommitInfo(info));
        Ok(DeltaCommitFile {
            version,
            path: commit_path(&self.root, version),
            txn_id,
            bytes: Action::encode_commit(&actions)?.into(),
            actions,
            entry: Entry { version, outputs },
        })
    }

    fn txns(&self, commit: &TableCommit, marker: &Marker) -> Result<Vec<super::action::Txn>> {
        let TableChange::Adopt { supersedes } = &commit.change else {
            return marker::entry_txns(commit.lane, marker, commit.now)
                .ok_or_else(|| invalid(format!("seq is too large. seq=`{}`", commit.seq)));
        };
        let mut txns = Vec::new();
        // A lane that has been adopted before keeps its marker.
        let adopted = self
            .base
            .as_ref()
            .map(|base| base.marker(commit.lane))
            .transpose()?
            .flatten();
        if adopted.is_none() {
            txns.extend(marker::entry_txns(commit.lane, marker, commit.now).unwrap_or_default());
        }
        let old = supersedes.iter().filter(|lane| **lane != commit.lane);
        txns.extend(old.map(|lane| marker::superseded_txn(*lane, commit.now)));
        // The same lane named twice must not be written twice into one commit.
        txns.sort_by(|a, b| a.app_id.cmp(&b.app_id));
        txns.dedup_by(|a, b| a.app_id == b.app_id);
        Ok(txns)
    }

    fn adds(&self, commit: &TableCommit, files: &[DataFile], table: &Schema, stats: &StatsColumns) -> Result<Vec<Add>> {
        let mut seen = BTreeSet::new();
        let mut adds = Vec::with_capacity(files.len());
        let base = self.base.as_ref();
        let partitioner = base.map(|base| ColumnPartitioner::of(base.metadata(), base.schema()));
        let partitioner = partitioner.transpose()?.flatten();
        let table = stored(
            &Arc::new(table.clone()),
            partitioner.as_ref().map(|p| p as &dyn Partitioner),
        );
        for file in files {
            let partition_values = match (&partitioner, &file.partition) {
                (Some(partitioner), Some(partition)) => partitioner.texts(partition)?.into_iter().collect(),
                _ => BTreeMap::new(),
            };
            let relative = relative_path(&self.root, &file.path)?;
            if !seen.insert(relative) {
                return Err(invalid(format!("data file named twice. path=`{}`", file.path)));
            }
            adds.push(Add {
                path: encode_path(relative),
                size: signed("size of a data file", file.size)?,
                modification_time: commit.now.as_millis(),
                data_change: true,
                partition_values,
                stats: Some(file_stats(file, &table, stats)?),
                tags: Some(tags(commit)),
                ..Add::default()
            });
        }
        Ok(adds)
    }

    fn commit_info(&self, commit: &TableCommit, marker: &Marker, txn_id: Uuid, files: &[DataFile]) -> CommitInfo {
        let sum = |value: fn(&DataFile) -> u64| files.iter().map(value).fold(0, u64::saturating_add).to_string();
        let mut info = Map::new();
        let mut put = |key: &str, value: Value| {
            info.insert(key.to_owned(), value);
        };
        put("timestamp", json!(commit.now.as_millis()));
        put("operation", json!("WRITE"));
        let partition_by = self.base.as_ref().map(|base| &base.metadata().partition_columns);
        let partition_by = json!(partition_by.unwrap_or(&Vec::new())).to_string();
        put(
            "operationParameters",
            json!({"mode": "Append", "partitionBy": partition_by}),
        );
        put("isBlindAppend", json!(true));
        put("isolationLevel", json!("Serializable"));
        put(
            "operationMetrics",
            json!({
                "numFiles": files.len().to_string(),
                "numOutputRows": sum(|file| file.rows),
                "numOutputBytes": sum(|file| file.size),
            }),
        );
        put("engineInfo", json!(self.options.engine_info));
        put("txnId", json!(txn_id.to_string()));
        let mut labels = BTreeMap::from([("firnline.attempt", marker.attempt.to_string())]);
        labels.extend(commit_labels(commit));
        labels.insert("firnline.outcome", outcome_name(commit).to_owned());
        if let Some(base) = &self.base {
            put("readVersion", json!(base.version()));
            if base.has_in_commit_timestamps() {
                let after = base
                    .in_commit_timestamp()
                    .map_or(i64::MIN, |last| last.saturating_add(1));
                put("inCommitTimestamp", json!(commit.now.as_millis().max(after)));
            }
            if base.protocol().lists_writer_feature("rowTracking") {
                labels.insert("delta.rowTracking.preserved", "true".to_owned());
            }
        }
        put("tags", json!(labels));
        CommitInfo(info)
    }
}

/// Why files cannot be added to a table for whose partitions or columns they were not written; `columns` are those that
/// files would have now.
fn outdated(base: &Snapshot, columns: &SchemaRef, files: &[DataFile]) -> Result<Option<String>> {
    let partitioner = ColumnPartitioner::of(base.metadata(), base.schema())?;
    let partitioner = partitioner.as_ref().map(|p| p as &dyn Partitioner);
    let wanted = partitioner.map(Partitioner::id);
    let spec = |file: &DataFile| file.partition.as_ref().map(|partition| partition.spec.clone());
    if let Some(file) = files.iter().find(|file| spec(file).as_deref() != wanted) {
        let found = spec(file);
        return Ok(Some(format!(
            "file is of other partitions than the table. file=`{}` partitions=`{found:?}` table=`{wanted:?}`",
            file.path
        )));
    }
    if !has_stored_names(columns.fields()) {
        return Ok(None);
    }
    let in_files = with_stored_names(&stored(columns, partitioner));
    let in_files = ArrowSchemaConverter::new().convert(&in_files);
    let in_files = in_files.map_err(|e| invalid("the table's columns cannot be stored").with_source(e))?;
    let paths: BTreeSet<_> = in_files.columns().iter().map(|column| column.path().parts()).collect();
    Ok(files.iter().find_map(|file| {
        let other = file
            .columns
            .iter()
            .find(|column| !paths.contains(column.path.as_slice()))?;
        let column = other.path.join(".");
        let path = &file.path;
        Some(format!(
            "file has a column that the table has under another name. file=`{path}` column=`{column}`"
        ))
    }))
}

/// Where the commit of a version lies.
pub(super) fn commit_path(root: &Path, version: u64) -> Path {
    log_dir(root).join(format!("{version:020}.json"))
}

/// Where the log of a table lies.
pub(super) fn log_dir(root: &Path) -> Path {
    root.clone().join("_delta_log")
}

/// Where the file of an `add` lies in the store.
pub(super) fn output_path(root: &Path, uri: &str) -> String {
    let path = decode_path(uri);
    match root.as_ref() {
        "" => path,
        root => format!("{root}/{path}"),
    }
}

/// What an entry put in, as its commit says.
pub(super) fn entry_of(root: &Path, version: u64, actions: &[Action]) -> Entry {
    let outputs = actions.iter().filter_map(|action| match action {
        Action::Add(add) => Some(OutputFile {
            path: output_path(root, &add.path),
            size: u64::try_from(add.size).unwrap_or(0),
            rows: add.num_records().unwrap_or(0),
        }),
        _ => None,
    });
    Entry {
        version,
        outputs: outputs.collect(),
    }
}

fn outcome_name(commit: &TableCommit) -> &'static str {
    match commit.change {
        TableChange::Adopt { .. } => "adopt",
        TableChange::Append { .. } => "data",
        TableChange::Void { .. } => "void",
    }
}

/// The same attempt at the same entry has the same id, whoever makes it and how often.
fn commit_txn_id(commit: &TableCommit) -> Uuid {
    let kind = outcome_name(commit);
    let text = format!(
        "firnline commit {} {} {} {kind}",
        commit.lane, commit.seq, commit.attempt
    );
    Sha256Digest::of(text.as_bytes()).uuid()
}

fn commit_labels(commit: &TableCommit) -> BTreeMap<&'static str, String> {
    let mut labels = BTreeMap::from([
        ("firnline.lane", commit.lane.to_string()),
        ("firnline.seq", commit.seq.to_string()),
    ]);
    labels.extend(commit.plan_hash.map(|hash| ("firnline.planHash", hash.to_string())));
    labels
}

fn tags(commit: &TableCommit) -> BTreeMap<String, Option<String>> {
    commit_labels(commit)
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Some(value)))
        .collect()
}

fn relative_path<'a>(root: &Path, path: &'a str) -> Result<&'a str> {
    let outside = || {
        invalid(format!(
            "data file does not lie under the table. path=`{path}` table=`{root}`"
        ))
    };
    let relative = match root.as_ref() {
        "" => path,
        root => path
            .strip_prefix(root)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(outside)?,
    };
    // Names that begin so are hidden from readers, and a colon would make the first part a scheme.
    let first = relative.split('/').next().unwrap_or_default();
    if relative.is_empty() || relative.starts_with(['_', '.']) || first.contains(':') {
        return Err(outside());
    }
    Ok(relative)
}

pub(super) fn signed(what: &str, value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| invalid(format!("{what} is too large. value=`{value}`")))
}
