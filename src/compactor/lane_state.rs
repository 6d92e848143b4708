//! What a lane keeps in the state store.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::compactor::lane::Lane;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Seq;
use crate::naming::{ETag, ObjectKey};
use crate::state::document::{Changes, Document};
use crate::state::{StateKey, StateStore};
use crate::time::Timestamp;
use crate::window::{FileRecord, RosterRecord, TrackerKey, WindowRecord, WindowTracker};

/// What a lane remembers beside windows and quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LaneMemory {
    /// Whether the bucket was listed for this lane: a lane without this has lost its state.
    pub(crate) listed: bool,
    /// Every committed seq up to here has been reclaimed, and these besides.
    pub(crate) reclaimed_to: Seq,
    pub(crate) reclaimed: BTreeSet<Seq>,
    /// Contents that an operator has released though they seemed taken.
    pub(crate) released: BTreeMap<ObjectKey, ETag>,
    /// When orphans were last looked for.
    pub(crate) swept_at: Option<Timestamp>,
}

/// The documents of a lane.
#[derive(Debug)]
pub(super) struct Documents {
    pub(super) base: StateKey,
    lane: Document,
    roster: Document,
    windows: BTreeMap<Timestamp, WindowDocument>,
    /// What the state store holds of [`LaneMemory`].
    pub(super) saved: Option<LaneMemory>,
}

/// The saved pending files of a window.
#[derive(Debug)]
struct WindowDocument {
    document: Document,
    /// The entries that the tracker has been given or has given. Others were recorded by other workers.
    known: BTreeSet<String>,
}

impl LaneMemory {
    pub(crate) fn is_reclaimed(&self, seq: Seq) -> bool {
        seq <= self.reclaimed_to || self.reclaimed.contains(&seq)
    }

    /// Remembers that a plan was reclaimed; `settled` says whether a seq needs no reclaim at all.
    pub(crate) fn reclaimed(&mut self, seq: Seq, settled: impl Fn(Seq) -> bool) {
        self.reclaimed.insert(seq);
        while self.reclaimed.remove(&self.reclaimed_to.next()) || settled(self.reclaimed_to.next()) {
            self.reclaimed_to = self.reclaimed_to.next();
        }
    }
}

impl Lane {
    /// Hands the saved windows and writers to the tracker.
    pub(super) fn fill(&mut self, tracker: &mut WindowTracker) {
        for (start, window) in &self.documents.windows {
            let texts = window.document.iter().filter(|(name, _)| name.starts_with(FILE_PREFIX));
            let files: Vec<FileRecord> = texts.filter_map(|(_, text)| decode(text)).collect();
            let record = match window.document.get(WINDOW).and_then(decode::<WindowRecord>) {
                Some(record) => WindowRecord { files, ..record },
                // A crash came between two chunks: the files are pending all the same.
                None => record_of_files(*start, files),
            };
            tracker.join_window(&self.namespace, record);
        }
        tracker.join_roster(&self.namespace, &roster_of(&self.documents.roster));
        self.one_place_each(tracker);
    }

    /// A crash between the saves of a door leaves a source pending and in quarantine. It is judged anew then, unless an
    /// operator has given it up.
    fn one_place_each(&mut self, tracker: &mut WindowTracker) {
        let pending = |key: &&ObjectKey| tracker.is_pending(&self.namespace, key).is_some();
        let doubles: Vec<_> = self.shelf.keys().filter(pending).cloned().collect();
        for key in doubles {
            if self.shelf.get(&key).is_some_and(|entry| entry.discarded) {
                tracker.forget_file(&self.namespace, &key);
            } else {
                self.shelf.remove(&key);
            }
        }
    }

    /// Removes what could not be read, once it is written down that the bucket has to be listed for it.
    pub(super) async fn mend(&mut self, store: &dyn StateStore) -> Result<()> {
        self.memory.listed = false;
        self.save_memory(store).await?;
        self.documents.mend(store).await?;
        self.shelf.mend(store).await
    }

    /// Saves a part of the tracker's state.
    pub(crate) async fn save_tracked(
        &mut self,
        store: &dyn StateStore,
        tracker: &mut WindowTracker,
        key: &TrackerKey,
    ) -> Result<()> {
        match key {
            TrackerKey::Window { start, .. } => self.save_window(store, tracker, *start).await,
            TrackerKey::Roster { .. } => {
                let mut changes: Changes = BTreeMap::new();
                for (entry, _) in self.documents.roster.iter() {
                    changes.insert(entry.to_owned(), None);
                }
                let record = tracker.roster_record(&self.namespace);
                for writer in &record.writers {
                    changes.insert(format!("{WRITER}{}", writer.id), Some(encode(writer)?));
                }
                if let Some(forgotten) = record.forgotten {
                    changes.insert(FORGOTTEN.to_owned(), Some(encode(&forgotten)?));
                }
                self.documents.roster.apply(store, &changes).await
            }
        }
    }

    /// Saves the pending files of a window, and takes over those that other workers have recorded in it: they are
    /// acknowledged, and their worker may be gone.
    async fn save_window(
        &mut self,
        store: &dyn StateStore,
        tracker: &mut WindowTracker,
        start: Timestamp,
    ) -> Result<()> {
        let wanted = match tracker.window_record(&self.namespace, start) {
            Some(record) => entries_of_window(record)?,
            None => BTreeMap::new(),
        };
        if !self.documents.windows.contains_key(&start) {
            let document = Document::open(store, self.documents.window_key(start)).await?;
            let known = BTreeSet::new();
            self.documents.windows.insert(start, WindowDocument { document, known });
        }
        let Some(window) = self.documents.windows.get_mut(&start) else {
            return Ok(());
        };
        let dropped = |name: &str| window.known.contains(name) && !wanted.contains_key(name);
        let mut changes: BTreeMap<String, Option<String>> = window
            .document
            .iter()
            .filter(|(name, _)| dropped(name))
            .map(|(name, _)| (name.to_owned(), None))
            .collect();
        window.known.extend(wanted.keys().cloned());
        for (name, text) in &wanted {
            if window.document.get(name) != Some(text.as_str()) {
                changes.insert(name.clone(), Some(text.clone()));
            }
        }
        if !changes.is_empty() {
            window.document.apply(store, &changes).await?;
        }
        window.known = wanted.into_keys().collect();
        let mut theirs = Vec::new();
        for (name, text) in window.document.iter() {
            if name.starts_with(FILE_PREFIX)
                && !window.known.contains(name)
                && let Some(file) = decode::<FileRecord>(text)
            {
                theirs.push((name.to_owned(), file));
            }
        }
        if !theirs.is_empty() {
            let (names, files): (Vec<_>, Vec<_>) = theirs.into_iter().unzip();
            window.known.extend(names);
            tracker.join_window(&self.namespace, record_of_files(start, files));
        }
        if window.document.iter().next().is_none() {
            self.documents.windows.remove(&start);
        }
        Ok(())
    }

    /// Saves quarantine and memory.
    pub(crate) async fn save(&mut self, store: &dyn StateStore) -> Result<()> {
        self.shelf.save(store).await?;
        self.save_memory(store).await
    }

    async fn save_memory(&mut self, store: &dyn StateStore) -> Result<()> {
        if self.documents.saved.as_ref() != Some(&self.memory) {
            let changes = BTreeMap::from([(MEMORY.to_owned(), Some(encode(&self.memory)?))]);
            self.documents.lane.apply(store, &changes).await?;
            self.documents.saved = Some(self.memory.clone());
        }
        Ok(())
    }
}

/// Names of entries in a lane's documents.
const MEMORY: &str = "memory";
/// What the entry of a writer in the roster begins with; one entry each, since a value holds no thousand of them.
const WRITER: &str = "writer/";
/// The entry that says when the last writer was seen that did not fit.
const FORGOTTEN: &str = "forgotten";

const WINDOW: &str = "window";
const FILE_PREFIX: &str = "file:";

/// The roster as it was saved. What cannot be understood is as good as never seen.
fn roster_of(document: &Document) -> RosterRecord {
    let writers = document.iter().filter(|(entry, _)| entry.starts_with(WRITER));
    RosterRecord {
        writers: writers
            .filter_map(|(_, text)| serde_json::from_str(text).ok())
            .collect(),
        forgotten: document.get(FORGOTTEN).and_then(|text| serde_json::from_str(text).ok()),
    }
}

impl Documents {
    pub(super) async fn open(store: &dyn StateStore, base: StateKey) -> Result<Self> {
        let lane = Document::open(store, base.join("lane")).await?;
        let roster = Document::open(store, base.join("roster")).await?;
        let saved = lane.get(MEMORY).and_then(decode);
        let all_windows = base.join("windows");
        let depth = all_windows.segments().count();
        let keys: Vec<StateKey> = store.list(&all_windows).try_collect().await?;
        let starts: BTreeSet<i64> = keys
            .iter()
            .filter_map(|key| key.segments().nth(depth)?.parse().ok())
            .collect();
        let mut windows = BTreeMap::new();
        for start in starts {
            let document = Document::open(store, all_windows.join(&start.to_string())).await?;
            let known = document.iter().map(|(name, _)| name.to_owned()).collect();
            windows.insert(Timestamp::from_millis(start), WindowDocument { document, known });
        }
        Ok(Self {
            base,
            lane,
            roster,
            windows,
            saved,
        })
    }

    /// How much of them could not be read and is lost.
    pub(super) fn damaged(&self) -> usize {
        let windows = self.windows.values();
        let in_windows = windows.map(|window| window.document.damaged() + window.unreadable().count());
        let memory = usize::from(self.lane.get(MEMORY).is_some() && self.saved.is_none());
        self.lane.damaged() + memory + self.roster.damaged() + in_windows.sum::<usize>()
    }

    async fn mend(&mut self, store: &dyn StateStore) -> Result<()> {
        self.lane.mend(store).await?;
        self.roster.mend(store).await?;
        for window in self.windows.values_mut() {
            window.document.mend(store).await?;
            let unreadable: BTreeMap<_, _> = window.unreadable().map(|name| (name.to_owned(), None)).collect();
            if !unreadable.is_empty() {
                window.document.apply(store, &unreadable).await?;
            }
        }
        Ok(())
    }

    fn window_key(&self, start: Timestamp) -> StateKey {
        self.base.join("windows").join(&start.as_millis().to_string())
    }
}

impl WindowDocument {
    /// The entries that are not what is written there.
    fn unreadable(&self) -> impl Iterator<Item = &str> {
        let entries = self.document.iter().filter(|(name, text)| match *name {
            WINDOW => decode::<WindowRecord>(text).is_none(),
            _ => decode::<FileRecord>(text).is_none(),
        });
        entries.map(|(name, _)| name)
    }
}

/// A window of which nothing but its files is known.
fn record_of_files(start: Timestamp, files: Vec<FileRecord>) -> WindowRecord {
    WindowRecord {
        start,
        generation: 0,
        exempt: false,
        rest_of: None,
        voided: false,
        files,
    }
}

/// A window as entries: one for the window, one per file, so that a large one spreads over chunks.
fn entries_of_window(mut record: WindowRecord) -> Result<BTreeMap<String, String>> {
    let mut entries = BTreeMap::new();
    for file in std::mem::take(&mut record.files) {
        entries.insert(format!("{FILE_PREFIX}{}", file.key), encode(&file)?);
    }
    entries.insert(WINDOW.to_owned(), encode(&record)?);
    Ok(entries)
}

fn encode<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::new(ErrorKind::Internal, "state cannot be encoded").with_source(e))
}

/// Reads an entry; one that is not what was written is lost.
fn decode<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reclaimed_out_of_turn_is_remembered_until_the_gap_is_closed() {
        let mut memory = LaneMemory::default();
        let void = |seq: Seq| seq == Seq::new(2);
        memory.reclaimed(Seq::new(3), void);
        assert_eq!((memory.reclaimed_to, memory.reclaimed.len()), (Seq::ZERO, 1));
        assert!(memory.is_reclaimed(Seq::new(3)) && !memory.is_reclaimed(Seq::new(1)));
        memory.reclaimed(Seq::new(1), void);
        assert_eq!((memory.reclaimed_to, memory.reclaimed.len()), (Seq::new(3), 0));
    }
}
