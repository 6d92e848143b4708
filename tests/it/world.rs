//! A bucket, tables and control objects in memory, and writers that fill the bucket.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use firnline::delta::{DeltaOptions, DeltaTables};
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::parquet::arrow::ArrowWriter;
use firnline::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use firnline::{
    Compactor, CompactorBuilder, JobReport, MemoryStateStore, ObjectEvent, Options, Place, SortField, StateStore,
    TableFormat, Timestamp,
};
use futures::TryStreamExt;
use futures::executor::block_on;

/// 2023-11-14T22:00:00Z, the start of a window of an hour.
pub(crate) const HOUR: i64 = 1_700_000_000_000 - 1_700_000_000_000 % 3_600_000;

/// A row of the tests: unique by its id.
pub(crate) type Row = (i64, String, i64);

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) bucket: Arc<dyn ObjectStore>,
    pub(crate) tables: Arc<dyn ObjectStore>,
    pub(crate) control: Arc<dyn ObjectStore>,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) options: Options,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            bucket: Arc::new(InMemory::new()),
            tables: Arc::new(InMemory::new()),
            control: Arc::new(InMemory::new()),
            state: Arc::new(MemoryStateStore::new()),
            options: Options::default()
                .with_target_format(TableFormat::Delta)
                .with_min_files_to_compact(2)
                .with_delete_grace_ms(0)
                .with_sort_order(vec![SortField::ascending("ts"), SortField::ascending("id")]),
        }
    }

    pub(crate) fn builder(&self) -> CompactorBuilder {
        let place = |url: &str, store: &Arc<dyn ObjectStore>| Place::new(url, Arc::clone(store), "").unwrap();
        let tables = DeltaTables::new(
            "mem://tables",
            Arc::clone(&self.tables),
            Path::default(),
            DeltaOptions::default(),
        );
        CompactorBuilder::new(
            place("mem://bucket", &self.bucket),
            place("mem://control", &self.control),
            tables,
            Arc::clone(&self.state),
            self.options.clone(),
        )
    }

    pub(crate) fn open(&self, now: Timestamp) -> Compactor {
        block_on(self.builder().open(now)).unwrap()
    }

    /// Writes a file of a writer and returns its notification.
    pub(crate) fn write(&self, namespace: &str, ts_ms: i64, writer: &str, sequence: u64, rows: &[Row]) -> ObjectEvent {
        let key = format!("data/{namespace}/{ts_ms}-{writer}-{sequence}.parquet");
        let bytes = parquet_of(rows);
        let size = bytes.len() as u64;
        block_on(self.bucket.put(&Path::parse(&key).unwrap(), bytes.into())).unwrap();
        ObjectEvent::created(key).with_size(size)
    }

    /// A file of `count` rows from `ts_ms` on; ids are unique by writer and sequence.
    pub(crate) fn write_some(
        &self,
        namespace: &str,
        ts_ms: i64,
        writer: &str,
        sequence: u64,
        count: i64,
    ) -> (ObjectEvent, Vec<Row>) {
        let rows: Vec<Row> = (0..count)
            .map(|i| ((ts_ms + i * 7) * 1_000, format!("{writer}-{sequence:03}-{i:05}"), i))
            .collect();
        (self.write(namespace, ts_ms, writer, sequence, &rows), rows)
    }

    /// The rows of a table, by a replay of its log that knows nothing of the library.
    pub(crate) fn table_rows(&self, namespace: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for path in self.live_files(namespace) {
            let bytes = block_on(async { self.tables.get(&path).await.unwrap().bytes().await.unwrap() });
            rows.extend(rows_of(bytes));
        }
        rows.sort();
        rows
    }

    pub(crate) fn live_files(&self, namespace: &str) -> Vec<Path> {
        let log = Path::from(format!("{namespace}/_delta_log"));
        let mut commits: Vec<_> = self.list(&self.tables, &log);
        commits.retain(|path| path.as_ref().ends_with(".json"));
        let mut live = std::collections::BTreeSet::new();
        for commit in commits {
            let bytes = block_on(async { self.tables.get(&commit).await.unwrap().bytes().await.unwrap() });
            for line in std::str::from_utf8(&bytes).unwrap().lines() {
                let action: serde_json::Value = serde_json::from_str(line).unwrap();
                if let Some(path) = action["add"]["path"].as_str() {
                    assert!(live.insert(path.to_owned()), "{path} was added twice");
                }
                if let Some(path) = action["remove"]["path"].as_str() {
                    live.remove(path);
                }
            }
        }
        live.into_iter()
            .map(|path| Path::from(format!("{namespace}/{path}")))
            .collect()
    }

    pub(crate) fn list(&self, store: &Arc<dyn ObjectStore>, prefix: &Path) -> Vec<Path> {
        let metas: Vec<_> = block_on(store.list(Some(prefix)).try_collect()).unwrap();
        let mut paths: Vec<Path> = metas
            .into_iter()
            .map(|meta: firnline::object_store::ObjectMeta| meta.location)
            .collect();
        paths.sort();
        paths
    }

    pub(crate) fn sources(&self) -> Vec<String> {
        self.list(&self.bucket, &Path::from("data"))
            .into_iter()
            .map(String::from)
            .collect()
    }
}

pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

/// Does all the work that is due now.
pub(crate) fn work(compactor: &mut Compactor, now: Timestamp) -> Vec<JobReport> {
    let mut reports = Vec::new();
    for _ in 0..1_000 {
        let Some(job) = compactor.poll_job(now) else {
            return reports;
        };
        let outcome = block_on(job.run());
        reports.push(block_on(compactor.finish_job(outcome, now)).unwrap());
    }
    panic!("the work does not end: {reports:#?}");
}

/// Jumps from deadline to deadline until `until`, doing the work that is due.
pub(crate) fn work_until(compactor: &mut Compactor, from: Timestamp, until: Timestamp) -> Vec<JobReport> {
    let mut now = from;
    let mut reports = Vec::new();
    loop {
        reports.extend(work(compactor, now));
        match compactor.next_deadline(now) {
            Some(next) if next <= until => now = if next > now { next } else { now + 1 },
            _ => return reports,
        }
    }
}

pub(crate) fn parquet_of(rows: &[Row]) -> Vec<u8> {
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "ts",
            Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.0)).with_timezone("UTC")),
        ),
        ("id", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.1)))),
        ("n", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.2)))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

pub(crate) fn rows_of(bytes: Bytes) -> Vec<Row> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .unwrap()
        .build()
        .unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let ts = batch
            .column_by_name("ts")
            .unwrap()
            .as_primitive::<TimestampMicrosecondType>()
            .clone();
        let id = batch.column_by_name("id").unwrap().as_string::<i32>().clone();
        let n = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().clone();
        rows.extend((0..batch.num_rows()).map(|i| (ts.value(i), id.value(i).to_owned(), n.value(i))));
    }
    rows
}
