//! What a commit costs as a table grows, in both formats: `cargo bench --bench commits`.
//!
//! One sink commits one small file after another, as a lane does whose windows are small. The table on disk is
//! written as durably as by the example `compact`.

#![allow(clippy::unwrap_used, reason = "a benchmark that panics measures nothing")]

#[allow(dead_code, reason = "each benchmark asks it for something else")]
#[path = "support/counting.rs"]
mod counting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use firnline::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use firnline::delta::{DeltaOptions, DeltaTables};
use firnline::iceberg::{IcebergOptions, IcebergTables};
use firnline::object_store::local::LocalFileSystem;
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::parquet::arrow::ArrowWriter;
use firnline::{
    AttemptId, CommitOutcome, DataFile, LaneId, MergeInput, MergeOptions, MergeTarget, Namespace, ParquetMerger,
    PlanHash, Seq, SortField, TableChange, TableCommit, TableLayout, TableProvider, TableSink, Timestamp, WriterId,
    read_footer,
};
use futures::executor::block_on;
use uuid::Uuid;

use counting::CountingStore;

/// After so many commits a line is printed.
const POINTS: [u64; 6] = [1, 10, 100, 250, 500, 1_000];
/// Those of a test run.
const TEST_POINTS: [u64; 2] = [1, 3];
/// The commits before a point of which a line tells: so many that Delta's checkpoints are among them.
const RECENT: usize = 20;
const LANE: LaneId = LaneId::from_u128(0xA);
const NOW: Timestamp = Timestamp::from_millis(1_731_578_400_000);

fn main() {
    let points: &[u64] = if std::env::args().any(|arg| arg == "--test") {
        &TEST_POINTS
    } else {
        &POINTS
    };
    println!("| table | commits | median ms | worst ms | written KB | requests | opening ms | metadata KB | objects |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for format in ["delta", "iceberg"] {
        let disk = tempfile::tempdir().unwrap();
        let on_disk = LocalFileSystem::new_with_prefix(disk.path()).unwrap().with_fsync(true);
        grow(format, "memory", Arc::new(InMemory::new()), points);
        grow(format, "disk", Arc::new(on_disk), points);
    }
}

/// What one commit took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    time: Duration,
    written: u64,
    requests: u64,
}

/// Commits until the last point, and prints a line at each.
fn grow(format: &str, place: &str, store: Arc<dyn ObjectStore>, points: &[u64]) {
    let store = Arc::new(CountingStore::new(store));
    let sink = sink(format, &store);
    let layout = block_on(sink.prepare(LANE, &rows().schema(), firnline::Evolve::Never)).unwrap();
    let template = block_on(small_file(&layout));
    let mut costs: Vec<Cost> = Vec::new();
    for seq in 1..=points.last().copied().unwrap_or(0) {
        let commit = append(seq, &layout, &template);
        let (written, requests) = store.counts();
        let start = Instant::now();
        let outcome = block_on(sink.commit(&commit)).unwrap();
        let time = start.elapsed();
        assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
        let (written_now, requests_now) = store.counts();
        costs.push(Cost {
            time,
            written: written_now - written,
            requests: requests_now - requests,
        });
        if points.contains(&seq) {
            let opening = opening(format, &store);
            let recent = costs.get(costs.len().saturating_sub(RECENT)..).unwrap_or_default();
            print_line(&format!("{format}, {place}"), seq, recent, opening, &store);
        }
    }
}

fn sink(format: &str, store: &Arc<CountingStore>) -> Arc<dyn TableSink> {
    let store: Arc<dyn ObjectStore> = Arc::clone(store) as _;
    let (url, prefix) = ("bench://tables", Path::from(format));
    let table = match format {
        "delta" => DeltaTables::new(url, store, prefix, DeltaOptions::default()).table(&Namespace::new("users")),
        _ => IcebergTables::new(url, store, prefix, IcebergOptions::default()).table(&Namespace::new("users")),
    };
    table.unwrap().sink
}

/// How long a worker that knows nothing of the table takes to read what it says of its lane.
fn opening(format: &str, store: &Arc<CountingStore>) -> Duration {
    let sink = sink(format, store);
    let start = Instant::now();
    let state = block_on(sink.decided(LANE)).unwrap();
    let time = start.elapsed();
    assert!(state.decided.is_some());
    time
}

fn plan(seq: u64) -> PlanHash {
    PlanHash::of(format!("plan {seq}").as_bytes())
}

fn append(seq: u64, layout: &TableLayout, template: &DataFile) -> TableCommit {
    let path = layout.data_dir.clone().join(format!("part-{seq:08}.parquet"));
    TableCommit {
        lane: LANE,
        seq: Seq::new(seq),
        plan_hash: Some(plan(seq)),
        attempt: AttemptId::from_u64(seq),
        base: (seq > 1).then(|| (Seq::new(seq - 1), plan(seq - 1).prefix())),
        now: NOW + seq * 60_000,
        new_table_uuid: Uuid::from_u128(7),
        sort_order: vec![SortField::ascending("ts")],
        change: TableChange::Append {
            schema: Arc::clone(&layout.schema),
            evolve: firnline::Evolve::Never,
            files: vec![DataFile {
                path: path.to_string(),
                ..template.clone()
            }],
        },
    }
}

fn rows() -> RecordBatch {
    let numbers = || 0..100_i32;
    let columns: [(&str, ArrayRef); 6] = [
        (
            "ts",
            Arc::new(TimestampMicrosecondArray::from_iter_values(numbers().map(i64::from)).with_timezone("UTC")),
        ),
        (
            "id",
            Arc::new(StringArray::from_iter_values(numbers().map(|n| format!("{n:026}")))),
        ),
        (
            "user_id",
            Arc::new(Int64Array::from_iter_values(numbers().map(|n| i64::from(n % 7)))),
        ),
        (
            "page",
            Arc::new(StringArray::from_iter_values(
                numbers().map(|n| format!("/p/{}", n % 9)),
            )),
        ),
        (
            "price",
            Arc::new(Float64Array::from_iter_values(numbers().map(|n| f64::from(n) / 4.0))),
        ),
        (
            "count",
            Arc::new(Int64Array::from_iter_values(numbers().map(i64::from))),
        ),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// A file with the metrics that the merger finds; the files of all commits differ from it only in their names.
async fn small_file(layout: &TableLayout) -> DataFile {
    let rows = rows();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let path = Path::from("source");
    memory.put(&path, writer.into_inner().unwrap().into()).await.unwrap();
    let input = MergeInput {
        footer: read_footer(&*memory, &path, None).await.unwrap(),
        writer: WriterId::new("w"),
        sequence: 0,
    };
    let target = MergeTarget {
        store: Arc::clone(&memory),
        dir: layout.data_dir.clone(),
        stem: "part".to_owned(),
        schema: Arc::clone(&layout.schema),
        key_value_metadata: Vec::new(),
        partitioner: None,
        scratch: None,
    };
    let order = vec![SortField::ascending("ts")];
    let merger = ParquetMerger::new(MergeOptions::default().with_sort_order(order));
    let merged = merger.merge(&memory, vec![input], target, &()).await.unwrap();
    merged.files.into_iter().next().unwrap()
}

#[expect(clippy::cast_precision_loss, reason = "figures to be looked at")]
fn print_line(table: &str, commits: u64, recent: &[Cost], opening: Duration, store: &CountingStore) {
    let mut times: Vec<Duration> = recent.iter().map(|cost| cost.time).collect();
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let worst = times.last().copied().unwrap_or_default();
    let mean = |of: fn(&Cost) -> u64| recent.iter().map(of).sum::<u64>() as f64 / recent.len().max(1) as f64;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let (objects, bytes) = block_on(store.held());
    println!(
        "| {table} | {commits} | {:.2} | {:.2} | {:.1} | {:.1} | {:.2} | {:.0} | {objects} |",
        millis(median),
        millis(worst),
        mean(|cost| cost.written) / 1e3,
        mean(|cost| cost.requests),
        millis(opening),
        bytes as f64 / 1e3,
    );
}
