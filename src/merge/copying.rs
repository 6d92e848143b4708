//! Row groups that are copied as they are, undecoded but for their keys.
//!
//! That is done where all their keys come before what is left of the other inputs, and where they are as good as what
//! would be written in their place: about as many rows or bytes, the codec that is asked for, statistics and page
//! indexes. What footers tell of keys is believed until the keys are read, which they are before a row comes after
//! them. The pages of other columns are only walked from header to header: whether they can be decoded, and whether
//! their statistics are true, is as their writer left it. But floats are decoded where their NaNs have not been counted.

use std::mem::discriminant;
use std::ops::Range;
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, Type as PhysicalType};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::{BasicTypeInfo, SchemaDescriptor, Type};

use super::budget::{Held, natural, to_usize};
use super::chain::Span;
use super::decode::{Extents, find};
use super::error::{MergeError, SourceError};
use super::fetch::{Extent, fetch_ranges, length};
use super::float_check::count_nans;
use super::floats;
use super::input::Input;
use super::pages::check_offset_index;
use super::row_group::encoding;
use super::spawner::{Spawner, start_or_keep};
use crate::options::SortField;
use crate::quarantine::QuarantineReason;

/// What a row group must be to be copied.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// The columns of the outputs.
    pub(super) columns: Arc<SchemaDescriptor>,
    pub(super) sort_order: Vec<SortField>,
    pub(super) codec: Compression,
    /// It must have so many compressed bytes or so many rows,
    pub(super) least_bytes: u64,
    pub(super) least_rows: u64,
    /// and no more than these.
    pub(super) most_bytes: u64,
    pub(super) most_rows: u64,
    /// No column chunk may have more: it is in memory as a whole.
    pub(super) most_chunk_bytes: u64,
    /// Nor may its page indexes have more, which are in memory until the file is finished.
    pub(super) most_index_bytes: u64,
}

impl Rule {
    /// Whether a row group is as good in the output as what would be written in its place.
    pub(super) fn allows(&self, group: &RowGroupMetaData) -> bool {
        let (rows, bytes) = (natural(group.num_rows()), bytes_of(group));
        let is_large = bytes >= self.least_bytes || rows >= self.least_rows;
        let is_small = bytes <= self.most_bytes && rows <= self.most_rows;
        is_large
            && is_small
            && index_bytes(group) <= self.most_index_bytes
            && same_columns(group.schema_descr(), &self.columns)
            && group.columns().iter().all(|chunk| {
                discriminant(&chunk.compression()) == discriminant(&self.codec)
                    && natural(chunk.compressed_size()) <= self.most_chunk_bytes
                    && is_complete(chunk)
            })
    }
}

fn bytes_of(group: &RowGroupMetaData) -> u64 {
    let chunks = group.columns().iter();
    chunks.fold(0, |sum, chunk| sum.saturating_add(natural(chunk.compressed_size())))
}

/// Whether columns are the same in name, form and nullability, at every level: the levels of their values then mean the
/// same.
fn same_columns(a: &SchemaDescriptor, b: &SchemaDescriptor) -> bool {
    let (a, b) = (a.root_schema().get_fields(), b.root_schema().get_fields());
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_node(a, b, 0))
}

/// The names of so many levels below a list or a map differ from writer to writer, and mean nothing.
const UNNAMED_LEVELS: usize = 2;

/// The names of `unnamed` levels from this one on do not matter.
fn same_node(a: &Type, b: &Type, unnamed: usize) -> bool {
    let (of_a, of_b) = (a.get_basic_info(), b.get_basic_info());
    let repetition = |info: &BasicTypeInfo| info.has_repetition().then(|| info.repetition());
    if (unnamed == 0 && a.name() != b.name()) || repetition(of_a) != repetition(of_b) {
        return false;
    }
    if a.is_group() != b.is_group() {
        return false;
    }
    if a.is_group() {
        let (fields, others) = (a.get_fields(), b.get_fields());
        let is_collection = of_a.converted_type() != ConvertedType::NONE;
        let below = if is_collection {
            UNNAMED_LEVELS
        } else {
            unnamed.saturating_sub(1)
        };
        return of_a.converted_type() == of_b.converted_type()
            && fields.len() == others.len()
            && fields.iter().zip(others).all(|(a, b)| same_node(a, b, below));
    }
    let length = |node: &Type| match node {
        Type::PrimitiveType {
            type_length,
            physical_type: PhysicalType::FIXED_LEN_BYTE_ARRAY,
            ..
        } => Some(*type_length),
        _ => None,
    };
    a.get_physical_type() == b.get_physical_type()
        && length(a) == length(b)
        && of_a.logical_type_ref() == of_b.logical_type_ref()
}

/// Whether a chunk has what readers prune by. Floats may go without: NaN leaves them no bounds.
fn is_complete(chunk: &ColumnChunkMetaData) -> bool {
    let has_statistics = chunk.statistics().is_some_and(|statistics| {
        !Statistics::is_min_max_deprecated(statistics) && statistics.null_count_opt().is_some()
    });
    let is_float = matches!(chunk.column_type(), PhysicalType::FLOAT | PhysicalType::DOUBLE);
    let start = chunk
        .dictionary_page_offset()
        .unwrap_or_else(|| chunk.data_page_offset());
    has_statistics
        && chunk.offset_index_range().is_some()
        && (is_float || chunk.column_index_range().is_some())
        && natural(start) == chunk.byte_range().0
}

/// Encoded bytes of the page indexes of a row group.
fn index_bytes(group: &RowGroupMetaData) -> u64 {
    let ranges = group
        .columns()
        .iter()
        .flat_map(|chunk| [chunk.offset_index_range(), chunk.column_index_range()]);
    ranges
        .flatten()
        .fold(0, |sum, range| sum.saturating_add(range.end - range.start))
}

/// What a footer tells of a row group that may be copied.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) offer: Offer,
    /// Where rows have keys.
    pub(super) span: Option<Span>,
}

/// How large a row group is that may be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) rows: usize,
    /// Compressed.
    pub(super) bytes: u64,
    /// Of its page indexes, encoded.
    pub(super) index_bytes: u64,
}

impl Offer {
    pub(super) fn of(group: &RowGroupMetaData) -> Self {
        Self {
            rows: to_usize(natural(group.num_rows())),
            bytes: bytes_of(group),
            index_bytes: index_bytes(group),
        }
    }
}

/// A row group to be copied.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) input: Input,
    /// Of this row group alone, with its page indexes.
    pub(super) metadata: Arc<ParquetMetaData>,
    pub(super) offer: Offer,
    /// What has been fetched of it; held by whoever reads its keys.
    pub(super) extents: Arc<Vec<Extent>>,
    /// Chunks that are fetched together have no more bytes, unless it is one.
    pub(super) room: u64,
    pub(super) held: Held,
}

impl Copied {
    fn group(&self) -> Result<&RowGroupMetaData, MergeError> {
        let group = self.metadata.row_groups().first();
        group.ok_or_else(|| MergeError::internal("metadata without the row group to be copied"))
    }

    /// Fetches the chunk of the leaf column `leaf`, and checks where its pages lie.
    pub(super) async fn fetch(&mut self, leaf: usize) -> Result<Extents, MergeError> {
        let index = self.input.origin.index;
        let wanted = self.ahead(leaf)?;
        let Some(range) = wanted.first() else {
            return Err(MergeError::internal("more columns than chunks"));
        };
        if find(&self.extents, range).is_none() {
            self.extents = Arc::default();
            self.held.resize(length(&wanted));
            let (store, footer) = (&self.input.store, &self.input.footer);
            let fetched = fetch_ranges(&**store, &footer.location, &footer.etag, &wanted).await;
            self.extents = Arc::new(fetched.map_err(|error| error.at(index))?);
        }
        self.check(leaf, range)
            .map_err(|reason| SourceError::from(reason).at(index))?;
        Ok(Extents::new(&self.extents, self.input.footer.size))
    }

    /// The ranges of the chunks from `leaf` on that there is room for at once.
    fn ahead(&self, leaf: usize) -> Result<Vec<Range<u64>>, MergeError> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for chunk in self.group()?.columns().iter().skip(leaf) {
            let (start, bytes) = chunk.byte_range();
            if !ranges.is_empty() && length(&ranges).saturating_add(bytes) > self.room {
                break;
            }
            ranges.push(start..start.saturating_add(bytes));
        }
        Ok(ranges)
    }

    fn check(&self, leaf: usize, range: &Range<u64>) -> Result<(), QuarantineReason> {
        let out_of_reach = || QuarantineReason::corrupt("a column chunk out of reach");
        let bytes = find(&self.extents, range).ok_or_else(out_of_reach)?;
        let group = self.metadata.row_groups().first().ok_or_else(out_of_reach)?;
        let chunk = group.columns().get(leaf).ok_or_else(out_of_reach)?;
        let indexes = self.metadata.page_index_for_row_group(0);
        let offsets = indexes
            .offset_index(leaf)
            .ok_or_else(|| QuarantineReason::corrupt("no offset index"))?;
        check_offset_index(&bytes, chunk, offsets, self.offer.rows as u64)?;
        let pages = offsets.page_locations().len() as u64;
        match indexes.column_index(leaf) {
            Some(index) if index.num_pages() != pages => Err(QuarantineReason::corrupt(
                "the column index has another number of pages than the chunk",
            )),
            _ => Ok(()),
        }
    }

    /// The NaNs of the leaf column `leaf`, whose chunk is at hand, where that is to be known and takes no more than
    /// `most` bytes.
    pub(super) async fn count_nans(
        &mut self,
        leaf: usize,
        most: u64,
        spawner: Option<&Spawner>,
    ) -> Result<Option<u64>, MergeError> {
        let index = self.input.origin.index;
        let Some(chunk) = self.group()?.columns().get(leaf) else {
            return Ok(None);
        };
        let decoded = natural(chunk.uncompressed_size());
        if !floats::lacks_nan_count(chunk) || decoded > most {
            return Ok(None);
        }
        let held = self.held.bytes();
        let chunk = Arc::new(chunk.clone());
        self.held.resize(held.saturating_add(decoded));
        let bytes = Extents::new(&self.extents, self.input.footer.size);
        let counted = count_nans(bytes, chunk, self.offer.rows);
        let counted = start_or_keep(spawner, async move {
            counted.await.map_err(|reason| SourceError::from(reason).at(index))
        });
        let nans = counted?.await;
        self.held.resize(held);
        nans
    }

    /// The chunk of the leaf column `leaf` as if it had just been written as that of `columns`.
    pub(super) fn close_result(
        &self,
        leaf: usize,
        columns: &SchemaDescriptor,
    ) -> Result<ColumnCloseResult, MergeError> {
        let chunk = self.group()?.columns().get(leaf);
        let chunk = chunk.ok_or_else(|| MergeError::internal("more columns than chunks"))?;
        let indexes = self.metadata.page_index_for_row_group(0);
        Ok(ColumnCloseResult {
            bytes_written: natural(chunk.compressed_size()),
            rows_written: self.offer.rows as u64,
            metadata: as_of(chunk, columns, leaf).map_err(encoding)?,
            bloom_filter: None,
            column_index: indexes.column_index(leaf).cloned(),
            offset_index: indexes.offset_index(leaf).cloned(),
        })
    }
}

/// What is told of a chunk, of the leaf column `leaf` of other columns.
fn as_of(
    chunk: &ColumnChunkMetaData,
    columns: &SchemaDescriptor,
    leaf: usize,
) -> Result<ColumnChunkMetaData, ParquetError> {
    let mut builder = ColumnChunkMetaData::builder(columns.column(leaf))
        .set_compression_codec(chunk.compression_codec())
        .set_encodings_mask(*chunk.encodings_mask())
        .set_num_values(chunk.num_values())
        .set_total_compressed_size(chunk.compressed_size())
        .set_total_uncompressed_size(chunk.uncompressed_size())
        .set_data_page_offset(chunk.data_page_offset())
        .set_dictionary_page_offset(chunk.dictionary_page_offset())
        .set_unencoded_byte_array_data_bytes(chunk.unencoded_byte_array_data_bytes())
        .set_repetition_level_histogram(chunk.repetition_level_histogram().cloned())
        .set_definition_level_histogram(chunk.definition_level_histogram().cloned());
    if let Some(statistics) = chunk.statistics() {
        builder = builder.set_statistics(statistics.clone());
    }
    if let Some(encodings) = chunk.page_encoding_stats_mask() {
        builder = builder.set_page_encoding_stats_mask(*encodings);
    }
    builder.build()
}
