//! What is struck: one function for each fuzz target. It panics where a promise is broken.

use std::sync::{Arc, OnceLock};

use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::{
    Codec, DefaultFileNames, FileNameParser, MergeError, MergeInput, MergeOptions, MergeTarget, ObjectKey, Options,
    ParquetMerger, Plan, SortField, SourceError, SourceFooter, Status, TableFormat, TimestampUnit, WriterId, event,
    read_footer,
};
use futures::executor::block_on;

use crate::counting::peak_of;
use crate::files;
use crate::world::Snapshot;

/// What anything may take beside the memory budget.
pub const EXTRA_BYTES: usize = 64 << 20;

/// Keys of objects.
pub fn keys(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for unit in [TimestampUnit::Milliseconds, TimestampUnit::Seconds] {
        let names = DefaultFileNames::new("data/", unit);
        let key = ObjectKey::new(text);
        if let Ok(file) = names.parse(&key) {
            assert!(key.as_str().starts_with("data/"), "{file:?} lies under the prefix");
        }
    }
}

/// Notifications.
pub fn events(bytes: &[u8]) {
    for event in event::r2::parse(bytes).into_iter().flatten() {
        assert!(!event.key.as_str().is_empty(), "an event names an object");
    }
}

/// Plans: by themselves, and as the register has them.
pub fn plan(bytes: &[u8]) {
    if let Ok(plan) = Plan::decode(bytes) {
        let encoded = plan.encode().expect("what was decoded can be encoded");
        let again = Plan::decode(&encoded).expect("what was encoded can be decoded");
        assert_eq!(again, plan);
    }
    snapshot(TableFormat::Delta).with_plan(bytes).work();
}

/// Values of the state store, after a byte that says which.
pub fn state(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    snapshot(TableFormat::Delta)
        .with_state(usize::from(*which), bytes)
        .work();
}

/// Status documents.
pub fn status(bytes: &[u8]) {
    if let Ok(status) = serde_json::from_slice::<Status>(bytes) {
        let text = serde_json::to_vec(&status).expect("a status can be written");
        let again: Status = serde_json::from_slice(&text).expect("what was written can be read");
        assert_eq!(again, status);
    }
}

/// Commits of a Delta table, after a byte that says which.
pub fn delta_log(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    let snapshot = snapshot(TableFormat::Delta);
    snapshot
        .with_table(usize::from(*which), bytes, |path| path.contains("/_delta_log/"))
        .work();
}

/// Metadata, manifest lists and manifests of an Iceberg table, after a byte that says which.
pub fn iceberg(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    let snapshot = snapshot(TableFormat::Iceberg);
    snapshot
        .with_table(usize::from(*which), bytes, |path| path.contains("/metadata/"))
        .work();
}

fn snapshot(format: TableFormat) -> &'static Snapshot {
    static DELTA: OnceLock<Snapshot> = OnceLock::new();
    static ICEBERG: OnceLock<Snapshot> = OnceLock::new();
    let place = if format == TableFormat::Delta { &DELTA } else { &ICEBERG };
    place.get_or_init(|| Snapshot::take(&Options::default().with_target_format(format)))
}

/// Footers, as the end of a file.
pub fn footer(bytes: &[u8]) {
    let mut file = b"PAR1".to_vec();
    file.extend_from_slice(bytes);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(b"PAR1");
    let size = file.len();
    let (_, peak) = peak_of(|| read(&store_of(file)));
    assert!(peak < EXTRA_BYTES + size, "{peak} bytes for a footer of {size}");
}

/// Merges of files with changed bytes: the first byte says of which, or that all of a file follows.
pub fn merge(bytes: &[u8]) {
    static KINDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let kinds = KINDS.get_or_init(files::kinds);
    let Some((which, rest)) = bytes.split_first() else {
        return;
    };
    let file = match kinds.get(usize::from(*which)) {
        Some(file) => files::changed(file.clone(), rest),
        None => rest.to_vec(),
    };
    let size = file.len();
    let (merged, peak) = peak_of(|| merged(file, Codec::None));
    assert!(peak < BUDGET + EXTRA_BYTES, "{peak} bytes to merge {size}: {merged:?}");
}

/// Memory budget of a merge.
pub const BUDGET: usize = 64 << 20;

/// Merges one file into one in this codec, `None` if its footer is refused.
///
/// # Errors
///
/// Why the file is not merged.
pub fn merged(file: Vec<u8>, codec: Codec) -> Option<Result<u64, MergeError>> {
    let store = store_of(file);
    let bad = read(&store)?;
    // Whatever its columns are called now, they are those of the output.
    let schema = Arc::clone(&bad.schema);
    let order = match schema.fields().iter().any(|field| field.name() == "id") {
        true => vec![SortField::ascending("id")],
        false => Vec::new(),
    };
    let options = MergeOptions::default()
        .with_sort_order(order)
        .with_memory_budget_bytes(BUDGET as u64)
        .with_codec(codec)
        .with_verify_reread(true);
    let input = |footer: SourceFooter, sequence| MergeInput {
        footer,
        writer: WriterId::new("w"),
        sequence,
    };
    let target = MergeTarget {
        store: Arc::clone(&store),
        dir: Path::from("out"),
        stem: "file".to_owned(),
        schema,
        partitioner: None,
        key_value_metadata: Vec::new(),
        scratch: Some((Arc::clone(&store), Path::from("scratch"))),
    };
    let merger = ParquetMerger::new(options);
    let outcome = block_on(merger.merge(&store, vec![input(bad, 1)], target, &()));
    match outcome {
        Ok(output) => Some(Ok(output.rows)),
        Err(error @ (MergeError::Source { .. } | MergeError::Budget { .. })) => Some(Err(error)),
        // Columns that cannot be written are the caller's, who took them from the file.
        Err(error @ MergeError::Invalid { .. }) => Some(Err(error)),
        Err(error) => panic!("not the fault of a file: {error}"),
    }
}

fn store_of(file: Vec<u8>) -> Arc<dyn ObjectStore> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    block_on(store.put(&Path::from("in/file"), file.into())).expect("memory does not fail");
    store
}

fn read(store: &Arc<dyn ObjectStore>) -> Option<SourceFooter> {
    match block_on(read_footer(&**store, &Path::from("in/file"), None)) {
        Ok(footer) => Some(footer),
        Err(SourceError::Bad(_)) => None,
        Err(SourceError::Unavailable(error)) => panic!("not the fault of a file: {error}"),
    }
}
