//! Apache Iceberg tables: an own, small core of the specification that reads any v1 to v3 table and appends to it.

mod avro;
mod datum;
mod manifest;
mod manifest_list;
mod manifest_merge;
mod metrics;
mod partition_column;
mod schema;
mod single_value;
mod types;

pub use datum::Datum;
pub use manifest::{EntryStatus, FileContent, ManifestDataFile, ManifestEntry};
pub use manifest::{ManifestHeader, ManifestReader, ManifestWriter, read_manifest};
pub use manifest_list::{FieldSummary, ManifestContent, ManifestFile};
pub use manifest_list::{ManifestList, WrittenManifestList, read_manifest_list};
pub use manifest_merge::{DEFAULT_MANIFEST_MIN_COUNT, DEFAULT_MANIFEST_TARGET_BYTES};
pub use manifest_merge::{ManifestBin, ManifestMergeConfig, merge_manifest_entries, plan_manifest_merge};
pub use metrics::{DEFAULT_MAX_INFERRED_COLUMNS, DEFAULT_TRUNCATE_LENGTH, MetricsConfig, MetricsMode};
pub use partition_column::PartitionColumn;
pub use schema::{NestedField, Schema};
pub use types::{ListType, MapType, PrimitiveType, StructType, Type};
