//! What the tests of the compactor share: shorthands, and an object store that a test can hook into.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use firnline::object_store::path::Path;
use firnline::object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use firnline::{
    Compactor, ErrorKind, EventOutcome, JobReport, Namespace, ObjectEvent, ObjectKey, QuarantineReason, Timestamp,
};
use futures::FutureExt;
use futures::executor::block_on;
use futures::stream::{BoxStream, StreamExt};

use crate::world::{HOUR, Row, World, at};

/// The end of the first window.
pub(super) const END: i64 = HOUR + 3_600_000;

/// A minute and a day in milliseconds.
pub(super) const MINUTE: i64 = 60_000;
pub(super) const DAY: i64 = 86_400_000;

pub(super) fn ns(name: &str) -> Namespace {
    Namespace::new(name)
}

/// Hands events in, and says what became of each.
pub(super) fn tell(
    compactor: &mut Compactor,
    events: &[ObjectEvent],
    now: Timestamp,
) -> Vec<Result<EventOutcome, ErrorKind>> {
    let handled = block_on(compactor.handle_events(events, now));
    handled
        .outcomes()
        .iter()
        .map(|outcome| outcome.as_ref().copied().map_err(firnline::Error::kind))
        .collect()
}

/// Writes an object and returns its notification, with size and etag as object stores tell them.
pub(super) fn put(store: &Arc<dyn ObjectStore>, key: &str, bytes: impl Into<Bytes>) -> ObjectEvent {
    let bytes: Bytes = bytes.into();
    let size = bytes.len() as u64;
    let path = Path::parse(key).unwrap();
    // Also used inside of hooks, where no executor may run; stores in memory never wait.
    let written = store.put(&path, bytes.into()).now_or_never().unwrap().unwrap();
    ObjectEvent::created(key)
        .with_size(size)
        .with_etag(written.e_tag.unwrap())
}

pub(super) fn delete(store: &Arc<dyn ObjectStore>, key: &str) {
    store
        .delete(&Path::parse(key).unwrap())
        .now_or_never()
        .unwrap()
        .unwrap();
}

pub(super) fn key(event: &ObjectEvent) -> String {
    event.key.as_str().to_owned()
}

pub(super) fn object_key(key: &str) -> ObjectKey {
    ObjectKey::new(key)
}

/// The kind of each source in quarantine, by key.
pub(super) fn quarantine(compactor: &Compactor, now: Timestamp) -> Vec<(String, String)> {
    let mut kinds: Vec<_> = compactor
        .quarantined(now)
        .map(|file| (file.key.as_str().to_owned(), kind(&file.reason)))
        .collect();
    kinds.sort();
    kinds
}

pub(super) fn kind(reason: &QuarantineReason) -> String {
    serde_json::to_value(reason).unwrap()["kind"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Seq, generation, number of sources and rows of every commit.
pub(super) fn commits(reports: &[JobReport]) -> Vec<(u64, u64, usize, u64)> {
    reports
        .iter()
        .flat_map(|report| &report.committed)
        .map(|plan| (plan.seq.get(), plan.generation, plan.sources, plan.rows))
        .collect()
}

pub(super) fn voids(reports: &[JobReport]) -> Vec<u64> {
    reports
        .iter()
        .flat_map(|report| &report.voided)
        .map(|seq| seq.get())
        .collect()
}

pub(super) fn errors(reports: &[JobReport]) -> Vec<String> {
    reports
        .iter()
        .filter_map(|report| report.error.as_ref().map(firnline::Error::chain))
        .collect()
}

pub(super) fn sorted(parts: &[&[Row]]) -> Vec<Row> {
    let mut rows: Vec<Row> = parts.iter().flat_map(|part| part.iter().cloned()).collect();
    rows.sort();
    rows
}

/// Two good files of two writers in the first window, told: their keys and rows.
pub(super) fn two_good(world: &World, compactor: &mut Compactor) -> (Vec<ObjectEvent>, Vec<Row>) {
    let (first, mut rows) = world.write_some("users", HOUR + 1_000, "w1", 0, 20);
    let (second, more) = world.write_some("users", HOUR + 2_000, "w2", 0, 20);
    rows.extend(more);
    rows.sort();
    let events = vec![first, second];
    let told = tell(compactor, &events, at(END));
    assert_eq!(told, [Ok(EventOutcome::Recorded), Ok(EventOutcome::Recorded)]);
    (events, rows)
}

/// All objects of a store with their content.
pub(super) fn content(store: &Arc<dyn ObjectStore>) -> Vec<(String, Bytes)> {
    block_on(async {
        let mut objects = Vec::new();
        let mut listing = store.list(None);
        while let Some(meta) = listing.next().await {
            let meta = meta.unwrap();
            let bytes = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
            objects.push((meta.location.to_string(), bytes));
        }
        objects.sort();
        objects
    })
}

/// A moment in an operation of a [`HookStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Before,
    After,
}

type Hook = dyn Fn(Moment, &str, &Path) -> StoreResult<()> + Send + Sync;

/// Tells a hook of every operation (`put`, `get`, `list`, `delete`), which may fail it.
#[derive(Clone)]
pub(super) struct HookStore {
    inner: Arc<dyn ObjectStore>,
    hook: Arc<Hook>,
    /// Whether put-if-absent overwrites.
    ignores_create: bool,
}

impl HookStore {
    pub(super) fn new(
        inner: &Arc<dyn ObjectStore>,
        hook: impl Fn(Moment, &str, &Path) -> StoreResult<()> + Send + Sync + 'static,
    ) -> Arc<dyn ObjectStore> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            hook: Arc::new(hook),
            ignores_create: false,
        })
    }

    pub(super) fn ignoring_create(inner: &Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            hook: Arc::new(|_, _, _| Ok(())),
            ignores_create: true,
        })
    }
}

/// The error of a store that is away for a while.
pub(super) fn away() -> StoreError {
    StoreError::Generic {
        store: "HookStore",
        source: "away".into(),
    }
}

/// Fails this many commits of the table's log before anything is written.
pub(super) fn failing_commits(world: &mut World, failures: usize) -> Arc<AtomicUsize> {
    let left = Arc::new(AtomicUsize::new(failures));
    let counter = Arc::clone(&left);
    world.tables = HookStore::new(&world.tables, move |moment, operation, path| {
        let commit = (moment, operation) == (Moment::Before, "put") && crate::table_log::is_commit(path.as_ref());
        let strikes = |left: usize| left.checked_sub(1);
        if commit
            && counter
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, strikes)
                .is_ok()
        {
            return Err(away());
        }
        Ok(())
    });
    left
}

impl fmt::Debug for HookStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookStore")
    }
}

impl fmt::Display for HookStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookStore")
    }
}

#[async_trait]
impl ObjectStore for HookStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut opts: PutOptions) -> StoreResult<PutResult> {
        (self.hook)(Moment::Before, "put", location)?;
        if self.ignores_create {
            opts.mode = PutMode::Overwrite;
        }
        let done = self.inner.put_opts(location, payload, opts).await?;
        (self.hook)(Moment::After, "put", location)?;
        Ok(done)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        (self.hook)(Moment::Before, "put", location)?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        (self.hook)(Moment::Before, "get", location)?;
        let got = self.inner.get_opts(location, options).await?;
        (self.hook)(Moment::After, "get", location)?;
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        (self.hook)(Moment::Before, "get", location)?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        let this = self.clone();
        let hooked = locations.map(move |location| {
            let location = location?;
            (this.hook)(Moment::Before, "delete", &location)?;
            Ok(location)
        });
        self.inner.delete_stream(hooked.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        match (self.hook)(Moment::Before, "list", prefix.unwrap_or(&Path::default())) {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        (self.hook)(Moment::Before, "list", prefix.unwrap_or(&Path::default()))?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
