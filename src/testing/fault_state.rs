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
        self.faults.land().await;
        let Step { index, course } = step;
        let fail = |applied, error: Error| {
            self.faults.end(index, applied, Some(error.chain()));
            Err(error)
        };
        match course {
            Course::Hang => futures::future::pending().await,
            Course::Refuse(fault) => fail(false, injected(fault, index)),
            Course::Tear => fail(false, injected(Fault::TornBody, index)),
            Course::Delay => fail(false, injected(Fault::AppliedLate, index)),
            Course::Apply(_) | Course::ApplyAndHang | Course::Pass | Course::Stale => match (operation.await, course) {
                (answer, Course::ApplyAndHang) => {
                    self.faults.end(index, answer.is_ok(), None);
                    futures::future::pending().await
                }
                (Err(error), _) => fail(false, error),
                (Ok(_), Course::Apply(fault)) => fail(true, injected(fault, index)),
                (Ok(value), _) => {
                    self.faults.end(index, true, None);
                    Ok(value)
                }
            },
        }
    }

    /// As [`carry_out`](Self::carry_out), and the fault may be that a write arrives late.
    async fn write<T: Send>(
        &self,
        step: Step,
        operation: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        if !matches!(step.course, Course::Delay) {
            return self.carry_out(step, operation).await;
        }
        let late = async { operation.await.map(drop).map_err(|error| error.chain()) };
        self.faults.send_late(step, late);
        self.carry_out(step, futures::future::pending()).await
    }

    /// Remembers what `key` holds before it is written.
    async fn remember(&self, key: &StateKey, step: Step) -> Result<()> {
        if matches!(
            step.course,
            Course::Delay | Course::Hang | Course::Refuse(_) | Course::Tear
        ) {
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
        let (inner, key, expected) = (Arc::clone(&self.inner), key.clone(), expected.cloned());
        let save = async move { inner.save(&key, bytes, expected.as_ref()).await };
        self.write(step, save).await
    }

    async fn delete(&self, key: &StateKey, expected: &StateVersion) -> Result<DeleteOutcome> {
        let step = self.begin(OperationKind::StateDelete, key, 0);
        self.remember(key, step).await?;
        let (inner, key, expected) = (Arc::clone(&self.inner), key.clone(), expected.clone());
        let delete = async move { inner.delete(&key, &expected).await };
        self.write(step, delete).await
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
