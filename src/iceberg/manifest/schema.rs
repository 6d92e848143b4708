//! The Avro schema of manifests, with the ids and names that Java gives (Iceberg specification, "Manifests").

use serde_json::{Value as Json, json};

use crate::iceberg::partition_column::{PartitionColumn, avro_fields};

pub(super) const STATUS: i32 = 0;
pub(super) const SNAPSHOT_ID: i32 = 1;
pub(super) const DATA_FILE: i32 = 2;
pub(super) const SEQUENCE_NUMBER: i32 = 3;
pub(super) const FILE_SEQUENCE_NUMBER: i32 = 4;

pub(super) const FILE_PATH: i32 = 100;
pub(super) const FILE_FORMAT: i32 = 101;
pub(super) const PARTITION: i32 = 102;
pub(super) const RECORD_COUNT: i32 = 103;
pub(super) const FILE_SIZE: i32 = 104;
pub(super) const KEY_METADATA: i32 = 131;
pub(super) const SPLIT_OFFSETS: i32 = 132;
pub(super) const CONTENT: i32 = 134;
pub(super) const EQUALITY_IDS: i32 = 135;
pub(super) const SORT_ORDER_ID: i32 = 140;
pub(super) const FIRST_ROW_ID: i32 = 142;
pub(super) const REFERENCED_DATA_FILE: i32 = 143;
pub(super) const CONTENT_OFFSET: i32 = 144;
pub(super) const CONTENT_SIZE: i32 = 145;

/// The ids of a map of metrics: of the map, its keys and its values.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapIds {
    pub(super) map: i32,
    pub(super) key: i32,
    pub(super) value: i32,
}

pub(super) const COLUMN_SIZES: MapIds = MapIds::new(108, 117, 118);
pub(super) const VALUE_COUNTS: MapIds = MapIds::new(109, 119, 120);
pub(super) const NULL_VALUE_COUNTS: MapIds = MapIds::new(110, 121, 122);
pub(super) const NAN_VALUE_COUNTS: MapIds = MapIds::new(137, 138, 139);
pub(super) const LOWER_BOUNDS: MapIds = MapIds::new(125, 126, 127);
pub(super) const UPPER_BOUNDS: MapIds = MapIds::new(128, 129, 130);

impl MapIds {
    const fn new(map: i32, key: i32, value: i32) -> Self {
        Self { map, key, value }
    }

    /// Avro's maps have text keys, so that Iceberg's are lists of pairs.
    fn field(self, name: &str, values: &str) -> Json {
        let Self { map, key, value } = self;
        let pair = json!({"type": "record", "name": format!("k{key}_v{value}"), "fields": [
            required("key", "int", key),
            required("value", values, value),
        ]});
        optional(
            name,
            &json!({"type": "array", "items": pair, "logicalType": "map"}),
            map,
        )
    }
}

/// The schema of a manifest of data files.
pub(super) fn entry_schema(format_version: u8, columns: &[PartitionColumn]) -> Json {
    let partition = json!({"type": "record", "name": "r102", "fields": avro_fields(columns)});
    let list = |items: &str, id: i32| json!({"type": "array", "items": items, "element-id": id});
    let mut data_file = vec![
        required("content", "int", CONTENT),
        required("file_path", "string", FILE_PATH),
        required("file_format", "string", FILE_FORMAT),
        required("partition", partition, PARTITION),
        required("record_count", "long", RECORD_COUNT),
        required("file_size_in_bytes", "long", FILE_SIZE),
        COLUMN_SIZES.field("column_sizes", "long"),
        VALUE_COUNTS.field("value_counts", "long"),
        NULL_VALUE_COUNTS.field("null_value_counts", "long"),
        NAN_VALUE_COUNTS.field("nan_value_counts", "long"),
        LOWER_BOUNDS.field("lower_bounds", "bytes"),
        UPPER_BOUNDS.field("upper_bounds", "bytes"),
        optional("key_metadata", &json!("bytes"), KEY_METADATA),
        optional("split_offsets", &list("long", 133), SPLIT_OFFSETS),
        optional("equality_ids", &list("int", 136), EQUALITY_IDS),
        optional("sort_order_id", &json!("int"), SORT_ORDER_ID),
    ];
    if format_version >= 3 {
        data_file.extend([
            optional("first_row_id", &json!("long"), FIRST_ROW_ID),
            optional("referenced_data_file", &json!("string"), REFERENCED_DATA_FILE),
            optional("content_offset", &json!("long"), CONTENT_OFFSET),
            optional("content_size_in_bytes", &json!("long"), CONTENT_SIZE),
        ]);
    }
    let data_file = json!({"type": "record", "name": "r2", "fields": data_file});
    json!({"type": "record", "name": "manifest_entry", "fields": [
        required("status", "int", STATUS),
        optional("snapshot_id", &json!("long"), SNAPSHOT_ID),
        optional("sequence_number", &json!("long"), SEQUENCE_NUMBER),
        optional("file_sequence_number", &json!("long"), FILE_SEQUENCE_NUMBER),
        required("data_file", data_file, DATA_FILE),
    ]})
}

pub(in crate::iceberg) fn required(name: &str, avro_type: impl Into<Json>, field_id: i32) -> Json {
    json!({"name": name, "type": avro_type.into(), "field-id": field_id})
}

pub(in crate::iceberg) fn optional(name: &str, avro_type: &Json, field_id: i32) -> Json {
    json!({"name": name, "type": ["null", avro_type], "default": null, "field-id": field_id})
}
