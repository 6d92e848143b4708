//! The schema of a Delta table as Arrow sees it, and back (Delta protocol, "Schema Serialization Format").

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use serde_json::{Value, json};

use super::action::Metadata;
use super::error::{LogError, invalid, unsupported};
use super::mapping::{arrow_metadata, is_mapped, own_metadata};
use super::type_changes::unknown_changes;
use crate::encoding::deep_json;
use crate::error::Result;
use crate::schema::canonical::{ELEMENT, KEY, UTC, VALUE, join, map_of, map_parts};
use crate::schema::{is_typed, is_wider};

/// Column metadata that ask a writer to compute or to check values.
const CONSTRAINTS: [&str; 5] = [
    "CURRENT_DEFAULT",
    "delta.generationExpression",
    "delta.identity.",
    "delta.invariants",
    "EXISTS_DEFAULT",
];

/// The columns of a table. Of column metadata only the mapping is taken over: the text itself stays as it is.
pub(super) fn parse_schema(table: &Metadata) -> Result<SchemaRef, LogError> {
    let value: Value = deep_json(table.schema_string.as_bytes()).map_err(|e| bad(e.to_string(), ""))?;
    let parser = Parser {
        is_mapped: is_mapped(table),
    };
    Ok(Arc::new(Schema::new(parser.fields(&value, "")?)))
}

/// The columns whose metadata ask a writer to compute or to check values, with what they ask, or tell of changes of their
/// types that nobody can follow.
pub(super) fn constraints(schema_string: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(value) = deep_json::<Value>(schema_string.as_bytes()) {
        collect_constraints(&value, "", &mut found);
    }
    found
}

fn collect_constraints(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            let name = object.get("name").and_then(Value::as_str);
            let path = name.map_or_else(|| path.to_owned(), |name| join(path, name));
            for (key, value) in object {
                if let ("metadata", Value::Object(metadata)) = (key.as_str(), value) {
                    let changes = metadata.get("delta.typeChanges").into_iter().flat_map(unknown_changes);
                    found.extend(changes.map(|change| format!("type change {change} on {path}")));
                    for key in metadata.keys() {
                        if CONSTRAINTS
                            .iter()
                            .any(|c| key == c || (c.ends_with('.') && key.starts_with(c)))
                        {
                            found.push(format!("{key} on {path}"));
                        }
                    }
                } else {
                    collect_constraints(value, &path, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_constraints(item, path, found)),
        _ => {}
    }
}

fn bad(rule: impl Into<String>, column: &str) -> LogError {
    LogError::Schema {
        rule: rule.into(),
        column: column.to_owned(),
    }
}

/// Reads schemas.
struct Parser {
    is_mapped: bool,
}

impl Parser {
    fn fields(&self, value: &Value, path: &str) -> Result<Fields, LogError> {
        let fields = value
            .get("fields")
            .and_then(Value::as_array)
            .ok_or_else(|| bad("a struct without fields", path))?;
        fields.iter().map(|field| self.field(field, path)).collect()
    }

    fn field(&self, value: &Value, path: &str) -> Result<FieldRef, LogError> {
        let name = value
            .get("name")
            .and_then(Value::as_str)
            .ok_or_else(|| bad("a field without name", path))?;
        let path = join(path, name);
        let data_type = value.get("type").ok_or_else(|| bad("a field without type", &path))?;
        let data_type = self.data_type(data_type, &path)?;
        // A void column has no values at all, whatever it says.
        let nullable = data_type == DataType::Null || value.get("nullable").and_then(Value::as_bool).unwrap_or(true);
        let mut field = Field::new(name, data_type, nullable);
        if self.is_mapped {
            field.set_metadata(arrow_metadata(value).unwrap_or_default());
        }
        Ok(Arc::new(field))
    }

    fn data_type(&self, value: &Value, path: &str) -> Result<DataType, LogError> {
        if let Some(name) = value.as_str() {
            return parse_primitive(name).ok_or_else(|| bad(format!("unknown type {name}"), path));
        }
        let nested = |key: &str, nullable: Option<&str>, name: &str| -> Result<FieldRef, LogError> {
            let inner = value
                .get(key)
                .ok_or_else(|| bad(format!("a type without {key}"), path))?;
            let nullable = nullable.is_some_and(|flag| value.get(flag).and_then(Value::as_bool).unwrap_or(true));
            let inner = self.data_type(inner, &join(path, name))?;
            Ok(Arc::new(Field::new(name, inner, nullable)))
        };
        match value.get("type").and_then(Value::as_str) {
            Some("struct") => Ok(DataType::Struct(self.fields(value, path)?)),
            Some("array") => Ok(DataType::List(nested("elementType", Some("containsNull"), ELEMENT)?)),
            Some("map") => Ok(map_of(
                nested("keyType", None, KEY)?,
                nested("valueType", Some("valueContainsNull"), VALUE)?,
            )),
            Some(other) => Err(bad(format!("unknown type {other}"), path)),
            None => Err(bad("a type that is neither a name nor an object", path)),
        }
    }
}

/// The type of this name.
pub(super) fn parse_primitive(name: &str) -> Option<DataType> {
    Some(match name {
        "binary" => DataType::Binary,
        "boolean" => DataType::Boolean,
        "byte" => DataType::Int8,
        "date" => DataType::Date32,
        "decimal" => DataType::Decimal128(10, 0),
        "double" => DataType::Float64,
        "float" => DataType::Float32,
        "integer" => DataType::Int32,
        "long" => DataType::Int64,
        "null" | "void" => DataType::Null,
        "short" => DataType::Int16,
        "string" => DataType::Utf8,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ if bracketed(name, "char").is_some() || bracketed(name, "varchar").is_some() => DataType::Utf8,
        _ => {
            let (precision, scale) = bracketed(name, "decimal")?.split_once(',')?;
            let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse::<u8>().ok()?);
            ((1..=38).contains(&precision) && scale <= precision)
                .then_some(DataType::Decimal128(precision, i8::try_from(scale).ok()?))?
        }
    })
}

fn bracketed<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')
}

/// The `schemaString` of a new table. The schema must be canonical and free of void columns.
pub(super) fn schema_string(schema: &Schema) -> Result<String> {
    Ok(json!({"type": "struct", "fields": encode_fields(schema.fields())?}).to_string())
}

fn encode_fields(fields: &Fields) -> Result<Vec<Value>> {
    fields.iter().map(|field| encode_field(field)).collect()
}

/// A field of a `schemaString`, without metadata but the id that it carries.
pub(super) fn encode_field(field: &Field) -> Result<Value> {
    Ok(json!({
        "name": field.name(),
        "type": encode_type(field.data_type(), field.name())?,
        "nullable": field.is_nullable(),
        "metadata": own_metadata(field),
    }))
}

/// A type of a `schemaString`.
pub(super) fn encode_type(data_type: &DataType, column: &str) -> Result<Value> {
    Ok(match data_type {
        DataType::Binary => json!("binary"),
        DataType::Boolean => json!("boolean"),
        DataType::Date32 => json!("date"),
        DataType::Decimal128(precision, scale) => json!(format!("decimal({precision},{scale})")),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Int8 => json!("byte"),
        DataType::Int16 => json!("short"),
        DataType::Int32 => json!("integer"),
        DataType::Int64 => json!("long"),
        DataType::Utf8 => json!("string"),
        DataType::Timestamp(TimeUnit::Microsecond, None) => json!("timestamp_ntz"),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => json!("timestamp"),
        DataType::Struct(fields) => json!({"type": "struct", "fields": encode_fields(fields)?}),
        DataType::List(element) => json!({
            "type": "array",
            "elementType": encode_type(element.data_type(), column)?,
            "containsNull": element.is_nullable(),
        }),
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(not_canonical(data_type, column));
            };
            let [key, value] = fields.as_ref() else {
                return Err(not_canonical(data_type, column));
            };
            json!({
                "type": "map",
                "keyType": encode_type(key.data_type(), column)?,
                "valueType": encode_type(value.data_type(), column)?,
                "valueContainsNull": value.is_nullable(),
            })
        }
        other => return Err(not_canonical(other, column)),
    })
}

fn not_canonical(data_type: &DataType, column: &str) -> crate::error::Error {
    invalid(format!(
        "not a type of Delta tables. column=`{column}` type=`{data_type}`"
    ))
}

/// Whether any column, nested ones too, has no time zone: such a table needs the feature `timestampNtz`.
pub(super) fn has_timestamp_ntz(fields: &Fields) -> bool {
    fields.iter().any(|field| type_has_ntz(field.data_type()))
}

/// As [`has_timestamp_ntz`], of a type.
pub(super) fn type_has_ntz(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, None) => true,
        DataType::Struct(fields) => has_timestamp_ntz(fields),
        DataType::List(field) | DataType::Map(field, _) => type_has_ntz(field.data_type()),
        _ => false,
    }
}

/// A schema without void columns: these are never stored (Delta protocol, "Void Type").
pub(super) fn without_void(schema: &Schema) -> Schema {
    let stored = |field: &&FieldRef| field.data_type() != &DataType::Null;
    Schema::new(schema.fields().iter().filter(stored).cloned().collect::<Fields>())
}

/// The columns that files with `columns` have in a table with the schema `table`: in the table's order, of
/// the table's types. Columns that are missing at the top are left out, those below are there, for nulls.
///
/// # Errors
///
/// `Unsupported` naming the column that does not fit; a table is never changed here to make it fit.
pub(super) fn fit_columns(table: &Schema, columns: &Schema) -> Result<SchemaRef> {
    let fields = fit_fields(table.fields(), columns.fields(), "")?;
    if fields.is_empty() {
        return Err(invalid("no column to be stored"));
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn fit_fields(table: &Fields, columns: &Fields, path: &str) -> Result<Vec<FieldRef>> {
    let stored = || columns.iter().filter(|column| is_typed(column));
    if let Some(column) = stored().find(|column| table.find(column.name()).is_none()) {
        return Err(unsupported(format!(
            "the table has no such column. column=`{}` type=`{}`",
            join(path, column.name()),
            column.data_type()
        )));
    }
    let mut fields = Vec::new();
    for field in table {
        let path_of_field = join(path, field.name());
        match stored().find(|column| column.name() == field.name()) {
            Some(column) => fields.push(fit_field(field, column, &path_of_field)?),
            None if !field.is_nullable() => {
                return Err(unsupported(format!(
                    "a column that must not be null is missing. column=`{path_of_field}`"
                )));
            }
            None if path.is_empty() || !is_typed(field) => {}
            None => fields.push(Arc::clone(field)),
        }
    }
    Ok(fields)
}

fn fit_field(table: &FieldRef, column: &FieldRef, path: &str) -> Result<FieldRef> {
    let other_type = || {
        unsupported(format!(
            "column is of another type in the table. column=`{path}` type=`{}` table=`{}`",
            column.data_type(),
            table.data_type()
        ))
    };
    if column.is_nullable() && !table.is_nullable() {
        return Err(unsupported(format!(
            "column must not be null in the table. column=`{path}`"
        )));
    }
    let data_type = match (table.data_type(), column.data_type()) {
        (DataType::Struct(of_table), DataType::Struct(fields)) => {
            DataType::Struct(fit_fields(of_table, fields, path)?.into())
        }
        (DataType::List(of_table), DataType::List(item)) => {
            DataType::List(fit_field(of_table, item, &join(path, ELEMENT))?)
        }
        (DataType::Map(of_table, _), DataType::Map(entries, _)) => {
            let (Some(of_table), Some((key, value))) = (map_parts(of_table), map_parts(entries)) else {
                return Err(other_type());
            };
            map_of(
                fit_field(of_table.0, key, &join(path, KEY))?,
                fit_field(of_table.1, value, &join(path, VALUE))?,
            )
        }
        // Whatever the zone is called.
        (DataType::Timestamp(a, Some(_)), DataType::Timestamp(b, Some(_))) if a == b => column.data_type().clone(),
        (of_table, found) if of_table == found => found.clone(),
        (of_table, found) if is_wider(of_table, found) => of_table.clone(),
        _ => return Err(other_type()),
    };
    // What the files say of nulls is kept: they may hold fewer than the table allows.
    let field = Field::new(table.name(), data_type, column.is_nullable());
    Ok(Arc::new(field.with_metadata(table.metadata().clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(schema_string: &str) -> Result<SchemaRef, LogError> {
        parse_schema(&Metadata {
            schema_string: schema_string.to_owned(),
            ..Metadata::default()
        })
    }

    fn example() -> Schema {
        let item = Arc::new(Field::new(ELEMENT, DataType::Int16, true));
        Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("d", DataType::Decimal128(38, 10), true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())), true),
            Field::new("local", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("l", DataType::List(item), true),
            Field::new(
                "m",
                map_of(
                    Arc::new(Field::new(KEY, DataType::Utf8, false)),
                    Arc::new(Field::new(VALUE, DataType::Binary, true)),
                ),
                true,
            ),
            Field::new(
                "s",
                DataType::Struct(Fields::from(vec![Field::new("x y", DataType::Date32, true)])),
                false,
            ),
        ])
    }

    #[test]
    fn a_schema_round_trips_through_its_json() {
        let text = schema_string(&example()).unwrap();
        assert_eq!(*parse(&text).unwrap(), example());
        assert!(has_timestamp_ntz(example().fields()));
    }

    #[test]
    fn char_and_decimal_forms_are_read_and_unknown_types_refused() {
        assert_eq!(parse_primitive("varchar(10)"), Some(DataType::Utf8));
        assert_eq!(parse_primitive("decimal(10, 2)"), Some(DataType::Decimal128(10, 2)));
        assert_eq!(parse_primitive("decimal(39,0)"), None);
        assert_eq!(parse_primitive("decimal(2,3)"), None);
        assert_eq!(parse_primitive("variant"), None);
        let text = r#"{"type":"struct","fields":[{"name":"v","type":"variant","nullable":true,"metadata":{}}]}"#;
        let error = parse(text).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the table's schema cannot be understood: unknown type variant. column=`v`"
        );
    }

    #[test]
    fn column_constraints_are_found_at_any_depth() {
        let text = r#"{"type":"struct","fields":[
            {"name":"a","type":"integer","nullable":true,"metadata":{"delta.identity.start":1}},
            {"name":"s","type":{"type":"struct","fields":[
                {"name":"b","type":"string","nullable":true,"metadata":{"delta.invariants":"{}","comment":"x"}}]},
             "nullable":true,"metadata":{}}]}"#;
        assert_eq!(
            constraints(text),
            ["delta.identity.start on a", "delta.invariants on s.b"]
        );
    }

    #[test]
    fn columns_fit_in_the_order_of_the_table_and_may_be_missing_where_null_is_allowed() {
        let columns = Schema::new(vec![
            example().field(4).clone(),
            Field::new("id", DataType::Int64, false),
            Field::new("s", example().field(6).data_type().clone(), false),
            Field::new("d", DataType::Null, true),
        ]);
        let fitted = fit_columns(&example(), &columns).unwrap();
        let names: Vec<_> = fitted.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["id", "l", "s"]);
    }

    #[test]
    fn columns_that_are_narrower_than_the_tables_are_stored_in_its_types() {
        let part = |name: &str, data_type: DataType| Field::new(name, data_type, true);
        let of = |fields: Vec<Field>| Schema::new(vec![Field::new("s", DataType::Struct(fields.into()), true)]);
        let table = of(vec![part("a", DataType::Int64), part("b", DataType::Utf8)]);
        let fitted = fit_columns(&table, &of(vec![part("a", DataType::Int32)])).unwrap();
        assert_eq!(*fitted, table);
        let error = fit_columns(&table, &of(vec![part("c", DataType::Int32)])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the table has no such column. column=`s.c` type=`Int32`"
        );
    }

    #[test]
    fn columns_that_do_not_fit_are_named() {
        let table = example();
        let check = |field: Field| {
            let columns = Schema::new(vec![field, table.field(6).clone()]);
            fit_columns(&table, &columns).unwrap_err().to_string()
        };
        assert_eq!(
            check(Field::new("id", DataType::Utf8, false)),
            "column is of another type in the table. column=`id` type=`Utf8` table=`Int64`"
        );
        assert_eq!(
            check(Field::new("id", DataType::Int64, true)),
            "column must not be null in the table. column=`id`"
        );
        assert_eq!(
            check(Field::new("new", DataType::Int64, true)),
            "the table has no such column. column=`new` type=`Int64`"
        );
        assert_eq!(
            check(Field::new("l", table.field(4).data_type().clone(), true)),
            "a column that must not be null is missing. column=`id`"
        );
    }
}
