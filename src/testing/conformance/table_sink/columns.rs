//! The columns of files and of the table.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::TableTrial;
use super::desk::{LANE, append, columns, commit, committed, files, found_marker, objects, prepared, shows, state};
use crate::error::ErrorKind;
use crate::options::Evolve;
use crate::sink::{CommitOutcome, TableChange};
use crate::testing::conformance::{broken, keep};

pub(super) const CANONICAL: &str =
    "a canonical schema has the names of the source's columns in their order, and is its own canonical schema";
pub(super) const PREPARED: &str = "a layout has the columns that were asked for";
pub(super) const WRITES_NOTHING: &str = "preparing writes nothing, but for a table without rows and entries";
pub(super) const TABLE_ORDER: &str = "the layout of a table that is there has the columns in the table's order";
pub(super) const REFUSED: &str = "columns that the table cannot take are refused as `Invalid` or `Unsupported` before anything is written, and never \
     committed";
pub(super) const EVOLVED: &str = "columns that may be added are added by the commit of their files";

pub(super) async fn layouts(trial: &dyn TableTrial) {
    let sink = trial.sink();
    let source = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("nothing", DataType::Null, true),
    ]));
    let canonical = sink.canonical_schema(&source, None);
    let again = canonical.as_ref().map(|schema| sink.canonical_schema(schema, None));
    let is_same = matches!((&canonical, &again), (Ok(one), Ok(Ok(other))) if one == other);
    let keeps_names = canonical.as_ref().is_ok_and(|schema| names(schema) == names(&source));
    let keeps_null = canonical.as_ref().is_ok_and(|schema| {
        let field = schema.field_with_name("nothing");
        field.is_ok_and(|field| field.data_type() == &DataType::Null)
    });
    keep(CANONICAL, is_same && keeps_names && keeps_null, canonical);

    let was_there = state(WRITES_NOTHING, &*sink, LANE).await.table.is_some();
    let layout = prepared(PREPARED, &*sink, &columns(), Evolve::Never).await;
    keep(PREPARED, names(&layout.schema) == names(&columns()), &layout.schema);
    let first = objects(WRITES_NOTHING, &layout).await;
    let after = state(WRITES_NOTHING, &*sink, LANE).await;
    let wrote_nothing = was_there || after.table.is_some() || first.is_empty();
    keep(
        WRITES_NOTHING,
        wrote_nothing && after.decided.is_none(),
        (&first, &after),
    );
    prepared(PREPARED, &*trial.sink(), &columns(), Evolve::AddColumns).await;
    let second = objects(WRITES_NOTHING, &layout).await;
    keep(WRITES_NOTHING, first == second, (first, second));
    shows(WRITES_NOTHING, trial, &[]).await;
}

pub(super) async fn drift(trial: &dyn TableTrial) {
    let sink = trial.sink();
    let first = append(PREPARED, &*sink, LANE, 1, 1).await;
    committed(PREPARED, &*sink, &first).await;
    let reversed: Vec<_> = columns().fields().iter().rev().cloned().collect();
    let layout = prepared(TABLE_ORDER, &*sink, &Arc::new(Schema::new(reversed)), Evolve::Never).await;
    keep(TABLE_ORDER, names(&layout.schema) == names(&columns()), &layout.schema);

    let live = trial.live_files().await;
    let stray = files(&layout, LANE, 2, 22).await;
    let before = objects(REFUSED, &layout).await;
    let other_type = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, true),
        Field::new("name", DataType::Utf8, true),
    ]));
    let mut wider = columns().fields().to_vec();
    wider.push(Arc::new(Field::new("more", DataType::Int64, true)));
    let wider: SchemaRef = Arc::new(Schema::new(wider));
    for (schema, evolve) in [
        (&other_type, Evolve::Never),
        (&other_type, Evolve::AddColumns),
        (&other_type, Evolve::AddAndWiden),
        (&wider, Evolve::Never),
    ] {
        match trial.sink().prepare(LANE, schema, evolve).await {
            Err(e) if matches!(e.kind(), ErrorKind::Invalid | ErrorKind::Unsupported) => {}
            other => broken(REFUSED, format!("found `{other:?}`")),
        }
        let change = TableChange::Append {
            schema: Arc::clone(schema),
            evolve,
            files: stray.clone(),
        };
        let outcome = sink.commit(&commit(LANE, 2, 2, change)).await;
        keep(REFUSED, !matches!(outcome, Ok(CommitOutcome::Committed(_))), &outcome);
        let found = found_marker(REFUSED, trial, LANE).await;
        keep(REFUSED, found.map(|found| found.seq) == Some(first.seq), found);
    }
    keep(REFUSED, objects(REFUSED, &layout).await == before, before);
    shows(REFUSED, trial, &live).await;

    let table = state(EVOLVED, &*sink, LANE).await.table;
    if table.is_some_and(|table| (table.evolution.adds)(&DataType::Int64)) {
        let layout = prepared(EVOLVED, &*sink, &wider, Evolve::AddColumns).await;
        keep(EVOLVED, names(&layout.schema) == names(&wider), &layout.schema);
        let found = columns_of(trial).await;
        keep(EVOLVED, found == names(&columns()), found);
        let change = TableChange::Append {
            schema: Arc::clone(&layout.schema),
            evolve: Evolve::AddColumns,
            files: files(&layout, LANE, 2, 2).await,
        };
        committed(EVOLVED, &*trial.sink(), &commit(LANE, 2, 2, change)).await;
        let found = columns_of(trial).await;
        keep(EVOLVED, found == names(&wider), found);
    }
}

async fn columns_of(trial: &dyn TableTrial) -> Vec<String> {
    let table = state(EVOLVED, &*trial.sink(), LANE).await.table;
    table.map(|table| names(&table.schema)).unwrap_or_default()
}

fn names(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}
