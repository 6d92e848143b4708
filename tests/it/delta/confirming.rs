//! Before sources are deleted the log is asked whether their rows are still in.

use firnline::{
    AttemptId, Confirmation, Decision, LaneId, OutputFile, PlanHash, Seq, TableChange, TableCommit, TableSink,
};
use futures::executor::block_on;
use serde_json::{Value, json};
use uuid::Uuid;

use super::support::*;

fn confirm(table: &TestTable, decision: &Decision) -> Result<(), String> {
    match block_on(table.sink().confirm(decision)).unwrap() {
        Confirmation::Confirmed => Ok(()),
        Confirmation::Refuted { reason } => Err(reason),
    }
}

/// A table with the entry of seq 1 at version 1, and its decision.
fn decided() -> (TestTable, Decision) {
    let table = TestTable::new();
    table.committed(&append(1));
    let entry = table.committed(&append(2));
    (table, decision(&append(2), &entry))
}

#[test]
fn an_entry_is_confirmed_with_or_without_knowing_its_version() {
    let (table, decision) = decided();
    table.committed(&append(3));
    table.foreign(3, &foreign_append("x"));
    assert_eq!(confirm(&table, &decision), Ok(()));
    let unknown = Decision {
        table_version: None,
        ..decision
    };
    assert_eq!(confirm(&table, &unknown), Ok(()));
}

#[test]
fn a_decision_that_differs_from_the_entry_is_refuted() {
    let (table, decision) = decided();
    let others: [Decision; 5] = [
        Decision {
            plan_hash: PlanHash::of(b"another"),
            ..decision.clone()
        },
        Decision {
            attempt: AttemptId::from_u64(3),
            ..decision.clone()
        },
        Decision {
            outcome: firnline::Outcome::Void,
            ..decision.clone()
        },
        Decision {
            outputs: vec![output("f9", 9)],
            ..decision.clone()
        },
        Decision {
            lane: LaneId::from_u128(5),
            ..decision.clone()
        },
    ];
    for later in [false, true] {
        if later {
            table.committed(&append(3));
        }
        for other in &others {
            assert!(confirm(&table, other).is_err(), "{other:?}");
        }
        assert_eq!(confirm(&table, &decision), Ok(()));
    }
    let early = Decision {
        seq: Seq::new(4),
        ..decision
    };
    assert_eq!(
        confirm(&table, &early),
        Err("the table knows nothing of seq 4, its newest entry of the lane is 3".to_owned())
    );
}

#[test]
fn rows_that_were_moved_are_in_and_rows_that_were_replaced_are_not() {
    let cases = [
        ("OPTIMIZE", json!({"predicate": "[]"}), true),
        ("DELETE", json!({}), true),
        ("RESTORE", json!({"version": 0}), false),
        ("RESTORE", json!({"version": 1}), true),
        ("WRITE", json!({"mode": "Overwrite"}), false),
        ("CREATE OR REPLACE TABLE", json!({}), false),
        ("FSCK REPAIR TABLE", json!({}), false),
    ];
    for (operation, parameters, confirmed) in cases {
        let (table, decision) = decided();
        table.foreign(2, &foreign_remove(operation, &parameters, "data/f2.parquet"));
        let found = confirm(&table, &decision);
        assert_eq!(found.is_ok(), confirmed, "{operation} {parameters}: {found:?}");
        if let Err(reason) = found {
            assert!(reason.contains(operation), "{reason}");
        }
    }
}

#[test]
fn a_table_that_is_gone_or_made_anew_or_rolled_back_refutes() {
    let (table, decision) = decided();
    table.delete(&format!("{:020}.json", 1));
    assert_eq!(
        confirm(&table, &decision),
        Err("the table was rolled back to version 0, the entry was in 1".to_owned())
    );
    let unknown = Decision {
        table_version: None,
        ..decision.clone()
    };
    assert_eq!(
        confirm(&table, &unknown),
        Err("the table knows nothing of seq 2, its newest entry of the lane is 1".to_owned())
    );
    table.delete(&format!("{:020}.json", 0));
    assert_eq!(confirm(&table, &decision), Err("the table is gone".to_owned()));
    for seq in 1..=3 {
        table.committed(&TableCommit {
            lane: LaneId::from_u128(9),
            new_table_uuid: Uuid::from_u128(9),
            ..append(seq)
        });
    }
    assert_eq!(
        confirm(&table, &decision),
        Err("the table knows nothing of seq 2, its newest entry of the lane is none".to_owned())
    );
}

#[test]
fn where_the_log_was_cleaned_all_files_must_be_live() {
    let cleaned = |then: &[Value]| {
        let (table, decision) = decided();
        table.committed(&append(3));
        if !then.is_empty() {
            table.foreign(3, then);
        }
        block_on(table.sink().checkpoint(NOW)).unwrap();
        for version in 0..=2 {
            table.delete(&format!("{version:020}.json"));
        }
        table.foreign(3 + u64::from(!then.is_empty()), &foreign_append("later"));
        confirm(&table, &decision)
    };
    // Without a commit at the checkpoint's version, and with one.
    assert_eq!(cleaned(&[]), Ok(()));
    assert_eq!(cleaned(&foreign_append("x")), Ok(()));
    // Even a known operation cannot be told from any other any more.
    let gone = cleaned(&foreign_remove("OPTIMIZE", &json!({}), "data/f2.parquet"));
    assert_eq!(
        gone,
        Err("not all files of seq 2 are in the table, and the log does not say any more why".to_owned())
    );
}

const NOT_ALL: &str = "not all files of seq 2 are in the table, and the log does not say any more why";

#[test]
fn a_gap_in_the_log_after_the_entry_is_not_walked_over() {
    let (table, decision) = decided();
    table.foreign(2, &foreign_remove("RESTORE", &json!({"version": 0}), "data/f2.parquet"));
    block_on(table.sink().checkpoint(NOW)).unwrap();
    table.delete(&format!("{:020}.json", 2));
    table.foreign(3, &foreign_append("later"));
    assert_eq!(confirm(&table, &decision), Err(NOT_ALL.to_owned()));
}

#[test]
fn where_the_log_was_cleaned_one_file_of_two_is_not_enough_and_later_commits_count() {
    for (gone, confirmed) in [("data/a.parquet", false), ("data/b.parquet", false), ("x", true)] {
        for after_the_checkpoint in [false, true] {
            let table = TestTable::new();
            table.committed(&append(1));
            let files = vec![file("a", 1), file("b", 2)];
            let two = commit(
                2,
                TableChange::Append {
                    schema: schema(),
                    evolve: firnline::Evolve::Never,
                    files,
                },
            );
            let entry = table.committed(&two);
            let checkpoint = || block_on(table.sink().checkpoint(NOW)).unwrap();
            if after_the_checkpoint {
                checkpoint();
            }
            table.foreign(2, &foreign_remove("OPTIMIZE", &json!({}), gone));
            if !after_the_checkpoint {
                checkpoint();
            }
            table.delete(&format!("{:020}.json", 0));
            table.delete(&format!("{:020}.json", 1));
            let expected = if confirmed { Ok(()) } else { Err(NOT_ALL.to_owned()) };
            assert_eq!(
                confirm(&table, &decision(&two, &entry)),
                expected,
                "{gone} after the checkpoint: {after_the_checkpoint}"
            );
        }
    }
}

#[test]
fn decisions_without_files_are_confirmed_by_the_marker() {
    let table = TestTable::new();
    table.committed(&append(1));
    let entry = table.committed(&void(2));
    let decision = decision(&void(2), &entry);
    assert_eq!(confirm(&table, &decision), Ok(()));
    let data = Decision {
        outcome: firnline::Outcome::Data,
        ..decision.clone()
    };
    assert!(confirm(&table, &data).is_err());
    block_on(table.sink().checkpoint(NOW)).unwrap();
    table.delete(&format!("{:020}.json", 0));
    table.delete(&format!("{:020}.json", 1));
    assert_eq!(confirm(&table, &decision), Ok(()));
    assert!(confirm(&table, &data).is_err());
    table.committed(&append(3));
    assert_eq!(confirm(&table, &decision), Ok(()));
    let with_files = Decision {
        outputs: vec![OutputFile {
            path: format!("{ROOT}/data/lost.parquet"),
            size: 1,
            rows: 1,
        }],
        ..decision
    };
    assert!(confirm(&table, &with_files).is_err());
}
