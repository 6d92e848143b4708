//! What a manifest holds.

use std::collections::BTreeMap;

use super::error::ManifestError;
use crate::iceberg::datum::Datum;

/// A file in a manifest, and what a snapshot did with it.
///
/// As read, everything that is inherited has been filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestEntry {
    /// What the snapshot did with the file.
    pub status: EntryStatus,
    /// The snapshot that added the file, or, of a deleted one, deleted it.
    pub snapshot_id: i64,
    /// The data sequence number; `None` until the entry's manifest is in a list of manifests.
    pub sequence_number: Option<i64>,
    /// The sequence number of the snapshot that added the file.
    pub file_sequence_number: Option<i64>,
    /// The file.
    pub data_file: ManifestDataFile,
}

/// What a snapshot did with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryStatus {
    /// It was there before.
    Existing,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

impl EntryStatus {
    pub(super) fn code(self) -> i32 {
        match self {
            Self::Existing => 0,
            Self::Added => 1,
            Self::Deleted => 2,
        }
    }

    pub(super) fn parse(code: i32) -> Result<Self, ManifestError> {
        match code {
            0 => Ok(Self::Existing),
            1 => Ok(Self::Added),
            2 => Ok(Self::Deleted),
            value => Err(ManifestError::Enum {
                what: "status of a manifest's entry",
                value,
            }),
        }
    }
}

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileContent {
    /// Rows.
    #[default]
    Data,
    /// Positions of deleted rows, or a deletion vector.
    PositionDeletes,
    /// Values of deleted rows.
    EqualityDeletes,
}

impl FileContent {
    pub(super) fn code(self) -> i32 {
        match self {
            Self::Data => 0,
            Self::PositionDeletes => 1,
            Self::EqualityDeletes => 2,
        }
    }

    pub(super) fn parse(code: i32) -> Result<Self, ManifestError> {
        match code {
            0 => Ok(Self::Data),
            1 => Ok(Self::PositionDeletes),
            2 => Ok(Self::EqualityDeletes),
            value => Err(ManifestError::Enum {
                what: "content of a file",
                value,
            }),
        }
    }
}

/// A file of a table as manifests describe it (Iceberg specification, "Data File Fields").
///
/// Maps are by field id. What is empty or `None` is not known, or does not apply.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ManifestDataFile {
    /// What it holds.
    pub content: FileContent,
    /// Its full URI.
    pub file_path: String,
    /// `PARQUET`, `AVRO`, `ORC` or `PUFFIN`, in either case.
    pub file_format: String,
    /// One value per field of the partition spec, in its order.
    pub partition: Vec<Option<Datum>>,
    /// Rows.
    pub record_count: u64,
    /// Bytes.
    pub file_size: u64,
    /// Compressed bytes of each column.
    pub column_sizes: BTreeMap<i32, i64>,
    /// Values of each column, nulls and NaNs included.
    pub value_counts: BTreeMap<i32, i64>,
    /// Nulls of each column.
    pub null_value_counts: BTreeMap<i32, i64>,
    /// NaNs of each column.
    pub nan_value_counts: BTreeMap<i32, i64>,
    /// A value that no value of the column is below, as its bytes.
    pub lower_bounds: BTreeMap<i32, Vec<u8>>,
    /// A value that no value of the column is above, as its bytes.
    pub upper_bounds: BTreeMap<i32, Vec<u8>>,
    /// How it is encrypted.
    pub key_metadata: Option<Vec<u8>>,
    /// Where it can be split, ascending.
    pub split_offsets: Vec<i64>,
    /// The columns that an equality delete file compares.
    pub equality_ids: Vec<i32>,
    /// The sort order that its rows follow.
    pub sort_order_id: Option<i32>,
    /// The `_row_id` of its first row (v3).
    pub first_row_id: Option<i64>,
    /// The one data file whose rows it deletes.
    pub referenced_data_file: Option<String>,
    /// Where the deletion vector starts (v3).
    pub content_offset: Option<i64>,
    /// How long the deletion vector is (v3).
    pub content_size_in_bytes: Option<i64>,
}
