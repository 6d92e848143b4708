//! Delta tables of a simulation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use firnline::delta::{DeltaOptions, DeltaTables};
use firnline::object_store::ObjectStore;
use firnline::object_store::path::Path;
use firnline::testing::{ForeignChange, Published, PublishedEntry, SimulatedTables};
use firnline::{TableFormat, TableProvider};
use serde_json::Value;

use crate::table_log::{self, delta};

type Store = Arc<dyn ObjectStore>;

/// Reads every commit once, since commits behind a checkpoint may be gone later.
#[derive(Debug, Default)]
pub(super) struct DeltaLogs(Mutex<BTreeMap<Path, Vec<Value>>>);

impl DeltaLogs {
    fn read_new(&self, store: &Store, namespace: &str) {
        let mut known = self.0.lock().unwrap();
        for path in table_log::list(store, &Path::from(format!("{namespace}/_delta_log"))) {
            if table_log::delta::is_commit(&path) && !known.contains_key(&path) {
                let actions = delta::actions(store, &path);
                known.insert(path, actions);
            }
        }
    }
}

impl SimulatedTables for DeltaLogs {
    fn format(&self) -> TableFormat {
        TableFormat::Delta
    }

    fn provider(&self, url: &str, store: &Store) -> Arc<dyn TableProvider> {
        // Soon enough for a run to have some.
        let options = DeltaOptions::default().with_checkpoint_interval(4);
        Arc::new(DeltaTables::new(url, Arc::clone(store), Path::default(), options))
    }

    fn published(&self, store: &Store, object: &Path) -> Option<Published> {
        if !delta::is_commit(object) {
            return None;
        }
        let (namespace, _) = object.as_ref().split_once('/').unwrap();
        self.read_new(store, namespace);
        let known = self.0.lock().unwrap();
        let actions = &known[object];
        let entries = delta::entries_in(object.as_ref(), actions);
        let added = actions.iter().filter_map(|action| action["add"]["path"].as_str());
        Some(Published {
            namespace: namespace.to_owned(),
            entries: entries.into_iter().map(published).collect(),
            added: added.map(|path| Path::from(format!("{namespace}/{path}"))).collect(),
            kept: vec![object.clone()],
        })
    }

    fn is_hint(&self, object: &Path) -> bool {
        table_log::is_hint(object.as_ref())
    }

    fn part(&self, object: &Path) -> &'static str {
        match object.as_ref() {
            path if path.ends_with("_last_checkpoint") => "hint",
            path if path.contains(".checkpoint") => "checkpoint",
            path if path.ends_with(".json") => "commit",
            path if path.ends_with("_delta_log") => "log",
            path if path.ends_with("/firnline-put-if-absent") => "probe",
            path if path.ends_with(".parquet") => "data",
            path if path.contains("/metadata") => "other format",
            _ => "other",
        }
    }

    fn live_files(&self, store: &Store, namespace: &str) -> Vec<Path> {
        self.read_new(store, namespace);
        let known = self.0.lock().unwrap();
        let of = format!("{namespace}/");
        let commits = known.iter().filter(|(path, _)| path.as_ref().starts_with(&of));
        delta::live_after(namespace, commits.map(|(_, actions)| actions.as_slice()))
    }

    fn disturb(&self, store: &Store, namespace: &str, change: &ForeignChange) -> bool {
        self.read_new(store, namespace);
        match change {
            ForeignChange::Append(file) => delta::append(store, namespace, &file.name, file.bytes.clone()),
            ForeignChange::Delete(files) => delta::delete(store, namespace, files),
            ForeignChange::Optimize { files, into } => {
                delta::optimize(store, namespace, files, &into.name, into.bytes.clone())
            }
            ForeignChange::Expire => delta::expire(store, namespace),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn published(entry: table_log::Entry) -> PublishedEntry {
    PublishedEntry {
        lane: entry.lane,
        seq: entry.seq,
        is_void: entry.void,
    }
}
