//! The metadata that a table has after a change. Pure: no I/O, no clock.

use std::collections::BTreeSet;

use super::error::SpecError;
use super::metadata::{Parts, TableMetadata};
use super::partition::{BEFORE_FIRST_FIELD_ID, PartitionSpec};
use super::schema::Schema;
use super::schema_json::{parse_schema, schema_id};
use super::snapshot::{
    MAIN_BRANCH, MetadataLogEntry, RefKind, Snapshot, SnapshotLogEntry, SnapshotRef, StatisticsFile,
};
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
/// By how much a snapshot may be older than the table: clocks differ.
const CLOCK_SKEW_MS: u64 = 60_000;

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

struct Draft<'a> {
    now: Timestamp,
    base: &'a Parts,
    parts: Parts,
    added_snapshots: BTreeSet<i64>,
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

    fn add_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), SpecError> {
        const ACTION: &str = "add-snapshot";
        let wrong = |rule: String| Err(SpecError::update(ACTION, rule));
        let outdated = |rule: String| Err(SpecError::Outdated { action: ACTION, rule });
        let parts = &mut self.parts;
        if parts.snapshot(snapshot.snapshot_id).is_some() {
            return wrong(format!("snapshot {} is there already", snapshot.snapshot_id));
        }
        if let Some(id) = snapshot.schema_id
            && !parts.schemas.iter().any(|schema| schema_id(schema).ok() == Some(id))
        {
            return wrong(format!("schema {id} is not there"));
        }
        if snapshot.timestamp_ms + CLOCK_SKEW_MS < self.base.last_updated_ms {
            return outdated(format!("it was made before {}", self.base.last_updated_ms));
        }
        let (number, last) = (snapshot.sequence_number, parts.last_sequence_number);
        if parts.format_version == FormatVersion::V1 {
            if number != 0 {
                return wrong("version 1 has no sequence numbers".to_owned());
            }
        } else if number <= last {
            return outdated(format!("sequence number {number} is not above {last}"));
        } else if snapshot.manifest_list.is_none() {
            return wrong("it has no manifest list".to_owned());
        }
        match (parts.next_row_id, snapshot.first_row_id, snapshot.added_rows) {
            (None, None, None) => {}
            (Some(next), Some(first), Some(_)) if first < next => {
                return outdated(format!("its first row id {first} is below {next}"));
            }
            (Some(_), Some(first), Some(added)) if added >= 0 => {
                let next = first.checked_add(added);
                parts.next_row_id = Some(next.ok_or_else(|| SpecError::update(ACTION, "row ids are used up"))?);
            }
            (next, ..) => {
                let needs = if next.is_some() { "needs" } else { "has no" };
                return wrong(format!(
                    "a snapshot in version {} {needs} first-row-id and added-rows",
                    parts.format_version
                ));
            }
        }
        parts.last_sequence_number = last.max(number);
        self.added_snapshots.insert(snapshot.snapshot_id);
        parts.snapshots.push(snapshot.clone());
        Ok(())
    }

    fn set_ref(&mut self, name: &str, reference: &SnapshotRef) -> Result<(), SpecError> {
        const ACTION: &str = "set-snapshot-ref";
        let parts = &mut self.parts;
        if parts.refs.get(name) == Some(reference) {
            return Ok(());
        }
        let Some(snapshot) = parts.snapshot(reference.snapshot_id) else {
            let rule = format!("snapshot {} is not there", reference.snapshot_id);
            return Err(SpecError::update(ACTION, rule));
        };
        if name == MAIN_BRANCH {
            if reference.kind != RefKind::Branch {
                return Err(SpecError::update(ACTION, "main is a branch"));
            }
            // Going back to an older snapshot happens now, not when that was made.
            let is_new = self.added_snapshots.contains(&reference.snapshot_id);
            let timestamp_ms = if is_new { snapshot.timestamp_ms } else { self.now };
            parts.snapshot_log.push(SnapshotLogEntry {
                snapshot_id: reference.snapshot_id,
                timestamp_ms,
                extra: serde_json::Map::new(),
            });
            parts.current_snapshot_id = Some(reference.snapshot_id);
        }
        parts.refs.insert(name.to_owned(), reference.clone());
        Ok(())
    }

    fn remove_snapshots(&mut self, ids: &[i64]) -> Result<(), SpecError> {
        let parts = &mut self.parts;
        let named = |reference: &SnapshotRef| ids.contains(&reference.snapshot_id);
        if let Some((name, reference)) = parts.refs.iter().find(|(_, reference)| named(reference)) {
            let rule = format!("snapshot {} is that of {name}", reference.snapshot_id);
            return Err(SpecError::update("remove-snapshots", rule));
        }
        parts.snapshots.retain(|snapshot| !ids.contains(&snapshot.snapshot_id));
        parts.statistics.retain(|file| !ids.contains(&file.snapshot_id));
        parts
            .partition_statistics
            .retain(|file| !ids.contains(&file.snapshot_id));
        // A gap would let the snapshot before it seem to have been current longer than it was.
        let gap = parts
            .snapshot_log
            .iter()
            .rposition(|entry| ids.contains(&entry.snapshot_id));
        if let Some(gap) = gap {
            parts.snapshot_log.drain(..=gap);
        }
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
