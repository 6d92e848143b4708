//! Answers that are lost, late or wrong: an entry gets in once, and nothing is taken for committed that is not.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStoreExt, PutPayload};
use firnline::{CommitOutcome, Confirmation, ErrorKind, LaneId, TableCommit, TableSink};
use futures::executor::block_on;
use serde_json::json;

use super::support::*;

fn table(script: Vec<Fault>) -> (TestTable, Arc<FaultyStore>) {
    let store = FaultyStore::new(InMemory::new(), script);
    (TestTable::over(store.clone()), store)
}

#[test]
fn a_commit_whose_answer_was_lost_is_found_and_committed() {
    for fault in [Fault::AppliedButError, Fault::AppliedButExists] {
        let (table, store) = table(vec![fault.clone()]);
        let entry = table.committed(&append(1));
        assert_eq!(entry.outputs, [output("f1", 1)], "{fault:?}");
        assert_eq!(store.puts.load(Ordering::Relaxed), 1);
        assert_eq!(table.all_adds(), ["data/f1.parquet"]);
    }
}

#[test]
fn a_commit_that_did_not_land_is_unavailable_and_may_be_tried_again() {
    let (table, _) = table(vec![Fault::NotApplied]);
    let error = block_on(table.sink().commit(&append(1))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.chain().contains("timeout"), "{}", error.chain());
    assert_eq!(table.committed(&append(1)).version, 0);
}

#[test]
fn nothing_is_decided_when_the_read_back_fails_too() {
    for fault in [Fault::AppliedButError, Fault::AppliedButExists, Fault::NotApplied] {
        let (table, store) = table(vec![fault.clone()]);
        store.failing_reads.store(1, Ordering::Relaxed);
        let error = block_on(table.sink().commit(&append(1))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?}");
        store.failing_reads.store(0, Ordering::Relaxed);
        match (fault, table.commit(&append(1))) {
            (Fault::NotApplied, CommitOutcome::Committed(entry)) => assert_eq!(entry.version, 0),
            (Fault::AppliedButError | Fault::AppliedButExists, CommitOutcome::Decided(decided)) => {
                assert_eq!(decided.entry.unwrap().outputs, [output("f1", 1)]);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(table.all_adds(), ["data/f1.parquet"]);
    }
}

#[test]
fn a_conflict_that_nobody_won_is_tried_again_at_the_same_version() {
    let (table, store) = table(vec![Fault::Conflict, Fault::Conflict]);
    assert_eq!(table.committed(&append(1)).version, 0);
    assert_eq!(store.puts.load(Ordering::Relaxed), 3);
}

#[test]
fn commits_of_others_are_rebased_over() {
    let (table, _) = table(Vec::new());
    table.committed(&append(1));
    let inner = copy(&table);
    let script = ["a", "b"].map(|name| Fault::Overtaken(foreign_append(name)));
    let table = TestTable::over(FaultyStore::new(inner, script));
    let entry = table.committed(&append(2));
    assert_eq!((entry.version, entry.outputs), (3, vec![output("f2", 2)]));
    assert_eq!(table.actions(3)[0]["commitInfo"]["readVersion"], 2);
    assert_eq!(table.all_adds(), ["data/f1.parquet", "a", "b", "data/f2.parquet"]);
}

#[test]
fn what_a_listing_does_not_show_yet_is_there() {
    let (table, store) = table(Vec::new());
    let sink = table.sink();
    let entries = [1, 2, 3].map(|seq| (append(seq), table.committed(&append(seq))));
    for listed_to in [3, 2, 1] {
        store.listed_to.store(listed_to, Ordering::Relaxed);
        for sink in [&sink, &table.sink()] {
            let state = block_on(sink.decided(LANE)).unwrap();
            assert_eq!(state.table.unwrap().version, 2, "listed to {listed_to}");
            for (commit, entry) in &entries {
                let confirmed = block_on(sink.confirm(&decision(commit, entry))).unwrap();
                assert_eq!(confirmed, Confirmation::Confirmed, "listed to {listed_to}");
            }
        }
    }
    // Not a single one: whether there is a table cannot be told from that.
    store.listed_to.store(0, Ordering::Relaxed);
    for sink in [&sink, &table.sink()] {
        let error = block_on(sink.decided(LANE)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    }
    store.listed_to.store(2, Ordering::Relaxed);
    assert_eq!(table.committed(&append(4)).version, 3);
}

#[test]
fn a_log_with_a_gap_is_not_filled_up() {
    let (table, _) = table(Vec::new());
    for seq in 1..=4 {
        table.committed(&append(seq));
    }
    let sink = table.sink();
    block_on(sink.decided(LANE)).unwrap();
    table.committed(&append(5));
    table.committed(&append(6));
    table.delete("00000000000000000004.json");
    for sink in [sink, table.sink()] {
        let error = block_on(sink.commit(&append(7))).unwrap_err();
        assert!(error.chain().contains("a gap. missing=`4`"), "{}", error.chain());
    }
    assert_eq!(table.all_adds().len(), 4);
}

#[test]
fn a_table_that_is_too_busy_is_contended() {
    let (table, _) = table(Vec::new());
    table.committed(&append(1));
    let inner = copy(&table);
    let script = (0..3).map(|n| Fault::Overtaken(foreign_append(&n.to_string())));
    let table = TestTable::over(FaultyStore::new(inner, script));
    let options = table.options.clone().with_max_commit_races(2);
    let table = table.with_options(options);
    assert_eq!(table.commit(&append(2)), CommitOutcome::Contended);
    assert_eq!(table.committed(&append(2)).version, 4);
}

#[test]
fn a_winner_that_changes_the_table_is_looked_at_before_going_on() {
    let created = || {
        let (table, _) = table(Vec::new());
        table.committed(&append(1));
        (copy(&table), table.actions(0))
    };
    let overtaken = |inner, actions| TestTable::over(FaultyStore::new(inner, [Fault::Overtaken(actions)]));

    // Features are taken on that we do not write.
    let (inner, _) = created();
    let protocol = json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": ["columnMapping"], "writerFeatures": ["columnMapping", "icebergCompatV2"]}});
    let table = overtaken(inner, vec![protocol]);
    let error = block_on(table.sink().commit(&append(2))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("icebergCompatV2"), "{error}");
    assert_eq!(table.all_adds(), ["data/f1.parquet"]);

    // A column of ours is renamed.
    let (inner, actions) = created();
    let mut metadata = actions[2].clone();
    let renamed = metadata["metaData"]["schemaString"]
        .as_str()
        .unwrap()
        .replace("\"name\":\"id\"", "\"name\":\"key\"");
    metadata["metaData"]["schemaString"] = json!(renamed);
    let table = overtaken(inner, vec![metadata]);
    let error = block_on(table.sink().commit(&append(2))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("column=`id`"), "{error}");

    // Another worker of the lane has put the same seq in: ours is not.
    let (inner, _) = created();
    let theirs = TestTable::new();
    theirs.committed(&append(1));
    theirs.committed(&TableCommit {
        attempt: firnline::AttemptId::from_u64(77),
        ..append(2)
    });
    let table = overtaken(inner, theirs.actions(1));
    let CommitOutcome::Decided(decided) = table.commit(&append(2)) else {
        panic!("seq 2 got in twice")
    };
    assert_eq!(decided.marker.attempt, firnline::AttemptId::from_u64(77));
    assert_eq!(decided.entry.unwrap().version, 1);
    assert_eq!(table.all_adds(), ["data/f1.parquet", "data/f2.parquet"]);
}

#[test]
fn what_a_winner_counts_is_counted_on_from_there() {
    let table = TestTable::new();
    let domain = |high: i64| {
        let configuration = json!({ "rowIdHighWaterMark": high }).to_string();
        json!({"domainMetadata": {"domain": "delta.rowTracking", "configuration": configuration, "removed": false}})
    };
    let other = json!({"domainMetadata": {"domain": "theirs", "configuration": "{}", "removed": false}});
    let time = |time: i64| json!({"commitInfo": {"inCommitTimestamp": time}});
    let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7,
        "writerFeatures": ["domainMetadata", "inCommitTimestamp", "rowTracking"]}});
    table.committed(&append(1));
    let mut metadata = table.actions(0)[2].clone();
    metadata["metaData"]["configuration"] = json!({"delta.enableInCommitTimestamps": "true"});
    let later = NOW.as_millis() + 1_000_000;
    table.foreign(1, &[time(later), protocol, metadata, domain(9)]);
    let script = [
        Fault::Overtaken(vec![time(later + 5), domain(20)]),
        Fault::Overtaken(vec![time(later + 9), other, foreign_append("a")[1].clone(), domain(30)]),
    ];
    let table = TestTable::over(FaultyStore::new(copy(&table), script));
    let entry = table.committed(&append(2));
    let actions = table.actions(entry.version);
    assert_eq!(
        (entry.version, &actions[0]["commitInfo"]["inCommitTimestamp"]),
        (4, &json!(later + 10))
    );
    assert!(actions.contains(&domain(32)), "{actions:#?}");
    let add = &actions.last().unwrap()["add"];
    assert_eq!(
        (&add["baseRowId"], &add["defaultRowCommitVersion"]),
        (&json!(31), &json!(4))
    );
}

#[test]
fn two_lanes_that_create_the_table_at_once_do_not_both_get_in() {
    let theirs = TestTable::new();
    theirs.committed(&TableCommit {
        lane: LaneId::from_u128(0xB),
        ..append(1)
    });
    let (table, _) = table(vec![Fault::Overtaken(theirs.actions(0))]);
    assert_eq!(table.commit(&append(1)), CommitOutcome::Diverged { found: None });
}

#[test]
fn workers_that_race_put_every_seq_in_once() {
    const SEQS: u64 = 25;
    let table = TestTable::new();
    let options = table.options.clone().with_checkpoint_interval(7);
    let table = table.with_options(options);
    table.committed(&append(1));
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let table = table.clone();
            scope.spawn(move || {
                let sink = table.sink();
                for seq in 2..=SEQS {
                    let commit = TableCommit {
                        attempt: firnline::AttemptId::from_u64(worker * 1_000 + seq),
                        ..append(seq)
                    };
                    loop {
                        match block_on(sink.commit(&commit)).unwrap() {
                            CommitOutcome::Committed(_) | CommitOutcome::Decided(_) => break,
                            CommitOutcome::Contended => {}
                            outcome @ (CommitOutcome::Diverged { .. } | CommitOutcome::Outdated { .. }) => {
                                panic!("{outcome:?}")
                            }
                        }
                    }
                }
            });
        }
        for writer in 0..2 {
            let table = table.clone();
            scope.spawn(move || {
                for n in 0..20 {
                    let mut version = 1;
                    let actions = foreign_append(&format!("w{writer}-{n}"));
                    while block_on(put_foreign(&*table.store, version, &actions)).is_err() {
                        version += 1;
                    }
                }
            });
        }
    });
    let mut ours = table.all_adds();
    ours.retain(|path| path.starts_with("data/"));
    ours.sort();
    let mut expected: Vec<_> = (1..=SEQS).map(|seq| format!("data/f{seq}.parquet")).collect();
    expected.sort();
    assert_eq!(ours, expected);
    assert_eq!(table.all_adds().len(), usize::try_from(SEQS).unwrap() + 40);
}

/// The objects of a table in a store of their own.
fn copy(table: &TestTable) -> InMemory {
    let copy = InMemory::new();
    for (path, ..) in table.listing() {
        let path = Path::parse(path).unwrap();
        let copied = async {
            let bytes = table.store.get(&path).await?.bytes().await?;
            copy.put(&path, PutPayload::from(bytes)).await
        };
        block_on(copied).unwrap();
    }
    copy
}
