//! Opening lanes: those that are there, and those that a first file asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;

use object_store::ObjectStore;

use crate::compactor::builder::{Mode, apart, sources_url};
use crate::compactor::footers::Footers;
use crate::compactor::lane::Lane;
use crate::compactor::lane_work::{Found, LaneWork, table_error};
use crate::compactor::shared::Shared;
use crate::compactor::shelf::{Shelf, ShelfEntry};
use crate::compactor::{Compactor, LaneSlot, TableRoot};
use crate::error::{Error, ErrorKind, Result};
use crate::halt::{Halt, LaneError};
use crate::ids::LaneId;
use crate::ledger::manifest::{self, LaneManifest};
use crate::ledger::{Register, Standing, ending};
use crate::naming::Namespace;
use crate::place::overlap;
use crate::sink::Table;
use crate::state::StateKey;
use crate::status::Counters;
use crate::time::Timestamp;
use crate::trace::event;
use crate::window::{PlanDraft, TrackerKey, WindowSizeChange, WindowSizes, WindowTracker};

/// After this long a lane that could not be opened is tried again.
const LOOK_AGAIN_MS: u64 = 300_000;

/// How many lanes are followed that have ended one after the other.
const MOST_SUCCESSORS: usize = 16;

impl Compactor {
    /// Opens every lane whose manifest is in the control prefix.
    pub(super) async fn open(shared: Shared, mode: Mode, now: Timestamp) -> Result<Self> {
        let mut malformed = Shelf::open(shared.state.as_ref(), StateKey::new(["malformed"])).await?;
        let damaged = malformed.damaged;
        if damaged > 0 && mode == Mode::ReadWrite {
            malformed.mend(shared.state.as_ref()).await?;
        }
        let tracker = WindowTracker::new(shared.options.clone());
        let mut compactor = Self {
            shared: Arc::new(shared),
            mode,
            tracker,
            lanes: BTreeMap::new(),
            roots: BTreeMap::new(),
            malformed,
            counters: Counters {
                damaged_state: damaged as u64,
                ..Counters::default()
            },
            listing: false,
            unsaved: BTreeSet::new(),
        };
        for namespace in compactor.read_roots().await? {
            compactor.open_lane(&namespace, now).await?;
        }
        if mode == Mode::ReadWrite {
            match compactor.list_new_lanes(now).await {
                Err((_, error)) if error.is_retryable() => return Err(error),
                // A namespace that cannot be listed waits for that; the others go on.
                Err(_) | Ok(()) => {}
            }
            compactor.saved().await?;
        }
        Ok(compactor)
    }

    /// Opens the lane of a namespace unless it is open, creating its manifest if there is none.
    pub(super) async fn open_lane(&mut self, namespace: &Namespace, now: Timestamp) -> Result<()> {
        match self.lanes.get(namespace) {
            Some(LaneSlot::Open(_)) => return Ok(()),
            Some(LaneSlot::Refused { look_again_at, .. }) if *look_again_at > now => return Ok(()),
            _ => {}
        }
        let halt = match self.try_open(namespace, now).await {
            Ok(Some(lane)) => {
                if let Some(LaneSlot::Refused { .. }) = self.lanes.get(namespace) {
                    self.no_longer_refused(&lane);
                }
                self.lanes.insert(namespace.clone(), LaneSlot::Open(Box::new(lane)));
                return Ok(());
            }
            Ok(None) => return Ok(()),
            Err(LaneError::Halted(halt)) => halt,
            // An object of this lane that cannot be read is no reason to keep the others closed.
            Err(LaneError::Failed(error)) if error.kind() == ErrorKind::Unsupported => {
                let detail = error.chain();
                Halt::LaterRelease { detail }
            }
            Err(LaneError::Failed(error)) if error.kind() == ErrorKind::Data => Halt::RegisterLost {
                detail: format!("the lane cannot be opened: {}", error.chain()),
            },
            Err(LaneError::Failed(error)) => return Err(error),
        };
        self.tracker.pause(namespace, true);
        let look_again_at = now + LOOK_AGAIN_MS;
        self.lanes
            .insert(namespace.clone(), LaneSlot::Refused { halt, look_again_at });
        Ok(())
    }

    /// Lets a namespace be planned whose lane was refused before. What was seen of it in that time is not saved yet.
    fn no_longer_refused(&mut self, lane: &Lane) {
        let namespace = &lane.namespace;
        self.tracker.pause(namespace, lane.halted.is_some());
        if !lane.to_be_listed && !self.listing {
            self.tracker.end_listing(namespace);
        }
        let pending = self.tracker.pending(namespace);
        let starts = pending.map(|pending| self.tracker.window_of(namespace, pending.file.name.timestamp).start);
        let keys = starts.map(|start| TrackerKey::Window {
            namespace: namespace.clone(),
            start,
        });
        self.unsaved.extend(keys);
    }

    async fn try_open(&mut self, namespace: &Namespace, now: Timestamp) -> Result<Option<Lane>, LaneError> {
        let shared = Arc::clone(&self.shared);
        let table = self.table_of(namespace)?;
        let wanted = self.wanted_manifest(namespace, &table);
        let mut followed = None;
        let manifest = match manifest::read(&shared.control, namespace).await? {
            Some((manifest, made_at)) => {
                self.refuse_overlap(namespace, &table, Some(made_at))?;
                let current = self.follow(manifest.clone(), &wanted, &table).await?;
                if current.lane != manifest.lane {
                    followed = Some(manifest);
                }
                let location = current.table_location.clone();
                self.roots.insert(namespace.clone(), TableRoot { location, made_at });
                current
            }
            None if self.mode == Mode::ReadOnly => return Ok(None),
            None => {
                self.read_roots().await?;
                self.refuse_overlap(namespace, &table, None)?;
                let manifest = manifest::create(&shared.control, &wanted).await?;
                // Somebody else may have created an overlapping one at the same time: the later one gives way.
                self.read_roots().await?;
                let made_at = self.roots.get(namespace).map_or(now, |root| root.made_at);
                self.refuse_overlap(namespace, &table, Some(made_at))?;
                manifest
            }
        };
        manifest.check(&wanted)?;
        let made_here = manifest.lane == wanted.lane && followed.is_none();
        let mut lane = Lane::open(&shared, &mut self.tracker, manifest, table, now).await?;
        if lane.damaged > 0 {
            event!(warn, namespace = %crate::printable::printable(namespace), damaged = lane.damaged, "state damaged, it is taken for lost");
            self.counters.damaged_state += lane.damaged as u64;
            if self.mode == Mode::ReadWrite {
                lane.mend(shared.state.as_ref()).await?;
            }
        }
        if let Some(followed) = followed {
            lane.discard_again(self.discarded(namespace, followed.lane).await?)?;
        }
        if made_here {
            // Nothing can have been known of it before, so nothing can have been lost.
            lane.listed();
        }
        if lane.to_be_listed {
            self.tracker.begin_listing(namespace);
        }
        self.change_window_size(&lane, now).await?;
        self.look_at_table(&mut lane, now).await?;
        Ok(Some(lane))
    }

    /// The table of a namespace, if it may be written.
    pub(super) fn table_of(&self, namespace: &Namespace) -> Result<Table, Halt> {
        let shared = &self.shared;
        let trouble = |e: Error| Halt::TableTrouble { detail: e.chain() };
        let table = shared.tables.table(namespace).map_err(trouble)?;
        let target = shared.options.target_format.as_str();
        if table.format != target {
            return Err(Halt::FormatDiffers {
                target: target.to_owned(),
                tables: table.format,
            });
        }
        apart("control", shared.control.url(), "table", &table.location).map_err(trouble)?;
        let sources = sources_url(&shared.bucket, shared.parser.prefix());
        apart("sources", &sources, "table", &table.location).map_err(trouble)?;
        Ok(table)
    }

    /// What a lane that is made now would be.
    pub(super) fn wanted_manifest(&self, namespace: &Namespace, table: &Table) -> LaneManifest {
        let shared = &self.shared;
        LaneManifest {
            version: 1,
            lane: LaneId::random(shared.randomness.as_ref()),
            namespace: namespace.clone(),
            table_location: table.location.clone(),
            table_format: table.format.clone(),
            new_table_uuid: uuid::Builder::from_random_bytes(shared.randomness.random_u128().to_be_bytes()).into_uuid(),
            window_size_ms: shared.options.window_size_ms,
            sort_order: shared.options.sort_order.clone(),
            grammar: shared.parser.grammar(),
            adopted: false,
        }
    }

    /// The lane that a manifest leads to: the one after it, where it has ended before its first plan; and if it has
    /// no plan and other settings than are wanted now, one with these.
    async fn follow(
        &self,
        mut manifest: LaneManifest,
        wanted: &LaneManifest,
        table: &Table,
    ) -> Result<LaneManifest, LaneError> {
        let control = &self.shared.control;
        for _ in 0..MOST_SUCCESSORS {
            let successor = match ending::successor(control, &manifest).await? {
                Some(successor) => successor,
                None => {
                    let differs = manifest.check(wanted).is_err();
                    if !differs || self.mode == Mode::ReadOnly || !self.is_unused(&manifest, table).await? {
                        return Ok(manifest);
                    }
                    match ending::end(control, &manifest, wanted).await? {
                        Some(successor) => successor,
                        None => return Ok(manifest),
                    }
                }
            };
            // The way is found from either: this saves steps, unless a door has been gone through meanwhile.
            if self.mode == Mode::ReadWrite
                && let Some((named, _)) = manifest::read(control, &manifest.namespace).await?
                && named.lane == manifest.lane
            {
                manifest::replace(control, &successor).await?;
            }
            manifest = successor;
        }
        Ok(manifest)
    }

    /// Whether the table knows nothing of a lane. Its register is not looked at.
    async fn is_unused(&self, manifest: &LaneManifest, table: &Table) -> Result<bool, LaneError> {
        if manifest.adopted {
            return Ok(false);
        }
        match table.sink.decided(manifest.lane).await.map_err(table_error) {
            Ok(state) => Ok(state.decided.is_none() && state.other_lanes.is_empty() && !state.superseded),
            Err(LaneError::Halted(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What an operator has given up of a lane that has ended.
    pub(super) async fn discarded(&self, namespace: &Namespace, lane: LaneId) -> Result<Vec<ShelfEntry>> {
        let key = Lane::state_key(namespace, lane).join("quarantine");
        Ok(Shelf::open(self.shared.state.as_ref(), key).await?.discarded())
    }

    /// Refuses a table root at, above or below that of a namespace whose manifest is older.
    ///
    /// `made_at` is when our own manifest was made, by the store's clock; `None`: not yet.
    pub(super) fn refuse_overlap(
        &self,
        namespace: &Namespace,
        table: &Table,
        made_at: Option<Timestamp>,
    ) -> Result<(), Halt> {
        for (other, root) in &self.roots {
            let first = made_at.is_none_or(|ours| (root.made_at, other) < (ours, namespace));
            if other != namespace && first && overlap(&root.location, &table.location) {
                return Err(Halt::TableRootOverlap {
                    other: format!("{other} ({})", root.location),
                });
            }
        }
        Ok(())
    }

    /// Learns the table roots of lanes that have been made meanwhile.
    async fn read_roots(&mut self) -> Result<Vec<Namespace>> {
        let there = lanes_there(&self.shared).await?;
        for namespace in &there {
            if self.roots.contains_key(namespace) {
                continue;
            }
            match manifest::read(&self.shared.control, namespace).await {
                Ok(Some((manifest, made_at))) => {
                    let location = manifest.table_location;
                    self.roots.insert(namespace.clone(), TableRoot { location, made_at });
                }
                Ok(None) => {}
                // Its lane says so when it is opened.
                Err(error) if error.is_unreadable() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(there)
    }

    /// Where the window size has changed: records the new one, from after the last known window on.
    async fn change_window_size(&mut self, lane: &Lane, now: Timestamp) -> Result<()> {
        let mut sizes = WindowSizes {
            initial_ms: lane.manifest.window_size_ms,
            changes: lane.register.window_sizes().await?,
        };
        let (current_ms, size_ms) = (sizes.latest_ms(), self.shared.options.window_size_ms);
        if current_ms == size_ms || self.mode == Mode::ReadOnly {
            return Ok(());
        }
        let known = self.last_window_end(&lane.namespace, &lane.register);
        let horizon = now + self.shared.options.max_future_skew_ms;
        let from = known.max(horizon).floor_to(current_ms) + current_ms;
        let n = NonZeroU64::MIN.saturating_add(sizes.changes.len() as u64);
        let change = lane
            .register
            .put_window_size(n, WindowSizeChange { from, size_ms })
            .await?;
        sizes.changes.push(change);
        self.tracker.set_window_sizes(&lane.namespace, sizes);
        Ok(())
    }

    fn last_window_end(&self, namespace: &Namespace, register: &Register) -> Timestamp {
        let planned = register.plans().map(|(_, plan)| plan.window.end).max();
        let pending = self
            .tracker
            .pending(namespace)
            .map(|pending| self.tracker.window_of(namespace, pending.file.name.timestamp).end)
            .max();
        planned.max(pending).unwrap_or(Timestamp::MIN)
    }

    /// Looks where a lane stands, so that a halt is seen at once. A table that does not answer is left to the
    /// lane's jobs.
    async fn look_at_table(&mut self, lane: &mut Lane, now: Timestamp) -> Result<(), LaneError> {
        let mut work = self.lane_work(lane, None, now);
        let stood = work.stand().await;
        lane.register = work.register;
        match stood {
            Ok((standing, _)) => lane.unsettled = standing != Standing::Free,
            Err(LaneError::Halted(halt)) => lane.halt(&mut self.tracker, halt, now),
            Err(LaneError::Failed(error)) => lane.backoff.failed(now, &error, self.shared.randomness.random_u128()),
        }
        Ok(())
    }

    /// A turn of a lane.
    pub(super) fn lane_work(&self, lane: &Lane, draft: Option<PlanDraft>, now: Timestamp) -> LaneWork {
        LaneWork {
            shared: Arc::clone(&self.shared),
            manifest: lane.manifest.clone(),
            sink: Arc::clone(&lane.table.sink),
            register: lane.register.clone(),
            attempts: lane.attempts_key(),
            progress: lane.progress.clone(),
            draft,
            released: lane.memory.released.clone(),
            now,
            found: Found::default(),
            footers: Footers::of_budget(self.shared.options.memory_budget_bytes),
        }
    }
}

/// The namespaces that have a lane directory.
async fn lanes_there(shared: &Shared) -> Result<Vec<Namespace>> {
    let dir = manifest::lanes_dir(&shared.control);
    let listed = shared
        .control
        .store()
        .list_with_delimiter(Some(&dir))
        .await
        .map_err(|e| Error::from_store("list", &dir, e))?;
    Ok(listed
        .common_prefixes
        .iter()
        .filter_map(manifest::namespace_of_dir)
        .collect())
}
