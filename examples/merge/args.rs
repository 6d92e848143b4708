//! The command line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser;
use firnline::{Codec, MergeOptions, OnUnsorted, SortField};

use crate::command::arguments::{bytes, codec, on_unsorted, sort_field, threads};
use crate::support::resolved;

/// Merges Parquet files, each sorted by the key, into few large ones, inside a budget of memory.
///
/// Among rows with equal keys those of the lesser writer, then of the lesser sequence, come first, where all files
/// are named {timestampMs}-{writerId}-{sequence}.parquet; else those of the file that is given first. Outputs are
/// {DIR}/{STEM}-00000.parquet and so on. Inputs stay as they are.
///
/// Exit codes: 0 merged, 1 failure, 2 bad usage, 3 an input is bad. Unless it is 0, no output is left. A merge that is
/// killed by a signal can leave {DIR}/.{STEM}-scratch, and files {STEM}-*#*: delete them.
#[derive(Debug, Parser)]
#[command(name = "merge", verbatim_doc_comment)]
pub(crate) struct Args {
    /// Columns by which every file is sorted: ts,id; -ts descends; nulls last in both. Absent: concatenated
    #[arg(long, value_name = "COLUMNS", allow_hyphen_values = true, value_delimiter = ',', value_parser = sort_field)]
    pub(crate) sort_key: Vec<SortField>,
    /// What to do about a file that is not in that order: quarantine: refuse the merge, or resort: sort it
    #[arg(long, value_name = "HOW", default_value = "quarantine", value_parser = on_unsorted)]
    pub(crate) unsorted: OnUnsorted,
    /// The directory of the outputs; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// The begin of the outputs' names; the directory must have none of that name
    #[arg(long, default_value = "merged", value_parser = stem)]
    pub(crate) stem: String,
    /// The memory that the merge may hold
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, default_value = "128MiB", value_parser = budget)]
    pub(crate) memory: u64,
    /// The size at which output files are rolled
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, default_value = "256MiB", value_parser = bytes)]
    pub(crate) target_file_size: u64,
    /// zstd(LEVEL), snappy, lz4 or none
    #[arg(long, default_value = "zstd(1)", value_parser = codec)]
    pub(crate) codec: Codec,
    /// Threads that decode and encode beside the one that merges (1: none), by default one a processor. Many of them
    /// take less memory with `MALLOC_ARENA_MAX=2` in the environment
    #[arg(long, value_name = "N", default_value_t = processors(), value_parser = threads)]
    pub(crate) threads: usize,
    /// Decode also those row groups that could be copied as they are
    #[arg(long)]
    pub(crate) no_copy: bool,
    /// Read the outputs again and compare their rows with those of the inputs
    #[arg(long)]
    pub(crate) verify: bool,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// The files
    #[arg(required = true, value_name = "FILES")]
    pub(crate) files: Vec<PathBuf>,
}

impl Args {
    pub(crate) fn merge_options(&self) -> MergeOptions {
        MergeOptions::default()
            .with_sort_order(self.sort_key.clone())
            .with_memory_budget_bytes(self.memory)
            .with_target_file_size_bytes(self.target_file_size)
            .with_codec(self.codec)
            .with_on_unsorted(self.unsorted)
            .with_copy_row_groups(!self.no_copy)
            .with_verify_reread(self.verify)
    }

    /// Where what does not fit into memory is put aside.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.output.join(self.scratch_name())
    }

    pub(crate) fn scratch_name(&self) -> String {
        format!(".{}-scratch", self.stem)
    }

    /// Refuses what can be told to be wrong before anything is touched.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Codec::Zstd(level) = self.codec
            && !(1..=22).contains(&level)
        {
            return Err(format!("--codec: zstd(1) to zstd(22): zstd({level})"));
        }
        if self.target_file_size == 0 {
            return Err("--target-file-size: no file is that small: 0".to_owned());
        }
        let mut columns = BTreeSet::new();
        for field in &self.sort_key {
            if !columns.insert(&field.column) {
                return Err(format!("--sort-key names a column twice: {}", field.column));
            }
        }
        let mut seen = BTreeSet::new();
        for file in &self.files {
            let known = file.metadata().map_err(|e| format!("{}: {e}", file.display()))?;
            if !known.is_file() {
                return Err(format!("not a file: {}", file.display()));
            }
            if !seen.insert(resolved(file).map_err(|e| format!("{}: {e}", file.display()))?) {
                return Err(format!("given twice: {}", file.display()));
            }
        }
        self.check_output()
    }

    fn check_output(&self) -> Result<(), String> {
        let unusable = |path: &Path, e: std::io::Error| format!("--output cannot be used: {}: {e}", path.display());
        if !self.output.exists() {
            return Ok(());
        }
        if !self.output.is_dir() {
            return Err(format!("--output is not a directory: {}", self.output.display()));
        }
        if self.scratch().exists() {
            let left = self.scratch();
            return Err(format!("a merge is under way or was killed: delete {}", left.display()));
        }
        let of_ours = format!("{}-", self.stem);
        for entry in self.output.read_dir().map_err(|e| unusable(&self.output, e))? {
            let name = entry.map_err(|e| unusable(&self.output, e))?.file_name();
            if name.to_string_lossy().starts_with(&of_ours) {
                let path = self.output.join(name);
                return Err(format!(
                    "--output holds a file of that stem already: {}",
                    path.display()
                ));
            }
        }
        Ok(())
    }
}

fn stem(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.starts_with('.') || !text.chars().all(is_plain) {
        return Err("letters, digits, `-`, `_` and `.`, the first of which is no `.`".to_owned());
    }
    Ok(text.to_owned())
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn budget(text: &str) -> Result<u64, String> {
    let budget = bytes(text)?;
    if budget < firnline::MIN_MEMORY_BUDGET_BYTES {
        return Err(format!("at least {} MiB", firnline::MIN_MEMORY_BUDGET_BYTES >> 20));
    }
    Ok(budget)
}
