//! Compare-and-set on a store that can only put-if-absent: numbered objects.
//!
//! Write n of a key is the object number n, created only if absent; the value is that of the highest number,
//! the head. Old numbers are removed, which opens a trap: a writer that read number n, slept while others went
//! on, and wakes after n+1 has been written and removed, can create n+1 anew. What follows closes it.
//!
//! 1. Only numbers below head-1 are removed, lowest first, and a delete of the key is a number of its own, a
//!    tombstone. So the highest number never goes down, and a number created for a second time (a ghost) is
//!    always below the head.
//! 2. After its create a writer lists. If its number is the highest, it cannot be a ghost: the first object of
//!    that number would have been removed only below a higher one, which would still be there or have been
//!    followed by one higher yet. It has won, and as creates are exclusive, nobody else has.
//! 3. If a higher number is there, the writer was overtaken or has made a ghost. Every object names the nonce
//!    of the one that it replaced, and the head is never a ghost; nor is what the head names, since at the
//!    head's create the number before it was in place and had never been removed. Following the names down
//!    from the head to our number tells which of the two it was. If a link has been removed meanwhile, the
//!    outcome is unknown, which is an error, never a guess.
//! 4. A reader that lists, sleeps and then reads number n could read a ghost in its place. The entity tags of
//!    listing and read differ then, and only a second listing with n or n+1 as the highest number proves that
//!    n had never been removed.
//!
//! Before the create the writer looks for the object that it replaces. It is no part of the argument, but it
//! turns nearly every late writer into a plain conflict without a ghost. What is asked of the store:
//! put-if-absent, reads that see what has been written, and a listing of one key's objects as they were at one
//! instant. A local directory is not read at one instant, so there a second line holds: a win also asks that
//! the listing shows the number that was replaced, and since the lowest goes first, that one had been removed
//! before ours could be. Both lines fail together only if two late writers make ghosts of adjacent numbers
//! while two more writes and their cleaning fit into one reading of the directory.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode};

use super::StateKey;
use super::envelope::{Envelope, HEADER_LEN, Header, Nonce};
use super::object_store::{overtaken, proves_refusal, unknown_outcome};
use crate::error::{Error, ErrorKind, Result};

/// No key contains it, so that a number never has the name of another key's segment.
const NUMBER_MARK: char = '~';
/// How often a load follows a head that moves away from under it.
const MAX_LOADS: usize = 16;
/// How many links are followed from the head down to a write that has been overtaken.
const MAX_LINKS: u64 = 16;

/// The objects of one key.
#[derive(Clone, Debug)]
pub(super) struct Numbered<'a> {
    pub(super) store: &'a dyn ObjectStore,
    pub(super) directory: Path,
    pub(super) key: &'a StateKey,
}

/// A write: its number and its nonce. Number 0 stands before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) number: u64,
    pub(super) nonce: Nonce,
}

impl Write {
    pub(super) const NONE: Self = Self {
        number: 0,
        nonce: Nonce::NONE,
    };

    /// Reads a version.
    pub(super) fn decode(version: &str) -> Option<Self> {
        let (number, nonce) = version.split_once('-')?;
        Some(Self {
            number: number.parse().ok().filter(|number| *number > 0)?,
            nonce: nonce.parse().ok()?,
        })
    }

    /// The version that names this write.
    pub(super) fn encode(self) -> String {
        format!("{}-{}", self.number, self.nonce)
    }
}

/// How an append ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appended {
    Conflict,
    Saved(Write),
}

impl Numbered<'_> {
    /// The newest write and what it wrote (`None`: a tombstone).
    pub(super) async fn load(&self) -> Result<Option<(Write, Option<Bytes>)>> {
        let mut listing = self.list().await?;
        for _ in 0..MAX_LOADS {
            let Some((number, listed)) = listing.head() else {
                return Ok(None);
            };
            let read = self.read(number).await?;
            let sure = matches!(&read, Some((_, meta)) if same_tag(listed, meta));
            if !sure {
                listing = self.list().await?;
            }
            if let Some((envelope, _)) = read
                && (sure || listing.never_removed(number))
            {
                let nonce = envelope.header.nonce;
                return Ok(Some((Write { number, nonce }, envelope.value)));
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("state is written faster than it can be read. key=`{}`", self.key),
        ))
    }

    /// Writes `value` (`None`: a tombstone) if `expected` is the newest write.
    pub(super) async fn append(&self, expected: Write, nonce: Nonce, value: Option<&[u8]>) -> Result<Appended> {
        if expected != Write::NONE && self.header(expected.number).await?.map(|h| h.nonce) != Some(expected.nonce) {
            return Ok(Appended::Conflict);
        }
        let Some(number) = expected.number.checked_add(1) else {
            return Ok(Appended::Conflict);
        };
        let previous = expected.nonce;
        let body = Header { nonce, previous }.encode(value);
        let put = self
            .store
            .put_opts(&self.path(number)?, body.into(), PutMode::Create.into())
            .await;
        if let Err(error) = put {
            if proves_refusal(&error) {
                return Err(Error::from_store("put-if-absent", self.key, error));
            }
            match self.header(number).await {
                Ok(Some(header)) if header.nonce == nonce => {} // the answer of our own write was lost
                Ok(Some(_)) => return Ok(Appended::Conflict),
                Ok(None) if matches!(error, StoreError::AlreadyExists { .. }) => {
                    return Err(overtaken(self.key).with_source(error));
                }
                Ok(None) | Err(_) => return Err(unknown_outcome(self.key).with_source(error)),
            }
        }
        self.settle(expected, Write { number, nonce }).await
    }

    /// Finds out what became of an object that has been created.
    async fn settle(&self, expected: Write, ours: Write) -> Result<Appended> {
        let listing = self
            .list()
            .await
            .map_err(|e| unknown_outcome(self.key).with_source(e))?;
        let Some((head, listed)) = listing.head() else {
            return Err(overtaken(self.key));
        };
        if head == ours.number && listing.holds(expected.number) {
            self.clean(&listing).await;
            return Ok(Appended::Saved(ours));
        }
        if head <= ours.number || head - ours.number > MAX_LINKS {
            return Err(overtaken(self.key));
        }
        match self.nonce_below(head, listed, ours.number).await {
            Some(nonce) if nonce == ours.nonce => Ok(Appended::Saved(ours)),
            Some(_) => {
                // A ghost is harmless, so it does not matter whether this succeeds.
                let _ = self.store.delete(&self.path(ours.number)?).await;
                Ok(Appended::Conflict)
            }
            None => Err(overtaken(self.key)),
        }
    }

    /// The nonce of the true object of `number`, found by following the links from the head.
    async fn nonce_below(&self, head: u64, listed: &ObjectMeta, number: u64) -> Option<Nonce> {
        let (envelope, meta) = self.read(head).await.ok()??;
        if !same_tag(listed, &meta) {
            return None;
        }
        let mut previous = envelope.header.previous;
        for link in (number + 1..head).rev() {
            let header = self.header(link).await.ok()??;
            if header.nonce != previous {
                return None;
            }
            previous = header.previous;
        }
        // A damaged object does not say what it replaced.
        Some(previous).filter(|nonce| *nonce != Nonce::LOST)
    }

    /// Removes what is no longer needed, as far as that goes.
    async fn clean(&self, listing: &Listing) {
        let Some((head, _)) = listing.head() else {
            return;
        };
        for number in listing
            .numbers
            .range(..head.saturating_sub(1))
            .map(|(number, _)| *number)
        {
            let Ok(path) = self.path(number) else {
                return;
            };
            match self.store.delete(&path).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(_) => return,
            }
        }
    }

    async fn list(&self) -> Result<Listing> {
        let listed = self
            .store
            .list_with_delimiter(Some(&self.directory))
            .await
            .map_err(|e| Error::from_store("list", self.key, e))?;
        let numbers = listed
            .objects
            .into_iter()
            .filter_map(|meta| Some((number_of(meta.location.filename()?)?, meta)))
            .collect();
        Ok(Listing { numbers })
    }

    async fn read(&self, number: u64) -> Result<Option<(Envelope, ObjectMeta)>> {
        let read = async {
            let result = self.store.get(&self.path(number)?).await;
            let result = found(result).map_err(|e| Error::from_store("get", self.key, e))?;
            let Some(result) = result else {
                return Ok::<_, Error>(None);
            };
            let meta = result.meta.clone();
            let bytes = found(result.bytes().await).map_err(|e| Error::from_store("get", self.key, e))?;
            Ok(bytes.map(|bytes| (bytes, meta)))
        };
        let Some((bytes, meta)) = read.await? else {
            return Ok(None);
        };
        Ok(Some((Envelope::read(self.key, &bytes)?, meta)))
    }

    async fn header(&self, number: u64) -> Result<Option<Header>> {
        let options = GetOptions::new().with_range(Some(0..HEADER_LEN as u64));
        let read = async {
            match self.store.get_opts(&self.path(number)?, options).await {
                Ok(result) => found(result.bytes().await),
                Err(error) => found(Err(error)),
            }
            .map_err(|e| Error::from_store("get", self.key, e))
        };
        match read.await {
            Ok(Some(bytes)) => Header::read(self.key, &bytes).map(Some),
            Ok(None) => Ok(None),
            // An object that has lost all its bytes has no range of them.
            Err(error) => match self.read(number).await {
                Ok(Some((envelope, meta))) if meta.size == 0 => Ok(Some(envelope.header)),
                _ => Err(error),
            },
        }
    }

    fn path(&self, number: u64) -> Result<Path> {
        let text = format!("{}/{NUMBER_MARK}{number:020}", self.directory);
        Path::parse(&text).map_err(|e| Error::from_store("name", self.key, e.into()))
    }
}

/// The newest object of each key under `prefix`, as its directory and its size.
pub(super) async fn list_heads(store: &dyn ObjectStore, prefix: &Path) -> Result<BTreeMap<String, u64>> {
    let mut heads: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut listed = store.list(Some(prefix));
    while let Some(meta) = listed.next().await {
        let meta = meta.map_err(|e| Error::from_store("list", prefix, e))?;
        let Some((directory, name)) = meta.location.as_ref().rsplit_once('/') else {
            continue;
        };
        if let Some(number) = number_of(name) {
            let head = heads.entry(directory.to_owned()).or_default();
            *head = (*head).max((number, meta.size));
        }
    }
    Ok(heads
        .into_iter()
        .map(|(directory, (_, size))| (directory, size))
        .collect())
}

/// The numbers that a listing of one key showed.
#[derive(Debug)]
struct Listing {
    numbers: BTreeMap<u64, ObjectMeta>,
}

impl Listing {
    fn head(&self) -> Option<(u64, &ObjectMeta)> {
        self.numbers.last_key_value().map(|(number, meta)| (*number, meta))
    }

    /// Whether it shows `number`; 0 stands before the first and is always there.
    fn holds(&self, number: u64) -> bool {
        number == 0 || self.numbers.contains_key(&number)
    }

    /// Whether it proves that `number`, once created, had not been removed up to then.
    fn never_removed(&self, number: u64) -> bool {
        self.holds(number) && self.head().is_some_and(|(head, _)| head <= number.saturating_add(1))
    }
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(NUMBER_MARK)?;
    let canonical = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| canonical)
}

/// Whether listing and read show the same object. Some stores quote tags in one of them only.
fn same_tag(listed: &ObjectMeta, read: &ObjectMeta) -> bool {
    let bare = |meta: &ObjectMeta| meta.e_tag.as_deref().map(|tag| tag.trim_matches('"').to_owned());
    listed.size == read.size && bare(listed).is_some() && bare(listed) == bare(read)
}

fn found<T>(result: object_store::Result<T>) -> object_store::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
