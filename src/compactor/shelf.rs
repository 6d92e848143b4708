//! Where sources in quarantine are remembered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::naming::{ETag, FileName, ObjectKey, SourceFile};
use crate::quarantine::QuarantineReason;
use crate::state::document::Document;
use crate::state::{StateKey, StateStore};
use crate::time::Timestamp;

/// How long an unreadable source rests before it is tried again.
const UNREADABLE_REST_MS: u64 = 86_400_000;

/// The quarantine of one lane, in memory and in the state store.
#[derive(Debug)]
pub(crate) struct Shelf {
    entries: BTreeMap<ObjectKey, ShelfEntry>,
    document: Document,
    changed: BTreeMap<String, Option<String>>,
    /// How much of it could not be read and is lost.
    pub(crate) damaged: usize,
}

/// One source in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShelfEntry {
    pub(crate) key: ObjectKey,
    /// `None` for a key that does not parse.
    pub(crate) name: Option<FileName>,
    pub(crate) size: u64,
    pub(crate) etag: Option<ETag>,
    pub(crate) reason: QuarantineReason,
    pub(crate) since: Timestamp,
    /// When it goes back by itself.
    pub(crate) retry_at: Option<Timestamp>,
    /// An operator has given it up: remembered, so that a listing does not bring it back, and not shown.
    #[serde(default)]
    pub(crate) discarded: bool,
}

impl ShelfEntry {
    pub(crate) fn new(file: &SourceFile, reason: QuarantineReason, now: Timestamp) -> Self {
        let unreadable = matches!(reason, QuarantineReason::Unreadable { .. });
        Self {
            key: file.key.clone(),
            name: Some(file.name.clone()),
            size: file.size,
            etag: file.etag.clone(),
            reason: reason.shortened(),
            since: now,
            retry_at: unreadable.then(|| now + UNREADABLE_REST_MS),
            discarded: false,
        }
    }

    /// The source, when its key parses.
    pub(crate) fn file(&self) -> Option<SourceFile> {
        self.name.as_ref().map(|name| SourceFile {
            key: self.key.clone(),
            name: name.clone(),
            size: self.size,
            etag: self.etag.clone(),
        })
    }
}

impl Shelf {
    pub(crate) async fn open(store: &dyn StateStore, base: StateKey) -> Result<Self> {
        let document = Document::open(store, base).await?;
        let mut entries = BTreeMap::new();
        let mut changed = BTreeMap::new();
        for (key, text) in document.iter() {
            match serde_json::from_str::<ShelfEntry>(text) {
                Ok(entry) => {
                    entries.insert(entry.key.clone(), entry);
                }
                // Its file is judged anew.
                Err(_) => {
                    changed.insert(key.to_owned(), None);
                }
            }
        }
        Ok(Self {
            damaged: document.damaged() + changed.len(),
            entries,
            document,
            changed,
        })
    }

    /// Removes what could not be read.
    pub(crate) async fn mend(&mut self, store: &dyn StateStore) -> Result<()> {
        self.document.mend(store).await?;
        self.save(store).await
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&ShelfEntry> {
        self.entries.get(key)
    }

    /// Those that an operator has given up.
    pub(crate) fn discarded(&self) -> Vec<ShelfEntry> {
        self.entries.values().filter(|entry| entry.discarded).cloned().collect()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.entries.keys()
    }

    /// All that are shown, by key.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &ShelfEntry> {
        self.entries.values().filter(|entry| !entry.discarded)
    }

    pub(crate) fn insert(&mut self, entry: ShelfEntry) -> Result<()> {
        let text = serde_json::to_string(&entry)
            .map_err(|e| Error::new(ErrorKind::Internal, "state cannot be encoded").with_source(e))?;
        self.changed.insert(entry.key.as_str().to_owned(), Some(text));
        self.entries.insert(entry.key.clone(), entry);
        Ok(())
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey) -> Option<ShelfEntry> {
        let entry = self.entries.remove(key)?;
        self.changed.insert(key.as_str().to_owned(), None);
        Some(entry)
    }

    /// The sources whose rest is over.
    pub(crate) fn rested(&self, now: Timestamp) -> Vec<SourceFile> {
        let due = |entry: &&ShelfEntry| entry.retry_at.is_some_and(|at| at <= now);
        self.shown().filter(due).filter_map(ShelfEntry::file).collect()
    }

    /// Lets a source that could not go back rest once more.
    pub(crate) fn rest_again(&mut self, key: &ObjectKey, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.retry_at = Some(now + UNREADABLE_REST_MS);
        }
    }

    /// When the next source's rest is over.
    pub(crate) fn next_rested(&self) -> Option<Timestamp> {
        self.shown().filter_map(|entry| entry.retry_at).min()
    }

    /// Saves what has changed; keeps it for the next save when that fails.
    pub(crate) async fn save(&mut self, store: &dyn StateStore) -> Result<()> {
        if self.changed.is_empty() {
            return Ok(());
        }
        self.document.apply(store, &self.changed).await?;
        self.changed.clear();
        Ok(())
    }
}
