//! Work that is given to the host's executor.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{BoxFuture, Either, select};
use futures::task::{FutureObj, Spawn};

use super::error::MergeError;

/// Where rows are decoded and encoded beside the merge.
#[derive(Clone)]
pub(super) struct Spawner(Arc<dyn Spawn + Send + Sync>);

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spawner")
    }
}

impl Spawner {
    pub(super) fn new(spawn: Arc<dyn Spawn + Send + Sync>) -> Self {
        Self(spawn)
    }

    /// Starts `work`. Once the task is dropped it goes no further than to the end of its step.
    pub(super) fn start<T, F>(&self, work: F) -> Result<Task<T>, MergeError>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (mut done, outcome) = oneshot::channel();
        let work = Box::pin(async move {
            let ended = match select(pin!(work), done.cancellation()).await {
                Either::Left((ended, _)) => ended,
                Either::Right(_) => return,
            };
            let _ = done.send(ended);
        });
        self.0
            .spawn_obj(FutureObj::new(work))
            .map_err(|_| MergeError::Spawner)?;
        Ok(Task(outcome))
    }
}

/// Least bytes of rows that are worth a task.
pub(super) const TASK_BYTES: u64 = 64 << 10;

/// Starts `work` with the spawner; without one it is done where it is awaited.
pub(super) fn start_or_keep<T, F>(
    spawner: Option<&Spawner>,
    work: F,
) -> Result<BoxFuture<'static, Result<T, MergeError>>, MergeError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, MergeError>> + Send + 'static,
{
    let Some(spawner) = spawner else {
        return Ok(work.boxed());
    };
    let task = spawner.start(work)?;
    Ok(async { task.outcome().await? }.boxed())
}

/// Work under way.
#[derive(Debug)]
pub(super) struct Task<T>(oneshot::Receiver<T>);

impl<T> Task<T> {
    /// Its outcome; an error if the executor has let go of it.
    pub(super) async fn outcome(self) -> Result<T, MergeError> {
        self.0.await.map_err(|_| MergeError::Spawner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::executor::{LocalPool, block_on};
    use futures::task::SpawnError;

    use super::*;

    /// Takes tasks and drops them, or takes none.
    #[derive(Debug)]
    struct Closed {
        takes: bool,
        taken: Mutex<usize>,
    }

    impl Spawn for Closed {
        fn spawn_obj(&self, _task: FutureObj<'static, ()>) -> Result<(), SpawnError> {
            *self.taken.lock().unwrap() += 1;
            if self.takes {
                Ok(())
            } else {
                Err(SpawnError::shutdown())
            }
        }
    }

    #[test]
    fn an_executor_that_does_not_run_its_tasks_is_an_error() {
        for takes in [false, true] {
            let spawner = Spawner::new(Arc::new(Closed {
                takes,
                taken: Mutex::new(0),
            }));
            let outcome = spawner.start(async { 1 }).map(|task| block_on(task.outcome()));
            assert!(
                matches!(outcome, Err(MergeError::Spawner) | Ok(Err(MergeError::Spawner))),
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn a_task_runs_where_it_was_spawned() {
        let mut pool = LocalPool::new();
        let (done, outcome) = oneshot::channel();
        let work = Box::pin(async move { done.send(7).unwrap() });
        pool.spawner().spawn_obj(FutureObj::new(work)).unwrap();
        assert_eq!(pool.run_until(Task(outcome).outcome()).unwrap(), 7);
    }
}
