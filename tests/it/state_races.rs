//! Numbered state objects are a linearizable compare-and-set under every interleaving of their requests.
//!
//! Each request to the store is one step; the schedules of several workers are enumerated up to a number of
//! preemptions and run from the start. What really happened is read from the store's own log: the first object
//! ever created under a number is the write of that number, whatever its writer believes. A schedule that
//! leaves a worker behind is also one in which that worker has crashed.
#![cfg(feature = "testing")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use firnline::testing::SeededRandomness;
use firnline::{DeleteOutcome, ErrorKind, ObjectStoreStateStore, SaveOutcome, StateKey, StateStore, StateVersion};
use futures::executor::block_on;
use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::{BoxStream, StreamExt};
use futures::task::noop_waker_ref;

/// What a worker does, one after the other.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Saves on the version that it read before the others began.
    SaveOnOld,
    /// Loads and saves.
    LoadAndSave,
    /// Loads and deletes, if there is something.
    LoadAndDelete,
    /// Saves where it believes that there is nothing.
    Create,
    Load,
}

/// An ended call, with the newest number before and after it.
#[derive(Debug)]
struct Call {
    heads: Range<u64>,
    did: Did,
}

#[derive(Debug)]
enum Did {
    Load(Option<(u64, Bytes)>),
    /// The value, `None` for a delete, and the number if the writer was told that it had won.
    Write(Option<Bytes>, Option<u64>),
    Unknown,
}

#[derive(Debug, Default)]
struct Tally {
    runs: u64,
    ghosts: u64,
    conflicts: u64,
    unknown: u64,
}

#[test]
fn a_late_writer_never_wins_under_a_number_that_was_removed() {
    use Act::*;
    let tally = explore(&[&[SaveOnOld], &[LoadAndSave, LoadAndSave, LoadAndSave]], 4);
    assert!(tally.ghosts > 20 && tally.conflicts > 100, "{tally:?}");
    assert!(tally.unknown > 0 && tally.unknown < tally.runs / 10, "{tally:?}");
}

#[test]
fn two_writers_and_a_third_that_cleans_lose_nothing() {
    use Act::*;
    let tally = explore(&[&[LoadAndSave], &[LoadAndSave, Load], &[LoadAndSave, LoadAndSave]], 3);
    assert!(tally.conflicts > 100, "{tally:?}");
}

#[test]
fn two_late_writers_on_one_version_do_not_take_each_others_ghost_for_a_win() {
    use Act::*;
    let tally = explore(
        &[
            &[SaveOnOld],
            &[SaveOnOld, Load],
            &[LoadAndSave, LoadAndSave, LoadAndSave],
        ],
        3,
    );
    assert!(tally.ghosts > 20, "{tally:?}");
}

#[test]
fn deletes_and_creates_are_writes_like_others() {
    use Act::*;
    let tally = explore(
        &[
            &[LoadAndDelete, Create],
            &[LoadAndSave, Create],
            &[Create, LoadAndDelete],
        ],
        3,
    );
    assert!(tally.conflicts > 100, "{tally:?}");
}

#[test]
fn a_late_reader_never_reads_a_ghost() {
    use Act::*;
    let tally = explore(&[&[SaveOnOld], &[Load], &[LoadAndSave, LoadAndSave, LoadAndSave]], 4);
    assert!(tally.ghosts > 20, "{tally:?}");
}

/// Runs all schedules of `workers` with at most `preemptions`.
fn explore(workers: &[&[Act]], preemptions: usize) -> Tally {
    let mut tally = Tally::default();
    let mut schedule: Vec<usize> = Vec::new();
    loop {
        let choices = run(workers, &schedule, preemptions, &mut tally);
        // The last step at which another worker could have been chosen is the next to differ.
        let Some(at) = (0..choices.len()).rev().find(|&at| choices[at].0 + 1 < choices[at].1) else {
            println!("{tally:?}");
            return tally;
        };
        schedule = choices[..at].iter().map(|choice| choice.0).collect();
        schedule.push(choices[at].0 + 1);
    }
}

/// One run; returns for each step which of how many choices was taken.
fn run(workers: &[&[Act]], schedule: &[usize], preemptions: usize, tally: &mut Tally) -> Vec<(usize, usize)> {
    let store = Arc::new(SteppedStore::default());
    let state =
        ObjectStoreStateStore::new(store.clone(), Path::from("s")).with_randomness(Arc::new(SeededRandomness::new(7)));
    let key = StateKey::new(["k"]);
    let Ok(SaveOutcome::Saved(old)) = block_on(state.save(&key, "first".into(), None)) else {
        panic!("the first save wins");
    };
    let calls = Rc::new(RefCell::new(Vec::new()));
    let mut tasks: Vec<Option<LocalBoxFuture<'_, ()>>> = workers
        .iter()
        .enumerate()
        .map(|(worker, acts)| {
            let task = work(worker, acts, &state, &store, &key, &old, calls.clone());
            Some(task.boxed_local())
        })
        .collect();
    let mut choices = Vec::new();
    let (mut current, mut left) = (0, preemptions);
    loop {
        // The worker that runs comes first, so that choice 0 is to go on.
        let running = tasks[current].is_some();
        let others = (0..tasks.len()).filter(|&other| other != current && tasks[other].is_some());
        let mut ready: Vec<_> = running.then_some(current).into_iter().chain(others).collect();
        if running && left == 0 {
            ready.truncate(1);
        }
        if ready.is_empty() {
            break;
        }
        let choice = schedule.get(choices.len()).copied().unwrap_or(0);
        choices.push((choice, ready.len()));
        if running && choice > 0 {
            left -= 1;
        }
        current = ready[choice];
        let task = tasks[current].as_mut().unwrap();
        if task
            .as_mut()
            .poll(&mut Context::from_waker(noop_waker_ref()))
            .is_ready()
        {
            tasks[current] = None;
        }
    }
    drop(tasks);
    let calls = calls.take();
    check(&calls, &store, &choices);
    let last = block_on(state.load(&key)).unwrap();
    let truth = store.truth.lock().unwrap();
    assert_eq!(
        last.map(|stored| stored.bytes),
        truth.last_key_value().unwrap().1.clone()
    );
    tally.runs += 1;
    tally.ghosts += *store.ghosts.lock().unwrap();
    for call in &calls {
        tally.conflicts += u64::from(matches!(call.did, Did::Write(_, None)));
        tally.unknown += u64::from(matches!(call.did, Did::Unknown));
    }
    choices
}

async fn work(
    worker: usize,
    acts: &[Act],
    state: &ObjectStoreStateStore,
    store: &SteppedStore,
    key: &StateKey,
    old: &StateVersion,
    calls: Rc<RefCell<Vec<Call>>>,
) {
    for (n, act) in acts.iter().enumerate() {
        let value = Bytes::from(format!("{worker}.{n}"));
        let mut expected = Some(old.clone());
        if matches!(act, Act::Load | Act::LoadAndSave | Act::LoadAndDelete) {
            let before = store.head();
            let loaded = state.load(key).await;
            let heads = before..store.head();
            let Ok(loaded) = loaded else {
                let did = Did::Unknown;
                calls.borrow_mut().push(Call { heads, did });
                continue;
            };
            expected = loaded.as_ref().map(|stored| stored.version.clone());
            let did = Did::Load(loaded.map(|stored| (number(&stored.version), stored.bytes)));
            calls.borrow_mut().push(Call { heads, did });
        }
        let before = store.head();
        let did = match (act, expected) {
            (Act::Load, _) | (Act::LoadAndDelete, None) => continue,
            (Act::LoadAndDelete, Some(expected)) => match state.delete(key, &expected).await {
                Ok(DeleteOutcome::Deleted) => Did::Write(None, Some(number(&expected) + 1)),
                Ok(DeleteOutcome::Conflict) => Did::Write(None, None),
                Err(_) => Did::Unknown,
            },
            (act, expected) => {
                let expected = expected.filter(|_| !matches!(act, Act::Create));
                match state.save(key, value.clone(), expected.as_ref()).await {
                    Ok(SaveOutcome::Saved(version)) => Did::Write(Some(value), Some(number(&version))),
                    Ok(SaveOutcome::Conflict) => Did::Write(Some(value), None),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.chain());
                        Did::Unknown
                    }
                }
            }
        };
        let heads = before..store.head();
        calls.borrow_mut().push(Call { heads, did });
    }
}

fn number(version: &StateVersion) -> u64 {
    version.as_str().split_once('-').unwrap().0.parse().unwrap()
}

fn check(calls: &[Call], store: &SteppedStore, choices: &[(usize, usize)]) {
    let truth = store.truth.lock().unwrap();
    let mut winners = BTreeMap::new();
    for call in calls {
        match &call.did {
            Did::Write(value, Some(number)) => {
                assert_eq!(
                    truth.get(number),
                    Some(value),
                    "a winner is in the history. {calls:?} {choices:?}"
                );
                let twice = winners.insert(*number, value.clone());
                assert_eq!(twice, None, "one winner for each version. {calls:?} {choices:?}");
                let during = call.heads.start < *number && *number <= call.heads.end;
                assert!(during, "a win happens during its call. {calls:?} {choices:?}");
            }
            Did::Write(Some(value), None) => {
                let lost = truth.values().all(|written| written.as_ref() != Some(value));
                assert!(lost, "a conflict has written nothing. {calls:?} {choices:?}");
            }
            Did::Load(Some((number, bytes))) => {
                let written = truth.get(number).cloned().flatten();
                assert_eq!(
                    written.as_ref(),
                    Some(bytes),
                    "a load shows a write. {calls:?} {choices:?}"
                );
                let newest = call.heads.start <= *number && *number <= call.heads.end;
                assert!(newest, "a load shows what was newest. {calls:?} {choices:?}");
            }
            Did::Load(None) => {
                let empty = truth
                    .range(call.heads.start..=call.heads.end)
                    .any(|(_, value)| value.is_none());
                assert!(empty, "a load shows what was newest. {calls:?} {choices:?}");
            }
            Did::Write(None, None) | Did::Unknown => {}
        }
    }
}

/// A store whose every request first gives way once, and which remembers the first object of each number.
#[derive(Debug, Default)]
struct SteppedStore {
    inner: InMemory,
    truth: Mutex<BTreeMap<u64, Option<Bytes>>>,
    ghosts: Mutex<u64>,
}

impl SteppedStore {
    fn head(&self) -> u64 {
        self.truth
            .lock()
            .unwrap()
            .last_key_value()
            .map_or(0, |(number, _)| *number)
    }

    fn created(&self, location: &Path, payload: &PutPayload) {
        let number = location.filename().unwrap().trim_start_matches('~').parse().unwrap();
        let body: Vec<u8> = payload.iter().flatten().copied().collect();
        let value = body
            .iter()
            .position(|b| *b == b'\n')
            .map(|at| Bytes::copy_from_slice(&body[at + 1..]));
        let mut truth = self.truth.lock().unwrap();
        if let std::collections::btree_map::Entry::Vacant(vacant) = truth.entry(number) {
            vacant.insert(value);
        } else {
            *self.ghosts.lock().unwrap() += 1;
        }
    }
}

impl fmt::Display for SteppedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SteppedStore")
    }
}

#[derive(Default)]
struct GiveWay(bool);

impl Future for GiveWay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[async_trait]
impl ObjectStore for SteppedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> StoreResult<PutResult> {
        GiveWay::default().await;
        let put = self.inner.put_opts(location, payload.clone(), opts).await?;
        self.created(location, &payload);
        Ok(put)
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> StoreResult<Box<dyn MultipartUpload>> {
        unreachable!("state is small")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        GiveWay::default().await;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        let inner = self.inner.clone();
        let locations = locations.then(|location| async {
            GiveWay::default().await;
            location
        });
        inner.delete_stream(locations.boxed())
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        unreachable!("only keys are read here")
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        GiveWay::default().await;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> StoreResult<()> {
        unreachable!("state is never copied")
    }
}
