//! The row group under construction.
//!
//! An open encoder takes far more than a short column: the state of its codec, hash tables of its dictionary. So few
//! columns are encoded as rows come in, and many one after the other once the row group is full.

use std::io;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, MutableArrayData, RecordBatch, RecordBatchOptions, make_array};
use arrow::datatypes::{FieldRef, Schema};
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{SchemaDescriptor, Type};

use super::budget::encoder_bytes;
use super::encoders::{Encoders, encode};
use super::error::MergeError;
use super::spawner::Task;
use super::step::yield_now;
use crate::options::Codec;

/// Rows that are gathered before they are stored as an array of their own.
const PIECE_ROWS: usize = 1_024;
/// What a new encoder of a dictionary takes.
const DICTIONARY_BYTES: u64 = 80 << 10;

/// When the columns of a row group are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// One after the other, at the end.
    AtTheEnd,
    /// All at a time, as rows come in.
    AtOnce,
}

impl Manner {
    /// What suits so many columns in row groups that may take `bytes`.
    pub(super) fn suiting(leaves: usize, codec: Codec, bytes: u64) -> Self {
        let open = (encoder_bytes(codec) + DICTIONARY_BYTES).saturating_mul(leaves as u64);
        if open > bytes / 2 { Self::AtTheEnd } else { Self::AtOnce }
    }
}

/// What it takes to encode columns one after the other.
pub(super) fn one_encoder_bytes(codec: Codec) -> u64 {
    encoder_bytes(codec) + DICTIONARY_BYTES
}

/// Rows of a row group, encoded or not.
pub(super) enum Rows {
    Encoded(Encoders),
    Raw {
        /// Pieces of each column.
        columns: Vec<Vec<ArrayRef>>,
        /// Rows that are to become a piece.
        recent: Vec<RecordBatch>,
        recent_rows: usize,
        recent_bytes: u64,
        bytes: u64,
        beside: u64,
        /// Whether recent rows have their memory to themselves.
        is_own: bool,
    },
}

impl Rows {
    pub(super) fn raw(schema: &Schema, codec: Codec) -> Self {
        Self::Raw {
            columns: vec![Vec::new(); schema.fields().len()],
            recent: Vec::new(),
            recent_rows: 0,
            recent_bytes: 0,
            bytes: 0,
            beside: one_encoder_bytes(codec),
            is_own: false,
        }
    }

    /// Rows that have their memory to themselves; the encoder is counted elsewhere.
    pub(super) fn gathered(schema: &Schema) -> Self {
        Self::Raw {
            columns: vec![Vec::new(); schema.fields().len()],
            recent: Vec::new(),
            recent_rows: 0,
            recent_bytes: 0,
            bytes: 0,
            beside: 0,
            is_own: true,
        }
    }

    pub(super) async fn add(&mut self, rows: &RecordBatch) -> Result<(), MergeError> {
        match self {
            Self::Encoded(encoders) => encoders.add(rows).await,
            Self::Raw {
                columns,
                recent,
                recent_rows,
                recent_bytes,
                bytes,
                is_own,
                ..
            } => {
                let (is_long, own) = (rows.num_rows() >= PIECE_ROWS, rows.get_array_memory_size() as u64);
                let shared = if *is_own && !is_long { own } else { size(rows) };
                // As they are, unless most of what they keep in memory is not theirs.
                let is_kept = is_long && own <= shared / 8 * 9;
                if !is_kept {
                    *recent_rows += rows.num_rows();
                    *recent_bytes += if *is_own { own } else { shared };
                    recent.push(rows.clone());
                }
                if is_kept || *recent_rows >= PIECE_ROWS {
                    *bytes = bytes.saturating_add(store(columns, recent)?);
                    (*recent_rows, *recent_bytes) = (0, 0);
                }
                if is_kept {
                    *bytes = bytes.saturating_add(own);
                    for (pieces, column) in columns.iter_mut().zip(rows.columns()) {
                        pieces.push(Arc::clone(column));
                    }
                }
                Ok(())
            }
        }
    }

    /// Bytes held, what is known of them.
    pub(super) fn memory_size(&self) -> u64 {
        match self {
            Self::Encoded(encoders) => encoders.memory_size(),
            Self::Raw {
                recent_bytes,
                bytes,
                beside,
                ..
            } => bytes.saturating_add(*beside).saturating_add(*recent_bytes),
        }
    }

    /// Bytes that they will have in the file, `None` while they are not encoded.
    pub(super) fn encoded_size(&self) -> Option<u64> {
        match self {
            Self::Encoded(encoders) => Some(encoders.encoded_size()),
            Self::Raw { .. } => None,
        }
    }

    /// The top-level columns, to be encoded to their end one after the other.
    pub(super) fn into_columns(self) -> Result<Vec<ColumnRows>, MergeError> {
        match self {
            Self::Encoded(encoders) => encoders.finish(),
            Self::Raw {
                mut columns,
                mut recent,
                ..
            } => {
                store(&mut columns, &mut recent)?;
                Ok(columns.into_iter().map(ColumnRows::Raw).collect())
            }
        }
    }
}

/// Rows of a column.
pub(super) enum ColumnRows {
    /// A leaf column that is encoded.
    Encoded(Box<ArrowColumnWriter>),
    /// Leaf columns that a task is about to end, and what they held when it last told.
    Ending(Task<Result<Vec<ArrowColumnChunk>, MergeError>>, u64),
    /// A top-level column that is not encoded.
    Raw(Vec<ArrayRef>),
}

impl ColumnRows {
    pub(super) fn memory_size(&self) -> u64 {
        match self {
            Self::Encoded(writer) => writer.memory_size() as u64,
            Self::Ending(_, told) => *told,
            Self::Raw(pieces) => pieces.iter().map(|piece| piece.get_array_memory_size() as u64).sum(),
        }
    }
}

/// Encodes one top-level column of a row group: a chunk for each of its leaves.
pub(super) async fn encode_column(
    field: FieldRef,
    parquet: Arc<SchemaDescriptor>,
    properties: WriterPropertiesPtr,
    (group, column): (usize, usize),
    pieces: Vec<ArrayRef>,
) -> Result<Vec<ArrowColumnChunk>, MergeError> {
    // The factory makes the encoders of all columns of a file, so here is a file of one.
    let root = parquet.root_schema();
    let fields = root.get_fields().get(column).map(|field| vec![Arc::clone(field)]);
    let alone = Type::group_type_builder(root.name()).with_fields(fields.unwrap_or_default());
    let alone = Arc::new(alone.build().map_err(encoding)?);
    let nowhere = SerializedFileWriter::new(io::sink(), alone, properties).map_err(encoding)?;
    let schema = Arc::new(Schema::new(vec![Arc::clone(&field)]));
    let factory = ArrowRowGroupWriterFactory::new(&nowhere, schema);
    let mut writers = factory.create_column_writers(group).map_err(encoding)?;
    for piece in pieces {
        encode(&mut writers.iter_mut(), &field, &piece)?;
        drop(piece);
        yield_now().await;
    }
    writers
        .into_iter()
        .map(|writer| writer.close().map_err(encoding))
        .collect()
}

/// About how many bytes rows take that may share memory with others.
pub(super) fn size(rows: &RecordBatch) -> u64 {
    rows.columns().iter().map(column_size).sum()
}

pub(super) fn column_size(column: &ArrayRef) -> u64 {
    match column.to_data().get_slice_memory_size() {
        Ok(bytes) => bytes as u64,
        Err(_) => column.get_array_memory_size() as u64,
    }
}

/// Makes the recent rows a piece of every column; what it takes. A copy: they may be a small part of a large batch.
fn store(columns: &mut [Vec<ArrayRef>], recent: &mut Vec<RecordBatch>) -> Result<u64, MergeError> {
    let rows = recent.iter().map(RecordBatch::num_rows).sum();
    let mut parts: Vec<Vec<ArrayRef>> = vec![Vec::with_capacity(recent.len()); columns.len()];
    for batch in recent.drain(..) {
        for (parts, column) in parts.iter_mut().zip(batch.columns()) {
            parts.push(Arc::clone(column));
        }
    }
    if rows == 0 {
        return Ok(0);
    }
    let mut bytes = 0;
    // Each column is let go of before the next one is copied.
    for (parts, pieces) in parts.into_iter().zip(columns) {
        let piece = joined(&parts, rows)?;
        bytes += piece.get_array_memory_size() as u64;
        pieces.push(piece);
    }
    Ok(bytes)
}

/// The same rows in memory of their own: they may be a small part of a large batch.
pub(super) fn own_copy(rows: &RecordBatch) -> Result<RecordBatch, MergeError> {
    let columns = rows.columns().iter();
    let columns = columns.map(|column| joined(std::slice::from_ref(column), rows.num_rows()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(rows.schema(), columns.collect::<Result<_, _>>()?, &options)
        .map_err(MergeError::internal)
}

/// A copy of `parts` one after the other, `rows` in all.
fn joined(parts: &[ArrayRef], rows: usize) -> Result<ArrayRef, MergeError> {
    let parts: Vec<_> = parts.iter().map(Array::to_data).collect();
    let mut copy = MutableArrayData::new(parts.iter().collect(), false, rows);
    for (index, part) in parts.iter().enumerate() {
        copy.try_extend(index, 0, part.len()).map_err(MergeError::internal)?;
    }
    Ok(make_array(copy.freeze()))
}

pub(super) fn encoding(error: ParquetError) -> MergeError {
    MergeError::internal(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_columns_are_encoded_one_after_the_other() {
        let manner = |leaves, codec| Manner::suiting(leaves, codec, 40 << 20);
        assert_eq!(manner(10, Codec::Zstd(1)), Manner::AtOnce);
        assert_eq!(manner(50, Codec::Zstd(1)), Manner::AtTheEnd);
        assert_eq!(manner(50, Codec::None), Manner::AtOnce);
    }
}
