//! Small Parquet files with everything in them that readers stumble over.

use std::sync::Arc;

use firnline::arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int32Builder, Int64Array,
    ListBuilder, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use firnline::parquet::arrow::ArrowWriter;
use firnline::parquet::basic::{BrotliLevel, Compression, Encoding, GzipLevel, ZstdLevel};
use firnline::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};

/// Rows of a file of every kind.
const ROWS: i64 = 24;

/// Columns of many types, sorted by `id`, with nulls and lists.
pub fn rows() -> RecordBatch {
    let numbers = 0..ROWS;
    let some = |number: i64| number % 5 != 3;
    let mut lists = ListBuilder::new(Int32Builder::new());
    for number in numbers.clone() {
        for item in 0..number % 4 {
            let item = i32::try_from(item).unwrap_or(0);
            lists.values().append_option((item != 2).then_some(item));
        }
        lists.append(some(number));
    }
    let text = |number: i64| format!("text {}", number % 7);
    let fixed = numbers.clone().map(|number| [u8::try_from(number).unwrap_or(0); 5]);
    let columns: [(&str, ArrayRef); 9] = [
        ("id", Arc::new(Int64Array::from_iter_values(numbers.clone()))),
        (
            "at",
            Arc::new(TimestampMicrosecondArray::from_iter_values(numbers.clone()).with_timezone("UTC")),
        ),
        (
            "text",
            Arc::new(
                numbers
                    .clone()
                    .map(|n| some(n).then(|| text(n)))
                    .collect::<StringArray>(),
            ),
        ),
        (
            "bytes",
            Arc::new(BinaryArray::from_iter_values(numbers.clone().map(|n| text(n * 31)))),
        ),
        (
            "flag",
            Arc::new(
                numbers
                    .clone()
                    .map(|n| some(n).then_some(n % 2 == 0))
                    .collect::<BooleanArray>(),
            ),
        ),
        (
            "float",
            Arc::new(Float64Array::from_iter_values(
                numbers.clone().map(|n| f64::from(u8::try_from(n).unwrap_or(0))),
            )),
        ),
        (
            "decimal",
            Arc::new(
                numbers
                    .clone()
                    .map(|n| some(n).then(|| i128::from(n)))
                    .collect::<Decimal128Array>(),
            ),
        ),
        (
            "fixed",
            Arc::new(FixedSizeBinaryArray::try_from_iter(fixed).expect("arrays of one length")),
        ),
        ("list", Arc::new(lists.finish())),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

/// One file for each way in which pages may be written.
pub fn kinds() -> Vec<Vec<u8>> {
    let encoded = |encoding| plain().set_encoding(encoding);
    let compressed = |compression| WriterProperties::builder().set_compression(compression);
    let settings = [
        plain(),
        WriterProperties::builder(),
        WriterProperties::builder().set_writer_version(WriterVersion::PARQUET_2_0),
        plain().set_writer_version(WriterVersion::PARQUET_2_0),
        encoded(Encoding::PLAIN)
            .set_column_encoding("text".into(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
            .set_column_encoding("bytes".into(), Encoding::DELTA_BYTE_ARRAY)
            .set_column_encoding("float".into(), Encoding::BYTE_STREAM_SPLIT)
            .set_column_encoding("id".into(), Encoding::DELTA_BINARY_PACKED),
        compressed(Compression::SNAPPY),
        compressed(Compression::ZSTD(ZstdLevel::default())),
        compressed(Compression::GZIP(GzipLevel::default())),
        compressed(Compression::LZ4_RAW),
        compressed(Compression::BROTLI(BrotliLevel::default())),
    ];
    settings.into_iter().map(|settings| encode(&rows(), settings)).collect()
}

/// Every value by itself.
pub fn plain() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_dictionary_enabled(false)
}

/// A file of two row groups with more pages than one.
pub fn encode(rows: &RecordBatch, settings: WriterPropertiesBuilder) -> Vec<u8> {
    let settings = settings
        .set_max_row_group_row_count(Some(16))
        .set_data_page_row_count_limit(8)
        .set_write_batch_size(4);
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(settings.build())).expect("a known schema");
    writer.write(rows).expect("rows of the schema");
    writer.into_inner().expect("memory does not fail")
}

/// `file` with some of its bytes changed: each three bytes of `changes` are a place and what is there instead.
///
/// Places are counted from the end as well, since that is where the footer is.
pub fn changed(mut file: Vec<u8>, changes: &[u8]) -> Vec<u8> {
    for change in changes.chunks_exact(3) {
        let place = usize::from(u16::from_le_bytes([change[0], change[1]])) % file.len();
        file[place] = change[2];
    }
    file
}
