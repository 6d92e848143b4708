//! Delta tables of others whose columns have ids, and names of their own in files.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Fields};
use firnline::{Evolve, QuarantineReason};
use serde_json::{Value, json};

use super::delta_tables::{actions, adds, create, metadata, opened, put_commit};
use super::schemas::{compacted, file, longs, set_aside, ts, world};
use super::support::{END, commits};
use crate::table_log::is_iceberg;
use crate::world::{World, at};

fn field(name: &str, id: u64, data_type: &Value) -> Value {
    let metadata = json!({"delta.columnMapping.id": id, "delta.columnMapping.physicalName": format!("col-{id}")});
    json!({"name": name, "type": data_type, "nullable": true, "metadata": metadata})
}

/// `ts` and `v`, a struct in a list, and the region by which the table is partitioned.
fn columns() -> Vec<Value> {
    let point = json!({"type": "struct", "fields": [field("x", 5, &json!("long"))]});
    let points = json!({"type": "array", "elementType": point, "containsNull": true});
    vec![
        field("ts", 1, &json!("long")),
        field("v", 2, &json!("long")),
        field("region", 3, &json!("string")),
        field("points", 4, &points),
    ]
}

fn more(last_id: u64) -> Value {
    let last_id = last_id.to_string();
    json!({"partitionColumns": ["region"], "configuration":
        {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": last_id}})
}

fn mapped() -> World {
    let mut world = world();
    world.options = world.options.with_evolve(Evolve::AddColumns);
    let protocol = json!({"minReaderVersion": 2, "minWriterVersion": 5});
    create(&world, &protocol, &json!(columns()), &more(9));
    world
}

/// A file of one row.
fn row(n: i64, more: Vec<(&'static str, ArrayRef, bool)>) -> Vec<u8> {
    let x = Arc::new(Field::new("x", DataType::Int64, true));
    let point = StructArray::from(vec![(x, longs(vec![Some(n * 10)]))]);
    let item = Arc::new(Field::new("item", point.data_type().clone(), true));
    let points = ListArray::new(
        item,
        arrow::buffer::OffsetBuffer::from_lengths([1]),
        Arc::new(point),
        None,
    );
    let region: ArrayRef = Arc::new(StringArray::from(vec!["a b"]));
    let columns = vec![
        ts([n]),
        ("v", longs(vec![Some(n + 100)]), true),
        ("region", region, true),
        ("points", Arc::new(points), true),
    ];
    file(columns.into_iter().chain(more).collect())
}

/// Paths and ids of the leaves of the newest file.
fn leaves(world: &World) -> Vec<(String, i32)> {
    let reader = opened(world, adds(world).last().unwrap());
    let columns = reader.metadata().file_metadata().schema_descr().columns().to_vec();
    columns
        .iter()
        .map(|column| (column.path().string(), column.self_type().get_basic_info().id()))
        .collect()
}

fn named(leaves: &[(&str, i32)]) -> Vec<(String, i32)> {
    leaves.iter().map(|(path, id)| ((*path).to_owned(), *id)).collect()
}

#[test]
fn files_have_the_names_and_ids_that_the_table_maps_its_columns_to() {
    if is_iceberg() {
        return;
    }
    let world = mapped();
    let mut compactor = world.open(at(END));
    let reports = compacted(&world, &mut compactor, vec![row(1, vec![]), row(2, vec![])]);
    assert_eq!(
        (set_aside(&compactor), commits(&reports).len()),
        (vec![], 1),
        "{reports:#?}"
    );
    let path = "col-4.list.element.col-5";
    assert_eq!(leaves(&world), named(&[("col-1", 1), ("col-2", 2), (path, 5)]));
    let add = &adds(&world)[0];
    assert_eq!(add["partitionValues"], json!({"col-3": "a b"}));
    let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
    assert_eq!(stats["maxValues"], json!({"col-1": 2, "col-2": 102}));
    assert!(
        !actions(&world)
            .iter()
            .skip(2)
            .any(|action| action.get("metaData").is_some())
    );
}

#[test]
fn new_columns_get_the_next_ids_and_names_in_the_commit_of_their_rows() {
    if is_iceberg() {
        return;
    }
    let world = mapped();
    let mut compactor = world.open(at(END));
    let inner = Fields::from(vec![Field::new("in ner", DataType::Int64, true)]);
    let group: ArrayRef = Arc::new(StructArray::new(inner, vec![longs(vec![Some(7)])], None));
    // Names that are not allowed where columns are not mapped.
    let new = vec![("w, w", longs(vec![Some(1)]), true), ("s", group, true)];
    let reports = compacted(&world, &mut compactor, vec![row(1, vec![]), row(2, new)]);
    assert_eq!(
        (set_aside(&compactor), commits(&reports).len()),
        (vec![], 1),
        "{reports:#?}"
    );
    let actions = actions(&world);
    let changed: Vec<_> = actions
        .iter()
        .skip(2)
        .filter_map(|action| action.get("metaData"))
        .collect();
    let schema: Value = serde_json::from_str(changed[0]["schemaString"].as_str().unwrap()).unwrap();
    let configuration = &changed[0]["configuration"];
    assert_eq!(
        (changed.len(), &configuration["delta.columnMapping.maxColumnId"]),
        (1, &json!("12"))
    );
    assert_eq!(schema["fields"].as_array().unwrap()[..4], columns());
    let id = |field: &Value| field["metadata"]["delta.columnMapping.id"].clone();
    let name = |field: &Value| {
        field["metadata"]["delta.columnMapping.physicalName"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (w, s) = (&schema["fields"][4], &schema["fields"][5]);
    let inner = &s["type"]["fields"][0];
    assert_eq!([w, s, inner].map(id), [json!(10), json!(11), json!(12)]);
    let [w, s, inner] = [w, s, inner].map(name);
    let expected = [
        ("col-1", 1),
        ("col-2", 2),
        ("col-4.list.element.col-5", 5),
        (w.as_str(), 10),
        (&format!("{s}.{inner}"), 12),
    ];
    assert_eq!(leaves(&world), named(&expected));
}

#[test]
fn a_column_that_was_dropped_and_made_anew_is_another_column() {
    if is_iceberg() {
        return;
    }
    let world = mapped();
    let mut compactor = world.open(at(END));
    let _ = compacted(&world, &mut compactor, vec![row(1, vec![]), row(2, vec![])]);
    let mut columns = columns();
    columns[1] = field("v", 10, &json!("long"));
    let renamed = metadata(&json!(columns), &more(10));
    put_commit(&world, 2, &[renamed]);
    let reports = compacted(&world, &mut compactor, vec![row(3, vec![])]);
    assert_eq!(
        (set_aside(&compactor), commits(&reports).len()),
        (vec![], 1),
        "{reports:#?}"
    );
    let path = "col-4.list.element.col-5";
    assert_eq!(leaves(&world), named(&[("col-1", 1), ("col-10", 10), (path, 5)]));
}

#[test]
fn names_that_only_mapped_tables_allow_are_refused_elsewhere() {
    if is_iceberg() {
        return;
    }
    let world = world();
    let mut compactor = world.open(at(END));
    let bad = file(vec![ts([2]), ("w, w", longs(vec![Some(1)]), true)]);
    let _ = compacted(&world, &mut compactor, vec![file(vec![ts([1])]), bad]);
    let reasons: Vec<_> = compactor.quarantined(at(END)).map(|file| file.reason.clone()).collect();
    let [QuarantineReason::SchemaDrift { column, .. }] = reasons.as_slice() else {
        panic!("{reasons:?}")
    };
    assert_eq!(column, "w, w");
}
