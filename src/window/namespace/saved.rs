//! What is saved of a namespace, and how saved states are joined.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::NamespaceState;
use crate::time::Timestamp;
use crate::window::pending::{ByKey, Slot};
use crate::window::record::{FileRecord, RosterRecord, WindowRecord};

impl NamespaceState {
    pub(in crate::window) fn take_dirty(&mut self) -> (BTreeSet<Timestamp>, bool) {
        (
            std::mem::take(&mut self.dirty_windows),
            std::mem::take(&mut self.dirty_roster),
        )
    }

    pub(in crate::window) fn window_record(&self, start: Timestamp) -> Option<WindowRecord> {
        let generation = self.windows.get(&start)?;
        Some(WindowRecord {
            start,
            generation: self.generation(start),
            exempt: generation.exempt,
            rest_of: generation.rest_of,
            voided: generation.voided,
            files: generation.pending().map(FileRecord::of).collect(),
        })
    }

    pub(in crate::window) fn roster_record(&self) -> RosterRecord {
        self.roster.record()
    }

    pub(in crate::window) fn join_window(&mut self, record: WindowRecord, next_number: &mut u64) {
        let was_dirty = std::mem::take(&mut self.dirty_windows);
        let start = record.start;
        let mut expected = record.clone();
        for file in record.files {
            let theirs = file.into_pending(&self.name);
            if let Some(ByKey(known)) = self.keys.get(&theirs.file.key).cloned() {
                let joined = known.pending.join(&theirs);
                if joined != known.pending {
                    self.replace(&known, joined);
                }
            } else {
                let name = &theirs.file.name;
                self.ahead.insert((name.timestamp, name.writer.clone()));
                self.insert(Arc::new(Slot {
                    pending: theirs,
                    number: *next_number,
                }));
                *next_number += 1;
            }
        }
        if let Some(generation) = self.windows.get_mut(&start) {
            generation.exempt |= record.exempt;
            generation.rest_of = generation.rest_of.max(record.rest_of);
            generation.voided |= record.voided;
        }
        let generation = self.generation(start).max(record.generation);
        self.set_generation(start, generation);
        let mut touched = std::mem::replace(&mut self.dirty_windows, was_dirty);
        expected.files.sort_by(|a, b| a.order().cmp(&b.order()));
        if self.window_record(start).as_ref() == Some(&expected) {
            touched.remove(&start);
        } else {
            touched.insert(start);
        }
        self.dirty_windows.append(&mut touched);
    }

    pub(in crate::window) fn join_roster(&mut self, record: &RosterRecord, cap: usize) {
        self.roster.join(record, cap);
        self.dirty_roster |= self.roster.record() != *record;
    }
}
