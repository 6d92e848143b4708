//! A table of two columns at `users`, as another writer has left it, and what we may do to it.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use firnline::arrow::array::RecordBatch;
use firnline::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use firnline::iceberg::{FileSystemCatalog, IcebergOptions, IcebergSink, IcebergTables};
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use firnline::parquet::file::properties::WriterProperties;
use firnline::{
    AttemptId, CompactorBuilder, DataFile, LaneId, ObjectEvent, Place, PlanHash, QuarantineReason, Seq, SortField,
    TableChange, TableCommit, TableFormat, Timestamp,
};
use futures::TryStreamExt;
use futures::executor::block_on;
use futures::stream::BoxStream;
use serde_json::{Value, json};

use crate::merge::support::encode;
use crate::world::{HOUR, World, at, work_until};

pub(super) const LOCATION: &str = "mem://tables/users";
pub(super) const LANE: LaneId = LaneId::from_u128(7);
pub(super) type Store = Arc<dyn ObjectStore>;

pub(super) fn memory() -> Store {
    Arc::new(InMemory::new())
}

/// The metadata of a table of version 2 without rows.
pub(super) fn metadata() -> Value {
    json!({"format-version": 2, "table-uuid": "6a92d155-a59b-42ee-bd4b-b4ec7fd1f875", "location": LOCATION,
        "last-sequence-number": 0, "last-updated-ms": 1_000, "last-column-id": 2, "current-schema-id": 0,
        "schemas": [{"type": "struct", "schema-id": 0, "fields": [
            {"id": 1, "name": "id", "required": false, "type": "long"},
            {"id": 2, "name": "name", "required": false, "type": "string"}]}],
        "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}], "last-partition-id": 999,
        "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}], "properties": {}})
}

pub(super) fn columns() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("id", DataType::Int64),
        field("name", DataType::Utf8),
    ]))
}

pub(super) fn catalog(store: &Store) -> FileSystemCatalog {
    FileSystemCatalog::new(Arc::clone(store), Path::from("users"), LOCATION)
}

pub(super) fn sink(store: &Store) -> IcebergSink {
    let catalog = Arc::new(catalog(store));
    let options = IcebergOptions::default();
    IcebergSink::new(catalog, Arc::clone(store), Path::from("users"), LOCATION, options)
}

fn commit(seq: u64, change: TableChange) -> TableCommit {
    TableCommit {
        lane: LANE,
        seq: Seq::new(seq),
        plan_hash: Some(PlanHash::of(seq.to_string().as_bytes())),
        attempt: AttemptId::from_u64(seq),
        base: (seq > 1).then(|| {
            (
                Seq::new(seq - 1),
                PlanHash::of((seq - 1).to_string().as_bytes()).prefix(),
            )
        }),
        now: Timestamp::from_millis(5_000),
        new_table_uuid: uuid::Uuid::from_u128(2),
        sort_order: Vec::new(),
        change,
    }
}

/// A commit of one file that is nowhere.
pub(super) fn append(seq: u64) -> TableCommit {
    let file = DataFile {
        path: format!("users/data/{seq}.parquet"),
        size: 100,
        rows: 3,
        columns: Vec::new(),
        split_offsets: vec![4],
        sorted: true,
        partition: None,
    };
    let (schema, files) = (columns(), vec![file]);
    commit(
        seq,
        TableChange::Append {
            schema,
            evolve: firnline::Evolve::Never,
            files,
        },
    )
}

pub(super) fn void(seq: u64) -> TableCommit {
    commit(seq, TableChange::Void { schema: columns() })
}

pub(super) async fn put(store: &Store, path: &str, bytes: impl Into<PutPayload>) {
    store.put(&Path::from(path), bytes.into()).await.unwrap();
}

pub(super) async fn get(store: &Store, path: &str) -> bytes::Bytes {
    store.get(&Path::from(path)).await.unwrap().bytes().await.unwrap()
}

/// All objects with what tells their contents apart, by path.
pub(super) async fn listing(store: &Store) -> Vec<(String, Option<String>, u64)> {
    let all: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
    let mut all: Vec<_> = all
        .into_iter()
        .map(|meta| (meta.location.to_string(), meta.e_tag, meta.size))
        .collect();
    all.sort();
    all
}

/// Their paths alone.
pub(super) async fn paths(store: &Store) -> Vec<String> {
    listing(store).await.into_iter().map(|(path, ..)| path).collect()
}

/// Compacts sources, one of each writer, that are sorted by their column `id`, into the table `users` of a world: the
/// keys that have been set aside, and why.
pub(super) fn compacted(
    world: &World,
    options: IcebergOptions,
    sources: &[RecordBatch],
) -> Vec<(String, QuarantineReason)> {
    let place = |url: &str, store: &Store| Place::new(url, Arc::clone(store), "").unwrap();
    let mut settings = world.options.clone();
    settings = settings
        .with_target_format(TableFormat::Iceberg)
        .with_min_files_to_compact(1);
    let builder = CompactorBuilder::new(
        place("mem://bucket", &world.bucket),
        place("mem://control", &world.control),
        IcebergTables::new("mem://tables", Arc::clone(&world.tables), Path::default(), options),
        Arc::clone(&world.state),
        settings.with_sort_order(vec![SortField::ascending("id")]),
    );
    let (now, end) = (at(HOUR + 3_600_000), at(HOUR + 13 * 3_600_000));
    let mut compactor = block_on(builder.open(now)).unwrap();
    let event = |(writer, rows): (usize, &RecordBatch)| {
        let bytes = encode(rows, WriterProperties::default());
        let key = format!("data/users/{HOUR}-w{writer}-0.parquet");
        let event = ObjectEvent::created(key.clone()).with_size(bytes.len() as u64);
        block_on(put(&world.bucket, &key, bytes));
        event
    };
    let events: Vec<_> = sources.iter().enumerate().map(event).collect();
    assert!(block_on(compactor.handle_events(&events, now)).all_saved());
    work_until(&mut compactor, now, end);
    let set_aside = compactor.status(end).quarantine.files.into_iter();
    set_aside.map(|file| (file.key.to_string(), file.reason)).collect()
}

/// What somebody else does right before an object is put, and how it is put.
pub(super) type Meanwhile = Box<dyn FnMut(&Path, &mut PutOptions) -> Option<(String, Vec<u8>)> + Send>;

/// A store in which others write in the middle of our puts; also one that does not do as it is told.
pub(super) struct CrowdedStore {
    inner: InMemory,
    meanwhile: Mutex<Meanwhile>,
}

impl CrowdedStore {
    pub(super) fn new(
        meanwhile: impl FnMut(&Path, &mut PutOptions) -> Option<(String, Vec<u8>)> + Send + 'static,
    ) -> Store {
        Arc::new(Self {
            inner: InMemory::new(),
            meanwhile: Mutex::new(Box::new(meanwhile)),
        })
    }
}

impl fmt::Debug for CrowdedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CrowdedStore")
    }
}

impl fmt::Display for CrowdedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CrowdedStore")
    }
}

#[async_trait]
impl ObjectStore for CrowdedStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut opts: PutOptions) -> StoreResult<PutResult> {
        let theirs = (self.meanwhile.lock().unwrap())(path, &mut opts);
        if let Some((theirs, bytes)) = theirs {
            self.inner.put(&Path::from(theirs), bytes.into()).await?;
        }
        self.inner.put_opts(path, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
