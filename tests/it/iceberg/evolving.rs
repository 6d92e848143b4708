//! Tables whose columns change in the snapshot that adds files, while others change them too.

use std::sync::Arc;

use firnline::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use firnline::iceberg::{Catalog, CatalogChange, CatalogOutcome, TableRequirement, TableUpdate};
use firnline::{ColumnMetrics, CommitOutcome, Evolve, TableChange, TableCommit, TableSink};
use futures::executor::block_on;
use serde_json::{Value, json};

use super::support::{LANE, Store, append, catalog, columns, listing, memory, metadata, put, sink};

/// A table of another writer in a new store.
fn table(metadata: &Value) -> Store {
    let store = memory();
    block_on(put(&store, "users/metadata/v1.metadata.json", metadata.to_string()));
    store
}

fn with(name: &str, data_type: DataType) -> SchemaRef {
    let mut fields = columns().fields().to_vec();
    fields.push(Arc::new(Field::new(name, data_type, true)));
    Arc::new(Schema::new(fields))
}

/// The commit of a file in which the column `name` has this id.
fn widened(schema: SchemaRef, name: &str, id: i32) -> TableCommit {
    let column = ColumnMetrics {
        path: vec![name.to_owned()],
        field_id: Some(id),
        compressed_size: 10,
        value_count: 3,
        null_count: Some(0),
        nan_count: None,
        lower: None,
        upper: None,
    };
    let mut commit = append(1);
    if let TableChange::Append {
        schema: wanted,
        evolve,
        files,
    } = &mut commit.change
    {
        (*wanted, *evolve) = (schema, Evolve::AddColumns);
        files[0].columns.push(column);
    }
    commit
}

fn field_id(schema: &Schema, name: &str) -> i32 {
    let field = schema.field_with_name(name).unwrap();
    field.metadata()["PARQUET:field_id"].parse().unwrap()
}

/// Another writer adds a column.
fn foreign_column(store: &Store, name: &str, data_type: &str) {
    let catalog = catalog(store);
    let base = block_on(catalog.load()).unwrap().unwrap();
    let mut schema = base.metadata.schema().to_json();
    let id = base.metadata.last_column_id() + 1;
    let column = json!({"id": id, "name": name, "required": false, "type": data_type});
    schema["fields"].as_array_mut().unwrap().push(column);
    let schema = serde_json::from_value(schema).unwrap();
    let change = CatalogChange {
        requirements: vec![TableRequirement::AssertCurrentSchemaId {
            current_schema_id: base.metadata.schema().schema_id,
        }],
        updates: vec![
            TableUpdate::AddSchema {
                schema,
                last_column_id: Some(id),
            },
            TableUpdate::SetCurrentSchema { schema_id: -1 },
        ],
        now: base.metadata.last_updated(),
        base,
    };
    let outcome = block_on(catalog.commit(&change)).unwrap();
    assert!(matches!(outcome, CatalogOutcome::Committed(_)), "{outcome:?}");
}

#[test]
fn a_new_column_gets_the_next_id_and_the_snapshot_its_schema() {
    let store = table(&metadata());
    let before = block_on(listing(&store));
    let wanted = with("x", DataType::Int32);
    let layout = block_on(sink(&store).prepare(LANE, &wanted, Evolve::AddColumns)).unwrap();
    let error = block_on(sink(&store).prepare(LANE, &wanted, Evolve::Never)).unwrap_err();
    assert!(
        error.to_string().contains("the table has no such column. column=`x`"),
        "{error}"
    );
    assert_eq!(block_on(listing(&store)), before, "preparing changes nothing");
    let id = field_id(&layout.schema, "x");
    assert_eq!(id, 3);
    let outcome = block_on(sink(&store).commit(&widened(wanted, "x", id))).unwrap();
    assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
    let table = block_on(catalog(&store).load()).unwrap().unwrap().metadata;
    let snapshot = table.current_snapshot().unwrap();
    assert_eq!((table.last_column_id(), table.schema().schema_id), (3, 1));
    assert_eq!((table.snapshots().len(), snapshot.schema_id), (1, Some(1)));
    let field = table.schema().field_by_id(3).unwrap();
    assert_eq!((field.name.as_str(), field.required), ("x", false));
}

#[test]
fn files_with_ids_that_others_have_taken_are_outdated() {
    let store = table(&metadata());
    let wanted = with("x", DataType::Int32);
    let layout = block_on(sink(&store).prepare(LANE, &wanted, Evolve::AddColumns)).unwrap();
    foreign_column(&store, "y", "string");
    let late = widened(Arc::clone(&wanted), "x", field_id(&layout.schema, "x"));
    let outcome = block_on(sink(&store).commit(&late)).unwrap();
    let CommitOutcome::Outdated { reason } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(reason.contains("column has another id in the table"), "{reason}");
    // Written anew, they fit.
    let layout = block_on(sink(&store).prepare(LANE, &wanted, Evolve::AddColumns)).unwrap();
    assert_eq!((field_id(&layout.schema, "y"), field_id(&layout.schema, "x")), (3, 4));
    let again = widened(wanted, "x", 4);
    let outcome = block_on(sink(&store).commit(&again)).unwrap();
    assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
}

#[test]
fn columns_that_partition_or_identify_rows_keep_their_types() {
    let mut metadata = metadata();
    metadata["schemas"][0]["fields"][0] = json!({"id": 1, "name": "id", "required": true, "type": "int"});
    metadata["schemas"][0]["identifier-field-ids"] = json!([1]);
    let store = table(&metadata);
    let state = block_on(sink(&store).decided(LANE)).unwrap().table.unwrap();
    assert!(state.evolution.fixed.contains("id"));
    let error = block_on(sink(&store).prepare(LANE, &columns(), Evolve::AddAndWiden)).unwrap_err();
    assert!(error.to_string().contains("column=`id`"), "{error}");
}
