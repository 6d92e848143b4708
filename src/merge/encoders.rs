//! The encoders of the columns of a row group, at work as rows come in.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, FieldRef};
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};

use super::budget::encoder_bytes;
use super::error::MergeError;
use super::row_group::{ColumnRows, column_size, encoding, size};
use super::spawner::{Spawner, TASK_BYTES, Task};
use super::step::yield_now;
use crate::options::Codec;

/// How many steps of rows are with the spawner at most.
const STEPS_UNDER_WAY: usize = 3;

/// Encodes rows, all columns at a time.
pub(super) struct Encoders {
    manner: Manner,
    /// What they had when they were last asked.
    told: Told,
    /// What they take that they do not tell.
    beside: u64,
}

/// Where columns are encoded.
enum Manner {
    /// Here. One encoder for each leaf, in order.
    Here(Vec<ArrowColumnWriter>),
    /// By tasks.
    Spread(Spread),
}

/// Bytes of encoders.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// Held.
    memory: u64,
    /// Those of the file to be.
    encoded: u64,
}

impl Encoders {
    /// `columns` are encoded here.
    pub(super) fn here(columns: Vec<ArrowColumnWriter>, codec: Codec) -> Self {
        Self::new(columns.len(), codec, Manner::Here(columns))
    }

    /// `columns` are encoded by the spawner, in steps of `step` bytes of rows.
    pub(super) fn spread(columns: Vec<ArrowColumnWriter>, codec: Codec, spawner: Spawner, step: u64) -> Self {
        Self::new(
            columns.len(),
            codec,
            Manner::Spread(Spread::new(columns, spawner, step)),
        )
    }

    fn new(columns: usize, codec: Codec, manner: Manner) -> Self {
        Self {
            manner,
            told: Told::default(),
            beside: encoder_bytes(codec).saturating_mul(columns as u64),
        }
    }

    pub(super) async fn add(&mut self, rows: &RecordBatch) -> Result<(), MergeError> {
        match &mut self.manner {
            Manner::Here(columns) => {
                let mut writers = columns.iter_mut();
                // Each column takes all rows in turn: what its encoder works with then stays in the processor's cache.
                for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
                    encode(&mut writers, field, column)?;
                    yield_now().await;
                }
                self.told = Told::of(columns);
            }
            Manner::Spread(spread) => {
                spread.add(rows).await?;
                self.told = spread.told();
            }
        }
        Ok(())
    }

    /// Bytes held, what is known of them.
    pub(super) fn memory_size(&self) -> u64 {
        let rows = match &self.manner {
            Manner::Here(_) => 0,
            Manner::Spread(spread) => spread.waiting_bytes.saturating_add(spread.under_way.iter().sum()),
        };
        self.beside.saturating_add(self.told.memory).saturating_add(rows)
    }

    /// Bytes that what is encoded will have in the file.
    pub(super) fn encoded_size(&self) -> u64 {
        self.told.encoded
    }

    /// The columns, in order, once they have all rows.
    pub(super) fn finish(self) -> Result<Vec<ColumnRows>, MergeError> {
        match self.manner {
            Manner::Here(columns) => Ok(columns.into_iter().map(Box::new).map(ColumnRows::Encoded).collect()),
            Manner::Spread(spread) => spread.finish(),
        }
    }
}

/// Encoders that are with tasks, which are given rows in steps: to wake a task takes its time too.
///
/// What they tell is what they had after a certain step, not what they happen to have reached, so that row groups end
/// at the same row each time.
struct Spread {
    spawner: Spawner,
    /// Bytes of rows that are given to tasks together.
    step: u64,
    waiting: Vec<RecordBatch>,
    waiting_bytes: u64,
    /// None before the first step.
    tasks: Vec<ColumnTask>,
    /// The encoders before the first step.
    columns: Vec<ArrowColumnWriter>,
    /// Bytes of the steps that the tasks have been given and not all of them have told of.
    under_way: VecDeque<u64>,
}

/// A task that encodes consecutive columns.
struct ColumnTask {
    columns: usize,
    steps: UnboundedSender<Vec<Vec<ArrayRef>>>,
    /// After each step.
    tells: UnboundedReceiver<Told>,
    told: Told,
    outcome: Task<Result<Vec<ArrowColumnChunk>, MergeError>>,
}

impl Spread {
    fn new(columns: Vec<ArrowColumnWriter>, spawner: Spawner, step: u64) -> Self {
        Self {
            spawner,
            step,
            waiting: Vec::new(),
            waiting_bytes: 0,
            tasks: Vec::new(),
            columns,
            under_way: VecDeque::new(),
        }
    }

    fn told(&self) -> Told {
        let sum = |of: fn(&Told) -> u64| self.tasks.iter().map(|task| of(&task.told)).sum();
        Told {
            memory: sum(|told| told.memory),
            encoded: sum(|told| told.encoded),
        }
    }

    async fn add(&mut self, rows: &RecordBatch) -> Result<(), MergeError> {
        self.waiting_bytes += size(rows);
        self.waiting.push(rows.clone());
        if self.waiting_bytes >= self.step {
            if self.under_way.len() >= STEPS_UNDER_WAY {
                self.hear().await?;
            }
            self.give()?;
        }
        Ok(())
    }

    /// Waits until all tasks have told of the first step that is under way.
    async fn hear(&mut self) -> Result<(), MergeError> {
        for index in 0..self.tasks.len() {
            let Some(task) = self.tasks.get_mut(index) else {
                break;
            };
            match task.tells.next().await {
                Some(told) => task.told = told,
                // It ends before its time only when something is wrong.
                None => {
                    let outcome = self.tasks.swap_remove(index).outcome.outcome().await?;
                    let error = outcome.err();
                    return Err(error.unwrap_or_else(|| MergeError::internal("an encoder ends before its rows")));
                }
            }
        }
        self.under_way.pop_front();
        Ok(())
    }

    /// Gives the rows that wait to the tasks.
    fn give(&mut self) -> Result<(), MergeError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        if self.tasks.is_empty() {
            self.start()?;
        }
        let mut column = 0;
        for task in &self.tasks {
            let pieces = (column..column + task.columns).map(|column| self.pieces(column));
            column += task.columns;
            // One that is gone is noticed when it is to tell.
            let _ = task.steps.unbounded_send(pieces.collect());
        }
        self.waiting.clear();
        self.under_way.push_back(std::mem::take(&mut self.waiting_bytes));
        Ok(())
    }

    fn pieces(&self, column: usize) -> Vec<ArrayRef> {
        let pieces = self.waiting.iter().filter_map(|rows| rows.columns().get(column));
        pieces.cloned().collect()
    }

    /// Starts the tasks: one for each column, or for some whose rows are few bytes.
    fn start(&mut self) -> Result<(), MergeError> {
        let Some(first) = self.waiting.first() else {
            return Ok(());
        };
        let schema = first.schema();
        let mut encoders = std::mem::take(&mut self.columns).into_iter();
        let mut fields: Vec<FieldRef> = Vec::new();
        let mut bytes = 0;
        for (index, field) in schema.fields().iter().enumerate() {
            fields.push(Arc::clone(field));
            bytes += self.pieces(index).iter().map(column_size).sum::<u64>();
            if bytes < TASK_BYTES && index + 1 < schema.fields().len() {
                continue;
            }
            bytes = 0;
            let fields = std::mem::take(&mut fields);
            let leaves = fields.iter().map(|field| leaves(field.data_type())).sum();
            let (steps, given) = unbounded();
            let (tell, tells) = unbounded();
            self.tasks.push(ColumnTask {
                columns: fields.len(),
                steps,
                tells,
                told: Told::default(),
                outcome: self.spawner.start(encode_steps(
                    encoders.by_ref().take(leaves).collect(),
                    fields,
                    given,
                    tell,
                ))?,
            });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<ColumnRows>, MergeError> {
        self.give()?;
        if self.tasks.is_empty() {
            return Ok(self
                .columns
                .into_iter()
                .map(Box::new)
                .map(ColumnRows::Encoded)
                .collect());
        }
        // Without a sender the steps are at their end, and so the tasks.
        let ended = self
            .tasks
            .into_iter()
            .map(|task| ColumnRows::Ending(task.outcome, task.told.memory));
        Ok(ended.collect())
    }
}

impl Told {
    fn of(columns: &[ArrowColumnWriter]) -> Self {
        let sum = |of: fn(&ArrowColumnWriter) -> usize| columns.iter().map(of).sum::<usize>() as u64;
        Self {
            memory: sum(ArrowColumnWriter::memory_size),
            encoded: sum(ArrowColumnWriter::get_estimated_total_bytes),
        }
    }
}

/// Encodes consecutive columns, step by step, to their end.
async fn encode_steps(
    mut encoders: Vec<ArrowColumnWriter>,
    fields: Vec<FieldRef>,
    mut steps: UnboundedReceiver<Vec<Vec<ArrayRef>>>,
    tell: UnboundedSender<Told>,
) -> Result<Vec<ArrowColumnChunk>, MergeError> {
    while let Some(columns) = steps.next().await {
        let mut rest = encoders.as_mut_slice();
        for (field, pieces) in fields.iter().zip(columns) {
            let (these, others) = rest.split_at_mut(leaves(field.data_type()).min(rest.len()));
            for piece in pieces {
                encode(&mut these.iter_mut(), field, &piece)?;
                drop(piece);
                yield_now().await;
            }
            rest = others;
        }
        // Nobody may listen any more.
        let _ = tell.unbounded_send(Told::of(&encoders));
    }
    let chunks = encoders.into_iter().map(|encoder| encoder.close().map_err(encoding));
    chunks.collect()
}

/// Encodes an array of a top-level column by the writers of its leaves.
pub(super) fn encode<'a>(
    writers: &mut impl Iterator<Item = &'a mut ArrowColumnWriter>,
    field: &FieldRef,
    column: &ArrayRef,
) -> Result<(), MergeError> {
    for levels in compute_leaves(field, column).map_err(encoding)? {
        let writer = writers
            .next()
            .ok_or_else(|| MergeError::internal("more leaves than columns"))?;
        writer.write(&levels).map_err(encoding)?;
    }
    Ok(())
}

/// How many leaf columns a column has in Parquet.
fn leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::Map(item, _) => leaves(item.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        _ => 1,
    }
}
