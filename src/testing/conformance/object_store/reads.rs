//! Reads: what a store says of an object, ranges, conditions.

use object_store::{Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt};

use super::{done, head, listed, path, put};
use crate::testing::conformance::keep;
use crate::time::Timestamp;

pub(super) const ABSENT: &str = "get and head of an object that is not there are `NotFound`";
pub(super) const TAGGED: &str = "get, head and list give an entity tag";
pub(super) const TAGS_AGREE: &str = "put, get, head and list give the same entity tag for the same content";
pub(super) const TAGS_CHANGE: &str = "another content has another entity tag";
pub(super) const SIZED: &str = "get, head and list give the size of an object, and its path";
pub(super) const DATED: &str = "an object says when it was written, and no later one was written long before";
pub(super) const RANGES: &str =
    "a range gives the bytes that were asked for, the place that they have, and the size of all";
pub(super) const SUFFIXES: &str =
    "a suffix gives the last bytes, all of them where there are fewer, or is `NotSupported`";
pub(super) const BEYOND: &str = "a range beyond the end gives what is there, or an error where nothing is";
pub(super) const IF_MATCH: &str = "a read with `if_match` of another tag than the object's is a `Precondition`";

pub(super) async fn metadata(store: &dyn ObjectStore) {
    let at = path("meta/object");
    let is_missing = |error: Option<StoreError>| matches!(error, Some(StoreError::NotFound { .. }));
    keep(ABSENT, is_missing(store.get(&at).await.err()), &at);
    keep(ABSENT, is_missing(store.head(&at).await.err()), &at);
    let mut seen: Vec<(String, Timestamp)> = Vec::new();
    // Of one size, written one after the other: nothing but the content differs.
    for content in ["aaaa", "bbbb", "cccc", "aaab"] {
        let put = put(TAGGED, store, &at, content.as_bytes()).await;
        let got = done(TAGGED, store.get(&at).await).meta;
        let headed = head(TAGGED, store, &at).await;
        let listed = listed(TAGGED, store, Some(&path("meta"))).await;
        let Some(in_list) = listed.first().filter(|_| listed.len() == 1) else {
            return keep(SIZED, false, listed);
        };
        for meta in [&got, &headed, in_list] {
            keep(TAGGED, meta.e_tag.is_some(), meta);
            keep(SIZED, meta.size == 4 && meta.location == at, meta);
            let is_date = meta.last_modified.timestamp_millis() > LONG_AGO_MS;
            keep(DATED, is_date, meta);
        }
        let tags: Vec<_> = [&got.e_tag, &headed.e_tag, &in_list.e_tag]
            .into_iter()
            .chain(put.e_tag.is_some().then_some(&put.e_tag))
            .flatten()
            .map(|tag| bare(tag).to_owned())
            .collect();
        keep(TAGS_AGREE, tags.iter().all(|tag| tags.first() == Some(tag)), &tags);
        let tag = tags.into_iter().next().unwrap_or_default();
        keep(TAGS_CHANGE, seen.iter().all(|(seen, _)| *seen != tag), (content, &seen));
        for meta in [&headed, in_list] {
            let modified = meta.last_modified.timestamp_millis();
            let differs = (modified - got.last_modified.timestamp_millis()).abs();
            keep(DATED, differs <= MAX_SKEW_MS, (&got, meta));
        }
        let modified = Timestamp::from(got.last_modified);
        let earlier = seen
            .iter()
            .all(|(_, before)| before.as_millis() <= modified.as_millis() + MAX_SKEW_MS);
        keep(DATED, earlier, (&seen, modified));
        seen.push((tag, modified));
    }
}

pub(super) async fn ranges(store: &dyn ObjectStore) {
    let at = path("ranges/object");
    let all: Vec<u8> = (0..200).collect();
    put(RANGES, store, &at, &all).await;
    let size = 200_u64;
    let cases: [(&str, GetRange, std::ops::Range<u64>); 10] = [
        (RANGES, (0..1).into(), 0..1),
        (RANGES, (0..size).into(), 0..size),
        (RANGES, (17..103).into(), 17..103),
        (RANGES, (199..200).into(), 199..200),
        (SUFFIXES, GetRange::Suffix(1), 199..200),
        (SUFFIXES, GetRange::Suffix(64), 136..200),
        (SUFFIXES, GetRange::Suffix(200), 0..200),
        (SUFFIXES, GetRange::Suffix(65_536), 0..200),
        (BEYOND, (150..250).into(), 150..200),
        (BEYOND, (0..65_536).into(), 0..200),
    ];
    let slice = |range: &std::ops::Range<u64>| {
        let [start, end] = [range.start, range.end].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        all.get(start..end).unwrap_or_default().to_vec()
    };
    for (rule, asked, expected) in cases {
        let options = GetOptions::new().with_range(Some(asked.clone()));
        let answer = store.get_opts(&at, options).await;
        if rule == SUFFIXES && answer.as_ref().is_err_and(is_not_supported) {
            continue;
        }
        let got = done(rule, answer);
        let says = (got.range.clone(), got.meta.size);
        let bytes = done(rule, got.bytes().await);
        let is_it = bytes == slice(&expected) && says == (expected.clone(), size);
        keep(rule, is_it, (asked, says, bytes.len()));
    }
    for beyond in [200..201, 300..400] {
        let options = GetOptions::new().with_range(Some(beyond.clone()));
        let bytes = match store.get_opts(&at, options).await {
            Ok(got) => got.bytes().await.unwrap_or_default(),
            Err(_) => continue,
        };
        keep(BEYOND, bytes.is_empty(), (beyond, bytes));
    }
}

pub(super) async fn conditions(store: &dyn ObjectStore) {
    let at = path("conditions/object");
    put(IF_MATCH, store, &at, b"old").await;
    let old = head(IF_MATCH, store, &at).await.e_tag;
    let read = |tag: Option<String>, range: Option<GetRange>, is_head: bool| {
        let options = GetOptions::new()
            .with_if_match(tag)
            .with_range(range)
            .with_head(is_head);
        store.get_opts(&at, options)
    };
    let forms = [
        (None, false),
        (Some(GetRange::Bounded(0..2)), false),
        (Some(GetRange::Suffix(2)), false),
        (None, true),
    ];
    let suffix = read(None, Some(GetRange::Suffix(2)), false).await;
    let lacks_suffixes = suffix.is_err_and(|error| is_not_supported(&error));
    let forms: Vec<_> = forms
        .into_iter()
        .filter(|(range, _)| !(lacks_suffixes && matches!(range, Some(GetRange::Suffix(_)))))
        .collect();
    for (range, is_head) in forms.clone() {
        done(IF_MATCH, read(old.clone(), range, is_head).await);
    }
    put(IF_MATCH, store, &at, b"new").await;
    let new = head(IF_MATCH, store, &at).await.e_tag;
    for (range, is_head) in forms {
        let answer = read(old.clone(), range.clone(), is_head).await.map(|got| got.meta);
        keep(IF_MATCH, matches!(answer, Err(StoreError::Precondition { .. })), answer);
        done(IF_MATCH, read(new.clone(), range, is_head).await);
    }
}

/// Azure says so of ranges from the end; they are read by the size then.
fn is_not_supported(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::NotSupported { .. } | StoreError::NotImplemented { .. }
    )
}

/// Some stores quote tags in one of their answers only.
fn bare(tag: &str) -> &str {
    tag.trim_matches('"')
}

/// Milliseconds of a time before there were object stores: what is older is no time, or one in seconds.
const LONG_AGO_MS: i64 = 1_000_000_000_000;
/// How far the times of an object may lie apart: some give whole seconds, some clocks differ.
const MAX_SKEW_MS: i64 = 5_000;
