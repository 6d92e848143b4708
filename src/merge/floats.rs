//! Statistics of float columns that every reader may prune by.
//!
//! Parquet leaves NaN out of bounds, while query engines order it above every number: by such bounds they skip the
//! NaN that `x > 5` asks for. And readers that compare bits tell -0.0 from +0.0. So a column chunk with NaN
//! gets no bounds, in the footer or by page, and bounds that are zero hold both zeros.

use std::ops::Neg;

use parquet::basic::{LogicalType, Type};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::AsBytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, LevelHistogram};
use parquet::file::page_index::column_index::{ColumnIndexMetaData, PrimitiveColumnIndex};
use parquet::file::statistics::{Statistics, ValueStatistics};

/// Rewrites the statistics and the column index of a chunk that has been encoded and not yet appended.
pub(super) fn make_safe(close: &mut ColumnCloseResult) -> Result<(), ParquetError> {
    let chunk = &close.metadata;
    if !is_float(chunk) {
        return Ok(());
    }
    // Half floats are too rare to be worth bounds.
    let has_bounds = nan_count(chunk) == Some(0) && !is_half(chunk);
    let statistics = chunk.statistics().map(|statistics| match statistics {
        Statistics::Double(s) => Statistics::Double(safe(s, has_bounds.then(|| bounds(s)).flatten())),
        Statistics::FixedLenByteArray(s) => Statistics::FixedLenByteArray(safe(s, None)),
        Statistics::Float(s) => Statistics::Float(safe(s, has_bounds.then(|| bounds(s)).flatten())),
        other => other.clone(),
    });
    if let Some(statistics) = statistics {
        close.metadata = close
            .metadata
            .clone()
            .into_builder()
            .set_statistics(statistics)
            .build()?;
    }
    close.column_index = match close.column_index.take() {
        Some(index) if has_bounds => safe_index(&index)?,
        _ => None,
    };
    Ok(())
}

/// NaNs of a chunk as it was encoded, `None` if it holds no floats.
pub(super) fn nan_count(chunk: &ColumnChunkMetaData) -> Option<u64> {
    let statistics = chunk.statistics().filter(|_| is_float(chunk))?;
    // Nothing is counted where there is no value at all.
    let all_null = statistics.null_count_opt() == u64::try_from(chunk.num_values()).ok();
    statistics.nan_count_opt().or_else(|| all_null.then_some(0))
}

/// Whether a chunk holds floats that could have bounds if it were known that none is NaN.
pub(super) fn lacks_nan_count(chunk: &ColumnChunkMetaData) -> bool {
    is_float(chunk) && !is_half(chunk) && chunk.statistics().is_some() && nan_count(chunk).is_none()
}

/// Adds the count of NaNs to the statistics of a chunk.
pub(super) fn set_nan_count(close: &mut ColumnCloseResult, count: u64) -> Result<(), ParquetError> {
    let statistics = match close.metadata.statistics() {
        Some(Statistics::Double(s)) => Statistics::Double(s.clone().with_nan_count(Some(count))),
        Some(Statistics::Float(s)) => Statistics::Float(s.clone().with_nan_count(Some(count))),
        _ => return Ok(()),
    };
    let builder = close.metadata.clone().into_builder();
    close.metadata = builder.set_statistics(statistics).build()?;
    Ok(())
}

/// Bounds that hold both zeros if they hold one.
pub(super) fn with_both_zeros<T>(min: T, max: T) -> (T, T)
where
    T: Copy + Default + Neg<Output = T> + PartialEq,
{
    let zero = T::default();
    (
        if min == zero { -zero } else { min },
        if max == zero { zero } else { max },
    )
}

fn is_float(chunk: &ColumnChunkMetaData) -> bool {
    matches!(chunk.column_type(), Type::DOUBLE | Type::FLOAT) || is_half(chunk)
}

fn is_half(chunk: &ColumnChunkMetaData) -> bool {
    chunk.column_descr().logical_type_ref() == Some(&LogicalType::Float16)
}

fn bounds<T>(statistics: &ValueStatistics<T>) -> Option<(T, T)>
where
    T: Copy + Default + Neg<Output = T> + PartialEq,
{
    Some(with_both_zeros(*statistics.min_opt()?, *statistics.max_opt()?))
}

/// The statistics with other bounds.
fn safe<T>(statistics: &ValueStatistics<T>, bounds: Option<(T, T)>) -> ValueStatistics<T> {
    let (min, max) = bounds.unzip();
    let (distinct, nulls) = (statistics.distinct_count(), statistics.null_count_opt());
    ValueStatistics::new(min, max, distinct, nulls, false)
        .with_nan_count(statistics.nan_count_opt())
        .with_backwards_compatible_min_max(statistics.is_min_max_backwards_compatible())
}

fn safe_index(index: &ColumnIndexMetaData) -> Result<Option<ColumnIndexMetaData>, ParquetError> {
    match index {
        ColumnIndexMetaData::DOUBLE(pages) => rebuilt(Type::DOUBLE, index, pages),
        ColumnIndexMetaData::FLOAT(pages) => rebuilt(Type::FLOAT, index, pages),
        _ => Ok(None),
    }
}

/// The index with bounds that hold both zeros. Their order stays, since all bounds of a side change alike.
fn rebuilt<T>(
    column_type: Type,
    index: &ColumnIndexMetaData,
    pages: &PrimitiveColumnIndex<T>,
) -> Result<Option<ColumnIndexMetaData>, ParquetError>
where
    T: AsBytes + Copy + Default + Neg<Output = T> + PartialEq,
{
    let mut builder = ColumnIndexBuilder::new(column_type);
    if let Some(order) = index.get_boundary_order() {
        builder.set_boundary_order(order);
    }
    let histogram = |levels: Option<&[i64]>| levels.map(|levels| LevelHistogram::from(levels.to_vec()));
    for (page, (min, max)) in pages.min_values_iter().zip(pages.max_values_iter()).enumerate() {
        let Some(nulls) = index.null_count(page) else {
            return Ok(None);
        };
        let (min, max) = match (min, max) {
            (Some(min), Some(max)) => {
                let (min, max) = with_both_zeros(*min, *max);
                (min.as_bytes().to_vec(), max.as_bytes().to_vec())
            }
            // A page of nulls has empty bounds.
            _ => (Vec::new(), Vec::new()),
        };
        builder.append(index.is_null_page(page), min, max, nulls, index.nan_count(page));
        builder.append_histograms(
            &histogram(index.repetition_level_histogram(page)),
            &histogram(index.definition_level_histogram(page)),
        );
    }
    builder.build().map(Some)
}
