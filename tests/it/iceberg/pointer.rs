//! Whole runs over a catalog that is one value of the host's, which fails at any of its calls.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use firnline::iceberg::{IcebergOptions, IcebergSink, PointerCatalog, PointerStore};
use firnline::object_store::ObjectStoreExt;
use firnline::object_store::path::Path;
use firnline::{
    CompactorBuilder, Error, ErrorKind, Namespace, Place, SystemRandomness, Table, TableFormat, TableProvider,
};
use futures::executor::block_on;

use crate::table_log;
use crate::world::{HOUR, Row, World, at, rows_of, work_until};

const LOCATION: &str = "mem://tables/users";

/// How the call that is struck ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    NotApplied,
    AppliedButError,
}

/// A value in memory.
#[derive(Debug, Default)]
struct Pointer {
    value: Mutex<Option<String>>,
    calls: Mutex<usize>,
    fault: Option<(usize, Fault)>,
}

impl Pointer {
    /// Makes a call, or what a fault makes of it.
    fn call<T>(&self, apply: impl FnOnce(&mut Option<String>) -> T) -> firnline::Result<T> {
        let index = {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            *calls - 1
        };
        let lost = || Err(Error::new(ErrorKind::Unavailable, "no answer"));
        let fault = self.fault.filter(|(at, _)| *at == index).map(|(_, fault)| fault);
        if fault == Some(Fault::NotApplied) {
            return lost();
        }
        let answer = apply(&mut self.value.lock().unwrap());
        if fault == Some(Fault::AppliedButError) {
            lost()
        } else {
            Ok(answer)
        }
    }
}

#[async_trait]
impl PointerStore for Pointer {
    async fn get(&self) -> firnline::Result<Option<String>> {
        self.call(|value| value.clone())
    }

    async fn compare_and_swap(&self, expected: Option<&str>, new: &str) -> firnline::Result<bool> {
        self.call(|value| {
            let swaps = value.as_deref() == expected;
            if swaps {
                *value = Some(new.to_owned());
            }
            swaps
        })
    }
}

#[derive(Debug)]
struct Tables(Arc<Pointer>, World);

impl TableProvider for Tables {
    fn table(&self, _: &Namespace) -> firnline::Result<Table> {
        let (store, root) = (Arc::clone(&self.1.tables), Path::from("users"));
        let pointer = Arc::clone(&self.0);
        let catalog = PointerCatalog::new(
            Arc::clone(&store),
            root.clone(),
            LOCATION,
            pointer,
            Arc::new(SystemRandomness),
        );
        let sink = IcebergSink::new(Arc::new(catalog), store, root, LOCATION, IcebergOptions::default());
        Ok(Table {
            location: LOCATION.to_owned(),
            format: "iceberg".to_owned(),
            sink: Arc::new(sink),
        })
    }
}

/// Two windows of two files each, in two lives of the process: how many calls it took.
fn run(fault: Option<(usize, Fault)>) -> usize {
    let mut world = World::new();
    world.options = world.options.with_target_format(TableFormat::Iceberg);
    let pointer = Arc::new(Pointer {
        fault,
        ..Pointer::default()
    });
    let place = |url: &str, store| Place::new(url, Arc::clone(store), "").unwrap();
    let mut given: Vec<Row> = Vec::new();
    for hour in 0..2 {
        let open = || {
            let builder = CompactorBuilder::new(
                place("mem://bucket", &world.bucket),
                place("mem://control", &world.control),
                Tables(Arc::clone(&pointer), world.clone()),
                Arc::clone(&world.state),
                world.options.clone(),
            );
            block_on(builder.open(at(HOUR + (hour + 1) * 3_600_000))).ok()
        };
        let now = at(HOUR + (hour + 1) * 3_600_000);
        let mut compactor = (0..3).find_map(|_| open()).unwrap();
        for writer in ["w1", "w2"] {
            let sequence = u64::try_from(hour).unwrap();
            let (event, rows) = world.write_some("users", HOUR + hour * 3_600_000 + 1_000, writer, sequence, 5);
            given.extend(rows);
            let events = [event];
            let taken = (0..3).any(|_| block_on(compactor.handle_events(&events, now)).all_saved());
            assert!(taken, "{fault:?}: the event is not taken");
        }
        work_until(&mut compactor, now, now + 12 * 3_600_000);
    }
    let location = pointer.value.lock().unwrap().clone().unwrap();
    let metadata = Path::from(location.strip_prefix("mem://tables/").unwrap());
    let files = table_log::iceberg_files(&world.tables, "users", &metadata);
    let read = |path: &Path| block_on(async { world.tables.get(path).await.unwrap().bytes().await.unwrap() });
    let mut rows: Vec<Row> = files.iter().flat_map(|path| rows_of(read(path))).collect();
    rows.sort();
    given.sort();
    assert_eq!(rows, given, "{fault:?}");
    assert_eq!(world.sources(), Vec::<String>::new(), "{fault:?}");
    *pointer.calls.lock().unwrap()
}

#[test]
fn a_pointer_that_fails_at_any_call_costs_nothing() {
    let calls = run(None);
    assert!(calls > 10, "{calls}");
    for index in 0..calls {
        for fault in [Fault::NotApplied, Fault::AppliedButError] {
            run(Some((index, fault)));
        }
    }
}
