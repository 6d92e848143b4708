//! One namespace: its windows, its writers, and what keeps it from being planned.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use super::generation::{Cut, Generation};
use super::pending::{Arrival, ByKey, PendingFile, Slot};
use super::readiness::{Facts, Rules, waiting_for};
use super::record::{FileRecord, RosterRecord, WindowRecord};
use super::roster::{Activity, Roster};
use super::sizes::WindowSizes;
use super::tracker::{Observed, PlanDraft};
use crate::naming::{Namespace, ObjectKey, SourceFile, WriterId};
use crate::options::{Options, Priority};
use crate::plan::Window;
use crate::status::{Readiness, WaitingFor, WindowStatus};
use crate::time::Timestamp;

/// The state of one namespace.
#[derive(Debug)]
pub(super) struct NamespaceState {
    name: Namespace,
    priority: Priority,
    sizes: WindowSizes,
    boundary: Option<Timestamp>,
    windows: BTreeMap<Timestamp, Generation>,
    /// All pending files. Never iterated, and hashed without randomness.
    keys: HashSet<ByKey, BuildHasherDefault<DefaultHasher>>,
    /// How often windows have been committed, also of windows without pending files.
    generations: BTreeMap<Timestamp, u64>,
    roster: Roster,
    /// Timestamps that may be from the future: watermarks once the clock gets there.
    ahead: BTreeSet<(Timestamp, WriterId)>,
    listing: bool,
    paused: bool,
    busy: Option<Busy>,
    not_before: Option<Timestamp>,
    dirty_windows: BTreeSet<Timestamp>,
    dirty_roster: bool,
}

/// A draft was given out.
#[derive(Debug)]
struct Busy {
    start: Timestamp,
    /// Files of the draft that are still pending.
    files_left: BTreeSet<ObjectKey>,
    /// Those of which other content has been observed since.
    changed: BTreeSet<ObjectKey>,
    /// Some files did not fit into it.
    rest: bool,
    why: Readiness,
}

impl NamespaceState {
    pub(super) fn new(name: Namespace, options: &Options) -> Self {
        let priority = options.priorities.get(name.as_str()).copied().unwrap_or_default();
        Self {
            name,
            priority,
            sizes: WindowSizes::fixed(options.window_size_ms),
            boundary: None,
            windows: BTreeMap::new(),
            keys: HashSet::default(),
            generations: BTreeMap::new(),
            roster: Roster::default(),
            ahead: BTreeSet::new(),
            listing: false,
            paused: false,
            busy: None,
            not_before: None,
            dirty_windows: BTreeSet::new(),
            dirty_roster: false,
        }
    }

    pub(super) fn priority(&self) -> Priority {
        self.priority
    }

    /// Moves pending files into the windows of the new sizes, where these differ.
    pub(super) fn set_window_sizes(&mut self, sizes: WindowSizes) {
        self.sizes = sizes;
        let moved: Vec<_> = self
            .windows
            .values()
            .flat_map(|generation| generation.slots().map(|slot| (generation.window, slot)))
            .filter(|(window, slot)| self.sizes.window_of(slot.pending.file.name.timestamp) != *window)
            .map(|(_, slot)| Arc::clone(slot))
            .collect();
        // All leave before any comes: two windows may have the same start.
        for slot in &moved {
            self.remove(slot);
        }
        for slot in moved {
            self.insert(slot);
        }
    }

    pub(super) fn set_boundary(&mut self, boundary: Timestamp) {
        self.boundary = Some(boundary);
        self.generations = self.generations.split_off(&boundary);
    }

    pub(super) fn window_of(&self, t: Timestamp) -> Window {
        self.sizes.window_of(t)
    }

    fn is_below_boundary(&self, window: Window) -> bool {
        self.boundary.is_some_and(|boundary| window.start < boundary)
    }

    pub(super) fn window_count(&self) -> usize {
        self.windows.len()
    }

    pub(super) fn handle_file(
        &mut self,
        file: SourceFile,
        arrival: Arrival,
        now: Timestamp,
        number: u64,
        may_open: bool,
        options: &Options,
    ) -> Observed {
        let window = self.window_of(file.name.timestamp);
        if let Some(boundary) = self.boundary
            && self.is_below_boundary(window)
        {
            return Observed::BelowBoundary { boundary };
        }
        if let Some(ByKey(known)) = self.keys.get(&file.key) {
            let Some(pending) = known.pending.after(&file, arrival.time(now)) else {
                return Observed::AlreadyPending;
            };
            let known = Arc::clone(known);
            if let Some(busy) = &mut self.busy
                && busy.files_left.contains(&file.key)
            {
                busy.changed.insert(file.key);
            }
            self.note_writer(&pending, arrival.time(now), now, options);
            self.replace(&known, pending);
            return Observed::Updated;
        }
        if !may_open && !self.windows.contains_key(&window.start) {
            return Observed::Deferred;
        }
        let pending = PendingFile::new(file, arrival, now);
        self.note_writer(&pending, pending.seen, now, options);
        self.insert(Arc::new(Slot { pending, number }));
        Observed::Recorded
    }

    fn note_writer(&mut self, pending: &PendingFile, seen: Timestamp, now: Timestamp, options: &Options) {
        let name = &pending.file.name;
        self.dirty_roster |= self.roster.observe(&name.writer, seen, options.max_known_writers);
        if name.timestamp > now + options.max_future_skew_ms {
            self.ahead.insert((name.timestamp, name.writer.clone()));
        } else {
            self.dirty_roster |= self.roster.raise(&name.writer, name.timestamp);
        }
    }

    fn insert(&mut self, slot: Arc<Slot>) {
        let window = self.window_of(slot.pending.file.name.timestamp);
        self.dirty_windows.insert(window.start);
        self.keys.insert(ByKey(Arc::clone(&slot)));
        self.windows
            .entry(window.start)
            .or_insert_with(|| Generation::new(window))
            .insert(slot);
    }

    /// Removes from the window that holds it, which sizes that have just changed may not name any more.
    fn remove(&mut self, slot: &Arc<Slot>) {
        let t = slot.pending.file.name.timestamp;
        self.keys.remove(&slot.pending.file.key);
        let Some((start, generation)) = self.windows.range_mut(..=t).next_back() else {
            return;
        };
        let start = *start;
        generation.remove(slot);
        let is_empty = generation.is_empty();
        self.dirty_windows.insert(start);
        if is_empty {
            self.windows.remove(&start);
        }
    }

    /// Exchanges what is known of a file, in place.
    fn replace(&mut self, slot: &Arc<Slot>, pending: PendingFile) {
        let window = self.window_of(slot.pending.file.name.timestamp);
        let new = Arc::new(Slot {
            pending,
            number: slot.number,
        });
        self.keys.replace(ByKey(Arc::clone(&new)));
        if let Some(generation) = self.windows.get_mut(&window.start) {
            generation.remove(slot);
            generation.insert(new);
        }
        self.dirty_windows.insert(window.start);
    }

    pub(super) fn forget_file(&mut self, key: &ObjectKey) -> Option<SourceFile> {
        let ByKey(slot) = self.keys.get(key)?.clone();
        self.remove(&slot);
        let name = &slot.pending.file.name;
        self.ahead.remove(&(name.timestamp, name.writer.clone()));
        if let Some(busy) = &mut self.busy {
            busy.files_left.remove(key);
        }
        Some(slot.pending.file.clone())
    }

    pub(super) fn pending(&self) -> impl Iterator<Item = &PendingFile> {
        self.windows.values().flat_map(Generation::pending)
    }

    pub(super) fn file(&self, key: &ObjectKey) -> Option<&SourceFile> {
        self.keys.get(key).map(|ByKey(slot)| &slot.pending.file)
    }

    pub(super) fn changed_since_draft(&self, key: &ObjectKey) -> Option<bool> {
        let busy = self.busy.as_ref().filter(|busy| busy.files_left.contains(key))?;
        Some(busy.changed.contains(key))
    }

    pub(super) fn below_boundary(&self) -> impl Iterator<Item = &PendingFile> {
        let below = |generation: &&Generation| self.is_below_boundary(generation.window);
        self.windows.values().take_while(below).flat_map(Generation::pending)
    }

    pub(super) fn begin_listing(&mut self) {
        self.listing = true;
    }

    pub(super) fn end_listing(&mut self) {
        self.listing = false;
        self.windows.values_mut().for_each(Generation::end_listing);
    }

    pub(super) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(super) fn drain(&mut self, next_number: u64) {
        for generation in self.windows.values_mut() {
            generation.drain(next_number);
        }
    }

    /// Takes over what only a clock can tell: watermarks that are not from the future any more, and times
    /// that a clock which was ahead has noted.
    fn catch_up(&mut self, now: Timestamp, options: &Options) {
        while let Some(entry) = self.ahead.pop_first() {
            if entry.0 > now + options.max_future_skew_ms {
                self.ahead.insert(entry);
                break;
            }
            self.dirty_roster |= self.roster.raise(&entry.1, entry.0);
        }
        self.dirty_roster |= self.roster.clamp(now);
        let early: Vec<_> = self
            .windows
            .values()
            .flat_map(|generation| generation.arrived_after(now))
            .collect();
        for slot in early {
            let mut pending = slot.pending.clone();
            pending.seen = now;
            pending.observed = pending.observed.min(now);
            self.replace(&slot, pending);
        }
    }

    /// A draft of the oldest window that is ready.
    pub(super) fn poll_plan(&mut self, now: Timestamp, options: &Options) -> Option<PlanDraft> {
        if self.windows.is_empty() || self.obstacle(now).is_some() {
            return None;
        }
        self.catch_up(now, options);
        let mut rules = RulesOf::new(self, now, options);
        let (start, why) = self
            .candidates()
            .find_map(|generation| Some((generation.window.start, rules.of(generation, now).ready(now)?)))?;
        let generation = self.windows.get_mut(&start)?;
        let Cut { files, rest } = generation.cut(options, now);
        if rest && !generation.exempt {
            generation.exempt = true;
            self.dirty_windows.insert(start);
        }
        self.busy = Some(Busy {
            start,
            files_left: files.iter().map(|file| file.key.clone()).collect(),
            changed: BTreeSet::new(),
            rest,
            why,
        });
        Some(PlanDraft {
            namespace: self.name.clone(),
            window: generation.window,
            generation: self.generation(start),
            files,
            why,
        })
    }

    /// When [`poll_plan`](Self::poll_plan) could next give something, if that is before `limit`.
    pub(super) fn poll_deadline(&self, now: Timestamp, limit: Timestamp, options: &Options) -> Timestamp {
        let not_before = match self.obstacle(now) {
            None => Timestamp::MIN,
            Some((_, Some(until))) => until,
            Some((_, None)) => return limit,
        };
        let mut rules = RulesOf::new(self, now, options);
        let mut best = limit;
        if not_before >= limit || self.windows.is_empty() {
            return limit;
        }
        if let Some((timestamp, _)) = self.ahead.first() {
            best = best.min((*timestamp - options.max_future_skew_ms).max(not_before));
        }
        for generation in self.candidates() {
            if let Some(at) = rules.of(generation, best).earliest() {
                best = best.min(at.max(not_before));
            }
            if best <= now {
                break;
            }
        }
        best
    }

    fn candidates(&self) -> impl Iterator<Item = &Generation> {
        let below = |generation: &&Generation| self.is_below_boundary(generation.window);
        self.windows.values().skip_while(below)
    }

    /// Why no window of this namespace is planned, and until when.
    fn obstacle(&self, now: Timestamp) -> Option<(WaitingFor, Option<Timestamp>)> {
        if self.paused {
            Some((WaitingFor::Halt, None))
        } else if self.listing {
            Some((WaitingFor::Listing, None))
        } else if self.busy.is_some() {
            Some((WaitingFor::Turn, None))
        } else {
            let not_before = self.not_before.filter(|not_before| now < *not_before)?;
            Some((WaitingFor::Retry, Some(not_before)))
        }
    }

    fn active_ms(&self, options: &Options) -> u64 {
        let window_and_wait = self.sizes.latest_ms().saturating_add(options.max_wait_time_ms);
        options.writer_inactive_threshold_ms.max(window_and_wait)
    }

    pub(super) fn abandoned(&mut self, not_before: Option<Timestamp>) {
        self.busy = None;
        self.not_before = not_before;
    }

    pub(super) fn committed(&mut self, window: Window, keys: &[ObjectKey]) {
        let mut busy = self.busy.take_if(|busy| busy.start == window.start);
        if busy.is_some() {
            self.not_before = None;
        }
        for key in keys {
            let mut changed = false;
            if let Some(busy) = &mut busy {
                busy.files_left.remove(key);
                changed = busy.changed.contains(key);
            }
            if !changed && let Some(ByKey(slot)) = self.keys.get(key).cloned() {
                self.remove(&slot);
            }
        }
        let generation = self.generation(window.start).saturating_add(1);
        self.set_generation(window.start, generation);
        if let Some(rest) = self.windows.get_mut(&window.start) {
            // After a restart nobody knows what was drafted, and the flag stays what it was saved as.
            if let Some(busy) = busy {
                rest.exempt = busy.rest || !busy.files_left.is_empty();
            }
            rest.voided = false;
        }
    }

    pub(super) fn voided(&mut self, window: Window) {
        if self.busy.take_if(|busy| busy.start == window.start).is_some() {
            self.not_before = None;
        }
        if let Some(generation) = self.windows.get_mut(&window.start) {
            generation.voided = true;
            generation.exempt = true;
            self.dirty_windows.insert(window.start);
        }
    }

    fn generation(&self, start: Timestamp) -> u64 {
        self.generations.get(&start).copied().unwrap_or(0)
    }

    pub(super) fn set_generation(&mut self, start: Timestamp, generation: u64) {
        if self.generation(start) == generation {
            return;
        }
        self.generations.insert(start, generation);
        self.dirty_windows.insert(start);
        while self.generations.len() > MAX_GENERATIONS {
            self.generations.pop_first();
        }
    }

    pub(super) fn take_dirty(&mut self) -> (BTreeSet<Timestamp>, bool) {
        (
            std::mem::take(&mut self.dirty_windows),
            std::mem::take(&mut self.dirty_roster),
        )
    }

    pub(super) fn window_record(&self, start: Timestamp) -> Option<WindowRecord> {
        let generation = self.windows.get(&start)?;
        Some(WindowRecord {
            start,
            generation: self.generation(start),
            exempt: generation.exempt,
            voided: generation.voided,
            files: generation.pending().map(FileRecord::of).collect(),
        })
    }

    pub(super) fn roster_record(&self) -> RosterRecord {
        self.roster.record()
    }

    pub(super) fn join_window(&mut self, record: WindowRecord, next_number: &mut u64) {
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

    pub(super) fn join_roster(&mut self, record: &RosterRecord, cap: usize) {
        self.roster.join(record, cap);
        self.dirty_roster |= self.roster.record() != *record;
    }

    pub(super) fn known_writers(&self) -> impl Iterator<Item = &WriterId> {
        self.roster.known()
    }

    pub(super) fn active_writers(&self, options: &Options, now: Timestamp) -> impl Iterator<Item = &WriterId> {
        self.roster.active(now, self.active_ms(options))
    }

    pub(super) fn status(&self, options: &Options, now: Timestamp) -> Vec<WindowStatus> {
        let mut rules = RulesOf::new(self, now, options);
        let obstacle = self.obstacle(now);
        let active: Vec<_> = self.active_writers(options, now).collect();
        let statuses = self.windows.values().map(|generation| {
            let facts = generation.facts(options, now);
            let found = rules.apply(&facts, generation, Timestamp::MAX);
            let drafted = self.busy.as_ref().filter(|busy| busy.start == generation.window.start);
            let (ready, waiting, until) = match (found.ready(now), obstacle) {
                _ if let Some(busy) = drafted => (Some(busy.why), None, None),
                _ if self.is_below_boundary(generation.window) => (None, Some(WaitingFor::Quarantine), None),
                (ready, Some((why, until))) => (
                    ready,
                    Some(why),
                    until.max(found.earliest().filter(|_| until.is_some())),
                ),
                (Some(why), None) => (Some(why), None, None),
                (None, None) => (None, Some(waiting_for(&facts, options, now)), found.earliest()),
            };
            let is_missing = |id: &&&WriterId| !generation.writers().contains_key(**id);
            WindowStatus {
                key: generation.window.key(&self.name),
                window_start: generation.window.start,
                window_end: generation.window.end,
                writers: generation.writers().keys().cloned().collect(),
                file_count: generation.file_count(),
                total_size: generation.total_size(),
                generation: self.generation(generation.window.start),
                missing_writers: active.iter().filter(is_missing).copied().cloned().collect(),
                ready,
                waiting_for: waiting,
                until,
                held: generation.held(options, now),
            }
        });
        statuses.collect()
    }
}

/// The rules of one namespace's windows; what they need to know of writers is computed once, if at all.
struct RulesOf<'a> {
    state: &'a NamespaceState,
    options: &'a Options,
    now: Timestamp,
    activity: Option<Activity<'a>>,
}

impl<'a> RulesOf<'a> {
    fn new(state: &'a NamespaceState, now: Timestamp, options: &'a Options) -> Self {
        Self {
            state,
            options,
            now,
            activity: None,
        }
    }

    fn of(&mut self, generation: &Generation, horizon: Timestamp) -> Rules {
        self.apply(&generation.facts(self.options, self.now), generation, horizon)
    }

    fn apply(&mut self, facts: &Facts, generation: &Generation, horizon: Timestamp) -> Rules {
        Rules::new(facts, self.options, horizon, || {
            self.activity
                .get_or_insert_with(|| self.state.roster.activity(self.state.active_ms(self.options), self.now))
                .quorum(generation.window.end, generation.writers())
        })
    }
}

/// Windows without pending files whose generation is remembered; of others the register tells.
const MAX_GENERATIONS: usize = 10_000;
