//! Which partition a row belongs to, whatever the table's format: asked by the merge, answered by the sink.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Fields, Float32Type, Float64Type, Int32Type, Int64Type, Schema, SchemaRef,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};

use crate::data_file::Datum;
use crate::error::{Error, ErrorKind, Result};

/// How the rows of a table are cut into partitions: all rows of a file have the same value in every field. Pure.
///
/// A partitioner belongs to one state of a table. Files are committed only while the table is still partitioned in
/// the way that [`id`](Self::id) names, else they are written again.
pub trait Partitioner: fmt::Debug + Send + Sync + 'static {
    /// Names this way of partitioning, and no other one that the table has ever had or may get: that of the files'
    /// [`FilePartition::spec`](crate::FilePartition::spec).
    fn id(&self) -> &str;

    /// The fields of the partition tuple, in order; at least one.
    ///
    /// Their types are those of [`partition_value`].
    fn fields(&self) -> &Fields;

    /// The values of rows: an array for each of the [`fields`](Self::fields), as long as `rows`, whose columns are
    /// those of the [layout](crate::TableLayout::schema). Values are told apart by their bits: a NaN has to be always
    /// the same one.
    ///
    /// # Errors
    ///
    /// `Data` where a row has no place in any partition.
    fn columns(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>>;

    /// Whether rows that have the same value in `field`, a place in [`fields`](Self::fields), stand together in rows
    /// that are sorted by the top-level column `column` first, in either direction.
    ///
    /// A wrong answer costs files, never rows: those of a field that follows are finished when its value changes.
    fn follows(&self, field: usize, column: &str) -> bool;

    /// Whether files have the top-level column `column`. One that has the same value in all rows of a file may be left
    /// to what the table says of the file, where its format does so.
    fn keeps(&self, _column: &str) -> bool {
        true
    }
}

/// The value in a partition column; `None` is null.
///
/// Numbers, dates, times and timestamps are what Parquet stores for them, strings their bytes, decimals 16 bytes in
/// big-endian two's complement.
///
/// # Errors
///
/// `Unsupported` for a type that no partition has, or a row that is not there.
pub fn partition_value(column: &dyn Array, row: usize) -> Result<Option<Datum>> {
    let none = || {
        let data_type = column.data_type();
        let message = format!("not a value of a partition. type=`{data_type}` row=`{row}`");
        Error::new(ErrorKind::Unsupported, message)
    };
    if row >= column.len() {
        return Err(none());
    }
    if column.is_null(row) || column.data_type() == &DataType::Null {
        return Ok(None);
    }
    let value = match column.data_type() {
        DataType::Boolean => Datum::Boolean(column.as_boolean().value(row)),
        DataType::Int32 => Datum::Int32(number::<Int32Type>(column, row)),
        DataType::Date32 => Datum::Int32(number::<Date32Type>(column, row)),
        DataType::Int64 => Datum::Int64(number::<Int64Type>(column, row)),
        DataType::Time64(TimeUnit::Microsecond) => Datum::Int64(number::<Time64MicrosecondType>(column, row)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Datum::Int64(number::<TimestampMicrosecondType>(column, row)),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Datum::Int64(number::<TimestampNanosecondType>(column, row)),
        DataType::Float32 => Datum::Float(number::<Float32Type>(column, row)),
        DataType::Float64 => Datum::Double(number::<Float64Type>(column, row)),
        DataType::Decimal128(..) => Datum::Bytes(number::<Decimal128Type>(column, row).to_be_bytes().to_vec()),
        DataType::Utf8 => Datum::Bytes(column.as_string::<i32>().value(row).as_bytes().to_vec()),
        DataType::Binary => Datum::Bytes(column.as_binary::<i32>().value(row).to_vec()),
        DataType::FixedSizeBinary(_) => Datum::Bytes(column.as_fixed_size_binary().value(row).to_vec()),
        _ => return Err(none()),
    };
    Ok(Some(value))
}

fn number<T: ArrowPrimitiveType>(column: &dyn Array, row: usize) -> T::Native {
    column.as_primitive::<T>().value(row)
}

/// The columns that files have, of those of merged rows.
pub(crate) fn stored(schema: &SchemaRef, partitioner: Option<&dyn Partitioner>) -> SchemaRef {
    let Some(partitioner) = partitioner else {
        return Arc::clone(schema);
    };
    let fields = schema.fields().iter().filter(|field| partitioner.keeps(field.name()));
    Arc::new(Schema::new_with_metadata(
        fields.cloned().collect::<Fields>(),
        schema.metadata().clone(),
    ))
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int32Array,
        Int64Array, ListArray, NullArray, StringArray, TimestampMicrosecondArray,
    };

    use super::*;

    #[test]
    fn a_value_is_what_parquet_stores_for_it() {
        let arrays: [(ArrayRef, Datum); 9] = [
            (Arc::new(BooleanArray::from(vec![true])), Datum::Boolean(true)),
            (Arc::new(Int32Array::from(vec![-1])), Datum::Int32(-1)),
            (Arc::new(Date32Array::from(vec![-1])), Datum::Int32(-1)),
            (Arc::new(Int64Array::from(vec![7])), Datum::Int64(7)),
            (
                Arc::new(TimestampMicrosecondArray::from(vec![9]).with_timezone("UTC")),
                Datum::Int64(9),
            ),
            (Arc::new(Float64Array::from(vec![-0.0])), Datum::Double(-0.0)),
            (
                Arc::new(Decimal128Array::from(vec![-2])),
                Datum::Bytes((-2_i128).to_be_bytes().to_vec()),
            ),
            (
                Arc::new(StringArray::from(vec!["\u{e9}"])),
                Datum::Bytes(vec![0xc3, 0xa9]),
            ),
            (
                Arc::new(BinaryArray::from(vec![&[0_u8, 1][..]])),
                Datum::Bytes(vec![0, 1]),
            ),
        ];
        for (array, expected) in arrays {
            assert_eq!(partition_value(&array, 0).unwrap(), Some(expected));
        }
        let fixed = FixedSizeBinaryArray::try_from_iter([[3_u8; 2]].into_iter()).unwrap();
        assert_eq!(partition_value(&fixed, 0).unwrap(), Some(Datum::Bytes(vec![3, 3])));
    }

    #[test]
    fn null_has_no_value_and_what_no_partition_has_is_refused() {
        assert_eq!(partition_value(&Int32Array::from(vec![None]), 0).unwrap(), None);
        assert_eq!(partition_value(&NullArray::new(1), 0).unwrap(), None);
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
        for (array, row) in [(&list as &dyn Array, 0), (&Int32Array::from(vec![1]), 1)] {
            assert_eq!(partition_value(array, row).unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }
}
