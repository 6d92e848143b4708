//! What a worker does with a sink, for the suite.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use uuid::Uuid;

use super::TableTrial;
use crate::data_file::DataFile;
use crate::ids::{AttemptId, HashPrefix, LaneId, PlanHash, Seq};
use crate::merge::{MergeInput, MergeOptions, MergeTarget, ParquetMerger, read_footer};
use crate::naming::WriterId;
use crate::options::Evolve;
use crate::sink::{
    CommitOutcome, Decision, Entry, Marker, Outcome, OutputFile, TableChange, TableCommit, TableLayout, TableSink,
    TableState,
};
use crate::testing::conformance::{answered, broken, keep};
use crate::testing::yielding::give_way;
use crate::time::Timestamp;

pub(super) const LANE: LaneId = LaneId::from_u128(0xA11CE);
pub(super) const HEIR: LaneId = LaneId::from_u128(0xB0B);
/// The id that a table is to get.
pub(super) const NEW_TABLE: Uuid = Uuid::from_u128(0x6a92_d155_a59b_42ee_bd4b_b4ec_7fd1_f875);

pub(super) fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
    ]))
}

/// Columns like those of `schema`, of two rows.
fn rows(schema: &SchemaRef) -> RecordBatch {
    let column = |field: &Arc<Field>| -> ArrayRef {
        match field.data_type() {
            DataType::Utf8 => Arc::new(StringArray::from(vec!["a", "b"])),
            _ => Arc::new(Int64Array::from(vec![1, 2])),
        }
    };
    let columns = schema.fields().iter().map(column).collect();
    RecordBatch::try_new(plain(schema), columns).unwrap_or_else(|e| broken("rows have their columns", e))
}

/// The same columns without what a table says of them.
fn plain(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter();
    let fields = fields.map(|field| Field::new(field.name(), field.data_type().clone(), field.is_nullable()));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Where and how files are written.
pub(super) async fn prepared(rule: &str, sink: &dyn TableSink, schema: &SchemaRef, evolve: Evolve) -> TableLayout {
    let table = answered(rule, sink.decided(LANE).await).table.map(|table| table.schema);
    let canonical = match sink.canonical_schema(schema, table.as_deref()) {
        Ok(canonical) => canonical,
        Err(e) => broken(rule, format!("{e:?}")),
    };
    answered(rule, sink.prepare(LANE, &canonical, evolve).await)
}

/// Two merges' files in the table's own layout.
pub(super) async fn files(layout: &TableLayout, lane: LaneId, seq: u64, attempt: u64) -> Vec<DataFile> {
    let rule = "what a table is prepared for can be merged";
    let source: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let at = Path::from("source.parquet");
    let rows = rows(&layout.schema);
    let written = || {
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None)?;
        writer.write(&rows)?;
        writer.into_inner()
    };
    let bytes = written().unwrap_or_else(|e| broken(rule, e));
    let put = source.put(&at, bytes.into()).await;
    put.unwrap_or_else(|e| broken(rule, e));
    let mut files = Vec::new();
    for part in ["a", "b"] {
        let footer = read_footer(source.as_ref(), &at, None).await;
        let input = MergeInput {
            footer: footer.unwrap_or_else(|e| broken(rule, format!("{e:?}"))),
            writer: WriterId::new("w"),
            sequence: 0,
        };
        let target = MergeTarget {
            store: Arc::clone(&layout.store),
            dir: layout.data_dir.clone(),
            stem: format!("{lane}-{seq}-{}-{part}", AttemptId::from_u64(attempt)),
            schema: Arc::clone(&layout.schema),
            partitioner: layout.partitioner.clone(),
            key_value_metadata: Vec::new(),
            scratch: None,
        };
        let merger = ParquetMerger::new(MergeOptions::default());
        let merged = merger.merge(&source, vec![input], target, &()).await;
        files.extend(merged.unwrap_or_else(|e| broken(rule, format!("{e:?}"))).files);
    }
    files
}

/// The plan of a seq.
pub(super) fn plan(seq: u64) -> PlanHash {
    PlanHash::of(format!("plan {seq}").as_bytes())
}

/// A change of a lane whose plans are [`plan`]s.
pub(super) fn commit(lane: LaneId, seq: u64, attempt: u64, change: TableChange) -> TableCommit {
    TableCommit {
        lane,
        seq: Seq::new(seq),
        plan_hash: Some(plan(seq)),
        attempt: AttemptId::from_u64(attempt),
        base: (seq > 1).then(|| (Seq::new(seq - 1), plan(seq - 1).prefix())),
        now: Timestamp::from_millis(NOW_MS + i64::try_from(seq).unwrap_or_default()),
        new_table_uuid: NEW_TABLE,
        sort_order: Vec::new(),
        change,
    }
}

/// An entry of two files or more that have been written.
pub(super) async fn append(rule: &str, sink: &dyn TableSink, lane: LaneId, seq: u64, attempt: u64) -> TableCommit {
    let layout = prepared(rule, sink, &columns(), Evolve::Never).await;
    let change = TableChange::Append {
        schema: Arc::clone(&layout.schema),
        evolve: Evolve::Never,
        files: files(&layout, lane, seq, attempt).await,
    };
    commit(lane, seq, attempt, change)
}

pub(super) async fn void(rule: &str, sink: &dyn TableSink, seq: u64, attempt: u64) -> TableCommit {
    let schema = prepared(rule, sink, &columns(), Evolve::Never).await.schema;
    commit(LANE, seq, attempt, TableChange::Void { schema })
}

pub(super) fn adopt(lane: LaneId, supersedes: Vec<LaneId>) -> TableCommit {
    TableCommit {
        plan_hash: None,
        base: None,
        ..commit(lane, 0, 77, TableChange::Adopt { supersedes })
    }
}

/// The paths of a commit's files.
pub(super) fn paths(commit: &TableCommit) -> Vec<String> {
    outputs(commit).into_iter().map(|output| output.path).collect()
}

pub(super) fn outputs(commit: &TableCommit) -> Vec<OutputFile> {
    match &commit.change {
        TableChange::Append { files, .. } => files.iter().map(OutputFile::from).collect(),
        _ => Vec::new(),
    }
}

/// What a table's marker is once a commit is in.
pub(super) fn marker(commit: &TableCommit) -> Marker {
    Marker {
        seq: commit.seq,
        outcome: match commit.change {
            TableChange::Void { .. } => Outcome::Void,
            _ => Outcome::Data,
        },
        plan_hash: commit.plan_hash.map_or(HashPrefix::from_u64(0), |hash| hash.prefix()),
        attempt: commit.attempt,
    }
}

/// What is recorded of an entry.
pub(super) fn decision(commit: &TableCommit, entry: &Entry) -> Decision {
    Decision {
        version: 1,
        lane: commit.lane,
        seq: commit.seq,
        outcome: marker(commit).outcome,
        plan_hash: commit.plan_hash.unwrap_or_else(|| plan(0)),
        attempt: commit.attempt,
        table_version: Some(entry.version),
        outputs: entry.outputs.clone(),
        decided_at: commit.now,
        bad_sources: Vec::new(),
    }
}

/// Commits, and again while others are in the way or nobody knows how it went, as the compactor does.
pub(super) async fn outcome(rule: &str, sink: &dyn TableSink, commit: &TableCommit) -> CommitOutcome {
    let mut last = String::new();
    for _ in 0..TRIES {
        match sink.commit(commit).await {
            Ok(CommitOutcome::Contended) => "contended".clone_into(&mut last),
            Ok(outcome) => return outcome,
            Err(e) if e.is_retryable() => last = e.chain(),
            Err(e) => broken(rule, format!("the commit failed: {}", e.chain())),
        }
        give_way().await;
    }
    broken(rule, format!("the commit does not come to an end: {last}"))
}

/// The entry of a commit that goes in.
pub(super) async fn committed(rule: &str, sink: &dyn TableSink, commit: &TableCommit) -> Entry {
    match outcome(rule, sink, commit).await {
        CommitOutcome::Committed(entry) => entry,
        other => broken(rule, format!("found `{other:?}`")),
    }
}

pub(super) async fn state(rule: &str, sink: &dyn TableSink, lane: LaneId) -> TableState {
    answered(rule, sink.decided(lane).await)
}

/// The marker of a lane, as a new worker finds it.
pub(super) async fn found_marker(rule: &str, trial: &dyn TableTrial, lane: LaneId) -> Option<Marker> {
    let state = state(rule, &*trial.sink(), lane).await;
    state.decided.map(|decided| decided.marker)
}

/// Checks which files a reader sees, in any order.
pub(super) async fn shows(rule: &str, trial: &dyn TableTrial, expected: &[String]) {
    let mut live = trial.live_files().await;
    live.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    keep(rule, live == expected, (live, expected));
}

/// All objects of a layout's table, with what tells their contents apart.
pub(super) async fn objects(rule: &str, layout: &TableLayout) -> Vec<(String, Option<String>, u64)> {
    let root = layout
        .data_dir
        .as_ref()
        .rsplit_once('/')
        .map(|(root, _)| Path::from(root));
    let listed: Result<Vec<_>, _> = layout.store.list(root.as_ref()).try_collect().await;
    let listed = listed.unwrap_or_else(|e| broken(rule, format!("the listing failed: {e}")));
    let mut objects: Vec<_> = listed
        .into_iter()
        .map(|meta| (meta.location.to_string(), meta.e_tag, meta.size))
        .collect();
    objects.sort();
    objects
}

/// 2023-11-14T22:13:20Z.
const NOW_MS: i64 = 1_700_000_000_000;
/// How often a commit is tried before it is said to starve.
const TRIES: usize = 50;
