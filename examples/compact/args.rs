//! The command line.

use std::path::PathBuf;

use clap::{ArgGroup, Parser, ValueEnum};
use firnline::{
    Codec, Error, Evolve, FileNameParser, ObjectKey, OnUnsorted, Options, SortField, TableFormat, Timestamp,
    ValidOptions,
};
use percent_encoding::percent_decode_str;

use crate::command::arguments::{bytes, codec, on_unsorted, sort_field, threads};
use crate::support::resolved;

/// Compacts the small Parquet files of many writers into one table per namespace, exactly once.
///
/// Keys are {prefix}{namespace}/{timestampMs}-{writerId}-{sequence}.parquet.
/// Several such processes may work on the same directories at the same time.
///
/// Exit codes: 0 nothing wrong (pending files are not wrong), 1 failure, 2 bad usage,
/// 3 something is in quarantine or halted.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "the flags of a command line")]
#[command(name = "compact", verbatim_doc_comment)]
#[command(group = ArgGroup::new("mode").args(["once", "watch", "status"]))]
pub(crate) struct Args {
    /// The directory that writers write to; a path or file://
    #[arg(long, value_name = "DIR", value_parser = local)]
    pub(crate) bucket: PathBuf,
    /// The part of every key before the namespace
    #[arg(long, default_value = "data/")]
    pub(crate) prefix: String,
    /// The directory of the tables, one per namespace
    #[arg(long, value_name = "DIR", value_parser = local)]
    pub(crate) tables: PathBuf,
    /// The format of the tables
    #[arg(long, value_enum, default_value = "delta")]
    pub(crate) format: Format,
    /// The format version of Iceberg tables that are created
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u8).range(2..=3))]
    pub(crate) iceberg_version: u8,
    /// Columns by which every file is sorted: ts,id; -ts descends; nulls last in both. Absent: concatenated
    #[arg(long, value_name = "COLUMNS", allow_hyphen_values = true, value_delimiter = ',', value_parser = sort_field)]
    pub(crate) sort_key: Vec<SortField>,
    /// What to do about a file that is not in that order: quarantine, or resort: sort it
    #[arg(long, value_name = "HOW", default_value = "quarantine", value_parser = on_unsorted)]
    pub(crate) unsorted: OnUnsorted,
    /// What a table does about new columns: never, add-columns, or add-and-widen: also widen types that allow it
    #[arg(long, value_name = "HOW", default_value = "add-columns", value_parser = evolve)]
    pub(crate) evolve: Evolve,
    /// Match columns by the ids that files carry before their names
    #[arg(long)]
    pub(crate) match_field_ids: bool,
    /// The length of a time window
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, default_value = "1h", value_parser = millis)]
    pub(crate) window: u64,
    /// Files that a window needs before it is compacted for any reason but its age
    #[arg(long, value_name = "N", default_value_t = firnline::DEFAULT_MIN_FILES_TO_COMPACT)]
    pub(crate) min_files: usize,
    /// How long after its end a window waits for silent writers
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, default_value = "5m", value_parser = millis)]
    pub(crate) max_wait: u64,
    /// How long sources stay after their rows are in the table
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, default_value = "0s", value_parser = millis)]
    pub(crate) grace: u64,
    /// The memory that a merge may hold
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, default_value = "128MiB", value_parser = bytes)]
    pub(crate) memory: u64,
    /// The size at which output files are rolled
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, default_value = "256MiB", value_parser = bytes)]
    pub(crate) target_file_size: u64,
    /// zstd(LEVEL), snappy, lz4 or none
    #[arg(long, default_value = "zstd(1)", value_parser = codec)]
    pub(crate) codec: Codec,
    /// Decode also those row groups that could be copied as they are
    #[arg(long)]
    pub(crate) no_copy: bool,
    /// Threads that decode and encode beside the one that merges, at the price of some memory; 1: none
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads)]
    pub(crate) threads: usize,
    /// The directory of plans, state and scratch; by default `{tables}-control`
    #[arg(long, value_name = "DIR", value_parser = local)]
    pub(crate) control: Option<PathBuf>,
    /// Start the clock at this RFC 3339 time; it runs on from there
    #[arg(long, value_name = "TIME")]
    pub(crate) now: Option<Timestamp>,
    /// Take R2 notifications, one JSON per line, from here (-: standard input), and do not list the bucket
    #[arg(long, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,
    /// Do all that is ready now, retries and reclaims included, then exit (the default)
    #[arg(long)]
    pub(crate) once: bool,
    /// Go on until interrupted, or until the events end and nothing is left to do
    #[arg(long)]
    pub(crate) watch: bool,
    /// Compact all that is pending, ready or not
    #[arg(long)]
    pub(crate) drain: bool,
    /// Show the status; changes nothing
    #[arg(long, conflicts_with_all = ["drain", "release", "discard", "replay", "adopt", "events"])]
    pub(crate) status: bool,
    /// Take a source out of quarantine; it is judged anew. May be repeated
    #[arg(long, value_name = "KEY")]
    pub(crate) release: Vec<String>,
    /// Give up a source in quarantine; it stays in the bucket. May be repeated
    #[arg(long, value_name = "KEY")]
    pub(crate) discard: Vec<String>,
    /// Put in again what a table that was rolled back no longer has. May be repeated
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) replay: Vec<String>,
    /// Go on with a table as it is, after its register was lost. May be repeated
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) adopt: Vec<String>,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Delta,
    Iceberg,
}

impl From<Format> for TableFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Delta => Self::Delta,
            Format::Iceberg => Self::Iceberg,
        }
    }
}

impl Args {
    /// The settings of the compactor, or which option is wrong and why.
    pub(crate) fn valid_options(&self) -> Result<ValidOptions, String> {
        self.options().validated().map_err(|error: Error| {
            let message = error.chain();
            let named = OPTION_OF_FIELD
                .iter()
                .find(|(field, _)| message.contains(&format!("field=`{field}`")));
            match named {
                Some((_, option)) => format!("{option}: {message}"),
                None => message,
            }
        })
    }

    fn options(&self) -> Options {
        let prefix = match self.prefix.trim_end_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let defaults = Options::default();
        let max_window_age_ms = defaults.max_window_age_ms.max(self.max_wait);
        let horizon_ms = defaults.horizon_ms.max(self.grace);
        defaults
            .with_namespace_prefix(prefix)
            .with_target_format(self.format.into())
            .with_sort_order(self.sort_key.clone())
            .with_window_size_ms(self.window)
            .with_min_files_to_compact(self.min_files)
            .with_max_wait_time_ms(self.max_wait)
            .with_max_window_age_ms(max_window_age_ms)
            .with_delete_grace_ms(self.grace)
            .with_horizon_ms(horizon_ms)
            .with_settle_ms(if self.watch { WATCH_SETTLE_MS } else { 0 })
            .with_memory_budget_bytes(self.memory)
            .with_target_file_size_bytes(self.target_file_size)
            .with_codec(self.codec)
            .with_copy_row_groups(!self.no_copy)
            .with_on_unsorted(self.unsorted)
            .with_evolve(self.evolve)
            .with_match_field_ids(self.match_field_ids)
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.control.clone().unwrap_or_else(|| {
            // Without the slash that may end it; a path such as `.` gets its name first.
            let mut path: PathBuf = self.tables.components().collect();
            if path.file_name().is_none() {
                path = resolved(&path).unwrap_or(path);
            }
            let mut path = path.into_os_string();
            path.push("-control");
            PathBuf::from(path)
        })
    }

    /// Refuses doors that contradict each other.
    pub(crate) fn check_doors(&self, parser: &dyn FileNameParser) -> Result<(), String> {
        let both = |a: &str, b: &str, what: &str| format!("{a} and {b} of the same {what} contradict each other");
        if let Some(key) = self.release.iter().find(|key| self.discard.contains(key)) {
            return Err(format!("{}: {key}", both("--release", "--discard", "key")));
        }
        if let Some(namespace) = self.replay.iter().find(|namespace| self.adopt.contains(namespace)) {
            return Err(format!("{}: {namespace}", both("--replay", "--adopt", "namespace")));
        }
        // What is released is judged once more with all others of its namespace, and may go back.
        for key in &self.release {
            let Ok(name) = parser.parse(&ObjectKey::new(key)) else {
                continue;
            };
            for (option, renewed) in [("--replay", &self.replay), ("--adopt", &self.adopt)] {
                if renewed.iter().any(|namespace| namespace == name.namespace.as_str()) {
                    let both = both("--release", option, "namespace");
                    return Err(format!("{both}, release it in another run: {key}"));
                }
            }
        }
        Ok(())
    }
}

/// A window is compacted when no event has come for so long. Where all events are there at once, nothing is waited for.
const WATCH_SETTLE_MS: u64 = 5_000;

/// Which option sets a field.
const OPTION_OF_FIELD: [(&str, &str); 9] = [
    ("codec", "--codec"),
    ("horizonMs", "--grace"),
    ("maxWindowAgeMs", "--max-wait"),
    ("memoryBudgetBytes", "--memory"),
    ("minFilesToCompact", "--min-files"),
    ("namespacePrefix", "--prefix"),
    ("sortOrder", "--sort-key"),
    ("targetFileSizeBytes", "--target-file-size"),
    ("windowSizeMs", "--window"),
];

fn local(text: &str) -> Result<PathBuf, String> {
    match text.split_once("://") {
        None if text.is_empty() => Err("a directory is needed".to_owned()),
        None => Ok(PathBuf::from(text)),
        Some(("file", path)) if path.starts_with('/') => match percent_decode_str(path).decode_utf8() {
            Ok(path) => Ok(PathBuf::from(path.as_ref())),
            Err(_) => Err("a file URL is UTF-8 once its percent signs are decoded".to_owned()),
        },
        Some(("file", _)) => Err("a file URL has three slashes: file:///srv/raw".to_owned()),
        Some((scheme, _)) => Err(format!(
            "this example (`compact`) serves local directories, and there is no example for `{scheme}://` yet: copy it and \
             hand `Place::new` the object store of that service"
        )),
    }
}

fn millis(text: &str) -> Result<u64, String> {
    let duration = humantime::parse_duration(text).map_err(|e| format!("{e}, such as 1h, 5m or 0s"))?;
    u64::try_from(duration.as_millis()).map_err(|e| e.to_string())
}

/// How tables follow the columns of new files.
fn evolve(text: &str) -> Result<Evolve, String> {
    match text {
        "never" => Ok(Evolve::Never),
        "add-columns" => Ok(Evolve::AddColumns),
        "add-and-widen" => Ok(Evolve::AddAndWiden),
        _ => Err("never, add-columns or add-and-widen".to_owned()),
    }
}
