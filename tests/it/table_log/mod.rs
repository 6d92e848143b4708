//! What a table's own log says, read and written by code that knows nothing of the library.
//!
//! The tests of the compactor and of faults run on tables of either format: `FIRNLINE_FORMAT=iceberg` turns them from
//! Delta to Iceberg.

pub(crate) mod delta;
pub(crate) mod iceberg;

use std::collections::BTreeSet;
use std::sync::Arc;

use firnline::object_store::path::Path;
use firnline::object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use firnline::{TableFormat, TableProvider};
use futures::TryStreamExt;
use futures::executor::block_on;

type Store = Arc<dyn ObjectStore>;

/// An entry of a lane in a table's log.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) lane: String,
    pub(crate) seq: u64,
    pub(crate) void: bool,
    /// The object that published it.
    pub(crate) commit: String,
}

/// How another writer takes files out of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeOut {
    /// Sets the table back to what it was.
    Restore,
    /// Puts another content in the place of all that is there.
    Overwrite,
    /// Does something that nobody knows.
    Unknown,
    /// Deletes rows on purpose.
    Delete,
}

/// The format of the tables of this run.
pub(crate) fn format() -> TableFormat {
    match std::env::var("FIRNLINE_FORMAT").as_deref() {
        Ok("iceberg") => TableFormat::Iceberg,
        Ok("delta") | Err(_) => TableFormat::Delta,
        Ok(other) => panic!("FIRNLINE_FORMAT is neither delta nor iceberg: {other}"),
    }
}

/// Whether this run's tables are Iceberg's.
pub(crate) fn is_iceberg() -> bool {
    format() == TableFormat::Iceberg
}

/// The tables of a compactor, at the root of `store`, known as `url`.
pub(crate) fn tables(url: &str, store: &Store) -> Arc<dyn TableProvider> {
    if is_iceberg() {
        iceberg::tables(url, store)
    } else {
        delta::tables(url, store)
    }
}

/// The entries in a table's log, in order.
pub(crate) fn entries(store: &Store, namespace: &str) -> Vec<Entry> {
    if is_iceberg() {
        iceberg::entries(store, namespace)
    } else {
        delta::entries(store, namespace)
    }
}

/// The data files that are in a table.
pub(crate) fn live_files(store: &Store, namespace: &str) -> Vec<Path> {
    if is_iceberg() {
        iceberg::live_files(store, namespace)
    } else {
        delta::live_files(store, namespace)
    }
}

/// The data files that have ever been in a table, and the metadata files that named them.
pub(crate) fn added_files(store: &Store, namespace: &str) -> BTreeSet<String> {
    if is_iceberg() {
        iceberg::added_files(store, namespace)
    } else {
        delta::added_files(store, namespace)
    }
}

/// The data files that a commit has added.
pub(crate) fn files_of(store: &Store, namespace: &str, commit: &str) -> Vec<Path> {
    if is_iceberg() {
        iceberg::files_of(store, namespace, commit)
    } else {
        delta::files_of(store, namespace, commit)
    }
}

/// The data files that are in an Iceberg table, whatever the tables of this run are.
pub(crate) fn iceberg_live_files(store: &Store, namespace: &str) -> Vec<Path> {
    iceberg::live_files(store, namespace)
}

/// The data files of an Iceberg table with these metadata.
pub(crate) fn iceberg_files(store: &Store, namespace: &str, metadata: &Path) -> Vec<Path> {
    iceberg::files_at(store, namespace, metadata)
}

/// Another writer appends a file; `false` when there is no table.
pub(crate) fn append(store: &Store, namespace: &str, name: &str, bytes: Vec<u8>, rows: usize) -> bool {
    if is_iceberg() {
        iceberg::append(store, namespace, name, bytes, rows)
    } else {
        delta::append(store, namespace, name, bytes)
    }
}

/// Another writer takes all files out of a table but `keep`.
pub(crate) fn take_out(store: &Store, namespace: &str, how: TakeOut, keep: &[Path]) {
    if is_iceberg() {
        iceberg::take_out(store, namespace, how, keep);
    } else {
        delta::take_out(store, namespace, how, keep);
    }
}

/// After which of them nobody can tell any more whether rows that were committed are in the table, or were.
pub(crate) fn rewinds() -> &'static [TakeOut] {
    if is_iceberg() {
        // A snapshot that follows says what it did; only setting back takes the entry out of the history.
        &[TakeOut::Restore]
    } else {
        &[TakeOut::Restore, TakeOut::Overwrite, TakeOut::Unknown]
    }
}

/// Whether an object is the one that publishes a commit.
pub(crate) fn is_commit(path: &str) -> bool {
    if is_iceberg() {
        path.ends_with(".metadata.json")
    } else {
        delta::is_commit(&Path::from(path))
    }
}

/// Whether an object of a table may be written twice: only hints may.
pub(crate) fn is_hint(path: &str) -> bool {
    path.ends_with("_delta_log/_last_checkpoint") || path.ends_with("metadata/version-hint.text")
}

pub(crate) fn list(store: &Store, prefix: &Path) -> Vec<Path> {
    let metas: Vec<ObjectMeta> = block_on(store.list(Some(prefix)).try_collect()).unwrap();
    let mut paths: Vec<Path> = metas.into_iter().map(|meta| meta.location).collect();
    paths.sort();
    paths
}

pub(crate) fn read(store: &Store, path: &Path) -> bytes::Bytes {
    block_on(async { store.get(path).await.unwrap().bytes().await.unwrap() })
}

fn write(store: &Store, path: &Path, bytes: impl Into<bytes::Bytes>) {
    block_on(store.put(path, bytes.into().into())).unwrap();
}
