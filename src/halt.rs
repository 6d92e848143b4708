//! Why a lane stands still until somebody looks at it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::ids::{LaneId, Seq};
use crate::printable::printable;

/// A typed reason for which a lane does no new work. Other lanes go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
#[non_exhaustive]
pub enum Halt {
    /// The plan register is not whole, or the table belongs to another register.
    #[error("plan register lost: {detail}; `adopt` or `replay` goes on", detail = printable(.detail))]
    RegisterLost {
        /// What is missing.
        detail: String,
    },
    /// The plan register and the table, or two objects of the register, contradict each other.
    #[error("plan register wrong: {detail}; `adopt` or `replay` goes on. seq=`{seq}`", detail = printable(.detail))]
    RegisterWrong {
        /// Where.
        seq: Seq,
        /// How.
        detail: String,
    },
    /// The tables are of another format than the settings ask for.
    #[error(
        "the tables are not of the format that the settings ask for: set `targetFormat`, or give tables of that format. \
         targetFormat=`{target}` tables=`{tables}`",
        target = printable(.target), tables = printable(.tables)
    )]
    FormatDiffers {
        /// `targetFormat` of the settings.
        target: String,
        /// The format that the provider's table names.
        tables: String,
    },
    /// What is kept of the lane was written by a later release.
    #[error(
        "what is kept of the lane is of a later release than this one: upgrade. {detail}",
        detail = printable(.detail)
    )]
    LaterRelease {
        /// What cannot be read.
        detail: String,
    },
    /// The lane was made with other settings, and has plans.
    #[error(
        "settings differ from those the lane was made with: put them back, or `adopt` goes on with the new ones. \
         field=`{field}` lane=`{lane}` now=`{now}`",
        field = printable(.field), lane = printable(.lane), now = printable(.now)
    )]
    SettingsChanged {
        /// The setting.
        field: String,
        /// Its value in the lane's manifest.
        lane: String,
        /// Its value in this run.
        now: String,
    },
    /// Another lane has taken this one's place: an operator has adopted the table, or other settings were taken
    /// before its first plan.
    #[error("the lane has ended and another one has its table: open the compactor again. lane=`{lane}`")]
    Superseded {
        /// This lane.
        lane: LaneId,
    },
    /// The namespace's table lies at, above or below that of a namespace that came first.
    #[error("the table's place overlaps that of another namespace. other=`{other}`", other = printable(.other))]
    TableRootOverlap {
        /// The other namespace.
        other: String,
    },
    /// The table does not show what the register says it held.
    #[error(
        "table rolled back: {detail}; `replay` puts in again what is missing, `adopt` takes the table as it is",
        detail = printable(.detail)
    )]
    TableRolledBack {
        /// What is missing.
        detail: String,
    },
    /// The table cannot be written.
    #[error("table cannot be written: {detail}", detail = printable(.detail))]
    TableTrouble {
        /// What the sink said.
        detail: String,
    },
}

impl Halt {
    /// Whether only `adopt` or `replay` goes on; other halts end when their cause is mended.
    pub fn needs_operator(&self) -> bool {
        matches!(
            self,
            Self::RegisterLost { .. }
                | Self::RegisterWrong { .. }
                | Self::Superseded { .. }
                | Self::TableRolledBack { .. }
        )
    }
}

/// Why a step of a lane did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaneError {
    /// The lane stands still.
    #[error(transparent)]
    Halted(#[from] Halt),
    /// The step failed; it is tried again.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl LaneError {
    /// Whether the table does not show an entry that was in it.
    pub(crate) fn is_refuted(&self) -> bool {
        matches!(self, Self::Halted(Halt::TableRolledBack { .. }))
    }

    /// Whether an object that was read is gone, wrong or damaged: to read it again does not help.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Halted(_) => true,
            Self::Failed(error) => error.kind() == ErrorKind::Data,
        }
    }
}

impl From<LaneError> for Error {
    fn from(error: LaneError) -> Self {
        match error {
            // Wrong wiring, for the host to correct.
            LaneError::Halted(halt @ Halt::FormatDiffers { .. }) => Self::wrap(ErrorKind::Invalid, halt),
            LaneError::Halted(halt) => Self::wrap(ErrorKind::Halted, halt),
            LaneError::Failed(error) => error,
        }
    }
}
