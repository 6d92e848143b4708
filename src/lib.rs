//! Firnline (crate docs are written last).
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

mod data_file;
mod encoding;
mod error;
pub mod event;
mod ids;
mod merge;
mod naming;
mod options;
mod plan;
mod quarantine;
mod schema;
mod sink;
mod state;
mod time;

pub use arrow;
pub use object_store;
pub use parquet;

pub use data_file::{Bound, ColumnMetrics, DataFile, Datum};
pub use error::{Error, ErrorKind, Result};
pub use event::{EventBatch, EventMessage, EventSource, ObjectEvent, ObjectEventKind, ParseError, Receipt};
pub use ids::{AttemptId, HashPrefix, LaneId, PlanHash, Randomness, Seq, Sha256Digest, SystemRandomness};
pub use merge::{
    DEFAULT_MAX_ROW_GROUP_ROWS, MIN_MEMORY_BUDGET_BYTES, MergeError, MergeInput, MergeObserver, MergeOptions,
    MergeOutput, MergeTarget, ParquetMerger, SourceError, SourceFooter, read_footer,
};
pub use naming::{BadName, ETag, FileName, FileNameParser, Namespace, NotSourceFile, ObjectKey, SourceFile, WriterId};
pub use options::*;
pub use plan::{Plan, PlannedSource, Window};
pub use quarantine::QuarantineReason;
pub use schema::{Unified, from_parquet, strip_metadata, unify};
pub use sink::{
    BadSource, CommitOutcome, Confirmation, Decided, Decision, Entry, Marker, Outcome, OutputFile, Table, TableChange,
    TableCommit, TableInfo, TableLayout, TableProvider, TableSink, TableState,
};
pub use state::{DeleteOutcome, MAX_STATE_VALUE_BYTES, SaveOutcome, StateKey, StateStore, StateVersion, StoredState};
pub use time::{Clock, Timestamp};
