use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::*;
use crate::ErrorKind;
use crate::iceberg::{Datum, ManifestContent, ManifestFile, PartitionColumn, PrimitiveType};

fn columns() -> Vec<PartitionColumn> {
    let column = |field_id, name: &str, primitive| PartitionColumn {
        field_id,
        name: name.to_owned(),
        primitive,
    };
    vec![
        column(1000, "ts_day", PrimitiveType::Date),
        column(1001, "region name", PrimitiveType::String),
        column(1002, "id", PrimitiveType::Uuid),
        column(1003, "at", PrimitiveType::Timestamptz),
        column(1004, "amount", PrimitiveType::Decimal { precision: 9, scale: 2 }),
    ]
}

fn header(format_version: u8) -> ManifestHeader {
    ManifestHeader {
        format_version,
        snapshot_id: 77,
        schema: r#"{"type":"struct","schema-id":3,"fields":[]}"#.to_owned(),
        schema_id: 3,
        partition_spec: "[]".to_owned(),
        partition_spec_id: 5,
        columns: columns(),
    }
}

fn file(path: &str) -> ManifestDataFile {
    ManifestDataFile {
        file_path: path.to_owned(),
        file_format: "PARQUET".to_owned(),
        partition: vec![
            Some(Datum::Int(20_000)),
            Some(Datum::String("nörd".to_owned())),
            Some(Datum::Bytes((0..16).collect())),
            Some(Datum::Long(-1)),
            None,
        ],
        record_count: 100,
        file_size: 5_000_000_000,
        column_sizes: BTreeMap::from([(1, 10), (2, 20)]),
        value_counts: BTreeMap::from([(1, 100), (2, 100)]),
        null_value_counts: BTreeMap::from([(1, 0), (2, 7)]),
        nan_value_counts: BTreeMap::from([(2, 1)]),
        lower_bounds: BTreeMap::from([(1, vec![1, 0, 0, 0]), (2, Vec::new())]),
        upper_bounds: BTreeMap::from([(1, vec![9, 0, 0, 0])]),
        split_offsets: vec![4, 1_000_000],
        sort_order_id: Some(1),
        ..ManifestDataFile::default()
    }
}

fn entry(status: EntryStatus, path: &str) -> ManifestEntry {
    ManifestEntry {
        status,
        snapshot_id: 12,
        sequence_number: Some(4),
        file_sequence_number: Some(5),
        data_file: ManifestDataFile {
            first_row_id: Some(1000),
            ..file(path)
        },
    }
}

/// Writes one entry of each status.
fn written(format_version: u8) -> (Vec<u8>, ManifestFile) {
    let mut writer = ManifestWriter::new(header(format_version)).unwrap();
    writer.add(file("s3://b/new.parquet")).unwrap();
    writer
        .existing(entry(EntryStatus::Added, "s3://b/old.parquet"))
        .unwrap();
    writer
        .delete(entry(EntryStatus::Existing, "s3://b/gone.parquet"))
        .unwrap();
    writer.finish("s3://b/m.avro".to_owned())
}

#[test]
fn entries_come_back_with_what_they_inherit() {
    let (bytes, mut manifest) = written(2);
    manifest.sequence_number = Some(9);
    let entries = read_manifest(&bytes.into(), &manifest, &columns()).unwrap();
    let without_row_id = |path| ManifestDataFile {
        first_row_id: None,
        ..file(path)
    };
    assert_eq!(
        entries,
        [
            ManifestEntry {
                status: EntryStatus::Added,
                snapshot_id: 77,
                sequence_number: Some(9),
                file_sequence_number: Some(9),
                data_file: without_row_id("s3://b/new.parquet"),
            },
            ManifestEntry {
                status: EntryStatus::Existing,
                snapshot_id: 12,
                sequence_number: Some(4),
                file_sequence_number: Some(5),
                data_file: without_row_id("s3://b/old.parquet"),
            },
            ManifestEntry {
                status: EntryStatus::Deleted,
                snapshot_id: 77,
                sequence_number: Some(4),
                file_sequence_number: Some(5),
                data_file: without_row_id("s3://b/gone.parquet"),
            },
        ]
    );
}

#[test]
fn description_counts_entries_and_rows_by_status() {
    let (bytes, manifest) = written(2);
    let summaries = manifest.partitions.clone().unwrap();
    assert_eq!(
        ManifestFile {
            partitions: None,
            ..manifest
        },
        ManifestFile {
            path: "s3://b/m.avro".to_owned(),
            length: bytes.len().try_into().unwrap(),
            partition_spec_id: 5,
            content: ManifestContent::Data,
            sequence_number: None,
            min_sequence_number: Some(4),
            added_snapshot_id: 77,
            added_files_count: Some(1),
            existing_files_count: Some(1),
            deleted_files_count: Some(1),
            added_rows_count: Some(100),
            existing_rows_count: Some(100),
            deleted_rows_count: Some(100),
            partitions: None,
            key_metadata: None,
            first_row_id: None,
        }
    );
    assert_eq!(summaries.len(), 5);
    assert_eq!(summaries[0].lower_bound, Some(20_000_i32.to_le_bytes().to_vec()));
    assert_eq!(
        (summaries[4].contains_null, summaries[4].lower_bound.clone()),
        (true, None)
    );
}

#[test]
fn first_row_ids_are_inherited_in_order_by_files_that_have_none() {
    let mut writer = ManifestWriter::new(header(3)).unwrap();
    writer.add(file("a")).unwrap();
    writer.existing(entry(EntryStatus::Existing, "b")).unwrap();
    let mut upgraded = entry(EntryStatus::Existing, "c");
    upgraded.data_file.first_row_id = None;
    writer.delete(upgraded.clone()).unwrap();
    writer.existing(upgraded).unwrap();
    let (bytes, mut manifest) = writer.finish("m".to_owned());
    let ids = |manifest: &ManifestFile| -> Vec<Option<i64>> {
        let entries = read_manifest(&bytes.clone().into(), manifest, &columns()).unwrap();
        entries.iter().map(|entry| entry.data_file.first_row_id).collect()
    };
    assert_eq!(ids(&manifest), [None; 4]);
    manifest.first_row_id = Some(5000);
    assert_eq!(ids(&manifest), [Some(5000), Some(1000), None, Some(5100)]);
}

#[test]
fn all_of_a_manifest_of_v1_has_the_sequence_number_0() {
    let mut manifest = written(2).1;
    manifest.sequence_number = Some(0);
    let schema = serde_json::json!({"type": "record", "name": "manifest_entry", "fields": [
        {"name": "status", "type": "int", "field-id": 0},
        {"name": "snapshot_id", "type": ["null", "long"], "field-id": 1},
        {"name": "data_file", "field-id": 2, "type": {"type": "record", "name": "r2", "fields": [
            {"name": "file_path", "type": "string", "field-id": 100},
            {"name": "file_format", "type": "string", "field-id": 101},
            {"name": "record_count", "type": "long", "field-id": 103},
            {"name": "file_size_in_bytes", "type": "long", "field-id": 104},
            {"name": "block_size_in_bytes", "type": "long", "field-id": 105},
        ]}},
    ]});
    let mut avro = crate::iceberg::avro::AvroWriter::new(&schema, &[]).unwrap();
    let mut data_file = crate::iceberg::avro::Record::default();
    data_file.push(schema::FILE_PATH, "a".to_owned());
    data_file.push(schema::FILE_FORMAT, "parquet".to_owned());
    data_file.push(schema::RECORD_COUNT, 1_i64);
    data_file.push(schema::FILE_SIZE, 2_i64);
    data_file.push(105, 3_i64);
    let mut record = crate::iceberg::avro::Record::default();
    record.push(schema::STATUS, 0);
    record.push(schema::DATA_FILE, data_file);
    avro.push(record).unwrap();
    assert_eq!(
        read_manifest(&avro.finish().into(), &manifest, &[]).unwrap(),
        [ManifestEntry {
            status: EntryStatus::Existing,
            snapshot_id: 77,
            sequence_number: Some(0),
            file_sequence_number: Some(0),
            data_file: ManifestDataFile {
                file_path: "a".to_owned(),
                file_format: "parquet".to_owned(),
                record_count: 1,
                file_size: 2,
                ..ManifestDataFile::default()
            },
        }]
    );
}

#[test]
fn entries_that_would_mislead_readers_are_refused() {
    let mut writer = ManifestWriter::new(header(2)).unwrap();
    let mut unnumbered = entry(EntryStatus::Existing, "a");
    unnumbered.file_sequence_number = None;
    let short = ManifestDataFile {
        partition: vec![None],
        ..file("a")
    };
    let mut wrong = file("a");
    wrong.partition[0] = Some(Datum::Long(1));
    let deletes = ManifestDataFile {
        content: FileContent::EqualityDeletes,
        ..file("a")
    };
    for (result, message) in [
        (
            writer.existing(unnumbered),
            "file of an earlier snapshot has no sequence number. object=`a`",
        ),
        (
            writer.add(short),
            "partition has not as many values as its spec. values=`1` columns=`5` spec_id=`5`",
        ),
        (
            writer.add(wrong),
            "partition does not fit its spec. field_id=`1000` spec_id=`5`",
        ),
        (writer.add(deletes), "entry of a manifest is not of data. content=`2`"),
    ] {
        let error = result.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Invalid, message)
        );
    }
    let error = ManifestWriter::new(header(4)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn another_reader_finds_the_header_that_the_specification_asks_for() {
    let (bytes, _) = written(2);
    let reader = apache_avro::Reader::new(bytes.as_slice()).unwrap();
    let metadata: BTreeMap<&str, &str> = reader
        .user_metadata()
        .iter()
        .map(|(key, value)| (key.as_str(), str::from_utf8(value).unwrap()))
        .collect();
    assert_eq!(
        metadata.into_iter().collect::<Vec<_>>(),
        [
            ("content", "data"),
            ("format-version", "2"),
            ("partition-spec", "[]"),
            ("partition-spec-id", "5"),
            ("schema", r#"{"type":"struct","schema-id":3,"fields":[]}"#),
            ("schema-id", "3"),
        ]
    );
}

#[test]
fn schema_has_the_ids_and_names_that_java_gives() {
    let schema = schema::entry_schema(3, &columns()[3..4]);
    let mut ids = Vec::new();
    let mut names = Vec::new();
    let mut maps = Vec::new();
    collect(&schema, &mut ids, &mut names, &mut maps);
    ids.sort_unstable();
    let expected: Vec<i64> = (0..=4)
        .chain(100..=104)
        .chain([108, 109, 110])
        .chain(117..=122)
        .chain([
            125, 126, 127, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140,
        ])
        .chain([142, 143, 144, 145, 1003])
        .collect();
    assert_eq!(ids, expected);
    assert_eq!(
        names,
        [
            "manifest_entry",
            "r2",
            "r102",
            "k117_v118",
            "k119_v120",
            "k121_v122",
            "k138_v139",
            "k126_v127",
            "k129_v130",
        ]
    );
    assert_eq!(maps, [108, 109, 110, 137, 125, 128]);
    assert_eq!(
        schema
            .pointer("/fields/4/type/fields/3/type/fields/0")
            .unwrap()
            .to_string(),
        serde_json::json!({"name": "at", "default": null, "field-id": 1003, "type": [
            "null", {"type": "long", "logicalType": "timestamp-micros", "adjust-to-utc": true}]})
        .to_string()
    );
}

/// Gathers all ids, the names of records, and the ids of fields that are maps.
fn collect(json: &Json, ids: &mut Vec<i64>, names: &mut Vec<String>, maps: &mut Vec<i64>) {
    match json {
        Json::Array(items) => items.iter().for_each(|item| collect(item, ids, names, maps)),
        Json::Object(object) => {
            ids.extend(
                ["field-id", "element-id"]
                    .iter()
                    .filter_map(|key| object.get(*key)?.as_i64()),
            );
            if object.get("type") == Some(&Json::from("record")) {
                names.push(object["name"].as_str().unwrap().to_owned());
            }
            if json.pointer("/type/1/logicalType") == Some(&Json::from("map")) {
                maps.push(object["field-id"].as_i64().unwrap());
            }
            for key in ["type", "items", "fields"] {
                if let Some(part) = object.get(key) {
                    collect(part, ids, names, maps);
                }
            }
        }
        _ => {}
    }
}

#[test]
fn cuts_and_flipped_bits_are_errors_or_other_entries_but_no_panic() {
    let (bytes, manifest) = written(3);
    for end in 0..bytes.len() {
        let read = read_manifest(&bytes[..end].to_vec().into(), &manifest, &columns());
        // Where the header ends, the file is whole, and empty.
        assert!(read.is_err() || read.unwrap().is_empty(), "{end}");
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let _ = read_manifest(&damaged.into(), &manifest, &columns());
    }
}
