//! The schema of a file as its Parquet schema says it, without what a writer embedded.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::parquet_to_arrow_schema;
use parquet::errors::ParquetError;
use parquet::file::metadata::FileMetaData;
use parquet::schema::types::SchemaDescriptor;

use super::int96::with_micros;
use crate::quarantine::QuarantineReason;

/// The Arrow schema of a file from its Parquet schema alone.
///
/// An embedded Arrow schema is ignored, so dictionary, view and large variants of the same column do not
/// differ, and what Parquet has no type for is what it is stored as: durations and timestamps in seconds are
/// integers. Times of 96 bits are microseconds. Metadata of schema and fields are dropped.
///
/// # Errors
///
/// [`QuarantineReason::Corrupt`] when the Parquet schema has no Arrow counterpart.
pub fn from_parquet(metadata: &FileMetaData) -> Result<SchemaRef, QuarantineReason> {
    let schema = arrow_schema(metadata.schema_descr());
    schema
        .map(|schema| strip_metadata(&schema))
        .map_err(QuarantineReason::corrupt)
}

/// The same with the ids of columns as metadata.
pub(crate) fn arrow_schema(parquet: &SchemaDescriptor) -> Result<Schema, ParquetError> {
    parquet_to_arrow_schema(parquet, None).map(|schema| with_micros(schema, parquet))
}

/// The same columns without any metadata, at any depth.
pub fn strip_metadata(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(strip_fields(schema.fields())))
}

fn strip_fields(fields: &Fields) -> Fields {
    fields.iter().map(strip_field).collect()
}

fn strip_field(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(strip_fields(fields)),
        DataType::List(item) => DataType::List(strip_field(item)),
        DataType::LargeList(item) => DataType::LargeList(strip_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(strip_field(item), *size),
        DataType::Map(entries, sorted) => DataType::Map(strip_field(entries), *sorted),
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}

/// The same values in a type without any metadata.
pub(crate) fn strip_array(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(match array.data_type() {
        DataType::Struct(fields) => {
            let of = array.as_struct();
            let parts = of.columns().iter().map(strip_array).collect::<Result<Vec<_>, _>>()?;
            let nulls = of.nulls().cloned();
            Arc::new(StructArray::try_new_with_length(
                strip_fields(fields),
                parts,
                nulls,
                of.len(),
            )?)
        }
        DataType::List(item) => {
            let of = array.as_list::<i32>();
            let values = strip_array(of.values())?;
            Arc::new(ListArray::try_new(
                strip_field(item),
                of.offsets().clone(),
                values,
                of.nulls().cloned(),
            )?)
        }
        DataType::Map(entries, is_sorted) => {
            let of = array.as_map();
            let pairs: ArrayRef = Arc::new(of.entries().clone());
            let pairs = strip_array(&pairs)?.as_struct().clone();
            let nulls = of.nulls().cloned();
            Arc::new(MapArray::try_new(
                strip_field(entries),
                of.offsets().clone(),
                pairs,
                nulls,
                *is_sorted,
            )?)
        }
        _ => Arc::clone(array),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn metadata_vanishes_at_every_depth() {
        let note = HashMap::from([("PARQUET:field_id".to_owned(), "7".to_owned())]);
        let item = Field::new("item", DataType::Int32, true).with_metadata(note.clone());
        let list = Field::new("list", DataType::List(Arc::new(item)), false).with_metadata(note.clone());
        let schema = Schema::new(vec![list]).with_metadata(note);
        let plain = Field::new(
            "list",
            DataType::List(Arc::new(Field::new("item", DataType::Int32, true))),
            false,
        );
        assert_eq!(*strip_metadata(&schema), Schema::new(vec![plain]));
    }
}
