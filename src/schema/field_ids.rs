//! Columns of files that carry the ids of a table's columns (parquet-format, `SchemaElement.field_id`). Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::file::metadata::FileMetaData;
use parquet::schema::types::Type;

use super::{arrow_schema, strip_metadata};

/// The columns of a file, `schema`, under the names that the `table` has for their ids.
///
/// A column takes another name only if the table has its id, and no column of its name; all others keep theirs. Ids that
/// contradict names anywhere are of somebody else's making (numbers of columns, of Protocol Buffers), and tell nothing.
pub(crate) fn named_by_ids(file: &FileMetaData, schema: &SchemaRef, table: &Schema) -> SchemaRef {
    if !has_ids(file.schema_descr().root_schema()) || numbers_columns(file.created_by().unwrap_or_default()) {
        return Arc::clone(schema);
    }
    // The Parquet schema alone, as `schema` is made of it.
    let with_ids = arrow_schema(file.schema_descr());
    let named = with_ids.ok().and_then(|file| {
        let fields = named(file.fields(), table.fields())?;
        Some(strip_metadata(&Schema::new(fields)))
    });
    named.unwrap_or_else(|| Arc::clone(schema))
}

fn has_ids(node: &Type) -> bool {
    node.get_basic_info().has_id() || (node.is_group() && node.get_fields().iter().any(|field| has_ids(field)))
}

/// Whether a writer gives columns their numbers as ids: Arrow's in C++ did so before version 6.
fn numbers_columns(created_by: &str) -> bool {
    let Some(version) = created_by.strip_prefix("parquet-cpp") else {
        return false;
    };
    let version = version.strip_prefix("-arrow version ");
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    major.is_none_or(|major| major < 6)
}

fn id(field: &Field) -> Option<&String> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)
}

/// The fields of a struct; `None` if an id contradicts a name.
fn named(fields: &Fields, table: &Fields) -> Option<Fields> {
    let named = fields.iter().map(|field| {
        let by_name = table.find(field.name()).map(|(_, known)| known);
        let by_id = id(field).and_then(|wanted| table.iter().find(|known| id(known) == Some(wanted)));
        let known = match (by_name, by_id) {
            (Some(one), Some(other)) if one.name() != other.name() => return None,
            // A column of that name has another id.
            (Some(known), None) if id(field).is_some() && id(known).is_some() => return None,
            (known, other) => known.or(other),
        };
        match known {
            Some(known) => part(field, known).map(|part| Arc::new(part.with_name(known.name()))),
            None => Some(Arc::clone(field)),
        }
    });
    let named: Fields = named.collect::<Option<_>>()?;
    let names: BTreeSet<_> = named.iter().map(|field| field.name()).collect();
    (names.len() == named.len()).then_some(named)
}

/// The same field with the parts that it has in the table.
fn part(field: &FieldRef, known: &Field) -> Option<Field> {
    let data_type = match (field.data_type(), known.data_type()) {
        (DataType::Struct(fields), DataType::Struct(table)) => DataType::Struct(named(fields, table)?),
        (DataType::List(item), DataType::List(known)) => DataType::List(Arc::new(part(item, known)?)),
        (DataType::Map(entries, is_sorted), DataType::Map(known, _)) => {
            DataType::Map(Arc::new(entries_of(entries, known)?), *is_sorted)
        }
        (other, _) => other.clone(),
    };
    Some(field.as_ref().clone().with_data_type(data_type))
}

/// Key and value are told by their places.
fn entries_of(entries: &FieldRef, known: &Field) -> Option<Field> {
    let (DataType::Struct(parts), DataType::Struct(of_table)) = (entries.data_type(), known.data_type()) else {
        return Some(entries.as_ref().clone());
    };
    let parts = parts.iter().zip(of_table).map(|(field, known)| part(field, known));
    let parts: Fields = parts.collect::<Option<_>>()?;
    Some(entries.as_ref().clone().with_data_type(DataType::Struct(parts)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use parquet::arrow::ArrowSchemaConverter;

    use super::*;

    const NEWER: &str = "parquet-cpp-arrow version 26.0.0";

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

    fn named_in(file: &Schema, created_by: &str, table: &Schema) -> SchemaRef {
        let parquet = ArrowSchemaConverter::new().convert(file).unwrap();
        let metadata = FileMetaData::new(2, 0, Some(created_by.to_owned()), None, Arc::new(parquet), None);
        named_by_ids(&metadata, &strip_metadata(file), table)
    }

    fn names(file: &[(&str, i32)], created_by: &str, table: &[(&str, i32)]) -> Vec<String> {
        let named = named_in(&flat(file), created_by, &flat(table));
        named.fields().iter().map(|field| field.name().clone()).collect()
    }

    #[test]
    fn a_column_that_was_renamed_is_found_by_its_id() {
        let table = [("id", 1), ("price", 2), ("new", 7)];
        assert_eq!(names(&[("cost", 2), ("id", 1)], NEWER, &table), ["price", "id"]);
        // What the table does not know, and what has no id, stays.
        assert_eq!(
            names(&[("cost", 9), ("id", 1), ("x", 0)], NEWER, &table),
            ["cost", "id", "x"]
        );
    }

    #[test]
    fn ids_that_contradict_names_tell_nothing() {
        let table = [("a", 1), ("b", 2), ("c", 3)];
        for file in [
            // Two that have changed places, and a name that has another id.
            [("a", 2), ("b", 1), ("z", 3)],
            [("a", 1), ("b", 9), ("z", 3)],
            // Two columns would have one name.
            [("a", 1), ("c", 0), ("z", 3)],
        ] {
            assert_eq!(names(&file, NEWER, &table), file.map(|(name, _)| name));
        }
    }

    #[test]
    fn numbers_of_columns_are_no_ids() {
        let (file, table) = ([("a", 1), ("z", 2)], [("a", 1), ("b", 2)]);
        for (created_by, expected) in [
            ("parquet-cpp version 1.5.1-SNAPSHOT", "z"),
            ("parquet-cpp-arrow version 5.0.0", "z"),
            ("parquet-cpp-arrow version 6.0.0", "b"),
            ("parquet-mr version 1.15.2", "b"),
        ] {
            assert_eq!(names(&file, created_by, &table)[1], expected, "{created_by}");
        }
    }

    #[test]
    fn parts_are_found_by_their_ids_too() {
        let of = |part: &str, item: &str| {
            let point = DataType::Struct(vec![field(part, Some(3), DataType::Int64)].into());
            let list = DataType::List(Arc::new(field(item, Some(2), point)));
            Schema::new(vec![field("points", Some(1), list)])
        };
        let named = named_in(&of("x", "item"), NEWER, &of("longitude", "element"));
        assert_eq!(*named, *strip_metadata(&of("longitude", "item")));
    }
}
