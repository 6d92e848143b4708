//! One schema for the files of a plan, and which of them fit it. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use crate::merge::is_sortable;
use crate::options::SortField;
use crate::quarantine::QuarantineReason;
use crate::schema::{Caster, TableColumns, drift, is_typed, strip_metadata, unify};
use crate::sink::TableSink;

/// What is known of the columns of a file.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) has_rows: bool,
    /// In the types of the table's format, or why they cannot be in a table.
    pub(super) schema: Result<SchemaRef, QuarantineReason>,
}

/// The schema of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// `None` when no file is left.
    pub(super) schema: Option<SchemaRef>,
    /// The files that do not fit, by index.
    pub(super) rejected: BTreeMap<usize, QuarantineReason>,
}

/// The columns of a file in the types of the table's format. Its values can be converted to these, as far as
/// types tell, and it has every column of the sort order: without one its order could not be checked.
pub(super) fn columns(
    sink: &dyn TableSink,
    table: Option<&TableColumns>,
    order: &[SortField],
    source: &Result<SchemaRef, QuarantineReason>,
    rows: u64,
) -> Columns {
    let fitting = || {
        let source = source.as_ref().map_err(Clone::clone)?;
        let schema = sink.canonical_schema(source, table.map(|table| table.schema.as_ref()))?;
        can_be_sorted(&schema, order)?;
        Caster::new(source, &schema)?;
        Ok(schema)
    };
    Columns {
        has_rows: rows > 0,
        schema: fitting(),
    }
}

/// Chooses the schema of a plan: one made of that of the `table`, if there is one, and those of the files.
///
/// A file without rows has no say while there are others, and fits whatever these say: there is nothing in it
/// that could be lost. Where there are only such files and no table, they make one as any others do.
pub(super) fn choose(table: Option<&TableColumns>, order: &[SortField], files: &[Columns]) -> Chosen {
    let (with_rows, without): (Vec<_>, Vec<_>) = files.iter().enumerate().partition(|(_, file)| file.has_rows);
    let mut chosen = chosen_from(table, &with_rows);
    if chosen.schema.is_some() || without.is_empty() {
        return chosen;
    }
    if let Some(table) = table
        && can_be_sorted(&table.schema, order).is_ok()
    {
        chosen.schema = Some(strip_metadata(&table.schema));
        return chosen;
    }
    let empty = chosen_from(table, &without);
    if empty.schema.is_none() {
        chosen.rejected.extend(empty.rejected);
    }
    chosen.schema = empty.schema;
    chosen
}

fn chosen_from(table: Option<&TableColumns>, files: &[(usize, &Columns)]) -> Chosen {
    let mut chosen = Chosen::default();
    let mut candidates = Vec::with_capacity(files.len());
    for (index, file) in files {
        match &file.schema {
            Ok(schema) => candidates.push((*index, Arc::clone(schema))),
            Err(reason) => {
                chosen.rejected.insert(*index, reason.clone());
            }
        }
    }
    let (indices, schemas): (Vec<_>, Vec<_>) = candidates.into_iter().unzip();
    let unified = unify(table, &schemas);
    if unified.rejected.len() < schemas.len() {
        chosen.schema = Some(unified.schema);
    }
    let rejected = unified.rejected.into_iter();
    let rejected = rejected.filter_map(|(place, reason)| Some((*indices.get(place)?, reason)));
    chosen.rejected.extend(rejected);
    chosen
}

/// That a schema has every column of the sort order, and that rows can be ordered by them.
fn can_be_sorted(schema: &Schema, order: &[SortField]) -> Result<(), QuarantineReason> {
    for SortField { column, .. } in order {
        let field = schema.field_with_name(column).ok();
        let (found, expected, rule) = match field {
            Some(field) if is_sortable(field.data_type()) => continue,
            Some(field) if is_typed(field) => (
                field.data_type().to_string(),
                "a type that can be sorted by",
                "columns of the sort order have an order",
            ),
            _ => (
                field.map_or_else(|| "no such column".to_owned(), |field| field.data_type().to_string()),
                "a column of the sort order",
                "every file has the columns of the sort order",
            ),
        };
        return Err(drift(column, found, expected, rule));
    }
    Ok(())
}
