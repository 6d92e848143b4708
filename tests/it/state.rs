//! The state stores of this crate keep the contract that hosts' stores are held to.
#![cfg(feature = "testing")]

use std::sync::Arc;

use firnline::object_store::local::LocalFileSystem;
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::testing::conformance;
use firnline::{MemoryStateStore, ObjectStoreStateStore, StateStore};
use futures::executor::block_on;

fn prefix() -> Path {
    Path::parse("control/%/state").unwrap()
}

#[test]
fn memory_keeps_the_contract() {
    block_on(conformance::state_store(|| async {
        Arc::new(MemoryStateStore::new()) as Arc<dyn StateStore>
    }));
}

#[test]
fn numbered_objects_in_memory_keep_the_contract() {
    block_on(conformance::state_store(|| async {
        Arc::new(ObjectStoreStateStore::new(Arc::new(InMemory::new()), prefix())) as Arc<dyn StateStore>
    }));
}

#[test]
fn numbered_objects_on_the_local_file_system_keep_the_contract() {
    let root = tempfile::tempdir().unwrap();
    let n = std::sync::atomic::AtomicUsize::new(0);
    block_on(conformance::state_store(|| async {
        let directory = root
            .path()
            .join(n.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string());
        std::fs::create_dir(&directory).unwrap();
        let files = LocalFileSystem::new_with_prefix(directory).unwrap().with_fsync(true);
        Arc::new(ObjectStoreStateStore::new(Arc::new(files), prefix())) as Arc<dyn StateStore>
    }));
}

#[test]
fn etag_updates_in_memory_keep_the_contract() {
    block_on(conformance::state_store(|| async {
        let state = ObjectStoreStateStore::new(Arc::new(InMemory::new()), prefix()).with_etag_updates();
        Arc::new(state) as Arc<dyn StateStore>
    }));
}

#[test]
fn state_at_the_root_of_a_store_keeps_the_contract() {
    block_on(conformance::state_store(|| async {
        Arc::new(ObjectStoreStateStore::new(Arc::new(InMemory::new()), Path::ROOT)) as Arc<dyn StateStore>
    }));
}

#[test]
fn etag_updates_are_refused_where_the_store_has_none() {
    let root = tempfile::tempdir().unwrap();
    let files = LocalFileSystem::new_with_prefix(root.path()).unwrap();
    let state = ObjectStoreStateStore::new(Arc::new(files), prefix()).with_etag_updates();
    let key = firnline::StateKey::new(["k"]);
    block_on(async {
        let Ok(firnline::SaveOutcome::Saved(version)) = state.save(&key, "1".into(), None).await else {
            panic!("a create needs no conditional update");
        };
        let error = state.save(&key, "2".into(), Some(&version)).await.unwrap_err();
        assert_eq!(error.kind(), firnline::ErrorKind::Unsupported);
    });
}
