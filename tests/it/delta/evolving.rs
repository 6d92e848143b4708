//! Tables whose columns change in the commit that adds files, while others change them too.

use std::sync::Arc;

use firnline::Evolve;
use firnline::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use firnline::{DeltaCommitBuilder, TableChange, TableSink, delta};
use futures::executor::block_on;
use serde_json::{Value, json};

use super::support::{LANE, ROOT, TestTable, append, commit, file, json_lines, schema};

/// The table's columns and one more.
fn with(name: &str, data_type: DataType) -> SchemaRef {
    let mut fields = schema().fields().to_vec();
    fields.push(Arc::new(Field::new(name, data_type, true)));
    Arc::new(Schema::new(fields))
}

fn widened(seq: u64, schema: SchemaRef, evolve: Evolve) -> firnline::TableCommit {
    let files = vec![file(&format!("f{seq}"), seq)];
    commit(seq, TableChange::Append { schema, evolve, files })
}

fn field(name: &str, data_type: &str) -> Value {
    json!({"name": name, "type": data_type, "nullable": true, "metadata": {"comment": "theirs"}})
}

/// A commit of another writer that adds columns.
fn foreign_columns(table: &TestTable, version: u64, added: &[Value]) {
    let created = table.actions(0);
    let mut metadata = created
        .iter()
        .find_map(|action| action.get("metaData"))
        .unwrap()
        .clone();
    let mut schema: Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
    schema["fields"].as_array_mut().unwrap().extend_from_slice(added);
    metadata["schemaString"] = Value::String(schema.to_string());
    table.foreign(version, &[json!({ "metaData": metadata })]);
}

fn columns(actions: &[Value]) -> Option<Vec<Value>> {
    let text = actions
        .iter()
        .find_map(|action| action["metaData"]["schemaString"].as_str())?;
    let schema: Value = serde_json::from_str(text).unwrap();
    Some(schema["fields"].as_array().unwrap().clone())
}

#[test]
fn preparing_changes_nothing_and_tells_the_columns_that_will_be() {
    let table = TestTable::new();
    table.committed(&append(1));
    let before = table.listing();
    let wanted = with("x", DataType::Int32);
    let layout = block_on(table.sink().prepare(LANE, &wanted, Evolve::AddColumns)).unwrap();
    assert_eq!(layout.schema, wanted);
    let error = block_on(table.sink().prepare(LANE, &wanted, Evolve::Never)).unwrap_err();
    assert!(
        error.to_string().contains("the table has no such column. column=`x`"),
        "{error}"
    );
    assert_eq!(table.listing(), before);
}

#[test]
fn what_another_writer_has_added_meanwhile_is_kept_as_it_is() {
    let table = TestTable::new();
    table.committed(&append(1));
    foreign_columns(&table, 1, &[field("x", "integer"), field("y", "string")]);
    // Of the same type: nothing is left to be changed.
    table.committed(&widened(2, with("x", DataType::Int32), Evolve::AddColumns));
    assert_eq!(columns(&table.actions(2)), None);
    // One more, beside theirs and what they say of them.
    table.committed(&widened(3, with("z", DataType::Utf8), Evolve::AddColumns));
    let columns = columns(&table.actions(3)).unwrap();
    let names: Vec<_> = columns.iter().map(|field| field["name"].clone()).collect();
    assert_eq!(names, ["id", "name", "x", "y", "z"]);
    assert_eq!(columns[2], field("x", "integer"));
}

#[test]
fn a_column_that_another_writer_has_added_with_another_type_is_refused_by_name() {
    let table = TestTable::new();
    table.committed(&append(1));
    foreign_columns(&table, 1, &[field("x", "string")]);
    let before = table.listing();
    let change = widened(2, with("x", DataType::Int32), Evolve::AddAndWiden);
    let error = block_on(table.sink().commit(&change)).unwrap_err();
    assert!(
        error.to_string().contains("column=`x` type=`Int32` table=`Utf8`"),
        "{error}"
    );
    assert_eq!(table.listing(), before);
}

fn parsed(actions: &[Value]) -> Vec<delta::Action> {
    delta::Action::parse_commit(json_lines(actions).as_bytes()).unwrap()
}

#[test]
fn a_commit_that_loses_is_built_anew_on_the_columns_of_the_winner() {
    let table = TestTable::new();
    table.committed(&append(1));
    let base = delta::Snapshot::from_actions(0, &parsed(&table.actions(0))).unwrap();
    let builder = DeltaCommitBuilder::new(ROOT.into(), table.options.clone());
    let mut builder = builder.with_base(Some(base));
    let change = widened(2, with("x", DataType::Int32), Evolve::AddColumns);
    let columns_of = |builder: &DeltaCommitBuilder| {
        let delta::DeltaCommitStep::Put(file) = builder.build(&change).unwrap() else {
            panic!("nothing is in the way")
        };
        let lines = std::str::from_utf8(file.bytes()).unwrap().lines();
        columns(
            &lines
                .map(|line| serde_json::from_str(line).unwrap())
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(columns_of(&builder).unwrap().len(), 3);
    foreign_columns(&table, 1, &[field("y", "string")]);
    builder.rebase(&parsed(&table.actions(1))).unwrap();
    let names: Vec<_> = columns_of(&builder)
        .unwrap()
        .iter()
        .map(|field| field["name"].clone())
        .collect();
    assert_eq!(names, ["id", "name", "y", "x"]);
}
