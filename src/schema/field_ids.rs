//! Columns of files that carry the ids of a table's columns (parquet-format, `SchemaElement.field_id`). Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::file::metadata::FileMetaData;
use parquet::schema::types::Type;

use super::names::{ELEMENT, join};
use super::{arrow_schema, drift, strip_metadata};
use crate::quarantine::QuarantineReason;

/// The columns of a file, `schema`, under the names that the `table` has for their ids; those without an id keep theirs.
///
/// # Errors
///
/// [`QuarantineReason::SchemaDrift`] naming a column that the table has under another id, or has already.
pub(crate) fn named_by_ids(
    file: &FileMetaData,
    schema: &SchemaRef,
    table: &Schema,
) -> Result<SchemaRef, QuarantineReason> {
    if !has_ids(file.schema_descr().root_schema()) {
        return Ok(Arc::clone(schema));
    }
    // The Parquet schema alone, as `schema` is made of it.
    let with_ids = arrow_schema(file.schema_descr()).map_err(QuarantineReason::corrupt)?;
    let fields = named("", with_ids.fields(), table.fields())?;
    Ok(strip_metadata(&Schema::new(fields)))
}

fn has_ids(node: &Type) -> bool {
    node.get_basic_info().has_id() || (node.is_group() && node.get_fields().iter().any(|field| has_ids(field)))
}

fn id(field: &Field) -> Option<&String> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)
}

/// The fields of a struct at `path`.
fn named(path: &str, fields: &Fields, table: &Fields) -> Result<Fields, QuarantineReason> {
    let mut names = BTreeSet::new();
    let named = fields.iter().map(|field| {
        let path = join(path, field.name());
        let by_name = table.find(field.name()).map(|(_, known)| known);
        let by_id = id(field).and_then(|wanted| table.iter().find(|known| id(known) == Some(wanted)));
        let other = by_name.filter(|known| by_id.is_none() && id(field).is_some() && id(known).is_some());
        if let Some(known) = other {
            let told = |field: &Field| format!("field_id {}", id(field).map_or("", String::as_str));
            return Err(drift(
                &path,
                told(field),
                told(known),
                "the table has another column of this name",
            ));
        }
        let named = match by_id.or(by_name) {
            Some(known) => Arc::new(part(&path, field, known)?.with_name(known.name())),
            None => Arc::clone(field),
        };
        if !names.insert(named.name().clone()) {
            return Err(drift(
                &path,
                field.name(),
                named.name(),
                "two columns of the file are one of the table",
            ));
        }
        Ok(named)
    });
    named.collect()
}

/// The same field with the parts that it has in the table.
fn part(path: &str, field: &FieldRef, known: &Field) -> Result<Field, QuarantineReason> {
    let data_type = match (field.data_type(), known.data_type()) {
        (DataType::Struct(fields), DataType::Struct(table)) => DataType::Struct(named(path, fields, table)?),
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

/// Key and value are told by their places.
fn entries_of(path: &str, entries: &FieldRef, known: &Field) -> Result<Field, QuarantineReason> {
    let (DataType::Struct(parts), DataType::Struct(of_table)) = (entries.data_type(), known.data_type()) else {
        return Ok(entries.as_ref().clone());
    };
    let parts = parts.iter().zip(of_table).map(|(field, known)| {
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
            ("a", "the table has another column of this name")
        );
        let (column, rule) = refused(&[("c", 0), ("z", 3)], &[("c", 3)]);
        assert_eq!(
            (column.as_str(), rule.as_str()),
            ("z", "two columns of the file are one of the table")
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
}
