//! Checkpoints and hints: ours round-trip, damaged ones are gone around, other kinds are read.

use std::sync::Arc;

use bytes::Bytes;
use firnline::delta::DeltaOptions;
use firnline::object_store::ObjectStoreExt;
use firnline::object_store::local::LocalFileSystem;
use firnline::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use firnline::{CommitOutcome, Confirmation, ErrorKind, LaneId, TableCommit, TableSink, Timestamp};
use futures::executor::block_on;
use serde_json::{Value, json};

use super::support::*;

fn read(table: &TestTable, name: &str) -> Bytes {
    block_on(async { table.store.get(&TestTable::log_path(name)).await?.bytes().await }).unwrap()
}

fn hint(table: &TestTable) -> Value {
    serde_json::from_slice(&read(table, "_last_checkpoint")).unwrap()
}

fn checkpoint_name(version: u64) -> String {
    format!("{version:020}.checkpoint.parquet")
}

fn with_interval(interval: u64) -> TestTable {
    TestTable::new().with_options(DeltaOptions::default().with_checkpoint_interval(interval))
}

/// Rows of a checkpoint by the column that is set, with the path or id that tells them apart.
fn rows(bytes: Bytes) -> Vec<(String, String)> {
    use firnline::arrow::array::{Array, AsArray};
    let keys = [
        ("txn", "appId"),
        ("add", "path"),
        ("remove", "path"),
        ("metaData", "id"),
        ("domainMetadata", "domain"),
    ];
    let mut rows = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)
        .unwrap()
        .build()
        .unwrap()
    {
        let batch = batch.unwrap();
        for (column, key) in keys {
            let actions = batch.column_by_name(column).unwrap().as_struct();
            let values = actions.column_by_name(key).unwrap().as_string::<i32>();
            for row in (0..actions.len()).filter(|row| actions.is_valid(*row)) {
                rows.push((column.to_owned(), values.value(row).to_owned()));
            }
        }
        let protocols = batch.column_by_name("protocol").unwrap();
        rows.extend((0..protocols.len() - protocols.null_count()).map(|_| ("protocol".to_owned(), String::new())));
    }
    rows.sort();
    rows
}

#[test]
fn a_checkpoint_follows_every_interval_and_holds_what_is_live() {
    let table = with_interval(3);
    for seq in 1..=3 {
        table.committed(&append(seq));
    }
    let retired = |path: &str, at: i64| json!({"remove": {"path": path, "deletionTimestamp": at, "dataChange": true}});
    let now = NOW.as_millis();
    let mut foreign = foreign_append("x.parquet");
    foreign.extend([
        retired("data/f1.parquet", now),
        retired("long-gone.parquet", now - 8 * 86_400_000),
        json!({"txn": {"appId": "job", "version": 1}}),
        json!({"domainMetadata": {"domain": "d", "configuration": "{}", "removed": false}}),
        json!({"domainMetadata": {"domain": "e", "configuration": "{}", "removed": true}}),
    ]);
    table.foreign(3, &foreign);
    // Version 3 is another writer's, so nobody has written a checkpoint yet.
    for seq in 4..=6 {
        table.committed(&append(seq));
    }
    assert_eq!(hint(&table)["version"], 6);
    let text = |column: &str, key: &str| (column.to_owned(), key.to_owned());
    let lane = format!("firnline/{LANE}");
    let expected = |adds: &[u64]| {
        let mut rows: Vec<_> = adds
            .iter()
            .map(|n| text("add", &format!("data/f{n}.parquet")))
            .collect();
        rows.extend([
            text("add", "x.parquet"),
            text("domainMetadata", "d"),
            text("metaData", "00000000-0000-0000-0000-000000000007"),
            text("protocol", ""),
            text("remove", "data/f1.parquet"),
            text("txn", &lane),
            text("txn", &format!("{lane}/attempt")),
            text("txn", &format!("{lane}/hash")),
            text("txn", "job"),
        ]);
        rows.sort();
        rows
    };
    assert_eq!(rows(read(&table, &checkpoint_name(6))), expected(&[2, 3, 4, 5, 6]));

    // The next one is made of this one and the commits after it.
    for seq in 7..=9 {
        table.committed(&append(seq));
    }
    assert_eq!(hint(&table)["version"], 9);
    assert_eq!(
        rows(read(&table, &checkpoint_name(9))),
        expected(&[2, 3, 4, 5, 6, 7, 8, 9])
    );
    assert_eq!(hint(&table)["numOfAddFiles"], 9);
    assert_eq!(hint(&table)["size"], 17);
    let size = read(&table, &checkpoint_name(9)).len();
    assert_eq!(hint(&table)["sizeInBytes"], json!(size));

    // And is enough by itself.
    for version in 0..=9 {
        table.delete(&format!("{version:020}.json"));
    }
    assert_eq!(table.committed(&append(10)).version, 10);
    let removed = with_interval(0);
    assert_eq!(removed.listing(), []);
}

#[test]
fn expired_tombstones_and_transactions_go_but_never_a_marker() {
    let options = DeltaOptions::default()
        .with_checkpoint_interval(0)
        .with_property("delta.setTransactionRetentionDuration", "interval 40 days")
        .with_property("delta.deletedFileRetentionDuration", "interval 1 day");
    let table = TestTable::new().with_options(options);
    table.committed(&append(1));
    let now = NOW.as_millis();
    table.foreign(
        1,
        &[
            json!({"txn": {"appId": "old", "version": 1, "lastUpdated": now}}),
            json!({"txn": {"appId": "timeless", "version": 1}}),
            json!({"remove": {"path": "gone", "deletionTimestamp": now, "dataChange": true}}),
        ],
    );
    let later = NOW + 41 * 86_400_000;
    block_on(table.sink().checkpoint(later)).unwrap();
    let found = rows(read(&table, &checkpoint_name(1)));
    let txns: Vec<_> = found
        .iter()
        .filter(|(c, _)| c == "txn")
        .map(|(_, id)| id.as_str())
        .collect();
    assert_eq!(
        txns,
        [
            format!("firnline/{LANE}"),
            format!("firnline/{LANE}/attempt"),
            format!("firnline/{LANE}/hash"),
            "timeless".to_owned()
        ]
    );
    assert!(found.iter().all(|(column, _)| column != "remove"));
}

#[test]
fn a_file_removed_long_ago_does_not_come_back_from_the_checkpoint_before() {
    let table = with_interval(0);
    table.committed(&append(1));
    table.foreign(1, &foreign_append("theirs"));
    block_on(table.sink().checkpoint(NOW)).unwrap();
    let removed = json!({"remove": {"path": "theirs", "deletionTimestamp": NOW.as_millis(), "dataChange": true}});
    table.foreign(2, &[removed]);
    let later = NOW + 30 * 86_400_000;
    block_on(table.sink().checkpoint(later)).unwrap();
    let files: Vec<_> = rows(read(&table, &checkpoint_name(2)))
        .into_iter()
        .filter(|(column, _)| column == "add" || column == "remove")
        .collect();
    assert_eq!(files, [("add".to_owned(), "data/f1.parquet".to_owned())]);
}

#[test]
fn the_table_property_wins_over_the_setting() {
    let options = DeltaOptions::default()
        .with_checkpoint_interval(100)
        .with_property("delta.checkpointInterval", "2");
    let table = TestTable::new().with_options(options);
    for seq in 1..=3 {
        table.committed(&append(seq));
    }
    assert_eq!(hint(&table)["version"], 2);
}

#[test]
fn a_hint_never_goes_back_and_a_checkpoint_is_never_overwritten() {
    let table = with_interval(0);
    for seq in 1..=3 {
        table.committed(&append(seq));
    }
    table.put("_last_checkpoint", r#"{"version":7,"size":1}"#);
    block_on(table.sink().checkpoint(NOW)).unwrap();
    assert_eq!(hint(&table)["version"], 7);
    let before = read(&table, &checkpoint_name(2));
    block_on(table.sink().checkpoint(Timestamp::from_millis(0))).unwrap();
    assert_eq!(read(&table, &checkpoint_name(2)), before);
}

#[test]
fn hints_that_dangle_or_are_damaged_are_no_obstacle() {
    for text in [
        r#"{"version":9,"size":1}"#,
        r#"{"version":1,"size":1}"#,
        r#"{"version":"#,
        "",
        r#"{"version":0,"checksum":"00000000000000000000000000000000"}"#,
    ] {
        let table = with_interval(0);
        for seq in 1..=3 {
            table.committed(&append(seq));
        }
        table.put("_last_checkpoint", text);
        let state = block_on(table.sink().decided(LANE)).unwrap();
        assert_eq!(state.table.unwrap().version, 2, "{text}");
        assert_eq!(table.committed(&append(4)).version, 3);
    }
}

#[test]
fn a_damaged_checkpoint_is_gone_around_while_there_is_another_way() {
    let table = with_interval(2);
    for seq in 1..=6 {
        table.committed(&append(seq));
    }
    let whole = read(&table, &checkpoint_name(4));
    table.put(&checkpoint_name(4), whole.slice(..whole.len() / 2));
    let state = block_on(table.sink().decided(LANE)).unwrap();
    assert_eq!(state.table.unwrap().version, 5);
    // Without the commits after the older one there is no other way.
    for version in 0..=4 {
        table.delete(&format!("{version:020}.json"));
    }
    let error = block_on(table.sink().decided(LANE)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn a_gap_in_the_log_is_an_error_and_nothing_is_written_over_it() {
    let table = with_interval(0);
    for seq in 1..=4 {
        table.committed(&append(seq));
    }
    table.delete(&format!("{:020}.json", 2));
    let before = table.listing();
    let error = block_on(table.sink().commit(&append(5))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "the table's log has a gap. missing=`2` newest=`3`");
    assert_eq!(table.listing(), before);
}

#[test]
fn other_names_in_the_log_are_passed_over() {
    let table = with_interval(0);
    table.committed(&append(1));
    for name in [
        "00000000000000000001.json.tmp",
        "00000000000000000009.crc",
        "00000000000000000000.00000000000000000004.compacted.json",
        "_staged_commits/00000000000000000005.3a0d65cd-4056-49b8-937b-95f9e3ee90e5.json",
        "_sidecars/00000000000000000007.json",
        ".s3-optimization-0",
        "00000000000000000008.checkpoint.0000000001.0000000002.parquet",
    ] {
        table.put(name, "{}");
    }
    assert_eq!(table.committed(&append(2)).version, 1);
}

#[test]
fn checkpoints_in_parts_and_named_by_uuid_are_read() {
    let single = with_interval(0);
    for seq in 1..=3 {
        single.committed(&append(seq));
    }
    block_on(single.sink().checkpoint(NOW)).unwrap();
    let bytes = read(&single, &checkpoint_name(2));
    let (first, second) = split(&bytes);
    let uuid = "3a0d65cd-4056-49b8-937b-95f9e3ee90e5";
    let lines: Vec<_> = (0..=2).flat_map(|version| single.actions(version)).collect();
    let mut top_level = vec![json!({"checkpointMetadata": {"version": 2}})];
    for kind in ["protocol", "metaData", "txn"] {
        let newest: std::collections::BTreeMap<_, _> = lines
            .iter()
            .filter(|line| line[kind].is_object())
            .map(|line| (line[kind]["appId"].to_string(), line.clone()))
            .collect();
        top_level.extend(newest.into_values());
    }
    top_level.push(json!({"sidecar": {"path": "a.parquet", "sizeInBytes": bytes.len(), "modificationTime": 1}}));
    let json_text = json_lines(&top_level);
    let layouts: [Vec<(String, Bytes)>; 3] = [
        vec![
            (format!("{:020}.checkpoint.0000000001.0000000002.parquet", 2), first),
            (format!("{:020}.checkpoint.0000000002.0000000002.parquet", 2), second),
        ],
        vec![(format!("{:020}.checkpoint.{uuid}.parquet", 2), bytes.clone())],
        vec![
            (format!("{:020}.checkpoint.{uuid}.json", 2), Bytes::from(json_text)),
            ("_sidecars/a.parquet".to_owned(), bytes),
        ],
    ];
    for layout in layouts {
        let table = with_interval(0);
        let name = layout[0].0.clone();
        for (name, bytes) in layout {
            table.put(&name, bytes);
        }
        let entry = table.committed(&append(4));
        assert_eq!(entry.version, 3, "{name}");
        // The files are found too, where the log does not say any more what became of them.
        let old = decision(
            &append(1),
            &firnline::Entry {
                version: 0,
                outputs: vec![output("f1", 1)],
            },
        );
        assert_eq!(
            block_on(table.sink().confirm(&old)).unwrap(),
            Confirmation::Confirmed,
            "{name}"
        );
        // And are carried on into a checkpoint of ours.
        block_on(table.sink().checkpoint(NOW)).unwrap();
        let adds: Vec<_> = rows(read(&table, &checkpoint_name(3)))
            .into_iter()
            .filter(|(column, _)| column == "add")
            .map(|(_, path)| path)
            .collect();
        assert_eq!(adds, [1, 2, 3, 4].map(|n| format!("data/f{n}.parquet")), "{name}");
    }
}

/// A checkpoint as two files with half of the rows each.
fn split(bytes: &Bytes) -> (Bytes, Bytes) {
    use firnline::arrow::compute::concat_batches;
    use firnline::parquet::arrow::ArrowWriter;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let all = concat_batches(&schema, &batches).unwrap();
    let half = all.num_rows() / 2;
    let write = |batch| {
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, schema.clone(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        Bytes::from(bytes)
    };
    (write(all.slice(0, half)), write(all.slice(half, all.num_rows() - half)))
}

#[test]
fn a_table_that_wants_another_kind_of_checkpoint_gets_none_from_us() {
    let options = DeltaOptions::default()
        .with_checkpoint_interval(1)
        .with_property("delta.checkpoint.writeStatsAsStruct", "true");
    let table = TestTable::new().with_options(options);
    table.committed(&append(1));
    table.committed(&append(2));
    assert!(table.listing().iter().all(|(path, ..)| !path.contains("checkpoint")));
    let error = block_on(table.sink().checkpoint(NOW)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_long_log_with_many_files_is_checkpointed_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap());
    let table = TestTable::over(store).with_options(DeltaOptions::default());
    let sink = table.sink();
    for seq in 1..=31 {
        let files = (0..400).map(|n| file(&format!("s{seq}-{n}"), 1)).collect();
        let change = firnline::TableChange::Append {
            schema: schema(),
            evolve: firnline::Evolve::Never,
            files,
        };
        let commit = commit(seq, change);
        let CommitOutcome::Committed(_) = block_on(sink.commit(&commit)).unwrap() else {
            panic!("seq {seq}")
        };
    }
    assert_eq!(hint(&table)["version"], 30);
    assert_eq!(hint(&table)["numOfAddFiles"], 31 * 400);
    let stray = TableCommit {
        lane: LaneId::from_u128(1),
        ..append(1)
    };
    assert_eq!(table.commit(&stray), CommitOutcome::Diverged { found: None });
}

#[test]
fn damaged_bytes_never_panic() {
    let whole = with_interval(0);
    for seq in 1..=3 {
        whole.committed(&append(seq));
    }
    block_on(whole.sink().checkpoint(NOW)).unwrap();
    let checkpoint = read(&whole, &checkpoint_name(2));
    let commit = read(&whole, &format!("{:020}.json", 1));
    // A fixed linear congruential generator: the same damage every time.
    let mut seed = 42_u64;
    let mut next = |below: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let mut damage = |bytes: &Bytes| {
        let mut bytes = bytes.to_vec();
        for _ in 0..=next(4) {
            let at = next(bytes.len());
            bytes[at] = u8::try_from(next(256)).unwrap();
        }
        if next(4) == 0 {
            bytes.truncate(next(bytes.len()));
        }
        Bytes::from(bytes)
    };
    let (mut read, mut refused) = (0, 0);
    for _ in 0..300 {
        let table = with_interval(0);
        table.put(&checkpoint_name(2), damage(&checkpoint));
        match block_on(table.sink().decided(LANE)) {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
        let table = with_interval(0);
        table.put(&checkpoint_name(0), checkpoint.clone());
        table.put(&format!("{:020}.json", 1), damage(&commit));
        match block_on(table.sink().decided(LANE)) {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(read > 0 && refused > 0, "read {read}, refused {refused}");
}
