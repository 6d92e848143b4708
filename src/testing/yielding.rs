//! Stores that are never ready at once, so that others may act between any two operations, and a future that is dropped
//! after k polls stops at another place for each k.

use std::fmt;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result as StoreResult,
};

use crate::error::Result;
use crate::state::{DeleteOutcome, SaveOutcome, StateKey, StateStore, StateVersion, StoredState};

/// Ready at the second poll.
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

/// Wraps an object store: gives way before each operation, each path that is deleted and each object that is listed.
#[derive(Clone, Debug)]
pub struct YieldingStore(Arc<dyn ObjectStore>);

impl YieldingStore {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self(inner)
    }
}

impl fmt::Display for YieldingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "YieldingStore({})", self.0)
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
        after_giving_way(self.0.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        after_giving_way(self.0.list_with_offset(prefix, offset))
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

fn after_giving_way<'a, T: Send + 'a>(listing: BoxStream<'a, T>) -> BoxStream<'a, T> {
    let slowly = listing.then(|listed| async move {
        give_way().await;
        listed
    });
    let pause = stream::once(give_way()).flat_map(|()| stream::empty());
    pause.chain(slowly).boxed()
}

/// Wraps a state store: gives way before each operation.
#[derive(Clone, Debug)]
pub struct YieldingStateStore(Arc<dyn StateStore>);

impl YieldingStateStore {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn StateStore>) -> Self {
        Self(inner)
    }
}

#[async_trait]
impl StateStore for YieldingStateStore {
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
        after_giving_way(self.0.list(prefix))
    }
}
