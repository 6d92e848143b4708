//! Reads one input: batches of the plan's columns with their keys, in the order in which they are checked.

mod copying;
mod decoder;
mod file;
mod key_check;
mod opening;

use std::sync::{Arc, PoisonError};

use arrow::array::RecordBatch;

use self::decoder::Decoder;
use self::file::File;
use self::key_check::KeyCheck;
use super::batch::{Batch, with_ordinal};
use super::budget::{Held, fetch_limit, to_usize};
use super::decode::{Piece, arrow_metadata};
use super::error::{MergeError, SourceError};
use super::fetch::Extent;
use super::input::{Input, Origin, Plan};
use super::keys::InOrder;
use super::merging::Stop;
use crate::quarantine::QuarantineReason;
use crate::schema::Caster;

/// The part of an allotment that one batch may take.
const BATCH_SHARE: u64 = 8;

/// Reads an input from its first row to its last.
#[derive(Debug)]
pub(super) struct InputReader {
    origin: Origin,
    plan: Plan,
    /// `None` once the last slice has been decoded: where inputs are many, even their footers are much.
    file: Option<File>,
    /// Bytes that this reader may hold.
    allotment: u64,
    extents: Arc<Vec<Extent>>,
    held: Held,
    /// Only what a slice needs is fetched for it.
    narrow: bool,
    open: Option<OpenSlice>,
    /// A slice that is to be opened next.
    postponed: Option<Piece>,
    /// Bytes of the last batch, if it is a whole slice.
    at_once: u64,
    in_order: InOrder,
    /// Reads the keys of the last row group, which is being copied.
    key_check: Option<KeyCheck>,
    /// If the rows may be in any order, the number of the next batch.
    unordered: Option<u64>,
}

#[derive(Debug)]
enum OpenSlice {
    /// Decoded as a whole.
    AtOnce(RecordBatch),
    /// Decoded batch by batch.
    InBatches {
        /// Of the slice.
        rows: usize,
        decoder: Decoder,
        /// Rows of the slice that have been read.
        done: usize,
        batch_rows: usize,
    },
}

impl InputReader {
    /// Prepares to read `input` with at most `allotment` bytes; reads nothing yet.
    pub(super) fn new(input: Input, plan: &Plan, allotment: u64) -> Result<Self, MergeError> {
        let origin = input.origin;
        Self::prepare(input, plan, allotment).map_err(|reason| SourceError::from(reason).at(origin.index))
    }

    fn prepare(mut input: Input, plan: &Plan, allotment: u64) -> Result<Self, QuarantineReason> {
        let target = &plan.columns;
        // Without rows, there is nothing that could not be converted.
        let source = if input.footer.rows == 0 {
            target
        } else {
            &input.footer.schema
        };
        let caster = Caster::new(source, target)?;
        let arrow = arrow_metadata(Arc::clone(&input.footer.metadata))?;
        let extents: Vec<_> = input
            .footer
            .content
            .take()
            .map(|bytes| Extent { start: 0, bytes })
            .into_iter()
            .collect();
        let held = plan.memory.hold(bytes_of(&extents));
        Ok(Self {
            origin: input.origin,
            plan: plan.clone(),
            file: Some(File {
                input,
                caster,
                arrow,
                next_group: 0,
                decoded: None,
                division: None,
            }),
            allotment,
            extents: Arc::new(extents),
            held,
            narrow: false,
            open: None,
            postponed: None,
            at_once: 0,
            in_order: InOrder::default(),
            key_check: None,
            unordered: None,
        })
    }

    /// Rows may be in any order. Where rows carry their rank, they also carry the number of their batch.
    pub(super) fn unordered(mut self) -> Self {
        self.unordered = Some(0);
        self
    }

    /// Hands over what has been fetched of the input already.
    pub(super) fn with_fetched(mut self, extents: Vec<Extent>, held: Held) -> Self {
        self.extents = Arc::new(extents);
        self.held = held;
        self
    }

    /// Bytes that this reader will not need any more: what is left of its allotment once its last slice is open.
    pub(super) fn spare(&self) -> u64 {
        if self.file.as_ref().is_none_or(File::is_at_its_end) {
            fetch_limit(self.allotment)
                .saturating_sub(self.held.bytes())
                .saturating_sub(self.at_once)
        } else {
            0
        }
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// The next rows, `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Batch>, Stop> {
        let origin = self.origin;
        loop {
            if let Some(batch) = self.decode().await? {
                let batch = self.finish(&batch)?;
                if self.open.is_none() && self.file.as_ref().is_some_and(File::is_at_its_end) {
                    self.close();
                }
                return Ok(Some(batch));
            }
            let opened = self.open_next(None).await.map_err(|refusal| refusal.at(origin.index))?;
            if !opened {
                self.close();
                return Ok(None);
            }
        }
    }

    /// Whether it has given its last rows.
    pub(super) fn is_closed(&self) -> bool {
        self.file.is_none()
    }

    /// Lets go of everything but the last key.
    fn close(&mut self) {
        self.file = None;
        self.extents = Arc::default();
        self.held.resize(0);
    }

    /// Decodes a batch of the open slice, `None` if there is none or it is at its end.
    async fn decode(&mut self) -> Result<Option<RecordBatch>, MergeError> {
        let index = self.origin.index;
        let at = |reason: QuarantineReason| SourceError::from(reason).at(index);
        let Some(open) = &mut self.open else {
            return Ok(None);
        };
        let (expected, decoder, done, batch_rows) = match open {
            OpenSlice::AtOnce(batch) => {
                let batch = batch.clone();
                self.at_once = batch.get_array_memory_size() as u64;
                self.open = None;
                return Ok(Some(batch));
            }
            OpenSlice::InBatches {
                rows,
                decoder,
                done,
                batch_rows,
            } => (*rows, decoder, done, batch_rows),
        };
        let Some(batch) = decoder.read().await?.map_err(at)? else {
            return Err(at(QuarantineReason::corrupt("a row group ends before its last row")));
        };
        *done += batch.num_rows();
        if *done >= expected {
            if *done > expected || decoder.read().await?.map_err(at)?.is_some() {
                return Err(at(QuarantineReason::corrupt("a row group goes on after its last row")));
            }
            self.open = None;
            return Ok(Some(batch));
        }
        let bytes = batch.get_array_memory_size() as u64;
        let wanted = self.allotment / BATCH_SHARE;
        if bytes > wanted.saturating_mul(2) && *batch_rows > 1 {
            // Wider rows than the pages told: go on with fewer at a time.
            let rows = (*batch_rows as u64).saturating_mul(wanted) / bytes.max(1);
            *batch_rows = to_usize(rows).max(1);
            decoder.set_batch_rows(*batch_rows)?.map_err(at)?;
        }
        if let Some(spawner) = &self.plan.spawner {
            decoder.go_ahead(spawner, self.plan.memory.hold(bytes))?;
        }
        Ok(Some(batch))
    }

    /// Converts a batch, encodes its keys and checks their order.
    fn finish(&mut self, decoded: &RecordBatch) -> Result<Batch, MergeError> {
        let origin = self.origin;
        let Some(file) = &self.file else {
            return Err(MergeError::internal("rows of a file that is closed"));
        };
        let mut rows = file
            .caster
            .cast(decoded)
            .map_err(|reason| SourceError::from(reason).at(origin.index))?;
        if let Some(hash) = &self.plan.hash {
            hash.lock().unwrap_or_else(PoisonError::into_inner).add(&rows)?;
        }
        if self.plan.has_ordinal() {
            let batch = self.unordered.unwrap_or(0);
            rows = with_ordinal(&rows, &self.plan.schema, (u64::from(origin.rank) << 32) | batch)?;
        }
        let bytes = rows.get_array_memory_size() as u64;
        let batch = Batch::new(rows, bytes, &self.plan)?;
        match (&mut self.unordered, &batch.keys) {
            (None, Some(keys)) => {
                let added = self.in_order.add(keys);
                added.map_err(|reason| SourceError::from(reason).at(origin.index))?;
            }
            (Some(number), _) => *number += 1,
            (None, None) => {}
        }
        Ok(batch)
    }
}

fn bytes_of(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| extent.bytes.len() as u64).sum()
}

#[cfg(test)]
mod tests;
