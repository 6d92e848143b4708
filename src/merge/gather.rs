//! Carries out runs, column by column.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, MutableArrayData, RecordBatch, RecordBatchOptions, make_array};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;

use super::error::MergeError;
use super::kway::Run;
use super::spawner::{Spawner, start_or_keep};
use super::step::yield_now;

/// From this many rows on, runs are copied whole rather than row by row.
const LONG_RUN: usize = 4;
/// Where there are more columns than this, so many of them make a task: of a few, one often has most of the bytes.
const TASK_COLUMNS: usize = 16;

/// Rows of batches that are to be taken out, column by column.
struct Gathering {
    /// Those that take part.
    parts: Vec<RecordBatch>,
    way: Way,
    rows: usize,
}

/// How the rows of runs are taken from every column.
enum Way {
    /// They are part of one batch.
    Slice(Run),
    /// Run by run, as (place among the parts, first row, end).
    Runs(Vec<(usize, usize, usize)>),
    /// Row by row, as (place among the parts, row).
    Rows(Vec<(usize, usize)>),
}

/// The rows of `runs` over `batches` (by head), with the columns of `schema` alone.
pub(super) async fn gather(
    schema: &SchemaRef,
    batches: &[Option<RecordBatch>],
    runs: &[Run],
    spawner: Option<&Spawner>,
) -> Result<RecordBatch, MergeError> {
    let rows = runs.iter().map(|run| run.len).sum();
    let (heads, way) = way(batches.len(), runs, rows);
    let parts = heads.into_iter().map(|head| {
        let batch = batches.get(head).and_then(Option::as_ref);
        batch
            .cloned()
            .ok_or_else(|| MergeError::internal("run without a batch"))
    });
    let parts = parts.collect::<Result<_, _>>()?;
    let gathering = Arc::new(Gathering { parts, way, rows });
    let all = schema.fields().len();
    let is_spread = all > TASK_COLUMNS && !matches!(gathering.way, Way::Slice(_));
    let (spawner, step) = match spawner.filter(|_| is_spread) {
        Some(spawner) => (Some(spawner), TASK_COLUMNS),
        None => (None, all.max(1)),
    };
    let tasks = (0..all).step_by(step).map(|first| {
        let columns = first..all.min(first + step);
        start_or_keep(spawner, Arc::clone(&gathering).columns(columns))
    });
    let mut columns = Vec::with_capacity(all);
    for task in tasks.collect::<Result<Vec<_>, _>>()? {
        columns.extend(task.await?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(MergeError::internal)
}

impl Gathering {
    async fn columns(self: Arc<Self>, columns: Range<usize>) -> Result<Vec<ArrayRef>, MergeError> {
        let mut gathered = Vec::with_capacity(columns.len());
        for column in columns {
            gathered.push(self.column(column)?);
            yield_now().await;
        }
        Ok(gathered)
    }

    fn column(&self, column: usize) -> Result<ArrayRef, MergeError> {
        let parts = self.parts.iter().map(|batch| {
            let array = batch.columns().get(column);
            array.ok_or_else(|| MergeError::internal("a batch lacks a column"))
        });
        let parts: Vec<&ArrayRef> = parts.collect::<Result<_, _>>()?;
        match &self.way {
            Way::Slice(run) => {
                let part = parts.first();
                let part = part.ok_or_else(|| MergeError::internal("run without a batch"))?;
                Ok(part.slice(run.start, run.len))
            }
            Way::Runs(runs) => {
                let data: Vec<_> = parts.iter().map(Array::to_data).collect();
                let mut out = MutableArrayData::new(data.iter().collect(), false, self.rows);
                for (place, start, end) in runs {
                    out.try_extend(*place, *start, *end).map_err(MergeError::internal)?;
                }
                Ok(make_array(out.freeze()))
            }
            Way::Rows(indices) => {
                let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                interleave(&parts, indices).map_err(MergeError::internal)
            }
        }
    }
}

/// The heads that take part, in the order in which they first appear, and how their rows are taken.
fn way(heads: usize, runs: &[Run], rows: usize) -> (Vec<usize>, Way) {
    if let [run] = runs {
        return (vec![run.head], Way::Slice(*run));
    }
    let mut places: Vec<Option<usize>> = vec![None; heads];
    let mut parts = Vec::new();
    for run in runs {
        if let Some(place @ None) = places.get_mut(run.head) {
            *place = Some(parts.len());
            parts.push(run.head);
        }
    }
    let runs = runs.iter().map(|run| {
        let place = places.get(run.head).copied().flatten().unwrap_or(0);
        (place, run.start, run.start + run.len)
    });
    if rows >= runs.len().saturating_mul(LONG_RUN) {
        return (parts, Way::Runs(runs.collect()));
    }
    let mut indices = Vec::with_capacity(rows);
    for (place, start, end) in runs {
        indices.extend((start..end).map(|row| (place, row)));
    }
    (parts, Way::Rows(indices))
}
