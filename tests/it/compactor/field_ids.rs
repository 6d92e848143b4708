//! Files that carry the ids of a table's columns, which have other names there by now.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Schema};
use firnline::Evolve;
use firnline::parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use serde_json::{Value, json};

use super::delta_tables::create;
use super::drift::{column, columns};
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

#[test]
fn a_column_is_found_by_its_id_where_no_name_contradicts_it() {
    let world = table();
    let mut compactor = world.open(at(END));
    let plain = || file(vec![ts([1]), ("v", one(10), true)]);
    assert_eq!(commits(&compacted(&world, &mut compactor, vec![plain()])).len(), 1);
    let files = vec![
        with_ids(2, vec![("was_v", 2, one(20))]),
        // Ids of its own.
        with_ids(3, vec![("v", 5, one(30))]),
        file(vec![ts([4]), ("v", one(40), true)]),
    ];
    let reports = compacted(&world, &mut compactor, files);
    assert_eq!(
        (set_aside(&compactor), commits(&reports).len()),
        (vec![], 1),
        "{reports:#?}"
    );
    let names: Vec<_> = columns(&world)
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c[0].clone())
        .collect();
    assert_eq!(names, ["ts", "v"]);
    let expected = longs(vec![Some(10), Some(20), Some(30), Some(40)]);
    assert_eq!(&column(&world, "v", &DataType::Int64), &expected);
}
