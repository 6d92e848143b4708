//! Row groups that are copied as they are: which, and that nobody can tell but by their bytes.

use std::ops::Range;
use std::sync::Arc;

use firnline::arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use firnline::arrow::buffer::OffsetBuffer;
use firnline::arrow::datatypes::{DataType, Field, Fields};
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection};
use firnline::parquet::basic::Compression;
use firnline::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use firnline::parquet::file::page_index::column_index::ColumnIndexMetaData;
use firnline::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use firnline::parquet::file::statistics::{Statistics, ValueStatistics};
use firnline::{
    Datum, MergeError, MergeInput, MergeOptions, MergeOutput, OnUnsorted, ParquetMerger, QuarantineReason, SortField,
};
use futures::executor::block_on;

use super::bounded::{listed, lying};
use super::spawned::threads;
use super::support::{
    LIGHT, Random, Row, batch, compare, encode, input, memory, merge, options, put, read_back, refooted, schema, target,
};

const GROUP: usize = 64;

fn by_key() -> MergeOptions {
    options(&[SortField::ascending("k")]).with_max_row_group_rows(GROUP)
}

/// Files as they are copied: the codec of the outputs, page indexes, row groups of the size that is asked for.
fn alike() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(LIGHT)
        .set_max_row_group_row_count(Some(GROUP))
        .set_data_page_row_count_limit(10)
        .set_write_batch_size(5)
}

/// Rows with the keys `keys`, and columns that tell them apart.
fn keyed(keys: Range<i64>) -> RecordBatch {
    let texts: StringArray = keys
        .clone()
        .map(|key| (key % 7 > 0).then(|| format!("text {key}")))
        .collect();
    let x: ArrayRef = Arc::new(Int64Array::from_iter_values(keys.clone().map(|key| -key)));
    let y: ArrayRef = Arc::new(Int64Array::from_iter_values(keys.clone()));
    let field = |name: &str| Field::new(name, DataType::Int64, true);
    let nested = StructArray::new(Fields::from(vec![field("x"), field("y")]), vec![x, y], None);
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(Int64Array::from_iter_values(keys)) as ArrayRef, false),
        ("s", Arc::new(texts), true),
        ("n", Arc::new(nested), true),
    ])
    .unwrap()
}

async fn bytes_at(store: &Arc<dyn ObjectStore>, path: &str) -> bytes::Bytes {
    let got = store.get(&Path::parse(path).unwrap()).await.unwrap();
    got.bytes().await.unwrap()
}

fn metadata(file: &bytes::Bytes) -> ParquetMetaData {
    let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
    reader.parse_and_finish(file).unwrap()
}

/// The bytes of all column chunks, row group by row group.
fn chunks(file: &bytes::Bytes) -> Vec<Vec<bytes::Bytes>> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(file).unwrap();
    let groups = metadata.row_groups().iter().map(|group| {
        let chunks = group.columns().iter().map(|chunk| {
            let (start, length) = chunk.byte_range();
            let start = usize::try_from(start).unwrap();
            file.slice(start..start + usize::try_from(length).unwrap())
        });
        chunks.collect()
    });
    groups.collect()
}

async fn inputs_of(store: &Arc<dyn ObjectStore>, files: &[Vec<u8>]) -> Vec<MergeInput> {
    let mut inputs = Vec::new();
    for (writer, file) in files.iter().enumerate() {
        let path = put(store, &format!("in/{writer}"), file.clone()).await;
        inputs.push(input(store, &path, &format!("w{writer}"), 0).await);
    }
    inputs
}

async fn merge_files(files: &[Vec<u8>], options: MergeOptions) -> (Arc<dyn ObjectStore>, MergeOutput) {
    let store = memory();
    let inputs = inputs_of(&store, files).await;
    let output = merge(&store, inputs, options, keyed(0..0).schema()).await.unwrap();
    (store, output)
}

/// Merges files with the keys of `spans`; rows that were copied, all rows being there and in order.
async fn copied(files: &[Vec<u8>], spans: &[Range<i64>], options: MergeOptions) -> u64 {
    let (store, output) = merge_files(files, options).await;
    let mut keys: Vec<i64> = spans.iter().cloned().flatten().collect();
    keys.sort_unstable();
    let read = read_back(&store, &output, &keyed(0..0).schema()).await;
    let column: &Int64Array = read.column(0).as_any().downcast_ref().unwrap();
    assert_eq!(column.values(), &keys[..]);
    let inner: &StructArray = read.column(2).as_any().downcast_ref().unwrap();
    let inner: &Int64Array = inner.column(0).as_any().downcast_ref().unwrap();
    assert!(inner.values().iter().zip(&keys).all(|(inner, key)| *inner == -key));
    output.rows_copied
}

#[test]
fn row_groups_of_disjoint_files_are_copied_byte_by_byte_with_their_indexes() {
    block_on(async {
        let files = [128..256, 0..128].map(|keys| encode(&keyed(keys), alike().build()));
        let (store, output) = merge_files(&files, by_key()).await;
        assert_eq!((output.rows, output.rows_copied), (256, 256));
        let file = bytes_at(&store, &output.files[0].path).await;
        let sources = files.each_ref().map(|file| bytes::Bytes::from(file.clone()));
        assert_eq!(chunks(&file), [chunks(&sources[1]), chunks(&sources[0])].concat());
        let (ours, theirs) = (metadata(&file), metadata(&sources[1]));
        for (ours, theirs) in ours.row_groups()[..2].iter().zip(theirs.row_groups()) {
            assert_eq!(ours.sorting_columns().map(Vec::len), Some(1));
            for (ours, theirs) in ours.columns().iter().zip(theirs.columns()) {
                assert_eq!(ours.statistics(), theirs.statistics());
                assert_eq!(
                    ours.encodings().collect::<Vec<_>>(),
                    theirs.encodings().collect::<Vec<_>>()
                );
            }
        }
        // The page index leads to the pages where they lie now.
        let (ours, theirs) = (ours.page_index_for_row_group(1), theirs.page_index_for_row_group(1));
        for leaf in 0..4 {
            let (ours, theirs) = (ours.offset_index(leaf).unwrap(), theirs.offset_index(leaf).unwrap());
            let pages = ours.page_locations().iter().zip(theirs.page_locations());
            for (place, (ours, theirs)) in pages.enumerate() {
                assert_eq!(ours.first_row_index, i64::try_from(place).unwrap() * 10);
                let page = |file: &bytes::Bytes, offset: i64| {
                    let start = usize::try_from(offset).unwrap();
                    file.slice(start..start + usize::try_from(ours.compressed_page_size).unwrap())
                };
                assert_eq!(page(&file, ours.offset), page(&sources[1], theirs.offset));
            }
        }
        // What a table is told of the file is what it would be told of a decoded one.
        let (_, decoded) = merge_files(&files, by_key().with_copy_row_groups(false)).await;
        assert_eq!(decoded.rows_copied, 0);
        let metrics = |output: &MergeOutput| {
            let columns = output.files[0].columns.clone();
            let columns = columns.into_iter().map(|mut column| {
                column.compressed_size = 0;
                column
            });
            columns.collect::<Vec<_>>()
        };
        assert_eq!(metrics(&output), metrics(&decoded));
    });
}

#[test]
fn readers_find_rows_of_copied_row_groups_by_their_pages() {
    block_on(async {
        let files = [128..256, 0..128].map(|keys| encode(&keyed(keys), alike().build()));
        let (store, output) = merge_files(&files, by_key()).await;
        let file = bytes_at(&store, &output.files[0].path).await;
        let indexed = metadata(&file);
        let all = keyed(0..256);
        for group in 0..4 {
            let indexes = indexed.page_index_for_row_group(group);
            let Some(ColumnIndexMetaData::INT64(keys)) = indexes.column_index(0) else {
                panic!("the keys have a column index");
            };
            for page in 0..7 {
                let first = group * GROUP + page * 10;
                let rows = 10.min(GROUP - page * 10);
                let bounds = [keys.min_value(page), keys.max_value(page)].map(|bound| *bound.unwrap());
                assert_eq!(bounds, [first, first + rows - 1].map(|key| i64::try_from(key).unwrap()));
                // Only the pages of these rows are read.
                let selection = RowSelection::from_consecutive_ranges(std::iter::once(first..first + rows), 256);
                let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
                let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options).unwrap();
                let reader = reader.with_row_selection(selection).build().unwrap();
                let read: Vec<RecordBatch> = reader.collect::<Result<_, _>>().unwrap();
                let read = firnline::arrow::compute::concat_batches(&read[0].schema(), &read).unwrap();
                assert_eq!(read.columns(), all.slice(first, rows).columns(), "{group} {page}");
            }
        }
    });
}

#[test]
fn what_is_not_as_good_as_what_would_be_written_is_decoded() {
    let spans = [0..64, 64..128];
    let of = |properties: WriterPropertiesBuilder| {
        spans
            .clone()
            .map(|keys| encode(&keyed(keys), properties.clone().build()))
    };
    let reordered = spans
        .clone()
        .map(|keys| encode(&keyed(keys).project(&[0, 2, 1]).unwrap(), alike().build()));
    let fewer = spans
        .clone()
        .map(|keys| encode(&keyed(keys).project(&[0, 2]).unwrap(), alike().build()));
    let swapped = spans.clone().map(|keys| {
        let rows = keyed(keys);
        let nested: &StructArray = rows.column(2).as_any().downcast_ref().unwrap();
        let fields = Fields::from(vec![nested.fields()[1].clone(), nested.fields()[0].clone()]);
        let nested = StructArray::new(fields, vec![nested.column(1).clone(), nested.column(0).clone()], None);
        let columns = [
            ("k", rows.column(0).clone(), false),
            ("s", rows.column(1).clone(), true),
        ];
        let nested = ("n", Arc::new(nested) as ArrayRef, true);
        let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().chain([nested])).unwrap();
        encode(&rows, alike().build())
    });
    let cases: [(&str, [Vec<u8>; 2]); 8] = [
        ("another codec", of(alike().set_compression(Compression::UNCOMPRESSED))),
        (
            "less than half as many rows",
            of(alike().set_max_row_group_row_count(Some(GROUP / 2 - 1))),
        ),
        (
            "no page index",
            of(alike()
                .set_offset_index_disabled(true)
                .set_statistics_enabled(EnabledStatistics::Chunk)),
        ),
        (
            "no column index",
            of(alike().set_statistics_enabled(EnabledStatistics::Chunk)),
        ),
        (
            "no statistics",
            of(alike().set_statistics_enabled(EnabledStatistics::None)),
        ),
        ("another order of columns", reordered),
        ("a column missing", fewer),
        ("another order inside of a struct", swapped),
    ];
    for (what, files) in cases {
        let is_fewer = what == "a column missing";
        let count = block_on(async {
            if is_fewer {
                let (_, output) = merge_files(&files, by_key()).await;
                return output.rows_copied;
            }
            copied(&files, &spans, by_key()).await
        });
        let expected = if LIGHT == Compression::UNCOMPRESSED && what == "another codec" {
            128
        } else {
            0
        };
        assert_eq!(count, expected, "{what}");
    }
    // More rows than a row group is to have.
    let files = of(alike());
    assert_eq!(
        block_on(copied(&files, &spans, by_key().with_max_row_group_rows(63))),
        0
    );
    // Larger than a file is to be.
    assert_eq!(
        block_on(copied(&files, &spans, by_key().with_target_file_size_bytes(100))),
        0
    );
    // Half as many rows are enough.
    assert_eq!(
        block_on(copied(&files, &spans, by_key().with_max_row_group_rows(128))),
        128
    );
    assert_eq!(block_on(copied(&files, &spans, by_key().with_verify_reread(true))), 0);
}

#[test]
fn only_what_overlaps_is_decoded() {
    let spans = [0..192, 200..456, 460..524, 150..160];
    let files: Vec<Vec<u8>> = spans
        .iter()
        .map(|keys| encode(&keyed(keys.clone()), alike().build()))
        .collect();
    // 128..192 and 150..160 overlap, and leave 10 rows behind which 200..264 are added to.
    assert_eq!(block_on(copied(&files, &spans, by_key())), 128 + 192 + 64);
}

#[test]
fn a_row_group_that_is_too_small_is_not_ended_for_a_copy() {
    block_on(async {
        let spans = [0..10, 10..74, 74..138];
        let files: Vec<Vec<u8>> = spans
            .iter()
            .map(|keys| encode(&keyed(keys.clone()), alike().build()))
            .collect();
        let (store, output) = merge_files(&files, by_key()).await;
        let file = bytes_at(&store, &output.files[0].path).await;
        let rows: Vec<i64> = metadata(&file)
            .row_groups()
            .iter()
            .map(RowGroupMetaData::num_rows)
            .collect();
        // Rather than to leave 10 rows behind, or 64 and 10, the second file is decoded too, and both are halved.
        assert_eq!((rows, output.rows_copied), (vec![37, 37, 64], 64));
    });
}

#[test]
fn equal_keys_of_two_inputs_keep_their_order() {
    // The last key of the one is the first of the other: which row comes first is not told by keys alone.
    let spans = [63..127, 0..64];
    let files = spans.clone().map(|keys| encode(&keyed(keys), alike().build()));
    assert_eq!(block_on(copied(&files, &spans, by_key())), 0);
    let two = options(&[SortField::ascending("k"), SortField::descending("s")]).with_max_row_group_rows(GROUP);
    assert_eq!(block_on(copied(&files, &spans, two.clone())), 0);
    let spans = [64..128, 0..64];
    let files = spans.clone().map(|keys| encode(&keyed(keys), alike().build()));
    assert_eq!(block_on(copied(&files, &spans, two)), 128);
}

#[test]
fn descending_keys_and_no_keys_copy_too() {
    block_on(async {
        let descending = |keys: Range<i64>| {
            let rows = keyed(keys);
            let last = i64::try_from(rows.num_rows()).unwrap();
            let indices = Int64Array::from_iter_values((0..last).rev());
            firnline::arrow::compute::take_record_batch(&rows, &indices).unwrap()
        };
        let files = [descending(0..64), descending(64..128)].map(|rows| encode(&rows, alike().build()));
        let order = [SortField::descending("k")];
        let (store, output) = merge_files(&files, options(&order).with_max_row_group_rows(GROUP)).await;
        assert_eq!(output.rows_copied, 128);
        assert_eq!(
            read_back(&store, &output, &keyed(0..0).schema()).await,
            descending(0..128)
        );
        let (store, output) = merge_files(&files, options(&[]).with_max_row_group_rows(GROUP)).await;
        assert_eq!(output.rows_copied, 128);
        let both = [descending(0..64), descending(64..128)];
        let both = firnline::arrow::compute::concat_batches(&both[0].schema(), &both).unwrap();
        assert_eq!(read_back(&store, &output, &both.schema()).await, both);
    });
}

#[test]
fn footers_that_lie_about_keys_do_not_break_the_order() {
    let spans = [0..64, 32..96, 80..144];
    let of_keys = |output: &MergeOutput| {
        let column = &output.files[0].columns[0];
        [&column.lower, &column.upper].map(|bound| match bound.as_ref().unwrap().value {
            Datum::Int64(value) => value,
            _ => unreachable!(),
        })
    };
    let truth: Vec<Vec<u8>> = spans
        .iter()
        .map(|keys| encode(&keyed(keys.clone()), alike().build()))
        .collect();
    // As if they followed each other, in all orders.
    for places in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0], [0, 0, 1], [0, 1, 1]] {
        let files = truth
            .iter()
            .zip(places)
            .map(|(file, place)| lying(file, place * 100, place * 100 + 9));
        let files: Vec<Vec<u8>> = files.collect();
        block_on(copied(&files, &spans, by_key()));
        let (_, output) = block_on(merge_files(&files, by_key()));
        assert_eq!(of_keys(&output), [0, 143]);
    }
    // A footer that tells of less than there is, of one side or of both.
    for (min, max) in [(10, 63), (0, 20), (10, 20), (63, 0)] {
        let (_, output) = block_on(merge_files(&[lying(&truth[0], min, max)], by_key()));
        assert_eq!((output.rows_copied, of_keys(&output)), (0, [0, 63]), "{min} {max}");
    }
}

#[test]
fn keys_out_of_order_are_found_in_a_row_group_that_would_be_copied() {
    block_on(async {
        let mixed = |place: usize| {
            let rows = keyed(0..64);
            let mut order: Vec<i64> = (0..64).collect();
            order.swap(place, place + 1);
            firnline::arrow::compute::take_record_batch(&rows, &Int64Array::from(order)).unwrap()
        };
        for place in [0, 30, 62] {
            let files = [
                encode(&keyed(-64..0), alike().build()),
                encode(&mixed(place), alike().build()),
            ];
            let store = memory();
            let inputs = inputs_of(&store, &files).await;
            let error = merge(&store, inputs.clone(), by_key(), keyed(0..0).schema())
                .await
                .unwrap_err();
            let row = place as u64 + 1;
            assert!(
                matches!(&error, MergeError::Source { index: 1, reason: QuarantineReason::Unsorted { row: found } } if *found == row),
                "{error:?}"
            );
            assert_eq!(listed(&store, "out").await, Vec::<String>::new());
            let options = by_key().with_on_unsorted(OnUnsorted::Resort);
            let output = merge(&store, inputs, options, keyed(0..0).schema()).await.unwrap();
            assert_eq!(read_back(&store, &output, &keyed(0..0).schema()).await, keyed(-64..64));
        }
    });
}

#[test]
fn pages_that_are_not_where_the_index_says_are_noticed() {
    block_on(async {
        let file = encode(&keyed(0..64), alike().build());
        let parsed = metadata(&bytes::Bytes::from(file.clone()));
        let offsets: Vec<usize> = (0..4)
            .map(|leaf| {
                let index = parsed.page_index_for_row_group(0);
                usize::try_from(index.offset_index(leaf).unwrap().page_locations()[2].offset).unwrap()
            })
            .collect();
        for (leaf, offset) in offsets.into_iter().enumerate() {
            // The header of a page in the middle of the chunk.
            let mut broken = file.clone();
            broken[offset..offset + 4].fill(0xff);
            let store = memory();
            let inputs = inputs_of(&store, &[broken]).await;
            let error = merge(&store, inputs, by_key(), keyed(0..0).schema()).await.unwrap_err();
            assert!(
                matches!(
                    &error,
                    MergeError::Source {
                        index: 0,
                        reason: QuarantineReason::Corrupt { .. }
                    }
                ),
                "{leaf}: {error:?}"
            );
        }
    });
}

#[test]
fn floats_that_may_hide_nan_lose_their_bounds() {
    block_on(async {
        let rows = |values: Vec<f64>| {
            let keys = Int64Array::from_iter_values(0..64);
            let column: ArrayRef = Arc::new(Float64Array::from(values));
            RecordBatch::try_from_iter([("k", Arc::new(keys) as ArrayRef), ("f", column)]).unwrap()
        };
        for (value, nans) in [(1.0, Some(0)), (f64::NAN, Some(1))] {
            let mut values = vec![0.5; 64];
            values[7] = value;
            let rows = rows(values);
            let store = memory();
            let inputs = inputs_of(&store, &[encode(&rows, alike().build())]).await;
            let output = merge(&store, inputs, by_key(), rows.schema()).await.unwrap();
            assert_eq!(output.rows_copied, 64);
            let column = &output.files[0].columns[1];
            assert_eq!(column.nan_count, nans);
            assert_eq!(
                (column.lower.is_some(), column.upper.is_some()),
                (nans == Some(0), nans == Some(0))
            );
            let file = bytes_at(&store, &output.files[0].path).await;
            let statistics = metadata(&file).row_group(0).column(1).statistics().unwrap().clone();
            assert_eq!(statistics.max_bytes_opt().is_some(), nans == Some(0));
        }
    });
}

#[test]
fn nans_that_no_writer_has_counted_are_counted() {
    block_on(async {
        for (value, greatest, copied, nans) in [
            (1.0, 1.0, 64, 0),
            (f64::NAN, 1.0, 64, 1),
            // The writer is wrong: as good as unknown.
            (1.0, 0.75, 0, 0),
        ] {
            let values = (0..64).map(|row| if row == 7 { value } else { 0.5 });
            let column: ArrayRef = Arc::new(Float64Array::from_iter_values(values));
            let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..64));
            let rows = RecordBatch::try_from_iter([("f", column), ("k", keys)]).unwrap();
            let told = ValueStatistics::new(Some(0.5), Some(greatest), None, Some(0), false);
            let file = refooted(&encode(&rows, alike().build()), |chunk| {
                chunk.set_statistics(Statistics::Double(told.clone()))
            });
            let store = memory();
            let inputs = inputs_of(&store, &[file]).await;
            let output = merge(&store, inputs, by_key(), rows.schema()).await.unwrap();
            assert_eq!(output.rows_copied, copied, "{value} {greatest}");
            let column = &output.files[0].columns[0];
            assert_eq!(column.nan_count, Some(nans));
            let upper = column.upper.as_ref().map(|bound| bound.value.clone());
            assert_eq!(upper, (nans == 0).then_some(Datum::Double(1.0)), "{value} {greatest}");
            let file = bytes_at(&store, &output.files[0].path).await;
            let has_index = metadata(&file).row_group(0).column(0).column_index_range().is_some();
            assert_eq!(has_index, nans == 0);
        }
    });
}

/// Columns `k`, a list `l` of integers, and a struct `n` of one, which are nullable as told outside and inside.
fn nested(outer: bool, inner: bool) -> RecordBatch {
    let keys = Int64Array::from_iter_values(0..64);
    let lengths: OffsetBuffer<i32> = OffsetBuffer::from_lengths((0..64).map(|row| row % 3));
    let items = Arc::new(Int64Array::from_iter_values(0..i64::from(lengths.last())));
    let item = Arc::new(Field::new("item", DataType::Int64, inner));
    let list = ListArray::new(item, lengths, items, None);
    let fields = Fields::from(vec![Field::new("x", DataType::Int64, inner)]);
    let values = StructArray::new(fields, vec![Arc::new(Int64Array::from_iter_values(0..64))], None);
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(keys) as ArrayRef, false),
        ("l", Arc::new(list), outer),
        ("n", Arc::new(values), outer),
    ])
    .unwrap()
}

#[test]
fn levels_that_mean_something_else_are_not_copied() {
    block_on(async {
        for (outer, inner) in [(true, true), (true, false), (false, true), (false, false)] {
            for (of_outer, of_inner) in [(true, true), (true, false), (false, true), (false, false)] {
                let (source, table) = (nested(of_outer, of_inner), nested(outer, inner));
                let store = memory();
                let inputs = inputs_of(&store, &[encode(&source, alike().build())]).await;
                let output = merge(&store, inputs, by_key(), table.schema()).await.unwrap();
                let is_same = (outer, inner) == (of_outer, of_inner);
                assert_eq!(
                    output.rows_copied > 0,
                    is_same,
                    "{of_outer} {of_inner} to {outer} {inner}"
                );
                assert_eq!(read_back(&store, &output, &table.schema()).await, table);
            }
        }
    });
}

#[test]
fn page_indexes_of_copied_row_groups_stay_inside_the_budget() {
    block_on(async {
        let pages = alike().set_data_page_row_count_limit(1).set_write_batch_size(1);
        let spans: Vec<Range<i64>> = (0..60).map(|place| place * 64..(place + 1) * 64).collect();
        let files = spans
            .iter()
            .map(|keys| encode(&keyed(keys.clone()), pages.clone().build()));
        let files: Vec<Vec<u8>> = files.collect();
        let options = by_key().with_memory_budget_bytes(16 << 20);
        let count = copied(&files, &spans, options.clone()).await;
        assert!(
            (64..60 * 64).contains(&count),
            "the first ones are copied, and then no more: {count}"
        );
        let (_, output) = merge_files(&files, options).await;
        assert!(output.peak_memory_bytes <= 16 << 20);
    });
}

#[test]
fn a_row_group_that_cannot_be_copied_is_judged_by_decoding_it() {
    // The offset index is that of the next column.
    let file = encode(&keyed(0..64), alike().build());
    let parsed = metadata(&bytes::Bytes::from(file.clone()));
    let other = parsed.row_group(0).column(1);
    let (offset, length) = (other.offset_index_offset(), other.offset_index_length());
    let broken = refooted(&file, |chunk| {
        chunk.set_offset_index_offset(offset).set_offset_index_length(length)
    });
    let files = [broken, encode(&keyed(64..128), alike().build())];
    assert_eq!(block_on(copied(&files, &[0..64, 64..128], by_key())), 64);
}

/// Files whose row groups sometimes overlap those of others and sometimes do not.
#[test]
fn copied_or_decoded_the_rows_are_the_stable_sort_of_all() {
    let mut total = 0;
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let order = match seed % 4 {
            0 => vec![SortField::ascending("t")],
            1 => vec![SortField::ascending("t"), SortField::descending("s")],
            2 => vec![SortField::descending("t").with_nulls_first()],
            _ => vec![SortField::ascending("id"), SortField::ascending("t")],
        };
        let (mut expected, mut id) = (Vec::new(), 0);
        let store = memory();
        block_on(async {
            let mut inputs = Vec::new();
            for file in 0..=random.size(6) {
                let stride = 1 + i64::try_from(random.below(4)).unwrap();
                let mut t = i64::try_from(random.below(600)).unwrap();
                let mut rows: Vec<Row> = (0..random.size(300))
                    .map(|_| {
                        (id, t) = (id + 1, t + i64::try_from(random.below(2)).unwrap() * stride);
                        let mut row = Row::random(&mut random, id);
                        row.t = t;
                        row
                    })
                    .collect();
                rows.sort_by(|a, b| compare(&order, a, b));
                for (place, row) in rows.iter_mut().enumerate() {
                    row.place = (file, 0, place);
                }
                let rows_per_group = [16, 32, 64][random.size(3)];
                let properties = alike().set_max_row_group_row_count(Some(rows_per_group)).build();
                let path = put(&store, &format!("in/{file}"), encode(&batch(&rows), properties)).await;
                let mut one = input(&store, &path, &format!("w{file}"), 0).await;
                if random.below(2) == 0 {
                    one.footer = one.footer.without_content();
                }
                inputs.push(one);
                expected.extend(rows);
            }
            expected.sort_by(|a, b| compare(&order, a, b).then(a.place.cmp(&b.place)));
            let options = options(&order).with_max_row_group_rows(GROUP);
            let mut merger = ParquetMerger::new(options);
            if seed % 2 == 1 {
                merger = merger.with_spawner(threads());
            }
            let into = target(&store, schema());
            let output = merger.merge(&store, inputs, into, &()).await.unwrap();
            let found = read_back(&store, &output, &schema()).await;
            assert_eq!(found, batch(&expected), "seed {seed}");
            assert!(output.peak_memory_bytes <= MergeOptions::default().memory_budget_bytes);
            total += output.rows_copied;
        });
    }
    assert!(total > 5_000, "{total}");
}
