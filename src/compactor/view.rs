//! Reading table and raw files together, each row once.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use object_store::ObjectMeta;

use crate::compactor::{Compactor, LaneSlot};
use crate::error::{Error, ErrorKind, Result};
use crate::halt::LaneError;
use crate::ids::Seq;
use crate::ledger::Verdict;
use crate::naming::{ETag, FileNameParser, Namespace, ObjectKey, SourceFile};
use crate::sink::Outcome;
use crate::time::Timestamp;

/// A namespace's rows at one moment: a version of its table, and the raw files that are not in it yet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReadView {
    /// The version or snapshot of the table to be read; `None` when there is no table yet.
    pub table_version: Option<u64>,
    /// The raw files to be read beside it, in order.
    pub files: Vec<SourceFile>,
    /// Until then every file of the view is there: the grace as it is counted before a deletion, less a tenth of it
    /// for clocks that differ while a plan is being merged.
    pub expires_at: Timestamp,
}

impl Compactor {
    /// What a reader reads to see every row of a namespace exactly once: between commit and reclaim rows are in
    /// the table and in their raw file.
    ///
    /// A file may still be in quarantine, or be written while the view is made; a file replaced after it was
    /// committed is not part of it.
    ///
    /// # Errors
    ///
    /// `Invalid` with a grace of 0, since raw files are then deleted under the reader; `Halted` when register and
    /// table contradict each other; `Unavailable` to be tried again.
    pub async fn read_view(&self, namespace: &Namespace, now: Timestamp) -> Result<ReadView> {
        let grace = self.shared.options.delete_grace_ms;
        if grace == 0 {
            return Err(Error::new(
                ErrorKind::Invalid,
                "a view needs a grace: with deleteGraceMs 0 raw files are deleted under its reader",
            ));
        }
        let Some(lane) = self.lanes.get(namespace).and_then(LaneSlot::open) else {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("no such namespace. namespace=`{namespace}`"),
            ));
        };
        let mut work = self.lane_work(lane, None, now);
        // The table first: what is committed afterwards is still in its raw files for the whole grace.
        let (_, table) = work.stand().await.map_err(Error::from)?;
        let in_table = table.decided.as_ref().map_or(Seq::ZERO, |decided| decided.marker.seq);
        let newest_is_data = table
            .decided
            .as_ref()
            .is_some_and(|d| d.marker.outcome == Outcome::Data);
        let register = work.register;
        let mut files = self.raw_files(namespace).await?;
        let windows: BTreeSet<Timestamp> = files
            .iter()
            .map(|file| self.tracker.window_of(namespace, file.name.timestamp).start)
            .collect();
        // By key alone: the same content uploaded again has another etag, and reclaimed plans count as well.
        let mut hidden: BTreeSet<ObjectKey> = BTreeSet::new();
        let planned = windows.iter().flat_map(|start| register.covering(*start));
        for seq in planned.filter(|seq| *seq <= in_table) {
            let committed = register.decision(seq).is_some() || (seq == in_table && newest_is_data);
            if committed {
                let plan = register.load_plan(seq).await.map_err(|e: LaneError| Error::from(e))?;
                hidden.extend(plan.sources.into_iter().map(|source| source.key));
            }
        }
        if lane.manifest.adopted {
            for start in &windows {
                let settled = register.settled(*start).await?.into_iter();
                hidden.extend(settled.filter(|s| s.verdict == Verdict::InTable).map(|s| s.key));
            }
        }
        files.retain(|file| !hidden.contains(&file.key));
        Ok(ReadView {
            table_version: table.table.map(|info| info.version),
            files,
            // A margin for clocks that differ.
            expires_at: now + (grace - grace / 10),
        })
    }

    /// The source files of a namespace that are in the bucket, in order.
    pub(super) async fn raw_files(&self, namespace: &Namespace) -> Result<Vec<SourceFile>> {
        let bucket = &self.shared.bucket;
        let prefix = bucket.path(self.shared.parser.prefix_of(namespace).trim_end_matches('/'))?;
        let listed: Vec<ObjectMeta> = bucket
            .store()
            .list(Some(&prefix))
            .try_collect()
            .await
            .map_err(|e| Error::from_store("list", &prefix, e))?;
        let mut files: Vec<SourceFile> = listed
            .into_iter()
            .filter_map(|meta| {
                let key = ObjectKey::new(bucket.key(&meta.location)?);
                let name = self
                    .shared
                    .parser
                    .parse(&key)
                    .ok()
                    .filter(|name| name.namespace == *namespace)?;
                Some(SourceFile {
                    key,
                    name,
                    size: meta.size,
                    etag: Some(ETag::new(meta.e_tag?)),
                })
            })
            .collect();
        files.sort_by(|a, b| a.order().cmp(&b.order()));
        Ok(files)
    }
}
