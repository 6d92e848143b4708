//! One namespace: its windows, its writers, and what keeps it from being planned.

mod saved;
mod schedule;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use crate::naming::{Namespace, ObjectKey, SourceFile, WriterId};
use crate::options::{Options, Priority};
use crate::plan::Window;
use crate::status::Readiness;
use crate::time::Timestamp;
use crate::window::generation::Generation;
use crate::window::pending::{Arrival, ByKey, PendingFile, Slot};
use crate::window::roster::Roster;
use crate::window::sizes::WindowSizes;
use crate::window::tracker::Observed;

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

/// What the limits over all namespaces leave to one of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Another window with pending files.
    pub(super) may_open: bool,
    /// Another pending file.
    pub(super) may_take: bool,
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
    pub(in crate::window) fn new(name: Namespace, options: &Options) -> Self {
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

    pub(in crate::window) fn priority(&self) -> Priority {
        self.priority
    }

    /// Moves pending files into the windows of the new sizes, where these differ.
    pub(in crate::window) fn set_window_sizes(&mut self, sizes: WindowSizes) {
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

    pub(in crate::window) fn set_boundary(&mut self, boundary: Timestamp) {
        self.boundary = Some(boundary);
        self.generations = self.generations.split_off(&boundary);
    }

    pub(in crate::window) fn window_of(&self, t: Timestamp) -> Window {
        self.sizes.window_of(t)
    }

    fn is_below_boundary(&self, window: Window) -> bool {
        self.boundary.is_some_and(|boundary| window.start < boundary)
    }

    pub(in crate::window) fn window_count(&self) -> usize {
        self.windows.len()
    }

    pub(in crate::window) fn file_count(&self) -> usize {
        self.keys.len()
    }

    pub(in crate::window) fn handle_file(
        &mut self,
        file: SourceFile,
        arrival: Arrival,
        now: Timestamp,
        number: u64,
        room: Room,
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
        if !room.may_take || (!room.may_open && !self.windows.contains_key(&window.start)) {
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

    pub(in crate::window) fn forget_file(&mut self, key: &ObjectKey) -> Option<SourceFile> {
        let ByKey(slot) = self.keys.get(key)?.clone();
        self.remove(&slot);
        let name = &slot.pending.file.name;
        self.ahead.remove(&(name.timestamp, name.writer.clone()));
        if let Some(busy) = &mut self.busy {
            busy.files_left.remove(key);
        }
        Some(slot.pending.file.clone())
    }

    pub(in crate::window) fn pending(&self) -> impl Iterator<Item = &PendingFile> {
        self.windows.values().flat_map(Generation::pending)
    }

    pub(in crate::window) fn file(&self, key: &ObjectKey) -> Option<&SourceFile> {
        self.keys.get(key).map(|ByKey(slot)| &slot.pending.file)
    }

    pub(in crate::window) fn changed_since_draft(&self, key: &ObjectKey) -> Option<bool> {
        let busy = self.busy.as_ref().filter(|busy| busy.files_left.contains(key))?;
        Some(busy.changed.contains(key))
    }

    pub(in crate::window) fn below_boundary(&self) -> impl Iterator<Item = &PendingFile> {
        let below = |generation: &&Generation| self.is_below_boundary(generation.window);
        self.windows.values().take_while(below).flat_map(Generation::pending)
    }

    pub(in crate::window) fn begin_listing(&mut self) {
        self.listing = true;
    }

    pub(in crate::window) fn end_listing(&mut self) {
        self.listing = false;
        self.windows.values_mut().for_each(Generation::end_listing);
    }

    pub(in crate::window) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(in crate::window) fn drain(&mut self, next_number: u64) {
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

    pub(in crate::window) fn abandoned(&mut self, not_before: Option<Timestamp>) {
        self.busy = None;
        self.not_before = not_before;
    }

    pub(in crate::window) fn committed(&mut self, window: Window, keys: &[ObjectKey]) {
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
                rest.rest_of = schedule::rest_of(busy.rest, busy.why);
            }
            rest.voided = false;
        }
    }

    pub(in crate::window) fn voided(&mut self, window: Window) {
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

    pub(in crate::window) fn set_generation(&mut self, start: Timestamp, generation: u64) {
        if self.generation(start) == generation {
            return;
        }
        self.generations.insert(start, generation);
        self.dirty_windows.insert(start);
        while self.generations.len() > MAX_GENERATIONS {
            self.generations.pop_first();
        }
    }

    pub(in crate::window) fn known_writers(&self) -> impl Iterator<Item = &WriterId> {
        self.roster.known()
    }

    pub(in crate::window) fn active_writers(
        &self,
        options: &Options,
        now: Timestamp,
    ) -> impl Iterator<Item = &WriterId> {
        self.roster.active(now, self.active_ms(options))
    }

    fn active_ms(&self, options: &Options) -> u64 {
        let window_and_wait = self.sizes.latest_ms().saturating_add(options.max_wait_time_ms);
        options.writer_inactive_threshold_ms.max(window_and_wait)
    }
}

/// Windows without pending files whose generation is remembered; of others the register tells.
const MAX_GENERATIONS: usize = 10_000;
