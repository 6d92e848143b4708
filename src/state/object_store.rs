//! State on an object store, by compare-and-set.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore};

use super::envelope::{Nonce, is_tombstone};
use super::etag::Tagged;
use super::numbered::{Appended, Numbered, Write, list_heads};
use super::{DeleteOutcome, SaveOutcome, StateKey, StateStore, StateVersion, StoredState, check_value};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Randomness, SystemRandomness};

/// A [`StateStore`] on an object store.
///
/// By default every write of a key is an object of its own, `{prefix}/{key}/~{number}`, created only if it is
/// absent: that works on every store that has put-if-absent, also on the local file system, which cannot
/// update conditionally. A few old numbers stay until the next write. A deleted key leaves a tombstone of a
/// hundred bytes, so that its versions never come back.
///
/// Objects under `prefix` belong to this store alone. Nothing else may be written there, and a lifecycle rule
/// must not expire them; if they are lost or damaged, the compactor rebuilds what they held.
#[derive(Debug)]
pub struct ObjectStoreStateStore {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    randomness: Arc<dyn Randomness>,
    form: Form,
}

/// How writes of one key are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Numbered,
    Tagged,
}

impl ObjectStoreStateStore {
    /// A state store under `prefix` of `store`.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self {
            store,
            prefix,
            randomness: Arc::new(SystemRandomness),
            form: Form::Numbered,
        }
    }

    /// Keeps one object for each key, `{prefix}/{key}/~state`, and updates it by its entity tag: fewer requests,
    /// on stores that can do that (S3, R2, GCS, Azure; not the local file system). The two forms do not see
    /// each other's values.
    #[must_use]
    pub fn with_etag_updates(mut self) -> Self {
        self.form = Form::Tagged;
        self
    }

    /// Draws the nonces that tell writes apart from `randomness` instead of from the system.
    #[must_use]
    pub fn with_randomness(mut self, randomness: Arc<dyn Randomness>) -> Self {
        self.randomness = randomness;
        self
    }

    fn directory(&self, key: &StateKey) -> Result<Path> {
        let text = match self.prefix.as_ref() {
            "" => key.as_str().to_owned(),
            prefix => format!("{prefix}/{key}"),
        };
        Path::parse(&text).map_err(|e| Error::from_store("name", key, e.into()))
    }

    fn numbered<'a>(&'a self, key: &'a StateKey) -> Result<Numbered<'a>> {
        Ok(Numbered {
            store: &*self.store,
            directory: self.directory(key)?,
            key,
        })
    }

    fn tagged<'a>(&'a self, key: &'a StateKey) -> Result<Tagged<'a>> {
        Tagged::new(&*self.store, &self.directory(key)?, key)
    }

    fn nonce(&self) -> Nonce {
        Nonce(self.randomness.random_u128())
    }

    /// Writes a value or a tombstone.
    async fn write(
        &self,
        key: &StateKey,
        value: Option<&[u8]>,
        expected: Option<&StateVersion>,
    ) -> Result<SaveOutcome> {
        match self.form {
            Form::Numbered => {
                let numbered = self.numbered(key)?;
                let expected = match expected {
                    Some(version) => Write::decode(version.as_str()),
                    None => match numbered.load().await? {
                        None => Some(Write::NONE),
                        Some((tombstone, None)) => Some(tombstone),
                        Some((_, Some(_))) => None,
                    },
                };
                let Some(expected) = expected else {
                    return Ok(SaveOutcome::Conflict);
                };
                Ok(match numbered.append(expected, self.nonce(), value).await? {
                    Appended::Conflict => SaveOutcome::Conflict,
                    Appended::Saved(write) => SaveOutcome::Saved(StateVersion::new(write.encode())),
                })
            }
            Form::Tagged => self.tagged(key)?.write(expected, self.nonce(), value).await,
        }
    }

    async fn keys(&self, prefix: &StateKey) -> Result<Vec<StateKey>> {
        let directory = self.directory(prefix)?;
        let heads = match self.form {
            Form::Numbered => list_heads(&*self.store, &directory).await?,
            Form::Tagged => Tagged::list(&*self.store, &directory).await?,
        };
        let root = match self.prefix.as_ref() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let live = heads.into_iter().filter(|(_, size)| !is_tombstone(*size));
        Ok(live
            .filter_map(|(directory, _)| directory.strip_prefix(&root).map(StateKey::from_encoded))
            .collect())
    }
}

#[async_trait]
impl StateStore for ObjectStoreStateStore {
    async fn load(&self, key: &StateKey) -> Result<Option<StoredState>> {
        match self.form {
            Form::Numbered => Ok(self.numbered(key)?.load().await?.and_then(|(write, value)| {
                Some(StoredState {
                    bytes: value?,
                    version: StateVersion::new(write.encode()),
                })
            })),
            Form::Tagged => self.tagged(key)?.load().await,
        }
    }

    async fn save(&self, key: &StateKey, bytes: Bytes, expected: Option<&StateVersion>) -> Result<SaveOutcome> {
        check_value(key, &bytes)?;
        self.write(key, Some(&bytes), expected).await
    }

    async fn delete(&self, key: &StateKey, expected: &StateVersion) -> Result<DeleteOutcome> {
        Ok(match self.write(key, None, Some(expected)).await? {
            SaveOutcome::Conflict => DeleteOutcome::Conflict,
            SaveOutcome::Saved(_) => DeleteOutcome::Deleted,
        })
    }

    fn list(&self, prefix: &StateKey) -> BoxStream<'_, Result<StateKey>> {
        let prefix = prefix.clone();
        stream::once(async move { self.keys(&prefix).await })
            .map_ok(|keys| stream::iter(keys.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }
}

/// Whether the store says that it will never do this, so that nothing is to be found out.
pub(super) fn proves_refusal(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::NotImplemented { .. }
            | StoreError::NotSupported { .. }
            | StoreError::PermissionDenied { .. }
            | StoreError::Unauthenticated { .. }
    )
}

/// What became of a write cannot be told, since the store did not answer as it should.
pub(super) fn unknown_outcome(key: &StateKey) -> Error {
    maybe_written(ErrorKind::Unavailable, key)
}

/// What became of a write cannot be told, since others have written since.
pub(super) fn overtaken(key: &StateKey) -> Error {
    maybe_written(ErrorKind::Conflict, key)
}

fn maybe_written(kind: ErrorKind, key: &StateKey) -> Error {
    Error::new(
        kind,
        format!("state may or may not have been written: load it again. key=`{key}`"),
    )
}
