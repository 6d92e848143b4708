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
    /// Files for which there was no room, within `maxOpenWindows` and `maxPendingFiles`: list again once windows have been
    /// compacted ([`run`](Compactor::run) does).
    pub deferred: u64,
    /// Files of namespaces that stand still, which are found again by the next listing.
    pub refused: u64,
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
    /// `Unavailable` when the bucket or the state store does not answer; call it again. `Invalid` when the
    /// store cannot name an object (a directory may hold any bytes as names): all others have been taken in, unless the
    /// store itself ends there. Only a namespace whose state was lost waits until it can be listed as a whole.
    pub async fn reconcile(&mut self, now: Timestamp) -> Result<Reconciled> {
        self.writable()?;
        self.listing = true;
        for namespace in self.lanes.keys() {
            self.tracker.begin_listing(namespace);
        }
        let prefix = self.shared.parser.prefix().to_owned();
        let reconciled = self.list(&prefix, now).await;
        if reconciled.is_ok() {
            for slot in self.lanes.values_mut() {
                if let LaneSlot::Open(lane) = slot {
                    lane.listed();
                }
            }
        }
        self.end_listing();
        if reconciled.is_err() {
            // What is wrong may lie in one namespace: the others are listed by themselves.
            let _ = self.list_new_lanes(now).await;
            self.saved().await?;
        }
        let reconciled = reconciled?;
        self.counters.found_by_listing += reconciled.recorded;
        self.counters.last_listing_at = Some(now);
        self.saved().await?;
        Ok(reconciled)
    }

    /// Lists what lies under `prefix` (`""` or ending in `/`).
    async fn list(&mut self, prefix: &str, now: Timestamp) -> Result<Reconciled> {
        let bucket = self.shared.bucket.clone();
        let path = match prefix.trim_end_matches('/') {
            "" => bucket.prefix().clone(),
            prefix => bucket.path(prefix)?,
        };
        let mut pages = bucket.store().list(Some(&path)).chunks(PAGE);
        let mut reconciled = Reconciled::default();
        let mut failed = None;
        while let Some(page) = pages.next().await {
            for meta in page {
                let meta = match meta {
                    Ok(meta) => meta,
                    Err(error) => {
                        // Some stores go on with the next object, the others are at their end now.
                        failed.get_or_insert_with(|| Error::from_store("list", &path, error));
                        continue;
                    }
                };
                let Some(key) = bucket.key(&meta.location).map(ObjectKey::new) else {
                    continue;
                };
                let etag = meta.e_tag.map(ETag::new);
                let sighting = Sighting::Listing {
                    last_modified: meta.last_modified.into(),
                };
                reconciled.listed += 1;
                match self.sight(&key, meta.size, etag, sighting, now).await {
                    Ok((Some(EventOutcome::Recorded), _)) => reconciled.recorded += 1,
                    Ok((Some(EventOutcome::SetAside), _)) => reconciled.set_aside += 1,
                    Ok((Some(EventOutcome::Duplicate | EventOutcome::Ignored), _)) => {}
                    Ok((None, _)) => reconciled.deferred += 1,
                    // A namespace that stands still does not stop the others.
                    Err(error) if matches!(error.kind(), ErrorKind::Halted | ErrorKind::Invalid) => {
                        reconciled.refused += 1;
                    }
                    Err(error) => return Err(error),
                }
            }
            self.saved().await?;
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(reconciled),
        }
    }

    /// Lists the namespaces whose lane has just been opened without a state: what came before its first event,
    /// or what a lost state had held.
    pub(super) async fn list_new_lanes(&mut self, now: Timestamp) -> Result<(), (Namespace, Error)> {
        let to_be_listed = |slot: &LaneSlot| slot.open().is_some_and(|lane| lane.to_be_listed);
        let namespaces: Vec<Namespace> = self
            .lanes
            .iter()
            .filter(|(_, slot)| to_be_listed(slot))
            .map(|(namespace, _)| namespace.clone())
            .collect();
        let mut failed = Ok(());
        for namespace in namespaces {
            let prefix = self.shared.parser.prefix_of(&namespace);
            if let Err(error) = self.list(&prefix, now).await {
                failed = failed.and(Err((namespace, error)));
                continue;
            }
            if let Some(lane) = self.lanes.get_mut(&namespace).and_then(LaneSlot::open_mut) {
                lane.listed();
                self.tracker.end_listing(&namespace);
            }
        }
        failed
    }

    /// Lets namespaces be planned again, also after a listing whose future was dropped; not those that have yet to
    /// be listed.
    pub(super) fn end_listing(&mut self) {
        if std::mem::take(&mut self.listing) {
            for (namespace, slot) in &self.lanes {
                if slot.open().is_some_and(|lane| !lane.to_be_listed) {
                    self.tracker.end_listing(namespace);
                }
            }
        }
    }

    /// Saves, or says what could not be saved.
    pub(super) async fn saved(&mut self) -> Result<()> {
        match self.save().await.into_iter().next() {
            None => Ok(()),
            Some((_, detail)) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("state could not be saved: {detail}"),
            )),
        }
    }
}
