//! Columns that have other names in files than in their table.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

/// Metadata key of a field, at any depth, that has this name in files and its own one only in its table.
pub const STORED_NAME_KEY: &str = "firnline.storedName";

/// The name of a field in files.
pub(crate) fn stored_name(field: &Field) -> &str {
    field
        .metadata()
        .get(STORED_NAME_KEY)
        .map_or(field.name(), String::as_str)
}

/// The same columns as files have them.
pub(crate) fn with_stored_names(schema: &SchemaRef) -> SchemaRef {
    if !has_stored_names(schema.fields()) {
        return Arc::clone(schema);
    }
    let fields = rename(schema.fields());
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Whether any field, at any depth, has another name in files.
pub(crate) fn has_stored_names(fields: &Fields) -> bool {
    fields.iter().any(|field| {
        field.metadata().contains_key(STORED_NAME_KEY)
            || match field.data_type() {
                DataType::Struct(fields) => has_stored_names(fields),
                DataType::List(part) | DataType::Map(part, _) => has_stored_names(&vec![Arc::clone(part)].into()),
                _ => false,
            }
    })
}

fn rename(fields: &Fields) -> Fields {
    fields.iter().map(renamed).collect()
}

fn renamed(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(rename(fields)),
        DataType::List(item) => DataType::List(renamed(item)),
        DataType::Map(entries, is_sorted) => DataType::Map(renamed(entries), *is_sorted),
        other => other.clone(),
    };
    let renamed = field.as_ref().clone().with_name(stored_name(field));
    Arc::new(renamed.with_data_type(data_type))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn fields_are_renamed_at_every_depth_and_parts_of_lists_stay() {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let stored = |field: Field, name: &str| {
            field.with_metadata(HashMap::from([(STORED_NAME_KEY.to_owned(), name.to_owned())]))
        };
        let of = |outer: Field, inner: Field| {
            let item = field("element", DataType::Struct(vec![inner].into()));
            Arc::new(Schema::new(vec![outer.with_data_type(DataType::List(Arc::new(item)))]))
        };
        let (list, part) = (field("list", DataType::Null), field("part", DataType::Int32));
        let plain = of(list.clone(), part.clone());
        assert!(Arc::ptr_eq(&with_stored_names(&plain), &plain));
        let mapped = of(stored(list, "col-1"), stored(part, "col-2"));
        let expected = of(field("col-1", DataType::Null), field("col-2", DataType::Int32));
        assert_eq!(crate::schema::strip_metadata(&with_stored_names(&mapped)), expected);
    }
}
