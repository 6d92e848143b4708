//! What is saved of the tracker between runs: one value per window, one per roster.

use serde::{Deserialize, Serialize};

use super::pending::{ArrivedBy, PendingFile};
use crate::naming::{ETag, FileName, Namespace, ObjectKey, SourceFile, WriterId};
use crate::status::Readiness;
use crate::time::Timestamp;

/// A value of the tracker that is saved by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrackerKey {
    /// The writers of a namespace.
    Roster {
        /// Which.
        namespace: Namespace,
    },
    /// The pending files of a window.
    Window {
        /// In this namespace.
        namespace: Namespace,
        /// That starts here.
        start: Timestamp,
    },
}

impl TrackerKey {
    /// The namespace that it is of.
    pub fn namespace(&self) -> &Namespace {
        match self {
            Self::Roster { namespace } | Self::Window { namespace, .. } => namespace,
        }
    }
}

/// The pending files of a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowRecord {
    /// Start of the window.
    pub start: Timestamp,
    /// How often it has been planned and committed.
    pub generation: u64,
    /// The rest of a plan that was cut: the minimum does not apply.
    #[serde(default, skip_serializing_if = "is_false")]
    pub exempt: bool,
    /// The rest of a plan that was cut: why that was ready, and so is what it left over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest_of: Option<Readiness>,
    /// An earlier plan came to nothing: to be planned at once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub voided: bool,
    /// The files, in order.
    pub files: Vec<FileRecord>,
}

/// A pending file, without the namespace, which its window's key names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileRecord {
    /// The whole key.
    pub key: ObjectKey,
    /// What it says.
    pub timestamp: Timestamp,
    /// What it says.
    pub writer: WriterId,
    /// What it says.
    pub sequence: u64,
    /// Bytes, 0 when not known.
    pub size: u64,
    /// The entity tag, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<ETag>,
    /// When it first arrived.
    pub seen: Timestamp,
    /// How it first arrived.
    #[serde(default)]
    pub by: ArrivedBy,
    /// When size and etag were observed.
    pub observed: Timestamp,
}

impl FileRecord {
    pub(super) fn order(&self) -> (Timestamp, &WriterId, u64, &ObjectKey) {
        (self.timestamp, &self.writer, self.sequence, &self.key)
    }

    pub(super) fn of(pending: &PendingFile) -> Self {
        let SourceFile { key, name, size, etag } = &pending.file;
        Self {
            key: key.clone(),
            timestamp: name.timestamp,
            writer: name.writer.clone(),
            sequence: name.sequence,
            size: *size,
            etag: etag.clone(),
            seen: pending.seen,
            by: pending.by,
            observed: pending.observed,
        }
    }

    pub(super) fn into_pending(self, namespace: &Namespace) -> PendingFile {
        PendingFile {
            file: SourceFile {
                key: self.key,
                name: FileName {
                    namespace: namespace.clone(),
                    timestamp: self.timestamp,
                    writer: self.writer,
                    sequence: self.sequence,
                },
                size: self.size,
                etag: self.etag,
            },
            seen: self.seen,
            by: self.by,
            observed: self.observed,
        }
    }
}

/// The writers of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RosterRecord {
    /// The writers, by id.
    pub writers: Vec<WriterRecord>,
    /// When the last writer was seen that did not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgotten: Option<Timestamp>,
}

/// A writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriterRecord {
    /// Its id.
    pub id: WriterId,
    /// When it last showed a new file.
    pub last_seen: Timestamp,
    /// The largest timestamp of its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(flag: &bool) -> bool {
    !flag
}
