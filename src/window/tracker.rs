//! [`WindowTracker`]: all namespaces, and the turns that they take.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::namespace::{NamespaceState, Room};
use super::pending::{Arrival, PendingFile};
use super::record::{RosterRecord, TrackerKey, WindowRecord};
use super::sizes::WindowSizes;
use crate::naming::{Namespace, ObjectKey, SourceFile, WriterId};
use crate::options::{Priority, ValidOptions};
use crate::plan::Window;
use crate::status::{Readiness, WindowStatus};
use crate::time::Timestamp;

/// Groups source files into windows, and says when a window is to be planned and with which files.
///
/// A pure state machine: files and `now` go in, drafts and the next deadline come out. The order of calls is
/// free; a host typically hands in what arrived, then calls [`poll_plan`](Self::poll_plan) until it gives
/// nothing, saves what [`take_dirty`](Self::take_dirty) names, and sleeps until
/// [`poll_deadline`](Self::poll_deadline).
///
/// It knows pending files only. Whether a file has been planned before is the plan register's to say: the
/// caller asks it before it hands a file in.
#[derive(Debug)]
pub struct WindowTracker {
    options: ValidOptions,
    namespaces: BTreeMap<Namespace, NamespaceState>,
    /// Windows with pending files, of all namespaces.
    open_windows: usize,
    /// Of all namespaces.
    pending_files: usize,
    /// Number of the next file that arrives.
    next_number: u64,
    /// Who had the last turn.
    turns: BTreeMap<Priority, Namespace>,
}

/// What a file was to the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Observed {
    /// Nothing new: nothing has changed.
    AlreadyPending,
    /// It belongs to a window below the boundary: to be set aside.
    BelowBoundary {
        /// The boundary.
        boundary: Timestamp,
    },
    /// Too many windows are open, or too many files pending: not taken. Its notification must not be acknowledged.
    Deferred,
    /// It is pending now.
    Recorded,
    /// It was pending; its size or etag has changed.
    Updated,
}

/// A window that is to be planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanDraft {
    /// In this namespace.
    pub namespace: Namespace,
    /// The window.
    pub window: Window,
    /// How often it has been planned and committed.
    pub generation: u64,
    /// The sources, in order.
    pub files: Vec<SourceFile>,
    /// Why now.
    pub why: Readiness,
}

/// The tracker's part of the status document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackerStatus {
    /// Every writer that is remembered.
    pub known_writers: Vec<WriterId>,
    /// Those that windows wait for.
    pub active_writers: Vec<WriterId>,
    /// Windows with pending files, by namespace, then oldest first.
    pub windows: Vec<WindowStatus>,
}

impl WindowTracker {
    /// A tracker that knows nothing yet.
    pub fn new(options: ValidOptions) -> Self {
        Self {
            options,
            namespaces: BTreeMap::new(),
            open_windows: 0,
            pending_files: 0,
            next_number: 0,
            turns: BTreeMap::new(),
        }
    }

    /// Sets the window sizes of a namespace, `windowSizeMs` being the default. Pending files move to the
    /// windows that they now belong to.
    pub fn set_window_sizes(&mut self, namespace: &Namespace, sizes: WindowSizes) {
        self.change(namespace, |state| state.set_window_sizes(sizes));
    }

    /// Sets the boundary of a namespace: files of windows that start below it are refused, and those that
    /// are pending are not drafted any more (see [`below_boundary`](Self::below_boundary)).
    pub fn set_boundary(&mut self, namespace: &Namespace, boundary: Timestamp) {
        self.change(namespace, |state| state.set_boundary(boundary));
    }

    /// Pending files of windows below the boundary: to be set aside with
    /// [`forget_file`](Self::forget_file), since nobody can tell whether they are in the table.
    pub fn below_boundary(&self, namespace: &Namespace) -> impl Iterator<Item = &PendingFile> {
        self.namespaces
            .get(namespace)
            .into_iter()
            .flat_map(NamespaceState::below_boundary)
    }

    /// The window of a namespace that a timestamp belongs to.
    pub fn window_of(&self, namespace: &Namespace, t: Timestamp) -> Window {
        match self.namespaces.get(namespace) {
            Some(state) => state.window_of(t),
            None => WindowSizes::fixed(self.options.window_size_ms).window_of(t),
        }
    }

    /// Takes a file in.
    ///
    /// A duplicate changes nothing, neither counts nor readiness. The caller has checked that no plan
    /// has the file.
    pub fn handle_file(&mut self, file: SourceFile, arrival: Arrival, now: Timestamp) -> Observed {
        let may_open = self.open_windows < self.options.max_open_windows;
        let is_full = self.pending_files >= self.options.max_pending_files;
        let share = self.options.max_pending_files / self.namespaces.len().max(1);
        let number = self.next_number;
        self.next_number += 1;
        if !self.namespaces.contains_key(&file.name.namespace) {
            if !may_open {
                return Observed::Deferred;
            }
            self.insert_namespace(&file.name.namespace);
        }
        let Some(state) = self.namespaces.get_mut(&file.name.namespace) else {
            return Observed::Deferred;
        };
        let room = Room {
            may_open,
            may_take: !is_full || state.file_count() < share,
        };
        let before = (state.window_count(), state.file_count());
        let observed = state.handle_file(file, arrival, now, number, room, &self.options);
        self.open_windows += state.window_count() - before.0;
        self.pending_files += state.file_count() - before.1;
        observed
    }

    /// Whether no more than half of what may be open and pending is, so that a listing is worth its while after files
    /// have been [deferred](Observed::Deferred).
    pub fn has_room(&self) -> bool {
        self.open_windows <= self.options.max_open_windows / 2
            && self.pending_files <= self.options.max_pending_files / 2
    }

    /// Drops a pending file, because it goes to quarantine or a plan was found to have it.
    pub fn forget_file(&mut self, namespace: &Namespace, key: &ObjectKey) -> Option<SourceFile> {
        self.change(namespace, |state| state.forget_file(key))
    }

    /// The pending files of a namespace, by window, in order.
    pub fn pending(&self, namespace: &Namespace) -> impl Iterator<Item = &PendingFile> {
        self.namespaces
            .get(namespace)
            .into_iter()
            .flat_map(NamespaceState::pending)
    }

    /// The pending file of a key.
    pub fn is_pending(&self, namespace: &Namespace, key: &ObjectKey) -> Option<&SourceFile> {
        self.namespaces.get(namespace)?.file(key)
    }

    /// Whether other content of a key has been observed since it was drafted; `None` if it is not in the draft
    /// under way.
    pub fn changed_since_draft(&self, namespace: &Namespace, key: &ObjectKey) -> Option<bool> {
        self.namespaces.get(namespace)?.changed_since_draft(key)
    }

    /// A listing of the namespace begins: until it ends nothing of the namespace is drafted, so that a
    /// backlog is cut into whole windows.
    pub fn begin_listing(&mut self, namespace: &Namespace) {
        self.change(namespace, NamespaceState::begin_listing);
    }

    /// The listing has ended. Windows whose newest file it brought are settled.
    pub fn end_listing(&mut self, namespace: &Namespace) {
        self.change(namespace, NamespaceState::end_listing);
    }

    /// The next window to be planned. Namespaces take turns by priority, the oldest ready window of one
    /// goes first.
    ///
    /// No other draft of its namespace is given until the caller says what became of this one:
    /// [`committed`](Self::committed), [`voided`](Self::voided) or [`abandoned`](Self::abandoned).
    pub fn poll_plan(&mut self, now: Timestamp) -> Option<PlanDraft> {
        for priority in PRIORITIES {
            let turn = self.turns.get(&priority);
            let (after, upto) = match turn {
                Some(last) => (Bound::Excluded(last.clone()), Bound::Included(last.clone())),
                None => (Bound::Unbounded, Bound::Unbounded),
            };
            let starts = [(after, Bound::Unbounded), (Bound::Unbounded, upto)];
            for range in starts {
                let draft = self
                    .namespaces
                    .range_mut(range)
                    .filter(|(_, state)| state.priority() == priority)
                    .find_map(|(_, state)| state.poll_plan(now, &self.options));
                if let Some(draft) = draft {
                    self.turns.insert(priority, draft.namespace.clone());
                    return Some(draft);
                }
            }
        }
        None
    }

    /// Nothing came of the draft: its files stay pending. The namespace is drafted again, not before
    /// `not_before`.
    pub fn abandoned(&mut self, namespace: &Namespace, not_before: Option<Timestamp>) {
        self.change(namespace, |state| state.abandoned(not_before));
    }

    /// The files of these keys are in the table. What is left of the window is its next generation.
    ///
    /// A file that was observed with other content after it had been drafted stays pending: the plan has
    /// the older content. Only if the draft that is out was of this window does this end its turn; a plan
    /// of another window may have been found and finished meanwhile.
    pub fn committed(&mut self, namespace: &Namespace, window: Window, keys: &[ObjectKey]) {
        self.change(namespace, |state| state.committed(window, keys));
    }

    /// A plan of the window came to nothing, which ends its turn as [`committed`](Self::committed) does. Its files stay pending, the minimum does not apply to them, and
    /// they are ready at once.
    pub fn voided(&mut self, namespace: &Namespace, window: Window) {
        self.change(namespace, |state| state.voided(window));
    }

    /// Sets how often the window has been planned and committed, as the plan register says.
    pub fn set_generation(&mut self, namespace: &Namespace, window: Window, generation: u64) {
        self.change(namespace, |state| state.set_generation(window.start, generation));
    }

    /// Whether nothing of the namespace is to be drafted, though files are still taken in.
    pub fn pause(&mut self, namespace: &Namespace, paused: bool) {
        self.change(namespace, |state| state.pause(paused));
    }

    /// The earliest instant at which [`poll_plan`](Self::poll_plan) could give a draft: `now` if it may do so
    /// now, `None` if only an input can change anything.
    /// Once in a while nothing comes of it, when a file from the future becomes a watermark.
    ///
    /// If `poll_plan(now)` gave nothing, it gives nothing before this instant either.
    pub fn poll_deadline(&self, now: Timestamp) -> Option<Timestamp> {
        let earliest = self.namespaces.values().fold(Timestamp::MAX, |limit, state| {
            if limit <= now {
                limit
            } else {
                state.poll_deadline(now, limit, &self.options)
            }
        });
        (earliest < Timestamp::MAX).then(|| earliest.max(now))
    }

    /// All files that are pending now, of one namespace or of all, are to be planned without waiting for
    /// readiness. Plans keep their limits, a listing under way is still waited for, and files from the
    /// future for the clock.
    pub fn drain(&mut self, namespace: Option<&Namespace>) {
        let next_number = self.next_number;
        for (name, state) in &mut self.namespaces {
            if namespace.is_none_or(|wanted| wanted == name) {
                state.drain(next_number);
            }
        }
    }

    /// What has changed since the last call and is to be saved, each by itself.
    pub fn take_dirty(&mut self) -> BTreeSet<TrackerKey> {
        let mut dirty = BTreeSet::new();
        for (namespace, state) in &mut self.namespaces {
            let (windows, roster) = state.take_dirty();
            if roster {
                let namespace = namespace.clone();
                dirty.insert(TrackerKey::Roster { namespace });
            }
            dirty.extend(windows.into_iter().map(|start| TrackerKey::Window {
                namespace: namespace.clone(),
                start,
            }));
        }
        dirty
    }

    /// What is to be saved of a window; `None` if nothing is pending in it, so that its value can go.
    pub fn window_record(&self, namespace: &Namespace, start: Timestamp) -> Option<WindowRecord> {
        self.namespaces.get(namespace)?.window_record(start)
    }

    /// What is to be saved of the writers of a namespace.
    pub fn roster_record(&self, namespace: &Namespace) -> RosterRecord {
        self.namespaces
            .get(namespace)
            .map(NamespaceState::roster_record)
            .unwrap_or_default()
    }

    /// Takes over a saved window: the union, and of each key the newest observation. The window is to be
    /// saved again only if more than the record is known.
    pub fn join_window(&mut self, namespace: &Namespace, record: WindowRecord) {
        let mut next_number = self.next_number;
        self.change(namespace, |state| state.join_window(record, &mut next_number));
        self.next_number = next_number;
    }

    /// Takes over saved writers, likewise.
    pub fn join_roster(&mut self, namespace: &Namespace, record: &RosterRecord) {
        let cap = self.options.max_known_writers;
        self.change(namespace, |state| state.join_roster(record, cap));
    }

    /// What is pending, and what it waits for.
    pub fn status(&self, now: Timestamp) -> TrackerStatus {
        let states = || self.namespaces.values();
        let known: BTreeSet<_> = states().flat_map(NamespaceState::known_writers).collect();
        let active: BTreeSet<_> = states()
            .flat_map(|state| state.active_writers(&self.options, now))
            .collect();
        TrackerStatus {
            known_writers: known.into_iter().cloned().collect(),
            active_writers: active.into_iter().cloned().collect(),
            windows: states().flat_map(|state| state.status(&self.options, now)).collect(),
        }
    }

    /// Changes the state of a namespace, which need not exist before.
    fn change<T>(&mut self, namespace: &Namespace, change: impl FnOnce(&mut NamespaceState) -> T) -> T {
        if let Some(state) = self.namespaces.get_mut(namespace) {
            let before = (state.window_count(), state.file_count());
            let result = change(state);
            self.open_windows = self.open_windows - before.0 + state.window_count();
            self.pending_files = self.pending_files - before.1 + state.file_count();
            return result;
        }
        let mut state = NamespaceState::new(namespace.clone(), &self.options);
        let result = change(&mut state);
        self.open_windows += state.window_count();
        self.pending_files += state.file_count();
        self.namespaces.insert(namespace.clone(), state);
        result
    }

    fn insert_namespace(&mut self, namespace: &Namespace) {
        let state = NamespaceState::new(namespace.clone(), &self.options);
        self.namespaces.insert(namespace.clone(), state);
    }
}

const PRIORITIES: [Priority; 4] = [
    Priority::Critical,
    Priority::High,
    Priority::Normal,
    Priority::Background,
];
