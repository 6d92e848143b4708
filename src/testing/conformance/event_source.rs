//! The contract of [`EventSource`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;

use super::{POLLS, answered, broken, dropped_after, keep};
use crate::event::{EventBatch, EventMessage, EventSource, ObjectEvent, ObjectEventKind, Receipt};

/// What [`event_source`] asks of an [`EventSource`]: it panics with one of these.
pub const EVENT_SOURCE_RULES: &[&str] = &[
    DELIVERED,
    KEYS,
    AS_PUT,
    NOTHING_ELSE,
    REDELIVERED,
    ACKED,
    ACKED_ALONE,
    ACKED_TWICE,
    ACKED_NOTHING,
    DROPPED,
];

const DELIVERED: &str = "every event that was put is delivered, at least once";
const KEYS: &str = "a key is given as the object has it, whatever characters it has";
const AS_PUT: &str = "an event says what was put: its kind, and size and entity tag if it says them";
const NOTHING_ELSE: &str = "no event is delivered that was not put";
const REDELIVERED: &str = "a message that is not acknowledged comes again";
const ACKED: &str = "a message that was acknowledged does not come again with the next redelivery";
const ACKED_ALONE: &str = "an acknowledgement of one message acknowledges no other";
const ACKED_TWICE: &str = "acknowledging twice is harmless";
const ACKED_NOTHING: &str = "acknowledging nothing is harmless";
const DROPPED: &str = "a call that is dropped loses nothing";

/// A source to be tried, and what makes it deliver again what was delivered and not acknowledged.
pub struct EventQueue {
    source: Arc<dyn EventSource>,
    redeliver: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

impl EventQueue {
    /// Calls `redeliver` before messages are expected again: it waits until the queue's time-out is over, or asks the
    /// queue.
    #[must_use]
    pub fn with_redelivery(mut self, redeliver: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        self.redeliver = Box::new(redeliver);
        self
    }
}

impl From<Arc<dyn EventSource>> for EventQueue {
    /// A source that by itself delivers again, sooner or later, what was not acknowledged.
    fn from(source: Arc<dyn EventSource>) -> Self {
        Self {
            source,
            redeliver: Box::new(|| Box::pin(async {})),
        }
    }
}

impl fmt::Debug for EventQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventQueue")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Checks the contract of [`EventSource`].
///
/// `make` gives a source into which exactly these events have been put, each once and in a message of its own, and
/// which is then closed or stays silent; an [`EventQueue`] of it if something has to be done so that messages come again.
/// Where a queue has a time-out for that, set it to a second or less. The suite reads, in any order and any number of
/// times, before it acknowledges. It makes some ten sources of some ten messages.
///
/// ```
/// use std::sync::Arc;
///
/// use firnline::testing::conformance::{self, EventQueue};
/// use firnline::{EventSource, MemoryEventSource};
///
/// futures::executor::block_on(conformance::event_source(|events| async {
///     let queue = MemoryEventSource::new(events.into_iter().map(|event| vec![event]));
///     let source: Arc<dyn EventSource> = Arc::new(queue.clone());
///     EventQueue::from(source).with_redelivery(move || {
///         queue.redeliver();
///         Box::pin(async {})
///     })
/// }));
/// ```
pub async fn event_source<F, Fut, Q>(make: F)
where
    F: Fn(Vec<ObjectEvent>) -> Fut,
    Fut: Future<Output = Q>,
    Q: Into<EventQueue>,
{
    let events = events();
    everything_is_delivered(&make(events.clone()).await.into(), &events).await;
    unacknowledged_messages_come_again(&make(events.clone()).await.into(), &events).await;
    for polls in POLLS {
        dropped_calls_lose_nothing(&make(events.clone()).await.into(), &events, polls).await;
    }
}

fn events() -> Vec<ObjectEvent> {
    let plain = (0..5).map(|n| format!("data/ns/{n}-w-0.parquet"));
    let odd = ["a b", "a+b", "a%20b", "a%2Bb", "ü", "a=b&c", "'a'\"b\"", "a#b?c", "<a>"];
    let odd = odd.map(|name| format!("data/ns/{name}/5-w-0.parquet"));
    let events = plain.chain(odd).zip(1..);
    events
        .map(|(key, n)| {
            ObjectEvent::created(key)
                .with_size(n)
                .with_etag(format!("\"{n:032x}\""))
        })
        .collect()
}

async fn everything_is_delivered(queue: &EventQueue, events: &[ObjectEvent]) {
    let source = &*queue.source;
    let mut receipts = Vec::new();
    read_until_seen(DELIVERED, queue, events, events, |message| {
        receipts.push(message.receipt.clone());
    })
    .await;
    answered(ACKED_NOTHING, source.ack(&[]).await);
    for receipt in &receipts {
        for _ in 0..2 {
            answered(ACKED_TWICE, source.ack(std::slice::from_ref(receipt)).await);
        }
    }
    answered(ACKED_TWICE, source.ack(&receipts).await);
}

/// Acknowledges every other message: those come no more, the others do.
async fn unacknowledged_messages_come_again(queue: &EventQueue, events: &[ObjectEvent]) {
    let source = &*queue.source;
    let mut receipts: BTreeMap<String, Receipt> = BTreeMap::new();
    read_until_seen(DELIVERED, queue, events, events, |message| {
        for event in message.events.iter().flatten() {
            receipts.insert(event.key.as_str().to_owned(), message.receipt.clone());
        }
    })
    .await;
    (queue.redeliver)().await;
    // The newest receipt of each message is the one that counts.
    read_until_seen(REDELIVERED, queue, events, events, |message| {
        for event in message.events.iter().flatten() {
            receipts.insert(event.key.as_str().to_owned(), message.receipt.clone());
        }
    })
    .await;
    let (acked, kept): (Vec<_>, Vec<_>) = events.iter().cloned().enumerate().partition(|(n, _)| n % 2 == 0);
    let [acked, kept] = [acked, kept].map(|half| half.into_iter().map(|(_, event)| event).collect::<Vec<_>>());
    let of_acked = acked
        .iter()
        .filter_map(|event| receipts.get(event.key.as_str()).cloned());
    let of_acked: Vec<_> = of_acked.collect();
    answered(ACKED, source.ack(&of_acked).await);
    (queue.redeliver)().await;
    let mut came = BTreeSet::new();
    read_until_seen(ACKED_ALONE, queue, events, &kept, |message| {
        came.extend(
            message
                .events
                .iter()
                .flatten()
                .map(|event| event.key.as_str().to_owned()),
        );
    })
    .await;
    let again: Vec<_> = acked.iter().filter(|event| came.contains(event.key.as_str())).collect();
    keep(ACKED, again.is_empty(), again);
}

async fn dropped_calls_lose_nothing(queue: &EventQueue, events: &[ObjectEvent], polls: usize) {
    dropped_after(polls, queue.source.next_batch()).await;
    (queue.redeliver)().await;
    let mut receipts = Vec::new();
    read_until_seen(DROPPED, queue, events, events, |message| {
        receipts.push(message.receipt.clone());
    })
    .await;
    dropped_after(polls, queue.source.ack(&receipts)).await;
    answered(DROPPED, queue.source.ack(&receipts).await);
}

/// Reads until each of `wanted` has come, and checks what comes.
async fn read_until_seen(
    rule: &str,
    queue: &EventQueue,
    put: &[ObjectEvent],
    wanted: &[ObjectEvent],
    mut seen: impl FnMut(&EventMessage),
) {
    let mut missing: BTreeSet<_> = wanted.iter().map(|event| event.key.as_str()).collect();
    let mut idle = 0;
    while !missing.is_empty() {
        keep(rule, idle < MAX_IDLE_BATCHES, &missing);
        let Some(EventBatch { messages }) = answered(rule, queue.source.next_batch().await) else {
            broken(rule, format!("the source closed before it had delivered {missing:?}"));
        };
        let before = missing.len();
        let is_empty = messages.is_empty();
        for message in messages {
            for event in &message.events {
                match event {
                    Ok(event) => is_one_of(put, event),
                    Err(e) => broken(DELIVERED, format!("a good event was not read: {e}")),
                }
                if let Ok(event) = event {
                    missing.remove(event.key.as_str());
                }
            }
            seen(&message);
        }
        idle = if missing.len() < before {
            0
        } else {
            idle + usize::from(!is_empty)
        };
    }
}

/// Checks an event against what was put.
fn is_one_of(put: &[ObjectEvent], event: &ObjectEvent) {
    let Some(original) = put.iter().find(|original| original.key == event.key) else {
        let same_number = put
            .iter()
            .any(|original| event.size.is_some() && original.size == event.size);
        let rule = if same_number { KEYS } else { NOTHING_ELSE };
        broken(rule, format!("key=`{}`", event.key));
    };
    let is_as_put = event.kind == ObjectEventKind::Created
        && event.size.is_none_or(|_| event.size == original.size)
        && event.etag.as_ref().is_none_or(|_| event.etag == original.etag);
    keep(AS_PUT, is_as_put, event);
}

/// How many batches may come again before the rest.
const MAX_IDLE_BATCHES: usize = 1_000;
