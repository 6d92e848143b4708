//! What is not supported is refused by name before anything is written.

use std::sync::Arc;

use firnline::iceberg::Catalog;
use firnline::testing::{FaultStore, Faults, OperationKind};
use firnline::{CommitOutcome, ErrorKind, Result, TableSink};
use futures::executor::block_on;
use serde_json::{Value, json};

use super::support::*;

/// A table of another writer with these changes.
async fn foreign(edit: impl FnOnce(&mut Value)) -> Store {
    let store = memory();
    let mut table = metadata();
    edit(&mut table);
    put(&store, "users/metadata/v1.metadata.json", table.to_string()).await;
    store
}

/// All doors refuse, the message names what is in the way, and no object has changed.
async fn assert_refused(store: &Store, named: &str) {
    let before = listing(store).await;
    let check = |what: &str, result: Result<()>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{what}: {error}");
        assert!(error.chain().contains(named), "{what}: {}", error.chain());
    };
    check("decided", sink(store).decided(LANE).await.map(drop));
    check(
        "prepare",
        sink(store)
            .prepare(LANE, &columns(), firnline::Evolve::Never)
            .await
            .map(drop),
    );
    check("append", sink(store).commit(&append(1)).await.map(drop));
    check("void", sink(store).commit(&void(1)).await.map(drop));
    assert_eq!(listing(store).await, before);
}

fn property(key: &'static str, value: &'static str) -> impl FnOnce(&mut Value) {
    move |table| table["properties"][key] = json!(value)
}

#[test]
fn tables_that_ask_for_more_than_an_append_are_left_alone() {
    block_on(async {
        let version = |version: i64| move |table: &mut Value| table["format-version"] = json!(version);
        assert_refused(&foreign(version(1)).await, "appending to format version 1").await;
        assert_refused(&foreign(version(4)).await, "version=`4`").await;
        assert_refused(&foreign(property("encryption.key-id", "k")).await, "encryption.key-id").await;
        let keys = |table: &mut Value| {
            table["encryption-keys"] = json!([{"key-id": "a", "encrypted-key-metadata": "eA=="}]);
        };
        assert_refused(&foreign(keys).await, "encryption-keys").await;
        let elsewhere = property("write.metadata.path", "mem://elsewhere");
        assert_refused(&foreign(elsewhere).await, "write.metadata.path").await;
        let transform = |table: &mut Value| {
            table["partition-specs"][0]["fields"] =
                json!([{"source-id": 1, "field-id": 1000, "name": "p", "transform": "zorder[2]"}]);
        };
        assert_refused(&foreign(transform).await, "zorder[2]").await;
        let sorted = |columns: Value, transform: &'static str| {
            move |table: &mut Value| {
                let mut field = json!({"transform": transform, "direction": "asc", "null-order": "nulls-first"});
                let key = if columns.is_array() { "source-ids" } else { "source-id" };
                field[key] = columns;
                table["sort-orders"] = json!([{"order-id": 0, "fields": []}, {"order-id": 1, "fields": [field]}]);
                table["default-sort-order-id"] = json!(1);
            }
        };
        assert_refused(&foreign(sorted(json!(1), "hilbert[2]")).await, "hilbert[2]").await;
        assert_refused(&foreign(sorted(json!([1, 2]), "identity")).await, "several columns").await;
        let default = |table: &mut Value| {
            table["format-version"] = json!(3);
            table["next-row-id"] = json!(0);
            table["schemas"][0]["fields"][1]["write-default"] = json!("none");
        };
        let named = "default values of columns. table=`mem://tables/users` value=`name`";
        assert_refused(&foreign(default).await, named).await;
    });
}

#[test]
fn no_table_is_created_where_one_of_delta_lies() {
    for object in [
        "00000000000000000000.json",
        "00000000000000000010.checkpoint.parquet",
        "_last_checkpoint",
    ] {
        block_on(async {
            let store = memory();
            put(&store, &format!("users/_delta_log/{object}"), "{}").await;
            let before = listing(&store).await;
            for refused in [
                sink(&store)
                    .prepare(LANE, &columns(), firnline::Evolve::Never)
                    .await
                    .map(drop),
                sink(&store).commit(&append(1)).await.map(drop),
                sink(&store).commit(&void(1)).await.map(drop),
            ] {
                let error = refused.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert_eq!(
                    error.to_string(),
                    format!(
                        "a table of another format lies where one is to be created. format=`delta` \
                         object=`users/_delta_log/{object}`"
                    )
                );
            }
            assert_eq!(listing(&store).await, before);
        });
    }
}

#[test]
fn a_table_that_is_there_is_not_asked_for_another_again() {
    block_on(async {
        let faults = Faults::none();
        let store: Store = Arc::new(FaultStore::new(memory(), "tables", &faults));
        let sink = sink(&store);
        assert!(matches!(sink.commit(&append(1)).await, Ok(CommitOutcome::Committed(_))));
        let before = faults.log().len();
        sink.prepare(LANE, &columns(), firnline::Evolve::Never).await.unwrap();
        assert!(matches!(sink.commit(&append(2)).await, Ok(CommitOutcome::Committed(_))));
        let log = faults.log();
        assert!(
            log[before..]
                .iter()
                .all(|operation| operation.kind != OperationKind::List)
        );
    });
}

/// A table of one snapshot, and where that has its manifest list.
async fn with_snapshot() -> (Store, String) {
    let store = memory();
    assert!(matches!(
        sink(&store).commit(&append(1)).await,
        Ok(CommitOutcome::Committed(_))
    ));
    let table = catalog(&store).load().await.unwrap().unwrap().metadata;
    let list = table.current_snapshot().unwrap().manifest_list.clone().unwrap();
    let path = list.strip_prefix("mem://tables/").unwrap().to_owned();
    (store, path)
}

#[test]
fn a_manifest_list_that_cannot_be_read_is_noticed_before_anything_is_uploaded() {
    block_on(async {
        let (store, list) = with_snapshot().await;
        let whole = get(&store, &list).await;
        for damaged in [whole.slice(..whole.len() - 20), whole.slice(..0), "[]".into()] {
            put(&store, &list, damaged).await;
            let before = listing(&store).await;
            let error = sink(&store)
                .prepare(LANE, &columns(), firnline::Evolve::Never)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.chain().contains(&list), "{}", error.chain());
            assert_eq!(listing(&store).await, before);
        }
        put(&store, &list, whole).await;
        sink(&store)
            .prepare(LANE, &columns(), firnline::Evolve::Never)
            .await
            .unwrap();
    });
}

#[test]
fn a_manifest_list_that_is_gone_is_noticed_before_anything_is_uploaded() {
    block_on(async {
        let (store, list) = with_snapshot().await;
        firnline::object_store::ObjectStoreExt::delete(&store, &list.as_str().into())
            .await
            .unwrap();
        let error = sink(&store)
            .prepare(LANE, &columns(), firnline::Evolve::Never)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains(&list), "{error}");
    });
}

#[test]
fn the_manifest_list_is_read_once_for_a_plan() {
    block_on(async {
        let (store, list) = with_snapshot().await;
        let faults = Faults::none();
        let store: Store = Arc::new(FaultStore::new(store, "tables", &faults));
        let reads = |path: &str| {
            let log = faults.log();
            let is_read = |operation: &&firnline::testing::Operation| {
                operation.kind == OperationKind::Get && operation.path == path
            };
            log.iter().filter(is_read).count()
        };
        let sink = sink(&store);
        for _ in 0..3 {
            sink.prepare(LANE, &columns(), firnline::Evolve::Never).await.unwrap();
        }
        assert!(matches!(sink.commit(&append(2)).await, Ok(CommitOutcome::Committed(_))));
        assert_eq!(reads(&list), 1);
        // The next snapshot has another.
        sink.prepare(LANE, &columns(), firnline::Evolve::Never).await.unwrap();
        let table = catalog(&store).load().await.unwrap().unwrap().metadata;
        let next = table.current_snapshot().unwrap().manifest_list.clone().unwrap();
        assert_eq!(reads(next.strip_prefix("mem://tables/").unwrap()), 1);
        // Somebody else's comes before our commit: that is the one to be built on.
        assert!(matches!(
            self::sink(&store).commit(&append(3)).await,
            Ok(CommitOutcome::Committed(_))
        ));
        assert!(matches!(sink.commit(&append(4)).await, Ok(CommitOutcome::Committed(_))));
        let table = catalog(&store).load().await.unwrap().unwrap().metadata;
        assert_eq!(table.current_snapshot().unwrap().summary["total-data-files"], "4");
    });
}
