//! Writes merged rows into files by partition.
//!
//! Where the merge order visits one partition after the other, one file is open at a time, as without partitions.
//! Else many are, and what they hold together stays within the bytes that one row group and one upload may have:
//!
//! ```text
//!  rows ──► gathered per partition ──► row group ──► upload ──► file
//!                          too much: the largest     too much: the one that waits
//!                          one is encoded            longest is finished early
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;

use super::budget::{Held, Memory, to_usize};
use super::copying::{Copied, Offer, Rule};
use super::cut::{Cut, Cutter, Group};
use super::error::MergeError;
use super::output::{OpenFile, OpenGroup, Output, OutputOptions};
use super::row_group::{one_encoder_bytes, size};
use super::step::yield_now;
use crate::data_file::{DataFile, FilePartition};
use crate::partitioning::Partitioner;

/// What is known of a partition, beside its key.
const PARTITION_BYTES: u64 = 512;
/// What an open file takes before anything is written: buffers, its writer, the beginnings of an upload.
const OPEN_FILE_BYTES: u64 = 24 << 10;
/// What a column takes of an open file: metrics of it so far.
const OPEN_COLUMN_BYTES: u64 = 512;
/// What a finished column chunk takes until its file is finished: its place in the footer, its page index.
const CHUNK_BYTES: u64 = 1 << 10;
/// The part of the bytes for a row group that the keys of partitions may take.
const KEY_SHARE: u64 = 8;
/// Steps in which the bytes for all open files are filled.
const STEPS: u64 = 16;

/// Where merged rows go.
#[derive(Debug)]
pub(super) enum Outputs {
    /// Into files one after the other.
    InOrder(Box<Output>),
    /// Into files of partitions.
    ByPartition(Box<FanOut>),
}

/// Files of partitions.
#[derive(Debug)]
pub(super) struct FanOut {
    output: Output,
    cutter: Cutter,
    /// The columns of rows that files have; `None`: all.
    stored: Option<Vec<usize>>,
    memory: Memory,
    /// Bytes that keys may take.
    key_bytes: u64,
    /// Bytes that all open files together may hold.
    limit: u64,
    /// The partition, or the cluster of partitions, of the last row.
    last: Option<Vec<u8>>,
    open: BTreeMap<Vec<u8>, Open>,
    /// What all of them hold.
    total: Bytes,
    /// Counts the writes.
    turn: u64,
}

/// A partition that rows wait for, or whose file is open.
#[derive(Debug)]
struct Open {
    partition: FilePartition,
    group: Option<OpenGroup>,
    /// Opened with its first row group.
    file: Option<OpenFile>,
    /// When it was written last.
    turn: u64,
    /// What it takes by itself.
    itself: Held,
    /// What it held when that was looked at last.
    bytes: Bytes,
}

impl Open {
    fn look(&self) -> Bytes {
        let pending = self.file.as_ref().map_or(0, OpenFile::pending_bytes);
        Bytes {
            rows: self.group.as_ref().map_or(0, OpenGroup::bytes),
            beside: self.itself.bytes().saturating_add(pending),
        }
    }

    /// Writes the rows that wait, if there are any.
    async fn write_group(&mut self, output: &mut Output, memory: &Memory) -> Result<(), MergeError> {
        let Some(group) = self.group.take() else {
            return Ok(());
        };
        let columns = output.options().schema.fields().len() as u64;
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                let more = OPEN_FILE_BYTES + OPEN_COLUMN_BYTES * columns;
                self.itself.resize(self.itself.bytes() + more);
                output.open(Some(self.partition.clone()))?
            }
        };
        let encoder = memory.hold(one_encoder_bytes(output.options().codec));
        let written = output.write_group(&mut file, group).await;
        drop(encoder);
        self.itself.resize(self.itself.bytes() + CHUNK_BYTES * columns);
        match written {
            Ok(()) => {
                self.file = Some(file);
                Ok(())
            }
            Err(error) => {
                file.abort().await;
                Err(error)
            }
        }
    }
}

/// What open partitions hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bytes {
    /// Rows that are not encoded yet.
    rows: u64,
    /// What waits for its upload, and the files themselves.
    beside: u64,
}

impl Outputs {
    /// Nothing is written yet.
    pub(super) fn new(options: OutputOptions, partitioner: Option<&Arc<dyn Partitioner>>) -> Result<Self, MergeError> {
        Ok(match partitioner {
            None => Self::InOrder(Box::new(Output::new(options)?)),
            Some(partitioner) => Self::ByPartition(Box::new(FanOut::new(options, Arc::clone(partitioner))?)),
        })
    }

    pub(super) async fn write(&mut self, rows: &RecordBatch) -> Result<(), MergeError> {
        match self {
            Self::InOrder(output) => output.write(rows).await,
            Self::ByPartition(fan_out) => fan_out.write(rows).await,
        }
    }

    /// What row groups must be to be copied; `None` where files are cut by partition.
    pub(super) fn rule(&self) -> Result<Option<Rule>, MergeError> {
        match self {
            Self::InOrder(output) => output.rule().map(Some),
            Self::ByPartition(_) => Ok(None),
        }
    }

    /// As [`Output::accepts`].
    pub(super) fn accepts(&mut self, offer: Offer) -> bool {
        match self {
            Self::InOrder(output) => output.accepts(offer),
            Self::ByPartition(_) => false,
        }
    }

    /// As [`Output::copy`].
    pub(super) async fn copy(&mut self, copied: Copied) -> Result<u64, MergeError> {
        match self {
            Self::InOrder(output) => output.copy(copied).await,
            Self::ByPartition(_) => Err(MergeError::internal("a row group of many partitions")),
        }
    }

    /// As [`Output::finish`].
    pub(super) async fn finish(&mut self) -> Result<Vec<DataFile>, MergeError> {
        match self {
            Self::InOrder(output) => output.finish().await,
            Self::ByPartition(fan_out) => fan_out.finish().await,
        }
    }

    /// As [`Output::restart`].
    pub(super) async fn restart(&mut self) -> Vec<DataFile> {
        match self {
            Self::InOrder(output) => output.restart().await,
            Self::ByPartition(fan_out) => fan_out.restart().await,
        }
    }
}

impl FanOut {
    fn new(mut options: OutputOptions, partitioner: Arc<dyn Partitioner>) -> Result<Self, MergeError> {
        let all = options.schema.fields().iter().enumerate();
        let columns = all.filter(|(_, field)| partitioner.keeps(field.name()));
        let columns: Vec<usize> = columns.map(|(column, _)| column).collect();
        let is_all = columns.len() == options.schema.fields().len();
        options.schema = Arc::new(options.schema.project(&columns).map_err(MergeError::internal)?);
        let cutter = Cutter::new(partitioner, &options.sort_order)?;
        let key_bytes = options.row_group_bytes / KEY_SHARE;
        options.row_group_bytes -= key_bytes;
        let all = options.row_group_bytes.saturating_add(options.part_size);
        // One encoder is at work at a time, and one more step is to fit in.
        let left = all.saturating_sub(one_encoder_bytes(options.codec)).max(all / 4);
        Ok(Self {
            cutter,
            stored: (!is_all).then_some(columns),
            memory: options.memory.clone(),
            key_bytes,
            limit: left / STEPS * (STEPS - 1),
            last: None,
            open: BTreeMap::new(),
            total: Bytes::default(),
            turn: 0,
            output: Output::new(options)?,
        })
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<(), MergeError> {
        let width = size(rows) / rows.num_rows().max(1) as u64;
        let step = to_usize(self.cutter.rows_within(self.key_bytes, width)).max(1);
        let mut start = 0;
        while start < rows.num_rows() {
            let some = rows.slice(start, step.min(rows.num_rows() - start));
            start += some.num_rows();
            let cut = self.cutter.cut(&some)?;
            let some = match &self.stored {
                Some(columns) => some.project(columns).map_err(MergeError::internal)?,
                None => some,
            };
            let held = self.memory.hold(cut.size());
            if self.cutter.is_clustered() {
                self.write_runs(&some, &cut).await?;
            } else {
                self.scatter(&some, &cut, width).await?;
            }
            drop(held);
        }
        Ok(())
    }

    /// One partition after the other.
    async fn write_runs(&mut self, rows: &RecordBatch, cut: &Cut) -> Result<(), MergeError> {
        for (key, run) in cut.runs() {
            if self.last.as_deref() != Some(key) {
                self.output.turn_to(self.cutter.partition(cut, run.start)?).await?;
                self.last = Some(key.to_vec());
            }
            self.output.write(&rows.slice(run.start, run.len())).await?;
        }
        Ok(())
    }

    /// To all partitions of a cluster at a time.
    async fn scatter(&mut self, rows: &RecordBatch, cut: &Cut, width: u64) -> Result<(), MergeError> {
        let step = to_usize(self.limit / STEPS / width.max(1)).max(1);
        for (cluster, range) in cut.clusters() {
            if self.last.as_deref() != Some(cluster) {
                self.close_all().await?;
                self.last = Some(cluster.to_vec());
            }
            for Group { key, rows: places } in cut.groups(range) {
                for places in places.chunks(step) {
                    // A copy: what waits in a row group must not keep all merged rows in memory.
                    let gathered = take_record_batch(rows, &UInt32Array::from(places.to_vec()));
                    let gathered = gathered.map_err(MergeError::internal)?;
                    let first = places.first().map_or(0, |row| *row as usize);
                    self.add(&key, cut, first, &gathered).await?;
                    yield_now().await;
                }
            }
        }
        Ok(())
    }

    /// Adds rows to the partition of one of them.
    async fn add(&mut self, key: &[u8], cut: &Cut, row: usize, rows: &RecordBatch) -> Result<(), MergeError> {
        if !self.open.contains_key(key) {
            let open = Open {
                partition: self.cutter.partition(cut, row)?,
                group: None,
                file: None,
                turn: 0,
                itself: self.memory.hold(PARTITION_BYTES + 4 * key.len() as u64),
                bytes: Bytes::default(),
            };
            self.open.insert(key.to_vec(), open);
        }
        self.turn += 1;
        let Some(open) = self.open.get_mut(key) else {
            return Err(MergeError::internal("no open partition"));
        };
        open.turn = self.turn;
        let options = self.output.options();
        let group = open.group.get_or_insert_with(|| OpenGroup::gathered(options));
        group.add(rows).await?;
        let is_full = group.is_full(open.file.as_ref(), options);
        self.look_at(key);
        if is_full {
            self.close_group(key).await?;
        }
        self.relieve().await
    }

    /// Brings what all open partitions hold back below the limit.
    async fn relieve(&mut self) -> Result<(), MergeError> {
        while self.total.rows.saturating_add(self.total.beside) > self.limit {
            if self.total.rows > self.total.beside {
                let Some(key) = self.largest() else { break };
                self.close_group(&key).await?;
            } else {
                let Some(key) = self.longest_waiting() else { break };
                self.close(&key).await?;
            }
        }
        Ok(())
    }

    /// The partition with the largest row group.
    fn largest(&self) -> Option<Vec<u8>> {
        let largest = self.open.iter().max_by_key(|(_, open)| open.bytes.rows);
        largest.map(|(key, _)| key.clone())
    }

    /// The partition that was written least recently, of those that hold as much as most do: to finish small files
    /// frees little.
    fn longest_waiting(&self) -> Option<Vec<u8>> {
        let average = self.total.beside / self.open.len().max(1) as u64;
        let worth = self.open.iter().filter(|(_, open)| open.bytes.beside >= average);
        worth.min_by_key(|(_, open)| open.turn).map(|(key, _)| key.clone())
    }

    /// Takes note of what a partition holds now.
    fn look_at(&mut self, key: &[u8]) {
        let Some(open) = self.open.get_mut(key) else { return };
        let now = open.look();
        self.total.rows = self.total.rows - open.bytes.rows + now.rows;
        self.total.beside = self.total.beside - open.bytes.beside + now.beside;
        open.bytes = now;
    }

    /// Writes the rows of a partition into its file, and finishes that if it is large enough, or does not deserve to
    /// be kept open: what it takes by itself is better used for rows.
    async fn close_group(&mut self, key: &[u8]) -> Result<(), MergeError> {
        let Some(open) = self.open.get_mut(key) else {
            return Ok(());
        };
        open.write_group(&mut self.output, &self.memory).await?;
        self.look_at(key);
        let options = self.output.options();
        let is_done = self.open.get(key).is_some_and(|open| {
            let file = open.file.as_ref();
            file.is_some_and(|file| file.is_at_target(options) || file.written() < open.itself.bytes())
        });
        if is_done { self.close(key).await } else { Ok(()) }
    }

    /// Finishes the file of a partition.
    async fn close(&mut self, key: &[u8]) -> Result<(), MergeError> {
        let Some(mut open) = self.open.remove(key) else {
            return Ok(());
        };
        self.total.rows -= open.bytes.rows;
        self.total.beside -= open.bytes.beside;
        open.write_group(&mut self.output, &self.memory).await?;
        match open.file {
            Some(file) => self.output.close_file(file).await,
            None => Ok(()),
        }
    }

    async fn close_all(&mut self) -> Result<(), MergeError> {
        while let Some(key) = self.first() {
            self.close(&key).await?;
        }
        Ok(())
    }

    fn first(&self) -> Option<Vec<u8>> {
        self.open.keys().next().cloned()
    }

    async fn finish(&mut self) -> Result<Vec<DataFile>, MergeError> {
        self.close_all().await?;
        let mut files = self.output.finish().await?;
        // As they were begun, whichever was finished first.
        files.sort_by(|a, b| (a.path.len(), &a.path).cmp(&(b.path.len(), &b.path)));
        Ok(files)
    }

    async fn restart(&mut self) -> Vec<DataFile> {
        self.last = None;
        self.total = Bytes::default();
        for (_, open) in std::mem::take(&mut self.open) {
            if let Some(file) = open.file {
                file.abort().await;
            }
        }
        self.output.restart().await
    }
}
