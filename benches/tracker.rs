//! Files per second into the tracker, and what asking it for its deadline costs.
//!
//! `cargo bench --bench tracker`

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use firnline::{
    Arrival, FileName, Namespace, ObjectKey, Options, SourceFile, Timestamp, ValidOptions, WindowTracker, WriterId,
};

const START: i64 = 1_700_000_000_000;

fn options() -> ValidOptions {
    Options::default()
        .with_max_open_windows(100_000)
        .validated()
        .unwrap_or_default()
}

fn file(namespace: usize, writer: usize, millis: i64, sequence: u64) -> SourceFile {
    let timestamp = START + millis;
    SourceFile {
        key: ObjectKey::new(format!(
            "data/ns{namespace}/{timestamp}-writer{writer}-{sequence}.parquet"
        )),
        name: FileName {
            namespace: Namespace::new(format!("ns{namespace}")),
            timestamp: Timestamp::from_millis(timestamp),
            writer: WriterId::new(format!("writer{writer}")),
            sequence,
        },
        size: 1_000_000,
        etag: None,
    }
}

/// `count` files of as many namespaces, 8 writers each, one file a second.
fn files(count: usize, namespaces: usize) -> Vec<SourceFile> {
    (0..count)
        .map(|n| {
            let number = u32::try_from(n).unwrap_or(0);
            file(
                n % namespaces,
                n / namespaces % 8,
                i64::from(number) * 1_000,
                u64::from(number),
            )
        })
        .collect()
}

fn filled(files: &[SourceFile]) -> WindowTracker {
    let mut tracker = WindowTracker::new(options());
    for file in files {
        let now = file.name.timestamp;
        let _ = black_box(tracker.handle_file(file.clone(), Arrival::Event, now));
    }
    tracker
}

fn handle_file(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handle_file");
    for (name, count, namespaces) in [
        ("1 namespace", 100_000, 1),
        ("1000 namespaces", 100_000, 1_000),
        ("1 namespace, 1M files", 1_000_000, 1),
    ] {
        let files = files(count, namespaces);
        group.throughput(Throughput::Elements(u64::try_from(count).unwrap_or(0)));
        group.sample_size(10);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(|| (), |()| filled(&files), BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn poll(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("poll");
    for (name, namespaces) in [("10k windows, 1 namespace", 1), ("10k windows, 1000 namespaces", 1_000)] {
        // Each window has 12 files of 8 writers, so that its quorum has to be asked for.
        let per_namespace = 10_000 / namespaces;
        let mut files = Vec::new();
        for namespace in 0..namespaces {
            for window in 0..per_namespace {
                for n in 0..12_u32 {
                    let millis = i64::try_from(window).unwrap_or(0) * 3_600_000 + i64::from(n);
                    files.push(file(namespace, n as usize % 8, millis, u64::from(n)));
                }
            }
        }
        let mut tracker = filled(&files);
        let now = Timestamp::from_millis(START);
        group.bench_function(format!("deadline, {name}"), |bencher| {
            bencher.iter(|| black_box(tracker.poll_deadline(now)));
        });
        // Nothing is ready: all windows are asked.
        for namespace in 0..namespaces {
            tracker.abandoned(&Namespace::new(format!("ns{namespace}")), None);
        }
        group.bench_function(format!("plan, {name}"), |bencher| {
            bencher.iter(|| black_box(tracker.poll_plan(now)));
        });
    }
    group.finish();
}

criterion_group!(benches, handle_file, poll);
criterion_main!(benches);
