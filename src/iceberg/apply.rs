//! The metadata that a table has after a change. Pure: no I/O, no clock.

use std::collections::BTreeSet;

use super::error::SpecError;
use super::metadata::{Parts, TableMetadata};
use super::partition::{BEFORE_FIRST_FIELD_ID, PartitionSpec};
use super::schema::Schema;
use super::schema_json::{parse_schema, schema_id};
use super::snapshot::{MAIN_BRANCH, MetadataLogEntry, StatisticsFile};
use super::sort_order::SortOrder;
use super::update::TableUpdate;
use super::version::FormatVersion;
use crate::error::Result;
use crate::time::Timestamp;

/// Stands for what has been added last.
const LAST_ADDED: i32 = -1;
/// Property that says how many earlier metadata files are remembered.
const PREVIOUS_VERSIONS_MAX: &str = "write.metadata.previous-versions-max";
/// Its default.
const DEFAULT_PREVIOUS_VERSIONS_MAX: usize = 100;

impl TableMetadata {
    /// The table after `updates`, which are made at `now`; `previous` is where the metadata lie that they are
    /// made to, for the log of metadata files.
    ///
    /// # Errors
    ///
    /// `Conflict` when a snapshot was made for an earlier state of the table: make it anew; `Invalid` naming the
    /// update that is not possible; `Unsupported` when it asks for a type or transform that is not known here.
    pub fn apply(&self, updates: &[TableUpdate], now: Timestamp, previous: Option<&str>) -> Result<Self> {
        if updates.is_empty() {
            return Ok(self.clone());
        }
        let mut draft = Draft {
            now: self.next_timestamp(now),
            base: self.parts(),
            parts: self.parts().clone(),
            added_snapshots: BTreeSet::new(),
            last_schema: None,
            last_spec: None,
            last_sort_order: None,
        };
        for update in updates {
            draft.apply(update)?;
        }
        draft.finish(previous)
    }
}

/// Metadata while they are being changed.
pub(super) struct Draft<'a> {
    /// When, but never before the last change.
    pub(super) now: Timestamp,
    pub(super) base: &'a Parts,
    pub(super) parts: Parts,
    pub(super) added_snapshots: BTreeSet<i64>,
    last_schema: Option<i32>,
    last_spec: Option<i32>,
    last_sort_order: Option<i32>,
}

impl Draft<'_> {
    fn apply(&mut self, update: &TableUpdate) -> Result<()> {
        let parts = &mut self.parts;
        match update {
            TableUpdate::AssignUuid { uuid } => self.assign_uuid(uuid)?,
            TableUpdate::UpgradeFormatVersion { format_version } => self.upgrade(*format_version)?,
            TableUpdate::AddSchema { schema, last_column_id } => self.add_schema(schema, *last_column_id)?,
            TableUpdate::SetCurrentSchema { schema_id } => {
                let id = added_or("set-current-schema", *schema_id, self.last_schema)?;
                if parts.schema(id)?.is_none() {
                    return Err(no_such("set-current-schema", id).into());
                }
                parts.current_schema_id = id;
            }
            TableUpdate::AddSpec { spec } => self.add_spec(spec)?,
            TableUpdate::SetDefaultSpec { spec_id } => {
                let id = added_or("set-default-spec", *spec_id, self.last_spec)?;
                if parts.spec(id).is_none() {
                    return Err(no_such("set-default-spec", id).into());
                }
                parts.default_spec_id = id;
            }
            TableUpdate::AddSortOrder { sort_order } => self.add_sort_order(sort_order)?,
            TableUpdate::SetDefaultSortOrder { sort_order_id } => {
                let id = added_or("set-default-sort-order", *sort_order_id, self.last_sort_order)?;
                if id != 0 && parts.sort_order(id).is_none() {
                    return Err(no_such("set-default-sort-order", id).into());
                }
                parts.default_sort_order_id = id;
            }
            TableUpdate::AddSnapshot { snapshot } => self.add_snapshot(snapshot)?,
            TableUpdate::SetSnapshotRef { ref_name, reference } => self.set_ref(ref_name, reference)?,
            TableUpdate::RemoveSnapshots { snapshot_ids } => self.remove_snapshots(snapshot_ids)?,
            TableUpdate::RemoveSnapshotRef { ref_name } => {
                parts.refs.remove(ref_name);
                if ref_name == MAIN_BRANCH {
                    parts.current_snapshot_id = None;
                }
            }
            TableUpdate::SetLocation { location } => parts.location.clone_from(location),
            TableUpdate::SetProperties { updates } => {
                let updates = updates.iter().map(|(key, value)| (key.clone(), value.clone()));
                parts.properties.extend(updates);
            }
            TableUpdate::RemoveProperties { removals } => parts.properties.retain(|key, _| !removals.contains(key)),
            TableUpdate::SetStatistics { statistics } => set_statistics(&mut parts.statistics, statistics),
            TableUpdate::RemoveStatistics { snapshot_id } => {
                parts.statistics.retain(|file| file.snapshot_id != *snapshot_id);
            }
            TableUpdate::SetPartitionStatistics { partition_statistics } => {
                set_statistics(&mut parts.partition_statistics, partition_statistics);
            }
            TableUpdate::RemovePartitionStatistics { snapshot_id } => {
                parts
                    .partition_statistics
                    .retain(|file| file.snapshot_id != *snapshot_id);
            }
        }
        Ok(())
    }

    fn assign_uuid(&mut self, uuid: &str) -> Result<(), SpecError> {
        let own = self.parts.table_uuid.get_or_insert_with(|| uuid.to_owned());
        if !own.eq_ignore_ascii_case(uuid) {
            return Err(SpecError::update("assign-uuid", "the table has another id already"));
        }
        Ok(())
    }

    fn upgrade(&mut self, version: FormatVersion) -> Result<(), SpecError> {
        if version < self.parts.format_version {
            let rule = format!("the table is of version {} already", self.parts.format_version);
            return Err(SpecError::update("upgrade-format-version", rule));
        }
        self.parts.format_version = version;
        if version >= FormatVersion::V3 {
            self.parts.next_row_id.get_or_insert(0);
        }
        Ok(())
    }

    fn add_schema(&mut self, schema: &Schema, last_column_id: Option<i32>) -> Result<(), SpecError> {
        let parts = &mut self.parts;
        schema.check_ids()?;
        schema.check_types(parts.format_version)?;
        let known = parts.schemas.iter().filter_map(|known| parse_schema(known).ok());
        let id = match known.into_iter().find(|known| known.is_same(schema)) {
            Some(known) => known.schema_id,
            None => {
                let ids = parts.schemas.iter().filter_map(|known| schema_id(known).ok());
                let added = Schema {
                    schema_id: next_id("add-schema", ids, 0)?,
                    ..schema.clone()
                };
                parts.schemas.push(added.to_json());
                added.schema_id
            }
        };
        let highest = schema.max_field_id().max(last_column_id.unwrap_or(0));
        parts.last_column_id = parts.last_column_id.max(highest);
        self.last_schema = Some(id);
        Ok(())
    }

    fn add_spec(&mut self, spec: &PartitionSpec) -> Result<()> {
        const ACTION: &str = "add-spec";
        let parts = &mut self.parts;
        let schema = parts.schema(parts.current_schema_id)?;
        let schema = schema.ok_or_else(|| no_such(ACTION, parts.current_schema_id))?;
        spec.partition_type(&schema)?;
        let ids: Vec<_> = spec.fields.iter().map(|field| field.field_id).collect();
        let sequential = ids.iter().copied().eq((BEFORE_FIRST_FIELD_ID + 1..).take(ids.len()));
        if parts.format_version == FormatVersion::V1 && !sequential {
            return Err(SpecError::update(ACTION, "in version 1 field ids are 1000, 1001 and so on").into());
        }
        if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
            return Err(SpecError::update(ACTION, "a field id is used twice").into());
        }
        let id = match parts.partition_specs.iter().find(|known| known.is_same(spec)) {
            Some(known) => known.spec_id,
            None => {
                let ids = parts.partition_specs.iter().map(|known| known.spec_id);
                let added = PartitionSpec {
                    spec_id: next_id(ACTION, ids, 0)?,
                    ..spec.clone()
                };
                let id = added.spec_id;
                parts.last_partition_id = parts.last_partition_id.max(added.last_field_id());
                parts.partition_specs.push(added);
                id
            }
        };
        self.last_spec = Some(id);
        Ok(())
    }

    fn add_sort_order(&mut self, order: &SortOrder) -> Result<(), SpecError> {
        const ACTION: &str = "add-sort-order";
        let parts = &mut self.parts;
        let schema = parts.schema(parts.current_schema_id)?;
        order.check(&schema.ok_or_else(|| no_such(ACTION, parts.current_schema_id))?)?;
        let id = match parts.sort_orders.iter().find(|known| known.is_same(order)) {
            Some(known) => known.order_id,
            None => {
                let ids = parts.sort_orders.iter().map(|known| known.order_id);
                // Order 0 is the one without fields, and no other.
                let order_id = if order.is_unsorted() {
                    0
                } else {
                    next_id(ACTION, ids, 1)?
                };
                parts.sort_orders.push(SortOrder {
                    order_id,
                    ..order.clone()
                });
                order_id
            }
        };
        self.last_sort_order = Some(id);
        Ok(())
    }

    fn finish(mut self, previous: Option<&str>) -> Result<TableMetadata> {
        let parts = &mut self.parts;
        // A snapshot that was current only between two updates never was.
        let (added, current) = (&self.added_snapshots, parts.current_snapshot_id);
        parts
            .snapshot_log
            .retain(|entry| Some(entry.snapshot_id) == current || !added.contains(&entry.snapshot_id));
        let times = parts.snapshots.iter().filter(|s| added.contains(&s.snapshot_id));
        parts.last_updated_ms = times.map(|s| s.timestamp_ms).fold(self.now, Timestamp::max);
        if let Some(previous) = previous {
            parts.metadata_log.push(MetadataLogEntry {
                metadata_file: previous.to_owned(),
                timestamp_ms: self.base.last_updated_ms,
                extra: serde_json::Map::new(),
            });
            let max = parts.properties.get(PREVIOUS_VERSIONS_MAX);
            let max = max.and_then(|max| max.trim().parse::<usize>().ok());
            let max = max.unwrap_or(DEFAULT_PREVIOUS_VERSIONS_MAX).max(1);
            let surplus = parts.metadata_log.len().saturating_sub(max);
            parts.metadata_log.drain(..surplus);
        }
        let schema_changed = parts.current_schema_id != self.base.current_schema_id;
        let spec_changed = parts.default_spec_id != self.base.default_spec_id;
        let order_changed = parts.default_sort_order_id != self.base.default_sort_order_id;
        let table = self.parts.finish()?;
        if schema_changed || spec_changed {
            table.default_spec().partition_type(table.schema())?;
        }
        if schema_changed || order_changed {
            table.default_sort_order().check(table.schema())?;
        }
        Ok(table)
    }
}

fn added_or(action: &'static str, id: i32, last: Option<i32>) -> Result<i32, SpecError> {
    match id {
        LAST_ADDED => last.ok_or_else(|| SpecError::update(action, "nothing has been added")),
        id => Ok(id),
    }
}

fn no_such(action: &'static str, id: i32) -> SpecError {
    SpecError::update(action, format!("{id} is not there"))
}

fn next_id(action: &'static str, ids: impl Iterator<Item = i32>, first: i32) -> Result<i32, SpecError> {
    match ids.max() {
        None => Ok(first),
        Some(id) => {
            let next = id.checked_add(1).map(|next| next.max(first));
            next.ok_or_else(|| SpecError::update(action, "ids are used up"))
        }
    }
}

fn set_statistics(files: &mut Vec<StatisticsFile>, file: &StatisticsFile) {
    files.retain(|known| known.snapshot_id != file.snapshot_id);
    files.push(file.clone());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::apply_snapshots::tests::{append, appended, at, change, log, schema, snapshot, table, update};
    use super::super::snapshot::RefKind;
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn time_never_goes_back() {
        let base = table(FormatVersion::V2);
        assert_eq!(base.next_timestamp(at(5)), at(1_000_000));
        let table = base
            .apply(
                &[update(json!({"action": "set-properties", "updates": {}}))],
                at(5),
                None,
            )
            .unwrap();
        assert_eq!(table.last_updated(), at(1_000_000));
        let error = base.apply(&append(snapshot(7, &base, 5)), at(5), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        // Clocks may differ a little.
        assert_eq!(appended(&base, 7, 999_999).last_updated(), at(1_000_000));
        // A snapshot from the future takes the table with it.
        let table = base
            .apply(&append(snapshot(7, &base, 3_000_000)), at(2_000_000), None)
            .unwrap();
        assert_eq!(table.last_updated(), at(3_000_000));
    }

    #[test]
    fn the_metadata_log_is_trimmed_as_the_property_says() {
        let mut table = table(FormatVersion::V2);
        for n in 0..150 {
            let updates = [update(
                json!({"action": "set-properties", "updates": {"n": n.to_string()}}),
            )];
            table = table
                .apply(&updates, at(1_000_000), Some(&format!("v{n}.metadata.json")))
                .unwrap();
        }
        let files = |table: &TableMetadata| -> (usize, String) {
            let log = table.metadata_log();
            (log.len(), log[0].metadata_file.clone())
        };
        assert_eq!(files(&table), (100, "v50.metadata.json".to_owned()));
        let three = [update(
            json!({"action": "set-properties", "updates": {PREVIOUS_VERSIONS_MAX: "3"}}),
        )];
        let table = table.apply(&three, at(1_000_000), Some("v150.metadata.json")).unwrap();
        assert_eq!(files(&table), (3, "v148.metadata.json".to_owned()));
    }

    #[test]
    fn schemas_specs_and_orders_get_the_next_id_or_that_of_their_like() {
        let mut wider = schema();
        let next = crate::iceberg::NestedField::optional(3, "s", crate::iceberg::PrimitiveType::String.into());
        wider.fields.push(next);
        let day = json!({"source-id": 2, "field-id": 1000, "name": "at_day", "transform": "day"});
        let by_id = json!({"source-id": 1, "transform": "identity", "direction": "asc", "null-order": "nulls-first"});
        let updates = [
            json!({"action": "add-schema", "schema": wider.to_json()}),
            json!({"action": "set-current-schema", "schema-id": -1}),
            json!({"action": "add-spec", "spec": {"spec-id": 0, "fields": [day]}}),
            json!({"action": "set-default-spec", "spec-id": -1}),
            json!({"action": "add-sort-order", "sort-order": {"order-id": 0, "fields": [by_id]}}),
            json!({"action": "set-default-sort-order", "sort-order-id": -1}),
        ];
        let first = change(&table(FormatVersion::V2), &updates).unwrap();
        assert_eq!((first.schema().schema_id, first.last_column_id()), (1, 3));
        assert_eq!((first.default_spec().spec_id, first.last_partition_id()), (1, 1000));
        assert_eq!(first.default_sort_order().order_id, 1);
        let second = change(&first, &updates).unwrap();
        assert_eq!(second.to_json().unwrap(), first.to_json().unwrap());
        let back = [
            json!({"action": "add-sort-order", "sort-order": {"order-id": 5, "fields": []}}),
            json!({"action": "set-default-sort-order", "sort-order-id": -1}),
        ];
        assert_eq!(
            change(&second, &back).unwrap().default_sort_order(),
            &SortOrder::unsorted()
        );
    }

    #[test]
    fn what_is_not_possible_is_refused_with_its_action() {
        let table = appended(&table(FormatVersion::V2), 7, 1_500_000);
        let spec = |source: i32, transform: &str| {
            json!({"action": "add-spec", "spec": {"fields":
                [{"source-id": source, "field-id": 1000, "name": "p", "transform": transform}]}})
        };
        let nanos = json!({"type": "struct", "fields":
            [{"id": 1, "name": "n", "required": false, "type": "timestamp_ns"}]});
        for (update, kind, text) in [
            (
                json!({"action": "assign-uuid", "uuid": "x"}),
                ErrorKind::Invalid,
                "assign-uuid",
            ),
            (
                json!({"action": "upgrade-format-version", "format-version": 1}),
                ErrorKind::Invalid,
                "the table is of version 2 already",
            ),
            (
                json!({"action": "set-current-schema", "schema-id": -1}),
                ErrorKind::Invalid,
                "nothing has been added",
            ),
            (
                json!({"action": "set-current-schema", "schema-id": 4}),
                ErrorKind::Invalid,
                "4 is not there",
            ),
            (
                json!({"action": "set-default-spec", "spec-id": 4}),
                ErrorKind::Invalid,
                "4 is not there",
            ),
            (
                json!({"action": "set-default-sort-order", "sort-order-id": 4}),
                ErrorKind::Invalid,
                "4 is not there",
            ),
            (
                json!({"action": "add-schema", "schema": nanos}),
                ErrorKind::Invalid,
                "not in version 2",
            ),
            (spec(1, "zorder"), ErrorKind::Unsupported, "transform=`zorder`"),
            (
                spec(9, "identity"),
                ErrorKind::Invalid,
                "not a column that can be partitioned by",
            ),
            (
                json!({"action": "set-snapshot-ref", "ref-name": "b", "type": "branch", "snapshot-id": 8}),
                ErrorKind::Invalid,
                "snapshot 8 is not there",
            ),
            (
                json!({"action": "set-snapshot-ref", "ref-name": "main", "type": "tag", "snapshot-id": 7}),
                ErrorKind::Invalid,
                "main is a branch",
            ),
        ] {
            let error = change(&table, &[update]).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn a_table_can_be_upgraded_but_not_back() {
        let upgrade = |version: u8| json!({"action": "upgrade-format-version", "format-version": version});
        let v1 = appended(&table(FormatVersion::V1), 7, 1_500_000);
        let v3 = change(&v1, &[upgrade(2), upgrade(3)]).unwrap();
        assert_eq!((v3.next_row_id(), v3.next_sequence_number()), (Some(0), 1));
        let json = v3.to_json().unwrap();
        assert_eq!(json["snapshots"][0]["sequence-number"], 0);
        assert_eq!(json.get("schema"), None);
        assert_eq!(TableMetadata::from_json(json).unwrap(), v3);
    }

    #[test]
    fn properties_and_references_come_and_go() {
        let table = appended(&table(FormatVersion::V2), 7, 1_500_000);
        let tag = json!({"action": "set-snapshot-ref", "ref-name": "t", "type": "tag", "snapshot-id": 7});
        let table = change(
            &table,
            &[
                tag,
                json!({"action": "set-properties", "updates": {"c": "d"}}),
                json!({"action": "remove-properties", "removals": ["a", "none"]}),
            ],
        )
        .unwrap();
        assert_eq!(table.properties(), &BTreeMap::from([("c".to_owned(), "d".to_owned())]));
        assert_eq!(table.refs()["t"].kind, RefKind::Tag);
        assert_eq!(log(&table), [(7, 1_500_000)]);
        let updates = ["t", MAIN_BRANCH].map(|name| json!({"action": "remove-snapshot-ref", "ref-name": name}));
        let table = change(&table, &updates).unwrap();
        assert!(table.refs().is_empty());
        assert_eq!(table.current_snapshot(), None);
    }
}
