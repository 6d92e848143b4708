//! Apache Iceberg tables: an own, small core of the specification that reads any v1 to v3 table and appends to it.

mod apply;
mod apply_snapshots;
mod arrow_schema;
mod canonical;
mod datum;
mod error;
mod metadata;
mod metadata_json;
mod murmur3;
mod partition;
mod schema;
mod schema_json;
mod snapshot;
mod sort_order;
mod transform;
mod types;
mod update;
mod version;

pub use arrow_schema::{arrow_schema, fit_columns, new_schema};
pub use canonical::canonical_schema;
pub use datum::Datum;
pub use metadata::{NewTable, TableMetadata};
pub use partition::{PartitionField, PartitionSpec};
pub use schema::{Leaf, NestedField, Schema};
pub use snapshot::{MAIN_BRANCH, MetadataLogEntry, RefKind, Snapshot, SnapshotLogEntry, SnapshotRef, StatisticsFile};
pub use sort_order::{NullOrder, SortDirection, SortField, SortOrder};
pub use transform::Transform;
pub use types::{ListType, MapType, PrimitiveType, StructType, Type};
pub use update::{TableRequirement, TableUpdate, check_requirements};
pub use version::FormatVersion;
