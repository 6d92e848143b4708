//! Carries out runs, column by column.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, MutableArrayData, RecordBatch, RecordBatchOptions, make_array};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;

use super::error::MergeError;
use super::kway::Run;
use super::step::yield_now;

/// From this many rows on, runs are copied whole rather than row by row.
const LONG_RUN: usize = 4;

/// How the rows of runs are taken from every column.
enum Way<'a> {
    /// They are part of one batch.
    Slice(&'a Run),
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
) -> Result<RecordBatch, MergeError> {
    let rows = runs.iter().map(|run| run.len).sum();
    let (heads, way) = way(batches.len(), runs, rows);
    let mut columns = Vec::with_capacity(schema.fields().len());
    for column in 0..schema.fields().len() {
        let parts = heads.iter().map(|head| {
            let batch = batches.get(*head).and_then(Option::as_ref);
            let array = batch.and_then(|batch| batch.columns().get(column));
            array.ok_or_else(|| MergeError::internal("run without a batch"))
        });
        columns.push(gather_column(&parts.collect::<Result<Vec<_>, _>>()?, &way, rows)?);
        yield_now().await;
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(MergeError::internal)
}

/// The heads that take part, in the order in which they first appear, and how their rows are taken.
fn way(heads: usize, runs: &[Run], rows: usize) -> (Vec<usize>, Way<'_>) {
    if let [run] = runs {
        return (vec![run.head], Way::Slice(run));
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

fn gather_column(parts: &[&ArrayRef], way: &Way<'_>, rows: usize) -> Result<ArrayRef, MergeError> {
    match way {
        Way::Slice(run) => {
            let part = parts.first();
            let part = part.ok_or_else(|| MergeError::internal("run without a batch"))?;
            Ok(part.slice(run.start, run.len))
        }
        Way::Runs(runs) => {
            let data: Vec<_> = parts.iter().map(Array::to_data).collect();
            let mut out = MutableArrayData::new(data.iter().collect(), false, rows);
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
