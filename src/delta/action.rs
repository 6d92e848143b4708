//! The actions of a Delta log, as they stand in commits (Delta protocol, "Actions").

use std::collections::BTreeMap;
use std::fmt::Write as _;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::error::LogError;
use crate::error::{Error, ErrorKind, Result};

/// One action of a commit. Actions and fields that are not known are skipped when reading, as the protocol
/// asks ("Protocol Evolution"); the feature gate keeps us from tables where that would matter.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Action {
    /// A file that is in the table from now on.
    Add(Add),
    /// What made the commit, and how.
    CommitInfo(CommitInfo),
    /// The configuration of a metadata domain.
    DomainMetadata(DomainMetadata),
    /// Schema and properties of the table.
    MetaData(Metadata),
    /// What a reader and a writer must be able to do.
    Protocol(Protocol),
    /// A file that is not in the table any more.
    Remove(Remove),
    /// The progress of an application.
    Txn(Txn),
}

impl Action {
    /// The path of a file.
    pub(super) fn path(&self) -> Option<&str> {
        match self {
            Self::Add(add) => Some(&add.path),
            Self::Remove(remove) => Some(&remove.path),
            _ => None,
        }
    }

    /// Reads the actions of a commit object, one JSON object a line.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when it is not such an object: the table's log is damaged.
    pub fn parse_commit(bytes: &[u8]) -> Result<Vec<Self>> {
        let mut actions = Vec::new();
        let mut lines = 0_usize;
        for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            lines += 1;
            actions.extend(Self::parse_line(index + 1, line)?);
        }
        if lines == 0 {
            return Err(LogError::EmptyCommit.into());
        }
        Ok(actions)
    }

    /// Reads a line, whose number is for errors. It should hold one action.
    pub(super) fn parse_line(number: usize, line: &[u8]) -> Result<Vec<Self>> {
        let mut actions = Vec::new();
        let (add, remove) = decode_line::<Line<Add, Remove>>(number, line)?.split(&mut actions);
        actions.extend(add.map(Self::Add));
        actions.extend(remove.map(Self::Remove));
        Ok(actions)
    }

    /// As [`parse_line`](Self::parse_line), but passes over files.
    pub(super) fn parse_state_line(number: usize, line: &[u8]) -> Result<Vec<Self>> {
        let mut actions = Vec::new();
        let _ = decode_line::<Line<IgnoredAny, IgnoredAny>>(number, line)?.split(&mut actions);
        Ok(actions)
    }

    /// The bytes of a commit object.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] when an action cannot be encoded: a bug.
    pub fn encode_commit(actions: &[Self]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for action in actions {
            serde_json::to_writer(&mut bytes, action)
                .map_err(|e| Error::new(ErrorKind::Internal, "action cannot be encoded").with_source(e))?;
            bytes.push(b'\n');
        }
        Ok(bytes)
    }
}

fn decode_line<'a, T: Deserialize<'a>>(number: usize, line: &'a [u8]) -> Result<T> {
    serde_json::from_slice(line).map_err(|source| LogError::Commit { line: number, source }.into())
}

/// What may stand in a line, files as `A` and `R`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<A, R> {
    add: Option<A>,
    commit_info: Option<CommitInfo>,
    domain_metadata: Option<DomainMetadata>,
    meta_data: Option<Metadata>,
    protocol: Option<Protocol>,
    remove: Option<R>,
    txn: Option<Txn>,
}

impl<A, R> Line<A, R> {
    /// What is not a file goes to `actions`.
    fn split(self, actions: &mut Vec<Action>) -> (Option<A>, Option<R>) {
        actions.extend(self.commit_info.map(Action::CommitInfo));
        actions.extend(self.domain_metadata.map(Action::DomainMetadata));
        actions.extend(self.meta_data.map(Action::MetaData));
        actions.extend(self.protocol.map(Action::Protocol));
        actions.extend(self.txn.map(Action::Txn));
        (self.add, self.remove)
    }
}

/// A logical file of the table (Delta protocol, "Add File and Remove File").
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Add {
    /// URI of the file, relative to the table's root unless absolute.
    pub path: String,
    /// Partition column to value.
    #[serde(default, deserialize_with = "null_as_default")]
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Bytes.
    pub size: i64,
    /// When the file was made, in milliseconds since the epoch.
    pub modification_time: i64,
    /// Whether the rows are new to the table.
    pub data_change: bool,
    /// Statistics, as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, Option<String>>>,
    /// Which rows of the file are not in the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<DeletionVector>,
    /// Row id of the first row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_row_id: Option<i64>,
    /// Version that added the file first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_row_commit_version: Option<i64>,
    /// What clustered the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clustering_provider: Option<String>,
}

impl Add {
    /// Rows of the file according to its statistics.
    pub fn num_records(&self) -> Option<u64> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct NumRecords {
            num_records: Option<u64>,
        }
        serde_json::from_str::<NumRecords>(self.stats.as_deref()?)
            .ok()?
            .num_records
    }
}

/// A file that has left the table; a tombstone until it expires.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remove {
    /// URI of the file, as in its `add`.
    pub path: String,
    /// When it was removed, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<i64>,
    /// Whether its rows left the table with it.
    #[serde(default = "yes")]
    pub data_change: bool,
    /// Whether partition values and size are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_file_metadata: Option<bool>,
    /// Partition column to value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_values: Option<BTreeMap<String, Option<String>>>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// Which rows of the file were not in the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<DeletionVector>,
    /// Row id of the first row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_row_id: Option<i64>,
    /// Version that added the file first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_row_commit_version: Option<i64>,
}

/// Where the deleted rows of a file are listed (Delta protocol, "Deletion Vectors").
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionVector {
    /// `u`, `i` or `p`.
    pub storage_type: String,
    /// A path, or the vector itself.
    pub path_or_inline_dv: String,
    /// Where it starts in its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i32>,
    /// Bytes.
    pub size_in_bytes: i32,
    /// Rows deleted.
    pub cardinality: i64,
}

impl DeletionVector {
    /// The unique id of the vector, part of a logical file's key.
    pub fn unique_id(&self) -> String {
        let mut id = format!("{}{}", self.storage_type, self.path_or_inline_dv);
        if let Some(offset) = self.offset {
            // Writing to a string does not fail.
            let _ = write!(id, "@{offset}");
        }
        id
    }
}

/// What made a commit (Delta protocol, "Commit Provenance Information"): any JSON object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitInfo(pub Map<String, Value>);

impl CommitInfo {
    /// The name of the operation.
    pub fn operation(&self) -> Option<&str> {
        self.0.get("operation")?.as_str()
    }

    /// A parameter of the operation, as text.
    pub fn parameter(&self, name: &str) -> Option<String> {
        match self.0.get("operationParameters")?.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// The id that tells a commit from every other, if its writer gave one.
    pub fn txn_id(&self) -> Option<&str> {
        self.0.get("txnId")?.as_str()
    }

    /// The commit's own time, where the table keeps it.
    pub fn in_commit_timestamp(&self) -> Option<i64> {
        self.0.get("inCommitTimestamp")?.as_i64()
    }
}

/// The configuration of a metadata domain (Delta protocol, "Domain Metadata").
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainMetadata {
    /// The name of the domain.
    pub domain: String,
    /// Its configuration, mostly JSON.
    #[serde(default, deserialize_with = "null_as_default")]
    pub configuration: String,
    /// Whether the domain is gone.
    #[serde(default, deserialize_with = "null_as_default")]
    pub removed: bool,
}

/// Schema and properties of a table (Delta protocol, "Change Metadata").
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The table's id.
    pub id: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The format of the data files.
    #[serde(default)]
    pub format: Format,
    /// The schema, as JSON text; kept to the letter.
    pub schema_string: String,
    /// Columns that the files are partitioned by.
    #[serde(default, deserialize_with = "null_as_default")]
    pub partition_columns: Vec<String>,
    /// When the table was made, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
    /// Table properties.
    #[serde(default, deserialize_with = "null_as_default")]
    pub configuration: BTreeMap<String, String>,
}

impl Metadata {
    /// Whether a property is `true`.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.configuration
            .get(key)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

/// The format of a table's data files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Format {
    /// Always `parquet`.
    pub provider: String,
    /// Of the format.
    #[serde(default, deserialize_with = "null_as_default")]
    pub options: BTreeMap<String, String>,
}

impl Default for Format {
    fn default() -> Self {
        Self {
            provider: "parquet".to_owned(),
            options: BTreeMap::new(),
        }
    }
}

/// What a reader and a writer must be able to do (Delta protocol, "Protocol Evolution").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    /// Least version of a reader.
    pub min_reader_version: i32,
    /// Least version of a writer.
    pub min_writer_version: i32,
    /// Features a reader must know; with reader version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader_features: Option<Vec<String>>,
    /// Features a writer must know; with writer version 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_features: Option<Vec<String>>,
}

impl Protocol {
    /// Whether a reader of this table must know `feature`, listed by name.
    pub(super) fn lists_reader_feature(&self, feature: &str) -> bool {
        self.min_reader_version == 3
            && self
                .reader_features
                .as_ref()
                .is_some_and(|features| features.iter().any(|f| f == feature))
    }

    /// Whether a writer of this table must know `feature`, listed by name.
    pub(super) fn lists_writer_feature(&self, feature: &str) -> bool {
        self.min_writer_version == 7
            && self
                .writer_features
                .as_ref()
                .is_some_and(|features| features.iter().any(|f| f == feature))
    }
}

/// The progress of an application (Delta protocol, "Transaction Identifiers").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Txn {
    /// Which application.
    pub app_id: String,
    /// Its progress.
    pub version: i64,
    /// When it was written, in milliseconds since the epoch. One without never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<i64>,
}

/// The id of a commit that tells it from every other.
pub(super) fn own_txn_id(actions: &[Action], txn_id: Uuid) -> bool {
    actions.iter().any(|action| match action {
        Action::CommitInfo(info) => info.txn_id().and_then(|id| Uuid::try_parse(id).ok()) == Some(txn_id),
        _ => false,
    })
}

/// What is encoded in the URI of a path: what RFC 2396 does not allow in one, `%` and all but ASCII.
const URI_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A relative path as the URI that an `add` carries.
pub(super) fn encode_path(path: &str) -> String {
    utf8_percent_encode(path, URI_PATH).to_string()
}

/// The path that a URI of an `add` or `remove` means.
pub(super) fn decode_path(uri: &str) -> String {
    percent_decode_str(uri).decode_utf8_lossy().into_owned()
}

fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

const fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_actions_and_fields_are_skipped_and_nulls_are_absent() {
        let text = concat!(
            r#"{"commitInfo":{"operation":"WRITE","operationParameters":{"mode":"Append","n":3,"none":null}}}"#,
            "\r\n\n",
            r#"{"cdc":{"path":"x"}}"#,
            "\n",
            r#"{"add":{"path":"a%20b","partitionValues":null,"size":1,"modificationTime":2,"dataChange":true,"stats":"{\"numRecords\":7}","later":1},"txn":null}"#,
        );
        let actions = Action::parse_commit(text.as_bytes()).unwrap();
        let [Action::CommitInfo(info), Action::Add(add)] = actions.as_slice() else {
            panic!("{actions:?}")
        };
        assert_eq!(info.operation(), Some("WRITE"));
        assert_eq!(info.parameter("mode").as_deref(), Some("Append"));
        assert_eq!(info.parameter("n").as_deref(), Some("3"));
        assert_eq!(info.parameter("none"), None);
        assert_eq!(decode_path(&add.path), "a b");
        assert_eq!(add.num_records(), Some(7));
    }

    #[test]
    fn a_damaged_commit_is_an_error_and_never_empty() {
        assert_eq!(Action::parse_commit(b"").unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(
            Action::parse_commit(b"{\"add\":{\"path\":").unwrap_err().kind(),
            ErrorKind::Invalid
        );
    }

    #[test]
    fn paths_round_trip_through_their_uri() {
        for path in ["data/a.parquet", "p=50%/x y#?é.parquet", "100%25"] {
            assert_eq!(decode_path(&encode_path(path)), path);
        }
        assert_eq!(encode_path("p=50% é"), "p=50%25%20%C3%A9");
    }

    #[test]
    fn a_deletion_vector_has_the_id_of_the_specification() {
        let dv = DeletionVector {
            storage_type: "u".into(),
            path_or_inline_dv: "ab^-aqEH.-t@S}K{vb[*k^".into(),
            offset: Some(4),
            ..DeletionVector::default()
        };
        assert_eq!(dv.unique_id(), "uab^-aqEH.-t@S}K{vb[*k^@4");
    }
}
