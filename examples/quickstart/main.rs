//! Three hours of four writers' files become one table, in a second, without a server: a Delta table, then an Iceberg
//! table.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! Notifications arrive shuffled, some of them twice; one writer falls silent, one file comes late, one is damaged. The
//! example prints what happens and checks itself: it ends with `all checks passed`.

#![allow(
    clippy::indexing_slicing,
    reason = "an example that checks itself stops at whatever it finds wrong"
)]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "this host sets its clock itself")]
mod support;
mod tables;
mod writers;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firnline::delta::{DeltaOptions, DeltaTables};
use firnline::event::r2;
use firnline::iceberg::{IcebergOptions, IcebergTables};
use firnline::object_store::path::Path as ObjectPath;
use firnline::{
    CommittedPlan, Compactor, CompactorBuilder, ObjectStoreStateStore, Options, SortField, TableFormat, TableProvider,
    Timestamp,
};
use futures::executor::block_on;

use support::directory;
use tables::{distinct_ids, files_below, live_files, newest_metadata};
use writers::{DAMAGED, HOUR_MS, Result, START_MS, Written, write_late, write_three_hours};

fn main() -> Result<()> {
    let home = fresh(std::env::args_os().nth(1))?;
    let done = run(&home, TableFormat::Delta, |line| println!("{line}"))?;
    let table = home.join("tables/readings").canonicalize()?;
    println!("\nOpen the table:");
    println!(
        "  duckdb -c \"INSTALL delta; LOAD delta; SELECT sensor, count(*) FROM delta_scan('{}') GROUP BY ALL\"",
        table.display()
    );
    println!(
        "  python -c \"from deltalake import DeltaTable; print(DeltaTable('{}').to_pyarrow_table())\"",
        table.display()
    );

    let iceberg = run(&home.join("iceberg"), TableFormat::Iceberg, |_| ())?;
    let table = home.join("iceberg/tables/readings").canonicalize()?;
    println!(
        "\nThe same as an Iceberg table: {} files, {} rows. Open it:",
        iceberg.files, iceberg.rows
    );
    println!(
        "  duckdb -c \"INSTALL iceberg; LOAD iceberg; SELECT sensor, count(*) FROM iceberg_scan('{}') GROUP BY ALL\"",
        table.display()
    );
    println!(
        "  python -c \"from pyiceberg.table import StaticTable; print(StaticTable.from_metadata('{}').scan().to_arrow())\"",
        newest_metadata(&table)?.display()
    );
    assert_eq!(iceberg, done, "both tables hold the same");
    println!("\nall checks passed");
    Ok(())
}

/// What a table has come to.
#[derive(Debug, PartialEq, Eq)]
struct Done {
    files: usize,
    rows: u64,
}

/// The whole story in a directory of its own, checked at its end; `say` is told what happens.
fn run(home: &Path, format: TableFormat, say: impl Fn(String)) -> Result<Done> {
    let bucket = home.join("bucket");
    std::fs::create_dir_all(&bucket)?;
    let mut written = write_three_hours(&bucket)?;
    say(format!("Four writers have written {} files:", written.len()));
    for file in written.iter().step_by(18) {
        say(format!("  {} ({} rows, {} bytes)", file.key, file.rows, file.bytes));
    }

    // The clock is a number: this host sets it, another asks the system.
    let mut now = Timestamp::from_millis(START_MS + 3 * HOUR_MS);
    let mut compactor = block_on(compactor(home, format)?.open(now))?;
    notify(&mut compactor, &shuffled_and_some_twice(&written), now);
    say("\nThe status while windows wait for their writers:".to_owned());
    say(serde_json::to_string_pretty(&compactor.status(now))?);

    let mut plans = work_until(&mut compactor, &mut now, START_MS + 4 * HOUR_MS)?;
    let late = write_late(&bucket)?;
    say(format!("\nA late file arrives: {}", late.key));
    notify(&mut compactor, std::slice::from_ref(&late.notification), now);
    written.push(late);
    plans.extend(work_until(&mut compactor, &mut now, START_MS + 36 * HOUR_MS)?);

    say("\nPlans committed:".to_owned());
    for plan in &plans {
        let to = plan.outputs.len();
        say(format!(
            "  seq {} {} generation {}: {} files -> {to}, {} rows",
            plan.seq, plan.window_key, plan.generation, plan.sources, plan.rows
        ));
    }
    let status = compactor.status(now);
    say("\nIn quarantine:".to_owned());
    for file in &status.quarantine.files {
        say(format!("  {}: {}", file.key, file.reason));
    }
    let left = files_below(&bucket.join("data"))?;
    let live = live_files(&home.join("tables/readings"), format)?;
    let (before, after): (u64, u64) = (
        written.iter().map(|file| file.bytes).sum(),
        live.iter().map(|file| file.bytes).sum(),
    );
    let rows_in: u64 = written.iter().map(|file| file.rows).sum();
    let rows: u64 = live.iter().map(|file| file.rows).sum();
    say(format!(
        "\nBefore: {} files, {before} bytes, {rows_in} rows",
        written.len()
    ));
    say(format!(
        "After:  {} files, {after} bytes, {rows} rows in the table; {} file left in the bucket",
        live.len(),
        left.len()
    ));

    let damaged: Vec<_> = status
        .quarantine
        .files
        .iter()
        .map(|file| file.key.to_string())
        .collect();
    assert_eq!(
        damaged,
        [written[DAMAGED].key.clone()],
        "the damaged file, and no other, is in quarantine"
    );
    assert_eq!(
        left,
        [bucket.join(&damaged[0])],
        "only what is in quarantine is left in the bucket"
    );
    assert_eq!(rows, rows_in - written[DAMAGED].rows, "every other row is in the table");
    assert_eq!(distinct_ids(&live)?, rows, "and each of them once");
    assert_eq!(live.len(), 4, "three windows, and the late file's generation");
    assert!(
        status.halts.is_empty() && status.windows.is_empty() && status.plans.is_empty(),
        "nothing is left to do"
    );
    Ok(Done {
        files: live.len(),
        rows,
    })
}

/// The directory given, or one of our own; emptied only if an earlier run has made it.
fn fresh(given: Option<OsString>) -> Result<PathBuf> {
    if given
        .as_ref()
        .is_some_and(|given| given.as_encoded_bytes().starts_with(b"-"))
    {
        return Err("usage: quickstart [DIRECTORY], by default target/quickstart".into());
    }
    let by_default = given.is_none();
    let home = given.map_or_else(|| PathBuf::from("target/quickstart"), PathBuf::from);
    let ours = home.join(".firnline-quickstart");
    if home.exists() && (by_default || ours.exists()) {
        std::fs::remove_dir_all(&home)?;
    }
    if home.exists() && home.read_dir()?.next().is_some() {
        return Err(format!(
            "the directory is not empty, and not of an earlier run: {}",
            home.display()
        )
        .into());
    }
    std::fs::create_dir_all(&home)?;
    std::fs::write(ours, "")?;
    Ok(home)
}

/// The parts of a compactor on a local directory.
fn compactor(home: &Path, format: TableFormat) -> Result<CompactorBuilder> {
    let options = Options::default()
        .with_target_format(format)
        .with_sort_order(vec![SortField::ascending("ts"), SortField::ascending("id")])
        .with_delete_grace_ms(600_000);
    let bucket = directory(&home.join("bucket"))?;
    let tables = directory(&home.join("tables"))?;
    let control = directory(&home.join("control"))?;
    let state = ObjectStoreStateStore::new(Arc::clone(control.store()), ObjectPath::from("state"));
    let (url, store, root) = (tables.url(), Arc::clone(tables.store()), ObjectPath::default());
    let tables: Arc<dyn TableProvider> = match format {
        TableFormat::Delta => Arc::new(DeltaTables::new(url, store, root, DeltaOptions::default())),
        TableFormat::Iceberg => Arc::new(IcebergTables::new(url, store, root, IcebergOptions::default())),
        other => return Err(format!("there is no {other:?} table").into()),
    };
    Ok(CompactorBuilder::new(bucket, control, tables, state, options))
}

fn notify(compactor: &mut Compactor, notifications: &[String], now: Timestamp) {
    let mut events = Vec::new();
    for notification in notifications {
        for event in r2::parse(notification.as_bytes()) {
            match event {
                Ok(event) => events.push(event),
                Err(error) => compactor.bad_message(&error),
            }
        }
    }
    let handled = block_on(compactor.handle_events(&events, now));
    assert!(
        handled.all_saved(),
        "only now may the messages be acknowledged: {handled:?}"
    );
}

/// Does what is due, then sets the clock to the next deadline, until nothing is due before `until_ms`.
fn work_until(compactor: &mut Compactor, now: &mut Timestamp, until_ms: i64) -> Result<Vec<CommittedPlan>> {
    let mut plans = Vec::new();
    loop {
        while let Some(job) = compactor.poll_job(*now) {
            let outcome = block_on(job.run());
            let report = block_on(compactor.finish_job(outcome, *now))?;
            if let Some(error) = report.error {
                return Err(error.into());
            }
            plans.extend(report.committed);
        }
        match compactor.next_deadline(*now) {
            Some(next) if next.as_millis() <= until_ms => *now = next,
            _ => return Ok(plans),
        }
    }
}

/// All notifications in an order of their own, every fifth of them once more.
fn shuffled_and_some_twice(written: &[Written]) -> Vec<String> {
    let mut notifications: Vec<String> = written.iter().map(|file| file.notification.clone()).collect();
    notifications.extend(written.iter().step_by(5).map(|file| file.notification.clone()));
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    for last in (1..notifications.len()).rev() {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        notifications.swap(last, (random >> 33) as usize % (last + 1));
    }
    notifications
}
