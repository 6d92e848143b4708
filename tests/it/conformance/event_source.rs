//! Event sources: ours, a plain queue, and one broken for each rule.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use firnline::testing::conformance::{self, EVENT_SOURCE_RULES, EventQueue};
use firnline::{
    Error, ErrorKind, EventBatch, EventMessage, EventSource, MemoryEventSource, ObjectEvent, Receipt, Result,
};
use futures::FutureExt;

use super::{catches_all, give_way, wait};

/// Gives out one message after the other, over and over until it is acknowledged, then closes.
#[derive(Debug)]
struct Queue {
    waiting: Mutex<VecDeque<(Receipt, ObjectEvent)>>,
}

#[async_trait]
impl EventSource for Queue {
    async fn next_batch(&self) -> Result<Option<EventBatch>> {
        let mut waiting = self.waiting.lock().unwrap();
        let messages: Vec<_> = waiting
            .iter()
            .take(2)
            .map(|(receipt, event)| EventMessage {
                receipt: receipt.clone(),
                events: vec![Ok(event.clone())],
            })
            .collect();
        waiting.rotate_left(messages.len());
        Ok((!messages.is_empty()).then_some(EventBatch { messages }))
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        let mut waiting = self.waiting.lock().unwrap();
        waiting.retain(|(receipt, _)| !receipts.contains(receipt));
        Ok(())
    }
}

#[test]
fn a_queue_keeps_the_contract() {
    wait(conformance::event_source(|events| async {
        let numbered = events.into_iter().enumerate();
        let waiting = numbered.map(|(n, event)| (Receipt::new(n.to_string()), event));
        let waiting = Mutex::new(waiting.collect());
        Arc::new(Queue { waiting }) as Arc<dyn EventSource>
    }));
}

/// A queue in memory behind what `wrapped` makes of it.
fn queue(events: Vec<ObjectEvent>, wrapped: impl Fn(MemoryEventSource) -> Arc<dyn EventSource>) -> EventQueue {
    let queue = MemoryEventSource::new(events.into_iter().map(|event| vec![event]));
    EventQueue::from(wrapped(queue.clone())).with_redelivery(move || {
        queue.redeliver();
        Box::pin(async {})
    })
}

#[test]
fn memory_keeps_the_contract() {
    wait(conformance::event_source(|events| async {
        queue(events, |queue| Arc::new(queue))
    }));
}

/// What is wrong with a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    LosesOne,
    KeepsKeysEncoded,
    WrongSize,
    MakesUp,
    AcknowledgesAtOnce,
    NeverAcknowledges,
    AcknowledgesAll,
    FailsTheSecondTime,
    FailsForNothing,
    LosesWhatIsDropped,
}

/// Each rule, and a source that breaks it.
const BROKEN: &[(&str, Flaw)] = &[
    ("every event that was put is delivered, at least once", Flaw::LosesOne),
    (
        "a key is given as the object has it, whatever characters it has",
        Flaw::KeepsKeysEncoded,
    ),
    (
        "an event says what was put: its kind, and size and entity tag if it says them",
        Flaw::WrongSize,
    ),
    ("no event is delivered that was not put", Flaw::MakesUp),
    (
        "a message that is not acknowledged comes again",
        Flaw::AcknowledgesAtOnce,
    ),
    (
        "a message that was acknowledged does not come again with the next redelivery",
        Flaw::NeverAcknowledges,
    ),
    (
        "an acknowledgement of one message acknowledges no other",
        Flaw::AcknowledgesAll,
    ),
    ("acknowledging twice is harmless", Flaw::FailsTheSecondTime),
    ("acknowledging nothing is harmless", Flaw::FailsForNothing),
    ("a call that is dropped loses nothing", Flaw::LosesWhatIsDropped),
];

#[test]
fn each_rule_catches_a_source_that_breaks_it() {
    catches_all(EVENT_SOURCE_RULES, BROKEN, |flaw| {
        wait(conformance::event_source(|events| async {
            queue(events, |inner| {
                let (flaw, acked) = (*flaw, Mutex::default());
                Arc::new(Broken { flaw, inner, acked })
            })
        }));
    });
}

#[derive(Debug)]
struct Broken {
    flaw: Flaw,
    inner: MemoryEventSource,
    acked: Mutex<BTreeSet<String>>,
}

/// Acknowledges a batch unless it is handed over.
struct AckOnDrop<'a>(&'a MemoryEventSource, Vec<Receipt>);

impl Drop for AckOnDrop<'_> {
    fn drop(&mut self) {
        self.0.ack(&self.1).now_or_never().unwrap().unwrap();
    }
}

#[async_trait]
impl EventSource for Broken {
    async fn next_batch(&self) -> Result<Option<EventBatch>> {
        let Some(mut batch) = self.inner.next_batch().await? else {
            return Ok(None);
        };
        let receipts: Vec<_> = batch.messages.iter().map(|message| message.receipt.clone()).collect();
        for message in &mut batch.messages {
            for event in message.events.iter_mut().flatten() {
                match self.flaw {
                    Flaw::KeepsKeysEncoded => {
                        event.key = firnline::ObjectKey::new(event.key.as_str().replace('ü', "%C3%BC"));
                    }
                    Flaw::WrongSize => event.size = event.size.map(|size| size * 1_000),
                    _ => {}
                }
            }
        }
        match self.flaw {
            Flaw::LosesOne => batch.messages.retain(|message| {
                let mut events = message.events.iter().flatten();
                !events.any(|event| event.key.as_str().contains("/3-"))
            }),
            Flaw::MakesUp => {
                let event = ObjectEvent::created("data/ns/9-nobody-0.parquet");
                batch.messages[0].events.push(Ok(event));
            }
            Flaw::AcknowledgesAtOnce => self.inner.ack(&receipts).await?,
            Flaw::LosesWhatIsDropped => {
                let mut guard = AckOnDrop(&self.inner, receipts);
                give_way().await;
                guard.1.clear();
            }
            _ => {}
        }
        Ok(Some(batch))
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        let failed = || Err(Error::new(ErrorKind::Invalid, "no such message"));
        match self.flaw {
            Flaw::NeverAcknowledges => Ok(()),
            Flaw::AcknowledgesAll => self.inner.ack(&self.inner.unacked()).await,
            Flaw::FailsForNothing if receipts.is_empty() => failed(),
            Flaw::FailsTheSecondTime => {
                let mut acked = self.acked.lock().unwrap();
                for receipt in receipts {
                    if !acked.insert(receipt.as_str().to_owned()) {
                        return failed();
                    }
                }
                Ok(())
            }
            _ => self.inner.ack(receipts).await,
        }
    }
}
