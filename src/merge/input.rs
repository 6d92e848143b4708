//! What is merged: inputs, where they come from, and what their readers share.

use std::sync::{Arc, Mutex};

use arrow::datatypes::SchemaRef;
use object_store::ObjectStore;

use super::budget::Memory;
use super::copying::Rule;
use super::footer::SourceFooter;
use super::hash::RowHash;
use super::order::KeyEncoder;
use super::slices::Slice;
use super::spawner::Spawner;
use super::turns::Turns;

/// What the readers of one merge share.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The plan's columns; in a merge with passes the ordinal after them.
    pub(super) schema: SchemaRef,
    /// The plan's columns, as inputs have them.
    pub(super) columns: SchemaRef,
    pub(super) keys: Option<Arc<KeyEncoder>>,
    pub(super) memory: Memory,
    /// Bytes that columns hold while they are decoded at once, beside all allotments.
    pub(super) decoding: Turns,
    /// Decodes and reads keys beside the merge.
    pub(super) spawner: Option<Spawner>,
    /// Which row groups are copied as they are; `None`: none.
    pub(super) copying: Option<Arc<Rule>>,
    /// Sums the rows of the inputs, where the outputs are to be compared with them.
    pub(super) hash: Option<Arc<Mutex<RowHash>>>,
}

impl Plan {
    pub(super) fn has_ordinal(&self) -> bool {
        self.schema.fields().len() > self.columns.fields().len()
    }
}

/// An input.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) footer: SourceFooter,
    pub(super) origin: Origin,
    /// Whether its row groups may be copied; not if its footer or its page indexes have told what is not so.
    pub(super) may_copy: bool,
}

impl Input {
    /// The ranges of all row groups.
    pub(super) fn ranges(&self) -> Vec<std::ops::Range<u64>> {
        let groups = self.footer.metadata.row_groups().iter();
        groups.flat_map(|group| Slice::whole(group).ranges()).collect()
    }
}

/// Which input it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Place among the inputs.
    pub(super) index: usize,
    /// Place among equal keys.
    pub(super) rank: u32,
}
