//! Whether a table has nanoseconds is for its columns to say, not for the version in which new tables are made.

use std::sync::Arc;

use firnline::arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampNanosecondArray};
use firnline::arrow::datatypes::{DataType, TimeUnit};
use firnline::iceberg::IcebergOptions;
use firnline::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use futures::executor::block_on;
use serde_json::json;

use super::support::{compacted, get, metadata, put};
use crate::table_log;
use crate::world::World;

/// Appends a source in nanoseconds to a table whose column is of a type: the type and the values of its files, and the
/// reasons for which sources have been set aside.
fn appended(version: u8, column: &str, option: u8, nanos: &[i64]) -> (Vec<(DataType, Vec<i64>)>, Vec<String>) {
    let world = World::new();
    let mut table = metadata();
    table["format-version"] = json!(version);
    if version == 3 {
        table["next-row-id"] = json!(0);
    }
    table["schemas"][0]["fields"][0]["name"] = json!("id");
    table["schemas"][0]["fields"][1] = json!({"id": 2, "name": "ts", "required": false, "type": column});
    let path = "users/metadata/v1.metadata.json";
    block_on(put(&world.tables, path, table.to_string()));
    let ids = 0..i64::try_from(nanos.len()).unwrap();
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(ids)) as ArrayRef),
        (
            "ts",
            Arc::new(TimestampNanosecondArray::from(nanos.to_vec())) as ArrayRef,
        ),
    ]);
    let reasons = compacted(
        &world,
        IcebergOptions::default().with_format_version(option),
        &[rows.unwrap()],
    );
    let reasons = reasons.into_iter().map(|(_, reason)| format!("{reason:?}")).collect();
    let files = table_log::iceberg_live_files(&world.tables, "users");
    let files = files.iter().map(|path| {
        let bytes = block_on(get(&world.tables, path.as_ref()));
        let batches = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .unwrap()
            .build()
            .unwrap();
        let rows = batches.map(Result::unwrap).next().unwrap();
        let times = rows.column_by_name("ts").unwrap();
        let values = firnline::arrow::compute::cast(times, &DataType::Int64).unwrap();
        let values = values.as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
        (times.data_type().clone(), values)
    });
    (files.collect(), reasons)
}

#[test]
fn columns_of_nanoseconds_take_them_whatever_new_tables_would_have() {
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
    for option in [2, 3] {
        let found = appended(3, "timestamp_ns", option, &[-1, 1_001, 5_000]);
        assert_eq!(found, (vec![(nanos.clone(), vec![-1, 1_001, 5_000])], Vec::new()));
    }
}

#[test]
fn columns_of_microseconds_take_nanoseconds_that_are_whole_whatever_new_tables_would_have() {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    for (version, option) in [(2, 2), (2, 3), (3, 2), (3, 3)] {
        let found = appended(version, "timestamp", option, &[-1_000, 1_000, 5_000]);
        assert_eq!(found, (vec![(micros.clone(), vec![-1, 1, 5])], Vec::new()));
        let (files, reasons) = appended(version, "timestamp", option, &[1_001]);
        assert_eq!(files, Vec::new());
        assert!(reasons[0].starts_with("LossyValue"), "{reasons:?}");
    }
}
