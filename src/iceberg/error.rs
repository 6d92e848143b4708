//! What can be wrong with a table's metadata, with fields; turned into [`Error`] at the edge of this room.

use super::transform::Transform;
use crate::error::{Error, ErrorKind};

#[derive(Debug, thiserror::Error)]
pub(super) enum SpecError {
    #[error("the table's metadata are not what the specification asks for: {rule}. in=`{part}`")]
    Broken { part: String, rule: String },
    #[error("the table has changed since the commit was made: {rule}. action=`{action}`")]
    Outdated { action: &'static str, rule: String },
    #[error("value does not fit its type: {rule}. type=`{data_type}`")]
    Datum { data_type: String, rule: &'static str },
    #[error("format version is not known here, 1 to 3 are. version=`{version}`")]
    FormatVersion { version: i64 },
    #[error("the table's metadata cannot be decoded. in=`{part}`")]
    Json {
        part: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the marker of a lane cannot be understood. property=`{property}` value=`{value}`")]
    Marker { property: String, value: String },
    #[error("the table is not as required. requirement=`{requirement}` expected=`{expected}` found=`{found}`")]
    Requirement {
        requirement: &'static str,
        expected: String,
        found: String,
    },
    #[error("transform is not known here or not for this type. transform=`{transform}` type=`{data_type}`")]
    Transform { transform: String, data_type: String },
    #[error("column is of a type that is not known here. column=`{column}` type=`{data_type}`")]
    UnknownType { column: String, data_type: String },
    #[error("change of the table's metadata is not possible: {rule}. action=`{action}`")]
    Update { action: &'static str, rule: String },
}

impl SpecError {
    pub(super) fn broken(part: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Broken {
            part: part.into(),
            rule: rule.into(),
        }
    }

    pub(super) fn json(part: impl Into<String>, source: serde_json::Error) -> Self {
        Self::Json {
            part: part.into(),
            source,
        }
    }

    /// Transforms of several columns are in the specification of version 3; none is known here.
    pub(super) fn of_several_columns(transform: &Transform) -> Self {
        Self::Transform {
            transform: transform.to_string(),
            data_type: "several columns".to_owned(),
        }
    }

    pub(super) fn update(action: &'static str, rule: impl Into<String>) -> Self {
        Self::Update {
            action,
            rule: rule.into(),
        }
    }
}

impl From<SpecError> for Error {
    fn from(error: SpecError) -> Self {
        let kind = match error {
            SpecError::Broken { .. }
            | SpecError::Datum { .. }
            | SpecError::Json { .. }
            | SpecError::Marker { .. }
            | SpecError::Update { .. } => ErrorKind::Invalid,
            SpecError::Outdated { .. } | SpecError::Requirement { .. } => ErrorKind::Conflict,
            SpecError::FormatVersion { .. } | SpecError::Transform { .. } | SpecError::UnknownType { .. } => {
                ErrorKind::Unsupported
            }
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
