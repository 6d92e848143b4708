//! What becomes of files whose columns differ, have no type or no rows, or have types that the table has not.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use firnline::delta::{DeltaOptions, DeltaTables};
use firnline::object_store::ObjectStoreExt;
use firnline::object_store::path::Path;
use firnline::parquet::arrow::ArrowWriter;
use firnline::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use firnline::{
    CommitOutcome, Compactor, CompactorBuilder, Confirmation, Decision, JobReport, LaneId, Namespace, Place,
    QuarantineReason, SortField, Table, TableCommit, TableLayout, TableProvider, TableSink, TableState,
};
use futures::executor::block_on;
use serde_json::{Value, json};

use super::support::{END, MINUTE, commits, errors, put, tell, voids};
use crate::world::{HOUR, World, at, work_until};

/// Name, values, and whether the column is nullable.
pub(super) type Columns = Vec<(&'static str, ArrayRef, bool)>;

pub(super) fn file(columns: Columns) -> Vec<u8> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array, nullable)| Field::new(*name, array.data_type().clone(), *nullable))
        .collect();
    let columns = columns.into_iter().map(|(_, array, _)| array).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// Sorted by `ts` alone, so that columns can be what they like.
pub(super) fn world() -> World {
    let mut world = World::new();
    world.options = world.options.with_sort_order(vec![SortField::ascending("ts")]);
    world
}

pub(super) fn ts(values: impl IntoIterator<Item = i64>) -> (&'static str, ArrayRef, bool) {
    ("ts", Arc::new(Int64Array::from_iter_values(values)), true)
}

pub(super) fn longs(values: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

/// Files in the order of their names, all of one window, done with.
pub(super) fn compacted(world: &World, compactor: &mut Compactor, files: Vec<Vec<u8>>) -> Vec<JobReport> {
    let done = world.list(&world.control, &"".into()).len() as u64;
    let events: Vec<_> = (0..)
        .zip(files)
        .map(|(n, bytes)| {
            put(
                &world.bucket,
                &format!("data/users/{}-w{n}-{done}.parquet", HOUR + n),
                bytes,
            )
        })
        .collect();
    for outcome in tell(compactor, &events, at(END)) {
        assert!(outcome.is_ok(), "{outcome:?}");
    }
    let reports = work_until(compactor, at(END), at(END + 24 * 60 * MINUTE));
    assert_eq!(errors(&reports), Vec::<String>::new());
    assert!(reports.iter().all(|report| report.halted.is_none()), "{reports:#?}");
    reports
}

/// The reasons for which files were set aside, by the writer's number.
pub(super) fn set_aside(compactor: &Compactor) -> Vec<(usize, String)> {
    let mut found: Vec<_> = compactor
        .quarantined(at(END))
        .map(|file| {
            let writer = file.key.as_str().split('-').nth(1).unwrap();
            (writer[1..].parse().unwrap(), file.reason.to_string())
        })
        .collect();
    found.sort();
    found
}

/// All rows of the table, file after file.
pub(super) fn table(world: &World) -> RecordBatch {
    let batches: Vec<RecordBatch> = world
        .live_files("users")
        .iter()
        .flat_map(|path| {
            let bytes = block_on(async { world.tables.get(path).await.unwrap().bytes().await.unwrap() });
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
            reader.build().unwrap().map(Result::unwrap)
        })
        .collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

pub(super) fn column(world: &World, name: &str) -> ArrayRef {
    let table = table(world);
    let column = table.column_by_name(name);
    Arc::clone(column.unwrap_or_else(|| panic!("no column {name} in {:?}", table.schema())))
}

/// The actions of the first commit.
pub(super) fn created(world: &World) -> Vec<Value> {
    let path = "users/_delta_log/00000000000000000000.json".into();
    let bytes = block_on(async { world.tables.get(&path).await.unwrap().bytes().await.unwrap() });
    let text = std::str::from_utf8(&bytes).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Names, types and nullability of the table's columns, as its log has them.
fn columns_of(world: &World) -> Value {
    let actions = created(world);
    let text = actions
        .iter()
        .find_map(|action| action["metaData"]["schemaString"].as_str());
    let schema: Value = serde_json::from_str(text.unwrap()).unwrap();
    let fields = schema["fields"].as_array().unwrap().iter();
    fields
        .map(|field| json!([field["name"], field["type"], field["nullable"]]))
        .collect()
}

fn nulls(rows: usize) -> ArrayRef {
    Arc::new(NullArray::new(rows))
}

fn lists<T: ArrowPrimitiveType>(rows: Vec<Option<Vec<Option<T::Native>>>>) -> ArrayRef {
    Arc::new(ListArray::from_iter_primitive::<T, _, _>(rows))
}

/// A list of nothing but nulls, as a writer has it that saw no other item.
fn untyped_lists(lengths: &[usize]) -> ArrayRef {
    let item = Arc::new(Field::new("element", DataType::Null, true));
    let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
    let items = nulls(lengths.iter().sum());
    Arc::new(ListArray::new(item, offsets, items, None))
}

pub(super) fn structs(columns: Vec<(&str, ArrayRef)>) -> ArrayRef {
    let fields: Fields = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let columns = columns.into_iter().map(|(_, array)| array).collect();
    Arc::new(StructArray::new(fields, columns, None))
}

#[test]
fn a_column_of_nulls_alone_takes_the_type_that_other_files_give_it() {
    let world = world();
    let mut compactor = world.open(at(END));
    let mut files = vec![file(vec![ts([1, 2]), ("v", nulls(2), true)])];
    for n in 0..3 {
        files.push(file(vec![
            ts([10 + n * 10, 11 + n * 10]),
            ("v", longs(vec![Some(n), Some(7)]), false),
        ]));
    }
    let reports = compacted(&world, &mut compactor, files);
    assert_eq!(set_aside(&compactor), []);
    assert_eq!(commits(&reports), [(1, 0, 4, 8)]);
    assert_eq!(columns_of(&world), json!([["ts", "long", true], ["v", "long", true]]));
    let expected = longs(vec![None, None, Some(0), Some(7), Some(1), Some(7), Some(2), Some(7)]);
    assert_eq!(&column(&world, "v"), &expected);
    // The table has it now: such a file goes on being one that lacks the column.
    let reports = compacted(
        &world,
        &mut compactor,
        vec![file(vec![("v", nulls(1), true), ("w", nulls(1), true), ts([5])])],
    );
    assert_eq!(set_aside(&compactor), []);
    assert_eq!(commits(&reports), [(2, 1, 1, 1)]);
    assert_eq!(column(&world, "v").null_count(), 3);
}

#[test]
fn a_column_that_is_nothing_but_null_everywhere_is_left_out_of_the_table() {
    let world = world();
    let mut compactor = world.open(at(END));
    let file = || file(vec![("v", nulls(2), true), ts([1, 2])]);
    let reports = compacted(&world, &mut compactor, vec![file(), file()]);
    assert_eq!(set_aside(&compactor), []);
    assert_eq!((commits(&reports), voids(&reports)), (vec![(1, 0, 2, 4)], vec![]));
    assert_eq!(columns_of(&world), json!([["ts", "long", true]]));
    assert_eq!(&column(&world, "ts"), &longs(vec![Some(1), Some(1), Some(2), Some(2)]));
}

#[test]
fn nulls_without_type_inside_lists_and_structs_take_the_type_of_others_too() {
    let world = world();
    let mut compactor = world.open(at(END));
    let files = vec![
        file(vec![
            ts([1, 2]),
            ("l", untyped_lists(&[0, 2]), true),
            (
                "s",
                structs(vec![
                    ("a", nulls(2)),
                    ("b", longs(vec![Some(1), None])),
                    ("z", nulls(2)),
                ]),
                true,
            ),
        ]),
        file(vec![
            ts([3, 4]),
            ("l", lists::<Int64Type>(vec![Some(vec![Some(5)]), None]), true),
            (
                "s",
                structs(vec![
                    ("b", longs(vec![Some(2), Some(3)])),
                    ("a", Arc::new(StringArray::from(vec!["x", "y"]))),
                ]),
                true,
            ),
        ]),
    ];
    let reports = compacted(&world, &mut compactor, files);
    assert_eq!(set_aside(&compactor), []);
    assert_eq!(commits(&reports), [(1, 0, 2, 4)]);
    let found = column(&world, "l");
    let found = found.as_list::<i32>();
    assert_eq!(found.value_offsets(), [0, 0, 2, 3, 3]);
    assert!(found.is_null(3) && found.is_valid(0));
    assert_eq!(
        found.values().as_primitive(),
        &Int64Array::from(vec![None, None, Some(5)])
    );
    let found = column(&world, "s");
    let found = found.as_struct();
    assert_eq!(found.column_names(), ["b", "a"]);
    assert_eq!(
        found.column(1).as_string::<i32>(),
        &StringArray::from(vec![None, None, Some("x"), Some("y")])
    );
    assert_eq!(
        found.column(0).as_primitive(),
        &Int64Array::from(vec![Some(1), None, Some(2), Some(3)])
    );
}

#[test]
fn a_list_whose_items_no_file_gives_a_type_is_set_aside_and_the_rest_is_committed() {
    let world = world();
    let mut compactor = world.open(at(END));
    let files = vec![
        file(vec![
            ts([1, 2]),
            ("l", untyped_lists(&[0, 1]), true),
            ("only", longs(vec![Some(1), Some(2)]), false),
        ]),
        file(vec![ts([3]), ("s", structs(vec![("a", nulls(1))]), true)]),
        file(vec![ts([4, 5]), ("l", nulls(2), true)]),
    ];
    let reports = compacted(&world, &mut compactor, files);
    assert_eq!(
        set_aside(&compactor),
        [
            (
                0,
                "type not supported by the table format. column=`l.element` type=`Null`".to_owned()
            ),
            (
                1,
                "type not supported by the table format. column=`s` type=`Struct()`".to_owned()
            ),
        ]
    );
    assert_eq!((commits(&reports), voids(&reports)), (vec![(1, 0, 1, 2)], vec![]));
    assert_eq!(columns_of(&world), json!([["ts", "long", true]]));
}

#[test]
fn a_file_without_rows_decides_no_types_and_is_consumed_whatever_its_columns_are() {
    let world = world();
    let mut compactor = world.open(at(END));
    let empty = |array: ArrayRef| file(vec![ts([]), ("v", array.slice(0, 0), false)]);
    let time: ArrayRef = Arc::new(Time64MicrosecondArray::from(vec![1]));
    let files = vec![
        empty(Arc::new(Int32Array::from(vec![1]))),
        empty(time),
        // No column of the sort order, one that cannot be sorted by, one that no other file has, none with a type.
        file(vec![("v", longs(vec![]), true)]),
        file(vec![("ts", lists::<Int32Type>(vec![]), true)]),
        file(vec![ts([]), ("w", longs(vec![]), true)]),
        file(vec![("ts", nulls(0), true), ("v", nulls(0), true)]),
        file(vec![
            ts([1, 2]),
            ("v", Arc::new(StringArray::from(vec!["x", "y"])), false),
        ]),
        file(vec![ts([3]), ("v", Arc::new(StringArray::from(vec!["z"])), false)]),
    ];
    let reports = compacted(&world, &mut compactor, files);
    assert_eq!(set_aside(&compactor), []);
    assert_eq!((commits(&reports), voids(&reports)), (vec![(1, 0, 8, 3)], vec![]));
    assert_eq!(
        columns_of(&world),
        json!([["ts", "long", true], ["v", "string", false]])
    );
    let strings: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", "z"]));
    assert_eq!(&column(&world, "v"), &strings);
    // With a table, they need no company.
    let alone = vec![empty(longs(vec![Some(1)])), file(vec![("x", nulls(0), true)])];
    let reports = compacted(&world, &mut compactor, alone);
    assert_eq!(set_aside(&compactor), []);
    assert_eq!((commits(&reports), voids(&reports)), (vec![(2, 1, 2, 0)], vec![]));
    assert_eq!(world.sources(), Vec::<String>::new());
}

#[test]
fn files_without_rows_make_a_table_only_of_columns_that_can_be_one() {
    let world = world();
    let mut compactor = world.open(at(END));
    let useless = || {
        vec![
            file(vec![("ts", lists::<Int32Type>(vec![]), true)]),
            file(vec![("ts", nulls(0), true)]),
        ]
    };
    let reports = compacted(&world, &mut compactor, useless());
    assert_eq!((commits(&reports), voids(&reports)), (vec![], vec![]));
    let reasons: Vec<_> = set_aside(&compactor);
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    // Beside one that says what the table is like they are consumed.
    let mut files = useless();
    files.push(file(vec![ts([]), ("v", longs(vec![]), true)]));
    let reports = compacted(&world, &mut compactor, files);
    assert_eq!(commits(&reports), [(1, 0, 3, 0)]);
    assert_eq!(set_aside(&compactor), reasons);
    assert_eq!(columns_of(&world), json!([["ts", "long", true], ["v", "long", true]]));
}

#[test]
fn a_sort_key_that_cannot_be_sorted_by_sets_the_file_aside_and_nothing_stands_still() {
    let world = world();
    let mut compactor = world.open(at(END));
    let list = lists::<Int32Type>(vec![Some(vec![Some(1)])]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.append(true).unwrap();
    let files = vec![
        file(vec![("ts", list, true)]),
        file(vec![("ts", structs(vec![("a", longs(vec![Some(1)]))]), true)]),
        file(vec![("ts", Arc::new(map.finish()), true)]),
        file(vec![("ts", nulls(1), true), ("v", longs(vec![Some(1)]), true)]),
        file(vec![ts([1, 2])]),
    ];
    let reports = compacted(&world, &mut compactor, files);
    let unsortable = "schema drift: columns of the sort order have an order. column=`ts`";
    let found: Vec<_> = set_aside(&compactor);
    assert_eq!(
        found,
        [
            (
                0,
                format!("{unsortable} found=`List(Int32, field: 'element')` expected=`a type that can be sorted by`")
            ),
            (
                1,
                format!("{unsortable} found=`Struct(\"a\": Int64)` expected=`a type that can be sorted by`")
            ),
            (
                2,
                format!(
                    "{unsortable} found=`Map(\"key_value\": non-null Struct(\"key\": non-null Utf8, \"value\": \
                     Int64), unsorted)` expected=`a type that can be sorted by`"
                )
            ),
            (
                3,
                "schema drift: every file has the columns of the sort order. column=`ts` found=`Null` \
                 expected=`a column of the sort order`"
                    .to_owned()
            ),
        ]
    );
    assert_eq!((commits(&reports), voids(&reports)), (vec![(1, 0, 1, 2)], vec![]));
}

#[test]
fn a_required_column_that_another_file_lacks_is_nullable_in_a_new_table_and_no_value_is_lost() {
    let world = world();
    let mut compactor = world.open(at(END));
    let files = vec![
        file(vec![ts([1, 3]), ("v", longs(vec![Some(1), Some(3)]), false)]),
        file(vec![ts([2])]),
    ];
    let reports = compacted(&world, &mut compactor, files);
    assert_eq!(set_aside(&compactor), []);
    assert_eq!(commits(&reports), [(1, 0, 2, 3)]);
    assert_eq!(columns_of(&world), json!([["ts", "long", true], ["v", "long", true]]));
    assert_eq!(&column(&world, "v"), &longs(vec![Some(1), None, Some(3)]));
}

#[test]
fn a_file_that_lacks_a_column_which_must_not_be_null_in_the_table_is_set_aside() {
    let world = world();
    let mut compactor = world.open(at(END));
    let full = |ts_value| file(vec![ts([ts_value]), ("v", longs(vec![Some(1)]), false)]);
    let reports = compacted(&world, &mut compactor, vec![full(1), full(2)]);
    assert_eq!(commits(&reports), [(1, 0, 2, 2)]);
    assert_eq!(columns_of(&world), json!([["ts", "long", true], ["v", "long", false]]));
    let files = vec![
        file(vec![ts([3])]),
        file(vec![ts([4]), ("v", nulls(1), true)]),
        // Nullable, but none of its values is.
        file(vec![ts([5]), ("v", longs(vec![Some(2)]), true)]),
    ];
    let reports = compacted(&world, &mut compactor, files);
    let missing = "schema drift: required column missing. column=`v` found=`absent` expected=`Int64`";
    assert_eq!(
        set_aside(&compactor),
        [(0, missing.to_owned()), (1, missing.to_owned())]
    );
    assert_eq!((commits(&reports), voids(&reports)), (vec![(2, 1, 1, 1)], vec![]));
}

#[test]
fn names_that_differ_in_case_only_are_drift_at_any_depth_and_halt_nothing() {
    let world = world();
    let mut compactor = world.open(at(END));
    let of =
        |n, top: &'static str, inner| file(vec![ts([n]), (top, structs(vec![(inner, longs(vec![Some(n)]))]), true)]);
    let reports = compacted(
        &world,
        &mut compactor,
        vec![of(1, "s", "a"), of(2, "S", "a"), of(3, "s", "A"), of(4, "s", "b")],
    );
    let drift = |column: &str, found: &str, expected: &str| {
        format!(
            "schema drift: column name differs in case only. column=`{column}` found=`{found}` expected=`{expected}`"
        )
    };
    assert_eq!(
        set_aside(&compactor),
        [(1, drift("S", "S", "s")), (2, drift("s.A", "A", "a"))]
    );
    assert_eq!(commits(&reports), [(1, 0, 2, 2)]);
}

/// Tables of a format that has no longs, whose sink does not say so.
#[derive(Debug)]
struct NarrowTables(DeltaTables);

impl TableProvider for NarrowTables {
    fn table(&self, namespace: &Namespace) -> firnline::Result<Table> {
        let mut table = self.0.table(namespace)?;
        table.sink = Arc::new(NarrowSink(Arc::clone(&table.sink)));
        Ok(table)
    }
}

#[derive(Debug)]
struct NarrowSink(Arc<dyn TableSink>);

#[async_trait]
impl TableSink for NarrowSink {
    fn canonical_schema(&self, source: &Schema, _table: Option<&Schema>) -> Result<SchemaRef, QuarantineReason> {
        let fields = source.fields().iter().map(|field| match field.data_type() {
            DataType::Int64 if field.name() != "ts" => field.as_ref().clone().with_data_type(DataType::Int32),
            _ => field.as_ref().clone(),
        });
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    async fn decided(&self, lane: LaneId) -> firnline::Result<TableState> {
        self.0.decided(lane).await
    }

    async fn prepare(
        &self,
        lane: LaneId,
        schema: &SchemaRef,
        evolve: firnline::Evolve,
    ) -> firnline::Result<TableLayout> {
        self.0.prepare(lane, schema, evolve).await
    }

    async fn commit(&self, commit: &TableCommit) -> firnline::Result<CommitOutcome> {
        self.0.commit(commit).await
    }

    async fn confirm(&self, decision: &Decision) -> firnline::Result<Confirmation> {
        self.0.confirm(decision).await
    }
}

#[test]
fn a_file_that_can_never_be_converted_is_set_aside_before_there_is_a_plan_or_a_table() {
    let world = world();
    let place = |url: &str, store| Place::new(url, Arc::clone(store), "").unwrap();
    let tables = Arc::clone(&world.tables);
    let builder = CompactorBuilder::new(
        place("mem://bucket", &world.bucket),
        place("mem://control", &world.control),
        NarrowTables(DeltaTables::new(
            "mem://tables",
            tables,
            Path::default(),
            DeltaOptions::default(),
        )),
        Arc::clone(&world.state),
        world.options.clone(),
    );
    let mut compactor = block_on(builder.open(at(END))).unwrap();
    let of = |v: ArrayRef| file(vec![ts([1]), ("v", v, true)]);
    let reports = compacted(
        &world,
        &mut compactor,
        vec![of(longs(vec![Some(1)])), of(longs(vec![Some(2)]))],
    );
    let reason = "schema drift: conversion would lose values. column=`v` found=`Int64` expected=`Int32`".to_owned();
    assert_eq!(set_aside(&compactor), [(0, reason.clone()), (1, reason.clone())]);
    assert_eq!((commits(&reports), voids(&reports)), (vec![], vec![]));
    assert_eq!(world.list(&world.tables, &Path::default()), []);
    // Nor do they decide the type of others.
    let strings: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let reports = compacted(&world, &mut compactor, vec![of(longs(vec![Some(3)])), of(strings)]);
    assert_eq!((commits(&reports), voids(&reports)), (vec![(1, 0, 1, 1)], vec![]));
    assert_eq!(columns_of(&world), json!([["ts", "long", true], ["v", "string", true]]));
}
