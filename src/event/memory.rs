//! An event source in memory, for examples and tests.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use async_trait::async_trait;

use super::{EventBatch, EventMessage, EventSource, ObjectEvent, ParseError, Receipt};
use crate::error::Result;

/// A queue in memory. Clones share it.
///
/// A message stays until it is acknowledged; [`redeliver`](Self::redeliver) delivers those that were not
/// once more, as a queue does after its visibility timeout.
#[derive(Clone, Default)]
pub struct MemoryEventSource(Arc<Mutex<State>>);

type Body = Vec<Result<ObjectEvent, ParseError>>;

#[derive(Default)]
struct State {
    sent: u64,
    waiting: VecDeque<u64>,
    unacked: BTreeMap<u64, Body>,
    acked: Vec<Receipt>,
    closed: bool,
    wakers: Vec<Waker>,
}

impl MemoryEventSource {
    /// A source of these messages, which then is closed.
    pub fn new(messages: impl IntoIterator<Item = Vec<ObjectEvent>>) -> Self {
        let source = Self::default();
        for events in messages {
            source.push(events.into_iter().map(Ok));
        }
        source.close();
        source
    }

    /// Adds a message, readable or not, also to a closed source.
    pub fn push(&self, message: impl IntoIterator<Item = Result<ObjectEvent, ParseError>>) -> Receipt {
        let message = message.into_iter().collect();
        let mut state = self.lock();
        let number = state.sent;
        state.sent += 1;
        state.unacked.insert(number, message);
        state.waiting.push_back(number);
        state.wake();
        receipt(number)
    }

    /// Ends the source once all messages have been delivered.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.wake();
    }

    /// Delivers again what has not been acknowledged. Returns how many messages that are.
    pub fn redeliver(&self) -> usize {
        let mut state = self.lock();
        state.waiting = state.unacked.keys().copied().collect();
        state.wake();
        state.waiting.len()
    }

    /// The receipts that were acknowledged, in that order.
    pub fn acked(&self) -> Vec<Receipt> {
        self.lock().acked.clone()
    }

    /// The receipts that were not acknowledged, in the order of their messages.
    pub fn unacked(&self) -> Vec<Receipt> {
        self.lock().unacked.keys().map(|number| receipt(*number)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }

    fn take_batch(&mut self) -> EventBatch {
        let count = self.waiting.len().min(MAX_BATCH);
        let messages = self.waiting.drain(..count).filter_map(|number| {
            Some(EventMessage {
                receipt: receipt(number),
                events: self.unacked.get(&number)?.clone(),
            })
        });
        EventBatch {
            messages: messages.collect(),
        }
    }
}

#[async_trait]
impl EventSource for MemoryEventSource {
    async fn next_batch(&self) -> Result<Option<EventBatch>> {
        poll_fn(|context| {
            let mut state = self.lock();
            if !state.waiting.is_empty() {
                return Poll::Ready(Ok(Some(state.take_batch())));
            }
            if state.closed {
                return Poll::Ready(Ok(None));
            }
            state.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        let mut state = self.lock();
        for acked in receipts {
            let number = acked.as_str().parse().ok();
            if number.is_some_and(|number| state.unacked.remove(&number).is_some()) {
                state.acked.push(acked.clone());
            }
        }
        Ok(())
    }
}

impl fmt::Debug for MemoryEventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("MemoryEventSource")
            .field("waiting", &state.waiting.len())
            .field("unacked", &state.unacked.len())
            .field("acked", &state.acked.len())
            .field("closed", &state.closed)
            .finish()
    }
}

fn receipt(number: u64) -> Receipt {
    Receipt::new(number.to_string())
}

/// As many as a queue of Cloudflare hands over at once.
const MAX_BATCH: usize = 100;

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::executor::block_on;

    use super::*;

    fn receipts(source: &MemoryEventSource) -> Option<Vec<String>> {
        let batch = block_on(source.next_batch()).unwrap()?;
        Some(batch.messages.iter().map(|m| m.receipt.as_str().to_owned()).collect())
    }

    #[test]
    fn unacknowledged_messages_come_again_and_acknowledged_ones_do_not() {
        let source = MemoryEventSource::new([
            vec![ObjectEvent::created("a")],
            vec![ObjectEvent::created("b")],
            vec![ObjectEvent::created("c")],
        ]);
        assert_eq!(receipts(&source).unwrap(), ["0", "1", "2"]);
        assert_eq!(receipts(&source), None);
        block_on(source.ack(&[Receipt::new("1"), Receipt::new("1"), Receipt::new("x")])).unwrap();
        assert_eq!(source.acked(), [Receipt::new("1")]);
        assert_eq!(source.redeliver(), 2);
        assert_eq!(receipts(&source).unwrap(), ["0", "2"]);
        assert_eq!(source.unacked(), [Receipt::new("0"), Receipt::new("2")]);
    }

    #[test]
    fn an_open_source_waits_for_the_next_message() {
        let source = MemoryEventSource::default();
        assert!(source.next_batch().now_or_never().is_none());
        let waiting = source.next_batch();
        source.push([Ok(ObjectEvent::created("a"))]);
        assert_eq!(block_on(waiting).unwrap().unwrap().messages.len(), 1);
        source.close();
        assert_eq!(receipts(&source), None);
    }

    #[test]
    fn a_large_queue_comes_in_batches() {
        let source = MemoryEventSource::new((0..150).map(|n| vec![ObjectEvent::created(n.to_string())]));
        assert_eq!(receipts(&source).unwrap().len(), 100);
        assert_eq!(receipts(&source).unwrap().len(), 50);
    }
}
