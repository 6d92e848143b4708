//! Which bytes of a row group are read at once.

use std::ops::Range;

use parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;

use super::budget::{allotment_for, decoder_bytes, fetch_limit, natural};
use crate::quarantine::QuarantineReason;

/// A page is assumed to be no larger than this until its header has been seen.
const USUAL_PAGE_BYTES: u64 = 2 << 20;
/// What a decoded array takes beside its values.
const ARRAY_BYTES: u64 = 400;
/// What the encoded keys of a row usually take.
const KEY_BYTES: u64 = 48;

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
    /// Where an offset index says that the data pages are, if they are read by it.
    pub(super) pages: Option<Vec<Range<u64>>>,
    /// How many values the pages must hold; `None` for lists, whose rows have any number of them.
    pub(super) values: Option<u64>,
    /// Bytes of a decoded value, where all are alike.
    pub(super) width: Option<u64>,
    /// What the decoder takes beside the pages.
    pub(super) decoder: u64,
}

impl Slice {
    /// The whole row group.
    pub(super) fn whole(group: &RowGroupMetaData) -> Self {
        let columns = group.columns().iter().map(|chunk| {
            let (start, length) = chunk.byte_range();
            let whole = start..start.saturating_add(length);
            ColumnSlice {
                ranges: vec![whole],
                pages: None,
                values: is_flat(chunk).then_some(natural(group.num_rows())),
                width: fixed_width(chunk),
                decoder: decoder_bytes(chunk.compression()),
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

/// The allotment that reading the whole row group batch by batch needs, as far as the footer tells: for what is
/// fetched, for what is decompressed of it at once, and for the decoders, all of which are open.
pub(super) fn cost_in_batches(group: &RowGroupMetaData) -> u64 {
    let cost = group.columns().iter().fold(0, |sum: u64, chunk| {
        let resident = natural(chunk.uncompressed_size()).min(USUAL_PAGE_BYTES);
        sum.saturating_add(natural(chunk.compressed_size()))
            .saturating_add(resident)
            .saturating_add(decoder_bytes(chunk.compression()))
    });
    allotment_for(cost)
}

/// The allotment that decoding the whole row group at once needs, as far as the footer tells: for what is fetched
/// and for all of its rows. Few decoders are open then.
pub(super) fn cost_at_once(group: &RowGroupMetaData) -> u64 {
    let columns = group.columns().iter();
    let fetched = columns.clone().fold(0, |sum: u64, chunk| {
        sum.saturating_add(natural(chunk.compressed_size()))
    });
    let decoded = columns.fold(0, |sum: u64, chunk| sum.saturating_add(decoded_bytes(chunk)));
    at_once(fetched, decoded, natural(group.num_rows()), group.num_columns() as u64)
}

/// The allotment for so many bytes fetched and decoded at once.
pub(super) fn at_once(fetched: u64, decoded: u64, rows: u64, leaves: u64) -> u64 {
    fetched
        .saturating_add(decoded)
        .saturating_add(decoded / 8)
        .saturating_add(rows.saturating_mul(KEY_BYTES))
        .saturating_add(leaves.saturating_mul(ARRAY_BYTES))
}

/// About how many bytes the values of a column chunk take when decoded.
fn decoded_bytes(chunk: &ColumnChunkMetaData) -> u64 {
    let values = natural(chunk.num_values());
    let data = match fixed_width(chunk) {
        Some(width) => width.saturating_mul(values),
        None => {
            let told = chunk.unencoded_byte_array_data_bytes().map(natural);
            told.unwrap_or_else(|| natural(chunk.uncompressed_size()))
        }
    };
    data.saturating_add(values.saturating_mul(beside_a_value(is_flat(chunk), fixed_width(chunk).is_some())))
}

/// Bytes of validity, offsets and levels of a value.
pub(super) fn beside_a_value(is_flat: bool, is_fixed: bool) -> u64 {
    1 + if is_flat { 0 } else { 8 } + if is_fixed { 0 } else { 5 }
}

/// Bytes of a decoded value, where all are alike.
fn fixed_width(chunk: &ColumnChunkMetaData) -> Option<u64> {
    let column = chunk.column_descr();
    let is_decimal = matches!(column.logical_type_ref(), Some(LogicalType::Decimal(_)))
        || column.converted_type() == ConvertedType::DECIMAL;
    match column.physical_type() {
        PhysicalType::BYTE_ARRAY => None,
        PhysicalType::FIXED_LEN_BYTE_ARRAY => Some(u64::try_from(column.type_length()).unwrap_or(0).max(16)),
        _ if is_decimal => Some(16),
        PhysicalType::BOOLEAN => Some(1),
        PhysicalType::INT32 | PhysicalType::FLOAT => Some(4),
        PhysicalType::INT64 | PhysicalType::DOUBLE => Some(8),
        // Decoded twice.
        PhysicalType::INT96 => Some(24),
    }
}

/// Whether the row group can be read in parts.
pub(super) fn is_divisible(group: &RowGroupMetaData) -> bool {
    group.columns().iter().all(|chunk| chunk.offset_index_range().is_some())
}

/// A row group that is cut into slices at page boundaries of its largest column.
#[derive(Debug)]
pub(super) struct Division {
    columns: Vec<Column>,
    /// Where a slice may end.
    cuts: Vec<usize>,
    start: usize,
    /// Most steps from cut to cut in one slice.
    most: usize,
}

impl Division {
    /// Prepares to cut a row group by its offset index.
    pub(super) fn new(group: &RowGroupMetaData, index: &[OffsetIndexMetaData]) -> Result<Self, QuarantineReason> {
        let columns = columns(group, index)?;
        let largest = columns.iter().max_by_key(|column| column.compressed());
        let mut cuts: Vec<usize> =
            largest.map_or_else(Vec::new, |column| column.pages.iter().map(|p| p.first_row).collect());
        cuts.push(rows_of(group));
        cuts.dedup();
        Ok(Self {
            columns,
            cuts,
            start: 0,
            most: usize::MAX,
        })
    }

    /// The next slice, as many pages as `allotment` has room for; `None` after the last. An error says what a page
    /// of every column would need.
    pub(super) fn next(&mut self, allotment: u64) -> Option<Result<Slice, u64>> {
        let start = self.start;
        let next = self.cuts.partition_point(|cut| *cut <= start);
        let ahead = self.cuts.get(next..).unwrap_or_default();
        let least = *ahead.first()?;
        // Cost grows with the end, so the furthest one that fits is found by halving.
        let fitting = ahead.partition_point(|end| self.fits(&(start..*end), allotment));
        let fitting = fitting.min(self.most);
        let Some(end) = fitting.checked_sub(1).and_then(|last| ahead.get(last)).copied() else {
            return Some(Err(self.need(&(start..least))));
        };
        Some(Ok(self.cut(start..end)))
    }

    /// The first half of the last slice, which takes more than was told; `None` if it cannot be cut. Those to come
    /// have no more pages.
    pub(super) fn smaller(&mut self, slice: &Slice) -> Option<Slice> {
        let first = self.cuts.partition_point(|cut| *cut <= slice.rows.start);
        let end = self.cuts.partition_point(|cut| *cut <= slice.rows.end);
        let half = end.saturating_sub(first) / 2;
        let last = *self.cuts.get(first.checked_add(half)?.checked_sub(1)?)?;
        if half == 0 {
            return None;
        }
        self.most = half;
        Some(self.cut(slice.rows.start..last))
    }

    fn cut(&mut self, rows: Range<usize>) -> Slice {
        self.start = rows.end;
        let columns = self.columns.iter().map(|column| column.slice(&rows)).collect();
        Slice { rows, columns }
    }

    pub(super) fn is_done(&self) -> bool {
        self.cuts.last().is_none_or(|end| self.start >= *end)
    }

    /// About what this itself takes.
    pub(super) fn memory_size(&self) -> u64 {
        let pages: usize = self.columns.iter().map(|column| column.pages.len()).sum();
        // As it is here and as it has been read.
        (pages * (size_of::<PageExtent>() + 24)) as u64
    }

    fn fits(&self, rows: &Range<usize>, allotment: u64) -> bool {
        self.in_batches(rows) <= fetch_limit(allotment) || self.at_once(rows) <= allotment
    }

    fn need(&self, rows: &Range<usize>) -> u64 {
        allotment_for(self.in_batches(rows)).min(self.at_once(rows))
    }

    fn in_batches(&self, rows: &Range<usize>) -> u64 {
        self.columns.iter().fold(0, |sum: u64, column| {
            sum.saturating_add(column.fetched(rows))
                .saturating_add(column.resident(rows))
                .saturating_add(column.decoder)
        })
    }

    fn at_once(&self, rows: &Range<usize>) -> u64 {
        let columns = self.columns.iter();
        let fetched = columns
            .clone()
            .fold(0, |sum: u64, column| sum.saturating_add(column.fetched(rows)));
        let count = rows.len() as u64;
        let decoded = columns.fold(0, |sum: u64, column| {
            sum.saturating_add(column.row_bytes.saturating_mul(count))
        });
        at_once(fetched, decoded, count, self.columns.len() as u64)
    }
}

/// The pages of a column chunk.
#[derive(Debug)]
struct Column {
    is_flat: bool,
    width: Option<u64>,
    decoder: u64,
    /// About how many bytes a row takes when decoded.
    row_bytes: u64,
    dictionary: Option<Range<u64>>,
    pages: Vec<PageExtent>,
    /// Uncompressed over compressed bytes, rounded up.
    ratio: u64,
}

#[derive(Debug)]
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
            // Some writers leave a page without rows behind.
            let in_order = last.1.map_or(first_row == 0, |row| row <= first_row);
            if offset < last.0 || end > start.saturating_add(length) || !in_order || first_row > rows_of(group) {
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
            width: fixed_width(chunk),
            decoder: decoder_bytes(chunk.compression()),
            row_bytes: decoded_bytes(chunk).div_ceil(natural(group.num_rows()).max(1)),
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
        // One without rows comes before another of the same first row, and is read with it.
        let from = self.pages.partition_point(|page| page.first_row < rows.start);
        let begins = self.pages.get(from).is_some_and(|page| page.first_row == rows.start);
        let first = if begins { from } else { from.saturating_sub(1) };
        let end = self.pages.partition_point(|page| page.first_row < rows.end);
        self.pages.get(first..end).unwrap_or_default()
    }

    /// Bytes of the dictionary and the pages.
    fn fetched(&self, rows: &Range<usize>) -> u64 {
        let pages: u64 = self.pages(rows).iter().map(|page| length(&page.bytes)).sum();
        pages.saturating_add(self.dictionary.as_ref().map_or(0, length))
    }

    /// Bytes of the dictionary and the largest page when decompressed.
    fn resident(&self, rows: &Range<usize>) -> u64 {
        let pages = self.pages(rows).iter();
        let largest = pages.map(|page| length(&page.bytes)).max().unwrap_or(0);
        let dictionary = self.dictionary.as_ref().map_or(0, length);
        largest.saturating_add(dictionary).saturating_mul(self.ratio)
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
        ColumnSlice {
            ranges,
            pages: Some(pages.iter().map(|page| page.bytes.clone()).collect()),
            values,
            width: self.width,
            decoder: self.decoder,
        }
    }
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

/// Whether every row has one value.
pub(super) fn is_flat(chunk: &ColumnChunkMetaData) -> bool {
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

    fn divide(division: &mut Division, allotment: u64) -> Result<Vec<Slice>, u64> {
        std::iter::from_fn(|| division.next(allotment)).collect()
    }

    #[test]
    fn slices_cover_the_rows_once_and_cost_no_more_than_allowed() {
        let (metadata, index) = file();
        let group = metadata.row_group(0);
        let division = || Division::new(group, &index).unwrap();
        let whole = divide(&mut division(), u64::MAX).unwrap();
        assert_eq!((whole.len(), whole[0].rows.clone()), (1, 0..100));
        let allotment = division().need(&(0..30));
        let slices = divide(&mut division(), allotment).unwrap();
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
    fn a_slice_that_takes_more_than_told_is_halved_down_to_a_page() {
        let (metadata, index) = file();
        let mut division = Division::new(metadata.row_group(0), &index).unwrap();
        let mut slice = division.next(division.need(&(0..50))).unwrap().unwrap();
        let mut ends = vec![slice.rows.end];
        while let Some(smaller) = division.smaller(&slice) {
            slice = smaller;
            ends.push(slice.rows.end);
        }
        assert_eq!(ends, [50, 20, 10]);
        assert_eq!(division.next(u64::MAX).unwrap().unwrap().rows, 10..20);
    }

    #[test]
    fn a_page_that_costs_too_much_says_how_much() {
        let (metadata, index) = file();
        let mut division = Division::new(metadata.row_group(0), &index).unwrap();
        let one = division.need(&(0..10));
        assert_eq!(divide(&mut division, one - 1), Err(one));
    }

    #[test]
    fn an_index_that_contradicts_the_footer_is_bad() {
        let (metadata, mut index) = file();
        index[1].page_locations[3].first_row_index = 5;
        assert!(Division::new(metadata.row_group(0), &index).is_err());
        index.pop();
        assert!(Division::new(metadata.row_group(0), &index).is_err());
    }

    #[test]
    fn what_rows_take_when_decoded_follows_from_their_types() {
        let (metadata, _) = file();
        let chunk = metadata.row_group(0).column(0);
        assert_eq!((fixed_width(chunk), decoded_bytes(chunk)), (Some(8), 900));
    }
}
