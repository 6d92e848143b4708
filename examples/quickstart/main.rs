//! Three hours of four writers' files become one table, in a second, without a server.
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
mod writers;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firnline::delta::{DeltaOptions, DeltaTables};
use firnline::event::r2;
use firnline::object_store::path::Path as ObjectPath;
use firnline::parquet::file::reader::FileReader;
use firnline::parquet::file::serialized_reader::SerializedFileReader;
use firnline::{
    CommittedPlan, Compactor, CompactorBuilder, ObjectStoreStateStore, Options, SortField, TableFormat, Timestamp,
};
use futures::executor::block_on;

use support::directory;
use writers::{DAMAGED, HOUR_MS, Result, START_MS, Written, write_late, write_three_hours};

fn main() -> Result<()> {
    let home = fresh(std::env::args_os().nth(1))?;
    let bucket = home.join("bucket");
    std::fs::create_dir_all(&bucket)?;
    let mut written = write_three_hours(&bucket)?;
    println!("Four writers have written {} files:", written.len());
    for file in written.iter().step_by(18) {
        println!("  {} ({} rows, {} bytes)", file.key, file.rows, file.bytes);
    }

    // The clock is a number: this host sets it, another asks the system.
    let mut now = Timestamp::from_millis(START_MS + 3 * HOUR_MS);
    let mut compactor = block_on(compactor(&home)?.open(now))?;
    notify(&mut compactor, &shuffled_and_some_twice(&written), now);
    println!("\nThe status while windows wait for their writers:");
    println!("{}", serde_json::to_string_pretty(&compactor.status(now))?);

    let mut plans = work_until(&mut compactor, &mut now, START_MS + 4 * HOUR_MS)?;
    let late = write_late(&bucket)?;
    println!("\nA late file arrives: {}", late.key);
    notify(&mut compactor, std::slice::from_ref(&late.notification), now);
    written.push(late);
    plans.extend(work_until(&mut compactor, &mut now, START_MS + 36 * HOUR_MS)?);

    println!("\nPlans committed:");
    for plan in &plans {
        let to = plan.outputs.len();
        println!(
            "  seq {} {} generation {}: {} files -> {to}, {} rows",
            plan.seq, plan.window_key, plan.generation, plan.sources, plan.rows
        );
    }
    let status = compactor.status(now);
    println!("\nIn quarantine:");
    for file in &status.quarantine.files {
        println!("  {}: {}", file.key, file.reason);
    }
    let (left, live) = (
        files_below(&bucket.join("data"))?,
        table_files(&home.join("tables/readings"))?,
    );
    let (before, after): (u64, u64) = (
        written.iter().map(|file| file.bytes).sum(),
        live.iter().map(|file| file.1).sum(),
    );
    let rows_in: u64 = written.iter().map(|file| file.rows).sum();
    let rows_out: u64 = live.iter().map(|file| file.2).sum();
    println!("\nBefore: {} files, {before} bytes, {rows_in} rows", written.len());
    println!(
        "After:  {} files, {after} bytes, {rows_out} rows in the table; {} file left in the bucket",
        live.len(),
        left.len()
    );

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
    let damaged_rows: u64 = written
        .iter()
        .filter(|file| damaged.contains(&file.key))
        .map(|file| file.rows)
        .sum();
    assert_eq!(rows_out, rows_in - damaged_rows, "every other row is in the table");
    assert_eq!(distinct_ids(&live)?, rows_out, "and each of them once");
    assert_eq!(live.len(), 4, "three windows, and the late file's generation");
    assert!(
        status.halts.is_empty() && status.windows.is_empty() && status.plans.is_empty(),
        "nothing is left to do"
    );

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
    println!("\nall checks passed");
    Ok(())
}

/// The directory given, or one of our own; emptied only if an earlier run has made it.
fn fresh(given: Option<OsString>) -> Result<PathBuf> {
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
fn compactor(home: &Path) -> Result<CompactorBuilder> {
    let options = Options::default()
        .with_target_format(TableFormat::Delta)
        .with_sort_order(vec![SortField::ascending("ts"), SortField::ascending("id")])
        .with_delete_grace_ms(600_000);
    let bucket = directory(&home.join("bucket"))?;
    let tables = directory(&home.join("tables"))?;
    let control = directory(&home.join("control"))?;
    let state = ObjectStoreStateStore::new(Arc::clone(control.store()), ObjectPath::from("state"));
    let tables = DeltaTables::new(
        tables.url(),
        Arc::clone(tables.store()),
        ObjectPath::default(),
        DeltaOptions::default(),
    );
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

/// The files that a table's log says are live, with their size and rows: a reader in a few lines.
fn table_files(table: &Path) -> Result<Vec<(PathBuf, u64, u64)>> {
    let mut commits = files_below(&table.join("_delta_log"))?;
    commits.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    let mut live = BTreeMap::new();
    for commit in commits {
        for line in std::fs::read_to_string(commit)?.lines() {
            let action: serde_json::Value = serde_json::from_str(line)?;
            if let (Some(path), Some(size)) = (action["add"]["path"].as_str(), action["add"]["size"].as_u64()) {
                let rows = SerializedFileReader::new(std::fs::File::open(table.join(path))?)?
                    .metadata()
                    .file_metadata()
                    .num_rows();
                live.insert(table.join(path), (size, u64::try_from(rows)?));
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                live.remove(&table.join(path));
            }
        }
    }
    Ok(live
        .into_iter()
        .map(|(path, (size, rows))| (path, size, rows))
        .collect())
}

fn distinct_ids(files: &[(PathBuf, u64, u64)]) -> Result<u64> {
    let mut ids = std::collections::BTreeSet::new();
    for (path, _, _) in files {
        let reader = SerializedFileReader::new(std::fs::File::open(path)?)?;
        for row in reader.get_row_iter(None)? {
            for (name, value) in row?.get_column_iter() {
                if name == "id" {
                    ids.insert(value.to_string());
                }
            }
        }
    }
    Ok(ids.len() as u64)
}

fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
