//! An object store in virtual time, into whose operations others may come.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use super::VirtualClock;
use crate::time::{Clock, Timestamp};

/// Wraps an object store: objects were modified when a [`VirtualClock`] showed it, and something else may be done
/// between two operations.
#[derive(Clone)]
pub struct ClockedStore {
    inner: Arc<dyn ObjectStore>,
    clock: VirtualClock,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    times: BTreeMap<Path, Timestamp>,
    operations: usize,
    meanwhile: Option<(usize, Box<dyn FnOnce() + Send>)>,
}

impl ClockedStore {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>, clock: &VirtualClock) -> Self {
        Self {
            inner,
            clock: clock.clone(),
            shared: Arc::default(),
        }
    }

    /// Does `what` before the operation number `index`, counted from 0: as another process would, straight on the store
    /// that is wrapped.
    pub fn before(&self, index: usize, what: impl FnOnce() + Send + 'static) {
        self.lock().meanwhile = Some((index, Box::new(what)));
    }

    /// Puts, reads, listings and deletions so far; those of parts of uploads are not counted.
    pub fn operations(&self) -> usize {
        self.lock().operations
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) {
        let mut shared = self.lock();
        let number = shared.operations;
        shared.operations += 1;
        let due = shared.meanwhile.take_if(|(index, _)| *index == number);
        drop(shared);
        if let Some((_, what)) = due {
            what();
        }
    }

    fn written(&self, path: &Path) {
        let now = self.clock.now();
        self.lock().times.insert(path.clone(), now);
    }

    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let written = self.lock().times.get(&meta.location).copied();
        let written = written.and_then(|time| DateTime::from_timestamp_millis(time.as_millis()));
        meta.last_modified = written.unwrap_or(meta.last_modified);
        meta
    }

    fn dated_all(&self, metas: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        metas.map(move |meta| meta.map(|meta| this.dated(meta))).boxed()
    }
}

impl fmt::Debug for ClockedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for ClockedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClockedStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for ClockedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.count();
        let result = self.inner.put_opts(location, payload, opts).await?;
        self.written(location);
        Ok(result)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(ClockedUpload {
            store: self.clone(),
            path: location.clone(),
            inner: self.inner.put_multipart_opts(location, opts).await?,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.count();
        let mut result = self.inner.get_opts(location, options).await?;
        result.meta = self.dated(result.meta);
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.count();
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.count();
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count();
        self.dated_all(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count();
        self.dated_all(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.count();
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        listed.objects = listed.objects.into_iter().map(|meta| self.dated(meta)).collect();
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.written(to);
        Ok(())
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
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

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.inner.complete().await?;
        self.store.written(&self.path);
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::executor::block_on;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn objects_are_as_old_as_the_clock_says_and_others_come_in_between() {
        let clock = VirtualClock::new(Timestamp::from_millis(5));
        let below: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let store = ClockedStore::new(Arc::clone(&below), &clock);
        let path = Path::from("x");
        store.before(1, {
            let path = path.clone();
            // An executor is running already: the memory answers at once.
            move || below.delete(&path).now_or_never().unwrap().unwrap()
        });
        block_on(store.put(&path, "1".into())).unwrap();
        clock.advance(2);
        assert!(block_on(store.head(&path)).is_err());
        block_on(store.put(&path, "2".into())).unwrap();
        clock.advance(2);
        let modified = block_on(store.head(&path)).unwrap().last_modified;
        assert_eq!((modified.timestamp_millis(), store.operations()), (7, 4));
    }
}
