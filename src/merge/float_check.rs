//! Counts the NaNs of a float column that is copied, where its writer has not: without them its bounds are of no use.

use std::sync::Arc;

use parquet::column::page::PageReader;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::{Statistics, ValueStatistics};

use super::decode::{Extents, guarded};
use super::step::yield_now;
use super::watch::{Watch, WatchedPages};
use crate::quarantine::QuarantineReason;

/// Rows that are read at a time.
const STEP_ROWS: usize = 8 << 10;

/// The NaNs of a chunk whose bytes are at hand, after its bounds have been compared with all its values; `None` where it
/// holds no floats.
pub(super) async fn count_nans(
    bytes: Extents,
    chunk: Arc<ColumnChunkMetaData>,
    rows: usize,
) -> Result<Option<u64>, QuarantineReason> {
    let opened = guarded("a chunk broke the decoder", || {
        let watch = Watch::new(u64::MAX, STEP_ROWS, 1, Vec::new());
        let pages = WatchedPages::new(&Arc::new(bytes), (0, &chunk), rows, None, &watch)?;
        let pages: Box<dyn PageReader> = Box::new(pages);
        Ok::<_, ParquetError>(get_column_reader(chunk.column_descr_ptr(), pages))
    });
    let reader = opened?.map_err(QuarantineReason::corrupt)?;
    match (reader, chunk.statistics()) {
        (ColumnReader::DoubleColumnReader(reader), Some(Statistics::Double(told))) => {
            count(reader, told, |value| value.is_nan()).await.map(Some)
        }
        (ColumnReader::FloatColumnReader(reader), Some(Statistics::Float(told))) => {
            count(reader, told, |value| value.is_nan()).await.map(Some)
        }
        _ => Ok(None),
    }
}

async fn count<T>(
    mut reader: ColumnReaderImpl<T>,
    told: &ValueStatistics<T::T>,
    is_nan: fn(&T::T) -> bool,
) -> Result<u64, QuarantineReason>
where
    T: DataType,
    T::T: Sync,
{
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    let mut nans = 0;
    loop {
        values.clear();
        definitions.clear();
        repetitions.clear();
        let read = guarded("a page broke the decoder", || {
            reader.read_records(STEP_ROWS, Some(&mut definitions), Some(&mut repetitions), &mut values)
        })?;
        let (records, ..) = read.map_err(QuarantineReason::corrupt)?;
        if records == 0 {
            return Ok(nans);
        }
        for value in &values {
            if is_nan(value) {
                nans += 1;
            } else if !is_within(value, told) {
                return Err(QuarantineReason::corrupt(
                    "a number is outside of the bounds of its column",
                ));
            }
        }
        yield_now().await;
    }
}

/// Nothing is within bounds that are NaN.
fn is_within<T: PartialOrd>(value: &T, told: &ValueStatistics<T>) -> bool {
    let is_above = told.min_opt().is_none_or(|min| value >= min);
    is_above && told.max_opt().is_none_or(|max| value <= max)
}
