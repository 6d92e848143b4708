//! Column metrics of a written file, gathered from the statistics of its column chunks.

use std::cmp::Ordering;

use parquet::basic::{LogicalType, SortOrder};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::{ColumnDescPtr, ColumnDescriptor};

use super::budget::natural;
use super::floats::{nan_count, with_both_zeros};
use crate::data_file::{Bound, ColumnMetrics, Datum};

/// The metrics of a file under construction.
#[derive(Debug, Default)]
pub(super) struct FileMetrics {
    leaves: Vec<Leaf>,
}

#[derive(Debug)]
struct Leaf {
    column: ColumnDescPtr,
    compressed_size: u64,
    value_count: u64,
    null_count: Option<u64>,
    nan_count: Option<u64>,
    bounds: Bounds,
}

#[derive(Debug)]
enum Bounds {
    Known(Bound, Bound),
    /// No value so far.
    None,
    /// A chunk with values left them open.
    Unknown,
}

impl FileMetrics {
    /// Adds a chunk of the leaf column `leaf`, with its statistics as they were encoded. The first row group adds
    /// the leaves in order.
    pub(super) fn add(&mut self, leaf: usize, chunk: &ColumnChunkMetaData) {
        let nulls = chunk.statistics().and_then(Statistics::null_count_opt);
        let nans = nan_count(chunk);
        match self.leaves.get_mut(leaf) {
            Some(leaf) => {
                leaf.compressed_size += natural(chunk.compressed_size());
                leaf.value_count += natural(chunk.num_values());
                leaf.null_count = leaf.null_count.zip(nulls).map(|(a, b)| a + b);
                leaf.nan_count = leaf.nan_count.zip(nans).map(|(a, b)| a + b);
                let before = std::mem::replace(&mut leaf.bounds, Bounds::Unknown);
                leaf.bounds = before.join(bounds(chunk), &leaf.column);
            }
            None => self.leaves.push(Leaf {
                column: chunk.column_descr_ptr(),
                compressed_size: natural(chunk.compressed_size()),
                value_count: natural(chunk.num_values()),
                null_count: nulls,
                nan_count: nans,
                bounds: Bounds::None.join(bounds(chunk), chunk.column_descr()),
            }),
        }
    }

    /// The metrics of every leaf column, in schema order.
    pub(super) fn into_columns(self) -> Vec<ColumnMetrics> {
        self.leaves.into_iter().map(Leaf::into_metrics).collect()
    }
}

impl Leaf {
    fn into_metrics(self) -> ColumnMetrics {
        let (lower, upper) = match self.bounds {
            Bounds::Known(lower, upper) => (Some(lower), Some(upper)),
            Bounds::None | Bounds::Unknown => (None, None),
        };
        ColumnMetrics {
            path: self.column.path().parts().to_vec(),
            field_id: field_id(&self.column),
            compressed_size: self.compressed_size,
            value_count: self.value_count,
            null_count: self.null_count,
            nan_count: self.nan_count,
            lower,
            upper,
        }
    }
}

impl Bounds {
    fn join(self, other: Self, column: &ColumnDescriptor) -> Self {
        match (self, other) {
            (Self::None, bounds) | (bounds, Self::None) => bounds,
            (Self::Known(least, greatest), Self::Known(lower, upper)) => {
                let orders = (
                    compare(column, &lower.value, &least.value),
                    compare(column, &upper.value, &greatest.value),
                );
                let (Some(lower_order), Some(upper_order)) = orders else {
                    return Self::Unknown;
                };
                Self::Known(
                    if lower_order == Ordering::Less { lower } else { least },
                    if upper_order == Ordering::Greater {
                        upper
                    } else {
                        greatest
                    },
                )
            }
            _ => Self::Unknown,
        }
    }
}

fn field_id(column: &ColumnDescriptor) -> Option<i32> {
    let info = column.self_type().get_basic_info();
    info.has_id().then(|| info.id())
}

/// The bounds of a chunk, as far as its statistics tell.
fn bounds(chunk: &ColumnChunkMetaData) -> Bounds {
    let column = chunk.column_descr();
    let Some(statistics) = chunk.statistics() else {
        return Bounds::Unknown;
    };
    if statistics.null_count_opt() == Some(natural(chunk.num_values())) {
        return Bounds::None;
    }
    let found = (column.logical_type_ref() != Some(&LogicalType::Float16))
        .then(|| chunk_bounds(statistics))
        .flatten()
        // One order must hold for both, else the column has none.
        .filter(|(lower, upper)| compare(column, &lower.value, &upper.value).is_some_and(Ordering::is_le));
    found.map_or(Bounds::Unknown, |(lower, upper)| Bounds::Known(lower, upper))
}

fn chunk_bounds(statistics: &Statistics) -> Option<(Bound, Bound)> {
    let (lower, upper) = match statistics {
        Statistics::Boolean(s) => (Datum::Boolean(*s.min_opt()?), Datum::Boolean(*s.max_opt()?)),
        Statistics::Int32(s) => (Datum::Int32(*s.min_opt()?), Datum::Int32(*s.max_opt()?)),
        Statistics::Int64(s) => (Datum::Int64(*s.min_opt()?), Datum::Int64(*s.max_opt()?)),
        Statistics::Float(s) => {
            let (min, max) = with_both_zeros(*s.min_opt()?, *s.max_opt()?);
            (!min.is_nan() && !max.is_nan()).then_some((Datum::Float(min), Datum::Float(max)))?
        }
        Statistics::Double(s) => {
            let (min, max) = with_both_zeros(*s.min_opt()?, *s.max_opt()?);
            (!min.is_nan() && !max.is_nan()).then_some((Datum::Double(min), Datum::Double(max)))?
        }
        Statistics::ByteArray(_) | Statistics::FixedLenByteArray(_) => {
            let datum = |bytes: &[u8]| Datum::Bytes(bytes.to_vec());
            (datum(statistics.min_bytes_opt()?), datum(statistics.max_bytes_opt()?))
        }
        Statistics::Int96(_) => return None,
    };
    let bound = |value, exact| Bound { value, exact };
    Some((
        bound(lower, statistics.min_is_exact()),
        bound(upper, statistics.max_is_exact()),
    ))
}

/// The order of the column's type (parquet-format, `ColumnOrder`), `None` if it has none.
fn compare(column: &ColumnDescriptor, a: &Datum, b: &Datum) -> Option<Ordering> {
    let is_signed = match column.sort_order() {
        SortOrder::SIGNED => true,
        SortOrder::UNSIGNED => false,
        _ => matches!(a, Datum::Float(_) | Datum::Double(_)).then_some(true)?,
    };
    match (a, b) {
        (Datum::Boolean(a), Datum::Boolean(b)) => Some(a.cmp(b)),
        (Datum::Int32(a), Datum::Int32(b)) if is_signed => Some(a.cmp(b)),
        (Datum::Int32(a), Datum::Int32(b)) => Some(a.cast_unsigned().cmp(&b.cast_unsigned())),
        (Datum::Int64(a), Datum::Int64(b)) if is_signed => Some(a.cmp(b)),
        (Datum::Int64(a), Datum::Int64(b)) => Some(a.cast_unsigned().cmp(&b.cast_unsigned())),
        (Datum::Float(a), Datum::Float(b)) => a.partial_cmp(b),
        (Datum::Double(a), Datum::Double(b)) => a.partial_cmp(b),
        (Datum::Bytes(a), Datum::Bytes(b)) if is_signed => signed_big_endian(a, b),
        (Datum::Bytes(a), Datum::Bytes(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Decimals: two's complement, most significant byte first, of the same length.
fn signed_big_endian(a: &[u8], b: &[u8]) -> Option<Ordering> {
    if a.len() != b.len() {
        return None;
    }
    let sign = |bytes: &[u8]| bytes.first().map(|byte| byte.cast_signed() >= 0);
    Some(sign(a).cmp(&sign(b)).then_with(|| a.cmp(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_compare_by_sign_first() {
        let bytes = |value: i16| value.to_be_bytes();
        assert_eq!(signed_big_endian(&bytes(-1), &bytes(1)), Some(Ordering::Less));
        assert_eq!(signed_big_endian(&bytes(-2), &bytes(-1)), Some(Ordering::Less));
        assert_eq!(signed_big_endian(&bytes(300), &bytes(2)), Some(Ordering::Greater));
        assert_eq!(signed_big_endian(&[1], &[0, 1]), None);
    }
}
