//! The turns of workers and the passing of time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::task::ArcWake;

use super::script::{CALM_AFTER, DAY, Foreign, HOUR, Happening, MINUTE, START, Script};
use super::violation::{Broken, Promise, holds};
use super::watch::Watch;
use super::worker::work;
use super::world::World;
use super::{Simulation, SimulationReport, Troubles};
use crate::testing::SeededRandomness;
use crate::time::Timestamp;

/// When everything must have come to an end: a window waits for a day at most, a void takes another round, and leftovers
/// of a request that hung are tried again for a day.
const END_AFTER: u64 = CALM_AFTER + 6 * DAY;
/// More steps than any run takes.
const MOST_STEPS: u64 = 200_000;
/// A schedule under way.
pub(super) struct Run {
    pub(super) troubles: Troubles,
    pub(super) world: Arc<World>,
    pub(super) script: Script,
    /// Steps of the script that are over.
    pub(super) happened: usize,
    workers: Vec<Worker>,
    pub(super) watch: Watch,
    dice: SeededRandomness,
    steps: u64,
}

impl Run {
    pub(super) fn new(simulation: Simulation) -> Self {
        let Simulation {
            seed,
            troubles,
            tables,
            state,
        } = simulation;
        let dice = SeededRandomness::new(seed ^ 0x5eed);
        let script = Script::drawn(&dice, &troubles);
        let world = Arc::new(World::new(seed, &troubles, tables, state));
        Self {
            workers: (0..troubles.workers).map(|_| Worker::new(&world)).collect(),
            troubles,
            world,
            script,
            happened: 0,
            watch: Watch::default(),
            dice,
            steps: 0,
        }
    }

    pub(super) fn report(&self) -> SimulationReport {
        let log = self.world.faults.log();
        SimulationReport {
            troubles: self.troubles,
            steps: self.steps,
            operations: self.watch.operations(),
            struck: log.iter().filter(|operation| operation.fault.is_some()).count(),
            entries: self.watch.entries,
            voids: self.watch.voids,
            cells: self.world.calls.cells(&log, |operation| self.world.object(operation)),
            digest: self.watch.digest(),
        }
    }

    pub(super) fn finish(&mut self) -> Result<(), Broken> {
        self.until(START + CALM_AFTER, false)?;
        self.world.faults.calm();
        self.until(START + END_AFTER, true)?;
        self.check_rows()?;
        // What one worker remembers may have been overwritten by another: whoever opens next finds it done.
        self.workers = vec![Worker::new(&self.world)];
        self.until(START + END_AFTER + DAY, true)?;
        self.workers.clear();
        self.check_rows()?;
        self.check_status()
    }

    fn until(&mut self, end: Timestamp, is_calm: bool) -> Result<(), Broken> {
        while self.world.now() < end {
            self.happen()?;
            self.step(is_calm)?;
            self.watch.look(&self.world, &self.script)?;
        }
        Ok(())
    }

    /// Lets a worker that wants to go on do so, or time pass if none does.
    fn step(&mut self, is_calm: bool) -> Result<(), Broken> {
        let now = self.world.now();
        let wanting: Vec<usize> = (0..self.workers.len())
            .filter(|worker| self.workers.get(*worker).is_some_and(|worker| worker.wants(now)))
            .collect();
        let drawn = usize::try_from(self.dice.below(wanting.len() as u64)).unwrap_or(0);
        let Some(worker) = wanting.get(drawn).and_then(|worker| self.workers.get_mut(*worker)) else {
            self.pass_time(now);
            return Ok(());
        };
        self.steps += 1;
        holds(self.steps < MOST_STEPS, Promise::Ends, || {
            "workers never rest".to_owned()
        })?;
        worker.poll();
        if is_calm {
            return Ok(());
        }
        if self.dice.below(self.troubles.sleeps) == 0 {
            let longest = if self.dice.below(2) == 0 { 3 * DAY } else { 2 * HOUR };
            worker.asleep_until = Some(now + self.dice.below(longest));
        } else if self.dice.below(self.troubles.deaths) == 0 {
            *worker = Worker::new(&self.world);
        }
        Ok(())
    }

    fn pass_time(&self, now: Timestamp) {
        let wakes = self.workers.iter().filter_map(|worker| worker.asleep_until);
        let wakes = wakes.filter(|at| *at > now);
        let happens = self.script.steps.get(self.happened).map(|(at, _)| *at);
        let deadline = self.world.clock.next_deadline().filter(|at| *at > now);
        let next = wakes.chain(happens).chain(deadline).min();
        self.world.clock.set(next.unwrap_or(now + MINUTE).max(now + 1));
    }

    /// Lets happen what is due.
    fn happen(&mut self) -> Result<(), Broken> {
        while let Some((at, happening)) = self.script.steps.get(self.happened) {
            if *at > self.world.now() {
                break;
            }
            self.happened += 1;
            let source = |index: &usize| {
                let source = self.script.sources.get(*index);
                source.ok_or_else(|| Broken::simulation("no such source"))
            };
            match happening {
                Happening::Written(index) => self.world.write(source(index)?)?,
                Happening::Notified(index) => self.world.notify(source(index)?),
                // What is to be reclaimed is kept in the history for as long as that takes.
                Happening::Disturbed(_, Foreign::Expire) if self.has_sources_in_tables()? => {}
                Happening::Disturbed(namespace, what) => self.world.disturb(namespace, *what)?,
                Happening::Read(namespace) => self.check_view(namespace)?,
                Happening::StateLost => self.world.rewinds.iter().for_each(|state| state.wipe()),
                Happening::StateRewound { key, steps } => {
                    if let Some(state) = &self.world.rewinds {
                        let keys = state.keys();
                        let at = usize::try_from(key % (keys.len().max(1) as u64)).unwrap_or(0);
                        keys.get(at).into_iter().for_each(|key| state.rewind(key, *steps));
                    }
                }
            }
        }
        Ok(())
    }

    fn has_sources_in_tables(&self) -> Result<bool, Broken> {
        let there = self.world.keys()?;
        Ok(self.watch.committed.keys().any(|key| there.contains(key)))
    }
}

/// A worker, and when it goes on.
struct Worker {
    life: BoxFuture<'static, ()>,
    flag: Arc<Flag>,
    asleep_until: Option<Timestamp>,
}

/// Set when a future asks to be polled again.
#[derive(Debug)]
struct Flag(AtomicBool);

impl ArcWake for Flag {
    fn wake_by_ref(flag: &Arc<Self>) {
        flag.0.store(true, Ordering::SeqCst);
    }
}

impl Worker {
    fn new(world: &Arc<World>) -> Self {
        Self {
            life: Box::pin(work(Arc::clone(world))),
            flag: Arc::new(Flag(AtomicBool::new(true))),
            asleep_until: None,
        }
    }

    fn wants(&self, now: Timestamp) -> bool {
        self.asleep_until.is_none_or(|until| until <= now) && self.flag.0.load(Ordering::SeqCst)
    }

    fn poll(&mut self) {
        self.flag.0.store(false, Ordering::SeqCst);
        let waker = futures::task::waker(Arc::clone(&self.flag));
        let mut context = Context::from_waker(&waker);
        // It never ends by itself.
        let _: Poll<()> = Pin::new(&mut self.life).poll(&mut context);
    }
}
