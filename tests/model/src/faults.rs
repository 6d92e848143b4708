//! What may go wrong, and how often it may in one run.

use crate::names::WORKERS;
use crate::set::{By, Ordinal};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A kind of fault, or of a foreign hand.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        const FAULTS: &[Fault] = &[$(Fault::$name,)*];
        const COUNT: usize = FAULTS.len();
    };
}

faults! {
    /// The attempts of a plan are used up without a culprit.
    BrokenAttempt,
    /// The whole control prefix is lost.
    ControlLoss,
    /// A process dies.
    Crash,
    /// Somebody else commits to the table.
    ForeignCommit,
    /// One key of the state store goes back to what it held before.
    KeyRollback,
    /// The log of the table is cleaned, or its snapshots expire.
    LogCleaning,
    /// A request is not answered; it may be applied at any time, or never.
    LostAnswer,
    /// An operator goes through a door.
    Operator,
    /// Plans and decisions are lost, and the manifest is kept.
    PlansLoss,
    /// Events are delivered again.
    Redelivery,
    /// A writer puts other content under the key of a file.
    Replacement,
    /// A RESTORE takes the newest rows out and leaves the marker.
    Restore,
    /// The state store is lost.
    StateLoss,
    /// The table is set back together with its marker.
    TableRollback,
    /// A cleaner of the table deletes a data file that is in no entry.
    Vacuum,
    /// Somebody deletes a source file.
    Vanishing,
}

impl Ordinal for Fault {
    fn index(self) -> usize {
        self as usize
    }

    fn at(index: usize) -> Self {
        FAULTS.get(index).copied().unwrap_or(Self::Crash)
    }
}

/// How often each fault may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget(By<Fault, u8, COUNT>);

impl Budget {
    /// Each of these once for each time that it is named.
    pub fn of(faults: &[Fault]) -> Self {
        let mut budget = Self::default();
        for fault in faults {
            budget.0[*fault] += 1;
        }
        budget
    }

    /// Whether the fault may still happen.
    pub fn allows(&self, fault: Fault) -> bool {
        self.0[fault] > 0
    }

    /// Notes that it has happened.
    pub fn spend(&mut self, fault: Fault) {
        self.0[fault] = self.0[fault].saturating_sub(1);
    }
}

/// Workers in a run where nothing else is said.
pub const USUAL_WORKERS: usize = 2;
const _: () = assert!(USUAL_WORKERS <= WORKERS);
