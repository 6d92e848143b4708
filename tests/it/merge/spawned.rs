//! Columns that are encoded by tasks of the host's executor.

use std::sync::Arc;

use firnline::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::parquet::file::properties::WriterProperties;
use firnline::{ErrorKind, MergeError, MergeInput, MergeOptions, ParquetMerger, QuarantineReason, SortField};
use futures::StreamExt;
use futures::executor::{ThreadPool, block_on};
use futures::task::{FutureObj, Spawn, SpawnError};

use super::property::case;
use super::support::{batch, encode, input, memory, merge, options, put, read_back, target};

/// Room for a page of every column of every input, and not for all of them.
const BUDGET: u64 = 48 << 20;

pub(super) fn threads() -> Arc<ThreadPool> {
    Arc::new(ThreadPool::builder().pool_size(3).create().unwrap())
}

fn with_threads(options: MergeOptions) -> ParquetMerger {
    ParquetMerger::new(options).with_spawner(threads())
}

#[test]
fn rows_and_their_order_are_those_of_a_merge_without_tasks() {
    for seed in 0..24 {
        block_on(async {
            let case = case(seed).await;
            let options = options(&case.order)
                .with_max_row_group_rows(if seed % 2 == 0 { 50 } else { 1_000_000 })
                .with_verify_reread(true);
            let schema = batch(&case.expected).schema();
            let into = target(&case.store, Arc::clone(&schema));
            let spawned = with_threads(options)
                .merge(&case.store, case.inputs.clone(), into, &())
                .await
                .unwrap();
            let rows = read_back(&case.store, &spawned, &schema).await;
            assert_eq!(rows, batch(&case.expected), "seed {seed}");
        });
    }
}

/// Inputs of many columns, whose row groups are encoded one column after the other, or of few.
async fn inputs(store: &Arc<dyn ObjectStore>, columns: usize, rows: i64) -> Vec<MergeInput> {
    let mut inputs = Vec::new();
    for writer in 0..4_i64 {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row * 4 + writer)));
        let text: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..rows).map(|row| {
                format!("{:032x}", (row * 4 + writer).wrapping_mul(0x1e37_79b9_7f4a_7c15))
            })));
        let others = (0..columns).map(|column| (format!("c{column}"), Arc::clone(&text)));
        let all = std::iter::once(("k".to_owned(), keys)).chain(others);
        let bytes = encode(&RecordBatch::try_from_iter(all).unwrap(), WriterProperties::default());
        let path = put(store, &format!("in/{writer}"), bytes).await;
        inputs.push(input(store, &path, &format!("w{writer}"), 1).await);
    }
    inputs
}

/// Merges with tasks and without: the rows are the same, and the budget holds.
async fn assert_same_inside(budget: u64, store: &Arc<dyn ObjectStore>, inputs: Vec<MergeInput>) {
    let schema = Arc::clone(&inputs[0].footer.schema);
    let options = options(&[SortField::ascending("k")]).with_memory_budget_bytes(budget);
    let plain = merge(store, inputs.clone(), options.clone(), Arc::clone(&schema)).await;
    let plain = read_back(store, &plain.unwrap(), &schema).await;
    let mut into = target(store, Arc::clone(&schema));
    "spawned".clone_into(&mut into.stem);
    let spawned = with_threads(options).merge(store, inputs, into, &()).await.unwrap();
    let peak = spawned.peak_memory_bytes;
    assert!(peak <= budget, "{peak} of {budget}");
    assert_eq!(read_back(store, &spawned, &schema).await, plain);
}

#[test]
fn the_budget_holds_however_many_tasks_are_under_way() {
    for (columns, rows) in [(3, 60_000), (40, 4_000)] {
        block_on(async {
            let store = memory();
            let inputs = inputs(&store, columns, rows).await;
            assert_same_inside(BUDGET, &store, inputs).await;
        });
    }
}

/// Files of two writers, six of each, that follow each other.
async fn chains(store: &Arc<dyn ObjectStore>, rows: i64) -> Vec<MergeInput> {
    let mut inputs = Vec::new();
    for (writer, file) in (0..2_i64).flat_map(|writer| (0..6_i64).map(move |file| (writer, file))) {
        let numbers = (file * rows..(file + 1) * rows).map(|row| row * 2 + writer);
        let text = numbers
            .clone()
            .map(|number| format!("{:064x}", number.wrapping_mul(0x1e37_79b9_7f4a_7c15)));
        let text: ArrayRef = Arc::new(StringArray::from_iter_values(text));
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
        let rows = [("k", keys), ("a", Arc::clone(&text)), ("b", text)];
        let bytes = encode(
            &RecordBatch::try_from_iter(rows).unwrap(),
            WriterProperties::builder().set_dictionary_enabled(false).build(),
        );
        let path = put(store, &format!("in/{writer}-{file}"), bytes).await;
        inputs.push(input(store, &path, &format!("w{writer}"), u64::try_from(file).unwrap()).await);
    }
    inputs
}

#[test]
fn inputs_that_follow_each_other_are_opened_ahead_inside_the_budget() {
    for budget in [16 << 20, 20 << 20, 24 << 20, BUDGET] {
        block_on(async {
            let store = memory();
            let inputs = chains(&store, 9_000).await;
            assert_same_inside(budget, &store, inputs).await;
        });
    }
}

#[test]
fn an_input_that_is_opened_ahead_and_is_bad_is_named() {
    block_on(async {
        let store = memory();
        let inputs = chains(&store, 9_000).await;
        let schema = Arc::clone(&inputs[0].footer.schema);
        for bad in [1, 5, 9] {
            let mut inputs = inputs.clone();
            let footer = &mut inputs[bad].footer;
            let path = put(&store, "in/gone", b"PAR1".to_vec()).await;
            footer.location = path.clone();
            footer.content = None;
            store.delete(&path).await.unwrap();
            let mut into = target(&store, Arc::clone(&schema));
            into.stem = format!("bad-{bad}");
            let merger = with_threads(options(&[SortField::ascending("k")]).with_memory_budget_bytes(BUDGET));
            let outcome = merger.merge(&store, inputs, into, &()).await;
            assert!(
                matches!(&outcome, Err(MergeError::Source { index, reason: QuarantineReason::Vanished }) if *index == bad),
                "{bad}: {outcome:?}"
            );
        }
    });
}

/// Takes no task any more.
#[derive(Debug)]
struct ShutDown;

impl Spawn for ShutDown {
    fn spawn_obj(&self, _task: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        Err(SpawnError::shutdown())
    }
}

#[test]
fn an_executor_that_is_shut_down_fails_the_merge_and_nothing_is_left() {
    block_on(async {
        let store = memory();
        let inputs = inputs(&store, 3, 100).await;
        let schema = Arc::clone(&inputs[0].footer.schema);
        let into = target(&store, schema);
        let dir = into.dir.clone();
        let merger = ParquetMerger::new(options(&[SortField::ascending("k")])).with_spawner(Arc::new(ShutDown));
        let error = merger.merge(&store, inputs, into, &()).await.unwrap_err();
        assert!(matches!(error, MergeError::Spawner), "{error}");
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(store.list(Some(&dir)).count().await, 0);
    });
}

#[test]
fn a_merge_that_is_dropped_leaves_its_tasks_without_harm() {
    let store = memory();
    let inputs = block_on(inputs(&store, 3, 5_000));
    let into = target(&store, Arc::clone(&inputs[0].footer.schema));
    let dir = into.dir.clone();
    for polls in 0..12 {
        let merger = with_threads(options(&[SortField::ascending("k")]));
        let mut merge = Box::pin(merger.merge(&store, inputs.clone(), into.clone(), &()));
        let waker = futures::task::noop_waker();
        let mut context = std::task::Context::from_waker(&waker);
        for _ in 0..polls {
            if merge.as_mut().poll(&mut context).is_ready() {
                break;
            }
        }
        drop(merge);
    }
    assert_eq!(block_on(store.list(Some(&dir)).count()), 0);
}
