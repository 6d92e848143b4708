//! Decodes a slice at once, a few columns at a time: as long as a column chunk is open its decoder takes far more
//! than a short chunk itself, so that many columns of many inputs cannot all be open.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::concat;
use parquet::arrow::ProjectionMask;

use super::budget::Memory;
use super::decode::{Piece, build_columns};
use super::fetch::Extent;
use super::step::yield_now;
use crate::quarantine::QuarantineReason;

/// Most rows that are decoded before it is known how wide they are.
const STEP_ROWS: usize = 1_024;

/// Decodes all rows of a slice; `None` if they come to more than `limit` bytes.
///
/// `open` is what each leaf column holds while it is being decoded, of which at most `spare` bytes are held unless
/// one column alone needs more.
pub(super) async fn decode_at_once(
    piece: &Piece,
    extents: &Arc<Vec<Extent>>,
    size: u64,
    (open, spare): (&[u64], u64),
    limit: u64,
    memory: &Memory,
) -> Result<Option<RecordBatch>, QuarantineReason> {
    let schema = Arc::clone(piece.arrow.schema());
    let expected = piece.slice.rows.len();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    let mut bytes = 0_u64;
    for (roots, held) in together(piece, open, spare) {
        let held = memory.hold(held);
        let mask = ProjectionMask::roots(piece.arrow.parquet_schema(), roots.clone());
        let mut reader = build_columns(piece, 0, STEP_ROWS, extents, size, mask)?;
        let mut parts: Vec<RecordBatch> = Vec::new();
        let mut rows = 0;
        while let Some(part) = reader.read()? {
            rows += part.num_rows();
            bytes = bytes.saturating_add(part.get_array_memory_size() as u64);
            if bytes > limit {
                return Ok(None);
            }
            parts.push(part);
        }
        drop(reader);
        drop(held);
        if rows < expected {
            return Err(QuarantineReason::corrupt("a row group ends before its last row"));
        }
        if rows > expected {
            return Err(QuarantineReason::corrupt("a row group goes on after its last row"));
        }
        for column in 0..roots.len() {
            let parts: Vec<&dyn Array> = parts
                .iter()
                .filter_map(|part| part.columns().get(column).map(AsRef::as_ref))
                .collect();
            columns.push(concat(&parts).map_err(QuarantineReason::corrupt)?);
        }
        yield_now().await;
    }
    let options = RecordBatchOptions::new().with_row_count(Some(expected));
    let batch = RecordBatch::try_new_with_options(schema, columns, &options);
    batch.map(Some).map_err(QuarantineReason::corrupt)
}

/// The most that decoding at once holds beside fetched bytes and decoded rows, `spare` bytes aside.
pub(super) fn beyond(piece: &Piece, open: &[u64], spare: u64) -> u64 {
    let held = together(piece, open, spare).into_iter().map(|(_, held)| held);
    held.max().unwrap_or(0).saturating_sub(spare)
}

/// Top-level columns that are decoded together, and what they hold while they are.
fn together(piece: &Piece, open: &[u64], spare: u64) -> Vec<(Range<usize>, u64)> {
    let parquet = piece.arrow.parquet_schema();
    let mut roots: Vec<u64> = vec![0; parquet.root_schema().get_fields().len()];
    for (leaf, held) in open.iter().enumerate() {
        if let Some(root) = roots.get_mut(parquet.get_column_root_idx(leaf)) {
            *root = root.saturating_add(*held);
        }
    }
    let mut groups: Vec<(Range<usize>, u64)> = Vec::new();
    for (root, held) in roots.into_iter().enumerate() {
        match groups.last_mut() {
            Some((roots, sum)) if sum.saturating_add(held) <= spare => {
                roots.end = root + 1;
                *sum = sum.saturating_add(held);
            }
            _ => groups.push((root..root + 1, held)),
        }
    }
    groups
}
