//! Names and paths of the parts of columns.

use arrow::datatypes::{DataType, Field, FieldRef};

/// Parts of lists and maps (parquet-format, "Nested Types").
pub(crate) const ELEMENT: &str = "element";
pub(crate) const KEY: &str = "key";
pub(crate) const VALUE: &str = "value";

/// What a name is to readers that do not tell upper from lower case: some compare one, some the other.
pub(crate) fn without_case(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

/// The path of a part of a column.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Key and value of a map's entries, whatever they are called.
pub(crate) fn map_parts(entries: &Field) -> Option<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(fields) => match fields.as_ref() {
            [key, value] => Some((key, value)),
            _ => None,
        },
        _ => None,
    }
}
