//! The conformance suite of event sources passes for a plain queue.
#![cfg(feature = "testing")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use firnline::testing::conformance;
use firnline::{EventBatch, EventMessage, EventSource, ObjectEvent, Receipt, Result};
use futures::executor::block_on;

/// Gives out each message until it is acknowledged, then closes.
#[derive(Debug)]
struct Queue {
    waiting: Mutex<VecDeque<(Receipt, ObjectEvent)>>,
}

#[async_trait]
impl EventSource for Queue {
    async fn next_batch(&self) -> Result<Option<EventBatch>> {
        let waiting = self.waiting.lock().unwrap();
        let messages: Vec<_> = waiting
            .iter()
            .take(2)
            .map(|(receipt, event)| EventMessage {
                receipt: receipt.clone(),
                events: vec![Ok(event.clone())],
            })
            .collect();
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
    block_on(conformance::event_source(|events| async {
        let numbered = events.into_iter().enumerate();
        let waiting = numbered.map(|(n, event)| (Receipt::new(n.to_string()), event));
        let waiting = Mutex::new(waiting.collect());
        Arc::new(Queue { waiting }) as Arc<dyn EventSource>
    }));
}
