//! Which bytes of a row group are read at once.

use std::ops::Range;

use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;

use super::budget::natural;
use crate::quarantine::QuarantineReason;

/// A page is assumed to be no larger than this until its header has been seen.
const USUAL_PAGE_BYTES: u64 = 2 << 20;

/// Rows of a row group that are read at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    /// The rows, counted in the row group.
    pub(super) rows: Range<usize>,
    /// What of each leaf column is read.
    pub(super) columns: Vec<ColumnSlice>,
}

/// What of a leaf column is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnSlice {
    /// The dictionary if there is one, then the pages.
    pub(super) ranges: Vec<Range<u64>>,
    /// How many values the pages must hold; `None` for lists, whose rows have any number of them.
    pub(super) values: Option<u64>,
}

impl Slice {
    /// The whole row group.
    pub(super) fn whole(group: &RowGroupMetaData) -> Self {
        let columns = group.columns().iter().map(|chunk| {
            let (start, length) = chunk.byte_range();
            let whole = start..start.saturating_add(length);
            ColumnSlice {
                ranges: vec![whole],
                values: is_flat(chunk).then_some(natural(group.num_rows())),
            }
        });
        Self {
            rows: 0..rows_of(group),
            columns: columns.collect(),
        }
    }

    /// All ranges.
    pub(super) fn ranges(&self) -> Vec<Range<u64>> {
        self.columns.iter().flat_map(|column| &column.ranges).cloned().collect()
    }
}

/// Bytes that reading the whole row group would hold, as far as the footer tells: what is fetched, and what is
/// decompressed of it at once.
pub(super) fn cost(group: &RowGroupMetaData) -> u64 {
    group.columns().iter().fold(0, |sum: u64, chunk| {
        let resident = natural(chunk.uncompressed_size()).min(USUAL_PAGE_BYTES);
        sum.saturating_add(natural(chunk.compressed_size()))
            .saturating_add(resident)
    })
}

/// Whether the row group can be read in parts.
pub(super) fn is_divisible(group: &RowGroupMetaData) -> bool {
    group.columns().iter().all(|chunk| chunk.offset_index_range().is_some())
}

/// Why a row group cannot be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Indivisible {
    /// The index is wrong.
    Bad(QuarantineReason),
    /// One page of every column already costs this much.
    Costs(u64),
}

/// Cuts a row group into slices that each cost at most `limit`, at page boundaries of its largest column.
pub(super) fn divide(
    group: &RowGroupMetaData,
    index: &[OffsetIndexMetaData],
    limit: u64,
) -> Result<Vec<Slice>, Indivisible> {
    let rows = rows_of(group);
    let columns = columns(group, index).map_err(Indivisible::Bad)?;
    let largest = columns.iter().max_by_key(|column| column.compressed());
    let mut cuts: Vec<usize> =
        largest.map_or_else(Vec::new, |column| column.pages.iter().map(|p| p.first_row).collect());
    cuts.push(rows);
    let mut slices = Vec::new();
    let mut start = 0;
    while start < rows {
        let next = cuts.partition_point(|cut| *cut <= start);
        let ahead = cuts.get(next..).unwrap_or_default();
        // Cost grows with the end, so the furthest one that fits is found by halving.
        let fitting = ahead.partition_point(|end| columns.iter().map(|c| c.cost(&(start..*end))).sum::<u64>() <= limit);
        let Some(end) = fitting.checked_sub(1).and_then(|last| ahead.get(last)) else {
            let least = ahead
                .first()
                .map_or(0, |end| columns.iter().map(|c| c.cost(&(start..*end))).sum());
            return Err(Indivisible::Costs(least));
        };
        slices.push(Slice {
            rows: start..*end,
            columns: columns.iter().map(|column| column.slice(&(start..*end))).collect(),
        });
        start = *end;
    }
    Ok(slices)
}

/// The pages of a column chunk.
struct Column {
    is_flat: bool,
    dictionary: Option<Range<u64>>,
    pages: Vec<PageExtent>,
    /// Uncompressed over compressed bytes, rounded up.
    ratio: u64,
}

struct PageExtent {
    first_row: usize,
    /// First row of the page after it.
    end_row: usize,
    bytes: Range<u64>,
}

fn columns(group: &RowGroupMetaData, index: &[OffsetIndexMetaData]) -> Result<Vec<Column>, QuarantineReason> {
    let corrupt = || QuarantineReason::corrupt("the offset index contradicts the footer");
    if index.len() != group.num_columns() {
        return Err(corrupt());
    }
    let columns = group.columns().iter().zip(index).map(|(chunk, index)| {
        let (start, length) = chunk.byte_range();
        let mut pages = Vec::with_capacity(index.page_locations().len());
        let mut last = (start, None);
        for page in index.page_locations() {
            let offset = u64::try_from(page.offset).map_err(|_| corrupt())?;
            let size = u64::try_from(page.compressed_page_size).map_err(|_| corrupt())?;
            let first_row = usize::try_from(page.first_row_index).map_err(|_| corrupt())?;
            let end = offset.saturating_add(size);
            let in_order = last.1.map_or(first_row == 0, |row| row < first_row);
            if offset < last.0 || end > start.saturating_add(length) || !in_order || first_row >= rows_of(group) {
                return Err(corrupt());
            }
            last = (end, Some(first_row));
            pages.push(PageExtent {
                first_row,
                end_row: rows_of(group),
                bytes: offset..end,
            });
        }
        let next_rows: Vec<usize> = pages.iter().skip(1).map(|page: &PageExtent| page.first_row).collect();
        for (page, next_row) in pages.iter_mut().zip(next_rows) {
            page.end_row = next_row;
        }
        let first = pages.first().ok_or_else(corrupt)?.bytes.start;
        Ok(Column {
            is_flat: is_flat(chunk),
            dictionary: (first > start).then_some(start..first),
            pages,
            ratio: natural(chunk.uncompressed_size())
                .div_ceil(natural(chunk.compressed_size()).max(1))
                .max(1),
        })
    });
    columns.collect()
}

impl Column {
    fn compressed(&self) -> u64 {
        self.pages.iter().map(|page| page.bytes.end - page.bytes.start).sum()
    }

    /// Pages that hold any of `rows`.
    fn pages(&self, rows: &Range<usize>) -> &[PageExtent] {
        let first = self
            .pages
            .partition_point(|page| page.first_row <= rows.start)
            .saturating_sub(1);
        let end = self.pages.partition_point(|page| page.first_row < rows.end);
        self.pages.get(first..end).unwrap_or_default()
    }

    fn cost(&self, rows: &Range<usize>) -> u64 {
        let length = |range: &Range<u64>| range.end - range.start;
        let pages = self.pages(rows);
        let fetched: u64 = pages.iter().map(|page| length(&page.bytes)).sum();
        let largest = pages.iter().map(|page| length(&page.bytes)).max().unwrap_or(0);
        let dictionary = self.dictionary.as_ref().map_or(0, length);
        fetched
            .saturating_add(dictionary)
            .saturating_add(largest.saturating_add(dictionary).saturating_mul(self.ratio))
    }

    fn slice(&self, rows: &Range<usize>) -> ColumnSlice {
        let mut ranges: Vec<_> = self.dictionary.iter().cloned().collect();
        let pages = self.pages(rows);
        if let (Some(first), Some(last)) = (pages.first(), pages.last()) {
            ranges.push(first.bytes.start..last.bytes.end);
        }
        let values = match (pages.first(), pages.last()) {
            (Some(first), Some(last)) if self.is_flat => Some((last.end_row - first.first_row) as u64),
            _ => None,
        };
        ColumnSlice { ranges, values }
    }
}

/// Whether every row has one value.
fn is_flat(chunk: &ColumnChunkMetaData) -> bool {
    chunk.column_descr().max_rep_level() == 0
}

fn rows_of(group: &RowGroupMetaData) -> usize {
    usize::try_from(group.num_rows()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
    use parquet::file::properties::WriterProperties;

    use super::*;

    /// A row group of 100 rows in pages of 10.
    fn file() -> (ParquetMetaData, Vec<OffsetIndexMetaData>) {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values((0..100).map(|i| i * 1_000_003)));
        let batch = RecordBatch::try_from_iter([("a", Arc::clone(&values)), ("b", values)]).unwrap();
        let properties = WriterProperties::builder()
            .set_data_page_row_count_limit(10)
            .set_write_batch_size(10)
            .set_dictionary_enabled(false)
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        let bytes = Bytes::from(writer.into_inner().unwrap());
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
        let metadata = reader.parse_and_finish(&bytes).unwrap();
        let index = metadata.page_index_for_row_group(0);
        let index = (0..2)
            .map(|column| index.offset_index(column).unwrap().clone())
            .collect();
        (metadata, index)
    }

    #[test]
    fn slices_cover_the_rows_once_and_cost_no_more_than_allowed() {
        let (metadata, index) = file();
        let group = metadata.row_group(0);
        let whole = divide(group, &index, u64::MAX).unwrap();
        assert_eq!((whole.len(), whole[0].rows.clone()), (1, 0..100));
        let all = columns(group, &index).unwrap();
        let limit = all.iter().map(|column| column.cost(&(0..30))).sum();
        let slices = divide(group, &index, limit).unwrap();
        let rows: Vec<_> = slices.iter().map(|slice| slice.rows.clone()).collect();
        assert_eq!(rows, [0..30, 30..60, 60..90, 90..100]);
        assert_eq!(slices[1].columns[1].values, Some(30));
        let bytes: u64 = slices
            .iter()
            .flat_map(Slice::ranges)
            .map(|range| range.end - range.start)
            .sum();
        assert_eq!(
            bytes,
            group.columns().iter().map(|chunk| chunk.byte_range().1).sum::<u64>()
        );
    }

    #[test]
    fn a_page_that_costs_too_much_says_how_much() {
        let (metadata, index) = file();
        let group = metadata.row_group(0);
        let one: u64 = columns(group, &index)
            .unwrap()
            .iter()
            .map(|column| column.cost(&(0..10)))
            .sum();
        assert_eq!(divide(group, &index, one - 1), Err(Indivisible::Costs(one)));
    }

    #[test]
    fn an_index_that_contradicts_the_footer_is_bad() {
        let (metadata, mut index) = file();
        index[1].page_locations[3].first_row_index = 5;
        assert!(matches!(
            divide(metadata.row_group(0), &index, u64::MAX),
            Err(Indivisible::Bad(_))
        ));
        index.pop();
        assert!(matches!(
            divide(metadata.row_group(0), &index, u64::MAX),
            Err(Indivisible::Bad(_))
        ));
    }
}
