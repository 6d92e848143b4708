//! The rows of a simulation: each of them unlike any other.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::{ParquetError, Result};

/// `ts` in microseconds, `id`, `n`.
pub(super) type Row = (i64, String, i64);

/// A file of rows.
pub(super) fn parquet_of(rows: &[Row]) -> Result<Vec<u8>> {
    let instants = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.0));
    let columns: [(&str, ArrayRef); 3] = [
        ("ts", Arc::new(instants.with_timezone("UTC"))),
        (
            "id",
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1))),
        ),
        (
            "n",
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2))),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
    writer.write(&batch)?;
    writer.into_inner()
}

/// The rows of a file, in its order.
pub(super) fn rows_of(file: Bytes) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
        let batch = batch?;
        let column = |name: &str| {
            let column = batch.column_by_name(name);
            column.ok_or_else(|| ParquetError::General(format!("no column `{name}`")))
        };
        let ts = column("ts")?.as_primitive_opt::<TimestampMicrosecondType>();
        let id = column("id")?.as_string_opt::<i32>();
        let n = column("n")?.as_primitive_opt::<Int64Type>();
        let (Some(ts), Some(id), Some(n)) = (ts, id, n) else {
            return Err(ParquetError::General(format!("other types: {}", batch.schema())));
        };
        if ts.null_count() + id.null_count() + n.null_count() > 0 {
            return Err(ParquetError::General("null, where no row has one".to_owned()));
        }
        rows.extend((0..batch.num_rows()).map(|row| (ts.value(row), id.value(row).to_owned(), n.value(row))));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        let rows: Vec<Row> = vec![(5, "b".to_owned(), 1), (4, "a".to_owned(), -1)];
        assert_eq!(rows_of(parquet_of(&rows).unwrap().into()).unwrap(), rows);
        assert_eq!(rows_of(parquet_of(&[]).unwrap().into()).unwrap(), []);
    }
}
