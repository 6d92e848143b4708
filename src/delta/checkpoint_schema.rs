//! The columns of a checkpoint (Delta protocol, "Checkpoint Schema"), and how actions become them. Pure.

use std::sync::Arc;

use crate::schema::canonical::{ELEMENT, KEY, VALUE, map_of};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray,
    new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use serde_json::Value;

/// The Parquet columns of files that are carried on from one checkpoint to the next.
pub(super) const FILE_COLUMNS: [&str; 20] = [
    "add.path",
    "add.partitionValues",
    "add.size",
    "add.modificationTime",
    "add.dataChange",
    "add.tags",
    "add.deletionVector",
    "add.baseRowId",
    "add.defaultRowCommitVersion",
    "add.clusteringProvider",
    "add.stats",
    "remove.path",
    "remove.deletionTimestamp",
    "remove.dataChange",
    "remove.extendedFileMetadata",
    "remove.partitionValues",
    "remove.size",
    "remove.deletionVector",
    "remove.baseRowId",
    "remove.defaultRowCommitVersion",
];

/// All columns, every one of them optional as Spark has them.
pub(super) fn checkpoint_schema() -> SchemaRef {
    let text = || DataType::Utf8;
    let long = || DataType::Int64;
    let texts = || {
        map_of(
            Arc::new(Field::new(KEY, DataType::Utf8, false)),
            Arc::new(Field::new(VALUE, DataType::Utf8, true)),
        )
    };
    let list = || DataType::List(Arc::new(Field::new(ELEMENT, DataType::Utf8, true)));
    let vector = || {
        group(vec![
            ("storageType", text()),
            ("pathOrInlineDv", text()),
            ("offset", DataType::Int32),
            ("sizeInBytes", DataType::Int32),
            ("cardinality", long()),
        ])
    };
    let columns = vec![
        (
            "txn",
            group(vec![("appId", text()), ("version", long()), ("lastUpdated", long())]),
        ),
        (
            "add",
            group(vec![
                ("path", text()),
                ("partitionValues", texts()),
                ("size", long()),
                ("modificationTime", long()),
                ("dataChange", DataType::Boolean),
                ("tags", texts()),
                ("deletionVector", vector()),
                ("baseRowId", long()),
                ("defaultRowCommitVersion", long()),
                ("clusteringProvider", text()),
                ("stats", text()),
            ]),
        ),
        (
            "remove",
            group(vec![
                ("path", text()),
                ("deletionTimestamp", long()),
                ("dataChange", DataType::Boolean),
                ("extendedFileMetadata", DataType::Boolean),
                ("partitionValues", texts()),
                ("size", long()),
                ("deletionVector", vector()),
                ("baseRowId", long()),
                ("defaultRowCommitVersion", long()),
            ]),
        ),
        (
            "metaData",
            group(vec![
                ("id", text()),
                ("name", text()),
                ("description", text()),
                ("format", group(vec![("provider", text()), ("options", texts())])),
                ("schemaString", text()),
                ("partitionColumns", list()),
                ("configuration", texts()),
                ("createdTime", long()),
            ]),
        ),
        (
            "protocol",
            group(vec![
                ("minReaderVersion", DataType::Int32),
                ("minWriterVersion", DataType::Int32),
                ("readerFeatures", list()),
                ("writerFeatures", list()),
            ]),
        ),
        (
            "domainMetadata",
            group(vec![
                ("domain", text()),
                ("configuration", text()),
                ("removed", DataType::Boolean),
            ]),
        ),
    ];
    Arc::new(Schema::new(optional(columns)))
}

fn group(fields: Vec<(&str, DataType)>) -> DataType {
    DataType::Struct(optional(fields))
}

fn optional(fields: Vec<(&str, DataType)>) -> Fields {
    fields
        .into_iter()
        .map(|(name, data_type)| Field::new(name, data_type, true))
        .collect()
}

fn other(data_type: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("no column of a checkpoint is of this type. type=`{data_type}`"))
}

/// A column of actions, or of a field of them, from their JSON.
pub(super) fn array_of(values: &[&Value], data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let nulls = || values.iter().map(|value| !value.is_null()).collect::<NullBuffer>();
    Ok(match data_type {
        DataType::Utf8 => Arc::new(values.iter().map(|v| v.as_str()).collect::<StringArray>()),
        DataType::Boolean => Arc::new(values.iter().map(|v| v.as_bool()).collect::<BooleanArray>()),
        DataType::Int64 => Arc::new(values.iter().map(|v| v.as_i64()).collect::<Int64Array>()),
        DataType::Int32 => {
            let narrow = |value: &&Value| value.as_i64().and_then(|v| i32::try_from(v).ok());
            Arc::new(values.iter().map(narrow).collect::<Int32Array>())
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().map(|field| {
                let inner: Vec<_> = values
                    .iter()
                    .map(|value| value.get(field.name()).unwrap_or(&Value::Null))
                    .collect();
                array_of(&inner, field.data_type())
            });
            let columns = columns.collect::<Result<_, _>>()?;
            Arc::new(StructArray::try_new(fields.clone(), columns, Some(nulls()))?)
        }
        DataType::List(element) => {
            let items = |value: &&Value| value.as_array().map_or(0, Vec::len);
            let offsets = OffsetBuffer::from_lengths(values.iter().map(items));
            let inner: Vec<_> = values.iter().filter_map(|value| value.as_array()).flatten().collect();
            let inner = array_of(&inner, element.data_type())?;
            Arc::new(ListArray::try_new(element.clone(), offsets, inner, Some(nulls()))?)
        }
        DataType::Map(entries, sorted) => {
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(other(data_type));
            };
            let items = |value: &&Value| value.as_object().map_or(0, serde_json::Map::len);
            let offsets = OffsetBuffer::from_lengths(values.iter().map(items));
            let pairs = values.iter().filter_map(|value| value.as_object()).flatten();
            let (keys, inner): (Vec<_>, Vec<_>) = pairs.unzip();
            let keys: ArrayRef = Arc::new(keys.into_iter().map(Some).collect::<StringArray>());
            let inner = array_of(&inner, &DataType::Utf8)?;
            let pairs = StructArray::try_new(fields.clone(), vec![keys, inner], None)?;
            Arc::new(MapArray::try_new(
                entries.clone(),
                offsets,
                pairs,
                Some(nulls()),
                *sorted,
            )?)
        }
        data_type => return Err(other(data_type)),
    })
}

/// A column of another writer's checkpoint in our form: fields by name, missing ones null.
pub(super) fn conform(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == data_type {
        return Ok(array.clone());
    }
    match (array.data_type(), data_type) {
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let array = array.as_struct();
            let columns = fields.iter().map(|field| match array.column_by_name(field.name()) {
                Some(column) => conform(column, field.data_type()),
                None => Ok(new_null_array(field.data_type(), array.len())),
            });
            let columns = columns.collect::<Result<_, _>>()?;
            let array = StructArray::try_new(fields.clone(), columns, array.nulls().cloned())?;
            Ok(Arc::new(array))
        }
        (DataType::List(_), DataType::List(element)) => {
            let array = array.as_list::<i32>();
            let values = conform(array.values(), element.data_type())?;
            let array = ListArray::try_new(element.clone(), array.offsets().clone(), values, array.nulls().cloned())?;
            Ok(Arc::new(array))
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(other(data_type));
            };
            let array = array.as_map();
            let columns = [array.keys(), array.values()].into_iter().zip(fields);
            let columns = columns.map(|(column, field)| conform(column, field.data_type()));
            let pairs = StructArray::try_new(fields.clone(), columns.collect::<Result<_, _>>()?, None)?;
            let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(
                entries.clone(),
                offsets,
                pairs,
                nulls,
                *sorted,
            )?))
        }
        _ => cast(array, data_type),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::delta::checkpoint::value_of;

    #[test]
    fn actions_become_columns_and_come_back_without_loss() {
        let schema = checkpoint_schema();
        let add = json!({
            "path": "a%20b", "partitionValues": {"p": null, "q": "1"}, "size": 7, "modificationTime": 8,
            "dataChange": false, "tags": null, "baseRowId": null, "defaultRowCommitVersion": null,
            "clusteringProvider": null, "stats": "{}",
            "deletionVector": {"storageType": "u", "pathOrInlineDv": "x", "offset": 1, "sizeInBytes": 2, "cardinality": 3}
        });
        let field = schema.field_with_name("add").unwrap();
        let values = [&Value::Null, &add];
        let array = array_of(&values, field.data_type()).unwrap();
        assert_eq!(value_of(&array, 0), Value::Null);
        assert_eq!(value_of(&array, 1), add);
        let protocol = json!({
            "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [], "writerFeatures": ["a", "b"]
        });
        let field = schema.field_with_name("protocol").unwrap();
        let array = array_of(&[&protocol], field.data_type()).unwrap();
        assert_eq!(value_of(&array, 0), protocol);
    }

    #[test]
    fn other_writers_columns_are_taken_by_name_and_missing_ones_are_null() {
        let theirs = DataType::Struct(Fields::from(vec![
            Field::new("later", DataType::Boolean, true),
            Field::new(
                "partitionValues",
                map_of(
                    Arc::new(Field::new("k", DataType::Utf8, false)),
                    Arc::new(Field::new("v", DataType::Utf8, true)),
                ),
                false,
            ),
            Field::new("size", DataType::Int32, false),
            Field::new("path", DataType::Utf8, false),
        ]));
        let value = json!({"path": "x", "size": 5, "partitionValues": {"a": "b"}, "later": true});
        let array = array_of(&[&value], &theirs).unwrap();
        let schema = checkpoint_schema();
        let ours = conform(&array, schema.field_with_name("add").unwrap().data_type()).unwrap();
        let found = value_of(&ours, 0);
        assert_eq!(found["path"], json!("x"));
        assert_eq!(found["size"], json!(5));
        assert_eq!(found["partitionValues"], json!({"a": "b"}));
        assert_eq!(found["stats"], Value::Null);
        assert_eq!(found.get("later"), None);
    }
}
