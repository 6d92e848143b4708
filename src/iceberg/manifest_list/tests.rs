use std::collections::BTreeMap;

use super::*;
use crate::ErrorKind;

fn manifest(path: &str) -> ManifestFile {
    ManifestFile {
        path: path.to_owned(),
        length: 6000,
        partition_spec_id: 5,
        content: ManifestContent::Data,
        sequence_number: Some(3),
        min_sequence_number: Some(2),
        added_snapshot_id: 11,
        added_files_count: Some(1),
        existing_files_count: Some(2),
        deleted_files_count: Some(3),
        added_rows_count: Some(10),
        existing_rows_count: Some(20),
        deleted_rows_count: Some(30),
        partitions: Some(vec![FieldSummary {
            contains_null: true,
            contains_nan: None,
            lower_bound: Some(vec![1]),
            upper_bound: None,
        }]),
        key_metadata: Some(vec![7]),
        first_row_id: None,
    }
}

fn list(format_version: u8, manifests: Vec<ManifestFile>) -> ManifestList {
    ManifestList {
        format_version,
        snapshot_id: 12,
        parent_snapshot_id: None,
        sequence_number: 4,
        first_row_id: 100,
        manifests,
    }
}

fn new() -> ManifestFile {
    ManifestFile {
        sequence_number: None,
        min_sequence_number: None,
        added_snapshot_id: 12,
        partitions: None,
        key_metadata: None,
        ..manifest("new")
    }
}

#[test]
fn manifests_come_back_and_new_ones_get_the_sequence_number() {
    let deletes = ManifestFile {
        content: ManifestContent::Deletes,
        ..manifest("deletes")
    };
    let written = list(2, vec![new(), manifest("old"), deletes.clone()]).write().unwrap();
    let expected = [
        ManifestFile {
            sequence_number: Some(4),
            min_sequence_number: Some(4),
            ..new()
        },
        manifest("old"),
        deletes,
    ];
    assert_eq!(written.manifests, expected);
    assert_eq!(written.assigned_rows, 0);
    assert_eq!(read_manifest_list(&written.bytes.into(), "l").unwrap(), expected);
}

#[test]
fn first_row_ids_leave_room_for_all_live_rows_of_manifests_without_one() {
    let known = ManifestFile {
        first_row_id: Some(7),
        ..manifest("known")
    };
    let deletes = ManifestFile {
        content: ManifestContent::Deletes,
        ..manifest("deletes")
    };
    let written = list(3, vec![new(), known, deletes, manifest("upgraded")])
        .write()
        .unwrap();
    let manifests = read_manifest_list(&written.bytes.into(), "l").unwrap();
    let ids: Vec<_> = manifests.iter().map(|manifest| manifest.first_row_id).collect();
    assert_eq!(ids, [Some(100), Some(7), None, Some(130)]);
    assert_eq!(manifests, written.manifests);
    assert_eq!(written.assigned_rows, 60);
}

#[test]
fn header_says_of_which_snapshot_it_is() {
    let metadata = |list: ManifestList| {
        let bytes = list.write().unwrap().bytes;
        let reader = apache_avro::Reader::new(bytes.as_slice()).unwrap();
        let metadata: BTreeMap<String, String> = reader
            .user_metadata()
            .iter()
            .map(|(key, value)| (key.clone(), String::from_utf8(value.clone()).unwrap()))
            .collect();
        metadata
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        metadata(list(2, Vec::new())),
        [
            "format-version=2",
            "parent-snapshot-id=null",
            "sequence-number=4",
            "snapshot-id=12"
        ]
    );
    let child = ManifestList {
        parent_snapshot_id: Some(11),
        ..list(3, vec![new()])
    };
    assert_eq!(
        metadata(child),
        [
            "first-row-id=100",
            "format-version=3",
            "parent-snapshot-id=11",
            "sequence-number=4",
            "snapshot-id=12"
        ]
    );
}

#[test]
fn another_reader_reads_the_same() {
    let bytes = list(3, vec![new(), manifest("old")]).write().unwrap().bytes;
    let records: Vec<_> = apache_avro::Reader::new(bytes.as_slice())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(records.len(), 2);
    let apache_avro::types::Value::Record(fields) = &records[0] else {
        panic!("not a record")
    };
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "manifest_path",
            "manifest_length",
            "partition_spec_id",
            "content",
            "sequence_number",
            "min_sequence_number",
            "added_snapshot_id",
            "added_files_count",
            "existing_files_count",
            "deleted_files_count",
            "added_rows_count",
            "existing_rows_count",
            "deleted_rows_count",
            "partitions",
            "key_metadata",
            "first_row_id",
        ]
    );
    assert_eq!(fields[4].1, apache_avro::types::Value::Long(4));
}

#[test]
fn lists_that_another_writer_has_written_are_read_by_field_id() {
    let schema = apache_avro::Schema::parse_str(
        r#"{"type": "record", "name": "other", "fields": [
            {"name": "unknown", "type": {"type": "map", "values": "long"}},
            {"name": "added_snapshot_id", "type": ["long", "null"], "field-id": 503},
            {"name": "path", "type": "string", "field-id": 500},
            {"name": "manifest_length", "type": "int", "field-id": 501},
            {"name": "partition_spec_id", "type": "long", "field-id": 502},
            {"name": "added_data_files_count", "type": ["null", "int"], "field-id": 504}
        ]}"#,
    )
    .unwrap();
    for codec in [
        apache_avro::Codec::Null,
        apache_avro::Codec::Deflate(apache_avro::DeflateSettings::default()),
        #[cfg(feature = "snap")]
        apache_avro::Codec::Snappy,
        #[cfg(feature = "zstd")]
        apache_avro::Codec::Zstandard(apache_avro::ZstandardSettings::default()),
    ] {
        let mut writer = apache_avro::Writer::with_codec(&schema, Vec::new(), codec);
        let mut record = apache_avro::types::Record::new(&schema).unwrap();
        record.put("unknown", std::collections::HashMap::from([("a".to_owned(), 1_i64)]));
        let snapshot = apache_avro::types::Value::Long(9);
        record.put(
            "added_snapshot_id",
            apache_avro::types::Value::Union(0, Box::new(snapshot)),
        );
        record.put("path", "m");
        record.put("manifest_length", 70_i32);
        record.put("partition_spec_id", 2_i64);
        record.put("added_data_files_count", Some(8_i32));
        writer.append(record).unwrap();
        let manifests = read_manifest_list(&writer.into_inner().unwrap().into(), "l").unwrap();
        assert_eq!(
            manifests,
            [ManifestFile {
                path: "m".to_owned(),
                length: 70,
                partition_spec_id: 2,
                content: ManifestContent::Data,
                sequence_number: Some(0),
                min_sequence_number: Some(0),
                added_snapshot_id: 9,
                added_files_count: Some(8),
                existing_files_count: None,
                deleted_files_count: None,
                added_rows_count: None,
                existing_rows_count: None,
                deleted_rows_count: None,
                partitions: None,
                key_metadata: None,
                first_row_id: None,
            }]
        );
    }
}

#[test]
fn lists_that_would_mislead_readers_are_refused() {
    let foreign = ManifestFile {
        added_snapshot_id: 11,
        ..new()
    };
    let uncounted = ManifestFile {
        added_rows_count: None,
        ..manifest("m")
    };
    for (list, kind, message) in [
        (
            list(2, vec![foreign]),
            ErrorKind::Invalid,
            "manifest of an earlier snapshot has no sequence number. object=`new`",
        ),
        (
            list(2, vec![uncounted]),
            ErrorKind::Invalid,
            "manifest of an older table does not say how many files it has. object=`m`",
        ),
        (
            list(1, Vec::new()),
            ErrorKind::Unsupported,
            "manifests of this format version cannot be written. format_version=`1`",
        ),
    ] {
        let error = list.write().unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
    }
}

#[test]
fn damaged_lists_are_errors_that_name_the_object() {
    let error = read_manifest_list(&bytes::Bytes::from_static(b"Obj\x02"), "s3://b/l.avro").unwrap_err();
    assert_eq!(
        error.chain(),
        "manifest list cannot be read. object=`s3://b/l.avro`: avro file is cut or damaged: it does not start as one"
    );
}
