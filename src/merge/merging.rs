//! Merges chains of inputs: reads where a head is empty, merges the keys, carries out the runs.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::row::OwnedRow;
use futures::{StreamExt, TryStreamExt, stream};

use super::ahead::Queue;
use super::batch::{Batch, MAX_BATCH_ROWS};
use super::budget::{Held, to_usize};
use super::error::MergeError;
use super::gather::gather;
use super::input::{Origin, Plan};
use super::kway::{Head, merge};
use super::reader::InputReader;
use super::runs::{Run, RunReader};
use super::sources::Source;
use super::step::yield_now;

/// Inputs that are opened at the same time.
const CONCURRENT_READS: usize = 8;

/// Why a merge stops.
#[derive(Debug)]
pub(super) enum Stop {
    /// Statistics lied: this input does not continue its chain.
    ChainBroken {
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

impl From<MergeError> for Stop {
    fn from(error: MergeError) -> Self {
        Self::Failed(error)
    }
}

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

    /// Bytes that it will not need any more.
    fn spare(&self) -> u64 {
        match self {
            Self::Run(_) => 0,
            Self::Source(reader) => reader.spare(),
        }
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
        let cursors = chains
            .into_iter()
            .map(|chain| Cursor {
                plan: plan.clone(),
                waiting: chain.inputs.into(),
                allotment: chain.allotment,
                spare: chain.spare,
                reader: None,
                ahead: Queue::default(),
                batch: None,
                position: 0,
                last: None,
            })
            .collect();
        Self {
            plan,
            out,
            max_bytes,
            cursors,
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

    /// The next rows, `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Merged>, Stop> {
        let fills: Vec<_> = self
            .cursors
            .iter_mut()
            .filter(|cursor| cursor.is_empty())
            .map(Cursor::fill)
            .collect();
        stream::iter(fills)
            .buffer_unordered(CONCURRENT_READS)
            .try_collect::<()>()
            .await?;
        self.cursors.retain(|cursor| cursor.batch.is_some());
        if self.cursors.is_empty() {
            return Ok(None);
        }
        let mut heads: Vec<Option<Head<'_>>> = self.cursors.iter().map(Cursor::head).collect();
        let runs = merge(&mut heads, self.max_rows());
        let positions: Vec<usize> = heads
            .iter()
            .map(|head| head.as_ref().map_or(0, |head| head.rows.start))
            .collect();
        drop(heads);
        for cursor in &mut self.cursors {
            cursor.turn().await;
        }
        let batches: Vec<Option<RecordBatch>> = self
            .cursors
            .iter()
            .map(|cursor| cursor.batch.as_ref().map(|batch| batch.rows.clone()))
            .collect();
        let rows = gather(&self.out, &batches, &runs).await?;
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

    /// How many of the widest rows at hand make up `max_bytes`.
    fn max_rows(&self) -> usize {
        let widths = self.cursors.iter().filter_map(|cursor| {
            let batch = cursor.batch.as_ref()?;
            batch.bytes.checked_div(batch.rows.num_rows() as u64)
        });
        to_usize(self.max_bytes / widths.max().unwrap_or(0).max(1)).clamp(1, MAX_BATCH_ROWS)
    }
}

/// The place that a merge has reached in a chain.
#[derive(Debug)]
struct Cursor {
    plan: Plan,
    waiting: VecDeque<Waiting>,
    allotment: u64,
    spare: u64,
    reader: Option<Reader>,
    /// Of those waiting.
    ahead: Queue,
    batch: Option<Batch>,
    position: usize,
    /// Last key and rank of the inputs before the one being read.
    last: Option<(OwnedRow, u32)>,
}

impl Cursor {
    fn is_empty(&self) -> bool {
        self.batch.is_none()
    }

    fn head(&self) -> Option<Head<'_>> {
        let batch = self.batch.as_ref()?;
        Some(Head {
            keys: batch.keys.as_ref(),
            rank: self.rank(),
            rows: self.position..batch.rows.num_rows(),
        })
    }

    fn advance(&mut self, position: usize) {
        self.position = position;
        if let Some(batch) = self.batch.take_if(|batch| position >= batch.rows.num_rows())
            && let Some(keys) = &batch.keys
            && let Some(last) = keys.len().checked_sub(1)
        {
            self.last = Some((keys.owned(last), self.rank()));
        }
    }

    /// Of all rows at hand, 0 where each row has its own.
    fn rank(&self) -> u32 {
        let origin = self.reader.as_ref().and_then(Reader::origin);
        origin.map_or(0, |origin| origin.rank)
    }

    /// Lets what is fetched ahead go on for a turn.
    async fn turn(&mut self) {
        self.ahead.turn().await;
        if let Some(Reader::Run(reader)) = &mut self.reader {
            reader.turn().await;
        }
    }

    /// Prepares to read an input, of which the pages may have been fetched.
    async fn open(&mut self, source: Source) -> Result<InputReader, MergeError> {
        let index = source.index;
        let reader = InputReader::new(source.open().await?, &self.plan, self.allotment)?;
        let Some(ahead) = self.ahead.next() else {
            return Ok(reader);
        };
        let (extents, held) = ahead.finish().await.map_err(|e| e.at(index))?;
        Ok(reader.with_fetched(extents, held))
    }

    /// Reads until there are rows at hand, or the chain is at its end.
    async fn fill(&mut self) -> Result<(), Stop> {
        self.position = 0;
        loop {
            if let Some(reader) = &mut self.reader {
                while let Some(batch) = reader.next().await? {
                    // Decoding a batch is a step of its own.
                    yield_now().await;
                    if batch.rows.num_rows() == 0 {
                        continue;
                    }
                    check_link(self.last.as_ref(), &batch, reader.origin())?;
                    self.batch = Some(batch);
                    let waiting = self.waiting.iter().map_while(|waiting| match waiting {
                        Waiting::Source(source) => Some(&**source),
                        Waiting::Run(_) => None,
                    });
                    let limits = (self.spare, reader.spare());
                    self.ahead.extend(waiting, limits, &self.plan.memory);
                    return Ok(());
                }
                self.reader = None;
            }
            let Some(next) = self.waiting.pop_front() else {
                return Ok(());
            };
            self.reader = Some(match next {
                Waiting::Run(run) => Reader::Run(Box::new(RunReader::new(run, &self.plan))),
                Waiting::Source(source) => Reader::Source(Box::new(self.open(*source).await?)),
            });
        }
    }
}

/// Checks that a batch continues its chain.
fn check_link(last: Option<&(OwnedRow, u32)>, batch: &Batch, origin: Option<Origin>) -> Result<(), Stop> {
    let (Some((last, last_rank)), Some(keys)) = (last, &batch.keys) else {
        return Ok(());
    };
    let (first, rank) = (keys.row(0), origin.map_or(0, |origin| origin.rank));
    if (last.row(), *last_rank) <= (first, rank) {
        return Ok(());
    }
    match origin {
        Some(Origin { index, .. }) => Err(Stop::ChainBroken { index }),
        None => Err(MergeError::internal("an intermediate file is out of order").into()),
    }
}
