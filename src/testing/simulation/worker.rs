//! A host as it should be: one compactor, a queue, patience, and a listing now and then.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::{Either, FutureExt, select};
use futures::stream::FuturesUnordered;

use super::coverage::Call;
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
            let reconciled = compactor.reconcile(now).boxed();
            answered(&world, Call::Reconcile, reconciled).await;
        }
        while let Some(job) = compactor.poll_job(world.now()) {
            let world = Arc::clone(&world);
            let number = world.calls.begin(Call::RunJob);
            jobs.push(async move { Some((number, within(&world, number, job.run()).await?)) }.boxed());
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
        let Some((number, outcome)) = done else { continue };
        let finish = compactor.finish_job(outcome, world.now());
        if let Some(report) = answered(&world, Call::FinishJob, finish).await {
            world.calls.end(number, report.error.is_none());
            look_at(&world, &report);
        }
    }
}

async fn opened(world: &World) -> Compactor {
    loop {
        let opened = async { world.builder()?.open(world.now()).await }.boxed();
        if let Some(compactor) = answered(world, Call::Open, opened).await {
            return compactor;
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
    let number = world.calls.begin(Call::HandleEvents);
    let handled = within(world, number, compactor.handle_events(&taken.messages, world.now())).await;
    let Some(handled) = handled else { return };
    world.calls.end(number, handled.outcomes().iter().all(Result::is_ok));
    let mut outcomes = handled.outcomes().iter();
    taken.messages.retain(|_| outcomes.next().is_some_and(Result::is_err));
}

/// What a call comes to, if that is soon and well.
async fn answered<T>(world: &World, call: Call, future: impl Future<Output = Result<T>>) -> Option<T> {
    let number = world.calls.begin(call);
    let answer = within(world, number, future).await?;
    world.calls.end(number, answer.is_ok());
    answer.map_err(|error| tolerate(world, call, &error)).ok()
}

/// What a call comes to, if that is soon.
async fn within<T>(world: &World, number: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let observed = poll_fn(|context| {
        let operations = || world.faults.operations();
        world.calls.poll(number, operations, || future.as_mut().poll(context))
    });
    let patience = world.clock.sleep_until(world.now() + PATIENCE);
    match select(observed, patience).await {
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
fn tolerate(world: &World, call: Call, error: &Error) {
    if !error.is_retryable() {
        world.complain(format!("{call:?}: {}", error.chain()));
    }
}
