//! The contract of [`StateStore`].

use std::collections::BTreeSet;
use std::future::Future;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};

use super::{Handles, POLLS, answered, broken, dropped_after, give_way, keep};
use crate::error::ErrorKind;
use crate::state::{DeleteOutcome, MAX_STATE_VALUE_BYTES, SaveOutcome, StateKey, StateStore, StateVersion};

/// What [`state_store`] asks of a [`StateStore`]: it panics with one of these.
pub const STATE_STORE_RULES: &[&str] = &[
    ABSENT,
    LOADED,
    SAVED,
    STALE,
    EXISTS,
    UNCHANGED,
    DELETED,
    STALE_DELETE,
    DELETED_TWICE,
    VERSIONS,
    KEYS,
    LISTED,
    LISTED_ONCE,
    UNLISTED,
    SIZES,
    RACE,
    NOT_LOST,
    SHARED,
    DROPPED,
];

const ABSENT: &str = "a key that was never saved, or was deleted, has no value";
const LOADED: &str = "a load gives what was saved last, and the version that the save gave";
const SAVED: &str = "a save on the newest version is saved";
const STALE: &str = "a save on another version than the newest is a conflict, also after a delete";
const EXISTS: &str = "a save that expects no value is a conflict where there is one";
const UNCHANGED: &str = "a conflict changes nothing";
const DELETED: &str = "a delete on the newest version removes the value";
const STALE_DELETE: &str = "a delete on another version than the newest is a conflict";
const DELETED_TWICE: &str = "a delete of a key without a value is a conflict";
const VERSIONS: &str = "a version differs after every write of its key, also after a delete and for equal bytes";
const KEYS: &str = "every key has a value of its own";
const LISTED: &str = "a listing shows all keys under a prefix, by whole segments, and no others";
const LISTED_ONCE: &str = "a listing shows a key once";
const UNLISTED: &str = "a key that was deleted is not listed";
const SIZES: &str = "a value of any size up to `MAX_STATE_VALUE_BYTES` comes back as it was";
const RACE: &str = "of saves on one version at the same time one at most is saved";
const NOT_LOST: &str = "no save that was answered is overwritten by one that did not know of it";
const SHARED: &str = "what one worker has saved the others load";
const DROPPED: &str = "a call that is dropped is made or not, and leaves a store that can be used";

/// Checks the contract of [`StateStore`].
///
/// `make` gives a fresh, empty store: one handle, or as `[Arc<dyn StateStore>; 2]` one for each of two workers, which is
/// what shows that nothing is cached that others may change. It is called some ten times.
///
/// ```
/// use std::sync::Arc;
///
/// use firnline::testing::conformance;
/// use firnline::{MemoryStateStore, StateStore};
///
/// futures::executor::block_on(conformance::state_store(|| async {
///     Arc::new(MemoryStateStore::new()) as Arc<dyn StateStore>
/// }));
/// ```
pub async fn state_store<F, Fut, H>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = H>,
    H: Into<Handles<dyn StateStore>>,
{
    let fresh = || async { make().await.into().0 };
    create_load_update_delete(&*fresh().await[0]).await;
    stale_versions_conflict(&*fresh().await[0]).await;
    versions_never_come_back(&*fresh().await[0]).await;
    keys_are_told_apart(&*fresh().await[0]).await;
    listing_is_by_whole_segments(&*fresh().await[0]).await;
    many_keys_are_listed(&*fresh().await[0]).await;
    values_of_every_size(&*fresh().await[0]).await;
    let [a, b] = fresh().await;
    workers_see_each_other(&*a, &*b).await;
    let [a, b] = fresh().await;
    one_of_a_race_wins(&*a, &*b).await;
    let [a, b] = fresh().await;
    counting_together_loses_nothing(&*a, &*b).await;
    let [a, b] = fresh().await;
    dropped_calls_leave_a_usable_store(&*a, &*b).await;
}

async fn create_load_update_delete(store: &dyn StateStore) {
    let key = StateKey::new(["conformance", "eu/users", "%", "a b"]);
    has_no_value(store, &key).await;
    let first = saved(store, &key, b"one", None).await;
    holds(LOADED, store, &key, b"one", &first).await;
    let second = saved(store, &key, b"two", Some(&first)).await;
    holds(LOADED, store, &key, b"two", &second).await;
    deleted(store, &key, &second).await;
    let again = delete(DELETED_TWICE, store, &key, &second).await;
    keep(DELETED_TWICE, again == DeleteOutcome::Conflict, again);
    has_no_value(store, &key).await;
    let never = StateKey::new(["conformance", "never"]);
    let outcome = delete(DELETED_TWICE, store, &never, &second).await;
    keep(DELETED_TWICE, outcome == DeleteOutcome::Conflict, outcome);
}

async fn stale_versions_conflict(store: &dyn StateStore) {
    let key = StateKey::new(["conformance", "stale"]);
    let mut versions = vec![saved(store, &key, b"0", None).await];
    for n in 1..8_u8 {
        let version = saved(store, &key, &[n], versions.last()).await;
        versions.push(version);
    }
    let Some(newest) = versions.pop() else { return };
    for stale in &versions {
        conflicts(STALE, store, &key, Some(stale)).await;
        holds(UNCHANGED, store, &key, &[7], &newest).await;
        let outcome = delete(STALE_DELETE, store, &key, stale).await;
        keep(STALE_DELETE, outcome == DeleteOutcome::Conflict, outcome);
        holds(UNCHANGED, store, &key, &[7], &newest).await;
    }
    conflicts(EXISTS, store, &key, None).await;
    holds(UNCHANGED, store, &key, &[7], &newest).await;
    saved(store, &key, b"8", Some(&newest)).await;
}

async fn versions_never_come_back(store: &dyn StateStore) {
    let key = StateKey::new(["conformance", "again"]);
    let mut seen = BTreeSet::new();
    let mut fresh = |version: &StateVersion| {
        keep(VERSIONS, seen.insert(version.as_str().to_owned()), version);
    };
    for _ in 0..3 {
        let first = saved(store, &key, b"same", None).await;
        fresh(&first);
        let second = saved(store, &key, b"same", Some(&first)).await;
        fresh(&second);
        deleted(store, &key, &second).await;
        conflicts(STALE, store, &key, Some(&first)).await;
        conflicts(STALE, store, &key, Some(&second)).await;
        has_no_value(store, &key).await;
    }
}

/// Keys that a store may take for one another: by case, by decoding, by cutting, by taking dots for directories.
fn odd_keys() -> Vec<StateKey> {
    let base = StateKey::new(["conformance"]);
    // No file system has longer names than 255 bytes.
    let long = base.join(&"x".repeat(200)).join(&"y".repeat(200));
    let rest = MAX_KEY_BYTES - long.as_str().len() - 2;
    let segments = [
        "a", "A", "a.", "a%2E", "%61", "%", "%25", "a b", "a+b", "a/b", "ü", "u\u{308}", "=", "a=b", "-", "_", "~",
        "*", "..", "...", "a\\b", "con", "a:b", "\0", "\n",
    ];
    let mut keys: Vec<_> = segments.map(|segment| base.join(segment)).into();
    keys.push(base.join("a").join("b"));
    keys.push(base.join("a").join("b").join("c"));
    keys.push(long.join(&format!("{}1", "z".repeat(rest))));
    keys.push(long.join(&format!("{}2", "z".repeat(rest))));
    keys
}

async fn keys_are_told_apart(store: &dyn StateStore) {
    let keys = odd_keys();
    let mut versions = Vec::new();
    for key in &keys {
        let version = match save(KEYS, store, key, key.as_str().as_bytes(), None).await {
            SaveOutcome::Saved(version) => version,
            SaveOutcome::Conflict => broken(KEYS, format!("`{key}` was taken for another key")),
        };
        versions.push(version);
    }
    for (key, version) in keys.iter().zip(&versions) {
        holds(KEYS, store, key, key.as_str().as_bytes(), version).await;
    }
    let expected: BTreeSet<_> = keys.iter().cloned().collect();
    lists(LISTED, store, &StateKey::new(["conformance"]), &expected).await;
    for (n, (key, version)) in keys.iter().zip(&versions).enumerate() {
        deleted(store, key, version).await;
        if let Some((next, version)) = keys.iter().zip(&versions).nth(n + 1) {
            holds(KEYS, store, next, next.as_str().as_bytes(), version).await;
        }
    }
}

async fn listing_is_by_whole_segments(store: &dyn StateStore) {
    let eu = StateKey::new(["conformance", "eu"]);
    let keys = [
        eu.clone(),
        eu.join("windows").join("2024-11-14T00:00:00Z"),
        eu.join("windows").join("/"),
        StateKey::new(["conformance", "eu2", "windows"]),
        StateKey::new(["conformance", "EU", "windows"]),
    ];
    let gone = eu.join("gone");
    let version = saved(store, &gone, b"x", None).await;
    for key in &keys {
        saved(store, key, b"x", None).await;
    }
    deleted(store, &gone, &version).await;
    let listed = list(LISTED, store, &eu).await;
    keep(UNLISTED, !listed.contains(&gone), &listed);
    let under: BTreeSet<_> = keys.iter().take(3).cloned().collect();
    keep(LISTED, listed == under, &listed);
    let all = keys.iter().cloned().collect();
    lists(LISTED, store, &StateKey::new(["conformance"]), &all).await;
    lists(LISTED, store, &StateKey::new([]), &all).await;
    lists(LISTED, store, &StateKey::new(["nobody"]), &BTreeSet::new()).await;
    lists(LISTED, store, &StateKey::new(["conformance", "e"]), &BTreeSet::new()).await;
}

/// More keys than some stores give at once.
async fn many_keys_are_listed(store: &dyn StateStore) {
    let prefix = StateKey::new(["conformance", "many"]);
    let keys: BTreeSet<_> = (0..150).map(|n| prefix.join(&format!("{n:03}"))).collect();
    let saves = keys.iter().map(|key| saved(store, key, b"x", None));
    let saves: Vec<_> = saves.collect();
    stream::iter(saves).buffer_unordered(16).collect::<Vec<_>>().await;
    lists(LISTED, store, &prefix, &keys).await;
}

async fn values_of_every_size(store: &dyn StateStore) {
    for size in [0, 1, 4_096, MAX_STATE_VALUE_BYTES - 1, MAX_STATE_VALUE_BYTES] {
        let key = StateKey::new(["conformance", "size", &size.to_string()]);
        let value: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
        let version = match save(SIZES, store, &key, &value, None).await {
            SaveOutcome::Saved(version) => version,
            SaveOutcome::Conflict => broken(SIZES, format!("`{size}` bytes were a conflict")),
        };
        let found = load(SIZES, store, &key).await;
        let length = found.as_ref().map(|(bytes, _)| bytes.len());
        keep(SIZES, found == Some((value, version)), (size, length));
    }
}

async fn workers_see_each_other(a: &dyn StateStore, b: &dyn StateStore) {
    let key = StateKey::new(["conformance", "shared"]);
    let found = load(SHARED, b, &key).await;
    keep(SHARED, found.is_none(), found);
    let mut version = saved(a, &key, b"0", None).await;
    for n in 1..6_u8 {
        holds(SHARED, b, &key, &[b'0' + n - 1], &version).await;
        lists(SHARED, b, &key, &BTreeSet::from([key.clone()])).await;
        let (writer, reader) = if n % 2 == 0 { (a, b) } else { (b, a) };
        version = saved(writer, &key, &[b'0' + n], Some(&version)).await;
        holds(SHARED, reader, &key, &[b'0' + n], &version).await;
    }
    deleted(b, &key, &version).await;
    let found = load(SHARED, a, &key).await;
    keep(SHARED, found.is_none(), found);
}

async fn one_of_a_race_wins(a: &dyn StateStore, b: &dyn StateStore) {
    for round in 0..16 {
        let key = StateKey::new(["conformance", "race", &round.to_string()]);
        // Every other race is about who creates the value.
        let base = match round % 2 {
            0 => None,
            _ => Some(saved(a, &key, b"base", None).await),
        };
        let values: Vec<_> = (0..4_u8).map(|n| vec![n]).collect();
        let race = values.iter().enumerate().map(|(n, value)| {
            let store = if n % 2 == 0 { a } else { b };
            store.save(&key, Bytes::copy_from_slice(value), base.as_ref())
        });
        let outcomes = join_all(race).await;
        let mut winners = Vec::new();
        for (value, outcome) in values.iter().zip(&outcomes) {
            match outcome {
                Ok(SaveOutcome::Saved(version)) => winners.push((value.clone(), version.clone())),
                Ok(SaveOutcome::Conflict) => {}
                Err(e) => keep(RACE, is_passing(e.kind()), e.chain()),
            }
        }
        keep(RACE, winners.len() <= 1, &winners);
        for winner in winners {
            let found = load(RACE, b, &key).await;
            keep(RACE, found.as_ref() == Some(&winner), found);
        }
    }
}

/// Workers that each count up, as the compactor saves: load, change, save, and again after a conflict.
async fn counting_together_loses_nothing(a: &dyn StateStore, b: &dyn StateStore) {
    const EACH: usize = 8;
    const TRIES: usize = 400;
    let key = StateKey::new(["conformance", "count"]);
    let count = |store| {
        let key = key.clone();
        async move {
            let mut unsure = 0;
            for _ in 0..EACH {
                let mut is_saved = false;
                for _ in 0..TRIES {
                    let found = load(NOT_LOST, store, &key).await;
                    let count = found.as_ref().map_or(0, |(bytes, _)| bytes.len());
                    give_way().await;
                    let version = found.map(|(_, version)| version);
                    match store.save(&key, vec![b'x'; count + 1].into(), version.as_ref()).await {
                        Ok(SaveOutcome::Saved(_)) => is_saved = true,
                        Ok(SaveOutcome::Conflict) => give_way().await,
                        Err(e) if is_passing(e.kind()) => {
                            unsure += 1;
                            give_way().await;
                        }
                        Err(e) => broken(NOT_LOST, e.chain()),
                    }
                    if is_saved {
                        break;
                    }
                }
                keep(SAVED, is_saved, "a worker that is overtaken all the time");
            }
            unsure
        }
    };
    let unsure: usize = join_all([count(a), count(b), count(a)]).await.into_iter().sum();
    let counted = load(NOT_LOST, a, &key).await.map_or(0, |(bytes, _)| bytes.len());
    let range = 3 * EACH..=3 * EACH + unsure;
    keep(NOT_LOST, range.contains(&counted), (counted, range));
}

async fn dropped_calls_leave_a_usable_store(a: &dyn StateStore, b: &dyn StateStore) {
    let key = StateKey::new(["conformance", "dropped"]);
    saved(a, &key, b"old", None).await;
    for polls in POLLS {
        let Some((old, version)) = load(DROPPED, a, &key).await else {
            broken(DROPPED, "the value is gone");
        };
        let new = [old.as_slice(), b"-new"].concat();
        dropped_after(polls, a.save(&key, Bytes::from(new.clone()), Some(&version))).await;
        dropped_after(polls, a.load(&key)).await;
        dropped_after(polls, a.list(&key).next()).await;
        // What was dropped may land late, and then is a conflict for whoever has not seen it.
        let mut is_saved = false;
        for store in [a, b, a, b] {
            let Some((found, version)) = load(DROPPED, store, &key).await else {
                broken(DROPPED, "the value is gone");
            };
            keep(DROPPED, found == old || found == new, (&old, &new, &found));
            if let SaveOutcome::Saved(_) = save(DROPPED, store, &key, &found, Some(&version)).await {
                is_saved = true;
                break;
            }
        }
        keep(DROPPED, is_saved, "a store that is in conflict with nobody");
        lists(DROPPED, a, &key, &BTreeSet::from([key.clone()])).await;
    }
}

/// Whether an error is one after which a call is made again.
fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Conflict | ErrorKind::Unavailable)
}

async fn load(rule: &str, store: &dyn StateStore, key: &StateKey) -> Option<(Vec<u8>, StateVersion)> {
    let loaded = answered(rule, store.load(key).await);
    loaded.map(|stored| (stored.bytes.to_vec(), stored.version))
}

async fn holds(rule: &str, store: &dyn StateStore, key: &StateKey, value: &[u8], version: &StateVersion) {
    let found = load(rule, store, key).await;
    let is_it = found
        .as_ref()
        .is_some_and(|found| found.0 == value && found.1 == *version);
    keep(rule, is_it, (key, found));
}

async fn has_no_value(store: &dyn StateStore, key: &StateKey) {
    let found = load(ABSENT, store, key).await;
    keep(ABSENT, found.is_none(), found);
}

async fn save(
    rule: &str,
    store: &dyn StateStore,
    key: &StateKey,
    value: &[u8],
    expected: Option<&StateVersion>,
) -> SaveOutcome {
    answered(rule, store.save(key, Bytes::copy_from_slice(value), expected).await)
}

async fn saved(store: &dyn StateStore, key: &StateKey, value: &[u8], expected: Option<&StateVersion>) -> StateVersion {
    match save(SAVED, store, key, value, expected).await {
        SaveOutcome::Saved(version) => version,
        SaveOutcome::Conflict => broken(SAVED, format!("conflict. key=`{key}`")),
    }
}

async fn conflicts(rule: &str, store: &dyn StateStore, key: &StateKey, expected: Option<&StateVersion>) {
    let outcome = save(rule, store, key, b"stale", expected).await;
    keep(rule, outcome == SaveOutcome::Conflict, outcome);
}

async fn delete(rule: &str, store: &dyn StateStore, key: &StateKey, expected: &StateVersion) -> DeleteOutcome {
    answered(rule, store.delete(key, expected).await)
}

async fn deleted(store: &dyn StateStore, key: &StateKey, expected: &StateVersion) {
    let outcome = delete(DELETED, store, key, expected).await;
    let found = load(DELETED, store, key).await;
    keep(
        DELETED,
        outcome == DeleteOutcome::Deleted && found.is_none(),
        (outcome, found),
    );
}

async fn list(rule: &str, store: &dyn StateStore, prefix: &StateKey) -> BTreeSet<StateKey> {
    let listed: Vec<_> = answered(rule, store.list(prefix).try_collect().await);
    let keys: BTreeSet<_> = listed.iter().cloned().collect();
    keep(LISTED_ONCE, keys.len() == listed.len(), listed);
    keys
}

async fn lists(rule: &str, store: &dyn StateStore, prefix: &StateKey, expected: &BTreeSet<StateKey>) {
    let listed = list(rule, store, prefix).await;
    let differs: Vec<_> = listed.symmetric_difference(expected).collect();
    keep(rule, differs.is_empty(), differs);
}

/// How long a key is at most, as [`StateStore`] says.
const MAX_KEY_BYTES: usize = 512;
