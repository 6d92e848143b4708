//! Puts: plain, conditional, at the same time, dropped.

use bytes::Bytes;
use futures::future::{join, join_all};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutResult, Result, UpdateVersion};

use super::{content, done, head, holds, path, put};
use crate::testing::conformance::{POLLS, dropped_after, keep};

pub(super) const READ: &str = "an object is read as it was put, at once";
pub(super) const REPLACED: &str = "a put replaces what was there";
pub(super) const EVERY_SIZE: &str = "an object of any size is read as it was put";
pub(super) const CREATED: &str = "`PutMode::Create` creates an object where there is none, also where one was deleted";
pub(super) const CREATED_ONCE: &str =
    "`PutMode::Create` where there is an object is `AlreadyExists` or `Precondition`, and changes nothing";
pub(super) const CREATE_RACE: &str =
    "of creates at the same time one at most succeeds, and its content is what is there";
pub(super) const UPDATED: &str =
    "`PutMode::Update` with the newest tag replaces an object, where the store claims that it can";
pub(super) const STALE_UPDATE: &str = "`PutMode::Update` with another tag than the newest, or of an object that is not there, is refused and changes nothing";
pub(super) const UPDATE_REFUSED: &str =
    "`PutMode::Update` is `NotImplemented` or `NotSupported` where the store does not claim it, and changes nothing";
pub(super) const WHOLE: &str = "whoever reads while an object is put sees the old content or the new one, whole";
pub(super) const DROPPED: &str = "a put that is dropped is made or not, and leaves a store that can be used";

pub(super) async fn put_and_read(store: &dyn ObjectStore) {
    let at = path("dir/sub/object");
    put(READ, store, &at, b"one").await;
    holds(READ, store, &at, Some(b"one")).await;
    for replaced in [&b"two"[..], b"a longer one", b"", b"3"] {
        put(REPLACED, store, &at, replaced).await;
        holds(REPLACED, store, &at, Some(replaced)).await;
    }
    for size in [0, 1, 4_095, 65_536, 1 << 20] {
        let at = path(&format!("sizes/{size}"));
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
        put(EVERY_SIZE, store, &at, &bytes).await;
        holds(EVERY_SIZE, store, &at, Some(&bytes)).await;
    }
}

pub(super) async fn create(store: &dyn ObjectStore) {
    let at = path("create/object");
    done(CREATED, put_if(store, &at, b"first", PutMode::Create).await);
    holds(CREATED, store, &at, Some(b"first")).await;
    for again in [&b"second"[..], b"first"] {
        let answer = put_if(store, &at, again, PutMode::Create).await;
        keep(CREATED_ONCE, is_lost(&answer), &answer);
        holds(CREATED_ONCE, store, &at, Some(b"first")).await;
    }
    done(CREATED, store.delete(&at).await);
    done(CREATED, put_if(store, &at, b"third", PutMode::Create).await);
    holds(CREATED, store, &at, Some(b"third")).await;
    for round in 0..8 {
        let at = path(&format!("create/race-{round}"));
        let contents: Vec<_> = (0..4).map(|n| format!("writer {n}")).collect();
        let race = contents
            .iter()
            .map(|content| put_if(store, &at, content.as_bytes(), PutMode::Create));
        let answers = join_all(race).await;
        let won: Vec<_> = contents
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| answer.is_ok())
            .collect();
        keep(CREATE_RACE, won.len() <= 1, &answers);
        let there = content(CREATE_RACE, store, &at).await;
        for (content, _) in &won {
            keep(CREATE_RACE, there.as_deref() == Some(content.as_bytes()), &there);
        }
        // S3 refuses all of them sometimes, and then none may be there but as a whole.
        let is_one = there.is_none_or(|there| contents.iter().any(|content| content.as_bytes() == there));
        keep(CREATE_RACE, is_one, &answers);
    }
}

pub(super) async fn update(store: &dyn ObjectStore, is_claimed: bool) {
    let at = path("update/object");
    let first = put(READ, store, &at, b"first").await;
    let of_first = UpdateVersion::from(first);
    if !is_claimed {
        let answer = put_if(store, &at, b"second", PutMode::Update(of_first)).await;
        let refused = matches!(
            answer,
            Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. })
        );
        keep(UPDATE_REFUSED, refused, &answer);
        return holds(UPDATE_REFUSED, store, &at, Some(b"first")).await;
    }
    let second = done(
        UPDATED,
        put_if(store, &at, b"second", PutMode::Update(of_first.clone())).await,
    );
    holds(UPDATED, store, &at, Some(b"second")).await;
    // What a read gives counts as well as what the put has given.
    let meta = head(UPDATED, store, &at).await;
    let of_read = UpdateVersion {
        e_tag: meta.e_tag,
        version: meta.version,
    };
    done(UPDATED, put_if(store, &at, b"third", PutMode::Update(of_read)).await);
    for stale in [of_first.clone(), UpdateVersion::from(second)] {
        let answer = put_if(store, &at, b"stale", PutMode::Update(stale)).await;
        keep(STALE_UPDATE, is_lost(&answer), &answer);
        holds(STALE_UPDATE, store, &at, Some(b"third")).await;
    }
    let nowhere = path("update/nowhere");
    let answer = put_if(store, &nowhere, b"stale", PutMode::Update(of_first)).await;
    keep(STALE_UPDATE, is_lost(&answer), &answer);
    holds(STALE_UPDATE, store, &nowhere, None).await;
    let newest = UpdateVersion::from(put(READ, store, &at, b"base").await);
    let race = ["a", "b", "c"].map(|content| put_if(store, &at, content.as_bytes(), PutMode::Update(newest.clone())));
    let answers = join_all(race).await;
    let won = answers.iter().filter(|answer| answer.is_ok()).count();
    keep(STALE_UPDATE, won <= 1, answers);
}

pub(super) async fn whole_or_not_at_all(store: &dyn ObjectStore) {
    let at = path("whole/object");
    let of = |n: u8| vec![n; 200_000];
    let is_whole = |bytes: &Bytes| bytes.len() == 200_000 && bytes.windows(2).all(|two| two.first() == two.last());
    put(WHOLE, store, &at, &of(0)).await;
    for n in 1..8 {
        let new = of(n);
        let writing = put(WHOLE, store, &at, &new);
        let reading = async {
            for _ in 0..4 {
                let found = content(WHOLE, store, &at).await;
                let found = found.as_ref();
                keep(WHOLE, found.is_some_and(is_whole), found.map(Bytes::len));
            }
        };
        join(writing, reading).await;
        holds(WHOLE, store, &at, Some(&new)).await;
    }
    for polls in POLLS {
        let at = path(&format!("whole/dropped-{polls}"));
        let new = Bytes::from(of(9));
        dropped_after(polls, store.put(&at, new.clone().into())).await;
        let found = content(DROPPED, store, &at).await;
        keep(
            DROPPED,
            found.as_ref().is_none_or(is_whole),
            found.map(|found| found.len()),
        );
        put(DROPPED, store, &at, &new).await;
        holds(DROPPED, store, &at, Some(&new)).await;
    }
}

async fn put_if(store: &dyn ObjectStore, at: &Path, content: &[u8], mode: PutMode) -> Result<PutResult> {
    store
        .put_opts(at, Bytes::copy_from_slice(content).into(), mode.into())
        .await
}

/// Whether a conditional put was refused for what is there. Stores say so in different ways.
fn is_lost(answer: &Result<PutResult>) -> bool {
    matches!(
        answer,
        Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } | StoreError::NotFound { .. })
    )
}
