//! The encoders of the columns of a row group, at work as rows come in.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, FieldRef};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, compute_leaves};

use super::budget::encoder_bytes;
use super::error::MergeError;
use super::row_group::{column_size, encoding, size};
use super::spawner::{Spawner, Task};
use super::step::yield_now;
use crate::options::Codec;

/// Least bytes of rows that are worth a task.
const TASK_BYTES: u64 = 64 << 10;

/// Encodes rows, all columns at a time.
pub(super) struct Encoders {
    /// One for each leaf, in order; none while they are with the spawner.
    columns: Vec<ArrowColumnWriter>,
    /// What they had when they were last at hand.
    told: Told,
    /// What they take that they do not tell.
    beside: u64,
    spread: Option<Spread>,
}

/// Bytes of encoders.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// Held.
    memory: u64,
    /// Those of the file to be.
    encoded: u64,
}

/// Rows that are encoded by tasks, many at a time: to start and to await tasks takes its time too.
struct Spread {
    spawner: Spawner,
    /// Bytes of rows that are given to tasks together.
    step: u64,
    waiting: Vec<RecordBatch>,
    waiting_bytes: u64,
    /// In the order of their columns.
    under_way: Vec<Task<Result<Vec<ArrowColumnWriter>, MergeError>>>,
    under_way_bytes: u64,
}

impl Encoders {
    /// `columns` are encoded in steps of `step` bytes of rows, by the spawner if there is one.
    pub(super) fn new(columns: Vec<ArrowColumnWriter>, codec: Codec, spawner: Option<Spawner>, step: u64) -> Self {
        let beside = encoder_bytes(codec).saturating_mul(columns.len() as u64);
        Self {
            columns,
            told: Told::default(),
            beside,
            spread: spawner.map(|spawner| Spread {
                spawner,
                step,
                waiting: Vec::new(),
                waiting_bytes: 0,
                under_way: Vec::new(),
                under_way_bytes: 0,
            }),
        }
    }

    pub(super) async fn add(&mut self, rows: &RecordBatch) -> Result<(), MergeError> {
        let Some(spread) = &mut self.spread else {
            let mut writers = self.columns.iter_mut();
            // Each column takes all rows in turn: what its encoder works with then stays in the processor's cache.
            for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
                encode(&mut writers, field, column)?;
                yield_now().await;
            }
            self.told = Told::of(&self.columns);
            return Ok(());
        };
        spread.waiting_bytes += size(rows);
        spread.waiting.push(rows.clone());
        if spread.waiting_bytes >= spread.step {
            self.settle().await?;
            self.start()?;
        }
        Ok(())
    }

    /// Waits for the tasks that are under way.
    async fn settle(&mut self) -> Result<(), MergeError> {
        let Some(spread) = &mut self.spread else {
            return Ok(());
        };
        for task in spread.under_way.drain(..) {
            self.columns.extend(task.outcome().await??);
        }
        spread.under_way_bytes = 0;
        self.told = Told::of(&self.columns);
        Ok(())
    }

    /// Gives the rows that wait to tasks.
    fn start(&mut self) -> Result<(), MergeError> {
        let Some(spread) = &mut self.spread else {
            return Ok(());
        };
        let Some(first) = spread.waiting.first() else {
            return Ok(());
        };
        let schema = first.schema();
        let mut encoders = std::mem::take(&mut self.columns).into_iter();
        let mut some: Vec<(FieldRef, Vec<ArrayRef>)> = Vec::new();
        let mut bytes = 0;
        for (index, field) in schema.fields().iter().enumerate() {
            let column = spread.waiting.iter().filter_map(|rows| rows.columns().get(index));
            let column: Vec<ArrayRef> = column.cloned().collect();
            bytes += column.iter().map(column_size).sum::<u64>();
            some.push((Arc::clone(field), column));
            if bytes < TASK_BYTES && index + 1 < schema.fields().len() {
                continue;
            }
            bytes = 0;
            let some = std::mem::take(&mut some);
            let leaves = some.iter().map(|(field, _)| leaves(field.data_type())).sum();
            let encoders: Vec<_> = encoders.by_ref().take(leaves).collect();
            spread.under_way.push(spread.spawner.start(encode_all(encoders, some))?);
        }
        spread.waiting.clear();
        spread.under_way_bytes = std::mem::take(&mut spread.waiting_bytes);
        Ok(())
    }

    /// Bytes held, what is known of them.
    pub(super) fn memory_size(&self) -> u64 {
        let spread = self.spread.as_ref();
        let rows = spread.map_or(0, |spread| spread.waiting_bytes.saturating_add(spread.under_way_bytes));
        self.beside.saturating_add(self.told.memory).saturating_add(rows)
    }

    /// Bytes that what is encoded will have in the file.
    pub(super) fn encoded_size(&self) -> u64 {
        self.told.encoded
    }

    /// The encoders of the leaves, once they have all rows.
    pub(super) async fn finish(mut self) -> Result<Vec<ArrowColumnWriter>, MergeError> {
        self.settle().await?;
        self.start()?;
        self.settle().await?;
        Ok(self.columns)
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

/// Encodes consecutive columns.
async fn encode_all(
    mut encoders: Vec<ArrowColumnWriter>,
    columns: Vec<(FieldRef, Vec<ArrayRef>)>,
) -> Result<Vec<ArrowColumnWriter>, MergeError> {
    let mut rest = encoders.as_mut_slice();
    for (field, pieces) in columns {
        let (these, others) = rest.split_at_mut(leaves(field.data_type()).min(rest.len()));
        for piece in pieces {
            encode(&mut these.iter_mut(), &field, &piece)?;
            drop(piece);
            yield_now().await;
        }
        rest = others;
    }
    Ok(encoders)
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
