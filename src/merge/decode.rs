//! Decodes what has been fetched of a file.

use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, RecordBatchReader};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use bytes::buf::{Buf, Reader};
use parquet::arrow::arrow_reader::RowGroups;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowSelection};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::SchemaDescriptor;

use super::fetch::Extent;
use super::footer::too_large;
use super::slices::Slice;
use super::watch::{Watch, Watched};
use crate::quarantine::QuarantineReason;
use crate::schema::{arrow_schema, check_exact, int96_leaves, strip_array, strip_metadata};

/// A slice that is still to be read, with the metadata to read it by.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) arrow: ArrowReaderMetadata,
    pub(super) group: usize,
    pub(super) slice: Slice,
}

/// What a batch may unfold to beside what was told of it, where the allotment is small.
const WIDE_BATCH_BYTES: u64 = 48 << 20;
/// So many times fewer rows are decoded at once where they are wider than told.
const NARROWER: usize = 8;

/// What is decoded of a slice, and how.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) piece: Piece,
    pub(super) extents: Arc<Vec<Extent>>,
    /// Of the file.
    pub(super) size: u64,
    /// Leaf columns.
    pub(super) columns: ProjectionMask,
    /// Rows of the slice that are passed over.
    pub(super) skip: usize,
    /// Rows that are decoded at once.
    pub(super) batch_rows: usize,
    /// What whoever reads may hold.
    pub(super) allotment: u64,
}

/// The decoder, which has no `Debug`.
pub(super) struct SliceReader {
    reading: Reading,
    decoders: Decoders,
    watch: Arc<Watch>,
    /// Pages that were opened for the rows so far, by leaf column.
    passed: Vec<usize>,
    /// The columns, where parts of them carry metadata, without these.
    stripped: Option<SchemaRef>,
}

struct Decoders {
    rows: ParquetRecordBatchReader,
    /// Columns with times of 96 bits once more, to the nanosecond.
    nanos: Option<Box<ParquetRecordBatchReader>>,
}

impl std::fmt::Debug for SliceReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SliceReader")
    }
}

impl SliceReader {
    /// The decoder of what is to be read.
    pub(super) fn open(mut reading: Reading) -> Result<Self, QuarantineReason> {
        // The decoder allocates by its batch size, whatever there is to read.
        let rows = reading.piece.slice.rows.len().saturating_sub(reading.skip);
        reading.batch_rows = reading.batch_rows.min(rows).max(1);
        let (decoders, watch) = reading.decoders(Vec::new())?;
        let schema = decoders.rows.schema();
        let plain = strip_metadata(&schema);
        let is_plain = plain
            .fields()
            .iter()
            .zip(schema.fields())
            .all(|(a, b)| a.data_type() == b.data_type());
        Ok(Self {
            reading,
            decoders,
            watch,
            passed: Vec::new(),
            stripped: (!is_plain).then_some(plain),
        })
    }

    /// Goes on with other rows at a time.
    pub(super) fn set_batch_rows(&mut self, rows: usize) -> Result<(), QuarantineReason> {
        self.reading.batch_rows = rows.max(1);
        (self.decoders, self.watch) = self.reading.decoders(self.passed.clone())?;
        Ok(())
    }

    /// The next rows, `None` after the last. Must not be called again after an error.
    pub(super) fn read(&mut self) -> Result<Option<RecordBatch>, QuarantineReason> {
        let Some(rows) = self.next_rows()? else {
            return Ok(None);
        };
        self.reading.skip += rows.num_rows();
        self.passed = self.watch.opened();
        if let Some(nanos) = &mut self.decoders.nanos {
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

    /// As many rows as do not come to more bytes than they may.
    fn next_rows(&mut self) -> Result<Option<RecordBatch>, QuarantineReason> {
        loop {
            self.watch.next_batch();
            let read = next(&mut self.decoders.rows);
            let Some(wide) = self.watch.exceeded() else {
                return read;
            };
            if self.reading.batch_rows == 1 {
                return Err(too_large("bytes of a row", wide, self.watch.limit()));
            }
            self.set_batch_rows(self.reading.batch_rows / NARROWER)?;
        }
    }
}

impl Reading {
    fn decoders(&self, passed: Vec<usize>) -> Result<(Decoders, Arc<Watch>), QuarantineReason> {
        let arrow = &self.piece.arrow;
        let leaves = arrow.parquet_schema().num_columns();
        let limit = WIDE_BATCH_BYTES.max(self.allotment / 2);
        let watch = Watch::new(limit, self.batch_rows, leaves, passed);
        let nanos = match with_int96(arrow.parquet_schema(), &self.columns) {
            Some(columns) => {
                let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
                let arrow = ArrowReaderMetadata::try_new(Arc::clone(arrow.metadata()), options);
                let arrow = arrow.map_err(QuarantineReason::corrupt)?;
                // The same pages are watched for the other times.
                let unwatched = Watch::new(u64::MAX, self.batch_rows, leaves, Vec::new());
                Some(Box::new(self.decoder(&arrow, columns, &unwatched)?))
            }
            None => None,
        };
        let rows = self.decoder(arrow, self.columns.clone(), &watch)?;
        Ok((Decoders { rows, nanos }, watch))
    }

    fn decoder(
        &self,
        arrow: &ArrowReaderMetadata,
        columns: ProjectionMask,
        watch: &Arc<Watch>,
    ) -> Result<ParquetRecordBatchReader, QuarantineReason> {
        let slice = &self.piece.slice;
        let rows = slice.rows.start.saturating_add(self.skip)..slice.rows.end;
        let group = Watched {
            metadata: Arc::clone(arrow.metadata()),
            group: self.piece.group,
            bytes: Arc::new(Extents::new(&self.extents, self.size)),
            by_index: slice.columns.iter().any(|column| column.pages.is_some()),
            watch: Arc::clone(watch),
        };
        let total = group.num_rows();
        let selection =
            (rows != (0..total)).then(|| RowSelection::from_consecutive_ranges(std::iter::once(rows), total));
        let reader = guarded("a row group broke the decoder", || {
            let fields = arrow.schema().fields();
            let levels = parquet_to_arrow_field_levels(arrow.parquet_schema(), columns, Some(fields))?;
            ParquetRecordBatchReader::try_new_with_row_groups(&levels, &group, self.batch_rows, selection)
        });
        reader?.map_err(QuarantineReason::corrupt)
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
