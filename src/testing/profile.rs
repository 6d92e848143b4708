//! What some stores cannot do, shown on any store.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// How a store differs from S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// There are no ranges from the end of an object.
    Azure,
    /// An object that has been written is missing in the next two listings of the store.
    EventualList,
    /// There is no conditional update, as on the local file system.
    Local,
    /// All parts of a multipart upload but the last must have the same size, the last none that is larger, as
    /// on R2.
    R2,
    /// No difference.
    S3,
}

/// How many listings of [`Profile::EventualList`] lack a new object.
const LAG: u8 = 2;

/// Wraps an object store so that it has the limits of a [`Profile`].
#[derive(Clone, Debug)]
pub struct ProfileStore {
    inner: Arc<dyn ObjectStore>,
    profile: Profile,
    /// Objects that listings lack yet, and how many.
    newest: Arc<Mutex<BTreeMap<Path, u8>>>,
}

impl ProfileStore {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>, profile: Profile) -> Self {
        Self {
            inner,
            profile,
            newest: Arc::default(),
        }
    }

    fn written(&self, path: &Path) {
        if self.profile == Profile::EventualList {
            let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            newest.insert(path.clone(), LAG);
        }
    }

    /// What the next listing lacks.
    fn hidden(&self) -> BTreeSet<Path> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let hidden = newest.keys().cloned().collect();
        newest.retain(|_, listings| {
            *listings -= 1;
            *listings > 0
        });
        hidden
    }

    fn shown(&self, listed: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let hidden = self.hidden();
        let shows = move |meta: &Result<ObjectMeta>| {
            let is_hidden = meta.as_ref().is_ok_and(|meta| hidden.contains(&meta.location));
            futures::future::ready(!is_hidden)
        };
        listed.filter(shows).boxed()
    }
}

impl fmt::Display for ProfileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProfileStore({:?}, {})", self.profile, self.inner)
    }
}

#[async_trait]
impl ObjectStore for ProfileStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if self.profile == Profile::Local && matches!(opts.mode, PutMode::Update(_)) {
            return Err(StoreError::NotImplemented {
                operation: "`put_opts` with mode `PutMode::Update`".into(),
                implementer: self.to_string(),
            });
        }
        let result = self.inner.put_opts(location, payload, opts).await?;
        self.written(location);
        Ok(result)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(ProfileUpload {
            store: self.clone(),
            path: location.clone(),
            parts: Vec::new(),
            inner: self.inner.put_multipart_opts(location, opts).await?,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.profile == Profile::Azure && matches!(options.range, Some(GetRange::Suffix(_))) {
            return Err(StoreError::NotSupported {
                source: "suffix range requests".into(),
            });
        }
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.shown(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.shown(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        let hidden = self.hidden();
        listed.objects.retain(|meta| !hidden.contains(&meta.location));
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct ProfileUpload {
    store: ProfileStore,
    path: Path,
    parts: Vec<usize>,
    inner: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for ProfileUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.push(data.content_length());
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        if self.store.profile == Profile::R2 && !equal_but_last(&self.parts) {
            return Err(StoreError::Generic {
                store: "ProfileStore",
                source: format!(
                    "all non-trailing parts must have the same length. parts=`{:?}`",
                    self.parts
                )
                .into(),
            });
        }
        let result = self.inner.complete().await?;
        self.store.written(&self.path);
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

fn equal_but_last(parts: &[usize]) -> bool {
    let Some((last, others)) = parts.split_last() else {
        return true;
    };
    others
        .first()
        .is_none_or(|size| others.iter().all(|other| other == size) && last <= size)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    fn upload(profile: Profile, parts: &[usize]) -> Result<PutResult> {
        let store = ProfileStore::new(Arc::new(InMemory::new()), profile);
        block_on(async {
            let mut upload = store.put_multipart(&Path::from("x")).await.unwrap();
            for part in parts {
                upload.put_part(vec![0; *part].into()).await.unwrap();
            }
            upload.complete().await
        })
    }

    #[test]
    fn a_new_object_is_listed_the_third_time() {
        let store = ProfileStore::new(Arc::new(InMemory::new()), Profile::EventualList);
        block_on(store.put(&Path::from("x"), "".into())).unwrap();
        let listed = [(); 4].map(|()| block_on(store.list(None).count()));
        assert_eq!(listed, [0, 0, 1, 1]);
    }

    #[test]
    fn r2_refuses_parts_of_different_sizes() {
        assert!(upload(Profile::R2, &[8, 8, 3]).is_ok());
        assert!(upload(Profile::R2, &[8, 7, 8]).is_err());
        assert!(upload(Profile::R2, &[8, 9]).is_err());
        assert!(upload(Profile::S3, &[8, 9]).is_ok());
    }
}
