//! Taking in notifications: what is new is recorded and saved, everything else is recognised.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::compactor::draft::TakenSource;
use crate::compactor::lane::Lane;
use crate::compactor::shared::Shared;
use crate::compactor::shelf::ShelfEntry;
use crate::compactor::{Compactor, LaneSlot};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{ObjectEvent, ObjectEventKind, ParseError};
use crate::halt::LaneError;
use crate::merge::{SourceError, read_footer};
use crate::naming::{ETag, FileNameParser, Namespace, NotSourceFile, ObjectKey, SourceFile};
use crate::options::OnReplaced;
use crate::quarantine::QuarantineReason;
use crate::reclaim::head;
use crate::time::Timestamp;
use crate::trace::event;
use crate::window::{Arrival, Observed, WindowTracker};

/// What became of the events of one call, in their order.
#[derive(Debug)]
#[must_use = "only saved events may be acknowledged"]
pub struct EventsHandled {
    outcomes: Vec<Result<EventOutcome>>,
}

/// What became of one event. In every case it may be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventOutcome {
    /// Known already: pending, planned, committed or set aside.
    Duplicate,
    /// Not about a source file: outside the prefix, another bucket, a deletion, another kind of object.
    Ignored,
    /// Recorded as pending and saved.
    Recorded,
    /// Set aside, with a reason that the status shows.
    SetAside,
}

impl EventsHandled {
    /// One outcome per event. An error means that this event must not be acknowledged: it comes again.
    pub fn outcomes(&self) -> &[Result<EventOutcome>] {
        &self.outcomes
    }

    /// Whether all events may be acknowledged.
    pub fn all_saved(&self) -> bool {
        self.outcomes.iter().all(Result::is_ok)
    }
}

/// How a file came to be known.
#[derive(Clone, Debug)]
pub(super) enum Sighting {
    /// Somebody said so.
    Event,
    /// The object store itself, just now.
    Listing { last_modified: Timestamp },
}

/// What the object store says of a key that is known under another etag.
enum Found {
    Gone,
    Other(ETag, u64),
    Same,
}

impl Compactor {
    /// Records the files that notifications are about, and saves that.
    ///
    /// Events may come more than once, in any order, before or after their file was compacted. Dropping the
    /// future loses nothing that was acknowledged.
    pub async fn handle_events(&mut self, events: &[ObjectEvent], now: Timestamp) -> EventsHandled {
        let mut outcomes = Vec::with_capacity(events.len());
        let mut touched = Vec::with_capacity(events.len());
        for event in events {
            let (outcome, namespace) = match self.handle_event(event, now).await {
                Ok((outcome, namespace)) => (Ok(outcome), namespace),
                Err(error) => (Err(error), None),
            };
            outcomes.push(outcome);
            touched.push(namespace);
        }
        let listed = self.list_new_lanes(now).await;
        let mut failed = self.save().await;
        if let Err((namespace, error)) = listed {
            failed.push((Some(namespace), error.chain()));
        }
        for (outcome, namespace) in outcomes.iter_mut().zip(touched) {
            if let Some(error) = namespace.and_then(|n| failed.iter().find(|(of, _)| *of == n))
                && outcome.is_ok()
            {
                *outcome = Err(Error::new(ErrorKind::Unavailable, error.1.clone()));
            }
        }
        EventsHandled { outcomes }
    }

    /// Counts a message, or a part of one, that could not be read, so that the status says so. For hosts that call
    /// [`handle_events`](Self::handle_events) themselves; do not acknowledge it, so that its queue's own rule for such
    /// messages applies.
    #[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "nobody listens"))]
    pub fn bad_message(&mut self, error: &ParseError) {
        event!(warn, %error, "message could not be read");
        self.counters.bad_messages += 1;
        self.counters.events_expected = true;
    }

    async fn handle_event(
        &mut self,
        event: &ObjectEvent,
        now: Timestamp,
    ) -> Result<(EventOutcome, Option<Option<Namespace>>)> {
        self.writable()?;
        self.counters.events_received += 1;
        self.counters.last_event_at = Some(now);
        self.counters.events_expected = true;
        let other_bucket = match (&self.shared.bucket_name, &event.bucket) {
            (Some(ours), Some(theirs)) => ours != theirs,
            _ => false,
        };
        if event.kind == ObjectEventKind::Deleted || other_bucket {
            self.counters.unrelated_keys += 1;
            return Ok((EventOutcome::Ignored, None));
        }
        let size = event.size.unwrap_or(0);
        let (outcome, to_save) = self
            .sight(&event.key, size, event.etag.clone(), Sighting::Event, now)
            .await?;
        let full = || {
            let message = format!(
                "too many open windows or pending files: the file is taken up later. key=`{}`",
                event.key
            );
            Error::new(ErrorKind::Unavailable, message)
        };
        Ok((outcome.ok_or_else(full)?, to_save))
    }

    /// Takes in one key; `None` when there is no room for it now. The second value names what has to be saved
    /// before the outcome holds.
    pub(super) async fn sight(
        &mut self,
        key: &ObjectKey,
        size: u64,
        etag: Option<ETag>,
        sighting: Sighting,
        now: Timestamp,
    ) -> Result<(Option<EventOutcome>, Option<Option<Namespace>>)> {
        // A listing repeats itself; only notifications are counted.
        let told = matches!(sighting, Sighting::Event);
        let name = match self.shared.parser.parse(key) {
            Ok(name) => name,
            Err(NotSourceFile::OutsidePrefix | NotSourceFile::Unrelated) => {
                self.counters.unrelated_keys += u64::from(told);
                return Ok((Some(EventOutcome::Ignored), None));
            }
            Err(NotSourceFile::Malformed(name)) => {
                if self.malformed.get(key).is_some() {
                    return Ok((Some(EventOutcome::Duplicate), None));
                }
                self.counters.malformed_keys += 1;
                self.malformed.insert(ShelfEntry {
                    key: key.clone(),
                    name: None,
                    size,
                    etag,
                    reason: QuarantineReason::Malformed { name },
                    since: now,
                    retry_at: None,
                    discarded: false,
                })?;
                return Ok((Some(EventOutcome::SetAside), Some(None)));
            }
        };
        let namespace = name.namespace.clone();
        self.open_lane(&namespace, now).await?;
        let file = SourceFile {
            key: key.clone(),
            name,
            size,
            etag,
        };
        let Self {
            lanes,
            tracker,
            shared,
            counters,
            ..
        } = self;
        match lanes.get_mut(&namespace) {
            Some(LaneSlot::Open(lane)) => {
                let outcome = lane.sight(shared, tracker, file, sighting, now).await?;
                counters.duplicates += u64::from(told && outcome == Some(EventOutcome::Duplicate));
                Ok((outcome, Some(Some(namespace))))
            }
            Some(LaneSlot::Refused { halt, .. }) => {
                let error = LaneError::from(halt.clone());
                // Seen in the status, but neither saved nor acknowledged.
                let _ = tracker.handle_file(file, Arrival::Event, now);
                Err(error.into())
            }
            None => Err(Error::new(ErrorKind::Internal, "a lane was neither opened nor refused")),
        }
    }

    /// Saves what has changed. What cannot be saved stays for the next time; it is named with its error.
    pub(super) async fn save(&mut self) -> Vec<(Option<Namespace>, String)> {
        let state = Arc::clone(&self.shared.state);
        let mut failed = Vec::new();
        self.unsaved.append(&mut self.tracker.take_dirty());
        let mut still = BTreeSet::new();
        for key in std::mem::take(&mut self.unsaved) {
            let namespace = key.namespace().clone();
            let Some(lane) = self.lanes.get_mut(&namespace).and_then(LaneSlot::open_mut) else {
                continue;
            };
            if let Err(error) = lane.save_tracked(state.as_ref(), &mut self.tracker, &key).await {
                failed.push((Some(namespace), error.chain()));
                still.insert(key);
            }
        }
        self.unsaved = still;
        for (namespace, slot) in &mut self.lanes {
            if let LaneSlot::Open(lane) = slot
                && let Err(error) = lane.save(state.as_ref()).await
            {
                failed.push((Some(namespace.clone()), error.chain()));
            }
        }
        if let Err(error) = self.malformed.save(state.as_ref()).await {
            failed.push((None, error.chain()));
        }
        failed
    }
}

impl Lane {
    /// Takes in one source file: recorded, recognised, or set aside.
    async fn sight(
        &mut self,
        shared: &Shared,
        tracker: &mut WindowTracker,
        mut file: SourceFile,
        sighting: Sighting,
        now: Timestamp,
    ) -> Result<Option<EventOutcome>> {
        if let Some(entry) = self.shelf.get(&file.key).cloned() {
            let vanished = entry.reason == QuarantineReason::Vanished;
            let known = entry.etag.as_ref().filter(|_| !vanished);
            match look(shared, &file, &sighting, known).await? {
                Found::Other(etag, size) if known.is_some() || vanished => {
                    // Other content: judged anew.
                    file.etag = Some(etag);
                    file.size = size;
                    self.shelf.remove(&file.key);
                }
                Found::Gone | Found::Other(..) | Found::Same => return Ok(Some(EventOutcome::Duplicate)),
            }
        }
        if let (Some(known), Some(etag)) = (tracker.is_pending(&self.namespace, &file.key), &file.etag)
            && known.etag.as_ref() == Some(etag)
        {
            return Ok(Some(EventOutcome::Duplicate));
        }
        let window = tracker.window_of(&self.namespace, file.name.timestamp);
        if let Err(LaneError::Halted(_)) = self.taken(window.start).await {
            // What is missed may be what another worker has forgotten.
            self.register.refresh().await.map_err(Error::from)?;
            self.floor_raised(tracker, now)?;
        }
        let earlier = self
            .taken(window.start)
            .await
            .map_err(Error::from)?
            .get(&file.key)
            .cloned()
            .unwrap_or_default();
        // After a loss of the state: what an adopted lane could not judge is shown again, unless it has been released
        // and planned since.
        let unknown = !earlier.is_empty() && earlier.iter().all(|source| source.unknown);
        if unknown && !self.memory.released.contains_key(&file.key) {
            let boundary = window.end;
            self.set_aside(tracker, &file, QuarantineReason::BelowBoundary { boundary }, now)?;
            return Ok(Some(EventOutcome::SetAside));
        }
        if let Some(last) = earlier.last() {
            let hinted = |etag: &ETag| earlier.iter().find(|t| t.etag == *etag);
            if let Some(same) = file.etag.as_ref().and_then(hinted) {
                return self.taken_already(shared, tracker, file, same, now).await.map(Some);
            }
            let Found::Other(etag, size) = look(shared, &file, &sighting, Some(&last.etag)).await? else {
                return Ok(Some(EventOutcome::Duplicate));
            };
            file.etag = Some(etag.clone());
            file.size = size;
            if let Some(same) = hinted(&etag) {
                return self.taken_already(shared, tracker, file, same, now).await.map(Some);
            }
            let path = shared.bucket.path(file.key.as_str())?;
            match read_footer(shared.bucket.store().as_ref(), &path, Some(&etag)).await {
                Ok(footer) => {
                    let same = |t: &&TakenSource| t.same_content(footer.size, footer.digest);
                    if let Some(same) = earlier.iter().find(same) {
                        return self.taken_already(shared, tracker, file, same, now).await.map(Some);
                    }
                }
                Err(SourceError::Unavailable(error)) => return Err(error),
                // Bad content is found bad again when it is drafted.
                Err(SourceError::Bad(_)) => {}
            }
            let planned = last.etag.to_string();
            if shared.options.on_replaced == OnReplaced::Quarantine {
                let found = etag.to_string();
                self.set_aside(tracker, &file, QuarantineReason::Replaced { planned, found }, now)?;
                return Ok(Some(EventOutcome::SetAside));
            }
        }
        let arrival = match sighting {
            Sighting::Event => Arrival::Event,
            Sighting::Listing { last_modified } => Arrival::Listing { last_modified },
        };
        let known = tracker.is_pending(&self.namespace, &file.key);
        let was_vague = known.is_some_and(|known| known.etag.is_none());
        match tracker.handle_file(file.clone(), arrival, now) {
            Observed::AlreadyPending => Ok(Some(EventOutcome::Duplicate)),
            // Somebody had told of it without its etag: that is now known, and nothing else is new.
            Observed::Updated if was_vague => Ok(Some(EventOutcome::Duplicate)),
            Observed::Recorded | Observed::Updated => Ok(Some(EventOutcome::Recorded)),
            Observed::BelowBoundary { boundary } => {
                match look(shared, &file, &sighting, None).await? {
                    // Reclaimed long ago.
                    Found::Gone => Ok(Some(EventOutcome::Duplicate)),
                    Found::Other(..) | Found::Same => {
                        self.set_aside(tracker, &file, QuarantineReason::BelowBoundary { boundary }, now)?;
                        Ok(Some(EventOutcome::SetAside))
                    }
                }
            }
            Observed::Deferred => Ok(None),
        }
    }

    /// A file is what some plan has taken. There is nothing to do, unless the sources of that plan have been deleted
    /// and it is there all the same: nobody else would ever look at it.
    async fn taken_already(
        &mut self,
        shared: &Shared,
        tracker: &mut WindowTracker,
        file: SourceFile,
        taken: &TakenSource,
        now: Timestamp,
    ) -> Result<EventOutcome> {
        if !taken.seq.is_some_and(|seq| self.memory.is_reclaimed(seq)) {
            return Ok(EventOutcome::Duplicate);
        }
        // A notification may be old, and a listing from before the deletion.
        let path = shared.bucket.path(file.key.as_str())?;
        let meta = head(shared.bucket.store().as_ref(), &path).await?;
        if meta.and_then(|meta| meta.e_tag).map(ETag::new) != file.etag {
            return Ok(EventOutcome::Duplicate);
        }
        let reason = uploaded_again(&taken.etag, &file);
        self.set_aside(tracker, &file, reason, now)?;
        Ok(EventOutcome::SetAside)
    }

    /// Moves a source into quarantine.
    pub(super) fn set_aside(
        &mut self,
        tracker: &mut WindowTracker,
        file: &SourceFile,
        reason: QuarantineReason,
        now: Timestamp,
    ) -> Result<()> {
        tracker.forget_file(&self.namespace, &file.key);
        self.shelf.insert(ShelfEntry::new(file, reason, now))
    }
}

/// What is said of a file that is the same as one that was merged, of this entity tag.
pub(crate) fn uploaded_again(planned: &ETag, file: &SourceFile) -> QuarantineReason {
    QuarantineReason::UploadedAgain {
        planned: planned.to_string(),
        found: file.etag.as_ref().map(ETag::to_string).unwrap_or_default(),
    }
}

/// Whether a key still has the content known under `etag`. Only the object store knows; a listing was its word.
async fn look(shared: &Shared, file: &SourceFile, sighting: &Sighting, etag: Option<&ETag>) -> Result<Found> {
    if file.etag.is_some() && file.etag.as_ref() == etag {
        return Ok(Found::Same);
    }
    if let (Sighting::Listing { .. }, Some(found)) = (sighting, &file.etag) {
        return Ok(Found::Other(found.clone(), file.size));
    }
    let path = shared.bucket.path(file.key.as_str())?;
    let Some(meta) = head(shared.bucket.store().as_ref(), &path).await? else {
        return Ok(Found::Gone);
    };
    match meta.e_tag.map(ETag::new) {
        Some(found) if Some(&found) != etag => Ok(Found::Other(found, meta.size)),
        _ => Ok(Found::Same),
    }
}
