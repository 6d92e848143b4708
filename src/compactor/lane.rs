//! One lane, as a compactor holds it in memory.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::compactor::attempts::AttemptsKey;
use crate::compactor::draft::{TakenSource, taken_sources};
use crate::compactor::progress::Progress;
use crate::compactor::shared::Shared;
use crate::compactor::shelf::Shelf;
use crate::error::{Error, ErrorKind, Result};
use crate::halt::{Halt, LaneError};
use crate::ids::{LaneId, Seq};
use crate::ledger::Register;
use crate::ledger::manifest::LaneManifest;
use crate::naming::{ETag, Namespace, ObjectKey, SourceFile};
use crate::plan::{PlannedSource, Window};
use crate::quarantine::QuarantineReason;
use crate::sink::{Outcome, Table};
use crate::state::document::Document;
use crate::state::{StateKey, StateStore};
use crate::time::Timestamp;
use crate::window::{Arrival, FileRecord, Observed, TrackerKey, WindowRecord, WindowSizes, WindowTracker};

/// Windows whose taken sources are kept in memory.
const MOST_TAKEN_WINDOWS: usize = 64;

/// Shortest and longest pause after a failure.
const FIRST_PAUSE_MS: u64 = 1_000;
const LONGEST_PAUSE_MS: u64 = 300_000;

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
    /// Whether the bucket has to be listed before the next plan, since the state was lost.
    pub(crate) to_be_listed: bool,
    /// Committed plans whose sources are still to be deleted.
    pub(crate) to_reclaim: BTreeSet<Seq>,
    pub(crate) working: Busy,
    pub(crate) reclaiming: Busy,
    /// The decisions up to here have been turned into what is pending and what is to be reclaimed.
    derived_to: Seq,
    documents: Documents,
    taken: BTreeMap<Timestamp, TakenWindow>,
}

/// A lane that stands still.
#[derive(Clone, Debug)]
pub(crate) struct Halted {
    pub(crate) halt: Halt,
    /// When it is looked at again: a cause may have been mended.
    pub(crate) look_again_at: Timestamp,
}

/// What a lane remembers beside windows and quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LaneMemory {
    /// Whether the bucket was listed for this lane: a lane without this has lost its state.
    pub(crate) listed: bool,
    /// Every committed seq up to here has been reclaimed, and these besides.
    pub(crate) reclaimed_to: Seq,
    pub(crate) reclaimed: BTreeSet<Seq>,
    /// Contents that an operator has released though they seemed taken.
    pub(crate) released: BTreeMap<ObjectKey, ETag>,
    /// When orphans were last looked for.
    pub(crate) swept_at: Option<Timestamp>,
}

/// Pauses between failures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) last_error: Option<String>,
}

#[derive(Debug)]
struct Documents {
    base: StateKey,
    lane: Document,
    roster: Document,
    windows: BTreeMap<Timestamp, WindowDocument>,
    /// What the state store holds of [`LaneMemory`].
    saved: Option<LaneMemory>,
}

/// The saved pending files of a window.
#[derive(Debug)]
struct WindowDocument {
    document: Document,
    /// The entries that the tracker has been given or has given. Others were recorded by other workers.
    known: BTreeSet<String>,
}

#[derive(Debug)]
struct TakenWindow {
    seqs: Vec<Seq>,
    sources: BTreeMap<ObjectKey, Vec<TakenSource>>,
}

impl Backoff {
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Doubles the pause; up to a quarter of it is random, so that workers do not meet again.
    pub(crate) fn failed(&mut self, now: Timestamp, error: &Error, random: u128) {
        let doubled = FIRST_PAUSE_MS
            .checked_shl(self.failures.min(30))
            .unwrap_or(LONGEST_PAUSE_MS);
        let pause = doubled.min(LONGEST_PAUSE_MS);
        let jitter = u64::try_from(random % u128::from(pause / 4 + 1)).unwrap_or(0);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + pause + jitter);
        self.last_error = Some(error.chain());
    }

    pub(crate) fn may_run(&self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }
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
        let base = StateKey::new(["lanes", namespace.as_str()]).join(&manifest.lane.to_string());
        let documents = Documents::open(state, base).await?;
        let shelf = Shelf::open(state, documents.base.join("quarantine")).await?;
        let memory = documents.saved.clone().unwrap_or_default();
        let mut lane = Self {
            to_be_listed: !memory.listed,
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
        lane.fill(tracker)?;
        if let Err(error) = lane.read_register(tracker, now).await {
            match error {
                LaneError::Halted(halt) => lane.halt(tracker, halt, now),
                LaneError::Failed(error) => return Err(error.into()),
            }
        }
        Ok(lane)
    }

    /// Hands the saved windows and writers to the tracker.
    fn fill(&self, tracker: &mut WindowTracker) -> Result<()> {
        for (start, window) in &self.documents.windows {
            let mut files = Vec::new();
            for (_, text) in window.document.iter().filter(|(name, _)| name.starts_with(FILE_PREFIX)) {
                files.push(decode::<FileRecord>(text)?);
            }
            let record = match window.document.get(WINDOW) {
                Some(text) => WindowRecord { files, ..decode(text)? },
                // A crash came between two chunks: the files are pending all the same.
                None => record_of_files(*start, files),
            };
            tracker.join_window(&self.namespace, record);
        }
        if let Some(text) = self.documents.roster.get(ROSTER) {
            // Writers come back with their next file; garbage costs a timeout, not a row.
            tracker.join_roster(&self.namespace, &serde_json::from_str(text).unwrap_or_default());
        }
        Ok(())
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

    /// Saves a part of the tracker's state.
    pub(crate) async fn save_tracked(
        &mut self,
        store: &dyn StateStore,
        tracker: &mut WindowTracker,
        key: &TrackerKey,
    ) -> Result<()> {
        match key {
            TrackerKey::Window { start, .. } => self.save_window(store, tracker, *start).await,
            TrackerKey::Roster { .. } => {
                let text = encode(&tracker.roster_record(&self.namespace))?;
                let changes = BTreeMap::from([(ROSTER.to_owned(), Some(text))]);
                self.documents.roster.apply(store, &changes).await
            }
        }
    }

    /// Saves the pending files of a window, and takes over those that other workers have recorded in it: they are
    /// acknowledged, and their worker may be gone.
    async fn save_window(
        &mut self,
        store: &dyn StateStore,
        tracker: &mut WindowTracker,
        start: Timestamp,
    ) -> Result<()> {
        let wanted = match tracker.window_record(&self.namespace, start) {
            Some(record) => entries_of_window(record)?,
            None => BTreeMap::new(),
        };
        if !self.documents.windows.contains_key(&start) {
            let document = Document::open(store, self.documents.window_key(start)).await?;
            let known = BTreeSet::new();
            self.documents.windows.insert(start, WindowDocument { document, known });
        }
        let Some(window) = self.documents.windows.get_mut(&start) else {
            return Ok(());
        };
        let dropped = |name: &str| window.known.contains(name) && !wanted.contains_key(name);
        let mut changes: BTreeMap<String, Option<String>> = window
            .document
            .iter()
            .filter(|(name, _)| dropped(name))
            .map(|(name, _)| (name.to_owned(), None))
            .collect();
        window.known.extend(wanted.keys().cloned());
        for (name, text) in &wanted {
            if window.document.get(name) != Some(text.as_str()) {
                changes.insert(name.clone(), Some(text.clone()));
            }
        }
        if !changes.is_empty() {
            window.document.apply(store, &changes).await?;
        }
        window.known = wanted.into_keys().collect();
        let mut theirs = Vec::new();
        for (name, text) in window.document.iter() {
            if name.starts_with(FILE_PREFIX) && !window.known.contains(name) {
                theirs.push((name.to_owned(), decode::<FileRecord>(text)?));
            }
        }
        if !theirs.is_empty() {
            let (names, files): (Vec<_>, Vec<_>) = theirs.into_iter().unzip();
            window.known.extend(names);
            tracker.join_window(&self.namespace, record_of_files(start, files));
        }
        if window.document.iter().next().is_none() {
            self.documents.windows.remove(&start);
        }
        Ok(())
    }

    /// Saves quarantine and memory.
    pub(crate) async fn save(&mut self, store: &dyn StateStore) -> Result<()> {
        self.shelf.save(store).await?;
        if self.documents.saved.as_ref() != Some(&self.memory) {
            let changes = BTreeMap::from([(MEMORY.to_owned(), Some(encode(&self.memory)?))]);
            self.documents.lane.apply(store, &changes).await?;
            self.documents.saved = Some(self.memory.clone());
        }
        Ok(())
    }

    pub(crate) fn id(&self) -> LaneId {
        self.manifest.lane
    }
}

impl LaneMemory {
    pub(crate) fn is_reclaimed(&self, seq: Seq) -> bool {
        seq <= self.reclaimed_to || self.reclaimed.contains(&seq)
    }

    /// Remembers that a plan was reclaimed; `settled` says whether a seq needs no reclaim at all.
    pub(crate) fn reclaimed(&mut self, seq: Seq, settled: impl Fn(Seq) -> bool) {
        self.reclaimed.insert(seq);
        while self.reclaimed.remove(&self.reclaimed_to.next()) || settled(self.reclaimed_to.next()) {
            self.reclaimed_to = self.reclaimed_to.next();
        }
    }
}

/// Names of entries in a lane's documents.
const MEMORY: &str = "memory";
const ROSTER: &str = "roster";
const WINDOW: &str = "window";
const FILE_PREFIX: &str = "file:";

impl Documents {
    async fn open(store: &dyn StateStore, base: StateKey) -> Result<Self> {
        let lane = Document::open(store, base.join("lane")).await?;
        let roster = Document::open(store, base.join("roster")).await?;
        let saved = match lane.get(MEMORY) {
            Some(text) => Some(decode(text)?),
            None => None,
        };
        let all_windows = base.join("windows");
        let depth = all_windows.segments().count();
        let keys: Vec<StateKey> = store.list(&all_windows).try_collect().await?;
        let starts: BTreeSet<i64> = keys
            .iter()
            .filter_map(|key| key.segments().nth(depth)?.parse().ok())
            .collect();
        let mut windows = BTreeMap::new();
        for start in starts {
            let document = Document::open(store, all_windows.join(&start.to_string())).await?;
            let known = document.iter().map(|(name, _)| name.to_owned()).collect();
            windows.insert(Timestamp::from_millis(start), WindowDocument { document, known });
        }
        Ok(Self {
            base,
            lane,
            roster,
            windows,
            saved,
        })
    }

    fn window_key(&self, start: Timestamp) -> StateKey {
        self.base.join("windows").join(&start.as_millis().to_string())
    }
}

/// A window of which nothing but its files is known.
fn record_of_files(start: Timestamp, files: Vec<FileRecord>) -> WindowRecord {
    WindowRecord {
        start,
        generation: 0,
        exempt: false,
        voided: false,
        files,
    }
}

/// A window as entries: one for the window, one per file, so that a large one spreads over chunks.
fn entries_of_window(mut record: WindowRecord) -> Result<BTreeMap<String, String>> {
    let mut entries = BTreeMap::new();
    for file in std::mem::take(&mut record.files) {
        entries.insert(format!("{FILE_PREFIX}{}", file.key), encode(&file)?);
    }
    entries.insert(WINDOW.to_owned(), encode(&record)?);
    Ok(entries)
}

fn encode<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::new(ErrorKind::Internal, "state cannot be encoded").with_source(e))
}

fn decode<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::new(ErrorKind::Data, "state malformed").with_source(e))
}

/// Whether a job is under way: its token is held by the job and its outcome, and watched from here.
#[derive(Debug, Default)]
pub(crate) struct Busy(Option<Weak<()>>);

impl Busy {
    /// Marks the start of a job.
    pub(crate) fn start(&mut self) -> Arc<()> {
        let token = Arc::new(());
        self.0 = Some(Arc::downgrade(&token));
        token
    }

    /// Marks the end of the job that holds `token`; a job that was given up before changes nothing.
    pub(crate) fn finish(&mut self, token: &Arc<()>) -> bool {
        let current = self
            .0
            .as_ref()
            .is_some_and(|watched| std::ptr::eq(watched.as_ptr(), Arc::as_ptr(token)));
        if current {
            self.0 = None;
        }
        current
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.0.as_ref().is_some_and(|watched| watched.strong_count() > 0)
    }

    /// Whether the job was dropped without being finished, and nobody has asked yet.
    pub(crate) fn is_dropped(&self) -> bool {
        self.0.is_some() && !self.is_busy()
    }

    /// Whether the job was dropped without being finished; says so once.
    pub(crate) fn was_dropped(&mut self) -> bool {
        let dropped = self.is_dropped();
        if dropped {
            self.0 = None;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> Error {
        Error::new(ErrorKind::Unavailable, "away")
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_up_to_a_quarter_is_random() {
        let mut backoff = Backoff::default();
        let now = Timestamp::from_millis(1_000_000);
        assert!(backoff.may_run(now));
        let mut pauses = Vec::new();
        for _ in 0..10 {
            backoff.failed(now, &away(), 0);
            pauses.push(backoff.not_before.unwrap().millis_since(now) / 1_000);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(
            (backoff.may_run(now + 299_999), backoff.may_run(now + 300_000)),
            (false, true)
        );
        assert_eq!(backoff.last_error.as_deref(), Some("away"));
        backoff.succeeded();
        assert!(backoff.may_run(now) && backoff.last_error.is_none());
        backoff.failed(now, &away(), 250);
        assert_eq!(backoff.not_before, Some(now + 1_250));
        backoff.succeeded();
        backoff.failed(now, &away(), 251);
        assert_eq!(backoff.not_before, Some(now + 1_000));
    }

    #[test]
    fn what_is_reclaimed_out_of_turn_is_remembered_until_the_gap_is_closed() {
        let mut memory = LaneMemory::default();
        let void = |seq: Seq| seq == Seq::new(2);
        memory.reclaimed(Seq::new(3), void);
        assert_eq!((memory.reclaimed_to, memory.reclaimed.len()), (Seq::ZERO, 1));
        assert!(memory.is_reclaimed(Seq::new(3)) && !memory.is_reclaimed(Seq::new(1)));
        memory.reclaimed(Seq::new(1), void);
        assert_eq!((memory.reclaimed_to, memory.reclaimed.len()), (Seq::new(3), 0));
    }

    #[test]
    fn a_job_is_busy_until_its_token_is_finished_or_dropped() {
        let mut busy = Busy::default();
        assert!(!busy.is_busy() && !busy.is_dropped());
        let token = busy.start();
        assert!(busy.is_busy() && !busy.was_dropped());
        assert!(!busy.finish(&Arc::new(())), "another job's token");
        assert!(busy.finish(&token));
        assert!(!busy.is_busy() && !busy.is_dropped());
        drop(busy.start());
        assert!(busy.is_dropped());
        assert!(busy.was_dropped() && !busy.was_dropped(), "says so once");
    }
}
