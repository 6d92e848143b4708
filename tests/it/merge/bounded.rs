//! A merge stays inside its budget, however large its inputs are.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use firnline::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::parquet::file::metadata::ParquetMetaDataReader;
use firnline::parquet::file::properties::{EnabledStatistics, WriterProperties};
use firnline::parquet::file::statistics::{Statistics, ValueStatistics};
use firnline::{
    Bound, Codec, Datum, MIN_MEMORY_BUDGET_BYTES, MergeError, MergeInput, MergeOptions, ParquetMerger,
    QuarantineReason, SortField,
};
use futures::executor::block_on;
use futures::task::noop_waker;
use futures::{StreamExt, TryStreamExt};

use super::recording::{Recording, Request};
use super::support::{LIGHT, Random, encode, input, memory, merge, options, put, read_back, refooted, target};

/// Rows whose text does not compress, with few distinct keys so that there are many ties.
fn wide(random: &mut Random, rows: usize, text: usize) -> RecordBatch {
    let mut keys: Vec<i64> = (0..rows).map(|_| i64::try_from(random.below(50)).unwrap()).collect();
    keys.sort_unstable();
    let text: StringArray = (0..rows)
        .map(|_| {
            Some(
                (0..text)
                    .map(|_| char::from(b' ' + u8::try_from(random.below(90)).unwrap()))
                    .collect::<String>(),
            )
        })
        .collect();
    RecordBatch::try_from_iter([
        ("k", Arc::new(Int64Array::from(keys)) as ArrayRef),
        ("text", Arc::new(text) as ArrayRef),
    ])
    .unwrap()
}

fn by_key() -> MergeOptions {
    options(&[SortField::ascending("k")])
        .with_memory_budget_bytes(MIN_MEMORY_BUDGET_BYTES)
        .with_codec(Codec::None)
}

/// What the stable sort of the batches gives.
pub(super) fn sorted(batches: &[RecordBatch]) -> RecordBatch {
    let mut rows: Vec<(i64, usize, usize)> = Vec::new();
    for (input, batch) in batches.iter().enumerate() {
        let keys = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        rows.extend(keys.values().iter().enumerate().map(|(row, key)| (*key, input, row)));
    }
    rows.sort_unstable();
    let indices: Vec<(usize, usize)> = rows.into_iter().map(|(_, input, row)| (input, row)).collect();
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    firnline::arrow::compute::interleave_record_batch(&batches, &indices).unwrap()
}

async fn inputs(
    store: &Arc<dyn ObjectStore>,
    batches: &[RecordBatch],
    properties: &WriterProperties,
) -> Vec<MergeInput> {
    let mut inputs = Vec::new();
    for (index, batch) in batches.iter().enumerate() {
        let path = put(store, &format!("in/{index}"), encode(batch, properties.clone())).await;
        inputs.push(input(store, &path, &format!("w{index:03}"), 1).await);
    }
    inputs
}

pub(super) async fn listed(store: &Arc<dyn ObjectStore>, prefix: &str) -> Vec<String> {
    let prefix = Path::from(prefix);
    store
        .list(Some(&prefix))
        .map_ok(|meta| meta.location.to_string())
        .try_collect()
        .await
        .unwrap()
}

#[test]
fn what_does_not_fit_at_once_is_merged_in_passes_with_exact_ties() {
    block_on(async {
        let mut random = Random::new(11);
        let batches: Vec<_> = (0..40).map(|_| wide(&mut random, 800, 300)).collect();
        let store = memory();
        let inputs = inputs(&store, &batches, &WriterProperties::default()).await;
        let schema = batches[0].schema();
        let options = by_key().with_verify_reread(true);
        let output = merge(&store, inputs.clone(), options.clone(), Arc::clone(&schema))
            .await
            .unwrap();
        assert_eq!(read_back(&store, &output, &schema).await, sorted(&batches));
        assert!(
            output.peak_memory_bytes <= MIN_MEMORY_BUDGET_BYTES,
            "{}",
            output.peak_memory_bytes
        );
        assert_eq!(listed(&store, "scratch").await, Vec::<String>::new());
        let mut without = target(&store, Arc::clone(&schema));
        without.scratch = None;
        let error = ParquetMerger::new(options)
            .merge(&store, inputs, without, &())
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                MergeError::Budget {
                    budget: MIN_MEMORY_BUDGET_BYTES,
                    ..
                }
            ),
            "{error}"
        );
    });
}

#[test]
fn rows_are_uploaded_while_others_are_read_however_many_come() {
    block_on(async {
        let recording = Recording::default();
        let store: Arc<dyn ObjectStore> = Arc::new(recording.clone());
        // Twice the budget, in row groups that take turns.
        let batch_of = |first: i64| {
            let keys: Vec<i64> = (0..16_000).map(|row| first + 2 * row).collect();
            let text = StringArray::from_iter_values(keys.iter().map(|key| format!("{key:01000}")));
            let columns = [
                ("k", Arc::new(Int64Array::from(keys)) as ArrayRef),
                ("text", Arc::new(text) as ArrayRef),
            ];
            RecordBatch::try_from_iter(columns).unwrap()
        };
        let batches = [batch_of(0), batch_of(1)];
        let small_groups = WriterProperties::builder()
            .set_max_row_group_row_count(Some(500))
            .set_dictionary_enabled(false)
            .build();
        let inputs = inputs(&store, &batches, &small_groups).await;
        recording.clear();
        let output = merge(&store, inputs, by_key(), batches[0].schema()).await.unwrap();
        assert_eq!((output.rows, output.files.len()), (32_000, 1));
        assert!(
            output.peak_memory_bytes <= MIN_MEMORY_BUDGET_BYTES,
            "{}",
            output.peak_memory_bytes
        );
        let log = recording.log();
        let first_part = log.iter().position(|r| matches!(r, Request::Part(_))).unwrap();
        let reads = |log: &[Request]| log.iter().filter(|r| matches!(r, Request::Get { .. })).count();
        let (before, after) = (reads(&log[..first_part]), reads(&log[first_part..]));
        assert!(after > before, "{before} reads before the first part, {after} after it");
    });
}

#[test]
fn a_codec_that_takes_more_than_the_budget_is_refused() {
    block_on(async {
        let batch = wide(&mut Random::new(1), 10, 10);
        let store = memory();
        let inputs = inputs(&store, std::slice::from_ref(&batch), &WriterProperties::default()).await;
        let options = by_key().with_codec(Codec::Zstd(9));
        let error = merge(&store, inputs, options, batch.schema()).await.unwrap_err();
        let told = matches!(error, MergeError::Budget { needed, .. } if needed == 63 << 20);
        assert!(told, "{error}");
        assert_eq!(listed(&store, "out").await, Vec::<String>::new());
    });
}

#[test]
fn large_row_groups_are_read_page_by_page_or_refused() {
    block_on(async {
        let mut random = Random::new(12);
        let batches: Vec<_> = (0..2).map(|_| wide(&mut random, 12_000, 1_000)).collect();
        let store = memory();
        let schema = batches[0].schema();
        let paged = WriterProperties::builder()
            .set_data_page_row_count_limit(100)
            .set_write_batch_size(50);
        let paged = paged.set_compression(LIGHT).build();
        let paged = inputs(&store, &batches, &paged).await;
        assert_eq!(paged[0].footer.metadata.num_row_groups(), 1);
        let output = merge(&store, paged, by_key(), Arc::clone(&schema)).await.unwrap();
        assert_eq!(read_back(&store, &output, &schema).await, sorted(&batches));
        assert!(
            output.peak_memory_bytes <= MIN_MEMORY_BUDGET_BYTES,
            "{}",
            output.peak_memory_bytes
        );

        let plain = WriterProperties::builder()
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true);
        let plain = inputs(&store, &batches, &plain.build()).await;
        let error = merge(&store, plain, by_key(), schema).await.unwrap_err();
        let MergeError::Source {
            index: 0,
            reason: QuarantineReason::TooLarge { what, .. },
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(what, "row group without page index, of memoryBudgetBytes");
    });
}

#[test]
fn parts_are_equal_but_for_the_last_and_an_error_aborts_the_upload() {
    block_on(async {
        let mut random = Random::new(13);
        let batches = [wide(&mut random, 14_000, 1_000)];
        let recording = Recording::default();
        let store: Arc<dyn ObjectStore> = Arc::new(recording.clone());
        let small_groups = WriterProperties::builder()
            .set_max_row_group_row_count(Some(500))
            .build();
        let inputs = inputs(&store, &batches, &small_groups).await;
        recording.clear();
        let schema = batches[0].schema();
        let output = merge(&store, inputs.clone(), by_key(), Arc::clone(&schema))
            .await
            .unwrap();
        let parts = |log: Vec<Request>| -> Vec<usize> {
            log.into_iter()
                .filter_map(|r| if let Request::Part(size) = r { Some(size) } else { None })
                .collect()
        };
        let sizes = parts(recording.log());
        let (last, equal) = sizes.split_last().unwrap();
        assert_eq!(equal, [5 << 20, 5 << 20]);
        assert!(*last <= 5 << 20);
        assert_eq!(sizes.iter().sum::<usize>() as u64, output.files[0].size);
        assert_eq!(read_back(&store, &output, &schema).await, batches[0]);

        recording.clear();
        merge(&store, inputs.clone(), by_key(), Arc::clone(&schema))
            .await
            .unwrap();
        let second_part = recording
            .log()
            .iter()
            .enumerate()
            .filter(|(_, r)| matches!(r, Request::Part(_)))
            .nth(1)
            .unwrap()
            .0;
        recording.clear();
        recording.fail_in(Some(second_part));
        let error = merge(&store, inputs, by_key(), schema).await.unwrap_err();
        assert!(matches!(error, MergeError::Output { .. }), "{error}");
        assert_eq!(recording.log().last(), Some(&Request::Abort));
    });
}

#[test]
fn dropping_a_merge_after_any_poll_leaves_it_to_be_done_again() {
    let mut random = Random::new(14);
    let batches: Vec<_> = (0..3).map(|_| wide(&mut random, 1_500, 20)).collect();
    let store = memory();
    let inputs = block_on(inputs(&store, &batches, &WriterProperties::default()));
    let schema = batches[0].schema();
    let options = || {
        by_key()
            .with_target_file_size_bytes(20_000)
            .with_max_row_group_rows(400)
    };
    let waker = noop_waker();
    for polls in 0.. {
        let mut merging = pin!(merge(&store, inputs.clone(), options(), Arc::clone(&schema)));
        let mut context = Context::from_waker(&waker);
        let done = (0..polls).find_map(|_| match merging.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => Some(outcome.unwrap()),
            Poll::Pending => None,
        });
        if let Some(output) = done {
            assert!(polls > 20, "{polls}");
            assert_eq!(block_on(read_back(&store, &output, &schema)), sorted(&batches));
            return;
        }
    }
}

#[test]
fn a_target_size_beyond_all_measure_leaves_the_readers_their_memory() {
    let mut random = Random::new(15);
    let batches: Vec<_> = (0..3).map(|_| wide(&mut random, 1_500, 20)).collect();
    let store = memory();
    block_on(async {
        let inputs = inputs(&store, &batches, &WriterProperties::default()).await;
        let schema = batches[0].schema();
        let options = by_key().with_target_file_size_bytes(u64::MAX);
        let output = merge(&store, inputs, options, Arc::clone(&schema)).await.unwrap();
        assert_eq!(output.files.len(), 1);
        assert_eq!(read_back(&store, &output, &schema).await, sorted(&batches));
    });
}

/// The same file, with a footer that says of its columns what is not so.
pub(super) fn lying(file: &[u8], min: i64, max: i64) -> Vec<u8> {
    let statistics = ValueStatistics::new(Some(min), Some(max), None, Some(0), false);
    refooted(file, |chunk| {
        chunk.set_statistics(Statistics::Int64(statistics.clone()))
    })
}

#[test]
fn statistics_that_lie_do_not_break_the_order() {
    block_on(async {
        let ids = |values: std::ops::Range<i64>| {
            RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from_iter_values(values)) as ArrayRef)]).unwrap()
        };
        let batches = [ids(0..100), ids(50..150), ids(120..200)];
        let store = memory();
        let mut inputs = Vec::new();
        for (sequence, batch) in batches.iter().enumerate() {
            let file = encode(
                batch,
                WriterProperties::builder()
                    .set_offset_index_disabled(true)
                    .set_statistics_enabled(EnabledStatistics::Chunk)
                    .build(),
            );
            let sequence = i64::try_from(sequence).unwrap();
            // As if they followed each other.
            let path = put(
                &store,
                &format!("in/{sequence}"),
                lying(&file, sequence * 1000, sequence * 1000 + 9),
            )
            .await;
            inputs.push(input(&store, &path, "w", sequence.unsigned_abs()).await);
        }
        let schema = batches[0].schema();
        let output = merge(&store, inputs.clone(), by_key(), Arc::clone(&schema))
            .await
            .unwrap();
        assert_eq!(read_back(&store, &output, &schema).await, sorted(&batches));
        assert_eq!(listed(&store, "out").await, vec![output.files[0].path.clone()]);
        let merger = ParquetMerger::new(by_key());
        let mut stream = merger.stream(&store, inputs, &schema).boxed();
        let mut last = None;
        let error = loop {
            match stream.next().await.unwrap() {
                Ok(batch) => last = Some(batch),
                Err(error) => break error,
            }
        };
        assert!(last.is_some() && stream.next().await.is_none());
        assert!(
            matches!(
                &error,
                MergeError::Source {
                    index: 1,
                    reason: QuarantineReason::Corrupt { .. }
                }
            ),
            "{error}"
        );
    });
}

#[test]
fn metrics_are_those_of_the_rows() {
    block_on(async {
        let floats = Float64Array::from(vec![Some(f64::NAN), Some(0.0), None, Some(2.5)]);
        let text = StringArray::from(vec![Some("b"), None, None, Some(&*"x".repeat(100))]);
        let batch = RecordBatch::try_from_iter([
            ("k", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as ArrayRef),
            ("f", Arc::new(floats) as ArrayRef),
            ("text", Arc::new(text) as ArrayRef),
        ])
        .unwrap();
        let store = memory();
        let inputs = inputs(&store, std::slice::from_ref(&batch), &WriterProperties::default()).await;
        let output = merge(&store, inputs, by_key().with_max_row_group_rows(2), batch.schema())
            .await
            .unwrap();
        let [file] = output.files.as_slice() else {
            panic!("{output:?}")
        };
        let bound = |value, exact| Some(Bound { value, exact });
        let [k, f, text] = file.columns.as_slice() else {
            panic!("{file:?}")
        };
        assert_eq!(
            (k.path.as_slice(), k.value_count, k.null_count, k.nan_count),
            (&["k".to_owned()][..], 4, Some(0), None)
        );
        assert_eq!(
            (k.lower.clone(), k.upper.clone()),
            (bound(Datum::Int64(1), true), bound(Datum::Int64(4), true))
        );
        assert_eq!((f.value_count, f.null_count, f.nan_count), (4, Some(1), Some(1)));
        assert_eq!(f.upper, bound(Datum::Double(2.5), true));
        let Some(Bound {
            value: Datum::Double(lower),
            exact: true,
        }) = f.lower
        else {
            panic!("{f:?}")
        };
        assert!(lower == 0.0 && lower.is_sign_negative());
        assert_eq!(text.null_count, Some(2));
        assert_eq!(text.lower, bound(Datum::Bytes(b"b".to_vec()), true));
        let Some(Bound {
            value: Datum::Bytes(upper),
            exact: false,
        }) = &text.upper
        else {
            panic!("{text:?}")
        };
        assert!(upper.as_slice() > "x".repeat(100).as_bytes() && upper.len() <= 64);
        let path = Path::parse(&file.path).unwrap();
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
        assert_eq!(metadata.num_row_groups(), 2);
        let starts: Vec<u64> = metadata
            .row_groups()
            .iter()
            .map(|group| group.column(0).byte_range().0)
            .collect();
        assert_eq!(file.split_offsets, starts);
        let sorting = metadata.row_group(0).sorting_columns().unwrap();
        assert_eq!(
            (sorting[0].column_idx, sorting[0].descending, sorting[0].nulls_first),
            (0, false, false)
        );
        let key_values = metadata.file_metadata().key_value_metadata().unwrap();
        assert_eq!(
            key_values.iter().map(|kv| kv.key.as_str()).collect::<Vec<_>>(),
            vec!["firnline.seq"]
        );
        assert_eq!(
            metadata.file_metadata().created_by(),
            Some(concat!("firnline ", env!("CARGO_PKG_VERSION")))
        );
        let index = firnline::parquet::file::metadata::ParquetMetaDataReader::new()
            .with_page_index_policy(firnline::parquet::file::metadata::PageIndexPolicy::Required)
            .parse_and_finish(&bytes)
            .unwrap();
        let index = index.page_index_for_row_group(0);
        assert!((0..3).all(|column| index.offset_index(column).is_some()));
        // The floats of the first row group have a NaN.
        assert_eq!(
            [0, 1, 2].map(|column| index.column_index(column).is_some()),
            [true, false, true]
        );
    });
}
