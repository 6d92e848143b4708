//! Files whose columns drift away from those of a table that is there, and what becomes of both.

use std::sync::Arc;

use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use firnline::Evolve;
use firnline::object_store::ObjectStoreExt;
use firnline::object_store::path::Path;
use firnline::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use futures::executor::block_on;
use serde_json::{Value, json};

use super::delta_tables::create;
use super::schemas::{compacted, file, longs, set_aside, ts, world};
use super::support::{END, commits, voids};
use crate::table_log::is_iceberg;
use crate::world::{World, at};

fn evolving(evolve: Evolve) -> World {
    let mut world = world();
    world.options = world.options.with_evolve(evolve);
    world
}

fn ints(values: Vec<Option<i32>>) -> ArrayRef {
    Arc::new(Int32Array::from(values))
}

fn texts(values: Vec<Option<&str>>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

fn point(parts: Vec<(&str, ArrayRef)>) -> ArrayRef {
    let fields: Fields = parts
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let arrays = parts.into_iter().map(|(_, array)| array).collect();
    Arc::new(StructArray::try_new(fields, arrays, None).unwrap())
}

/// The newest object below `users/` whose name ends like this, as JSON lines.
fn newest(world: &World, suffix: &str) -> Vec<Value> {
    let objects = world.list(&world.tables, &"users".into());
    let number = |path: &&Path| {
        let digits: String = path.filename().unwrap().chars().filter(char::is_ascii_digit).collect();
        digits.parse::<u64>().unwrap_or(0)
    };
    let path = objects
        .iter()
        .filter(|path| path.as_ref().ends_with(suffix))
        .max_by_key(number)
        .unwrap();
    let bytes = block_on(async { world.tables.get(path).await.unwrap().bytes().await.unwrap() });
    if is_iceberg() {
        return vec![serde_json::from_slice(&bytes).unwrap()];
    }
    let text = std::str::from_utf8(&bytes).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The fields of the table's current schema, as its log has them.
pub(super) fn fields(world: &World) -> Vec<Value> {
    let schema = if is_iceberg() {
        let metadata = newest(world, ".metadata.json").remove(0);
        let schemas = metadata["schemas"].as_array().unwrap();
        let current = &metadata["current-schema-id"];
        schemas
            .iter()
            .find(|schema| schema["schema-id"] == *current)
            .unwrap()
            .clone()
    } else {
        let objects = world.list(&world.tables, &"users/_delta_log".into());
        let mut commits: Vec<_> = objects.iter().filter(|path| path.as_ref().ends_with(".json")).collect();
        commits.sort();
        let texts = commits.into_iter().rev().filter_map(|path| {
            let bytes = block_on(async { world.tables.get(path).await.unwrap().bytes().await.unwrap() });
            let lines = String::from_utf8(bytes.to_vec()).unwrap();
            lines.lines().find_map(|line| {
                let action: Value = serde_json::from_str(line).unwrap();
                Some(action["metaData"]["schemaString"].as_str()?.to_owned())
            })
        });
        serde_json::from_str(&texts.into_iter().next().unwrap()).unwrap()
    };
    schema["fields"].as_array().unwrap().clone()
}

/// Name, type and whether it may be null, of every column.
pub(super) fn columns(world: &World) -> Value {
    let fields = fields(world);
    let columns = fields.iter().map(|field| {
        let is_nullable = match field.get("required") {
            Some(required) => !required.as_bool().unwrap(),
            None => field["nullable"].as_bool().unwrap(),
        };
        json!([field["name"], field["type"], is_nullable])
    });
    columns.collect()
}

/// The values of a column by `ts`, read from every file as the type given; null where a file lacks it.
pub(super) fn column(world: &World, name: &str, data_type: &DataType) -> ArrayRef {
    let mut values: Vec<(i64, ArrayRef)> = Vec::new();
    for path in world.live_files("users") {
        let bytes = block_on(async { world.tables.get(&path).await.unwrap().bytes().await.unwrap() });
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)
            .unwrap()
            .build()
            .unwrap()
        {
            let batch = batch.unwrap();
            let keys = batch
                .column_by_name("ts")
                .unwrap()
                .as_primitive::<arrow::datatypes::Int64Type>();
            let column = match batch.column_by_name(name) {
                Some(column) => cast(column, data_type).unwrap(),
                None => new_null_array(data_type, batch.num_rows()),
            };
            values.extend((0..batch.num_rows()).map(|row| (keys.value(row), column.slice(row, 1))));
        }
    }
    values.sort_by_key(|(key, _)| *key);
    let arrays: Vec<&dyn Array> = values.iter().map(|(_, array)| array.as_ref()).collect();
    arrow::compute::concat(&arrays).unwrap()
}

/// Whether the newest commit changed columns and added files at once.
fn is_one_commit(world: &World, before: usize) -> bool {
    if is_iceberg() {
        let metadata = newest(world, ".metadata.json").remove(0);
        let snapshots = metadata["snapshots"].as_array().unwrap();
        return snapshots.len() == before + 1 && snapshots[before]["schema-id"] == metadata["current-schema-id"];
    }
    let actions = newest(world, ".json");
    let has = |kind: &str| actions.iter().any(|action| action.get(kind).is_some());
    has("metaData") && has("add")
}

#[test]
fn new_columns_are_added_at_every_level_in_the_commit_of_their_rows() {
    let world = evolving(Evolve::AddColumns);
    let mut compactor = world.open(at(END));
    let old = file(vec![ts([1]), ("p", point(vec![("x", longs(vec![Some(1)]))]), true)]);
    assert_eq!(commits(&compacted(&world, &mut compactor, vec![old])), [(1, 0, 1, 1)]);
    let wider = point(vec![("y", texts(vec![Some("b")])), ("x", longs(vec![Some(2)]))]);
    let files = vec![
        file(vec![
            ts([2]),
            ("note", texts(vec![Some("a")]), false),
            ("p", wider, true),
        ]),
        file(vec![ts([3])]),
    ];
    let reports = compacted(&world, &mut compactor, files);
    assert_eq!(set_aside(&compactor), []);
    assert_eq!((commits(&reports), voids(&reports)), (vec![(2, 1, 2, 2)], vec![]));
    assert!(is_one_commit(&world, 1));
    let names: Vec<_> = fields(&world).iter().map(|field| field["name"].clone()).collect();
    assert_eq!(names, ["ts", "p", "note"]);
    assert_eq!(
        &column(&world, "note", &DataType::Utf8),
        &texts(vec![None, Some("a"), None])
    );
    let parts = fields(&world)[1]["type"]["fields"].as_array().unwrap().clone();
    let parts: Vec<_> = parts.iter().map(|part| part["name"].clone()).collect();
    assert_eq!(parts, ["x", "y"]);
    // What is there already is no change.
    let again = file(vec![ts([4]), ("note", texts(vec![None]), true)]);
    assert_eq!(commits(&compacted(&world, &mut compactor, vec![again])), [(3, 2, 1, 1)]);
    assert!(!is_one_commit(&world, 2) || is_iceberg());
    let expected = texts(vec![None, Some("a"), None, None]);
    assert_eq!(&column(&world, "note", &DataType::Utf8), &expected);
}

#[test]
fn a_table_that_must_not_change_sets_files_with_other_columns_aside() {
    let world = evolving(Evolve::Never);
    let mut compactor = world.open(at(END));
    let with = |n, column: (&'static str, ArrayRef, bool)| file(vec![ts([n]), column]);
    let first = with(1, ("v", ints(vec![Some(1)]), true));
    assert_eq!(commits(&compacted(&world, &mut compactor, vec![first])), [(1, 0, 1, 1)]);
    let before = columns(&world);
    let files = vec![
        with(2, ("w", ints(vec![Some(2)]), true)),
        with(3, ("v", longs(vec![Some(3)]), true)),
        // Fits the wider column.
        with(4, ("v", Arc::new(Int16Array::from(vec![4])), true)),
    ];
    let reports = compacted(&world, &mut compactor, files);
    assert_eq!(
        set_aside(&compactor),
        [
            (
                0,
                "schema drift: column not in the table. column=`w` found=`Int32` expected=`absent`".to_owned()
            ),
            (
                1,
                "schema drift: type differs: the table's column is narrower. column=`v` found=`Int64` expected=`Int32`"
                    .to_owned()
            ),
        ]
    );
    assert_eq!((commits(&reports), voids(&reports)), (vec![(2, 1, 1, 1)], vec![]));
    assert_eq!(columns(&world), before);
    assert_eq!(&column(&world, "v", &DataType::Int32), &ints(vec![Some(1), Some(4)]));
}

/// A Delta table that lets its columns be widened, made by another writer.
fn widening_table(world: &World, columns: &[(&str, &str)]) {
    let fields = columns
        .iter()
        .map(|(name, data_type)| json!({"name": name, "type": data_type, "nullable": true, "metadata": {}}));
    let features = ["timestampNtz", "typeWidening"];
    let protocol = json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features,
        "writerFeatures": features});
    let more = json!({"configuration": {"delta.enableTypeWidening": "true"}});
    create(world, &protocol, &fields.collect(), &more);
}

fn decimals(value: i128, precision: u8, scale: i8) -> ArrayRef {
    let array = Decimal128Array::from(vec![value]);
    Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
}

#[test]
fn columns_are_widened_where_table_and_owner_let_them() {
    let world = evolving(Evolve::AddAndWiden);
    let mut compactor = world.open(at(END));
    let items = |values: ArrayRef| -> ArrayRef {
        let item = Arc::new(Field::new("element", values.data_type().clone(), true));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([values.len()]);
        Arc::new(ListArray::new(item, offsets, values, None))
    };
    let narrow = file(vec![
        ts([1]),
        ("i", ints(vec![Some(1)]), true),
        ("f", Arc::new(Float32Array::from(vec![0.1])), true),
        ("d", decimals(101, 9, 2), true),
        ("p", point(vec![("i", ints(vec![Some(1)]))]), true),
        ("l", items(ints(vec![Some(1)])), true),
    ]);
    if !is_iceberg() {
        widening_table(&world, &[("ts", "long")]);
    }
    let reports = compacted(&world, &mut compactor, vec![narrow]);
    assert_eq!(commits(&reports).len(), 1);
    let wide = file(vec![
        ts([2]),
        ("i", longs(vec![Some(1 << 40)]), true),
        ("f", Arc::new(Float64Array::from(vec![0.1])), true),
        ("d", decimals(10_000_000_001, 12, 2), true),
        ("p", point(vec![("i", longs(vec![Some(1 << 40)]))]), true),
        ("l", items(longs(vec![Some(1 << 40)])), true),
    ]);
    let reports = compacted(&world, &mut compactor, vec![wide]);
    assert_eq!(set_aside(&compactor), []);
    assert_eq!(commits(&reports).len(), 1, "{reports:#?}");
    assert!(is_one_commit(&world, 1));
    let fields = fields(&world);
    let field = |name: &str| fields.iter().find(|field| field["name"] == name).unwrap();
    let types: Vec<_> = ["i", "f", "d"].iter().map(|name| field(name)["type"].clone()).collect();
    let decimal = if is_iceberg() {
        "decimal(12, 2)"
    } else {
        "decimal(12,2)"
    };
    let squeezed = |value: &Value| value.as_str().unwrap().replace(", ", ",");
    assert_eq!(
        (squeezed(&types[0]), squeezed(&types[1])),
        ("long".to_owned(), "double".to_owned())
    );
    assert_eq!(squeezed(&types[2]), decimal.replace(", ", ","));
    assert_eq!(field("p")["type"]["fields"][0]["type"], "long");
    let item = if is_iceberg() { "element" } else { "elementType" };
    assert_eq!(field("l")["type"][item], "long");
    if !is_iceberg() {
        let changes = |field: &Value| field["metadata"]["delta.typeChanges"].clone();
        assert_eq!(changes(field("i")), json!([{"fromType": "integer", "toType": "long"}]));
        let inside = json!([{"fromType": "integer", "toType": "long", "fieldPath": "element"}]);
        assert_eq!(changes(field("l")), inside);
        assert_eq!(
            changes(&field("p")["type"]["fields"][0]),
            json!([{"fromType": "integer", "toType": "long"}])
        );
    }
    let expected = longs(vec![Some(1), Some(1 << 40)]);
    assert_eq!(&column(&world, "i", &DataType::Int64), &expected);
    let doubles: ArrayRef = Arc::new(Float64Array::from(vec![f64::from(0.1_f32), 0.1]));
    assert_eq!(&column(&world, "f", &DataType::Float64), &doubles);
    // Narrow files go on to fit.
    let late = file(vec![ts([3]), ("i", ints(vec![Some(3)]), true)]);
    assert_eq!(commits(&compacted(&world, &mut compactor, vec![late])).len(), 1);
    let expected = longs(vec![Some(1), Some(1 << 40), Some(3)]);
    assert_eq!(&column(&world, "i", &DataType::Int64), &expected);
}

#[test]
fn a_required_column_becomes_optional_only_where_columns_are_widened() {
    for (evolve, reason) in [
        (Evolve::AddColumns, Some("NOT NULL broken")),
        (Evolve::AddAndWiden, None),
    ] {
        let world = evolving(evolve);
        let mut compactor = world.open(at(END));
        let required = file(vec![ts([1]), ("v", longs(vec![Some(1)]), false)]);
        assert_eq!(
            commits(&compacted(&world, &mut compactor, vec![required])),
            [(1, 0, 1, 1)]
        );
        let optional = file(vec![ts([2]), ("v", longs(vec![None]), true)]);
        compacted(&world, &mut compactor, vec![optional]);
        let aside = set_aside(&compactor);
        match reason {
            Some(reason) => assert!(aside.len() == 1 && aside[0].1.contains(reason), "{aside:?}"),
            None => {
                assert_eq!(aside, []);
                assert_eq!(columns(&world)[1], json!(["v", "long", true]));
                assert_eq!(&column(&world, "v", &DataType::Int64), &longs(vec![Some(1), None]));
            }
        }
    }
}

#[test]
fn what_cannot_be_had_without_loss_is_set_aside_and_the_rest_is_committed() {
    let micros = |zone: Option<&str>| -> ArrayRef {
        let array = TimestampMicrosecondArray::from(vec![1_500]);
        Arc::new(array.with_timezone_opt(zone.map(ToOwned::to_owned)))
    };
    let nanos = |value: i64| -> ArrayRef { Arc::new(TimestampNanosecondArray::from(vec![value])) };
    let bytes: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"a"]));
    let unsigned: ArrayRef = Arc::new(UInt64Array::from(vec![1]));
    let cases: Vec<(ArrayRef, ArrayRef, &str)> = vec![
        (longs(vec![Some(1)]), unsigned, "type differs"),
        (longs(vec![Some(1)]), texts(vec![Some("1")]), "type differs"),
        (texts(vec![Some("1")]), longs(vec![Some(1)]), "type differs"),
        (texts(vec![Some("a")]), bytes, "type differs"),
        (micros(None), micros(Some("UTC")), "type differs"),
        (micros(Some("UTC")), micros(None), "type differs"),
        (micros(None), nanos(1_001), "without loss"),
        (decimals(1, 38, 0), decimals(1, 38, 1), "type differs"),
        (
            Arc::new(Float64Array::from(vec![1.0])),
            longs(vec![Some(1)]),
            "type differs",
        ),
    ];
    for (first, second, reason) in cases {
        let world = evolving(Evolve::AddAndWiden);
        let mut compactor = world.open(at(END));
        let context = format!("{} then {}", first.data_type(), second.data_type());
        let files = vec![
            file(vec![ts([1]), ("v", Arc::clone(&first), true)]),
            file(vec![ts([2]), ("v", Arc::clone(&second), true)]),
        ];
        let reports = compacted(&world, &mut compactor, files);
        let aside = set_aside(&compactor);
        assert!(
            aside.len() == 1 && aside[0].0 == 1 && aside[0].1.contains(reason) && aside[0].1.contains("column=`v`"),
            "{context}: {aside:?}"
        );
        assert_eq!(commits(&reports).len(), 1, "{context}");
        assert_eq!(&column(&world, "v", first.data_type()), &first, "{context}");
        // And against the table.
        let files = vec![file(vec![ts([3]), ("v", second, true)])];
        compacted(&world, &mut compactor, files);
        assert_eq!(set_aside(&compactor).len(), 2, "{context}");
    }
}

#[test]
fn a_date_becomes_midnight_where_the_table_has_times() {
    let world = evolving(Evolve::AddColumns);
    let mut compactor = world.open(at(END));
    let time: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_500]));
    let day: ArrayRef = Arc::new(Date32Array::from(vec![2]));
    let far: ArrayRef = Arc::new(Date32Array::from(vec![i32::MAX]));
    compacted(&world, &mut compactor, vec![file(vec![ts([1]), ("t", time, true)])]);
    let files = vec![
        file(vec![ts([2]), ("t", day, true)]),
        file(vec![ts([3]), ("t", far, true)]),
    ];
    compacted(&world, &mut compactor, files);
    let aside = set_aside(&compactor);
    assert!(
        aside.len() == 1 && aside[0].0 == 1 && aside[0].1.contains("without loss"),
        "{aside:?}"
    );
    let expected: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_500, 2 * 86_400_000_000]));
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    assert_eq!(&column(&world, "t", &micros), &expected);
}

#[test]
fn names_that_a_change_data_feed_has_are_no_new_columns() {
    if is_iceberg() {
        return;
    }
    let world = evolving(Evolve::AddAndWiden);
    let fields = json!([{"name": "ts", "type": "long", "nullable": true, "metadata": {}}]);
    let protocol = json!({"minReaderVersion": 1, "minWriterVersion": 4});
    let more = json!({"configuration": {"delta.enableChangeDataFeed": "true"}});
    create(&world, &protocol, &fields, &more);
    let mut compactor = world.open(at(END));
    let files = vec![
        file(vec![ts([1]), ("_change_type", texts(vec![Some("insert")]), true)]),
        file(vec![ts([2]), ("change_type", texts(vec![Some("insert")]), true)]),
    ];
    let reports = compacted(&world, &mut compactor, files);
    let aside = set_aside(&compactor);
    assert!(
        aside.len() == 1 && aside[0].0 == 0 && aside[0].1.contains("reserved"),
        "{aside:?}"
    );
    assert_eq!(commits(&reports), [(1, 0, 1, 1)]);
}
