//! Decodes a slice at once, a few columns at a time: as long as a column chunk is open its decoder takes far more
//! than a short chunk itself, so that many columns of many inputs cannot all be open.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::concat;
use parquet::arrow::ProjectionMask;

use super::decode::{Piece, Reading, SliceReader};
use super::error::MergeError;
use super::fetch::Extent;
use super::input::Plan;
use super::spawner::start_or_keep;
use super::step::yield_now;
use crate::quarantine::QuarantineReason;
use crate::schema::strip_metadata;

/// Most rows that are decoded before it is known how wide they are.
const STEP_ROWS: usize = 1_024;

/// With a spawner, so many parts of what columns may hold are decoded beside each other.
const BUNCHES: u64 = 4;

/// What a bunch of columns decodes to, `None` if there are too many bytes.
type Decoded = Result<Option<Vec<ArrayRef>>, QuarantineReason>;

/// A slice that is decoded at once.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) piece: Piece,
    pub(super) extents: Arc<Vec<Extent>>,
    /// Of the file.
    pub(super) size: u64,
    /// Most bytes that the rows may take.
    pub(super) limit: u64,
}

/// Decodes all rows of a slice; `None` if they come to more bytes than they may.
///
/// `open` is what each leaf column holds while it is being decoded.
pub(super) async fn decode_at_once(
    slice: Whole,
    open: &[u64],
    plan: &Plan,
) -> Result<Result<Option<RecordBatch>, QuarantineReason>, MergeError> {
    let spawner = plan.spawner.as_ref();
    let schema = strip_metadata(slice.piece.arrow.schema());
    let rows = slice.piece.slice.rows.len();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    let spare = plan.decoding.bytes() / if spawner.is_some() { BUNCHES } else { 1 };
    let bunches = together(&slice.piece, open, spare);
    let (slice, decoded) = (Arc::new(slice), Arc::new(AtomicU64::new(0)));
    let mut under_way = VecDeque::new();
    let mut bunches = bunches.into_iter();
    loop {
        let more = if spawner.is_some() || under_way.is_empty() {
            bunches.next()
        } else {
            None
        };
        if let Some((roots, held)) = more {
            let turn = plan.decoding.next(held).await;
            let held = plan.memory.hold(held);
            let (slice, decoded) = (Arc::clone(&slice), Arc::clone(&decoded));
            let work = async move {
                let columns = decode_columns(&slice, roots, &decoded).await;
                drop((turn, held));
                Ok(columns)
            };
            under_way.push_back(start_or_keep(spawner, work)?);
            continue;
        }
        let Some(bunch) = under_way.pop_front() else { break };
        match bunch.await? {
            Ok(Some(bunch)) => columns.extend(bunch),
            Ok(None) => return Ok(Ok(None)),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(schema, columns, &options);
    Ok(batch.map(Some).map_err(QuarantineReason::corrupt))
}

/// Decodes the top-level columns `roots`, which add to the bytes that have been `decoded`.
async fn decode_columns(slice: &Whole, roots: Range<usize>, decoded: &AtomicU64) -> Decoded {
    let Whole {
        piece,
        extents,
        size,
        limit,
    } = slice;
    let expected = piece.slice.rows.len();
    let mask = ProjectionMask::roots(piece.arrow.parquet_schema(), roots.clone());
    let mut reader = SliceReader::open(Reading {
        piece: piece.clone(),
        extents: Arc::clone(extents),
        size: *size,
        columns: mask,
        skip: 0,
        batch_rows: STEP_ROWS,
        allotment: *limit,
    })?;
    let mut parts: Vec<RecordBatch> = Vec::new();
    let mut rows = 0;
    while let Some(part) = reader.read()? {
        rows += part.num_rows();
        let bytes = part.get_array_memory_size() as u64;
        if decoded.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > *limit {
            return Ok(None);
        }
        parts.push(part);
        yield_now().await;
    }
    drop(reader);
    if rows < expected {
        return Err(QuarantineReason::corrupt("a row group ends before its last row"));
    }
    if rows > expected {
        return Err(QuarantineReason::corrupt("a row group goes on after its last row"));
    }
    let columns = (0..roots.len()).map(|column| {
        let parts = parts.iter().filter_map(|part| part.columns().get(column));
        let parts: Vec<&dyn Array> = parts.map(AsRef::as_ref).collect();
        concat(&parts).map_err(QuarantineReason::corrupt)
    });
    columns.collect::<Result<_, _>>().map(Some)
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
