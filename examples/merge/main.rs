//! The merger on its own, as a command on local files.
//!
//! ```text
//! cargo run --release --example merge -- --sort-key ts,id --output merged in/*.parquet
//! cargo run --release --example merge -- --help
//! ```

mod args;
#[path = "../support/command/mod.rs"]
mod command;
mod inputs;
mod report;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "a merge needs neither clock nor places")]
mod support;

use std::fmt::Display;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::{CommandFactory, Parser};
use firnline::object_store::ObjectStore;
use firnline::object_store::local::LocalFileSystem;
use firnline::object_store::path::Path as ObjectPath;
use firnline::{Error, ErrorKind, MergeError, MergeTarget, ParquetMerger, SortField};
use futures::executor::block_on;
use indicatif::{ProgressBar, ProgressStyle};

use args::Args;
use command::arguments::{helpers, reason};
use command::ending::{failed, put, quietly, refuse};
use inputs::Inputs;
use report::{Progress, Report};

/// Why there is no output.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something failed that may go well another time, or a bug.
    Failed(String),
    /// An input is bad; which, and why.
    Source(String),
    /// What was asked for cannot be.
    Usage(String),
}

impl Failure {
    fn of_file(file: &Path, error: impl Display) -> Self {
        Self::Failed(format!("{}: {error}", file.display()))
    }

    fn bad_source(file: &Path, reason: impl Display) -> Self {
        Self::Source(format!("{}: {reason}", file.display()))
    }

    fn bad_source_at(files: &[PathBuf], index: usize, reason: impl Display) -> Self {
        match files.get(index) {
            Some(file) => Self::bad_source(file, reason),
            None => Self::Source(reason.to_string()),
        }
    }

    /// A failed merge of `files`, which were to be in `order`.
    fn of_merge(error: MergeError, files: &[PathBuf], order: &[SortField]) -> Self {
        match error {
            MergeError::Source { index, reason: why } => Self::bad_source_at(files, index, reason(&why, order)),
            MergeError::SourceUnavailable { index, source } => match files.get(index) {
                Some(file) => Self::of_file(file, source.chain()),
                None => Self::Failed(source.chain()),
            },
            MergeError::Budget { .. } => Self::Usage(format!("--memory: {error}")),
            error if error.kind() == ErrorKind::Invalid => Self::Usage(error.to_string()),
            error => Self::Failed(Error::from(error).chain()),
        }
    }
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => return refuse(&error, std::env::args().any(|arg| arg == "--json")),
    };
    let done = args
        .check()
        .map_err(Failure::Usage)
        .and_then(|()| quietly(|| merge(&args)));
    let (message, code) = match done {
        Ok(report) => {
            let text = if args.json {
                format!("{:#}", report.document())
            } else {
                report.summary()
            };
            match put(&text) {
                Ok(()) => return ExitCode::SUCCESS,
                // The outputs are there.
                Err(message) => {
                    eprintln!("error: {message}");
                    return ExitCode::FAILURE;
                }
            }
        }
        Err(Failure::Usage(message)) => {
            let error = Args::command().error(clap::error::ErrorKind::ValueValidation, message);
            return refuse(&error, args.json);
        }
        Err(Failure::Failed(message)) => (message, 1),
        Err(Failure::Source(message)) => (message, 3),
    };
    eprintln!("error: {message}");
    failed(&message, code, args.json)
}

/// Merges, and leaves nothing but the outputs.
fn merge(args: &Args) -> Result<Report, Failure> {
    let is_new = !args.output.exists();
    let unusable = |e: std::io::Error| Failure::of_file(&args.output, e);
    std::fs::create_dir_all(&args.output).map_err(unusable)?;
    let done = block_on(merge_into(args));
    // It is there only if the merge did not fit into memory.
    if let Err(error) = std::fs::remove_dir_all(args.scratch())
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("left behind: {}: {error}", args.scratch().display());
    }
    if done.is_err() && is_new {
        // Only of what is empty; parents that were made stay.
        let _ = std::fs::remove_dir(&args.output);
    }
    done
}

async fn merge_into(args: &Args) -> Result<Report, Failure> {
    let start = Instant::now();
    let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
    let Inputs { files, sources, schema } = inputs::read(&*store, &args.files, &args.sort_key).await?;
    let dir = object_path(&args.output)?;
    let scratch = dir.clone().join(args.scratch_name());
    let target = MergeTarget {
        store: Arc::clone(&store),
        dir,
        stem: args.stem.clone(),
        schema,
        partitioner: None,
        key_value_metadata: Vec::new(),
        scratch: Some((Arc::clone(&store), scratch)),
    };
    let progress = Progress(progress_bar(args));
    let mut merger = ParquetMerger::new(args.merge_options());
    let pool = helpers(args.threads).map_err(|error| Failure::Failed(format!("threads: {error}")))?;
    if let Some(pool) = pool {
        merger = merger.with_spawner(pool);
    }
    let merged = merger.merge(&store, sources, target, &progress).await;
    progress.0.finish_and_clear();
    let output = merged.map_err(|error| Failure::of_merge(error, &files, &args.sort_key))?;
    Ok(Report {
        dir: args.output.clone(),
        sources: files.len(),
        output,
        elapsed: start.elapsed(),
    })
}

/// Where an existing directory lies in the store of the whole file system.
fn object_path(dir: &Path) -> Result<ObjectPath, Failure> {
    let dir = dir.canonicalize().map_err(|e| Failure::of_file(dir, e))?;
    ObjectPath::from_absolute_path(&dir).map_err(|e| Failure::of_file(&dir, e))
}

fn progress_bar(args: &Args) -> ProgressBar {
    if args.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} rows, {eta} to go") {
        bar.set_style(style);
    }
    bar
}
