//! The merged outcome is the stable sort of all rows.

use std::sync::Arc;

use firnline::arrow::array::{ArrayRef, RecordBatch};
use firnline::arrow::compute::cast;
use firnline::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use firnline::object_store::ObjectStore;
use firnline::parquet::basic::Compression;
use firnline::parquet::file::properties::{EnabledStatistics, WriterProperties};
use firnline::{MergeInput, MergeOptions, OnUnsorted, ParquetMerger, SortField};
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt};

use super::support::{self, LIGHT, Random, Row, batch, compare, encode, memory, put};

/// A case: inputs in a store, and the rows that the merge must give.
pub(crate) struct Case {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) inputs: Vec<MergeInput>,
    pub(crate) expected: Vec<Row>,
    pub(crate) order: Vec<SortField>,
}

fn orders(seed: u64) -> Vec<SortField> {
    let directed = |column: &str, bits: u64| {
        let field = if bits & 1 == 0 {
            SortField::ascending(column)
        } else {
            SortField::descending(column)
        };
        if bits & 2 == 0 { field } else { field.with_nulls_first() }
    };
    let columns: &[&str] = match seed % 8 {
        0 => &["t"],
        1 => &["f", "s"],
        2 => &["s"],
        3 => &["d", "t"],
        4 => &["b"],
        5 => &["flag", "f"],
        6 => &["t", "id"],
        _ => &["f"],
    };
    columns
        .iter()
        .zip([seed / 8, seed / 32])
        .map(|(column, bits)| directed(column, bits))
        .collect()
}

/// Other types of the same values, as another writer may have used.
fn varied(random: &mut Random, batch: &RecordBatch) -> RecordBatch {
    let utc = || Some("UTC".into());
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, array)| {
        let to = match (field.name().as_str(), random.below(4)) {
            ("t", 0) => DataType::Timestamp(TimeUnit::Millisecond, utc()),
            ("t", 1) => DataType::Timestamp(TimeUnit::Nanosecond, utc()),
            ("s", 0) => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            ("s", 1) => DataType::LargeUtf8,
            ("s", 2) => DataType::Utf8View,
            ("d", 0) => DataType::Decimal128(12, 2),
            ("b", 0) => DataType::BinaryView,
            _ => field.data_type().clone(),
        };
        let array: ArrayRef = cast(array, &to).unwrap();
        (Field::new(field.name(), to, field.is_nullable()), array)
    });
    let (mut fields, mut arrays): (Vec<Field>, Vec<ArrayRef>) = columns.unzip();
    if random.below(2) == 0 {
        fields.reverse();
        arrays.reverse();
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn properties(random: &mut Random) -> WriterProperties {
    let statistics = [
        EnabledStatistics::None,
        EnabledStatistics::Chunk,
        EnabledStatistics::Page,
    ][random.size(3)];
    WriterProperties::builder()
        .set_max_row_group_row_count(Some(1 + random.size(200)))
        .set_data_page_row_count_limit(1 + random.size(40))
        .set_write_batch_size(8)
        .set_statistics_enabled(statistics)
        .set_dictionary_enabled(random.below(2) == 0)
        .set_compression([Compression::UNCOMPRESSED, LIGHT][random.size(2)])
        .build()
}

pub(crate) async fn case(seed: u64) -> Case {
    case_of(seed, |_| false).await
}

/// A case in which files of some writers are in no order.
async fn case_of(seed: u64, is_unsorted: impl Fn(usize) -> bool) -> Case {
    let mut random = Random::new(seed);
    let order = orders(seed);
    let store = memory();
    let (mut inputs, mut expected, mut id) = (Vec::new(), Vec::new(), 0);
    let writers = 1 + random.size(5);
    for writer in 0..writers {
        // One writer's files follow each other, or overlap.
        let files = 1 + random.size(4);
        let mut rows: Vec<Row> = (0..random.below(300))
            .map(|_| {
                id += 1;
                Row::random(&mut random, id)
            })
            .collect();
        if random.below(2) == 0 {
            rows.sort_by(|a, b| compare(&order, a, b));
        }
        let size = rows.len().div_ceil(files).max(1);
        let mut chunks: Vec<Vec<Row>> = rows.chunks(size).map(<[Row]>::to_vec).collect();
        if random.below(3) == 0 {
            chunks.push(Vec::new());
        }
        for (sequence, chunk) in (0..).zip(&mut chunks) {
            if !is_unsorted(writer) {
                chunk.sort_by(|a, b| compare(&order, a, b));
            }
            for (row, value) in chunk.iter_mut().enumerate() {
                value.place = (writer, sequence, row);
            }
            let batch = varied(&mut random, &batch(chunk));
            let path = put(
                &store,
                &format!("in/{writer}-{sequence}"),
                encode(&batch, properties(&mut random)),
            )
            .await;
            inputs.push(support::input(&store, &path, &format!("w{writer}"), sequence).await);
            expected.extend(chunk.iter().cloned());
        }
    }
    expected.sort_by(|a, b| compare(&order, a, b).then(a.place.cmp(&b.place)));
    Case {
        store,
        inputs,
        expected,
        order,
    }
}

async fn check(seed: u64, tune: impl Fn(MergeOptions) -> MergeOptions) {
    check_case(seed, case(seed).await, tune).await;
}

async fn check_case(seed: u64, case: Case, tune: impl Fn(MergeOptions) -> MergeOptions) {
    let options = tune(support::options(&case.order).with_verify_reread(true));
    let expected = check_merged(seed, &case, options.clone()).await;
    let merger = ParquetMerger::new(options);
    let stream = merger.stream(&case.store, case.inputs, &support::schema());
    let batches: Vec<RecordBatch> = stream.boxed().try_collect().await.unwrap();
    let streamed = firnline::arrow::compute::concat_batches(&support::schema(), &batches).unwrap();
    assert_eq!(streamed, expected, "seed {seed}");
}

/// Merges a case into what is expected, which it returns.
async fn check_merged(seed: u64, case: &Case, options: MergeOptions) -> RecordBatch {
    let budget = options.memory_budget_bytes;
    let output = support::merge(&case.store, case.inputs.clone(), options, support::schema())
        .await
        .unwrap();
    let expected = batch(&case.expected);
    let actual = support::read_back(&case.store, &output, &support::schema()).await;
    for (field, (actual, expected)) in expected
        .schema()
        .fields()
        .iter()
        .zip(actual.columns().iter().zip(expected.columns()))
    {
        assert_eq!(
            actual,
            expected,
            "seed {seed} column {} order {:?}",
            field.name(),
            case.order
        );
    }
    assert_eq!(output.rows, case.expected.len() as u64, "seed {seed}");
    assert_eq!(output.files.is_empty(), case.expected.is_empty(), "seed {seed}");
    assert!(
        output.peak_memory_bytes <= budget,
        "seed {seed}: {} of {budget}",
        output.peak_memory_bytes
    );
    expected
}

#[test]
fn merged_rows_are_the_stable_sort_of_all_rows() {
    for seed in 0..80 {
        block_on(check(seed, |options| options));
    }
}

#[test]
fn small_row_groups_and_files_change_nothing_but_the_cuts() {
    for seed in 200..220 {
        block_on(check(seed, |options| {
            options.with_max_row_group_rows(37).with_target_file_size_bytes(4_000)
        }));
    }
}

#[test]
fn inputs_that_are_fetched_again_merge_alike() {
    for seed in 300..330 {
        block_on(async {
            let mut case = case(seed).await;
            for input in &mut case.inputs {
                input.footer = input.footer.clone().without_content();
            }
            check_case(seed, case, |options| options).await;
        });
    }
}

#[test]
fn inputs_given_in_another_order_merge_alike() {
    for seed in 400..420 {
        block_on(async {
            let mut case = case(seed).await;
            case.inputs.reverse();
            check_case(seed, case, |options| options).await;
        });
    }
}

#[test]
fn inputs_in_no_order_are_sorted_first_and_their_ties_stay_in_order() {
    for seed in 500..560 {
        block_on(async {
            // Those of no writer, of one, of all.
            let case = case_of(seed, |writer| seed % 3 > 0 && (writer == 0 || seed % 3 > 1)).await;
            let options = support::options(&case.order).with_verify_reread(true);
            check_merged(seed, &case, options.with_on_unsorted(OnUnsorted::Resort)).await;
        });
    }
}
