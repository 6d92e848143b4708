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
