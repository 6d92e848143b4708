//! A store in memory with one thing wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use firnline::testing::{Profile, ProfileStore};
use futures::TryStreamExt;
use futures::stream::{self, BoxStream, StreamExt};

use crate::conformance::give_way;

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    LateReads,
    KeepsTheFirst,
    CutsOff,
    RemembersDeleted,
    CreateOverwrites,
    LooksThenCreates,
    UpdateNeverSucceeds,
    ClaimedUpdateOverwrites,
    UpdateOverwrites,
    PutsInTwoSteps,
    NewInTwoSteps,
    HeadFails,
    ListsWithoutTags,
    ListsOtherTags,
    TagIsSize,
    ListsOtherSizes,
    NoTime,
    IgnoresRanges,
    LongSuffixFails,
    LongRangeFails,
    IgnoresIfMatch,
    PartsInReverse,
    PartsAreSeen,
    AbortCompletes,
    ListsByCharacters,
    ListsOldSizes,
    OffsetIsListed,
    DirectoryIsDeep,
    OnePage,
    DecodesKeys,
    DeleteDoesNothing,
    BulkStops,
}

#[derive(Clone, Debug)]
pub(super) struct Broken {
    flaw: Flaw,
    inner: Arc<dyn ObjectStore>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    deleted: BTreeSet<Path>,
    unread: BTreeSet<Path>,
    sizes: BTreeMap<Path, u64>,
}

impl Broken {
    pub(super) fn new(flaw: Flaw) -> Self {
        let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let has_update = matches!(flaw, Flaw::UpdateNeverSucceeds | Flaw::ClaimedUpdateOverwrites);
        Self {
            flaw,
            inner: match has_update {
                true => memory,
                false => Arc::new(ProfileStore::new(memory, Profile::Local)),
            },
            seen: Arc::default(),
        }
    }

    async fn is_there(&self, at: &Path) -> bool {
        self.inner.head(at).await.is_ok()
    }

    /// Metadata as this store gives them.
    fn told(&self, mut meta: ObjectMeta, is_listed: bool) -> ObjectMeta {
        match self.flaw {
            Flaw::TagIsSize => meta.e_tag = Some(meta.size.to_string()),
            Flaw::NoTime => meta.last_modified = std::time::SystemTime::UNIX_EPOCH.into(),
            Flaw::ListsWithoutTags if is_listed => meta.e_tag = None,
            Flaw::ListsOtherTags if is_listed => meta.e_tag = meta.e_tag.map(|tag| format!("W/{tag}")),
            Flaw::ListsOtherSizes if is_listed => meta.size += 1,
            Flaw::ListsOldSizes if is_listed => {
                let mut seen = self.seen.lock().unwrap();
                meta.size = *seen.sizes.entry(meta.location.clone()).or_insert(meta.size);
            }
            Flaw::DecodesKeys if is_listed => {
                let decoded = meta.location.as_ref().replace("%20", " ");
                meta.location = Path::parse(decoded).unwrap();
            }
            _ => {}
        }
        meta
    }

    fn listing(&self, listed: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        let count = if self.flaw == Flaw::OnePage { 1_000 } else { usize::MAX };
        listed.map_ok(move |meta| this.told(meta, true)).take(count).boxed()
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broken({:?})", self.flaw)
    }
}

fn failed() -> Error {
    Error::Generic {
        store: "broken",
        source: "not today".into(),
    }
}

fn exists(at: &Path) -> Error {
    Error::AlreadyExists {
        path: at.to_string(),
        source: "taken".into(),
    }
}

fn first_half(payload: &PutPayload) -> PutPayload {
    let all: Vec<u8> = payload.iter().flatten().copied().collect();
    all[..all.len() / 2].to_vec().into()
}

#[async_trait]
impl ObjectStore for Broken {
    async fn put_opts(&self, at: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        self.seen.lock().unwrap().unread.insert(at.clone());
        let is_there = self.is_there(at).await;
        let payload = match self.flaw {
            Flaw::CutsOff if payload.content_length() > 50_000 => first_half(&payload),
            _ => payload,
        };
        match (&options.mode, self.flaw) {
            (PutMode::Overwrite, Flaw::KeepsTheFirst) if is_there => options.mode = PutMode::Create,
            (PutMode::Overwrite, Flaw::PutsInTwoSteps) if is_there => {
                self.inner.put(at, first_half(&payload)).await?;
                give_way().await;
            }
            (PutMode::Overwrite, Flaw::NewInTwoSteps) if !is_there => {
                self.inner.put(at, first_half(&payload)).await?;
                give_way().await;
            }
            (PutMode::Create, Flaw::RemembersDeleted) if self.seen.lock().unwrap().deleted.contains(at) => {
                return Err(exists(at));
            }
            (PutMode::Create, Flaw::CreateOverwrites)
            | (PutMode::Update(_), Flaw::ClaimedUpdateOverwrites | Flaw::UpdateOverwrites) => {
                options.mode = PutMode::Overwrite;
            }
            (PutMode::Create, Flaw::LooksThenCreates) if !is_there => {
                give_way().await;
                options.mode = PutMode::Overwrite;
            }
            (PutMode::Update(_), Flaw::UpdateNeverSucceeds) => {
                return Err(Error::Precondition {
                    path: at.to_string(),
                    source: "never".into(),
                });
            }
            _ => {}
        }
        let size = payload.content_length();
        let mut put = match self.inner.put_opts(at, payload, options).await {
            Err(Error::AlreadyExists { .. }) if self.flaw == Flaw::KeepsTheFirst => {
                let e_tag = self.inner.head(at).await?.e_tag;
                PutResult {
                    e_tag,
                    version: None,
                    extensions: firnline::object_store::Extensions::default(),
                }
            }
            put => put?,
        };
        if self.flaw == Flaw::TagIsSize {
            put.e_tag = Some(size.to_string());
        }
        Ok(put)
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(at, options).await?;
        Ok(match self.flaw {
            Flaw::PartsInReverse | Flaw::PartsAreSeen | Flaw::AbortCompletes => Box::new(BrokenUpload {
                store: self.clone(),
                at: at.clone(),
                parts: Vec::new(),
            }),
            _ => inner,
        })
    }

    async fn get_opts(&self, at: &Path, mut options: GetOptions) -> Result<GetResult> {
        let is_unread = self.seen.lock().unwrap().unread.remove(at);
        let size = self.inner.head(at).await.map_or(0, |meta| meta.size);
        match (&options.range, self.flaw) {
            (_, Flaw::LateReads) if is_unread => {
                return Err(Error::NotFound {
                    path: at.to_string(),
                    source: "not yet".into(),
                });
            }
            (_, Flaw::HeadFails) if options.head && !self.is_there(at).await => return Err(failed()),
            (_, Flaw::IgnoresIfMatch) => options.if_match = None,
            (Some(GetRange::Bounded(_)), Flaw::IgnoresRanges) => options.range = None,
            (Some(GetRange::Suffix(length)), Flaw::LongSuffixFails) if *length > size => return Err(failed()),
            (Some(GetRange::Bounded(range)), Flaw::LongRangeFails) if range.end > size => return Err(failed()),
            _ => {}
        }
        let mut got = self.inner.get_opts(at, options).await?;
        got.meta = self.told(got.meta, false);
        Ok(got)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        match self.flaw {
            Flaw::DeleteDoesNothing => paths
                .then(move |at| {
                    let this = this.clone();
                    async move {
                        let at = at?;
                        if !at.as_ref().starts_with("deletes/") {
                            this.inner.delete(&at).await?;
                        }
                        Ok(at)
                    }
                })
                .boxed(),
            Flaw::BulkStops => stream::try_unfold((this, paths), |(this, mut paths)| async move {
                let Some(at) = paths.try_next().await? else {
                    return Ok(None);
                };
                this.inner.head(&at).await?;
                this.inner.delete(&at).await?;
                Ok(Some((at, (this, paths))))
            })
            .boxed(),
            _ => {
                let remembered = paths.inspect_ok(move |at| {
                    this.seen.lock().unwrap().deleted.insert(at.clone());
                });
                self.inner.delete_stream(remembered.boxed())
            }
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.flaw {
            Flaw::ListsByCharacters => {
                let prefix = prefix.map(ToString::to_string).unwrap_or_default();
                let shows = move |meta: &ObjectMeta| meta.location.as_ref().starts_with(&prefix);
                let listed = self.inner.list(None);
                listed
                    .try_filter(move |meta| futures::future::ready(shows(meta)))
                    .boxed()
            }
            _ => self.listing(self.inner.list(prefix)),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let offset = offset.clone();
        match self.flaw {
            Flaw::OffsetIsListed => {
                let listed = self.inner.list(prefix);
                listed
                    .try_filter(move |meta| futures::future::ready(meta.location >= offset))
                    .boxed()
            }
            _ => self.listing(self.inner.list_with_offset(prefix, &offset)),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        if self.flaw == Flaw::DirectoryIsDeep {
            listed.objects = self.inner.list(prefix).try_collect().await?;
        }
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// An upload that does something else with its parts.
#[derive(Debug)]
struct BrokenUpload {
    store: Broken,
    at: Path,
    parts: Vec<Vec<u8>>,
}

#[async_trait]
impl MultipartUpload for BrokenUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.push(data.iter().flatten().copied().collect());
        let all = self.parts.concat();
        let (store, at) = (self.store.clone(), self.at.clone());
        Box::pin(async move {
            if store.flaw == Flaw::PartsAreSeen {
                store.inner.put(&at, all.into()).await?;
            }
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        if self.store.flaw == Flaw::PartsInReverse {
            self.parts.reverse();
        }
        self.store.inner.put(&self.at, self.parts.concat().into()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.complete().await.map(drop)
    }
}
