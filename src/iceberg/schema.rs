//! Schemas: columns with ids that outlive their names (Iceberg specification, "Schemas and Data Types").

use serde_json::{Map, Value};

use super::types::Type;

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
