//! The main job as a command, on anyone's directory.
//!
//! ```text
//! cargo run --release --example compact -- --bucket raw --tables tables --sort-key ts,id
//! cargo run --release --example compact -- --help
//! ```

mod args;
#[path = "../support/command/mod.rs"]
mod command;
mod feed;
mod interrupt;
mod report;
#[path = "../support/mod.rs"]
mod support;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use firnline::delta::{DeltaOptions, DeltaTables};
use firnline::iceberg::{IcebergOptions, IcebergTables};
use firnline::object_store::path::Path as ObjectPath;
use firnline::{
    Clock, Compactor, CompactorBuilder, DefaultFileNames, Error, ErrorKind, Job, JobOutcome, Namespace, ObjectKey,
    ObjectStoreStateStore, Place, Result, TableProvider, ValidOptions,
};
use futures::executor::block_on;
use futures::future::{Either, pending, select};
use futures_timer::Delay;
use indicatif::{ProgressBar, ProgressStyle};

use args::{Args, Format};
use command::arguments::helpers;
use command::ending::{failed, put, quietly, refuse};
use feed::{Batch, Feed};
use interrupt::Interrupt;
use report::Report;
use support::{SystemClock, directory, directory_as_it_is, resolved};

/// A failed step is tried again this often before the command gives up.
const MOST_FAILURES: usize = 4;
/// What is due later than this is left to the next run.
const LONGEST_WAIT_MS: u64 = 20_000;
/// How often a directory is looked at.
const LOOK_EVERY_MS: u64 = 2_000;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => return refuse(&error, std::env::args().any(|arg| arg == "--json")),
    };
    let options = match checked(&args) {
        Ok(options) => options,
        Err(message) => {
            let error = Args::command().error(clap::error::ErrorKind::ValueValidation, message);
            return refuse(&error, args.json);
        }
    };
    match quietly(|| block_on(command(&args, &options))) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let bad_usage = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported);
            let code = if bad_usage { 2 } else { 1 };
            eprintln!("error: {}", error.chain());
            failed(&error.chain(), code, args.json)
        }
    }
}

/// The settings, with all that can be refused before anything is touched.
fn checked(args: &Args) -> std::result::Result<ValidOptions, String> {
    let options = args.valid_options()?;
    args.check_doors(&DefaultFileNames::from_options(&options))?;
    if !args.bucket.is_dir() {
        return Err(format!("--bucket is not a directory: {}", args.bucket.display()));
    }
    let resolve = |option: &str, path: &Path| {
        if path.exists() && !path.is_dir() {
            return Err(format!("{option} is not a directory: {}", path.display()));
        }
        resolved(path).map_err(|e| format!("{option} cannot be used: {}: {e}", path.display()))
    };
    let sources = resolve("--bucket", &args.bucket)?.join(&options.namespace_prefix);
    let tables = resolve("--tables", &args.tables)?;
    let control = resolve("--control", &args.control())?;
    for (a, a_path, b, b_path) in [
        ("--tables", &tables, "--bucket with --prefix", &sources),
        ("--tables", &tables, "--control", &control),
        ("--control", &control, "--bucket with --prefix", &sources),
    ] {
        if a_path.starts_with(b_path) || b_path.starts_with(a_path) {
            let (a_path, b_path) = (a_path.display(), b_path.display());
            return Err(format!("{a} and {b} must lie apart: {a_path} and {b_path}"));
        }
    }
    Ok(options)
}

async fn command(args: &Args, options: &ValidOptions) -> Result<u8> {
    let feed = args.events.as_deref().map(Feed::open).transpose()?;
    let interrupt = Interrupt::listen();
    let clock = SystemClock::starting_at(args.now);
    let builder = builder(args, options)?;
    let mut compactor = if args.status {
        builder.open_read_only(clock.now()).await?
    } else {
        builder.open(clock.now()).await?
    };
    let mut host = Host {
        args,
        clock,
        interrupt,
        report: Report::new(args.sort_key.clone()),
        progress: progress(args),
    };
    if !args.status {
        host.doors(&mut compactor).await?;
        let done = if args.watch {
            host.watch(&mut compactor, feed).await
        } else {
            host.once(&mut compactor, feed).await
        };
        if let Err(error) = done {
            host.report.errors.push(error.chain());
        }
    }
    host.progress.finish_and_clear();
    host.print(&compactor, &DefaultFileNames::from_options(options))
}

fn builder(args: &Args, options: &ValidOptions) -> Result<CompactorBuilder> {
    let open = if args.status { directory_as_it_is } else { directory };
    let bucket = open(&args.bucket)?;
    let tables = open(&args.tables)?;
    let control = open(&args.control())?;
    let state = ObjectStoreStateStore::new(Arc::clone(control.store()), ObjectPath::from("state"));
    let root = tables.url().to_owned();
    let tables = providers(&tables, args, options);
    let options = (**options).clone();
    let builder = CompactorBuilder::new(bucket, control, tables, state, options).with_tables_root(root);
    let pool = helpers(args.threads).map_err(|e| Error::new(ErrorKind::Internal, format!("threads: {e}")))?;
    Ok(match pool {
        Some(pool) => builder.with_spawner(pool),
        None => builder,
    })
}

/// One table per namespace, in the format that is asked for.
fn providers(place: &Place, args: &Args, options: &ValidOptions) -> Arc<dyn TableProvider> {
    let (url, store) = (place.url(), Arc::clone(place.store()));
    match args.format {
        Format::Delta => {
            let delta = DeltaOptions::default().with_horizon_ms(options.horizon_ms);
            Arc::new(DeltaTables::new(url, store, ObjectPath::default(), delta))
        }
        Format::Iceberg => {
            let iceberg = IcebergOptions::default().with_format_version(args.iceberg_version);
            Arc::new(IcebergTables::new(url, store, ObjectPath::default(), iceberg))
        }
    }
}

fn progress(args: &Args) -> ProgressBar {
    if args.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {wide_bar} {human_pos}/{human_len} rows") {
        bar.set_style(style);
    }
    bar
}

/// The host of a compactor: its clock, its loop, its terminal.
struct Host<'a> {
    args: &'a Args,
    clock: SystemClock,
    interrupt: Interrupt,
    report: Report,
    progress: ProgressBar,
}

impl Host<'_> {
    fn say(&self, line: &str) {
        if !self.args.json {
            // What cannot be written is told at the end, where it fails again.
            let _ = self.progress.suspend(|| put(line));
        }
    }

    async fn doors(&mut self, compactor: &mut Compactor) -> Result<()> {
        let mut doors = Vec::new();
        for key in &self.args.release {
            doors.push(compactor.release(&ObjectKey::new(key))?);
        }
        for key in &self.args.discard {
            doors.push(compactor.discard(&ObjectKey::new(key))?);
        }
        for namespace in &self.args.replay {
            doors.push(compactor.replay(&Namespace::new(namespace)).await?);
        }
        for namespace in &self.args.adopt {
            doors.push(compactor.adopt(&Namespace::new(namespace)).await?);
        }
        for door in doors {
            let told = door.to_string();
            self.say(&told);
            self.report.doors.push(told);
            compactor.go_through(door, self.clock.now()).await?;
        }
        Ok(())
    }

    /// Takes in what there is, and does what is due.
    async fn once(&mut self, compactor: &mut Compactor, feed: Option<Feed>) -> Result<()> {
        let mut listed = Ok(());
        match feed {
            None => {
                listed = compactor.reconcile(self.clock.now()).await.map(|_| ());
                if listed.as_ref().is_err_and(Error::is_retryable) {
                    return listed;
                }
            }
            Some(mut feed) => {
                while let Some(batch) = self.unless_interrupted(feed.next()).await {
                    match batch? {
                        Some(batch) => self.take_in(compactor, batch).await?,
                        None => break,
                    }
                }
            }
        }
        if self.args.drain {
            compactor.drain(None);
        }
        self.finish(compactor).await?;
        listed
    }

    /// Takes in what comes and does what becomes due, until the events end.
    async fn watch(&mut self, compactor: &mut Compactor, mut feed: Option<Feed>) -> Result<()> {
        self.say("watching; interrupt to stop");
        let mut to_drain = self.args.drain;
        loop {
            self.report.errors.clear();
            if feed.is_none() {
                match compactor.reconcile(self.clock.now()).await {
                    Err(error) if !error.is_retryable() && error.kind() != ErrorKind::Invalid => return Err(error),
                    Err(error) => self.say(&format!("failed: {}", error.chain())),
                    Ok(_) if std::mem::take(&mut to_drain) => compactor.drain(None),
                    Ok(_) => {}
                }
            }
            self.work(compactor).await?;
            match self.unless_interrupted(self.wait(compactor, feed.as_mut())).await {
                None => return Ok(()),
                Some(batch) => match batch? {
                    Some(batch) => self.take_in(compactor, batch).await?,
                    None => break,
                },
            }
        }
        if to_drain {
            compactor.drain(None);
        }
        self.finish(compactor).await
    }

    /// Waits for something; `None` once the end is asked for.
    async fn unless_interrupted<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        let asked = self.interrupt.asked();
        futures::pin_mut!(asked, wait);
        match select(asked, wait).await {
            Either::Left(_) => None,
            Either::Right((done, _)) => Some(done),
        }
    }

    /// Waits for events, or until there may be something to do; `None` when the events have ended.
    async fn wait(&self, compactor: &Compactor, feed: Option<&mut Feed>) -> Result<Option<Batch>> {
        let now = self.clock.now();
        let look_at = feed.is_none().then(|| now + LOOK_EVERY_MS);
        let wake_at = compactor.next_deadline(now).into_iter().chain(look_at).min();
        let sleep = async {
            match wake_at {
                // What is due and was not given is asked for again, not too often.
                Some(at) => self.clock.sleep_until(at.max(now + 100)).await,
                None => pending().await,
            }
        };
        let batch = async {
            match feed {
                Some(feed) => feed.next().await,
                None => pending().await,
            }
        };
        futures::pin_mut!(sleep, batch);
        match select(batch, sleep).await {
            Either::Left((batch, _)) => batch,
            Either::Right(_) => Ok(Some(Batch::default())),
        }
    }

    /// Does all that is due now, or soon when files were watched, and tries again what failed.
    async fn finish(&mut self, compactor: &mut Compactor) -> Result<()> {
        let mut failures = 0;
        loop {
            self.report.errors.clear();
            self.work(compactor).await?;
            let now = self.clock.now();
            let soon = compactor
                .next_deadline(now)
                .filter(|at| at.millis_since(now) <= LONGEST_WAIT_MS);
            let Some(at) = soon else { return Ok(()) };
            let failed = !self.report.errors.is_empty();
            if failed {
                failures += 1;
            }
            if failures > MOST_FAILURES || !(failed || self.args.watch) {
                return Ok(());
            }
            if self.unless_interrupted(self.clock.sleep_until(at)).await.is_none() {
                return Ok(());
            }
        }
    }

    async fn work(&mut self, compactor: &mut Compactor) -> Result<()> {
        while !self.interrupt.is_asked()
            && let Some(job) = compactor.poll_job(self.clock.now())
        {
            self.run_job(compactor, job).await?;
        }
        Ok(())
    }

    /// Records notifications. What belongs to a halted namespace is shown in the status, and has to come again.
    async fn take_in(&mut self, compactor: &mut Compactor, batch: Batch) -> Result<()> {
        for (line, error) in &batch.bad {
            self.report.skipped_lines += 1;
            compactor.bad_message(error);
            self.progress.suspend(|| eprintln!("skipped: line {line}: {error}"));
        }
        let handled = compactor.handle_events(&batch.events, self.clock.now()).await;
        for error in handled.outcomes().iter().filter_map(|outcome| outcome.as_ref().err()) {
            if error.kind() != ErrorKind::Halted {
                let message = "events could not be recorded: give them again";
                return Err(Error::new(error.kind(), message).with_source(error.chain()));
            }
        }
        Ok(())
    }

    /// Runs one job, showing how far it is.
    async fn run_job(&mut self, compactor: &mut Compactor, job: Job) -> Result<()> {
        let namespace = job.namespace().clone();
        let mut run = Box::pin(job.run());
        let outcome: JobOutcome = loop {
            match select(run, Delay::new(Duration::from_millis(100))).await {
                Either::Left((outcome, _)) => break outcome,
                Either::Right(((), running)) => {
                    run = running;
                    self.show(compactor);
                }
            }
        };
        let report = compactor.finish_job(outcome, self.clock.now()).await?;
        if let Some(error) = &report.error {
            self.report.errors.push(format!("{namespace}: {}", error.chain()));
        }
        for line in self.report.add(&namespace, &report) {
            self.say(&line);
        }
        Ok(())
    }

    fn show(&self, compactor: &Compactor) {
        let status = compactor.status(self.clock.now());
        if let Some((plan, progress)) = status.plans.iter().find_map(|plan| Some((plan, plan.progress?))) {
            self.progress
                .set_message(format!("{} seq {}", plan.window_key, plan.seq));
            self.progress.set_length(progress.rows_total);
            self.progress.set_position(progress.rows_done);
        }
    }

    fn print(&self, compactor: &Compactor, parser: &DefaultFileNames) -> Result<u8> {
        let now = self.clock.now();
        let status = compactor.status(now);
        let code = if !self.report.errors.is_empty() {
            1
        } else if status.quarantine.count > 0 || !status.halts.is_empty() {
            3
        } else {
            0
        };
        for error in &self.report.errors {
            eprintln!("error: {error}");
        }
        let text = if self.args.json {
            format!("{:#}", self.report.document(compactor, parser, now, code))
        } else if self.args.status {
            serde_json::to_string_pretty(&status).map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))?
        } else {
            report::summary(&self.report, compactor, now)
        };
        put(text.trim_end()).map_err(|message| Error::new(ErrorKind::Unavailable, message))?;
        Ok(code)
    }
}
