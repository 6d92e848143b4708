//! What is not supported is refused by name before anything is written.

use std::sync::Arc;

use firnline::arrow::datatypes::{DataType, Field, Schema};
use firnline::delta::{DeltaOptions, DeltaSink};
use firnline::object_store::ObjectStoreExt;
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::{ErrorKind, Result, TableChange, TableSink};
use futures::executor::block_on;
use serde_json::{Value, json};

use super::support::*;

/// A table of another writer with this protocol and these changes to its metadata.
fn foreign_table(protocol: &Value, metadata: impl FnOnce(&mut Value)) -> TestTable {
    let table = TestTable::new();
    let schema = r#"{"type":"struct","fields":[{"name":"id","type":"long","nullable":false,"metadata":{}},{"name":"name","type":"string","nullable":true,"metadata":{}}]}"#;
    let mut meta = json!({"id": "theirs", "format": {"provider": "parquet", "options": {}}, "schemaString": schema,
        "partitionColumns": [], "configuration": {}});
    metadata(&mut meta);
    table.foreign(0, &[json!({"protocol": protocol}), json!({"metaData": meta})]);
    table
}

fn plain() -> Value {
    json!({"minReaderVersion": 1, "minWriterVersion": 2})
}

/// All doors refuse, the message names what is in the way, and no object has changed.
fn assert_refused(table: &TestTable, named: &str) {
    let before = table.listing();
    let check = |what: &str, result: Result<()>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{what}: {error}");
        assert!(error.chain().contains(named), "{what}: {}", error.chain());
    };
    check("decided", block_on(table.sink().decided(LANE)).map(drop));
    check(
        "prepare",
        block_on(table.sink().prepare(LANE, &schema(), firnline::Evolve::Never)).map(drop),
    );
    check("append", block_on(table.sink().commit(&append(1))).map(drop));
    check("void", block_on(table.sink().commit(&void(1))).map(drop));
    check("checkpoint", block_on(table.sink().checkpoint(NOW)));
    assert_eq!(table.listing(), before);
}

#[test]
fn no_table_is_created_where_one_of_iceberg_lies() {
    for object in [
        "v1.metadata.json",
        "v3.gz.metadata.json",
        "v3.metadata.json.gz",
        "00001-6a92d155.metadata.json",
        "version-hint.text",
    ] {
        let table = TestTable::new();
        let path = Path::from(format!("{ROOT}/metadata/{object}"));
        block_on(table.store.put(&path, "{}".into())).unwrap();
        block_on(
            table
                .store
                .put(&Path::from(format!("{ROOT}/metadata/a.avro")), "".into()),
        )
        .unwrap();
        let before = table.listing();
        for refused in [
            block_on(table.sink().prepare(LANE, &schema(), firnline::Evolve::Never)).map(drop),
            block_on(table.sink().commit(&append(1))).map(drop),
            block_on(table.sink().commit(&void(1))).map(drop),
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert_eq!(
                error.to_string(),
                format!("a table of another format lies where one is to be created. format=`iceberg` object=`{path}`")
            );
        }
        assert_eq!(table.listing(), before);
    }
}

#[test]
fn other_objects_called_metadata_are_in_nobodys_way() {
    let table = TestTable::new();
    let path = Path::from(format!("{ROOT}/metadata/notes.json"));
    block_on(table.store.put(&path, "{}".into())).unwrap();
    table.committed(&append(1));
}

#[test]
fn tables_with_features_that_are_not_supported_are_left_alone() {
    let v7 = |reader: &[&str], writer: &[&str]| json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": reader, "writerFeatures": writer});
    assert_refused(
        &foreign_table(&v7(&["catalogManaged"], &["catalogManaged"]), |_| {}),
        "reader feature catalogManaged; writer feature catalogManaged",
    );
    for feature in [
        "adaptiveMetadata",
        "collations-preview",
        "geospatial",
        "icebergCompatV1",
        "icebergCompatV2",
        "icebergCompatV3",
        "icebergWriterCompatV1",
        "materializePartitionColumns",
        "variantShredding-preview",
        "variantType",
    ] {
        assert_refused(
            &foreign_table(&v7(&[], &[feature]), |_| {}),
            &format!("writer feature {feature}"),
        );
    }
    for data_type in ["variant", "geometry(OGC:CRS84)", "timestamp_nanos"] {
        let table = foreign_table(&plain(), |meta| {
            let schema = meta["schemaString"].as_str().unwrap();
            meta["schemaString"] = json!(schema.replace("\"string\"", &format!("\"{data_type}\"")));
        });
        assert_refused(&table, &format!("unknown type {data_type}. column=`name`"));
    }
    assert_refused(
        &foreign_table(&plain(), |meta| meta["partitionColumns"] = json!(["gone"])),
        "partition column that the table has not. column=`gone`",
    );
    assert_refused(
        &foreign_table(&json!({"minReaderVersion": 2, "minWriterVersion": 4}), |meta| {
            meta["configuration"] = json!({"delta.columnMapping.mode": "name"});
        }),
        "property delta.columnMapping.mode = name",
    );
    assert_refused(
        &foreign_table(&json!({"minReaderVersion": 2, "minWriterVersion": 5}), |meta| {
            meta["configuration"] = json!({"delta.columnMapping.mode": "name"});
        }),
        "column without id or physical name: id",
    );
    assert_refused(
        &foreign_table(&json!({"minReaderVersion": 1, "minWriterVersion": 3}), |meta| {
            meta["configuration"] = json!({"delta.constraints.c": "id > 0"});
        }),
        "property delta.constraints.c = id > 0",
    );
    assert_refused(
        &foreign_table(&plain(), |meta| {
            meta["configuration"] = json!({"delta.setTransactionRetentionDuration": "interval 7 days"});
        }),
        "delta.setTransactionRetentionDuration = interval 7 days",
    );
    assert_refused(
        &foreign_table(&plain(), |meta| {
            let schema = meta["schemaString"]
                .as_str()
                .unwrap()
                .replace("\"string\"", "\"variant\"");
            meta["schemaString"] = json!(schema);
        }),
        "unknown type variant. column=`name`",
    );
}

#[test]
fn tables_whose_features_ask_nothing_of_an_append_are_appended_to() {
    let features = [
        "appendOnly",
        "changeDataFeed",
        "checkConstraints",
        "deletionVectors",
        "domainMetadata",
    ];
    let protocol = json!({"minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"], "writerFeatures": features});
    let table = foreign_table(&protocol, |meta| {
        meta["configuration"] = json!({"delta.appendOnly": "true", "delta.enableChangeDataFeed": "true"});
    });
    assert_eq!(table.committed(&append(1)).version, 1);
    assert_eq!(
        table.actions(1).last().unwrap()["add"]["stats"],
        r#"{"numRecords":1,"minValues":{},"maxValues":{},"nullCount":{},"tightBounds":true}"#
    );
}

#[test]
fn commits_carry_times_and_row_ids_where_the_table_keeps_them() {
    let features = ["domainMetadata", "inCommitTimestamp", "rowTracking"];
    let protocol = json!({"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": features});
    let table = foreign_table(&protocol, |meta| {
        meta["configuration"] = json!({"delta.enableInCommitTimestamps": "true", "delta.enableRowTracking": "true"});
    });
    // The commit that enabled the times must have one.
    assert_refused(&table, "in-commit timestamp missing");
    let future = NOW.as_millis() + 1_000_000;
    table.foreign(
        1,
        &[
            json!({"commitInfo": {"inCommitTimestamp": future}}),
            json!({"domainMetadata": {"domain": "delta.rowTracking",
                "configuration": "{\"rowIdHighWaterMark\":9}", "removed": false}}),
        ],
    );
    let two = commit(
        1,
        TableChange::Append {
            schema: schema(),
            evolve: firnline::Evolve::Never,
            files: vec![file("a", 5), file("b", 3)],
        },
    );
    table.committed(&two);
    let actions = table.actions(2);
    assert_eq!(actions[0]["commitInfo"]["inCommitTimestamp"], json!(future + 1));
    assert_eq!(actions[0]["commitInfo"]["tags"]["delta.rowTracking.preserved"], "true");
    let adds: Vec<_> = actions
        .iter()
        .filter(|a| a["add"].is_object())
        .map(|a| &a["add"])
        .collect();
    let ids: Vec<_> = adds
        .iter()
        .map(|a| (&a["baseRowId"], &a["defaultRowCommitVersion"]))
        .collect();
    assert_eq!(ids, [(&json!(10), &json!(2)), (&json!(15), &json!(2))]);
    let domain = actions.iter().find(|a| a["domainMetadata"].is_object()).unwrap();
    assert_eq!(
        domain["domainMetadata"]["configuration"],
        r#"{"rowIdHighWaterMark":17}"#
    );

    // From a checkpoint alone both go on.
    block_on(table.sink().checkpoint(NOW)).unwrap();
    table.delete(&format!("{:020}.json", 0));
    table.delete(&format!("{:020}.json", 1));
    table.committed(&append(2));
    let actions = table.actions(3);
    assert_eq!(actions[0]["commitInfo"]["inCommitTimestamp"], json!(future + 2));
    assert_eq!(actions.last().unwrap()["add"]["baseRowId"], json!(18));
}

#[test]
fn columns_that_no_table_can_hold_are_refused_before_a_table_is_made() {
    let table = TestTable::new();
    let sink = table.sink();
    let prepare = |field: Field| {
        let schema = Arc::new(Schema::new(vec![field]));
        block_on(sink.prepare(LANE, &schema, firnline::Evolve::Never)).map(|layout| layout.schema)
    };
    let error = prepare(Field::new("a b", DataType::Int64, true)).unwrap_err();
    assert!(error.to_string().contains("column name not allowed"), "{error}");
    let error = prepare(Field::new(
        "t",
        DataType::Duration(firnline::arrow::datatypes::TimeUnit::Second),
        true,
    ));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(prepare(Field::new("n", DataType::Null, true)).is_err());
    assert_eq!(table.listing(), []);
}

#[test]
fn a_property_that_needs_a_feature_is_refused_on_a_new_table() {
    let refused = |key: &str, value: &str| {
        let options = DeltaOptions::default().with_property(key, value);
        let table = TestTable::new().with_options(options);
        let error = block_on(table.sink().commit(&append(1))).unwrap_err().to_string();
        assert_eq!(table.listing(), []);
        error
    };
    assert!(refused("delta.enableDeletionVectors", "true").contains("delta.enableDeletionVectors"));
    assert!(refused("delta.logRetentionDuration", "soon").contains("not an interval"));
    assert!(refused("delta.setTransactionRetentionDuration", "interval 1 day").contains("interval 1 day"));
    let options = DeltaOptions::default()
        .with_property("owner", "us")
        .with_property("delta.appendOnly", "true");
    let table = TestTable::new().with_options(options);
    table.committed(&append(1));
    assert_eq!(
        table.actions(0)[2]["metaData"]["configuration"],
        json!({"owner": "us", "delta.appendOnly": "true"})
    );
}

#[test]
fn times_without_zone_get_the_protocol_that_they_need() {
    let unit = firnline::arrow::datatypes::TimeUnit::Microsecond;
    let schema = Arc::new(Schema::new(vec![Field::new(
        "t",
        DataType::Timestamp(unit, None),
        true,
    )]));
    let table = TestTable::new();
    let files = vec![file("a", 1)];
    table.committed(&commit(
        1,
        TableChange::Append {
            schema,
            evolve: firnline::Evolve::Never,
            files,
        },
    ));
    assert_eq!(
        table.actions(0)[1]["protocol"],
        json!({"minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"]})
    );
}

#[test]
fn a_store_without_put_if_absent_is_named() {
    let store = FaultyStore::new(InMemory::new(), [Fault::NotImplemented]);
    let sink = DeltaSink::new(store, Path::from(ROOT), DeltaOptions::default());
    let error = block_on(sink.commit(&append(1))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("put-if-absent"), "{error}");
}
