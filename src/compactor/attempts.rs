//! The memory of a lane's attempts: how many were started, and which files the last one uploaded.

use futures::{FutureExt, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::data_file::DataFile;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{AttemptId, Seq};
use crate::ledger::{Register, objects};
use crate::naming::ObjectKey;
use crate::reclaim::head;
use crate::sink::TableLayout;
use crate::state::{SaveOutcome, StateKey, StateStore, StateVersion};
use crate::time::Timestamp;

use std::collections::BTreeMap;

/// After so many attempts that named no culprit a plan is voided, and half of it drafted.
pub(crate) const MOST_ATTEMPTS: u32 = 5;

/// How often a save is repeated against other workers'.
const MOST_SAVES: usize = 8;

/// What is remembered of the attempts at a lane's newest plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Attempts {
    /// The plan meant.
    pub(crate) seq: Seq,
    /// How many were started, counted before each starts.
    pub(crate) started: u32,
    /// The last one that had all its files uploaded.
    pub(crate) uploaded: Option<AttemptId>,
    /// Most source bytes of the next plan, while plans are halved to find what breaks them.
    pub(crate) limit_bytes: Option<u64>,
    /// Sources that the store did not answer for, and since when.
    pub(crate) unreadable: BTreeMap<ObjectKey, Timestamp>,
}

impl Attempts {
    /// The same memory, turned to the plan `seq`.
    pub(crate) fn of(mut self, seq: Seq) -> Self {
        if self.seq != seq {
            self.seq = seq;
            self.started = 0;
            self.uploaded = None;
        }
        self
    }

    /// After a commit: plans may grow again.
    pub(crate) fn succeeded(&mut self, most_plan_bytes: u64) {
        self.limit_bytes = self
            .limit_bytes
            .map(|limit| limit.saturating_mul(2))
            .filter(|limit| *limit < most_plan_bytes);
    }
}

/// The key of a lane's [`Attempts`] in the state store.
#[derive(Debug)]
pub(crate) struct AttemptsKey(pub(crate) StateKey);

impl AttemptsKey {
    /// What is remembered; nothing, when it was lost.
    pub(crate) async fn load(&self, store: &dyn StateStore) -> Result<(Attempts, Option<StateVersion>)> {
        match store.load(&self.0).await? {
            // Losing it costs attempts, never rows: garbage is as good as nothing.
            Some(stored) => Ok((
                serde_json::from_slice(&stored.bytes).unwrap_or_default(),
                Some(stored.version),
            )),
            None => Ok((Attempts::default(), None)),
        }
    }

    /// Loads, changes and saves, again and again while other workers do the same.
    pub(crate) async fn update(
        &self,
        store: &dyn StateStore,
        change: impl Fn(&mut Attempts) + Send + Sync,
    ) -> Result<Attempts> {
        let mut overtaken = None;
        for _ in 0..MOST_SAVES {
            let (mut attempts, version) = self.load(store).await?;
            let before = attempts.clone();
            if overtaken.as_ref() == Some(&before) {
                return Ok(before);
            }
            change(&mut attempts);
            if attempts == before && version.is_some() {
                return Ok(attempts);
            }
            match store.save(&self.0, objects::encode(&attempts)?, version.as_ref()).await {
                Ok(SaveOutcome::Saved(_)) => return Ok(attempts),
                Ok(SaveOutcome::Conflict) => {}
                // Whether it was written cannot be told: a count too many or too few does no harm.
                Err(error) if error.kind() == ErrorKind::Conflict => overtaken = Some(attempts),
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("state saved by others again and again. key=`{}`", self.0),
        ))
    }
}

/// Writes down which files an attempt has uploaded.
pub(crate) async fn save_files(register: &Register, seq: Seq, attempt: AttemptId, files: &[DataFile]) -> Result<()> {
    let path = register.attempt_path(seq, attempt);
    objects::create_once(register.store().as_ref(), &path, objects::encode(&files)?).await?;
    Ok(())
}

/// The files of an attempt, if they were written down and are not older than `not_before`.
pub(crate) async fn load_files(
    register: &Register,
    seq: Seq,
    attempt: AttemptId,
    not_before: Timestamp,
) -> Result<Option<Vec<DataFile>>> {
    let path = register.attempt_path(seq, attempt);
    match objects::read(register.store().as_ref(), &path).await? {
        Some((bytes, meta)) if Timestamp::from(meta.last_modified) >= not_before => {
            objects::decode(&path, &bytes).map(Some)
        }
        _ => Ok(None),
    }
}

/// Whether all files are where they should be, in their full size.
pub(crate) async fn all_there(layout: &TableLayout, files: &[DataFile]) -> Result<bool> {
    // Gathered first: a closure that is held while the stream is polled would not be `Send` for every lifetime.
    let looks: Vec<_> = files
        .iter()
        .map(|file| {
            let look = async move {
                let path = crate::place::parse_path(&file.path)?;
                let found = head(layout.store.as_ref(), &path).await?;
                Ok::<_, Error>(found.is_some_and(|meta| meta.size == file.size))
            };
            look.boxed()
        })
        .collect();
    let looked: Vec<bool> = futures::stream::iter(looks).buffered(8).try_collect().await?;
    Ok(looked.into_iter().all(|there| there))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::executor::block_on;

    use super::*;
    use crate::state::MemoryStateStore;

    #[test]
    fn the_count_begins_anew_with_another_plan_and_what_is_not_of_a_plan_stays() {
        let attempts = Attempts {
            seq: Seq::new(3),
            started: 4,
            uploaded: Some(AttemptId::from_u64(9)),
            limit_bytes: Some(100),
            unreadable: BTreeMap::from([(ObjectKey::new("k"), Timestamp::from_millis(1))]),
        };
        assert_eq!(attempts.clone().of(Seq::new(3)), attempts);
        let next = Attempts {
            seq: Seq::new(4),
            started: 0,
            uploaded: None,
            ..attempts.clone()
        };
        assert_eq!(attempts.of(Seq::new(4)), next);
    }

    #[test]
    fn a_limit_doubles_with_every_commit_until_it_is_none() {
        let mut attempts = Attempts {
            limit_bytes: Some(30),
            ..Attempts::default()
        };
        let limits = std::iter::from_fn(|| {
            attempts.succeeded(100);
            attempts.limit_bytes
        });
        assert_eq!(limits.collect::<Vec<_>>(), [60]);
        assert_eq!(attempts.limit_bytes, None);
    }

    #[test]
    fn every_update_of_two_workers_counts_and_garbage_is_as_good_as_nothing() {
        block_on(async {
            let store = MemoryStateStore::new();
            let key = AttemptsKey(StateKey::new(["attempts"]));
            let saved = store.save(&key.0, "garbage".into(), None).await.unwrap();
            assert!(matches!(saved, SaveOutcome::Saved(_)));
            assert_eq!(key.load(&store).await.unwrap().0, Attempts::default());
            // Another worker saves between this one's load and save.
            let overtaken = AtomicBool::new(false);
            let count = |attempts: &mut Attempts| {
                if !overtaken.swap(true, Ordering::SeqCst) {
                    let other = key.update(&store, |attempts| attempts.started += 1);
                    assert_eq!(other.now_or_never().unwrap().unwrap().started, 1);
                }
                attempts.started += 1;
            };
            assert_eq!(key.update(&store, count).await.unwrap().started, 2);
            assert_eq!(key.load(&store).await.unwrap().0.started, 2);
        });
    }
}
