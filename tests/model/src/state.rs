//! Everything there is at one moment: bucket, state store, control objects, table, workers, readers.

use crate::faults::Budget;
use crate::names::{Attempt, Attempts, LANES, Lane, SEQS, Seq, Sources, WINDOWS, WORKERS, Window, WorkerId};
use crate::set::{By, Set};

/// One moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The source files in the bucket; at most one content of each key.
    pub bucket: Sources,
    /// Every content that ever was in the bucket.
    pub landed: Sources,
    /// Contents whose event has been acknowledged.
    pub acknowledged: Sources,
    /// The state store: a key for each window.
    pub windows: By<Window, WindowState, WINDOWS>,
    /// What each key held before its last save, and holds again after a rollback.
    pub windows_before: By<Window, WindowState, WINDOWS>,
    /// With a membership index only: up to which seq the index is complete.
    pub index_extent: Seq,
    /// Which lane `lane.json` names.
    pub manifest: Option<Lane>,
    /// The newest lane id that was ever made.
    pub newest_lane: Lane,
    /// The control objects below the id of each lane.
    pub registers: By<Lane, Register, LANES>,
    /// The table's own log.
    pub table: Table,
    /// The data files in the table's directory, by the lane, seq and attempt of their names.
    pub outputs: By<Lane, By<Seq, Attempts, SEQS>, LANES>,
    /// The processes that plan, merge and commit.
    pub workers: By<WorkerId, Worker, WORKERS>,
    /// A request whose sender has given up on it, and that may still be applied.
    pub request: Option<Request>,
    /// Sources that a confirmed reclaim of a seq is about to delete. Any number of reclaims is under way at once; two of
    /// the same seq differ in nothing.
    pub reclaims: By<Lane, By<Seq, Sources, SEQS>, LANES>,
    /// Orphans of a seq that the table has been asked about and that are about to be deleted.
    pub sweeps: By<Lane, By<Seq, Attempts, SEQS>, LANES>,
    /// Who reads table and raw files together.
    pub reader: Reader,
    /// An operator's door that has been gone through half way.
    pub door: Option<Door>,
    /// Why the lane stands still.
    pub halt: Option<Halt>,
    /// The faults that may still happen.
    pub left: Budget,
    /// What faults have damaged.
    pub damage: Damage,
    /// Rows that somebody else has taken out of the table or the bucket.
    pub exempt: Sources,
    /// Deletions that were wrong at the moment they were made.
    pub offence: Option<Offence>,
}

/// What the state store holds of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WindowState {
    /// Files that wait for a plan.
    pub pending: Sources,
    /// Files that are set aside.
    pub quarantined: Sources,
    /// With a membership index only: the plans of the window.
    pub index: Set<Seq>,
}

/// The control objects of one lane id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Register {
    /// `plans/{seq}.json`.
    pub plans: By<Seq, Option<Plan>, SEQS>,
    /// `decided/{seq}.json`.
    pub decisions: By<Seq, Option<Decision>, SEQS>,
    /// `floor.json`: up to where plans and decisions have been pruned.
    pub floor: Seq,
    /// The hash of the plan at the floor.
    pub floor_plan: Plan,
    /// Decisions that are older than the grace.
    pub grace_over: Set<Seq>,
    /// Of a lane made by an operator's door: sources that were judged to be in the table.
    pub settled: Sources,
    /// Of a lane made by an operator's door: sources of which nobody can tell.
    pub in_doubt: Sources,
}

/// A plan object, told by the sources of its whole chain: four seqs of eight bits. This is also its hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Plan(u32);

impl Plan {
    /// No plan: what the first one follows.
    pub const NONE: Self = Self(0);

    /// The plan of these sources that follows another.
    pub fn new(previous: Self, sources: Sources) -> Self {
        Self(previous.0 << 8 | u32::from(sources.bits()))
    }

    /// What it merges.
    pub fn sources(self) -> Sources {
        let [_, _, _, bits] = self.0.to_be_bytes();
        Sources::from_bits(bits)
    }

    /// The hash of the plan before, which it names.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0 >> 8)
    }
}

/// How a seq ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The rows of its plan are in.
    Data,
    /// Nothing is in.
    Void,
}

/// A decision object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decision {
    /// Data or void.
    pub outcome: Outcome,
    /// Of which plan.
    pub plan: Plan,
    /// By which attempt.
    pub attempt: Attempt,
    /// Of a void: the sources at fault.
    pub bad: Sources,
}

impl Decision {
    /// Whether it says the same, as far as the table can tell.
    pub fn agrees_with(self, other: Self) -> bool {
        (self.outcome, self.plan, self.attempt) == (other.outcome, other.plan, other.attempt)
    }
}

/// The table's log: an entry for each commit of ours. Foreign commits only move the base under a committer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Table {
    entries: [Option<Entry>; Self::ROOM],
}

/// An entry, and the marker it sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Which lane id.
    pub lane: Lane,
    /// Which seq; 0 is what an operator's door writes.
    pub seq: Seq,
    /// Data or void.
    pub outcome: Outcome,
    /// The plan hash in the marker.
    pub plan: Plan,
    /// The attempt in the marker.
    pub attempt: Attempt,
    /// The rows that are in.
    pub rows: Sources,
    /// A RESTORE has taken the rows out and left the marker.
    pub is_hidden: bool,
    /// The log has been cleaned of it.
    pub is_expired: bool,
}

impl Table {
    /// The seqs of a lane, an adoption, and the seqs of the lane after that.
    const ROOM: usize = SEQS * 2 + 1;

    /// Oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().flatten()
    }

    /// The newest entry, whose marker the table carries.
    pub fn newest(&self) -> Option<&Entry> {
        self.entries().next_back()
    }

    /// Whether there is room for one more.
    pub fn has_room(&self) -> bool {
        self.entries.last().is_some_and(Option::is_none)
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: Entry) {
        if let Some(place) = self.entries.iter_mut().find(|place| place.is_none()) {
            *place = Some(entry);
        }
    }

    /// Sets the table back before its newest entry.
    pub fn pop(&mut self) {
        if let Some(place) = self.entries.iter_mut().rev().find(|place| place.is_some()) {
            *place = None;
        }
    }

    /// Hides the rows of the newest entry.
    pub fn hide_newest(&mut self) {
        if let Some(entry) = self.entries.iter_mut().rev().flatten().next() {
            entry.is_hidden = true;
        }
    }

    /// Cleans the log of all that is in it.
    pub fn expire(&mut self) {
        self.entries
            .iter_mut()
            .flatten()
            .for_each(|entry| entry.is_expired = true);
    }

    /// The rows that a reader sees.
    pub fn rows(&self) -> Sources {
        let visible = self.entries().filter(|entry| !entry.is_hidden);
        visible.fold(Sources::EMPTY, |all, entry| all | entry.rows)
    }
}

/// What a process is at. It may stay there for any time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Worker {
    /// Between two turns.
    #[default]
    Idle,
    /// Has read what is pending in a window.
    Drafting {
        /// For which lane id.
        lane: Lane,
        /// What was pending.
        pending: Sources,
        /// What an index of the same key knew, where there is one.
        index: Set<Seq>,
    },
    /// Has drafted a plan that is to be put.
    Planning {
        /// For which lane id.
        lane: Lane,
        /// At which seq.
        seq: Seq,
        /// The plan.
        plan: Plan,
    },
    /// Has a plan and is to merge its sources.
    Merging {
        /// For which lane id.
        lane: Lane,
        /// At which seq.
        seq: Seq,
        /// The plan.
        plan: Plan,
    },
    /// Has something to commit, and is to read table and register.
    Looking(Work),
    /// Has seen in the table exactly what the plan names as the one before, and is to commit on that base.
    Committing(Work),
    /// Has seen an entry in the table, and is to put its decision object.
    Recording(Work),
}

/// What a worker has in hand for a seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work {
    /// For which lane id.
    pub lane: Lane,
    /// At which seq.
    pub seq: Seq,
    /// The plan.
    pub plan: Plan,
    /// Data or void.
    pub outcome: Outcome,
    /// The attempt.
    pub attempt: Attempt,
    /// Of a void: the sources at fault.
    pub bad: Sources,
}

impl Work {
    /// The entry that is to be committed.
    pub fn entry(self, rows: Sources) -> Entry {
        Entry {
            lane: self.lane,
            seq: self.seq,
            outcome: self.outcome,
            plan: self.plan,
            attempt: self.attempt,
            rows,
            is_hidden: false,
            is_expired: false,
        }
    }

    /// The decision that is to be recorded.
    pub fn decision(self) -> Decision {
        Decision {
            outcome: self.outcome,
            plan: self.plan,
            attempt: self.attempt,
            bad: self.bad,
        }
    }
}

/// A request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// A conditional commit; it can land only until the table moves.
    Commit(Entry),
    /// A put of a decision object, if absent.
    Decision(Lane, Seq, Decision),
    /// A put of a plan object, if absent.
    Plan(Lane, Seq, Plan),
}

/// A reader of table and raw files together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reader {
    /// Nobody reads.
    #[default]
    Idle,
    /// Has read the table.
    TableRead {
        /// The rows of that version.
        rows: Sources,
        /// The seq of its marker.
        seq: Seq,
        /// Whether that is a data entry.
        is_data: bool,
        /// What the reader must see: all that was acknowledged by then.
        due: Sources,
        /// Seqs that were not decided by then. Their grace ends after the view.
        undecided: Set<Seq>,
    },
    /// Has listed the bucket too and reads.
    Open {
        /// The rows of the version of the table.
        rows: Sources,
        /// The raw files beside it.
        files: Sources,
        /// What the reader must see.
        due: Sources,
        /// Seqs that were not decided when the table was read.
        undecided: Set<Seq>,
    },
}

/// The operator's way on from a halt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// Takes the table as it is.
    Adopt,
    /// Puts in again what the table no longer has.
    Replay,
}

/// Why a lane stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Halt {
    /// Control objects are gone, or belong to another lane than the table's.
    RegisterLost,
    /// Plan, decision and marker contradict each other.
    RegisterWrong,
    /// The table has gone back.
    TableRolledBack,
}

/// What faults have damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Damage {
    /// The state store was lost or went back.
    pub state: bool,
    /// Control objects were lost.
    pub register: bool,
    /// The table was set back or restored.
    pub table: bool,
}

/// A deletion that breaks a promise though nothing is missing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offence {
    /// A source was deleted before its grace was over.
    BeforeGrace,
    /// A source was deleted while its rows were not visible in the table.
    NotVisible,
}
