//! Many small entries in few state values.
//!
//! A [`Document`] is a map from text to JSON, kept in chunks under `{base}/{number}`, each within the limit of
//! a state value. An entry lives in one chunk; a change writes only the chunks it touches, each by
//! compare-and-set. There is no transaction over two chunks, so their order matters where an entry moves
//! because its chunk has no room: the new copy is written first, the old one removed afterwards. A crash in
//! between leaves two copies. Each copy carries a revision; the higher one counts, then the one in the lower
//! chunk, and the next change removes the other before it does anything else. So at every instant each entry
//! has the value before a change or after it, never none and never one from before.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::value::RawValue;

use super::chunk::{EMPTY_CHUNK_BYTES, Entry, Sheet};
use super::{DeleteOutcome, MAX_STATE_VALUE_BYTES, SaveOutcome, StateKey, StateStore, StateVersion};
use crate::error::{Error, ErrorKind, Result};

/// How often a change is tried again because another worker has changed the document.
const MAX_CONFLICTS: usize = 8;
/// Chunks that are read at once.
const CONCURRENT_LOADS: usize = 8;

/// Changes of a document: the new JSON of each entry, `None` to remove it.
pub(crate) type Changes = BTreeMap<String, Option<String>>;

/// A map from text to JSON, kept in the state store.
#[derive(Debug)]
pub(crate) struct Document {
    base: StateKey,
    limit: usize,
    chunks: BTreeMap<u64, Chunk>,
    /// The chunk that holds the copy of an entry that counts.
    places: BTreeMap<String, u64>,
    /// The copies that do not count.
    copies: Vec<(u64, String)>,
    /// Whether a change began whose end is not known, so that the chunks must be read again.
    stale: bool,
}

impl Document {
    /// Reads the document under `base`; it is empty if there is none. A chunk that is damaged has no entries.
    ///
    /// # Errors
    ///
    /// `Unavailable` to be tried again; `Unsupported` if a chunk is of a later form.
    pub(crate) async fn open(store: &dyn StateStore, base: StateKey) -> Result<Self> {
        Self::open_with_limit(store, base, MAX_STATE_VALUE_BYTES).await
    }

    async fn open_with_limit(store: &dyn StateStore, base: StateKey, limit: usize) -> Result<Self> {
        let mut document = Self {
            base,
            limit,
            chunks: BTreeMap::new(),
            places: BTreeMap::new(),
            copies: Vec::new(),
            stale: true,
        };
        document.reload(store).await?;
        Ok(document)
    }

    /// Reads it again.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub(crate) async fn reload(&mut self, store: &dyn StateStore) -> Result<()> {
        self.stale = true;
        let keys: Vec<_> = store.list(&self.base).try_collect().await?;
        let numbers = keys
            .iter()
            .filter_map(|key| self.number_of(key))
            .collect::<BTreeSet<_>>();
        let loads = numbers.into_iter().map(|number| {
            let key = self.key_of(number);
            async move { Ok::<_, Error>((number, Chunk::load(store, &key).await?)) }
        });
        let chunks: Vec<_> = stream::iter(loads).buffered(CONCURRENT_LOADS).try_collect().await?;
        self.chunks = chunks
            .into_iter()
            .filter_map(|(number, chunk)| Some((number, chunk?)))
            .collect();
        self.index();
        self.stale = false;
        Ok(())
    }

    /// How many chunks are damaged, so that what they held is lost.
    pub(crate) fn damaged(&self) -> usize {
        self.chunks.values().filter(|chunk| chunk.damaged).count()
    }

    /// Removes damaged chunks.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub(crate) async fn mend(&mut self, store: &dyn StateStore) -> Result<()> {
        let damaged = self.chunks.iter().filter(|(_, chunk)| chunk.damaged);
        let damaged: Vec<_> = damaged
            .map(|(number, chunk)| (*number, chunk.version.clone()))
            .collect();
        for (number, version) in damaged {
            self.stale = true;
            match store.delete(&self.key_of(number), &version).await {
                Ok(DeleteOutcome::Deleted) => {}
                // Another worker has mended it.
                Ok(DeleteOutcome::Conflict) => return self.reload(store).await,
                Err(error) if error.kind() == ErrorKind::Conflict => return self.reload(store).await,
                Err(error) => return Err(error),
            }
            self.chunks.remove(&number);
            self.stale = false;
        }
        Ok(())
    }

    /// The JSON of an entry.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let chunk = self.chunks.get(self.places.get(key)?)?;
        chunk.sheet.entries.get(key).map(|entry| entry.json.get())
    }

    /// All entries in order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.places
            .keys()
            .filter_map(|key| Some((key.as_str(), self.get(key)?)))
    }

    /// Writes `changes`; where another worker changed the same entry, ours counts.
    ///
    /// Changes nothing that has the wanted value already, so it can be repeated. After an error, and when its
    /// future was dropped, some of the changes may have been written; the next call reads everything again.
    ///
    /// # Errors
    ///
    /// `Invalid` if an entry is too large or not JSON, then nothing has been written; `Conflict` if others
    /// change the document all the time; `Unavailable` to be tried again.
    pub(crate) async fn apply(&mut self, store: &dyn StateStore, changes: &Changes) -> Result<()> {
        if self.stale {
            self.reload(store).await?;
        }
        let wanted = self.wanted(changes)?;
        for _ in 0..MAX_CONFLICTS {
            self.stale = true;
            match self.write(store, &wanted).await {
                Ok(true) => {
                    self.stale = false;
                    return Ok(());
                }
                Ok(false) => {}
                // Whether ours was written before others wrote is seen after reading: what is there is left.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
            self.reload(store).await?;
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!("state document is changed by others all the time. key=`{}`", self.base),
        ))
    }

    /// Writes what differs from `wanted`; false if another worker has changed a chunk.
    async fn write(&mut self, store: &dyn StateStore, wanted: &Wanted) -> Result<bool> {
        for (number, sheet) in self.plan(wanted) {
            let key = self.key_of(number);
            let version = self.chunks.get(&number).map(|chunk| &chunk.version);
            match (version, sheet.entries.is_empty()) {
                (None, true) => {}
                (Some(version), true) => {
                    if store.delete(&key, version).await? == DeleteOutcome::Conflict {
                        return Ok(false);
                    }
                    self.replace(number, None);
                }
                (version, false) => {
                    let SaveOutcome::Saved(version) = store.save(&key, sheet.encode(&key)?, version).await? else {
                        return Ok(false);
                    };
                    self.replace(number, Some(Chunk::new(version, sheet)));
                }
            }
        }
        Ok(true)
    }

    /// The chunks to be written, in order: first those without copies that no longer count, then those with
    /// the changes, then those without the copies that have moved.
    fn plan(&self, wanted: &Wanted) -> Vec<(u64, Sheet)> {
        let mut draft = Draft::new(self);
        for (number, key) in &self.copies {
            draft.remove(*number, key);
        }
        draft.flush();
        let mut moved = Vec::new();
        // Removals first, as they make room.
        for (key, json) in wanted {
            if let (None, Some(place)) = (json, self.places.get(key)) {
                draft.remove(*place, key);
            }
        }
        for (key, json) in wanted {
            let Some(json) = json else { continue };
            let place = self.places.get(key).copied();
            let old = place.and_then(|place| self.chunks.get(&place)?.sheet.entries.get(key));
            if old.is_some_and(|old| old.json.get() == json.get()) {
                continue;
            }
            let entry = Entry {
                revision: old.map_or(1, |old| old.revision.saturating_add(1)),
                json: json.clone(),
            };
            let next = draft.place(place, key, &entry);
            draft.insert(next, key, entry);
            if let Some(place) = place.filter(|place| *place != next) {
                moved.push((place, key));
            }
        }
        draft.flush();
        for (place, key) in moved {
            draft.remove(place, key);
        }
        draft.flush();
        draft.writes
    }

    fn wanted(&self, changes: &Changes) -> Result<Wanted> {
        let entry = |(key, json): (&String, &Option<String>)| {
            let Some(json) = json else {
                return Ok((key.clone(), None));
            };
            let refuse = |why: &str| {
                Error::new(
                    ErrorKind::Invalid,
                    format!("state entry {why}. document=`{}` entry=`{key}`", self.base),
                )
            };
            let json = RawValue::from_string(json.clone()).map_err(|e| refuse("is not JSON").with_source(e))?;
            let revision = u64::MAX;
            let entry = Entry { revision, json };
            if EMPTY_CHUNK_BYTES + entry.bytes(key) > self.limit {
                return Err(refuse("is too large"));
            }
            Ok((key.clone(), Some(entry.json)))
        };
        changes.iter().map(entry).collect()
    }

    /// Finds the copies that count, after all chunks have been read.
    fn index(&mut self) {
        let mut places: BTreeMap<&String, (u64, u64)> = BTreeMap::new();
        let mut copies = Vec::new();
        for (number, chunk) in &self.chunks {
            for (key, entry) in &chunk.sheet.entries {
                match places.get(key) {
                    Some((_, revision)) if *revision >= entry.revision => copies.push((*number, key.clone())),
                    counts => {
                        copies.extend(counts.map(|(loser, _)| (*loser, key.clone())));
                        places.insert(key, (*number, entry.revision));
                    }
                }
            }
        }
        self.places = places
            .into_iter()
            .map(|(key, (number, _))| (key.clone(), number))
            .collect();
        self.copies = copies;
    }

    /// Takes over a chunk that has been written, `None` one that has been deleted.
    fn replace(&mut self, number: u64, chunk: Option<Chunk>) {
        let old = self.chunks.remove(&number).map(|old| old.sheet).unwrap_or_default();
        let new = chunk.as_ref().map(|chunk| &chunk.sheet.entries);
        for key in old.entries.keys() {
            if self.places.get(key) == Some(&number) && new.is_none_or(|new| !new.contains_key(key)) {
                self.places.remove(key);
            }
        }
        for (key, entry) in new.into_iter().flatten() {
            let other = self.places.get(key).filter(|place| **place != number);
            let other = other.and_then(|place| self.chunks.get(place)?.sheet.entries.get(key));
            if other.is_none_or(|other| other.revision < entry.revision) {
                self.places.insert(key.clone(), number);
            }
        }
        self.copies
            .retain(|(place, key)| *place != number || new.is_some_and(|new| new.contains_key(key)));
        if let Some(chunk) = chunk {
            self.chunks.insert(number, chunk);
        }
    }

    fn key_of(&self, number: u64) -> StateKey {
        self.base.join(&number.to_string())
    }

    /// The number of the chunk of this key; documents of other bases may lie below ours.
    fn number_of(&self, key: &StateKey) -> Option<u64> {
        let number = key.as_str().rsplit('/').next()?.parse().ok()?;
        (self.key_of(number) == *key).then_some(number)
    }
}

/// What entries are to become, checked.
type Wanted = BTreeMap<String, Option<Box<RawValue>>>;

/// A chunk as it is in the store.
#[derive(Debug)]
struct Chunk {
    version: StateVersion,
    sheet: Sheet,
    /// Whether it is not what was written.
    damaged: bool,
}

impl Chunk {
    fn new(version: StateVersion, sheet: Sheet) -> Self {
        Self {
            version,
            sheet,
            damaged: false,
        }
    }

    async fn load(store: &dyn StateStore, key: &StateKey) -> Result<Option<Self>> {
        let Some(stored) = store.load(key).await? else {
            return Ok(None);
        };
        let sheet = match Sheet::decode(key, &stored.bytes) {
            Ok(sheet) => sheet,
            Err(error) if error.kind() == ErrorKind::Data => {
                return Ok(Some(Self {
                    damaged: true,
                    ..Self::new(stored.version, Sheet::default())
                }));
            }
            Err(error) => return Err(error),
        };
        Ok(Some(Self::new(stored.version, sheet)))
    }
}

/// The chunks as they shall be, and the writes that lead there.
#[derive(Debug)]
struct Draft<'a> {
    document: &'a Document,
    sheets: BTreeMap<u64, Sheet>,
    dirty: BTreeSet<u64>,
    writes: Vec<(u64, Sheet)>,
}

impl<'a> Draft<'a> {
    fn new(document: &'a Document) -> Self {
        Self {
            document,
            sheets: BTreeMap::new(),
            dirty: BTreeSet::new(),
            writes: Vec::new(),
        }
    }

    fn sheet(&mut self, number: u64) -> &mut Sheet {
        let document = self.document;
        self.dirty.insert(number);
        self.sheets.entry(number).or_insert_with(|| {
            let chunk = document.chunks.get(&number);
            chunk.map(|chunk| chunk.sheet.clone()).unwrap_or_default()
        })
    }

    fn insert(&mut self, number: u64, key: &str, entry: Entry) {
        self.sheet(number).insert(key, entry);
    }

    fn remove(&mut self, number: u64, key: &str) {
        self.sheet(number).remove(key);
    }

    /// Ends a step: what has changed in it is written before what changes later.
    fn flush(&mut self) {
        for number in std::mem::take(&mut self.dirty) {
            if let Some(sheet) = self.sheets.get(&number) {
                self.writes.push((number, sheet.clone()));
            }
        }
    }

    /// The chunk for an entry: where it is, else one that is written anyway, else any with room, else a new one.
    fn place(&self, current: Option<u64>, key: &str, entry: &Entry) -> u64 {
        let chunks = &self.document.chunks;
        let sheet = |number: &u64| self.sheets.get(number).or_else(|| Some(&chunks.get(number)?.sheet));
        let fits = |number: &u64| sheet(number).is_some_and(|s| s.bytes_with(key, entry) <= self.document.limit);
        let candidates = current.iter().chain(&self.dirty).chain(chunks.keys());
        candidates.copied().find(fits).unwrap_or_else(|| {
            let taken = |number: &u64| chunks.contains_key(number) || self.sheets.contains_key(number);
            (0..=u64::MAX).find(|number| !taken(number)).unwrap_or(u64::MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use bytes::Bytes;
    use futures::executor::block_on;
    use futures::future::FutureExt;
    use futures::stream::BoxStream;

    use super::*;
    use crate::state::{MemoryStateStore, StoredState};
    use crate::testing::{Fault, FaultStateStore, Faults};

    /// Room for about three of the entries that the tests write.
    const LIMIT: usize = EMPTY_CHUNK_BYTES + 75;

    fn base() -> StateKey {
        StateKey::new(["lanes", "eu", "windows"])
    }

    fn open(store: &dyn StateStore) -> Document {
        block_on(Document::open_with_limit(store, base(), LIMIT)).unwrap()
    }

    fn changes(pairs: &[(&str, Option<&str>)]) -> Changes {
        let owned = pairs
            .iter()
            .map(|(key, json)| ((*key).to_owned(), json.map(str::to_owned)));
        owned.collect()
    }

    fn content(document: &Document) -> Vec<(String, String)> {
        document
            .iter()
            .map(|(key, json)| (key.to_owned(), json.to_owned()))
            .collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(key, json)| ((*key).to_owned(), (*json).to_owned()))
            .collect()
    }

    fn chunk_count(store: &dyn StateStore) -> usize {
        block_on(store.list(&base()).try_collect::<Vec<_>>()).unwrap().len()
    }

    #[test]
    fn entries_fill_chunks_and_empty_chunks_go() {
        let store = MemoryStateStore::new();
        let mut document = open(&store);
        let all: Changes = (0..10).map(|n| (n.to_string(), Some(n.to_string()))).collect();
        block_on(document.apply(&store, &all)).unwrap();
        assert_eq!(chunk_count(&store), 3);
        let again = open(&store);
        assert_eq!(content(&again), content(&document));
        assert_eq!(again.get("7"), Some("7"));
        let none: Changes = (0..10).map(|n| (n.to_string(), None)).collect();
        block_on(document.apply(&store, &none)).unwrap();
        assert_eq!((document.iter().count(), chunk_count(&store)), (0, 0));
    }

    #[test]
    fn only_chunks_that_change_are_written() {
        let faults = Faults::none();
        let store = FaultStateStore::new(Arc::new(MemoryStateStore::new()), &faults);
        let mut document = open(&store);
        let all: Changes = (0..10).map(|n| (n.to_string(), Some(n.to_string()))).collect();
        block_on(document.apply(&store, &all)).unwrap();
        let before = faults.operations();
        block_on(document.apply(&store, &changes(&[("3", Some("33")), ("4", Some("4"))]))).unwrap();
        block_on(document.apply(&store, &changes(&[("nobody", None)]))).unwrap();
        assert_eq!(faults.operations(), before + 1);
    }

    #[test]
    fn a_damaged_chunk_is_lost_alone_and_can_be_written_or_mended() {
        let store = MemoryStateStore::new();
        let all: Changes = (0..10).map(|n| (n.to_string(), Some(n.to_string()))).collect();
        block_on(open(&store).apply(&store, &all)).unwrap();
        let damage = |bytes: &'static str| {
            let key = base().join("1");
            let version = block_on(store.load(&key)).unwrap().unwrap().version;
            let saved = block_on(store.save(&key, bytes.into(), Some(&version))).unwrap();
            assert!(matches!(saved, SaveOutcome::Saved(_)));
        };
        damage("{\"trunc");
        let mut document = open(&store);
        let left = content(&document).len();
        assert_eq!((document.damaged(), chunk_count(&store)), (1, 3));
        assert!(left < 10, "{left}");
        block_on(document.apply(&store, &all)).unwrap();
        assert_eq!(document.damaged(), 0);
        let mut document = open(&store);
        assert_eq!((document.damaged(), content(&document).len()), (0, 10));
        damage("");
        let mut other = open(&store);
        block_on(document.reload(&store)).unwrap();
        block_on(document.mend(&store)).unwrap();
        block_on(other.mend(&store)).unwrap();
        for document in [document, other, open(&store)] {
            assert_eq!((document.damaged(), content(&document).len()), (0, left));
        }
        assert_eq!(chunk_count(&store), 2);
    }

    #[test]
    fn an_entry_that_is_too_large_or_not_json_is_refused_before_anything_is_written() {
        let store = MemoryStateStore::new();
        let mut document = open(&store);
        let long = format!("\"{}\"", "x".repeat(LIMIT));
        for bad in [long.as_str(), "{"] {
            let change = changes(&[("a", Some("1")), ("b", Some(bad))]);
            let error = block_on(document.apply(&store, &change)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        assert_eq!(chunk_count(&store), 0);
    }

    #[test]
    fn two_workers_keep_each_others_entries_and_of_what_both_changed_the_later() {
        let store = MemoryStateStore::new();
        let mut one = open(&store);
        block_on(one.apply(&store, &changes(&[("both", Some("0")), ("gone", Some("0"))]))).unwrap();
        let mut two = open(&store);
        block_on(one.apply(&store, &changes(&[("both", Some("1")), ("one", Some("1"))]))).unwrap();
        let ours = changes(&[("both", Some("2")), ("two", Some("2")), ("gone", None)]);
        block_on(two.apply(&store, &ours)).unwrap();
        let expected = pairs(&[("both", "2"), ("one", "1"), ("two", "2")]);
        assert_eq!(content(&two), expected);
        assert_eq!(content(&open(&store)), expected);
        block_on(one.apply(&store, &changes(&[("both", Some("3"))]))).unwrap();
        assert_eq!(open(&store).get("both"), Some("3"));
    }

    /// Its first writes end with an error, of which nobody can tell whether they were carried out.
    #[derive(Debug)]
    struct Doubtful {
        inner: MemoryStateStore,
        kind: ErrorKind,
        carried_out: bool,
        until: usize,
        writes: AtomicUsize,
    }

    impl Doubtful {
        fn new(kind: ErrorKind, carried_out: bool, until: usize) -> Self {
            Self {
                inner: MemoryStateStore::new(),
                kind,
                carried_out,
                until,
                writes: AtomicUsize::new(0),
            }
        }

        async fn write<T>(&self, write: impl Future<Output = Result<T>> + Send) -> Result<T> {
            if self.writes.fetch_add(1, Ordering::SeqCst) >= self.until {
                return write.await;
            }
            if self.carried_out {
                write.await?;
            }
            Err(Error::new(self.kind, "may or may not have been written"))
        }
    }

    #[async_trait]
    impl StateStore for Doubtful {
        async fn load(&self, key: &StateKey) -> Result<Option<StoredState>> {
            self.inner.load(key).await
        }

        async fn save(&self, key: &StateKey, bytes: Bytes, expected: Option<&StateVersion>) -> Result<SaveOutcome> {
            self.write(self.inner.save(key, bytes, expected)).await
        }

        async fn delete(&self, key: &StateKey, expected: &StateVersion) -> Result<DeleteOutcome> {
            self.write(self.inner.delete(key, expected)).await
        }

        fn list(&self, prefix: &StateKey) -> BoxStream<'_, Result<StateKey>> {
            self.inner.list(prefix)
        }
    }

    #[test]
    fn a_write_that_was_overtaken_is_repeated_unless_it_is_there() {
        for (carried_out, writes) in [(false, 3), (true, 1)] {
            let store = Doubtful::new(ErrorKind::Conflict, carried_out, 2);
            let mut document = open(&store);
            block_on(document.apply(&store, &changes(&[("a", Some("1"))]))).unwrap();
            assert_eq!(store.writes.load(Ordering::SeqCst), writes);
            assert_eq!(content(&document), pairs(&[("a", "1")]));
            assert_eq!(content(&open(&store)), pairs(&[("a", "1")]));
        }
    }

    #[test]
    fn a_write_is_not_repeated_for_ever_nor_while_the_store_does_not_answer() {
        for (kind, writes) in [(ErrorKind::Conflict, MAX_CONFLICTS), (ErrorKind::Unavailable, 1)] {
            let store = Doubtful::new(kind, false, usize::MAX);
            let error = block_on(open(&store).apply(&store, &changes(&[("a", Some("1"))]))).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert_eq!(store.writes.load(Ordering::SeqCst), writes);
        }
    }

    #[test]
    fn two_copies_are_told_apart_by_revision_and_the_loser_is_removed() {
        let store = MemoryStateStore::new();
        let chunk = |n: u64, json: &'static str| {
            let saved = block_on(store.save(&base().join(&n.to_string()), json.into(), None)).unwrap();
            assert!(matches!(saved, SaveOutcome::Saved(_)));
        };
        chunk(
            0,
            r#"{"format":1,"entries":{"a":{"r":1,"j":"old"},"b":{"r":1,"j":"low"}}}"#,
        );
        chunk(
            1,
            r#"{"format":1,"entries":{"a":{"r":2,"j":"new"},"b":{"r":1,"j":"high"}}}"#,
        );
        let mut document = open(&store);
        let expected = pairs(&[("a", r#""new""#), ("b", r#""low""#)]);
        assert_eq!(content(&document), expected);
        block_on(document.apply(&store, &changes(&[("a", None)]))).unwrap();
        assert_eq!(content(&open(&store)), pairs(&[("b", r#""low""#)]));
        assert_eq!(chunk_count(&store), 1);
    }

    /// Steps that add, grow (and so move), shrink and remove entries.
    fn steps() -> Vec<Changes> {
        let wide = r#""..............................""#;
        vec![
            changes(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1")), ("d", Some("1"))]),
            changes(&[("a", Some(wide)), ("b", Some(wide)), ("e", Some("1"))]),
            changes(&[("a", Some("3")), ("c", None), ("d", Some(wide)), ("f", Some(wide))]),
            changes(&[("a", None), ("b", None), ("d", None), ("f", Some("4"))]),
            changes(&[("e", None), ("f", None), ("g", Some("5"))]),
        ]
    }

    #[test]
    fn after_a_fault_at_any_operation_each_entry_is_as_before_or_after() {
        let count = {
            let faults = Faults::none();
            let store = FaultStateStore::new(Arc::new(MemoryStateStore::new()), &faults);
            let mut document = open(&store);
            for step in steps() {
                block_on(document.apply(&store, &step)).unwrap();
            }
            assert_eq!(content(&document), pairs(&[("g", "5")]));
            faults.operations()
        };
        assert_eq!(count, 14);
        for fault in Fault::ALL {
            for index in 1..count {
                fault_at(index, fault);
            }
        }
    }

    fn fault_at(index: usize, fault: Fault) {
        let faults = Faults::at(index, fault);
        let memory = Arc::new(MemoryStateStore::new());
        let store = FaultStateStore::new(memory.clone(), &faults);
        let mut document = open(&store);
        let mut expected: BTreeMap<String, String> = BTreeMap::new();
        for step in steps() {
            let mut after = expected.clone();
            for (key, json) in &step {
                match json {
                    Some(json) => after.insert(key.clone(), json.clone()),
                    None => after.remove(key),
                };
            }
            // A future that hangs is dropped.
            let ended = document.apply(&store, &step).now_or_never();
            let stored = open(&*memory);
            for key in expected.keys().chain(after.keys()) {
                let json = stored.get(key);
                let whole = json == after.get(key).map(String::as_str);
                let untouched = json == expected.get(key).map(String::as_str);
                let done = matches!(ended, Some(Ok(())));
                assert!(whole || (untouched && !done), "{fault:?} at {index}: {key} is {json:?}");
            }
            if !matches!(ended, Some(Ok(()))) {
                faults.restart();
                // Every other time a new process; else the same document goes on.
                if index.is_multiple_of(2) {
                    document = open(&store);
                }
                block_on(document.apply(&store, &step)).unwrap();
            }
            expected = after;
            assert_eq!(open(&*memory).copies, [], "{fault:?} at {index}");
            assert_eq!(
                content(&open(&*memory)),
                expected.clone().into_iter().collect::<Vec<_>>()
            );
        }
    }
}
