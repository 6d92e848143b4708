//! A store that notes what is asked of it, and fails on demand.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use futures::stream::BoxStream;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Abort,
    Complete,
    Get { path: String, conditional: bool },
    Head,
    Part(usize),
    Put(usize),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Recording(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    store: InMemory,
    log: Mutex<Vec<Request>>,
    /// The request that fails, counted from the first after it was set.
    fail_in: Mutex<Option<usize>>,
}

impl Recording {
    pub(crate) fn log(&self) -> Vec<Request> {
        self.0.log.lock().unwrap().clone()
    }

    pub(crate) fn clear(&self) {
        self.0.log.lock().unwrap().clear();
    }

    pub(crate) fn fail_in(&self, requests: Option<usize>) {
        *self.0.fail_in.lock().unwrap() = requests;
    }

    fn note(&self, request: Request) -> Result<()> {
        self.0.log.lock().unwrap().push(request);
        let mut fail_in = self.0.fail_in.lock().unwrap();
        match &mut *fail_in {
            Some(0) => {
                *fail_in = None;
                let source = "injected".into();
                Err(Error::Generic { store: "test", source })
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recording")
    }
}

#[async_trait]
impl ObjectStore for Recording {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.note(Request::Put(payload.content_length()))?;
        self.0.store.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.0.store.put_multipart_opts(location, opts).await?;
        let store = self.clone();
        Ok(Box::new(RecordingUpload { store, upload }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.note(if options.head {
            Request::Head
        } else {
            Request::Get {
                path: location.to_string(),
                conditional: options.if_match.is_some(),
            }
        })?;
        self.0.store.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.store.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct RecordingUpload {
    store: Recording,
    upload: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for RecordingUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        if let Err(error) = self.store.note(Request::Part(data.content_length())) {
            return Box::pin(async { Err(error) });
        }
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.store.note(Request::Complete)?;
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.store.note(Request::Abort)?;
        self.upload.abort().await
    }
}
