//! Table metadata: all that a table is, but its files (Iceberg specification, "Table Metadata").

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::{SpecError, invalid};
use super::partition::PartitionSpec;
use super::schema::Schema;
use super::schema_json::{parse_schema, schema_id};
use super::snapshot::{MAIN_BRANCH, MetadataLogEntry, Snapshot, SnapshotLogEntry, SnapshotRef, StatisticsFile};
use super::sort_order::SortOrder;
use super::version::FormatVersion;
use crate::error::Result;
use crate::time::Timestamp;

/// The metadata of a table, of version 1, 2 or 3.
///
/// What is read is checked: the current schema, the default partition spec and sort order, and the snapshots that
/// references name are there. Schemas other than the current one are not looked into before they are asked for, so
/// that a type which only they have is in nobody's way. What is not known survives until it is written again.
#[derive(Clone, Debug, PartialEq)]
pub struct TableMetadata {
    parts: Parts,
    schema: Arc<Schema>,
    default_spec: PartitionSpec,
    default_sort_order: SortOrder,
}

/// What a table is created with.
#[derive(Clone, Debug)]
pub struct NewTable {
    /// Its id.
    pub uuid: uuid::Uuid,
    /// URI of its root, without trailing slash.
    pub location: String,
    /// Version of its format.
    pub format_version: FormatVersion,
    /// Its columns; the id of the schema becomes 0.
    pub schema: Schema,
    /// How it is partitioned; the id of the spec becomes 0.
    pub partition_spec: PartitionSpec,
    /// The order of its rows; its id becomes 1, unless it is unsorted.
    pub sort_order: SortOrder,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
    /// When it is created.
    pub now: Timestamp,
}

/// The fields of the metadata, as they are written.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Parts {
    pub(super) format_version: FormatVersion,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) table_uuid: Option<String>,
    pub(super) location: String,
    pub(super) last_sequence_number: i64,
    pub(super) last_updated_ms: Timestamp,
    pub(super) last_column_id: i32,
    pub(super) schemas: Vec<Value>,
    pub(super) current_schema_id: i32,
    pub(super) partition_specs: Vec<PartitionSpec>,
    pub(super) default_spec_id: i32,
    pub(super) last_partition_id: i32,
    pub(super) sort_orders: Vec<SortOrder>,
    pub(super) default_sort_order_id: i32,
    pub(super) properties: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) current_snapshot_id: Option<i64>,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) snapshot_log: Vec<SnapshotLogEntry>,
    pub(super) metadata_log: Vec<MetadataLogEntry>,
    pub(super) refs: BTreeMap<String, SnapshotRef>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) statistics: Vec<StatisticsFile>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) partition_statistics: Vec<StatisticsFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_row_id: Option<i64>,
    #[serde(flatten)]
    pub(super) extra: Map<String, Value>,
}

impl TableMetadata {
    /// The metadata of a new, empty table. Pure.
    ///
    /// # Errors
    ///
    /// `Invalid` or `Unsupported` naming what cannot be: a type that the version does not have, a partition of a
    /// column that is not there.
    pub fn create(table: NewTable) -> Result<Self> {
        let NewTable {
            mut schema,
            mut partition_spec,
            mut sort_order,
            ..
        } = table;
        if !table.location.contains(':') {
            return Err(invalid(format!("not an absolute URI. location=`{}`", table.location)));
        }
        schema.schema_id = 0;
        schema.check_types(table.format_version)?;
        partition_spec.spec_id = 0;
        partition_spec.partition_type(&schema)?;
        let mut sort_orders = vec![SortOrder::unsorted()];
        sort_order.order_id = i32::from(!sort_order.is_unsorted());
        let default_sort_order_id = sort_order.order_id;
        if !sort_order.is_unsorted() {
            sort_order.check(&schema)?;
            sort_orders.push(sort_order);
        }
        Parts {
            format_version: table.format_version,
            table_uuid: Some(table.uuid.to_string()),
            location: table.location,
            last_sequence_number: 0,
            last_updated_ms: table.now,
            last_column_id: schema.max_field_id(),
            schemas: vec![schema.to_json()],
            current_schema_id: 0,
            last_partition_id: partition_spec.last_field_id(),
            partition_specs: vec![partition_spec],
            default_spec_id: 0,
            sort_orders,
            default_sort_order_id,
            properties: table.properties,
            current_snapshot_id: None,
            snapshots: Vec::new(),
            snapshot_log: Vec::new(),
            metadata_log: Vec::new(),
            refs: BTreeMap::new(),
            statistics: Vec::new(),
            partition_statistics: Vec::new(),
            next_row_id: (table.format_version >= FormatVersion::V3).then_some(0),
            extra: Map::new(),
        }
        .finish()
        .map_err(Into::into)
    }

    /// Version of the format.
    pub fn format_version(&self) -> FormatVersion {
        self.parts.format_version
    }

    /// The table's own id. Tables of version 1 may have none.
    pub fn uuid(&self) -> Option<&str> {
        self.parts.table_uuid.as_deref()
    }

    /// URI of the table's root.
    pub fn location(&self) -> &str {
        &self.parts.location
    }

    /// The highest sequence number of a snapshot; 0 in version 1.
    pub fn last_sequence_number(&self) -> i64 {
        self.parts.last_sequence_number
    }

    /// The sequence number of the next snapshot; 0 in version 1.
    pub fn next_sequence_number(&self) -> i64 {
        match self.parts.format_version {
            FormatVersion::V1 => 0,
            _ => self.parts.last_sequence_number.saturating_add(1),
        }
    }

    /// When the table was changed last.
    pub fn last_updated(&self) -> Timestamp {
        self.parts.last_updated_ms
    }

    /// The time of a change that is made at `now`: never before the last one, whatever the clocks say.
    pub fn next_timestamp(&self, now: Timestamp) -> Timestamp {
        now.max(self.parts.last_updated_ms)
    }

    /// The highest id that a column has ever had.
    pub fn last_column_id(&self) -> i32 {
        self.parts.last_column_id
    }

    /// The current schema.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The schema with this id, of those that the table has had.
    ///
    /// # Errors
    ///
    /// `Unsupported` naming the column when it has a type that is not known here.
    pub fn schema_by_id(&self, id: i32) -> Result<Option<Schema>> {
        self.parts.schema(id).map_err(Into::into)
    }

    /// How files are partitioned by default.
    pub fn default_spec(&self) -> &PartitionSpec {
        &self.default_spec
    }

    /// All partition specs.
    pub fn partition_specs(&self) -> &[PartitionSpec] {
        &self.parts.partition_specs
    }

    /// The highest id that a partition field has ever had.
    pub fn last_partition_id(&self) -> i32 {
        self.parts.last_partition_id
    }

    /// How rows are sorted by default.
    pub fn default_sort_order(&self) -> &SortOrder {
        &self.default_sort_order
    }

    /// All sort orders.
    pub fn sort_orders(&self) -> &[SortOrder] {
        &self.parts.sort_orders
    }

    /// The table's properties.
    pub fn properties(&self) -> &BTreeMap<String, String> {
        &self.parts.properties
    }

    /// All snapshots that have not been expired.
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.parts.snapshots
    }

    /// The snapshot with this id.
    pub fn snapshot_by_id(&self, id: i64) -> Option<&Snapshot> {
        self.parts.snapshot(id)
    }

    /// The snapshot that the table is; `None` while it has no rows.
    pub fn current_snapshot(&self) -> Option<&Snapshot> {
        self.snapshot_by_id(self.parts.current_snapshot_id?)
    }

    /// The snapshot with this id and those that it was made of, newest first, as far as they have not been
    /// expired.
    pub fn ancestors(&self, id: i64) -> Vec<&Snapshot> {
        let by_id: BTreeMap<_, _> = self.parts.snapshots.iter().map(|s| (s.snapshot_id, s)).collect();
        let mut ancestors: Vec<&Snapshot> = Vec::new();
        let mut next = Some(id);
        // A circle of parents would end here too.
        while ancestors.len() < by_id.len() {
            let Some(snapshot) = next.and_then(|id| by_id.get(&id)) else {
                break;
            };
            ancestors.push(snapshot);
            next = snapshot.parent_snapshot_id;
        }
        ancestors
    }

    /// Branches and tags.
    pub fn refs(&self) -> &BTreeMap<String, SnapshotRef> {
        &self.parts.refs
    }

    /// Which snapshots were current, oldest first.
    pub fn snapshot_log(&self) -> &[SnapshotLogEntry] {
        &self.parts.snapshot_log
    }

    /// Earlier metadata files, oldest first.
    pub fn metadata_log(&self) -> &[MetadataLogEntry] {
        &self.parts.metadata_log
    }

    /// Files of statistics of the table.
    pub fn statistics(&self) -> &[StatisticsFile] {
        &self.parts.statistics
    }

    /// Files of statistics of partitions.
    pub fn partition_statistics(&self) -> &[StatisticsFile] {
        &self.parts.partition_statistics
    }

    /// The first row id of the next snapshot; from version 3 on.
    pub fn next_row_id(&self) -> Option<i64> {
        self.parts.next_row_id
    }

    /// What the JSON has beside what is known here, such as `encryption-keys`.
    pub fn extra(&self) -> &Map<String, Value> {
        &self.parts.extra
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }
}

impl Parts {
    pub(super) fn schema(&self, id: i32) -> Result<Option<Schema>, SpecError> {
        let schema = self.schemas.iter().find(|schema| schema_id(schema).ok() == Some(id));
        schema.map(parse_schema).transpose()
    }

    pub(super) fn snapshot(&self, id: i64) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.snapshot_id == id)
    }

    pub(super) fn spec(&self, id: i32) -> Option<&PartitionSpec> {
        self.partition_specs.iter().find(|spec| spec.spec_id == id)
    }

    pub(super) fn sort_order(&self, id: i32) -> Option<&SortOrder> {
        self.sort_orders.iter().find(|order| order.order_id == id)
    }

    /// Checks that all fits together.
    pub(super) fn finish(self) -> Result<TableMetadata, SpecError> {
        let missing = |what: &str, id: i64| SpecError::broken("table", format!("{what} {id} is not there"));
        if self.format_version >= FormatVersion::V2 && self.table_uuid.is_none() {
            return Err(SpecError::broken("table", "table-uuid is missing"));
        }
        if self.location.is_empty() {
            return Err(SpecError::broken("table", "location is empty"));
        }
        let schema_ids = self.schemas.iter().map(schema_id).collect::<Result<Vec<_>, _>>()?;
        unique("schema", schema_ids.into_iter().map(i64::from))?;
        let schema = self.schema(self.current_schema_id)?;
        let schema = schema.ok_or_else(|| missing("schema", self.current_schema_id.into()))?;
        schema.check_ids()?;
        unique("partition spec", self.partition_specs.iter().map(|s| s.spec_id.into()))?;
        let default_spec = self.spec(self.default_spec_id).cloned();
        let default_spec = default_spec.ok_or_else(|| missing("partition spec", self.default_spec_id.into()))?;
        unique("sort order", self.sort_orders.iter().map(|o| o.order_id.into()))?;
        let default_sort_order = match self.sort_order(self.default_sort_order_id) {
            Some(order) => order.clone(),
            // Order 0 is what it is, listed or not.
            None if self.default_sort_order_id == 0 => SortOrder::unsorted(),
            None => return Err(missing("sort order", self.default_sort_order_id.into())),
        };
        self.check_snapshots()?;
        Ok(TableMetadata {
            schema: Arc::new(schema),
            default_spec,
            default_sort_order,
            parts: self,
        })
    }

    fn check_snapshots(&self) -> Result<(), SpecError> {
        let broken = |rule: String| Err(SpecError::broken("snapshots", rule));
        unique("snapshot", self.snapshots.iter().map(|s| s.snapshot_id))?;
        if self.format_version >= FormatVersion::V2 {
            let last = self.last_sequence_number;
            if let Some(ahead) = self.snapshots.iter().find(|s| s.sequence_number > last) {
                return broken(format!(
                    "sequence number {} of snapshot {} is above the last one, {last}",
                    ahead.sequence_number, ahead.snapshot_id
                ));
            }
        }
        for (name, reference) in &self.refs {
            if self.snapshot(reference.snapshot_id).is_none() {
                return broken(format!(
                    "snapshot {} of reference {name} is not there",
                    reference.snapshot_id
                ));
            }
        }
        let main = self.refs.get(MAIN_BRANCH).map(|main| main.snapshot_id);
        if main != self.current_snapshot_id {
            return broken(format!(
                "current snapshot and branch main differ: {:?}, {main:?}",
                self.current_snapshot_id
            ));
        }
        if self.format_version >= FormatVersion::V3 && self.next_row_id.is_none_or(|id| id < 0) {
            return broken("next-row-id is missing or negative".to_owned());
        }
        Ok(())
    }
}

fn unique(what: &str, ids: impl Iterator<Item = i64>) -> Result<(), SpecError> {
    let mut seen = std::collections::BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(SpecError::broken("table", format!("{what} {id} is there twice")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::super::apply_snapshots::tests::{at, schema, table};
    use super::super::types::PrimitiveType;
    use super::*;

    #[test]
    fn a_new_table_has_all_that_the_specification_asks_for() {
        let json = table(FormatVersion::V2).to_json().unwrap();
        let expected = json!({"format-version": 2, "table-uuid": "00000000-0000-0000-0000-000000000001",
            "location": "s3://b/t", "last-sequence-number": 0, "last-updated-ms": 1_000_000, "last-column-id": 2,
            "current-schema-id": 0, "schemas": [schema().to_json()],
            "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}], "last-partition-id": 999,
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}], "properties": {"a": "b"},
            "snapshots": [], "snapshot-log": [], "metadata-log": [], "refs": {}});
        assert_eq!(json, expected);
        assert_eq!(table(FormatVersion::V3).to_json().unwrap()["next-row-id"], 0);
        let v1 = table(FormatVersion::V1).to_json().unwrap();
        assert_eq!(
            (&v1["schema"], &v1["partition-spec"]),
            (&schema().to_json(), &json!([]))
        );
    }

    #[test]
    fn a_table_that_cannot_be_is_not_created() {
        let new = || NewTable {
            uuid: Uuid::nil(),
            location: "s3://b/t".to_owned(),
            format_version: FormatVersion::V2,
            schema: schema(),
            partition_spec: PartitionSpec::unpartitioned(),
            sort_order: SortOrder::unsorted(),
            properties: BTreeMap::new(),
            now: at(0),
        };
        let location = NewTable {
            location: "/srv/t".to_owned(),
            ..new()
        };
        let mut twice = new();
        twice.schema.fields[1].id = 1;
        let mut nanos = new();
        nanos.schema.fields[1].field_type = PrimitiveType::TimestampNs.into();
        for (table, text) in [
            (location, "not an absolute URI"),
            (twice, "field id 1 is used twice"),
            (nanos, "type timestamp_ns is not in version 2"),
        ] {
            let error = TableMetadata::create(table).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
