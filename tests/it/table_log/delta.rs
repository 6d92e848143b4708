//! Delta's log: a directory of JSON commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firnline::TableProvider;
use firnline::delta::{DeltaOptions, DeltaTables};
use firnline::object_store::ObjectStoreExt;
use firnline::object_store::path::Path;
use futures::executor::block_on;
use serde_json::Value;

use super::{Entry, Store, TakeOut, list, read, write};

pub(super) fn tables(url: &str, store: &Store) -> Arc<dyn TableProvider> {
    let store = Arc::clone(store);
    Arc::new(DeltaTables::new(url, store, Path::default(), DeltaOptions::default()))
}

/// Whether an object is a commit.
pub(crate) fn is_commit(path: &Path) -> bool {
    path.as_ref().contains("/_delta_log/") && path.as_ref().ends_with(".json")
}

/// All actions of the log, by the name of their commit.
fn commits(store: &Store, namespace: &str) -> Vec<(String, Vec<Value>)> {
    let mut paths = list(store, &Path::from(format!("{namespace}/_delta_log")));
    paths.retain(is_commit);
    paths
        .into_iter()
        .map(|path| (path.to_string(), actions(store, &path)))
        .collect()
}

/// The actions of a commit.
pub(crate) fn actions(store: &Store, commit: &Path) -> Vec<Value> {
    let bytes = read(store, commit);
    let lines = std::str::from_utf8(&bytes).unwrap().lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(super) fn entries(store: &Store, namespace: &str) -> Vec<Entry> {
    let all = commits(store, namespace);
    all.iter()
        .flat_map(|(commit, actions)| entries_in(commit, actions))
        .collect()
}

/// The entries that a commit makes.
pub(crate) fn entries_in(commit: &str, actions: &[Value]) -> Vec<Entry> {
    let txns: BTreeMap<&str, u64> = actions
        .iter()
        .filter_map(|action| Some((action["txn"]["appId"].as_str()?, action["txn"]["version"].as_u64()?)))
        .collect();
    let entries = txns.iter().filter_map(|(name, seq)| {
        let lane = name.strip_prefix("firnline/").filter(|lane| !lane.contains('/'))?;
        Some(Entry {
            lane: lane.to_owned(),
            seq: *seq,
            void: txns.get(format!("firnline/{lane}/void").as_str()) == Some(seq),
            commit: commit.to_owned(),
        })
    });
    entries.collect()
}

pub(crate) fn live_files(store: &Store, namespace: &str) -> Vec<Path> {
    let all = commits(store, namespace);
    live_after(namespace, all.iter().map(|(_, actions)| actions.as_slice()))
}

/// The files that are in a table after these commits.
pub(crate) fn live_after<'a>(namespace: &str, commits: impl Iterator<Item = &'a [Value]>) -> Vec<Path> {
    let mut live = BTreeSet::new();
    for actions in commits {
        for action in actions {
            if let Some(path) = action["add"]["path"].as_str() {
                assert!(live.insert(path.to_owned()), "{path} was added twice");
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                live.remove(path);
            }
        }
    }
    let path = |path| Path::from(format!("{namespace}/{path}"));
    live.into_iter().map(path).collect()
}

pub(super) fn added_files(store: &Store, namespace: &str) -> BTreeSet<String> {
    commits(store, namespace)
        .iter()
        .flat_map(|(_, actions)| actions)
        .filter_map(|action| Some(format!("{namespace}/{}", action["add"]["path"].as_str()?)))
        .collect()
}

pub(super) fn files_of(store: &Store, namespace: &str, commit: &str) -> Vec<Path> {
    let all = commits(store, namespace);
    let (_, actions) = all.iter().find(|(name, _)| name == commit).unwrap();
    let adds = actions.iter().filter_map(|action| action["add"]["path"].as_str());
    adds.map(|path| Path::from(format!("{namespace}/{path}"))).collect()
}

fn next_commit(store: &Store, namespace: &str) -> Option<Path> {
    let mut log = list(store, &Path::from(format!("{namespace}/_delta_log")));
    log.retain(is_commit);
    let newest: u64 = log.last()?.filename()?.split_once('.')?.0.parse().ok()?;
    Some(Path::from(format!("{namespace}/_delta_log/{:020}.json", newest + 1)))
}

/// How an operation calls itself in `commitInfo`.
const APPEND: &str = r#""operation":"WRITE","operationParameters":{"mode":"Append"}"#;
const DELETE: &str = r#""operation":"DELETE","operationParameters":{"predicate":"true"}"#;
const OPTIMIZE: &str = r#""operation":"OPTIMIZE","operationParameters":{"predicate":"[]"}"#;

pub(crate) fn append(store: &Store, namespace: &str, name: &str, bytes: Vec<u8>) -> bool {
    commit(store, namespace, APPEND, &[], Some((name, bytes)), true)
}

pub(crate) fn delete(store: &Store, namespace: &str, files: &[Path]) -> bool {
    commit(store, namespace, DELETE, files, None, true)
}

pub(crate) fn optimize(store: &Store, namespace: &str, files: &[Path], name: &str, bytes: Vec<u8>) -> bool {
    commit(store, namespace, OPTIMIZE, files, Some((name, bytes)), false)
}

/// Deletes the commits before the newest checkpoint, as a clean-up of the log does.
pub(crate) fn expire(store: &Store, namespace: &str) -> bool {
    let log = list(store, &Path::from(format!("{namespace}/_delta_log")));
    let name = |path: &Path| path.filename().unwrap().to_owned();
    let checkpoints = log
        .iter()
        .map(name)
        .filter(|name| name.ends_with(".checkpoint.parquet"));
    let Some(newest) = checkpoints
        .filter_map(|name| Some(name.split_once('.')?.0.to_owned()))
        .max()
    else {
        return false;
    };
    for path in log.iter().filter(|path| is_commit(path) && name(path) < newest) {
        block_on(store.delete(path)).unwrap();
    }
    true
}

/// The next commit: removes files and adds one. `false` when there is no table.
fn commit(
    store: &Store,
    namespace: &str,
    operation: &str,
    removed: &[Path],
    added: Option<(&str, Vec<u8>)>,
    changes: bool,
) -> bool {
    let Some(commit) = next_commit(store, namespace) else {
        return false;
    };
    let mut text = format!(r#"{{"commitInfo":{{"timestamp":1700000000000,{operation}}}}}"#);
    let root = format!("{namespace}/");
    for file in removed {
        let path = file.as_ref().strip_prefix(&root).unwrap();
        text.push_str(&format!(
            "\n{{\"remove\":{{\"path\":\"{path}\",\"deletionTimestamp\":1700000000000,\"dataChange\":{changes}}}}}"
        ));
    }
    if let Some((name, bytes)) = added {
        let size = bytes.len();
        write(store, &Path::from(format!("{namespace}/{name}")), bytes);
        text.push_str(&format!(
            "\n{{\"add\":{{\"path\":\"{name}\",\"partitionValues\":{{}},\"size\":{size},\
             \"modificationTime\":1700000000000,\"dataChange\":{changes}}}}}"
        ));
    }
    write(store, &commit, text);
    true
}

pub(crate) fn take_out(store: &Store, namespace: &str, how: TakeOut, keep: &[Path]) {
    let operation = match how {
        TakeOut::Restore => r#""operation":"RESTORE","operationParameters":{"version":"0"}"#,
        TakeOut::Overwrite => r#""operation":"WRITE","operationParameters":{"mode":"Overwrite"}"#,
        TakeOut::Unknown => r#""operation":"SOMETHING NEW""#,
        TakeOut::Delete => DELETE,
    };
    let mut gone = live_files(store, namespace);
    gone.retain(|file| !keep.contains(file));
    assert!(commit(store, namespace, operation, &gone, None, true));
}
