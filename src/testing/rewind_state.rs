//! A state store whose values can be lost or put back.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};

use crate::error::Result;
use crate::state::{DeleteOutcome, SaveOutcome, StateKey, StateStore, StateVersion, StoredState};

/// A state store in memory that remembers every value there was, so that a test can do what a restored backup does.
#[derive(Debug, Default)]
pub struct RewindStateStore(Mutex<Values>);

#[derive(Debug, Default)]
struct Values {
    versions: u64,
    of: BTreeMap<String, Vec<Option<StoredState>>>,
}

impl Values {
    fn current(&self, key: &StateKey) -> Option<StoredState> {
        self.of.get(key.as_str())?.last()?.clone()
    }

    fn write(&mut self, key: &StateKey, value: Option<Bytes>) -> StateVersion {
        self.versions += 1;
        let version = StateVersion::new(self.versions.to_string());
        let stored = value.map(|bytes| StoredState {
            bytes,
            version: version.clone(),
        });
        self.of.entry(key.as_str().to_owned()).or_default().push(stored);
        version
    }
}

impl RewindStateStore {
    /// Loses everything.
    pub fn wipe(&self) {
        self.lock().of.clear();
    }

    /// The keys that were ever written since everything was lost, in order.
    pub fn keys(&self) -> Vec<String> {
        self.lock().of.keys().cloned().collect()
    }

    /// Puts back what a key held `steps` writes ago (nothing, before the first), under its old version.
    pub fn rewind(&self, key: &str, steps: usize) {
        let mut values = self.lock();
        let Some(values) = values.of.get_mut(key) else { return };
        let old = values.len().checked_sub(steps + 1);
        let old = old.and_then(|at| values.get(at).cloned().flatten());
        values.push(old);
    }

    fn lock(&self) -> MutexGuard<'_, Values> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StateStore for RewindStateStore {
    async fn load(&self, key: &StateKey) -> Result<Option<StoredState>> {
        Ok(self.lock().current(key))
    }

    async fn save(&self, key: &StateKey, bytes: Bytes, expected: Option<&StateVersion>) -> Result<SaveOutcome> {
        let mut values = self.lock();
        if values.current(key).map(|stored| stored.version).as_ref() != expected {
            return Ok(SaveOutcome::Conflict);
        }
        Ok(SaveOutcome::Saved(values.write(key, Some(bytes))))
    }

    async fn delete(&self, key: &StateKey, expected: &StateVersion) -> Result<DeleteOutcome> {
        let mut values = self.lock();
        if values.current(key).map(|stored| stored.version).as_ref() != Some(expected) {
            return Ok(DeleteOutcome::Conflict);
        }
        values.write(key, None);
        Ok(DeleteOutcome::Deleted)
    }

    fn list(&self, prefix: &StateKey) -> BoxStream<'_, Result<StateKey>> {
        let values = self.lock();
        let keys = values
            .of
            .iter()
            .filter(|(_, values)| values.last().is_some_and(Option::is_some))
            .map(|(key, _)| StateKey::from_encoded(key.clone()))
            .filter(|key| key.starts_with(prefix));
        stream::iter(keys.map(Ok).collect::<Vec<_>>()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_value_that_is_put_back_has_its_old_version() {
        let store = RewindStateStore::default();
        let key = StateKey::new(["k"]);
        let save = |value: &'static str, expected: Option<&StateVersion>| {
            let saved = block_on(store.save(&key, Bytes::from_static(value.as_bytes()), expected));
            match saved.unwrap() {
                SaveOutcome::Saved(version) => version,
                SaveOutcome::Conflict => panic!("conflict"),
            }
        };
        let first = save("1", None);
        save("2", Some(&first));
        store.rewind(key.as_str(), 1);
        let back = block_on(store.load(&key)).unwrap().unwrap();
        assert_eq!((&back.bytes[..], back.version), (&b"1"[..], first));
        store.wipe();
        assert_eq!((block_on(store.load(&key)).unwrap(), store.keys()), (None, Vec::new()));
    }
}
