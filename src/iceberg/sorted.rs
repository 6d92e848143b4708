//! The order of rows in files as a table declares it (Iceberg specification, "Sorting"). Pure.

use super::metadata::TableMetadata;
use super::schema::Schema;
use super::sort_order::{NullOrder, SortDirection, SortField, SortOrder};
use super::transform::Transform;
use super::types::PrimitiveType;
use crate::options;

/// The order that a new table of `schema` declares for files in `order`; unsorted where the two orders differ.
pub(super) fn new_sort_order(schema: &Schema, order: &[options::SortField]) -> SortOrder {
    let fields = order
        .iter()
        .map(|field| sort_field(schema, field))
        .collect::<Option<_>>();
    SortOrder {
        order_id: 0,
        fields: fields.unwrap_or_default(),
        ..SortOrder::default()
    }
}

/// The id of the table's order that files in `order` follow, if it declares it.
pub(super) fn order_of_files(table: &TableMetadata, order: &[options::SortField]) -> Option<i32> {
    let wanted = new_sort_order(table.schema(), order);
    if wanted.is_unsorted() {
        return None;
    }
    let orders = table.sort_orders().iter();
    let mut same = orders.filter(|declared| declared.fields == wanted.fields);
    same.next().map(|declared| declared.order_id)
}

/// `None` for floats: here both zeros are equal and so are all NaN, in Iceberg they are ordered.
fn sort_field(schema: &Schema, field: &options::SortField) -> Option<SortField> {
    let column = schema.field_by_name(&field.column)?;
    let primitive = column.field_type.as_primitive()?;
    if matches!(primitive, PrimitiveType::Float | PrimitiveType::Double) {
        return None;
    }
    Some(SortField {
        source_ids: vec![column.id],
        transform: Transform::Identity,
        direction: if field.descending {
            SortDirection::Descending
        } else {
            SortDirection::Ascending
        },
        null_order: if field.nulls_first {
            NullOrder::First
        } else {
            NullOrder::Last
        },
        extra: serde_json::Map::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iceberg::schema::NestedField;

    fn schema() -> Schema {
        Schema::new(vec![
            NestedField::optional(1, "ts", PrimitiveType::Timestamp.into()),
            NestedField::optional(2, "score", PrimitiveType::Double.into()),
        ])
    }

    #[test]
    fn an_order_by_a_float_is_not_declared() {
        let by = |column: &str| options::SortField::ascending(column);
        let order = new_sort_order(&schema(), &[by("ts")]);
        assert_eq!(order.fields.len(), 1);
        assert_eq!(order.fields[0].null_order, NullOrder::Last);
        assert!(new_sort_order(&schema(), &[by("ts"), by("score")]).is_unsorted());
        assert!(new_sort_order(&schema(), &[by("gone")]).is_unsorted());
    }
}
