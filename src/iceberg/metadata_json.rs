//! Table metadata as JSON (Iceberg specification, appendix C, "Table Metadata and Snapshots").

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::SpecError;
use super::metadata::{Parts, TableMetadata};
use super::partition::{BEFORE_FIRST_FIELD_ID, PartitionSpec};
use super::schema_json::schema_id;
use super::snapshot::{MAIN_BRANCH, MetadataLogEntry, Snapshot, SnapshotLogEntry, SnapshotRef, StatisticsFile};
use super::sort_order::SortOrder;
use super::version::FormatVersion;
use crate::encoding::deep_json;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Timestamp;

/// What Java writes into tables without a snapshot.
const NO_SNAPSHOT: i64 = -1;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

impl TableMetadata {
    /// Reads a metadata file that has been decompressed, if its name says that it is (`.gz.metadata.json`).
    ///
    /// # Errors
    ///
    /// `Unsupported` when the format version, or the type of a column of the current schema, is not known here;
    /// `Invalid` naming what is wrong when the file is damaged.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.starts_with(&GZIP_MAGIC) {
            return Err(SpecError::broken("table", "the metadata are still compressed").into());
        }
        let json = |source| SpecError::json("table", source);
        let version: VersionJson = deep_json(bytes).map_err(json)?;
        let version = FormatVersion::try_from(version.format_version)?;
        let metadata: MetadataJson = deep_json(bytes).map_err(json)?;
        Ok(metadata.into_parts(version).and_then(Parts::finish)?)
    }

    /// Reads metadata that are part of a JSON document, such as a catalog's answer.
    ///
    /// # Errors
    ///
    /// As for [`parse`](Self::parse).
    pub fn from_json(value: Value) -> Result<Self> {
        let json = |source| SpecError::json("table", source);
        let version = VersionJson::deserialize(&value).map_err(json)?;
        let version = FormatVersion::try_from(version.format_version)?;
        let metadata: MetadataJson = serde_json::from_value(value).map_err(json)?;
        Ok(metadata.into_parts(version).and_then(Parts::finish)?)
    }

    /// The metadata as JSON, the same for the same metadata: keys are in alphabetical order.
    ///
    /// # Errors
    ///
    /// `Internal` when they cannot be encoded: a bug.
    pub fn to_json(&self) -> Result<Value> {
        let mut json = serde_json::to_value(self.parts()).map_err(not_encoded)?;
        if self.format_version() == FormatVersion::V1 {
            self.make_v1(&mut json)?;
        }
        Ok(json)
    }

    /// The bytes of a metadata file, not compressed.
    ///
    /// # Errors
    ///
    /// As for [`to_json`](Self::to_json).
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.to_json()?).map_err(not_encoded)
    }

    /// Version 1 has the current schema and spec once more for old readers, and no sequence numbers.
    fn make_v1(&self, json: &mut Value) -> Result<()> {
        let Value::Object(object) = json else { return Ok(()) };
        object.remove("last-sequence-number");
        if let Some(Value::Array(snapshots)) = object.get_mut("snapshots") {
            for snapshot in snapshots.iter_mut().filter_map(Value::as_object_mut) {
                snapshot.remove("sequence-number");
            }
        }
        let fields = serde_json::to_value(&self.default_spec().fields).map_err(not_encoded)?;
        object.insert("partition-spec".to_owned(), fields);
        let parts = self.parts();
        let current = |schema: &&Value| schema_id(schema).ok() == Some(parts.current_schema_id);
        let schema = parts.schemas.iter().find(current).cloned();
        object.insert("schema".to_owned(), schema.unwrap_or_default());
        Ok(())
    }
}

fn not_encoded(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, "table metadata cannot be encoded").with_source(error)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct VersionJson {
    format_version: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MetadataJson {
    #[serde(rename = "format-version")]
    _format_version: i64,
    table_uuid: Option<String>,
    location: String,
    last_sequence_number: Option<i64>,
    last_updated_ms: Timestamp,
    last_column_id: i32,
    schema: Option<Value>,
    schemas: Option<Vec<Value>>,
    current_schema_id: Option<i32>,
    partition_spec: Option<Value>,
    partition_specs: Option<Vec<PartitionSpec>>,
    default_spec_id: Option<i32>,
    last_partition_id: Option<i32>,
    sort_orders: Option<Vec<SortOrder>>,
    default_sort_order_id: Option<i32>,
    properties: Option<BTreeMap<String, String>>,
    current_snapshot_id: Option<i64>,
    snapshots: Option<Vec<Snapshot>>,
    snapshot_log: Option<Vec<SnapshotLogEntry>>,
    metadata_log: Option<Vec<MetadataLogEntry>>,
    refs: Option<BTreeMap<String, SnapshotRef>>,
    statistics: Option<Vec<StatisticsFile>>,
    partition_statistics: Option<Vec<StatisticsFile>>,
    next_row_id: Option<i64>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl MetadataJson {
    fn into_parts(self, version: FormatVersion) -> Result<Parts, SpecError> {
        let missing = |key: &str| SpecError::broken("table", format!("{key} is missing"));
        let may_lack = version == FormatVersion::V1;

        let (schemas, current_schema_id) = match (self.schemas, self.schema) {
            (Some(schemas), _) if !schemas.is_empty() => {
                let id = self.current_schema_id.ok_or_else(|| missing("current-schema-id"))?;
                (schemas, id)
            }
            (_, Some(schema)) if may_lack => {
                let id = schema_id(&schema)?;
                (vec![schema], id)
            }
            _ => return Err(missing("schemas")),
        };
        let (partition_specs, default_spec_id) = match (self.partition_specs, self.partition_spec) {
            (Some(specs), _) if !specs.is_empty() => {
                let id = self.default_spec_id.ok_or_else(|| missing("default-spec-id"))?;
                (specs, id)
            }
            (_, Some(fields)) if may_lack => (vec![PartitionSpec::from_fields_json(0, fields)?], 0),
            _ => return Err(missing("partition-specs")),
        };
        let last_partition_id = match self.last_partition_id {
            Some(id) => id,
            None if may_lack => {
                let ids = partition_specs.iter().map(PartitionSpec::last_field_id);
                ids.max().unwrap_or(BEFORE_FIRST_FIELD_ID)
            }
            None => return Err(missing("last-partition-id")),
        };
        let (sort_orders, default_sort_order_id) = match (self.sort_orders, self.default_sort_order_id) {
            (Some(orders), Some(id)) => (orders, id),
            (None, None) if may_lack => (vec![SortOrder::unsorted()], 0),
            (None, _) => return Err(missing("sort-orders")),
            (_, None) => return Err(missing("default-sort-order-id")),
        };
        let last_sequence_number = match self.last_sequence_number {
            Some(number) => number,
            None if may_lack => 0,
            None => return Err(missing("last-sequence-number")),
        };

        let current_snapshot_id = self.current_snapshot_id.filter(|id| *id != NO_SNAPSHOT);
        let mut refs = self.refs.unwrap_or_default();
        // The branch main is there even if it is not listed ("Table Metadata Fields", `refs`).
        if let Some(id) = current_snapshot_id {
            refs.entry(MAIN_BRANCH.to_owned())
                .or_insert_with(|| SnapshotRef::branch(id));
        }
        Ok(Parts {
            format_version: version,
            table_uuid: self.table_uuid,
            location: self.location,
            last_sequence_number,
            last_updated_ms: self.last_updated_ms,
            last_column_id: self.last_column_id,
            schemas,
            current_schema_id,
            partition_specs,
            default_spec_id,
            last_partition_id,
            sort_orders,
            default_sort_order_id,
            properties: self.properties.unwrap_or_default(),
            current_snapshot_id,
            snapshots: self.snapshots.unwrap_or_default(),
            snapshot_log: self.snapshot_log.unwrap_or_default(),
            metadata_log: self.metadata_log.unwrap_or_default(),
            refs,
            statistics: self.statistics.unwrap_or_default(),
            partition_statistics: self.partition_statistics.unwrap_or_default(),
            next_row_id: self.next_row_id,
            extra: self.extra,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn v1() -> Value {
        json!({"format-version": 1, "table-uuid": "d20125c8-7284-442c-9aea-15fee620737c", "location": "s3://b/t",
            "last-updated-ms": 1_602_638_573_874_i64, "last-column-id": 3,
            "schema": {"type": "struct", "fields": [{"id": 1, "name": "x", "required": true, "type": "long"}]},
            "partition-spec": [{"name": "x", "transform": "identity", "source-id": 1, "field-id": 1000}],
            "properties": {}, "current-snapshot-id": -1, "snapshots": []})
    }

    fn v2() -> Value {
        json!({"format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "s3://b/t",
            "last-sequence-number": 34, "last-updated-ms": 1_602_638_573_590_i64, "last-column-id": 3,
            "current-schema-id": 1, "schemas": [
                {"type": "struct", "schema-id": 0, "fields": [
                    {"id": 9, "name": "old", "required": false, "type": "variant"}]},
                {"type": "struct", "schema-id": 1, "x-schema": true, "fields": [
                    {"id": 1, "name": "x", "required": true, "type": "long"}]}],
            "default-spec-id": 0, "last-partition-id": 1000, "partition-specs": [{"spec-id": 0, "x-spec": 1, "fields":
                [{"name": "x", "transform": "identity", "source-id": 1, "field-id": 1000}]}],
            "default-sort-order-id": 3, "sort-orders": [{"order-id": 3, "fields":
                [{"transform": "identity", "source-id": 1, "direction": "asc", "null-order": "nulls-first"}]}],
            "properties": {"a": "b"}, "current-snapshot-id": 9_007_199_254_740_993_i64,
            "refs": {"main": {"snapshot-id": 9_007_199_254_740_993_i64, "type": "branch"}},
            "snapshots": [
                {"snapshot-id": 1, "timestamp-ms": 1_515_100_955_770_i64, "sequence-number": 0,
                    "summary": {"operation": "append"}, "manifest-list": "s3://b/1.avro"},
                {"snapshot-id": 9_007_199_254_740_993_i64, "parent-snapshot-id": 1, "x-snapshot": {"a": null},
                    "timestamp-ms": 1_555_100_955_770_i64, "sequence-number": 1, "schema-id": 1,
                    "summary": {"operation": "append"}, "manifest-list": "s3://b/2.avro"}],
            "snapshot-log": [{"snapshot-id": 1, "timestamp-ms": 1_515_100_955_770_i64}],
            "metadata-log": [{"metadata-file": "s3://b/v1.json", "timestamp-ms": 1_515_100}],
            "statistics": [{"snapshot-id": 1, "statistics-path": "s3://b/s.puffin", "file-size-in-bytes": 413,
                "file-footer-size-in-bytes": 42, "blob-metadata": []}],
            "x-table": [1, {"y": 9_007_199_254_740_993_i64}]})
    }

    fn parse(json: &Value) -> Result<TableMetadata> {
        TableMetadata::parse(json.to_string().as_bytes())
    }

    fn with(mut json: Value, key: &str, value: Value) -> Value {
        json[key] = value;
        json
    }

    #[test]
    fn metadata_of_version_2_survive_word_for_word() {
        let table = parse(&v2()).unwrap();
        assert_eq!(table.to_json().unwrap(), v2());
        assert_eq!(TableMetadata::from_json(v2()).unwrap(), table);
        assert_eq!(table.encode().unwrap(), v2().to_string().into_bytes());
        assert_eq!(table.schema().schema_id, 1);
        assert_eq!(table.default_sort_order().order_id, 3);
        assert_eq!((table.last_sequence_number(), table.next_sequence_number()), (34, 35));
        let current = table.current_snapshot().unwrap();
        assert_eq!(current.snapshot_id, 9_007_199_254_740_993);
        let ancestors: Vec<_> = table
            .ancestors(current.snapshot_id)
            .iter()
            .map(|s| s.sequence_number)
            .collect();
        assert_eq!(ancestors, [1, 0]);
    }

    #[test]
    fn an_unknown_type_matters_only_in_the_current_schema() {
        let table = parse(&v2()).unwrap();
        let error = table.schema_by_id(0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(table.schema_by_id(1).unwrap().as_ref(), Some(table.schema().as_ref()));
        assert_eq!(table.schema_by_id(7).unwrap(), None);
        let error = parse(&with(v2(), "current-schema-id", json!(0))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(
            error.to_string(),
            "column is of a type that is not known here. column=`old` type=`variant`"
        );
    }

    #[test]
    fn metadata_of_version_1_are_read_and_written_for_old_readers_too() {
        let table = parse(&v1()).unwrap();
        assert_eq!(table.format_version(), FormatVersion::V1);
        assert_eq!(table.current_snapshot(), None);
        assert_eq!(table.next_sequence_number(), 0);
        assert_eq!(
            (table.last_partition_id(), table.default_spec().fields.len()),
            (1000, 1)
        );
        assert_eq!(table.sort_orders(), [SortOrder::unsorted()]);
        let json = table.to_json().unwrap();
        for key in [
            "schema",
            "partition-spec",
            "location",
            "properties",
            "snapshots",
            "table-uuid",
        ] {
            assert_eq!(json[key], v1()[key], "{key}");
        }
        assert_eq!(json.get("last-sequence-number"), None);
        assert_eq!(parse(&json).unwrap(), table);
    }

    #[test]
    fn snapshots_of_version_1_have_no_sequence_numbers() {
        let json = with(
            v1(),
            "snapshots",
            json!([{"snapshot-id": 5, "timestamp-ms": 1, "manifests": ["a.avro"]}]),
        );
        let table = parse(&with(json, "current-snapshot-id", json!(5))).unwrap();
        assert_eq!(table.refs()[MAIN_BRANCH], SnapshotRef::branch(5));
        let json = table.to_json().unwrap();
        assert_eq!(
            json["snapshots"],
            json!([{"snapshot-id": 5, "timestamp-ms": 1, "manifests": ["a.avro"]}])
        );
    }

    #[test]
    fn legacy_keys_are_not_written_in_version_2() {
        let legacy = with(
            with(v2(), "schema", v1()["schema"].clone()),
            "partition-spec",
            json!([]),
        );
        assert_eq!(parse(&legacy).unwrap().to_json().unwrap(), v2());
    }

    #[test]
    fn version_3_counts_row_ids() {
        let json = with(with(v2(), "format-version", json!(3)), "next-row-id", json!(7));
        let table = parse(&json).unwrap();
        assert_eq!(table.next_row_id(), Some(7));
        assert_eq!(table.to_json().unwrap(), json);
    }

    #[test]
    fn what_is_broken_is_named() {
        let without = |key: &str| {
            let mut json = v2();
            json.as_object_mut().unwrap().remove(key);
            json
        };
        for (json, text) in [
            (without("table-uuid"), "table-uuid is missing"),
            (without("schemas"), "schemas is missing"),
            (without("partition-specs"), "partition-specs is missing"),
            (without("last-partition-id"), "last-partition-id is missing"),
            (without("sort-orders"), "sort-orders is missing"),
            (without("last-sequence-number"), "last-sequence-number is missing"),
            (with(v2(), "current-schema-id", json!(2)), "schema 2 is not there"),
            (with(v2(), "default-spec-id", json!(2)), "partition spec 2 is not there"),
            (
                with(v2(), "default-sort-order-id", json!(2)),
                "sort order 2 is not there",
            ),
            (with(v2(), "last-sequence-number", json!(0)), "is above the last one, 0"),
            (
                with(v2(), "current-snapshot-id", json!(1)),
                "current snapshot and branch main differ",
            ),
            (with(v2(), "format-version", json!(3)), "next-row-id is missing"),
            (
                with(v2(), "refs", json!({"main": {"snapshot-id": 4, "type": "branch"}})),
                "snapshot 4 of reference main is not there",
            ),
        ] {
            let error = parse(&json).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
            assert!(error.to_string().contains(text), "{error}");
        }
        let error = parse(&without("location")).unwrap_err();
        assert!(error.chain().contains("missing field `location`"), "{}", error.chain());
    }

    #[test]
    fn later_versions_are_refused() {
        let error = parse(&json!({"format-version": 4, "what": "ever"})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(
            error.to_string(),
            "format version is not known here, 1 to 3 are. version=`4`"
        );
        let error = TableMetadata::parse(&[0x1f, 0x8b, 8]).unwrap_err();
        assert!(error.to_string().contains("still compressed"), "{error}");
    }
}
