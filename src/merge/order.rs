//! The one order of rows: what check, merge and chains compare by.
//!
//! For floats -0.0 equals +0.0, and all NaN are equal and greater than any number; strings and binaries
//! compare by bytes; nulls come as the sort field says, whatever the direction.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type, Schema};
use arrow::row::{RowConverter, SortField as RowField};

use super::error::MergeError;
use super::keys::Keys;
use crate::options::SortField;

/// Encodes the keys of rows so that they compare as bytes.
#[derive(Debug)]
pub(super) struct KeyEncoder {
    columns: Vec<usize>,
    converter: RowConverter,
}

impl KeyEncoder {
    /// The encoder of `order` over batches of `schema`; `None` if there is no order.
    pub(super) fn new(schema: &Schema, order: &[SortField]) -> Result<Option<Self>, MergeError> {
        if order.is_empty() {
            return Ok(None);
        }
        let mut columns = Vec::with_capacity(order.len());
        let mut fields = Vec::with_capacity(order.len());
        for field in order {
            let index = schema.index_of(&field.column).map_err(|_| MergeError::Invalid {
                detail: format!("no such column to sort by. column=`{}`", field.column),
            })?;
            let data_type = schema.field(index).data_type();
            if !is_sortable(data_type) {
                return Err(MergeError::Invalid {
                    detail: format!(
                        "column cannot be sorted by. column=`{}` type=`{data_type}`",
                        field.column
                    ),
                });
            }
            let options = SortOptions {
                descending: field.descending,
                nulls_first: field.nulls_first,
            };
            columns.push(index);
            fields.push(RowField::new_with_options(data_type.clone(), options));
        }
        let converter = RowConverter::new(fields).map_err(MergeError::internal)?;
        Ok(Some(Self { columns, converter }))
    }

    /// The places of the key columns in a batch.
    pub(super) fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The keys of a batch.
    pub(super) fn encode(&self, batch: &RecordBatch) -> Result<Keys, MergeError> {
        let columns = self
            .columns
            .iter()
            .filter_map(|index| batch.columns().get(*index))
            .cloned();
        self.encode_columns(&columns.collect::<Vec<_>>())
    }

    /// The keys of bare key columns.
    pub(super) fn encode_columns(&self, columns: &[ArrayRef]) -> Result<Keys, MergeError> {
        let columns: Vec<_> = columns.iter().map(normalized).collect();
        let rows = self.converter.convert_columns(&columns);
        rows.map(Keys::from).map_err(MergeError::internal)
    }
}

/// Whether rows can be ordered by a column of this type.
pub(crate) fn is_sortable(data_type: &DataType) -> bool {
    use DataType as T;
    data_type.is_primitive() && !matches!(data_type, T::Interval(_))
        || matches!(
            data_type,
            T::Boolean
                | T::Utf8
                | T::LargeUtf8
                | T::Utf8View
                | T::Binary
                | T::LargeBinary
                | T::BinaryView
                | T::FixedSizeBinary(_)
        )
}

/// A key column with one zero and one NaN, since the row format tells their bits apart.
fn normalized(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float16 => {
            type Half = <Float16Type as ArrowPrimitiveType>::Native;
            floats::<Float16Type>(array, |v| if v.is_nan() { Half::NAN } else { v + Half::ZERO })
        }
        DataType::Float32 => floats::<Float32Type>(array, |v| if v.is_nan() { f32::NAN } else { v + 0.0 }),
        DataType::Float64 => floats::<Float64Type>(array, |v| if v.is_nan() { f64::NAN } else { v + 0.0 }),
        _ => Arc::clone(array),
    }
}

fn floats<T: ArrowPrimitiveType>(array: &ArrayRef, one: impl Fn(T::Native) -> T::Native) -> ArrayRef {
    match array.as_primitive_opt::<T>() {
        Some(values) => {
            let values: PrimitiveArray<T> = values.unary(one);
            Arc::new(values)
        }
        None => Arc::clone(array),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int32Array, StringArray};
    use arrow::datatypes::Field;

    use super::*;

    fn keys(array: ArrayRef, field: SortField) -> Keys {
        let schema = Arc::new(Schema::new(vec![Field::new("k", array.data_type().clone(), true)]));
        let encoder = KeyEncoder::new(&schema, &[field]).unwrap().unwrap();
        encoder
            .encode(&RecordBatch::try_new(schema, vec![array]).unwrap())
            .unwrap()
    }

    #[test]
    fn zeros_are_equal_and_every_nan_is_the_greatest() {
        let negative_nan = f64::from_bits(0xfff8_0000_0000_0001);
        let array: ArrayRef = Arc::new(Float64Array::from(vec![
            -0.0,
            0.0,
            f64::INFINITY,
            f64::NAN,
            negative_nan,
        ]));
        let rows = keys(array, SortField::ascending("k"));
        assert_eq!(rows.row(0), rows.row(1));
        assert!(rows.row(1) < rows.row(2));
        assert!(rows.row(2) < rows.row(3));
        assert_eq!(rows.row(3), rows.row(4));
    }

    #[test]
    fn nulls_keep_their_place_in_both_directions() {
        let array: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(2)]));
        let rows = keys(Arc::clone(&array), SortField::descending("k"));
        assert!(rows.row(2) < rows.row(0) && rows.row(0) < rows.row(1));
        let rows = keys(array, SortField::descending("k").with_nulls_first());
        assert!(rows.row(1) < rows.row(2) && rows.row(2) < rows.row(0));
    }

    #[test]
    fn strings_compare_by_bytes() {
        let array: ArrayRef = Arc::new(StringArray::from(vec!["Z", "a", "ab", "\u{e9}"]));
        let rows = keys(array, SortField::ascending("k"));
        assert!((0..3).all(|row| rows.row(row) < rows.row(row + 1)));
    }

    #[test]
    fn missing_and_nested_columns_are_invalid() {
        let item = Arc::new(Field::new("item", DataType::Int32, true));
        let schema = Schema::new(vec![Field::new("l", DataType::List(item), true)]);
        for column in ["l", "x"] {
            let error = KeyEncoder::new(&schema, &[SortField::ascending(column)]).unwrap_err();
            assert!(matches!(error, MergeError::Invalid { .. }), "{error}");
        }
    }
}
