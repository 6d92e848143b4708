//! One schema for the sources of a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

use super::typed::{is_typed, typed_fields, untyped};
use crate::quarantine::QuarantineReason;

/// The schema of a plan, and the sources that do not fit it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unified {
    /// The columns of the outputs.
    pub schema: SchemaRef,
    /// Index and reason of each source that does not fit, by index.
    pub rejected: Vec<(usize, QuarantineReason)>,
}

/// Finds one schema for `sources`, whose types are already those of the table's format.
///
/// Columns are matched by name; their order is free. With a `table`, its schema is the outcome, and a source
/// may lack nullable columns, but have no others. Without one, the columns are united in the order in which
/// they first appear; of two sources that contradict each other the first wins; a column is nullable if it is so
/// in any source, or missing in any: that a column is required in one source is no reason to refuse another that
/// lacks it, since null stands for what is missing and no value is lost. A column that must not be null in the
/// `table` is another matter: a source that lacks it is rejected. A nullable source column for a required column
/// is let through: whoever merges must check that it holds no null.
///
/// A column or struct field of Arrow's type `Null` says nothing: it is as good as missing, whatever type others
/// give it, and left out if none does. Lists and maps of `Null` take the items' type from others too; a source
/// whose items nobody gives a type is rejected, since their number cannot be stored without one.
pub fn unify(table: Option<&SchemaRef>, sources: &[SchemaRef]) -> Unified {
    let mut rejected = BTreeMap::new();
    for (index, source) in sources.iter().enumerate() {
        if let Some(reason) = duplicate(source) {
            rejected.insert(index, reason);
        }
    }
    let schema = match table {
        Some(table) => {
            for (index, source) in sources.iter().enumerate() {
                if !rejected.contains_key(&index)
                    && let Err(reason) = fits_table(table, source)
                {
                    rejected.insert(index, reason);
                }
            }
            Arc::clone(table)
        }
        None => {
            let sources: Vec<_> = sources.iter().map(|source| typed_fields(source.fields())).collect();
            unite(&sources, &mut rejected)
        }
    };
    Unified {
        schema,
        rejected: rejected.into_iter().collect(),
    }
}

/// The first column whose name another column beside it has too, also ignoring case.
fn duplicate(source: &Schema) -> Option<QuarantineReason> {
    duplicate_of(source.fields())
}

fn duplicate_of(fields: &Fields) -> Option<QuarantineReason> {
    let mut seen = BTreeSet::new();
    fields.iter().find_map(|field| {
        if !seen.insert(field.name().to_lowercase()) {
            let found = field.data_type().to_string();
            return Some(drift(field.name(), found, "one column", "column name used twice"));
        }
        match field.data_type() {
            DataType::Struct(fields) => duplicate_of(fields),
            DataType::List(item) | DataType::Map(item, _) => duplicate_of(&Fields::from(vec![Arc::clone(item)])),
            _ => None,
        }
    })
}

fn fits_table(table: &Schema, source: &Schema) -> Result<(), QuarantineReason> {
    for field in source.fields().iter().filter(|field| is_typed(field)) {
        let Ok(target) = table.field_with_name(field.name()) else {
            let found = field.data_type().to_string();
            return Err(drift(field.name(), found, "absent", "column not in the table"));
        };
        fits(target.name(), target.data_type(), field.data_type())?;
    }
    for target in table.fields() {
        if !target.is_nullable() {
            required(target, source)?;
        }
    }
    Ok(())
}

/// That a column which must not be null is there.
pub(super) fn required(target: &Field, source: &Schema) -> Result<(), QuarantineReason> {
    let found = source.field_with_name(target.name()).ok();
    if found.is_some_and(is_typed) {
        return Ok(());
    }
    let found = found.map_or_else(|| "absent".to_owned(), |field| field.data_type().to_string());
    let expected = target.data_type().to_string();
    Err(drift(target.name(), found, expected, "required column missing"))
}

/// The columns of all sources that do not contradict an earlier one; those sources that do are `rejected`.
fn unite(sources: &[Fields], rejected: &mut BTreeMap<usize, QuarantineReason>) -> SchemaRef {
    loop {
        let mut columns: Vec<Field> = Vec::new();
        let mut accepted = Vec::new();
        let mut contradicting = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            if rejected.contains_key(&index) {
                continue;
            }
            match extended(&columns, source) {
                Ok(extended) => {
                    columns = extended;
                    accepted.push((index, source));
                }
                Err(reason) => contradicting.push((index, reason)),
            }
        }
        // What one source says nothing of is only wrong where no other source did either.
        let unknown = untyped(&columns);
        let culprits: Vec<_> = accepted
            .iter()
            .filter_map(|(index, source)| {
                let own = untyped(source.iter().map(AsRef::as_ref));
                let (column, data_type) = own.into_iter().find(|(column, _)| unknown.contains_key(column))?;
                let data_type = data_type.to_string();
                Some((*index, QuarantineReason::UnsupportedType { column, data_type }))
            })
            .collect();
        if culprits.is_empty() {
            rejected.extend(contradicting);
            let fields = columns.into_iter().map(|field| {
                let missing = accepted.iter().any(|(_, source)| source.find(field.name()).is_none());
                let nullable = field.is_nullable() || missing;
                field.with_nullable(nullable)
            });
            return Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        }
        // Without them, others may contradict nobody any more.
        rejected.extend(culprits);
    }
}

/// `columns` widened by those of `source`, or why it contradicts them.
fn extended(columns: &[Field], source: &Fields) -> Result<Vec<Field>, QuarantineReason> {
    let mut columns = columns.to_vec();
    for field in source {
        if let Some(known) = columns.iter_mut().find(|known| known.name() == field.name()) {
            let data_type = united(known.name(), known.data_type(), field.data_type())?;
            *known = Field::new(known.name(), data_type, known.is_nullable() || field.is_nullable());
            continue;
        }
        unlike(field.name(), field, columns.iter())?;
        columns.push(field.as_ref().clone());
    }
    Ok(columns)
}

/// That none of the `others` is called like `field` but for the case, which readers do not tell apart.
fn unlike<'a>(path: &str, field: &Field, others: impl Iterator<Item = &'a Field>) -> Result<(), QuarantineReason> {
    let lower = field.name().to_lowercase();
    for other in others {
        if other.name().to_lowercase() == lower {
            let rule = "column name differs in case only";
            return Err(drift(path, field.name(), other.name(), rule));
        }
    }
    Ok(())
}

/// Whether a column of type `found` can be stored as `target`: equal but for names inside lists and maps and
/// for what is nullable; nullable struct fields may be missing.
fn fits(column: &str, target: &DataType, found: &DataType) -> Result<(), QuarantineReason> {
    match (target, found) {
        (DataType::List(a), DataType::List(b)) => fits(column, a.data_type(), b.data_type()),
        (DataType::Map(a, _), DataType::Map(b, _)) => match (map_fields(a), map_fields(b)) {
            (Some((a_key, a_value)), Some((b_key, b_value))) => {
                fits(column, a_key.data_type(), b_key.data_type())?;
                fits(column, a_value.data_type(), b_value.data_type())
            }
            _ => Err(mismatch(column, target, found)),
        },
        (DataType::Struct(a), DataType::Struct(b)) => {
            for field in b.iter().filter(|field| is_typed(field)) {
                let (_, wanted) = a.find(field.name()).ok_or_else(|| mismatch(column, target, found))?;
                fits(
                    &format!("{column}.{}", field.name()),
                    wanted.data_type(),
                    field.data_type(),
                )?;
            }
            for wanted in a {
                if !wanted.is_nullable() && !b.find(wanted.name()).is_some_and(|(_, field)| is_typed(field)) {
                    return Err(mismatch(column, target, found));
                }
            }
            Ok(())
        }
        // The items of a list or a map.
        (_, DataType::Null) => Ok(()),
        (a, b) if a == b => Ok(()),
        _ => Err(mismatch(column, target, found)),
    }
}

/// The type that holds both `first` and `second`; names inside lists and maps are those of `first`.
fn united(column: &str, first: &DataType, second: &DataType) -> Result<DataType, QuarantineReason> {
    match (first, second) {
        (DataType::List(a), DataType::List(b)) => Ok(DataType::List(united_field(column, a, b)?)),
        (DataType::Map(a, sorted), DataType::Map(b, _)) => match (map_fields(a), map_fields(b)) {
            (Some((a_key, a_value)), Some((b_key, b_value))) => {
                let pair = vec![
                    united_field(column, a_key, b_key)?,
                    united_field(column, a_value, b_value)?,
                ];
                let entries = Field::new(a.name(), DataType::Struct(pair.into()), a.is_nullable());
                Ok(DataType::Map(Arc::new(entries), *sorted))
            }
            _ => Err(mismatch(column, first, second)),
        },
        (DataType::Struct(a), DataType::Struct(b)) => {
            let mut fields: Vec<FieldRef> = Vec::new();
            for field in a {
                let child = format!("{column}.{}", field.name());
                fields.push(match b.find(field.name()) {
                    Some((_, other)) => united_field(&child, field, other)?,
                    None => nullable(field),
                });
            }
            for field in b.iter().filter(|field| a.find(field.name()).is_none()) {
                let child = format!("{column}.{}", field.name());
                unlike(&child, field, a.iter().map(AsRef::as_ref))?;
                fields.push(nullable(field));
            }
            Ok(DataType::Struct(fields.into()))
        }
        (DataType::Null, known) | (known, DataType::Null) => Ok(known.clone()),
        (a, b) if a == b => Ok(a.clone()),
        _ => Err(mismatch(column, first, second)),
    }
}

fn united_field(column: &str, first: &FieldRef, second: &FieldRef) -> Result<FieldRef, QuarantineReason> {
    let data_type = united(column, first.data_type(), second.data_type())?;
    let is_nullable = first.is_nullable() || second.is_nullable();
    Ok(Arc::new(Field::new(first.name(), data_type, is_nullable)))
}

fn nullable(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_nullable(true))
}

/// Key and value of a map's entries, whatever they are called.
pub(super) fn map_fields(entries: &Field) -> Option<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(fields) => match fields.as_ref() {
            [key, value] => Some((key, value)),
            _ => None,
        },
        _ => None,
    }
}

fn mismatch(column: &str, expected: &DataType, found: &DataType) -> QuarantineReason {
    drift(column, found.to_string(), expected.to_string(), "type differs")
}

/// The reason for which a file does not fit.
pub(crate) fn drift(
    column: &str,
    found: impl Into<String>,
    expected: impl Into<String>,
    rule: &str,
) -> QuarantineReason {
    QuarantineReason::SchemaDrift {
        column: column.to_owned(),
        found: found.into(),
        expected: expected.into(),
        rule: rule.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
        let fields: Vec<Field> = fields
            .iter()
            .map(|(n, t, null)| Field::new(*n, t.clone(), *null))
            .collect();
        Arc::new(Schema::new(fields))
    }

    fn list(name: &str, item: DataType, nullable: bool) -> DataType {
        DataType::List(Arc::new(Field::new(name, item, nullable)))
    }

    #[test]
    fn without_a_table_columns_unite_in_order_of_first_appearance() {
        let a = schema(&[("x", DataType::Int64, false), ("y", DataType::Utf8, false)]);
        let b = schema(&[("z", DataType::Boolean, false), ("x", DataType::Int64, true)]);
        let unified = unify(None, &[a, b]);
        let expected = schema(&[
            ("x", DataType::Int64, true),
            ("y", DataType::Utf8, true),
            ("z", DataType::Boolean, true),
        ]);
        assert_eq!(unified.schema, expected);
        assert_eq!(unified.rejected, vec![]);
    }

    #[test]
    fn the_first_source_wins_a_conflict_and_the_loser_leaves_no_trace() {
        let a = schema(&[("x", DataType::Int64, false)]);
        let b = schema(&[("new", DataType::Utf8, false), ("x", DataType::Utf8, false)]);
        let unified = unify(None, &[Arc::clone(&a), b]);
        assert_eq!(unified.schema, a);
        assert_eq!(unified.rejected, vec![(1, drift("x", "Utf8", "Int64", "type differs"))]);
    }

    #[test]
    fn names_used_twice_or_differing_in_case_only_are_drift() {
        let twice = schema(&[("x", DataType::Int64, false), ("X", DataType::Utf8, false)]);
        let unified = unify(None, &[twice]);
        assert_eq!(
            unified.rejected,
            vec![(0, drift("X", "Utf8", "one column", "column name used twice"))]
        );
        let lower = schema(&[("x", DataType::Int64, false)]);
        let upper = schema(&[("X", DataType::Int64, false)]);
        let unified = unify(None, &[lower, upper]);
        assert_eq!(
            unified.rejected,
            vec![(1, drift("X", "X", "x", "column name differs in case only"))]
        );
    }

    #[test]
    fn a_table_rejects_foreign_missing_required_and_other_types() {
        let table = schema(&[("x", DataType::Int64, false), ("y", DataType::Utf8, true)]);
        let sources = [
            schema(&[("y", DataType::Utf8, false), ("x", DataType::Int64, true)]),
            schema(&[("x", DataType::Int64, false)]),
            schema(&[("y", DataType::Utf8, false)]),
            schema(&[("x", DataType::Int64, false), ("w", DataType::Utf8, false)]),
            schema(&[("x", DataType::Int32, false)]),
        ];
        let unified = unify(Some(&table), &sources);
        assert_eq!(unified.schema, table);
        assert_eq!(
            unified.rejected,
            vec![
                (2, drift("x", "absent", "Int64", "required column missing")),
                (3, drift("w", "Utf8", "absent", "column not in the table")),
                (4, drift("x", "Int32", "Int64", "type differs")),
            ]
        );
    }

    #[test]
    fn lists_match_whatever_their_item_is_called() {
        let table = schema(&[("l", list("element", DataType::Int64, true), true)]);
        let source = schema(&[("l", list("item", DataType::Int64, false), true)]);
        assert_eq!(unify(Some(&table), &[source]).rejected, vec![]);
        let a = schema(&[("l", list("element", DataType::Int64, false), true)]);
        let b = schema(&[("l", list("array", DataType::Int64, true), true)]);
        let expected = schema(&[("l", list("element", DataType::Int64, true), true)]);
        assert_eq!(unify(None, &[a, b]).schema, expected);
    }

    #[test]
    fn nulls_say_nothing_and_take_the_type_of_others() {
        let null = DataType::Null;
        let a = schema(&[
            ("x", null.clone(), true),
            ("l", list("element", null.clone(), true), true),
        ]);
        let b = schema(&[
            ("l", list("item", DataType::Int64, false), false),
            ("x", DataType::Utf8, false),
        ]);
        let all_null = schema(&[("x", null.clone(), true), ("l", null.clone(), true), ("X", null, true)]);
        let unified = unify(None, &[Arc::clone(&a), Arc::clone(&b)]);
        let expected = schema(&[
            ("l", list("element", DataType::Int64, true), true),
            ("x", DataType::Utf8, true),
        ]);
        assert_eq!((unified.schema, unified.rejected), (expected, vec![]));
        let unified = unify(Some(&b), &[a]);
        let missing = drift("x", "Null", "Utf8", "required column missing");
        assert_eq!(unified.rejected, vec![(0, missing)]);
        assert_eq!(unify(None, &[all_null]).rejected.len(), 1, "two columns of one name");
    }

    #[test]
    fn items_that_nobody_gives_a_type_reject_their_source_and_leave_no_trace() {
        let untyped = schema(&[
            ("l", list("element", DataType::Null, true), true),
            ("x", DataType::Int64, false),
        ]);
        let other = schema(&[("x", DataType::Utf8, false)]);
        let unified = unify(None, &[Arc::clone(&untyped), Arc::clone(&other)]);
        let reason = QuarantineReason::UnsupportedType {
            column: "l.element".to_owned(),
            data_type: "Null".to_owned(),
        };
        assert_eq!((unified.schema, unified.rejected), (other, vec![(0, reason)]));
        let typed = schema(&[("l", list("element", DataType::Int64, true), true)]);
        assert_eq!(unify(None, &[untyped, typed]).rejected, vec![]);
    }

    #[test]
    fn names_inside_of_structs_that_differ_in_case_only_are_drift() {
        let with = |name: &str| {
            let fields = vec![Field::new(name, DataType::Int64, true)];
            schema(&[("s", DataType::Struct(fields.into()), true)])
        };
        let expected = drift("s.A", "A", "a", "column name differs in case only");
        assert_eq!(unify(None, &[with("a"), with("A")]).rejected, vec![(1, expected)]);
    }

    #[test]
    fn struct_fields_unite_and_become_nullable_where_missing() {
        let with = |fields: Vec<Field>| schema(&[("s", DataType::Struct(fields.into()), false)]);
        let a = with(vec![Field::new("p", DataType::Int64, false)]);
        let b = with(vec![Field::new("q", DataType::Utf8, false)]);
        let expected = with(vec![
            Field::new("p", DataType::Int64, true),
            Field::new("q", DataType::Utf8, true),
        ]);
        assert_eq!(unify(None, &[a, b]).schema, expected);
    }
}
