//! Intermediate files: rows in order, as an Arrow IPC stream that is read block by block.
//!
//! Nobody else reads them, so where their blocks begin is kept in memory and not in them.

use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::ahead::Ahead;
use super::batch::{Batch, MAX_BATCH_ROWS};
use super::budget::{Held, Memory, to_usize};
use super::error::MergeError;
use super::input::Plan;
use super::row_group::{own_copy, size};
use super::upload::{Pending, Upload};
use crate::error::Error;

/// What a row's key takes beside its bytes.
const KEY_BYTES: u64 = 32;

/// An intermediate file.
#[derive(Debug)]
pub(super) struct Run {
    store: Arc<dyn ObjectStore>,
    path: Path,
    /// Where its blocks end.
    ends: Vec<u64>,
    /// Bytes that reading it may hold.
    pub(super) need: u64,
    _held: Held,
}

impl Run {
    fn block(&self, index: usize) -> Option<Range<u64>> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before));
        Some(start.copied().unwrap_or(0)..end)
    }
}

/// Writes an intermediate file.
pub(super) struct RunWriter {
    upload: Upload,
    writer: StreamWriter<Counting>,
    schema: SchemaRef,
    /// Most bytes of a block.
    block: u64,
    /// Rows that are too few for a block, in memory of their own.
    waiting: Vec<RecordBatch>,
    waiting_bytes: u64,
    ends: Vec<u64>,
    need: u64,
    held: Held,
    memory: Memory,
    store: Arc<dyn ObjectStore>,
}

impl RunWriter {
    /// A file at `path` in blocks of at most about `block` bytes, uploaded in parts of `part` bytes.
    pub(super) fn new(
        store: &Arc<dyn ObjectStore>,
        path: Path,
        schema: &SchemaRef,
        (block, part): (u64, u64),
        memory: &Memory,
    ) -> Result<Self, MergeError> {
        let upload = Upload::new(Arc::clone(store), path, to_usize(part), memory);
        let out = Counting(upload.writer(), 0);
        Ok(Self {
            upload,
            writer: StreamWriter::try_new(out, schema).map_err(MergeError::internal)?,
            schema: Arc::clone(schema),
            block,
            waiting: Vec::new(),
            waiting_bytes: 0,
            ends: Vec::new(),
            need: 0,
            held: memory.hold(0),
            memory: memory.clone(),
            store: Arc::clone(store),
        })
    }

    /// Adds rows, which come after all before them.
    pub(super) async fn write(&mut self, rows: &RecordBatch) -> Result<(), MergeError> {
        let (count, bytes) = (rows.num_rows(), size(rows));
        if count == 0 {
            return Ok(());
        }
        if bytes.saturating_add(self.waiting_bytes) <= self.block / 2 && count < MAX_BATCH_ROWS {
            self.waiting.push(own_copy(rows)?);
            self.waiting_bytes += bytes;
            self.held.resize(self.waiting_bytes);
            return Ok(());
        }
        self.write_waiting().await?;
        let blocks = bytes.div_ceil(self.block.max(1)).max(1);
        let length = count.div_ceil(to_usize(blocks)).clamp(1, MAX_BATCH_ROWS);
        let mut start = 0;
        while start < count {
            let block = rows.slice(start, length.min(count - start));
            start += block.num_rows();
            self.write_block(&block).await?;
        }
        Ok(())
    }

    async fn write_waiting(&mut self) -> Result<(), MergeError> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        self.held.resize(self.waiting_bytes.saturating_mul(2));
        let block = concat_batches(&self.schema, &waiting).map_err(MergeError::internal)?;
        drop(waiting);
        self.write_block(&block).await?;
        self.waiting_bytes = 0;
        self.held.resize(0);
        Ok(())
    }

    async fn write_block(&mut self, rows: &RecordBatch) -> Result<(), MergeError> {
        // Encoded into a buffer that grows by doubling, then copied.
        self.held
            .resize(self.waiting_bytes.saturating_add(size(rows).saturating_mul(3)));
        self.writer.write(rows).map_err(MergeError::internal)?;
        self.held.resize(self.waiting_bytes);
        let (start, end) = (self.ends.last().copied().unwrap_or(0), self.written());
        self.ends.push(end);
        let bytes = end.saturating_sub(start);
        // The block being merged, its keys, which are no longer than what they encode, and the block after it.
        let keys = bytes.saturating_add((rows.num_rows() as u64).saturating_mul(KEY_BYTES));
        self.need = self.need.max(bytes.saturating_mul(2).saturating_add(keys));
        self.upload.drain().await.map_err(scratch)
    }

    /// Bytes in the file so far.
    pub(super) fn written(&self) -> u64 {
        self.writer.get_ref().1
    }

    /// Ends the file.
    pub(super) async fn finish(mut self) -> Result<Run, MergeError> {
        let ended = self.end().await;
        if let Err(error) = ended {
            self.upload.abort().await;
            return Err(error);
        }
        Ok(Run {
            path: self.upload.path().clone(),
            store: self.store,
            need: self.need,
            _held: self.memory.hold((self.ends.capacity() * size_of::<u64>()) as u64),
            ends: self.ends,
        })
    }

    async fn end(&mut self) -> Result<(), MergeError> {
        self.write_waiting().await?;
        self.writer.finish().map_err(MergeError::internal)?;
        self.upload.finish().await.map_err(scratch)
    }

    /// Gives it up.
    pub(super) async fn abort(mut self) {
        self.upload.abort().await;
    }
}

impl fmt::Debug for RunWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunWriter")
            .field("upload", &self.upload)
            .finish_non_exhaustive()
    }
}

/// Counts the bytes that are written.
struct Counting(Pending, u64);

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1 += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Reads an intermediate file from its first block to its last.
pub(super) struct RunReader {
    run: Arc<Run>,
    plan: Plan,
    decoder: StreamDecoder,
    next: usize,
    /// The next block.
    ahead: Option<Ahead<Bytes, Error>>,
}

impl RunReader {
    /// Prepares to read `run`; reads nothing yet.
    pub(super) fn new(run: Arc<Run>, plan: &Plan) -> Self {
        Self {
            run,
            plan: plan.clone(),
            decoder: StreamDecoder::new(),
            next: 0,
            ahead: None,
        }
    }

    /// The next rows, `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Batch>, MergeError> {
        let Some(ahead) = self.ahead.take().or_else(|| self.fetch()) else {
            return Ok(None);
        };
        let (block, held) = ahead.finish().await.map_err(scratch)?;
        self.ahead = self.fetch();
        let bytes = block.len() as u64;
        let rows = self.decode(block.into()).map_err(MergeError::internal)?;
        let rows = rows.ok_or_else(|| MergeError::internal("an intermediate file ends before its last row"))?;
        drop(held);
        Batch::new(rows, bytes, &self.plan).map(Some)
    }

    /// The rows of a block; before the first one comes the schema.
    fn decode(&mut self, mut block: Buffer) -> Result<Option<RecordBatch>, ArrowError> {
        while !block.is_empty() {
            if let Some(rows) = self.decoder.decode(&mut block)? {
                return Ok(Some(rows));
            }
        }
        Ok(None)
    }

    /// Starts to fetch the next block.
    fn fetch(&mut self) -> Option<Ahead<Bytes, Error>> {
        let range = self.run.block(self.next)?;
        self.next += 1;
        let held = self.plan.memory.hold(range.end - range.start);
        let (store, path) = (Arc::clone(&self.run.store), self.run.path.clone());
        let fetch = async move {
            let bytes = store.get_range(&path, range).await;
            bytes.map_err(|e| Error::from_store("get", &path, e))
        };
        Some(Ahead::start(fetch, held))
    }

    /// Lets what is under way go on for a turn.
    pub(super) async fn turn(&mut self) {
        if let Some(ahead) = &mut self.ahead {
            ahead.turn().await;
        }
    }
}

impl fmt::Debug for RunReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunReader")
            .field("run", &self.run)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

fn scratch(source: Error) -> MergeError {
    MergeError::Scratch { source }
}
