//! What the command prints.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use firnline::{DataFile, MergeObserver, MergeOutput};
use indicatif::ProgressBar;
use serde_json::{Value, json};

/// A bar that grows with the rows that have been merged.
#[derive(Debug)]
pub(crate) struct Progress(pub(crate) ProgressBar);

impl MergeObserver for Progress {
    fn rows(&self, merged: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(merged);
    }
}

/// What a merge has come to.
#[derive(Debug)]
pub(crate) struct Report {
    /// Where the outputs lie.
    pub(crate) dir: PathBuf,
    pub(crate) sources: usize,
    pub(crate) output: MergeOutput,
    /// From before the first footer is read until the outputs are complete.
    pub(crate) elapsed: Duration,
}

impl Report {
    /// The document of `--json`.
    pub(crate) fn document(&self) -> Value {
        let output = &self.output;
        let files = output.files.iter().map(|file| {
            json!({
                "path": self.path(file),
                "bytes": file.size,
                "rows": file.rows,
                "rowGroups": file.split_offsets.len(),
                "sorted": file.sorted,
            })
        });
        json!({
            "sources": self.sources,
            "rows": output.rows,
            "rowsCopied": output.rows_copied,
            "bytesIn": output.bytes_in,
            "bytesOut": output.bytes_out,
            "files": files.collect::<Vec<_>>(),
            "rowGroups": self.row_groups(),
            "seconds": self.elapsed.as_secs_f64(),
            "rowsPerSecond": self.rows_per_second(),
            "peakMemoryBytes": output.peak_memory_bytes,
            "exitCode": 0,
        })
    }

    /// The end of the run for a person.
    pub(crate) fn summary(&self) -> String {
        let output = &self.output;
        let mut lines: Vec<String> = output
            .files
            .iter()
            .map(|file| {
                format!(
                    "{}: {} rows, {}",
                    self.path(file).display(),
                    file.rows,
                    ByteSize(file.size)
                )
            })
            .collect();
        lines.push(format!(
            "{} files, {} rows, {} -> {} in {} files and {} row groups",
            self.sources,
            output.rows,
            ByteSize(output.bytes_in),
            ByteSize(output.bytes_out),
            output.files.len(),
            self.row_groups(),
        ));
        if output.rows_copied > 0 {
            lines.push(format!("{} rows in row groups copied as they are", output.rows_copied));
        }
        lines.push(format!(
            "{:.2} s, {} rows/s, at most {} counted against the budget",
            self.elapsed.as_secs_f64(),
            self.rows_per_second(),
            ByteSize(output.peak_memory_bytes),
        ));
        lines.join("\n")
    }

    /// Where an output lies: its name is the last part of the object's path, which is written as it is.
    fn path(&self, file: &DataFile) -> PathBuf {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        self.dir.join(name)
    }

    fn row_groups(&self) -> usize {
        self.output.files.iter().map(|file| file.split_offsets.len()).sum()
    }

    fn rows_per_second(&self) -> u64 {
        let micros = self.elapsed.as_micros().max(1);
        u64::try_from(u128::from(self.output.rows) * 1_000_000 / micros).unwrap_or(u64::MAX)
    }
}
