//! Suites that a host runs against its own implementations of this crate's traits.
//!
//! Each takes a function that makes a fresh, empty instance, and panics with the sentence of the contract that
//! is broken. They need no runtime of their own: await them in whatever test harness there is.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a suite reports a broken contract by panicking, as any test"
)]

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;

use crate::event::{EventSource, ObjectEvent};
use crate::state::{DeleteOutcome, MAX_STATE_VALUE_BYTES, SaveOutcome, StateKey, StateStore, StateVersion};

/// Checks the contract of [`StateStore`].
pub async fn state_store<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn StateStore>>,
{
    create_load_update_delete(&*make().await).await;
    stale_versions_conflict(&*make().await).await;
    versions_never_come_back(&*make().await).await;
    listing_is_by_whole_segments(&*make().await).await;
    values_of_every_size(&*make().await).await;
    two_handles_race(&*make().await).await;
}

async fn create_load_update_delete(store: &dyn StateStore) {
    let key = StateKey::new(["conformance", "eu/users", "%", "a b"]);
    assert_eq!(load(store, &key).await, None, "a key that was never saved has no value");
    let first = saved(store, &key, b"one", None).await;
    assert_eq!(load(store, &key).await, Some((b"one".to_vec(), first.clone())));
    let second = saved(store, &key, b"two", Some(&first)).await;
    assert_eq!(load(store, &key).await, Some((b"two".to_vec(), second.clone())));
    assert_eq!(delete(store, &key, &second).await, DeleteOutcome::Deleted);
    assert_eq!(load(store, &key).await, None, "a deleted key has no value");
    assert_eq!(
        delete(store, &key, &second).await,
        DeleteOutcome::Conflict,
        "deleting a key without a value is a conflict"
    );
}

async fn stale_versions_conflict(store: &dyn StateStore) {
    let key = StateKey::new(["conformance", "stale"]);
    let mut versions = vec![saved(store, &key, b"0", None).await];
    for n in 1..8_u8 {
        let version = saved(store, &key, &[n], versions.last()).await;
        versions.push(version);
    }
    let newest = versions.pop().expect("eight saves were made");
    for stale in &versions {
        conflicts(store, &key, Some(stale)).await;
        assert_eq!(
            delete(store, &key, stale).await,
            DeleteOutcome::Conflict,
            "a stale version deletes nothing"
        );
    }
    conflicts(store, &key, None).await;
    assert_eq!(
        load(store, &key).await,
        Some((vec![7], newest)),
        "conflicts change nothing"
    );
}

async fn versions_never_come_back(store: &dyn StateStore) {
    let key = StateKey::new(["conformance", "again"]);
    let mut seen = BTreeSet::new();
    let mut fresh = |version: &StateVersion| {
        assert!(
            seen.insert(version.as_str().to_owned()),
            "a version differs after every write, also after a delete and for equal bytes"
        );
    };
    for _ in 0..3 {
        let first = saved(store, &key, b"same", None).await;
        fresh(&first);
        let second = saved(store, &key, b"same", Some(&first)).await;
        fresh(&second);
        assert_eq!(delete(store, &key, &second).await, DeleteOutcome::Deleted);
        conflicts(store, &key, Some(&first)).await;
        conflicts(store, &key, Some(&second)).await;
    }
}

async fn listing_is_by_whole_segments(store: &dyn StateStore) {
    let eu = StateKey::new(["conformance", "eu"]);
    let keys = [
        eu.clone(),
        eu.join("windows").join("2024-11-14T00:00:00Z"),
        eu.join("windows").join("/"),
        StateKey::new(["conformance", "eu2", "windows"]),
    ];
    for key in &keys {
        let _ = saved(store, key, b"x", None).await;
    }
    let gone = eu.join("gone");
    let version = saved(store, &gone, b"x", None).await;
    assert_eq!(delete(store, &gone, &version).await, DeleteOutcome::Deleted);
    let expected: BTreeSet<_> = keys.iter().take(3).cloned().collect();
    assert_eq!(
        list(store, &eu).await,
        expected,
        "a listing shows the live keys under a prefix"
    );
    assert_eq!(
        list(store, &StateKey::new(["conformance"])).await,
        keys.iter().cloned().collect()
    );
    assert_eq!(list(store, &StateKey::new(["nobody"])).await, BTreeSet::new());
}

async fn values_of_every_size(store: &dyn StateStore) {
    for size in [0, 1, MAX_STATE_VALUE_BYTES] {
        let key = StateKey::new(["conformance", "size", &size.to_string()]);
        let value = vec![0xa5; size];
        let version = saved(store, &key, &value, None).await;
        assert_eq!(
            load(store, &key).await,
            Some((value, version)),
            "a value of {size} bytes comes back as it was"
        );
    }
}

async fn two_handles_race(store: &dyn StateStore) {
    let key = StateKey::new(["conformance", "race"]);
    let version = saved(store, &key, b"0", None).await;
    let save = |value: &'static [u8]| store.save(&key, Bytes::from_static(value), Some(&version));
    let (a, b) = futures::join!(save(b"a"), save(b"b"));
    let winners = [&a, &b]
        .into_iter()
        .filter(|outcome| matches!(outcome, Ok(SaveOutcome::Saved(_))))
        .count();
    assert!(winners <= 1, "two saves on one version must not both succeed");
    let (value, _) = load(store, &key).await.expect("the key keeps a value");
    if let Ok(SaveOutcome::Saved(_)) = a {
        assert_eq!(value, b"a", "the winner's value is there");
    }
    if let Ok(SaveOutcome::Saved(_)) = b {
        assert_eq!(value, b"b", "the winner's value is there");
    }
}

/// Checks the contract of [`EventSource`].
///
/// `make` gives a source into which exactly `events` have been put, each once, and which is then closed or
/// stays silent. The suite reads until it has seen them all, in any order and any number of times, and
/// acknowledges each message, also twice.
pub async fn event_source<F, Fut>(make: F)
where
    F: Fn(Vec<ObjectEvent>) -> Fut,
    Fut: Future<Output = Arc<dyn EventSource>>,
{
    let events: Vec<_> = (0..5)
        .map(|n| ObjectEvent::created(format!("data/ns/{n}-w-0.parquet")).with_size(n))
        .collect();
    let mut missing: BTreeSet<_> = events.iter().map(|event| event.key.as_str().to_owned()).collect();
    let source = make(events).await;
    while !missing.is_empty() {
        let batch = source
            .next_batch()
            .await
            .unwrap_or_else(|e| panic!("next_batch: {}", e.chain()));
        let Some(batch) = batch else {
            panic!("the source closed before it had delivered {missing:?}");
        };
        for message in batch.messages {
            for event in message.events {
                let event = event.unwrap_or_else(|e| panic!("a good event was not read: {e}"));
                missing.remove(event.key.as_str());
            }
            for _ in 0..2 {
                let acked = source.ack(std::slice::from_ref(&message.receipt)).await;
                acked.unwrap_or_else(|e| panic!("acknowledging twice is harmless: {}", e.chain()));
            }
        }
    }
    source
        .ack(&[])
        .await
        .unwrap_or_else(|e| panic!("acknowledging nothing is harmless: {}", e.chain()));
}

async fn load(store: &dyn StateStore, key: &StateKey) -> Option<(Vec<u8>, StateVersion)> {
    let loaded = store.load(key).await.unwrap_or_else(|e| panic!("load: {}", e.chain()));
    loaded.map(|stored| (stored.bytes.to_vec(), stored.version))
}

async fn saved(store: &dyn StateStore, key: &StateKey, value: &[u8], expected: Option<&StateVersion>) -> StateVersion {
    match store.save(key, Bytes::copy_from_slice(value), expected).await {
        Ok(SaveOutcome::Saved(version)) => version,
        Ok(SaveOutcome::Conflict) => panic!("a save on the newest version must succeed. key=`{key}`"),
        Err(e) => panic!("save: {}", e.chain()),
    }
}

async fn conflicts(store: &dyn StateStore, key: &StateKey, expected: Option<&StateVersion>) {
    match store.save(key, Bytes::from_static(b"stale"), expected).await {
        Ok(SaveOutcome::Conflict) => {}
        Ok(SaveOutcome::Saved(_)) => panic!("a save on another version than the newest must conflict. key=`{key}`"),
        Err(e) => panic!("a stale version is a conflict, not an error: {}", e.chain()),
    }
}

async fn delete(store: &dyn StateStore, key: &StateKey, expected: &StateVersion) -> DeleteOutcome {
    let deleted = store.delete(key, expected).await;
    deleted.unwrap_or_else(|e| panic!("delete: {}", e.chain()))
}

async fn list(store: &dyn StateStore, prefix: &StateKey) -> BTreeSet<StateKey> {
    let listed: Vec<_> = store
        .list(prefix)
        .try_collect()
        .await
        .unwrap_or_else(|e| panic!("list: {}", e.chain()));
    let keys: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(keys.len(), listed.len(), "a listing shows a key once");
    keys
}
