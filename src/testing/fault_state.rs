//! A state store on which one chosen operation goes wrong.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::fault::{Course, Fault, Faults, InjectedFault, OperationKind, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::state::{DeleteOutcome, SaveOutcome, StateKey, StateStore, StateVersion, StoredState};

/// Wraps a state store: counts and logs every operation, and strikes with the [`Fault`] planned for its
/// number. Share one [`Faults`] with the object stores of a run.
#[derive(Debug)]
pub struct FaultStateStore {
    inner: Arc<dyn StateStore>,
    faults: Faults,
    /// What each key held before its newest write, for stale reads.
    before: Mutex<BTreeMap<StateKey, Option<StoredState>>>,
}

impl FaultStateStore {
    /// Wraps `inner`; in the log it is named `state`.
    pub fn new(inner: Arc<dyn StateStore>, faults: &Faults) -> Self {
        Self {
            inner,
            faults: faults.clone(),
            before: Mutex::default(),
        }
    }

    fn begin(&self, kind: OperationKind, key: &StateKey, bytes: usize) -> Step {
        self.faults.begin("state", kind, key.as_str(), bytes)
    }

    async fn carry_out<T>(&self, step: Step, operation: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let Step { index, course } = step;
        let fail = |applied, error: Error| {
            self.faults.end(index, applied, Some(error.chain()));
            Err(error)
        };
        match course {
            Course::Hang => futures::future::pending().await,
            Course::Refuse(fault) => fail(false, injected(fault, index)),
            Course::Tear => fail(false, injected(Fault::TornBody, index)),
            Course::Apply(_) | Course::ApplyAndHang | Course::Pass | Course::Stale => match (operation.await, course) {
                (Err(error), _) => fail(false, error),
                (Ok(_), Course::Apply(fault)) => fail(true, injected(fault, index)),
                (Ok(_), Course::ApplyAndHang) => {
                    self.faults.end(index, true, None);
                    futures::future::pending().await
                }
                (Ok(value), _) => {
                    self.faults.end(index, true, None);
                    Ok(value)
                }
            },
        }
    }

    /// Remembers what `key` holds before it is written.
    async fn remember(&self, key: &StateKey, step: Step) -> Result<()> {
        if matches!(step.course, Course::Hang | Course::Refuse(_) | Course::Tear) {
            return Ok(());
        }
        let before = self.inner.load(key).await?;
        let mut remembered = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.insert(key.clone(), before);
        Ok(())
    }
}

#[async_trait]
impl StateStore for FaultStateStore {
    async fn load(&self, key: &StateKey) -> Result<Option<StoredState>> {
        let step = self.begin(OperationKind::StateLoad, key, 0);
        if matches!(step.course, Course::Stale) {
            let remembered = self.before.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(before) = remembered.get(key) {
                self.faults.end(step.index, true, None);
                return Ok(before.clone());
            }
        }
        self.carry_out(step, self.inner.load(key)).await
    }

    async fn save(&self, key: &StateKey, bytes: Bytes, expected: Option<&StateVersion>) -> Result<SaveOutcome> {
        let step = self.begin(OperationKind::StateSave, key, bytes.len());
        self.remember(key, step).await?;
        self.carry_out(step, self.inner.save(key, bytes, expected)).await
    }

    async fn delete(&self, key: &StateKey, expected: &StateVersion) -> Result<DeleteOutcome> {
        let step = self.begin(OperationKind::StateDelete, key, 0);
        self.remember(key, step).await?;
        self.carry_out(step, self.inner.delete(key, expected)).await
    }

    fn list(&self, prefix: &StateKey) -> BoxStream<'_, Result<StateKey>> {
        let prefix = prefix.clone();
        let keys = async move {
            let step = self.begin(OperationKind::StateList, &prefix, 0);
            self.carry_out(step, self.inner.list(&prefix).try_collect::<Vec<_>>())
                .await
        };
        stream::once(keys)
            .map_ok(|keys| stream::iter(keys.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }
}

fn injected(fault: Fault, index: usize) -> Error {
    Error::new(ErrorKind::Unavailable, "state store failed").with_source(InjectedFault { fault, index })
}
