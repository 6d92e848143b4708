//! Where a host keeps what the compactor remembers between runs: a cache, never the truth.

mod chunk;
pub(crate) mod document;
mod envelope;
mod etag;
mod memory;
mod numbered;
mod object_store;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub use self::memory::MemoryStateStore;
pub use self::object_store::ObjectStoreStateStore;
use crate::error::{Error, ErrorKind, Result};

/// Largest value that is ever handed to a [`StateStore`].
pub const MAX_STATE_VALUE_BYTES: usize = 64 * 1024;

/// A small key-value store with compare-and-set, nothing else: no transaction over two keys.
///
/// What it holds can be lost or rolled back without a row being lost or doubled; it is read again from the
/// bucket, the plan register and the table. Values are at most [`MAX_STATE_VALUE_BYTES`]; keys are of
/// `/`-separated segments of `[A-Za-z0-9._%=-]`, at most 512 bytes long.
#[async_trait]
pub trait StateStore: fmt::Debug + Send + Sync + 'static {
    /// The value of `key` and its version, `None` if there is none.
    ///
    /// Where what is stored is damaged, its bytes are the value, whatever they are: that is found out by whoever
    /// wrote it, and then it counts as lost.
    ///
    /// # Errors
    ///
    /// `Unavailable` to be tried again.
    async fn load(&self, key: &StateKey) -> Result<Option<StoredState>>;

    /// Writes `bytes` if the current version is `expected` (`None`: there must be no value).
    ///
    /// # Errors
    ///
    /// None proves that nothing was written: load before the next save. `Conflict` where others write the same key,
    /// to be saved again at once; `Unavailable` to be tried again later.
    async fn save(&self, key: &StateKey, bytes: Bytes, expected: Option<&StateVersion>) -> Result<SaveOutcome>;

    /// Removes the value if its version is `expected`. A key without a value is a conflict.
    ///
    /// # Errors
    ///
    /// As for [`save`](StateStore::save).
    async fn delete(&self, key: &StateKey, expected: &StateVersion) -> Result<DeleteOutcome>;

    /// All keys that start with `prefix` (whole segments), in any order. A key that is written or removed
    /// meanwhile may be missing or present.
    fn list(&self, prefix: &StateKey) -> BoxStream<'_, Result<StateKey>>;
}

#[async_trait]
impl<T: StateStore + ?Sized> StateStore for Arc<T> {
    async fn load(&self, key: &StateKey) -> Result<Option<StoredState>> {
        (**self).load(key).await
    }

    async fn save(&self, key: &StateKey, bytes: Bytes, expected: Option<&StateVersion>) -> Result<SaveOutcome> {
        (**self).save(key, bytes, expected).await
    }

    async fn delete(&self, key: &StateKey, expected: &StateVersion) -> Result<DeleteOutcome> {
        (**self).delete(key, expected).await
    }

    fn list(&self, prefix: &StateKey) -> BoxStream<'_, Result<StateKey>> {
        (**self).list(prefix)
    }
}

/// A key of a [`StateStore`]: `/`-separated segments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey(String);

impl StateKey {
    /// The key of these segments. Characters outside `[A-Za-z0-9._-]` are percent-encoded, so that a segment
    /// may be any text.
    pub fn new<'a>(segments: impl IntoIterator<Item = &'a str>) -> Self {
        let encoded: Vec<_> = segments.into_iter().map(crate::encoding::encode_segment).collect();
        Self(encoded.join("/"))
    }

    /// A key as [`StateKey::as_str`] gave it, for stores that list keys.
    pub fn from_encoded(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The key with one more segment.
    #[must_use]
    pub fn join(&self, segment: &str) -> Self {
        Self(format!("{}/{}", self.0, crate::encoding::encode_segment(segment)))
    }

    /// The encoded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `self` lies under `prefix`, by whole segments; a key lies under itself.
    pub fn starts_with(&self, prefix: &Self) -> bool {
        self.0
            .strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.0.is_empty())
    }

    /// The decoded segments.
    pub fn segments(&self) -> impl Iterator<Item = String> + '_ {
        self.0.split('/').map(crate::encoding::decode_segment)
    }
}

impl fmt::Display for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An opaque version of a value; differs after every write of its key, also after a delete.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StateVersion(String);

impl StateVersion {
    /// Takes a version as the store gives it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredState {
    /// The value.
    pub bytes: Bytes,
    /// Its version.
    pub version: StateVersion,
}

/// How a save ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum SaveOutcome {
    /// Another version is there: load, then decide anew.
    Conflict,
    /// Written; this is its version.
    Saved(StateVersion),
}

/// How a delete ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum DeleteOutcome {
    /// Another version is there, or none.
    Conflict,
    /// Removed.
    Deleted,
}

/// Refuses a value that is too large for every store.
fn check_value(key: &StateKey, bytes: &Bytes) -> Result<()> {
    if bytes.len() <= MAX_STATE_VALUE_BYTES {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Invalid,
        format!(
            "state value too large. key=`{key}` bytes=`{}` limit=`{MAX_STATE_VALUE_BYTES}`",
            bytes.len()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_lies_under_whole_segments_only() {
        let eu = StateKey::new(["lanes", "eu"]);
        assert!(eu.join("w").starts_with(&eu));
        assert!(eu.starts_with(&eu));
        assert!(!StateKey::new(["lanes", "eu2"]).starts_with(&eu));
        assert_eq!(StateKey::new(["eu/users"]).as_str(), "eu%2Fusers");
        assert_eq!(StateKey::new(["a", "ü/."]).segments().collect::<Vec<_>>(), ["a", "ü/."]);
    }
}
