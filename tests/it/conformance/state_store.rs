//! State stores: ours, and one broken for each rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use firnline::object_store::ObjectStore;
use firnline::object_store::local::LocalFileSystem;
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::testing::conformance::{self, STATE_STORE_RULES};
use firnline::testing::{YieldingStateStore, YieldingStore};
use firnline::{
    DeleteOutcome, Error, ErrorKind, MemoryStateStore, ObjectStoreStateStore, Result, SaveOutcome, StateKey,
    StateStore, StateVersion, StoredState,
};
use futures::TryStreamExt;
use futures::stream::{self, BoxStream, StreamExt};

use super::{catches_all, give_way, wait};

fn prefix() -> Path {
    Path::parse("control/%/state").unwrap()
}

/// Two workers' state stores over an object store.
fn over(objects: impl ObjectStore, prefix: &Path, has_etags: bool) -> [Arc<dyn StateStore>; 2] {
    let objects: Arc<dyn ObjectStore> = Arc::new(objects);
    [(); 2].map(|()| {
        let state = ObjectStoreStateStore::new(Arc::clone(&objects), prefix.clone());
        let state = if has_etags { state.with_etag_updates() } else { state };
        Arc::new(state) as Arc<dyn StateStore>
    })
}

#[test]
fn memory_keeps_the_contract() {
    wait(conformance::state_store(|| async {
        Arc::new(MemoryStateStore::new()) as Arc<dyn StateStore>
    }));
}

#[test]
fn memory_that_lets_others_act_keeps_the_contract() {
    wait(conformance::state_store(|| async {
        Arc::new(YieldingStateStore::new(Arc::new(MemoryStateStore::new()))) as Arc<dyn StateStore>
    }));
}

#[test]
fn objects_in_memory_keep_the_contract() {
    for has_etags in [false, true] {
        for prefix in [prefix(), Path::ROOT] {
            wait(conformance::state_store(|| async {
                over(InMemory::new(), &prefix, has_etags)
            }));
        }
    }
}

#[test]
fn objects_keep_the_contract_while_others_act_between_any_two_requests() {
    for has_etags in [false, true] {
        wait(conformance::state_store(|| async {
            let objects = YieldingStore::new(Arc::new(InMemory::new()));
            over(objects, &prefix(), has_etags)
        }));
    }
}

#[test]
fn numbered_objects_on_the_local_file_system_keep_the_contract() {
    let root = tempfile::tempdir().unwrap();
    let n = AtomicUsize::new(0);
    wait(conformance::state_store(|| async {
        let directory = root.path().join(n.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&directory).unwrap();
        let files = LocalFileSystem::new_with_prefix(directory).unwrap().with_fsync(true);
        over(files, &prefix(), false)
    }));
}

#[test]
fn etag_updates_are_refused_where_the_store_has_none() {
    let root = tempfile::tempdir().unwrap();
    let files = LocalFileSystem::new_with_prefix(root.path()).unwrap();
    let state = ObjectStoreStateStore::new(Arc::new(files), prefix()).with_etag_updates();
    let key = StateKey::new(["k"]);
    wait(async {
        let Ok(SaveOutcome::Saved(version)) = state.save(&key, "1".into(), None).await else {
            panic!("a create needs no conditional update");
        };
        let error = state.save(&key, "2".into(), Some(&version)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    });
}

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    AbsentIsEmpty,
    VersionsDiffer,
    UpdatesConflict,
    StaleOverwrites,
    CreateOverwrites,
    ConflictWrites,
    DeleteDoesNothing,
    StaleDeletes,
    DeletesNothing,
    VersionIsContent,
    KeysIgnoreCase,
    ListsByCharacters,
    ListsTwice,
    ListsDeleted,
    CutsOff,
    ChecksThenWrites,
    ReadsInTwoSteps,
    Caches,
    StaysLocked,
}

/// Each rule, and a store that breaks it.
const BROKEN: &[(&str, Flaw)] = &[
    (
        "a key that was never saved, or was deleted, has no value",
        Flaw::AbsentIsEmpty,
    ),
    (
        "a load gives what was saved last, and the version that the save gave",
        Flaw::VersionsDiffer,
    ),
    ("a save on the newest version is saved", Flaw::UpdatesConflict),
    (
        "a save on another version than the newest is a conflict, also after a delete",
        Flaw::StaleOverwrites,
    ),
    (
        "a save that expects no value is a conflict where there is one",
        Flaw::CreateOverwrites,
    ),
    ("a conflict changes nothing", Flaw::ConflictWrites),
    (
        "a delete on the newest version removes the value",
        Flaw::DeleteDoesNothing,
    ),
    (
        "a delete on another version than the newest is a conflict",
        Flaw::StaleDeletes,
    ),
    ("a delete of a key without a value is a conflict", Flaw::DeletesNothing),
    (
        "a version differs after every write of its key, also after a delete and for equal bytes",
        Flaw::VersionIsContent,
    ),
    ("every key has a value of its own", Flaw::KeysIgnoreCase),
    (
        "a listing shows all keys under a prefix, by whole segments, and no others",
        Flaw::ListsByCharacters,
    ),
    ("a listing shows a key once", Flaw::ListsTwice),
    ("a key that was deleted is not listed", Flaw::ListsDeleted),
    (
        "a value of any size up to `MAX_STATE_VALUE_BYTES` comes back as it was",
        Flaw::CutsOff,
    ),
    (
        "of saves on one version at the same time one at most is saved",
        Flaw::ChecksThenWrites,
    ),
    (
        "no save that was answered is overwritten by one that did not know of it",
        Flaw::ReadsInTwoSteps,
    ),
    ("what one worker has saved the others load", Flaw::Caches),
    (
        "a call that is dropped is made or not, and leaves a store that can be used",
        Flaw::StaysLocked,
    ),
];

#[test]
fn each_rule_catches_a_store_that_breaks_it() {
    catches_all(STATE_STORE_RULES, BROKEN, |flaw| {
        wait(conformance::state_store(|| async {
            let inner = Arc::new(MemoryStateStore::new());
            [(); 2].map(|()| Arc::new(Broken::new(*flaw, &inner)) as Arc<dyn StateStore>)
        }));
    });
}

#[derive(Debug)]
struct Broken {
    flaw: Flaw,
    inner: Arc<MemoryStateStore>,
    saved: Mutex<BTreeSet<StateKey>>,
    cached: Mutex<BTreeMap<StateKey, Option<StoredState>>>,
    locked: Mutex<BTreeSet<StateKey>>,
}

impl Broken {
    fn new(flaw: Flaw, inner: &Arc<MemoryStateStore>) -> Self {
        Self {
            flaw,
            inner: Arc::clone(inner),
            saved: Mutex::default(),
            cached: Mutex::default(),
            locked: Mutex::default(),
        }
    }

    fn key(&self, key: &StateKey) -> StateKey {
        match self.flaw {
            Flaw::KeysIgnoreCase => StateKey::from_encoded(key.as_str().to_lowercase()),
            _ => key.clone(),
        }
    }

    async fn version(&self, key: &StateKey) -> Option<StateVersion> {
        self.inner.load(key).await.unwrap().map(|stored| stored.version)
    }

    /// The inner version, where the one given out is another.
    async fn inner_version(&self, key: &StateKey, given: Option<&StateVersion>) -> Option<StateVersion> {
        let stored = self.inner.load(key).await.unwrap();
        match (self.flaw, stored) {
            (Flaw::VersionIsContent, Some(stored)) if given == Some(&content_version(&stored.bytes)) => {
                Some(stored.version)
            }
            (Flaw::VersionsDiffer, _) => given.map(|given| StateVersion::new(given.as_str().trim_end_matches('*'))),
            _ => given.cloned(),
        }
    }
}

fn content_version(bytes: &Bytes) -> StateVersion {
    StateVersion::new(format!("content {bytes:?}"))
}

#[async_trait]
impl StateStore for Broken {
    async fn load(&self, key: &StateKey) -> Result<Option<StoredState>> {
        let key = self.key(key);
        let mut stored = self.inner.load(&key).await?;
        match self.flaw {
            Flaw::AbsentIsEmpty if stored.is_none() => Ok(Some(StoredState {
                bytes: Bytes::new(),
                version: StateVersion::new("none"),
            })),
            Flaw::Caches => {
                let mut cached = self.cached.lock().unwrap();
                Ok(cached.entry(key).or_insert(stored).clone())
            }
            Flaw::ReadsInTwoSteps => {
                give_way().await;
                let version = self.version(&key).await;
                Ok(stored
                    .zip(version)
                    .map(|(stored, version)| StoredState { version, ..stored }))
            }
            Flaw::VersionIsContent => {
                if let Some(stored) = &mut stored {
                    stored.version = content_version(&stored.bytes);
                }
                Ok(stored)
            }
            Flaw::VersionsDiffer => {
                if let Some(stored) = &mut stored {
                    stored.version = StateVersion::new(format!("{}*", stored.version.as_str()));
                }
                Ok(stored)
            }
            _ => Ok(stored),
        }
    }

    async fn save(&self, key: &StateKey, mut bytes: Bytes, expected: Option<&StateVersion>) -> Result<SaveOutcome> {
        let key = self.key(key);
        self.saved.lock().unwrap().insert(key.clone());
        let given = self.inner_version(&key, expected).await;
        let current = self.version(&key).await;
        let expected = match self.flaw {
            Flaw::UpdatesConflict if expected.is_some() => return Ok(SaveOutcome::Conflict),
            Flaw::StaleOverwrites if expected.is_some() => current,
            Flaw::CreateOverwrites if expected.is_none() => current,
            Flaw::ConflictWrites if given != current => {
                let _ = self.inner.save(&key, bytes, current.as_ref()).await?;
                return Ok(SaveOutcome::Conflict);
            }
            Flaw::ChecksThenWrites if given != current => return Ok(SaveOutcome::Conflict),
            Flaw::ChecksThenWrites => {
                give_way().await;
                self.version(&key).await
            }
            _ => given,
        };
        match self.flaw {
            Flaw::CutsOff => bytes.truncate(60_000),
            Flaw::StaysLocked => {
                if !self.locked.lock().unwrap().insert(key.clone()) {
                    return Err(Error::new(ErrorKind::Unavailable, "locked"));
                }
                give_way().await;
                self.locked.lock().unwrap().remove(&key);
            }
            _ => {}
        }
        let outcome = self.inner.save(&key, bytes.clone(), expected.as_ref()).await?;
        let stored = self.inner.load(&key).await?;
        self.cached.lock().unwrap().insert(key, stored);
        Ok(match outcome {
            SaveOutcome::Saved(_) if self.flaw == Flaw::VersionIsContent => SaveOutcome::Saved(content_version(&bytes)),
            outcome => outcome,
        })
    }

    async fn delete(&self, key: &StateKey, expected: &StateVersion) -> Result<DeleteOutcome> {
        let key = self.key(key);
        let given = self.inner_version(&key, Some(expected)).await;
        let current = self.version(&key).await;
        let version = match self.flaw {
            Flaw::DeleteDoesNothing if given == current => return Ok(DeleteOutcome::Deleted),
            Flaw::DeletesNothing if current.is_none() => return Ok(DeleteOutcome::Deleted),
            Flaw::StaleDeletes => current,
            _ => given,
        };
        let Some(version) = version else {
            return Ok(DeleteOutcome::Conflict);
        };
        let outcome = self.inner.delete(&key, &version).await?;
        let stored = self.inner.load(&key).await?;
        self.cached.lock().unwrap().insert(key, stored);
        Ok(outcome)
    }

    fn list(&self, prefix: &StateKey) -> BoxStream<'_, Result<StateKey>> {
        let prefix = self.key(prefix);
        match self.flaw {
            Flaw::ListsTwice => self.inner.list(&prefix).chain(self.inner.list(&prefix)).boxed(),
            Flaw::ListsDeleted => {
                let saved = self.saved.lock().unwrap().clone();
                stream::iter(saved.into_iter().filter(move |key| key.starts_with(&prefix)).map(Ok)).boxed()
            }
            Flaw::ListsByCharacters => {
                let all = self.inner.list(&StateKey::new([]));
                let shows = move |key: &StateKey| key.as_str().starts_with(prefix.as_str());
                all.try_filter(move |key| futures::future::ready(shows(key))).boxed()
            }
            _ => self.inner.list(&prefix),
        }
    }
}
