//! A store that answers each request late.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use futures_timer::Delay;

/// Objects in memory, as far away as `latency` makes them.
#[derive(Debug)]
pub(crate) struct Distant {
    pub(crate) inner: InMemory,
    pub(crate) latency: Duration,
}

impl fmt::Display for Distant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Distant")
    }
}

#[async_trait]
impl ObjectStore for Distant {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        Delay::new(self.latency).await;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Delay::new(self.latency).await;
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        let latency = self.latency;
        Ok(Box::new(DistantUpload { inner, latency }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        Delay::new(self.latency).await;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let latency = self.latency;
        let late = Delay::new(latency).map(|()| None).into_stream();
        let deleted = self.inner.delete_stream(locations).map(Some);
        late.chain(deleted).filter_map(|path| async move { path }).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let late = Delay::new(self.latency).map(|()| None).into_stream();
        let listed = self.inner.list(prefix).map(Some);
        late.chain(listed).filter_map(|meta| async move { meta }).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        Delay::new(self.latency).await;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        Delay::new(self.latency).await;
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct DistantUpload {
    inner: Box<dyn MultipartUpload>,
    latency: Duration,
}

#[async_trait]
impl MultipartUpload for DistantUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (late, put) = (Delay::new(self.latency), self.inner.put_part(data));
        late.then(|()| put).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        Delay::new(self.latency).await;
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        Delay::new(self.latency).await;
        self.inner.abort().await
    }
}
