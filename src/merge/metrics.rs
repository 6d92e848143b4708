//! Column metrics of a written file: from its own statistics, and NaN counted on the way.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use parquet::basic::{LogicalType, SortOrder};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use crate::data_file::{Bound, ColumnMetrics, Datum};

/// Counts NaN by leaf, in schema order; `None` for leaves that are no floats.
#[derive(Clone, Debug, Default)]
pub(super) struct NanCounts(Vec<Option<u64>>);

impl NanCounts {
    /// Adds the NaNs of a top-level column whose first leaf is the `leaf`th. Returns the leaf after its last.
    pub(super) fn add(&mut self, leaf: usize, column: &ArrayRef) -> usize {
        let mut leaf = leaf;
        self.visit(&mut leaf, column, None);
        leaf
    }

    /// What a reader never sees does not count: fields of null structs, items of null lists.
    fn visit(&mut self, leaf: &mut usize, array: &ArrayRef, parent: Option<&NullBuffer>) {
        let nulls = NullBuffer::union(parent, array.nulls());
        match array.data_type() {
            DataType::Struct(_) => {
                if let Some(array) = array.as_struct_opt() {
                    for child in array.columns() {
                        self.visit(leaf, child, nulls.as_ref());
                    }
                }
            }
            DataType::List(_) => {
                if let Some(list) = array.as_list_opt::<i32>() {
                    let items = reachable(list.offsets(), nulls.as_ref());
                    self.visit_ranges(leaf, list.values(), &items);
                }
            }
            DataType::Map(_, _) => {
                if let Some(map) = array.as_map_opt() {
                    let items = reachable(map.offsets(), nulls.as_ref());
                    let entries: ArrayRef = std::sync::Arc::new(map.entries().clone());
                    self.visit_ranges(leaf, &entries, &items);
                }
            }
            DataType::Float16 => self.count(
                leaf,
                nans::<Float16Type>(
                    array,
                    nulls.as_ref(),
                    <Float16Type as ArrowPrimitiveType>::Native::is_nan,
                ),
            ),
            DataType::Float32 => self.count(leaf, nans::<Float32Type>(array, nulls.as_ref(), f32::is_nan)),
            DataType::Float64 => self.count(leaf, nans::<Float64Type>(array, nulls.as_ref(), f64::is_nan)),
            _ => self.count(leaf, None),
        }
    }

    fn visit_ranges(&mut self, leaf: &mut usize, values: &ArrayRef, ranges: &[(usize, usize)]) {
        let first = *leaf;
        // An empty slice too, so that every leaf gets its place.
        self.visit(leaf, &values.slice(0, 0), None);
        for (start, end) in ranges {
            let mut again = first;
            self.visit(&mut again, &values.slice(*start, end - start), None);
        }
    }

    fn count(&mut self, leaf: &mut usize, nans: Option<u64>) {
        if self.0.len() <= *leaf {
            self.0.resize(*leaf + 1, None);
        }
        if let (Some(count), Some(nans)) = (self.0.get_mut(*leaf), nans) {
            *count = Some(count.unwrap_or(0) + nans);
        }
        *leaf += 1;
    }
}

/// Ranges of the items of lists that are not null, joined where they touch.
fn reachable(offsets: &[i32], nulls: Option<&NullBuffer>) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for (row, pair) in offsets.windows(2).enumerate() {
        let [start, end] = pair else { continue };
        let (Ok(start), Ok(end)) = (usize::try_from(*start), usize::try_from(*end)) else {
            continue;
        };
        if start >= end || nulls.is_some_and(|nulls| nulls.is_null(row)) {
            continue;
        }
        match ranges.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => ranges.push((start, end)),
        }
    }
    ranges
}

fn nans<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    nulls: Option<&NullBuffer>,
    is_nan: impl Fn(T::Native) -> bool,
) -> Option<u64> {
    let values = array.as_primitive_opt::<T>()?.values();
    let count = match nulls {
        None => values.iter().filter(|value| is_nan(**value)).count(),
        Some(nulls) => nulls
            .iter()
            .zip(values)
            .filter(|(valid, value)| *valid && is_nan(**value))
            .count(),
    };
    Some(count as u64)
}

/// The metrics of every leaf column of a written file.
pub(super) fn columns(metadata: &ParquetMetaData, nans: &NanCounts) -> Vec<ColumnMetrics> {
    let descriptor = metadata.file_metadata().schema_descr();
    let columns = descriptor.columns().iter().enumerate().map(|(leaf, column)| {
        let chunks: Vec<&ColumnChunkMetaData> = metadata
            .row_groups()
            .iter()
            .filter_map(|group| group.columns().get(leaf))
            .collect();
        let nan_count = nans.0.get(leaf).copied().flatten();
        let null_counts = chunks
            .iter()
            .map(|chunk| chunk.statistics().and_then(Statistics::null_count_opt));
        let value_count = chunks.iter().map(|chunk| natural(chunk.num_values())).sum();
        let null_count: Option<u64> = null_counts.sum();
        let (lower, upper) = bounds(column, &chunks).map_or((None, None), |(lower, upper)| (Some(lower), Some(upper)));
        ColumnMetrics {
            path: column.path().parts().to_vec(),
            compressed_size: chunks.iter().map(|chunk| natural(chunk.compressed_size())).sum(),
            value_count,
            null_count,
            nan_count,
            lower,
            upper,
        }
    });
    columns.collect()
}

/// The least and greatest of all chunks, `None` if any chunk with values leaves it open.
fn bounds(column: &ColumnDescriptor, chunks: &[&ColumnChunkMetaData]) -> Option<(Bound, Bound)> {
    if column.logical_type_ref() == Some(&LogicalType::Float16) {
        return None;
    }
    let mut found: Option<(Bound, Bound)> = None;
    for chunk in chunks {
        let statistics = chunk.statistics()?;
        let nulls = statistics.null_count_opt()?;
        if nulls == natural(chunk.num_values()) {
            continue;
        }
        let (lower, upper) = chunk_bounds(statistics)?;
        found = Some(match found {
            None => (lower, upper),
            Some((least, greatest)) => {
                let lower_is_less = compare(column, &lower.value, &least.value)? == Ordering::Less;
                let upper_is_greater = compare(column, &upper.value, &greatest.value)? == Ordering::Greater;
                (
                    if lower_is_less { lower } else { least },
                    if upper_is_greater { upper } else { greatest },
                )
            }
        });
    }
    let (lower, upper) = found?;
    // One order must hold for both, else the column has none.
    compare(column, &lower.value, &upper.value)?;
    Some((lower, upper))
}

fn chunk_bounds(statistics: &Statistics) -> Option<(Bound, Bound)> {
    let (lower, upper) = match statistics {
        Statistics::Boolean(s) => (Datum::Boolean(*s.min_opt()?), Datum::Boolean(*s.max_opt()?)),
        Statistics::Int32(s) => (Datum::Int32(*s.min_opt()?), Datum::Int32(*s.max_opt()?)),
        Statistics::Int64(s) => (Datum::Int64(*s.min_opt()?), Datum::Int64(*s.max_opt()?)),
        // Readers may compare zeros by their bits, so bounds hold both.
        Statistics::Float(s) => {
            let (min, max) = (*s.min_opt()?, *s.max_opt()?);
            let (min, max) = (if min == 0.0 { -0.0 } else { min }, if max == 0.0 { 0.0 } else { max });
            (!min.is_nan() && !max.is_nan()).then_some((Datum::Float(min), Datum::Float(max)))?
        }
        Statistics::Double(s) => {
            let (min, max) = (*s.min_opt()?, *s.max_opt()?);
            let (min, max) = (if min == 0.0 { -0.0 } else { min }, if max == 0.0 { 0.0 } else { max });
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

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float32Array, Float64Array, ListArray, StructArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn nans_that_no_reader_sees_do_not_count() {
        let nan = f64::NAN;
        let items: ArrayRef = Arc::new(Float64Array::from(vec![nan, 1.0, nan, nan]));
        let field = Arc::new(Field::new("item", DataType::Float64, true));
        let offsets = OffsetBuffer::new(vec![0, 2, 3, 4].into());
        let list = ListArray::new(field, offsets, items, Some(vec![true, false, true].into()));
        let mut counts = NanCounts::default();
        assert_eq!(counts.add(0, &(Arc::new(list) as ArrayRef)), 1);
        assert_eq!(counts.0, vec![Some(2)]);

        let fields = vec![
            Field::new("f", DataType::Float32, true),
            Field::new("g", DataType::Utf8, true),
        ];
        let child: ArrayRef = Arc::new(Float32Array::from(vec![f32::NAN, f32::NAN]));
        let text = arrow::array::new_null_array(&DataType::Utf8, 2);
        let array = StructArray::new(fields.into(), vec![child, text], Some(vec![false, true].into()));
        let mut counts = NanCounts::default();
        assert_eq!(counts.add(0, &(Arc::new(array) as ArrayRef)), 2);
        assert_eq!(counts.0, vec![Some(1), None]);
    }

    #[test]
    fn decimals_compare_by_sign_first() {
        let bytes = |value: i16| value.to_be_bytes();
        assert_eq!(signed_big_endian(&bytes(-1), &bytes(1)), Some(Ordering::Less));
        assert_eq!(signed_big_endian(&bytes(-2), &bytes(-1)), Some(Ordering::Less));
        assert_eq!(signed_big_endian(&bytes(300), &bytes(2)), Some(Ordering::Greater));
        assert_eq!(signed_big_endian(&[1], &[0, 1]), None);
    }
}
