//! One schema for the sources of a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

use super::evolution::TableColumns;
use super::join::joined;
use super::names::{ELEMENT, KEY, VALUE, join};
use super::typed::{is_typed, typed_fields, untyped};
use crate::options::Evolve;
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
/// Columns are matched by name, at every level; their order is free. They are united in the order in which they first
/// appear, those of the `table` first. Of two sources that contradict each other the first wins, and the table always
/// does. Types of one kind unite in the one that holds all values of both (`Int32` and `Int64`, `Float32` and
/// `Float64`, decimals, a date and a timestamp without zone); any others contradict each other.
///
/// A column is nullable if it is so in any source, or missing in any: that a column is required in one source is no
/// reason to refuse another that lacks it, since null stands for what is missing and no value is lost.
///
/// A table's columns follow those of the files as far as its owner, its settings and its format let them
/// ([`TableColumns`]). A source for which more than that would have to change is rejected. Where a column stays
/// required, a source that lacks it is rejected, and a nullable one is let through: whoever merges must check that it
/// holds no null.
///
/// A column or struct field of Arrow's type `Null` says nothing: it is as good as missing, whatever type others
/// give it, and left out if none does. Lists and maps of `Null` take the items' type from others too; a source
/// whose items nobody gives a type is rejected, since their number cannot be stored without one.
pub fn unify(table: Option<&TableColumns>, sources: &[SchemaRef]) -> Unified {
    let mut rejected = BTreeMap::new();
    for (index, source) in sources.iter().enumerate() {
        if let Some(reason) = duplicate(source) {
            rejected.insert(index, reason);
        }
    }
    let sources: Vec<_> = sources.iter().map(|source| typed_fields(source.fields())).collect();
    let schema = Uniting { table }.all(&sources, &mut rejected);
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

/// That a column which must not be null is there.
pub(super) fn required(target: &Field, source: &Schema) -> Result<(), QuarantineReason> {
    let found = source.field_with_name(target.name()).ok();
    if found.is_some_and(is_typed) {
        return Ok(());
    }
    let found = found.map_or_else(|| "absent".to_owned(), |field| field.data_type().to_string());
    Err(missing(target.name(), target, found))
}

fn missing(column: &str, target: &Field, found: impl Into<String>) -> QuarantineReason {
    drift(column, found, target.data_type().to_string(), "required column missing")
}

/// Unites columns, whose table may be there already.
struct Uniting<'a> {
    table: Option<&'a TableColumns>,
}

impl Uniting<'_> {
    /// The columns of the table and of all sources that do not contradict it or an earlier one; those sources that do
    /// are `rejected`.
    fn all(&self, sources: &[Fields], rejected: &mut BTreeMap<usize, QuarantineReason>) -> SchemaRef {
        let table = self.table.map(|table| table.schema.fields());
        loop {
            let mut columns: Vec<FieldRef> = table.into_iter().flatten().cloned().collect();
            let mut accepted = Vec::new();
            let mut contradicting = Vec::new();
            for (index, source) in sources.iter().enumerate() {
                if rejected.contains_key(&index) {
                    continue;
                }
                let is_first = table.is_none() && accepted.is_empty();
                match self.fields("", &columns, source, table, is_first) {
                    Ok(united) => {
                        columns = united;
                        accepted.push((index, source));
                    }
                    Err(reason) => contradicting.push((index, reason)),
                }
            }
            // What one source says nothing of is only wrong where no other source did either.
            let unknown = untyped(columns.iter().map(AsRef::as_ref));
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
                return Arc::new(Schema::new(columns));
            }
            // Without them, others may contradict nobody any more.
            rejected.extend(culprits);
        }
    }

    /// The fields at `path`: those `known`, of which the `table` has some, and those `found`, or why these contradict
    /// them. What is `first` found is taken as it is.
    fn fields(
        &self,
        path: &str,
        known: &[FieldRef],
        found: &Fields,
        table: Option<&Fields>,
        first: bool,
    ) -> Result<Vec<FieldRef>, QuarantineReason> {
        let of_table = |name: &str| table.and_then(|table| table.find(name)).map(|(_, field)| field);
        let mut fields = Vec::with_capacity(known.len());
        for field in known {
            let column = join(path, field.name());
            fields.push(match found.find(field.name()) {
                Some((_, other)) => self.field(&column, field, other, of_table(field.name()))?,
                None => self.without(&column, field, of_table(field.name()))?,
            });
        }
        for field in found {
            if known.iter().any(|known| known.name() == field.name()) {
                continue;
            }
            let column = join(path, field.name());
            unlike(&column, field, known)?;
            if table.is_some() {
                self.check_addition(&column, field)?;
            }
            fields.push(if first { Arc::clone(field) } else { nullable(field) });
        }
        Ok(fields)
    }

    /// A field that a source lacks.
    fn without(&self, column: &str, known: &FieldRef, table: Option<&FieldRef>) -> Result<FieldRef, QuarantineReason> {
        if self.stays_required(column, table) {
            return Err(missing(column, known, "absent"));
        }
        Ok(nullable(known))
    }

    fn field(
        &self,
        column: &str,
        known: &FieldRef,
        found: &FieldRef,
        table: Option<&FieldRef>,
    ) -> Result<FieldRef, QuarantineReason> {
        let of_table = table.map(|table| table.data_type());
        let data_type = self.data_type(column, known.data_type(), found.data_type(), of_table)?;
        let is_nullable = known.is_nullable() || found.is_nullable() && !self.stays_required(column, table);
        Ok(Arc::new(Field::new(known.name(), data_type, is_nullable)))
    }

    /// The type that holds both `known`, which the `table` may have, and `found`; names inside lists and maps are those
    /// of `known`.
    fn data_type(
        &self,
        column: &str,
        known: &DataType,
        found: &DataType,
        table: Option<&DataType>,
    ) -> Result<DataType, QuarantineReason> {
        match (known, found) {
            (DataType::List(a), DataType::List(b)) => {
                let table = table.and_then(|table| match table {
                    DataType::List(item) => Some(item),
                    _ => None,
                });
                let item = self.field(&join(column, ELEMENT), a, b, table)?;
                Ok(DataType::List(item))
            }
            (DataType::Map(a, sorted), DataType::Map(b, _)) => {
                let (Some((a_key, a_value)), Some((b_key, b_value))) = (map_fields(a), map_fields(b)) else {
                    return Err(mismatch(column, known, found));
                };
                let (key, value) = match table {
                    Some(DataType::Map(entries, _)) => map_fields(entries).unzip(),
                    _ => (None, None),
                };
                let path = join(column, KEY);
                let united = self.field(&path, a_key, b_key, key)?;
                if key.is_some_and(|key| key.data_type() != united.data_type()) {
                    return Err(mismatch(&path, a_key.data_type(), b_key.data_type()));
                }
                let pair = vec![united, self.field(&join(column, VALUE), a_value, b_value, value)?];
                let entries = Field::new(a.name(), DataType::Struct(pair.into()), a.is_nullable());
                Ok(DataType::Map(Arc::new(entries), *sorted))
            }
            (DataType::Struct(a), DataType::Struct(b)) => {
                let table = table.and_then(|table| match table {
                    DataType::Struct(fields) => Some(fields),
                    _ => None,
                });
                Ok(DataType::Struct(self.fields(column, a, b, table, false)?.into()))
            }
            (known, DataType::Null) => Ok(known.clone()),
            (DataType::Null, found) => {
                if table.is_some() {
                    self.check_addition(column, &Field::new(column, found.clone(), true))?;
                }
                Ok(found.clone())
            }
            _ => {
                let joined = joined(known, found).ok_or_else(|| mismatch(column, known, found))?;
                if let Some(table) = table.filter(|_| joined != *known) {
                    self.check_widening(column, table, &joined)?;
                }
                Ok(joined)
            }
        }
    }

    fn stays_required(&self, column: &str, table: Option<&FieldRef>) -> bool {
        let (Some(columns), Some(field)) = (self.table, table) else {
            return false;
        };
        let is_fixed = columns.evolve != Evolve::AddAndWiden || columns.evolution.fixed.contains(column);
        !field.is_nullable() && is_fixed
    }

    fn check_addition(&self, column: &str, field: &Field) -> Result<(), QuarantineReason> {
        let Some(table) = self.table else { return Ok(()) };
        let refused = |rule| Err(drift(column, field.data_type().to_string(), "absent", rule));
        if table.evolve == Evolve::Never {
            return refused("column not in the table");
        }
        if !holds_all(field.data_type(), table.evolution.adds) {
            return refused("column not in the table, which cannot have one of this type");
        }
        Ok(())
    }

    fn check_widening(&self, column: &str, from: &DataType, to: &DataType) -> Result<(), QuarantineReason> {
        let Some(table) = self.table else { return Ok(()) };
        let refused = |rule| Err(drift(column, to.to_string(), from.to_string(), rule));
        if table.evolve != Evolve::AddAndWiden {
            return refused("type differs: the table's column is narrower");
        }
        if !(table.evolution.widens)(from, to) || table.evolution.fixed.contains(column) {
            return refused("type differs: the table's column is narrower, and cannot be widened");
        }
        Ok(())
    }
}

/// Whether `holds` says so of a type and of all in it.
fn holds_all(data_type: &DataType, holds: fn(&DataType) -> bool) -> bool {
    holds(data_type)
        && match data_type {
            DataType::List(item) | DataType::Map(item, _) => holds_all(item.data_type(), holds),
            DataType::Struct(fields) => fields.iter().all(|field| holds_all(field.data_type(), holds)),
            _ => true,
        }
}

/// That none of the `others` is called like `field` but for the case, which readers do not tell apart.
fn unlike(path: &str, field: &Field, others: &[FieldRef]) -> Result<(), QuarantineReason> {
    let lower = field.name().to_lowercase();
    for other in others {
        if other.name().to_lowercase() == lower {
            let rule = "column name differs in case only";
            return Err(drift(path, field.name(), other.name(), rule));
        }
    }
    Ok(())
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
    use crate::schema::Evolution;

    fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
        let fields: Vec<Field> = fields
            .iter()
            .map(|(n, t, null)| Field::new(*n, t.clone(), *null))
            .collect();
        Arc::new(Schema::new(fields))
    }

    fn table(schema: &SchemaRef, evolve: Evolve) -> TableColumns {
        TableColumns {
            schema: Arc::clone(schema),
            evolve,
            evolution: Evolution {
                widens: |_, _| true,
                ..Evolution::default()
            },
        }
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
        let columns = schema(&[("x", DataType::Int64, false), ("y", DataType::Utf8, true)]);
        let sources = [
            schema(&[("y", DataType::Utf8, false), ("x", DataType::Int64, true)]),
            schema(&[("x", DataType::Int64, false)]),
            schema(&[("y", DataType::Utf8, false)]),
            schema(&[("x", DataType::Int64, false), ("w", DataType::Utf8, false)]),
            schema(&[("x", DataType::Utf8, false)]),
            schema(&[("x", DataType::Int32, false)]),
        ];
        let unified = unify(Some(&table(&columns, Evolve::Never)), &sources);
        assert_eq!(unified.schema, columns);
        assert_eq!(
            unified.rejected,
            vec![
                (2, drift("x", "absent", "Int64", "required column missing")),
                (3, drift("w", "Utf8", "absent", "column not in the table")),
                (4, drift("x", "Utf8", "Int64", "type differs")),
            ]
        );
    }

    #[test]
    fn lists_match_whatever_their_item_is_called() {
        let columns = schema(&[("l", list("element", DataType::Int64, true), true)]);
        let source = schema(&[("l", list("item", DataType::Int64, false), true)]);
        assert_eq!(unify(Some(&table(&columns, Evolve::Never)), &[source]).rejected, vec![]);
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
        let unified = unify(Some(&table(&b, Evolve::AddColumns)), &[a]);
        let missing = drift("x", "absent", "Utf8", "required column missing");
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

    #[test]
    fn types_of_a_kind_unite_in_the_wider_one_at_every_depth() {
        let with = |number: DataType, amount: DataType| {
            let part = Field::new("n", number.clone(), true);
            schema(&[
                ("n", number, true),
                ("d", amount, true),
                ("s", DataType::Struct(vec![part.clone()].into()), true),
                ("l", list("element", DataType::Struct(vec![part].into()), true), true),
            ])
        };
        let narrow = with(DataType::Int32, DataType::Decimal128(9, 2));
        let wide = with(DataType::Int64, DataType::Decimal128(9, 4));
        let both = with(DataType::Int64, DataType::Decimal128(11, 4));
        for sources in [[Arc::clone(&narrow), Arc::clone(&wide)], [wide, narrow]] {
            let unified = unify(None, &sources);
            assert_eq!((unified.schema, unified.rejected), (Arc::clone(&both), vec![]));
        }
    }

    #[test]
    fn a_table_takes_new_columns_and_narrower_ones_where_columns_may_be_added() {
        let part = |names: &[&str]| {
            let fields = names.iter().map(|name| Field::new(*name, DataType::Int64, true));
            DataType::Struct(fields.collect())
        };
        let columns = schema(&[("x", DataType::Int64, false), ("s", part(&["a"]), true)]);
        let sources = [
            schema(&[("x", DataType::Int32, true), ("y", DataType::Utf8, false)]),
            schema(&[("x", DataType::Int64, false), ("s", part(&["b", "a"]), false)]),
            schema(&[("x", DataType::Int64, false), ("y", DataType::Int8, false)]),
        ];
        let unified = unify(Some(&table(&columns, Evolve::AddColumns)), &sources);
        let expected = schema(&[
            ("x", DataType::Int64, false),
            ("s", part(&["a", "b"]), true),
            ("y", DataType::Utf8, true),
        ]);
        assert_eq!(unified.schema, expected);
        assert_eq!(unified.rejected, vec![(2, drift("y", "Int8", "Utf8", "type differs"))]);
    }

    #[test]
    fn a_table_is_widened_only_where_owner_and_format_let_it() {
        let columns = schema(&[("x", DataType::Int32, false), ("f", DataType::Int32, false)]);
        let source = schema(&[("x", DataType::Int64, true), ("f", DataType::Int32, false)]);
        let mut table = table(&columns, Evolve::AddColumns);
        let narrower = drift("x", "Int64", "Int32", "type differs: the table's column is narrower");
        let unified = unify(Some(&table), &[Arc::clone(&source)]);
        assert_eq!(
            (unified.schema, unified.rejected),
            (Arc::clone(&columns), vec![(0, narrower)])
        );
        table.evolve = Evolve::AddAndWiden;
        let unified = unify(Some(&table), &[Arc::clone(&source)]);
        assert_eq!((unified.schema, unified.rejected), (Arc::clone(&source), vec![]));
        let lacking = schema(&[("x", DataType::Int64, true)]);
        let unified = unify(Some(&table), std::slice::from_ref(&lacking));
        let relaxed = schema(&[("x", DataType::Int64, true), ("f", DataType::Int32, true)]);
        assert_eq!((unified.schema, unified.rejected), (relaxed, vec![]));
        table.evolution.fixed.insert("f".to_owned());
        let unified = unify(Some(&table), &[lacking]);
        let required = drift("f", "absent", "Int32", "required column missing");
        assert_eq!(unified.rejected, vec![(0, required)]);
        table.evolution = Evolution::default();
        let rule = "type differs: the table's column is narrower, and cannot be widened";
        let unified = unify(Some(&table), &[source]);
        assert_eq!(unified.rejected, vec![(0, drift("x", "Int64", "Int32", rule))]);
    }

    #[test]
    fn a_new_column_has_only_types_that_the_table_can_have_at_any_depth() {
        let columns = schema(&[("x", DataType::Int64, true)]);
        let mut table = table(&columns, Evolve::AddColumns);
        table.evolution.adds = |data_type| *data_type != DataType::Date32;
        let dates = list("element", DataType::Date32, true);
        let source = schema(&[("x", DataType::Int64, true), ("l", dates.clone(), true)]);
        let rule = "column not in the table, which cannot have one of this type";
        let unified = unify(Some(&table), &[source]);
        assert_eq!(
            unified.rejected,
            vec![(0, drift("l", dates.to_string(), "absent", rule))]
        );
    }
}
