//! Deleting what the table says is in it: guarded, idempotent, never anything else.

use std::collections::BTreeMap;

use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::error::{Error, Result};
use crate::halt::{Halt, LaneError};
use crate::ids::{AttemptId, LaneId, Seq};
use crate::merge::{SourceError, read_footer};
use crate::naming::{ETag, SourceFile};
use crate::place::Place;
use crate::plan::{Plan, PlannedSource};
use crate::sink::{Confirmation, Decision, Outcome, TableSink};
use crate::time::Timestamp;

/// Requests under way at once while sources are looked at.
const CONCURRENT_REQUESTS: usize = 16;

/// What became of the sources of a committed plan.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reclaimed {
    /// Deleted by this call; others were gone before.
    pub(crate) deleted: usize,
    /// Kept, since their content is not the one that was merged.
    pub(crate) replaced: Vec<SourceFile>,
    /// Kept, since only their size and footer are those of what was merged; with the entity tag of that.
    pub(crate) uploaded_again: Vec<(SourceFile, ETag)>,
}

/// Deletes the sources of a committed plan whose grace is over.
///
/// First the table confirms from its log that the rows are in. Then each source is deleted only if its etag
/// is still the planned one. Between those looks and the deletes lies an instant that no object store can
/// close: nobody may RESTORE a table within a reclaim, and writers do not reuse keys.
pub(crate) async fn reclaim(
    bucket: &Place,
    sink: &dyn TableSink,
    plan: &Plan,
    decision: &Decision,
) -> Result<Reclaimed, LaneError> {
    let seq = decision.seq;
    if let Err(error) = confirm(sink, decision).await {
        // After a loss of the state a table is asked about entries that its history has forgotten since they were
        // reclaimed.
        let is_over = error.is_refuted() && none_left(bucket, plan).await?;
        return if is_over { Ok(Reclaimed::default()) } else { Err(error) };
    }
    let rows: u64 = decision.outputs.iter().map(|file| file.rows).sum();
    if decision.outcome != Outcome::Data || rows != plan.rows() {
        let detail = format!(
            "the decision does not account for the rows of its plan. decided=`{rows}` planned=`{}`",
            plan.rows()
        );
        return Err(Halt::RegisterWrong { seq, detail }.into());
    }
    let looks: Vec<_> = plan
        .sources
        .iter()
        .map(|source| {
            let look = async move {
                let path = bucket.path(source.key.as_str())?;
                let found = head(bucket.store().as_ref(), &path).await?;
                Ok::<_, Error>((source, path, found))
            };
            look.boxed()
        })
        .collect();
    let looked: Vec<_> = futures::stream::iter(looks)
        .buffered(CONCURRENT_REQUESTS)
        .try_collect()
        .await?;
    let mut reclaimed = Reclaimed::default();
    let mut paths = Vec::new();
    for (source, path, found) in looked {
        let Some(meta) = found else { continue };
        let etag = meta.e_tag.map(ETag::new);
        if etag.as_ref() == Some(&source.etag) {
            paths.push(path);
            continue;
        }
        let file = SourceFile {
            key: source.key.clone(),
            name: source.name.clone(),
            size: meta.size,
            etag,
        };
        if is_same_content(bucket.store().as_ref(), &path, &file, source).await? {
            reclaimed.uploaded_again.push((file, source.etag.clone()));
        } else {
            reclaimed.replaced.push(file);
        }
    }
    reclaimed.deleted = delete_all(bucket.store().as_ref(), paths).await?;
    Ok(reclaimed)
}

/// Whether a file that took the place of a planned one has its size and footer.
async fn is_same_content(
    store: &dyn ObjectStore,
    path: &Path,
    file: &SourceFile,
    planned: &PlannedSource,
) -> Result<bool> {
    if file.size != planned.size {
        return Ok(false);
    }
    match read_footer(store, path, file.etag.as_ref()).await {
        Ok(footer) => Ok(footer.digest == planned.footer),
        // Bad content is other content, and is found bad again when it is drafted.
        Err(SourceError::Bad(_)) => Ok(false),
        Err(SourceError::Unavailable(error)) => Err(error),
    }
}

/// Whether no source of a plan is in the bucket any more.
async fn none_left(bucket: &Place, plan: &Plan) -> Result<bool> {
    for source in &plan.sources {
        let path = bucket.path(source.key.as_str())?;
        if head(bucket.store().as_ref(), &path).await?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Asks the table whether the entry of a decision is still in; nothing is deleted otherwise.
pub(crate) async fn confirm(sink: &dyn TableSink, decision: &Decision) -> Result<(), LaneError> {
    match sink.confirm(decision).await? {
        Confirmation::Confirmed => Ok(()),
        Confirmation::Refuted { reason } => Err(Halt::TableRolledBack {
            detail: format!("seq {} is not confirmed: {reason}", decision.seq),
        }
        .into()),
    }
}

/// The metadata of `path`, `None` if there is no such object.
pub(crate) async fn head(store: &dyn ObjectStore, path: &Path) -> Result<Option<ObjectMeta>> {
    match store.head(path).await {
        Ok(meta) => Ok(Some(meta)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(Error::from_store("head", path, e)),
    }
}

/// Deletes in bulk where the store can, and says how many it has deleted; that something is gone already is fine.
pub(crate) async fn delete_all(store: &dyn ObjectStore, paths: Vec<Path>) -> Result<usize> {
    if paths.is_empty() {
        return Ok(0);
    }
    let first = paths.first().cloned().unwrap_or_default();
    let stream = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
    let mut answers = store.delete_stream(stream);
    let mut deleted = 0;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(_) => deleted += 1,
            Err(object_store::Error::NotFound { .. }) => {}
            Err(e) => return Err(Error::from_store("delete", &first, e)),
        }
    }
    Ok(deleted)
}

/// What attempts that did not make it have left in `dir`: files of a decided seq, under another attempt than the
/// decided one, or, of metadata, for another version of the table, and last modified before `older_than`.
///
/// The committed attempt's files are never among them, referenced or not: time travel needs them. Before they are
/// deleted the table has to [`confirm`] the decision.
pub(crate) async fn orphans(
    store: &dyn ObjectStore,
    dir: &Path,
    lane: LaneId,
    decided: impl Fn(Seq) -> Option<Committed> + Send,
    older_than: Timestamp,
) -> Result<BTreeMap<Seq, Vec<Path>>> {
    let mut orphans: BTreeMap<Seq, Vec<Path>> = BTreeMap::new();
    let mut listing = store.list(Some(dir));
    while let Some(meta) = listing.next().await {
        let meta = meta.map_err(|e| Error::from_store("list", dir, e))?;
        let name = meta.location.filename().and_then(OutputName::parse);
        let Some(name) = name.filter(|name| name.lane == lane) else {
            continue;
        };
        let old = Timestamp::from(meta.last_modified) < older_than;
        if old && decided(name.seq).is_some_and(|committed| !committed.owns(&name)) {
            orphans.entry(name.seq).or_default().push(meta.location);
        }
    }
    Ok(orphans)
}

/// What lies in a directory of scratch for seqs that are `over`: `{seq}-{attempt}` is a name or a directory right
/// below it.
pub(crate) async fn leftovers(
    store: &dyn ObjectStore,
    dir: &Path,
    over: impl Fn(Seq) -> bool + Send,
    older_than: Timestamp,
) -> Result<Vec<Path>> {
    let mut paths = Vec::new();
    let mut listing = store.list(Some(dir));
    while let Some(meta) = listing.next().await {
        let meta = meta.map_err(|e| Error::from_store("list", dir, e))?;
        let part = meta.location.prefix_match(dir).and_then(|mut parts| parts.next());
        let seq = part.and_then(|part| part.as_ref().split_once('-').and_then(|(seq, _)| seq.parse().ok()));
        if seq.map(Seq::new).is_some_and(&over) && Timestamp::from(meta.last_modified) < older_than {
            paths.push(meta.location);
        }
    }
    Ok(paths)
}

/// Whose files of a decided seq are the table's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Committed {
    pub(crate) attempt: AttemptId,
    /// The version or snapshot of the entry, as far as it is known.
    pub(crate) version: Option<u64>,
}

impl Committed {
    fn owns(&self, name: &OutputName) -> bool {
        let is_of_version = match (name.version, self.version) {
            (Some(of), Some(committed)) => of == committed,
            _ => true,
        };
        name.attempt == self.attempt && is_of_version
    }
}

/// The name of a file of an attempt: `{laneId}-{seq}-{attempt}-{part}.parquet`, or, of metadata,
/// `{laneId}-{seq}-{attempt}-{version}-{part}.avro`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutputName {
    pub(crate) lane: LaneId,
    pub(crate) seq: Seq,
    pub(crate) attempt: AttemptId,
    /// Of metadata: the version or snapshot that they were made for.
    pub(crate) version: Option<u64>,
}

/// What the names of an attempt's files begin with.
pub(crate) fn output_stem(lane: LaneId, seq: Seq, attempt: AttemptId) -> String {
    format!("{lane}-{seq}-{attempt}")
}

impl OutputName {
    /// Reads a file name; anything else is `None`, and not ours to judge.
    pub(crate) fn parse(file_name: &str) -> Option<Self> {
        let (stem, extension) = file_name.rsplit_once('.')?;
        let mut parts = stem.split('-');
        let lane = parts.next()?.parse().ok()?;
        let seq = Seq::new(parts.next()?.parse().ok()?);
        let attempt = parts.next()?.parse().ok()?;
        let version = match extension {
            "parquet" => None,
            "avro" => Some(parts.next()?.parse().ok()?),
            _ => return None,
        };
        let part = parts.next()?;
        let is_part = match version {
            None => part.bytes().all(|b| b.is_ascii_digit()),
            Some(_) => part.bytes().all(|b| b.is_ascii_alphanumeric()),
        };
        let whole = !part.is_empty() && is_part && parts.next().is_none();
        whole.then_some(Self {
            lane,
            seq,
            attempt,
            version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_of_another_version_are_nobodys_though_the_attempt_is_the_committed_one() {
        let committed = |version| Committed {
            attempt: AttemptId::from_u64(3),
            version,
        };
        let name = |attempt, version| OutputName {
            lane: LaneId::from_u128(1),
            seq: Seq::new(12),
            attempt: AttemptId::from_u64(attempt),
            version,
        };
        assert!(committed(Some(7)).owns(&name(3, Some(7))));
        assert!(!committed(Some(7)).owns(&name(3, Some(8))));
        assert!(committed(Some(7)).owns(&name(3, None)));
        assert!(!committed(Some(7)).owns(&name(4, Some(7))));
        assert!(committed(None).owns(&name(3, Some(8))), "what cannot be told stays");
    }

    #[test]
    fn only_names_of_our_own_making_are_read() {
        let name = OutputName {
            lane: LaneId::from_u128(1),
            seq: Seq::new(12),
            attempt: AttemptId::from_u64(3),
            version: None,
        };
        let stem = output_stem(name.lane, name.seq, name.attempt);
        assert_eq!(OutputName::parse(&format!("{stem}-00000.parquet")), Some(name));
        let metadata = OutputName {
            version: Some(77),
            ..name
        };
        assert_eq!(OutputName::parse(&format!("{stem}-77-m0.avro")), Some(metadata));
        for other in [
            "part-00000-abc.parquet",
            "00000000000000000000000000000001-12-0000000000000003.parquet",
            "00000000000000000000000000000001-12-0000000000000003-00000.parquet.tmp",
            "00000000000000000000000000000001-x-0000000000000003-00000.parquet",
            "00000000000000000000000000000001-12-0000000000000003-m0.avro",
            "00000000000000000000000000000001-12-0000000000000003-77-m0-x.avro",
        ] {
            assert_eq!(OutputName::parse(other), None, "{other}");
        }
    }
}
