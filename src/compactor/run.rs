//! The loop for hosts that have none of their own.

use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use crate::compactor::{Compactor, JobOutcome};
use crate::error::{ErrorKind, Result};
use crate::event::{EventBatch, EventSource, Receipt};
use crate::time::{Clock, Timestamp};

/// How often the bucket is listed while the loop runs: a lost notification or a rolled-back state is found then.
const RECONCILE_EVERY_MS: u64 = 3_600_000;

/// Jobs that run at the same time, interleaved on the polling thread.
const CONCURRENT_JOBS: usize = 4;

/// The pause after a source of events has failed.
const SOURCE_PAUSE_MS: u64 = 1_000;

impl Compactor {
    /// Takes in events, does the work that is due, and waits for whichever comes next, until the source is closed
    /// and nothing is left to do now.
    ///
    /// Events are acknowledged only after the state that reflects them has been saved, and no message is held while
    /// files are merged. The bucket is listed at the start and every hour; where it holds more than `maxPendingFiles`, also
    /// whenever half of these have been compacted. Dropping the future stops everything at the next await; the next run
    /// goes on from there.
    ///
    /// # Errors
    ///
    /// `Invalid` or `Unsupported`, when trying again would not help. What can be tried again is.
    pub async fn run(&mut self, source: &dyn EventSource, clock: &dyn Clock) -> Result<()> {
        self.counters.events_expected = true;
        let mut jobs = FuturesUnordered::new();
        let mut open = true;
        let mut source_from = Timestamp::MIN;
        let mut list_at = clock.now();
        // The bucket holds files for which there was no room.
        let mut backlog = false;
        // Kept over turns of the loop: a batch that is being waited for is not asked for twice.
        let mut next_batch = source.next_batch().fuse();
        loop {
            let now = clock.now();
            if list_at <= now || (backlog && self.tracker.has_room()) {
                match self.reconcile(now).await {
                    Ok(listed) => {
                        backlog = listed.deferred > 0;
                        list_at = clock.now() + RECONCILE_EVERY_MS;
                    }
                    Err(error) if error.is_retryable() => {
                        backlog = false;
                        list_at = clock.now() + SOURCE_PAUSE_MS;
                    }
                    Err(error) => return Err(error),
                }
            }
            while jobs.len() < CONCURRENT_JOBS
                && let Some(job) = self.poll_job(clock.now())
            {
                jobs.push(job.run());
            }
            let now = clock.now();
            let due = self.next_deadline(now).filter(|_| jobs.len() < CONCURRENT_JOBS);
            if !open && jobs.is_empty() && due.is_none_or(|at| at > now) {
                return Ok(());
            }
            // What is due and was not given waits for a job that runs.
            let due = match due {
                Some(at) if at <= now => jobs.is_empty().then(|| now + SOURCE_PAUSE_MS),
                due => due,
            };
            let listens = open && source_from <= now;
            let wake_at = due
                .into_iter()
                .chain(open.then_some(list_at))
                .chain((open && !listens).then_some(source_from))
                .min();
            let sleep = async {
                match wake_at {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let batch = async {
                if listens {
                    (&mut next_batch).await
                } else {
                    std::future::pending().await
                }
            };
            let finished = async {
                match jobs.next().await {
                    Some(outcome) => outcome,
                    None => std::future::pending::<JobOutcome>().await,
                }
            };
            futures::pin_mut!(sleep, batch, finished);
            match select(select(finished, batch), sleep).await {
                Either::Right(_) => {}
                Either::Left((Either::Left((outcome, _)), _)) => {
                    let now = clock.now();
                    match self.finish_job(outcome, now).await {
                        Err(error) if !error.is_retryable() => return Err(error),
                        _ => {}
                    }
                }
                Either::Left((Either::Right((batch, _)), _)) => {
                    match batch {
                        Ok(Some(batch)) => self.handle_batch(source, batch, clock.now()).await,
                        Ok(None) => open = false,
                        Err(error) if error.kind() == ErrorKind::Unavailable => {
                            source_from = clock.now() + SOURCE_PAUSE_MS;
                        }
                        Err(error) => return Err(error),
                    }
                    next_batch = source.next_batch().fuse();
                }
            }
        }
    }

    /// Records a batch and acknowledges the messages that are saved. A message of which something cannot be read is
    /// counted and left to its queue, and what can be read of it recorded.
    async fn handle_batch(&mut self, source: &dyn EventSource, batch: EventBatch, now: Timestamp) {
        let mut events = Vec::new();
        let mut receipts: Vec<(Option<Receipt>, usize)> = Vec::new();
        for message in batch.messages {
            let before = events.len();
            let mut readable = true;
            for event in message.events {
                match event {
                    Ok(event) => events.push(event),
                    Err(error) => {
                        readable = false;
                        self.bad_message(&error);
                    }
                }
            }
            receipts.push((readable.then_some(message.receipt), events.len() - before));
        }
        let handled = self.handle_events(&events, now).await;
        let mut outcomes = handled.outcomes().iter();
        let saved: Vec<Receipt> = receipts
            .into_iter()
            .filter_map(|(receipt, count)| {
                let of_message: Vec<_> = outcomes.by_ref().take(count).collect();
                receipt.filter(|_| of_message.iter().all(|outcome| outcome.is_ok()))
            })
            .collect();
        // Messages whose acknowledgement is lost come again and are recognised.
        let _ = source.ack(&saved).await;
    }
}
