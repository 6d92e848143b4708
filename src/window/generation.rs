//! The pending files of one window, with the sums that its readiness is decided by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::pending::{ArrivedBy, InOrder, PendingFile, Slot};
use super::readiness::Facts;
use crate::naming::{SourceFile, WriterId};
use crate::options::Options;
use crate::plan::Window;
use crate::status::Readiness;
use crate::time::Timestamp;

/// The pending files of one window.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) window: Window,
    files: BTreeSet<InOrder>,
    /// Of sizes that anybody may have claimed: too wide to overflow.
    bytes: u128,
    writers: BTreeMap<WriterId, usize>,
    arrivals: BTreeMap<(Timestamp, ArrivedBy), usize>,
    /// The newest arrival when the last listing ended, if that listing brought it.
    listed_until: Option<Timestamp>,
    pub(super) exempt: bool,
    pub(super) rest_of: Option<Readiness>,
    pub(super) voided: bool,
    /// Arrivals before this number are to be planned at once.
    drain_before: u64,
    drain_left: usize,
}

/// The files of a draft.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) files: Vec<SourceFile>,
    /// Some did not fit.
    pub(super) rest: bool,
}

impl Generation {
    pub(super) fn new(window: Window) -> Self {
        Self {
            window,
            files: BTreeSet::new(),
            bytes: 0,
            writers: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            listed_until: None,
            exempt: false,
            rest_of: None,
            voided: false,
            drain_before: 0,
            drain_left: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn file_count(&self) -> usize {
        self.files.len()
    }

    pub(super) fn total_size(&self) -> u64 {
        u64::try_from(self.bytes).unwrap_or(u64::MAX)
    }

    pub(super) fn writers(&self) -> &BTreeMap<WriterId, usize> {
        &self.writers
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.files.iter().map(|InOrder(slot)| slot)
    }

    pub(super) fn pending(&self) -> impl Iterator<Item = &PendingFile> {
        self.slots().map(|slot| &slot.pending)
    }

    pub(super) fn insert(&mut self, slot: Arc<Slot>) {
        let PendingFile { file, seen, by, .. } = &slot.pending;
        self.bytes += u128::from(file.size);
        match self.writers.get_mut(&file.name.writer) {
            Some(count) => *count += 1,
            None => _ = self.writers.insert(file.name.writer.clone(), 1),
        }
        *self.arrivals.entry((*seen, *by)).or_default() += 1;
        if slot.number < self.drain_before {
            self.drain_left += 1;
        }
        self.files.insert(InOrder(slot));
    }

    pub(super) fn remove(&mut self, slot: &Arc<Slot>) {
        if !self.files.remove(&InOrder(Arc::clone(slot))) {
            return;
        }
        let PendingFile { file, seen, by, .. } = &slot.pending;
        self.bytes -= u128::from(file.size);
        decrement(&mut self.writers, &file.name.writer);
        decrement(&mut self.arrivals, &(*seen, *by));
        if slot.number < self.drain_before {
            self.drain_left -= 1;
        }
    }

    /// From now on the files that are pending are to be planned at once.
    pub(super) fn drain(&mut self, next_number: u64) {
        self.drain_before = next_number;
        self.drain_left = self.files.len();
    }

    /// A listing ended. If it brought the newest arrival, nothing more is to be expected.
    pub(super) fn end_listing(&mut self) {
        if let Some(((newest, ArrivedBy::Listing), _)) = self.arrivals.last_key_value() {
            self.listed_until = Some(*newest);
        }
    }

    fn newest(&self) -> Timestamp {
        self.arrivals
            .last_key_value()
            .map_or(Timestamp::MIN, |((newest, _), _)| *newest)
    }

    /// Files whose arrival was noted by a clock that was ahead.
    pub(super) fn arrived_after(&self, now: Timestamp) -> Vec<Arc<Slot>> {
        if self.newest() <= now {
            return Vec::new();
        }
        self.slots().filter(|slot| slot.pending.seen > now).cloned().collect()
    }

    /// How many files claim a time further in the future than `maxFutureSkewMs`.
    pub(super) fn held(&self, options: &Options, now: Timestamp) -> usize {
        let from_future = |file: &&PendingFile| file.file.name.timestamp > now + options.max_future_skew_ms;
        self.files
            .iter()
            .rev()
            .map(|InOrder(slot)| &slot.pending)
            .take_while(from_future)
            .count()
    }

    pub(super) fn facts(&self, options: &Options, now: Timestamp) -> Facts {
        let open = self.arrivals.first_key_value().map_or(now, |((open, _), _)| *open);
        let last = self.newest();
        Facts {
            end: self.window.end,
            open: open.min(now),
            settled_at: match self.listed_until {
                Some(until) if until >= last => Timestamp::MIN,
                _ => last.min(now) + options.settle_ms,
            },
            files: self.files.len(),
            exempt: self.exempt,
            rest_of: self.rest_of,
            visible_at: self.visible_at(self.files.first(), options),
            full_at: self.full_at(options),
            drained: self.drain_left > 0,
            voided: self.voided,
        }
    }

    fn visible_at(&self, file: Option<&InOrder>, options: &Options) -> Timestamp {
        file.map_or(self.window.start, |InOrder(slot)| slot.pending.file.name.timestamp) - options.max_future_skew_ms
    }

    /// When the files that are not from the future exceed a plan. The sum over all of them answers for
    /// almost every window.
    fn full_at(&self, options: &Options) -> Option<Timestamp> {
        let limit = u128::from(options.max_plan_bytes);
        if self.bytes <= limit {
            return None;
        }
        let mut bytes = 0;
        let exceeds = self.files.iter().find(|InOrder(slot)| {
            bytes += u128::from(slot.pending.file.size);
            bytes > limit
        });
        Some(self.visible_at(exceeds, options))
    }

    /// The files of the next plan: in order, not from the future, within the limits of a plan.
    pub(super) fn cut(&self, options: &Options, now: Timestamp) -> Cut {
        let mut files = Vec::new();
        let mut bytes: u64 = 0;
        for PendingFile { file, .. } in self.pending() {
            if file.name.timestamp > now + options.max_future_skew_ms {
                break;
            }
            bytes = bytes.saturating_add(file.size);
            let fits = files.len() < options.max_plan_files && bytes <= options.max_plan_bytes;
            if !fits && !files.is_empty() {
                return Cut { files, rest: true };
            }
            files.push(file.clone());
        }
        Cut { files, rest: false }
    }
}

fn decrement<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
