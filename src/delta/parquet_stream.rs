//! Reads a Parquet object of the log batch by batch, with the chosen columns of a part of a row group in memory at a time:
//! of all of it, where it is small or has no page index.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use object_store::{GetOptions, GetRange, OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, ObjectStore};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder, RowGroupMetaData};

use super::error::LogError;
use crate::error::{Error, Result};
use crate::whole::{MAX_TABLE_OBJECT_BYTES, whole_object};

/// Objects up to this size are fetched whole.
const WHOLE: u64 = 1 << 20;
/// Rows of a batch.
const BATCH_ROWS: usize = 4_096;
/// About so many compressed bytes are fetched at once, where pages can be told apart.
const PART: u64 = 4 << 20;

/// Batches of some columns of a Parquet object.
#[derive(Debug)]
pub(super) struct ParquetStream {
    source: Source,
    metadata: ArrowReaderMetadata,
    projection: ProjectionMask,
    /// Those that are still to be read, after the one that is being read.
    parts: VecDeque<Part>,
    decoder: Option<ParquetPushDecoder>,
    /// Rows of its part that it still has to give.
    left: usize,
}

/// Some rows of a row group.
#[derive(Debug)]
struct Part {
    group: usize,
    rows: Range<usize>,
    /// Of the row group.
    total: usize,
}

/// Where the bytes come from.
#[derive(Debug)]
struct Source {
    store: Arc<dyn ObjectStore>,
    object: ObjectMeta,
    whole: Option<Bytes>,
}

impl ParquetStream {
    /// Opens `object` for the top-level columns of these names, or parts of them (`add.path`); what is not
    /// there is left out.
    pub(super) async fn open(store: Arc<dyn ObjectStore>, object: ObjectMeta, columns: &[&str]) -> Result<Self> {
        let mut source = Source::new(store, object).await?;
        let size = source.object.size;
        let mut footer = ParquetMetaDataPushDecoder::try_new(size)
            .map_err(|e| source.damaged(e))?
            .with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = loop {
            match guarded(|| footer.try_decode()).map_err(|e| source.damaged(e))? {
                DecodeResult::Data(metadata) => break metadata,
                DecodeResult::NeedsData(ranges) => {
                    let data = source.fetch(&ranges).await?;
                    footer.push_ranges(ranges, data).map_err(|e| source.damaged(e))?;
                }
                DecodeResult::Finished => {
                    return Err(source.damaged(ParquetError::EOF("no footer".to_owned())));
                }
            }
        };
        check_ranges(&metadata, size).map_err(|e| source.damaged(e))?;
        // An embedded Arrow schema would bring string views and dictionaries along.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = Arc::new(metadata);
        let metadata = guarded(|| ArrowReaderMetadata::try_new(metadata, options)).map_err(|e| source.damaged(e))?;
        let schema = metadata.metadata().file_metadata().schema_descr_ptr();
        let wanted = |path: &str| columns.iter().any(|column| is_within(path, column));
        let leaves = (0..schema.num_columns()).filter(|leaf| wanted(&schema.column(*leaf).path().string()));
        let projection = ProjectionMask::leaves(&schema, leaves);
        Ok(Self {
            source,
            parts: parts(metadata.metadata(), &projection),
            metadata,
            projection,
            decoder: None,
            left: 0,
        })
    }

    /// Whether the object has a column, or parts of one, projected or not.
    pub(super) fn has_column(&self, name: &str) -> bool {
        let mut columns = self.metadata.parquet_schema().columns().iter();
        columns.any(|column| is_within(&column.path().string(), name))
    }

    /// The next batch, `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let decoder = match &mut self.decoder {
                Some(decoder) => decoder,
                none => match self.parts.pop_front() {
                    Some(part) => {
                        self.left = part.rows.len();
                        let decoder = decoder(self.metadata.clone(), self.projection.clone(), part);
                        none.insert(decoder.map_err(|e| self.source.damaged(e))?)
                    }
                    None => return Ok(None),
                },
            };
            match guarded(|| decoder.try_decode()).map_err(|e| self.source.damaged(e))? {
                DecodeResult::Data(batch) => {
                    let left = self.left.checked_sub(batch.num_rows());
                    self.left = left.ok_or_else(|| self.source.damaged(other_rows()))?;
                    return Ok(Some(batch));
                }
                // A page index that lies.
                DecodeResult::Finished if self.left > 0 => return Err(self.source.damaged(other_rows())),
                DecodeResult::Finished => self.decoder = None,
                DecodeResult::NeedsData(ranges) => {
                    let data = self.source.fetch(&ranges).await?;
                    decoder.push_ranges(ranges, data).map_err(|e| self.source.damaged(e))?;
                }
            }
        }
    }
}

/// Row groups in parts of about as many bytes as are to be in memory, where there is a page index.
fn parts(metadata: &ParquetMetaData, projection: &ProjectionMask) -> VecDeque<Part> {
    let groups = metadata.row_groups().iter().enumerate();
    let parts = groups.flat_map(|(group, of)| {
        let chosen = of
            .columns()
            .iter()
            .enumerate()
            .filter(|(leaf, _)| projection.leaf_included(*leaf));
        let bytes = chosen
            .map(|(_, column)| u64::try_from(column.compressed_size()).unwrap_or(0))
            .sum::<u64>();
        let has_pages = metadata.page_index_for_row_group(group).offset_index(0).is_some();
        let count = if has_pages { bytes.div_ceil(PART).max(1) } else { 1 };
        let total = usize::try_from(of.num_rows()).unwrap_or(0);
        let rows = total.div_ceil(usize::try_from(count).unwrap_or(1)).max(1);
        (0..total).step_by(rows).map(move |start| Part {
            group,
            rows: start..total.min(start + rows),
            total,
        })
    });
    parts.collect()
}

fn decoder(
    metadata: ArrowReaderMetadata,
    projection: ProjectionMask,
    part: Part,
) -> Result<ParquetPushDecoder, ParquetError> {
    let Part { group, rows, total } = part;
    let selection = (rows != (0..total)).then(|| RowSelection::from_consecutive_ranges(std::iter::once(rows), total));
    guarded(|| {
        let builder = ParquetPushDecoderBuilder::new_with_metadata(metadata)
            .with_row_groups(vec![group])
            .with_projection(projection)
            .with_batch_size(BATCH_ROWS);
        match selection {
            Some(selection) => builder.with_row_selection(selection).build(),
            None => builder.build(),
        }
    })
}

fn other_rows() -> ParquetError {
    ParquetError::General("a row group has not as many rows as its footer says".to_owned())
}

/// The decoder panics on some damaged files; nothing of it is used after that.
fn guarded<T>(decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(ParquetError::General("the decoder gave up".to_owned())))
}

/// The decoder takes for granted that a footer's ranges lie within the object.
fn check_ranges(metadata: &ParquetMetaData, size: u64) -> Result<(), ParquetError> {
    let fits = |offset: i64, length: i64| {
        let end = u64::try_from(offset).ok()?.checked_add(u64::try_from(length).ok()?)?;
        (end <= size).then_some(())
    };
    let columns = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    for column in columns {
        let start = column
            .dictionary_page_offset()
            .unwrap_or_else(|| column.data_page_offset());
        if fits(start, column.compressed_size()).is_none() || column.num_values() < 0 || column.data_page_offset() < 0 {
            return Err(ParquetError::General("a column lies outside of the file".to_owned()));
        }
    }
    if metadata.row_groups().iter().any(|group| group.num_rows() < 0) {
        return Err(ParquetError::General("a row group of less than no rows".to_owned()));
    }
    Ok(())
}

fn is_within(path: &str, column: &str) -> bool {
    path.strip_prefix(column)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Source {
    async fn new(store: Arc<dyn ObjectStore>, object: ObjectMeta) -> Result<Self> {
        let mut source = Self {
            store,
            object,
            whole: None,
        };
        if source.object.size <= WHOLE {
            source.whole = Some(source.get(0..source.object.size).await?);
        }
        Ok(source)
    }

    fn damaged(&self, source: ParquetError) -> Error {
        LogError::Checkpoint {
            object: self.object.location.to_string(),
            source,
        }
        .into()
    }

    async fn fetch(&mut self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if let Some(whole) = &self.whole {
            let slice = |range: &Range<u64>| {
                let start = usize::try_from(range.start).ok()?;
                let end = usize::try_from(range.end).ok()?;
                (start <= end && end <= whole.len()).then(|| whole.slice(start..end))
            };
            let slices: Option<Vec<_>> = ranges.iter().map(slice).collect();
            return slices.ok_or_else(|| self.damaged(ParquetError::EOF("range beyond the end".to_owned())));
        }
        object_store::coalesce_ranges(ranges, |range| self.get(range), OBJECT_STORE_COALESCE_DEFAULT).await
    }

    async fn get(&self, range: Range<u64>) -> Result<Bytes> {
        let torn = || LogError::Torn {
            object: self.object.location.to_string(),
        };
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let length = range.end.saturating_sub(range.start);
        let mut options = GetOptions::new().with_range(Some(GetRange::Bounded(range)));
        // Another writer may replace a checkpoint: bytes of two must never be mixed.
        options.if_match.clone_from(&self.object.e_tag);
        let failed = |e| match e {
            object_store::Error::Precondition { .. } => torn().into(),
            e => Error::from_store("get", &self.object.location, e),
        };
        let result = self
            .store
            .get_opts(&self.object.location, options)
            .await
            .map_err(failed)?;
        let bytes = result
            .bytes()
            .await
            .map_err(|e| Error::from_store("get", &self.object.location, e))?;
        if u64::try_from(bytes.len()).ok() == Some(length) {
            Ok(bytes)
        } else {
            Err(torn().into())
        }
    }
}

/// The object at a path, whole, with what the store says of it; `None` where there is none.
pub(super) async fn read_object(
    store: &dyn ObjectStore,
    path: &object_store::path::Path,
) -> Result<Option<(Bytes, ObjectMeta)>> {
    let Some((bytes, meta)) = whole_object(store, path, MAX_TABLE_OBJECT_BYTES).await? else {
        return Ok(None);
    };
    if u64::try_from(bytes.len()).ok() == Some(meta.size) {
        Ok(Some((bytes, meta)))
    } else {
        Err(LogError::Torn {
            object: path.to_string(),
        }
        .into())
    }
}
