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
#[cfg(feature = "delta")]
#[cfg_attr(docsrs, doc(cfg(feature = "delta")))]
pub mod delta;
mod encoding;
mod error;
pub mod event;
mod ids;
mod naming;
mod options;
mod plan;
mod quarantine;
mod sink;
mod state;
mod time;

pub use arrow;
pub use object_store;
pub use parquet;

pub use data_file::{Bound, ColumnMetrics, DataFile, Datum};
#[cfg(feature = "delta")]
#[cfg_attr(docsrs, doc(cfg(feature = "delta")))]
pub use delta::{DeltaCommitBuilder, DeltaOptions, DeltaSink, DeltaTables};
pub use error::{Error, ErrorKind, Result};
pub use event::{EventBatch, EventMessage, EventSource, ObjectEvent, ObjectEventKind, ParseError, Receipt};
pub use ids::{AttemptId, HashPrefix, LaneId, PlanHash, Randomness, Seq, Sha256Digest, SystemRandomness};
pub use naming::{BadName, ETag, FileName, FileNameParser, Namespace, NotSourceFile, ObjectKey, SourceFile, WriterId};
pub use options::*;
pub use plan::{Plan, PlannedSource, Window};
pub use quarantine::QuarantineReason;
pub use sink::{
    BadSource, CommitOutcome, Confirmation, Decided, Decision, Entry, Marker, Outcome, OutputFile, Table, TableChange,
    TableCommit, TableInfo, TableLayout, TableProvider, TableSink, TableState,
};
pub use state::{DeleteOutcome, MAX_STATE_VALUE_BYTES, SaveOutcome, StateKey, StateStore, StateVersion, StoredState};
pub use time::{Clock, Timestamp};
