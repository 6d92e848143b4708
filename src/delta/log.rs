//! Reads a table's log from an object store.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::action::Action;
use super::checkpoint::{CheckpointState, read_state};
use super::commit::{commit_path, log_dir};
use super::error::LogError;
use super::hint;
use super::lines::each_line;
use super::parquet_stream::read_object;
use super::segment::{CheckpointFiles, Listing};
use super::snapshot::{PartialSnapshot, Snapshot};
use crate::error::{Error, ErrorKind, Result};

/// How often a log is listed again when writers or a clean-up overtook the listing.
const LISTINGS: usize = 3;

/// The log of one table.
#[derive(Clone, Debug)]
pub(super) struct Log {
    store: Arc<dyn ObjectStore>,
    root: Path,
}

/// A table as its log has it.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) snapshot: Snapshot,
    /// The commit that makes the snapshot's version, where it is still there.
    newest_commit: Option<ObjectMeta>,
}

/// A checkpoint and the commits after it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) checkpoint: Option<(CheckpointFiles, CheckpointState)>,
    pub(super) commits: Vec<(u64, ObjectMeta)>,
}

impl Log {
    pub(super) fn new(store: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self { store, root }
    }

    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn dir(&self) -> Path {
        log_dir(&self.root)
    }

    /// The actions of a commit that `keep` wants; `None` when there is none of this version, or not any more. No others
    /// are held in memory: a commit may list every file of the table.
    pub(super) async fn commit(
        &self,
        version: u64,
        mut keep: impl FnMut(&Action) -> bool + Send,
    ) -> Result<Option<Vec<Action>>> {
        let mut kept = Vec::new();
        let each = self.each_action(version, |action| {
            if keep(&action) {
                kept.push(action);
            }
            Ok(())
        });
        Ok(each.await?.map(|()| kept))
    }

    /// Hands over the actions of a commit one by one; `None` as for [`commit`](Self::commit).
    pub(super) async fn each_action(
        &self,
        version: u64,
        mut take: impl FnMut(Action) -> Result<()> + Send,
    ) -> Result<Option<()>> {
        let each = self.each_line(version, |number, line| {
            Action::parse_line(number, line)?.into_iter().try_for_each(&mut take)
        });
        Ok(each.await?.map(drop))
    }

    /// The actions of a commit that are not files.
    pub(super) async fn commit_state(&self, version: u64) -> Result<Option<(Vec<Action>, ObjectMeta)>> {
        let mut state = Vec::new();
        let each = self.each_line(version, |number, line| {
            state.extend(Action::parse_state_line(number, line)?);
            Ok(())
        });
        Ok(each.await?.map(|meta| (state, meta)))
    }

    async fn each_line(
        &self,
        version: u64,
        mut take: impl FnMut(usize, &[u8]) -> Result<()> + Send,
    ) -> Result<Option<ObjectMeta>> {
        let path = commit_path(&self.root, version);
        let mut is_empty = true;
        let read = each_line(&self.store, &path, |number, line| {
            is_empty = false;
            take(number, line)
        });
        let meta = at(&path, read.await)?;
        match meta {
            Some(_) if is_empty => at(&path, Err(LogError::EmptyCommit.into())),
            meta => Ok(meta),
        }
    }

    /// The table; `None` when there is no log. `known` spares reading what has been read before.
    pub(super) async fn load(&self, known: Option<&Loaded>) -> Result<Option<Loaded>> {
        if let Some(known) = known
            && let Some(loaded) = self.go_on(known).await?
        {
            return Ok(Some(loaded));
        }
        let mut last = None;
        for _ in 0..LISTINGS {
            match self.load_once().await {
                Ok(Some(loaded)) => return self.read_on(loaded).await.map(Some),
                Ok(None) => return Ok(None),
                Err(Overtaken::Retry(error)) => last = Some(error),
                Err(Overtaken::Final(error)) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Internal, "log was never listed")))
    }

    /// Reads on from a state that was read before, if its newest commit is still the very same object:
    /// a table that was dropped, rolled back or made anew must not be taken for the old one.
    async fn go_on(&self, known: &Loaded) -> Result<Option<Loaded>> {
        let Some(newest) = known.newest_commit.as_ref().filter(|meta| meta.e_tag.is_some()) else {
            return Ok(None);
        };
        let mut listing = Listing::default();
        self.list(&mut listing, Some(known.snapshot.version())).await?;
        if listing.commit(known.snapshot.version()).map(identity) != Some(identity(newest)) {
            return Ok(None);
        }
        let last = listing.newest().unwrap_or_default();
        if listing.commits_after(Some(known.snapshot.version()), last).is_err() {
            return Ok(None);
        }
        let loaded = self.read_on(known.clone()).await?;
        Ok(Some(loaded).filter(|loaded| loaded.snapshot.version() >= last))
    }

    /// Reads the commits after those that have been read, by their names: a listing may lag behind, and a table that
    /// seems to be older than it is looks as if it had been rolled back.
    async fn read_on(&self, mut loaded: Loaded) -> Result<Loaded> {
        while let Some((actions, meta)) = self.commit_state(loaded.snapshot.version().saturating_add(1)).await? {
            loaded.snapshot.apply(&actions)?;
            loaded.newest_commit = Some(meta);
        }
        Ok(loaded)
    }

    async fn load_once(&self) -> Result<Option<Loaded>, Overtaken> {
        let Some(segment) = self.segment(None).await? else {
            return Ok(None);
        };
        let mut state = PartialSnapshot::default();
        let mut version = 0;
        if let Some((checkpoint, contents)) = &segment.checkpoint {
            version = checkpoint.version;
            for action in &contents.actions {
                state.apply(action, None);
            }
            // A checkpoint holds neither the time nor the writer of its own version.
            if segment.commits.is_empty()
                && let Some((actions, meta)) = self.commit_state(version).await?
            {
                for action in &actions {
                    state.apply(action, Some(version));
                }
                let snapshot = state.finish(version)?;
                return Ok(Some(Loaded {
                    snapshot,
                    newest_commit: Some(meta),
                }));
            }
        }
        let mut newest_commit = None;
        for (commit, _) in &segment.commits {
            let Some((actions, meta)) = self.commit_state(*commit).await? else {
                return Err(Overtaken::Retry(Error::new(
                    ErrorKind::Unavailable,
                    format!("a commit went away while the log was read. version=`{commit}`"),
                )));
            };
            state.begin_commit();
            for action in &actions {
                state.apply(action, Some(*commit));
            }
            (version, newest_commit) = (*commit, Some(meta));
        }
        Ok(Some(Loaded {
            snapshot: state.finish(version)?,
            newest_commit,
        }))
    }

    /// What has to be read for the version `at`, or the newest.
    pub(super) async fn segment(&self, at: Option<u64>) -> Result<Option<Segment>, Overtaken> {
        let hint = read_object(&self.store, &self.dir().join(hint::NAME)).await?;
        if let Some((bytes, _)) = &hint
            && let Some(version) = hint::parse_hint(bytes)
        {
            let mut listing = Listing::default();
            self.list(&mut listing, Some(version)).await?;
            let known =
                |checkpoints: &[CheckpointFiles]| checkpoints.iter().any(|c| at.is_none_or(|at| c.version <= at));
            // A hint that dangles, or names a checkpoint that nobody can read, is none.
            if known(&listing.checkpoints_newest_first())
                && let Ok(Some(segment)) = self.choose(&listing, at, false).await
            {
                return Ok(Some(segment));
            }
        }
        let mut listing = Listing::default();
        self.list(&mut listing, None).await?;
        let segment = self.choose(&listing, at, true).await?;
        if segment.is_none() {
            self.check_absence(hint.map(|(bytes, _)| bytes)).await?;
        }
        Ok(segment)
    }

    /// Nothing is listed: fails where that does not mean that there is no table.
    async fn check_absence(&self, hint: Option<Bytes>) -> Result<(), Overtaken> {
        let first = hint.as_deref().and_then(hint::parse_hint).unwrap_or(0);
        let path = commit_path(&self.root, first);
        if read_object(&self.store, &path).await?.is_some() {
            let message = format!("a listing lacks a commit that is there. object=`{path}`");
            return Err(Overtaken::Retry(Error::new(ErrorKind::Unavailable, message)));
        }
        if hint.is_some() {
            // Not a place without a table: the log of one that was there is lost.
            return Err(LogError::Missing {
                action: "commit",
                version: 0,
            }
            .into());
        }
        Ok(())
    }

    async fn choose(&self, listing: &Listing, at: Option<u64>, whole: bool) -> Result<Option<Segment>, Overtaken> {
        let Some(newest) = listing.newest() else {
            return Ok(None);
        };
        let newest = at.unwrap_or(newest);
        let mut failure = None;
        for checkpoint in listing.checkpoints_newest_first() {
            if checkpoint.version > newest {
                continue;
            }
            let commits = match listing.commits_after(Some(checkpoint.version), newest) {
                Ok(commits) => commits,
                Err(gap) => {
                    failure.get_or_insert(Overtaken::Retry(gap.into()));
                    continue;
                }
            };
            match read_state(&self.store, &checkpoint).await {
                Ok(state) => {
                    return Ok(Some(Segment {
                        checkpoint: Some((checkpoint, state)),
                        commits,
                    }));
                }
                // Half written, or not for us to understand: an older one and the commits after it will do.
                Err(error) if error.kind() != ErrorKind::Unavailable => {
                    failure.get_or_insert(Overtaken::Final(error));
                }
                Err(error) => return Err(Overtaken::Retry(error)),
            }
        }
        if !whole {
            return Ok(None);
        }
        match listing.commits_after(None, newest) {
            Ok(commits) => Ok(Some(Segment {
                checkpoint: None,
                commits,
            })),
            Err(gap) => Err(failure.unwrap_or_else(|| Overtaken::Retry(gap.into()))),
        }
    }

    async fn list(&self, listing: &mut Listing, from: Option<u64>) -> Result<()> {
        let dir = self.dir();
        let failed = |e| Error::from_store("list", &dir, e);
        let mut objects = match from {
            // Every name of this version begins with it and is longer, so none is left out.
            Some(version) => {
                let offset = dir.clone().join(format!("{version:020}"));
                self.store.list_with_offset(Some(&dir), &offset)
            }
            None => self.store.list(Some(&dir)),
        };
        while let Some(object) = objects.try_next().await.map_err(failed)? {
            listing.push(&dir, object);
        }
        Ok(())
    }
}

/// Why a log could not be read.
#[derive(Debug)]
pub(super) enum Overtaken {
    Final(Error),
    /// Perhaps the listing was overtaken by a writer or a clean-up: list again.
    Retry(Error),
}

impl From<Error> for Overtaken {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl From<Overtaken> for Error {
    fn from(overtaken: Overtaken) -> Self {
        match overtaken {
            Overtaken::Final(error) | Overtaken::Retry(error) => error,
        }
    }
}

impl From<LogError> for Overtaken {
    fn from(error: LogError) -> Self {
        Self::Final(error.into())
    }
}

/// Times are left out: a listing may give them finer than a read.
fn identity(meta: &ObjectMeta) -> (Option<&str>, u64) {
    (meta.e_tag.as_deref(), meta.size)
}

/// Names the object in the error.
fn at<T>(path: &Path, result: Result<T>) -> Result<T> {
    result.map_err(|e| Error::new(e.kind(), format!("commit cannot be read. object=`{path}`")).with_source(e))
}
