//! What the page headers of a column chunk claim, before anything is decompressed.
//!
//! What a page may inflate to is bounded by these claims for Snappy, Zstandard and raw LZ4, whose decoders fill a
//! buffer of the claimed size, and for the other codecs too: see `watch`, which also looks at what is in the pages.

use std::ops::Range;

use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::OffsetIndexMetaData;

use super::budget::natural;
use super::decode::find;
use super::fetch::Extent;
use super::footer::too_large;
use super::forms;
use super::slices::{Slice, beside_a_value, is_flat};
use super::thrift::{Kind, Malformed, Walker};
use crate::quarantine::QuarantineReason;

/// Most values in a page of a list: all of them may belong to one row, which is decoded at once.
const MAX_LIST_PAGE_VALUES: u64 = 4 << 20;
/// Most bytes that these may take where all are of one width; a null takes as much as any.
const MAX_LIST_PAGE_BYTES: u64 = 64 << 20;

/// What decoding a slice takes, by the claims of its pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    /// What each leaf column holds at once while it is being decoded.
    pub(super) open: Vec<u64>,
    /// Bytes of a decoded row.
    pub(super) row_width: u64,
}

impl Measured {
    /// What all leaf columns together hold at once.
    pub(super) fn resident(&self) -> u64 {
        self.open.iter().fold(0, |sum, open| sum.saturating_add(*open))
    }
}

/// What decoding a slice that has been fetched takes.
pub(super) fn measure(slice: &Slice, extents: &[Extent]) -> Result<Measured, QuarantineReason> {
    let rows = slice.rows.len().max(1) as u64;
    let mut measured = Measured::default();
    for column in &slice.columns {
        let mut sizes = PageSizes::default();
        for range in &column.ranges {
            let bytes = find(extents, range);
            let bytes = bytes.ok_or_else(|| QuarantineReason::corrupt("a column chunk out of reach"))?;
            sizes.add(&bytes, range.start)?;
        }
        // Pages are read where the index says: elsewhere, their headers might claim anything.
        if column.pages.as_ref().is_some_and(|told| *told != sizes.pages) {
            return Err(contradiction());
        }
        let widest_list = sizes.most_values.saturating_mul(column.width.unwrap_or(1));
        match column.values {
            // Also keeps an offset index from pairing values with other rows.
            Some(values) if values != sizes.values => {
                return Err(QuarantineReason::corrupt(
                    "pages hold another number of values than rows",
                ));
            }
            None if sizes.most_values > MAX_LIST_PAGE_VALUES => {
                return Err(too_large("values in a page", sizes.most_values, MAX_LIST_PAGE_VALUES));
            }
            None if widest_list > MAX_LIST_PAGE_BYTES => {
                return Err(too_large("bytes of a list", widest_list, MAX_LIST_PAGE_BYTES));
            }
            _ => {}
        }
        measured.open.push(sizes.resident().saturating_add(column.decoder));
        let width = column.width.unwrap_or_else(|| sizes.value_width());
        let width = width + beside_a_value(column.values.is_some(), column.width.is_some());
        let width = width.saturating_mul(sizes.values).div_ceil(rows);
        measured.row_width = measured.row_width.saturating_add(width);
    }
    Ok(measured)
}

/// Checks that the offset index of a column chunk of `rows` rows leads to its pages, and to their rows as far as that
/// is told.
pub(super) fn check_offset_index(
    bytes: &[u8],
    chunk: &ColumnChunkMetaData,
    index: &OffsetIndexMetaData,
    rows: u64,
) -> Result<(), QuarantineReason> {
    let mut pages = index.page_locations().iter().peekable();
    let (mut rest, mut values) = (bytes, 0_u64);
    while !rest.is_empty() {
        let offset = chunk.byte_range().0 + (bytes.len() - rest.len()) as u64;
        let page = header(rest).map_err(|e| QuarantineReason::corrupt(format!("page header {e}")))?;
        let body = usize::try_from(page.compressed).ok();
        let length = body.and_then(|body| page.length.checked_add(body));
        rest = length.and_then(|length| rest.get(length..)).ok_or_else(contradiction)?;
        if page.uncompressed > natural(chunk.uncompressed_size()) {
            return Err(QuarantineReason::corrupt("a page claims more than its column chunk"));
        }
        if page.is_dictionary {
            continue;
        }
        let told = pages.next().ok_or_else(contradiction)?;
        let end = pages.peek().map_or(rows, |next| natural(next.first_row_index));
        let length = length.and_then(|length| u64::try_from(length).ok());
        let holds = natural(told.offset) == offset
            && u64::try_from(told.compressed_page_size).ok() == length
            && natural(told.first_row_index) <= end
            && (!is_flat(chunk)
                || (natural(told.first_row_index), end) == (values, values.saturating_add(page.values)));
        if !holds {
            return Err(contradiction());
        }
        values = values.saturating_add(page.values);
    }
    let is_whole = pages.next().is_none() && values == natural(chunk.num_values());
    if is_whole { Ok(()) } else { Err(contradiction()) }
}

fn contradiction() -> QuarantineReason {
    QuarantineReason::corrupt("the offset index contradicts the pages")
}

/// Sizes of the pages of (a part of) a column chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PageSizes {
    /// Dictionary page, uncompressed.
    dictionary: u64,
    /// Values in the dictionary.
    dictionary_values: u64,
    /// Largest data page, uncompressed.
    largest: u64,
    /// All data pages, uncompressed.
    data: u64,
    /// Values of the data page that has most of them.
    most_values: u64,
    /// Values of all data pages, nulls included.
    values: u64,
    /// Where the data pages are.
    pages: Vec<Range<u64>>,
}

impl PageSizes {
    /// Bytes that decoding holds at once: the dictionary, and one page.
    fn resident(&self) -> u64 {
        self.dictionary.saturating_add(self.largest)
    }

    /// About how many bytes a value takes when decoded.
    fn value_width(&self) -> u64 {
        let plain = self.data.checked_div(self.values).unwrap_or(0);
        let dictionary = self.dictionary.checked_div(self.dictionary_values).unwrap_or(0);
        plain.max(dictionary)
    }

    /// Adds the pages whose headers and bodies fill `bytes`, which lie at `start`.
    fn add(&mut self, bytes: &[u8], start: u64) -> Result<(), QuarantineReason> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = start.saturating_add((bytes.len() - rest.len()) as u64);
            let page = header(rest).map_err(|e| QuarantineReason::corrupt(format!("page header {e}")))?;
            rest = usize::try_from(page.compressed)
                .ok()
                .and_then(|body| page.length.checked_add(body))
                .and_then(|length| rest.get(length..))
                .ok_or_else(|| QuarantineReason::corrupt("a page is longer than its column chunk"))?;
            if page.is_dictionary {
                self.dictionary = self.dictionary.max(page.uncompressed);
                self.dictionary_values = self.dictionary_values.max(page.values);
            } else {
                self.largest = self.largest.max(page.uncompressed);
                self.data = self.data.saturating_add(page.uncompressed);
                self.most_values = self.most_values.max(page.values);
                self.values = self.values.saturating_add(page.values);
                let end = start.saturating_add((bytes.len() - rest.len()) as u64);
                self.pages.push(at..end);
            }
        }
        Ok(())
    }
}

/// What a page says of itself.
#[derive(Debug, Default)]
pub(super) struct PageHeader {
    /// Of the header itself.
    pub(super) length: usize,
    pub(super) compressed: u64,
    pub(super) uncompressed: u64,
    values: u64,
    pub(super) is_dictionary: bool,
}

/// Types of pages (parquet-format, `PageType`). Nobody writes the one between: pages of an index.
const DATA_PAGE: i64 = 0;
const DICTIONARY_PAGE: i64 = 2;
const DATA_PAGE_V2: i64 = 3;

/// Reads a `PageHeader` (parquet-format, `parquet.thrift`).
pub(super) fn header(bytes: &[u8]) -> Result<PageHeader, Malformed> {
    let mut page = PageHeader::default();
    let mut walker = Walker::new(bytes);
    walker.fields(forms::PAGE_HEADER, |walker, id, kind| {
        match (id, kind) {
            (1, _) => {
                page.is_dictionary = match walker.int(kind)? {
                    DATA_PAGE | DATA_PAGE_V2 => false,
                    DICTIONARY_PAGE => true,
                    _ => return Err(Malformed::Unknown),
                }
            }
            (2, _) => page.uncompressed = count(walker, kind)?,
            (3, _) => page.compressed = count(walker, kind)?,
            (5, _) => page.values = values(walker, forms::DATA_PAGE_HEADER)?,
            (7, _) => page.values = values(walker, forms::DICTIONARY_PAGE_HEADER)?,
            (8, _) => page.values = values(walker, forms::DATA_PAGE_HEADER_V2)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    page.length = walker.position();
    Ok(page)
}

/// The count of values, with which the header of each kind of page begins.
fn values(walker: &mut Walker<'_>, known: forms::Fields) -> Result<u64, Malformed> {
    let mut values = 0;
    walker.fields(known, |walker, id, kind| {
        if id == 1 {
            values = count(walker, kind)?;
        }
        Ok(id == 1)
    })?;
    Ok(values)
}

fn count(walker: &mut Walker<'_>, kind: Kind) -> Result<u64, Malformed> {
    u64::try_from(walker.int(kind)?).map_err(|_| Malformed::Unknown)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::{OffsetIndexBuilder, PageIndexPolicy, ParquetMetaDataReader};
    use parquet::file::properties::WriterProperties;

    use super::*;

    #[test]
    fn sizes_are_those_that_the_headers_claim() {
        let strings: Vec<_> = (0..1000).map(|i| format!("value {}", i % 10)).collect();
        let batch = RecordBatch::try_from_iter([("s", Arc::new(StringArray::from(strings)) as _)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let file = bytes::Bytes::from(writer.into_inner().unwrap());
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).unwrap();
        let (start, length) = metadata.row_group(0).column(0).byte_range();
        let (start, length) = (usize::try_from(start).unwrap(), usize::try_from(length).unwrap());
        let mut sizes = PageSizes::default();
        sizes.add(&file[start..start + length], 0).unwrap();
        assert_eq!(sizes.dictionary_values, 10);
        assert_eq!(sizes.dictionary, 10 * (4 + 7));
        assert_eq!(sizes.values, 1000);
        let short = PageSizes::default()
            .add(&file[start..start + length - 1], 0)
            .unwrap_err();
        assert_eq!(
            short,
            QuarantineReason::corrupt("a page is longer than its column chunk")
        );
    }

    /// A file of one column chunk of two pages.
    fn two_pages() -> bytes::Bytes {
        let batch = RecordBatch::try_from_iter([("i", Arc::new(Int64Array::from_iter_values(0..20)) as _)]).unwrap();
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_write_batch_size(10)
            .set_data_page_row_count_limit(10)
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap().into()
    }

    /// A chunk of two pages with a page without values before the second one, as pyarrow writes it at times.
    #[test]
    fn pages_without_values_are_where_the_index_says() {
        let file = two_pages();
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
        let metadata = reader.parse_and_finish(&file).unwrap();
        let chunk = metadata.row_group(0).column(0);
        let index = metadata.page_index_for_row_group(0).offset_index(0).unwrap().clone();
        let (start, length) = chunk.byte_range();
        let (start, length) = (usize::try_from(start).unwrap(), usize::try_from(length).unwrap());
        let bytes = &file[start..start + length];
        check_offset_index(bytes, chunk, &index, 20).unwrap();
        assert!(check_offset_index(bytes, chunk, &index, 21).is_err());
        // The fields of a page header in Thrift's compact form: a data page of no bytes and no values.
        let empty = [
            0x15, 0, 0x15, 0, 0x15, 0, 0x2c, 0x15, 0, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0,
        ];
        let [first, second] = [&index.page_locations()[0], &index.page_locations()[1]];
        let cut = usize::try_from(second.offset).unwrap() - start;
        let with_empty = [&bytes[..cut], &empty, &bytes[cut..]].concat();
        let size = i32::try_from(empty.len()).unwrap();
        let mut builder = OffsetIndexBuilder::new();
        for (offset, size, rows) in [
            (first.offset, first.compressed_page_size, 10),
            (second.offset, size, 0),
            (second.offset + i64::from(size), second.compressed_page_size, 10),
        ] {
            builder.append_offset_and_size(offset, size);
            builder.append_row_count(rows);
        }
        let index = builder.build();
        check_offset_index(&with_empty, chunk, &index, 20).unwrap();
        assert!(check_offset_index(bytes, chunk, &index, 20).is_err());
    }

    #[test]
    fn pages_elsewhere_than_the_index_says_are_not_read() {
        let file = two_pages();
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).unwrap();
        let extents = [Extent { start: 0, bytes: file }];
        let mut slice = Slice::whole(metadata.row_group(0));
        let column = &mut slice.columns[0];
        let mut sizes = PageSizes::default();
        let range = column.ranges[0].clone();
        sizes.add(&find(&extents, &range).unwrap(), range.start).unwrap();
        assert_eq!(sizes.pages.len(), 2);
        column.pages = Some(sizes.pages.clone());
        measure(&slice, &extents).unwrap();
        // Within the first page, where its values may look like any header.
        sizes.pages[1].start -= 30;
        slice.columns[0].pages = Some(sizes.pages);
        assert_eq!(measure(&slice, &extents), Err(contradiction()));
    }

    #[test]
    fn an_index_page_is_refused() {
        assert!(header(&[0x15, 2, 0x15, 0, 0x15, 0, 0]).is_err());
        assert!(header(&[0x15, 6, 0x15, 0, 0x15, 0, 0]).is_ok());
    }
}
