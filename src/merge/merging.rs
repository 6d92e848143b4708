//! Merges chains of inputs: reads where a head is empty, merges the keys, carries out the runs.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::row::{OwnedRow, Row};
use futures::{StreamExt, TryStreamExt, stream};

use super::batch::{Batch, MAX_BATCH_ROWS};
use super::budget::{Held, to_usize};
use super::copying::{Claim, Copied, Offer};
use super::cursor::{Chain, Cursor};
use super::error::MergeError;
use super::gather::gather;
use super::input::{Origin, Plan};
use super::kway::{Head, Run, merge};
use crate::quarantine::QuarantineReason;

/// Inputs that are opened at the same time.
const CONCURRENT_READS: usize = 8;

/// Why a merge stops.
#[derive(Debug)]
pub(super) enum Stop {
    /// Statistics lied: the keys of this input are not where they are told to be.
    ChainBroken {
        index: usize,
    },
    /// A row group of this input cannot be copied. Whether something is wrong with it, those who decode it judge.
    CannotCopy {
        index: usize,
    },
    Failed(MergeError),
    /// This input needs a larger allotment than it was given.
    NeedsMore {
        index: usize,
        what: &'static str,
        needed: u64,
    },
}

impl Stop {
    /// What it means that a row group could not be copied.
    pub(super) fn of_copy(error: MergeError) -> Self {
        match error {
            MergeError::Source { index, reason } if !matches!(reason, QuarantineReason::Unsorted { .. }) => {
                Self::CannotCopy { index }
            }
            error => Self::Failed(error),
        }
    }
}

impl From<MergeError> for Stop {
    fn from(error: MergeError) -> Self {
        Self::Failed(error)
    }
}

/// A merge under way.
#[derive(Debug)]
pub(super) struct Merging {
    plan: Plan,
    /// The columns of the outcome.
    out: SchemaRef,
    /// Most bytes of merged rows at once.
    max_bytes: u64,
    cursors: Vec<Cursor>,
    /// Last key and rank so far, where row groups are copied by what footers tell.
    last: Option<(OwnedRow, u32)>,
}

/// What comes next in a merge.
#[derive(Debug)]
pub(super) enum Step {
    Rows(Merged),
    /// A row group, which is to be copied or declined.
    Offer(Offer),
}

/// Merged rows.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) rows: RecordBatch,
    _held: Held,
}

impl Merging {
    /// A merge of `chains` into batches of the columns `out` of at most about `max_bytes`.
    pub(super) fn new(plan: Plan, chains: Vec<Chain>, out: SchemaRef, max_bytes: u64) -> Self {
        let cursors = chains.into_iter().map(|chain| Cursor::new(plan.clone(), chain));
        Self {
            cursors: cursors.collect(),
            plan,
            out,
            max_bytes,
            last: None,
        }
    }

    /// A merge of batches that are each in order, and tell their rows from those of the others.
    pub(super) fn of_batches(plan: Plan, batches: Vec<Batch>, max_bytes: u64) -> Self {
        let none = (0..batches.len()).map(|_| Chain::default()).collect();
        let out = Arc::clone(&plan.schema);
        let mut merging = Self::new(plan, none, out, max_bytes);
        for (cursor, batch) in merging.cursors.iter_mut().zip(batches) {
            cursor.batch = Some(batch);
        }
        merging
    }

    /// The next rows of a merge that copies nothing, `None` after the last.
    pub(super) async fn next_rows(&mut self) -> Result<Option<Merged>, Stop> {
        match self.next().await? {
            Some(Step::Rows(rows)) => Ok(Some(rows)),
            Some(Step::Offer(_)) => Err(MergeError::internal("a row group where rows are asked for").into()),
            None => Ok(None),
        }
    }

    /// What comes next, `None` after the last row.
    pub(super) async fn next(&mut self) -> Result<Option<Step>, Stop> {
        loop {
            self.fill().await?;
            if self.cursors.is_empty() {
                return Ok(None);
            }
            if let Some((_, claim)) = self.first_claim() {
                return Ok(Some(Step::Offer(claim.offer)));
            }
            if let Some(merged) = self.merge_rows().await? {
                return Ok(Some(Step::Rows(merged)));
            }
            // What comes next is in row groups that overlap others.
            self.decline();
        }
    }

    /// The row group that is offered; `None` if it has to be decoded after all.
    pub(super) async fn copy(&mut self) -> Result<Option<Copied>, Stop> {
        let index = self.first_claim().map(|(index, _)| index);
        let Some(cursor) = index.and_then(|index| self.cursors.get_mut(index)) else {
            return Ok(None);
        };
        cursor.copy().await
    }

    /// Lets the row group that is told to come first be decoded.
    pub(super) fn decline(&mut self) {
        let claims = self.cursors.iter_mut().filter(|cursor| cursor.claim.is_some());
        if let Some(first) = claims.min_by(|a, b| a.claimed_first().cmp(&b.claimed_first())) {
            first.decline();
        }
    }

    /// Fills what is empty.
    async fn fill(&mut self) -> Result<(), Stop> {
        let cursors = self.cursors.iter_mut();
        let empty = cursors.filter(|cursor| cursor.batch.is_none() && cursor.claim.is_none());
        let fills: Vec<_> = empty.map(Cursor::fill).collect();
        stream::iter(fills)
            .buffer_unordered(CONCURRENT_READS)
            .try_collect::<()>()
            .await?;
        for cursor in &mut self.cursors {
            if let Some((first, last, origin)) = cursor.copied.take() {
                check_follows(self.last.as_ref(), first.row(), Some(origin))?;
                self.last = Some((last, origin.rank));
            }
        }
        self.cursors
            .retain(|cursor| cursor.batch.is_some() || cursor.claim.is_some());
        Ok(())
    }

    /// The cursor at a row group that comes before all that is left of the others, as far as is told.
    fn first_claim(&self) -> Option<(usize, &Claim)> {
        let mut claims = self.cursors.iter().enumerate();
        claims.find_map(|(index, cursor)| {
            let claim = cursor.claim.as_ref()?;
            // Without keys there is one chain.
            let Some(span) = &claim.span else {
                return Some((index, claim));
            };
            let mut others = self.cursors.iter().enumerate().filter(|(other, _)| *other != index);
            let is_first = others.all(|(_, other)| match (other.head(), other.claimed_first()) {
                (Some(head), _) => head.keys.is_some_and(|keys| span.is_before(keys.row(head.rows.start))),
                (None, Some(first)) => span.is_before(first.row()),
                (None, None) => false,
            });
            is_first.then_some((index, claim))
        })
    }

    /// The next rows at hand that come before the row groups that may be copied; `None` if there are none.
    async fn merge_rows(&mut self) -> Result<Option<Merged>, Stop> {
        let claims = self
            .cursors
            .iter()
            .filter_map(|cursor| cursor.claim.as_ref()?.span.as_ref());
        let bound = claims.map(|span| &span.first).min();
        let heads = self.cursors.iter().map(|cursor| before(cursor.head()?, bound));
        let mut heads: Vec<Option<Head<'_>>> = heads.collect();
        let runs = merge(&mut heads, self.max_rows());
        if runs.is_empty() {
            return Ok(None);
        }
        let last = self.check_order(&runs)?;
        let positions = self.cursors.iter().zip(&heads);
        let positions: Vec<usize> = positions
            .map(|(cursor, head)| head.as_ref().map_or(cursor.position, |head| head.rows.start))
            .collect();
        drop(heads);
        self.last = last;
        for cursor in &mut self.cursors {
            cursor.turn().await;
        }
        let batches: Vec<Option<RecordBatch>> = self
            .cursors
            .iter()
            .map(|cursor| cursor.batch.as_ref().map(|batch| batch.rows.clone()))
            .collect();
        let rows = gather(&self.out, &batches, &runs, self.plan.spawner.as_ref()).await?;
        drop(batches);
        for (cursor, position) in self.cursors.iter_mut().zip(positions) {
            cursor.advance(position);
        }
        // A single run shares the memory of its batch.
        let bytes = if runs.len() > 1 {
            rows.get_array_memory_size() as u64
        } else {
            0
        };
        let held = self.plan.memory.hold(bytes);
        Ok(Some(Merged { rows, _held: held }))
    }

    /// Where row groups are copied by what footers tell, checks that these runs come after what came before; the last
    /// key and rank of them.
    fn check_order(&self, runs: &[Run]) -> Result<Option<(OwnedRow, u32)>, Stop> {
        let (Some(_), Some(first), Some(last)) = (&self.plan.copying, runs.first(), runs.last()) else {
            return Ok(None);
        };
        let place = |run: &Run| {
            let cursor = self.cursors.get(run.head)?;
            Some((cursor, cursor.batch.as_ref()?.keys.as_ref()?))
        };
        let (Some((cursor, keys)), Some((last_cursor, last_keys))) = (place(first), place(last)) else {
            return Ok(None);
        };
        check_follows(self.last.as_ref(), keys.row(first.start), cursor.origin())?;
        let row = (last.start + last.len).saturating_sub(1);
        Ok(Some((last_keys.owned(row), last_cursor.rank())))
    }

    /// How many of the widest rows at hand make up `max_bytes`.
    fn max_rows(&self) -> usize {
        let widths = self.cursors.iter().filter_map(|cursor| {
            let batch = cursor.batch.as_ref()?;
            batch.bytes.checked_div(batch.rows.num_rows() as u64)
        });
        to_usize(self.max_bytes / widths.max().unwrap_or(0).max(1)).clamp(1, MAX_BATCH_ROWS)
    }
}

/// Those of the rows at hand whose keys come before `bound`, the first column of one.
fn before<'a>(head: Head<'a>, bound: Option<&OwnedRow>) -> Option<Head<'a>> {
    let (Some(bound), Some(keys)) = (bound, head.keys) else {
        return Some(head);
    };
    let rows = head.rows.start..keys.first_from(head.rows.clone(), bound.row());
    (!rows.is_empty()).then_some(Head { rows, ..head })
}

/// Checks that a row with the key `next` comes after the `last` one; if not, the statistics of its input lied.
pub(super) fn check_follows(last: Option<&(OwnedRow, u32)>, next: Row<'_>, origin: Option<Origin>) -> Result<(), Stop> {
    let rank = origin.map_or(0, |origin| origin.rank);
    if last.is_none_or(|(last, last_rank)| (last.row(), *last_rank) <= (next, rank)) {
        return Ok(());
    }
    match origin {
        Some(Origin { index, .. }) => Err(Stop::ChainBroken { index }),
        None => Err(MergeError::internal("an intermediate file is out of order").into()),
    }
}
