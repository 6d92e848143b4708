//! Why a source is set aside.

use serde::{Deserialize, Serialize};

use crate::naming::BadName;
use crate::printable::printable;
use crate::time::Timestamp;

/// Longest text of a reason that is remembered.
const MAX_TEXT_BYTES: usize = 1 << 10;

/// The typed reason for which a source is in quarantine: kept in the bucket, listed in the status, never
/// skipped in silence. An operator releases or discards it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
#[non_exhaustive]
pub enum QuarantineReason {
    /// It belongs to a window whose plans have been forgotten, so nobody can tell whether it is in the table.
    #[error(
        "older than what is remembered of this namespace: it cannot be told whether its rows are in the table. boundary=`{boundary}`"
    )]
    BelowBoundary {
        /// End of the newest forgotten window.
        boundary: Timestamp,
    },
    /// Its codec is not compiled in.
    #[error("codec {codec}: enable feature {feature}", codec = printable(.codec))]
    CodecUnavailable {
        /// The codec.
        codec: String,
        /// The crate feature that reads it.
        feature: String,
    },
    /// It is not readable as Parquet.
    #[error("corrupt: {detail}", detail = printable(.detail))]
    Corrupt {
        /// What the reader said.
        detail: String,
    },
    /// It is encrypted.
    #[error("encrypted files are not supported")]
    Encrypted,
    /// A value cannot be held by the table without loss.
    #[error(
        "a value cannot be held without loss. column=`{column}` value=`{value}` type=`{data_type}`",
        column = printable(.column), value = printable(.value), data_type = printable(.data_type)
    )]
    LossyValue {
        /// The column.
        column: String,
        /// The value.
        value: String,
        /// The type that cannot hold it.
        data_type: String,
    },
    /// Its name is wrong.
    #[error("{name}")]
    Malformed {
        /// What is wrong.
        name: BadName,
    },
    /// A row of it is in no partition of the table.
    #[error("a row is in no partition of the table: {detail}", detail = printable(.detail))]
    NoPartition {
        /// What the table's way of partitioning said.
        detail: String,
    },
    /// Its content changed after it was taken up.
    #[error(
        "replaced by other content after it was taken up. planned=`{planned}` found=`{found}`",
        planned = printable(.planned), found = printable(.found)
    )]
    Replaced {
        /// Entity tag that was taken up.
        planned: String,
        /// Entity tag found.
        found: String,
    },
    /// Its schema does not fit the table's or the other files'.
    #[error(
        "schema drift: {rule}. column=`{column}` found=`{found}` expected=`{expected}`",
        column = printable(.column), found = printable(.found), expected = printable(.expected), rule = printable(.rule)
    )]
    SchemaDrift {
        /// The column.
        column: String,
        /// Its type in the file.
        found: String,
        /// The type asked for.
        expected: String,
        /// The rule it breaks.
        rule: String,
    },
    /// Another namespace's table already lies there, above or below.
    #[error("the table's place overlaps that of another namespace. other=`{other}`", other = printable(.other))]
    TableRootOverlap {
        /// The namespace that came first.
        other: String,
    },
    /// It asks for more than a limit allows.
    #[error("too large: {what}. value=`{value}` limit=`{limit}`", value = printable(.value))]
    TooLarge {
        /// What is too large.
        what: String,
        /// How large.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// It alone could not be read for a long time; it is tried again daily.
    #[error("unreadable since {since}: {detail}", detail = printable(.detail))]
    Unreadable {
        /// Since when.
        since: Timestamp,
        /// What the store said last.
        detail: String,
    },
    /// Its rows are not in the declared order.
    #[error("not in the declared sort order, in which nulls are last. row=`{row}`")]
    Unsorted {
        /// The first row that is smaller than the one before it.
        row: u64,
    },
    /// A column is of a type that the table format cannot hold.
    #[error(
        "type not supported by the table format. column=`{column}` type=`{data_type}`",
        column = printable(.column), data_type = printable(.data_type)
    )]
    UnsupportedType {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
    },
    /// After it was merged it was uploaded again, by all that is compared the same: its rows are in the table. It is
    /// not deleted, since size and footer say little of values.
    #[error(
        "uploaded again after it was merged, with the same size and footer: its rows are in the table already. planned=`{planned}` found=`{found}`",
        planned = printable(.planned), found = printable(.found)
    )]
    UploadedAgain {
        /// Entity tag of the content that was merged.
        planned: String,
        /// Entity tag found.
        found: String,
    },
    /// It was gone before it was read.
    #[error("vanished before it was read")]
    Vanished,
}

impl QuarantineReason {
    /// A corrupt file, in the words of whatever refused it.
    pub fn corrupt(detail: impl std::fmt::Display) -> Self {
        Self::Corrupt {
            detail: detail.to_string(),
        }
    }

    /// The same with no text longer than it needs to be understood: names and values are the writer's, of any length,
    /// and what is remembered has little room.
    pub(crate) fn shortened(mut self) -> Self {
        for text in self.texts() {
            if text.len() > MAX_TEXT_BYTES {
                let end = (0..=MAX_TEXT_BYTES).rev().find(|end| text.is_char_boundary(*end));
                text.truncate(end.unwrap_or(0));
                text.push_str(" ...");
            }
        }
        self
    }

    /// What comes from a file or a store.
    fn texts(&mut self) -> Vec<&mut String> {
        match self {
            Self::Corrupt { detail } | Self::NoPartition { detail } | Self::Unreadable { detail, .. } => vec![detail],
            Self::LossyValue {
                column,
                value,
                data_type,
            } => vec![column, value, data_type],
            Self::SchemaDrift {
                column,
                found,
                expected,
                rule,
            } => vec![column, found, expected, rule],
            Self::UnsupportedType { column, data_type } => vec![column, data_type],
            Self::BelowBoundary { .. }
            | Self::CodecUnavailable { .. }
            | Self::Encrypted
            | Self::Malformed { .. }
            | Self::Replaced { .. }
            | Self::TableRootOverlap { .. }
            | Self::TooLarge { .. }
            | Self::Unsorted { .. }
            | Self::UploadedAgain { .. }
            | Self::Vanished => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = QuarantineReason::corrupt(format!("{}\u{e9}{}", "x".repeat(MAX_TEXT_BYTES - 1), "y".repeat(100)));
        let short = format!("{} ...", "x".repeat(MAX_TEXT_BYTES - 1));
        assert_eq!(long.shortened(), QuarantineReason::corrupt(short));
        let told = QuarantineReason::corrupt("as it is");
        assert_eq!(told.clone().shortened(), told);
    }
}
