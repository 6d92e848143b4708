//! Deleting what the table says is in it: guarded, idempotent, never anything else.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::error::{Error, Result};
use crate::halt::Halt;
use crate::ids::{AttemptId, LaneId, Seq};
use crate::ledger::{LaneError, Register};
use crate::naming::{ETag, SourceFile};
use crate::place::Place;
use crate::sink::{Confirmation, Decision, Outcome, TableSink};
use crate::time::Timestamp;

/// Requests under way at once while sources are looked at.
const CONCURRENT_REQUESTS: usize = 16;

/// What became of the sources of a committed plan.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reclaimed {
    /// Deleted now, or gone before.
    pub(crate) gone: usize,
    /// Kept, since their content is not the one that was merged.
    pub(crate) replaced: Vec<SourceFile>,
}

/// Deletes the sources of the committed plan `seq`, whose grace is over.
///
/// First the table confirms from its log that the rows are in. Then each source is deleted only if its etag
/// is still the planned one. Between those looks and the deletes lies an instant that no object store can
/// close: nobody may RESTORE a table within a reclaim, and writers do not reuse keys.
pub(crate) async fn reclaim(
    bucket: &Place,
    sink: &dyn TableSink,
    register: &Register,
    seq: Seq,
) -> Result<Reclaimed, LaneError> {
    let decision = confirmed_decision(sink, register, seq).await?;
    let plan = register.load_plan(seq).await?;
    let rows: u64 = decision.outputs.iter().map(|file| file.rows).sum();
    if decision.outcome != Outcome::Data || rows != plan.rows() {
        return Err(Halt::RegisterWrong {
            seq,
            detail: format!(
                "the decision does not account for the rows of its plan. decided=`{rows}` planned=`{}`",
                plan.rows()
            ),
        }
        .into());
    }
    let looks = futures::stream::iter(plan.sources.iter().map(|source| async move {
        let path = bucket.path(source.key.as_str())?;
        let found = head(bucket.store().as_ref(), &path).await?;
        Ok::<_, Error>((source, path, found))
    }));
    let looked: Vec<_> = looks.buffered(CONCURRENT_REQUESTS).try_collect().await?;
    let mut reclaimed = Reclaimed::default();
    let mut paths = Vec::new();
    for (source, path, found) in looked {
        let Some(meta) = found else {
            reclaimed.gone += 1;
            continue;
        };
        let etag = meta.e_tag.map(ETag::new);
        if etag.as_ref() == Some(&source.etag) {
            paths.push(path);
        } else {
            reclaimed.replaced.push(SourceFile {
                key: source.key.clone(),
                name: source.name.clone(),
                size: meta.size,
                etag,
            });
        }
    }
    reclaimed.gone += paths.len();
    delete_all(bucket.store().as_ref(), paths).await?;
    Ok(reclaimed)
}

/// The decision of `seq`, after the table has confirmed that its entry is still in.
async fn confirmed_decision(sink: &dyn TableSink, register: &Register, seq: Seq) -> Result<Decision, LaneError> {
    let lost = || Halt::RegisterLost {
        detail: format!("decision gone. seq=`{seq}`"),
    };
    let (decision, _) = register.load_decision(seq).await?.ok_or_else(lost)?;
    if Some(decision.plan_hash) != register.hash(seq) {
        return Err(Halt::RegisterWrong {
            seq,
            detail: "the decision is of another plan".to_owned(),
        }
        .into());
    }
    match sink.confirm(&decision).await? {
        Confirmation::Confirmed => Ok(decision),
        Confirmation::Refuted { reason } => Err(Halt::TableRolledBack {
            detail: format!("seq {seq} is not confirmed: {reason}"),
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

/// Deletes in bulk where the store can; that something is gone already is fine.
async fn delete_all(store: &dyn ObjectStore, paths: Vec<Path>) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let first = paths.first().cloned().unwrap_or_default();
    let stream = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
    let mut answers = store.delete_stream(stream);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(e) => return Err(Error::from_store("delete", &first, e)),
        }
    }
    Ok(())
}

/// Deletes what attempts that did not make it have left: data files of decided seqs under another attempt than
/// the decided one, once the table has confirmed that decision, and the control prefix's own scratch.
///
/// The committed attempt's files are never touched, referenced or not: time travel needs them.
pub(crate) async fn sweep(
    table_store: &dyn ObjectStore,
    data_dir: &Path,
    sink: &dyn TableSink,
    register: &Register,
    older_than: Timestamp,
) -> Result<usize, LaneError> {
    let mut orphans: BTreeMap<Seq, Vec<Path>> = BTreeMap::new();
    let mut listing = table_store.list(Some(data_dir));
    while let Some(meta) = listing.next().await {
        let meta = meta.map_err(|e| Error::from_store("list", data_dir, e))?;
        let name = meta.location.filename().and_then(OutputName::parse);
        let Some(name) = name.filter(|name| name.lane == register.lane()) else {
            continue;
        };
        let decided = register.decision(name.seq);
        let old = Timestamp::from(meta.last_modified) < older_than;
        if old && decided.is_some_and(|decision| decision.attempt != name.attempt) {
            orphans.entry(name.seq).or_default().push(meta.location);
        }
    }
    let mut swept = 0;
    for (seq, paths) in orphans {
        confirmed_decision(sink, register, seq).await?;
        swept += paths.len();
        delete_all(table_store, paths).await?;
    }
    for dir in [register.attempts_dir(), register.scratch_dir()] {
        swept += sweep_control(register, &dir, older_than).await?;
    }
    Ok(swept)
}

/// Scratch of decided or forgotten seqs: `{seq}-{attempt}` is a name or a directory right below `dir`.
async fn sweep_control(register: &Register, dir: &Path, older_than: Timestamp) -> Result<usize> {
    let store = register.store().as_ref();
    let mut paths = Vec::new();
    let mut listing = store.list(Some(dir));
    while let Some(meta) = listing.next().await {
        let meta = meta.map_err(|e| Error::from_store("list", dir, e))?;
        let part = meta.location.prefix_match(dir).and_then(|mut parts| parts.next());
        let seq = part.and_then(|part| part.as_ref().split_once('-').and_then(|(seq, _)| seq.parse().ok()));
        let Some(seq) = seq.map(Seq::new) else { continue };
        let decided = seq <= register.floor().seq || register.decision(seq).is_some();
        if decided && Timestamp::from(meta.last_modified) < older_than {
            paths.push(meta.location);
        }
    }
    let swept = paths.len();
    delete_all(store, paths).await?;
    Ok(swept)
}

/// The name of a data file: `{laneId}-{seq}-{attempt}-{part}.parquet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutputName {
    pub(crate) lane: LaneId,
    pub(crate) seq: Seq,
    pub(crate) attempt: AttemptId,
}

impl OutputName {
    /// The name without part and extension.
    pub(crate) fn stem(&self) -> String {
        format!("{}-{}-{}", self.lane, self.seq, self.attempt)
    }

    /// Reads a file name; anything else is `None`, and not ours to judge.
    pub(crate) fn parse(file_name: &str) -> Option<Self> {
        let mut parts = file_name.strip_suffix(".parquet")?.split('-');
        let lane = parts.next()?.parse().ok()?;
        let seq = Seq::new(parts.next()?.parse().ok()?);
        let attempt = parts.next()?.parse().ok()?;
        let part = parts.next()?;
        let whole = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && parts.next().is_none();
        whole.then_some(Self { lane, seq, attempt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_own_making_are_read() {
        let name = OutputName {
            lane: LaneId::from_u128(1),
            seq: Seq::new(12),
            attempt: AttemptId::from_u64(3),
        };
        assert_eq!(OutputName::parse(&format!("{}-00000.parquet", name.stem())), Some(name));
        for other in [
            "part-00000-abc.parquet",
            "00000000000000000000000000000001-12-0000000000000003.parquet",
            "00000000000000000000000000000001-12-0000000000000003-00000.parquet.tmp",
            "00000000000000000000000000000001-x-0000000000000003-00000.parquet",
        ] {
            assert_eq!(OutputName::parse(other), None, "{other}");
        }
    }
}
