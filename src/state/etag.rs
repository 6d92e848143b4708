//! Compare-and-set by entity tag: one object for each key.
//!
//! The object carries a nonce of its write, so that no two writes have the same entity tag even where that is
//! a hash of the bytes, and a writer whose answer was lost recognises its own. A delete writes a tombstone,
//! as object stores cannot delete conditionally.

use std::collections::BTreeMap;

use futures::StreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};
use serde::{Deserialize, Serialize};

use super::envelope::{Envelope, Header, Nonce};
use super::object_store::{overtaken, proves_refusal, unknown_outcome};
use super::{SaveOutcome, StateKey, StateVersion, StoredState};
use crate::error::{Error, ErrorKind, Result};

/// Name of the object in the directory of its key; no key contains a `~`.
const NAME: &str = "~state";

/// The object of one key.
#[derive(Debug)]
pub(super) struct Tagged<'a> {
    store: &'a dyn ObjectStore,
    path: Path,
    key: &'a StateKey,
}

/// What a version holds: the nonce, and what the store wants to see again.
#[derive(Serialize, Deserialize)]
struct Version(String, Option<String>, Option<String>);

impl<'a> Tagged<'a> {
    pub(super) fn new(store: &'a dyn ObjectStore, directory: &Path, key: &'a StateKey) -> Result<Self> {
        let path = Path::parse(format!("{directory}/{NAME}")).map_err(|e| Error::from_store("name", key, e.into()))?;
        Ok(Self { store, path, key })
    }

    pub(super) async fn load(&self) -> Result<Option<StoredState>> {
        let Some((envelope, tag)) = self.read().await? else {
            return Ok(None);
        };
        let Some(bytes) = envelope.value else { return Ok(None) };
        let version = Self::version(envelope.header.nonce, tag)?;
        Ok(Some(StoredState { bytes, version }))
    }

    /// Writes `value` (`None`: a tombstone) if the version is `expected`.
    pub(super) async fn write(
        &self,
        expected: Option<&StateVersion>,
        nonce: Nonce,
        value: Option<&[u8]>,
    ) -> Result<SaveOutcome> {
        let expected = match expected {
            Some(version) => match Self::parse(version) {
                Some(expected) => Some(expected),
                None => return Ok(SaveOutcome::Conflict),
            },
            None => match self.read().await? {
                None => None,
                Some((tombstone, tag)) if tombstone.value.is_none() => Some((tombstone.header.nonce, tag)),
                Some(_) => return Ok(SaveOutcome::Conflict),
            },
        };
        let previous = expected.as_ref().map_or(Nonce::NONE, |(nonce, _)| *nonce);
        let mode = expected.map_or(PutMode::Create, |(_, tag)| PutMode::Update(tag));
        let body = Header { nonce, previous }.encode(value);
        match self.store.put_opts(&self.path, body.into(), mode.into()).await {
            Ok(put) if put.e_tag.is_some() => {
                let tag = UpdateVersion::from(put);
                Ok(SaveOutcome::Saved(Self::version(nonce, tag)?))
            }
            Ok(_) => self.settle(previous, nonce, None).await,
            Err(error) if proves_refusal(&error) => Err(Error::from_store("conditional put", self.key, error)),
            Err(error) => self.settle(previous, nonce, Some(error)).await,
        }
    }

    /// Finds out what became of a write whose answer says nothing certain.
    async fn settle(&self, previous: Nonce, nonce: Nonce, error: Option<StoreError>) -> Result<SaveOutcome> {
        // Real S3 answers a missing object with "not found", others with "precondition failed".
        let refused = matches!(
            error,
            Some(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } | StoreError::NotFound { .. })
        );
        let unknown = match self.read().await {
            Ok(Some((envelope, tag))) if envelope.header.nonce == nonce => {
                return Ok(SaveOutcome::Saved(Self::version(nonce, tag)?));
            }
            Ok(Some((envelope, _))) if envelope.header.nonce != previous && envelope.header.previous != nonce => {
                return Ok(SaveOutcome::Conflict);
            }
            Ok(None) if refused => return Ok(SaveOutcome::Conflict),
            Ok(Some((envelope, _))) if refused || envelope.header.previous == nonce => overtaken(self.key),
            Ok(_) | Err(_) => unknown_outcome(self.key),
        };
        Err(match error {
            Some(error) => unknown.with_source(error),
            None => unknown,
        })
    }

    /// The objects of all keys under `prefix`, as their directories and sizes.
    pub(super) async fn list(store: &dyn ObjectStore, prefix: &Path) -> Result<BTreeMap<String, u64>> {
        let mut sizes = BTreeMap::new();
        let mut listed = store.list(Some(prefix));
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|e| Error::from_store("list", prefix, e))?;
            if let Some((directory, NAME)) = meta.location.as_ref().rsplit_once('/') {
                sizes.insert(directory.to_owned(), meta.size);
            }
        }
        Ok(sizes)
    }

    async fn read(&self) -> Result<Option<(Envelope, UpdateVersion)>> {
        let read = async {
            let result = self.store.get(&self.path).await?;
            let tag = UpdateVersion {
                e_tag: result.meta.e_tag.clone(),
                version: result.meta.version.clone(),
            };
            object_store::Result::Ok((result.bytes().await?, tag))
        };
        let (bytes, tag) = match read.await {
            Ok(read) => read,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(Error::from_store("get", self.key, error)),
        };
        Ok(Some((Envelope::read(self.key, &bytes)?, tag)))
    }

    fn version(nonce: Nonce, tag: UpdateVersion) -> Result<StateVersion> {
        serde_json::to_string(&Version(nonce.to_string(), tag.e_tag, tag.version))
            .map(StateVersion::new)
            .map_err(|e| Error::new(ErrorKind::Internal, "state version cannot be encoded").with_source(e))
    }

    fn parse(version: &StateVersion) -> Option<(Nonce, UpdateVersion)> {
        let Version(nonce, e_tag, version) = serde_json::from_str(version.as_str()).ok()?;
        Some((nonce.parse().ok()?, UpdateVersion { e_tag, version }))
    }
}
