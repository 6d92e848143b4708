//! One lane, as a compactor holds it in memory.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::compactor::attempts::AttemptsKey;
use crate::compactor::busy::{Backoff, Busy, LONGEST_PAUSE_MS};
use crate::compactor::draft::{TakenSource, taken_sources};
use crate::compactor::lane_state::{Documents, LaneMemory};
use crate::compactor::progress::Progress;
use crate::compactor::shared::Shared;
use crate::compactor::shelf::{Shelf, ShelfEntry};
use crate::error::Result;
use crate::halt::{Halt, LaneError};
use crate::ids::{LaneId, Seq};
use crate::ledger::Register;
use crate::ledger::manifest::LaneManifest;
use crate::naming::{Namespace, ObjectKey, SourceFile};
use crate::plan::{PlannedSource, Window};
use crate::quarantine::QuarantineReason;
use crate::sink::{Outcome, Table};
use crate::state::StateKey;
use crate::time::Timestamp;
use crate::window::{Arrival, Observed, WindowSizes, WindowTracker};

/// Windows whose taken sources are kept in memory.
const MOST_TAKEN_WINDOWS: usize = 64;

/// A lane that is open.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) namespace: Namespace,
    pub(crate) manifest: LaneManifest,
    pub(crate) table: Table,
    pub(crate) register: Register,
    pub(crate) shelf: Shelf,
    pub(crate) memory: LaneMemory,
    pub(crate) halted: Option<Halted>,
    /// Whether a lane that was halted looks if its halt is mended: it plans nothing until its turn and the
    /// reclaims that are due, which could halt it again, have gone well.
    pub(crate) on_trial: bool,
    /// Of turns, that is of planning, merging and committing.
    pub(crate) backoff: Backoff,
    /// Of reclaim and upkeep: who may not delete can still compact.
    pub(crate) reclaim_backoff: Backoff,
    pub(crate) progress: Progress,
    /// Whether a turn is wanted even without a draft: a plan may be undecided.
    pub(crate) unsettled: bool,
    /// Whether the bucket has to be listed before the next plan, since the state was lost, or some of it.
    pub(crate) to_be_listed: bool,
    /// How much of the state could not be read when the lane was opened.
    pub(crate) damaged: usize,
    /// Committed plans whose sources are still to be deleted.
    pub(crate) to_reclaim: BTreeSet<Seq>,
    pub(crate) working: Busy,
    pub(crate) reclaiming: Busy,
    /// The decisions up to here have been turned into what is pending and what is to be reclaimed.
    derived_to: Seq,
    pub(super) documents: Documents,
    taken: BTreeMap<Timestamp, TakenWindow>,
}

/// A lane that stands still.
#[derive(Clone, Debug)]
pub(crate) struct Halted {
    pub(crate) halt: Halt,
    /// When it is looked at again: a cause may have been mended.
    pub(crate) look_again_at: Timestamp,
}

#[derive(Debug)]
struct TakenWindow {
    seqs: Vec<Seq>,
    sources: BTreeMap<ObjectKey, Vec<TakenSource>>,
}

impl Lane {
    /// Opens the lane of a manifest: register, state, and what follows from both for the tracker.
    pub(crate) async fn open(
        shared: &Shared,
        tracker: &mut WindowTracker,
        manifest: LaneManifest,
        table: Table,
        now: Timestamp,
    ) -> Result<Self, LaneError> {
        let namespace = manifest.namespace.clone();
        let register = Register::open(&shared.control, &namespace, manifest.lane).await?;
        tracker.set_window_sizes(
            &namespace,
            WindowSizes {
                initial_ms: manifest.window_size_ms,
                changes: register.window_sizes().await?,
            },
        );
        let state = shared.state.as_ref();
        let documents = Documents::open(state, Self::state_key(&namespace, manifest.lane)).await?;
        let shelf = Shelf::open(state, documents.base.join("quarantine")).await?;
        let memory = documents.saved.clone().unwrap_or_default();
        let damaged = documents.damaged() + shelf.damaged;
        let mut lane = Self {
            to_be_listed: !memory.listed || damaged > 0,
            damaged,
            namespace,
            manifest,
            table,
            register,
            shelf,
            memory,
            halted: None,
            on_trial: false,
            backoff: Backoff::default(),
            reclaim_backoff: Backoff::default(),
            progress: Progress::default(),
            unsettled: true,
            to_reclaim: BTreeSet::new(),
            working: Busy::default(),
            reclaiming: Busy::default(),
            derived_to: Seq::ZERO,
            documents,
            taken: BTreeMap::new(),
        };
        lane.fill(tracker);
        if let Err(error) = lane.read_register(tracker, now).await {
            match error {
                LaneError::Halted(halt) => lane.halt(tracker, halt, now),
                LaneError::Failed(error) => return Err(error.into()),
            }
        }
        Ok(lane)
    }

    /// Under which a lane's documents are kept.
    pub(crate) fn state_key(namespace: &Namespace, lane: LaneId) -> StateKey {
        StateKey::new(["lanes", namespace.as_str()]).join(&lane.to_string())
    }

    /// Takes over what an operator gave up before this lane was made.
    pub(crate) fn discard_again(&mut self, discarded: Vec<ShelfEntry>) -> Result<()> {
        discarded.into_iter().try_for_each(|entry| self.shelf.insert(entry))
    }

    /// Reads the register from the floor on, and derives from it what is pending and what is to be reclaimed.
    async fn read_register(&mut self, tracker: &mut WindowTracker, now: Timestamp) -> Result<(), LaneError> {
        self.register.refresh().await?;
        self.floor_raised(tracker, now)?;
        // What these plans have taken is found when a window is drafted: to load all of them now would be long.
        self.derive(tracker, now, |_| false).await
    }

    /// Takes over the floor of the register. What is pending below its boundary cannot be judged any more.
    pub(crate) fn floor_raised(&mut self, tracker: &mut WindowTracker, now: Timestamp) -> Result<()> {
        let floor = *self.register.floor();
        if let Some(boundary) = floor.boundary {
            tracker.set_boundary(&self.namespace, boundary);
            let below = tracker.below_boundary(&self.namespace);
            let files: Vec<_> = below.map(|pending| pending.file.clone()).collect();
            for file in files {
                self.set_aside(tracker, &file, QuarantineReason::BelowBoundary { boundary }, now)?;
            }
        }
        self.memory.reclaimed_to = self.memory.reclaimed_to.max(floor.seq);
        self.memory.reclaimed.retain(|seq| *seq > floor.seq);
        self.to_reclaim.retain(|seq| *seq > floor.seq);
        self.derived_to = self.derived_to.max(floor.seq);
        Ok(())
    }

    /// Turns decisions that have been learned into what follows from them: sources of void plans are pending,
    /// unless a later plan has them; committed plans are to be reclaimed, and of those that are `news` the sources
    /// are pending no more.
    pub(crate) async fn derive(
        &mut self,
        tracker: &mut WindowTracker,
        now: Timestamp,
        news: impl Fn(Seq) -> bool + Send,
    ) -> Result<(), LaneError> {
        let known = self.register.plans().filter(|(seq, _)| *seq > self.derived_to);
        let learned: Vec<_> = known
            .filter_map(|(seq, plan)| Some((seq, plan.window, self.register.decision(seq)?.outcome)))
            .collect();
        for (seq, window, outcome) in learned {
            match outcome {
                Outcome::Data => {
                    if !self.memory.is_reclaimed(seq) {
                        self.to_reclaim.insert(seq);
                    }
                    if news(seq) {
                        let plan = self.register.load_plan(seq).await?;
                        let keys = self.keys_done(tracker, &plan.sources);
                        tracker.committed(&self.namespace, window, &keys);
                    }
                }
                Outcome::Void => self.bring_back(tracker, seq, window, now).await?,
            }
            let generation = self.register.covering(window.start).count() as u64;
            tracker.set_generation(&self.namespace, window, generation);
            self.derived_to = seq;
        }
        Ok(())
    }

    /// Whether other content than that of a planned source has been announced since.
    pub(crate) fn has_newer(&self, tracker: &WindowTracker, source: &PlannedSource) -> bool {
        tracker
            .changed_since_draft(&self.namespace, &source.key)
            .unwrap_or_else(|| {
                let pending = tracker.is_pending(&self.namespace, &source.key);
                let known = pending.and_then(|file| file.etag.as_ref());
                known.is_some_and(|known| *known != source.etag)
            })
    }

    /// The keys of committed sources that are pending no more.
    pub(crate) fn keys_done(&self, tracker: &WindowTracker, sources: &[PlannedSource]) -> Vec<ObjectKey> {
        let done = sources.iter().filter(|source| !self.has_newer(tracker, source));
        done.map(|source| source.key.clone()).collect()
    }

    /// The sources of a void plan are pending again, but for its culprits and those that a later plan has or that
    /// are set aside.
    async fn bring_back(
        &mut self,
        tracker: &mut WindowTracker,
        seq: Seq,
        window: Window,
        now: Timestamp,
    ) -> Result<(), LaneError> {
        let plan = self.register.load_plan(seq).await?;
        let decision = self.register.load_decision(seq).await?;
        let culprits = decision.into_iter().flat_map(|(decision, _)| decision.bad_sources);
        let mut culprits: BTreeMap<usize, QuarantineReason> = culprits.map(|bad| (bad.index, bad.reason)).collect();
        let taken = self.taken(window.start).await?;
        let mut back = Vec::new();
        for (index, source) in plan.sources.into_iter().enumerate() {
            let later = taken.get(&source.key);
            if later.is_none_or(|later| later.iter().all(|t| t.etag != source.etag)) {
                // Of a key that is taken since, the draft finds out what there is now.
                let culprit = culprits.remove(&index).filter(|_| later.is_none());
                back.push((source, culprit));
            }
        }
        let mut any = false;
        for (source, culprit) in back {
            if self.shelf.get(&source.key).is_some() {
                continue;
            }
            let released = self.memory.released.get(&source.key) == Some(&source.etag);
            let culprit = culprit.filter(|_| !released && !self.has_newer(tracker, &source));
            let file = source.into();
            if let Some(reason) = culprit {
                self.set_aside(tracker, &file, reason, now)?;
            } else {
                any = true;
                self.pending_again(tracker, &file, now)?;
            }
        }
        if any {
            tracker.voided(&self.namespace, window);
        }
        Ok(())
    }

    /// Makes a file pending that was before.
    fn pending_again(&mut self, tracker: &mut WindowTracker, file: &SourceFile, now: Timestamp) -> Result<()> {
        if let Observed::BelowBoundary { boundary } = tracker.handle_file(file.clone(), Arrival::Event, now) {
            self.set_aside(tracker, file, QuarantineReason::BelowBoundary { boundary }, now)?;
        }
        Ok(())
    }

    /// The sources of a window that are in a plan that is not void.
    pub(crate) async fn taken(
        &mut self,
        window_start: Timestamp,
    ) -> Result<&BTreeMap<ObjectKey, Vec<TakenSource>>, LaneError> {
        let seqs: Vec<_> = self.register.covering(window_start).collect();
        if self.taken.get(&window_start).is_some_and(|window| window.seqs != seqs) {
            self.taken.remove(&window_start);
        }
        if self.taken.len() >= MOST_TAKEN_WINDOWS && !self.taken.contains_key(&window_start) {
            self.taken.clear();
        }
        let window = match self.taken.entry(window_start) {
            Entry::Occupied(window) => window.into_mut(),
            Entry::Vacant(place) => {
                let sources = taken_sources(&self.register, window_start, self.manifest.adopted).await?;
                place.insert(TakenWindow { seqs, sources })
            }
        };
        Ok(&window.sources)
    }

    /// Stops the lane until its cause is mended or an operator goes on.
    pub(crate) fn halt(&mut self, tracker: &mut WindowTracker, halt: Halt, now: Timestamp) {
        tracker.pause(&self.namespace, true);
        self.halted = Some(Halted {
            halt,
            look_again_at: now + LONGEST_PAUSE_MS,
        });
    }

    /// Lets a halted lane look whether it can go on.
    pub(crate) fn try_again(&mut self, tracker: &mut WindowTracker) {
        let Some(halted) = self.halted.take() else { return };
        self.unsettled = true;
        self.on_trial = halted.halt.needs_operator();
        tracker.pause(&self.namespace, self.on_trial);
    }

    /// Lets a lane on trial plan again once nothing that could halt it is left to be done.
    pub(crate) fn end_trial(&mut self, tracker: &mut WindowTracker, grace_ms: u64, now: Timestamp) {
        let is_due = |seq: &Seq| self.reclaim_due(*seq, grace_ms, now).is_some_and(|at| at <= now);
        if self.on_trial && !self.unsettled && !self.to_reclaim.iter().any(is_due) {
            self.on_trial = false;
            tracker.pause(&self.namespace, false);
        }
    }

    /// The bucket has been listed for this lane.
    pub(crate) fn listed(&mut self) {
        self.to_be_listed = false;
        self.memory.listed = true;
    }

    /// When the sources of a committed plan may be deleted.
    pub(crate) fn reclaim_due(&self, seq: Seq, grace_ms: u64, now: Timestamp) -> Option<Timestamp> {
        self.register
            .decision(seq)
            .map(|decision| decision.since(now) + grace_ms)
    }

    pub(crate) fn attempts_key(&self) -> AttemptsKey {
        AttemptsKey(self.documents.base.join("attempts"))
    }

    pub(crate) fn id(&self) -> LaneId {
        self.manifest.lane
    }
}
