//! A source file that waits for its plan.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::naming::{ETag, ObjectKey, SourceFile};
use crate::time::Timestamp;

/// How a file came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// By a notification.
    Event,
    /// By a listing.
    Listing {
        /// What the listing says of it.
        last_modified: Timestamp,
    },
}

impl Arrival {
    /// When the file arrived; never later than `now`.
    pub(super) fn time(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Event => now,
            Self::Listing { last_modified } => last_modified.min(now),
        }
    }

    pub(super) fn by(self) -> ArrivedBy {
        match self {
            Self::Event => ArrivedBy::Event,
            Self::Listing { .. } => ArrivedBy::Listing,
        }
    }
}

/// How a pending file first came to be known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ArrivedBy {
    /// By a listing.
    Listing,
    /// By a notification. The greater one: of two that arrived at the same instant this counts as the
    /// newest, since the end of a listing says nothing about it.
    #[default]
    Event,
}

/// A source file that waits for its plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingFile {
    /// The file, with the size and etag of the newest observation.
    pub file: SourceFile,
    /// When it first arrived: of an event the host's clock, of a listed object its `last_modified`.
    pub seen: Timestamp,
    /// How it first arrived.
    pub by: ArrivedBy,
    /// When its size and etag were observed.
    pub observed: Timestamp,
}

impl PendingFile {
    pub(super) fn new(file: SourceFile, arrival: Arrival, now: Timestamp) -> Self {
        let seen = arrival.time(now);
        Self {
            file,
            seen,
            by: arrival.by(),
            observed: seen,
        }
    }

    /// What is known after `other` has been observed too, `None` if that tells nothing new.
    ///
    /// Of two observations of different content the newer one holds, then the greater one, so that their
    /// order does not matter.
    pub(super) fn after(&self, other: &SourceFile, observed: Timestamp) -> Option<Self> {
        let (mine, theirs) = (&self.file, other);
        let same_etag = match (&mine.etag, &theirs.etag) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => true,
        };
        let same_size = mine.size == 0 || theirs.size == 0 || mine.size == theirs.size;
        let mut after = self.clone();
        if same_etag && same_size {
            let tells_etag = mine.etag.is_none() && theirs.etag.is_some();
            let tells_size = mine.size == 0 && theirs.size != 0;
            if !tells_etag && !tells_size {
                return None;
            }
            after.file.size = mine.size.max(theirs.size);
            after.file.etag = mine.etag.clone().or_else(|| theirs.etag.clone());
            return Some(after);
        }
        let rank = |file: &SourceFile, time| (time, file.etag.as_ref().map(ETag::to_string), file.size);
        if rank(theirs, observed) <= rank(mine, self.observed) {
            return None;
        }
        after.file.size = theirs.size;
        after.file.etag.clone_from(&theirs.etag);
        after.observed = observed;
        Some(after)
    }

    /// The union of what two records say of one key.
    pub(super) fn join(&self, other: &Self) -> Self {
        let mut joined = self.after(&other.file, other.observed).unwrap_or_else(|| self.clone());
        (joined.seen, joined.by) = (self.seen, self.by).min((other.seen, other.by));
        let same_content = self.file.etag == other.file.etag && self.file.size == other.file.size;
        if same_content {
            joined.observed = self.observed.max(other.observed);
        }
        joined
    }
}

/// A pending file as the tracker holds it.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) pending: PendingFile,
    /// Counts arrivals in this process.
    pub(super) number: u64,
}

/// Found by its key.
#[derive(Clone, Debug)]
pub(super) struct ByKey(pub(super) Arc<Slot>);

impl Borrow<ObjectKey> for ByKey {
    fn borrow(&self) -> &ObjectKey {
        &self.0.pending.file.key
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.pending.file.key.hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.pending.file.key == other.0.pending.file.key
    }
}

impl Eq for ByKey {}

/// In the order of files.
#[derive(Clone, Debug)]
pub(super) struct InOrder(pub(super) Arc<Slot>);

impl Ord for InOrder {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.pending.file.order().cmp(&other.0.pending.file.order())
    }
}

impl PartialOrd for InOrder {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for InOrder {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for InOrder {}
