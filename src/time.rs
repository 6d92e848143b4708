//! Instants as plain numbers, and the clock that a host supplies.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// Milliseconds since 1970-01-01T00:00:00Z.
///
/// Arithmetic saturates, so that no input can make it overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest instant.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest instant.
    pub const MAX: Self = Self(i64::MAX);

    /// The instant `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Milliseconds from `earlier` to `self`, 0 when `earlier` is later.
    pub fn millis_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }

    /// The start of the span of `size_ms` milliseconds that holds this instant (floor division, also
    /// before 1970). A size of 0 gives the instant itself.
    #[must_use]
    pub fn floor_to(self, size_ms: u64) -> Self {
        let size = i64::try_from(size_ms).unwrap_or(i64::MAX);
        self.0
            .checked_rem_euclid(size)
            .map_or(self, |rest| Self(self.0.saturating_sub(rest)))
    }

    /// ISO-8601 with milliseconds and `Z`, as in the status document.
    ///
    /// Instants beyond the calendar's range are written as plain milliseconds.
    pub fn to_iso(self) -> String {
        DateTime::<Utc>::from_timestamp_millis(self.0).map_or_else(
            || self.0.to_string(),
            |t| t.to_rfc3339_opts(SecondsFormat::Millis, true),
        )
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// Reads RFC 3339.
    fn from_str(text: &str) -> Result<Self, Error> {
        DateTime::parse_from_rfc3339(text)
            .map(|t| Self(t.timestamp_millis()))
            .map_err(|e| {
                Error::new(
                    ErrorKind::Invalid,
                    format!("not an RFC 3339 time, such as 2024-11-14T00:00:00Z. value=`{text}`"),
                )
                .with_source(e)
            })
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_millis())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_iso())
    }
}

/// Adds milliseconds.
impl Add<u64> for Timestamp {
    type Output = Self;

    fn add(self, millis: u64) -> Self {
        Self(self.0.saturating_add_unsigned(millis))
    }
}

/// Subtracts milliseconds.
impl Sub<u64> for Timestamp {
    type Output = Self;

    fn sub(self, millis: u64) -> Self {
        Self(self.0.saturating_sub_unsigned(millis))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        self + u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The host's clock, the only source of time of this crate.
///
/// It may jump: no decision about membership depends on it, only when things are done.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Completes once [`now`](Clock::now) is at or after `deadline`. May complete early.
    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()>;
}

impl<T: Clock + ?Sized> Clock for Arc<T> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        (**self).sleep_until(deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_before_the_epoch_too() {
        assert_eq!(Timestamp::from_millis(-1).floor_to(1000).as_millis(), -1000);
        assert_eq!(Timestamp::from_millis(-1000).floor_to(1000).as_millis(), -1000);
        assert_eq!(Timestamp::from_millis(1999).floor_to(1000).as_millis(), 1000);
        assert_eq!(Timestamp::from_millis(7).floor_to(0).as_millis(), 7);
    }

    #[test]
    fn iso_round_trips() {
        let t: Timestamp = "2024-11-14T00:00:00.120Z".parse().unwrap();
        assert_eq!(t.to_iso(), "2024-11-14T00:00:00.120Z");
        assert_eq!(Timestamp::MAX.to_iso(), i64::MAX.to_string());
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::MAX + 1, Timestamp::MAX);
        assert_eq!(Timestamp::MIN - 1, Timestamp::MIN);
        assert_eq!(Timestamp::from_millis(1).millis_since(Timestamp::from_millis(5)), 0);
    }
}
