//! The driver that a host polls.

mod attempts;
mod builder;
mod busy;
mod columns;
mod doors;
mod draft;
mod events;
mod footers;
mod job;
mod jobs;
mod lane;
mod lane_merge;
mod lane_state;
mod lane_work;
mod listing;
mod opening;
mod progress;
mod renewal;
mod run;
mod shared;
mod shelf;
mod status;
mod upkeep;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::halt::Halt;
use crate::naming::Namespace;
use crate::status::Counters;
use crate::time::Timestamp;
use crate::window::{TrackerKey, WindowTracker};

pub use builder::CompactorBuilder;
pub use doors::{Door, DoorReport};
pub use events::{EventOutcome, EventsHandled};
pub use job::{Job, JobOutcome};
pub use jobs::{CommittedPlan, JobReport};
pub use listing::Reconciled;
pub use view::ReadView;

use builder::Mode;
use lane::Lane;
use shared::Shared;
use shelf::Shelf;

/// The compaction of one bucket into its tables.
///
/// It holds no thread, no timer and no runtime. A host either gives it a loop, [`Compactor::run`], or calls it
/// when something happens:
///
/// 1. [`handle_events`](Self::handle_events) with the notifications that came in, then acknowledge those saved;
/// 2. [`poll_job`](Self::poll_job) until there is none: [`Job::run`] each, wherever the host likes, and hand the
///    outcome to [`finish_job`](Self::finish_job);
/// 3. come back with the next events, or at [`next_deadline`](Self::next_deadline).
///
/// Any number of compactors may work on the same bucket, tables and control prefix at the same time: each commits
/// at most once what any of them has planned.
#[derive(Debug)]
pub struct Compactor {
    shared: Arc<Shared>,
    mode: Mode,
    tracker: WindowTracker,
    lanes: BTreeMap<Namespace, LaneSlot>,
    /// Where the tables of all lanes are, also of those that others have made.
    roots: BTreeMap<Namespace, TableRoot>,
    /// Keys under the prefix that do not parse.
    malformed: Shelf,
    counters: Counters,
    /// Whether a listing has begun and not ended: still so when none is under way, its future was dropped.
    listing: bool,
    /// Changes that could not be saved yet.
    unsaved: BTreeSet<TrackerKey>,
}

/// Where a lane's table is, and when the lane was made by the store's clock.
#[derive(Debug)]
struct TableRoot {
    location: String,
    made_at: Timestamp,
}

/// A namespace, as far as it could be opened.
#[derive(Debug)]
enum LaneSlot {
    Open(Box<Lane>),
    /// Its settings or its place do not allow it to be opened. Its files stay unacknowledged.
    Refused {
        halt: Halt,
        look_again_at: Timestamp,
    },
}

impl LaneSlot {
    fn open(&self) -> Option<&Lane> {
        match self {
            Self::Open(lane) => Some(lane),
            Self::Refused { .. } => None,
        }
    }

    fn open_mut(&mut self) -> Option<&mut Lane> {
        match self {
            Self::Open(lane) => Some(lane),
            Self::Refused { .. } => None,
        }
    }
}

impl Compactor {
    /// The settings.
    pub fn options(&self) -> &crate::options::Options {
        &self.shared.options
    }

    /// The namespaces known, in order.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.lanes.keys()
    }

    /// Plans everything that is pending now, ready or not: for a migration that is to come to an end.
    /// `None`: in every namespace.
    pub fn drain(&mut self, namespace: Option<&Namespace>) {
        self.tracker.drain(namespace);
    }

    fn writable(&self) -> Result<()> {
        match self.mode {
            Mode::ReadWrite => Ok(()),
            Mode::ReadOnly => Err(Error::new(ErrorKind::Invalid, "this compactor was opened to read only")),
        }
    }
}
