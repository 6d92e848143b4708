//! Inputs that are not in order are refused, or sorted inside the budget.

use std::sync::Arc;

use firnline::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use firnline::object_store::ObjectStore;
use firnline::parquet::file::properties::WriterProperties;
use firnline::{
    Codec, MIN_MEMORY_BUDGET_BYTES, MergeError, MergeInput, MergeOptions, OnUnsorted, ParquetMerger, QuarantineReason,
    SortField,
};
use futures::StreamExt;
use futures::executor::block_on;

use super::bounded::{listed, sorted};
use super::support::{Random, encode, input, memory, merge, options, put, read_back, target};

/// Rows in no order, each with a text that does not compress.
fn shuffled(random: &mut Random, rows: usize) -> RecordBatch {
    let keys = (0..rows).map(|_| i64::try_from(random.below(500)).unwrap());
    let keys: Int64Array = keys.collect::<Vec<_>>().into();
    let digit = |random: &mut Random| char::from(b'0' + u8::try_from(random.below(10)).unwrap());
    let texts = (0..rows).map(|_| (0..200).map(|_| digit(random)).collect::<String>());
    RecordBatch::try_from_iter([
        ("k", Arc::new(keys) as ArrayRef),
        ("text", Arc::new(StringArray::from_iter_values(texts))),
    ])
    .unwrap()
}

async fn inputs(store: &Arc<dyn ObjectStore>, batches: &[RecordBatch]) -> Vec<MergeInput> {
    let mut inputs = Vec::new();
    for (index, batch) in batches.iter().enumerate() {
        let file = encode(batch, WriterProperties::builder().set_dictionary_enabled(false).build());
        let path = put(store, &format!("in/{index}"), file).await;
        inputs.push(input(store, &path, &format!("w{index:03}"), 1).await);
    }
    inputs
}

fn by_key(how: OnUnsorted) -> MergeOptions {
    options(&[SortField::ascending("k")])
        .with_memory_budget_bytes(MIN_MEMORY_BUDGET_BYTES)
        .with_codec(Codec::None)
        .with_on_unsorted(how)
}

#[test]
fn what_is_larger_than_the_budget_is_sorted_inside_it() {
    block_on(async {
        let mut random = Random::new(5);
        // One file alone takes more than the budget, and all of them several times as much.
        let mut batches = vec![shuffled(&mut random, 100_000)];
        batches.extend((0..30).map(|_| shuffled(&mut random, 6_000)));
        let store = memory();
        let inputs = inputs(&store, &batches).await;
        let schema = batches[0].schema();
        let output = merge(
            &store,
            inputs,
            by_key(OnUnsorted::Resort).with_verify_reread(true),
            Arc::clone(&schema),
        );
        let output = output.await.unwrap();
        assert_eq!(read_back(&store, &output, &schema).await, sorted(&batches));
        let peak = output.peak_memory_bytes;
        assert!(peak <= MIN_MEMORY_BUDGET_BYTES, "{peak}");
        assert_eq!(listed(&store, "scratch").await, Vec::<String>::new());
    });
}

#[test]
fn without_leave_or_place_to_sort_it_nothing_is_merged() {
    block_on(async {
        let batches = [shuffled(&mut Random::new(6), 100)];
        let store = memory();
        let inputs = inputs(&store, &batches).await;
        let schema = batches[0].schema();
        let is_unsorted = |error: &MergeError| {
            let row = |reason: &QuarantineReason| matches!(reason, QuarantineReason::Unsorted { .. });
            matches!(error, MergeError::Source { index: 0, reason } if row(reason))
        };
        let refused = merge(
            &store,
            inputs.clone(),
            by_key(OnUnsorted::Quarantine),
            Arc::clone(&schema),
        )
        .await;
        assert!(is_unsorted(&refused.unwrap_err()));
        let merger = ParquetMerger::new(by_key(OnUnsorted::Resort));
        let streamed = merger.stream(&store, inputs.clone(), &schema);
        let first = Box::pin(streamed).next().await.unwrap();
        assert!(is_unsorted(&first.unwrap_err()), "there is no place to sort it");
        merger.verify_source(&store, &inputs[0], &schema).await.unwrap();
        let mut without = target(&store, schema);
        without.scratch = None;
        let error = merger.merge(&store, inputs, without, &()).await.unwrap_err();
        assert!(matches!(error, MergeError::Invalid { .. }), "{error}");
        assert_eq!(listed(&store, "out").await, Vec::<String>::new());
    });
}
