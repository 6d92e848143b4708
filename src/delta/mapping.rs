//! Column mapping: columns have ids, and names of their own in files (Delta protocol, "Column Mapping"). Pure.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, Fields};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use serde_json::{Map, Value, json};

use super::action::{Metadata, Protocol};
use crate::ids::Sha256Digest;
use crate::schema::canonical::{ELEMENT, KEY, VALUE, join, map_parts};
use crate::schema::{NewIds, STORED_NAME_KEY, field_id};

/// How columns are mapped: `none`, `name` or `id`. Files are written alike for the last two.
pub(super) const MODE: &str = "delta.columnMapping.mode";
/// The feature without which nothing is mapped.
const FEATURE: &str = "columnMapping";
const ID: &str = "delta.columnMapping.id";
const PHYSICAL_NAME: &str = "delta.columnMapping.physicalName";
/// The greatest id that a column of the table has ever had.
const MAX_ID: &str = "delta.columnMapping.maxColumnId";

/// Whether the columns of a table are mapped.
pub(super) fn is_mapped(metadata: &Metadata) -> bool {
    let mode = metadata.configuration.get(MODE);
    mode.is_some_and(|mode| !mode.eq_ignore_ascii_case("none"))
}

/// Whether the mode of a table is one that is known, and that its protocol knows.
pub(super) fn is_understood(protocol: &Protocol, mode: &str) -> bool {
    let readers_know = match protocol.min_reader_version {
        2 => true,
        _ => protocol.lists_reader_feature(FEATURE),
    };
    let writers_know = match protocol.min_writer_version {
        5 | 6 => true,
        _ => protocol.lists_writer_feature(FEATURE),
    };
    let is = |known: &str| mode.eq_ignore_ascii_case(known);
    is("none") || (readers_know && writers_know && (is("name") || is("id")))
}

/// The first column, at any depth, without a name for files.
pub(super) fn unmapped(fields: &Fields, path: &str) -> Option<String> {
    fields.iter().find_map(|field| {
        let path = join(path, field.name());
        if !field.metadata().contains_key(STORED_NAME_KEY) {
            return Some(path);
        }
        unmapped_below(field.data_type(), &path)
    })
}

/// Parts of lists and maps have no names of their own.
fn unmapped_below(data_type: &DataType, path: &str) -> Option<String> {
    match data_type {
        DataType::Struct(fields) => unmapped(fields, path),
        DataType::List(item) => unmapped_below(item.data_type(), &join(path, ELEMENT)),
        DataType::Map(entries, _) => {
            let (key, value) = map_parts(entries)?;
            let below = unmapped_below(key.data_type(), &join(path, KEY));
            below.or_else(|| unmapped_below(value.data_type(), &join(path, VALUE)))
        }
        _ => None,
    }
}

/// The metadata that an Arrow field has for the mapping of a field of a `schemaString`; `None`: it is not mapped.
pub(super) fn arrow_metadata(field: &Value) -> Option<HashMap<String, String>> {
    let metadata = field.get("metadata")?;
    let name = metadata.get(PHYSICAL_NAME)?.as_str()?;
    let id = i32::try_from(metadata.get(ID)?.as_i64()?).ok()?;
    Some(HashMap::from([
        (STORED_NAME_KEY.to_owned(), name.to_owned()),
        (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string()),
    ]))
}

/// The metadata of a new field of a `schemaString`: the id that it carries.
pub(super) fn own_metadata(field: &Field) -> Map<String, Value> {
    let own = field_id(field).map(|id| (ID.to_owned(), json!(id)));
    own.into_iter().collect()
}

/// Gives ids and names to the new columns of a table.
#[derive(Debug)]
pub(super) struct NewNames<'a> {
    table: &'a str,
    ids: NewIds,
}

impl<'a> NewNames<'a> {
    /// For those of `columns` that are new; `None` where the columns of a table are not mapped.
    pub(super) fn of(table: &'a Metadata, schema: &Value, columns: &Fields) -> Option<Self> {
        is_mapped(table).then(|| {
            let told = table.configuration.get(MAX_ID).and_then(|id| id.trim().parse().ok());
            let floor = greatest(schema).max(told.unwrap_or(0));
            Self {
                table: &table.id,
                ids: NewIds::after(i32::try_from(floor).unwrap_or(i32::MAX), columns),
            }
        })
    }

    /// Maps a new field of a `schemaString`, or all in a new type.
    pub(super) fn map(&mut self, new: &mut Value) {
        match new {
            Value::Object(object) => {
                if object.contains_key("name") && object.contains_key("metadata") {
                    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
                    if let Some(metadata) = metadata.as_object_mut() {
                        let own = metadata.get(ID).and_then(Value::as_i64);
                        let id = self.ids.id(own.and_then(|own| i32::try_from(own).ok()));
                        let name = physical_name(self.table, id);
                        metadata.insert(ID.to_owned(), json!(id));
                        metadata.insert(PHYSICAL_NAME.to_owned(), json!(name));
                    }
                }
                object.values_mut().for_each(|value| self.map(value));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.map(item)),
            _ => {}
        }
    }

    /// The property that tells the greatest id.
    pub(super) fn property(&self) -> (String, String) {
        (MAX_ID.to_owned(), self.ids.last().to_string())
    }
}

fn greatest(value: &Value) -> i64 {
    match value {
        Value::Object(object) => {
            let own = object.get("metadata").and_then(|metadata| metadata.get(ID)?.as_i64());
            let below = object.values().map(greatest).max();
            own.unwrap_or(0).max(below.unwrap_or(0))
        }
        Value::Array(items) => items.iter().map(greatest).max().unwrap_or(0),
        _ => 0,
    }
}

/// The same for whoever adds the column of this id to this table: files are written before the table has it. No column
/// of another name can get the id in between, or the files are not added.
fn physical_name(table: &str, id: i32) -> String {
    let text = format!("firnline column {table} {id}");
    format!("col-{}", Sha256Digest::of(text.as_bytes()).uuid())
}
