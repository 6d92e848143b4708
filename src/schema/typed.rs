//! Fields of Arrow's type `Null`, which hold no values and say nothing of those that others hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};

use super::names::map_parts;

/// Whether a field may hold values: one of type `Null` may not, and is treated as if it were missing.
pub(crate) fn is_typed(field: &Field) -> bool {
    field.data_type() != &DataType::Null
}

/// The fields without those that hold no values, at any depth.
pub(super) fn typed_fields(fields: &Fields) -> Fields {
    fields.iter().filter(|field| is_typed(field)).map(typed_field).collect()
}

fn typed_field(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(typed_fields(fields)),
        DataType::List(item) => DataType::List(typed_field(item)),
        DataType::Map(entries, sorted) => match map_parts(entries) {
            Some((key, value)) => {
                let pair = DataType::Struct(vec![typed_field(key), typed_field(value)].into());
                let entries = entries.as_ref().clone().with_data_type(pair);
                DataType::Map(Arc::new(entries), *sorted)
            }
            None => return Arc::clone(field),
        },
        _ => return Arc::clone(field),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// Where fields lack what it takes to be stored: items of lists and maps without type, structs without fields.
pub(super) fn untyped<'a>(fields: impl IntoIterator<Item = &'a Field>) -> BTreeMap<String, DataType> {
    let mut found = BTreeMap::new();
    for field in fields {
        collect_untyped(field.name(), field.data_type(), &mut found);
    }
    found
}

fn collect_untyped(path: &str, data_type: &DataType, found: &mut BTreeMap<String, DataType>) {
    let mut inner = |name: &str, item: &Field| {
        let path = format!("{path}.{name}");
        if is_typed(item) {
            collect_untyped(&path, item.data_type(), found);
        } else {
            found.insert(path, DataType::Null);
        }
    };
    match data_type {
        DataType::Struct(fields) if fields.is_empty() => {
            found.insert(path.to_owned(), data_type.clone());
        }
        DataType::Struct(fields) => fields.iter().for_each(|field| inner(field.name(), field)),
        DataType::List(item) => inner("element", item),
        DataType::Map(entries, _) => {
            if let Some((key, value)) = map_parts(entries) {
                inner("key", key);
                inner("value", value);
            }
        }
        _ => {}
    }
}
