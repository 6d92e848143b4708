//! Opens slices of an input: fetches them, measures them, and chooses how they are decoded.

use std::sync::Arc;

use parquet::arrow::ProjectionMask;

use super::decoder::Decoder;
use super::file::whole_file;
use super::{BATCH_SHARE, InputReader, OpenSlice, bytes_of};
use crate::merge::at_once::{Whole, beyond, decode_at_once};
use crate::merge::batch::MAX_BATCH_ROWS;
use crate::merge::budget::{allotment_for, fetch_limit, to_usize};
use crate::merge::decode::{Piece, Reading, SliceReader, find};
use crate::merge::error::{MergeError, SourceError};
use crate::merge::fetch::{coalesced, fetch_ranges, length};
use crate::merge::merging::Stop;
use crate::merge::pages::measure;
use crate::merge::slices;
use crate::quarantine::QuarantineReason;

/// Why an input cannot be read on.
pub(super) enum Refusal {
    Failed(MergeError),
    Source(SourceError),
    /// It would need an allotment of this size.
    NeedsMore {
        what: &'static str,
        needed: u64,
    },
}

impl Refusal {
    /// As the stop that it is for the input `index`.
    pub(super) fn at(self, index: usize) -> Stop {
        match self {
            Self::Failed(error) => error.into(),
            Self::Source(error) => error.at(index).into(),
            Self::NeedsMore { what, needed } => Stop::NeedsMore { index, what, needed },
        }
    }
}

impl From<MergeError> for Refusal {
    fn from(error: MergeError) -> Self {
        Self::Failed(error)
    }
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<QuarantineReason> for Refusal {
    fn from(reason: QuarantineReason) -> Self {
        Self::Source(reason.into())
    }
}

impl InputReader {
    /// Opens the first slice and has it decoded by the spawner, if it can be while rows of another input take `beside`
    /// bytes of the allotment.
    pub(in crate::merge) async fn open_ahead(&mut self, beside: u64) -> Result<(), Stop> {
        if self.claim().is_none() {
            let opened = self.open_next(Some(beside)).await;
            opened.map_err(|refusal| refusal.at(self.origin.index))?;
        }
        Ok(())
    }

    /// Opens the next slice, or postpones that if it cannot be while so many bytes of the allotment are `taken`; `false`
    /// after the last.
    pub(super) async fn open_next(&mut self, taken: Option<u64>) -> Result<bool, Refusal> {
        let piece = match self.postponed.take() {
            Some(piece) => Some(piece),
            None => match &mut self.file {
                Some(file) => file.next_piece(self.allotment).await?,
                None => None,
            },
        };
        match piece {
            Some(piece) => self.open(piece, taken).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Fetches what a slice needs and is not held yet, measures it, and opens the decoder. While bytes of
    /// the allotment are `taken`, it is postponed unless it is decoded batch by batch and fits beside them.
    async fn open(&mut self, mut piece: Piece, taken: Option<u64>) -> Result<(), Refusal> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        loop {
            let footer = &file.input.footer;
            let ranges = piece.slice.ranges();
            let least = length(&coalesced(&ranges));
            let index = file.memory_size();
            if ranges.iter().any(|range| find(&self.extents, range).is_none()) {
                self.extents = Arc::default();
                let whole = if self.narrow {
                    None
                } else {
                    whole_file(&file.input, self.allotment)
                };
                let ranges = whole.unwrap_or_else(|| ranges.clone());
                // Counted before it is there, so that what is in flight is counted too.
                self.held.resize(length(&coalesced(&ranges)));
                let extents = fetch_ranges(&*file.input.store, &footer.location, &footer.etag, &ranges).await?;
                self.extents = Arc::new(extents);
            }
            let fetched = bytes_of(&self.extents).saturating_add(index);
            let measured = measure(&piece.slice, &self.extents)?;
            let in_batches = fetched.saturating_add(measured.resident());
            let with_batch = in_batches.saturating_add(self.allotment / BATCH_SHARE);
            let fits = in_batches <= fetch_limit(self.allotment);
            if taken.is_some_and(|taken| !fits || with_batch.saturating_add(taken) > self.allotment) {
                self.postponed = Some(piece);
                return Ok(());
            }
            if fits {
                self.held.resize(in_batches);
                let batch_rows =
                    to_usize(self.allotment / BATCH_SHARE / measured.row_width.max(1)).clamp(1, MAX_BATCH_ROWS);
                let count = piece.slice.rows.len();
                let mut decoder = Decoder::new(SliceReader::open(Reading {
                    piece,
                    extents: Arc::clone(&self.extents),
                    size: footer.size,
                    columns: ProjectionMask::all(),
                    skip: 0,
                    batch_rows,
                    allotment: self.allotment,
                })?);
                if let Some(spawner) = &self.plan.spawner {
                    let rows = count.min(batch_rows) as u64;
                    let bytes = measured.row_width.saturating_mul(rows);
                    decoder.go_ahead(spawner, self.plan.memory.hold(bytes))?;
                }
                self.open = Some(OpenSlice::InBatches {
                    rows: count,
                    decoder,
                    done: 0,
                    batch_rows,
                });
                return Ok(());
            }
            let (count, leaves) = (piece.slice.rows.len() as u64, piece.slice.columns.len() as u64);
            let decoded = measured.row_width.saturating_mul(count);
            let beside = fetched.saturating_add(beyond(&piece, &measured.open, self.plan.decoding.bytes()));
            let at_once = slices::at_once(beside, decoded, count, leaves);
            if at_once <= self.allotment {
                self.held.resize(beside);
                let slice = Whole {
                    piece: piece.clone(),
                    extents: Arc::clone(&self.extents),
                    size: footer.size,
                    limit: self.allotment.saturating_sub(beside),
                };
                if let Some(batch) = decode_at_once(slice, &measured.open, &self.plan).await?? {
                    self.open = Some(OpenSlice::AtOnce(batch));
                    return Ok(());
                }
            }
            if bytes_of(&self.extents) > least && !self.narrow {
                // More has been fetched than this slice needs: without that it may do.
                self.narrow = true;
                self.extents = Arc::default();
                continue;
            }
            if let Some(smaller) = file.smaller(&piece, self.allotment).await? {
                piece = smaller;
                self.narrow = true;
                self.extents = Arc::default();
                continue;
            }
            // Rows wider than their pages tell may be twice as wide, or more: that shows next time.
            let at_once = if at_once <= self.allotment {
                self.allotment.saturating_mul(2)
            } else {
                at_once
            };
            return Err(Refusal::NeedsMore {
                what: "decompressed pages",
                needed: allotment_for(in_batches).min(at_once),
            });
        }
    }
}
