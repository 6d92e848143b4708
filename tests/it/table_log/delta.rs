//! Delta's log: a directory of JSON commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firnline::TableProvider;
use firnline::delta::{DeltaOptions, DeltaTables};
use firnline::object_store::path::Path;
use serde_json::Value;

use super::{Entry, Store, TakeOut, list, read, write};

pub(super) fn tables(url: &str, store: &Store) -> Arc<dyn TableProvider> {
    let store = Arc::clone(store);
    Arc::new(DeltaTables::new(url, store, Path::default(), DeltaOptions::default()))
}

/// All actions of the log, by the name of their commit.
fn commits(store: &Store, namespace: &str) -> Vec<(String, Vec<Value>)> {
    let mut paths = list(store, &Path::from(format!("{namespace}/_delta_log")));
    paths.retain(|path| path.as_ref().ends_with(".json"));
    let actions = |path: Path| {
        let bytes = read(store, &path);
        let lines = std::str::from_utf8(&bytes).unwrap().lines();
        (
            path.to_string(),
            lines.map(|line| serde_json::from_str(line).unwrap()).collect(),
        )
    };
    paths.into_iter().map(actions).collect()
}

pub(super) fn entries(store: &Store, namespace: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (commit, actions) in commits(store, namespace) {
        let txns: BTreeMap<&str, u64> = actions
            .iter()
            .filter_map(|action| Some((action["txn"]["appId"].as_str()?, action["txn"]["version"].as_u64()?)))
            .collect();
        for (name, seq) in &txns {
            let Some(lane) = name.strip_prefix("firnline/").filter(|lane| !lane.contains('/')) else {
                continue;
            };
            entries.push(Entry {
                lane: lane.to_owned(),
                seq: *seq,
                void: txns.get(format!("firnline/{lane}/void").as_str()) == Some(seq),
                commit: commit.clone(),
            });
        }
    }
    entries
}

pub(super) fn live_files(store: &Store, namespace: &str) -> Vec<Path> {
    let mut live = BTreeSet::new();
    for (_, actions) in commits(store, namespace) {
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
    let version = commits(store, namespace).len();
    (version > 0).then(|| Path::from(format!("{namespace}/_delta_log/{version:020}.json")))
}

pub(super) fn append(store: &Store, namespace: &str, name: &str, bytes: Vec<u8>) -> bool {
    let Some(commit) = next_commit(store, namespace) else {
        return false;
    };
    let size = bytes.len();
    let text = format!(
        "{}\n{}\n",
        r#"{"commitInfo":{"timestamp":1700000000000,"operation":"WRITE","operationParameters":{"mode":"Append"}}}"#,
        format_args!(
            r#"{{"add":{{"path":"{name}","partitionValues":{{}},"size":{size},"modificationTime":1700000000000,"dataChange":true}}}}"#
        )
    );
    write(store, &Path::from(format!("{namespace}/{name}")), bytes);
    write(store, &commit, text);
    true
}

pub(super) fn take_out(store: &Store, namespace: &str, how: TakeOut, keep: &[Path]) {
    let operation = match how {
        TakeOut::Restore => r#""operation":"RESTORE","operationParameters":{"version":"0"}"#,
        TakeOut::Overwrite => r#""operation":"WRITE","operationParameters":{"mode":"Overwrite"}"#,
        TakeOut::Unknown => r#""operation":"SOMETHING NEW""#,
        TakeOut::Delete => r#""operation":"DELETE","operationParameters":{"predicate":"true"}"#,
    };
    let mut text = format!(r#"{{"commitInfo":{{"timestamp":1700000000000,{operation}}}}}"#);
    let root = format!("{namespace}/");
    for file in live_files(store, namespace).iter().filter(|file| !keep.contains(file)) {
        let path = file.as_ref().strip_prefix(&root).unwrap();
        text.push_str(&format!(
            "\n{{\"remove\":{{\"path\":\"{path}\",\"deletionTimestamp\":1700000000000,\"dataChange\":true}}}}"
        ));
    }
    write(store, &next_commit(store, namespace).unwrap(), text);
}
