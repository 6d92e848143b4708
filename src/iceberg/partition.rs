//! Partition specs: what all rows of a file have in common (Iceberg specification, "Partitioning").

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::datum::Datum;
use super::error::SpecError;
use super::schema::{NestedField, Schema};
use super::transform::Transform;
use super::types::{PrimitiveType, StructType, Type};
use crate::error::Result;

/// The id before the first one of a partition field.
pub(super) const BEFORE_FIRST_FIELD_ID: i32 = 999;

/// How a table is partitioned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "SpecJson", into = "SpecJson")]
pub struct PartitionSpec {
    /// Its id among the table's specs.
    pub spec_id: i32,
    /// The parts of the partition tuple, in order.
    pub fields: Vec<PartitionField>,
    /// What the JSON has beside these.
    pub extra: Map<String, Value>,
}

/// A part of the partition tuple.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionField {
    /// The columns it is made of: one, but for transforms of several columns.
    pub source_ids: Vec<i32>,
    /// Its id, unique among all specs of the table.
    pub field_id: i32,
    /// Its name.
    pub name: String,
    /// How it is made.
    pub transform: Transform,
    /// What the JSON has beside these.
    pub extra: Map<String, Value>,
}

impl PartitionSpec {
    /// The spec of a table without partitions, with id 0.
    pub fn unpartitioned() -> Self {
        Self::default()
    }

    /// Whether all files are in the one and only partition: no field, or none that is not void.
    pub fn is_unpartitioned(&self) -> bool {
        self.fields.iter().all(|field| field.transform == Transform::Void)
    }

    /// The highest id of a field, 999 without fields.
    pub fn last_field_id(&self) -> i32 {
        let ids = self.fields.iter().map(|field| field.field_id);
        ids.max().unwrap_or(BEFORE_FIRST_FIELD_ID)
    }

    /// The type of the partition tuple of files in a table with `schema`.
    ///
    /// # Errors
    ///
    /// `Unsupported` when a transform is not known here or not for its column's type; `Invalid` when its column
    /// is not in the schema.
    pub fn partition_type(&self, schema: &Schema) -> Result<StructType> {
        let fields = self.fields.iter().map(|field| {
            let result = match source_type(&field.source_ids, schema) {
                // A void field may outlive its column.
                None if field.transform == Transform::Void => PrimitiveType::Int,
                None => return Err(field.unknown_source().into()),
                Some(source) => field
                    .transform
                    .result_type(source)
                    .ok_or_else(|| SpecError::Transform {
                        transform: field.transform.to_string(),
                        data_type: source.to_string(),
                    })?,
            };
            let result = Type::Primitive(result);
            Ok(NestedField::optional(field.field_id, &field.name, result))
        });
        Ok(StructType {
            fields: fields.collect::<Result<_>>()?,
        })
    }

    /// The partition tuple of a row: `value` gives the row's value of the column with an id.
    ///
    /// # Errors
    ///
    /// As for [`partition_type`](Self::partition_type), and `Invalid` when a value is not of its column's type.
    pub fn tuple(&self, schema: &Schema, value: impl Fn(i32) -> Option<Datum>) -> Result<Vec<Option<Datum>>> {
        let values = self.fields.iter().map(|field| {
            if field.transform == Transform::Void {
                return Ok(None);
            }
            let ([id], Some(source)) = (field.source_ids.as_slice(), source_type(&field.source_ids, schema)) else {
                return Err(field.unknown_source().into());
            };
            field.transform.apply(source, value(*id).as_ref())
        });
        values.collect()
    }

    /// Reads the `partition-spec` of old metadata: the fields only.
    pub(super) fn from_fields_json(spec_id: i32, fields: Value) -> Result<Self, SpecError> {
        let fields = serde_json::from_value(fields).map_err(|e| SpecError::json("partition-spec", e))?;
        Self::try_from(SpecJson {
            spec_id,
            fields,
            extra: Map::new(),
        })
    }

    /// Whether both partition in the same way: all but the ids.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let parts = |spec: &Self| -> Vec<_> {
            let parts = spec.fields.iter();
            parts
                .map(|field| (field.source_ids.clone(), field.name.clone(), field.transform.clone()))
                .collect()
        };
        parts(self) == parts(other)
    }
}

impl PartitionField {
    fn unknown_source(&self) -> SpecError {
        let ids = &self.source_ids;
        if ids.len() > 1 {
            return SpecError::of_several_columns(&self.transform);
        }
        SpecError::broken(
            format!("partition field {}", self.name),
            format!("not a column that can be partitioned by. id=`{ids:?}`"),
        )
    }
}

/// The type of the one column with this id, if rows have one value of it.
pub(super) fn source_type(ids: &[i32], schema: &Schema) -> Option<PrimitiveType> {
    let [id] = ids else { return None };
    let leaves = schema.leaves();
    let leaf = leaves.iter().find(|leaf| leaf.field.id == *id && !leaf.repeated)?;
    Some(leaf.primitive)
}

/// One id is written as `source-id`, several as `source-ids` (Iceberg specification, appendix C).
pub(super) fn source_ids(one: Option<i32>, many: Option<Vec<i32>>, part: &str) -> Result<Vec<i32>, SpecError> {
    match (one, many) {
        (_, Some(many)) if !many.is_empty() => Ok(many),
        (Some(one), _) => Ok(vec![one]),
        (None, _) => Err(SpecError::broken(part, "source-id is missing")),
    }
}

/// What [`source_ids`] reads.
pub(super) fn split_source_ids(ids: Vec<i32>) -> (Option<i32>, Option<Vec<i32>>) {
    match ids.as_slice() {
        [one] => (Some(*one), None),
        _ => (None, Some(ids)),
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SpecJson {
    #[serde(default)]
    spec_id: i32,
    fields: Vec<FieldJson>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FieldJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source_id: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source_ids: Option<Vec<i32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    field_id: Option<i32>,
    name: String,
    transform: Transform,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl TryFrom<SpecJson> for PartitionSpec {
    type Error = SpecError;

    fn try_from(json: SpecJson) -> Result<Self, SpecError> {
        let part = format!("partition spec {}", json.spec_id);
        // Before version 2 fields had no ids: they were counted from 1000.
        let counted = json.fields.iter().all(|field| field.field_id.is_none());
        let fields = json.fields.into_iter().zip(BEFORE_FIRST_FIELD_ID + 1..);
        let fields = fields.map(|(field, count)| {
            let field_id = field.field_id.or_else(|| counted.then_some(count));
            Ok(PartitionField {
                source_ids: source_ids(field.source_id, field.source_ids, &part)?,
                field_id: field_id.ok_or_else(|| SpecError::broken(&part, "field-id is missing"))?,
                name: field.name,
                transform: field.transform,
                extra: field.extra,
            })
        });
        Ok(Self {
            spec_id: json.spec_id,
            fields: fields.collect::<Result<_, SpecError>>()?,
            extra: json.extra,
        })
    }
}

impl From<PartitionSpec> for SpecJson {
    fn from(spec: PartitionSpec) -> Self {
        Self {
            spec_id: spec.spec_id,
            fields: spec.fields.into_iter().map(FieldJson::from).collect(),
            extra: spec.extra,
        }
    }
}

impl From<PartitionField> for FieldJson {
    fn from(field: PartitionField) -> Self {
        let (source_id, source_ids) = split_source_ids(field.source_ids);
        Self {
            source_id,
            source_ids,
            field_id: Some(field.field_id),
            name: field.name,
            transform: field.transform,
            extra: field.extra,
        }
    }
}

impl Serialize for PartitionField {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        FieldJson::from(self.clone()).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ErrorKind;

    fn spec(json: Value) -> PartitionSpec {
        serde_json::from_value(json).unwrap()
    }

    fn schema() -> Schema {
        Schema::from_json(&json!({"type": "struct", "fields": [
            {"id": 1, "name": "id", "required": true, "type": "long"},
            {"id": 2, "name": "at", "required": false, "type": "timestamptz"},
            {"id": 3, "name": "l", "required": false, "type":
                {"type": "list", "element-id": 4, "element": "int", "element-required": true}}]}))
        .unwrap()
    }

    #[test]
    fn a_spec_round_trips_with_what_is_not_known() {
        let json = json!({"spec-id": 1, "x": 1, "fields": [
            {"source-id": 2, "field-id": 1000, "name": "at_day", "transform": "day", "y": null},
            {"source-ids": [1, 2], "field-id": 1001, "name": "z", "transform": "zorder"}]});
        let spec = spec(json.clone());
        assert_eq!(spec.fields[1].source_ids, [1, 2]);
        assert_eq!(spec.last_field_id(), 1001);
        assert_eq!(serde_json::to_value(spec).unwrap(), json);
    }

    #[test]
    fn fields_without_ids_are_counted_from_1000() {
        let fields = json!([{"source-id": 1, "name": "a", "transform": "identity"},
            {"source-id": 2, "name": "b", "transform": "day"}]);
        let spec = PartitionSpec::from_fields_json(0, fields).unwrap();
        assert_eq!(spec.fields.iter().map(|f| f.field_id).collect::<Vec<_>>(), [1000, 1001]);
        let mixed = json!({"fields": [{"source-id": 1, "name": "a", "transform": "identity", "field-id": 1000},
            {"source-id": 2, "name": "b", "transform": "day"}]});
        let error = serde_json::from_value::<PartitionSpec>(mixed).unwrap_err().to_string();
        assert!(error.contains("field-id is missing"), "{error}");
    }

    #[test]
    fn the_partition_type_is_made_of_result_types() {
        let spec = spec(json!({"spec-id": 1, "fields": [
            {"source-id": 2, "field-id": 1000, "name": "at_day", "transform": "day"},
            {"source-id": 1, "field-id": 1001, "name": "id_bucket", "transform": "bucket[16]"},
            {"source-id": 99, "field-id": 1002, "name": "gone", "transform": "void"}]}));
        let parts = spec.partition_type(&schema()).unwrap();
        let parts: Vec<_> = parts.fields.iter().map(|f| (f.id, f.field_type.to_json())).collect();
        assert_eq!(
            parts,
            [(1000, json!("date")), (1001, json!("int")), (1002, json!("int"))]
        );
        let tuple = spec
            .tuple(&schema(), |id| (id == 1).then_some(Datum::Long(34)))
            .unwrap();
        assert_eq!(tuple, [None, Some(Datum::Int(2_017_239_379 % 16)), None]);
    }

    #[test]
    fn what_cannot_be_partitioned_by_is_refused() {
        for (source, transform, kind) in [
            (1, "new", ErrorKind::Unsupported),
            (1, "day", ErrorKind::Unsupported),
            (4, "identity", ErrorKind::Invalid),
            (9, "identity", ErrorKind::Invalid),
        ] {
            let spec = spec(json!({"fields": [
                {"source-id": source, "field-id": 1000, "name": "p", "transform": transform}]}));
            assert_eq!(spec.partition_type(&schema()).unwrap_err().kind(), kind, "{transform}");
            assert_eq!(spec.tuple(&schema(), |_| None).unwrap_err().kind(), kind, "{transform}");
        }
        let several = spec(json!({"fields": [
            {"source-ids": [1, 2], "field-id": 1000, "name": "p", "transform": "bucket[4]"}]}));
        for error in [
            several.partition_type(&schema()).unwrap_err(),
            several.tuple(&schema(), |_| None).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(
                error
                    .to_string()
                    .contains("transform=`bucket[4]` type=`several columns`"),
                "{error}"
            );
        }
    }

    #[test]
    fn void_fields_do_not_partition() {
        let void = json!({"fields": [{"source-id": 1, "field-id": 1000, "name": "p", "transform": "void"}]});
        assert!(spec(void).is_unpartitioned());
        assert!(PartitionSpec::unpartitioned().is_unpartitioned());
        assert_eq!(PartitionSpec::unpartitioned().last_field_id(), 999);
    }
}
