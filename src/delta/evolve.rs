//! The schema of a table, changed to be that of new files (Delta protocol, "Schema Serialization Format", "Type
//! Widening"). Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use serde_json::{Map, Value, json};

use super::action::Metadata;
use super::error::LogError;
use super::mapping::{NewNames, is_mapped};
use super::schema::{encode_field, encode_type, fit_columns, parse_primitive, parse_schema, type_has_ntz};
use super::snapshot::Snapshot;
use crate::encoding::deep_json;
use crate::error::Result;
use crate::options::Evolve;
use crate::schema::canonical::{ELEMENT, VALUE, join, map_parts};
use crate::schema::{Evolution, is_typed, is_wider, strip_metadata};

/// Feature without which no column has a time without zone.
const NTZ: &str = "timestampNtz";
/// Feature without which no column is widened, and the property that asks for it.
const WIDENING: &str = "typeWidening";
const ENABLE_WIDENING: &str = "delta.enableTypeWidening";
/// What readers of a change data feed add to its rows.
const CHANGE_COLUMNS: [&str; 3] = ["_change_type", "_commit_timestamp", "_commit_version"];
/// What a widened column was before.
const TYPE_CHANGES: &str = "delta.typeChanges";

/// What may become of the columns of a table. A feature that the table has not is never added to it: it would shut
/// readers out.
pub(super) fn evolution(table: &Snapshot) -> Evolution {
    let has_ntz = table.protocol().lists_writer_feature(NTZ);
    let widens = table.protocol().lists_writer_feature(WIDENING) && table.metadata().flag(ENABLE_WIDENING);
    Evolution {
        adds: if has_ntz {
            |_| true
        } else {
            |data_type| !type_has_ntz(data_type)
        },
        widens: match (widens, has_ntz) {
            (false, _) => |_, _| false,
            (true, false) => |from, to| is_wider(to, from) && !type_has_ntz(to),
            (true, true) => |from, to| is_wider(to, from),
        },
        // What they were in older files must be the same in newer ones.
        fixed: table.metadata().partition_columns.iter().cloned().collect(),
        reserved: if table.metadata().flag("delta.enableChangeDataFeed") {
            CHANGE_COLUMNS.map(ToOwned::to_owned).into()
        } else {
            BTreeSet::new()
        },
    }
}

/// A table that files are added to.
#[derive(Debug)]
pub(super) struct Followed {
    /// What its metadata become; `None`: they stay.
    pub(super) metadata: Option<Metadata>,
    /// All its columns.
    pub(super) table: SchemaRef,
    /// Those of the files, as [`fit_columns`] has them.
    pub(super) files: SchemaRef,
}

/// What a table becomes so that it has `columns`, as far as `evolve` lets it.
///
/// # Errors
///
/// `Unsupported` naming the column that it does not have even so.
pub(super) fn follow(table: &Snapshot, columns: &Schema, evolve: Evolve) -> Result<Followed> {
    let metadata = evolved(table, columns, evolve)?;
    let known = match &metadata {
        Some(metadata) => parse_schema(metadata)?,
        None => Arc::clone(table.schema()),
    };
    Ok(Followed {
        files: fit_columns(&known, columns)?,
        table: known,
        metadata,
    })
}

fn evolved(table: &Snapshot, columns: &Schema, evolve: Evolve) -> Result<Option<Metadata>> {
    if evolve == Evolve::Never {
        return Ok(None);
    }
    let known = table.metadata();
    let mut schema: Value = deep_json(known.schema_string.as_bytes()).map_err(|e| LogError::Schema {
        rule: e.to_string(),
        column: String::new(),
    })?;
    let mut change = Change {
        evolution: evolution(table),
        widens: evolve == Evolve::AddAndWiden,
        names: NewNames::of(known, &schema, columns.fields()),
    };
    // Ids are only for tables that have them.
    let columns = if is_mapped(known) {
        columns.fields().clone()
    } else {
        strip_metadata(columns).fields().clone()
    };
    if !change.fields(&mut schema, &columns, "")? {
        return Ok(None);
    }
    let mut metadata = Metadata {
        schema_string: schema.to_string(),
        ..known.clone()
    };
    metadata
        .configuration
        .extend(change.names.map(|names| names.property()));
    Ok(Some(metadata))
}

/// Changes schemas, and says whether it did. What cannot be changed is left: whoever compares will find it.
struct Change<'a> {
    evolution: Evolution,
    widens: bool,
    /// Where columns are mapped.
    names: Option<NewNames<'a>>,
}

/// A type that a part of a column had, and the one that it has now.
struct TypeChange {
    /// Inside of the column, empty for the column itself.
    path: String,
    from: Value,
    to: Value,
}

impl Change<'_> {
    /// Of a struct at `path`.
    fn fields(&mut self, of: &mut Value, columns: &Fields, path: &str) -> Result<bool> {
        let Some(fields) = of.get_mut("fields").and_then(Value::as_array_mut) else {
            return Ok(false);
        };
        let mut is_changed = false;
        for column in columns.iter().filter(|column| is_typed(column)) {
            let name = |field: &Value| field.get("name").and_then(Value::as_str) == Some(column.name());
            match fields.iter_mut().find(|field| name(field)) {
                Some(field) => is_changed |= self.field(field, column, &join(path, column.name()))?,
                None if self.lets_add(column, path) => {
                    let field = encode_field(&column.as_ref().clone().with_nullable(true))?;
                    fields.push(self.mapped(field));
                    is_changed = true;
                }
                None => {}
            }
        }
        Ok(is_changed)
    }

    fn lets_add(&self, column: &Field, path: &str) -> bool {
        self.evolution.lets_name(&join(path, column.name())) && self.evolution.lets_add(column.data_type())
    }

    fn field(&mut self, field: &mut Value, column: &FieldRef, path: &str) -> Result<bool> {
        if self.evolution.fixed.contains(path) {
            return Ok(false);
        }
        let mut changes = Vec::new();
        let is_other = self.data_type(field, "type", column.data_type(), (path, ""), &mut changes)?;
        if !changes.is_empty()
            && let Some(field) = field.as_object_mut()
        {
            note(field, changes);
        }
        Ok(self.nulls(field, "nullable", column) || is_other)
    }

    /// Of the part at `path` of the `field`.
    fn data_type(
        &mut self,
        of: &mut Value,
        key: &str,
        column: &DataType,
        (field, path): (&str, &str),
        changes: &mut Vec<TypeChange>,
    ) -> Result<bool> {
        let Some(known) = of.get_mut(key) else {
            return Ok(false);
        };
        let from = known.as_str().and_then(parse_primitive);
        if from == Some(DataType::Null) && self.evolution.lets_add(column) {
            *known = self.mapped(encode_type(column, path)?);
            return Ok(true);
        }
        match column {
            DataType::Struct(fields) if path.is_empty() => self.fields(known, fields, field),
            DataType::Struct(fields) => self.fields(known, fields, &join(field, path)),
            DataType::List(item) => {
                let path = join(path, ELEMENT);
                let is_other = self.data_type(known, "elementType", item.data_type(), (field, &path), changes)?;
                Ok(self.nulls(known, "containsNull", item) || is_other)
            }
            // Keys stay as they are.
            DataType::Map(entries, _) => {
                let Some((_, value)) = map_parts(entries) else {
                    return Ok(false);
                };
                let path = join(path, VALUE);
                let is_other = self.data_type(known, "valueType", value.data_type(), (field, &path), changes)?;
                Ok(self.nulls(known, "valueContainsNull", value) || is_other)
            }
            _ => {
                let widens = from.is_some_and(|from| self.widens && (self.evolution.widens)(&from, column));
                if widens {
                    let to = encode_type(column, path)?;
                    let from = std::mem::replace(known, to.clone());
                    let path = path.to_owned();
                    changes.push(TypeChange { path, from, to });
                }
                Ok(widens)
            }
        }
    }

    /// What is new in a schema, with ids and names if it needs any.
    fn mapped(&mut self, mut new: Value) -> Value {
        if let Some(names) = &mut self.names {
            names.map(&mut new);
        }
        new
    }

    /// Lets a part be null that may be so in `column`.
    fn nulls(&self, of: &mut Value, flag: &str, column: &Field) -> bool {
        let is_required = of.get(flag).and_then(Value::as_bool) == Some(false);
        let is_changed = self.widens && is_required && column.is_nullable();
        if is_changed && let Some(of) = of.as_object_mut() {
            of.insert(flag.to_owned(), Value::Bool(true));
        }
        is_changed
    }
}

/// Notes in the metadata of a field what it was before.
fn note(field: &mut Map<String, Value>, changes: Vec<TypeChange>) {
    let metadata = field.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else {
        return;
    };
    let known = metadata.entry(TYPE_CHANGES).or_insert_with(|| json!([]));
    let Some(known) = known.as_array_mut() else { return };
    known.extend(changes.into_iter().map(|TypeChange { path, from, to }| {
        let mut change = json!({"fromType": from, "toType": to});
        if !path.is_empty()
            && let Some(change) = change.as_object_mut()
        {
            change.insert("fieldPath".to_owned(), Value::String(path));
        }
        change
    }));
}
