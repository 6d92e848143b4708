//! Merged rows are written by partition: every file has rows of exactly one, and those of each are in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firnline::arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use firnline::arrow::compute::{concat_batches, take_record_batch};
use firnline::arrow::datatypes::{DataType, Field, Fields};
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::parquet::file::properties::WriterProperties;
use firnline::{
    Codec, Datum, Error, ErrorKind, FilePartition, MIN_MEMORY_BUDGET_BYTES, MergeError, MergeInput, MergeOptions,
    MergeOutput, ParquetMerger, Partitioner, SortField,
};
use futures::TryStreamExt;
use futures::executor::block_on;

use super::property::case;
use super::recording::{Recording, Request};
use super::support::{self, Random, Row, batch, decode, encode, input, memory, options, put, target};

/// Seconds of a partition by time.
const SPAN: i64 = 10;

/// A part of the partitions of these tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// `id` modulo a number, null for 0: any assignment, as good as a hash.
    Id(i64),
    /// `t` in spans of ten seconds.
    Time,
    /// `s` itself.
    Text,
}

impl By {
    fn column(self) -> &'static str {
        match self {
            Self::Id(_) => "id",
            Self::Time => "t",
            Self::Text => "s",
        }
    }

    /// The value of a row, written down once more and in another way.
    fn of(self, row: &Row) -> Option<Datum> {
        match self {
            Self::Id(modulo) => Some(row.id % modulo).filter(|rest| *rest > 0).map(Datum::Int64),
            Self::Time => Some(Datum::Int64(row.t.div_euclid(SPAN))),
            Self::Text => row.s.as_ref().map(|text| Datum::Bytes(text.clone().into_bytes())),
        }
    }
}

#[derive(Debug)]
struct Parts {
    by: Vec<By>,
    fields: Fields,
}

impl Parts {
    fn new(by: &[By]) -> Arc<dyn Partitioner> {
        let data_type = |by: By| {
            if by == By::Text {
                DataType::Utf8
            } else {
                DataType::Int64
            }
        };
        Arc::new(Self {
            by: by.to_vec(),
            fields: by
                .iter()
                .map(|by| Field::new(by.column(), data_type(*by), true))
                .collect(),
        })
    }
}

impl Partitioner for Parts {
    fn id(&self) -> &'static str {
        "parts"
    }

    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn columns(&self, rows: &RecordBatch) -> firnline::Result<Vec<ArrayRef>> {
        let columns = self.by.iter().map(|by| {
            let column = rows.column_by_name(by.column()).unwrap();
            match by {
                By::Id(modulo) => {
                    let ids = column.as_any().downcast_ref::<Int64Array>().unwrap().iter();
                    let parts = ids.map(|id| id.map(|id| id % modulo).filter(|rest| *rest > 0));
                    Arc::new(parts.collect::<Int64Array>()) as ArrayRef
                }
                By::Time => {
                    let times = column.as_any().downcast_ref::<TimestampMicrosecondArray>().unwrap();
                    let spans = times.values().iter().map(|us| us.div_euclid(SPAN * 1_000_000));
                    Arc::new(Int64Array::from_iter_values(spans))
                }
                By::Text => Arc::clone(column),
            }
        });
        Ok(columns.collect())
    }

    fn follows(&self, field: usize, column: &str) -> bool {
        !matches!(self.by[field], By::Id(_)) && self.by[field].column() == column
    }
}

async fn merged(
    store: &Arc<dyn ObjectStore>,
    inputs: Vec<MergeInput>,
    options: MergeOptions,
    by: &[By],
) -> Result<MergeOutput, MergeError> {
    let mut to = target(store, support::schema());
    to.partitioner = Some(Parts::new(by));
    ParquetMerger::new(options).merge(store, inputs, to, &()).await
}

fn text(partition: &FilePartition) -> String {
    assert_eq!(partition.spec, "parts");
    format!("{:?}", partition.values)
}

async fn rows_of(store: &Arc<dyn ObjectStore>, path: &str) -> Vec<RecordBatch> {
    let path = Path::parse(path).unwrap();
    decode(store.get(&path).await.unwrap().bytes().await.unwrap())
}

/// The ids of each partition, in the order of its files.
async fn ids(store: &Arc<dyn ObjectStore>, output: &MergeOutput) -> BTreeMap<String, Vec<i64>> {
    let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for file in &output.files {
        let ids = found.entry(text(file.partition.as_ref().unwrap())).or_default();
        for rows in rows_of(store, &file.path).await {
            let column = rows.column_by_name("id").unwrap();
            ids.extend(column.as_any().downcast_ref::<Int64Array>().unwrap().values());
        }
    }
    found
}

async fn check(seed: u64, by: &[By], tune: impl Fn(MergeOptions) -> MergeOptions) {
    let case = case(seed).await;
    let options = tune(options(&case.order).with_verify_reread(true));
    let budget = options.memory_budget_bytes;
    let output = merged(&case.store, case.inputs, options, by).await.unwrap();
    let mut expected: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for row in &case.expected {
        let values: Vec<_> = by.iter().map(|by| by.of(row)).collect();
        expected.entry(format!("{values:?}")).or_default().push(row.id);
    }
    assert_eq!(ids(&case.store, &output).await, expected, "seed {seed} by {by:?}");
    assert_eq!(output.rows, case.expected.len() as u64);
    assert!(output.peak_memory_bytes <= budget, "seed {seed}");
    let names: BTreeSet<&str> = output.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names.len(), output.files.len());
    let listed: Vec<_> = case
        .store
        .list(Some(&Path::parse("out").unwrap()))
        .try_collect()
        .await
        .unwrap();
    let listed: Vec<String> = listed.into_iter().map(|meta| meta.location.to_string()).collect();
    assert_eq!(listed, names.into_iter().collect::<Vec<_>>(), "all in one directory");
}

const SPECS: [&[By]; 6] = [
    &[By::Id(1)],
    &[By::Id(7)],
    &[By::Time],
    &[By::Text],
    &[By::Time, By::Id(3)],
    &[By::Id(2), By::Text, By::Time],
];

#[test]
fn each_partition_is_the_stable_sort_of_its_rows() {
    for seed in 0..48 {
        let by = SPECS[usize::try_from(seed).unwrap() / 8 % SPECS.len()];
        block_on(check(seed, by, |options| options));
    }
}

#[test]
fn small_row_groups_and_files_change_nothing_but_the_cuts_of_partitions() {
    for seed in 500..524 {
        let by = SPECS[usize::try_from(seed).unwrap() % SPECS.len()];
        block_on(check(seed, by, |options| {
            options.with_max_row_group_rows(9).with_target_file_size_bytes(4_000)
        }));
    }
}

/// Rows that are not sorted in any way that partitions know of, with text that does not compress.
fn wide(random: &mut Random, ids: std::ops::Range<i64>, text: usize) -> RecordBatch {
    let count = usize::try_from(ids.end - ids.start).unwrap();
    let times: Vec<i64> = ids.clone().map(|id| id * 1_000).collect();
    let rows: Vec<Row> = ids
        .map(|id| Row {
            s: Some(
                (0..text)
                    .map(|_| char::from(b' ' + u8::try_from(random.below(90)).unwrap()))
                    .collect(),
            ),
            ..Row::random(random, id)
        })
        .collect();
    let rows = batch(&rows);
    let mut columns = rows.columns().to_vec();
    assert_eq!(times.len(), count);
    columns[1] = Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"));
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

fn small_groups() -> WriterProperties {
    WriterProperties::builder()
        .set_max_row_group_row_count(Some(500))
        .build()
}

async fn wide_case(files: i64, rows: i64, text: usize) -> (Arc<dyn ObjectStore>, Vec<MergeInput>, RecordBatch) {
    let (store, mut random) = (memory(), Random::new(21));
    let (mut inputs, mut batches) = (Vec::new(), Vec::new());
    for file in 0..files {
        let rows = wide(&mut random, file * rows..(file + 1) * rows, text);
        let path = put(&store, &format!("in/{file}"), encode(&rows, small_groups())).await;
        inputs.push(input(&store, &path, "w", file.unsigned_abs()).await);
        batches.push(rows);
    }
    let all = concat_batches(&support::schema(), &batches).unwrap();
    (store, inputs, all)
}

fn small() -> MergeOptions {
    options(&[SortField::ascending("t")])
        .with_memory_budget_bytes(MIN_MEMORY_BUDGET_BYTES)
        .with_codec(Codec::None)
}

/// The texts of `all` that a partition by the modulo of their ids has.
fn texts_of(all: &RecordBatch, modulo: i64, part: i64) -> StringArray {
    let (count, modulo) = (all.num_rows() as u64, modulo.unsigned_abs());
    let places = (0..count)
        .filter(|row| row % modulo == part.unsigned_abs())
        .collect::<Vec<_>>();
    let rows = take_record_batch(all, &firnline::arrow::array::UInt64Array::from(places)).unwrap();
    let column = rows.column_by_name("s").unwrap();
    column.as_any().downcast_ref::<StringArray>().unwrap().clone()
}

/// Merges by the modulo of the id, and gives the number of files after all else has been checked.
async fn fanned_out(files: i64, rows: i64, text: usize, modulo: i64, options: MergeOptions) -> usize {
    let (store, inputs, all) = wide_case(files, rows, text).await;
    let budget = options.memory_budget_bytes;
    let output = merged(&store, inputs, options, &[By::Id(modulo)]).await.unwrap();
    assert!(
        output.peak_memory_bytes <= budget,
        "{} of {budget}",
        output.peak_memory_bytes
    );
    assert_eq!(output.rows, u64::try_from(files * rows).unwrap());
    let mut found: BTreeMap<i64, Vec<StringArray>> = BTreeMap::new();
    for file in &output.files {
        let values = &file.partition.as_ref().unwrap().values;
        let part = match values.as_slice() {
            [None] => 0,
            [Some(Datum::Int64(part))] => *part,
            other => panic!("{other:?}"),
        };
        for rows in rows_of(&store, &file.path).await {
            let column = rows.column_by_name("s").unwrap();
            let texts = column.as_any().downcast_ref::<StringArray>().unwrap().clone();
            found.entry(part).or_default().push(texts);
        }
    }
    assert_eq!(found.len() as u64, modulo.unsigned_abs());
    for (part, texts) in found {
        let texts: Vec<&dyn Array> = texts.iter().map(|texts| texts as &dyn Array).collect();
        let texts = firnline::arrow::compute::concat(&texts).unwrap();
        assert_eq!(
            texts.as_ref(),
            &texts_of(&all, modulo, part) as &dyn Array,
            "partition {part}"
        );
    }
    output.files.len()
}

#[test]
fn a_thousand_partitions_in_disorder_stay_inside_the_budget() {
    // More than the budget holds, so that row groups and files are closed early.
    let files = block_on(fanned_out(12, 1_000, 1_000, 1_000, small()));
    assert!(files > 1_000, "{files}");
}

#[test]
fn a_few_partitions_that_fit_are_one_file_each() {
    let files = block_on(fanned_out(4, 1_000, 500, 16, small()));
    assert_eq!(files, 16);
}

#[test]
fn light_codecs_and_large_parts_are_counted_too() {
    let options = small().with_codec(Codec::Zstd(1));
    if cfg!(feature = "zstd") {
        block_on(fanned_out(12, 2_500, 1_000, 40, options));
    }
}

#[test]
fn partitions_that_the_order_visits_one_by_one_are_finished_when_it_leaves_them() {
    block_on(async {
        let recording = Recording::default();
        let store: Arc<dyn ObjectStore> = Arc::new(recording.clone());
        let mut random = Random::new(5);
        let rows = wide(&mut random, 0..30_000, 10);
        let path = put(&store, "in/0", encode(&rows, small_groups())).await;
        let inputs = vec![input(&store, &path, "w", 1).await];
        for (by, files_per_span) in [(&[By::Time][..], 1), (&[By::Time, By::Id(4)][..], 4)] {
            recording.clear();
            let output = merged(&store, inputs.clone(), small(), by).await.unwrap();
            // Thirty seconds are three spans.
            assert_eq!(output.files.len(), 3 * files_per_span);
            let puts: Vec<usize> = recording
                .log()
                .into_iter()
                .filter_map(|request| match request {
                    Request::Put(size) => Some(size),
                    _ => None,
                })
                .collect();
            let sizes: Vec<usize> = output.files.iter().map(|f| usize::try_from(f.size).unwrap()).collect();
            for (span, puts) in puts.chunks(files_per_span).enumerate() {
                let (mut puts, mut sizes) = (puts.to_vec(), sizes[span * files_per_span..][..files_per_span].to_vec());
                puts.sort_unstable();
                sizes.sort_unstable();
                assert_eq!(
                    puts, sizes,
                    "the files of span {span} are written before those of the next"
                );
            }
        }
    });
}

#[test]
fn an_error_of_the_store_or_of_the_partitioner_ends_the_merge_and_aborts_what_is_open() {
    #[derive(Debug)]
    struct Nowhere(Fields);
    impl Partitioner for Nowhere {
        fn id(&self) -> &'static str {
            "nowhere"
        }
        fn fields(&self) -> &Fields {
            &self.0
        }
        fn columns(&self, _: &RecordBatch) -> firnline::Result<Vec<ArrayRef>> {
            Err(Error::new(ErrorKind::Data, "a row is in no partition"))
        }
        fn follows(&self, _: usize, _: &str) -> bool {
            false
        }
    }
    block_on(async {
        let recording = Recording::default();
        let store: Arc<dyn ObjectStore> = Arc::new(recording.clone());
        let mut random = Random::new(6);
        let mut inputs = Vec::new();
        for file in 0..6_u32 {
            let rows = wide(&mut random, i64::from(file) * 2_500..i64::from(file + 1) * 2_500, 1_000);
            let path = put(&store, &format!("in/{file}"), encode(&rows, small_groups())).await;
            inputs.push(input(&store, &path, "w", file.into()).await);
        }
        recording.clear();
        merged(&store, inputs.clone(), small(), &[By::Id(2)]).await.unwrap();
        let part = recording
            .log()
            .iter()
            .position(|request| matches!(request, Request::Part(_)))
            .unwrap();
        recording.clear();
        recording.fail_in(Some(part + 1));
        let error = merged(&store, inputs.clone(), small(), &[By::Id(2)]).await.unwrap_err();
        assert!(matches!(error, MergeError::Output { .. }), "{error}");
        assert_eq!(recording.log().last(), Some(&Request::Abort));

        let mut to = target(&store, support::schema());
        to.partitioner = Some(Arc::new(Nowhere(vec![Field::new("p", DataType::Int64, true)].into())));
        let error = ParquetMerger::new(small())
            .merge(&store, inputs, to, &())
            .await
            .unwrap_err();
        assert!(matches!(error, MergeError::Partition { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Data);
    });
}
