//! The stores of a simulation, what lies in them, and the queue of its notifications.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt;
use futures::executor::block_on;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::Troubles;
use super::coverage::Calls;
use super::rows::{Row, parquet_of, rows_of};
use super::script::{Foreign, HOUR, START, Script, Source};
use super::tables::{ForeignChange, ForeignFile, SimulatedTables};
use super::violation::Broken;
use crate::compactor::CompactorBuilder;
use crate::error::Result as CompactorResult;
use crate::event::ObjectEvent;
use crate::options::{Options, SortField};
use crate::place::Place;
use crate::state::StateStore;
use crate::testing::{
    ClockedStore, Fault, FaultStateStore, FaultStore, Faults, Operation, ProfileStore, RewindStateStore,
    SeededRandomness, VirtualClock, YieldingStateStore, YieldingStore,
};
use crate::time::{Clock, Timestamp};

/// How long rows are in the table before their sources go.
pub(super) const GRACE_MS: u64 = HOUR;
/// What goes wrong with single operations.
const FAULTS: [Fault; 8] = [
    Fault::AppliedButError,
    Fault::AppliedLate,
    Fault::ErrorNotApplied,
    Fault::Hang,
    Fault::HangAfter,
    Fault::StaleRead,
    Fault::Throttle,
    Fault::TornBody,
];

type Store = Arc<dyn ObjectStore>;

/// Where the parts of a compaction lie.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) bucket: Store,
    pub(super) control: Store,
    pub(super) tables: Store,
    pub(super) state: Arc<dyn StateStore>,
}

/// All that workers share.
#[derive(Debug)]
pub(super) struct World {
    /// As workers see them.
    given: Places,
    /// As they are.
    pub(super) truth: Places,
    /// The state, where it can be taken back.
    pub(super) rewinds: Option<Arc<RewindStateStore>>,
    pub(super) tables: Arc<dyn SimulatedTables>,
    pub(super) faults: Faults,
    pub(super) calls: Calls,
    pub(super) clock: VirtualClock,
    pub(super) dice: Arc<SeededRandomness>,
    shared: Mutex<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Messages that wait; what is not acknowledged comes back.
    inbox: Vec<ObjectEvent>,
    /// Ids of rows that other writers have deleted.
    deleted: BTreeSet<String>,
    /// Rows that other writers have put in.
    foreign: BTreeMap<String, Vec<Row>>,
    foreign_files: u64,
    /// What workers report and must not be.
    broken: Vec<String>,
}

impl World {
    pub(super) fn new(
        seed: u64,
        troubles: &Troubles,
        tables: Arc<dyn SimulatedTables>,
        state: Option<Arc<dyn StateStore>>,
    ) -> Self {
        let clock = VirtualClock::new(START);
        let faults = Faults::drawn(seed ^ 0xfa01, troubles.faults, &FAULTS);
        let truth = || -> Store { Arc::new(ClockedStore::new(Arc::new(InMemory::new()), &clock)) };
        let rewinds = state.is_none().then(Arc::<RewindStateStore>::default);
        let state = state.unwrap_or_else(|| match &rewinds {
            Some(rewinds) => Arc::clone(rewinds) as Arc<dyn StateStore>,
            None => Arc::<RewindStateStore>::default(),
        });
        let truth = Places {
            bucket: truth(),
            control: truth(),
            tables: truth(),
            state,
        };
        let given = |store: &Store, name: &str| -> Store {
            let limited = Arc::new(ProfileStore::new(Arc::clone(store), troubles.profile));
            let faulty = Arc::new(FaultStore::new(limited, name, &faults));
            Arc::new(YieldingStore::new(faulty))
        };
        let faulty_state = Arc::new(FaultStateStore::new(Arc::clone(&truth.state), &faults));
        Self {
            given: Places {
                bucket: given(&truth.bucket, "bucket"),
                control: given(&truth.control, "control"),
                tables: given(&truth.tables, "tables"),
                state: Arc::new(YieldingStateStore::new(faulty_state)),
            },
            truth,
            rewinds,
            tables,
            faults,
            calls: Calls::default(),
            clock,
            dice: Arc::new(SeededRandomness::new(seed ^ 0xd1ce)),
            shared: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A compactor as workers have it.
    pub(super) fn builder(&self) -> CompactorResult<CompactorBuilder> {
        self.builder_over(&self.given)
    }

    /// A compactor that nothing happens to.
    pub(super) fn true_builder(&self) -> CompactorResult<CompactorBuilder> {
        self.builder_over(&self.truth)
    }

    fn builder_over(&self, places: &Places) -> CompactorResult<CompactorBuilder> {
        let options = Options::default()
            .with_target_format(self.tables.format())
            .with_min_files_to_compact(2)
            .with_delete_grace_ms(GRACE_MS)
            .with_sort_order(vec![SortField::ascending("ts"), SortField::ascending("id")]);
        let place = |url: &str, store: &Store| Place::new(url, Arc::clone(store), "");
        let builder = CompactorBuilder::new(
            place("mem://bucket", &places.bucket)?,
            place("mem://control", &places.control)?,
            self.tables.provider("mem://tables", &places.tables),
            Arc::clone(&places.state),
            options,
        );
        Ok(builder.with_randomness(Arc::clone(&self.dice)))
    }

    /// Some of the messages that wait.
    pub(super) fn take_messages(&self) -> Vec<ObjectEvent> {
        let count = usize::try_from(self.dice.below(3)).unwrap_or(0);
        let mut shared = self.lock();
        let count = count.min(shared.inbox.len());
        shared.inbox.drain(..count).collect()
    }

    pub(super) fn put_back(&self, messages: impl IntoIterator<Item = ObjectEvent>) {
        self.lock().inbox.extend(messages);
    }

    pub(super) fn waiting_messages(&self) -> usize {
        self.lock().inbox.len()
    }

    /// Reports what must not be.
    pub(super) fn complain(&self, what: impl Into<String>) {
        self.lock().broken.push(what.into());
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        self.lock().broken.clone()
    }

    pub(super) fn write(&self, source: &Source) -> Result<(), Broken> {
        let mut bytes = parquet_of(&source.rows).map_err(Broken::simulation)?;
        if source.is_corrupt {
            // The footer stays whole.
            bytes.iter_mut().skip(4).take(56).for_each(|byte| *byte = 0xff);
        }
        let path = Path::from(source.key.as_str());
        let put = block_on(self.truth.bucket.put(&path, bytes.into()));
        put.map(drop).map_err(Broken::simulation)
    }

    pub(super) fn notify(&self, source: &Source) {
        self.put_back([ObjectEvent::created(&source.key)]);
    }

    /// Another writer changes a table, if it can now.
    pub(super) fn disturb(&self, namespace: &str, what: Foreign) -> Result<(), Broken> {
        let store = &self.truth.tables;
        let mut live = self.tables.live_files(store, namespace);
        let number = {
            let mut shared = self.lock();
            shared.foreign_files += 1;
            shared.foreign_files
        };
        let file = |rows: &[Row]| {
            Ok::<_, Broken>(ForeignFile {
                name: format!("part-{number:05}.parquet"),
                bytes: parquet_of(rows).map_err(Broken::simulation)?,
                rows: rows.len(),
            })
        };
        let mut appended = Vec::new();
        let mut deleted = Vec::new();
        let change = match what {
            Foreign::Append => {
                appended = vec![(START.as_millis() * 1_000, format!("{namespace}-foreign-{number}"), 0)];
                ForeignChange::Append(file(&appended)?)
            }
            Foreign::Delete if !live.is_empty() => {
                let one = usize::try_from(self.dice.below(live.len() as u64)).unwrap_or(0);
                let one = live.swap_remove(one);
                deleted = self.rows(std::slice::from_ref(&one))?;
                ForeignChange::Delete(vec![one])
            }
            Foreign::Optimize if live.len() > 1 => {
                let into = file(&self.rows(&live)?)?;
                ForeignChange::Optimize { files: live, into }
            }
            Foreign::Expire => ForeignChange::Expire,
            Foreign::Delete | Foreign::Optimize => return Ok(()),
        };
        if self.tables.disturb(store, namespace, &change) {
            let mut shared = self.lock();
            shared.foreign.entry(namespace.to_owned()).or_default().extend(appended);
            shared.deleted.extend(deleted.into_iter().map(|row| row.1));
        }
        Ok(())
    }

    /// The rows of files of tables.
    pub(super) fn rows(&self, files: &[Path]) -> Result<Vec<Row>, Broken> {
        let mut rows = Vec::new();
        for file in files {
            rows.extend(rows_of(read(&self.truth.tables, file)?).map_err(Broken::simulation)?);
        }
        Ok(rows)
    }

    pub(super) fn live_rows(&self, namespace: &str) -> Result<Vec<Row>, Broken> {
        self.rows(&self.tables.live_files(&self.truth.tables, namespace))
    }

    /// The rows that must be seen in a namespace, of its sources that were written and are not `hidden`, in order.
    pub(super) fn expected_rows(&self, namespace: &str, script: &Script, hidden: impl Fn(&Source) -> bool) -> Vec<Row> {
        let sources = script.sources.iter().filter(|source| source.namespace == namespace);
        let shared = self.lock();
        let of_sources = sources.filter(|source| !hidden(source)).flat_map(|source| &source.rows);
        let of_others = shared.foreign.get(namespace).into_iter().flatten();
        let rows = of_sources.chain(of_others);
        let mut rows: Vec<Row> = rows.filter(|row| !shared.deleted.contains(&row.1)).cloned().collect();
        rows.sort();
        rows
    }

    /// The keys that are in the bucket.
    pub(super) fn keys(&self) -> Result<BTreeSet<String>, Broken> {
        let listed: Result<Vec<ObjectMeta>, _> = block_on(self.truth.bucket.list(None).try_collect());
        let listed = listed.map_err(Broken::simulation)?;
        Ok(listed.into_iter().map(|meta| meta.location.to_string()).collect())
    }

    /// What an operation is on.
    pub(super) fn object(&self, operation: &Operation) -> String {
        let Operation { store, path, .. } = operation;
        match store.as_str() {
            "tables" => format!("table {}", self.tables.part(&Path::from(path.as_str()))),
            "control" => format!("control {}", part_of(path)),
            "state" => format!("state {}", part_of(path)),
            other => format!("{other} source"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an object of the control prefix or a key of the state is, without namespaces, ids and numbers.
fn part_of(path: &str) -> &str {
    let segments: Vec<&str> = path.split('/').collect();
    let part = match segments.as_slice() {
        ["lanes", _, part] | ["lanes", _, _, part, ..] => part,
        [first, ..] => first,
        [] => path,
    };
    part.strip_suffix(".json").unwrap_or(part)
}

pub(super) fn read(store: &Store, path: &Path) -> Result<Bytes, Broken> {
    let bytes = block_on(async { store.get(path).await?.bytes().await });
    bytes.map_err(Broken::simulation)
}
