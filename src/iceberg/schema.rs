//! Schemas: columns with ids that outlive their names (Iceberg specification, "Schemas and Data Types").

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::error::SpecError;
use super::types::{PrimitiveType, Type};
use super::version::FormatVersion;
use crate::schema::canonical::{KEY_VALUE, join};

/// A schema of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    /// Its id among the table's schemas.
    pub schema_id: i32,
    /// Columns that identify a row; kept, never set here.
    pub identifier_field_ids: Vec<i32>,
    /// The columns, in order.
    pub fields: Vec<NestedField>,
    /// What the JSON has beside these.
    pub extra: Map<String, Value>,
}

/// A column, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub struct NestedField {
    /// Its id, unique in the table.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Whether it is never null.
    pub required: bool,
    /// Its type.
    pub field_type: Type,
    /// A comment.
    pub doc: Option<String>,
    /// What the JSON has beside these (`initial-default`, `write-default`).
    pub extra: Map<String, Value>,
}

/// A column of a Parquet file: a field without parts, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf<'a> {
    /// The field.
    pub field: &'a NestedField,
    /// Its type.
    pub primitive: PrimitiveType,
    /// Names from the root to the field, as Parquet has them: `l.list.element`, `m.key_value.key`.
    pub path: Vec<&'a str>,
    /// Whether it is inside a list or a map: a row has any number of its values.
    pub repeated: bool,
}

/// Names that Parquet puts between a list or map and its parts ("Lists", "Maps").
const LIST: &str = "list";
/// The highest id of a column (Iceberg specification, "Reserved Field IDs").
const MAX_FIELD_ID: i32 = 2_147_483_447;

impl Schema {
    /// A schema of `fields`, with id 0.
    pub fn new(fields: Vec<NestedField>) -> Self {
        Self {
            fields,
            ..Self::default()
        }
    }

    /// The field with this id, at any depth.
    pub fn field_by_id(&self, id: i32) -> Option<&NestedField> {
        find(&self.fields, &|field| field.id == id)
    }

    /// The column with this name.
    pub fn field_by_name(&self, name: &str) -> Option<&NestedField> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The field at the end of `path`: names from the root as Parquet has them, with `list` and `key_value`.
    pub fn field_by_path<S: AsRef<str>>(&self, path: &[S]) -> Option<&NestedField> {
        let mut names = path.iter().map(AsRef::as_ref);
        let mut field = self.field_by_name(names.next()?)?;
        while let Some(name) = names.next() {
            let name = match (&field.field_type, name) {
                (Type::List(_), LIST) | (Type::Map(_), KEY_VALUE) => names.next()?,
                (Type::Struct(_), name) => name,
                _ => return None,
            };
            field = field.field_type.children().into_iter().find(|f| f.name == name)?;
        }
        Some(field)
    }

    /// The columns of a Parquet file with this schema, in its order.
    pub fn leaves(&self) -> Vec<Leaf<'_>> {
        let mut leaves = Vec::new();
        collect_leaves(&self.fields, &[], false, &mut leaves);
        leaves
    }

    /// The highest id of any field, 0 without fields.
    pub fn max_field_id(&self) -> i32 {
        max_id(&self.fields)
    }

    /// Fields that ask a writer for another value than null where it has none (`write-default`), by path.
    pub fn fields_with_defaults(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.fields, "", &mut |field, path| {
            if field.extra.get("write-default").is_some_and(|value| !value.is_null()) {
                found.push(path.to_owned());
            }
        });
        found
    }

    /// The paths of the fields with these ids.
    pub(super) fn paths_of(&self, ids: &BTreeSet<i32>) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        walk(&self.fields, "", &mut |field, path| {
            if ids.contains(&field.id) {
                found.insert(path.to_owned());
            }
        });
        found
    }

    /// Whether both have the same columns: all but the id of the schema.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.fields == other.fields && self.identifier_field_ids == other.identifier_field_ids
    }

    /// Checks that every field has an id of its own.
    pub(super) fn check_ids(&self) -> Result<(), SpecError> {
        let mut ids = BTreeSet::new();
        self.check_fields(&mut |field| {
            if !ids.insert(field.id) {
                Some(format!("field id {} is used twice", field.id))
            } else if field.id > MAX_FIELD_ID || field.id < 0 {
                Some(format!("field id {} is reserved", field.id))
            } else {
                None
            }
        })
    }

    /// Checks that tables of `version` have all its types.
    pub(super) fn check_types(&self, version: FormatVersion) -> Result<(), SpecError> {
        self.check_fields(&mut |field| {
            let primitive = field.field_type.as_primitive()?;
            (primitive.since() > version).then(|| format!("type {primitive} is not in version {version}"))
        })
    }

    fn check_fields(&self, broken: &mut dyn FnMut(&NestedField) -> Option<String>) -> Result<(), SpecError> {
        let mut wrong = None;
        walk(&self.fields, "", &mut |field, path| {
            if let (None, Some(rule)) = (&wrong, broken(field)) {
                wrong = Some(SpecError::broken(format!("schema, column {path}"), rule));
            }
        });
        wrong.map_or(Ok(()), Err)
    }
}

impl NestedField {
    /// A column that may be null.
    pub fn optional(id: i32, name: impl Into<String>, field_type: Type) -> Self {
        Self {
            id,
            name: name.into(),
            required: false,
            field_type,
            doc: None,
            extra: Map::new(),
        }
    }

    /// A column that is never null.
    pub fn required(id: i32, name: impl Into<String>, field_type: Type) -> Self {
        Self {
            required: true,
            ..Self::optional(id, name, field_type)
        }
    }
}

fn find<'a>(
    fields: impl IntoIterator<Item = &'a NestedField>,
    is_it: &dyn Fn(&NestedField) -> bool,
) -> Option<&'a NestedField> {
    fields.into_iter().find_map(|field| match is_it(field) {
        true => Some(field),
        false => find(field.field_type.children(), is_it),
    })
}

/// Calls `visit` for every field with its path of names.
fn walk<'a>(
    fields: impl IntoIterator<Item = &'a NestedField>,
    path: &str,
    visit: &mut dyn FnMut(&'a NestedField, &str),
) {
    for field in fields {
        let path = join(path, &field.name);
        visit(field, &path);
        walk(field.field_type.children(), &path, visit);
    }
}

fn max_id<'a>(fields: impl IntoIterator<Item = &'a NestedField>) -> i32 {
    fields
        .into_iter()
        .map(|field| field.id.max(max_id(field.field_type.children())))
        .max()
        .unwrap_or(0)
}

fn collect_leaves<'a>(
    fields: impl IntoIterator<Item = &'a NestedField>,
    path: &[&'a str],
    repeated: bool,
    leaves: &mut Vec<Leaf<'a>>,
) {
    for field in fields {
        let mut path = path.to_vec();
        path.push(&field.name);
        match &field.field_type {
            Type::Primitive(primitive) => {
                leaves.push(Leaf {
                    field,
                    primitive: *primitive,
                    path,
                    repeated,
                });
                continue;
            }
            Type::Struct(_) => {}
            Type::List(_) => path.push(LIST),
            Type::Map(_) => path.push(KEY_VALUE),
        }
        let repeated = repeated || !matches!(field.field_type, Type::Struct(_));
        collect_leaves(field.field_type.children(), &path, repeated, leaves);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn example() -> Schema {
        Schema::from_json(&json!({"type": "struct", "schema-id": 0, "fields": [
            {"id": 1, "name": "id", "required": true, "type": "long"},
            {"id": 2, "name": "s", "required": false, "type": {"type": "struct", "fields": [
                {"id": 5, "name": "a", "required": false, "type": "int", "write-default": 3},
                {"id": 6, "name": "l", "required": false, "type":
                    {"type": "list", "element-id": 7, "element": "string", "element-required": false}}]}},
            {"id": 3, "name": "m", "required": false, "type": {"type": "map", "key-id": 8, "key": "string",
                "value-id": 9, "value": "decimal(9,2)", "value-required": false}}]}))
        .unwrap()
    }

    #[test]
    fn leaves_have_the_paths_of_parquet() {
        let schema = example();
        let leaves: Vec<_> = schema
            .leaves()
            .iter()
            .map(|leaf| (leaf.field.id, leaf.path.join("."), leaf.repeated))
            .collect();
        let expected = [
            (1, "id", false),
            (5, "s.a", false),
            (7, "s.l.list.element", true),
            (8, "m.key_value.key", true),
            (9, "m.key_value.value", true),
        ];
        assert_eq!(
            leaves,
            expected.map(|(id, path, repeated)| (id, path.to_owned(), repeated))
        );
    }

    #[test]
    fn fields_are_found_by_id_and_by_path() {
        let schema = example();
        for leaf in schema.leaves() {
            assert_eq!(schema.field_by_id(leaf.field.id), Some(leaf.field));
            assert_eq!(schema.field_by_path(&leaf.path), Some(leaf.field));
        }
        assert_eq!(schema.field_by_id(2).unwrap().name, "s");
        assert_eq!(schema.field_by_id(4), None);
        for path in ["s.b", "s.l.element", "s.l.list", "m.key_value.x", "id.x", ""] {
            assert_eq!(
                schema.field_by_path(&path.split('.').collect::<Vec<_>>()),
                None,
                "{path}"
            );
        }
        assert_eq!(schema.max_field_id(), 9);
        assert_eq!(schema.fields_with_defaults(), ["s.a"]);
    }

    #[test]
    fn ids_must_be_unique_and_types_of_the_version() {
        let schema = |ids: [i32; 2], data_type| {
            let field = |id| NestedField::optional(id, format!("c{id}"), Type::Primitive(data_type));
            Schema::new(ids.map(field).to_vec())
        };
        let nanos = schema([1, 2], PrimitiveType::TimestampNs);
        nanos.check_ids().unwrap();
        nanos.check_types(FormatVersion::V3).unwrap();
        for (result, rule) in [
            (
                schema([1, 1], PrimitiveType::Int).check_ids(),
                "field id 1 is used twice. in=`schema, column c1`",
            ),
            (
                schema([1, MAX_FIELD_ID + 1], PrimitiveType::Int).check_ids(),
                "is reserved",
            ),
            (
                nanos.check_types(FormatVersion::V2),
                "type timestamp_ns is not in version 2",
            ),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(rule), "{error}");
        }
    }
}
