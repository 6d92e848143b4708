//! Stores that stand below and above the fault-injecting ones: virtual time, pauses, a state that can be rewound.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use firnline::object_store::path::Path;
use firnline::object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result as StoreResult, UploadPart,
};
use firnline::testing::VirtualClock;
use firnline::{Clock, DeleteOutcome, Result, SaveOutcome, StateKey, StateStore, StateVersion, StoredState, Timestamp};
use futures::stream::{self, BoxStream, StreamExt};

type Times = Arc<Mutex<BTreeMap<Path, Timestamp>>>;

/// Something that happens in the world between two operations of a store.
pub(super) type Meanwhile = Box<dyn FnOnce() + Send>;

/// A store whose `last_modified` is by the virtual clock, and into whose operations others may come.
#[derive(Clone)]
pub(super) struct ClockedStore {
    inner: Arc<dyn ObjectStore>,
    clock: VirtualClock,
    times: Times,
    /// What happens before the operation of that number.
    meanwhile: Arc<Mutex<(usize, Option<(usize, Meanwhile)>)>>,
}

impl ClockedStore {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, clock: &VirtualClock) -> Self {
        Self {
            inner,
            clock: clock.clone(),
            times: Times::default(),
            meanwhile: Arc::default(),
        }
    }

    /// Lets `what` happen before the operation number `index`.
    pub(super) fn before(&self, index: usize, what: Meanwhile) {
        self.meanwhile.lock().unwrap().1 = Some((index, what));
    }

    pub(super) fn below(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.inner)
    }

    /// How many operations there were.
    pub(super) fn operations(&self) -> usize {
        self.meanwhile.lock().unwrap().0
    }

    fn count(&self) {
        let what = {
            let mut meanwhile = self.meanwhile.lock().unwrap();
            let number = meanwhile.0;
            meanwhile.0 += 1;
            let due = meanwhile.1.as_ref().is_some_and(|(index, _)| *index == number);
            if due { meanwhile.1.take() } else { None }
        };
        if let Some((_, what)) = what {
            what();
        }
    }

    fn written(&self, path: &Path) {
        self.times.lock().unwrap().insert(path.clone(), self.clock.now());
    }

    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        if let Some(time) = self.times.lock().unwrap().get(&meta.location) {
            meta.last_modified = DateTime::<Utc>::from_timestamp_millis(time.as_millis()).unwrap();
        }
        meta
    }

    fn dated_all(
        &self,
        metas: BoxStream<'static, StoreResult<ObjectMeta>>,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let this = self.clone();
        metas.map(move |meta| meta.map(|meta| this.dated(meta))).boxed()
    }
}

impl fmt::Debug for ClockedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClockedStore")
    }
}

impl fmt::Display for ClockedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClockedStore")
    }
}

#[async_trait]
impl ObjectStore for ClockedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> StoreResult<PutResult> {
        self.count();
        let result = self.inner.put_opts(location, payload, opts).await?;
        self.written(location);
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        Ok(Box::new(ClockedUpload {
            store: self.clone(),
            path: location.clone(),
            inner: self.inner.put_multipart_opts(location, opts).await?,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.count();
        let mut result = self.inner.get_opts(location, options).await?;
        result.meta = self.dated(result.meta);
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.count();
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.count();
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.count();
        self.dated_all(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.count();
        self.dated_all(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.count();
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        listed.objects = listed.objects.into_iter().map(|meta| self.dated(meta)).collect();
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.written(to);
        Ok(())
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> StoreResult<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.written(to);
        Ok(())
    }
}

#[derive(Debug)]
struct ClockedUpload {
    store: ClockedStore,
    path: Path,
    inner: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for ClockedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        let result = self.inner.complete().await?;
        self.store.written(&self.path);
        Ok(result)
    }

    async fn abort(&mut self) -> StoreResult<()> {
        self.inner.abort().await
    }
}

/// Gives way once, so that somebody else may act before what follows.
pub(super) async fn give_way() {
    let mut gave = false;
    poll_fn(|context| {
        if std::mem::replace(&mut gave, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A store that gives way before each operation.
#[derive(Clone, Debug)]
pub(super) struct YieldingStore(pub(super) Arc<dyn ObjectStore>);

impl fmt::Display for YieldingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YieldingStore")
    }
}

#[async_trait]
impl ObjectStore for YieldingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> StoreResult<PutResult> {
        give_way().await;
        self.0.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        give_way().await;
        self.0.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        give_way().await;
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        give_way().await;
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        let slowly = locations.then(|location| async move {
            give_way().await;
            location
        });
        self.0.delete_stream(slowly.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let listing = self.0.list(prefix);
        stream::once(give_way())
            .flat_map(|()| stream::empty())
            .chain(listing)
            .boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let listing = self.0.list_with_offset(prefix, offset);
        stream::once(give_way())
            .flat_map(|()| stream::empty())
            .chain(listing)
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        give_way().await;
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        give_way().await;
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> StoreResult<()> {
        give_way().await;
        self.0.rename_opts(from, to, options).await
    }
}

/// A state store that gives way before each operation.
#[derive(Clone, Debug)]
pub(super) struct YieldingState(pub(super) Arc<dyn StateStore>);

#[async_trait]
impl StateStore for YieldingState {
    async fn load(&self, key: &StateKey) -> Result<Option<StoredState>> {
        give_way().await;
        self.0.load(key).await
    }

    async fn save(&self, key: &StateKey, bytes: Bytes, expected: Option<&StateVersion>) -> Result<SaveOutcome> {
        give_way().await;
        self.0.save(key, bytes, expected).await
    }

    async fn delete(&self, key: &StateKey, expected: &StateVersion) -> Result<DeleteOutcome> {
        give_way().await;
        self.0.delete(key, expected).await
    }

    fn list(&self, prefix: &StateKey) -> BoxStream<'_, Result<StateKey>> {
        let listing = self.0.list(prefix);
        stream::once(give_way())
            .flat_map(|()| stream::empty())
            .chain(listing)
            .boxed()
    }
}

/// A state store in memory that keeps every value there was, so that a test can lose them or put them back.
#[derive(Debug, Default)]
pub(super) struct RewindState(Mutex<Rewind>);

#[derive(Debug, Default)]
struct Rewind {
    versions: u64,
    values: BTreeMap<String, Vec<Option<StoredState>>>,
}

impl Rewind {
    fn current(&self, key: &StateKey) -> Option<StoredState> {
        self.values.get(key.as_str())?.last()?.clone()
    }

    fn write(&mut self, key: &StateKey, value: Option<Bytes>) -> StateVersion {
        self.versions += 1;
        let version = StateVersion::new(self.versions.to_string());
        let stored = value.map(|bytes| StoredState {
            bytes,
            version: version.clone(),
        });
        self.values.entry(key.as_str().to_owned()).or_default().push(stored);
        version
    }
}

impl RewindState {
    /// Loses everything.
    pub(super) fn wipe(&self) {
        self.0.lock().unwrap().values.clear();
    }

    /// The keys that were ever written.
    pub(super) fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().values.keys().cloned().collect()
    }

    /// Puts back what a key held `steps` writes ago (nothing, before the first), under its old version.
    pub(super) fn rewind(&self, key: &str, steps: usize) {
        let mut rewind = self.0.lock().unwrap();
        let Some(values) = rewind.values.get_mut(key) else {
            return;
        };
        let old = values.len().checked_sub(steps + 1).and_then(|at| values[at].clone());
        values.push(old);
    }
}

#[async_trait]
impl StateStore for RewindState {
    async fn load(&self, key: &StateKey) -> Result<Option<StoredState>> {
        Ok(self.0.lock().unwrap().current(key))
    }

    async fn save(&self, key: &StateKey, bytes: Bytes, expected: Option<&StateVersion>) -> Result<SaveOutcome> {
        let mut rewind = self.0.lock().unwrap();
        if rewind.current(key).map(|stored| stored.version).as_ref() != expected {
            return Ok(SaveOutcome::Conflict);
        }
        Ok(SaveOutcome::Saved(rewind.write(key, Some(bytes))))
    }

    async fn delete(&self, key: &StateKey, expected: &StateVersion) -> Result<DeleteOutcome> {
        let mut rewind = self.0.lock().unwrap();
        if rewind.current(key).map(|stored| stored.version).as_ref() != Some(expected) {
            return Ok(DeleteOutcome::Conflict);
        }
        rewind.write(key, None);
        Ok(DeleteOutcome::Deleted)
    }

    fn list(&self, prefix: &StateKey) -> BoxStream<'_, Result<StateKey>> {
        let rewind = self.0.lock().unwrap();
        let keys: Vec<_> = rewind
            .values
            .iter()
            .filter(|(_, values)| values.last().is_some_and(Option::is_some))
            .map(|(key, _)| StateKey::from_encoded(key.clone()))
            .filter(|key| key.starts_with(prefix))
            .collect();
        stream::iter(keys.into_iter().map(Ok)).boxed()
    }
}
