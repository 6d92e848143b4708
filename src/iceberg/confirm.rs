//! The entries of a lane in a table's history, and whether one is still in (lane protocol, rule 9). Pure.

use super::marker::{marker_key, marker_text};
use super::metadata::TableMetadata;
use super::snapshot::Snapshot;
use crate::ids::LaneId;
use crate::sink::Marker;

/// The snapshot of an entry, as far as it has not been expired; that of the table's own history first.
pub(super) fn entry_snapshot<'a>(table: &'a TableMetadata, lane: LaneId, marker: &Marker) -> Option<&'a Snapshot> {
    let (key, text) = (marker_key(lane), marker_text(marker));
    let is_entry = |snapshot: &&Snapshot| snapshot.summary.get(&key) == Some(&text);
    let current = table.current_snapshot().map(|snapshot| snapshot.snapshot_id);
    let history = current.map(|id| table.ancestors(id)).unwrap_or_default();
    history
        .into_iter()
        .find(is_entry)
        .or_else(|| table.snapshots().iter().find(is_entry))
}

/// Whether the table as it is now was made of a snapshot.
pub(super) fn is_in_history(table: &TableMetadata, snapshot_id: i64) -> bool {
    let current = table.current_snapshot().map(|snapshot| snapshot.snapshot_id);
    current.is_some_and(|id| table.ancestors(id).iter().any(|s| s.snapshot_id == snapshot_id))
}
