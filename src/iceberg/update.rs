//! Changes of a table's metadata and what they require, as a REST catalog takes them (Iceberg REST catalog
//! specification, `TableRequirement` and `TableUpdate`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::SpecError;
use super::metadata::TableMetadata;
use super::partition::PartitionSpec;
use super::schema::Schema;
use super::snapshot::{Snapshot, SnapshotRef, StatisticsFile};
use super::sort_order::SortOrder;
use super::version::FormatVersion;
use crate::error::Result;

/// What must be true of a table, or nothing is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[non_exhaustive]
pub enum TableRequirement {
    /// There is no such table yet.
    AssertCreate,
    /// The table is this one, not another one under its name.
    AssertTableUuid {
        /// The table's own id.
        uuid: String,
    },
    /// A branch or tag is at this snapshot.
    AssertRefSnapshotId {
        /// Name of the branch or tag.
        #[serde(rename = "ref")]
        reference: String,
        /// The snapshot; `None` if there must be no such branch or tag.
        snapshot_id: Option<i64>,
    },
    /// No column has been added.
    AssertLastAssignedFieldId {
        /// The highest id of a column.
        last_assigned_field_id: i32,
    },
    /// The current schema is this one.
    AssertCurrentSchemaId {
        /// Its id.
        current_schema_id: i32,
    },
    /// No partition field has been added.
    AssertLastAssignedPartitionId {
        /// The highest id of a partition field.
        last_assigned_partition_id: i32,
    },
    /// The default partition spec is this one.
    AssertDefaultSpecId {
        /// Its id.
        default_spec_id: i32,
    },
    /// The default sort order is this one.
    AssertDefaultSortOrderId {
        /// Its id.
        default_sort_order_id: i32,
    },
}

impl TableRequirement {
    /// Checks this against a table, or against there being none.
    ///
    /// # Errors
    ///
    /// `Conflict` naming the requirement: the change must be made anew from the table as it is now.
    pub fn check(&self, table: Option<&TableMetadata>) -> Result<()> {
        let (requirement, expected, found) = match self {
            Self::AssertCreate => (
                "assert-create",
                "no table".to_owned(),
                table.map_or_else(|| "no table".to_owned(), |table| format!("{:?}", table.uuid())),
            ),
            Self::AssertTableUuid { uuid } => (
                "assert-table-uuid",
                format!("{:?}", Some(uuid.to_lowercase())),
                format!("{:?}", table.and_then(TableMetadata::uuid).map(str::to_lowercase)),
            ),
            Self::AssertRefSnapshotId { reference, snapshot_id } => {
                let found = table.and_then(|table| table.refs().get(reference));
                (
                    "assert-ref-snapshot-id",
                    format!("{snapshot_id:?}"),
                    format!("{:?}", found.map(|found| found.snapshot_id)),
                )
            }
            Self::AssertLastAssignedFieldId { last_assigned_field_id } => (
                "assert-last-assigned-field-id",
                format!("{:?}", Some(last_assigned_field_id)),
                format!("{:?}", table.map(TableMetadata::last_column_id)),
            ),
            Self::AssertCurrentSchemaId { current_schema_id } => (
                "assert-current-schema-id",
                format!("{:?}", Some(current_schema_id)),
                format!("{:?}", table.map(|table| table.schema().schema_id)),
            ),
            Self::AssertLastAssignedPartitionId {
                last_assigned_partition_id,
            } => (
                "assert-last-assigned-partition-id",
                format!("{:?}", Some(last_assigned_partition_id)),
                format!("{:?}", table.map(TableMetadata::last_partition_id)),
            ),
            Self::AssertDefaultSpecId { default_spec_id } => (
                "assert-default-spec-id",
                format!("{:?}", Some(default_spec_id)),
                format!("{:?}", table.map(|table| table.default_spec().spec_id)),
            ),
            Self::AssertDefaultSortOrderId { default_sort_order_id } => (
                "assert-default-sort-order-id",
                format!("{:?}", Some(default_sort_order_id)),
                format!("{:?}", table.map(|table| table.default_sort_order().order_id)),
            ),
        };
        if expected == found {
            return Ok(());
        }
        Err(SpecError::Requirement {
            requirement,
            expected,
            found,
        }
        .into())
    }
}

/// Checks all `requirements` against a table, or against there being none.
///
/// # Errors
///
/// As for [`TableRequirement::check`], for the first one that is not met.
pub fn check_requirements(requirements: &[TableRequirement], table: Option<&TableMetadata>) -> Result<()> {
    requirements.iter().try_for_each(|requirement| requirement.check(table))
}

/// One change of a table's metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[non_exhaustive]
pub enum TableUpdate {
    /// Gives the table its own id.
    AssignUuid {
        /// The id.
        uuid: String,
    },
    /// Goes to a later version of the format.
    UpgradeFormatVersion {
        /// The version.
        format_version: FormatVersion,
    },
    /// Adds a schema. Its id is given by the table.
    AddSchema {
        /// The schema.
        schema: Schema,
        /// The highest id that a column has ever had; older catalogs ask for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_column_id: Option<i32>,
    },
    /// Makes a schema the current one.
    SetCurrentSchema {
        /// Its id, -1 for the one added last.
        schema_id: i32,
    },
    /// Adds a partition spec. Its id is given by the table.
    AddSpec {
        /// The spec.
        spec: PartitionSpec,
    },
    /// Makes a partition spec the default.
    SetDefaultSpec {
        /// Its id, -1 for the one added last.
        spec_id: i32,
    },
    /// Adds a sort order. Its id is given by the table.
    AddSortOrder {
        /// The order.
        sort_order: SortOrder,
    },
    /// Makes a sort order the default.
    SetDefaultSortOrder {
        /// Its id, -1 for the one added last.
        sort_order_id: i32,
    },
    /// Adds a snapshot, which no branch or tag names yet.
    AddSnapshot {
        /// The snapshot.
        snapshot: Snapshot,
    },
    /// Moves a branch or tag, or makes a new one.
    SetSnapshotRef {
        /// Its name.
        ref_name: String,
        /// What it becomes.
        #[serde(flatten)]
        reference: SnapshotRef,
    },
    /// Removes snapshots that no branch or tag names.
    RemoveSnapshots {
        /// Their ids.
        snapshot_ids: Vec<i64>,
    },
    /// Removes a branch or tag.
    RemoveSnapshotRef {
        /// Its name.
        ref_name: String,
    },
    /// Moves the table's root.
    SetLocation {
        /// Its URI.
        location: String,
    },
    /// Sets properties.
    SetProperties {
        /// Their new values.
        updates: BTreeMap<String, String>,
    },
    /// Removes properties.
    RemoveProperties {
        /// Their names.
        removals: Vec<String>,
    },
    /// Sets the statistics of a snapshot.
    SetStatistics {
        /// Where they are.
        statistics: StatisticsFile,
    },
    /// Removes the statistics of a snapshot.
    RemoveStatistics {
        /// The snapshot.
        snapshot_id: i64,
    },
    /// Sets the statistics of the partitions of a snapshot.
    SetPartitionStatistics {
        /// Where they are.
        partition_statistics: StatisticsFile,
    },
    /// Removes the statistics of the partitions of a snapshot.
    RemovePartitionStatistics {
        /// The snapshot.
        snapshot_id: i64,
    },
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn updates_have_the_json_of_the_rest_specification() {
        let schema = json!({"type": "struct", "schema-id": 1, "fields": []});
        let snapshot = json!({"snapshot-id": 1, "sequence-number": 1, "timestamp-ms": 2, "manifest-list": "m.avro",
            "summary": {"operation": "append"}});
        let statistics = json!({"snapshot-id": 1, "statistics-path": "s", "file-size-in-bytes": 2});
        for json in [
            json!({"action": "assign-uuid", "uuid": "u"}),
            json!({"action": "upgrade-format-version", "format-version": 3}),
            json!({"action": "add-schema", "schema": schema, "last-column-id": 7}),
            json!({"action": "set-current-schema", "schema-id": -1}),
            json!({"action": "add-spec", "spec": {"spec-id": 0, "fields":
                [{"source-id": 1, "field-id": 1000, "name": "d", "transform": "day"}]}}),
            json!({"action": "set-default-spec", "spec-id": -1}),
            json!({"action": "add-sort-order", "sort-order": {"order-id": 1, "fields": []}}),
            json!({"action": "set-default-sort-order", "sort-order-id": -1}),
            json!({"action": "add-snapshot", "snapshot": snapshot}),
            json!({"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 1,
                "max-ref-age-ms": 2}),
            json!({"action": "remove-snapshots", "snapshot-ids": [1, 2]}),
            json!({"action": "remove-snapshot-ref", "ref-name": "old"}),
            json!({"action": "set-location", "location": "s3://b/t"}),
            json!({"action": "set-properties", "updates": {"a": "b"}}),
            json!({"action": "remove-properties", "removals": ["a"]}),
            json!({"action": "set-statistics", "statistics": statistics}),
            json!({"action": "remove-statistics", "snapshot-id": 1}),
            json!({"action": "set-partition-statistics", "partition-statistics": statistics}),
            json!({"action": "remove-partition-statistics", "snapshot-id": 1}),
        ] {
            let update: TableUpdate = serde_json::from_value(json.clone()).unwrap();
            assert_eq!(serde_json::to_value(update).unwrap(), json);
        }
    }

    fn requirements() -> Vec<(Value, &'static str)> {
        vec![
            (
                json!({"type": "assert-table-uuid", "uuid": "9C12D441-03FE-4693-9A96-A0705DDF69C1"}),
                "uuid",
            ),
            (
                json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": null}),
                "snapshot-id",
            ),
            (
                json!({"type": "assert-last-assigned-field-id", "last-assigned-field-id": 1}),
                "last-assigned-field-id",
            ),
            (
                json!({"type": "assert-current-schema-id", "current-schema-id": 0}),
                "current-schema-id",
            ),
            (
                json!({"type": "assert-last-assigned-partition-id", "last-assigned-partition-id": 999}),
                "last-assigned-partition-id",
            ),
            (
                json!({"type": "assert-default-spec-id", "default-spec-id": 0}),
                "default-spec-id",
            ),
            (
                json!({"type": "assert-default-sort-order-id", "default-sort-order-id": 0}),
                "default-sort-order-id",
            ),
        ]
    }

    fn table() -> TableMetadata {
        TableMetadata::from_json(
            json!({"format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1",
            "location": "s3://b/t", "last-sequence-number": 0, "last-updated-ms": 1, "last-column-id": 1,
            "current-schema-id": 0, "schemas": [{"type": "struct", "schema-id": 0, "fields": []}],
            "default-spec-id": 0, "last-partition-id": 999, "partition-specs": [{"spec-id": 0, "fields": []}],
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}]}),
        )
        .unwrap()
    }

    #[test]
    fn requirements_have_the_json_of_the_rest_specification_and_are_checked() {
        let table = table();
        for (json, key) in requirements() {
            let requirement: TableRequirement = serde_json::from_value(json.clone()).unwrap();
            assert_eq!(serde_json::to_value(&requirement).unwrap(), json);
            requirement.check(Some(&table)).unwrap();
            let mut wrong = json.clone();
            wrong[key] = if key == "uuid" { json!("x") } else { json!(77) };
            let wrong: TableRequirement = serde_json::from_value(wrong).unwrap();
            let error = wrong.check(Some(&table)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert!(error.to_string().contains(json["type"].as_str().unwrap()), "{error}");
            assert_eq!(wrong.check(None).unwrap_err().kind(), ErrorKind::Conflict);
        }
    }

    #[test]
    fn a_table_is_created_only_where_there_is_none() {
        let create = TableRequirement::AssertCreate;
        assert_eq!(serde_json::to_value(&create).unwrap(), json!({"type": "assert-create"}));
        check_requirements(std::slice::from_ref(&create), None).unwrap();
        let error = check_requirements(&[create], Some(&table())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
}
