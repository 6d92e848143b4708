//! Keys of source files: what they are made of, and the grammar that reads them.

mod default;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::printable::printable;
use crate::time::Timestamp;

pub use default::DefaultFileNames;

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes `text` as it is.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text_newtype! {
    /// The part of a key between the watched prefix and the file name; may be nested (`eu/users`).
    Namespace
}

text_newtype! {
    /// The id of a writer, as its keys carry it.
    WriterId
}

text_newtype! {
    /// The whole key of an object in the watched bucket, as opaque text: never decoded, never changed.
    ObjectKey
}

/// An entity tag. Compared without quotes and without `W/`, since services differ in both; kept as the
/// store gave it, since a conditional read must repeat it exactly.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ETag(String);

impl ETag {
    /// Takes a tag as a store or an event gave it.
    pub fn new(raw: impl Into<String>) -> Self {
        Self(raw.into())
    }

    /// The tag as it was given.
    pub fn raw(&self) -> &str {
        &self.0
    }

    fn bare(&self) -> &str {
        self.0.trim().trim_start_matches("W/").trim_matches('"')
    }
}

impl PartialEq for ETag {
    fn eq(&self, other: &Self) -> bool {
        self.bare() == other.bare()
    }
}

impl Eq for ETag {}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.bare())
    }
}

/// What a source file's key says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileName {
    /// Which table it belongs to.
    pub namespace: Namespace,
    /// The time that decides its window.
    pub timestamp: Timestamp,
    /// Who wrote it.
    pub writer: WriterId,
    /// Its place among the writer's files.
    pub sequence: u64,
}

/// A raw Parquet file whose key parsed. Its identity is (key, etag); size and etag are hints until the
/// object store itself has been asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceFile {
    /// The whole key.
    pub key: ObjectKey,
    /// What the key says.
    #[serde(flatten)]
    pub name: FileName,
    /// Bytes, 0 when not known.
    pub size: u64,
    /// The entity tag, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<ETag>,
}

impl SourceFile {
    /// The one order of files: time, then writer, then sequence, then key.
    pub fn order(&self) -> (Timestamp, &WriterId, u64, &ObjectKey) {
        (self.name.timestamp, &self.name.writer, self.name.sequence, &self.key)
    }
}

/// Why a key is not a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotSourceFile {
    /// Under the prefix and ending in `.parquet`, but its name is wrong: it goes to quarantine, so that a
    /// misconfigured writer is seen.
    Malformed(BadName),
    /// Not under the watched prefix.
    OutsidePrefix,
    /// Something else under the prefix: counted and forgotten.
    Unrelated,
}

/// What is wrong with a source file's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum BadName {
    /// The namespace is empty or not usable as a table name.
    #[error("bad namespace: {rule}. namespace=`{namespace}`", namespace = printable(.namespace))]
    BadNamespace {
        /// As found.
        namespace: String,
        /// The rule it breaks.
        rule: String,
    },
    /// The sequence is not a number, or beyond 64 bits.
    #[error(
        "bad sequence: ASCII digits, at most {max} (64 bits). sequence=`{sequence}`",
        max = u64::MAX, sequence = printable(.sequence)
    )]
    BadSequence {
        /// As found.
        sequence: String,
    },
    /// The timestamp is not a number, or not one of this century in the configured unit.
    #[error("bad timestamp: {hint}. timestamp=`{timestamp}`", timestamp = printable(.timestamp))]
    BadTimestamp {
        /// As found.
        timestamp: String,
        /// The rule, or which unit would fit.
        hint: String,
    },
    /// The name has not the three parts `{timestamp}-{writerId}-{sequence}.parquet`.
    #[error(
        "bad name: must be {{timestamp}}-{{writerId}}-{{sequence}}.parquet. name=`{name}`",
        name = printable(.name)
    )]
    BadShape {
        /// As found.
        name: String,
    },
    /// The writer id is empty, too long or has control characters.
    #[error("bad writer id: 1 to 256 bytes without control characters. writer=`{writer}`", writer = printable(.writer))]
    BadWriter {
        /// As found.
        writer: String,
    },
}

/// The grammar of source keys. [`DefaultFileNames`](crate::DefaultFileNames) is the guide's; a host with
/// other names brings its own.
///
/// Parsing must be total and pure: the same key gives the same answer for ever, since windows and
/// membership follow from it.
pub trait FileNameParser: fmt::Debug + Send + Sync + 'static {
    /// Reads a key.
    ///
    /// # Errors
    ///
    /// [`NotSourceFile`] says whether the key is to be set aside or ignored.
    fn parse(&self, key: &ObjectKey) -> Result<FileName, NotSourceFile>;

    /// The prefix under which all keys lie, `""` or ending in `/`: what a listing lists.
    fn prefix(&self) -> &str;

    /// A prefix under which all keys of `namespace` lie, as narrow as the grammar allows; [`prefix`](Self::prefix)
    /// is always right.
    fn prefix_of(&self, namespace: &Namespace) -> String;

    /// A short text that names the grammar and its settings. It is written into every lane's manifest, and
    /// a run whose text differs is refused.
    fn grammar(&self) -> String;
}

impl<T: FileNameParser + ?Sized> FileNameParser for std::sync::Arc<T> {
    fn parse(&self, key: &ObjectKey) -> Result<FileName, NotSourceFile> {
        (**self).parse(key)
    }

    fn prefix(&self) -> &str {
        (**self).prefix()
    }

    fn prefix_of(&self, namespace: &Namespace) -> String {
        (**self).prefix_of(namespace)
    }

    fn grammar(&self) -> String {
        (**self).grammar()
    }
}
