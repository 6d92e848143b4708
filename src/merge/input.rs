//! What is merged: inputs, where they come from, and what their readers share.

use std::sync::{Arc, Mutex};

use arrow::datatypes::SchemaRef;
use object_store::ObjectStore;

use super::budget::Memory;
use super::error::{MergeError, SourceError};
use super::footer::SourceFooter;
use super::hash::RowHash;
use super::order::KeyEncoder;
use super::slices::Slice;

/// What the readers of one merge share.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The plan's columns; in a merge with passes the ordinal after them.
    pub(super) schema: SchemaRef,
    /// The plan's columns, as inputs have them.
    pub(super) columns: SchemaRef,
    pub(super) keys: Option<Arc<KeyEncoder>>,
    pub(super) memory: Memory,
    /// Bytes that columns may hold while they are decoded at once, beside all allotments: only one reader decodes
    /// at a time.
    pub(super) decoding: u64,
    /// Sums the rows of the inputs, where the outputs are to be compared with them.
    pub(super) hash: Option<Arc<Mutex<RowHash>>>,
}

impl Plan {
    pub(super) fn has_ordinal(&self) -> bool {
        self.schema.fields().len() > self.columns.fields().len()
    }
}

/// An input or an intermediate file.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) footer: SourceFooter,
    pub(super) origin: Origin,
}

impl Input {
    /// The ranges of all row groups.
    pub(super) fn ranges(&self) -> Vec<std::ops::Range<u64>> {
        let groups = self.footer.metadata.row_groups().iter();
        groups.flat_map(|group| Slice::whole(group).ranges()).collect()
    }
}

/// Where an input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// An earlier pass: it carries the ranks of its rows itself.
    Scratch,
    /// The caller: its place among the inputs, and its rank among equal keys.
    Source { index: usize, rank: u32 },
}

impl Origin {
    /// The rank of all rows, 0 where each row has its own.
    pub(super) fn rank(self) -> u32 {
        match self {
            Self::Scratch => 0,
            Self::Source { rank, .. } => rank,
        }
    }

    /// Whose fault `error` is.
    pub(super) fn blame(self, error: SourceError) -> MergeError {
        match (self, error) {
            (Self::Source { index, .. }, error) => error.at(index),
            (Self::Scratch, SourceError::Unavailable(source)) => MergeError::Scratch { source },
            (Self::Scratch, SourceError::Bad(reason)) => {
                MergeError::internal(format!("an intermediate file is bad: {reason}"))
            }
        }
    }
}
