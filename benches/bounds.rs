//! What is held at most, whatever comes: `cargo bench --bench bounds` prints it and fails where more is held than
//! promised. Names of cases after `--` choose some. All of them take about a quarter of an hour and 20 GB of disk.
//!
//! Each case runs in a process of its own, whose peak memory the kernel tells (Linux), on a disk that other processes
//! have filled. The allocator of glibc is told to give back what is freed.

#![allow(clippy::unwrap_used, reason = "a benchmark that panics measures nothing")]

#[allow(dead_code, reason = "each benchmark asks it for something else")]
#[path = "support/counting.rs"]
mod counting;

use std::path::{Path as DiskPath, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use firnline::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use firnline::delta::{DeltaOptions, DeltaTables};
use firnline::object_store::ObjectStore;
use firnline::object_store::local::LocalFileSystem;
use firnline::object_store::path::Path;
use firnline::parquet::arrow::ArrowWriter;
use firnline::parquet::basic::{Compression, ZstdLevel};
use firnline::parquet::file::properties::WriterProperties;
use firnline::{
    Arrival, Compactor, CompactorBuilder, FileName, Namespace, ObjectEvent, ObjectKey, ObjectStoreStateStore, Options,
    Place, SortField, SourceFile, TableFormat, Timestamp, WindowTracker, WriterId,
};
use futures::executor::block_on;

use counting::CountingStore;

const START: i64 = 1_731_578_400_000;
const HOUR: i64 = 3_600_000;
const MIB: u64 = 1 << 20;
/// The program itself, and holes between what is held.
const PROGRAM: u64 = 32 * MIB;
/// What a merge may hold in these cases.
const BUDGET: u64 = 64 * MIB;
/// Sources that are looked at or fetched at the same time.
const READS_AT_ONCE: u64 = 32;
/// Events of a message batch.
const BATCH: u64 = 1_000;
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "32768"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
];

struct Case {
    name: &'static str,
    about: &'static str,
    /// Of files, writers, windows or events, and so many in a test run.
    count: u64,
    test_count: u64,
    /// Puts onto the disk what is there before.
    make: fn(&DiskPath, u64),
    /// Says how many reads there were at once.
    run: fn(&DiskPath, u64) -> u64,
    /// Bytes that may be held.
    allowed: u64,
}

/// What a pending file may take; see `Options::max_pending_files`.
const PENDING_FILE: u64 = 1_000;
/// What an open window may take beside; see `Options::max_open_windows`.
const OPEN_WINDOW: u64 = 4_500;

const CASES: [Case; 5] = [
    Case {
        name: "files",
        about: "files of 20 MB decoded each, of 8 writers in one window, merged in 64 MiB",
        count: 2_000,
        test_count: 16,
        make: make_large_files,
        run: run_window,
        allowed: BUDGET + PROGRAM,
    },
    Case {
        name: "window",
        about: "files of 10 rows in one window and one plan, of as many writers, merged in 64 MiB",
        count: 10_000,
        test_count: 100,
        make: make_small_files,
        run: run_window,
        allowed: BUDGET + PROGRAM,
    },
    Case {
        name: "writers",
        about: "writers of a file each, one after the other, of which 10,000 are remembered",
        count: 1_000_000,
        test_count: 20_000,
        make: |_, _| {},
        run: run_writers,
        allowed: PROGRAM,
    },
    Case {
        name: "windows",
        about: "windows that are open at once (`max_open_windows` allows them)",
        count: 100_000,
        test_count: 1_000,
        make: |_, _| {},
        run: run_windows,
        allowed: 100_000 * OPEN_WINDOW + PROGRAM,
    },
    Case {
        name: "backlog",
        about: "events while nothing is compacted, of which `max_pending_files` (200,000) are taken up",
        count: 10_000_000,
        test_count: 20_000,
        make: |_, _| {},
        run: run_backlog,
        allowed: 200_000 * PENDING_FILE + PROGRAM,
    },
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [step, name, count, disk] = arguments.as_slice()
        && let Some(case) = CASES.iter().find(|case| case.name == name)
    {
        let (count, disk) = (count.parse().unwrap(), DiskPath::new(disk));
        match step.as_str() {
            "make" => (case.make)(disk, count),
            _ => println!("{} {}", (case.run)(disk, count), peak_bytes()),
        }
        return;
    }
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let asked = |case: &&Case| arguments.iter().all(|a| a.starts_with('-')) || arguments.iter().any(|a| a == case.name);
    println!("| case | | peak MiB | of | reads at once | seconds |");
    println!("|---|---|---|---|---|---|");
    let mut broken = Vec::new();
    for case in CASES.iter().filter(asked) {
        let count = if is_test { case.test_count } else { case.count };
        let disk = tempfile::tempdir().unwrap();
        child("make", case, count, disk.path());
        let begun = Instant::now();
        let said = child("run", case, count, disk.path());
        let seconds = begun.elapsed().as_secs();
        let (reads, peak) = said.trim().split_once(' ').unwrap();
        let (reads, peak): (u64, u64) = (reads.parse().unwrap(), peak.parse().unwrap());
        println!(
            "| {count} {} | {} | {} | {} | {reads} | {seconds} |",
            case.name,
            case.about,
            peak / MIB,
            case.allowed / MIB
        );
        if peak > case.allowed || reads > READS_AT_ONCE {
            broken.push(case.name);
        }
    }
    assert!(broken.is_empty(), "more is held than promised: {broken:?}");
}

fn child(step: &str, case: &Case, count: u64, disk: &DiskPath) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command
        .args([step, case.name, &count.to_string()])
        .arg(disk)
        .envs(ALLOCATOR)
        .stderr(std::process::Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{} {step}: {}", case.name, output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The most memory that this process had; 0 where the kernel does not tell.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

fn source_path(disk: &DiskPath, millis: i64, writer: u64, sequence: u64) -> PathBuf {
    let dir = disk.join("bucket/data/n");
    std::fs::create_dir_all(&dir).unwrap();
    dir.join(format!("{millis}-w{writer:05}-{sequence}.parquet"))
}

/// Rows of 400 bytes, the first at `micros`, one each so many microseconds.
fn write_rows(path: &DiskPath, writer: u64, rows: i64, micros: i64, step: i64) {
    let numbers = || (0..rows).map(|row| micros + row * step);
    let texts = numbers().map(|n| {
        format!(
            "{{\"path\":\"/page/{}\",\"agent\":\"{}\"}}",
            n % 1_000,
            "firn ".repeat(66)
        )
    });
    let columns: [(&str, ArrayRef); 4] = [
        (
            "ts",
            Arc::new(TimestampMicrosecondArray::from_iter_values(numbers()).with_timezone("UTC")),
        ),
        (
            "id",
            Arc::new(StringArray::from_iter_values(
                numbers().map(|n| format!("{writer:04}-{n:016}")),
            )),
        ),
        (
            "seen",
            Arc::new(Int64Array::from_iter_values(numbers().map(|n| n % 977))),
        ),
        ("event", Arc::new(StringArray::from_iter_values(texts))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let codec = Compression::ZSTD(ZstdLevel::try_new(1).unwrap());
    let properties = WriterProperties::builder().set_compression(codec).build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

/// Files of 50,000 rows, each writer's one after the other within an hour.
fn make_large_files(disk: &DiskPath, count: u64) {
    const WRITERS: u64 = 8;
    const ROWS: i64 = 50_000;
    let files = i64::try_from(count.div_ceil(WRITERS)).unwrap();
    let step = HOUR * 1_000 / (files * ROWS);
    for (sequence, file) in (0..).zip(0..files) {
        for writer in 0..WRITERS {
            let micros = START * 1_000 + file * ROWS * step;
            let path = source_path(disk, (micros + (ROWS - 1) * step) / 1_000, writer, sequence);
            write_rows(&path, writer, ROWS, micros, step);
        }
    }
}

/// Files of 10 rows that all overlap.
fn make_small_files(disk: &DiskPath, count: u64) {
    for writer in 0..count {
        let millis = START + i64::try_from(writer).unwrap();
        write_rows(
            &source_path(disk, millis, writer, 0),
            writer,
            10,
            START * 1_000,
            300_000_000,
        );
    }
}

fn store(disk: &DiskPath, name: &str) -> Arc<CountingStore> {
    let dir = disk.join(name);
    std::fs::create_dir_all(&dir).unwrap();
    Arc::new(CountingStore::new(Arc::new(
        LocalFileSystem::new_with_prefix(dir).unwrap(),
    )))
}

fn open(disk: &DiskPath, bucket: &Arc<CountingStore>, options: Options, now: Timestamp) -> Compactor {
    let bucket = Place::new("file:///bucket", Arc::clone(bucket) as Arc<dyn ObjectStore>, "").unwrap();
    let control = Place::new("file:///control", store(disk, "control"), "").unwrap();
    let state = ObjectStoreStateStore::new(store(disk, "state"), Path::default());
    let tables = DeltaTables::new(
        "file:///tables",
        store(disk, "tables"),
        Path::default(),
        DeltaOptions::default(),
    );
    let options = options.with_target_format(TableFormat::Delta);
    block_on(CompactorBuilder::new(bucket, control, tables, state, options).open(now)).unwrap()
}

/// Compacts what is in the bucket, in one plan.
fn run_window(disk: &DiskPath, count: u64) -> u64 {
    let options = Options::default()
        .with_sort_order(vec![SortField::ascending("ts"), SortField::ascending("id")])
        .with_memory_budget_bytes(BUDGET)
        .with_max_plan_files(usize::try_from(count).unwrap())
        .with_max_plan_bytes(u64::MAX);
    let bucket = store(disk, "bucket");
    let now = Timestamp::from_millis(START + 3 * HOUR);
    let mut compactor = open(disk, &bucket, options, now);
    block_on(async {
        compactor.reconcile(now).await.unwrap();
        let mut sources = 0;
        while let Some(job) = compactor.poll_job(now) {
            let report = compactor.finish_job(job.run().await, now).await.unwrap();
            assert_eq!(report.error.map(|error| error.chain()), None);
            sources += report.committed.iter().map(|plan| plan.sources as u64).sum::<u64>();
        }
        assert_eq!(sources, count);
    });
    bucket.most_reads()
}

/// Each file is of a writer that nobody has seen before; windows are planned as their time comes.
fn run_writers(_: &DiskPath, count: u64) -> u64 {
    let mut tracker = WindowTracker::new(Options::default().validated().unwrap());
    let mut planned = 0;
    let mut plan = |tracker: &mut WindowTracker, now: Timestamp| {
        while let Some(draft) = tracker.poll_plan(now) {
            planned += draft.files.len();
            let keys: Vec<_> = draft.files.into_iter().map(|file| file.key).collect();
            tracker.committed(&draft.namespace, draft.window, &keys);
            tracker.set_boundary(&draft.namespace, draft.window.start);
        }
        drop(tracker.take_dirty());
    };
    let mut now = Timestamp::from_millis(START);
    for writer in 0..count {
        now = now + 1_000;
        let key = format!("data/n/{}-w{writer}-0.parquet", now.as_millis());
        let file = SourceFile {
            key: ObjectKey::new(key),
            name: FileName {
                namespace: Namespace::new("n"),
                timestamp: now,
                writer: WriterId::new(format!("w{writer}")),
                sequence: 0,
            },
            size: 1_000,
            etag: None,
        };
        let _ = tracker.handle_file(file, Arrival::Event, now);
        if writer % 600 == 0 {
            plan(&mut tracker, now);
        }
    }
    plan(&mut tracker, now + 48 * 3_600_000);
    assert_eq!(planned as u64, count);
    0
}

/// A file in each of so many windows.
fn run_windows(disk: &DiskPath, count: u64) -> u64 {
    let options = Options::default().with_max_open_windows(usize::try_from(count).unwrap());
    let now = Timestamp::from_millis(START);
    let file = |number: u64| {
        let millis = START - HOUR * i64::try_from(number / 10).unwrap();
        ObjectEvent::created(format!("data/n{}/{millis}-w1-0.parquet", number % 10))
    };
    assert_eq!(tell(disk, options, now, count, file), count);
    0
}

/// Files of ten namespaces, a hundred writers and ten days.
fn run_backlog(disk: &DiskPath, count: u64) -> u64 {
    let now = Timestamp::from_millis(START);
    let file = |number: u64| {
        let millis = START - 864_000_000 + i64::try_from(number % 10_000_000).unwrap() * 86;
        let (namespace, writer) = (number % 10, number / 10 % 100);
        ObjectEvent::created(format!("data/n{namespace}/{millis}-writer{writer}-{number}.parquet"))
    };
    let taken = tell(disk, Options::default(), now, count, file);
    assert!((count.min(200_000)..=200_000).contains(&taken), "{taken} are pending");
    0
}

/// Tells of so many files; how many of them are taken up.
fn tell(disk: &DiskPath, options: Options, now: Timestamp, count: u64, file: impl Fn(u64) -> ObjectEvent) -> u64 {
    let mut compactor = open(disk, &store(disk, "bucket"), options, now);
    let mut taken = 0;
    for begin in (0..count).step_by(usize::try_from(BATCH).unwrap()) {
        let events: Vec<_> = (begin..(begin + BATCH).min(count)).map(&file).collect();
        let handled = block_on(compactor.handle_events(&events, now));
        taken += handled.outcomes().iter().filter(|outcome| outcome.is_ok()).count() as u64;
    }
    let _ = compactor.next_deadline(now);
    taken
}
