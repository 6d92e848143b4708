//! Columns that are told by ids (parquet-format, `SchemaElement.field_id`), which files carry and tables have. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::file::metadata::FileMetaData;
use parquet::schema::types::Type;

use super::names::{ELEMENT, join};
use super::{arrow_schema, drift, strip_metadata};
use crate::quarantine::QuarantineReason;

/// The columns of a file, `schema`, under the names that `known` has for their ids; those without an id keep theirs.
///
/// # Errors
///
/// [`QuarantineReason::SchemaDrift`] naming a column that is known under another id, or is there already.
pub(crate) fn named_by_ids(
    file: &FileMetaData,
    schema: &SchemaRef,
    known: &Schema,
) -> Result<SchemaRef, QuarantineReason> {
    match fields_by_ids(file, known.fields())? {
        Some(fields) => Ok(strip_metadata(&Schema::new(fields))),
        None => Ok(Arc::clone(schema)),
    }
}

/// `None`: the file has no ids.
fn fields_by_ids(file: &FileMetaData, known: &Fields) -> Result<Option<Fields>, QuarantineReason> {
    if !has_ids(file.schema_descr().root_schema()) {
        return Ok(None);
    }
    let with_ids = arrow_schema(file.schema_descr()).map_err(QuarantineReason::corrupt)?;
    named("", with_ids.fields(), known).map(Some)
}

/// The names of the columns of a plan, by their ids: those of the table, then those of the files in their order.
#[derive(Clone, Debug)]
pub(crate) struct NamesById(Fields);

impl NamesById {
    /// The names of a table; it needs not be there yet.
    pub(crate) fn of(table: Option<&Schema>) -> Self {
        Self(table.map_or_else(Fields::empty, |table| table.fields().clone()))
    }

    /// As [`named_by_ids`]; columns of the file that were not known are so afterwards.
    pub(crate) fn name(&mut self, file: &FileMetaData, schema: &SchemaRef) -> Result<SchemaRef, QuarantineReason> {
        let Some(fields) = fields_by_ids(file, &self.0)? else {
            return Ok(Arc::clone(schema));
        };
        self.0 = with_ids_of(&self.0, &fields, true);
        Ok(strip_metadata(&Schema::new(fields)))
    }

    /// Columns with the ids that are known of them, and no other metadata.
    pub(crate) fn with_ids(&self, schema: &Schema) -> SchemaRef {
        let schema = strip_metadata(schema);
        Arc::new(Schema::new(with_ids_of(schema.fields(), &self.0, false)))
    }
}

/// Fields, of which those that have no id get that of the `other` one of their name; and those others that they lack, if
/// they are to be `all`.
fn with_ids_of(fields: &Fields, others: &Fields, all: bool) -> Fields {
    let named = fields.iter().map(|field| match others.find(field.name()) {
        Some((_, other)) => with_id_of(field, other, all),
        None => Arc::clone(field),
    });
    let lacking = others.iter().filter(|other| all && fields.find(other.name()).is_none());
    named.chain(lacking.cloned()).collect()
}

fn with_id_of(field: &FieldRef, other: &FieldRef, all: bool) -> FieldRef {
    let data_type = match (field.data_type(), other.data_type()) {
        (DataType::Struct(fields), DataType::Struct(others)) => DataType::Struct(with_ids_of(fields, others, all)),
        (DataType::List(item), DataType::List(other)) => DataType::List(with_id_of(item, other, all)),
        (DataType::Map(entries, is_sorted), DataType::Map(others, _)) => {
            DataType::Map(entries_with_ids_of(entries, others, all), *is_sorted)
        }
        (data_type, _) => data_type.clone(),
    };
    let mut metadata = field.metadata().clone();
    if let Some(id) = id(other).filter(|_| id(field).is_none()) {
        metadata.insert(PARQUET_FIELD_ID_META_KEY.to_owned(), id.clone());
    }
    let field = field.as_ref().clone().with_data_type(data_type);
    Arc::new(field.with_metadata(metadata))
}

/// Key and value are told by their places.
fn entries_with_ids_of(entries: &FieldRef, others: &FieldRef, all: bool) -> FieldRef {
    let (DataType::Struct(parts), DataType::Struct(others)) = (entries.data_type(), others.data_type()) else {
        return Arc::clone(entries);
    };
    let parts = parts.iter().zip(others);
    let parts: Fields = parts.map(|(part, other)| with_id_of(part, other, all)).collect();
    Arc::new(entries.as_ref().clone().with_data_type(DataType::Struct(parts)))
}

fn has_ids(node: &Type) -> bool {
    node.get_basic_info().has_id() || (node.is_group() && node.get_fields().iter().any(|field| has_ids(field)))
}

fn id(field: &Field) -> Option<&String> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)
}

/// The fields of a struct at `path`.
fn named(path: &str, fields: &Fields, known: &Fields) -> Result<Fields, QuarantineReason> {
    let mut names = BTreeSet::new();
    let named = fields.iter().map(|field| {
        let path = join(path, field.name());
        let by_name = known.find(field.name()).map(|(_, found)| found);
        let by_id = id(field).and_then(|wanted| known.iter().find(|found| id(found) == Some(wanted)));
        let other = by_name.filter(|found| by_id.is_none() && id(field).is_some() && id(found).is_some());
        if let Some(found) = other {
            let told = |field: &Field| format!("field_id {}", id(field).map_or("", String::as_str));
            return Err(drift(
                &path,
                told(field),
                told(found),
                "another column of this name is known",
            ));
        }
        let named = match by_id.or(by_name) {
            Some(found) => Arc::new(part(&path, field, found)?.with_name(found.name())),
            None => Arc::clone(field),
        };
        if !names.insert(named.name().clone()) {
            return Err(drift(
                &path,
                field.name(),
                named.name(),
                "two columns of the file are one by their ids",
            ));
        }
        Ok(named)
    });
    named.collect()
}

/// The same field with the names that its parts are known by.
fn part(path: &str, field: &FieldRef, known: &Field) -> Result<Field, QuarantineReason> {
    let data_type = match (field.data_type(), known.data_type()) {
        (DataType::Struct(fields), DataType::Struct(known)) => DataType::Struct(named(path, fields, known)?),
        (DataType::List(item), DataType::List(known)) => {
            DataType::List(Arc::new(part(&join(path, ELEMENT), item, known)?))
        }
        (DataType::Map(entries, is_sorted), DataType::Map(known, _)) => {
            DataType::Map(Arc::new(entries_of(path, entries, known)?), *is_sorted)
        }
        (other, _) => other.clone(),
    };
    Ok(field.as_ref().clone().with_data_type(data_type))
}

fn entries_of(path: &str, entries: &FieldRef, known: &Field) -> Result<Field, QuarantineReason> {
    let (DataType::Struct(parts), DataType::Struct(others)) = (entries.data_type(), known.data_type()) else {
        return Ok(entries.as_ref().clone());
    };
    let parts = parts.iter().zip(others).map(|(field, known)| {
        let part = part(&join(path, field.name()), field, known)?;
        Ok(Arc::new(part))
    });
    let parts: Fields = parts.collect::<Result<_, QuarantineReason>>()?;
    Ok(entries.as_ref().clone().with_data_type(DataType::Struct(parts)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use parquet::arrow::ArrowSchemaConverter;

    use super::*;

    fn field(name: &str, id: Option<i32>, data_type: DataType) -> Field {
        let id = id.map(|id| (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string()));
        Field::new(name, data_type, true).with_metadata(id.into_iter().collect::<HashMap<_, _>>())
    }

    fn flat(columns: &[(&str, i32)]) -> Schema {
        let fields = columns
            .iter()
            .map(|(name, id)| field(name, (*id > 0).then_some(*id), DataType::Int64));
        Schema::new(fields.collect::<Vec<_>>())
    }

    fn named_in(file: &Schema, table: &Schema) -> Result<SchemaRef, QuarantineReason> {
        let parquet = ArrowSchemaConverter::new().convert(file).unwrap();
        let metadata = FileMetaData::new(2, 0, None, None, Arc::new(parquet), None);
        named_by_ids(&metadata, &strip_metadata(file), table)
    }

    fn names(file: &[(&str, i32)], table: &[(&str, i32)]) -> Result<Vec<String>, QuarantineReason> {
        let named = named_in(&flat(file), &flat(table))?;
        Ok(named.fields().iter().map(|field| field.name().clone()).collect())
    }

    #[test]
    fn columns_that_were_renamed_are_found_by_their_ids() {
        let table = [("id", 1), ("price", 2), ("new", 7)];
        assert_eq!(names(&[("cost", 2), ("id", 1)], &table).unwrap(), ["price", "id"]);
        // What the table does not know, and what has no id, stays.
        assert_eq!(
            names(&[("cost", 9), ("id", 1), ("x", 0)], &table).unwrap(),
            ["cost", "id", "x"]
        );
        // Two have changed names.
        assert_eq!(names(&[("a", 2), ("b", 1)], &[("a", 1), ("b", 2)]).unwrap(), ["b", "a"]);
    }

    #[test]
    fn ids_that_contradict_the_table_are_drift() {
        let refused = |file: &[(&str, i32)], table: &[(&str, i32)]| match names(file, table) {
            Err(QuarantineReason::SchemaDrift { column, rule, .. }) => (column, rule),
            other => panic!("{other:?}"),
        };
        // Dropped and made anew.
        let (column, rule) = refused(&[("a", 2)], &[("a", 4)]);
        assert_eq!(
            (column.as_str(), rule.as_str()),
            ("a", "another column of this name is known")
        );
        let (column, rule) = refused(&[("c", 0), ("z", 3)], &[("c", 3)]);
        assert_eq!(
            (column.as_str(), rule.as_str()),
            ("z", "two columns of the file are one by their ids")
        );
    }

    #[test]
    fn parts_are_found_by_their_ids_too() {
        let of = |part: &str, item: &str| {
            let point = DataType::Struct(vec![field(part, Some(3), DataType::Int64)].into());
            let list = DataType::List(Arc::new(field(item, Some(2), point)));
            Schema::new(vec![field("points", Some(1), list)])
        };
        let named = named_in(&of("x", "item"), &of("longitude", "element")).unwrap();
        assert_eq!(*named, *strip_metadata(&of("longitude", "item")));
    }

    #[test]
    fn names_of_the_files_before_count_where_no_table_has_any() {
        let metadata = |file: &Schema| {
            let parquet = ArrowSchemaConverter::new().convert(file).unwrap();
            FileMetaData::new(2, 0, None, None, Arc::new(parquet), None)
        };
        let mut known = NamesById::of(None);
        let mut name = |columns: &[(&str, i32)]| {
            let file = flat(columns);
            let named = known.name(&metadata(&file), &strip_metadata(&file))?;
            let names = named.fields().iter().map(|field| field.name().clone());
            Ok::<_, QuarantineReason>(names.collect::<Vec<_>>())
        };
        assert_eq!(name(&[("id", 0), ("price", 0)]).unwrap(), ["id", "price"]);
        assert_eq!(name(&[("price", 5), ("id", 4)]).unwrap(), ["price", "id"]);
        assert_eq!(name(&[("cost", 5), ("tax", 9)]).unwrap(), ["price", "tax"]);
        assert_eq!(name(&[("vat", 9), ("id", 0)]).unwrap(), ["tax", "id"]);
        assert!(name(&[("id", 7)]).is_err());
        let chosen = flat(&[("tax", 0), ("price", 0), ("other", 0)]);
        assert_eq!(
            *known.with_ids(&chosen),
            flat(&[("tax", 9), ("price", 5), ("other", 0)])
        );
    }

    #[test]
    fn parts_of_the_files_before_count_too() {
        let of = |parts: Vec<Field>, named: i32| {
            let pairs = DataType::Struct(
                vec![
                    Field::new("key", DataType::Utf8, false),
                    field("value", Some(named), DataType::Struct(parts.into())),
                ]
                .into(),
            );
            let entries = Arc::new(Field::new("key_value", pairs, false));
            Schema::new(vec![field("map", Some(1), DataType::Map(entries, false))])
        };
        let long = |name: &str, id| field(name, id, DataType::Int64);
        let mut known = NamesById::of(Some(&of(vec![long("x", Some(3))], 2)));
        let file = of(vec![long("was_x", Some(3)), long("y", Some(4))], 2);
        let parquet = ArrowSchemaConverter::new().convert(&file).unwrap();
        let metadata = FileMetaData::new(2, 0, None, None, Arc::new(parquet), None);
        let named = known.name(&metadata, &strip_metadata(&file)).unwrap();
        let both = of(vec![long("x", Some(3)), long("y", Some(4))], 2);
        assert_eq!(named, strip_metadata(&both));
        assert_eq!(*known.with_ids(&named), both);
    }
}
