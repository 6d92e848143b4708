//! Ranged reads of one object, all of the same content.

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore};

use super::error::SourceError;
use crate::error::{Error, ErrorKind};
use crate::naming::ETag;
use crate::quarantine::QuarantineReason;

/// Ranges closer than this are read as one: a request costs more than the bytes between them.
const COALESCE_BYTES: u64 = 64 << 10;
/// Requests in flight for one object.
const CONCURRENCY: usize = 4;

/// Bytes of an object at an offset.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) bytes: Bytes,
}

impl Extent {
    pub(super) fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    /// The bytes of `range`, if this extent has them all.
    pub(super) fn slice(&self, range: &Range<u64>) -> Option<Bytes> {
        let start = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
        (start <= end && end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
    }
}

/// The last `length` bytes of an object, and what the store says of it.
pub(super) async fn fetch_tail(
    store: &dyn ObjectStore,
    location: &Path,
    if_match: Option<&ETag>,
    length: u64,
) -> Result<(ObjectMeta, Extent), SourceError> {
    let options = GetOptions::new()
        .with_if_match(if_match.map(ETag::raw))
        .with_range(Some(GetRange::Suffix(length)));
    let result = match store.get_opts(location, options).await {
        // Azure has no ranges from the end.
        Err(StoreError::NotSupported { .. } | StoreError::NotImplemented { .. }) => {
            sized_tail(store, location, if_match, length).await
        }
        result => result,
    };
    let result = match result {
        Ok(result) => result,
        Err(error) => return Err(tail_failed(store, location, if_match, error).await),
    };
    let meta = result.meta.clone();
    if let Some(planned) = if_match {
        same_content(&meta, planned)?;
    }
    let extent = body(location, result, if_match).await?;
    if extent.end() != meta.size {
        let detail = "the store answered a read of the tail with other bytes";
        return Err(SourceError::Unavailable(Error::new(ErrorKind::Unavailable, detail)));
    }
    Ok((meta, extent))
}

/// The same with two requests: the size first, then a range of that content.
async fn sized_tail(
    store: &dyn ObjectStore,
    location: &Path,
    if_match: Option<&ETag>,
    length: u64,
) -> object_store::Result<GetResult> {
    let head = GetOptions::new().with_if_match(if_match.map(ETag::raw)).with_head(true);
    let meta = store.get_opts(location, head).await?.meta;
    let options = GetOptions::new()
        .with_if_match(meta.e_tag)
        .with_range(Some(meta.size.saturating_sub(length)..meta.size));
    store.get_opts(location, options).await
}

/// The bytes of `ranges`, coalesced, from content with the entity tag `planned` only.
pub(super) async fn fetch_ranges(
    store: &dyn ObjectStore,
    location: &Path,
    planned: &ETag,
    ranges: &[Range<u64>],
) -> Result<Vec<Extent>, SourceError> {
    let requests = coalesced(ranges).into_iter().map(|range| async move {
        let options = GetOptions::new()
            .with_if_match(Some(planned.raw()))
            .with_range(Some(range.clone()));
        let result = store
            .get_opts(location, options)
            .await
            .map_err(|e| classified("get", location, Some(planned), e))?;
        // A store that ignores the condition must not hand over other content.
        same_content(&result.meta, planned)?;
        let extent = body(location, result, Some(planned)).await?;
        if extent.start != range.start || extent.end() != range.end {
            return Err(QuarantineReason::corrupt("the object ends before what its footer points to").into());
        }
        Ok(extent)
    });
    // Collected first: the closure borrows, and a stream of it would not be `Send` in general.
    let requests: Vec<_> = requests.collect();
    stream::iter(requests).buffered(CONCURRENCY).try_collect().await
}

/// `ranges` in order, near ones joined.
pub(super) fn coalesced(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted: Vec<_> = ranges.iter().filter(|range| range.start < range.end).cloned().collect();
    sorted.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(COALESCE_BYTES) => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// How many bytes the ranges have together.
pub(super) fn length(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().fold(0, |sum, range| {
        sum.saturating_add(range.end.saturating_sub(range.start))
    })
}

async fn body(location: &Path, result: GetResult, planned: Option<&ETag>) -> Result<Extent, SourceError> {
    let start = result.range.start;
    let bytes = result
        .bytes()
        .await
        .map_err(|e| classified("get", location, planned, e))?;
    Ok(Extent { start, bytes })
}

fn same_content(meta: &ObjectMeta, planned: &ETag) -> Result<(), SourceError> {
    match meta.e_tag.as_ref().map(ETag::new) {
        Some(found) if found == *planned => Ok(()),
        Some(found) => Err(replaced(planned, found.to_string())),
        None => Err(no_etag(&meta.location)),
    }
}

fn replaced(planned: &ETag, found: String) -> SourceError {
    let planned = planned.to_string();
    QuarantineReason::Replaced { planned, found }.into()
}

pub(super) fn no_etag(location: &Path) -> SourceError {
    let message =
        format!("the store gives no entity tags, without which content cannot be told apart. object=`{location}`");
    SourceError::Unavailable(Error::new(ErrorKind::Unsupported, message))
}

fn classified(operation: &str, location: &Path, planned: Option<&ETag>, error: object_store::Error) -> SourceError {
    match (error, planned) {
        (object_store::Error::NotFound { .. }, _) => QuarantineReason::Vanished.into(),
        (object_store::Error::Precondition { .. }, Some(planned)) => replaced(planned, "unknown".to_owned()),
        (error, _) => SourceError::Unavailable(Error::from_store(operation, location, error)),
    }
}

/// A range of an empty object cannot be answered, and services say so in different ways: ask for the size.
async fn tail_failed(
    store: &dyn ObjectStore,
    location: &Path,
    if_match: Option<&ETag>,
    error: object_store::Error,
) -> SourceError {
    let error = classified("get", location, if_match, error);
    if matches!(error, SourceError::Bad(_)) {
        return error;
    }
    let head = GetOptions::new().with_if_match(if_match.map(ETag::raw)).with_head(true);
    match store.get_opts(location, head).await {
        Ok(result) if result.meta.size == 0 => QuarantineReason::corrupt("the object is empty").into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_ranges_become_one_request() {
        let far = COALESCE_BYTES * 4;
        let ranges = [far..far + 1, 10..20, 0..5, 30..30];
        assert_eq!(coalesced(&ranges), vec![0..20, far..far + 1]);
    }

    #[test]
    fn an_extent_gives_only_what_it_has() {
        let extent = Extent {
            start: 10,
            bytes: Bytes::from_static(b"abcdef"),
        };
        assert_eq!(extent.slice(&(11..13)).unwrap(), "bc");
        assert_eq!(extent.slice(&(9..12)), None);
        assert_eq!(extent.slice(&(14..17)), None);
    }
}
