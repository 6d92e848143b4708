//! Sort orders: how rows are ordered within a file (Iceberg specification, "Sorting").

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::SpecError;
use super::partition::{source_ids, source_type, split_source_ids};
use super::schema::Schema;
use super::transform::Transform;

/// An order of rows. The one with id 0 has no fields: unsorted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SortOrder {
    /// Its id among the table's orders.
    pub order_id: i32,
    /// What is sorted by, most significant first.
    pub fields: Vec<SortField>,
    /// What the JSON has beside these.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A part of an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "FieldJson", into = "FieldJson")]
pub struct SortField {
    /// The columns that are sorted by: one, but for transforms of several columns.
    pub source_ids: Vec<i32>,
    /// What is made of the column's values before they are compared.
    pub transform: Transform,
    /// Which way.
    pub direction: SortDirection,
    /// Where nulls go.
    pub null_order: NullOrder,
    /// What the JSON has beside these.
    pub extra: Map<String, Value>,
}

/// Which way is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SortDirection {
    /// Smallest first.
    #[serde(rename = "asc")]
    Ascending,
    /// Largest first.
    #[serde(rename = "desc")]
    Descending,
}

/// Where nulls go, whatever the direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NullOrder {
    /// Before all values.
    #[serde(rename = "nulls-first")]
    First,
    /// After all values.
    #[serde(rename = "nulls-last")]
    Last,
}

impl SortOrder {
    /// The order with id 0.
    pub fn unsorted() -> Self {
        Self::default()
    }

    /// Whether it says nothing.
    pub fn is_unsorted(&self) -> bool {
        self.fields.is_empty()
    }

    /// Checks that it is known here what each part is sorted by, whether its columns are still there or not.
    pub(super) fn check_transforms(&self) -> Result<(), SpecError> {
        for field in &self.fields {
            if field.source_ids.len() > 1 {
                return Err(SpecError::of_several_columns(&field.transform));
            }
            if matches!(field.transform, Transform::Unknown(_)) {
                return Err(SpecError::Transform {
                    transform: field.transform.to_string(),
                    data_type: format!("any, in sort order {}", self.order_id),
                });
            }
        }
        Ok(())
    }

    /// Checks that all its columns are in `schema` and can be sorted by.
    pub(super) fn check(&self, schema: &Schema) -> Result<(), SpecError> {
        self.check_transforms()?;
        for field in &self.fields {
            let Some(source) = source_type(&field.source_ids, schema) else {
                let rule = format!("not a column that can be sorted by. id=`{:?}`", field.source_ids);
                return Err(SpecError::broken(format!("sort order {}", self.order_id), rule));
            };
            if field.transform.result_type(source).is_none() {
                return Err(SpecError::Transform {
                    transform: field.transform.to_string(),
                    data_type: source.to_string(),
                });
            }
        }
        Ok(())
    }

    /// Whether both sort in the same way: all but the ids.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.fields == other.fields
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FieldJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source_id: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source_ids: Option<Vec<i32>>,
    transform: Transform,
    direction: SortDirection,
    null_order: NullOrder,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl TryFrom<FieldJson> for SortField {
    type Error = SpecError;

    fn try_from(json: FieldJson) -> Result<Self, SpecError> {
        Ok(Self {
            source_ids: source_ids(json.source_id, json.source_ids, "sort order")?,
            transform: json.transform,
            direction: json.direction,
            null_order: json.null_order,
            extra: json.extra,
        })
    }
}

impl From<SortField> for FieldJson {
    fn from(field: SortField) -> Self {
        let (source_id, source_ids) = split_source_ids(field.source_ids);
        Self {
            source_id,
            source_ids,
            transform: field.transform,
            direction: field.direction,
            null_order: field.null_order,
            extra: field.extra,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_order_round_trips_with_what_is_not_known() {
        let json = json!({"order-id": 1, "x": 1, "fields": [
            {"transform": "identity", "source-id": 2, "direction": "asc", "null-order": "nulls-first", "y": 2},
            {"transform": "bucket[4]", "source-id": 3, "direction": "desc", "null-order": "nulls-last"}]});
        let order: SortOrder = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(order.fields[1].direction, SortDirection::Descending);
        assert_eq!(order.fields[1].null_order, NullOrder::Last);
        assert_eq!(serde_json::to_value(order).unwrap(), json);
        assert_eq!(
            serde_json::to_value(SortOrder::unsorted()).unwrap(),
            json!({"order-id": 0, "fields": []})
        );
    }
}
