//! The schema of a table, changed to be that of new files (Iceberg specification, "Schema Evolution"). Pure.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, Fields, Schema as ArrowSchema, TimeUnit};

use super::arrow_schema::{arrow_primitive, new_fields, primitive};
use super::metadata::TableMetadata;
use super::schema::{NestedField, Schema};
use super::types::Type;
use super::update::{TableRequirement, TableUpdate};
use super::version::FormatVersion;
use crate::error::Result;
use crate::options::Evolve;
use crate::schema::canonical::{ELEMENT, VALUE, join, map_parts};
use crate::schema::{Evolution, NewIds, is_typed, is_wider};
use crate::time::Timestamp;

/// What may become of the columns of a table.
pub(super) fn evolution(table: &TableMetadata) -> Evolution {
    let is_v3 = table.format_version() >= FormatVersion::V3;
    Evolution {
        adds: if is_v3 {
            |_| true
        } else {
            |data_type| !is_nanos(data_type)
        },
        widens: if is_v3 {
            |from, to| is_promotion(from, to) || (*from == DataType::Date32 && is_wider(to, from))
        } else {
            is_promotion
        },
        fixed: fixed(table),
        ..Evolution::default()
    }
}

fn is_nanos(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Nanosecond, _))
}

/// What every version allows.
fn is_promotion(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Decimal128(_, from_scale), DataType::Decimal128(_, to_scale)) => {
            from_scale == to_scale && is_wider(to, from)
        }
        (DataType::Int32 | DataType::Float32, _) => is_wider(to, from),
        _ => false,
    }
}

/// Columns that identify rows, and those by which rows are partitioned: what these were in older files must be the
/// same in newer ones.
fn fixed(table: &TableMetadata) -> BTreeSet<String> {
    let schema = table.schema();
    let partitioned = table.partition_specs().iter().flat_map(|spec| &spec.fields);
    let ids: BTreeSet<i32> = partitioned
        .flat_map(|field| field.source_ids.iter().copied())
        .chain(schema.identifier_field_ids.iter().copied())
        .collect();
    schema.paths_of(&ids)
}

/// The table as it will be once it has `columns`, as far as `evolve` lets it, and what changes it; `None`: it has them,
/// or never will.
pub(super) fn evolved(
    table: &TableMetadata,
    columns: &ArrowSchema,
    evolve: Evolve,
    now: Timestamp,
) -> Result<Option<Evolved>> {
    if evolve == Evolve::Never {
        return Ok(None);
    }
    let mut change = Change {
        evolution: evolution(table),
        widens: evolve == Evolve::AddAndWiden,
        new_ids: NewIds::after(table.last_column_id(), columns.fields()),
        is_changed: false,
    };
    let mut fields = table.schema().fields.clone();
    change.fields(&mut fields, columns.fields(), "")?;
    if !change.is_changed {
        return Ok(None);
    }
    let schema = Schema {
        fields,
        ..table.schema().as_ref().clone()
    };
    let mut updates = vec![
        TableUpdate::AddSchema {
            schema,
            last_column_id: Some(change.new_ids.last()),
        },
        TableUpdate::SetCurrentSchema { schema_id: -1 },
    ];
    let after = table.apply(&updates, now, None)?;
    if let Some(TableUpdate::AddSchema { schema, .. }) = updates.first_mut() {
        schema.schema_id = after.schema().schema_id;
    }
    let requirements = vec![
        TableRequirement::AssertCurrentSchemaId {
            current_schema_id: table.schema().schema_id,
        },
        TableRequirement::AssertLastAssignedFieldId {
            last_assigned_field_id: table.last_column_id(),
        },
    ];
    Ok(Some(Evolved {
        table: after,
        requirements,
        updates,
    }))
}

/// A table whose schema has been changed.
#[derive(Clone, Debug)]
pub(super) struct Evolved {
    pub(super) table: TableMetadata,
    /// What must be true of the table as it was.
    pub(super) requirements: Vec<TableRequirement>,
    pub(super) updates: Vec<TableUpdate>,
}

/// Changes fields. What cannot be changed is left: whoever compares will find it.
struct Change {
    evolution: Evolution,
    widens: bool,
    new_ids: NewIds,
    is_changed: bool,
}

impl Change {
    fn fields(&mut self, known: &mut Vec<NestedField>, columns: &Fields, path: &str) -> Result<()> {
        for field in known.iter_mut() {
            let column = columns.iter().find(|column| *column.name() == field.name);
            if let Some(column) = column.filter(|column| is_typed(column)) {
                let path = join(path, &field.name);
                self.field(field, column.data_type(), column.is_nullable(), &path)?;
            }
        }
        let is_new = |name: &str| known.iter().all(|field| field.name != name);
        let new = columns
            .iter()
            .filter(|column| is_typed(column) && is_new(column.name()));
        let new: Fields = new
            .filter(|column| self.evolution.lets_add(column.data_type()))
            .cloned()
            .collect();
        self.is_changed |= !new.is_empty();
        known.extend(
            new_fields(&new, path, &mut self.new_ids)?
                .into_iter()
                .map(|field| NestedField {
                    required: false,
                    ..field
                }),
        );
        Ok(())
    }

    fn field(&mut self, known: &mut NestedField, column: &DataType, is_nullable: bool, path: &str) -> Result<()> {
        let may_change = self.widens && !self.evolution.fixed.contains(path);
        if known.required && is_nullable && may_change {
            known.required = false;
            self.is_changed = true;
        }
        match (&mut known.field_type, column) {
            (Type::Struct(parts), DataType::Struct(fields)) => self.fields(&mut parts.fields, fields, path),
            (Type::List(list), DataType::List(item)) => {
                let path = join(path, ELEMENT);
                self.field(&mut list.element, item.data_type(), item.is_nullable(), &path)
            }
            // Keys stay as they are.
            (Type::Map(map), DataType::Map(entries, _)) => match map_parts(entries) {
                Some((_, value)) => {
                    let path = join(path, VALUE);
                    self.field(&mut map.value, value.data_type(), value.is_nullable(), &path)
                }
                None => Ok(()),
            },
            (Type::Primitive(from), to) => {
                let widens = may_change && (self.evolution.widens)(&arrow_primitive(*from), to);
                if let Some(wider) = primitive(to, false).filter(|_| widens) {
                    *from = wider;
                    self.is_changed = true;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
