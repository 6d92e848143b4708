//! Files that carry the ids of a table's columns, which have other names there by now.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use firnline::Evolve;
use firnline::parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use serde_json::{Value, json};

use super::delta_tables::create;
use super::drift::{column, columns, fields};
use super::schemas::{compacted, file, longs, set_aside, ts, world};
use super::support::{END, commits};
use crate::table_log::is_iceberg;
use crate::world::{World, at};

/// A row whose columns carry ids.
fn with_ids(n: i64, columns: Vec<(&str, u32, ArrayRef)>) -> Vec<u8> {
    let (_, key, _) = ts([n]);
    let columns: Vec<_> = [("ts", 1, key)].into_iter().chain(columns).collect();
    let fields = columns.iter().map(|(name, id, array)| {
        let metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
        Field::new(*name, array.data_type().clone(), true).with_metadata(metadata)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let arrays = columns.into_iter().map(|(_, _, array)| array).collect();
    let rows = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).unwrap();
    writer.write(&rows).unwrap();
    writer.into_inner().unwrap()
}

fn one(value: i64) -> ArrayRef {
    longs(vec![Some(value)])
}

/// A table with the columns `ts` and `v`, whose ids are 1 and 2.
fn table() -> World {
    let mut world = world();
    world.options = world.options.with_evolve(Evolve::AddColumns);
    if !is_iceberg() {
        let field = |name: &str, id: u32| -> Value {
            // Delta's columns are called in files as they are in the test.
            let metadata = json!({"delta.columnMapping.id": id, "delta.columnMapping.physicalName": name});
            json!({"name": name, "type": "long", "nullable": true, "metadata": metadata})
        };
        let configuration = json!({"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2"});
        let protocol = json!({"minReaderVersion": 2, "minWriterVersion": 5});
        let fields = json!([field("ts", 1), field("v", 2)]);
        create(&world, &protocol, &fields, &json!({ "configuration": configuration }));
    }
    world
}

fn numbered(name: &str, id: u32, data_type: DataType) -> Arc<Field> {
    let metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
    Arc::new(Field::new(name, data_type, true).with_metadata(metadata))
}

#[test]
fn parts_of_columns_may_carry_ids() {
    let world = world();
    let mut compactor = world.open(at(END));
    let columns = |n: i64| {
        let part = |name: &str, id| (numbered(name, id, DataType::Int64), one(n));
        let point: ArrayRef = Arc::new(StructArray::from(vec![part("x", 3), part("y", 4)]));
        let item = numbered("element", 6, point.data_type().clone());
        let offsets = OffsetBuffer::from_lengths([1]);
        let list: ArrayRef = Arc::new(ListArray::new(item, offsets.clone(), Arc::clone(&point), None));
        let pair = StructArray::from(vec![
            (Arc::new(Field::new("key", DataType::Int64, false)), one(n)),
            (numbered("value", 9, point.data_type().clone()), Arc::clone(&point)),
        ]);
        let entries = Arc::new(Field::new("key_value", pair.data_type().clone(), false));
        let map: ArrayRef = Arc::new(MapArray::new(entries, offsets, pair, None, false));
        with_ids(n, vec![("point", 2, point), ("list", 5, list), ("map", 7, map)])
    };
    let reports = compacted(&world, &mut compactor, vec![columns(1), columns(2)]);
    assert_eq!(
        (set_aside(&compactor), commits(&reports).len()),
        (vec![], 1),
        "{reports:#?}"
    );
    let point = column(
        &world,
        "point",
        &DataType::Struct(
            vec![
                Field::new("x", DataType::Int64, true),
                Field::new("y", DataType::Int64, true),
            ]
            .into(),
        ),
    );
    assert_eq!(point.as_struct().column(1), &longs(vec![Some(1), Some(2)]));
}

#[test]
fn columns_are_matched_by_ids_where_the_host_says_that_they_are_the_tables() {
    let mut world = table();
    world.options = world.options.with_match_field_ids(true);
    let mut compactor = world.open(at(END));
    let plain = || file(vec![ts([1]), ("v", one(10), true)]);
    assert_eq!(commits(&compacted(&world, &mut compactor, vec![plain()])).len(), 1);
    let files = vec![
        with_ids(2, vec![("was_v", 2, one(20))]),
        // Another column of that name.
        with_ids(3, vec![("v", 5, one(30))]),
        file(vec![ts([4]), ("v", one(40), true)]),
    ];
    let reports = compacted(&world, &mut compactor, files);
    let aside = set_aside(&compactor);
    assert!(
        aside.len() == 1 && aside[0].0 == 1 && aside[0].1.contains("field_id 5"),
        "{aside:?}"
    );
    assert_eq!(commits(&reports).len(), 1, "{reports:#?}");
    assert_eq!(names(&world), ["ts", "v"]);
    let expected = longs(vec![Some(10), Some(20), Some(40)]);
    assert_eq!(&column(&world, "v", &DataType::Int64), &expected);
}

#[test]
fn files_of_a_new_table_are_matched_by_their_ids_and_it_keeps_these() {
    let mut world = world();
    world.options = world.options.with_match_field_ids(true).with_evolve(Evolve::AddColumns);
    let mut compactor = world.open(at(END));
    let named = |n: i64, name: &str, id| with_ids(n, vec![(name, id, one(10 * n))]);
    let files = vec![named(1, "v", 7), named(2, "was_v", 7), named(3, "v", 8)];
    let reports = compacted(&world, &mut compactor, files);
    let aside = set_aside(&compactor);
    assert!(aside.len() == 1 && aside[0].1.contains("field_id 8"), "{aside:?}");
    assert_eq!(
        (commits(&reports).len(), names(&world)),
        (1, vec![json!("ts"), json!("v")])
    );
    if !is_iceberg() {
        // Delta's new tables have no ids.
        return;
    }
    let later = vec![
        named(4, "will_be_v", 7),
        named(5, "x", 30),
        named(6, "was_x", 30),
        named(7, "y", 3),
    ];
    assert_eq!(commits(&compacted(&world, &mut compactor, later)).len(), 1);
    assert_eq!(names(&world), ["ts", "v", "x", "y"]);
    // 3 could have been another column's: it got one of its own, and the ids of the files say otherwise.
    let last = vec![named(8, "z", 30), named(9, "y", 3)];
    assert_eq!(commits(&compacted(&world, &mut compactor, last)).len(), 1);
    assert!(set_aside(&compactor).iter().any(|(_, why)| why.contains("field_id 3")));
    let values = |name: &str| column(&world, name, &DataType::Int64);
    let of = |at: &[usize]| {
        longs(
            (0..7)
                .map(|n| at.contains(&n).then_some([10, 20, 40, 50, 60, 70, 80][n]))
                .collect(),
        )
    };
    assert_eq!(
        [values("v"), values("x"), values("y")],
        [of(&[0, 1, 2]), of(&[3, 4, 6]), of(&[5])]
    );
}

#[test]
fn new_columns_keep_their_ids() {
    let mut world = table();
    world.options = world.options.with_match_field_ids(true);
    let mut compactor = world.open(at(END));
    let plain = || file(vec![ts([1]), ("v", one(10), true)]);
    assert_eq!(commits(&compacted(&world, &mut compactor, vec![plain()])).len(), 1);
    let new = |n: i64, names: [&str; 2]| with_ids(n, vec![(names[0], 12, one(n)), (names[1], 9, one(-n))]);
    for (n, names) in [(2, ["x", "y"]), (3, ["was_x", "was_y"]), (4, ["y", "x"])] {
        assert_eq!(
            commits(&compacted(&world, &mut compactor, vec![new(n, names)])).len(),
            1
        );
    }
    let (names, ids, stored): (Vec<_>, Vec<_>, Vec<_>) = fields(&world).iter().map(told).collect();
    assert_eq!(
        (names, ids),
        (
            vec!["ts", "v", "x", "y"].into_iter().map(Value::from).collect(),
            vec![1, 2, 12, 9]
        )
    );
    let x = longs(vec![None, Some(2), Some(3), Some(4)]);
    assert_eq!(
        (set_aside(&compactor), column(&world, &stored[2], &DataType::Int64)),
        (vec![], x)
    );
}

/// Name, id and name in files of a table's column.
fn told(field: &Value) -> (Value, u64, String) {
    let name = &field["name"];
    let mapping = |key: &str| {
        field
            .get("metadata")
            .map(|metadata| &metadata[format!("delta.columnMapping.{key}")])
    };
    let id = mapping("id").unwrap_or(&field["id"]).as_u64().unwrap();
    let stored = mapping("physicalName").unwrap_or(name).as_str().unwrap();
    (name.clone(), id, stored.to_owned())
}

#[test]
fn ids_mean_nothing_by_themselves() {
    let world = table();
    let mut compactor = world.open(at(END));
    let plain = || file(vec![ts([1]), ("v", one(10), true)]);
    assert_eq!(commits(&compacted(&world, &mut compactor, vec![plain()])).len(), 1);
    let reports = compacted(&world, &mut compactor, vec![with_ids(2, vec![("w", 2, one(20))])]);
    assert_eq!(
        (set_aside(&compactor), commits(&reports).len()),
        (vec![], 1),
        "{reports:#?}"
    );
    assert_eq!(names(&world), ["ts", "v", "w"]);
}

fn names(world: &World) -> Vec<Value> {
    columns(world)
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column[0].clone())
        .collect()
}
