//! The door to a table: what a sink must promise so that every row gets in exactly once.

#[cfg(any(feature = "delta", feature = "iceberg"))]
mod entry;
#[cfg(any(feature = "delta", feature = "iceberg"))]
mod marks;
#[cfg(any(feature = "delta", feature = "iceberg"))]
mod places;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::data_file::DataFile;
use crate::error::Result;
use crate::ids::{AttemptId, HashPrefix, LaneId, PlanHash, Seq};
use crate::naming::Namespace;
use crate::options::{Evolve, SortField};
use crate::partitioning::Partitioner;
use crate::quarantine::QuarantineReason;
use crate::schema::Evolution;
use crate::time::Timestamp;

#[cfg(any(feature = "delta", feature = "iceberg"))]
pub(crate) use entry::{LanesInTable, Settled};
#[cfg(any(feature = "delta", feature = "iceberg"))]
pub(crate) use marks::refuse_table_of;
#[cfg(any(feature = "delta", feature = "iceberg"))]
pub(crate) use places::TablePlaces;

/// One table, as the end of one lane.
///
/// The table's own log is the only truth about what is in it. Every entry of a lane carries a [`Marker`]
/// in the table's metadata, written in the same atomic change as the data. A sink may be called by several
/// workers at once, some of which may have slept for days. A sink of a host's own is tried with
/// `testing::conformance::table_sink`.
#[async_trait]
pub trait TableSink: fmt::Debug + Send + Sync + 'static {
    /// The columns that a file with the schema `source` has once it is in a table of this format: the same
    /// names in the same order, each type mapped to the one the format stores it as. `Null` stays as it is, at any
    /// depth: the type comes from other files. Where the format has more than one type for a source's, that of the
    /// column in `table` is taken, the schema of a table that is there. Pure.
    ///
    /// # Errors
    ///
    /// The reason for which the file is set aside, naming column and type.
    fn canonical_schema(&self, source: &Schema, table: Option<&Schema>) -> Result<SchemaRef, QuarantineReason>;

    /// Reads the table: whether it is there, its schema, what it says of `lane`.
    ///
    /// # Errors
    ///
    /// `Unsupported` when the table uses a feature that this sink does not write; `Unavailable` to be tried
    /// again.
    async fn decided(&self, lane: LaneId) -> Result<TableState>;

    /// Checks that files of `schema` can be committed, and says where they go. Writes nothing, but for an empty table
    /// where only its creation tells under which ids its columns are to be written. What `evolve` allows the table
    /// will have by then: the commit of the files changes its columns.
    ///
    /// # Errors
    ///
    /// `Unsupported` or `Invalid` naming what is wrong, before anything is uploaded.
    async fn prepare(&self, lane: LaneId, schema: &SchemaRef, evolve: Evolve) -> Result<TableLayout>;

    /// Publishes an entry atomically: all of it or nothing, at most once per (lane, seq), and only onto a
    /// table whose marker is exactly `commit.base`.
    ///
    /// A foreign change of the table in between is rebased over without rewriting data. Idempotent: a commit
    /// that has landed before, however its answer was lost, is reported as [`CommitOutcome::Decided`].
    ///
    /// # Errors
    ///
    /// None proves that nothing was committed. `Unavailable`: read the table again before anything else.
    async fn commit(&self, commit: &TableCommit) -> Result<CommitOutcome>;

    /// Asks the table's log whether the entry of `decision` is still in, before its sources are deleted.
    ///
    /// # Errors
    ///
    /// `Unavailable` to be tried again; nothing is deleted.
    async fn confirm(&self, decision: &Decision) -> Result<Confirmation>;
}

/// The tables of a compactor: one [`TableSink`] per namespace.
pub trait TableProvider: fmt::Debug + Send + Sync + 'static {
    /// The table of `namespace`. Called once per namespace and run; must always give the same table.
    ///
    /// # Errors
    ///
    /// `Invalid` or `Unsupported` halts the namespace with this error.
    fn table(&self, namespace: &Namespace) -> Result<Table>;
}

impl<T: TableProvider + ?Sized> TableProvider for Arc<T> {
    fn table(&self, namespace: &Namespace) -> Result<Table> {
        (**self).table(namespace)
    }
}

/// A table and where it lies.
#[derive(Clone, Debug)]
pub struct Table {
    /// The table's root as a URL without trailing slash (`s3://bucket/tables/users`, `file:///srv/tables/users`):
    /// compared with other places, never opened.
    pub location: String,
    /// The format, as it is written into the lane's manifest (`delta`): that of the settings' `targetFormat`.
    pub format: String,
    /// The sink.
    pub sink: Arc<dyn TableSink>,
}

/// Where the files of a table go.
#[derive(Clone, Debug)]
pub struct TableLayout {
    /// The store that holds the table's data files.
    pub store: Arc<dyn ObjectStore>,
    /// The directory for new data files in that store.
    pub data_dir: Path,
    /// The directory of the entries' metadata, where those of attempts that did not make it are left: objects named
    /// `{laneId}-{seq}-{attempt}-{version}-{anything}`. `None` where the format has no such.
    pub metadata_dir: Option<Path>,
    /// The columns of the files to be written, in the table's order and types, and with its column ids as
    /// metadata `PARQUET:field_id` and names in files as [`STORED_NAME_KEY`](crate::STORED_NAME_KEY) where the format has
    /// such.
    pub schema: SchemaRef,
    /// How the files are cut by partition; `None` where the table is not partitioned.
    pub partitioner: Option<Arc<dyn Partitioner>>,
}

/// Whether an entry put a plan's rows into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The plan's rows are in.
    Data,
    /// The seq is spent, nothing of its plan is in.
    Void,
}

/// What the table's metadata say of the newest entry of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The newest entry's seq; 0 where an operator has adopted the table for the lane.
    pub seq: Seq,
    /// What that entry did.
    pub outcome: Outcome,
    /// The plan it belongs to; 0 with seq 0.
    pub plan_hash: HashPrefix,
    /// The attempt that made it.
    pub attempt: AttemptId,
}

/// A table as it was read.
#[derive(Clone, Debug, Default)]
pub struct TableState {
    /// `None`: there is no table yet.
    pub table: Option<TableInfo>,
    /// What it says of the lane asked for.
    pub decided: Option<Decided>,
    /// Other lanes that have written into it and have not been superseded: a table has one lane.
    pub other_lanes: Vec<LaneId>,
    /// Whether an operator has handed the table to another lane than the one asked for.
    pub superseded: bool,
}

/// An existing table.
#[derive(Clone, Debug)]
pub struct TableInfo {
    /// The table's own id.
    pub uuid: String,
    /// Its current version or snapshot.
    pub version: u64,
    /// Its columns. Where they have ids, these are metadata `PARQUET:field_id`, as in
    /// [`TableLayout::schema`]: files that carry them too may call columns by older names.
    pub schema: SchemaRef,
    /// What may become of them.
    pub evolution: Evolution,
}

/// The newest entry of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What the table's metadata say.
    pub marker: Marker,
    /// The entry itself, as far as the log still has it.
    pub entry: Option<Entry>,
}

/// One entry of a lane in the table's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The version or snapshot that holds it.
    pub version: u64,
    /// Its data files.
    pub outputs: Vec<OutputFile>,
}

/// A data file of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputFile {
    /// Where it lies in the table's object store.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
}

impl From<&DataFile> for OutputFile {
    fn from(file: &DataFile) -> Self {
        Self {
            path: file.path.clone(),
            size: file.size,
            rows: file.rows,
        }
    }
}

impl From<&Decision> for Marker {
    /// What the table's marker was right after the entry.
    fn from(decision: &Decision) -> Self {
        Self {
            seq: decision.seq,
            outcome: decision.outcome,
            plan_hash: decision.plan_hash.prefix(),
            attempt: decision.attempt,
        }
    }
}

/// What a table said of a seq: the durable memory of it, one object per seq.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Version of this document; 1.
    pub version: u32,
    /// The lane.
    pub lane: LaneId,
    /// The seq.
    pub seq: Seq,
    /// Data or void.
    pub outcome: Outcome,
    /// The plan.
    pub plan_hash: PlanHash,
    /// The attempt that made the entry.
    pub attempt: AttemptId,
    /// The version or snapshot that holds the entry, if it was still in the log.
    pub table_version: Option<u64>,
    /// The entry's data files; empty for a void.
    pub outputs: Vec<OutputFile>,
    /// When it was recorded, by the clock of whoever did.
    pub decided_at: Timestamp,
    /// Of a void: the sources that were the cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad_sources: Vec<BadSource>,
}

/// A source that could not be merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BadSource {
    /// Its place among the plan's sources.
    pub index: usize,
    /// Why.
    pub reason: QuarantineReason,
}

/// A change to be made to a table.
#[derive(Clone, Debug)]
pub struct TableCommit {
    /// The lane.
    pub lane: LaneId,
    /// The seq of the entry; 0 to adopt a table.
    pub seq: Seq,
    /// The plan; `None` only to adopt a table.
    pub plan_hash: Option<PlanHash>,
    /// The attempt.
    pub attempt: AttemptId,
    /// What the table's marker must be: that of the seq before, `None` where there must be none.
    pub base: Option<(Seq, HashPrefix)>,
    /// The time of the commit, for the table's log.
    pub now: Timestamp,
    /// The id that a table gets if this commit creates it.
    pub new_table_uuid: Uuid,
    /// The order of the rows of files that say they are [`sorted`](DataFile::sorted).
    pub sort_order: Vec<SortField>,
    /// What is to be done.
    pub change: TableChange,
}

/// What a commit does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TableChange {
    /// Writes the marker of seq 0 of a new lane, and marks other lanes as superseded. The base is ignored.
    Adopt {
        /// The lanes that must not write any more.
        supersedes: Vec<LaneId>,
    },
    /// Adds files. Creates the table where there is none.
    Append {
        /// The columns of the files.
        schema: SchemaRef,
        /// How far the table's columns may be changed to have them.
        evolve: Evolve,
        /// The files; none when no source had a row.
        files: Vec<DataFile>,
    },
    /// Spends the seq without adding anything. Creates the table, where there is none, with this schema.
    Void {
        /// The columns of the plan.
        schema: SchemaRef,
    },
}

/// How a commit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum CommitOutcome {
    /// This call's entry is in.
    Committed(Entry),
    /// Too many others committed at the same time: try again after a pause.
    Contended,
    /// The files were written for columns or partitions that the table does not have: merge again, for the table as
    /// it is.
    Outdated {
        /// What does not fit.
        reason: String,
    },
    /// The table already has an entry of this seq or a later one; perhaps our own, whose answer was lost.
    Decided(Decided),
    /// The table's marker is neither the base nor of this seq or a later one: the lane halts.
    Diverged {
        /// What it is.
        found: Option<Marker>,
    },
}

/// Whether an entry is still in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Confirmation {
    /// The table holds it: what it put in was visible.
    Confirmed,
    /// The table does not show it any more: nothing may be deleted.
    Refuted {
        /// What was found.
        reason: String,
    },
}
