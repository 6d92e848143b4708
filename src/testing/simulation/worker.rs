//! A host as it should be: one compactor, a queue, patience, and a listing now and then.

use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::{Either, FutureExt, select};
use futures::stream::FuturesUnordered;

use super::script::{HOUR, MINUTE};
use super::world::World;
use crate::compactor::{Compactor, JobReport};
use crate::error::{Error, Result};
use crate::event::ObjectEvent;
use crate::time::{Clock, Timestamp};

/// A request that takes longer is given up: the future is dropped.
const PATIENCE: u64 = 20 * MINUTE;
/// The bucket is listed so often, since notifications get lost.
const LISTING: u64 = 6 * HOUR;

/// A worker's whole life.
pub(super) async fn work(world: Arc<World>) {
    let mut compactor = opened(&world).boxed().await;
    let mut jobs = FuturesUnordered::new();
    let mut listed_at: Option<Timestamp> = None;
    loop {
        take_in(&mut compactor, &world).await;
        let now = world.now();
        if listed_at.is_none_or(|at| now >= at + LISTING) {
            listed_at = Some(now);
            if let Some(Err(error)) = within(&world, compactor.reconcile(now)).await {
                tolerate(&world, "reconcile", &error);
            }
        }
        while let Some(job) = compactor.poll_job(world.now()) {
            let world = Arc::clone(&world);
            jobs.push(async move { within(&world, job.run()).await }.boxed());
        }
        let now = world.now();
        let tick = now + 10 * MINUTE;
        let deadline = compactor.next_deadline(now).filter(|at| *at > now).unwrap_or(tick);
        let sleep = world.clock.sleep_until(deadline.min(tick));
        let done = if jobs.is_empty() {
            sleep.await;
            None
        } else {
            match select(jobs.next(), sleep).await {
                Either::Left((done, _)) => done.flatten(),
                Either::Right(_) => None,
            }
        };
        let Some(outcome) = done else { continue };
        match within(&world, compactor.finish_job(outcome, world.now())).await {
            Some(Ok(report)) => look_at(&world, &report),
            Some(Err(error)) => tolerate(&world, "finish_job", &error),
            None => {}
        }
    }
}

async fn opened(world: &World) -> Compactor {
    loop {
        let opened = async { world.builder()?.open(world.now()).await }.boxed();
        match within(world, opened).await {
            Some(Ok(compactor)) => return compactor,
            Some(Err(error)) => tolerate(world, "open", &error),
            None => {}
        }
        world.clock.sleep_until(world.now() + MINUTE).await;
    }
}

/// Messages that were taken from the queue; those not acknowledged go back, also when the worker dies.
struct Taken<'w> {
    world: &'w World,
    messages: Vec<ObjectEvent>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.world.put_back(std::mem::take(&mut self.messages));
    }
}

async fn take_in(compactor: &mut Compactor, world: &World) {
    let mut taken = Taken {
        world,
        messages: world.take_messages(),
    };
    if taken.messages.is_empty() {
        return;
    }
    let handled = within(world, compactor.handle_events(&taken.messages, world.now())).await;
    let Some(handled) = handled else { return };
    let mut outcomes = handled.outcomes().iter();
    taken.messages.retain(|_| outcomes.next().is_some_and(Result::is_err));
}

/// What a future comes to, if that is soon.
async fn within<T>(world: &World, future: impl Future<Output = T>) -> Option<T> {
    let patience = world.clock.sleep_until(world.now() + PATIENCE);
    match select(pin!(future), patience).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(_) => None,
    }
}

fn look_at(world: &World, report: &JobReport) {
    if let Some(halt) = &report.halted {
        world.complain(format!("halted: {halt}"));
    }
}

/// Errors that do not pass by themselves are no answer to passing trouble.
fn tolerate(world: &World, what: &str, error: &Error) {
    if !error.is_retryable() {
        world.complain(format!("{what}: {}", error.chain()));
    }
}
