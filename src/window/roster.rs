//! The writers of a namespace: who is active, and how far each has come.

use std::collections::{BTreeMap, BTreeSet};

use super::readiness::Quorum;
use super::record::{RosterRecord, WriterRecord};
use crate::naming::WriterId;
use crate::time::Timestamp;

/// The writers of a namespace, at most a given number: the longest silent ones are forgotten.
#[derive(Debug, Default)]
pub(super) struct Roster {
    writers: BTreeMap<WriterId, Writer>,
    by_last_seen: BTreeSet<(Timestamp, WriterId)>,
    /// When the last forgotten writer was seen. As long as it may still be active, nobody can say that all
    /// active writers have reported.
    forgotten: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Writer {
    last_seen: Timestamp,
    watermark: Option<Timestamp>,
}

impl Roster {
    /// Notes that a writer was seen. Whether that changed anything.
    pub(super) fn observe(&mut self, id: &WriterId, seen: Timestamp, cap: usize) -> bool {
        match self.writers.get_mut(id) {
            Some(writer) if writer.last_seen >= seen => return false,
            Some(writer) => {
                let entry = (writer.last_seen, id.clone());
                self.by_last_seen.remove(&entry);
                self.by_last_seen.insert((seen, entry.1));
                writer.last_seen = seen;
            }
            None => {
                let writer = Writer {
                    last_seen: seen,
                    watermark: None,
                };
                self.writers.insert(id.clone(), writer);
                self.by_last_seen.insert((seen, id.clone()));
                self.forget_beyond(cap);
            }
        }
        true
    }

    /// Raises the watermark of a writer. Whether that changed anything.
    pub(super) fn raise(&mut self, id: &WriterId, watermark: Timestamp) -> bool {
        let Some(writer) = self.writers.get_mut(id) else {
            return false;
        };
        let raised = writer.watermark.is_none_or(|current| current < watermark);
        if raised {
            writer.watermark = Some(watermark);
        }
        raised
    }

    /// Corrects what a clock that was ahead has noted. Whether that changed anything.
    pub(super) fn clamp(&mut self, now: Timestamp) -> bool {
        let mut changed = false;
        if self.forgotten.is_some_and(|forgotten| forgotten > now) {
            self.forgotten = Some(now);
            changed = true;
        }
        while let Some((last_seen, id)) = self.by_last_seen.pop_last() {
            if last_seen <= now {
                self.by_last_seen.insert((last_seen, id));
                break;
            }
            changed = true;
            if let Some(writer) = self.writers.get_mut(&id) {
                writer.last_seen = now;
            }
            // Equal to `now`, so the loop ends at it.
            self.by_last_seen.insert((now, id));
        }
        changed
    }

    fn forget_beyond(&mut self, cap: usize) {
        while self.writers.len() > cap {
            let Some((last_seen, id)) = self.by_last_seen.pop_first() else {
                return;
            };
            self.writers.remove(&id);
            self.forgotten = self.forgotten.max(Some(last_seen));
        }
    }

    pub(super) fn known(&self) -> impl Iterator<Item = &WriterId> {
        self.writers.keys()
    }

    /// Writers that were seen less than `active_ms` ago.
    pub(super) fn active(&self, now: Timestamp, active_ms: u64) -> impl Iterator<Item = &WriterId> {
        let is_active = move |writer: &Writer| now < writer.last_seen + active_ms;
        self.writers
            .iter()
            .filter(move |(_, writer)| is_active(writer))
            .map(|(id, _)| id)
    }

    /// What quorums need to know at `now`, computed once for many windows.
    pub(super) fn activity(&self, active_ms: u64, now: Timestamp) -> Activity<'_> {
        let silent_at = |last_seen: Timestamp| last_seen.min(now) + active_ms;
        let mut by_watermark: Vec<_> = self
            .writers
            .values()
            .map(|writer| (writer.watermark, silent_at(writer.last_seen)))
            .collect();
        by_watermark.sort_unstable();
        let mut latest = Timestamp::MIN;
        for (_, silent_at) in &mut by_watermark {
            latest = latest.max(*silent_at);
            *silent_at = latest;
        }
        Activity {
            by_watermark,
            by_last_seen: &self.by_last_seen,
            all_known_at: self.forgotten.map_or(Timestamp::MIN, silent_at),
            active_ms,
            now,
        }
    }

    pub(super) fn record(&self) -> RosterRecord {
        RosterRecord {
            writers: self
                .writers
                .iter()
                .map(|(id, writer)| WriterRecord {
                    id: id.clone(),
                    last_seen: writer.last_seen,
                    watermark: writer.watermark,
                })
                .collect(),
            forgotten: self.forgotten,
        }
    }

    /// Takes over what a record knows.
    pub(super) fn join(&mut self, record: &RosterRecord, cap: usize) {
        self.forgotten = self.forgotten.max(record.forgotten);
        for writer in &record.writers {
            self.observe(&writer.id, writer.last_seen, cap);
            if let Some(watermark) = writer.watermark {
                self.raise(&writer.id, watermark);
            }
        }
    }
}

/// What quorums need to know of a roster.
#[derive(Debug)]
pub(super) struct Activity<'a> {
    /// By watermark: when all writers up to this one have become inactive.
    by_watermark: Vec<(Option<Timestamp>, Timestamp)>,
    by_last_seen: &'a BTreeSet<(Timestamp, WriterId)>,
    all_known_at: Timestamp,
    active_ms: u64,
    now: Timestamp,
}

impl Activity<'_> {
    /// When writers cease to stand against a quorum of the window that ends at `end` and has files of
    /// `present`.
    pub(super) fn quorum(&self, end: Timestamp, present: &BTreeMap<WriterId, usize>) -> Quorum {
        let behind = self
            .by_watermark
            .partition_point(|(watermark, _)| watermark.is_none_or(|watermark| watermark < end));
        let watermark_at = behind
            .checked_sub(1)
            .and_then(|last| self.by_watermark.get(last))
            .map_or(Timestamp::MIN, |(_, silent_at)| *silent_at);
        let presence_at = self
            .by_last_seen
            .iter()
            .rev()
            .find(|(_, id)| !present.contains_key(id))
            .map_or(Timestamp::MIN, |(last_seen, _)| {
                (*last_seen).min(self.now) + self.active_ms
            });
        Quorum {
            watermark_at: watermark_at.max(self.all_known_at),
            presence_at: presence_at.max(self.all_known_at),
        }
    }
}
