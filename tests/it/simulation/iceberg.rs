//! Iceberg tables of a simulation, on a file system.

use std::sync::Arc;

use firnline::iceberg::{IcebergOptions, IcebergTables};
use firnline::object_store::ObjectStore;
use firnline::object_store::path::Path;
use firnline::testing::{ForeignChange, Published, SeededRandomness, SimulatedTables};
use firnline::{TableFormat, TableProvider};
use serde_json::Value;

use super::delta::published;
use crate::table_log::{self, iceberg};

type Store = Arc<dyn ObjectStore>;

#[derive(Debug)]
pub(super) struct IcebergLogs(SeededRandomness);

impl Default for IcebergLogs {
    fn default() -> Self {
        Self(SeededRandomness::new(1))
    }
}

impl SimulatedTables for IcebergLogs {
    fn format(&self) -> TableFormat {
        TableFormat::Iceberg
    }

    fn provider(&self, url: &str, store: &Store) -> Arc<dyn TableProvider> {
        // The seed of snapshots' ids: they must differ, and be the same in every run.
        let randomness = self.0.next_u64();
        let tables = IcebergTables::new(url, Arc::clone(store), Path::default(), IcebergOptions::default());
        Arc::new(tables.with_randomness(SeededRandomness::new(randomness)))
    }

    fn published(&self, store: &Store, object: &Path) -> Option<Published> {
        let (namespace, name) = object.as_ref().split_once('/').unwrap();
        let number = name.strip_prefix("metadata/v")?.strip_suffix(".metadata.json")?;
        let number: u64 = number.parse().unwrap();
        let metadata = |path: &Path| -> Value { serde_json::from_slice(&table_log::read(store, path)).unwrap() };
        let before = match number {
            1 => Value::Null,
            _ => metadata(&Path::from(format!(
                "{namespace}/metadata/v{}.metadata.json",
                number - 1
            ))),
        };
        let metadata = metadata(object);
        let is_new = metadata["current-snapshot-id"] != before["current-snapshot-id"];
        let (added, mut kept) = if is_new {
            iceberg::added_by(store, namespace, &metadata)
        } else {
            (Vec::new(), Vec::new())
        };
        kept.push(object.clone());
        let entries = iceberg::entries_in(object.as_ref(), &metadata, &before);
        Some(Published {
            namespace: namespace.to_owned(),
            entries: entries.into_iter().map(published).collect(),
            added,
            kept,
        })
    }

    fn is_hint(&self, object: &Path) -> bool {
        table_log::is_hint(object.as_ref())
    }

    fn part(&self, object: &Path) -> &'static str {
        match object.as_ref() {
            path if path.ends_with("version-hint.text") => "hint",
            path if path.contains(".metadata.json") => "metadata",
            path if path.contains("/snap-") => "manifest list",
            path if path.ends_with(".avro") => "manifest",
            path if path.ends_with("/firnline-put-if-absent") => "probe",
            path if path.ends_with(".parquet") => "data",
            path if path.ends_with("/metadata") => "log",
            path if path.contains("/_delta_log") => "other format",
            _ => "other",
        }
    }

    fn live_files(&self, store: &Store, namespace: &str) -> Vec<Path> {
        iceberg::live_files(store, namespace)
    }

    fn disturb(&self, store: &Store, namespace: &str, change: &ForeignChange) -> bool {
        match change {
            ForeignChange::Append(file) => iceberg::append(store, namespace, &file.name, file.bytes.clone(), file.rows),
            ForeignChange::Delete(files) => iceberg::delete(store, namespace, files),
            ForeignChange::Optimize { files, into } => {
                iceberg::optimize(store, namespace, files, &into.name, into.bytes.clone(), into.rows)
            }
            ForeignChange::Expire => iceberg::expire(store, namespace),
            other => panic!("{other:?}"),
        }
    }
}
