//! Names and paths of the parts of columns.

/// Parts of lists and maps (parquet-format, "Nested Types").
pub(crate) const ELEMENT: &str = "element";
pub(crate) const KEY: &str = "key";
pub(crate) const VALUE: &str = "value";

/// The path of a part of a column.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}
