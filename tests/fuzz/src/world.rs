//! A compactor in memory, as it is between two plans, and what becomes of it with one of its objects changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use firnline::delta::{DeltaOptions, DeltaTables};
use firnline::iceberg::{IcebergOptions, IcebergTables};
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::{
    Codec, Compactor, CompactorBuilder, MemoryStateStore, ObjectEvent, Options, Place, Randomness, SaveOutcome,
    SortField, StateKey, StateStore, TableFormat, TableProvider, Timestamp,
};
use futures::TryStreamExt;
use futures::executor::block_on;

use crate::files;

/// The start of a window of an hour.
pub const HOUR: i64 = 1_700_000_000_000 - 1_700_000_000_000 % 3_600_000;
/// Most jobs that are run: nothing may keep a compactor busy for ever.
const MAX_JOBS: usize = 200;

/// Objects by their paths, in order.
type Objects = Vec<(String, Vec<u8>)>;

/// The stores of a compactor that has committed one window, has files of another, and has not reclaimed anything.
#[derive(Clone, Debug)]
pub struct Snapshot {
    options: Options,
    bucket: Objects,
    tables: Objects,
    control: Objects,
    state: Objects,
}

/// Stores, alive.
#[derive(Debug)]
pub struct Stores {
    /// Of the sources.
    pub bucket: Arc<dyn ObjectStore>,
    /// Of the tables.
    pub tables: Arc<dyn ObjectStore>,
    control: Arc<dyn ObjectStore>,
    state: Arc<dyn StateStore>,
}

impl Snapshot {
    /// Of a compactor with these options.
    pub fn take(options: &Options) -> Self {
        let options = options
            .clone()
            .with_min_files_to_compact(2)
            .with_codec(Codec::None)
            .with_sort_order(vec![SortField::ascending("id")]);
        let stores = Stores::new();
        let mut compactor = stores.open(&options, at(HOUR)).expect("nothing is wrong yet");
        for window in [HOUR, HOUR + 3_600_000] {
            let events = ["w1", "w2"].map(|writer| stores.write(window, writer, &files::kinds()[1]));
            let told = block_on(compactor.handle_events(&events, at(window)));
            assert!(told.outcomes().iter().all(Result::is_ok), "{told:?}");
            if window == HOUR {
                work(&mut compactor, at(HOUR + 2 * 3_600_000));
            }
        }
        Self {
            options,
            bucket: objects(&stores.bucket),
            tables: objects(&stores.tables),
            control: objects(&stores.control),
            state: values(&stores.state),
        }
    }

    /// The plan, changed.
    #[must_use]
    pub fn with_plan(&self, bytes: &[u8]) -> Self {
        let mut changed = self.clone();
        let plan = changed.control.iter_mut().find(|(path, _)| path.contains("/plan"));
        plan.expect("there is a plan").1 = bytes.to_vec();
        changed
    }

    /// One of the values of the state store, changed.
    #[must_use]
    pub fn with_state(&self, which: usize, bytes: &[u8]) -> Self {
        let mut changed = self.clone();
        let count = changed.state.len();
        changed.state[which % count].1 = bytes.to_vec();
        changed
    }

    /// One of the objects of the table whose path is `wanted`, changed.
    #[must_use]
    pub fn with_table(&self, which: usize, bytes: &[u8], wanted: impl Fn(&str) -> bool) -> Self {
        let mut changed = self.clone();
        let mut objects: Vec<_> = changed.tables.iter_mut().filter(|(path, _)| wanted(path)).collect();
        let count = objects.len();
        objects[which % count].1 = bytes.to_vec();
        changed
    }

    /// What there is to be changed, by the target that changes it: seeds.
    pub fn seeds(&self) -> Vec<(&'static str, Vec<u8>)> {
        let with_place = |objects: &Objects, wanted: &dyn Fn(&str) -> bool| -> Vec<Vec<u8>> {
            let objects = objects.iter().filter(|(path, _)| wanted(path)).zip(0_u8..);
            objects
                .map(|((_, bytes), place)| [&[place], bytes.as_slice()].concat())
                .collect()
        };
        let mut seeds: Vec<(&str, Vec<u8>)> = Vec::new();
        if self.options.target_format == TableFormat::Delta {
            let plans = self.control.iter().filter(|(path, _)| path.contains("/plan"));
            seeds.extend(plans.map(|(_, bytes)| ("plan", bytes.clone())));
            seeds.extend(
                with_place(&self.state, &|_| true)
                    .into_iter()
                    .map(|seed| ("state", seed)),
            );
            let log = with_place(&self.tables, &|path| path.contains("/_delta_log/"));
            seeds.extend(log.into_iter().map(|seed| ("delta_log", seed)));
        } else {
            let metadata = with_place(&self.tables, &|path| path.contains("/metadata/"));
            seeds.extend(metadata.into_iter().map(|seed| ("iceberg", seed)));
        }
        seeds
    }

    /// Opens a compactor and lets it do what it finds to do, for some hours. Errors and halts are as good as success.
    pub fn work(&self) -> Stores {
        let stores = Stores::new();
        for (store, objects) in [
            (&stores.bucket, &self.bucket),
            (&stores.tables, &self.tables),
            (&stores.control, &self.control),
        ] {
            for (path, bytes) in objects {
                let path = Path::parse(path).expect("a path that was listed");
                block_on(store.put(&path, bytes.clone().into())).expect("memory does not fail");
            }
        }
        for (key, bytes) in &self.state {
            let key = StateKey::from_encoded(key.as_str());
            let saved = block_on(stores.state.save(&key, bytes.clone().into(), None));
            assert!(matches!(saved, Ok(SaveOutcome::Saved(_))), "{saved:?}");
        }
        let now = HOUR + 2 * 3_600_000;
        if let Ok(mut compactor) = stores.open(&self.options, at(now)) {
            work(&mut compactor, at(now));
            let _ = compactor.status(at(now));
            work(&mut compactor, at(now + 2 * 3_600_000));
            let _ = serde_json::to_string(&compactor.status(at(now + 2 * 3_600_000)));
        }
        stores
    }
}

impl Stores {
    fn new() -> Self {
        Self {
            bucket: Arc::new(InMemory::new()),
            tables: Arc::new(InMemory::new()),
            control: Arc::new(InMemory::new()),
            state: Arc::new(MemoryStateStore::new()),
        }
    }

    fn open(&self, options: &Options, now: Timestamp) -> firnline::Result<Compactor> {
        let place = |url: &str, store: &Arc<dyn ObjectStore>| Place::new(url, Arc::clone(store), "");
        let (url, root, tables) = ("mem://tables", Path::default(), Arc::clone(&self.tables));
        let tables: Arc<dyn TableProvider> = if options.target_format == TableFormat::Delta {
            Arc::new(DeltaTables::new(url, tables, root, DeltaOptions::default()))
        } else {
            Arc::new(IcebergTables::new(url, tables, root, IcebergOptions::default()))
        };
        let builder = CompactorBuilder::new(
            place("mem://bucket", &self.bucket)?,
            place("mem://control", &self.control)?,
            tables,
            Arc::clone(&self.state),
            options.clone(),
        );
        block_on(builder.with_randomness(Counted::default()).open(now))
    }

    fn write(&self, at: i64, writer: &str, file: &[u8]) -> ObjectEvent {
        let key = format!("data/users/{at}-{writer}-0.parquet");
        let path = Path::from(key.as_str());
        block_on(self.bucket.put(&path, file.to_vec().into())).expect("memory does not fail");
        ObjectEvent::created(key).with_size(file.len() as u64)
    }
}

/// The same ids in every run.
#[derive(Debug, Default)]
struct Counted(AtomicU64);

impl Randomness for Counted {
    fn random_u128(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)) + (7 << 64)
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn work(compactor: &mut Compactor, now: Timestamp) {
    for _ in 0..MAX_JOBS {
        let Some(job) = compactor.poll_job(now) else { return };
        let outcome = block_on(job.run());
        if block_on(compactor.finish_job(outcome, now)).is_err() {
            return;
        }
    }
    panic!("the work does not end");
}

fn objects(store: &Arc<dyn ObjectStore>) -> Objects {
    let metas: Vec<_> = block_on(store.list(None).try_collect()).expect("memory does not fail");
    let mut objects: Objects = Vec::new();
    for meta in metas {
        let meta: firnline::object_store::ObjectMeta = meta;
        let bytes = block_on(async { store.get(&meta.location).await?.bytes().await });
        objects.push((meta.location.to_string(), bytes.expect("memory does not fail").to_vec()));
    }
    objects.sort();
    objects
}

fn values(state: &Arc<dyn StateStore>) -> Objects {
    let all = StateKey::from_encoded("");
    let keys: Vec<StateKey> = block_on(state.list(&all).try_collect()).expect("memory does not fail");
    let mut values: Objects = Vec::new();
    for key in keys {
        if let Some(stored) = block_on(state.load(&key)).expect("memory does not fail") {
            values.push((key.as_str().to_owned(), stored.bytes.to_vec()));
        }
    }
    values.sort();
    values
}
