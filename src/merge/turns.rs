//! Bytes that decoders hold for a moment, by turns.

use std::sync::Arc;

use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::lock::Mutex;

/// The bytes are lent in so many equal parts.
const PARTS: u64 = 16;

/// Bytes that are lent to one after the other, or to as many at the same time as they suffice for.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    bytes: u64,
    /// Parts that are free. Whoever waits for several keeps others from taking them.
    free: Arc<Mutex<UnboundedReceiver<()>>>,
    give_back: UnboundedSender<()>,
}

/// Parts that are lent.
#[derive(Debug)]
pub(super) struct Turn {
    parts: u64,
    give_back: UnboundedSender<()>,
}

impl Turns {
    pub(super) fn new(bytes: u64) -> Self {
        let (give_back, free) = unbounded();
        drop(Turn {
            parts: PARTS,
            give_back: give_back.clone(),
        });
        Self {
            bytes,
            free: Arc::new(Mutex::new(free)),
            give_back,
        }
    }

    /// All bytes that there are.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits until `bytes` are free, or all if there are fewer. Whoever waits must be polled, and must not have what it
    /// waits for itself.
    pub(super) async fn next(&self, bytes: u64) -> Turn {
        let parts = u128::from(bytes) * u128::from(PARTS);
        let parts = parts
            .div_ceil(u128::from(self.bytes.max(1)))
            .clamp(1, u128::from(PARTS));
        let mut free = self.free.lock().await;
        let mut turn = Turn {
            parts: 0,
            give_back: self.give_back.clone(),
        };
        // What is there by then goes back if it is dropped while it waits.
        while u128::from(turn.parts) < parts && free.next().await.is_some() {
            turn.parts += 1;
        }
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        for _ in 0..self.parts {
            // Nobody is left who could wait for it.
            let _ = self.give_back.unbounded_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn as_many_have_a_turn_as_the_bytes_suffice_for() {
        let turns = Turns::new(160);
        let (a, b) = block_on(async { (turns.next(80).await, turns.next(70).await) });
        assert!(turns.next(20).now_or_never().is_none());
        let c = turns.next(10).now_or_never().unwrap();
        drop((a, c));
        assert!(turns.next(100).now_or_never().is_none(), "of 160 bytes 70 are lent");
        let d = turns.next(90).now_or_never().unwrap();
        drop((b, d));
        assert!(turns.next(1_000).now_or_never().is_some(), "all that there are");
    }

    #[test]
    fn one_who_waits_for_many_is_not_overtaken() {
        let turns = Turns::new(160);
        let a = block_on(turns.next(80));
        let mut large = Box::pin(turns.next(160));
        assert!((&mut large).now_or_never().is_none());
        let mut small = Box::pin(turns.next(10));
        assert!((&mut small).now_or_never().is_none());
        drop(a);
        let large = large.now_or_never().unwrap();
        assert!((&mut small).now_or_never().is_none());
        drop(large);
        assert!(small.now_or_never().is_some());
    }

    #[test]
    fn no_bytes_are_lent_to_one_at_a_time() {
        let turns = Turns::new(0);
        let one = block_on(turns.next(0));
        assert!(turns.next(7).now_or_never().is_none());
        drop(one);
        assert!(turns.next(7).now_or_never().is_some());
    }
}
