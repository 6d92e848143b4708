//! A table, commits to it, other writers' commits, and a store whose answers can be scripted.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use firnline::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use firnline::delta::{DeltaOptions, DeltaSink};
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use firnline::{
    AttemptId, CommitOutcome, DataFile, Decision, Entry, HashPrefix, LaneId, Outcome, OutputFile, PlanHash, Seq,
    TableChange, TableCommit, TableSink, Timestamp,
};
use futures::executor::block_on;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use uuid::Uuid;

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
pub(super) const LANE: LaneId = LaneId::from_u128(0xA);
pub(super) const ROOT: &str = "tables/users";

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
    ]))
}

pub(super) fn plan(seq: u64) -> PlanHash {
    PlanHash::of(format!("plan {seq}").as_bytes())
}

/// The marker that seq needs before it, as a lane without voids in other words has it.
pub(super) fn base(seq: u64) -> Option<(Seq, HashPrefix)> {
    (seq > 1).then(|| (Seq::new(seq - 1), plan(seq - 1).prefix()))
}

pub(super) fn file(name: &str, rows: u64) -> DataFile {
    DataFile {
        path: format!("{ROOT}/data/{name}.parquet"),
        size: 100 + rows,
        rows,
        columns: Vec::new(),
        split_offsets: vec![4],
        sorted: true,
        partition: None,
    }
}

pub(super) fn output(name: &str, rows: u64) -> OutputFile {
    OutputFile::from(&file(name, rows))
}

pub(super) fn commit(seq: u64, change: TableChange) -> TableCommit {
    TableCommit {
        lane: LANE,
        seq: Seq::new(seq),
        plan_hash: Some(plan(seq)),
        attempt: AttemptId::from_u64(1_000 + seq),
        base: base(seq),
        now: NOW + seq,
        new_table_uuid: Uuid::from_u128(7),
        sort_order: Vec::new(),
        change,
    }
}

/// An append of one file named after the seq.
pub(super) fn append(seq: u64) -> TableCommit {
    let files = vec![file(&format!("f{seq}"), seq)];
    commit(
        seq,
        TableChange::Append {
            schema: schema(),
            evolve: firnline::Evolve::Never,
            files,
        },
    )
}

pub(super) fn void(seq: u64) -> TableCommit {
    commit(seq, TableChange::Void { schema: schema() })
}

pub(super) fn adopt(lane: LaneId, supersedes: Vec<LaneId>) -> TableCommit {
    TableCommit {
        lane,
        plan_hash: None,
        ..commit(0, TableChange::Adopt { supersedes })
    }
}

/// What a worker would record of a committed entry.
pub(super) fn decision(commit: &TableCommit, entry: &Entry) -> Decision {
    Decision {
        version: 1,
        lane: commit.lane,
        seq: commit.seq,
        outcome: match commit.change {
            TableChange::Void { .. } => Outcome::Void,
            _ => Outcome::Data,
        },
        plan_hash: commit.plan_hash.unwrap(),
        attempt: commit.attempt,
        table_version: Some(entry.version),
        outputs: entry.outputs.clone(),
        decided_at: NOW,
        bad_sources: Vec::new(),
    }
}

/// A table in a store.
#[derive(Clone, Debug)]
pub(super) struct TestTable {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) options: DeltaOptions,
}

impl TestTable {
    pub(super) fn new() -> Self {
        Self::over(Arc::new(InMemory::new()))
    }

    pub(super) fn over(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            options: DeltaOptions::default().with_checkpoint_interval(0),
        }
    }

    pub(super) fn with_options(mut self, options: DeltaOptions) -> Self {
        self.options = options;
        self
    }

    /// A sink that remembers nothing, as another worker's.
    pub(super) fn sink(&self) -> DeltaSink {
        DeltaSink::new(self.store.clone(), Path::from(ROOT), self.options.clone())
    }

    pub(super) fn commit(&self, commit: &TableCommit) -> CommitOutcome {
        block_on(self.sink().commit(commit)).unwrap()
    }

    /// Commits what nothing is in the way of.
    pub(super) fn committed(&self, commit: &TableCommit) -> Entry {
        match self.commit(commit) {
            CommitOutcome::Committed(entry) => entry,
            other => panic!("not committed: {other:?}"),
        }
    }

    pub(super) fn log_path(name: &str) -> Path {
        Path::parse(format!("{ROOT}/_delta_log/{name}")).unwrap()
    }

    pub(super) fn commit_path(version: u64) -> Path {
        Self::log_path(&format!("{version:020}.json"))
    }

    /// The actions of a commit.
    pub(super) fn actions(&self, version: u64) -> Vec<Value> {
        let bytes = block_on(async { self.store.get(&Self::commit_path(version)).await?.bytes().await }).unwrap();
        std::str::from_utf8(&bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Puts a commit as another writer would.
    pub(super) fn foreign(&self, version: u64, actions: &[Value]) {
        block_on(put_foreign(&*self.store, version, actions)).unwrap();
    }

    pub(super) fn put(&self, name: &str, bytes: impl Into<Bytes>) {
        block_on(self.store.put(&Self::log_path(name), PutPayload::from(bytes.into()))).unwrap();
    }

    pub(super) fn delete(&self, name: &str) {
        block_on(self.store.delete(&Self::log_path(name))).unwrap();
    }

    /// All objects with size and entity tag.
    pub(super) fn listing(&self) -> Vec<(String, u64, Option<String>)> {
        let objects: Vec<ObjectMeta> = block_on(self.store.list(None).try_collect()).unwrap();
        let mut listing: Vec<_> = objects
            .into_iter()
            .map(|o| (o.location.to_string(), o.size, o.e_tag))
            .collect();
        listing.sort();
        listing
    }

    /// Paths and sizes of all adds in all commits: what no row may be in twice.
    pub(super) fn all_adds(&self) -> Vec<String> {
        let mut version = 0;
        let mut adds = Vec::new();
        while block_on(self.store.head(&Self::commit_path(version))).is_ok() {
            let found = self.actions(version);
            adds.extend(found.iter().filter_map(|a| Some(a["add"]["path"].as_str()?.to_owned())));
            version += 1;
        }
        adds
    }
}

/// The bytes of a commit or of a JSON checkpoint.
pub(super) fn json_lines(actions: &[Value]) -> String {
    let lines: Vec<_> = actions.iter().map(Value::to_string).collect();
    lines.join("\n")
}

pub(super) async fn put_foreign(store: &dyn ObjectStore, version: u64, actions: &[Value]) -> StoreResult<PutResult> {
    let text = json_lines(actions);
    let path = TestTable::commit_path(version);
    store
        .put_opts(&path, PutPayload::from(text), PutOptions::from(PutMode::Create))
        .await
}

/// A commit of another writer that adds a file.
pub(super) fn foreign_append(name: &str) -> Vec<Value> {
    vec![
        json!({"commitInfo": {"operation": "WRITE", "operationParameters": {"mode": "Append"}, "txnId": "theirs"}}),
        json!({"add": {"path": name, "partitionValues": {}, "size": 1, "modificationTime": 1, "dataChange": true}}),
    ]
}

/// A commit of another writer that removes a file.
pub(super) fn foreign_remove(operation: &str, parameters: &Value, path: &str) -> Vec<Value> {
    vec![
        json!({"commitInfo": {"operation": operation, "operationParameters": parameters}}),
        json!({"remove": {"path": path, "deletionTimestamp": 1, "dataChange": true}}),
    ]
}

/// What happens to the next put of a commit.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fault {
    /// It is applied, the answer is lost.
    AppliedButError,
    /// It is applied, the store says that the object was there already (its own retry).
    AppliedButExists,
    /// It is not applied, since the store cannot put only what is absent.
    NotImplemented,
    /// It is not applied, and fails.
    NotApplied,
    /// It is not applied, and the store says that the object exists (a 409 of S3).
    Conflict,
    /// Another writer's commit is put at the same version first.
    Overtaken(Vec<Value>),
}

/// A store whose puts of commits go through a script.
#[derive(Debug)]
pub(super) struct FaultyStore {
    inner: InMemory,
    script: Mutex<Vec<Fault>>,
    /// Reads fail while this is not 0.
    pub(super) failing_reads: AtomicU64,
    pub(super) puts: AtomicU64,
    pub(super) gets: AtomicU64,
    /// Listings of commits end before this version.
    pub(super) listed_to: AtomicU64,
}

impl FaultyStore {
    pub(super) fn new(inner: InMemory, script: impl IntoIterator<Item = Fault>) -> Arc<Self> {
        let mut script: Vec<_> = script.into_iter().collect();
        script.reverse();
        Arc::new(Self {
            inner,
            script: Mutex::new(script),
            failing_reads: AtomicU64::new(0),
            puts: AtomicU64::new(0),
            gets: AtomicU64::new(0),
            listed_to: AtomicU64::new(u64::MAX),
        })
    }

    fn lag(&self, objects: BoxStream<'static, StoreResult<ObjectMeta>>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let end = TestTable::commit_path(self.listed_to.load(Ordering::Relaxed));
        objects
            .try_filter(move |object| std::future::ready(object.location < end))
            .boxed()
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

fn timeout() -> StoreError {
    StoreError::Generic {
        store: "faulty",
        source: "timeout".into(),
    }
}

fn exists(path: &Path) -> StoreError {
    StoreError::AlreadyExists {
        path: path.to_string(),
        source: "409".into(),
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        let is_commit = path.as_ref().contains("_delta_log") && path.extension() == Some("json");
        if !is_commit {
            return self.inner.put_opts(path, payload, options).await;
        }
        self.puts.fetch_add(1, Ordering::Relaxed);
        let fault = self.script.lock().unwrap().pop();
        match fault {
            None => self.inner.put_opts(path, payload, options).await,
            Some(Fault::AppliedButError) => {
                self.inner.put_opts(path, payload, options).await?;
                Err(timeout())
            }
            Some(Fault::AppliedButExists) => {
                self.inner.put_opts(path, payload, options).await?;
                Err(exists(path))
            }
            Some(Fault::NotImplemented) => Err(StoreError::NotImplemented {
                operation: "`put_opts` with `PutMode::Create`".to_owned(),
                implementer: "faulty".to_owned(),
            }),
            Some(Fault::NotApplied) => Err(timeout()),
            Some(Fault::Conflict) => Err(exists(path)),
            Some(Fault::Overtaken(actions)) => {
                let version = path.filename().unwrap()[..20].parse().unwrap();
                put_foreign(&self.inner, version, &actions).await?;
                self.inner.put_opts(path, payload, options).await
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        if self.failing_reads.load(Ordering::Relaxed) > 0 && self.puts.load(Ordering::Relaxed) > 0 {
            return Err(timeout());
        }
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.lag(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.lag(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
