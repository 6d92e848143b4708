//! Time that moves only when a test moves it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::future::{BoxFuture, FutureExt};

use crate::time::{Clock, Timestamp};

/// A [`Clock`] that stands still until it is set; clones share the time.
#[derive(Clone, Debug)]
pub struct VirtualClock {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    now: Timestamp,
    next_sleeper: u64,
    sleepers: Vec<Sleeper>,
}

#[derive(Debug)]
struct Sleeper {
    id: u64,
    deadline: Timestamp,
    waker: Option<Waker>,
}

impl VirtualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        let shared = Shared {
            now,
            next_sleeper: 0,
            sleepers: Vec::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// Sets the time, also backwards, and wakes whoever has slept long enough.
    pub fn set(&self, now: Timestamp) {
        let mut shared = self.lock();
        shared.now = now;
        let due: Vec<_> = shared
            .sleepers
            .iter_mut()
            .filter(|sleeper| sleeper.deadline <= now)
            .filter_map(|sleeper| sleeper.waker.take())
            .collect();
        drop(shared);
        due.into_iter().for_each(Waker::wake);
    }

    /// Moves the time on by `millis`.
    pub fn advance(&self, millis: u64) {
        let now = self.now();
        self.set(now + millis);
    }

    /// The earliest time at which somebody who sleeps now will wake.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.lock().sleepers.iter().map(|sleeper| sleeper.deadline).min()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        let mut shared = self.lock();
        let id = shared.next_sleeper;
        shared.next_sleeper += 1;
        let waker = None;
        shared.sleepers.push(Sleeper { id, deadline, waker });
        drop(shared);
        Sleep {
            clock: self.clone(),
            id,
            deadline,
        }
        .boxed()
    }
}

#[derive(Debug)]
struct Sleep {
    clock: VirtualClock,
    id: u64,
    deadline: Timestamp,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.clock.lock();
        if shared.now >= self.deadline {
            return Poll::Ready(());
        }
        if let Some(sleeper) = shared.sleepers.iter_mut().find(|sleeper| sleeper.id == self.id) {
            sleeper.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock.lock().sleepers.retain(|sleeper| sleeper.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures::future::FutureExt;

    use super::*;

    #[test]
    fn a_sleeper_wakes_when_the_time_is_moved_past_its_deadline() {
        let clock = VirtualClock::new(Timestamp::from_millis(10));
        let mut sleep = clock.sleep_until(Timestamp::from_millis(15));
        assert_eq!((&mut sleep).now_or_never(), None);
        assert_eq!(clock.next_deadline(), Some(Timestamp::from_millis(15)));
        clock.advance(4);
        assert_eq!((&mut sleep).now_or_never(), None);
        clock.advance(1);
        assert_eq!((&mut sleep).now_or_never(), Some(()));
        drop(sleep);
        assert_eq!(clock.next_deadline(), None);
    }
}
