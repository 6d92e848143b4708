//! Delta tables of others that are partitioned by columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::*;
use firnline::Evolve;
use serde_json::json;

use super::delta_tables::{adds, create, opened};
use super::schemas::{compacted, file, longs, set_aside, ts, world};
use super::support::{END, commits};
use crate::table_log::is_iceberg;
use crate::world::{World, at};

/// An empty table of these columns, made by another writer.
fn table(world: &World, columns: &[(&str, &str)], partition_columns: &[&str]) {
    let fields = columns
        .iter()
        .map(|(name, data_type)| json!({"name": name, "type": data_type, "nullable": true, "metadata": {}}));
    let protocol = json!({"minReaderVersion": 1, "minWriterVersion": 2});
    let more = json!({"partitionColumns": partition_columns});
    create(world, &protocol, &fields.collect(), &more);
}

/// Partition values as JSON, names of the file's columns, and its values of `ts`, of all files that have been added.
fn files(world: &World) -> BTreeMap<String, (Vec<String>, Vec<i64>)> {
    let files = adds(world).into_iter().map(|add| {
        let reader = opened(world, &add);
        let fields = reader.schema().fields().iter();
        let names = fields.map(|field| field.name().clone()).collect();
        let batches = reader.build().unwrap().map(Result::unwrap);
        let keys = batches.flat_map(|batch| {
            let keys = batch.column_by_name("ts").unwrap();
            keys.as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
        });
        (add["partitionValues"].to_string(), (names, keys.collect()))
    });
    files.collect()
}

fn texts(values: Vec<Option<&str>>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

#[test]
fn rows_go_to_files_of_their_partitions_which_lack_the_columns_of_these() {
    if is_iceberg() {
        return;
    }
    let mut world = world();
    world.options = world.options.with_evolve(Evolve::AddColumns);
    let columns = [("ts", "long"), ("region", "string"), ("day", "date"), ("v", "long")];
    table(&world, &columns, &["region", "day"]);
    let mut compactor = world.open(at(END));
    let days: ArrayRef = Arc::new(Date32Array::from(vec![0, 0, 19_782, 0]));
    let first = file(vec![
        ts([1, 2, 3, 4]),
        (
            "region",
            texts(vec![Some("a=b/%\u{e9}"), None, None, Some("a=b/%\u{e9}")]),
            true,
        ),
        ("day", days, true),
        ("v", longs(vec![Some(1), Some(2), Some(3), Some(4)]), true),
    ]);
    // Without a partition column, and with a new one.
    let second = file(vec![
        ts([5]),
        ("w", longs(vec![Some(5)]), true),
        ("region", texts(vec![Some("x")]), true),
    ]);
    let reports = compacted(&world, &mut compactor, vec![first, second]);
    assert_eq!(set_aside(&compactor), []);
    assert_eq!(commits(&reports).len(), 1, "{reports:#?}");
    let names = || ["ts", "v", "w"].map(ToOwned::to_owned).to_vec();
    let expected = [
        (json!({"day": "1970-01-01", "region": "a=b/%\u{e9}"}), vec![1, 4]),
        (json!({"day": "1970-01-01", "region": null}), vec![2]),
        (json!({"day": "2024-02-29", "region": null}), vec![3]),
        (json!({"day": null, "region": "x"}), vec![5]),
    ];
    let expected = expected.map(|(values, keys)| (values.to_string(), (names(), keys)));
    assert_eq!(files(&world), BTreeMap::from(expected));
}

#[test]
fn a_file_with_a_value_that_no_partition_can_have_is_set_aside_and_the_rest_is_committed() {
    if is_iceberg() {
        return;
    }
    let world = world();
    table(&world, &[("ts", "long"), ("region", "string")], &["region"]);
    let mut compactor = world.open(at(END));
    let of = |n, region| file(vec![ts([n]), ("region", texts(vec![Some(region)]), true)]);
    let sources = vec![of(1, "a"), of(2, ""), of(3, "__HIVE_DEFAULT_PARTITION__")];
    let reports = compacted(&world, &mut compactor, sources);
    let aside = set_aside(&compactor);
    assert!(
        aside.len() == 2
            && aside
                .iter()
                .all(|(_, reason)| reason.contains("cannot be told from null")),
        "{aside:?}"
    );
    assert_eq!(commits(&reports).len(), 1);
    let keys: Vec<_> = files(&world).into_values().flat_map(|(_, keys)| keys).collect();
    assert_eq!(keys, [1]);
}
