//! Footers that drafting has read, for the merge that follows in the same turn: then no source is asked for its end
//! twice.

use std::collections::BTreeMap;

use crate::merge::SourceFooter;
use crate::naming::ObjectKey;
use crate::plan::PlannedSource;

/// Footers up to a limit; those beyond it are read again.
#[derive(Debug)]
pub(crate) struct Footers {
    kept: BTreeMap<ObjectKey, SourceFooter>,
    /// Bytes that they may still take.
    left: u64,
}

impl Footers {
    /// None yet, and of a merge inside `memory_budget_bytes`.
    pub(crate) fn of_budget(memory_budget_bytes: u64) -> Self {
        Self {
            kept: BTreeMap::new(),
            // As much as the merge itself keeps.
            left: memory_budget_bytes / 16,
        }
    }

    /// Keeps a footer, with the file's content if that fits too.
    pub(crate) fn keep(&mut self, key: &ObjectKey, footer: SourceFooter) {
        let footer = if footer.memory_size() > self.left / 2 {
            footer.without_content()
        } else {
            footer
        };
        if let Some(left) = self.left.checked_sub(footer.memory_size()) {
            self.left = left;
            self.kept.insert(key.clone(), footer);
        }
    }

    /// The footer of the object that is planned, if it was kept.
    pub(crate) fn take(&mut self, source: &PlannedSource) -> Option<SourceFooter> {
        let footer = self.kept.remove(&source.key)?;
        self.left += footer.memory_size();
        (footer.etag == source.etag).then_some(footer)
    }
}
