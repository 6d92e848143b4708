//! Settings of Delta tables.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::options::DEFAULT_HORIZON_MS;

/// Default of [`DeltaOptions::checkpoint_interval`], Spark's.
pub const DEFAULT_CHECKPOINT_INTERVAL: u64 = 10;
/// Default of [`DeltaOptions::max_commit_races`].
pub const DEFAULT_MAX_COMMIT_RACES: u32 = 20;

/// Settings of [`DeltaSink`](super::DeltaSink) and [`DeltaTables`](super::DeltaTables).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DeltaOptions {
    /// How long a lane's marker must stay in the table: one whose `delta.setTransactionRetentionDuration` is
    /// shorter is refused. The same as [`Options::horizon_ms`](crate::Options::horizon_ms).
    pub horizon_ms: u64,
    /// A checkpoint is written after every so many commits; 0 writes none. The table property
    /// `delta.checkpointInterval` wins.
    pub checkpoint_interval: u64,
    /// How many commits of others one call goes out of the way of before it reports
    /// [`Contended`](crate::CommitOutcome::Contended).
    pub max_commit_races: u32,
    /// What names the writer in the table's history.
    pub engine_info: String,
    /// Table properties of a table that is created. Properties that turn a table feature on are refused.
    pub configuration: BTreeMap<String, String>,
}

impl Default for DeltaOptions {
    fn default() -> Self {
        Self {
            horizon_ms: DEFAULT_HORIZON_MS,
            checkpoint_interval: DEFAULT_CHECKPOINT_INTERVAL,
            max_commit_races: DEFAULT_MAX_COMMIT_RACES,
            engine_info: concat!("firnline/", env!("CARGO_PKG_VERSION")).to_owned(),
            configuration: BTreeMap::new(),
        }
    }
}

impl DeltaOptions {
    /// Sets [`horizon_ms`](Self::horizon_ms).
    #[must_use]
    pub fn with_horizon_ms(mut self, horizon_ms: u64) -> Self {
        self.horizon_ms = horizon_ms;
        self
    }

    /// Sets [`checkpoint_interval`](Self::checkpoint_interval).
    #[must_use]
    pub fn with_checkpoint_interval(mut self, commits: u64) -> Self {
        self.checkpoint_interval = commits;
        self
    }

    /// Sets [`max_commit_races`](Self::max_commit_races).
    #[must_use]
    pub fn with_max_commit_races(mut self, races: u32) -> Self {
        self.max_commit_races = races;
        self
    }

    /// Sets [`engine_info`](Self::engine_info).
    #[must_use]
    pub fn with_engine_info(mut self, engine_info: impl Into<String>) -> Self {
        self.engine_info = engine_info.into();
        self
    }

    /// Adds to [`configuration`](Self::configuration).
    #[must_use]
    pub fn with_property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configuration.insert(key.into(), value.into());
        self
    }
}

/// Milliseconds of an interval as table properties have it: `interval 30 days`, `2 weeks 1 hour`.
/// Months and years have no length, so they are `None` like anything else that is not understood.
pub(super) fn parse_interval_ms(text: &str) -> Option<u64> {
    const MILLIS: [(&str, u64); 6] = [
        ("week", 7 * 86_400_000),
        ("day", 86_400_000),
        ("hour", 3_600_000),
        ("minute", 60_000),
        ("second", 1_000),
        ("millisecond", 1),
    ];
    let text = text.to_ascii_lowercase();
    let mut words = text.split_ascii_whitespace().peekable();
    words.next_if_eq(&"interval");
    let mut total = None;
    while let Some(count) = words.next() {
        let count: u64 = count.parse().ok()?;
        let unit = words.next()?;
        let unit = unit.strip_suffix('s').unwrap_or(unit);
        // Finer units are rounded down, as nobody keeps a transaction for microseconds.
        let millis = match unit {
            "microsecond" => count / 1_000,
            "nanosecond" => count / 1_000_000,
            _ => count.checked_mul(MILLIS.iter().find(|(name, _)| *name == unit)?.1)?,
        };
        total = Some(total.unwrap_or(0_u64).checked_add(millis)?);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_as_spark_writes_them() {
        let day = 86_400_000;
        for (text, millis) in [
            ("interval 30 days", Some(30 * day)),
            ("INTERVAL 1 WEEK", Some(7 * day)),
            ("interval 1 day 2 hours", Some(day + 7_200_000)),
            ("10 milliseconds", Some(10)),
            ("interval 1500 microseconds", Some(1)),
            ("interval 1 month", None),
            ("interval", None),
            ("interval 3", None),
            ("interval -3 days", None),
            ("interval 99999999999999999 weeks", None),
            ("", None),
        ] {
            assert_eq!(parse_interval_ms(text), millis, "{text}");
        }
    }

    #[test]
    fn settings_round_trip_and_unknown_ones_are_refused() {
        let options = DeltaOptions::default().with_property("delta.checkpointInterval", "5");
        let json = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<DeltaOptions>(&json).unwrap(), options);
        assert_eq!(
            serde_json::from_str::<DeltaOptions>("{}").unwrap(),
            DeltaOptions::default()
        );
        assert!(serde_json::from_str::<DeltaOptions>(r#"{"horizon":1}"#).is_err());
    }
}
