//! What a simulation asks of tables, of whatever format: to be answered by code that knows nothing of their sink.

use std::fmt;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use crate::options::TableFormat;
use crate::sink::TableProvider;

/// The tables of a simulation, one for each namespace, at `{namespace}` in their store.
///
/// Everything but [`provider`](Self::provider) is read from the stored objects by code of its own, so that a sink is not
/// judged by itself; it may panic where they are not what they should be.
pub trait SimulatedTables: fmt::Debug + Send + Sync + 'static {
    /// What the settings say.
    fn format(&self) -> TableFormat;

    /// The provider that is simulated; `url` is that of the store's root.
    fn provider(&self, url: &str, store: &Arc<dyn ObjectStore>) -> Arc<dyn TableProvider>;

    /// What was published by the creation of an object; `None`: nothing.
    fn published(&self, store: &Arc<dyn ObjectStore>, object: &Path) -> Option<Published>;

    /// Whether an object may be written more than once.
    fn is_hint(&self, object: &Path) -> bool;

    /// What an object of a table is, in a word: `commit`, `data`, ...
    fn part(&self, object: &Path) -> &'static str;

    /// The data files that are in a table now; none where there is no table.
    fn live_files(&self, store: &Arc<dyn ObjectStore>, namespace: &str) -> Vec<Path>;

    /// Changes a table as another writer does, in one commit; `false`: it cannot be done now.
    fn disturb(&self, store: &Arc<dyn ObjectStore>, namespace: &str, change: &ForeignChange) -> bool;
}

/// What the newest commit of a table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Whose table it is.
    pub namespace: String,
    /// The entries that it makes, none or one but for the adoption of a table.
    pub entries: Vec<PublishedEntry>,
    /// The data files that it adds.
    pub added: Vec<Path>,
    /// Objects, of data or metadata, that belong to the table from now on.
    pub kept: Vec<Path>,
}

/// An entry of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedEntry {
    /// The lane's id.
    pub lane: String,
    /// Its seq.
    pub seq: u64,
    /// Whether it says that nothing of its plan is in.
    pub is_void: bool,
}

/// What another writer does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignChange {
    /// Appends a file.
    Append(ForeignFile),
    /// Deletes all rows of some files.
    Delete(Vec<Path>),
    /// Puts a file in the place of others, with the same rows.
    Optimize {
        /// The others.
        files: Vec<Path>,
        /// Their rows.
        into: ForeignFile,
    },
    /// Forgets the history of the table, as far as its format allows, and changes no row.
    Expire,
}

/// A file of another writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignFile {
    /// Its name, for the table's root.
    pub name: String,
    /// Parquet.
    pub bytes: Vec<u8>,
    /// How many.
    pub rows: usize,
}
