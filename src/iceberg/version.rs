//! Versions of the table format (Iceberg specification, "Format Versioning").

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::SpecError;
use crate::error::Error;

/// Version of a table's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u8")]
#[non_exhaustive]
pub enum FormatVersion {
    /// Analytic data tables.
    V1,
    /// Row-level deletes, sequence numbers.
    #[default]
    V2,
    /// Nanoseconds, default values, row lineage.
    V3,
}

impl FormatVersion {
    /// The version as it stands in the metadata.
    pub fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

impl From<FormatVersion> for u8 {
    fn from(version: FormatVersion) -> Self {
        version.number()
    }
}

impl TryFrom<i64> for FormatVersion {
    type Error = Error;

    /// # Errors
    ///
    /// `Unsupported` for anything but 1, 2 and 3.
    fn try_from(version: i64) -> Result<Self, Error> {
        match version {
            1 => Ok(Self::V1),
            2 => Ok(Self::V2),
            3 => Ok(Self::V3),
            version => Err(SpecError::FormatVersion { version }.into()),
        }
    }
}

impl fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}
