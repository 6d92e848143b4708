//! Tables of ours to be tried, read and changed by code that knows nothing of the library, or past its sinks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use firnline::delta::{DeltaOptions, DeltaSink};
use firnline::iceberg::{
    CatalogChange, CatalogOutcome, IcebergOptions, IcebergSink, MAIN_BRANCH, SnapshotRef, TableUpdate,
};
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::testing::conformance::TableTrial;
use firnline::{Entry, TableSink, Timestamp};
use serde_json::{Value, json};

use crate::conformance::catalog::{LOCATION, Place};
use crate::conformance::{elsewhere, wait};
use crate::table_log;

/// The tables' directory.
const ROOT: &str = "users";

/// A Delta table.
#[derive(Debug)]
pub(super) struct DeltaTrial {
    store: Arc<dyn ObjectStore>,
    foreign: AtomicU64,
}

impl DeltaTrial {
    pub(super) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            foreign: AtomicU64::new(0),
        }
    }

    /// Created by somebody else, partitioned by name.
    pub(super) fn partitioned(self) -> Self {
        let schema = r#"{"type":"struct","fields":[{"name":"id","type":"long","nullable":true,"metadata":{}},{"name":"name","type":"string","nullable":true,"metadata":{}}]}"#;
        let actions = [
            json!({"commitInfo": {"operation": "CREATE TABLE"}}),
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
            json!({"metaData": {"id": "theirs", "format": {"provider": "parquet", "options": {}}, "schemaString": schema,
                "partitionColumns": ["name"], "configuration": {}}}),
        ];
        let lines: Vec<_> = actions.iter().map(Value::to_string).collect();
        let path = Path::from(format!("{ROOT}/_delta_log/{:020}.json", 0));
        let put = self.store.put(&path, lines.join("\n").into());
        elsewhere(|| wait(put)).unwrap();
        self
    }

    /// The actions of all commits, and how many commits there are.
    async fn log(&self) -> (Vec<Value>, u64) {
        let mut actions = Vec::new();
        for version in 0.. {
            let path = Path::from(format!("{ROOT}/_delta_log/{version:020}.json"));
            let Ok(got) = self.store.get(&path).await else {
                return (actions, version);
            };
            let bytes = got.bytes().await.unwrap();
            let lines = std::str::from_utf8(&bytes).unwrap().lines();
            actions.extend(lines.map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
        unreachable!("no log is that long")
    }

    async fn put(&self, version: u64, actions: &[Value]) -> bool {
        let lines: Vec<_> = actions.iter().map(Value::to_string).collect();
        let path = Path::from(format!("{ROOT}/_delta_log/{version:020}.json"));
        let mode = firnline::object_store::PutMode::Create;
        self.store
            .put_opts(&path, lines.join("\n").into(), mode.into())
            .await
            .is_ok()
    }
}

#[async_trait]
impl TableTrial for DeltaTrial {
    fn sink(&self) -> Arc<dyn TableSink> {
        let store = Arc::clone(&self.store);
        let options = DeltaOptions::default().with_checkpoint_interval(3);
        Arc::new(DeltaSink::new(store, Path::from(ROOT), options))
    }

    async fn live_files(&self) -> Vec<String> {
        let mut live = Vec::new();
        for action in self.log().await.0 {
            if let Some(removed) = action["remove"]["path"].as_str() {
                live.retain(|path| path != removed);
            }
            live.extend(action["add"]["path"].as_str().map(str::to_owned));
        }
        live.iter().map(|path| format!("{ROOT}/{}", decoded(path))).collect()
    }

    async fn foreign_commit(&self) {
        let number = self.foreign.fetch_add(1, Ordering::Relaxed);
        let add = json!({"add": {"path": format!("foreign-{number}.parquet"), "partitionValues": {"name": "x"}, "size": 1,
            "modificationTime": 1, "dataChange": true}});
        let info = json!({"commitInfo": {"operation": "WRITE", "operationParameters": {"mode": "Append"}}});
        for _ in 0..20 {
            let (_, next) = self.log().await;
            if self.put(next, &[info.clone(), add.clone()]).await {
                return;
            }
        }
        panic!("nobody lets others in");
    }

    async fn set_back(&self, entry: &Entry) -> bool {
        let (actions, next) = self.log().await;
        let added = actions.iter().filter_map(|action| action["add"]["path"].as_str());
        let taken = added.filter(|path| {
            let path = format!("{ROOT}/{}", decoded(path));
            entry.outputs.iter().any(|output| output.path == path)
        });
        let mut restore = vec![json!({"commitInfo": {"operation": "RESTORE",
            "operationParameters": {"version": (entry.version - 1).to_string()}}})];
        restore.extend(taken.map(|path| json!({"remove": {"path": path, "deletionTimestamp": 1, "dataChange": true}})));
        self.put(next, &restore).await
    }
}

/// A path of an `add`, which is a URI.
fn decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path)
        .decode_utf8()
        .unwrap()
        .into_owned()
}

/// An Iceberg table.
#[derive(Debug)]
pub(super) struct IcebergTrial {
    place: Place,
    foreign: AtomicU64,
}

impl IcebergTrial {
    fn new(place: Place) -> Self {
        Self {
            place,
            foreign: AtomicU64::new(0),
        }
    }

    pub(super) fn on_files(store: Arc<dyn ObjectStore>) -> Self {
        Self::new(Place::files(store))
    }

    pub(super) fn behind_pointer(store: Arc<dyn ObjectStore>) -> Self {
        Self::new(Place::pointer(store))
    }

    pub(super) fn in_rest_catalog(store: Arc<dyn ObjectStore>) -> Self {
        Self::new(Place::rest(store))
    }

    /// Created by somebody else, partitioned by name.
    pub(super) fn partitioned(self) -> Self {
        let metadata = json!({"format-version": 2, "table-uuid": "6a92d155-a59b-42ee-bd4b-b4ec7fd1f875",
            "location": LOCATION, "last-sequence-number": 0, "last-updated-ms": 1_000, "last-column-id": 2,
            "current-schema-id": 0, "schemas": [{"type": "struct", "schema-id": 0, "fields": [
                {"id": 1, "name": "id", "required": false, "type": "long"},
                {"id": 2, "name": "name", "required": false, "type": "string"}]}],
            "default-spec-id": 0, "last-partition-id": 1000, "partition-specs": [{"spec-id": 0, "fields": [
                {"source-id": 2, "field-id": 1000, "name": "name", "transform": "identity"}]}],
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}], "properties": {}});
        let path = Path::from(format!("{ROOT}/metadata/v1.metadata.json"));
        elsewhere(|| wait(self.place.store.put(&path, metadata.to_string().into()))).unwrap();
        self
    }

    /// Makes a change past the sink.
    async fn change(&self, updates: impl Fn(&firnline::iceberg::TableMetadata) -> Vec<TableUpdate>) {
        let catalog = self.place.catalog();
        for _ in 0..20 {
            let base = catalog.load().await.unwrap().unwrap();
            let updates = updates(&base.metadata);
            let now = Timestamp::from_millis(base.metadata.last_updated().as_millis() + 1);
            let requirements = Vec::new();
            let change = CatalogChange {
                base,
                requirements,
                updates,
                now,
            };
            if let Ok(CatalogOutcome::Committed(_)) = catalog.commit(&change).await {
                return;
            }
        }
        panic!("nobody lets others in");
    }
}

#[async_trait]
impl TableTrial for IcebergTrial {
    fn sink(&self) -> Arc<dyn TableSink> {
        let store = Arc::clone(&self.place.store);
        let options = IcebergOptions::default();
        Arc::new(IcebergSink::new(
            self.place.catalog(),
            store,
            Path::from(ROOT),
            LOCATION,
            options,
        ))
    }

    async fn live_files(&self) -> Vec<String> {
        let Some(table) = self.place.catalog().load().await.unwrap() else {
            return Vec::new();
        };
        let metadata = table.metadata.to_json().unwrap();
        let live = elsewhere(|| table_log::iceberg::live(&self.place.store, ROOT, &metadata));
        live.into_iter().map(String::from).collect()
    }

    async fn foreign_commit(&self) {
        let number = self.foreign.fetch_add(1, Ordering::Relaxed);
        let updates = BTreeMap::from([(format!("foreign-{number}"), "x".to_owned())]);
        self.change(|_| {
            vec![TableUpdate::SetProperties {
                updates: updates.clone(),
            }]
        })
        .await;
    }

    async fn set_back(&self, entry: &Entry) -> bool {
        let id = entry.version.cast_signed();
        self.change(|table| {
            let parent = table.snapshot_by_id(id).unwrap().parent_snapshot_id.unwrap();
            vec![TableUpdate::SetSnapshotRef {
                ref_name: MAIN_BRANCH.to_owned(),
                reference: SnapshotRef::branch(parent),
            }]
        })
        .await;
        true
    }
}
