//! One chain of inputs of a merge, read one after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::row::OwnedRow;

use super::ahead::{Ahead, Pages, Queue};
use super::batch::Batch;
use super::chain::Span;
use super::copying::{Claim, Copied};
use super::error::MergeError;
use super::input::{Origin, Plan};
use super::kway::Head;
use super::merging::{Stop, check_follows};
use super::reader::InputReader;
use super::runs::{Run, RunReader};
use super::sources::Source;
use super::step::yield_now;

/// One chain of inputs and the bytes that reading it may hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    pub(super) inputs: Vec<Waiting>,
    pub(super) allotment: u64,
    /// Bytes that what is fetched ahead may hold beside.
    pub(super) spare: u64,
}

/// What is not being read yet.
#[derive(Clone, Debug)]
pub(super) enum Waiting {
    Run(Arc<Run>),
    Source(Box<Source>),
}

/// What is being read.
#[derive(Debug)]
enum Reader {
    Run(Box<RunReader>),
    Source(Box<InputReader>),
}

impl Reader {
    /// See [`InputReader::claim`].
    fn claim(&mut self) -> Option<Claim> {
        match self {
            Self::Run(_) => None,
            Self::Source(reader) => reader.claim(),
        }
    }

    async fn next(&mut self) -> Result<Option<Batch>, Stop> {
        match self {
            Self::Run(reader) => Ok(reader.next().await?),
            Self::Source(reader) => reader.next().await,
        }
    }

    /// The input; `None` for an intermediate file, whose rows carry their ranks themselves.
    fn origin(&self) -> Option<Origin> {
        match self {
            Self::Run(_) => None,
            Self::Source(reader) => Some(reader.origin()),
        }
    }

    /// Whether it is known to have given its last rows.
    fn is_closed(&self) -> bool {
        match self {
            Self::Run(_) => false,
            Self::Source(reader) => reader.is_closed(),
        }
    }

    /// Bytes that it will not need any more.
    fn spare(&self) -> u64 {
        match self {
            Self::Run(_) => 0,
            Self::Source(reader) => reader.spare(),
        }
    }
}

/// A reader under way.
type Opening = Ahead<Option<Box<InputReader>>, Stop>;

/// The place that a merge has reached in a chain.
#[derive(Debug)]
pub(super) struct Cursor {
    plan: Plan,
    waiting: VecDeque<Waiting>,
    allotment: u64,
    spare: u64,
    reader: Option<Reader>,
    /// The input that comes next, opened while the last rows of the one before are merged.
    opening: Option<Opening>,
    /// Of those waiting.
    ahead: Queue,
    /// Rows at hand.
    pub(super) batch: Option<Batch>,
    /// If there are none, what is told of the row group that is next, which may be copied.
    pub(super) claim: Option<Claim>,
    /// What is told of the row group that is being copied.
    copying: Option<Span>,
    /// The first and the last key of the row group that has just been copied, and the input that it was of.
    pub(super) copied: Option<(OwnedRow, OwnedRow, Origin)>,
    /// The next one of the rows at hand.
    pub(super) position: usize,
    /// Last key and rank of the rows before those at hand.
    last: Option<(OwnedRow, u32)>,
}

impl Cursor {
    pub(super) fn new(plan: Plan, chain: Chain) -> Self {
        Self {
            plan,
            waiting: chain.inputs.into(),
            allotment: chain.allotment,
            spare: chain.spare,
            reader: None,
            opening: None,
            ahead: Queue::default(),
            batch: None,
            claim: None,
            copying: None,
            copied: None,
            position: 0,
            last: None,
        }
    }

    /// The rows at hand.
    pub(super) fn head(&self) -> Option<Head<'_>> {
        let batch = self.batch.as_ref()?;
        Some(Head {
            keys: batch.keys.as_ref(),
            rank: self.rank(),
            rows: self.position..batch.rows.num_rows(),
        })
    }

    pub(super) fn advance(&mut self, position: usize) {
        self.position = position;
        if let Some(batch) = self.batch.take_if(|batch| position >= batch.rows.num_rows())
            && let Some(keys) = &batch.keys
            && let Some(last) = keys.len().checked_sub(1)
        {
            self.last = Some((keys.owned(last), self.rank()));
        }
    }

    /// The input being read; none if that is an intermediate file, whose rows carry their ranks themselves.
    pub(super) fn origin(&self) -> Option<Origin> {
        self.reader.as_ref().and_then(Reader::origin)
    }

    /// Of all rows at hand, 0 where each row has its own.
    pub(super) fn rank(&self) -> u32 {
        self.origin().map_or(0, |origin| origin.rank)
    }

    /// Lets what is done ahead go on for a turn.
    pub(super) async fn turn(&mut self) {
        self.ahead.turn().await;
        if let Some(opening) = &mut self.opening {
            opening.turn().await;
        }
        if let Some(Reader::Run(reader)) = &mut self.reader {
            reader.turn().await;
        }
    }

    /// Fetches ahead of the inputs that wait, and opens the first of them once that takes nothing from the one being
    /// read.
    fn look_ahead(&mut self) {
        let waiting = self.waiting.iter().map_while(|waiting| match waiting {
            Waiting::Source(source) => Some(&**source),
            Waiting::Run(_) => None,
        });
        let reader = self.reader.as_ref().filter(|_| self.opening.is_none());
        let limits = (self.spare, reader.map_or(0, Reader::spare));
        self.ahead.extend(waiting, limits, &self.plan.memory);
        if reader.is_none_or(|reader| !reader.is_closed()) || self.plan.spawner.is_none() || self.ahead.is_empty() {
            return;
        }
        if let Some(Waiting::Source(source)) = self.waiting.pop_front() {
            let beside = self.batch.as_ref().map_or(0, Batch::memory_size);
            let (plan, allotment, pages) = (self.plan.clone(), self.allotment, self.ahead.next());
            let nothing = plan.memory.hold(0);
            let opening = async move {
                let mut reader = open(&plan, allotment, *source, pages).await?;
                reader.open_ahead(beside).await?;
                Ok(Some(Box::new(reader)))
            };
            self.opening = Some(Opening::start(opening, nothing));
        }
    }

    /// Prepares to read what comes next, `None` after the last.
    async fn next_reader(&mut self) -> Result<Option<Reader>, Stop> {
        if let Some(opening) = self.opening.take() {
            let (reader, _) = opening.finish().await?;
            return Ok(reader.map(Reader::Source));
        }
        Ok(match self.waiting.pop_front() {
            Some(Waiting::Source(source)) => {
                let reader = open(&self.plan, self.allotment, *source, self.ahead.next()).await?;
                Some(Reader::Source(Box::new(reader)))
            }
            Some(Waiting::Run(run)) => Some(Reader::Run(Box::new(RunReader::new(run, &self.plan)))),
            None => None,
        })
    }

    /// The least first key column of the row group that may be copied.
    pub(super) fn claimed_first(&self) -> Option<&OwnedRow> {
        self.claim.as_ref()?.span.as_ref().map(|span| &span.first)
    }

    /// Reads until there are rows at hand, or a row group that may be copied is next, or the chain is at its end.
    pub(super) async fn fill(&mut self) -> Result<(), Stop> {
        self.position = 0;
        self.end_copy().await?;
        loop {
            if let Some(reader) = &mut self.reader {
                self.claim = reader.claim();
                if self.claim.is_some() {
                    return Ok(());
                }
                while let Some(batch) = reader.next().await? {
                    // Decoding a batch is a step of its own.
                    yield_now().await;
                    if batch.rows.num_rows() == 0 {
                        continue;
                    }
                    if let Some(keys) = &batch.keys {
                        check_follows(self.last.as_ref(), keys.row(0), reader.origin())?;
                    }
                    self.batch = Some(batch);
                    self.look_ahead();
                    return Ok(());
                }
                self.reader = None;
            }
            self.reader = self.next_reader().await?;
            if self.reader.is_none() {
                return Ok(());
            }
        }
    }

    /// Lets the row group that may be copied be decoded.
    pub(super) fn decline(&mut self) {
        if let (Some(_), Some(Reader::Source(reader))) = (self.claim.take(), &mut self.reader) {
            reader.decline();
        }
    }

    /// The row group that is next, to be copied; `None` if it has to be decoded after all.
    pub(super) async fn copy(&mut self) -> Result<Option<Copied>, Stop> {
        let claim = self.claim.take();
        let Some(Reader::Source(reader)) = &mut self.reader else {
            return Ok(None);
        };
        let copied = reader.copy().await.map_err(Stop::of_copy)?;
        if copied.is_some() {
            self.copying = claim.and_then(|claim| claim.span);
            self.look_ahead();
        }
        Ok(copied)
    }

    /// Waits for the keys of the row group that has been copied, and checks that they are where they were told to be.
    async fn end_copy(&mut self) -> Result<(), Stop> {
        let (Some(told), Some(Reader::Source(reader))) = (self.copying.take(), &mut self.reader) else {
            return Ok(());
        };
        let origin = reader.origin();
        let Some((first, last)) = reader.copied_keys().await.map_err(Stop::of_copy)? else {
            return Ok(());
        };
        check_follows(self.last.as_ref(), first.row(), Some(origin))?;
        // What is told also becomes the bounds in the table.
        if !(told.holds(first.row()) && told.holds(last.row())) {
            return Err(Stop::ChainBroken { index: origin.index });
        }
        self.last = Some((last.clone(), origin.rank));
        self.copied = Some((first, last, origin));
        Ok(())
    }
}

/// Prepares to read an input, of which the pages may have been fetched.
async fn open(plan: &Plan, allotment: u64, source: Source, pages: Option<Pages>) -> Result<InputReader, MergeError> {
    let index = source.index;
    let reader = InputReader::new(source.open().await?, plan, allotment)?;
    let Some(pages) = pages else {
        return Ok(reader);
    };
    let (extents, held) = pages.finish().await.map_err(|error| error.at(index))?;
    Ok(reader.with_fetched(extents, held))
}
