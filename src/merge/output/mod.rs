//! Writes merged rows into Parquet files: row groups by budget, files by size.

mod file;
mod format;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::arrow_writer::ArrowRowGroupWriterFactory;
use parquet::file::writer::SerializedFileWriter;

pub(super) use self::file::{OpenFile, OpenGroup};

use self::file::data_file;
use self::format::{Format, compression, parquet_schema};
use super::budget::{Memory, to_usize};
use super::copying::{Copied, Offer, Rule};
use super::encodings::Encodings;
use super::error::MergeError;
use super::metrics::FileMetrics;
use super::row_group::{Manner, encoding, size};
use super::spawner::Spawner;
use super::step::yield_now;
use super::upload::Upload;
use crate::data_file::{DataFile, FilePartition};
use crate::options::{Codec, SortField};

/// Least steps in which a row group is filled.
const STEPS: u64 = 8;

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
            // Those of inputs have the names of the table.
            columns: Arc::new(parquet_schema(&options.schema)?),
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
        let Offer { rows, bytes, .. } = copied.offer;
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
        Ok(rows as u64)
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

/// Where a file lies: its path is text that has been encoded already.
pub(super) fn location(file: &DataFile) -> Path {
    Path::parse(&file.path).unwrap_or_else(|_| Path::from(file.path.as_str()))
}
