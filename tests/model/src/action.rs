//! Everything that may happen next, one kind after the other, and how a trace tells it.

use std::fmt;

use crate::faults::Fault;
use crate::names::{Attempt, Lane, Seq, Source, Sources, Window, WorkerId};
use crate::state::{Decision, Door, Halt, Outcome, Plan, Work};

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident $({ $($field:ident: $of:ty),* })?,)*) => {
        /// One step of a run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the fields are what the sentence of the step names")]
        pub enum Action {
            $($(#[$doc])* $name $({ $($field: $of),* })?,)*
        }

        /// What kind of step it is, for the count of what a search has taken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "named as the actions are")]
        pub enum Kind {
            $($name,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }

        impl Action {
            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$name { .. } => Kind::$name,)*
                }
            }
        }
    };
}

actions! {
    // The world.
    /// A file lands late; its event is saved, then acknowledged.
    FileArrives { source: Source },
    /// The event of a replaced file is saved, then acknowledged.
    EventHandled { source: Source },
    /// The grace of a decision is over.
    GraceEnds { lane: Lane, seq: Seq },
    /// Somebody else commits.
    ForeignCommit,
    /// The log is cleaned, by a commit that does so.
    LogCleaned,
    /// The newest rows go, the marker stays.
    TableRestored,
    /// The newest entry goes with its marker.
    TableRolledBack,
    /// A key of the state store goes back.
    KeyRolledBack { window: Window },
    /// The state store is empty.
    StateLost,
    /// Everything below the control prefix is gone.
    ControlPrefixLost,
    /// Plans and decisions are gone.
    PlansLost,
    /// Events of a window come again.
    EventsRedelivered { window: Window },
    /// A writer overwrites its file.
    FileReplaced { source: Source },
    /// Somebody deletes a file.
    FileVanishes { source: Source },
    /// A cleaner deletes a data file that is in no entry.
    OutputVacuumed { lane: Lane, seq: Seq, attempt: Attempt },
    /// A request that was given up is applied after all.
    RequestLands,
    /// A request that was given up never is.
    RequestLost,

    // Upkeep of the state, by anyone at any time.
    /// What is pending and set aside in a window is derived from the register.
    WindowDerived { window: Window },
    /// The bucket is listed, and what is missing in the state is added.
    BucketListed { window: Window },
    /// Replaced files of committed keys are set aside.
    ReplacedSetAside { window: Window },

    // Workers.
    /// A process ends in the middle of something.
    WorkerCrashes { worker: WorkerId },
    /// A worker will not go on.
    WorkerHalts { worker: WorkerId, halt: Halt },
    /// A manifest is made where there is none.
    LaneOpened,
    /// The state of a window is read.
    PendingRead { worker: WorkerId, window: Window },
    /// A plan that is not decided is found.
    PlanTakenUp { worker: WorkerId, seq: Seq },
    /// There is nothing to be planned now.
    NothingPlanned { worker: WorkerId },
    /// A plan is made, but not put.
    PlanDrafted { worker: WorkerId, seq: Seq, plan: Plan },
    /// The plan object is created.
    PlanPut { worker: WorkerId, seq: Seq, plan: Plan },
    /// The put of a plan is not answered.
    PlanPutUnanswered { worker: WorkerId, seq: Seq, plan: Plan },
    /// Somebody else's plan object is found and adopted.
    PlanAdopted { worker: WorkerId, seq: Seq, plan: Plan },
    /// The sources are merged and the files uploaded.
    AttemptUploaded { worker: WorkerId, attempt: Attempt, skipped: Sources },
    /// Sources are bad, gone or replaced, and the seq is not decided.
    BadSourcesFound { worker: WorkerId, attempt: Attempt, bad: Sources },
    /// Too many attempts failed without a culprit.
    AttemptsExhausted { worker: WorkerId, attempt: Attempt },
    /// The attempt is not needed any more.
    AttemptEnds { worker: WorkerId },
    /// The uploaded files are gone.
    OutputsGone { worker: WorkerId },
    /// The table is exactly at the entry before.
    BaseRead { worker: WorkerId },
    /// The table has an entry that has no decision object yet.
    EntrySeen { worker: WorkerId, work: Work },
    /// The entry is committed.
    EntryCommitted { worker: WorkerId, seq: Seq, outcome: Outcome },
    /// The commit is not answered.
    CommitUnanswered { worker: WorkerId, seq: Seq, outcome: Outcome },
    /// The decision object is created.
    DecisionPut { worker: WorkerId, seq: Seq, decision: Decision },
    /// The put of a decision is not answered.
    DecisionPutUnanswered { worker: WorkerId, seq: Seq, decision: Decision },
    /// Somebody else's decision object says the same.
    DecisionFound { worker: WorkerId, seq: Seq },

    // Reclaim, orphans, pruning.
    /// The table confirms an entry.
    ReclaimConfirmed { lane: Lane, seq: Seq },
    /// The table does not confirm an entry.
    ReclaimRefuted { lane: Lane, seq: Seq, halt: Halt },
    /// A source is deleted.
    SourceDeleted { lane: Lane, seq: Seq, source: Source },
    /// The table confirms an entry, and other attempts at it are orphans.
    SweepConfirmed { lane: Lane, seq: Seq },
    /// An orphan is deleted.
    OrphanDeleted { lane: Lane, seq: Seq, attempt: Attempt },
    /// The floor is raised by one seq.
    FloorRaised { lane: Lane, seq: Seq },
    /// A pruned plan object is deleted.
    PlanForgotten { lane: Lane, seq: Seq },
    /// A pruned decision object is deleted.
    DecisionForgotten { lane: Lane, seq: Seq },

    // Readers and operators.
    /// A reader reads the table.
    ViewReadsTable,
    /// It lists the raw files that are not in committed plans.
    ViewListsBucket,
    /// Its view expires.
    ViewExpires,
    /// An operator's door hands the table over to a new lane id.
    DoorOpened { door: Door },
    /// The door judges the sources and writes the new manifest.
    DoorPassed,
    /// The process behind a door dies half way.
    DoorAbandoned,
}

impl Action {
    /// The fault that it uses up.
    pub fn spends(&self) -> Option<Fault> {
        Some(match self.kind() {
            Kind::AttemptsExhausted => Fault::BrokenAttempt,
            Kind::CommitUnanswered | Kind::DecisionPutUnanswered | Kind::PlanPutUnanswered => Fault::LostAnswer,
            Kind::ControlPrefixLost => Fault::ControlLoss,
            Kind::DoorAbandoned | Kind::WorkerCrashes => Fault::Crash,
            Kind::DoorOpened => Fault::Operator,
            Kind::EventsRedelivered => Fault::Redelivery,
            Kind::FileReplaced => Fault::Replacement,
            Kind::FileVanishes => Fault::Vanishing,
            Kind::ForeignCommit => Fault::ForeignCommit,
            Kind::KeyRolledBack => Fault::KeyRollback,
            Kind::LogCleaned => Fault::LogCleaning,
            Kind::OutputVacuumed => Fault::Vacuum,
            Kind::PlansLost => Fault::PlansLoss,
            Kind::StateLost => Fault::StateLoss,
            Kind::TableRestored => Fault::Restore,
            Kind::TableRolledBack => Fault::TableRollback,
            _ => return None,
        })
    }

    /// Whether nobody may count on it to happen: a fault, or the fate of a request that was given up.
    pub fn is_fault(&self) -> bool {
        self.spends().is_some() || matches!(self.kind(), Kind::RequestLands | Kind::RequestLost)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileArrives { source } => {
                write!(f, "file {source} arrives late, its event is saved and acknowledged")
            }
            Self::EventHandled { source } => write!(f, "the event of {source} is saved and acknowledged"),
            Self::GraceEnds { lane, seq } => write!(f, "the grace of seq {seq} of {lane} is over"),
            Self::ForeignCommit => f.write_str("somebody else commits to the table"),
            Self::LogCleaned => f.write_str("the log of the table is cleaned, or its snapshots expire"),
            Self::TableRestored => f.write_str("a RESTORE hides the newest rows, the marker stays"),
            Self::TableRolledBack => f.write_str("the table is set back by one entry with its marker"),
            Self::KeyRolledBack { window } => write!(f, "the state of window {window} is rolled back"),
            Self::StateLost => f.write_str("the state store is lost"),
            Self::ControlPrefixLost => f.write_str("the control prefix is lost"),
            Self::PlansLost => f.write_str("plans and decisions are lost, the manifest is kept"),
            Self::EventsRedelivered { window } => write!(f, "the events of window {window} are delivered again"),
            Self::FileReplaced { source } => write!(f, "a writer replaces {source} with {}", source.second()),
            Self::FileVanishes { source } => write!(f, "somebody deletes {source}"),
            Self::OutputVacuumed { lane, seq, attempt } => {
                write!(
                    f,
                    "a cleaner deletes the files of attempt {attempt} at seq {seq} of {lane}"
                )
            }
            Self::RequestLands => f.write_str("the request that was given up is applied"),
            Self::RequestLost => f.write_str("the request that was given up is lost for good"),
            Self::WindowDerived { window } => write!(f, "the state of window {window} is derived from the register"),
            Self::BucketListed { window } => write!(f, "the bucket is listed for window {window}"),
            Self::ReplacedSetAside { window } => write!(f, "replaced files of window {window} are set aside"),
            Self::WorkerCrashes { worker } => write!(f, "{worker} crashes"),
            Self::WorkerHalts { worker, halt } => write!(f, "{worker} halts: {halt:?}"),
            Self::LaneOpened => f.write_str("a manifest is made with a new lane id"),
            Self::PendingRead { worker, window } => write!(f, "{worker} reads what is pending in window {window}"),
            Self::PlanTakenUp { worker, seq } => write!(f, "{worker} takes up the plan of seq {seq}"),
            Self::NothingPlanned { worker } => write!(f, "{worker} finds nothing to plan"),
            Self::PlanDrafted { worker, seq, plan } => write!(f, "{worker} drafts {} as seq {seq}", plan.sources()),
            Self::PlanPut { worker, seq, plan } => write!(f, "{worker} puts plan {seq} of {}", plan.sources()),
            Self::PlanPutUnanswered { worker, seq, .. } => {
                write!(f, "{worker} gets no answer to its put of plan {seq}")
            }
            Self::PlanAdopted { worker, seq, plan } => {
                write!(f, "{worker} finds plan {seq} of {} and adopts it", plan.sources())
            }
            Self::AttemptUploaded {
                worker,
                attempt,
                skipped,
            } if skipped.is_empty() => {
                write!(f, "{worker} uploads attempt {attempt}")
            }
            Self::AttemptUploaded {
                worker,
                attempt,
                skipped,
            } => {
                write!(f, "{worker} uploads attempt {attempt} without {skipped}")
            }
            Self::BadSourcesFound { worker, bad, .. } => write!(f, "{worker} finds {bad} bad and is to void the plan"),
            Self::AttemptsExhausted { worker, .. } => {
                write!(f, "{worker} has no attempts left and is to void the plan")
            }
            Self::AttemptEnds { worker } => write!(f, "{worker} ends its attempt, the seq is decided"),
            Self::OutputsGone { worker } => write!(f, "{worker} finds its uploaded files gone"),
            Self::BaseRead { worker } => write!(f, "{worker} reads the base of its commit"),
            Self::EntrySeen { worker, work } => {
                write!(f, "{worker} sees seq {} decided: {:?}", work.seq, work.outcome)
            }
            Self::EntryCommitted { worker, seq, outcome } => write!(f, "{worker} commits seq {seq}: {outcome:?}"),
            Self::CommitUnanswered { worker, seq, outcome } => {
                write!(f, "{worker} gets no answer to its commit of seq {seq}: {outcome:?}")
            }
            Self::DecisionPut { worker, seq, decision } => {
                write!(f, "{worker} puts decision {seq}: {:?}", decision.outcome)
            }
            Self::DecisionPutUnanswered { worker, seq, .. } => {
                write!(f, "{worker} gets no answer to its put of decision {seq}")
            }
            Self::DecisionFound { worker, seq } => write!(f, "{worker} finds decision {seq}, which says the same"),
            Self::ReclaimConfirmed { lane, seq } => write!(f, "the table confirms seq {seq} of {lane} for its reclaim"),
            Self::ReclaimRefuted { lane, seq, halt } => {
                write!(f, "seq {seq} of {lane} is not confirmed, its reclaim halts: {halt:?}")
            }
            Self::SourceDeleted { lane, seq, source } => {
                write!(f, "the reclaim of seq {seq} of {lane} deletes {source}")
            }
            Self::SweepConfirmed { lane, seq } => write!(f, "the table confirms seq {seq} of {lane} for a sweep"),
            Self::OrphanDeleted { lane, seq, attempt } => {
                write!(f, "the files of attempt {attempt} at seq {seq} of {lane} are swept")
            }
            Self::FloorRaised { lane, seq } => write!(f, "the floor of {lane} is raised to {seq}"),
            Self::PlanForgotten { lane, seq } => write!(f, "plan {seq} of {lane} is pruned"),
            Self::DecisionForgotten { lane, seq } => write!(f, "decision {seq} of {lane} is pruned"),
            Self::ViewReadsTable => f.write_str("a reader reads the table"),
            Self::ViewListsBucket => f.write_str("the reader lists the raw files that are not in committed plans"),
            Self::ViewExpires => f.write_str("the reader's view expires"),
            Self::DoorOpened { door } => write!(f, "an operator's {door:?} hands the table to a new lane id"),
            Self::DoorPassed => f.write_str("the door judges the sources and writes the new manifest"),
            Self::DoorAbandoned => f.write_str("the process behind the door dies"),
        }
    }
}
