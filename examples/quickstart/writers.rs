//! Four writers and three hours of real Parquet files, with all that goes wrong in practice.

use std::path::Path;
use std::sync::Arc;

use firnline::arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use firnline::parquet::arrow::ArrowWriter;
use firnline::parquet::basic::{Compression, ZstdLevel};
use firnline::parquet::file::properties::WriterProperties;
use serde_json::json;

/// 2024-11-14T09:00:00Z.
pub(crate) const START_MS: i64 = 1_731_574_800_000;
const MINUTE_MS: i64 = 60_000;
pub(crate) const HOUR_MS: i64 = 60 * MINUTE_MS;
const ROWS_PER_FILE: i64 = 4_000;
/// Which of the files is damaged: the second of the second hour of the second writer.
pub(crate) const DAMAGED: usize = 18 + 7;

/// A source file and its notification.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) key: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// As the bucket's notifications say it.
    pub(crate) notification: String,
}

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Writes three hours of files, one every ten minutes per writer. `sensor-d` falls silent after the first hour,
/// and the second file of `sensor-b` of the second hour is damaged.
pub(crate) fn write_three_hours(bucket: &Path) -> Result<Vec<Written>> {
    let mut written = Vec::new();
    for (index, writer) in ["sensor-a", "sensor-b", "sensor-c", "sensor-d"].into_iter().enumerate() {
        let minutes = if writer == "sensor-d" { 0..60 } else { 0..180 };
        for (sequence, minute) in minutes.step_by(10).enumerate() {
            let offset_ms = i64::try_from(index)? * 7_000;
            let file = write(bucket, writer, sequence, START_MS + minute * MINUTE_MS + offset_ms)?;
            if written.len() == DAMAGED {
                damage(&bucket.join(&file.key))?;
            }
            written.push(file);
        }
    }
    Ok(written)
}

/// One more file of the first hour, written when that hour has long been compacted.
pub(crate) fn write_late(bucket: &Path) -> Result<Written> {
    write(bucket, "sensor-d", 6, START_MS + 59 * MINUTE_MS)
}

fn write(bucket: &Path, writer: &str, sequence: usize, start_ms: i64) -> Result<Written> {
    let key = format!("data/readings/{start_ms}-{writer}-{sequence}.parquet");
    let times = (0..ROWS_PER_FILE).map(|row| (start_ms + row * 140) * 1_000);
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "ts",
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
        ),
        (
            "id",
            Arc::new(StringArray::from_iter_values(
                (0..ROWS_PER_FILE).map(|row| format!("{writer}-{sequence:04}-{row:06}")),
            )),
        ),
        (
            "sensor",
            Arc::new(StringArray::from_iter_values((0..ROWS_PER_FILE).map(|_| writer))),
        ),
        (
            "value",
            Arc::new(Float64Array::from_iter_values(
                (0..ROWS_PER_FILE).map(|row| f64::from(u16::try_from(row % 997).unwrap_or_default()) / 10.0),
            )),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .build();
    let mut body = Vec::new();
    let mut parquet = ArrowWriter::try_new(&mut body, batch.schema(), Some(properties))?;
    parquet.write(&batch)?;
    parquet.close()?;
    let path = bucket.join(&key);
    std::fs::create_dir_all(path.parent().unwrap_or(bucket))?;
    std::fs::write(path, &body)?;
    let notification = json!({
        "account": "3f4b7e3dcab231cbfdaa90a6a28bd548",
        "action": "PutObject",
        "bucket": "quickstart",
        "object": { "key": key, "size": body.len(), "eTag": format!("{writer}-{sequence}") },
        "eventTime": "2024-11-14T12:00:00.000Z",
    });
    Ok(Written {
        key,
        rows: u64::try_from(ROWS_PER_FILE)?,
        bytes: body.len() as u64,
        notification: notification.to_string(),
    })
}

/// Overwrites the first pages: the footer stays whole, so that only reading the rows shows it.
fn damage(path: &Path) -> Result<()> {
    let mut body = std::fs::read(path)?;
    let end = (body.len() / 2).min(4_096);
    body.iter_mut().take(end).skip(4).for_each(|byte| *byte ^= 0x5a);
    std::fs::write(path, body)?;
    Ok(())
}
