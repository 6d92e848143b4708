//! Settings: plain data, validated once.

use std::collections::BTreeMap;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Default of [`Options::window_size_ms`]: one hour.
pub const DEFAULT_WINDOW_SIZE_MS: u64 = 3_600_000;
/// Default of [`Options::min_files_to_compact`].
pub const DEFAULT_MIN_FILES_TO_COMPACT: usize = 10;
/// Default of [`Options::max_wait_time_ms`]: five minutes.
pub const DEFAULT_MAX_WAIT_TIME_MS: u64 = 300_000;
/// Default of [`Options::namespace_prefix`].
pub const DEFAULT_NAMESPACE_PREFIX: &str = "data/";
/// Default of [`Options::writer_inactive_threshold_ms`]: half an hour.
pub const DEFAULT_WRITER_INACTIVE_THRESHOLD_MS: u64 = 1_800_000;
/// Default of [`Options::settle_ms`]: thirty seconds.
pub const DEFAULT_SETTLE_MS: u64 = 30_000;
/// Default of [`Options::max_window_age_ms`]: one day.
pub const DEFAULT_MAX_WINDOW_AGE_MS: u64 = 86_400_000;
/// Default of [`Options::delete_grace_ms`]: one day.
pub const DEFAULT_DELETE_GRACE_MS: u64 = 86_400_000;
/// Default of [`Options::orphan_min_age_ms`]: three days.
pub const DEFAULT_ORPHAN_MIN_AGE_MS: u64 = 3 * 86_400_000;
/// Default of [`Options::attempt_max_age_ms`]: one day.
pub const DEFAULT_ATTEMPT_MAX_AGE_MS: u64 = 86_400_000;
/// Default of [`Options::horizon_ms`]: thirty-five days.
pub const DEFAULT_HORIZON_MS: u64 = 35 * 86_400_000;
/// Default of [`Options::max_future_skew_ms`]: ten minutes.
pub const DEFAULT_MAX_FUTURE_SKEW_MS: u64 = 600_000;
/// Default of [`Options::max_plan_files`].
pub const DEFAULT_MAX_PLAN_FILES: usize = 1_000;
/// Default of [`Options::max_plan_bytes`]: 4 GiB.
pub const DEFAULT_MAX_PLAN_BYTES: u64 = 4 << 30;
/// Default of [`Options::max_open_windows`].
pub const DEFAULT_MAX_OPEN_WINDOWS: usize = 10_000;
/// Default of [`Options::max_pending_files`].
pub const DEFAULT_MAX_PENDING_FILES: usize = 200_000;
/// Default of [`Options::max_known_writers`].
pub const DEFAULT_MAX_KNOWN_WRITERS: usize = 10_000;
/// Default of [`Options::target_file_size_bytes`]: 256 MiB.
pub const DEFAULT_TARGET_FILE_SIZE_BYTES: u64 = 256 << 20;
/// Default of [`Options::memory_budget_bytes`]: 128 MiB.
pub const DEFAULT_MEMORY_BUDGET_BYTES: u64 = 128 << 20;

/// Settings of a compactor. In JSON the names are camelCase, as in the guide.
///
/// All spans of time are milliseconds, all sizes bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Options {
    /// Length of a time window.
    pub window_size_ms: u64,
    /// Files that a window needs before a quorum or a timeout makes it ready.
    pub min_files_to_compact: usize,
    /// How long after its end a window waits for silent writers.
    pub max_wait_time_ms: u64,
    /// The format of the tables: that of the [`TableProvider`](crate::TableProvider), else the lane is refused.
    pub target_format: TableFormat,
    /// Keys outside this prefix are not ours. Ends in `/`, or is empty for the whole bucket.
    pub namespace_prefix: String,
    /// A writer not seen for this long is no longer waited for.
    pub writer_inactive_threshold_ms: u64,
    /// A window is settled when nothing has arrived in it for this long.
    pub settle_ms: u64,
    /// After this long a window is compacted with the files it has, however few.
    pub max_window_age_ms: u64,
    /// How long sources stay after their rows were committed. 0 deletes at once.
    pub delete_grace_ms: u64,
    /// How old the output of a failed attempt must be before it is deleted.
    pub orphan_min_age_ms: u64,
    /// How long the uploaded files of an unfinished attempt may be used again.
    pub attempt_max_age_ms: u64,
    /// How long plans are remembered; also the least transaction retention of a Delta table.
    pub horizon_ms: u64,
    /// Files that claim a time further in the future are held until the clock gets there.
    pub max_future_skew_ms: u64,
    /// Most source files in one plan.
    pub max_plan_files: usize,
    /// Most source bytes in one plan (a single larger file still makes a plan).
    pub max_plan_bytes: u64,
    /// Most windows with pending files, over all namespaces; further files wait for a listing. Each takes about 4.5 kB.
    pub max_open_windows: usize,
    /// Most pending files, over all namespaces; further ones wait for a listing. Where this is reached, a namespace may
    /// still have its even share, so that one that stands still does not stop the others. Each takes about 1 kB.
    pub max_pending_files: usize,
    /// Most writers remembered per namespace.
    pub max_known_writers: usize,
    /// Output files are rolled at about this size, as far as the memory budget allows: up to 2,048 times an eighth of it.
    pub target_file_size_bytes: u64,
    /// Memory that a merge may hold: 16 MiB at least, 24 MiB with Zstandard of level 7 or 8, 63 MiB with higher ones.
    pub memory_budget_bytes: u64,
    /// Priority per namespace; those not named are [`Priority::Normal`].
    pub priorities: BTreeMap<String, Priority>,
    /// The unit of the timestamps in keys.
    pub timestamp_unit: TimestampUnit,
    /// The order of the rows of every source and of the table's files; empty: none, concatenate.
    pub sort_order: Vec<SortField>,
    /// What to do about a source whose rows are not in the declared order.
    pub on_unsorted: OnUnsorted,
    /// What to do about a key whose content changed after it was taken up.
    pub on_replaced: OnReplaced,
    /// How a table's columns follow those of new files.
    pub evolve: Evolve,
    /// Whether columns are told by the ids that files carry for them (`field_id`): they are then matched by these first, to
    /// those of the table, if it has such (Iceberg tables, Delta tables with mapped columns), and of the files before, so
    /// that one may be renamed; a file whose ids contradict them is set aside. New columns, and new Iceberg tables, keep
    /// them, unless the table may have had such an id, or a catalog gives ids itself. Many writers number columns in other
    /// ways, hence by default (`false`) columns are matched by name alone.
    pub match_field_ids: bool,
    /// The codec of the output files.
    pub codec: Codec,
    /// Whether row groups that are as good as what would be written in their place are copied undecoded, but for keys
    /// and floats whose NaNs have not been counted. See [`MergeOptions::copy_row_groups`](crate::MergeOptions::copy_row_groups).
    pub copy_row_groups: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            window_size_ms: DEFAULT_WINDOW_SIZE_MS,
            min_files_to_compact: DEFAULT_MIN_FILES_TO_COMPACT,
            max_wait_time_ms: DEFAULT_MAX_WAIT_TIME_MS,
            target_format: TableFormat::default(),
            namespace_prefix: DEFAULT_NAMESPACE_PREFIX.to_owned(),
            writer_inactive_threshold_ms: DEFAULT_WRITER_INACTIVE_THRESHOLD_MS,
            settle_ms: DEFAULT_SETTLE_MS,
            max_window_age_ms: DEFAULT_MAX_WINDOW_AGE_MS,
            delete_grace_ms: DEFAULT_DELETE_GRACE_MS,
            orphan_min_age_ms: DEFAULT_ORPHAN_MIN_AGE_MS,
            attempt_max_age_ms: DEFAULT_ATTEMPT_MAX_AGE_MS,
            horizon_ms: DEFAULT_HORIZON_MS,
            max_future_skew_ms: DEFAULT_MAX_FUTURE_SKEW_MS,
            max_plan_files: DEFAULT_MAX_PLAN_FILES,
            max_plan_bytes: DEFAULT_MAX_PLAN_BYTES,
            max_open_windows: DEFAULT_MAX_OPEN_WINDOWS,
            max_pending_files: DEFAULT_MAX_PENDING_FILES,
            max_known_writers: DEFAULT_MAX_KNOWN_WRITERS,
            target_file_size_bytes: DEFAULT_TARGET_FILE_SIZE_BYTES,
            memory_budget_bytes: DEFAULT_MEMORY_BUDGET_BYTES,
            priorities: BTreeMap::new(),
            timestamp_unit: TimestampUnit::default(),
            sort_order: Vec::new(),
            on_unsorted: OnUnsorted::default(),
            on_replaced: OnReplaced::default(),
            evolve: Evolve::default(),
            match_field_ids: false,
            codec: Codec::default(),
            copy_row_groups: true,
        }
    }
}

/// A `with_` method for each setting of a struct of options.
macro_rules! with_methods {
    ($options:ident { $($method:ident: $field:ident, $type:ty;)* }) => {
        impl $options {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $method(mut self, value: $type) -> Self {
                    self.$field = value;
                    self
                }
            )*
        }
    };
}

pub(crate) use with_methods;

with_methods! { Options {
    with_window_size_ms: window_size_ms, u64;
    with_min_files_to_compact: min_files_to_compact, usize;
    with_max_wait_time_ms: max_wait_time_ms, u64;
    with_target_format: target_format, TableFormat;
    with_namespace_prefix: namespace_prefix, String;
    with_writer_inactive_threshold_ms: writer_inactive_threshold_ms, u64;
    with_settle_ms: settle_ms, u64;
    with_max_window_age_ms: max_window_age_ms, u64;
    with_delete_grace_ms: delete_grace_ms, u64;
    with_orphan_min_age_ms: orphan_min_age_ms, u64;
    with_attempt_max_age_ms: attempt_max_age_ms, u64;
    with_horizon_ms: horizon_ms, u64;
    with_max_future_skew_ms: max_future_skew_ms, u64;
    with_max_plan_files: max_plan_files, usize;
    with_max_plan_bytes: max_plan_bytes, u64;
    with_max_open_windows: max_open_windows, usize;
    with_max_pending_files: max_pending_files, usize;
    with_max_known_writers: max_known_writers, usize;
    with_target_file_size_bytes: target_file_size_bytes, u64;
    with_memory_budget_bytes: memory_budget_bytes, u64;
    with_priorities: priorities, BTreeMap<String, Priority>;
    with_timestamp_unit: timestamp_unit, TimestampUnit;
    with_sort_order: sort_order, Vec<SortField>;
    with_on_unsorted: on_unsorted, OnUnsorted;
    with_on_replaced: on_replaced, OnReplaced;
    with_evolve: evolve, Evolve;
    with_match_field_ids: match_field_ids, bool;
    with_codec: codec, Codec;
    with_copy_row_groups: copy_row_groups, bool;
}}

impl Options {
    /// Checks every value against its rule.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] names the field, the value and the rule; correct the setting.
    pub fn validated(self) -> Result<ValidOptions> {
        let at_least = |field: &str, value: u64, least: u64| {
            if value < least {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("option out of range: must be at least {least}. field=`{field}` value=`{value}`"),
                ));
            }
            Ok(())
        };
        at_least("windowSizeMs", self.window_size_ms, 1_000)?;
        at_least("minFilesToCompact", self.min_files_to_compact as u64, 1)?;
        at_least("maxPlanFiles", self.max_plan_files as u64, 1)?;
        at_least("maxPlanBytes", self.max_plan_bytes, 1)?;
        at_least("maxOpenWindows", self.max_open_windows as u64, 1)?;
        at_least("maxPendingFiles", self.max_pending_files as u64, 1)?;
        at_least("maxKnownWriters", self.max_known_writers as u64, 1)?;
        at_least("targetFileSizeBytes", self.target_file_size_bytes, 1 << 20)?;
        at_least("memoryBudgetBytes", self.memory_budget_bytes, 16 << 20)?;
        if self.memory_budget_bytes < self.codec.least_budget() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "option out of range: the codec needs at least {}. field=`memoryBudgetBytes` value=`{}` codec=`{:?}`",
                    self.codec.least_budget(),
                    self.memory_budget_bytes,
                    self.codec
                ),
            ));
        }
        at_least("maxWindowAgeMs", self.max_window_age_ms, self.max_wait_time_ms)?;
        // A plan is forgotten only after its sources are gone.
        at_least("horizonMs", self.horizon_ms, self.delete_grace_ms)?;
        let longest = 100 * 366 * 86_400_000;
        for (field, value) in [
            ("windowSizeMs", self.window_size_ms),
            ("maxWindowAgeMs", self.max_window_age_ms),
            ("horizonMs", self.horizon_ms),
            ("settleMs", self.settle_ms),
            ("writerInactiveThresholdMs", self.writer_inactive_threshold_ms),
            ("orphanMinAgeMs", self.orphan_min_age_ms),
            ("attemptMaxAgeMs", self.attempt_max_age_ms),
            ("maxFutureSkewMs", self.max_future_skew_ms),
        ] {
            if value > longest {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("option out of range: must be at most a hundred years. field=`{field}` value=`{value}`"),
                ));
            }
        }
        let prefix = &self.namespace_prefix;
        let path = prefix.strip_suffix('/').unwrap_or_default();
        // As the store has it: a path that it changes or refuses holds no keys.
        let whole = object_store::path::Path::parse(path).is_ok_and(|parsed| parsed.as_ref() == path);
        if !prefix.is_empty() && (path.is_empty() || !whole) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "option malformed: must be empty or a path that ends in `/`, without a leading or double one, `.` or `..`. field=`namespacePrefix` value=`{prefix}`"
                ),
            ));
        }
        let mut seen = std::collections::BTreeSet::new();
        for field in &self.sort_order {
            if field.column.is_empty() || !seen.insert(&field.column) {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!(
                        "option malformed: columns must be named once. field=`sortOrder` value=`{}`",
                        field.column
                    ),
                ));
            }
        }
        if let Codec::Zstd(level) = self.codec
            && !(1..=22).contains(&level)
        {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("option out of range: zstd levels are 1 to 22. field=`codec` value=`{level}`"),
            ));
        }
        Ok(ValidOptions(self))
    }
}

/// [`Options`] that have passed [`Options::validated`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidOptions(Options);

impl Deref for ValidOptions {
    type Target = Options;

    fn deref(&self) -> &Options {
        &self.0
    }
}

/// A table format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum TableFormat {
    /// Delta Lake.
    Delta,
    /// Apache Iceberg (the guide's default).
    #[default]
    Iceberg,
}

impl TableFormat {
    /// As a [`Table`](crate::Table) names its format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Iceberg => "iceberg",
        }
    }
}

/// How urgent a namespace is: ready windows of a lower number go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Priority {
    /// 0
    Critical,
    /// 1
    High,
    /// 2
    #[default]
    Normal,
    /// 3
    Background,
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Critical => 0,
            Priority::High => 1,
            Priority::Normal => 2,
            Priority::Background => 3,
        }
    }
}

impl TryFrom<u8> for Priority {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            0 => Ok(Self::Critical),
            1 => Ok(Self::High),
            2 => Ok(Self::Normal),
            3 => Ok(Self::Background),
            _ => Err(format!(
                "priorities are 0 (critical) to 3 (background). value=`{number}`"
            )),
        }
    }
}

/// The unit of the timestamp in a key. Never guessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimestampUnit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[default]
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
}

/// One column of a sort order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SortField {
    /// Name of a top-level column.
    pub column: String,
    /// Largest first.
    #[serde(default)]
    pub descending: bool,
    /// Nulls before all values, whatever the direction.
    #[serde(default)]
    pub nulls_first: bool,
}

impl SortField {
    /// Ascending, nulls last.
    pub fn ascending(column: impl Into<String>) -> Self {
        Self {
            column: column.into(),
            descending: false,
            nulls_first: false,
        }
    }

    /// Descending, nulls last.
    pub fn descending(column: impl Into<String>) -> Self {
        Self {
            descending: true,
            ..Self::ascending(column)
        }
    }

    /// With nulls before all values.
    #[must_use]
    pub fn with_nulls_first(mut self) -> Self {
        self.nulls_first = true;
        self
    }
}

/// What to do about a source whose rows are not in the declared order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum OnUnsorted {
    /// Set it aside.
    #[default]
    Quarantine,
    /// Sort it, as much as fits the memory budget at a time, into intermediate files that are merged then. Sources are
    /// found to be out of order while they are merged, which then begins anew, up to three times.
    Resort,
}

/// What to do about a key whose content changed after its rows were committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnReplaced {
    /// Take the new content as a new source.
    Append,
    /// Set it aside.
    #[default]
    Quarantine,
}

/// How the columns of a table that is there follow those of new files, in the commit that adds their rows.
///
/// Whatever is not followed sets its file aside. What a table's own settings or its format rule out is not done either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Evolve {
    /// Not at all: files with other columns than the table's are set aside.
    Never,
    /// Columns that are new are added, at every level; they are null in older rows.
    #[default]
    AddColumns,
    /// New columns are added; types become wider where all older values fit them (`int` to `long`, `float` to `double`,
    /// decimals, a date to a timestamp); a column that files may lack or may have null in is not required any more.
    AddAndWiden,
}

/// The codec of output files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Codec {
    /// No compression.
    None,
    /// Snappy.
    Snappy,
    /// LZ4 blocks (`LZ4_RAW` in Parquet), which readers older than 2022 may not know.
    Lz4,
    /// Zstandard of a level from 1 to 22.
    Zstd(i32),
}

impl Codec {
    /// Bytes of state that an encoder of a column takes.
    pub(crate) fn encoder_bytes(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Snappy | Self::Lz4 => 36 << 10,
            // Of pages of up to 1 MiB; zstd/lib/compress/clevels.h has the tables that this follows from.
            Self::Zstd(..=2) => 800 << 10,
            Self::Zstd(3) => 1_300 << 10,
            Self::Zstd(4..=6) => 3_600 << 10,
            Self::Zstd(7..=8) => 6_700 << 10,
            Self::Zstd(_) => 18 << 20,
        }
    }

    /// The smallest memory budget of a merge in which an encoder has room.
    pub(crate) fn least_budget(self) -> u64 {
        self.encoder_bytes() / 2 * 7
    }
}

impl Default for Codec {
    fn default() -> Self {
        if cfg!(feature = "zstd") {
            Self::Zstd(1)
        } else if cfg!(feature = "snap") {
            Self::Snappy
        } else {
            Self::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_round_trip_in_camel_case() {
        let options = Options::default();
        assert_eq!(*options.clone().validated().unwrap(), options);
        let json = serde_json::to_value(&options).unwrap();
        assert_eq!(json["windowSizeMs"], 3_600_000);
        assert_eq!(json["targetFormat"], "iceberg");
        assert_eq!(serde_json::from_value::<Options>(json).unwrap(), options);
    }

    #[test]
    fn a_codec_that_takes_much_needs_a_budget_to_match() {
        let with = |level, mib: u64| {
            let options = Options::default().with_codec(Codec::Zstd(level));
            options.with_memory_budget_bytes(mib << 20).validated()
        };
        assert!(with(6, 16).is_ok() && with(8, 24).is_ok() && with(22, 63).is_ok());
        assert_eq!(
            with(9, 62).unwrap_err().to_string(),
            "option out of range: the codec needs at least 66060288. field=`memoryBudgetBytes` value=`65011712` codec=`Zstd(9)`"
        );
    }

    #[test]
    fn a_bad_value_names_field_value_and_rule() {
        let error = Options::default().with_min_files_to_compact(0).validated().unwrap_err();
        assert_eq!(
            error.to_string(),
            "option out of range: must be at least 1. field=`minFilesToCompact` value=`0`"
        );
        for prefix in ["data", "/", "/data/", "a//b/", "../data/", "a/./b/", "a/../"] {
            let options = Options::default().with_namespace_prefix(prefix.into());
            let error = options.validated().unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("field=`namespacePrefix` value=`{prefix}`")),
                "{error}"
            );
        }
        for prefix in ["", "data/", "a/b c/ü%/"] {
            let options = Options::default().with_namespace_prefix(prefix.into());
            assert_eq!(options.validated().unwrap().namespace_prefix, prefix);
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let error = serde_json::from_str::<Options>(r#"{"windowSize": 1}"#).unwrap_err();
        assert!(error.to_string().contains("windowSize"), "{error}");
    }
}
