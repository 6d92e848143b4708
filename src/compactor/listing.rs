//! The listing of the bucket, an event source of equal rank: backfill, and what notifications have lost.

use futures::StreamExt;

use crate::compactor::events::{EventOutcome, Sighting};
use crate::compactor::{Compactor, LaneSlot};
use crate::error::{Error, ErrorKind, Result};
use crate::naming::{ETag, FileNameParser, Namespace, ObjectKey};
use crate::time::Timestamp;

/// Objects taken in between two saves.
const PAGE: usize = 1_000;

/// What a listing found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconciled {
    /// Objects listed.
    pub listed: u64,
    /// Source files that were not known before, now pending.
    pub recorded: u64,
    /// Source files newly set aside.
    pub set_aside: u64,
    /// Files that could not be taken in now, and are found again by the next listing.
    pub deferred: u64,
}

impl Compactor {
    /// Lists the bucket and records every source file that is not known: a backfill, or what lost notifications
    /// would have said. A second call changes nothing.
    ///
    /// No window is planned before the listing has ended, so that a backlog is cut into whole windows. Objects are
    /// taken in page by page; dropping the future keeps the pages that were saved.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the bucket or the state store does not answer; call it again.
    pub async fn reconcile(&mut self, now: Timestamp) -> Result<Reconciled> {
        self.writable()?;
        self.listing = true;
        for namespace in self.lanes.keys() {
            self.tracker.begin_listing(namespace);
        }
        let reconciled = self.list(now).await;
        self.end_listing(now);
        let reconciled = reconciled?;
        for slot in self.lanes.values_mut() {
            if let LaneSlot::Open(lane) = slot {
                lane.to_be_listed = false;
                lane.memory.listed = true;
            }
        }
        self.counters.listed(now, reconciled.recorded);
        self.saved().await?;
        Ok(reconciled)
    }

    /// Ends a listing, also one whose future was dropped.
    pub(super) fn end_listing(&mut self, now: Timestamp) {
        if self.listing {
            self.listing = false;
            let namespaces: Vec<Namespace> = self.lanes.keys().cloned().collect();
            for namespace in namespaces {
                self.tracker.end_listing(&namespace, now);
            }
        }
    }

    async fn list(&mut self, now: Timestamp) -> Result<Reconciled> {
        let bucket = self.shared.bucket.clone();
        let prefix = self.shared.parser.prefix().trim_end_matches('/').to_owned();
        let path = if prefix.is_empty() { bucket.prefix().clone() } else { bucket.path(&prefix)? };
        let mut pages = bucket.store().list(Some(&path)).chunks(PAGE);
        let mut reconciled = Reconciled::default();
        while let Some(page) = pages.next().await {
            for meta in page {
                let meta = meta.map_err(|e| Error::from_store("list", &path, e))?;
                reconciled.listed += 1;
                let Some(key) = bucket.key(&meta.location).map(ObjectKey::new) else { continue };
                let new = self.is_new_namespace(&key);
                let etag = meta.e_tag.map(ETag::new);
                let sighting = Sighting::Listing {
                    last_modified: meta.last_modified.into(),
                };
                match self.sight(&key, meta.size, etag, sighting, now).await {
                    Ok((EventOutcome::Recorded, _)) => reconciled.recorded += 1,
                    Ok((EventOutcome::SetAside, _)) => reconciled.set_aside += 1,
                    Ok((EventOutcome::Duplicate | EventOutcome::Ignored, _)) => {}
                    // One namespace that stands still, or one window too many, does not stop the others.
                    Err(error) if error.kind() == ErrorKind::Halted => reconciled.deferred += 1,
                    Err(_) if self.tracker.is_full() => reconciled.deferred += 1,
                    Err(error) => return Err(error),
                }
                if let Some(namespace) = new {
                    self.tracker.begin_listing(&namespace);
                }
            }
            self.saved().await?;
        }
        Ok(reconciled)
    }

    fn is_new_namespace(&self, key: &ObjectKey) -> Option<Namespace> {
        let namespace = self.shared.parser.parse(key).ok()?.namespace;
        (!self.lanes.contains_key(&namespace)).then_some(namespace)
    }

    /// Saves, or says what could not be saved.
    pub(super) async fn saved(&mut self) -> Result<()> {
        match self.save().await.into_iter().next() {
            None => Ok(()),
            Some((_, detail)) => Err(Error::new(ErrorKind::Unavailable, format!("state could not be saved: {detail}"))),
        }
    }
}
