//! A file being written, and the row group under construction.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use parquet::arrow::arrow_writer::ArrowRowGroupWriterFactory;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::writer::SerializedFileWriter;

use super::format::Format;
use super::{INDEX_GROWTH, OutputOptions, STEPS};
use crate::data_file::{DataFile, FilePartition};
use crate::merge::budget::{Held, Memory};
use crate::merge::copying::Copied;
use crate::merge::encoders::Encoders;
use crate::merge::error::MergeError;
use crate::merge::floats;
use crate::merge::metrics::FileMetrics;
use crate::merge::row_group::{Manner, Rows, encoding};
use crate::merge::step::yield_now;
use crate::merge::upload::{Pending, Upload};

/// A file being written.
pub(in crate::merge) struct OpenFile {
    pub(super) partition: Option<FilePartition>,
    pub(super) upload: Upload,
    pub(super) writer: SerializedFileWriter<Pending>,
    pub(super) factory: ArrowRowGroupWriterFactory,
    pub(super) group: Option<OpenGroup>,
    pub(super) metrics: FileMetrics,
    /// The page indexes of row groups that were copied.
    pub(super) indexes: Held,
    /// Bytes of the last row group that was encoded at its end, before and after.
    pub(super) ratio: (u64, u64),
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile")
            .field("upload", &self.upload)
            .finish_non_exhaustive()
    }
}

/// A row group under construction.
pub(in crate::merge) struct OpenGroup {
    pub(super) content: Rows,
    pub(super) rows: usize,
    /// It is ended when it has so many rows, if not before.
    pub(super) most_rows: usize,
    pub(super) held: Held,
}

impl OpenGroup {
    pub(super) fn new(content: Rows, memory: &Memory) -> Self {
        Self {
            content,
            rows: 0,
            most_rows: usize::MAX,
            held: memory.hold(0),
        }
    }

    /// One that is encoded at its end, of rows that have their memory to themselves. Needs no open file until then;
    /// the encoder is counted elsewhere.
    pub(in crate::merge) fn gathered(options: &OutputOptions) -> Self {
        Self::new(Rows::gathered(&options.schema), &options.memory)
    }

    pub(in crate::merge) async fn add(&mut self, rows: &RecordBatch) -> Result<(), MergeError> {
        self.content.add(rows).await?;
        self.rows += rows.num_rows();
        self.held.resize(self.content.memory_size());
        Ok(())
    }

    /// Bytes held.
    pub(in crate::merge) fn bytes(&self) -> u64 {
        self.held.bytes()
    }

    /// Whether it is to be ended, in the file that it is for, if that is open.
    pub(in crate::merge) fn is_full(&self, file: Option<&OpenFile>, options: &OutputOptions) -> bool {
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

impl OpenFile {
    /// Adds a few rows.
    pub(super) async fn write(
        &mut self,
        options: &OutputOptions,
        manner: Manner,
        rows: &RecordBatch,
    ) -> Result<(), MergeError> {
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
    pub(in crate::merge) fn is_at_target(&self, options: &OutputOptions) -> bool {
        self.written() >= options.target_file_size
    }

    /// Bytes of the row groups that are ended.
    pub(in crate::merge) fn written(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    /// Bytes that wait to be uploaded.
    pub(in crate::merge) fn pending_bytes(&self) -> u64 {
        self.upload.pending_bytes()
    }

    /// Gives it up.
    pub(in crate::merge) async fn abort(mut self) {
        self.upload.abort().await;
    }

    /// Encodes the row group to its end and hands it to the upload, chunk by chunk.
    pub(super) async fn close_group(&mut self, format: &Format) -> Result<(), MergeError> {
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
    pub(super) async fn copy(&mut self, mut copied: Copied, format: &Format) -> Result<(), MergeError> {
        let indexes = copied.offer.index_bytes.saturating_mul(INDEX_GROWTH);
        self.indexes.resize(self.indexes.bytes().saturating_add(indexes));
        let mut writer = self.writer.next_row_group().map_err(encoding)?;
        for leaf in 0..format.parquet.num_columns() {
            let chunk = copied.fetch(leaf).await?;
            let mut close = copied.close_result(leaf, &format.parquet)?;
            let nans = copied
                .count_nans(leaf, format.float_bytes, format.spawner.as_ref())
                .await?;
            if let Some(nans) = nans {
                floats::set_nan_count(&mut close, nans).map_err(encoding)?;
            }
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

    pub(super) async fn close(&mut self, format: &Format) -> Result<ParquetMetaData, MergeError> {
        self.close_group(format).await?;
        let metadata = self.writer.finish().map_err(encoding)?;
        self.upload
            .finish()
            .await
            .map_err(|source| MergeError::Output { source })?;
        Ok(metadata)
    }
}

pub(super) fn data_file(file: OpenFile, metadata: &ParquetMetaData, sorted: bool) -> DataFile {
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
