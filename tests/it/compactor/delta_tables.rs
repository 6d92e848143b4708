//! Delta tables that another writer has made, and what is in their logs.

use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStoreExt, PutPayload};
use firnline::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use futures::executor::block_on;
use serde_json::{Value, json};

use crate::world::World;

const LOG: &str = "users/_delta_log";

/// An empty table with these columns; `more` are further fields of its metadata.
pub(super) fn create(world: &World, protocol: &Value, fields: &Value, more: &Value) {
    put_commit(world, 0, &[json!({ "protocol": protocol }), metadata(fields, more)]);
}

/// The action that makes a table have these columns.
pub(super) fn metadata(fields: &Value, more: &Value) -> Value {
    let schema = json!({"type": "struct", "fields": fields}).to_string();
    let mut metadata = json!({"id": "6a92d155-a59b-42ee-bd4b-b4ec7fd1f875",
        "format": {"provider": "parquet", "options": {}}, "schemaString": schema,
        "partitionColumns": [], "configuration": {}});
    let fields = metadata.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    json!({ "metaData": metadata })
}

/// A commit of another writer's.
pub(super) fn put_commit(world: &World, version: u64, actions: &[Value]) {
    let lines: Vec<_> = actions.iter().map(Value::to_string).collect();
    let path = Path::from(format!("{LOG}/{version:020}.json"));
    block_on(world.tables.put(&path, PutPayload::from(lines.join("\n")))).unwrap();
}

/// All actions of the log, commit after commit.
pub(super) fn actions(world: &World) -> Vec<Value> {
    let mut paths = world.list(&world.tables, &LOG.into());
    paths.retain(|path| path.extension() == Some("json"));
    paths.sort();
    let actions = paths.iter().flat_map(|path| {
        let bytes = block_on(async { world.tables.get(path).await.unwrap().bytes().await.unwrap() });
        let lines = std::str::from_utf8(&bytes).unwrap().lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect::<Vec<Value>>()
    });
    actions.collect()
}

/// The `add` actions of the log.
pub(super) fn adds(world: &World) -> Vec<Value> {
    let actions = actions(world).into_iter();
    actions
        .filter_map(|mut action| action.get_mut("add").map(Value::take))
        .collect()
}

/// The data file of an `add`.
pub(super) fn opened(world: &World, add: &Value) -> ParquetRecordBatchReaderBuilder<bytes::Bytes> {
    let path = Path::parse(format!("users/{}", add["path"].as_str().unwrap())).unwrap();
    let bytes = block_on(async { world.tables.get(&path).await.unwrap().bytes().await.unwrap() });
    ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap()
}
