//! A whole run over stores that can fail: its script, its driver, and what must hold at its end.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::testing::{
    ClockedStore, FaultStateStore, FaultStore, Faults, Profile, ProfileStore, RewindStateStore, SeededRandomness,
    VirtualClock, YieldingStateStore, YieldingStore,
};
use firnline::{Clock, Compactor, JobReport, ObjectEvent, StateStore, Status, Timestamp};
use futures::executor::block_on;
use futures::task::ArcWake;

use crate::world::{HOUR, Row, World, at, parquet_of};

pub(super) const MINUTE: i64 = 60_000;
pub(super) const DAY: i64 = 86_400_000;
/// The grace of all runs.
pub(super) const GRACE_MS: u64 = 3_600_000;
pub(super) const NAMESPACE: &str = "users";

/// Stores that can fail over one virtual time, and the same without their faults, to look at from outside.
pub(super) struct Rig {
    /// What the library is given.
    pub(super) world: World,
    /// The same stores as they are.
    pub(super) truth: World,
    pub(super) tables: ClockedStore,
    /// The tables' store below the one that counts operations.
    pub(super) tables_below: Arc<dyn ObjectStore>,
    pub(super) state: Arc<RewindStateStore>,
    pub(super) faults: Faults,
    pub(super) clock: VirtualClock,
    pub(super) randomness: Arc<SeededRandomness>,
    /// From which operation on which time was shown.
    moments: Mutex<Vec<(usize, Timestamp)>>,
    /// Halts that a job has reported.
    pub(super) halts: Mutex<Vec<String>>,
}

impl Rig {
    pub(super) fn new(faults: Faults) -> Self {
        Self::on(Profile::S3, faults)
    }

    /// Over stores that have the limits of a profile.
    pub(super) fn on(profile: Profile, faults: Faults) -> Self {
        Self::with(profile, faults, false, 0)
    }

    pub(super) fn with(profile: Profile, faults: Faults, yields: bool, seed: u64) -> Self {
        let clock = VirtualClock::new(at(HOUR));
        let tables_below: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let clocked = |store| ClockedStore::new(store, &clock);
        let (bucket, control) = (clocked(Arc::new(InMemory::new())), clocked(Arc::new(InMemory::new())));
        let tables = clocked(Arc::clone(&tables_below));
        let state = Arc::new(RewindStateStore::default());
        let blank = World::new();
        let truth = World {
            bucket: Arc::new(bucket),
            tables: Arc::new(tables.clone()),
            control: Arc::new(control),
            state: Arc::clone(&state) as Arc<dyn StateStore>,
            options: blank.options.with_delete_grace_ms(GRACE_MS),
        };
        let faulty = |store: &Arc<dyn ObjectStore>, name: &str| -> Arc<dyn ObjectStore> {
            let limited = Arc::new(ProfileStore::new(Arc::clone(store), profile));
            let store = Arc::new(FaultStore::new(limited, name, &faults));
            if yields {
                Arc::new(YieldingStore::new(store))
            } else {
                store
            }
        };
        let faulty_state: Arc<dyn StateStore> = Arc::new(FaultStateStore::new(Arc::clone(&truth.state), &faults));
        let world = World {
            bucket: faulty(&truth.bucket, "bucket"),
            tables: faulty(&truth.tables, "tables"),
            control: faulty(&truth.control, "control"),
            state: if yields {
                Arc::new(YieldingStateStore::new(faulty_state))
            } else {
                faulty_state
            },
            options: truth.options.clone(),
        };
        Self {
            world,
            truth,
            tables,
            tables_below,
            state,
            faults,
            clock,
            randomness: Arc::new(SeededRandomness::new(seed)),
            moments: Mutex::default(),
            halts: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Moves the time on, never back.
    pub(super) fn set(&self, now: Timestamp) {
        let now = now.max(self.clock.now());
        self.moments.lock().unwrap().push((self.faults.operations(), now));
        self.clock.set(now);
    }

    /// When an operation began.
    pub(super) fn time_of(&self, operation: usize) -> Timestamp {
        let moments = self.moments.lock().unwrap();
        let upto = moments.partition_point(|(from, _)| *from <= operation);
        upto.checked_sub(1).map_or(at(HOUR), |i| moments[i].1)
    }

    pub(super) async fn open(&self) -> firnline::Result<Compactor> {
        let builder = self.world.builder().with_randomness(Arc::clone(&self.randomness));
        builder.open(self.now()).await
    }

    pub(super) fn report(&self, report: &JobReport) {
        if let Some(halt) = &report.halted {
            self.halts.lock().unwrap().push(halt.to_string());
        }
    }
}

/// A file of a run.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) key: String,
    pub(super) bytes: Vec<u8>,
    pub(super) rows: Vec<Row>,
    /// Whether its pages are garbage.
    pub(super) corrupt: bool,
}

/// What happens in the world, in order of time.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) steps: VecDeque<(Timestamp, Happening)>,
    pub(super) sources: Vec<Source>,
}

#[derive(Clone, Debug)]
pub(super) enum Happening {
    Written(usize),
    Notified(usize),
}

fn source(ts_ms: i64, writer: &str, sequence: u64, corrupt: bool) -> Source {
    let rows: Vec<Row> = (0..3)
        .map(|i| ((ts_ms + i * 7) * 1_000, format!("{writer}-{sequence:03}-{i:05}"), i))
        .collect();
    let mut bytes = parquet_of(&rows);
    if corrupt {
        // The footer stays whole: only the merge finds out.
        bytes[4..60].fill(0xff);
    }
    Source {
        key: format!("data/{NAMESPACE}/{ts_ms}-{writer}-{sequence}.parquet"),
        bytes,
        rows,
        corrupt,
    }
}

impl Script {
    /// Four writers, two windows, a late file, a corrupt file, events that come again.
    pub(super) fn whole_run() -> Self {
        let minute = |m: i64| HOUR + m * MINUTE;
        let sources = vec![
            source(minute(1), "w1", 0, false),
            source(minute(2), "w2", 0, false),
            source(minute(3), "w3", 0, false),
            source(minute(61), "w1", 1, false),
            source(minute(62), "w2", 1, false),
            source(minute(63), "w4", 0, true),
            // Late for the first window.
            source(minute(4), "w3", 1, false),
        ];
        let mut script = Self {
            steps: VecDeque::new(),
            sources,
        };
        for (index, minutes) in [1, 2, 3, 61, 62, 63, 130].into_iter().enumerate() {
            script.steps.push_back((at(minute(minutes)), Happening::Written(index)));
            script
                .steps
                .push_back((at(minute(minutes)), Happening::Notified(index)));
        }
        for (index, minutes) in [(0, 4), (0, 75), (4, 150), (2, 400), (5, 401), (6, 3_000)] {
            script
                .steps
                .push_back((at(minute(minutes)), Happening::Notified(index)));
        }
        script.sort();
        script
    }

    pub(super) fn sort(&mut self) {
        self.steps.make_contiguous().sort_by_key(|(at, _)| *at);
    }

    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.steps.front().map(|(at, _)| *at)
    }

    /// Lets happen what is due; gives the notifications.
    pub(super) fn happen(&mut self, rig: &Rig) -> Vec<ObjectEvent> {
        let mut events = Vec::new();
        while self.next_at().is_some_and(|at| at <= rig.now()) {
            match self.steps.pop_front().unwrap().1 {
                Happening::Written(index) => {
                    let source = &self.sources[index];
                    let path = Path::parse(&source.key).unwrap();
                    block_on(rig.truth.bucket.put(&path, source.bytes.clone().into())).unwrap();
                }
                Happening::Notified(index) => {
                    let source = &self.sources[index];
                    events.push(ObjectEvent::created(&source.key).with_size(source.bytes.len() as u64));
                }
            }
        }
        events
    }

    pub(super) fn good_rows(&self) -> Vec<Row> {
        let good = self.sources.iter().filter(|source| !source.corrupt);
        let mut rows: Vec<Row> = good.flat_map(|source| source.rows.clone()).collect();
        rows.sort();
        rows
    }

    pub(super) fn corrupt_keys(&self) -> Vec<String> {
        let bad = self.sources.iter().filter(|source| source.corrupt);
        bad.map(|source| source.key.clone()).collect()
    }
}

/// When a run without trouble has long come to its end, with leftovers swept.
pub(super) fn end() -> Timestamp {
    at(HOUR + 6 * DAY)
}

/// A single worker that is driven from deadline to deadline.
pub(super) struct Driver<'r> {
    pub(super) rig: &'r Rig,
    pub(super) script: Script,
    pub(super) compactor: Option<Compactor>,
    /// Events that were not acknowledged.
    pub(super) queue: Vec<ObjectEvent>,
    again_at: Option<Timestamp>,
    /// Jobs so far.
    pub(super) jobs: usize,
    /// What to do before the job of that number.
    pub(super) before_job: Option<BeforeJob<'r>>,
}

/// Something that is done between two jobs; `true`: the worker dies with it.
pub(super) type BeforeJob<'r> = (usize, Box<dyn FnOnce(&Rig) -> bool + 'r>);

impl<'r> Driver<'r> {
    pub(super) fn new(rig: &'r Rig, script: Script) -> Self {
        Self {
            rig,
            script,
            compactor: None,
            queue: Vec::new(),
            again_at: None,
            jobs: 0,
            before_job: None,
        }
    }

    /// Drives until the end of the run and on until everything is done, or fails when it does not come to be.
    pub(super) fn to_the_end(&mut self) {
        self.until(end());
        for _ in 0..6 {
            if self.is_done() {
                return;
            }
            let day_later = self.rig.now() + DAY as u64;
            self.until(day_later);
        }
        let status = self.status();
        panic!("the run does not come to an end: {status:#?}");
    }

    pub(super) fn is_done(&mut self) -> bool {
        let bucket = self.rig.truth.sources();
        let status = self.status();
        self.queue.is_empty()
            && self.script.steps.is_empty()
            && status.windows.is_empty()
            && status.plans.is_empty()
            && bucket == self.script.corrupt_keys()
    }

    pub(super) fn status(&mut self) -> Status {
        let now = self.rig.now();
        match &self.compactor {
            Some(compactor) => compactor.status(now),
            None => block_on(self.rig.open()).unwrap().status(now),
        }
    }

    /// Drives until a moment.
    pub(super) fn until(&mut self, until: Timestamp) {
        for _ in 0..20_000 {
            let events = self.script.happen(self.rig);
            self.queue.extend(events);
            self.work_now();
            self.crash_if_struck();
            let now = self.rig.now();
            let deadline = self
                .compactor
                .as_ref()
                .and_then(|compactor| compactor.next_deadline(now));
            let next = [self.script.next_at(), self.again_at, deadline]
                .into_iter()
                .flatten()
                .min();
            match next {
                Some(next) if next <= until => self.rig.set(next.max(now + 1)),
                _ => {
                    self.rig.set(until);
                    return;
                }
            }
        }
        panic!("time does not go on: {:#?}", self.status());
    }

    /// The process is gone: what it had in memory is lost, what it had not acknowledged comes again.
    fn crash_if_struck(&mut self) {
        if self.rig.faults.crashed() {
            self.die();
            self.rig.faults.restart();
        }
    }

    pub(super) fn die(&mut self) {
        self.compactor = None;
        self.again();
    }

    fn again(&mut self) {
        self.again_at = Some(self.rig.now() + 1_000);
    }

    fn work_now(&mut self) {
        let now = self.rig.now();
        if self.again_at.is_some_and(|again| again > now) && self.compactor.is_none() {
            return;
        }
        self.again_at = None;
        let Some(mut compactor) = self.compactor.take().or_else(|| self.opened()) else {
            self.again();
            return;
        };
        if !self.queue.is_empty() {
            let queue = std::mem::take(&mut self.queue);
            match poll_through(compactor.handle_events(&queue, now)) {
                Some(handled) => {
                    let unsaved = queue
                        .into_iter()
                        .zip(handled.outcomes())
                        .filter(|(_, outcome)| outcome.is_err());
                    self.queue = unsaved.map(|(event, _)| event).collect();
                }
                None => self.queue = queue,
            }
            if !self.queue.is_empty() {
                // A queue's visibility timeout.
                self.again_at = Some(now + 5 * MINUTE as u64);
            }
        }
        for jobs in 0.. {
            assert!(jobs < 200, "the work does not end: {:#?}", compactor.status(now));
            if self.rig.faults.crashed() {
                return;
            }
            let Some(job) = compactor.poll_job(now) else { break };
            if self.before_job.as_ref().is_some_and(|(number, _)| *number == self.jobs) {
                let (_, what) = self.before_job.take().unwrap();
                if what(self.rig) {
                    self.jobs += 1;
                    self.die();
                    return;
                }
            }
            self.jobs += 1;
            let Some(outcome) = poll_through(job.run()) else {
                continue;
            };
            if let Some(Ok(report)) = poll_through(compactor.finish_job(outcome, now)) {
                self.rig.report(&report);
            }
        }
        self.compactor = Some(compactor);
    }

    fn opened(&mut self) -> Option<Compactor> {
        match poll_through(self.rig.open())? {
            Ok(compactor) => Some(compactor),
            Err(error) if error.is_retryable() => None,
            Err(error) => panic!("not opened: {}", error.chain()),
        }
    }
}

/// Set when a future asks to be polled again.
#[derive(Debug)]
pub(super) struct Flag(pub(super) AtomicBool);

impl ArcWake for Flag {
    fn wake_by_ref(flag: &Arc<Self>) {
        flag.0.store(true, Ordering::SeqCst);
    }
}

/// Polls a future to its end; one that waits for what never comes is dropped.
pub(super) fn poll_through<T>(future: impl Future<Output = T>) -> Option<T> {
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = futures::task::waker(Arc::clone(&flag));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    while flag.0.swap(false, Ordering::SeqCst) {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
    }
    None
}
