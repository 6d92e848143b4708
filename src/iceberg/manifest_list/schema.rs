//! The Avro schema of manifest lists (Iceberg specification, "Manifest Lists").

use serde_json::{Value as Json, json};

use crate::iceberg::manifest::{optional, required};

pub(super) const PATH: i32 = 500;
pub(super) const LENGTH: i32 = 501;
pub(super) const SPEC_ID: i32 = 502;
pub(super) const ADDED_SNAPSHOT_ID: i32 = 503;
pub(super) const ADDED_FILES: i32 = 504;
pub(super) const EXISTING_FILES: i32 = 505;
pub(super) const DELETED_FILES: i32 = 506;
pub(super) const PARTITIONS: i32 = 507;
const PARTITION: i32 = 508;
pub(super) const CONTAINS_NULL: i32 = 509;
pub(super) const LOWER_BOUND: i32 = 510;
pub(super) const UPPER_BOUND: i32 = 511;
pub(super) const ADDED_ROWS: i32 = 512;
pub(super) const EXISTING_ROWS: i32 = 513;
pub(super) const DELETED_ROWS: i32 = 514;
pub(super) const SEQUENCE_NUMBER: i32 = 515;
pub(super) const MIN_SEQUENCE_NUMBER: i32 = 516;
pub(super) const CONTENT: i32 = 517;
pub(super) const CONTAINS_NAN: i32 = 518;
pub(super) const KEY_METADATA: i32 = 519;
pub(super) const FIRST_ROW_ID: i32 = 520;

/// The schema of a list.
pub(super) fn list_schema(format_version: u8) -> Json {
    let summary = json!({"type": "record", "name": "r508", "fields": [
        required("contains_null", "boolean", CONTAINS_NULL),
        optional("contains_nan", &json!("boolean"), CONTAINS_NAN),
        optional("lower_bound", &json!("bytes"), LOWER_BOUND),
        optional("upper_bound", &json!("bytes"), UPPER_BOUND),
    ]});
    let summaries = json!({"type": "array", "items": summary, "element-id": PARTITION});
    let mut fields = vec![
        required("manifest_path", "string", PATH),
        required("manifest_length", "long", LENGTH),
        required("partition_spec_id", "int", SPEC_ID),
        required("content", "int", CONTENT),
        required("sequence_number", "long", SEQUENCE_NUMBER),
        required("min_sequence_number", "long", MIN_SEQUENCE_NUMBER),
        required("added_snapshot_id", "long", ADDED_SNAPSHOT_ID),
        required("added_files_count", "int", ADDED_FILES),
        required("existing_files_count", "int", EXISTING_FILES),
        required("deleted_files_count", "int", DELETED_FILES),
        required("added_rows_count", "long", ADDED_ROWS),
        required("existing_rows_count", "long", EXISTING_ROWS),
        required("deleted_rows_count", "long", DELETED_ROWS),
        optional("partitions", &summaries, PARTITIONS),
        optional("key_metadata", &json!("bytes"), KEY_METADATA),
    ];
    if format_version >= 3 {
        fields.push(optional("first_row_id", &json!("long"), FIRST_ROW_ID));
    }
    json!({"type": "record", "name": "manifest_file", "fields": fields})
}
