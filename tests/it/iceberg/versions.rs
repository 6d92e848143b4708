//! Which version of a file-system table is its newest, however it is spelt, and that none is made twice.

use std::io::Write;
use std::sync::Arc;

use firnline::iceberg::{Catalog, CatalogChange, CatalogOutcome, CatalogTable, FileSystemCatalog, TableUpdate};
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStoreExt, PutMode};
use firnline::testing::{FaultStore, Faults, OperationKind};
use firnline::{ErrorKind, Timestamp};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::executor::block_on;
use serde_json::{Value, json};

use super::support::*;

const PLAIN: &str = "users/metadata/v1.metadata.json";

fn gzip(metadata: &Value) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(metadata.to_string().as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// The next version of another writer, with a property of theirs.
fn theirs() -> Vec<u8> {
    let mut next = metadata();
    next["properties"] = json!({"theirs": "kept"});
    gzip(&next)
}

async fn load(catalog: &FileSystemCatalog) -> CatalogTable {
    catalog.load().await.unwrap().unwrap()
}

async fn set_ours(catalog: &FileSystemCatalog, base: CatalogTable) -> firnline::Result<CatalogOutcome> {
    let updates = [("ours".to_owned(), "set".to_owned())].into();
    let change = CatalogChange {
        base,
        requirements: Vec::new(),
        updates: vec![TableUpdate::SetProperties { updates }],
        now: Timestamp::from_millis(2_000),
    };
    catalog.commit(&change).await
}

#[test]
fn a_newer_version_that_is_compressed_is_built_upon_whatever_the_hint_says() {
    let hints = [None, Some("1"), Some("2"), Some("9"), Some("nonsense")];
    let names = ["v2.gz.metadata.json", "v2.metadata.json.gz"];
    for (hint, name) in hints.into_iter().flat_map(|hint| names.map(|name| (hint, name))) {
        block_on(async {
            let store = memory();
            put(&store, PLAIN, metadata().to_string()).await;
            put(&store, &format!("users/metadata/{name}"), theirs()).await;
            if let Some(hint) = hint {
                put(&store, "users/metadata/version-hint.text", hint).await;
            }
            let catalog = catalog(&store);
            let found = load(&catalog).await;
            assert!(found.metadata_location.ends_with(name), "{hint:?}");
            let outcome = set_ours(&catalog, found).await.unwrap();
            let CatalogOutcome::Committed(committed) = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(
                committed.metadata_location,
                format!("{LOCATION}/metadata/v3.metadata.json")
            );
            let properties = committed.metadata.properties();
            assert_eq!(
                (properties["theirs"].as_str(), properties["ours"].as_str()),
                ("kept", "set")
            );
            assert_eq!(load(&catalog).await.metadata, committed.metadata, "{hint:?}");
            let versions = paths(&store).await;
            assert!(
                !versions.contains(&"users/metadata/v2.metadata.json".to_owned()),
                "{versions:?}"
            );
        });
    }
}

#[test]
fn a_compressed_version_that_comes_after_the_load_is_a_conflict_and_then_seen() {
    block_on(async {
        let store = memory();
        put(&store, PLAIN, metadata().to_string()).await;
        let catalog = catalog(&store);
        let old = load(&catalog).await;
        put(&store, "users/metadata/v2.gz.metadata.json", theirs()).await;
        let outcome = set_ours(&catalog, old).await.unwrap();
        assert_eq!(outcome, CatalogOutcome::Conflict);
        let versions = paths(&store).await;
        assert!(
            !versions.contains(&"users/metadata/v2.metadata.json".to_owned()),
            "{versions:?}"
        );
        assert_eq!(load(&catalog).await.metadata.properties()["theirs"], "kept");
    });
}

#[test]
fn two_writers_that_spell_a_version_differently_in_one_instant_are_noticed() {
    block_on(async {
        let mut next = Some(theirs());
        let store = CrowdedStore::new(move |path, _| {
            let is_ours = path.as_ref() == "users/metadata/v2.metadata.json";
            let next = is_ours.then(|| next.take()).flatten()?;
            Some(("users/metadata/v2.gz.metadata.json".to_owned(), next))
        });
        put(&store, PLAIN, metadata().to_string()).await;
        let known = catalog(&store);
        let base = load(&known).await;
        let refused = [
            set_ours(&known, base).await.unwrap_err(),
            known.load().await.unwrap_err(),
            catalog(&store).load().await.unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            for file in ["v2.metadata.json", "v2.gz.metadata.json"] {
                assert!(error.to_string().contains(file), "{error}");
            }
        }
    });
}

#[test]
fn a_version_made_twice_long_ago_is_in_nobodys_way() {
    block_on(async {
        let store = memory();
        put(&store, PLAIN, metadata().to_string()).await;
        put(&store, "users/metadata/v1.gz.metadata.json", theirs()).await;
        put(&store, "users/metadata/v2.metadata.json", metadata().to_string()).await;
        let found = load(&catalog(&store)).await;
        assert!(found.metadata_location.ends_with("/v2.metadata.json"));
    });
}

#[test]
fn looking_for_other_spellings_costs_six_heads_a_commit_and_for_its_base_one() {
    block_on(async {
        let faults = Faults::none();
        let store: Store = Arc::new(FaultStore::new(memory(), "tables", &faults));
        put(&store, PLAIN, metadata().to_string()).await;
        put(&store, "users/metadata/version-hint.text", "1").await;
        let catalog = catalog(&store);
        let first = load(&catalog).await;
        assert!(matches!(
            set_ours(&catalog, first).await,
            Ok(CatalogOutcome::Committed(_))
        ));
        load(&catalog).await;
        let before = faults.log().len();
        let known = load(&catalog).await;
        assert!(matches!(
            set_ours(&catalog, known).await,
            Ok(CatalogOutcome::Committed(_))
        ));
        let kinds: Vec<OperationKind> = faults.log()[before..].iter().map(|operation| operation.kind).collect();
        let (head, create, put) = (OperationKind::Head, OperationKind::PutCreate, OperationKind::Put);
        assert_eq!(
            kinds,
            [head, head, head, head, head, head, head, create, head, head, put]
        );
    });
}

#[test]
fn a_table_that_is_dropped_before_a_commit_is_not_made_again() {
    block_on(async {
        let store = memory();
        put(&store, PLAIN, metadata().to_string()).await;
        let catalog = catalog(&store);
        let base = load(&catalog).await;
        store.delete(&Path::from(PLAIN)).await.unwrap();
        assert_eq!(set_ours(&catalog, base).await.unwrap(), CatalogOutcome::Conflict);
        assert_eq!(catalog.load().await.unwrap(), None);
    });
}

#[test]
fn a_store_that_ignores_the_condition_is_refused_before_a_table_is_made() {
    block_on(async {
        let store = CrowdedStore::new(|_, options| {
            options.mode = PutMode::Overwrite;
            None
        });
        put(&store, PLAIN, metadata().to_string()).await;
        let catalog = catalog(&store);
        let base = load(&catalog).await;
        let error = set_ours(&catalog, base).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error
                .to_string()
                .contains("cannot create an object only if it is absent"),
            "{error}"
        );
        let left = paths(&store).await;
        assert_eq!(left, ["users/metadata/firnline-put-if-absent", PLAIN]);
        assert_eq!(get(&store, PLAIN).await, metadata().to_string());
    });
}
