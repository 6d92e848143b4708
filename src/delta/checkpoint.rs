//! Reads checkpoints: the actions that are not files, and the files one batch at a time.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Int8Type, Int16Type, Int32Type, Int64Type};
use object_store::{ObjectMeta, ObjectStore};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use super::action::{Action, decode_path};
use super::error::LogError;
use super::lines::each_line;
use super::parquet_stream::ParquetStream;
use super::segment::CheckpointFiles;
use crate::error::{Error, Result};

/// Columns of the actions that are not files.
const STATE_COLUMNS: [&str; 5] = ["protocol", "metaData", "txn", "domainMetadata", "sidecar"];

/// What a checkpoint holds besides files.
#[derive(Debug, Default)]
pub(super) struct CheckpointState {
    pub(super) actions: Vec<Action>,
    /// Names of files that hold the actions of files instead of the checkpoint itself.
    sidecars: Vec<String>,
}

#[derive(Deserialize)]
struct Sidecar {
    path: String,
}

/// Reads the actions of a checkpoint that are not files. The memory taken does not depend on the number of
/// files in the table.
pub(super) async fn read_state(store: &Arc<dyn ObjectStore>, checkpoint: &CheckpointFiles) -> Result<CheckpointState> {
    let mut state = CheckpointState::default();
    for object in &checkpoint.files {
        if is_json(object) {
            let each = each_line(store, &object.location, |number, line| {
                state.actions.extend(Action::parse_state_line(number, line)?);
                state.sidecars.extend(json_sidecar(line));
                Ok(())
            });
            let gone = || LogError::Torn {
                object: object.location.to_string(),
            };
            each.await?.ok_or_else(gone)?;
            continue;
        }
        let mut stream = ParquetStream::open(store.clone(), object.clone(), &STATE_COLUMNS).await?;
        while let Some(batch) = stream.next().await? {
            let mut read = StateReader { object, batch: &batch };
            state
                .actions
                .extend(read.column("protocol")?.into_iter().map(Action::Protocol));
            state
                .actions
                .extend(read.column("metaData")?.into_iter().map(Action::MetaData));
            state.actions.extend(read.column("txn")?.into_iter().map(Action::Txn));
            let domains = read.column("domainMetadata")?;
            state.actions.extend(domains.into_iter().map(Action::DomainMetadata));
            let sidecars: Vec<Sidecar> = read.column("sidecar")?;
            state.sidecars.extend(sidecars.into_iter().map(|sidecar| sidecar.path));
        }
    }
    Ok(state)
}

/// The Parquet objects of a checkpoint that hold the actions of files.
///
/// # Errors
///
/// `Unsupported` where they stand in a JSON checkpoint itself.
pub(super) async fn file_objects(
    store: &Arc<dyn ObjectStore>,
    log_dir: &object_store::path::Path,
    checkpoint: &CheckpointFiles,
    state: &CheckpointState,
) -> Result<Vec<ObjectMeta>> {
    use object_store::ObjectStoreExt as _;
    if state.sidecars.is_empty() {
        if let Some(json) = checkpoint.files.iter().find(|object| is_json(object)) {
            return Err(super::error::unsupported(format!(
                "v2Checkpoint in JSON without sidecars. object=`{}`",
                json.location
            )));
        }
        return Ok(checkpoint.files.clone());
    }
    let mut objects = Vec::new();
    for path in &state.sidecars {
        let path = log_dir.clone().join("_sidecars").join(decode_path(path));
        let object = store.head(&path).await;
        objects.push(object.map_err(|e| Error::from_store("head", &path, e))?);
    }
    Ok(objects)
}

fn is_json(object: &ObjectMeta) -> bool {
    object.location.extension() == Some("json")
}

fn json_sidecar(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        sidecar: Option<Sidecar>,
    }
    let line: Line = serde_json::from_slice(line).ok()?;
    line.sidecar.map(|sidecar| sidecar.path)
}

struct StateReader<'a> {
    object: &'a ObjectMeta,
    batch: &'a RecordBatch,
}

impl StateReader<'_> {
    fn column<T: DeserializeOwned>(&mut self, name: &str) -> Result<Vec<T>> {
        let Some(column) = struct_column(self.batch, name) else {
            return Ok(Vec::new());
        };
        let mut values = Vec::new();
        for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
            let value = serde_json::from_value(value_of(column, row)).map_err(|source| LogError::CheckpointAction {
                object: self.object.location.to_string(),
                source,
            })?;
            values.push(value);
        }
        Ok(values)
    }
}

/// A column of actions, unless it is missing or all null.
pub(super) fn struct_column<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a StructArray> {
    let column = batch.column_by_name(name)?.as_struct_opt()?;
    (column.null_count() < column.len()).then_some(column)
}

/// A value of an action as JSON. Names inside lists and maps do not matter; what no action has is null.
pub(super) fn value_of(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int8 => Number::from(array.as_primitive::<Int8Type>().value(row)).into(),
        DataType::Int16 => Number::from(array.as_primitive::<Int16Type>().value(row)).into(),
        DataType::Int32 => Number::from(array.as_primitive::<Int32Type>().value(row)).into(),
        DataType::Int64 => Number::from(array.as_primitive::<Int64Type>().value(row)).into(),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let values = fields.iter().zip(columns);
            let entries = values.map(|(field, column)| (field.name().clone(), value_of(column, row)));
            Value::Object(entries.collect())
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).map(|item| value_of(&items, item)).collect()
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (Some(keys), Some(values)) = (entries.columns().first(), entries.columns().get(1)) else {
                return Value::Null;
            };
            let entry = |index: usize| {
                let key = value_of(keys, index).as_str()?.to_owned();
                Some((key, value_of(values, index)))
            };
            Value::Object((0..entries.len()).filter_map(entry).collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}
