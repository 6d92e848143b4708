//! A table whose history is shorter than what a worker asks about, and listings that lag behind.
#![cfg(feature = "testing")]

use std::sync::Arc;

use firnline::delta::{DeltaOptions, DeltaTables};
use firnline::iceberg::{IcebergOptions, IcebergTables};
use firnline::object_store::path::Path;
use firnline::testing::{Profile, ProfileStore};
use firnline::{Compactor, CompactorBuilder, MemoryStateStore, Place, TableFormat};
use futures::executor::block_on;

use super::sources::garbage_pages;
use super::support::{DAY, END, commits, put, quarantine, sorted, two_good, voids};
use crate::table_log::{delta, iceberg, read};
use crate::world::{HOUR, Row, World, at, parquet_of, rows_of, work_until};

/// A compactor that forgets all that was kept in a state store, into a Delta table with a checkpoint at every commit.
fn without_memory(world: &World, now: i64) -> Compactor {
    let place = |url: &str, store| Place::new(url, Arc::clone(store), "").unwrap();
    let options = DeltaOptions::default().with_checkpoint_interval(1);
    let tables = DeltaTables::new("mem://tables", Arc::clone(&world.tables), Path::default(), options);
    let builder = CompactorBuilder::new(
        place("mem://bucket", &world.bucket),
        place("mem://control", &world.control),
        tables,
        MemoryStateStore::new(),
        world.options.clone().with_target_format(TableFormat::Delta),
    );
    block_on(builder.open(at(now))).unwrap()
}

/// A compactor into an Iceberg table.
fn into_iceberg(world: &World, now: i64) -> Compactor {
    let place = |url: &str, store| Place::new(url, Arc::clone(store), "").unwrap();
    let builder = CompactorBuilder::new(
        place("mem://bucket", &world.bucket),
        place("mem://control", &world.control),
        IcebergTables::new(
            "mem://tables",
            Arc::clone(&world.tables),
            Path::default(),
            IcebergOptions::default(),
        ),
        Arc::clone(&world.state),
        world.options.clone().with_target_format(TableFormat::Iceberg),
    );
    block_on(builder.open(at(now))).unwrap()
}

#[test]
fn an_entry_whose_snapshot_has_expired_is_followed_by_the_next() {
    let world = World::new();
    let mut compactor = into_iceberg(&world, END);
    let (_, first) = two_good(&world, &mut compactor);
    let reports = work_until(&mut compactor, at(END), at(END + DAY));
    assert_eq!((commits(&reports).len(), world.sources()), (1, vec![]));
    let theirs: Vec<Row> = vec![(HOUR * 1_000, "theirs".to_owned(), 1)];
    let bytes = parquet_of(&theirs);
    assert!(iceberg::append(&world.tables, "users", "theirs.parquet", bytes, 1));
    assert!(iceberg::expire(&world.tables, "users"));
    let mut second = Vec::new();
    for writer in ["w1", "w2"] {
        second.extend(world.write_some("users", HOUR + 5 * DAY, writer, 9, 1).1);
    }
    let mut compactor = into_iceberg(&world, END + 6 * DAY);
    block_on(compactor.reconcile(at(END + 6 * DAY))).unwrap();
    let reports = work_until(&mut compactor, at(END + 6 * DAY), at(END + 7 * DAY));
    assert_eq!(commits(&reports), [(2, 0, 2, 2)], "{reports:#?}");
    assert_eq!(compactor.status(at(END + 7 * DAY)).halts, [], "{reports:#?}");
    let files = iceberg::live_files(&world.tables, "users");
    let mut rows: Vec<Row> = files
        .iter()
        .flat_map(|path| rows_of(read(&world.tables, path)))
        .collect();
    rows.sort();
    assert_eq!(rows, sorted(&[&first, &theirs, &second]));
    assert_eq!(world.sources(), Vec::<String>::new());
}

#[test]
fn an_entry_that_the_table_has_forgotten_halts_nothing_once_its_sources_are_gone() {
    let world = World::new();
    let mut compactor = without_memory(&world, END);
    two_good(&world, &mut compactor);
    let reports = work_until(&mut compactor, at(END), at(END + DAY));
    assert_eq!((commits(&reports).len(), world.sources()), (1, vec![]));
    let (live, rows) = (delta::live_files(&world.tables, "users"), world.table_rows("users"));
    assert!(delta::optimize(
        &world.tables,
        "users",
        &live,
        "all.parquet",
        parquet_of(&rows)
    ));
    // A commit of ours writes the checkpoint before which others clean up.
    for writer in ["w1", "w2"] {
        let _ = world.write_some("users", HOUR + 5 * DAY, writer, 9, 1);
    }
    block_on(compactor.reconcile(at(END + 6 * DAY))).unwrap();
    let reports = work_until(&mut compactor, at(END + 6 * DAY), at(END + 7 * DAY));
    assert_eq!(commits(&reports).len(), 1, "{reports:#?}");
    assert!(delta::expire(&world.tables, "users"));
    let mut compactor = without_memory(&world, END + 8 * DAY);
    let reports = work_until(&mut compactor, at(END + 8 * DAY), at(END + 10 * DAY));
    assert_eq!(compactor.status(at(END + 10 * DAY)).halts, [], "{reports:#?}");
}

#[test]
fn a_void_says_why_though_its_commit_is_seen_late() {
    let mut world = World::new();
    world.tables = Arc::new(ProfileStore::new(Arc::clone(&world.tables), Profile::EventualList));
    let mut compactor = world.open(at(END));
    for writer in ["w1", "w2"] {
        let key = format!("data/users/{HOUR}-{writer}-1.parquet");
        let _ = put(&world.bucket, &key, garbage_pages());
    }
    block_on(compactor.reconcile(at(END))).unwrap();
    let reports = work_until(&mut compactor, at(END), at(END + 2 * DAY));
    let set_aside = quarantine(&compactor, at(END + 2 * DAY));
    // The second is perhaps only looked at once the first is known; where a void does not say why, there is one every time.
    assert_eq!(set_aside.len(), 2, "{reports:#?}");
    assert!((1..=2).contains(&voids(&reports).len()), "{reports:#?}");
}
