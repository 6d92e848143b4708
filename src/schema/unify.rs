//! One schema for the sources of a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

use super::evolution::TableColumns;
use super::join::joined;
use super::names::{ELEMENT, KEY, VALUE, join, map_parts, without_case};
use super::normalize::strip_metadata;
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
    // What metadata tell of columns is no part of their types.
    let table = table.map(|table| TableColumns {
        schema: strip_metadata(&table.schema),
        ..table.clone()
    });
    let uniting = Uniting { table: table.as_ref() };
    let schema = uniting.all(&sources, &mut rejected);
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
        if !seen.insert(without_case(field.name())) {
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
                let (Some((a_key, a_value)), Some((b_key, b_value))) = (map_parts(a), map_parts(b)) else {
                    return Err(mismatch(column, known, found));
                };
                let (key, value) = match table {
                    Some(DataType::Map(entries, _)) => map_parts(entries).unzip(),
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
        if !table.evolution.lets_name(column) {
            return refused("column not in the table, where its name is reserved");
        }
        if !table.evolution.lets_add(field.data_type()) {
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

/// That none of the `others` is called like `field` but for the case, which readers do not tell apart.
fn unlike(path: &str, field: &Field, others: &[FieldRef]) -> Result<(), QuarantineReason> {
    let name = without_case(field.name());
    for other in others {
        if without_case(other.name()) == name {
            let rule = "column name differs in case only";
            return Err(drift(path, field.name(), other.name(), rule));
        }
    }
    Ok(())
}

fn nullable(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_nullable(true))
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
mod tests;
