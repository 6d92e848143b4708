//! Tables whose columns are mapped, while others rename them.

use std::sync::Arc;

use firnline::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use firnline::parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use firnline::{ColumnMetrics, CommitOutcome, DataFile, Evolve, STORED_NAME_KEY, TableChange, TableCommit, TableSink};
use futures::executor::block_on;
use serde_json::{Value, json};

use super::support::{LANE, TestTable, append, commit, file, schema};

fn column(name: &str, id: u64, data_type: &str) -> Value {
    let metadata = json!({"delta.columnMapping.id": id, "delta.columnMapping.physicalName": format!("col-{id}")});
    json!({"name": name, "type": data_type, "nullable": name != "id", "metadata": metadata})
}

fn metadata(columns: &[Value], last_id: u64) -> Value {
    let schema = json!({"type": "struct", "fields": columns}).to_string();
    let configuration =
        json!({"delta.columnMapping.mode": "id", "delta.columnMapping.maxColumnId": last_id.to_string()});
    json!({"metaData": {"id": "t", "format": {"provider": "parquet", "options": {}}, "schemaString": schema,
        "partitionColumns": [], "configuration": configuration}})
}

fn mapped() -> TestTable {
    let table = TestTable::new();
    let protocol = json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": ["columnMapping"], "writerFeatures": ["columnMapping"]}});
    let columns = [column("id", 1, "long"), column("name", 2, "string")];
    table.foreign(0, &[protocol, metadata(&columns, 2)]);
    table
}

/// An append of a file with columns of these names in it.
fn with_columns(seq: u64, schema: SchemaRef, stored: &[&str]) -> TableCommit {
    let columns = stored.iter().map(|name| ColumnMetrics {
        field_id: None,
        path: vec![(*name).to_owned()],
        compressed_size: 1,
        value_count: 1,
        null_count: Some(0),
        nan_count: None,
        lower: None,
        upper: None,
    });
    let file = DataFile {
        columns: columns.collect(),
        ..file("f", 1)
    };
    let evolve = Evolve::AddColumns;
    commit(
        seq,
        TableChange::Append {
            schema,
            evolve,
            files: vec![file],
        },
    )
}

fn stored_name(schema: &Schema, column: &str) -> String {
    schema.field_with_name(column).unwrap().metadata()[STORED_NAME_KEY].clone()
}

#[test]
fn a_layout_tells_names_and_ids_of_files() {
    let table = mapped();
    let layout = block_on(table.sink().prepare(LANE, &schema(), Evolve::Never)).unwrap();
    let told = |column: usize| {
        let metadata = layout.schema.field(column).metadata();
        (
            metadata[STORED_NAME_KEY].as_str(),
            metadata[PARQUET_FIELD_ID_META_KEY].as_str(),
        )
    };
    assert_eq!([told(0), told(1)], [("col-1", "1"), ("col-2", "2")]);
    table.committed(&with_columns(1, schema(), &["col-1", "col-2"]));
}

#[test]
fn files_are_written_again_where_another_writer_has_renamed_a_column() {
    let table = mapped();
    let columns = [column("id", 1, "long"), column("label", 2, "string")];
    table.foreign(1, &[metadata(&columns, 2)]);
    let before = table.listing();
    let old = with_columns(1, schema(), &["col-1", "col-2"]);
    let outcome = block_on(table.sink().commit(&old)).unwrap();
    assert!(
        matches!(&outcome, CommitOutcome::Outdated { reason } if reason.contains("column=`col-2`")),
        "{outcome:?}"
    );
    assert_eq!(table.listing(), before);
    let layout = block_on(table.sink().prepare(LANE, &schema(), Evolve::AddColumns)).unwrap();
    let new = stored_name(&layout.schema, "name");
    table.committed(&with_columns(1, schema(), &["col-1", &new]));
}

#[test]
fn the_id_of_a_new_column_may_be_taken_before_the_commit() {
    let table = mapped();
    let mut fields = schema().fields().to_vec();
    fields.push(Arc::new(Field::new("w", DataType::Int64, true)));
    let wanted: SchemaRef = Arc::new(Schema::new(fields));
    let prepared = || {
        let layout = block_on(table.sink().prepare(LANE, &wanted, Evolve::AddColumns)).unwrap();
        stored_name(&layout.schema, "w")
    };
    let first = prepared();
    assert_eq!(prepared(), first);
    let columns = [
        column("id", 1, "long"),
        column("name", 2, "string"),
        column("theirs", 3, "long"),
    ];
    table.foreign(1, &[metadata(&columns, 3)]);
    let outcome = block_on(
        table
            .sink()
            .commit(&with_columns(1, Arc::clone(&wanted), &["col-1", "col-2", &first])),
    );
    assert!(matches!(outcome, Ok(CommitOutcome::Outdated { .. })), "{outcome:?}");
    let second = prepared();
    assert_ne!(second, first);
    table.committed(&with_columns(1, Arc::clone(&wanted), &["col-1", "col-2", &second]));
}

#[test]
fn a_mapping_that_the_protocol_does_not_know_is_refused() {
    let table = TestTable::new();
    table.committed(&append(1));
    table.foreign(
        1,
        &[metadata(&[column("id", 1, "long"), column("name", 2, "string")], 2)],
    );
    let before = table.listing();
    let error = block_on(table.sink().prepare(LANE, &schema(), Evolve::Never)).unwrap_err();
    assert!(
        error.to_string().contains("property delta.columnMapping.mode = id"),
        "{error}"
    );
    let unmapped = json!({"name": "id", "type": "long", "nullable": true, "metadata": {}});
    table.foreign(2, &[metadata(&[unmapped], 2)]);
    let error = block_on(table.sink().prepare(LANE, &schema(), Evolve::Never)).unwrap_err();
    let expected = "column without id or physical name: id";
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(table.listing().len(), before.len() + 1);
}
