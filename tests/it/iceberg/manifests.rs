//! Manifests and lists that other writers have written are read; what they are is in `fixtures/README.md`.

use std::collections::BTreeMap;

use bytes::Bytes;
use firnline::iceberg::{
    Datum, EntryStatus, FieldSummary, FileContent, ManifestContent, ManifestDataFile, ManifestEntry, ManifestFile,
    PartitionColumn, PrimitiveType, read_manifest, read_manifest_list,
};

const PYICEBERG_MANIFEST: &[u8] = include_bytes!("fixtures/pyiceberg-manifest-v2.avro");
const PYICEBERG_LIST: &[u8] = include_bytes!("fixtures/pyiceberg-list-v2.avro");
const FASTAVRO_MANIFEST: &[u8] = include_bytes!("fixtures/fastavro-manifest.avro");

fn column(field_id: i32, name: &str, primitive: PrimitiveType) -> PartitionColumn {
    PartitionColumn {
        field_id,
        name: name.to_owned(),
        primitive,
    }
}

fn same(bytes: &[u8], contains_null: bool) -> FieldSummary {
    FieldSummary {
        contains_null,
        contains_nan: Some(false),
        lower_bound: Some(bytes.to_vec()),
        upper_bound: Some(bytes.to_vec()),
    }
}

fn uuid() -> Vec<u8> {
    (0..16).collect()
}

fn pyiceberg_list() -> ManifestFile {
    ManifestFile {
        path: "s3://b/m.avro".to_owned(),
        length: 5056,
        partition_spec_id: 1,
        content: ManifestContent::Data,
        sequence_number: Some(9),
        min_sequence_number: Some(3),
        added_snapshot_id: 42,
        added_files_count: Some(1),
        existing_files_count: Some(1),
        deleted_files_count: Some(0),
        added_rows_count: Some(7),
        existing_rows_count: Some(7),
        deleted_rows_count: Some(0),
        partitions: Some(vec![
            same(&20_454_i32.to_le_bytes(), false),
            same(&[0xFE, 0x70], false),
            same(&uuid(), true),
        ]),
        key_metadata: None,
        first_row_id: None,
    }
}

#[test]
fn list_of_pyiceberg_is_read() {
    let manifests = read_manifest_list(&Bytes::from_static(PYICEBERG_LIST), "l").unwrap();
    assert_eq!(manifests, [pyiceberg_list()]);
}

#[test]
fn manifest_of_pyiceberg_is_read() {
    let columns = [
        column(1000, "ts_day", PrimitiveType::Date),
        column(1001, "am ount", PrimitiveType::Decimal { precision: 9, scale: 2 }),
        column(1002, "u", PrimitiveType::Uuid),
    ];
    let file = |path: &str, uuid| ManifestDataFile {
        file_path: path.to_owned(),
        file_format: "PARQUET".to_owned(),
        partition: vec![Some(Datum::Int(20_454)), Some(Datum::Decimal(-400)), uuid],
        record_count: 7,
        file_size: 1234,
        column_sizes: BTreeMap::from([(3, 11), (4, 22)]),
        value_counts: BTreeMap::from([(3, 7)]),
        null_value_counts: BTreeMap::from([(3, 1)]),
        lower_bounds: BTreeMap::from([(3, 1_i64.to_le_bytes().to_vec())]),
        upper_bounds: BTreeMap::from([(3, 2_i64.to_le_bytes().to_vec())]),
        split_offsets: vec![4, 99],
        sort_order_id: Some(1),
        ..ManifestDataFile::default()
    };
    let entries = read_manifest(&Bytes::from_static(PYICEBERG_MANIFEST), &pyiceberg_list(), &columns).unwrap();
    assert_eq!(
        entries,
        [
            ManifestEntry {
                status: EntryStatus::Added,
                snapshot_id: 42,
                sequence_number: Some(9),
                file_sequence_number: Some(9),
                data_file: file("s3://b/a.parquet", Some(Datum::Bytes(uuid()))),
            },
            ManifestEntry {
                status: EntryStatus::Existing,
                snapshot_id: 41,
                sequence_number: Some(3),
                file_sequence_number: Some(4),
                data_file: file("s3://b/b.parquet", None),
            },
        ]
    );
}

#[test]
fn manifest_is_read_by_field_ids_alone() {
    let columns = [column(1000, "not its name", PrimitiveType::String)];
    let entries = read_manifest(&Bytes::from_static(FASTAVRO_MANIFEST), &pyiceberg_list(), &columns).unwrap();
    let file = |path: &str, content, region: Option<&str>, equality_ids| ManifestDataFile {
        content,
        file_path: path.to_owned(),
        file_format: "parquet".to_owned(),
        partition: vec![region.map(|region| Datum::String(region.to_owned()))],
        record_count: 3,
        file_size: 5_000_000_000,
        upper_bounds: BTreeMap::from([(1, b"z".to_vec())]),
        equality_ids,
        ..ManifestDataFile::default()
    };
    assert_eq!(
        entries,
        [
            ManifestEntry {
                status: EntryStatus::Added,
                snapshot_id: 42,
                sequence_number: Some(9),
                file_sequence_number: Some(9),
                data_file: file("a", FileContent::EqualityDeletes, Some("eu"), vec![1, 2]),
            },
            ManifestEntry {
                status: EntryStatus::Existing,
                snapshot_id: 40,
                sequence_number: None,
                file_sequence_number: None,
                data_file: file("b", FileContent::Data, None, Vec::new()),
            },
        ]
    );
}

#[test]
fn damaged_manifests_of_others_are_errors_or_other_entries_but_no_panic() {
    let manifest = pyiceberg_list();
    for fixture in [PYICEBERG_MANIFEST, FASTAVRO_MANIFEST] {
        for end in 0..fixture.len() {
            let read = read_manifest(&Bytes::from_static(&fixture[..end]), &manifest, &[]);
            assert!(read.is_err() || read.unwrap().len() < 2, "{end}");
        }
    }
    for at in 0..FASTAVRO_MANIFEST.len() {
        for bit in 0..8 {
            let mut damaged = FASTAVRO_MANIFEST.to_vec();
            damaged[at] ^= 1 << bit;
            let _ = read_manifest(&damaged.into(), &manifest, &[]);
        }
    }
}
