//! What a table says of a lane, and how every kind of commit ends.

use firnline::delta::DeltaOptions;
use firnline::object_store::local::LocalFileSystem;
use firnline::object_store::memory::InMemory;
use firnline::{
    AttemptId, CommitOutcome, Decided, Entry, ErrorKind, HashPrefix, LaneId, Marker, Outcome, PlanHash, Seq,
    TableChange, TableCommit, TableSink, TableState,
};
use futures::executor::block_on;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::support::*;

fn marker(commit: &TableCommit, outcome: Outcome) -> Marker {
    Marker {
        seq: commit.seq,
        outcome,
        plan_hash: commit.plan_hash.map_or(HashPrefix::from_u64(0), |hash| hash.prefix()),
        attempt: commit.attempt,
    }
}

fn state(table: &TestTable, lane: LaneId) -> TableState {
    block_on(table.sink().decided(lane)).unwrap()
}

fn keys(actions: &[Value]) -> Vec<&str> {
    actions
        .iter()
        .map(|action| action.as_object().unwrap().keys().next().unwrap().as_str())
        .collect()
}

#[test]
fn the_first_commit_creates_the_table_with_its_rows_and_its_marker() {
    let table = TestTable::new();
    assert!(state(&table, LANE).table.is_none());
    let commit = append(1);
    let entry = table.committed(&commit);
    assert_eq!(
        entry,
        Entry {
            version: 0,
            outputs: vec![output("f1", 1)]
        }
    );
    let actions = table.actions(0);
    assert_eq!(
        keys(&actions),
        ["commitInfo", "protocol", "metaData", "txn", "txn", "txn", "add"]
    );
    let info = &actions[0]["commitInfo"];
    assert_eq!(info["operation"], "WRITE");
    assert_eq!(
        info["operationParameters"],
        json!({"mode": "Append", "partitionBy": "[]"})
    );
    assert_eq!(info["isBlindAppend"], true);
    assert_eq!(
        info["operationMetrics"],
        json!({"numFiles": "1", "numOutputRows": "1", "numOutputBytes": "101"})
    );
    assert_eq!(info["timestamp"], json!(NOW.as_millis() + 1));
    assert_eq!(info["readVersion"], Value::Null);
    assert_eq!(
        actions[1]["protocol"],
        json!({"minReaderVersion": 1, "minWriterVersion": 2})
    );
    assert_eq!(actions[2]["metaData"]["id"], "00000000-0000-0000-0000-000000000007");
    assert_eq!(actions[2]["metaData"]["createdTime"], json!(NOW.as_millis() + 1));
    let updated = NOW.as_millis() + 1;
    assert_eq!(
        actions[3..6].iter().map(|a| a["txn"].clone()).collect::<Vec<_>>(),
        [
            json!({"appId": format!("firnline/{LANE}"), "version": 1, "lastUpdated": updated}),
            json!({"appId": format!("firnline/{LANE}/hash"), "version": plan(1).prefix().as_i64(), "lastUpdated": updated}),
            json!({"appId": format!("firnline/{LANE}/attempt"), "version": 1001, "lastUpdated": updated}),
        ]
    );
    let add = &actions[6]["add"];
    assert_eq!(add["path"], "data/f1.parquet");
    assert_eq!(add["partitionValues"], json!({}));
    assert_eq!(
        add["tags"],
        json!({"firnline.lane": LANE.to_string(), "firnline.seq": "1", "firnline.planHash": plan(1).to_string()})
    );
    assert_eq!(
        add["stats"],
        r#"{"numRecords":1,"minValues":{},"maxValues":{},"nullCount":{}}"#
    );

    let state = state(&table, LANE);
    let info = state.table.unwrap();
    assert_eq!(
        (info.uuid.as_str(), info.version),
        ("00000000-0000-0000-0000-000000000007", 0)
    );
    assert_eq!(info.schema, schema());
    assert_eq!(
        state.decided,
        Some(Decided {
            marker: marker(&commit, Outcome::Data),
            entry: Some(entry)
        })
    );
    assert_eq!(state.other_lanes, []);
}

#[test]
fn a_lane_on_disk_goes_on_from_entry_to_entry() {
    let dir = tempfile::tempdir().unwrap();
    let table = TestTable::over(Arc::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap()));
    assert!(state(&table, LANE).table.is_none());
    let sink = table.sink();
    for seq in 1..=12 {
        let CommitOutcome::Committed(entry) = block_on(sink.commit(&append(seq))).unwrap() else {
            panic!("seq {seq} was not committed")
        };
        assert_eq!(entry.version, seq - 1);
    }
    let state = state(&table, LANE);
    assert_eq!(state.table.unwrap().version, 11);
    assert_eq!(state.decided.unwrap().marker, marker(&append(12), Outcome::Data));
}

#[test]
fn the_same_commit_again_is_decided_with_the_entry_that_is_there() {
    let table = TestTable::new();
    let entry = table.committed(&append(1));
    let again = TableCommit {
        attempt: AttemptId::from_u64(9),
        ..append(1)
    };
    let decided = Decided {
        marker: marker(&append(1), Outcome::Data),
        entry: Some(entry),
    };
    assert_eq!(table.commit(&append(1)), CommitOutcome::Decided(decided.clone()));
    assert_eq!(table.commit(&again), CommitOutcome::Decided(decided));
    let second = table.committed(&append(2));
    let CommitOutcome::Decided(decided) = table.commit(&again) else {
        panic!("an old seq was not decided")
    };
    assert_eq!(decided.marker.seq, Seq::new(2));
    assert_eq!(decided.entry, Some(second));
    assert_eq!(table.all_adds(), ["data/f1.parquet", "data/f2.parquet"]);
}

#[test]
fn a_void_spends_the_seq_and_differs_from_a_plan_without_rows() {
    let table = TestTable::new();
    let first = table.committed(&void(1));
    assert_eq!(first.outputs, []);
    assert_eq!(
        state(&table, LANE).decided.unwrap().marker,
        marker(&void(1), Outcome::Void)
    );
    let empty = commit(
        2,
        TableChange::Append {
            schema: schema(),
            evolve: firnline::Evolve::Never,
            files: Vec::new(),
        },
    );
    table.committed(&empty);
    assert_eq!(
        state(&table, LANE).decided.unwrap().marker,
        marker(&empty, Outcome::Data)
    );
    assert_eq!(keys(&table.actions(1)), ["commitInfo", "txn", "txn", "txn"]);
    assert_eq!(keys(&table.actions(0)).iter().filter(|key| **key == "txn").count(), 4);
    assert_eq!(table.actions(0)[0]["commitInfo"]["operationMetrics"]["numFiles"], "0");
}

#[test]
fn a_base_that_the_table_does_not_have_diverges() {
    let table = TestTable::new();
    assert_eq!(table.commit(&append(2)), CommitOutcome::Diverged { found: None });
    table.committed(&append(1));
    let found = Some(marker(&append(1), Outcome::Data));
    assert_eq!(table.commit(&append(3)), CommitOutcome::Diverged { found });
    let other_plan = TableCommit {
        base: Some((Seq::new(1), PlanHash::of(b"another").prefix())),
        ..append(2)
    };
    assert_eq!(table.commit(&other_plan), CommitOutcome::Diverged { found });
    assert_eq!(table.all_adds(), ["data/f1.parquet"]);
}

#[test]
fn a_table_has_one_lane_until_an_operator_hands_it_over() {
    let table = TestTable::new();
    table.committed(&append(1));
    let new = LaneId::from_u128(0xB);
    let foreign = TableCommit { lane: new, ..append(1) };
    assert_eq!(table.commit(&foreign), CommitOutcome::Diverged { found: None });
    assert_eq!(state(&table, new).other_lanes, [LANE]);
    // Only a lane that the operator has named is taken over.
    assert_eq!(
        table.commit(&adopt(new, Vec::new())),
        CommitOutcome::Diverged { found: None }
    );

    let adoption = adopt(new, vec![LANE]);
    assert_eq!(table.committed(&adoption).outputs, []);
    let zero = marker(&adoption, Outcome::Data);
    assert_eq!(state(&table, new).decided.unwrap().marker, zero);
    assert_eq!(state(&table, new).other_lanes, []);
    assert!(state(&table, LANE).superseded);
    let CommitOutcome::Decided(decided) = table.commit(&adoption) else {
        panic!("adopted twice")
    };
    assert_eq!(decided.marker, zero);

    // A zombie of the old lane has the right base, and must not get in.
    let found = Some(marker(&append(1), Outcome::Data));
    assert_eq!(table.commit(&append(2)), CommitOutcome::Diverged { found });
    let next = TableCommit {
        base: Some((Seq::ZERO, HashPrefix::from_u64(0))),
        ..foreign
    };
    assert_eq!(table.committed(&next).version, 2);
}

#[test]
fn an_adoption_that_supersedes_more_lanes_goes_in_and_a_superseded_lane_never_adopts() {
    let table = TestTable::new();
    table.committed(&append(1));
    let [first, second] = [0xB, 0xC].map(LaneId::from_u128);
    table.committed(&adopt(first, vec![LANE]));
    // Adopting again for another lane is no repetition: that lane is not shut out yet.
    let more = adopt(first, vec![LANE, second]);
    assert_eq!(table.committed(&more).version, 2);
    assert!(state(&table, second).superseded);
    assert!(matches!(table.commit(&more), CommitOutcome::Decided(_)));
    let back = adopt(LANE, vec![first]);
    let found = Some(marker(&append(1), Outcome::Data));
    assert_eq!(table.commit(&back), CommitOutcome::Diverged { found });
    assert!(!state(&table, first).superseded);
}

#[test]
fn an_adoption_needs_a_table_and_an_entry_needs_a_plan() {
    let table = TestTable::new();
    let refused = |commit: &TableCommit| block_on(table.sink().commit(commit)).unwrap_err().kind();
    assert_eq!(refused(&adopt(LANE, Vec::new())), ErrorKind::Invalid);
    let without_plan = TableCommit {
        plan_hash: None,
        ..append(1)
    };
    assert_eq!(refused(&without_plan), ErrorKind::Invalid);
    let outside = commit(
        1,
        TableChange::Append {
            schema: schema(),
            evolve: firnline::Evolve::Never,
            files: vec![firnline::DataFile {
                path: "elsewhere/a.parquet".to_owned(),
                ..file("a", 1)
            }],
        },
    );
    assert_eq!(refused(&outside), ErrorKind::Invalid);
    assert_eq!(table.listing(), []);
}

#[test]
fn the_entry_is_found_behind_the_commits_of_others() {
    let table = TestTable::new();
    let entry = table.committed(&append(1));
    for version in 1..=5 {
        table.foreign(version, &foreign_append(&format!("x{version}.parquet")));
    }
    assert_eq!(state(&table, LANE).decided.unwrap().entry, Some(entry.clone()));
    // Behind a checkpoint the log is walked back, as far as it goes.
    block_on(table.sink().checkpoint(NOW)).unwrap();
    assert_eq!(state(&table, LANE).decided.unwrap().entry, Some(entry));
    for version in 0..5 {
        table.delete(&format!("{version:020}.json"));
    }
    let decided = state(&table, LANE).decided.unwrap();
    assert_eq!(decided.entry, None);
    assert_eq!(decided.marker, marker(&append(1), Outcome::Data));
}

#[test]
fn a_worker_that_remembers_a_table_notices_that_it_was_made_anew() {
    let table = TestTable::new();
    let worker = table.sink();
    for seq in 1..=3 {
        block_on(worker.commit(&append(seq))).map(drop).unwrap();
    }
    assert_eq!(block_on(worker.decided(LANE)).unwrap().table.unwrap().version, 2);
    for version in 0..=2 {
        table.delete(&format!("{version:020}.json"));
    }
    assert!(block_on(worker.decided(LANE)).unwrap().table.is_none());
    let other = LaneId::from_u128(0xC);
    for seq in 1..=4 {
        let commit = TableCommit {
            lane: other,
            new_table_uuid: uuid::Uuid::from_u128(8),
            sort_order: Vec::new(),
            ..append(seq)
        };
        table.committed(&commit);
    }
    let state = block_on(worker.decided(LANE)).unwrap();
    assert_eq!(state.decided, None);
    assert_eq!(state.other_lanes, [other]);
    assert_eq!(
        block_on(worker.commit(&append(4))).unwrap(),
        CommitOutcome::Diverged { found: None }
    );
}

#[test]
fn a_worker_reads_no_commit_twice() {
    let store = FaultyStore::new(InMemory::new(), []);
    let table = TestTable::over(store.clone());
    for seq in 1..=5 {
        table.committed(&append(seq));
    }
    let worker = table.sink();
    let gets = |expected: u64| {
        let before = store.gets.load(Ordering::Relaxed);
        block_on(worker.decided(LANE)).map(drop).unwrap();
        assert_eq!(store.gets.load(Ordering::Relaxed) - before, expected);
    };
    // The hint, five commits, the next, which is not there, and the commit that holds the entry.
    gets(8);
    gets(1);
    table.foreign(5, &foreign_append("x"));
    gets(2);
    gets(1);
}

#[test]
fn the_log_of_a_lost_table_is_not_taken_for_an_empty_place() {
    let table = TestTable::new().with_options(DeltaOptions::default().with_checkpoint_interval(1));
    table.committed(&append(1));
    table.committed(&append(2));
    for (path, ..) in table.listing() {
        if !path.ends_with("_last_checkpoint") {
            table.delete(path.rsplit('/').next().unwrap());
        }
    }
    let error = block_on(table.sink().decided(LANE)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn files_are_prepared_in_the_order_of_the_table_under_its_root() {
    let table = TestTable::new();
    let reversed = Arc::new(firnline::arrow::datatypes::Schema::new(
        schema().fields().iter().rev().cloned().collect::<Vec<_>>(),
    ));
    let layout = block_on(table.sink().prepare(LANE, &reversed, firnline::Evolve::Never)).unwrap();
    assert_eq!(layout.schema, reversed);
    assert_eq!(layout.data_dir.as_ref(), "tables/users/data");
    table.committed(&append(1));
    let layout = block_on(table.sink().prepare(LANE, &reversed, firnline::Evolve::Never)).unwrap();
    assert_eq!(layout.schema, schema());
}
