//! State in memory: for examples, tests and hosts that rebuild after every start.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};

use super::{DeleteOutcome, SaveOutcome, StateKey, StateStore, StateVersion, StoredState, check_value};
use crate::error::Result;

/// A [`StateStore`] in memory.
///
/// What it holds is lost with it, which costs a rebuild from the bucket and the table and nothing else.
/// Versions are numbers that never come back, not even after a delete.
#[derive(Debug, Default)]
pub struct MemoryStateStore {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    last_version: u64,
    values: BTreeMap<StateKey, StoredState>,
}

impl MemoryStateStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn version(&self, key: &StateKey) -> Option<&StateVersion> {
        self.values.get(key).map(|stored| &stored.version)
    }
}

#[async_trait]
impl StateStore for MemoryStateStore {
    async fn load(&self, key: &StateKey) -> Result<Option<StoredState>> {
        Ok(self.lock().values.get(key).cloned())
    }

    async fn save(&self, key: &StateKey, bytes: Bytes, expected: Option<&StateVersion>) -> Result<SaveOutcome> {
        check_value(key, &bytes)?;
        let mut entries = self.lock();
        if entries.version(key) != expected {
            return Ok(SaveOutcome::Conflict);
        }
        entries.last_version += 1;
        let version = StateVersion::new(entries.last_version.to_string());
        let stored = StoredState {
            bytes,
            version: version.clone(),
        };
        entries.values.insert(key.clone(), stored);
        Ok(SaveOutcome::Saved(version))
    }

    async fn delete(&self, key: &StateKey, expected: &StateVersion) -> Result<DeleteOutcome> {
        let mut entries = self.lock();
        if entries.version(key) != Some(expected) {
            return Ok(DeleteOutcome::Conflict);
        }
        entries.values.remove(key);
        Ok(DeleteOutcome::Deleted)
    }

    fn list(&self, prefix: &StateKey) -> BoxStream<'_, Result<StateKey>> {
        let keys: Vec<_> = self
            .lock()
            .values
            .keys()
            .filter(|key| key.starts_with(prefix))
            .cloned()
            .map(Ok)
            .collect();
        stream::iter(keys).boxed()
    }
}
