//! Rows at hand, with their keys.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::datatypes::SchemaRef;

use super::budget::Held;
use super::error::MergeError;
use super::input::Plan;
use super::keys::Keys;

/// Most rows in one batch.
pub(super) const MAX_BATCH_ROWS: usize = 8_192;

/// Rows that have been read, converted and checked.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) rows: RecordBatch,
    pub(super) keys: Option<Keys>,
    /// What the rows take.
    pub(super) bytes: u64,
    held: Held,
}

impl Batch {
    /// Encodes the keys of rows that take so many bytes.
    pub(super) fn new(rows: RecordBatch, bytes: u64, plan: &Plan) -> Result<Self, MergeError> {
        let keys = match &plan.keys {
            Some(encoder) => Some(encoder.encode(&rows)?),
            None => None,
        };
        let held = plan
            .memory
            .hold(bytes.saturating_add(keys.as_ref().map_or(0, Keys::memory_size) as u64));
        Ok(Self {
            rows,
            keys,
            bytes,
            held,
        })
    }

    /// Bytes held, those of the keys too.
    pub(super) fn memory_size(&self) -> u64 {
        self.held.bytes()
    }
}

/// The same rows with a last column that holds `ordinal` in each.
pub(super) fn with_ordinal(rows: &RecordBatch, schema: &SchemaRef, ordinal: u64) -> Result<RecordBatch, MergeError> {
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    columns.push(Arc::new(UInt64Array::from_value(ordinal, rows.num_rows())));
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(MergeError::internal)
}
