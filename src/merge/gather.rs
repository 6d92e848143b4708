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

/// The rows of `runs` over `batches` (by head), with the columns of `schema` alone.
pub(super) async fn gather(
    schema: &SchemaRef,
    batches: &[Option<RecordBatch>],
    runs: &[Run],
) -> Result<RecordBatch, MergeError> {
    let rows = runs.iter().map(|run| run.len).sum();
    let mut columns = Vec::with_capacity(schema.fields().len());
    for column in 0..schema.fields().len() {
        columns.push(gather_column(batches, column, runs, rows)?);
        yield_now().await;
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(MergeError::internal)
}

fn gather_column(
    batches: &[Option<RecordBatch>],
    column: usize,
    runs: &[Run],
    rows: usize,
) -> Result<ArrayRef, MergeError> {
    let array = |head: usize| {
        let batch = batches.get(head).and_then(Option::as_ref);
        batch
            .and_then(|batch| batch.columns().get(column))
            .ok_or_else(|| MergeError::internal("run without a batch"))
    };
    if let [run] = runs {
        return Ok(array(run.head)?.slice(run.start, run.len));
    }
    // Heads that take part, in the order in which they first appear, and the place of each.
    let mut places: Vec<Option<usize>> = vec![None; batches.len()];
    let mut parts: Vec<&ArrayRef> = Vec::new();
    for run in runs {
        if let Some(place @ None) = places.get_mut(run.head) {
            *place = Some(parts.len());
            parts.push(array(run.head)?);
        }
    }
    let place = |run: &Run| places.get(run.head).copied().flatten().unwrap_or(0);
    if rows >= runs.len().saturating_mul(LONG_RUN) {
        let data: Vec<_> = parts.iter().map(Array::to_data).collect();
        let mut out = MutableArrayData::new(data.iter().collect(), false, rows);
        for run in runs {
            out.try_extend(place(run), run.start, run.start + run.len)
                .map_err(MergeError::internal)?;
        }
        return Ok(make_array(out.freeze()));
    }
    let indices: Vec<(usize, usize)> = runs
        .iter()
        .flat_map(|run| (run.start..run.start + run.len).map(move |row| (run, row)))
        .map(|(run, row)| (place(run), row))
        .collect();
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    interleave(&parts, &indices).map_err(MergeError::internal)
}
