//! Schemas as JSON (Iceberg specification, appendix C, "Schemas").

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::error::SpecError;
use super::schema::{NestedField, Schema};
use super::types::{ListType, MapType, PrimitiveType, StructType, Type};
use crate::error::Result;
use crate::schema::canonical::{ELEMENT, KEY, VALUE, join};

impl Schema {
    /// Reads a schema. Keys that are not known stay in `extra`.
    ///
    /// # Errors
    ///
    /// `Unsupported` naming the column and its type where the type is not known here; `Invalid` when it is not
    /// a schema.
    pub fn from_json(value: &Value) -> Result<Self> {
        Ok(parse_schema(value)?)
    }

    /// The schema as JSON, the same for the same schema.
    pub fn to_json(&self) -> Value {
        let mut object = self.extra.clone();
        object.insert("type".to_owned(), json!("struct"));
        object.insert("schema-id".to_owned(), json!(self.schema_id));
        if !self.identifier_field_ids.is_empty() {
            object.insert("identifier-field-ids".to_owned(), json!(self.identifier_field_ids));
        }
        object.insert("fields".to_owned(), encode_fields(&self.fields));
        Value::Object(object)
    }
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        parse_schema(&value).map_err(serde::de::Error::custom)
    }
}

/// The id of a schema that has not been read yet; older ones have none.
pub(super) fn schema_id(schema: &Value) -> Result<i32, SpecError> {
    match schema.get("schema-id") {
        None | Some(Value::Null) => Ok(0),
        Some(id) => as_i32(id).ok_or_else(|| SpecError::broken("schema", "schema-id is not a number")),
    }
}

pub(super) fn parse_schema(value: &Value) -> Result<Schema, SpecError> {
    let mut object = as_object(value, "schema")?.clone();
    if object.remove("type").is_some_and(|name| name != "struct") {
        return Err(SpecError::broken("schema", "its type is not struct"));
    }
    let schema_id = schema_id(value)?;
    object.remove("schema-id");
    let identifier_field_ids = match object.remove("identifier-field-ids") {
        None | Some(Value::Null) => Vec::new(),
        Some(ids) => serde_json::from_value(ids).map_err(|e| SpecError::json("identifier-field-ids", e))?,
    };
    let fields = object.remove("fields");
    Ok(Schema {
        schema_id,
        identifier_field_ids,
        fields: parse_fields(fields.as_ref(), "")?,
        extra: object,
    })
}

fn parse_fields(fields: Option<&Value>, path: &str) -> Result<Vec<NestedField>, SpecError> {
    let fields = fields
        .and_then(Value::as_array)
        .ok_or_else(|| SpecError::broken(column(path), "a struct without fields"))?;
    fields.iter().map(|field| parse_field(field, path)).collect()
}

fn parse_field(value: &Value, path: &str) -> Result<NestedField, SpecError> {
    let mut object = as_object(value, &column(path))?.clone();
    let Some(Value::String(name)) = object.remove("name") else {
        return Err(SpecError::broken(column(path), "a field without name"));
    };
    let path = join(path, &name);
    let id = id(&object, "id", &path)?;
    let required = flag(&object, "required", &path)?;
    let field_type = parse_type(object.get("type"), &path)?;
    let doc = match object.remove("doc") {
        Some(Value::String(doc)) => Some(doc),
        _ => None,
    };
    for key in ["id", "required", "type"] {
        object.remove(key);
    }
    Ok(NestedField {
        id,
        name,
        required,
        field_type,
        doc,
        extra: object,
    })
}

fn parse_type(value: Option<&Value>, path: &str) -> Result<Type, SpecError> {
    let unknown = |data_type: String| SpecError::UnknownType {
        column: path.to_owned(),
        data_type,
    };
    let object = match value {
        Some(Value::String(text)) => {
            let primitive = PrimitiveType::parse(text).ok_or_else(|| unknown(text.clone()))?;
            return Ok(Type::Primitive(primitive));
        }
        Some(Value::Object(object)) => object,
        _ => return Err(SpecError::broken(column(path), "a field without type")),
    };
    let part = |name: &str, required: bool| -> Result<NestedField, SpecError> {
        let path = join(path, name);
        Ok(NestedField {
            required,
            ..NestedField::optional(
                id(object, &format!("{name}-id"), &path)?,
                name,
                parse_type(object.get(name), &path)?,
            )
        })
    };
    match object.get("type").and_then(Value::as_str) {
        Some("struct") => Ok(Type::Struct(StructType {
            fields: parse_fields(object.get("fields"), path)?,
        })),
        Some("list") => Ok(Type::List(Box::new(ListType {
            element: part(ELEMENT, flag(object, "element-required", path)?)?,
        }))),
        Some("map") => Ok(Type::Map(Box::new(MapType {
            key: part(KEY, true)?,
            value: part(VALUE, flag(object, "value-required", path)?)?,
        }))),
        Some(other) => Err(unknown(other.to_owned())),
        None => Err(SpecError::broken(column(path), "a type without name")),
    }
}

fn encode_fields(fields: &[NestedField]) -> Value {
    let fields = fields.iter().map(|field| {
        let mut object = field.extra.clone();
        object.insert("id".to_owned(), json!(field.id));
        object.insert("name".to_owned(), json!(field.name));
        object.insert("required".to_owned(), json!(field.required));
        object.insert("type".to_owned(), field.field_type.to_json());
        if let Some(doc) = &field.doc {
            object.insert("doc".to_owned(), json!(doc));
        }
        Value::Object(object)
    });
    Value::Array(fields.collect())
}

impl Type {
    /// The type as JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Primitive(primitive) => json!(primitive.to_string()),
            Self::Struct(parts) => json!({"type": "struct", "fields": encode_fields(&parts.fields)}),
            Self::List(list) => json!({
                "type": "list",
                "element-id": list.element.id,
                "element": list.element.field_type.to_json(),
                "element-required": list.element.required,
            }),
            Self::Map(map) => json!({
                "type": "map",
                "key-id": map.key.id,
                "key": map.key.field_type.to_json(),
                "value-id": map.value.id,
                "value": map.value.field_type.to_json(),
                "value-required": map.value.required,
            }),
        }
    }
}

fn column(path: &str) -> String {
    if path.is_empty() {
        "schema".to_owned()
    } else {
        format!("schema, column {path}")
    }
}

fn as_object<'a>(value: &'a Value, part: &str) -> Result<&'a Map<String, Value>, SpecError> {
    value
        .as_object()
        .ok_or_else(|| SpecError::broken(part, "not an object"))
}

fn as_i32(value: &Value) -> Option<i32> {
    value.as_i64().and_then(|n| i32::try_from(n).ok())
}

fn id(object: &Map<String, Value>, key: &str, path: &str) -> Result<i32, SpecError> {
    object
        .get(key)
        .and_then(as_i32)
        .ok_or_else(|| SpecError::broken(column(path), format!("{key} is missing or not a number")))
}

fn flag(object: &Map<String, Value>, key: &str, path: &str) -> Result<bool, SpecError> {
    object
        .get(key)
        .and_then(Value::as_bool)
        .ok_or_else(|| SpecError::broken(column(path), format!("{key} is missing or not a boolean")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_schema_round_trips_with_what_is_not_known() {
        let json = json!({"type": "struct", "schema-id": 3, "identifier-field-ids": [1], "x-owner": "me", "fields": [
            {"id": 1, "name": "id", "required": true, "type": "uuid", "x-tag": [1],
                "initial-default": "0db3e2a8-9d1d-42b9-aa7b-74ebe558dceb",
                "write-default": "ec5911be-b0a7-458c-8438-c9a3e53cffae"},
            {"id": 2, "name": "data", "required": false, "doc": "comment", "type":
                {"type": "list", "element-id": 3, "element-required": true, "element": "string"}},
            {"id": 4, "name": "m", "required": false, "type":
                {"type": "map", "key-id": 5, "key": "string", "value-id": 6, "value-required": false, "value":
                    {"type": "struct", "fields": [
                        {"id": 7, "name": "d", "required": false, "type": "decimal(9,2)"}]}}}]});
        let schema = Schema::from_json(&json).unwrap();
        assert_eq!(schema.to_json(), json);
        assert_eq!(serde_json::from_value::<Schema>(json).unwrap(), schema);
        assert_eq!((schema.schema_id, schema.identifier_field_ids), (3, vec![1]));
        assert_eq!(schema.fields[1].doc.as_deref(), Some("comment"));
    }

    #[test]
    fn an_old_schema_has_no_id() {
        let schema = Schema::from_json(&json!({"type": "struct", "fields": []})).unwrap();
        assert_eq!(schema, Schema::default());
    }

    #[test]
    fn unknown_types_are_named_with_their_column() {
        let json = json!({"type": "struct", "fields": [{"id": 1, "name": "s", "required": false, "type":
            {"type": "struct", "fields": [{"id": 2, "name": "v", "required": false, "type": "variant"}]}}]});
        let error = Schema::from_json(&json).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(
            error.to_string(),
            "column is of a type that is not known here. column=`s.v` type=`variant`"
        );
    }

    #[test]
    fn broken_schemas_are_refused_with_their_column() {
        let field = |field: Value| json!({"type": "struct", "fields": [field]});
        for (json, text) in [
            (json!([]), "not an object. in=`schema`"),
            (json!({"type": "list", "fields": []}), "its type is not struct"),
            (json!({"schema-id": "x", "fields": []}), "schema-id is not a number"),
            (json!({"type": "struct"}), "a struct without fields. in=`schema`"),
            (
                field(json!({"id": 1, "required": true, "type": "int"})),
                "a field without name",
            ),
            (
                field(json!({"id": 1.5, "name": "a", "required": true, "type": "int"})),
                "id is missing or not a number. in=`schema, column a`",
            ),
            (
                field(json!({"id": 1, "name": "a", "type": "int"})),
                "required is missing",
            ),
            (
                field(json!({"id": 1, "name": "a", "required": true})),
                "a field without type",
            ),
            (
                field(
                    json!({"id": 1, "name": "a", "required": true, "type": {"type": "list", "element": "int",
                    "element-required": true}}),
                ),
                "element-id is missing or not a number. in=`schema, column a.element`",
            ),
        ] {
            let error = Schema::from_json(&json).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
