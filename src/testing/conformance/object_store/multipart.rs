//! Uploads in parts: all but the last of one size, one after the other, as the merger makes them.

use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};

use super::{done, head, holds, listed, locations, path, put};
use crate::testing::conformance::keep;

pub(super) const COMPLETED: &str = "a completed upload is its parts in order, also over what was there";
pub(super) const HIDDEN: &str = "nothing is seen of an upload before it is completed, nor of one that is dropped";
pub(super) const ABORTED: &str = "an upload that is aborted leaves what was there before";

pub(super) async fn uploads(store: &dyn ObjectStore) {
    for (name, sizes) in [
        ("three", &[PART, PART, 7][..]),
        ("one", &[PART]),
        ("short", &[11]),
        ("two", &[PART, PART]),
    ] {
        let at = path(&format!("uploads/{name}"));
        let mut upload = done(COMPLETED, store.put_multipart(&at).await);
        let all = put_parts(COMPLETED, &mut *upload, sizes).await;
        hides(store, &at).await;
        done(COMPLETED, upload.complete().await);
        holds(COMPLETED, store, &at, Some(&all)).await;
        let size = head(COMPLETED, store, &at).await.size;
        keep(COMPLETED, size == all.len() as u64, size);
    }
    let at = path("uploads/over");
    put(COMPLETED, store, &at, b"before").await;
    let mut upload = done(COMPLETED, store.put_multipart(&at).await);
    let all = put_parts(COMPLETED, &mut *upload, &[PART, 1]).await;
    holds(HIDDEN, store, &at, Some(b"before")).await;
    done(COMPLETED, upload.complete().await);
    holds(COMPLETED, store, &at, Some(&all)).await;

    for is_there in [false, true] {
        let at = path(&format!("uploads/aborted-{is_there}"));
        let before = is_there.then_some(&b"before"[..]);
        if let Some(before) = before {
            put(ABORTED, store, &at, before).await;
        }
        let mut upload = done(ABORTED, store.put_multipart(&at).await);
        put_parts(ABORTED, &mut *upload, &[PART, 5]).await;
        // The library goes on whether this succeeds or not.
        let _ = upload.abort().await;
        drop(upload);
        holds(ABORTED, store, &at, before).await;
        let there = locations(&listed(ABORTED, store, Some(&path("uploads"))).await);
        keep(ABORTED, there.contains(&at) == is_there, there);
    }
    let at = path("uploads/dropped");
    let mut upload = done(HIDDEN, store.put_multipart(&at).await);
    put_parts(HIDDEN, &mut *upload, &[PART]).await;
    drop(upload);
    hides(store, &at).await;
}

async fn hides(store: &dyn ObjectStore, at: &Path) {
    holds(HIDDEN, store, at, None).await;
    let there = locations(&listed(HIDDEN, store, Some(&path("uploads"))).await);
    keep(HIDDEN, !there.contains(at), there);
}

async fn put_parts(rule: &str, upload: &mut dyn MultipartUpload, sizes: &[usize]) -> Vec<u8> {
    let mut all = Vec::new();
    for (size, n) in sizes.iter().zip(1_u8..) {
        let part = vec![n; *size];
        all.extend_from_slice(&part);
        done(rule, upload.put_part(part.into()).await);
    }
    all
}

/// The least size of a part but the last that S3 takes.
const PART: usize = 5 << 20;
