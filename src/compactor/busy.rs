//! Whether a lane has a job under way, and how long it pauses after one that failed.

use std::sync::{Arc, Weak};

use crate::error::Error;
use crate::time::Timestamp;

/// Shortest and longest pause after a failure.
const FIRST_PAUSE_MS: u64 = 1_000;
pub(crate) const LONGEST_PAUSE_MS: u64 = 300_000;

/// Whether a job is under way: its token is held by the job and its outcome, and watched from here.
#[derive(Debug, Default)]
pub(crate) struct Busy(Option<Weak<()>>);

impl Busy {
    /// Marks the start of a job.
    pub(crate) fn start(&mut self) -> Arc<()> {
        let token = Arc::new(());
        self.0 = Some(Arc::downgrade(&token));
        token
    }

    /// Whether the job that holds `token` is the one under way, and none that was given up before.
    pub(crate) fn is_of(&self, token: &Arc<()>) -> bool {
        let watched = self.0.as_ref();
        watched.is_some_and(|watched| std::ptr::eq(watched.as_ptr(), Arc::as_ptr(token)))
    }

    /// Marks the end of the job that holds `token`; a job that was given up before changes nothing.
    pub(crate) fn finish(&mut self, token: &Arc<()>) {
        if self.is_of(token) {
            self.0 = None;
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.0.as_ref().is_some_and(|watched| watched.strong_count() > 0)
    }

    /// Whether the job was dropped without being finished, and nobody has asked yet.
    pub(crate) fn is_dropped(&self) -> bool {
        self.0.is_some() && !self.is_busy()
    }

    /// Whether the job was dropped without being finished; says so once.
    pub(crate) fn was_dropped(&mut self) -> bool {
        let dropped = self.is_dropped();
        if dropped {
            self.0 = None;
        }
        dropped
    }
}

/// Pauses between failures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) last_error: Option<String>,
}

impl Backoff {
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Doubles the pause; up to a quarter of it is random, so that workers do not meet again.
    pub(crate) fn failed(&mut self, now: Timestamp, error: &Error, random: u128) {
        let doubled = FIRST_PAUSE_MS
            .checked_shl(self.failures.min(30))
            .unwrap_or(LONGEST_PAUSE_MS);
        let pause = doubled.min(LONGEST_PAUSE_MS);
        let jitter = u64::try_from(random % u128::from(pause / 4 + 1)).unwrap_or(0);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + pause + jitter);
        self.last_error = Some(error.chain());
    }

    pub(crate) fn may_run(&self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn away() -> Error {
        Error::new(ErrorKind::Unavailable, "away")
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_up_to_a_quarter_is_random() {
        let mut backoff = Backoff::default();
        let now = Timestamp::from_millis(1_000_000);
        assert!(backoff.may_run(now));
        let mut pauses = Vec::new();
        for _ in 0..10 {
            backoff.failed(now, &away(), 0);
            pauses.push(backoff.not_before.unwrap().millis_since(now) / 1_000);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(
            (backoff.may_run(now + 299_999), backoff.may_run(now + 300_000)),
            (false, true)
        );
        assert_eq!(backoff.last_error.as_deref(), Some("away"));
        backoff.succeeded();
        assert!(backoff.may_run(now) && backoff.last_error.is_none());
        backoff.failed(now, &away(), 250);
        assert_eq!(backoff.not_before, Some(now + 1_250));
        backoff.succeeded();
        backoff.failed(now, &away(), 251);
        assert_eq!(backoff.not_before, Some(now + 1_000));
    }

    #[test]
    fn a_job_is_busy_until_its_token_is_finished_or_dropped() {
        let mut busy = Busy::default();
        assert!(!busy.is_busy() && !busy.is_dropped());
        let token = busy.start();
        assert!(busy.is_busy() && !busy.was_dropped());
        busy.finish(&Arc::new(())); // another job's token
        assert!(busy.is_busy() && busy.is_of(&token) && !busy.is_of(&Arc::new(())));
        busy.finish(&token);
        assert!(!busy.is_busy() && !busy.is_dropped());
        drop(busy.start());
        assert!(busy.is_dropped());
        assert!(busy.was_dropped() && !busy.was_dropped(), "says so once");
    }
}
