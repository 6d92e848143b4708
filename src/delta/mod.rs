//! Delta Lake tables: an own, small core that reads any log the protocol allows and appends to it.
//!
//! [`DeltaSink`] is a table at the end of a lane, [`DeltaTables`] one table per namespace, and
//! [`DeltaCommitBuilder`] the pure part in between: state and change in, bytes and their place out. What a
//! table asks for and this does not know is refused by name, before anything is uploaded.
//!
//! ```text
//!  _delta_log ──► log (listing, replay) ──► Snapshot ──► DeltaCommitBuilder ──► put if absent
//!                                              ▲                                     │ somebody else's
//!                                              └──────────── rebase ◄────────────────┘
//! ```

mod action;
mod canonical;
mod checkpoint;
mod checkpoint_fold;
mod checkpoint_schema;
mod checkpoint_write;
mod commit;
mod confirm;
mod create;
mod error;
mod evolve;
mod gate;
mod hint;
mod lines;
mod log;
mod mapping;
mod marker;
mod options;
mod parquet_stream;
mod partitioner;
mod row_ids;
mod schema;
mod segment;
mod sink;
mod snapshot;
mod stats;
mod stats_columns;
mod tables;
mod type_changes;

pub use action::{Action, Add, CommitInfo, DeletionVector, DomainMetadata, Format, Metadata, Protocol, Remove, Txn};
pub use commit::{DeltaCommitBuilder, DeltaCommitFile, DeltaCommitStep};
pub use options::{DEFAULT_CHECKPOINT_INTERVAL, DEFAULT_MAX_COMMIT_RACES, DeltaOptions};
pub use sink::DeltaSink;
pub use snapshot::Snapshot;
pub use tables::DeltaTables;
