#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test that panics has failed, as it should"
    )
)]

mod compactor;
mod data_file;
#[cfg(feature = "delta")]
#[cfg_attr(docsrs, doc(cfg(feature = "delta")))]
pub mod delta;
mod encoding;
mod error;
pub mod event;
mod halt;
#[cfg(feature = "iceberg")]
#[cfg_attr(docsrs, doc(cfg(feature = "iceberg")))]
pub mod iceberg;
mod ids;
mod ledger;
mod merge;
mod naming;
mod options;
mod partitioning;
mod place;
mod plan;
mod printable;
mod quarantine;
mod reclaim;
mod schema;
mod sink;
mod state;
mod status;
#[cfg(any(test, feature = "testing"))]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
mod time;
mod trace;
mod whole;
mod window;

pub use arrow;
pub use object_store;
pub use parquet;

pub use compactor::{
    CommittedPlan, Compactor, CompactorBuilder, Door, DoorReport, EventOutcome, EventsHandled, Job, JobOutcome,
    JobReport, ReadView, Reconciled,
};
pub use data_file::{Bound, ColumnMetrics, DataFile, Datum, FilePartition};
#[cfg(feature = "delta")]
#[cfg_attr(docsrs, doc(cfg(feature = "delta")))]
pub use delta::{DeltaCommitBuilder, DeltaOptions, DeltaSink, DeltaTables};
pub use error::{Error, ErrorKind, Result};
pub use event::MemoryEventSource;
pub use event::{EventBatch, EventMessage, EventSource, ObjectEvent, ObjectEventKind, ParseError, Receipt};
pub use halt::Halt;
#[cfg(feature = "iceberg")]
#[cfg_attr(docsrs, doc(cfg(feature = "iceberg")))]
pub use iceberg::{IcebergCommitBuilder, IcebergOptions, IcebergSink, IcebergTables};
pub use ids::{AttemptId, HashPrefix, LaneId, PlanHash, Randomness, Seq, Sha256Digest, SystemRandomness};
pub use merge::{
    DEFAULT_MAX_ROW_GROUP_ROWS, MIN_MEMORY_BUDGET_BYTES, MergeError, MergeInput, MergeObserver, MergeOptions,
    MergeOutput, MergeTarget, ParquetMerger, SourceError, SourceFooter, read_footer,
};
pub use naming::DefaultFileNames;
pub use naming::{BadName, ETag, FileName, FileNameParser, Namespace, NotSourceFile, ObjectKey, SourceFile, WriterId};
pub use options::*;
pub use partitioning::{Partitioner, partition_value};
pub use place::Place;
pub use plan::{Plan, PlannedSource, Window};
pub use quarantine::QuarantineReason;
pub use schema::{Evolution, STORED_NAME_KEY, TableColumns, Unified, from_parquet, strip_metadata, unify};
pub use sink::{
    BadSource, CommitOutcome, Confirmation, Decided, Decision, Entry, Marker, Outcome, OutputFile, Table, TableChange,
    TableCommit, TableInfo, TableLayout, TableProvider, TableSink, TableState,
};
pub use state::{DeleteOutcome, MAX_STATE_VALUE_BYTES, SaveOutcome, StateKey, StateStore, StateVersion, StoredState};
pub use state::{MemoryStateStore, ObjectStoreStateStore};
pub use status::{
    Counters, HaltStatus, Health, HealthReason, HealthState, HealthTopic, PlanPhase, PlanProgress, PlanStatus,
    QuarantineStatus, QuarantinedFile, Readiness, Status, WaitingFor, WindowStatus,
};
pub use time::{Clock, Timestamp};
pub use window::{
    Arrival, ArrivedBy, FileRecord, Observed, PendingFile, PlanDraft, RosterRecord, TrackerKey, TrackerStatus,
    WindowRecord, WindowSizeChange, WindowSizes, WindowTracker, WriterRecord,
};
