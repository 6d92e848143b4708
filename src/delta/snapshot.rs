//! What a table is at a version, as far as an appender must know it: never the list of its files.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;

use super::action::{Action, Metadata, Protocol};
use super::error::LogError;
use super::marker::{self, PREFIX, Txns};
use super::schema::parse_schema;
use crate::error::Result;
use crate::ids::LaneId;
use crate::sink::Marker;

/// State of a Delta table at a version (Delta protocol, "Action Reconciliation"), without its files: its size
/// does not depend on the table's.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    version: u64,
    protocol: Protocol,
    metadata: Metadata,
    schema: SchemaRef,
    /// Those of lanes only: other applications' may be many.
    txns: Txns,
    /// Metadata domains that have not been removed.
    domains: BTreeMap<String, String>,
    in_commit_timestamp: Option<i64>,
    /// Which version carries the newest entry of a lane, where that commit has been seen.
    entries: BTreeMap<String, u64>,
}

impl Snapshot {
    /// The table at `version`, from all its actions, oldest first.
    ///
    /// # Errors
    ///
    /// `Invalid` without protocol or metadata, `Unsupported` when the schema cannot be understood.
    pub fn from_actions<'a>(version: u64, actions: impl IntoIterator<Item = &'a Action>) -> Result<Self> {
        let mut state = PartialSnapshot::default();
        for action in actions {
            state.apply(action, Some(version));
        }
        state.finish(version)
    }

    /// The table after one more commit.
    ///
    /// # Errors
    ///
    /// As for [`from_actions`](Self::from_actions).
    pub fn apply(&mut self, commit: &[Action]) -> Result<()> {
        let version = self.version.saturating_add(1);
        let mut state = PartialSnapshot::from(self.clone());
        state.begin_commit();
        for action in commit {
            state.apply(action, Some(version));
        }
        *self = state.finish(version)?;
        Ok(())
    }

    /// The version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What readers and writers must be able to do.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// Schema and properties.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The columns. Where they are mapped, their metadata are ids and [names in files](crate::STORED_NAME_KEY), else they
    /// have none.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What the table says of `lane`.
    ///
    /// # Errors
    ///
    /// `Invalid` when the marker is damaged.
    pub fn marker(&self, lane: LaneId) -> Result<Option<Marker>> {
        Ok(marker::marker_of(&self.txns, lane)?)
    }

    /// Lanes other than `lane` that have written into the table and have not been superseded.
    pub fn other_lanes(&self, lane: LaneId) -> Vec<LaneId> {
        marker::other_lanes(&self.txns, lane)
    }

    /// Whether the table has been handed to another lane than `lane`.
    pub fn is_superseded(&self, lane: LaneId) -> bool {
        marker::is_superseded(&self.txns, lane)
    }

    /// The configuration of a metadata domain.
    pub(super) fn domain(&self, name: &str) -> Option<&str> {
        self.domains.get(name).map(String::as_str)
    }

    pub(super) fn in_commit_timestamp(&self) -> Option<i64> {
        self.in_commit_timestamp
    }

    /// Whether commits carry a time of their own (Delta protocol, "In-Commit Timestamps").
    pub(super) fn has_in_commit_timestamps(&self) -> bool {
        self.protocol.lists_writer_feature("inCommitTimestamp") && self.metadata.flag("delta.enableInCommitTimestamps")
    }

    /// Which version carries the newest entry of `lane`, where that commit has been seen.
    pub(super) fn entry_version(&self, lane: LaneId) -> Option<u64> {
        self.entries.get(&marker::AppIds::of(lane).seq).copied()
    }
}

/// A snapshot while its log is being replayed, oldest action first.
#[derive(Clone, Debug, Default)]
pub(super) struct PartialSnapshot {
    protocol: Option<Protocol>,
    metadata: Option<Metadata>,
    /// Of `metadata`, where it is known already.
    schema: Option<SchemaRef>,
    txns: Txns,
    domains: BTreeMap<String, String>,
    in_commit_timestamp: Option<i64>,
    entries: BTreeMap<String, u64>,
}

impl PartialSnapshot {
    /// Forgets what belongs to the commit before only.
    pub(super) fn begin_commit(&mut self) {
        self.in_commit_timestamp = None;
    }

    /// Takes an action in; `commit` is the version of the commit it stands in, `None` for a checkpoint's.
    pub(super) fn apply(&mut self, action: &Action, commit: Option<u64>) {
        match action {
            Action::CommitInfo(info) => {
                if let Some(time) = info.in_commit_timestamp() {
                    self.in_commit_timestamp = Some(time);
                }
            }
            Action::DomainMetadata(domain) => {
                if domain.removed {
                    self.domains.remove(&domain.domain);
                } else {
                    self.domains.insert(domain.domain.clone(), domain.configuration.clone());
                }
            }
            Action::MetaData(metadata) => {
                self.schema = None;
                self.metadata = Some(metadata.clone());
            }
            Action::Protocol(protocol) => self.protocol = Some(protocol.clone()),
            Action::Txn(txn) if txn.app_id.starts_with(PREFIX) => {
                if let Some(version) = commit {
                    self.entries.insert(txn.app_id.clone(), version);
                }
                self.txns.insert(txn.app_id.clone(), txn.clone());
            }
            Action::Add(_) | Action::Remove(_) | Action::Txn(_) => {}
        }
    }

    pub(super) fn finish(self, version: u64) -> Result<Snapshot> {
        let missing = |action| LogError::Missing { action, version };
        let protocol = self.protocol.ok_or_else(|| missing("protocol"))?;
        let metadata = self.metadata.ok_or_else(|| missing("metaData"))?;
        let schema = match self.schema {
            Some(schema) => schema,
            None => parse_schema(&metadata)?,
        };
        Ok(Snapshot {
            version,
            protocol,
            metadata,
            schema,
            txns: self.txns,
            domains: self.domains,
            in_commit_timestamp: self.in_commit_timestamp,
            entries: self.entries,
        })
    }
}

impl From<Snapshot> for PartialSnapshot {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            protocol: Some(snapshot.protocol),
            metadata: Some(snapshot.metadata),
            schema: Some(snapshot.schema),
            txns: snapshot.txns,
            domains: snapshot.domains,
            in_commit_timestamp: snapshot.in_commit_timestamp,
            entries: snapshot.entries,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn actions(text: &str) -> Vec<Action> {
        Action::parse_commit(text.as_bytes()).unwrap()
    }

    const CREATE: &str = r#"{"commitInfo":{"inCommitTimestamp":5}}
{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}
{"metaData":{"id":"t","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[{\"name\":\"a\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}}]}","partitionColumns":[],"configuration":{}}}
{"txn":{"appId":"job","version":9}}
{"domainMetadata":{"domain":"d","configuration":"{}","removed":false}}"#;

    #[test]
    fn the_newest_action_of_a_kind_counts() {
        let mut table = Snapshot::from_actions(0, &actions(CREATE)).unwrap();
        assert_eq!(table.in_commit_timestamp(), Some(5));
        assert_eq!(table.domain("d"), Some("{}"));
        assert!(table.txns.is_empty());
        let next = actions(
            r#"{"domainMetadata":{"domain":"d","configuration":"","removed":true}}
{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":[],"writerFeatures":["inCommitTimestamp"]}}"#,
        );
        table.apply(&next).unwrap();
        assert_eq!((table.version(), table.domain("d")), (1, None));
        assert_eq!(table.in_commit_timestamp(), None);
        assert!(table.protocol().lists_writer_feature("inCommitTimestamp"));
    }

    #[test]
    fn a_log_without_protocol_or_metadata_is_no_table() {
        for missing in ["protocol", "metaData"] {
            let text: Vec<_> = CREATE.lines().filter(|line| !line.contains(missing)).collect();
            let error = Snapshot::from_actions(0, &actions(&text.join("\n"))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(missing), "{error}");
        }
    }
}
