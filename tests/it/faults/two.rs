//! Two workers on the same lane, their requests interleaved one by one; either may sleep for days or die.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use firnline::testing::{Fault, Faults, Profile, SeededRandomness};
use firnline::{Clock, Compactor, ObjectEvent, Timestamp};
use futures::StreamExt;
use futures::executor::block_on;
use futures::future::{Either, LocalBoxFuture, select};
use futures::stream::FuturesUnordered;

use crate::faults::oracle::check_end;
use crate::faults::rig::{DAY, Driver, Flag, Happening, MINUTE, Rig, Script};
use crate::faults::times;
use crate::world::{HOUR, at};

/// Messages that are waiting; one that is not acknowledged comes back.
type Inbox = Rc<RefCell<Vec<ObjectEvent>>>;

/// Events that a worker has taken; what it has not acknowledged goes back when it dies.
struct Taken {
    inbox: Inbox,
    events: Vec<ObjectEvent>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.inbox.borrow_mut().append(&mut self.events);
    }
}

/// A worker's whole life.
async fn work(rig: Rc<Rig>, inbox: Inbox) {
    let mut compactor = loop {
        match rig.open().await {
            Ok(compactor) => break compactor,
            Err(error) => assert!(error.is_retryable(), "{}", error.chain()),
        }
        rig.clock.sleep_until(rig.now() + MINUTE as u64).await;
    };
    let mut jobs = FuturesUnordered::new();
    loop {
        take_in(&mut compactor, &rig, &inbox).await;
        while let Some(job) = compactor.poll_job(rig.now()) {
            jobs.push(job.run());
        }
        let now = rig.now();
        let tick = now + 10 * MINUTE as u64;
        let deadline = compactor.next_deadline(now).filter(|at| *at > now).unwrap_or(tick);
        let sleep = rig.clock.sleep_until(deadline.min(tick));
        let outcome = if jobs.is_empty() {
            sleep.await;
            None
        } else {
            match select(jobs.next(), sleep).await {
                Either::Left((outcome, _)) => outcome,
                Either::Right(_) => None,
            }
        };
        if let Some(outcome) = outcome {
            match compactor.finish_job(outcome, rig.now()).await {
                Ok(report) => rig.report(&report),
                Err(error) => assert!(error.is_retryable(), "{}", error.chain()),
            }
        }
    }
}

async fn take_in(compactor: &mut Compactor, rig: &Rig, inbox: &Inbox) {
    let mut taken = Taken {
        inbox: Rc::clone(inbox),
        events: Vec::new(),
    };
    let count = rig.randomness.below(3) as usize;
    {
        let mut waiting = inbox.borrow_mut();
        let count = count.min(waiting.len());
        taken.events.extend(waiting.drain(..count));
    }
    if taken.events.is_empty() {
        return;
    }
    let handled = compactor.handle_events(&taken.events, rig.now()).await;
    let mut outcomes = handled.outcomes().iter();
    taken.events.retain(|_| outcomes.next().is_some_and(Result::is_err));
}

struct Worker {
    life: LocalBoxFuture<'static, ()>,
    flag: Arc<Flag>,
    asleep_until: Option<Timestamp>,
}

impl Worker {
    fn new(rig: &Rc<Rig>, inbox: &Inbox) -> Self {
        Self {
            life: Box::pin(work(Rc::clone(rig), Rc::clone(inbox))),
            flag: Arc::new(Flag(AtomicBool::new(true))),
            asleep_until: None,
        }
    }

    fn wants(&self) -> bool {
        self.asleep_until.is_none() && self.flag.0.load(Ordering::SeqCst)
    }

    fn poll(&mut self) {
        self.flag.0.store(false, Ordering::SeqCst);
        let waker = futures::task::waker(Arc::clone(&self.flag));
        let mut context = Context::from_waker(&waker);
        if let Poll::Ready(()) = Pin::new(&mut self.life).poll(&mut context) {
            unreachable!("a worker does not end by itself");
        }
    }
}

/// How bad it gets.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    workers: usize,
    /// One of so many steps puts a worker to sleep.
    sleeps: u64,
    /// One of so many steps kills a worker.
    deaths: u64,
    /// One of so many operations goes wrong.
    faults: u64,
}

/// What goes wrong with single operations.
const FAULTS: [Fault; 4] = [
    Fault::AppliedButError,
    Fault::ErrorNotApplied,
    Fault::Throttle,
    Fault::TornBody,
];

fn simulate(seed: u64, trouble: Trouble) {
    let what = format!("seed {seed}, {trouble:?}");
    let dice = SeededRandomness::new(seed ^ 0x5eed);
    let mut faults = Faults::none();
    for index in 0..1_000 {
        if dice.below(trouble.faults) == 0 {
            faults = faults.and(index, FAULTS[dice.below(FAULTS.len() as u64) as usize]);
        }
    }
    let rig = Rc::new(Rig::with(Profile::S3, faults, true, seed));
    let mut script = Script::whole_run();
    let inbox = Inbox::default();
    let mut workers: Vec<_> = (0..trouble.workers).map(|_| Worker::new(&rig, &inbox)).collect();
    let calm_from = at(HOUR + 2 * DAY);
    let end = at(HOUR + 9 * DAY);
    while rig.now() < end {
        inbox.borrow_mut().extend(script.happen(&rig));
        let now = rig.now();
        for worker in &mut workers {
            if worker.asleep_until.is_some_and(|until| until <= now) {
                worker.asleep_until = None;
            }
        }
        let wanting: Vec<usize> = (0..workers.len()).filter(|i| workers[*i].wants()).collect();
        if wanting.is_empty() {
            let wakes = workers.iter().filter_map(|worker| worker.asleep_until);
            let next = wakes
                .chain(script.next_at())
                .chain(rig.clock.next_deadline().filter(|at| *at > now))
                .min();
            rig.set(next.unwrap_or(now + MINUTE as u64));
            continue;
        }
        let one = wanting[dice.below(wanting.len() as u64) as usize];
        workers[one].poll();
        if now < calm_from {
            if dice.below(trouble.sleeps) == 0 {
                let longest = if dice.below(2) == 0 { 3 * DAY } else { 90 * MINUTE };
                workers[one].asleep_until = Some(now + dice.below(longest as u64));
            } else if dice.below(trouble.deaths) == 0 {
                workers[one] = Worker::new(&rig, &inbox);
            }
        }
    }
    drop(workers);
    assert!(inbox.borrow().is_empty(), "{what}: events left");
    // What one worker remembers may have been overwritten by another; whoever comes next does it again.
    let mut driver = Driver::new(&rig, script.clone());
    driver.until(end + DAY as u64);
    let status = driver.status();
    check_end(&rig, &script, &status, &what);
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("FIRNLINE_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..times(count),
    }
}

#[test]
fn two_workers_commit_everything_once() {
    for seed in seeds(60) {
        simulate(
            seed,
            Trouble {
                workers: 2,
                sleeps: u64::MAX,
                deaths: u64::MAX,
                faults: u64::MAX,
            },
        );
    }
}

#[test]
fn two_workers_of_which_one_is_a_zombie_commit_everything_once() {
    for seed in seeds(100) {
        simulate(
            seed,
            Trouble {
                workers: 2,
                sleeps: 60,
                deaths: u64::MAX,
                faults: u64::MAX,
            },
        );
    }
}

#[test]
fn three_workers_that_sleep_and_die_commit_everything_once() {
    for seed in seeds(40) {
        simulate(
            seed,
            Trouble {
                workers: 3,
                sleeps: 80,
                deaths: 100,
                faults: u64::MAX,
            },
        );
    }
}

#[test]
fn a_file_that_one_worker_has_recorded_is_not_forgotten_by_another() {
    let rig = Rig::new(Faults::none());
    let mut script = Script::whole_run();
    script.steps.clear();
    for (minute, index) in [(1, 0), (2, 1), (3, 2), (5, 6)] {
        let moment = at(HOUR + minute * MINUTE);
        script.steps.push_back((moment, Happening::Written(index)));
        script.steps.push_back((moment, Happening::Notified(index)));
    }
    let mut workers = [block_on(rig.open()).unwrap(), block_on(rig.open()).unwrap()];
    for turn in [0, 1, 0, 0] {
        rig.set(script.next_at().unwrap());
        let events = script.happen(&rig);
        let handled = block_on(workers[turn].handle_events(&events, rig.now()));
        assert!(handled.all_saved(), "{handled:?}");
    }
    drop(workers);
    let status = block_on(rig.open()).unwrap().status(rig.now());
    assert_eq!(status.windows[0].file_count, 4, "{status:#?}");
}

#[test]
fn two_workers_whose_operations_fail_commit_everything_once() {
    for seed in seeds(60) {
        let trouble = Trouble {
            workers: 2,
            sleeps: 200,
            deaths: 300,
            faults: 30,
        };
        simulate(seed, trouble);
    }
}
