//! Snapshots, references to them, and the logs of a table (Iceberg specification, "Snapshots").

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::time::Timestamp;

/// Name of the branch that is the table.
pub const MAIN_BRANCH: &str = "main";

/// The state of a table at some time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Snapshot {
    /// A random, positive id.
    pub snapshot_id: i64,
    /// The snapshot it was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_snapshot_id: Option<i64>,
    /// Orders all changes of the table; 0 in version 1, where it is not written.
    #[serde(default)]
    pub sequence_number: i64,
    /// When it was made.
    pub timestamp_ms: Timestamp,
    /// Where its list of manifests lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_list: Option<String>,
    /// Where its manifests lie, in old snapshots that have no list of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<String>>,
    /// What it did. Old snapshots may have none.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub summary: BTreeMap<String, String>,
    /// The table's schema when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_id: Option<i32>,
    /// The first row id that it assigns; from version 3 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_row_id: Option<i64>,
    /// How many row ids it assigns at most; from version 3 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_rows: Option<i64>,
    /// What the JSON has beside these.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Snapshot {
    /// What it did: `append`, `replace`, `overwrite` or `delete`.
    pub fn operation(&self) -> Option<&str> {
        self.summary.get("operation").map(String::as_str)
    }
}

/// A branch or a tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotRef {
    /// The tagged snapshot, or the newest one of the branch.
    pub snapshot_id: i64,
    /// Branch or tag.
    #[serde(rename = "type")]
    pub kind: RefKind,
    /// Of a branch, how many snapshots to keep at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_snapshots_to_keep: Option<i32>,
    /// Of a branch, how long to keep snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_snapshot_age_ms: Option<i64>,
    /// How long to keep the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ref_age_ms: Option<i64>,
    /// What the JSON has beside these.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl SnapshotRef {
    /// A branch that ends at this snapshot, without a policy of its own.
    pub fn branch(snapshot_id: i64) -> Self {
        Self {
            snapshot_id,
            kind: RefKind::Branch,
            min_snapshots_to_keep: None,
            max_snapshot_age_ms: None,
            max_ref_age_ms: None,
            extra: Map::new(),
        }
    }
}

/// What a reference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefKind {
    /// Moves on with every commit.
    Branch,
    /// Stays where it is.
    Tag,
}

/// Which snapshot was current from when on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotLogEntry {
    /// The snapshot.
    pub snapshot_id: i64,
    /// From when on.
    pub timestamp_ms: Timestamp,
    /// What the JSON has beside these.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An earlier metadata file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MetadataLogEntry {
    /// Where it lies.
    pub metadata_file: String,
    /// Its `last-updated-ms`.
    pub timestamp_ms: Timestamp,
    /// What the JSON has beside these.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A file of statistics of a snapshot, of the table or of its partitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StatisticsFile {
    /// The snapshot.
    pub snapshot_id: i64,
    /// Where it lies.
    pub statistics_path: String,
    /// Bytes.
    pub file_size_in_bytes: i64,
    /// What the JSON has beside these.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_snapshot_round_trips_with_what_is_not_known() {
        let json = json!({"snapshot-id": 9_007_199_254_740_993_i64, "parent-snapshot-id": 2, "sequence-number": 3,
            "timestamp-ms": 1_515_100_955_770_i64, "manifest-list": "s3://b/s1.avro", "schema-id": 0,
            "summary": {"operation": "append", "x": "1"}, "first-row-id": 0, "added-rows": 7, "key-id": "k"});
        let snapshot: Snapshot = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(snapshot.snapshot_id, 9_007_199_254_740_993);
        assert_eq!(snapshot.operation(), Some("append"));
        assert_eq!(snapshot.extra["key-id"], "k");
        assert_eq!(serde_json::to_value(snapshot).unwrap(), json);
    }

    #[test]
    fn an_old_snapshot_embeds_its_manifests() {
        let json = json!({"snapshot-id": 1, "timestamp-ms": 2, "manifests": ["a.avro", "b.avro"], "summary": null});
        let snapshot: Snapshot = serde_json::from_value(json).unwrap();
        assert_eq!(snapshot.manifests, Some(vec!["a.avro".to_owned(), "b.avro".to_owned()]));
        assert_eq!((snapshot.manifest_list, snapshot.sequence_number), (None, 0));
        assert!(snapshot.summary.is_empty());
    }

    #[test]
    fn references_keep_their_policies() {
        let json = json!({"snapshot-id": 1, "type": "tag", "max-ref-age-ms": 10});
        let reference: SnapshotRef = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(reference.kind, RefKind::Tag);
        assert_eq!(serde_json::to_value(reference).unwrap(), json);
        assert_eq!(
            serde_json::to_value(SnapshotRef::branch(1)).unwrap(),
            json!({"snapshot-id": 1, "type": "branch"})
        );
    }
}
