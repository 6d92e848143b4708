//! Writes merged rows into Parquet files: row groups by budget, files by size.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, ParquetMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, SchemaDescriptor};

use super::budget::{Held, Memory, to_usize};
use super::copying::{Copied, Offer, Rule};
use super::encoders::Encoders;
use super::encodings::Encodings;
use super::error::MergeError;
use super::floats;
use super::metrics::FileMetrics;
use super::row_group::{ColumnRows, Manner, Rows, encode_column, encoding, one_encoder_bytes, size};
use super::spawner::Spawner;
use super::step::yield_now;
use super::upload::{Pending, Upload};
use crate::data_file::{DataFile, FilePartition};
use crate::options::{Codec, SortField};

/// Least steps in which a row group is filled.
const STEPS: u64 = 8;

/// What encoders that are at work at the same time may take of a row group's memory; how many there are at most.
const CONCURRENT_SHARE: u64 = 16;
const MAX_CONCURRENCY: usize = 16;
/// The part of a row group's memory that the page indexes of those that are copied may have, encoded, in one file; and
/// what they take at most times as much as decoded.
const INDEX_SHARE: u64 = 32;
const INDEX_GROWTH: u64 = 4;
/// Larger row groups are not copied.
const MAX_COPIED_BYTES: u64 = 128 << 20;

/// How files are written.
#[derive(Clone, Debug)]
pub(super) struct OutputOptions {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) dir: Path,
    pub(super) stem: String,
    pub(super) schema: SchemaRef,
    pub(super) sort_order: Vec<SortField>,
    pub(super) key_value_metadata: Vec<(String, String)>,
    pub(super) codec: Codec,
    /// Files are rolled from this size on.
    pub(super) target_file_size: u64,
    pub(super) part_size: u64,
    /// Memory of the row group under construction.
    pub(super) row_group_bytes: u64,
    pub(super) row_group_rows: usize,
    /// How the inputs are encoded.
    pub(super) encodings: Encodings,
    pub(super) memory: Memory,
    /// Encodes columns beside the merge.
    pub(super) spawner: Option<Spawner>,
}

/// Writes files one after the other.
#[derive(Debug)]
pub(super) struct Output {
    options: OutputOptions,
    format: Format,
    manner: Manner,
    next_part: u32,
    /// The partition of the files that are opened next.
    partition: Option<FilePartition>,
    file: Option<OpenFile>,
    files: Vec<DataFile>,
}

/// How row groups are encoded.
#[derive(Debug)]
struct Format {
    schema: SchemaRef,
    parquet: Arc<SchemaDescriptor>,
    properties: WriterPropertiesPtr,
    spawner: Option<Spawner>,
    /// Columns that are ended at the same time.
    concurrency: usize,
}

impl Format {
    fn new(options: &OutputOptions) -> Result<Self, MergeError> {
        let parquet = ArrowSchemaConverter::new()
            .convert(&options.schema)
            .map_err(|e| MergeError::Invalid {
                detail: format!("schema cannot be written as Parquet: {e}"),
            })?;
        let encoders = options.row_group_bytes / CONCURRENT_SHARE / one_encoder_bytes(options.codec);
        Ok(Self {
            schema: Arc::clone(&options.schema),
            properties: properties(options, &parquet)?,
            parquet: Arc::new(parquet),
            spawner: options.spawner.clone(),
            concurrency: match options.spawner {
                Some(_) => to_usize(encoders).clamp(1, MAX_CONCURRENCY),
                None => 1,
            },
        })
    }

    /// Encodes a column of a row group to its end, by the spawner if there is one.
    fn end(
        &self,
        column: ColumnRows,
        (group, index): (usize, usize),
    ) -> Result<BoxFuture<'static, Result<Vec<ArrowColumnChunk>, MergeError>>, MergeError> {
        let ended = match column {
            ColumnRows::Ending(task, _) => return Ok(async { task.outcome().await? }.boxed()),
            ColumnRows::Encoded(column) => async { Ok(vec![column.close().map_err(encoding)?]) }.boxed(),
            ColumnRows::Raw(pieces) => {
                let field = self.schema.fields().get(index);
                let field = field.ok_or_else(|| MergeError::internal("more columns than fields"))?;
                let (parquet, properties) = (Arc::clone(&self.parquet), Arc::clone(&self.properties));
                encode_column(Arc::clone(field), parquet, properties, (group, index), pieces).boxed()
            }
        };
        let Some(spawner) = &self.spawner else {
            return Ok(ended);
        };
        let task = spawner.start(ended)?;
        Ok(async { task.outcome().await? }.boxed())
    }
}

pub(super) struct OpenFile {
    partition: Option<FilePartition>,
    upload: Upload,
    writer: SerializedFileWriter<Pending>,
    factory: ArrowRowGroupWriterFactory,
    group: Option<OpenGroup>,
    metrics: FileMetrics,
    /// The page indexes of row groups that were copied.
    indexes: Held,
    /// Bytes of the last row group that was encoded at its end, before and after.
    ratio: (u64, u64),
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile")
            .field("upload", &self.upload)
            .finish_non_exhaustive()
    }
}

/// A row group under construction.
pub(super) struct OpenGroup {
    content: Rows,
    rows: usize,
    /// It is ended when it has so many rows, if not before.
    most_rows: usize,
    held: Held,
}

impl OpenGroup {
    fn new(content: Rows, memory: &Memory) -> Self {
        Self {
            content,
            rows: 0,
            most_rows: usize::MAX,
            held: memory.hold(0),
        }
    }

    /// One that is encoded at its end, of rows that have their memory to themselves. Needs no open file until then;
    /// the encoder is counted elsewhere.
    pub(super) fn gathered(options: &OutputOptions) -> Self {
        Self::new(Rows::gathered(&options.schema), &options.memory)
    }

    pub(super) async fn add(&mut self, rows: &RecordBatch) -> Result<(), MergeError> {
        self.content.add(rows).await?;
        self.rows += rows.num_rows();
        self.held.resize(self.content.memory_size());
        Ok(())
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.held.bytes()
    }

    /// Whether it is to be ended, in the file that it is for, if that is open.
    pub(super) fn is_full(&self, file: Option<&OpenFile>, options: &OutputOptions) -> bool {
        let held = self.held.bytes();
        let (written, (before, after)) = file.map_or((0, (1, 1)), |file| (file.written(), file.ratio));
        let encoded = self.content.encoded_size().unwrap_or_else(|| {
            let bytes = u128::from(held) * u128::from(after) / u128::from(before.max(1));
            u64::try_from(bytes).unwrap_or(held)
        });
        // Room for one more step, which is not known yet.
        held >= options.row_group_bytes / STEPS * (STEPS - 1)
            || self.rows >= options.row_group_rows.min(self.most_rows)
            || written.saturating_add(encoded) >= options.target_file_size
    }
}

impl std::fmt::Debug for OpenGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenGroup")
            .field("rows", &self.rows)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl Output {
    pub(super) fn new(options: OutputOptions) -> Result<Self, MergeError> {
        let format = Format::new(&options)?;
        Ok(Self {
            manner: Manner::suiting(format.parquet.num_columns(), options.codec, options.row_group_bytes),
            options,
            format,
            next_part: 0,
            partition: None,
            file: None,
            files: Vec::new(),
        })
    }

    /// Writes rows; row groups and files are closed as they fill.
    pub(super) async fn write(&mut self, rows: &RecordBatch) -> Result<(), MergeError> {
        // Each step adds no more than what is left free for it.
        let width = size(rows) / rows.num_rows().max(1) as u64;
        let step = to_usize(self.options.row_group_bytes / STEPS / width.max(1)).max(1);
        let mut start = 0;
        while start < rows.num_rows() {
            if self.file.is_none() {
                self.file = Some(self.open(self.partition.clone())?);
            }
            let Some(file) = &mut self.file else {
                return Err(MergeError::internal("no open file"));
            };
            let most = self.options.row_group_rows;
            let group = file.group.as_ref();
            let room = group.map_or(most, |group| most.min(group.most_rows).saturating_sub(group.rows));
            let length = step.min(room).min(rows.num_rows() - start).max(1);
            file.write(&self.options, self.manner, &rows.slice(start, length))
                .await?;
            start += length;
            self.end_full_group().await?;
            yield_now().await;
        }
        Ok(())
    }

    /// What row groups must be to be copied as they are.
    pub(super) fn rule(&self) -> Result<Rule, MergeError> {
        let options = &self.options;
        Ok(Rule {
            columns: Arc::clone(&self.format.parquet),
            sort_order: options.sort_order.clone(),
            codec: compression(options.codec)?,
            // Encoders hold about twice the bytes that they write.
            least_bytes: (options.row_group_bytes / 2).min(options.target_file_size) / 2,
            least_rows: options.row_group_rows as u64 / 2,
            most_bytes: MAX_COPIED_BYTES.min(options.target_file_size),
            most_rows: options.row_group_rows as u64,
            most_chunk_bytes: options.row_group_bytes,
            most_index_bytes: options.row_group_bytes / INDEX_SHARE,
        })
    }

    /// Whether a row group is to be copied next: the one under construction, which is ended then, is not too small. If
    /// it is, both together make two of the same size, so that the one after may be copied again.
    pub(super) fn accepts(&mut self, offer: Offer) -> bool {
        let (rows, bytes) = (self.options.row_group_rows, self.options.row_group_bytes);
        let Some(file) = &mut self.file else { return true };
        let indexes = file
            .indexes
            .bytes()
            .saturating_add(offer.index_bytes.saturating_mul(INDEX_GROWTH));
        if indexes > bytes / INDEX_SHARE * INDEX_GROWTH {
            return false;
        }
        let Some(group) = &mut file.group else { return true };
        if group.rows >= rows / 2 || group.bytes() >= bytes / 2 {
            return true;
        }
        let together = group.rows.saturating_add(offer.rows);
        if together > rows || group.bytes().saturating_add(offer.bytes) > bytes / STEPS * (STEPS - 1) {
            group.most_rows = together.div_ceil(2);
        }
        false
    }

    /// Writes a row group as it is; how many rows it has.
    pub(super) async fn copy(&mut self, copied: Copied) -> Result<u64, MergeError> {
        let (rows, bytes) = (copied.rows, copied.bytes());
        if let Some(file) = &mut self.file {
            file.close_group(&self.format).await?;
            // Its size is then nearer to what it is to be.
            if file.written().saturating_add(bytes / 2) > self.options.target_file_size {
                self.close().await?;
            }
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open(self.partition.clone())?,
        };
        let written = file.copy(copied, &self.format).await;
        let is_at_target = file.is_at_target(&self.options);
        self.file = Some(file);
        written?;
        if is_at_target {
            self.close().await?;
        }
        Ok(rows)
    }

    /// Ends the row group if it is full, and then the file if it is.
    async fn end_full_group(&mut self) -> Result<(), MergeError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let group = file.group.as_ref();
        if group.is_some_and(|group| group.is_full(Some(file), &self.options)) {
            file.close_group(&self.format).await?;
            if file.is_at_target(&self.options) {
                self.close().await?;
            }
        }
        Ok(())
    }

    /// Writes a row group into a file that [`Output::open`] has started.
    pub(super) async fn write_group(&mut self, file: &mut OpenFile, group: OpenGroup) -> Result<(), MergeError> {
        file.group = Some(group);
        file.close_group(&self.format).await
    }

    /// Ends the file being written: what follows belongs to `partition`.
    pub(super) async fn turn_to(&mut self, partition: FilePartition) -> Result<(), MergeError> {
        self.close().await?;
        self.partition = Some(partition);
        Ok(())
    }

    /// Ends the last file, and gives all of them.
    pub(super) async fn finish(&mut self) -> Result<Vec<DataFile>, MergeError> {
        self.close().await?;
        Ok(std::mem::take(&mut self.files))
    }

    /// Gives up the file being written, so that other content can begin. Part numbers go on: no name is used
    /// twice.
    pub(super) async fn abort(&mut self) {
        if let Some(file) = self.file.take() {
            file.abort().await;
        }
    }

    /// As [`Output::abort`]; also forgets the files that are finished and hands them out.
    pub(super) async fn restart(&mut self) -> Vec<DataFile> {
        self.abort().await;
        std::mem::take(&mut self.files)
    }

    pub(super) fn options(&self) -> &OutputOptions {
        &self.options
    }

    /// Starts a file, under the next name.
    pub(super) fn open(&mut self, partition: Option<FilePartition>) -> Result<OpenFile, MergeError> {
        let options = &self.options;
        let path = options
            .dir
            .clone()
            .join(format!("{}-{:05}.parquet", options.stem, self.next_part));
        self.next_part += 1;
        let upload = Upload::new(
            Arc::clone(&options.store),
            path,
            to_usize(options.part_size),
            &options.memory,
        );
        let writer = SerializedFileWriter::new(
            upload.writer(),
            self.format.parquet.root_schema_ptr(),
            Arc::clone(&self.format.properties),
        )
        .map_err(encoding)?;
        let factory = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(&options.schema));
        Ok(OpenFile {
            partition,
            upload,
            writer,
            factory,
            group: None,
            metrics: FileMetrics::default(),
            indexes: options.memory.hold(0),
            ratio: (1, 1),
        })
    }

    async fn close(&mut self) -> Result<(), MergeError> {
        match self.file.take() {
            Some(file) => self.close_file(file).await,
            None => Ok(()),
        }
    }

    /// Ends a file that [`Output::open`] has started.
    pub(super) async fn close_file(&mut self, mut file: OpenFile) -> Result<(), MergeError> {
        let closed = file.close(&self.format).await;
        match closed {
            Ok(metadata) => {
                self.files
                    .push(data_file(file, &metadata, !self.options.sort_order.is_empty()));
                Ok(())
            }
            Err(error) => {
                file.upload.abort().await;
                Err(error)
            }
        }
    }
}

impl OpenFile {
    /// Adds a few rows.
    async fn write(&mut self, options: &OutputOptions, manner: Manner, rows: &RecordBatch) -> Result<(), MergeError> {
        let group = match &mut self.group {
            Some(group) => group,
            none => {
                let content = match manner {
                    Manner::AtOnce => {
                        let number = self.writer.flushed_row_groups().len();
                        let columns = self.factory.create_column_writers(number).map_err(encoding)?;
                        Rows::Encoded(match &options.spawner {
                            Some(spawner) => {
                                let step = options.row_group_bytes / STEPS / 4;
                                Encoders::spread(columns, options.codec, spawner.clone(), step)
                            }
                            None => Encoders::here(columns, options.codec),
                        })
                    }
                    Manner::AtTheEnd => Rows::raw(&options.schema, options.codec),
                };
                none.insert(OpenGroup::new(content, &options.memory))
            }
        };
        group.add(rows).await
    }

    /// Whether it is as large as files are to be.
    pub(super) fn is_at_target(&self, options: &OutputOptions) -> bool {
        self.written() >= options.target_file_size
    }

    /// Bytes of the row groups that are ended.
    pub(super) fn written(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    /// Bytes that wait to be uploaded.
    pub(super) fn pending_bytes(&self) -> u64 {
        self.upload.pending_bytes()
    }

    /// Gives it up.
    pub(super) async fn abort(mut self) {
        self.upload.abort().await;
    }

    /// Encodes the row group to its end and hands it to the upload, chunk by chunk.
    async fn close_group(&mut self, format: &Format) -> Result<(), MergeError> {
        let Some(mut group) = self.group.take() else {
            return Ok(());
        };
        let number = self.writer.flushed_row_groups().len();
        let (before, written) = (group.held.bytes(), self.writer.bytes_written());
        let is_raw = group.content.encoded_size().is_none();
        let mut writer = self.writer.next_row_group().map_err(encoding)?;
        let mut left: u64 = before;
        let mut leaf = 0;
        let mut columns = group.content.into_columns()?.into_iter().enumerate();
        let mut under_way = VecDeque::new();
        loop {
            for (index, column) in columns.by_ref().take(format.concurrency - under_way.len()) {
                let size = column.memory_size();
                under_way.push_back((size, format.end(column, (number, index))?));
            }
            let Some((size, ended)) = under_way.pop_front() else {
                break;
            };
            let chunks = ended.await?;
            left = left.saturating_sub(size);
            for mut chunk in chunks {
                self.metrics.add(leaf, &chunk.close().metadata);
                leaf += 1;
                floats::make_safe(chunk.close_mut()).map_err(encoding)?;
                chunk.append_to_row_group(&mut writer).map_err(encoding)?;
                // The upload has it now, page by page, and counts it.
                group.held.resize(left);
                let drained = self.upload.drain().await;
                drained.map_err(|source| MergeError::Output { source })?;
                yield_now().await;
            }
        }
        writer.close().map_err(encoding)?;
        if is_raw {
            self.ratio = (before, (self.writer.bytes_written() - written) as u64);
        }
        Ok(())
    }

    /// Writes a row group as it is.
    async fn copy(&mut self, mut copied: Copied, format: &Format) -> Result<(), MergeError> {
        let indexes = copied.index_bytes().saturating_mul(INDEX_GROWTH);
        self.indexes.resize(self.indexes.bytes().saturating_add(indexes));
        let mut writer = self.writer.next_row_group().map_err(encoding)?;
        for leaf in 0..format.parquet.num_columns() {
            let chunk = copied.fetch(leaf).await?;
            let mut close = copied.close_result(leaf, &format.parquet)?;
            // What its writer has left open is not known here either.
            floats::make_safe(&mut close).map_err(encoding)?;
            self.metrics.add(leaf, &close.metadata);
            writer.append_column(&chunk, close).map_err(encoding)?;
            let drained = self.upload.drain().await;
            drained.map_err(|source| MergeError::Output { source })?;
            yield_now().await;
        }
        writer.close().map_err(encoding)?;
        Ok(())
    }

    async fn close(&mut self, format: &Format) -> Result<ParquetMetaData, MergeError> {
        self.close_group(format).await?;
        let metadata = self.writer.finish().map_err(encoding)?;
        self.upload
            .finish()
            .await
            .map_err(|source| MergeError::Output { source })?;
        Ok(metadata)
    }
}

/// Where a file lies: its path is text that has been encoded already.
pub(super) fn location(file: &DataFile) -> Path {
    Path::parse(&file.path).unwrap_or_else(|_| Path::from(file.path.as_str()))
}

fn data_file(file: OpenFile, metadata: &ParquetMetaData, sorted: bool) -> DataFile {
    let offsets = metadata.row_groups().iter().filter_map(|group| {
        let first = group.columns().first()?;
        Some(first.byte_range().0)
    });
    DataFile {
        path: file.upload.path().to_string(),
        size: file.writer.bytes_written() as u64,
        rows: u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0),
        columns: file.metrics.into_columns(),
        split_offsets: offsets.collect(),
        sorted,
        partition: file.partition,
    }
}

fn properties(options: &OutputOptions, parquet: &SchemaDescriptor) -> Result<WriterPropertiesPtr, MergeError> {
    let metadata = options
        .key_value_metadata
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let metadata: Vec<_> = metadata.collect();
    let sorting = sorting_columns(options, parquet);
    let mut builder = WriterProperties::builder()
        .set_created_by(format!("firnline {}", env!("CARGO_PKG_VERSION")))
        .set_compression(compression(options.codec)?)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_key_value_metadata((!metadata.is_empty()).then_some(metadata))
        .set_sorting_columns((!sorting.is_empty()).then_some(sorting))
        .set_max_row_group_row_count(None);
    builder = options.encodings.apply(parquet, builder);
    if let Some(column) = delta_column(&options.schema, &options.sort_order) {
        builder = builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    Ok(Arc::new(builder.build()))
}

/// The first key column, if it is a time or an integer: in order, its differences are small.
fn delta_column(schema: &Schema, order: &[SortField]) -> Option<ColumnPath> {
    let field = schema.field_with_name(&order.first()?.column).ok()?;
    matches!(field.data_type(), DataType::Int64 | DataType::Timestamp(..))
        .then(|| ColumnPath::new(vec![field.name().clone()]))
}

fn sorting_columns(options: &OutputOptions, parquet: &SchemaDescriptor) -> Vec<SortingColumn> {
    let columns = options.sort_order.iter().map_while(|field| {
        let leaf = parquet
            .columns()
            .iter()
            .position(|column| *column.path().parts() == [field.column.as_str()])?;
        Some(SortingColumn {
            column_idx: i32::try_from(leaf).ok()?,
            descending: field.descending,
            nulls_first: field.nulls_first,
        })
    });
    columns.collect()
}

fn compression(codec: Codec) -> Result<Compression, MergeError> {
    let (compression, available) = match codec {
        Codec::None => (Compression::UNCOMPRESSED, true),
        Codec::Snappy => (Compression::SNAPPY, cfg!(feature = "snap")),
        Codec::Lz4 => (Compression::LZ4_RAW, cfg!(feature = "lz4")),
        Codec::Zstd(level) => {
            let level = ZstdLevel::try_new(level).map_err(|e| MergeError::Invalid { detail: e.to_string() })?;
            (Compression::ZSTD(level), cfg!(feature = "zstd"))
        }
    };
    if available {
        return Ok(compression);
    }
    Err(MergeError::Invalid {
        detail: format!("the codec of the outputs is not compiled in. codec=`{codec:?}`"),
    })
}
