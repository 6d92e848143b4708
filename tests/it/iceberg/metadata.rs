//! Table metadata that others have written are read, changed and written again without loss.

use std::path::Path;

use firnline::Timestamp;
use firnline::iceberg::{
    FormatVersion, MAIN_BRANCH, Snapshot, SnapshotRef, TableMetadata, TableUpdate, Transform, arrow_schema,
};
use serde_json::Value;

fn fixture(name: &str) -> Vec<u8> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/iceberg");
    std::fs::read(data.join(name)).unwrap()
}

/// What version 1 has for old readers only: ours is that of the current schema and spec, theirs need not be.
const LEGACY: [&str; 2] = ["partition-spec", "schema"];

/// Whether everything in `part` is in `whole`; what is empty may be left out.
fn assert_kept(part: &Value, whole: &Value) {
    for (key, value) in part.as_object().unwrap() {
        match whole.get(key) {
            Some(_) if LEGACY.contains(&key.as_str()) => {}
            Some(found) => assert_eq!(found, value, "{key}"),
            None => assert!(
                value.as_array().is_some_and(Vec::is_empty) || key == "last-sequence-number",
                "{key} is lost"
            ),
        }
    }
}

#[test]
fn metadata_of_pyiceberg_are_read_and_kept() {
    for (name, version) in [
        ("pyiceberg-v1.metadata.json", FormatVersion::V1),
        ("pyiceberg-v2.metadata.json", FormatVersion::V2),
    ] {
        let bytes = fixture(name);
        let table = TableMetadata::parse(&bytes).unwrap();
        assert_eq!(table.format_version(), version);
        assert_eq!((table.schema().schema_id, table.last_column_id()), (1, 10));
        let transforms: Vec<_> = table
            .default_spec()
            .fields
            .iter()
            .map(|f| f.transform.clone())
            .collect();
        assert_eq!(transforms, [Transform::Day, Transform::Bucket(16)]);
        assert_eq!((table.snapshots().len(), table.metadata_log().len()), (2, 5));
        let current = table.current_snapshot().unwrap();
        assert_eq!(current.summary["total-records"], "2");
        assert_eq!(table.refs()["first"].snapshot_id, current.snapshot_id);
        assert_eq!(arrow_schema(table.schema()).fields().len(), 5);
        assert_kept(&serde_json::from_slice(&bytes).unwrap(), &table.to_json().unwrap());
        assert_eq!(TableMetadata::parse(&table.encode().unwrap()).unwrap(), table);
    }
}

#[test]
fn an_append_to_a_table_of_pyiceberg_changes_only_what_it_must() {
    let table = TableMetadata::parse(&fixture("pyiceberg-v2.metadata.json")).unwrap();
    let now = table.next_timestamp(Timestamp::from_millis(0));
    let snapshot = Snapshot {
        snapshot_id: 7,
        parent_snapshot_id: table.current_snapshot().map(|s| s.snapshot_id),
        sequence_number: table.next_sequence_number(),
        timestamp_ms: now,
        manifest_list: Some("s3://bucket/n/t2/metadata/snap-7.avro".to_owned()),
        summary: [("operation".to_owned(), "append".to_owned())].into(),
        schema_id: Some(table.schema().schema_id),
        ..Snapshot::default()
    };
    let updates = [
        TableUpdate::AddSnapshot { snapshot },
        TableUpdate::SetSnapshotRef {
            ref_name: MAIN_BRANCH.to_owned(),
            reference: SnapshotRef::branch(7),
        },
    ];
    let after = table
        .apply(&updates, now, Some("s3://bucket/n/t2/metadata/v5.json"))
        .unwrap();
    let (before, after) = (table.to_json().unwrap(), after.to_json().unwrap());
    let changed: Vec<_> = before
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, value)| after[key.as_str()] != **value)
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!(
        changed,
        [
            "current-snapshot-id",
            "last-sequence-number",
            "metadata-log",
            "refs",
            "snapshot-log",
            "snapshots"
        ]
    );
    assert_eq!(after["refs"]["first"], before["refs"]["first"]);
}
