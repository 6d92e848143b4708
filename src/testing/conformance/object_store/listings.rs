//! Listings, the keys in them, and deletes.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};

use super::{content, done, holds, listed, locations, path, put};
use crate::testing::conformance::{broken, keep};

pub(super) const LISTED: &str = "a listing shows all objects below a prefix, by whole segments, once, and no others";
pub(super) const LISTED_META: &str = "a listing shows an object as it was put last";
pub(super) const OFFSET: &str = "a listing from an offset shows the objects after it";
pub(super) const DELIMITED: &str = "a listing of a directory shows its objects and the directories in it";
pub(super) const MANY: &str = "a listing of more objects than a page shows all";
pub(super) const KEYS: &str = "a key comes back from a listing as it was put, and has an object of its own";
pub(super) const DELETED: &str = "an object that was deleted is not found and not listed, and others stay";
pub(super) const MISSING_DELETE: &str =
    "deleting what is not there is done or `NotFound`, and in a bulk keeps nothing else from being deleted";

pub(super) async fn listings(store: &dyn ObjectStore) {
    let nothing = listed(LISTED, store, None).await;
    keep(LISTED, nothing.is_empty(), nothing);
    let texts = [
        "eu/a/1",
        "eu/a/2",
        "eu/a/sub/3",
        "eu/b",
        "eu2/a/1",
        "e",
        "EU/a/1",
        "eu/a-b/1",
        "eu/a.b",
        "z/y/x/w/v",
    ];
    let paths = texts.map(path);
    for at in &paths {
        put(LISTED, store, at, b"12").await;
    }
    shows(LISTED, store, None, &texts).await;
    shows(
        LISTED,
        store,
        Some("eu"),
        &["eu/a/1", "eu/a/2", "eu/a/sub/3", "eu/b", "eu/a-b/1", "eu/a.b"],
    )
    .await;
    shows(LISTED, store, Some("eu/a"), &["eu/a/1", "eu/a/2", "eu/a/sub/3"]).await;
    shows(LISTED, store, Some("nobody"), &[]).await;
    put(LISTED_META, store, &path("eu/b"), b"12345").await;
    let listed = listed(LISTED_META, store, Some(&path("eu"))).await;
    let size = listed
        .iter()
        .find(|meta| meta.location == path("eu/b"))
        .map(|meta| meta.size);
    keep(LISTED_META, size == Some(5), size);

    for (offset, after) in [
        ("eu/a/1", &["eu/a/2", "eu/a/sub/3"][..]),
        ("eu/a/0", &["eu/a/1", "eu/a/2", "eu/a/sub/3"]),
        ("eu/a/z", &[]),
    ] {
        let shown = store
            .list_with_offset(Some(&path("eu/a")), &path(offset))
            .try_collect::<Vec<_>>()
            .await;
        let shown = done(OFFSET, shown);
        let expected: BTreeSet<_> = after.iter().map(|text| path(text)).collect();
        let is_once = shown.len() == expected.len();
        keep(
            OFFSET,
            is_once && locations(&shown) == expected,
            (offset, locations(&shown)),
        );
    }
    let directory = done(DELIMITED, store.list_with_delimiter(Some(&path("eu/a"))).await);
    let prefixes: BTreeSet<_> = directory.common_prefixes.iter().cloned().collect();
    let expected: BTreeSet<_> = ["eu/a/1", "eu/a/2"].into_iter().map(path).collect();
    let is_it = locations(&directory.objects) == expected && prefixes == BTreeSet::from([path("eu/a/sub")]);
    keep(DELIMITED, is_it, (locations(&directory.objects), prefixes));
    let nothing = done(DELIMITED, store.list_with_delimiter(Some(&path("nobody"))).await);
    keep(
        DELIMITED,
        nothing.objects.is_empty() && nothing.common_prefixes.is_empty(),
        nothing,
    );
}

/// Keys as writers and the state store have them.
pub(super) async fn odd_keys(store: &dyn ObjectStore) {
    let names = [
        "a b",
        "a+b",
        "a%20b",
        "%",
        "%25",
        "ü",
        "u\u{308}",
        "a=b&c",
        "a~b",
        "~00000000000000000001",
        "a,b;c",
        "'",
        "(a)",
        "@",
        "$",
        "!",
        "a:b",
        "..a",
        ".a",
        "a..",
        "A",
        "a",
    ];
    let paths: Vec<_> = names
        .iter()
        .map(|name| path(&format!("keys/{name}/file.parquet")))
        .collect();
    for at in &paths {
        put(KEYS, store, at, at.as_ref().as_bytes()).await;
    }
    let shown = locations(&listed(KEYS, store, Some(&path("keys"))).await);
    let expected: BTreeSet<_> = paths.iter().cloned().collect();
    let differs: Vec<_> = shown.symmetric_difference(&expected).collect();
    keep(KEYS, differs.is_empty(), differs);
    for at in &shown {
        holds(KEYS, store, at, Some(at.as_ref().as_bytes())).await;
    }
    for at in &paths {
        shows(
            KEYS,
            store,
            at.parts().nth(1).map(|_| parent(at)).as_deref(),
            &[at.as_ref()],
        )
        .await;
    }
}

fn parent(at: &Path) -> String {
    at.as_ref()
        .rsplit_once('/')
        .map_or_else(String::new, |(parent, _)| parent.to_owned())
}

pub(super) async fn many_objects(store: &dyn ObjectStore) {
    let paths: Vec<_> = (0..1_050).map(|n| path(&format!("many/{n:04}"))).collect();
    let puts: Vec<_> = paths.iter().map(|at| put(MANY, store, at, b"")).collect();
    stream::iter(puts).buffer_unordered(32).collect::<Vec<_>>().await;
    let shown = listed(MANY, store, Some(&path("many"))).await;
    let expected: BTreeSet<_> = paths.iter().cloned().collect();
    keep(
        MANY,
        shown.len() == paths.len() && locations(&shown) == expected,
        shown.len(),
    );
    let after = store.list_with_offset(Some(&path("many")), &path("many/0009"));
    let after: Vec<_> = done(MANY, after.try_collect().await);
    keep(MANY, after.len() == 1_040, after.len());
}

pub(super) async fn deletes(store: &dyn ObjectStore) {
    let paths: Vec<_> = (0..12).map(|n| path(&format!("deletes/{n:02}"))).collect();
    for at in &paths {
        put(DELETED, store, at, b"x").await;
    }
    let (gone, rest) = paths.split_at(1);
    for at in gone {
        done(DELETED, store.delete(at).await);
        is_gone(DELETED, store, at).await;
        tolerates(store.delete(at).await.err());
    }
    tolerates(store.delete(&path("deletes/never")).await.err());
    let (bulk, kept) = rest.split_at(8);
    let missing = [path("deletes/never"), path("deletes/00")];
    let asked: Vec<_> = bulk
        .iter()
        .take(4)
        .chain(&missing)
        .chain(bulk.iter().skip(4))
        .cloned()
        .map(Ok)
        .collect();
    let count = asked.len();
    let answers: Vec<_> = store.delete_stream(stream::iter(asked).boxed()).collect().await;
    keep(MISSING_DELETE, answers.len() == count, &answers);
    let mut deleted = BTreeSet::new();
    for answer in answers {
        match answer {
            Ok(at) => {
                deleted.insert(at);
            }
            Err(e) => tolerates(Some(e)),
        }
    }
    for at in bulk {
        is_gone(MISSING_DELETE, store, at).await;
        keep(MISSING_DELETE, deleted.contains(at), at);
    }
    for at in kept {
        holds(DELETED, store, at, Some(b"x")).await;
    }
}

async fn is_gone(rule: &str, store: &dyn ObjectStore, at: &Path) {
    let found = content(rule, store, at).await;
    keep(rule, found.is_none(), at);
    let shown = locations(&listed(rule, store, Some(&path("deletes"))).await);
    keep(rule, !shown.contains(at), at);
}

fn tolerates(error: Option<StoreError>) {
    match error {
        None | Some(StoreError::NotFound { .. }) => {}
        Some(e) => broken(MISSING_DELETE, e),
    }
}

async fn shows(rule: &str, store: &dyn ObjectStore, prefix: Option<&str>, expected: &[&str]) {
    let prefix = prefix.map(path);
    let shown = listed(rule, store, prefix.as_ref()).await;
    let expected: BTreeSet<_> = expected.iter().map(|text| path(text)).collect();
    let is_it = shown.len() == expected.len() && locations(&shown) == expected;
    keep(rule, is_it, (prefix, locations(&shown)));
}
