//! The main job as a command, on anyone's directory.
//!
//! ```text
//! cargo run --release --example compact -- --bucket raw --tables tables --sort-key ts,id
//! cargo run --release --example compact -- --help
//! ```

mod args;
mod feed;
mod report;
#[path = "../support/mod.rs"]
mod support;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use firnline::delta::{DeltaOptions, DeltaTables};
use firnline::object_store::path::Path;
use firnline::{
    Clock, Compactor, CompactorBuilder, DefaultFileNames, Error, ErrorKind, Job, JobOutcome, Namespace, ObjectKey,
    ObjectStoreStateStore, Result,
};
use futures::executor::block_on;
use futures::future::{Either, select};
use futures_timer::Delay;
use indicatif::{ProgressBar, ProgressStyle};

use args::{Args, Format};
use feed::Feed;
use report::Report;
use support::{SystemClock, directory, directory_as_it_is};

/// A failed step is tried again this often before the command gives up.
const MOST_FAILURES: usize = 4;
/// Retries that are due later than this are left to the next run.
const LONGEST_RETRY_MS: u64 = 20_000;

fn main() -> ExitCode {
    let args = Args::parse();
    let usage = |message: String| {
        Args::command()
            .error(clap::error::ErrorKind::ValueValidation, message)
            .exit()
    };
    if args.format == Format::Iceberg {
        usage("--format iceberg is not there yet: use --format delta".to_owned());
    }
    if !args.bucket.is_dir() {
        usage(format!("--bucket is not a directory: {}", args.bucket.display()));
    }
    match block_on(command(&args)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {}", error.chain());
            let bad_usage = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported);
            ExitCode::from(if bad_usage { 2 } else { 1 })
        }
    }
}

async fn command(args: &Args) -> Result<u8> {
    let clock = SystemClock::starting_at(args.now);
    let builder = builder(args)?;
    let mut compactor = match args.status {
        true => builder.open_read_only(clock.now()).await?,
        false => builder.open(clock.now()).await?,
    };
    let mut host = Host {
        args,
        clock,
        report: Report::default(),
        progress: progress(args),
    };
    if !args.status {
        host.doors(&mut compactor).await?;
        match args.watch {
            true => host.watch(&mut compactor).await?,
            false => host.once(&mut compactor).await?,
        }
    }
    host.progress.finish_and_clear();
    host.print(&compactor)
}

fn builder(args: &Args) -> Result<CompactorBuilder> {
    let options = args.options();
    let open = if args.status { directory_as_it_is } else { directory };
    let bucket = open(&args.bucket)?;
    let tables = open(&args.tables)?;
    let control = open(&args.control())?;
    let state = ObjectStoreStateStore::new(Arc::clone(control.store()), Path::from("state"));
    let delta = DeltaOptions::default().with_horizon_ms(options.horizon_ms);
    let root = tables.url().to_owned();
    let tables = DeltaTables::new(tables.url(), Arc::clone(tables.store()), Path::default(), delta);
    Ok(CompactorBuilder::new(bucket, control, tables, state, options).with_tables_root(root))
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
    report: Report,
    progress: ProgressBar,
}

impl Host<'_> {
    fn say(&self, line: &str) {
        if !self.args.json {
            self.progress.suspend(|| println!("{line}"));
        }
    }

    async fn doors(&self, compactor: &mut Compactor) -> Result<()> {
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
            self.say(&door.to_string());
            compactor.go_through(door, self.clock.now()).await?;
        }
        Ok(())
    }

    /// Takes in what there is, does what is due, and tries again what failed.
    async fn once(&mut self, compactor: &mut Compactor) -> Result<()> {
        self.take_in(compactor).await?;
        if self.args.drain {
            compactor.drain(None);
        }
        let mut failures = 0;
        loop {
            self.report.errors.clear();
            while let Some(job) = compactor.poll_job(self.clock.now()) {
                self.run_job(compactor, job).await?;
            }
            let now = self.clock.now();
            let retry = compactor
                .next_deadline(now)
                .filter(|at| at.millis_since(now) <= LONGEST_RETRY_MS);
            match retry {
                Some(at) if !self.report.errors.is_empty() && failures < MOST_FAILURES => {
                    failures += 1;
                    self.clock.sleep_until(at).await;
                }
                _ => return Ok(()),
            }
        }
    }

    async fn take_in(&self, compactor: &mut Compactor) -> Result<()> {
        let Some(path) = &self.args.events else {
            compactor.reconcile(self.clock.now()).await?;
            return Ok(());
        };
        for batch in feed::batches(path)? {
            for line in &batch.bad {
                self.say(&format!("skipped: {line}"));
            }
            let handled = compactor.handle_events(&batch.events, self.clock.now()).await;
            for error in handled.outcomes().iter().filter_map(|outcome| outcome.as_ref().err()) {
                if error.kind() != ErrorKind::Halted {
                    return Err(
                        Error::new(error.kind(), "events could not be recorded: give them again")
                            .with_source(error.chain()),
                    );
                }
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
                Either::Right((_, running)) => {
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

    async fn watch(&mut self, compactor: &mut Compactor) -> Result<()> {
        if self.args.drain {
            compactor.reconcile(self.clock.now()).await?;
            compactor.drain(None);
        }
        let feed = match &self.args.events {
            Some(path) => Feed::of_notifications(path.clone()),
            None => Feed::of_directory(
                directory(&self.args.bucket)?,
                self.args.options().namespace_prefix,
                self.clock.clone(),
            ),
        };
        self.say("watching; interrupt to stop");
        compactor.run(&feed, &self.clock).await
    }

    fn print(&self, compactor: &Compactor) -> Result<u8> {
        let now = self.clock.now();
        let status = compactor.status(now);
        let code = match () {
            () if !self.report.errors.is_empty() => 1,
            () if status.quarantine.count > 0 || !status.halts.is_empty() => 3,
            () => 0,
        };
        let text = if self.args.json {
            let options = self.args.options().validated()?;
            let document = self
                .report
                .document(compactor, &DefaultFileNames::from_options(&options), now, code);
            format!("{document:#}\n")
        } else if self.args.status {
            let text = serde_json::to_string_pretty(&status);
            format!(
                "{}\n",
                text.map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))?
            )
        } else {
            report::summary(&self.report, compactor, now)
        };
        // A reader that has seen enough closes the pipe; that is not an error of ours.
        let _ = std::io::stdout().write_all(text.as_bytes());
        Ok(code)
    }
}
