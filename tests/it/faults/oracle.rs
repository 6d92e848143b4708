//! What must hold whatever went wrong, from the stores and the log of their operations alone.

use std::collections::BTreeMap;

use firnline::Status;
use firnline::object_store::ObjectStoreExt;
use firnline::object_store::path::Path;
use firnline::testing::{Operation, OperationKind};
use futures::executor::block_on;
use serde_json::Value;

use crate::faults::rig::{GRACE_MS, NAMESPACE, Rig, Script};
use crate::table_log::{self, Entry};

/// The entries in the table's log, in order.
pub(super) fn entries(rig: &Rig) -> Vec<Entry> {
    table_log::entries(&rig.truth.tables, NAMESPACE)
}

/// The keys that the plan of an entry lists, if its object is there.
fn planned(rig: &Rig, entry: &Entry) -> Vec<String> {
    let path = format!("lanes/{NAMESPACE}/{}/plans/{}.json", entry.lane, entry.seq);
    let Ok(answer) = block_on(rig.truth.control.get(&Path::from(path))) else {
        return Vec::new();
    };
    let plan: Value = serde_json::from_slice(&block_on(answer.bytes()).unwrap()).unwrap();
    let sources = plan["sources"].as_array().unwrap();
    sources
        .iter()
        .map(|source| source["key"].as_str().unwrap().to_owned())
        .collect()
}

/// What holds at every moment of every run.
pub(super) fn check_always(rig: &Rig, what: &str) {
    let log = rig.faults.log();
    let entries = entries(rig);
    one_entry_per_seq(&entries, what);
    only_committed_sources_are_deleted(rig, &log, &entries, what);
    committed_files_stay(rig, &log, what);
    nothing_is_overwritten(&log, what);
}

fn one_entry_per_seq(entries: &[Entry], what: &str) {
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in entries {
        let before = newest.insert(&entry.lane, entry.seq);
        let next = before.map_or(entry.seq.min(1), |seq| seq + 1);
        assert_eq!(
            entry.seq, next,
            "{what}: seqs of the table are not one after the other: {entries:#?}"
        );
    }
}

/// Nothing that no committed plan lists, and nothing before the grace.
fn only_committed_sources_are_deleted(rig: &Rig, log: &[Operation], entries: &[Entry], what: &str) {
    let mut committed: BTreeMap<String, usize> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !entry.void) {
        let put = log
            .iter()
            .find(|op| op.applied && op.kind == OperationKind::PutCreate && op.path == entry.commit);
        let Some(put) = put else { continue };
        for key in planned(rig, entry) {
            let earlier = committed.insert(key.clone(), put.index);
            assert_eq!(earlier, None, "{what}: `{key}` is in two committed plans");
        }
    }
    for delete in log
        .iter()
        .filter(|op| op.store == "bucket" && op.applied && op.kind == OperationKind::Delete)
    {
        let commit = committed.get(&delete.path);
        let commit = commit.unwrap_or_else(|| panic!("{what}: `{}` was deleted and is in no commit", delete.path));
        let (at, deleted_at) = (rig.time_of(*commit), rig.time_of(delete.index));
        assert!(
            *commit < delete.index,
            "{what}: `{}` was deleted before its commit",
            delete.path
        );
        assert!(
            deleted_at >= at + GRACE_MS,
            "{what}: `{}` was committed at {} and deleted at {}",
            delete.path,
            at.to_iso(),
            deleted_at.to_iso()
        );
    }
    let writes = log.iter().filter(|op| op.store == "bucket" && op.applied);
    let reads = [
        OperationKind::Delete,
        OperationKind::Get,
        OperationKind::Head,
        OperationKind::List,
    ];
    for op in writes {
        assert!(reads.contains(&op.kind), "{what}: the bucket was written to: {op:?}");
    }
}

/// No file that any commit has added is deleted, referenced or not.
fn committed_files_stay(rig: &Rig, log: &[Operation], what: &str) {
    let added = table_log::added_files(&rig.truth.tables, NAMESPACE);
    for op in log
        .iter()
        .filter(|op| op.store == "tables" && op.applied && op.kind == OperationKind::Delete)
    {
        assert!(
            !added.contains(&op.path),
            "{what}: a committed file was deleted: {op:?}"
        );
        assert!(
            op.path.contains("/data/") || op.path.ends_with(".avro"),
            "{what}: a file that is no attempt's was deleted: {op:?}"
        );
    }
}

/// Commits, plans and decisions are created once and stay.
fn nothing_is_overwritten(log: &[Operation], what: &str) {
    let overwrites = [
        OperationKind::Put,
        OperationKind::PutUpdate,
        OperationKind::Copy,
        OperationKind::Rename,
    ];
    for op in log.iter().filter(|op| op.applied && overwrites.contains(&op.kind)) {
        assert!(
            table_log::is_hint(&op.path) || (op.store == "tables" && op.path.contains("/data/")),
            "{what}: overwritten: {op:?}"
        );
    }
    for op in log
        .iter()
        .filter(|op| op.applied && op.store == "control" && op.kind == OperationKind::Delete)
    {
        let leftover =
            op.path.contains("/attempts/") || op.path.contains("/scratch/") || op.path.ends_with("/lane.json");
        assert!(leftover, "{what}: a plan or decision was deleted: {op:?}");
    }
}

/// What holds at the end of a run in which the lane was never to halt.
pub(super) fn check_end(rig: &Rig, script: &Script, status: &Status, what: &str) {
    check_always(rig, what);
    assert_eq!(*rig.halts.lock().unwrap(), Vec::<String>::new(), "{what}: halted");
    assert_eq!(
        rig.truth.table_rows(NAMESPACE),
        script.good_rows(),
        "{what}: rows of the table"
    );
    assert_eq!(rig.truth.sources(), script.corrupt_keys(), "{what}: sources left");
    let quarantined: Vec<_> = status
        .quarantine
        .files
        .iter()
        .map(|file| file.key.to_string())
        .collect();
    assert_eq!(quarantined, script.corrupt_keys(), "{what}: quarantine {status:#?}");
    assert!(
        status.windows.is_empty() && status.plans.is_empty() && status.halts.is_empty(),
        "{what}: {status:#?}"
    );
}

/// No file of an attempt that did not make it is left.
pub(super) fn check_swept(rig: &Rig, what: &str) {
    let data = rig
        .truth
        .list(&rig.truth.tables, &Path::from(format!("{NAMESPACE}/data")));
    assert_eq!(data, rig.truth.live_files(NAMESPACE), "{what}: leftovers");
}
