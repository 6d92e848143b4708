//! A table's schema as Arrow sees it, and back (Iceberg specification, appendix A, "Parquet").

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema as ArrowSchema, SchemaRef, TimeUnit};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::error::{invalid, unsupported};
use super::schema::{NestedField, Schema};
use super::types::{ListType, MapType, PrimitiveType, StructType, Type};
use crate::error::{Error, Result};
use crate::schema::canonical::{ELEMENT, KEY, UTC, VALUE, join, map_of, map_parts};
use crate::schema::{NewIds, field_id, is_wider};

/// Metadata key under which Arrow names a type that is more than its storage.
pub(super) const EXTENSION_TYPE_NAME_KEY: &str = "ARROW:extension:name";
/// Arrow's name for uuids, stored as 16 bytes.
pub(super) const UUID_EXTENSION: &str = "arrow.uuid";
const UUID_LENGTH: i32 = 16;

/// The columns of a Parquet file of a table with `schema`: every field carries its id for the Parquet writer, and
/// parts of lists and maps have the names that Parquet asks for.
pub fn arrow_schema(schema: &Schema) -> SchemaRef {
    Arc::new(ArrowSchema::new(arrow_fields(&schema.fields)))
}

fn arrow_fields(fields: &[NestedField]) -> Fields {
    fields.iter().map(arrow_field).collect()
}

fn arrow_field(field: &NestedField) -> FieldRef {
    let mut metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), field.id.to_string())]);
    if field.field_type == Type::Primitive(PrimitiveType::Uuid) {
        metadata.insert(EXTENSION_TYPE_NAME_KEY.to_owned(), UUID_EXTENSION.to_owned());
    }
    let arrow = Field::new(&field.name, arrow_type(&field.field_type), !field.required);
    Arc::new(arrow.with_metadata(metadata))
}

fn arrow_type(field_type: &Type) -> DataType {
    match field_type {
        Type::Primitive(primitive) => arrow_primitive(*primitive),
        Type::Struct(parts) => DataType::Struct(arrow_fields(&parts.fields)),
        Type::List(list) => DataType::List(arrow_field(&list.element)),
        Type::Map(map) => map_of(arrow_field(&map.key), arrow_field(&map.value)),
    }
}

pub(super) fn arrow_primitive(primitive: PrimitiveType) -> DataType {
    match primitive {
        PrimitiveType::Boolean => DataType::Boolean,
        PrimitiveType::Int => DataType::Int32,
        PrimitiveType::Long => DataType::Int64,
        PrimitiveType::Float => DataType::Float32,
        PrimitiveType::Double => DataType::Float64,
        PrimitiveType::Decimal { precision, scale } => {
            DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX))
        }
        PrimitiveType::Date => DataType::Date32,
        PrimitiveType::Time => DataType::Time64(TimeUnit::Microsecond),
        PrimitiveType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        PrimitiveType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        PrimitiveType::TimestampNs => DataType::Timestamp(TimeUnit::Nanosecond, None),
        PrimitiveType::TimestamptzNs => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
        PrimitiveType::String => DataType::Utf8,
        PrimitiveType::Uuid => DataType::FixedSizeBinary(UUID_LENGTH),
        PrimitiveType::Fixed(length) => DataType::FixedSizeBinary(i32::try_from(length).unwrap_or(i32::MAX)),
        PrimitiveType::Binary => DataType::Binary,
    }
}

pub(super) fn is_uuid(field: &Field) -> bool {
    field.data_type() == &DataType::FixedSizeBinary(UUID_LENGTH) && field.extension_type_name() == Some(UUID_EXTENSION)
}

/// The schema of a new table with `columns`, which must be canonical. Fields keep the ids that they carry (metadata
/// `PARQUET:field_id`), and get others as in Java: all of a level before any below. Columns without a type (`Null`)
/// are left out: they are never stored.
///
/// # Errors
///
/// `Invalid` naming the column when its type is not one of Iceberg's: make the schema canonical first.
pub fn new_schema(columns: &ArrowSchema) -> Result<Schema> {
    let fields = new_fields(columns.fields(), "", &mut NewIds::after(0, columns.fields()))?;
    if fields.is_empty() {
        return Err(invalid("no column to be stored"));
    }
    Ok(Schema::new(fields))
}

/// New fields with new ids.
pub(super) fn new_fields(fields: &Fields, path: &str, new_ids: &mut NewIds) -> Result<Vec<NestedField>> {
    let stored: Vec<_> = fields
        .iter()
        .filter(|field| field.data_type() != &DataType::Null)
        .collect();
    let ids: Vec<i32> = stored.iter().map(|field| new_ids.id(field_id(field))).collect();
    let fields = stored.into_iter().zip(ids);
    fields
        .map(|(field, id)| new_field(field, field.name(), id, path, new_ids))
        .collect()
}

fn new_field(field: &Field, name: &str, id: i32, path: &str, new_ids: &mut NewIds) -> Result<NestedField> {
    let field_type = new_type(field, &join(path, name), new_ids)?;
    Ok(NestedField {
        required: !field.is_nullable(),
        ..NestedField::optional(id, name, field_type)
    })
}

fn new_type(field: &Field, path: &str, new_ids: &mut NewIds) -> Result<Type> {
    let foreign = || {
        invalid(format!(
            "not a type of Iceberg tables. column=`{path}` type=`{}`",
            field.data_type()
        ))
    };
    Ok(match field.data_type() {
        DataType::Struct(fields) => Type::Struct(StructType {
            fields: new_fields(fields, path, new_ids)?,
        }),
        DataType::List(element) => {
            let id = new_ids.id(field_id(element));
            let element = new_field(element, ELEMENT, id, path, new_ids)?;
            Type::List(Box::new(ListType { element }))
        }
        DataType::Map(entries, _) => {
            let (key, value) = map_parts(entries).ok_or_else(foreign)?;
            let (key_id, value_id) = (new_ids.id(field_id(key)), new_ids.id(field_id(value)));
            let key = NestedField {
                required: true,
                ..new_field(key, KEY, key_id, path, new_ids)?
            };
            let value = new_field(value, VALUE, value_id, path, new_ids)?;
            Type::Map(Box::new(MapType { key, value }))
        }
        data_type => Type::Primitive(primitive(data_type, is_uuid(field)).ok_or_else(foreign)?),
    })
}

/// The type of a column that is not nested, if it is canonical.
pub(super) fn primitive(data_type: &DataType, is_uuid: bool) -> Option<PrimitiveType> {
    Some(match data_type {
        DataType::Boolean => PrimitiveType::Boolean,
        DataType::Int32 => PrimitiveType::Int,
        DataType::Int64 => PrimitiveType::Long,
        DataType::Float32 => PrimitiveType::Float,
        DataType::Float64 => PrimitiveType::Double,
        DataType::Decimal128(precision, scale) => PrimitiveType::Decimal {
            precision: *precision,
            scale: u8::try_from(*scale).ok()?,
        },
        DataType::Date32 => PrimitiveType::Date,
        DataType::Time64(TimeUnit::Microsecond) => PrimitiveType::Time,
        DataType::Timestamp(TimeUnit::Microsecond, None) => PrimitiveType::Timestamp,
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => PrimitiveType::Timestamptz,
        DataType::Timestamp(TimeUnit::Nanosecond, None) => PrimitiveType::TimestampNs,
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => PrimitiveType::TimestamptzNs,
        DataType::Utf8 => PrimitiveType::String,
        DataType::Binary => PrimitiveType::Binary,
        DataType::FixedSizeBinary(_) if is_uuid => PrimitiveType::Uuid,
        DataType::FixedSizeBinary(length) => PrimitiveType::Fixed(u64::try_from(*length).ok()?),
        _ => return None,
    })
}

/// Checks that files with the columns `file` can be put into a table with the schema `table`: columns are matched
/// by name, their order is free, and those that may be null may be missing.
///
/// # Errors
///
/// `Unsupported` naming the column that does not fit; a table is never changed to make it fit.
pub fn fit_columns(table: &Schema, file: &ArrowSchema) -> Result<()> {
    if file.fields().iter().all(|column| column.data_type() == &DataType::Null) {
        return Err(invalid("no column to be stored"));
    }
    fit_fields(&table.fields, file.fields(), "")
}

fn fit_fields(table: &[NestedField], file: &Fields, path: &str) -> Result<()> {
    let stored = || file.iter().filter(|column| column.data_type() != &DataType::Null);
    for column in stored() {
        if !table.iter().any(|field| field.name == *column.name()) {
            return Err(unsupported(format!(
                "the table has no such column. column=`{}` type=`{}`",
                join(path, column.name()),
                column.data_type()
            )));
        }
    }
    for field in table {
        let path = join(path, &field.name);
        match stored().find(|column| *column.name() == field.name) {
            Some(column) => fit(field, column, &path)?,
            None if field.required => {
                return Err(unsupported(format!(
                    "a column that must not be null is missing. column=`{path}`"
                )));
            }
            None if field.extra.get("write-default").is_some_and(|value| !value.is_null()) => {
                return Err(unsupported(format!(
                    "a column that has a default value is missing. column=`{path}`"
                )));
            }
            None => {}
        }
    }
    Ok(())
}

fn fit(field: &NestedField, column: &Field, path: &str) -> Result<()> {
    if field.required && column.is_nullable() {
        return Err(unsupported(format!(
            "column must not be null in the table. column=`{path}`"
        )));
    }
    match (&field.field_type, column.data_type()) {
        (Type::Struct(parts), DataType::Struct(fields)) => fit_fields(&parts.fields, fields, path),
        (Type::List(list), DataType::List(element)) => fit(&list.element, element, &join(path, ELEMENT)),
        (Type::Map(map), DataType::Map(entries, _)) => {
            let (key, value) = map_parts(entries).ok_or_else(|| other_type(field, column, path))?;
            fit(&map.key, &key.as_ref().clone().with_nullable(false), &join(path, KEY))?;
            fit(&map.value, value, &join(path, VALUE))
        }
        (Type::Primitive(primitive), found) if fits(&arrow_primitive(*primitive), found) => Ok(()),
        _ => Err(other_type(field, column, path)),
    }
}

/// Whether values of type `found` can be stored as the table's: it is the same, whatever the zone is called, or narrower.
fn fits(table: &DataType, found: &DataType) -> bool {
    match (table, found) {
        (DataType::Timestamp(a, table), DataType::Timestamp(b, found)) => a == b && table.is_some() == found.is_some(),
        _ => table == found || is_wider(table, found),
    }
}

fn other_type(field: &NestedField, column: &Field, path: &str) -> Error {
    unsupported(format!(
        "column is of another type in the table. column=`{path}` type=`{}` table=`{}`",
        column.data_type(),
        arrow_type(&field.field_type)
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ErrorKind;
    use crate::schema::strip_metadata;

    fn columns() -> ArrowSchema {
        let int = |name: &str| Field::new(name, DataType::Int32, true);
        let list = |of: Field| DataType::List(Arc::new(of));
        ArrowSchema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new(
                "s",
                DataType::Struct(vec![int("a"), Field::new("l", list(int("element")), true)].into()),
                true,
            ),
            Field::new(
                "m",
                map_of(
                    Arc::new(Field::new(KEY, DataType::Utf8, false)),
                    Arc::new(Field::new(VALUE, DataType::Decimal128(9, 2), true)),
                ),
                true,
            ),
            Field::new("t", DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())), true),
            Field::new("f", DataType::FixedSizeBinary(16), true),
        ])
    }

    #[test]
    fn ids_are_given_level_by_level() {
        let field = |id, name: &str, required, data_type| json!({"id": id, "name": name, "required": required, "type": data_type});
        let list = json!({"type": "list", "element-id": 8, "element": "int", "element-required": false});
        let parts = json!({"type": "struct", "fields":
            [field(6, "a", false, json!("int")), field(7, "l", false, list)]});
        let map = json!({"type": "map", "key-id": 9, "key": "string", "value-id": 10, "value": "decimal(9,2)",
            "value-required": false});
        let expected = json!({"type": "struct", "schema-id": 0, "fields": [
            field(1, "id", true, json!("long")), field(2, "s", false, parts), field(3, "m", false, map),
            field(4, "t", false, json!("timestamptz_ns")), field(5, "f", false, json!("fixed[16]"))]});
        assert_eq!(new_schema(&columns()).unwrap().to_json(), expected);
    }

    #[test]
    fn a_schema_comes_back_from_arrow_with_ids_on_every_field() {
        let schema = new_schema(&columns()).unwrap();
        let arrow = arrow_schema(&schema);
        assert_eq!(*strip_metadata(&arrow), columns());
        assert_eq!(new_schema(&arrow).unwrap(), schema);
        let parquet = parquet::arrow::ArrowSchemaConverter::new().convert(&arrow).unwrap();
        let leaves: Vec<_> = schema
            .leaves()
            .iter()
            .map(|leaf| (leaf.path.join("."), leaf.field.id))
            .collect();
        let written: Vec<_> = parquet
            .columns()
            .iter()
            .map(|column| (column.path().string(), column.self_type().get_basic_info().id()))
            .collect();
        assert_eq!(written, leaves);
        let groups: Vec<_> = parquet
            .root_schema()
            .get_fields()
            .iter()
            .map(|f| f.get_basic_info().id())
            .collect();
        assert_eq!(groups, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_uuid_is_one_in_parquet_too() {
        let uuid = NestedField::optional(1, "u", Type::Primitive(PrimitiveType::Uuid));
        let arrow = arrow_schema(&Schema::new(vec![uuid]));
        let parquet = parquet::arrow::ArrowSchemaConverter::new().convert(&arrow).unwrap();
        let found = parquet.column(0).logical_type_ref().cloned();
        assert_eq!(found, Some(parquet::basic::LogicalType::Uuid));
    }

    #[test]
    fn every_primitive_has_one_arrow_type() {
        for text in [
            "boolean",
            "int",
            "long",
            "float",
            "double",
            "decimal(38,38)",
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "timestamp_ns",
            "timestamptz_ns",
            "string",
            "uuid",
            "fixed[3]",
            "binary",
        ] {
            let primitive = Type::Primitive(PrimitiveType::parse(text).unwrap());
            let schema = Schema::new(vec![NestedField::required(1, "c", primitive)]);
            assert_eq!(new_schema(&arrow_schema(&schema)).unwrap(), schema, "{text}");
        }
    }

    #[test]
    fn columns_that_do_not_fit_are_named() {
        let table = new_schema(&columns()).unwrap();
        fit_columns(&table, &columns()).unwrap();
        fit_columns(&table, &arrow_schema(&table)).unwrap();
        let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
        let id = || Field::new("id", DataType::Int64, false);
        let wrong_part = DataType::Struct(vec![field("b", DataType::Int32)].into());
        for (fields, text) in [
            (
                vec![field("id", DataType::Int64)],
                "column must not be null in the table. column=`id`",
            ),
            (
                vec![field("f", DataType::FixedSizeBinary(16))],
                "a column that must not be null is missing. column=`id`",
            ),
            (
                vec![id(), field("x", DataType::Utf8)],
                "the table has no such column. column=`x` type=`Utf8`",
            ),
            (
                vec![id(), field("s", wrong_part)],
                "the table has no such column. column=`s.b` type=`Int32`",
            ),
            (
                vec![id(), field("f", DataType::Binary)],
                "column is of another type in the table. column=`f` type=`Binary` table=`FixedSizeBinary(16)`",
            ),
            (
                vec![id(), field("t", DataType::Timestamp(TimeUnit::Nanosecond, None))],
                "column is of another type in the table. column=`t`",
            ),
        ] {
            let error = fit_columns(&table, &ArrowSchema::new(fields)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().starts_with(text), "{error}");
        }
        // Order is free, what may be null may be missing, what has no type is not stored.
        let fewer = vec![
            field("t", DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into()))),
            id(),
            field("f", DataType::Null),
        ];
        fit_columns(&table, &ArrowSchema::new(fewer)).unwrap();
    }

    #[test]
    fn a_missing_column_with_a_default_is_refused() {
        let mut table = new_schema(&columns()).unwrap();
        table.fields[4].extra.insert("write-default".to_owned(), json!("00"));
        let file = ArrowSchema::new(vec![Field::new("id", DataType::Int64, false)]);
        let error = fit_columns(&table, &file).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a column that has a default value is missing. column=`f`"
        );
    }

    #[test]
    fn types_that_are_not_canonical_are_refused() {
        let file = ArrowSchema::new(vec![Field::new("c", DataType::UInt8, false)]);
        let error = new_schema(&file).unwrap_err();
        assert_eq!(
            error.to_string(),
            "not a type of Iceberg tables. column=`c` type=`UInt8`"
        );
    }
}
