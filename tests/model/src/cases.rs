//! Which rules are left out together, in which configuration, and what must come of it.

use crate::config::Config;
#[allow(clippy::enum_glob_use, reason = "the table below is of nothing else")]
use crate::mutants::Mutant::{self, *};
use crate::properties::{
    FILES_KEPT, GOAL_IN_REACH, GRACE_KEPT, NO_FALSE_HALT, NO_ROW_LOST, NO_ROW_TWICE, NONE_FORGOTTEN, VIEW_ONCE,
    VIEW_WHOLE,
};

/// Rules left out in a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// In which configuration.
    pub config: &'static str,
    /// What is left out. Where two rules guard the same thing, both are.
    pub mutants: &'static [Mutant],
    /// What breaks; nothing where another rule guards the same thing.
    pub breaks: Option<&'static str>,
}

impl Case {
    /// Its configuration.
    ///
    /// # Panics
    ///
    /// When the case names one that is not there, which nothing else would tell.
    #[expect(clippy::panic, reason = "a case without its configuration is a mistake in this file")]
    pub fn configuration(&self) -> &'static Config {
        Config::named(self.config).unwrap_or_else(|| panic!("no such configuration: {}", self.config))
    }
}

const fn breaks(config: &'static str, mutants: &'static [Mutant], property: &'static str) -> Case {
    Case {
        config,
        mutants,
        breaks: Some(property),
    }
}

const fn survives(config: &'static str, mutants: &'static [Mutant]) -> Case {
    Case {
        config,
        mutants,
        breaks: None,
    }
}

/// All of them.
pub const CASES: &[Case] = &[
    // Commit.
    breaks("plain", &[BlindRetry], NO_ROW_TWICE),
    breaks("plain", &[ErrorTakenForSuccess], NO_FALSE_HALT),
    breaks("plain", &[CommitOnStaleBase], NO_ROW_TWICE),
    breaks("plain", &[RebaseWithoutSeqCheck], NO_ROW_TWICE),
    breaks("plain", &[OwnPlanForObserved], NO_FALSE_HALT),
    breaks("log", &[MarkerExpires], NO_ROW_TWICE),
    // Voids and bad sources.
    breaks("void", &[SkipCorruptSource], NO_ROW_LOST),
    breaks("broken", &[VoidWithoutEntry], NO_FALSE_HALT),
    breaks(
        "broken",
        &[VoidWithoutEntry, NoRollbackCheck, MarkerNeverCompared],
        NO_FALSE_HALT,
    ),
    breaks("void", &[ReclaimVoid], NO_ROW_LOST),
    breaks("void", &[VoidLikeEmptyCommit], NO_ROW_LOST),
    breaks("two-bad", &[VoidBackByVoider, NoReconcile], GOAL_IN_REACH),
    survives("two-bad", &[VoidBackByVoider]),
    // The register.
    breaks("vanished", &[ReplanSameSeq], NO_FALSE_HALT),
    breaks("plain", &[PlanOverwritten], NONE_FORGOTTEN),
    breaks("plain", &[PlanOverwritten, PlanHashNeverCompared], NONE_FORGOTTEN),
    breaks("keys", &[MembershipFromState], NO_ROW_TWICE),
    breaks("keys", &[IndexApart], NO_ROW_TWICE),
    breaks("state", &[NextSeqAfterMarker], NO_ROW_TWICE),
    breaks("log", &[PlanWhileUndecided, NoDurableDecision], NO_FALSE_HALT),
    survives("log", &[PlanWhileUndecided]),
    survives("log", &[NoDurableDecision]),
    breaks("control", &[PlanHashNeverCompared, AnyLane], NO_ROW_LOST),
    breaks("plans", &[PlanHashNeverCompared], NO_ROW_LOST),
    breaks("plans", &[MarkerNeverCompared, DecisionNeverCompared], NO_ROW_TWICE),
    survives("plans", &[MarkerNeverCompared]),
    survives("plans", &[DecisionNeverCompared]),
    breaks("plans", &[NoPlanChain, PlanWhileUndecided], NO_ROW_TWICE),
    survives("plans", &[NoPlanChain]),
    breaks("plans", &[NoPlanCheck, PlanHashNeverCompared], NO_ROW_LOST),
    survives("plans", &[NoPlanCheck]),
    survives("control", &[AnyLane]),
    survives("rollback", &[NoRollbackCheck]),
    // State.
    breaks("state", &[NoReconcile], GOAL_IN_REACH),
    breaks("keys", &[NoReconcile], GOAL_IN_REACH),
    breaks("plain", &[AckBeforeSave], NONE_FORGOTTEN),
    breaks("plain", &[LateFileDropped], NONE_FORGOTTEN),
    // Reclaim.
    breaks("plain", &[ReclaimBeforeCommit], NO_FALSE_HALT),
    breaks("plain", &[ReclaimBeforeCommit, NoConfirmation], NO_ROW_LOST),
    breaks("restore", &[NoConfirmation], NO_ROW_LOST),
    breaks("rollback", &[NoConfirmation], NO_ROW_LOST),
    breaks("rollback-broken", &[WeakConfirmation, MarkerNeverCompared], NO_ROW_LOST),
    breaks("grace", &[GraceDoesNotWait], GRACE_KEPT),
    breaks("replaced", &[EtagNotCompared], NO_ROW_LOST),
    // Orphans.
    breaks("sweep", &[SweepUndecided], FILES_KEPT),
    breaks("sweep", &[SweepUnreferenced], FILES_KEPT),
    breaks("sweep", &[SweepAllButNewest], FILES_KEPT),
    breaks("rollback-sweep", &[SweepWithoutConfirmation], FILES_KEPT),
    breaks("vacuum", &[OutputsNotLookedFor], FILES_KEPT),
    // Names.
    breaks("door-control", &[ControlNamesWithoutLane], NO_ROW_TWICE),
    breaks("door-sweep", &[OutputNamesWithoutLane], FILES_KEPT),
    // Pruning.
    breaks("prune", &[NoFloor], NO_FALSE_HALT),
    breaks("prune", &[FloorInState], NO_FALSE_HALT),
    breaks("prune", &[FloorAfterwards], NO_FALSE_HALT),
    breaks("prune", &[PrunesNewest, FloorWithoutHash], NO_FALSE_HALT),
    survives("prune", &[PrunesNewest]),
    survives("prune", &[FloorWithoutHash]),
    // Reading.
    breaks("view", &[ViewHidesNothing], VIEW_ONCE),
    breaks("view", &[ViewHidesLaterCommits], VIEW_WHOLE),
    breaks("view-void", &[ViewHidesVoids], VIEW_WHOLE),
    breaks("view", &[GraceDoesNotWait], GRACE_KEPT),
];
