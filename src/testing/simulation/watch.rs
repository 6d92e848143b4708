//! The promises, looked at after every step, from the log of operations and the stored objects alone.

use std::collections::{BTreeMap, BTreeSet};

use futures::executor::block_on;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::Value;

use super::rows::{Row, rows_of};
use super::script::Script;
use super::tables::{Published, PublishedEntry};
use super::violation::{Broken, Promise, holds};
use super::world::{GRACE_MS, World, read};
use crate::ids::Sha256Digest;
use crate::testing::{Operation, OperationKind};
use crate::time::Timestamp;

/// What has been seen so far.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Operations looked at.
    seen: usize,
    /// When the rows of a key were committed.
    pub(super) committed: BTreeMap<String, Timestamp>,
    /// Objects that belong to tables.
    kept: BTreeSet<String>,
    /// The newest entry of each lane.
    newest: BTreeMap<String, u64>,
    /// Of all operations, in order.
    digest: Vec<u8>,
    pub(super) entries: u64,
    pub(super) voids: u64,
}

impl Watch {
    /// Looks at what has happened since the last time.
    pub(super) fn look(&mut self, world: &World, script: &Script) -> Result<(), Broken> {
        for operation in world.faults.log_from(self.seen) {
            self.seen += 1;
            self.note(world, &operation);
            if operation.applied {
                self.look_at(world, script, &operation)?;
            }
        }
        let complaints = world.complaints();
        holds(complaints.is_empty(), Promise::NoHalt, || complaints.join("; "))
    }

    /// Operations looked at.
    pub(super) fn operations(&self) -> usize {
        self.seen
    }

    /// The same for the same schedule.
    pub(super) fn digest(&self) -> Sha256Digest {
        Sha256Digest::of(&self.digest)
    }

    fn note(&mut self, world: &World, operation: &Operation) {
        let line = format!("{}{}", world.now().as_millis(), line(operation));
        let both = [self.digest.as_slice(), line.as_bytes()].concat();
        self.digest = Sha256Digest::of(&both).as_bytes().to_vec();
    }

    fn look_at(&mut self, world: &World, script: &Script, operation: &Operation) -> Result<(), Broken> {
        match (operation.store.as_str(), operation.kind) {
            ("bucket", OperationKind::Delete) => self.source_deleted(world, operation),
            ("bucket", kind) => holds(is_read(kind), Promise::Kept, || {
                format!("the bucket was written to: {}", line(operation))
            }),
            ("tables", OperationKind::PutCreate) => {
                let object = Path::from(operation.path.as_str());
                match world.tables.published(&world.truth.tables, &object) {
                    Some(published) => self.published(world, script, &published),
                    None => Ok(()),
                }
            }
            ("tables", OperationKind::Delete) => holds(!self.kept.contains(&operation.path), Promise::Kept, || {
                format!("an object of a table was deleted: {}", line(operation))
            }),
            ("tables", kind) if overwrites(kind) => {
                let object = Path::from(operation.path.as_str());
                let may_be = world.tables.is_hint(&object) || !self.kept.contains(&operation.path);
                holds(may_be, Promise::Kept, || format!("overwritten: {}", line(operation)))
            }
            ("control", OperationKind::Delete) => {
                let is_leftover = ["/attempts/", "/scratch/"]
                    .iter()
                    .any(|dir| operation.path.contains(dir))
                    || operation.path.ends_with("/lane.json");
                holds(is_leftover, Promise::Deletions, || {
                    format!("a plan or decision was deleted: {}", line(operation))
                })
            }
            ("control", kind) => holds(!overwrites(kind), Promise::Kept, || {
                format!("overwritten: {}", line(operation))
            }),
            _ => Ok(()),
        }
    }

    fn source_deleted(&self, world: &World, operation: &Operation) -> Result<(), Broken> {
        let committed = self.committed.get(&operation.path);
        let Some(committed) = committed else {
            let detail = format!("deleted, and in no commit: {}", line(operation));
            return Err(Broken::new(Promise::Deletions, detail));
        };
        let now = world.now();
        holds(now >= *committed + GRACE_MS, Promise::Grace, || {
            let at = committed.to_iso();
            format!("committed at {at}, deleted at {}: {}", now.to_iso(), line(operation))
        })
    }

    fn published(&mut self, world: &World, script: &Script, published: &Published) -> Result<(), Broken> {
        for entry in &published.entries {
            self.entry(world, script, published, entry)?;
        }
        self.kept.extend(published.kept.iter().map(ToString::to_string));
        self.kept.extend(published.added.iter().map(ToString::to_string));
        Ok(())
    }

    fn entry(
        &mut self,
        world: &World,
        script: &Script,
        published: &Published,
        entry: &PublishedEntry,
    ) -> Result<(), Broken> {
        self.entries += 1;
        let newest = self.newest.insert(entry.lane.clone(), entry.seq).unwrap_or(0);
        holds(entry.seq == newest + 1, Promise::Once, || {
            format!("entry {entry:?} after {newest}")
        })?;
        if entry.is_void {
            self.voids += 1;
            return holds(published.added.is_empty(), Promise::Rows, || {
                format!("a void with files: {published:?}")
            });
        }
        let keys = planned(world, published, entry)?;
        let mut expected = Vec::new();
        for key in keys {
            let source = script.sources.iter().find(|source| source.key == key);
            let source = source.ok_or_else(|| Broken::simulation(format!("no source `{key}`")))?;
            holds(!source.is_corrupt, Promise::Rows, || {
                format!("committed as if whole: {key}")
            })?;
            expected.extend(source.rows.iter().cloned());
            let earlier = self.committed.insert(key.clone(), world.now());
            holds(earlier.is_none(), Promise::Once, || {
                format!("in two committed plans: {key}")
            })?;
        }
        expected.sort();
        let mut found = Vec::new();
        for file in &published.added {
            let rows = rows_of(read(&world.truth.tables, file)?).map_err(Broken::simulation)?;
            holds(rows.is_sorted(), Promise::Order, || format!("not sorted: {file}"))?;
            found.extend(rows);
        }
        found.sort();
        holds(found == expected, Promise::Rows, || {
            format!("entry {entry:?}: {}", difference(&found, &expected))
        })
    }
}

/// The keys that the plan of an entry lists.
fn planned(world: &World, published: &Published, entry: &PublishedEntry) -> Result<Vec<String>, Broken> {
    let lane = format!("lanes/{}/{}", published.namespace, entry.lane);
    let path = Path::from(format!("{lane}/plans/{}.json", entry.seq));
    let plan = block_on(async { world.truth.control.get(&path).await?.bytes().await });
    let plan = plan.map_err(|e| Broken::new(Promise::Rows, format!("an entry without a plan: {e}")))?;
    let plan: Value = serde_json::from_slice(&plan).map_err(Broken::simulation)?;
    let sources = plan.get("sources").and_then(Value::as_array);
    let keys = sources
        .into_iter()
        .flatten()
        .filter_map(|source| source.get("key")?.as_str());
    Ok(keys.map(ToOwned::to_owned).collect())
}

/// The first rows that only one of two sorted lists has.
pub(super) fn difference(found: &[Row], expected: &[Row]) -> String {
    const SHOWN: usize = 5;
    let only = |here: &[Row], there: &[Row]| {
        let mut there: Vec<&Row> = there.iter().collect();
        let mut only: Vec<String> = Vec::new();
        for row in here {
            match there.iter().position(|other| *other == row) {
                Some(at) => drop(there.remove(at)),
                None => only.push(row.1.clone()),
            }
        }
        only.truncate(SHOWN);
        only
    };
    let (more, lacking) = (only(found, expected), only(expected, found));
    format!(
        "rows {}, expected {}, too many {more:?}, lacking {lacking:?}",
        found.len(),
        expected.len()
    )
}

/// An operation in a line.
pub(super) fn line(operation: &Operation) -> String {
    let Operation {
        index,
        store,
        kind,
        path,
        bytes,
        applied,
        error,
        fault,
    } = operation;
    let fault = fault.map(|fault| format!(" {fault:?}")).unwrap_or_default();
    let error = error.as_deref().map(|_| " failed").unwrap_or_default();
    format!("{index} {store} {kind:?} {path} bytes={bytes} applied={applied}{error}{fault}")
}

fn is_read(kind: OperationKind) -> bool {
    matches!(kind, OperationKind::Get | OperationKind::Head | OperationKind::List)
}

fn overwrites(kind: OperationKind) -> bool {
    matches!(
        kind,
        OperationKind::Put | OperationKind::PutUpdate | OperationKind::Copy | OperationKind::Rename
    )
}
