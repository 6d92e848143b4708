//! Apache Iceberg tables: an own, small core of the specification that reads tables of v1 to v3 and appends to those
//! of v2 and v3.
//!
//! [`IcebergSink`] is a table at the end of a lane, [`IcebergTables`] one table per namespace, and
//! [`IcebergCommitBuilder`] the pure part in between: state and change in; manifest, manifest list and the change of
//! the metadata out. A [`Catalog`] says which metadata are current, and changes them in one conditional step.
//!
//! ```text
//!  Catalog ──► TableMetadata ──► IcebergCommitBuilder ──► manifest, list ──► Catalog::commit
//!     ▲                                  ▲                                        │ somebody else's
//!     │                                  └──────────────── load ◄─────────────────┤
//!     └───────────────────────────────────────────────────────────────────────────┘ landed
//! ```

mod apply;
mod apply_snapshots;
mod arrow_schema;
mod avro;
mod canonical;
mod catalog;
mod commit;
mod confirm;
mod datum;
mod error;
mod evolve;
mod files;
mod gate;
mod manifest;
mod manifest_list;
mod manifest_merge;
mod marker;
mod metadata;
mod metadata_file;
mod metadata_json;
mod metrics;
mod murmur3;
mod options;
mod partition;
mod partition_column;
mod partitioner;
mod schema;
mod schema_json;
mod sink;
mod snapshot;
mod sort_order;
mod sorted;
mod summary;
mod tables;
mod transform;
mod types;
mod update;
mod version;

pub use arrow_schema::{arrow_schema, fit_columns, new_schema};
pub use canonical::canonical_schema;
pub use catalog::{
    Catalog, CatalogChange, CatalogOutcome, CatalogTable, FileSystemCatalog, PointerCatalog, PointerStore,
};
pub use catalog::{
    HttpRequest, HttpResponse, HttpTransport, RestCatalog, RestOptions, StorageCredential, VendedCredentials,
};
pub use commit::{IcebergCommit, IcebergCommitBuilder, IcebergCommitStep};
pub use datum::Datum;
pub use manifest::{
    EntryStatus, FileContent, ManifestDataFile, ManifestEntry, ManifestHeader, ManifestReader, ManifestWriter,
    read_manifest,
};
pub use manifest_list::{
    FieldSummary, ManifestContent, ManifestFile, ManifestList, WrittenManifestList, read_manifest_list,
};
pub use manifest_merge::{
    DEFAULT_MANIFEST_MIN_COUNT, DEFAULT_MANIFEST_TARGET_BYTES, ManifestBin, ManifestMergeConfig,
    merge_manifest_entries, plan_manifest_merge,
};
pub use metadata::{NewTable, TableMetadata};
pub use metrics::{DEFAULT_MAX_INFERRED_COLUMNS, DEFAULT_TRUNCATE_LENGTH, MetricsConfig, MetricsMode};
pub use options::{DEFAULT_MAX_COMMIT_RACES, IcebergOptions};
pub use partition::{PartitionField, PartitionSpec};
pub use partition_column::PartitionColumn;
pub use schema::{Leaf, NestedField, Schema};
pub use sink::IcebergSink;
pub use snapshot::{MAIN_BRANCH, MetadataLogEntry, RefKind, Snapshot, SnapshotLogEntry, SnapshotRef, StatisticsFile};
pub use sort_order::{NullOrder, SortDirection, SortField, SortOrder};
pub use tables::IcebergTables;
pub use transform::Transform;
pub use types::{ListType, MapType, PrimitiveType, StructType, Type};
pub use update::{TableRequirement, TableUpdate, check_requirements};
pub use version::FormatVersion;
