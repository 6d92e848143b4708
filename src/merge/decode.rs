//! Decodes what has been fetched of a file.

use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, RecordBatchReader};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use bytes::buf::{Buf, Reader};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::SchemaDescriptor;

use super::fetch::Extent;
use super::slices::Slice;
use crate::quarantine::QuarantineReason;
use crate::schema::{arrow_schema, check_exact, int96_leaves, strip_array, strip_metadata};

/// A slice that is still to be read, with the metadata to read it by.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) arrow: ArrowReaderMetadata,
    pub(super) group: usize,
    pub(super) slice: Slice,
}

/// The decoder, which has no `Debug`.
pub(super) struct SliceReader {
    rows: ParquetRecordBatchReader,
    /// Columns with times of 96 bits once more, to the nanosecond.
    nanos: Option<Box<ParquetRecordBatchReader>>,
    /// The columns, where parts of them carry metadata, without these.
    stripped: Option<SchemaRef>,
}

impl std::fmt::Debug for SliceReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SliceReader")
    }
}

impl SliceReader {
    /// The next rows, `None` after the last. Must not be called again after an error.
    pub(super) fn read(&mut self) -> Result<Option<RecordBatch>, QuarantineReason> {
        let Some(rows) = next(&mut self.rows)? else {
            return Ok(None);
        };
        if let Some(nanos) = &mut self.nanos {
            let nanos = next(nanos)?.ok_or_else(|| QuarantineReason::corrupt("columns of different lengths"))?;
            for (field, nanos) in nanos.schema().fields().iter().zip(nanos.columns()) {
                let name = field.name();
                if let Some(micros) = rows.column_by_name(name) {
                    check_exact(name, micros, nanos)?;
                }
            }
        }
        let Some(schema) = &self.stripped else {
            return Ok(Some(rows));
        };
        let columns = rows.columns().iter().map(strip_array).collect::<Result<_, _>>();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = columns.and_then(|columns| RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options));
        rows.map(Some).map_err(QuarantineReason::corrupt)
    }
}

fn next(reader: &mut ParquetRecordBatchReader) -> Result<Option<RecordBatch>, QuarantineReason> {
    let rows = guarded("a page broke the decoder", || reader.next())?;
    rows.transpose().map_err(QuarantineReason::corrupt)
}

/// What the decoder wants to know of a file, whatever Arrow schema is embedded.
pub(super) fn arrow_metadata(metadata: Arc<ParquetMetaData>) -> Result<ArrowReaderMetadata, QuarantineReason> {
    let mut options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    guarded("the schema broke the parser", || {
        let parquet = metadata.file_metadata().schema_descr();
        if int96_leaves(parquet).next().is_some() {
            options = options.with_schema(Arc::new(arrow_schema(parquet)?));
        }
        ArrowReaderMetadata::try_new(metadata, options)
    })?
    .map_err(QuarantineReason::corrupt)
}

/// Parsers and decoders assert what only a broken file breaks; such a panic is one more way to be corrupt.
pub(super) fn guarded<T>(what: &str, work: impl FnOnce() -> T) -> Result<T, QuarantineReason> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| QuarantineReason::corrupt(what))
}

/// The decoder of the rows of a slice from the row `skip` on, of all columns.
pub(super) fn build(
    piece: &Piece,
    skip: usize,
    batch_rows: usize,
    extents: &Arc<Vec<Extent>>,
    size: u64,
) -> Result<SliceReader, QuarantineReason> {
    build_columns(piece, skip, batch_rows, extents, size, ProjectionMask::all())
}

/// As [`build`], of some columns.
pub(super) fn build_columns(
    piece: &Piece,
    skip: usize,
    batch_rows: usize,
    extents: &Arc<Vec<Extent>>,
    size: u64,
    columns: ProjectionMask,
) -> Result<SliceReader, QuarantineReason> {
    let total = piece
        .arrow
        .metadata()
        .row_groups()
        .get(piece.group)
        .map_or(0, RowGroupMetaData::num_rows);
    let rows = piece.slice.rows.start.saturating_add(skip)..piece.slice.rows.end;
    let total = usize::try_from(total).unwrap_or(0);
    // The decoder allocates by its batch size, whatever there is to read.
    let batch_rows = batch_rows.min(rows.len()).max(1);
    let selection = (rows != (0..total)).then(|| RowSelection::from_consecutive_ranges(std::iter::once(rows), total));
    let reader = |metadata: ArrowReaderMetadata, columns| {
        let reader = guarded("a row group broke the decoder", || {
            let source = Extents::new(extents, size);
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(source, metadata)
                .with_row_groups(vec![piece.group])
                .with_batch_size(batch_rows)
                .with_projection(columns);
            match selection.clone() {
                Some(selection) => builder.with_row_selection(selection).build(),
                None => builder.build(),
            }
        });
        reader?.map_err(QuarantineReason::corrupt)
    };
    let nanos = match with_int96(piece.arrow.parquet_schema(), &columns) {
        Some(columns) => {
            let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
            let metadata = ArrowReaderMetadata::try_new(Arc::clone(piece.arrow.metadata()), options);
            Some(Box::new(reader(metadata.map_err(QuarantineReason::corrupt)?, columns)?))
        }
        None => None,
    };
    let rows = reader(piece.arrow.clone(), columns)?;
    let schema = rows.schema();
    let plain = strip_metadata(&schema);
    let is_plain = plain
        .fields()
        .iter()
        .zip(schema.fields())
        .all(|(a, b)| a.data_type() == b.data_type());
    Ok(SliceReader {
        rows,
        nanos,
        stripped: (!is_plain).then_some(plain),
    })
}

/// Those of the `columns` at the top that have times of 96 bits.
fn with_int96(parquet: &SchemaDescriptor, columns: &ProjectionMask) -> Option<ProjectionMask> {
    let leaves = int96_leaves(parquet).filter(|leaf| columns.leaf_included(*leaf));
    let roots: BTreeSet<_> = leaves.map(|leaf| parquet.get_column_root_idx(leaf)).collect();
    (!roots.is_empty()).then(|| ProjectionMask::roots(parquet, roots))
}

/// The bytes of `range`, if one of the extents has them all.
pub(super) fn find(extents: &[Extent], range: &Range<u64>) -> Option<Bytes> {
    extents.iter().find_map(|extent| extent.slice(range))
}

/// The fetched parts of a file, as the decoder reads them.
pub(super) struct Extents {
    extents: Arc<Vec<Extent>>,
    size: u64,
}

impl Extents {
    pub(super) fn new(extents: &Arc<Vec<Extent>>, size: u64) -> Self {
        Self {
            extents: Arc::clone(extents),
            size,
        }
    }
}

impl Length for Extents {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Extents {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let holding = self
            .extents
            .iter()
            .find(|extent| extent.start <= start && start <= extent.end());
        let rest = holding.and_then(|extent| extent.slice(&(start..extent.end())));
        rest.map(Buf::reader)
            .ok_or_else(|| ParquetError::EOF("read outside what was fetched".to_owned()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        find(&self.extents, &(start..start.saturating_add(length as u64)))
            .ok_or_else(|| ParquetError::EOF("read outside what was fetched".to_owned()))
    }
}
