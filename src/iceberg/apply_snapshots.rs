//! What adding, naming and removing snapshots does to a table's metadata. Pure.

use super::apply::Draft;
use super::error::SpecError;
use super::schema_json::schema_id;
use super::snapshot::{MAIN_BRANCH, RefKind, Snapshot, SnapshotLogEntry, SnapshotRef};
use super::version::FormatVersion;

/// By how much a snapshot may be older than the table: clocks differ.
const CLOCK_SKEW_MS: u64 = 60_000;

impl Draft<'_> {
    pub(super) fn add_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), SpecError> {
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

    pub(super) fn set_ref(&mut self, name: &str, reference: &SnapshotRef) -> Result<(), SpecError> {
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

    pub(super) fn remove_snapshots(&mut self, ids: &[i64]) -> Result<(), SpecError> {
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
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::error::{ErrorKind, Result};
    use crate::iceberg::{NewTable, PartitionSpec, Schema, SortOrder, TableMetadata, TableUpdate};
    use crate::time::Timestamp;

    pub(in super::super) fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    pub(in super::super) fn schema() -> Schema {
        Schema::from_json(&json!({"type": "struct", "fields": [
            {"id": 1, "name": "id", "required": true, "type": "long"},
            {"id": 2, "name": "at", "required": false, "type": "timestamptz"}]}))
        .unwrap()
    }

    pub(in super::super) fn table(format_version: FormatVersion) -> TableMetadata {
        TableMetadata::create(NewTable {
            uuid: Uuid::from_u128(1),
            location: "s3://b/t".to_owned(),
            format_version,
            schema: schema(),
            partition_spec: PartitionSpec::unpartitioned(),
            sort_order: SortOrder::unsorted(),
            properties: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            now: at(1_000_000),
        })
        .unwrap()
    }

    pub(in super::super) fn snapshot(id: i64, table: &TableMetadata, millis: i64) -> Snapshot {
        Snapshot {
            snapshot_id: id,
            parent_snapshot_id: table.current_snapshot().map(|s| s.snapshot_id),
            sequence_number: table.next_sequence_number(),
            timestamp_ms: at(millis),
            manifest_list: Some(format!("s3://b/t/metadata/{id}.avro")),
            summary: BTreeMap::from([("operation".to_owned(), "append".to_owned())]),
            schema_id: Some(0),
            first_row_id: table.next_row_id(),
            added_rows: table.next_row_id().map(|_| 10),
            ..Snapshot::default()
        }
    }

    pub(in super::super) fn append(snapshot: Snapshot) -> Vec<TableUpdate> {
        let reference = SnapshotRef::branch(snapshot.snapshot_id);
        vec![
            TableUpdate::AddSnapshot { snapshot },
            TableUpdate::SetSnapshotRef {
                ref_name: MAIN_BRANCH.to_owned(),
                reference,
            },
        ]
    }

    pub(in super::super) fn appended(table: &TableMetadata, id: i64, millis: i64) -> TableMetadata {
        table
            .apply(&append(snapshot(id, table, millis)), at(millis), None)
            .unwrap()
    }

    pub(in super::super) fn update(json: Value) -> TableUpdate {
        serde_json::from_value(json).unwrap()
    }

    pub(in super::super) fn change(table: &TableMetadata, updates: &[Value]) -> Result<TableMetadata> {
        let updates: Vec<_> = updates.iter().cloned().map(update).collect();
        table.apply(&updates, at(2_000_000), None)
    }

    pub(in super::super) fn log(table: &TableMetadata) -> Vec<(i64, i64)> {
        let entries = table.snapshot_log().iter();
        entries
            .map(|entry| (entry.snapshot_id, entry.timestamp_ms.as_millis()))
            .collect()
    }

    #[test]
    fn an_append_moves_main_current_snapshot_and_logs_together() {
        let base = table(FormatVersion::V2);
        let updates = append(snapshot(7, &base, 1_500_000));
        let table = base
            .apply(&updates, at(1_500_000), Some("s3://b/t/metadata/v1.metadata.json"))
            .unwrap();
        assert_eq!(table.current_snapshot().unwrap().snapshot_id, 7);
        assert_eq!(table.refs()[MAIN_BRANCH], SnapshotRef::branch(7));
        assert_eq!(log(&table), [(7, 1_500_000)]);
        assert_eq!((table.last_sequence_number(), table.last_updated()), (1, at(1_500_000)));
        let [previous] = table.metadata_log() else {
            panic!("one entry")
        };
        assert_eq!(previous.metadata_file, "s3://b/t/metadata/v1.metadata.json");
        assert_eq!(previous.timestamp_ms, at(1_000_000));
        let parsed = TableMetadata::parse(&table.encode().unwrap()).unwrap();
        assert_eq!(parsed, table);
    }

    #[test]
    fn a_snapshot_for_an_earlier_table_is_a_conflict() {
        let base = table(FormatVersion::V3);
        let stale = snapshot(8, &base, 1_500_000);
        let moved = appended(&base, 7, 1_500_000);
        assert_eq!(moved.next_row_id(), Some(10));
        let error = moved.apply(&append(stale.clone()), at(1_500_000), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let renumbered = Snapshot {
            sequence_number: 2,
            ..stale
        };
        let error = moved.apply(&append(renumbered), at(1_500_000), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(
            error.to_string(),
            "the table has changed since the commit was made: its first row id 0 is below 10. action=`add-snapshot`"
        );
    }

    #[test]
    fn snapshots_that_cannot_be_are_refused() {
        let v2 = appended(&table(FormatVersion::V2), 7, 1_500_000);
        let good = snapshot(8, &v2, 1_500_000);
        let (mut same_id, mut no_schema, mut no_list, mut rows) = (good.clone(), good.clone(), good.clone(), good);
        same_id.snapshot_id = 7;
        no_schema.schema_id = Some(9);
        no_list.manifest_list = None;
        rows.first_row_id = Some(0);
        for (snapshot, text) in [
            (same_id, "snapshot 7 is there already"),
            (no_schema, "schema 9 is not there"),
            (no_list, "it has no manifest list"),
            (rows, "a snapshot in version 2 has no first-row-id and added-rows"),
        ] {
            let error = v2.apply(&append(snapshot), at(1_500_000), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(text), "{error}");
        }
        let v3 = table(FormatVersion::V3);
        for (first_row_id, added_rows) in [
            (None, Some(1)),
            (Some(0), None),
            (Some(0), Some(-1)),
            (Some(i64::MAX), Some(1)),
        ] {
            let broken = Snapshot {
                first_row_id,
                added_rows,
                ..snapshot(7, &v3, 1_500_000)
            };
            let error = v3.apply(&append(broken), at(1_500_000), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        let v1 = table(FormatVersion::V1);
        assert_eq!(appended(&v1, 7, 1_500_000).last_sequence_number(), 0);
    }

    #[test]
    fn a_snapshot_that_was_current_between_two_updates_is_not_in_the_log() {
        let base = table(FormatVersion::V2);
        let mut updates = append(snapshot(7, &base, 1_500_000));
        let mut second = snapshot(8, &base, 1_500_001);
        second.sequence_number = 2;
        updates.extend(append(second));
        let table = base.apply(&updates, at(1_500_001), None).unwrap();
        assert_eq!(log(&table), [(8, 1_500_001)]);
        assert_eq!(table.snapshots().len(), 2);
    }

    #[test]
    fn going_back_is_logged_when_it_happens() {
        let mut table = table(FormatVersion::V2);
        for id in 1..=3 {
            table = appended(&table, id, 1_000_000 + id);
        }
        let back = json!({"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 1});
        let table = change(&table, &[back]).unwrap();
        let expected = [(1, 1_000_001), (2, 1_000_002), (3, 1_000_003), (1, 2_000_000)];
        assert_eq!(log(&table), expected);
        assert_eq!(table.current_snapshot().unwrap().snapshot_id, 1);
        assert_eq!(table.next_sequence_number(), 4);
    }

    #[test]
    fn expired_snapshots_take_their_statistics_and_the_log_before_them_along() {
        let mut table = table(FormatVersion::V2);
        for id in 1..=4 {
            table = appended(&table, id, 1_000_000 + id);
        }
        let statistics = |id: i64| json!({"snapshot-id": id, "statistics-path": "s", "file-size-in-bytes": 1});
        let mut updates: Vec<_> = (1..=4)
            .map(|id| json!({"action": "set-statistics", "statistics": statistics(id)}))
            .collect();
        updates.push(json!({"action": "remove-snapshots", "snapshot-ids": [2]}));
        let table = change(&table, &updates).unwrap();
        assert_eq!(log(&table), [(3, 1_000_003), (4, 1_000_004)]);
        let left: Vec<_> = table.statistics().iter().map(|file| file.snapshot_id).collect();
        assert_eq!(left, [1, 3, 4]);
        let ancestors: Vec<_> = table.ancestors(4).iter().map(|s| s.snapshot_id).collect();
        assert_eq!(ancestors, [4, 3]);
        let error = change(&table, &[json!({"action": "remove-snapshots", "snapshot-ids": [4]})]).unwrap_err();
        assert!(error.to_string().contains("snapshot 4 is that of main"), "{error}");
    }
}
