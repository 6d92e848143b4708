//! What a manifest list holds.

use crate::iceberg::manifest::ManifestError;

/// A manifest as lists describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    /// Its full URI.
    pub path: String,
    /// Its bytes.
    pub length: u64,
    /// The partition spec of its files.
    pub partition_spec_id: i32,
    /// What its files hold.
    pub content: ManifestContent,
    /// The sequence number of the snapshot that added it; `None` until it is in a list.
    pub sequence_number: Option<i64>,
    /// The least data sequence number of its live files; `None` if that is the number it will get in a list.
    pub min_sequence_number: Option<i64>,
    /// The snapshot that added it.
    pub added_snapshot_id: i64,
    /// Its files that are new; `None`, as the other counts, if a writer of v1 has not said.
    pub added_files_count: Option<u32>,
    /// Its files that were there before.
    pub existing_files_count: Option<u32>,
    /// Its files that are gone.
    pub deleted_files_count: Option<u32>,
    /// Rows of the files that are new.
    pub added_rows_count: Option<u64>,
    /// Rows of the files that were there before.
    pub existing_rows_count: Option<u64>,
    /// Rows of the files that are gone.
    pub deleted_rows_count: Option<u64>,
    /// One summary per field of the partition spec, in its order; `None` if a writer has left them out.
    pub partitions: Option<Vec<FieldSummary>>,
    /// How it is encrypted.
    pub key_metadata: Option<Vec<u8>>,
    /// The `_row_id` of the first row of its files that have none of their own (v3).
    pub first_row_id: Option<i64>,
}

impl ManifestFile {
    /// Whether it may have files that are not deleted. One that does not say has some.
    pub fn has_live_files(&self) -> bool {
        self.added_files_count != Some(0) || self.existing_files_count != Some(0)
    }
}

/// What the files of a manifest hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ManifestContent {
    /// Rows.
    #[default]
    Data,
    /// Deletes of rows.
    Deletes,
}

impl ManifestContent {
    pub(super) fn code(self) -> i32 {
        match self {
            Self::Data => 0,
            Self::Deletes => 1,
        }
    }

    pub(super) fn parse(code: i32) -> Result<Self, ManifestError> {
        match code {
            0 => Ok(Self::Data),
            1 => Ok(Self::Deletes),
            value => Err(ManifestError::Enum {
                what: "content of a manifest",
                value,
            }),
        }
    }
}

/// What the partitions of a manifest's files have in one field (Iceberg specification, `field_summary`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSummary {
    /// Whether one has no value there.
    pub contains_null: bool,
    /// Whether one has NaN there; `None` if a writer has not said.
    pub contains_nan: Option<bool>,
    /// The least value, null and NaN apart, as its bytes.
    pub lower_bound: Option<Vec<u8>>,
    /// The greatest value, null and NaN apart, as its bytes.
    pub upper_bound: Option<Vec<u8>>,
}
