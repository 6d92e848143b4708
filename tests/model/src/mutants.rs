//! Rules that can be left out, to see that the search finds what follows.

use std::fmt;

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A rule of the protocol left out. Quoted: how the list of mutants that the tests must kill calls it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[$doc])* $name,)*
        }

        impl Mutant {
            /// Every mutant.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

mutants! {
    /// Rule 10: "event acknowledged before it is saved".
    AckBeforeSave,
    /// Rule 6: another lane's marker is taken for ours.
    AnyLane,
    /// Rule 1: "blind retry on conflict", the commit is sent again without a look at the table.
    BlindRetry,
    /// Rule 3: "commit on a stale base".
    CommitOnStaleBase,
    /// Objects: "names without the lane id", of control objects.
    ControlNamesWithoutLane,
    /// Rule 3: plans and their decisions are never compared.
    DecisionNeverCompared,
    /// Rule 1: "an error taken for success".
    ErrorTakenForSuccess,
    /// Rule 9: a source is deleted whatever its etag.
    EtagNotCompared,
    /// Pruning: the objects go before the floor is raised.
    FloorAfterwards,
    /// Pruning: the floor is kept in the state store.
    FloorInState,
    /// Pruning: the floor does not say the hash of its plan.
    FloorWithoutHash,
    /// Rule 9: "a grace period that does not wait".
    GraceDoesNotWait,
    /// Rule 5: "index and its extent in different keys".
    IndexApart,
    /// "Late file of a window in work dropped".
    LateFileDropped,
    /// Rule 3: "marker only in the snapshot summary, with expiry".
    MarkerExpires,
    /// Rule 3: the marker is never compared with plan and decision.
    MarkerNeverCompared,
    /// Rule 5: "membership taken from the state".
    MembershipFromState,
    /// Rule 5: "after state loss, go on at the next seq without rebuilding the committed set".
    NextSeqAfterMarker,
    /// Rule 9: "reclaim without confirmation after RESTORE or drop".
    NoConfirmation,
    /// Rule 5: an entry does not wait for a durable decision of the one before.
    NoDurableDecision,
    /// Pruning: "pruning without a floor".
    NoFloor,
    /// Rule 3: a plan does not name the one before it.
    NoPlanChain,
    /// Rule 6: a seq is taken for decided without its plan.
    NoPlanCheck,
    /// After a loss of the state the bucket is not listed.
    NoReconcile,
    /// Rule 6: a marker below the newest decision is not noticed.
    NoRollbackCheck,
    /// Objects: "names without the lane id", of data files.
    OutputNamesWithoutLane,
    /// Step 9: the uploaded files are not looked for before the commit.
    OutputsNotLookedFor,
    /// Step 12: "confirm by the worker's own plan instead of the observed one".
    OwnPlanForObserved,
    /// Rule 3: "plan hash never compared".
    PlanHashNeverCompared,
    /// Rule 5: "plan overwritten".
    PlanOverwritten,
    /// Rule 5: "plan n+1 put while n is undecided".
    PlanWhileUndecided,
    /// Pruning: the newest decided seq goes too.
    PrunesNewest,
    /// Rule 3: "rebase without the seq check".
    RebaseWithoutSeqCheck,
    /// Rule 9: "delete before commit".
    ReclaimBeforeCommit,
    /// Rule 2: "a void's sources reclaimed".
    ReclaimVoid,
    /// Rule 5: "re-plan under the same seq".
    ReplanSameSeq,
    /// Rule 7: "skip a corrupt source but retire the plan".
    SkipCorruptSource,
    /// Orphans: "of all but the newest entry".
    SweepAllButNewest,
    /// Orphans: "of undecided seqs".
    SweepUndecided,
    /// Orphans: "by unreferenced", that is by what the log shows.
    SweepUnreferenced,
    /// Orphans: the table is not asked for the attempt that the decision names.
    SweepWithoutConfirmation,
    /// Reading: the view hides the files of every plan that is committed when the bucket is listed.
    ViewHidesLaterCommits,
    /// Reading: the view hides no file.
    ViewHidesNothing,
    /// Reading: the view hides the files of void plans.
    ViewHidesVoids,
    /// Rule 2: only the voider's own save brings the sources of a void back, and a crash forgets it.
    VoidBackByVoider,
    /// Rule 3: "a void that looks like an empty commit".
    VoidLikeEmptyCommit,
    /// Rule 4: "void without moving the reference".
    VoidWithoutEntry,
    /// Rule 9: outcome and attempt of the entry are not compared with the decision.
    WeakConfirmation,
}

/// The rules that are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mutants(u64);

impl Mutants {
    /// These.
    pub fn of(mutants: &[Mutant]) -> Self {
        Self(mutants.iter().fold(0, |all, mutant| all | 1 << *mutant as u64))
    }

    /// Whether the rule is left out.
    pub fn has(self, mutant: Mutant) -> bool {
        self.0 >> mutant as u64 & 1 == 1
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

const _: () = assert!(Mutant::ALL.len() <= 64);
