//! What can be wrong with a table's log, with fields; turned into [`Error`] at the edge of this room.

use crate::error::{Error, ErrorKind};

#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error("checkpoint cannot be decoded. object=`{object}`")]
    Checkpoint {
        object: String,
        #[source]
        source: parquet::errors::ParquetError,
    },
    #[error("checkpoint action cannot be understood. object=`{object}`")]
    CheckpointAction {
        object: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("commit cannot be decoded. line=`{line}`")]
    Commit {
        line: usize,
        #[source]
        source: serde_json::Error,
    },
    #[error("commit holds no action")]
    EmptyCommit,
    #[error("the table's log has a gap. missing=`{missing}` newest=`{newest}`")]
    Gap { missing: u64, newest: u64 },
    #[error("the marker of a lane is not complete. txn=`{app_id}`")]
    Marker { app_id: String },
    #[error("the log does not say what the table is. missing=`{action}` version=`{version}`")]
    Missing { action: &'static str, version: u64 },
    #[error("object changed or was cut while it was read. object=`{object}`")]
    Torn { object: String },
    #[error("the table's schema cannot be understood: {rule}. column=`{column}`")]
    Schema { rule: String, column: String },
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Self {
        let kind = match error {
            LogError::Torn { .. } => ErrorKind::Unavailable,
            LogError::Schema { .. } => ErrorKind::Unsupported,
            LogError::Checkpoint { .. }
            | LogError::CheckpointAction { .. }
            | LogError::Commit { .. }
            | LogError::EmptyCommit
            | LogError::Gap { .. }
            | LogError::Marker { .. }
            | LogError::Missing { .. } => ErrorKind::Invalid,
        };
        Self::wrap(kind, error)
    }
}

/// The table, or what is to be put into it, asks for something that is not done here.
pub(super) fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}

/// A setting or an argument is wrong.
pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
