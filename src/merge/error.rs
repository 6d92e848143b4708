//! What can go wrong in a merge, and whose fault it is.

use crate::error::{Error, ErrorKind};
use crate::printable::printable;
use crate::quarantine::QuarantineReason;

/// Why a merge ended without an outcome. Nothing that it wrote is visible anywhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// The budget is too small for the inputs; with fewer inputs or a larger budget it would do.
    #[error("memory budget too small for the merge. needed=`{needed}` budget=`{budget}`")]
    Budget {
        /// Bytes that are needed at least.
        needed: u64,
        /// `memoryBudgetBytes`.
        budget: u64,
    },
    /// A bug in this crate.
    #[error("merge went wrong: {detail}", detail = printable(.detail))]
    Internal {
        /// What was found.
        detail: String,
    },
    /// The order or the options ask for something that cannot be.
    #[error("merge cannot be done: {detail}", detail = printable(.detail))]
    Invalid {
        /// What is wrong.
        detail: String,
    },
    /// An output could not be written.
    #[error("output could not be written")]
    Output {
        /// What the store said.
        source: Error,
    },
    /// Rows could not be put into partitions. Merged, they do not say of which input they are.
    #[error("rows cannot be partitioned")]
    Partition {
        /// What the partitioner said.
        source: Error,
    },
    /// An intermediate file could not be written or read.
    #[error("scratch file could not be written or read")]
    Scratch {
        /// What the store said.
        source: Error,
    },
    /// An input is bad: set it aside, merge the rest.
    #[error("input {index} is bad: {reason}")]
    Source {
        /// Its place among the inputs.
        index: usize,
        /// Why.
        reason: QuarantineReason,
    },
    /// The host's executor does not run the tasks that it is given: it has been shut down, or a task has panicked.
    #[error("the spawner does not run its tasks")]
    Spawner,
    /// An input could not be read now: try again later.
    #[error("input {index} could not be read")]
    SourceUnavailable {
        /// Its place among the inputs.
        index: usize,
        /// What the store said.
        source: Error,
    },
}

impl MergeError {
    /// What a host should do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Budget { .. } | Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Internal { .. } | Self::Spawner => ErrorKind::Internal,
            Self::Source { .. } => ErrorKind::Data,
            Self::Output { source }
            | Self::Partition { source }
            | Self::Scratch { source }
            | Self::SourceUnavailable { source, .. } => source.kind(),
        }
    }

    pub(super) fn internal(detail: impl std::fmt::Display) -> Self {
        Self::Internal {
            detail: detail.to_string(),
        }
    }
}

impl From<MergeError> for Error {
    fn from(error: MergeError) -> Self {
        Self::wrap(error.kind(), error)
    }
}

/// Why a source could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is bad, and will be so next time.
    #[error(transparent)]
    Bad(#[from] QuarantineReason),
    /// The store did not answer as it should.
    #[error(transparent)]
    Unavailable(Error),
}

impl SourceError {
    pub(super) fn at(self, index: usize) -> MergeError {
        match self {
            Self::Bad(reason) => MergeError::Source { index, reason },
            Self::Unavailable(source) => MergeError::SourceUnavailable { index, source },
        }
    }
}
