//! Whether an entry is still in a table, from the commits after it (lane protocol, rule 9). Pure.

use std::collections::BTreeSet;

use object_store::path::Path;

use super::action::{Action, CommitInfo};
use super::commit::output_path;
use super::marker::entry_marker;
use crate::error::Result;
use crate::sink::{Decision, Marker};

/// Operations that may take a file out of a table because its rows have been moved or are not wanted any more.
const KNOWN: [&str; 12] = [
    "AUTO COMPACTION",
    "DELETE",
    "MERGE",
    "OPTIMIZE",
    "REORG",
    "REORG TABLE UPGRADE UNIFORM",
    "ROW TRACKING BACKFILL",
    "TRUNCATE",
    "UPDATE",
    "VACUUM",
    "VACUUM END",
    "VACUUM START",
];

/// Follows the files of an entry through the commits after it.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    root: &'a Path,
    entry_version: u64,
    outputs: BTreeSet<String>,
    live: BTreeSet<String>,
}

/// Why an entry is not confirmed.
pub(super) type Refusal = String;

impl<'a> Walk<'a> {
    /// Begins at the commit that should hold the entry of `decision`.
    pub(super) fn begin(
        root: &'a Path,
        version: u64,
        commit: &[Action],
        decision: &Decision,
    ) -> Result<Result<Self, Refusal>> {
        let found = entry_marker(commit, decision.lane)?;
        if found != Some(Marker::from(decision)) {
            return Ok(Err(format!(
                "version {version} does not hold the entry of seq {} as it was decided",
                decision.seq
            )));
        }
        let added = super::commit::entry_of(root, version, commit).outputs;
        let added: BTreeSet<_> = added.into_iter().map(|output| output.path).collect();
        let outputs: BTreeSet<_> = decision.outputs.iter().map(|output| output.path.clone()).collect();
        if added != outputs {
            return Ok(Err(format!(
                "version {version} holds other files than those decided for seq {}",
                decision.seq
            )));
        }
        Ok(Ok(Self {
            root,
            entry_version: version,
            live: outputs.clone(),
            outputs,
        }))
    }

    /// The actions of a commit that [`step`](Self::step) looks at: all but files of others, of which it is enough to know
    /// whether one is taken out.
    pub(super) fn wants(&self) -> impl FnMut(&Action) -> bool + Send + '_ {
        let mut takes_out = false;
        move |action| match action.path() {
            Some(path) if self.outputs.contains(&output_path(self.root, path)) => true,
            Some(_) => matches!(action, Action::Remove(_)) && !std::mem::replace(&mut takes_out, true),
            None => true,
        }
    }

    /// Takes in the next commit.
    pub(super) fn step(&mut self, version: u64, commit: &[Action]) -> Result<(), Refusal> {
        let info = commit.iter().find_map(|action| match action {
            Action::CommitInfo(info) => Some(info),
            _ => None,
        });
        let mut takes_out = false;
        let mut removed = Vec::new();
        for action in commit {
            if let Action::Remove(remove) = action {
                takes_out = true;
                let path = output_path(self.root, &remove.path);
                if self.outputs.contains(&path) {
                    removed.push(path);
                }
            }
        }
        let operation = info.and_then(CommitInfo::operation).unwrap_or("without a name");
        if let Some(info) = info
            && rewinds(info)
        {
            // Back to a version that had the entry: that version has been walked over.
            let keeps = operation == "RESTORE"
                && info.parameter("version").and_then(|v| v.parse::<u64>().ok()) >= Some(self.entry_version);
            // Once rows have been moved to other files, these may be what is taken out.
            let moved = self.live.len() < self.outputs.len();
            if !keeps && (!removed.is_empty() || (moved && takes_out)) {
                return Err(format!("operation {operation} of version {version} took the rows out"));
            }
        } else if !removed.is_empty() && !KNOWN.contains(&operation) {
            return Err(format!(
                "a file was taken out by an operation that is not known: {operation} of version {version}"
            ));
        }
        for path in removed {
            self.live.remove(&path);
        }
        for action in commit {
            if let Action::Add(add) = action {
                let path = output_path(self.root, &add.path);
                if self.outputs.contains(&path) {
                    self.live.insert(path);
                }
            }
        }
        Ok(())
    }
}

/// Whether an operation puts a table's whole content in the place of what was there.
fn rewinds(info: &CommitInfo) -> bool {
    let operation = info.operation().unwrap_or_default();
    let parameter = |name: &str, value: &str| {
        info.parameter(name)
            .is_some_and(|found| found.trim_matches('"').eq_ignore_ascii_case(value))
    };
    operation == "RESTORE"
        || operation == "CLONE"
        || operation.contains("REPLACE TABLE")
        || parameter("mode", "Overwrite")
        || parameter("outputMode", "Complete")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AttemptId, HashPrefix, LaneId, PlanHash, Seq};
    use crate::sink::{Outcome, OutputFile};
    use crate::time::Timestamp;

    fn decision() -> Decision {
        Decision {
            version: 1,
            lane: LaneId::from_u128(1),
            seq: Seq::new(3),
            outcome: Outcome::Data,
            plan_hash: PlanHash::of(b"plan"),
            attempt: AttemptId::from_u64(5),
            table_version: Some(10),
            outputs: vec![OutputFile {
                path: "t/data/a.parquet".to_owned(),
                size: 1,
                rows: 1,
            }],
            bad_sources: Vec::new(),
            decided_at: Timestamp::from_millis(0),
        }
    }

    fn actions(text: &str) -> Vec<Action> {
        Action::parse_commit(text.as_bytes()).unwrap()
    }

    fn entry(marker: &Marker, path: &str) -> Vec<Action> {
        let mut commit: Vec<_> = super::super::marker::entry_txns(decision().lane, marker, Timestamp::from_millis(0))
            .unwrap()
            .into_iter()
            .map(Action::Txn)
            .collect();
        commit.extend(actions(&format!(
            r#"{{"add":{{"path":"{path}","size":1,"modificationTime":0,"dataChange":true}}}}"#
        )));
        commit
    }

    fn walk(steps: &[&str]) -> Result<(), Refusal> {
        let root = Path::from("t");
        let commit = entry(&Marker::from(&decision()), "data/a.parquet");
        let mut walk = Walk::begin(&root, 10, &commit, &decision()).unwrap()?;
        for (version, step) in (11..).zip(steps) {
            walk.step(version, &actions(step))?;
        }
        Ok(())
    }

    fn commit(operation: &str, parameters: &str, removes: &[&str]) -> String {
        let mut text =
            format!(r#"{{"commitInfo":{{"operation":"{operation}","operationParameters":{{{parameters}}}}}}}"#);
        for path in removes {
            text.push('\n');
            text += &r#"{"remove":{"path":"PATH","dataChange":false}}"#.replace("PATH", path);
        }
        text
    }

    #[test]
    fn known_operations_may_take_files_out() {
        for operation in ["OPTIMIZE", "DELETE", "UPDATE", "MERGE"] {
            assert_eq!(walk(&[&commit(operation, "", &["data/a.parquet"])]), Ok(()));
        }
        assert_eq!(walk(&[&commit("WRITE", r#""mode":"Append""#, &[])]), Ok(()));
    }

    #[test]
    fn operations_that_replace_the_content_refute() {
        let ours = ["data/a%2Eparquet"];
        for (operation, parameters) in [
            ("RESTORE", r#""version":9"#),
            ("RESTORE", r#""version":null,"timestamp":"2024""#),
            ("REPLACE TABLE", ""),
            ("CREATE OR REPLACE TABLE AS SELECT", ""),
            ("WRITE", r#""mode":"Overwrite""#),
            ("STREAMING UPDATE", r#""outputMode":"Complete""#),
        ] {
            assert_eq!(
                walk(&[&commit(operation, parameters, &ours)]),
                Err(format!("operation {operation} of version 11 took the rows out"))
            );
            // The rows have been moved before, so they may be in any file.
            let moved = commit("OPTIMIZE", "", &ours);
            assert!(walk(&[&moved, &commit(operation, parameters, &["b.parquet"])]).is_err());
        }
    }

    #[test]
    fn a_restore_to_a_version_with_the_entry_keeps_it() {
        let moved = commit("OPTIMIZE", "", &["data/a.parquet"]);
        let back = commit("RESTORE", r#""version":10"#, &["b.parquet"]);
        assert_eq!(walk(&[&moved, &back]), Ok(()));
    }

    #[test]
    fn an_unknown_operation_is_named() {
        let step = commit("FSCK", "", &["data/a.parquet"]);
        assert_eq!(
            walk(&[&step]),
            Err("a file was taken out by an operation that is not known: FSCK of version 11".to_owned())
        );
        assert_eq!(walk(&[&commit("FSCK", "", &["other.parquet"])]), Ok(()));
    }

    #[test]
    fn the_entry_must_be_the_decided_one() {
        let root = Path::from("t");
        let decided = Marker::from(&decision());
        let begin =
            |marker: &Marker, path: &str| Walk::begin(&root, 10, &entry(marker, path), &decision()).unwrap().err();
        assert_eq!(begin(&decided, "data/a.parquet"), None);
        assert!(begin(&decided, "data/b.parquet").is_some());
        for other in [
            Marker {
                outcome: Outcome::Void,
                ..decided
            },
            Marker {
                seq: Seq::new(4),
                ..decided
            },
            Marker {
                plan_hash: HashPrefix::from_u64(1),
                ..decided
            },
            Marker {
                attempt: AttemptId::from_u64(6),
                ..decided
            },
        ] {
            assert!(begin(&other, "data/a.parquet").is_some(), "{other:?}");
        }
    }
}
