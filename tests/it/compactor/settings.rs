//! Settings and places that do not fit what is there are refused, naming what does not fit, and nothing is changed.

use std::sync::Arc;

use firnline::object_store::path::Path;
use firnline::object_store::{Error as StoreError, ObjectStore};
use firnline::{CompactorBuilder, ErrorKind, EventOutcome, Place, SortField, TableFormat, TimestampUnit};
use futures::executor::block_on;

use super::support::{
    DAY, END, HookStore, MINUTE, Moment, commits, content, ns, put, quarantine, sorted, tell, two_good,
};
use crate::table_log;
use crate::world::{HOUR, World, at, parquet_of, work_until};

/// A world with one committed window.
fn committed() -> (World, Vec<crate::world::Row>) {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    assert_eq!(
        commits(&work_until(&mut compactor, at(END), at(END + 10 * MINUTE))),
        [(1, 0, 2, 40)]
    );
    (world, rows)
}

/// Opens the lane under other settings, and asserts that it stands still with this reason and does nothing.
fn refused(world: &World, builder: CompactorBuilder, reason: &str) {
    let (event, _) = world.write_some("users", HOUR + 5, "w1", 9, 3);
    let before = (content(&world.control), content(&world.tables), content(&world.bucket));
    let mut compactor = block_on(builder.open(at(END + 20 * MINUTE))).unwrap();
    let halts = compactor.status(at(END + 20 * MINUTE)).halts;
    assert_eq!(halts.len(), 1);
    assert_eq!(
        (halts[0].namespace.as_str(), halts[0].reason.as_str()),
        ("users", reason)
    );
    for _ in 0..2 {
        assert_eq!(
            tell(&mut compactor, std::slice::from_ref(&event), at(END + 20 * MINUTE)),
            [Err(ErrorKind::Halted)]
        );
    }
    let listed = block_on(compactor.reconcile(at(END + 20 * MINUTE))).unwrap();
    assert_eq!((listed.recorded, listed.deferred, listed.refused), (0, 0, 1));
    assert_eq!(
        work_until(&mut compactor, at(END + 20 * MINUTE), at(END + 3 * DAY)).len(),
        0
    );
    assert_eq!(
        (content(&world.control), content(&world.tables), content(&world.bucket)),
        before
    );
    // Another process with the right settings takes the file up, once.
    let mut compactor = world.open(at(END + 20 * MINUTE));
    assert_eq!(
        tell(&mut compactor, &[event], at(END + 20 * MINUTE)),
        [Ok(EventOutcome::Recorded)]
    );
    let reports = work_until(&mut compactor, at(END + 20 * MINUTE), at(END + 3 * DAY));
    assert_eq!(commits(&reports), [(2, 1, 1, 3)]);
}

#[test]
fn another_sort_order_is_refused() {
    let (world, _) = committed();
    let mut other = world.clone();
    other.options = other.options.with_sort_order(vec![SortField::descending("ts")]);
    refused(
        &world,
        other.builder(),
        "settings differ from those the lane was made with: put them back, or `adopt` goes on with the new ones. field=`sortOrder` lane=`ts,id` now=`-ts`",
    );
}

#[test]
fn another_grammar_is_refused() {
    let (world, _) = committed();
    let names = firnline::DefaultFileNames::new("data/", TimestampUnit::Milliseconds);
    assert_eq!(
        firnline::FileNameParser::grammar(&names),
        "data/{namespace}/{timestamp:ms}-{writerId}-{sequence}.parquet"
    );
    let builder = world.builder().with_file_names(OtherGrammar(names));
    refused(
        &world,
        builder,
        "settings differ from those the lane was made with: put them back, or `adopt` goes on with the new ones. field=`keyGrammar` \
         lane=`data/{namespace}/{timestamp:ms}-{writerId}-{sequence}.parquet` now=`other`",
    );
}

#[derive(Debug)]
struct OtherGrammar(firnline::DefaultFileNames);

impl firnline::FileNameParser for OtherGrammar {
    fn parse(&self, key: &firnline::ObjectKey) -> Result<firnline::FileName, firnline::NotSourceFile> {
        self.0.parse(key)
    }

    fn prefix(&self) -> &str {
        self.0.prefix()
    }

    fn prefix_of(&self, namespace: &firnline::Namespace) -> String {
        self.0.prefix_of(namespace)
    }

    fn grammar(&self) -> String {
        "other".to_owned()
    }
}

#[test]
fn tables_of_another_format_than_the_settings_ask_for_are_refused_naming_both() {
    let mut world = World::new();
    let (there, asked) = match table_log::is_iceberg() {
        true => (TableFormat::Iceberg, TableFormat::Delta),
        false => (TableFormat::Delta, TableFormat::Iceberg),
    };
    world.options = world.options.with_target_format(asked);
    let mut compactor = world.open(at(END));
    let (event, _) = world.write_some("users", HOUR + 1, "w1", 0, 3);
    assert_eq!(tell(&mut compactor, &[event], at(END)), [Err(ErrorKind::Invalid)]);
    let listed = block_on(compactor.reconcile(at(END))).unwrap();
    assert_eq!((listed.recorded, listed.deferred, listed.refused), (0, 0, 1));
    let halts = compactor.status(at(END)).halts;
    assert_eq!(
        halts[0].reason,
        format!(
            "the tables are not of the format that the settings ask for: set `targetFormat`, or give tables of that \
             format. targetFormat=`{}` tables=`{}`",
            asked.as_str(),
            there.as_str()
        )
    );
    assert_eq!(work_until(&mut compactor, at(END), at(END + 3 * DAY)).len(), 0);
    assert_eq!(content(&world.tables), []);
    // Nor does a door lead past it.
    let error = block_on(compactor.adopt(&ns("users"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

fn place(url: &str, store: &Arc<dyn ObjectStore>) -> Place {
    Place::new(url, Arc::clone(store), "").unwrap()
}

fn tables(world: &World, url: &str) -> Arc<dyn firnline::TableProvider> {
    table_log::tables(url, &world.tables)
}

#[test]
fn another_table_location_is_refused() {
    let (world, _) = committed();
    let builder = CompactorBuilder::new(
        place("mem://bucket", &world.bucket),
        place("mem://control", &world.control),
        tables(&world, "mem://elsewhere"),
        Arc::clone(&world.state),
        world.options.clone(),
    );
    refused(
        &world,
        builder,
        "settings differ from those the lane was made with: put them back, or `adopt` goes on with the new ones. field=`tableLocation` lane=`mem://tables/users` \
         now=`mem://elsewhere/users`",
    );
}

#[test]
fn another_window_size_applies_to_later_windows_only() {
    let (mut world, mut rows) = committed();
    world.options = world.options.with_window_size_ms(600_000);
    // At this instant files may claim times up to ten minutes ahead: the new size begins with the hour after.
    let now = at(END + 20 * MINUTE);
    let mut compactor = world.open(now);
    let changed_from = END + 60 * MINUTE;
    let mut events = Vec::new();
    for (sequence, t) in [
        HOUR + 7,
        END + 5 * MINUTE,
        END + 55 * MINUTE,
        changed_from + 25 * MINUTE,
    ]
    .into_iter()
    .enumerate()
    {
        let (event, more) = world.write_some("users", t, "w1", sequence as u64 + 1, 3);
        events.push(event);
        rows.extend(more);
    }
    assert_eq!(tell(&mut compactor, &events, now), [Ok(EventOutcome::Recorded); 4]);
    let windows = |compactor: &firnline::Compactor| -> Vec<(i64, i64, usize)> {
        let windows = compactor.status(now).windows;
        let span = |w: &firnline::WindowStatus| (w.window_start.as_millis(), w.window_end.as_millis(), w.file_count);
        windows.iter().map(span).collect()
    };
    let expected = [
        (HOUR, END, 1),
        (END, changed_from, 2),
        (changed_from + 20 * MINUTE, changed_from + 30 * MINUTE, 1),
    ];
    assert_eq!(windows(&compactor), expected);
    // A process that still has the old size and one that has the new one see the same windows.
    drop(compactor);
    assert_eq!(windows(&world.open(now)), expected);
    let mut compactor = world.open(now);
    let reports = work_until(&mut compactor, now, at(END + 3 * DAY));
    assert_eq!(commits(&reports), [(2, 0, 2, 6), (3, 1, 1, 3), (4, 0, 1, 3)]);
    assert_eq!(world.table_rows("users"), sorted(&[&rows]));
}

#[test]
fn control_objects_and_sources_inside_the_tables_are_refused_at_once() {
    let world = World::new();
    let open = |bucket: &str, control: &str, root: &str| {
        let builder = CompactorBuilder::new(
            place(bucket, &world.bucket),
            place(control, &world.control),
            tables(&world, root),
            Arc::clone(&world.state),
            world.options.clone(),
        );
        block_on(builder.with_tables_root(root).open(at(END))).unwrap_err()
    };
    let error = open("mem://bucket", "mem://tables/control", "mem://tables");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        error.to_string(),
        "places overlap: control and tables must lie apart. control=`mem://tables/control` tables=`mem://tables`"
    );
    let error = open("mem://bucket", "mem://control", "mem://bucket/DATA/t");
    assert_eq!(
        error.to_string(),
        "places overlap: sources and tables must lie apart. sources=`mem://bucket/data` tables=`mem://bucket/DATA/t`"
    );
    assert_eq!(content(&world.control), []);
}

#[test]
fn a_table_inside_the_control_prefix_or_the_sources_is_refused_with_the_first_file() {
    let world = World::new();
    let builder = CompactorBuilder::new(
        place("mem://bucket", &world.bucket),
        place("mem://bucket/control", &world.control),
        tables(&world, "mem://bucket/control/tables"),
        Arc::clone(&world.state),
        world.options.clone(),
    );
    let mut compactor = block_on(builder.open(at(END))).unwrap();
    let (event, _) = world.write_some("users", HOUR, "w1", 0, 3);
    assert_eq!(tell(&mut compactor, &[event], at(END)), [Err(ErrorKind::Halted)]);
    let halts = compactor.status(at(END)).halts;
    assert_eq!(
        halts[0].reason,
        "table cannot be written: places overlap: control and table must lie apart. \
         control=`mem://bucket/control` table=`mem://bucket/control/tables/users`"
    );
}

/// A second namespace whose table would lie in the first's: refused as a whole, while the first goes on.
fn overlapping(second: &str) {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let events = [
        world.write_some("eu", HOUR + 1, "w1", 0, 3),
        world.write_some("eu", HOUR + 2, "w2", 0, 3),
    ];
    let rows = sorted(&[&events[0].1, &events[1].1]);
    let [(first, _), (other, _)] = events;
    assert_eq!(
        tell(&mut compactor, &[first, other], at(END)),
        [Ok(EventOutcome::Recorded), Ok(EventOutcome::Recorded)]
    );
    let inner: Vec<_> = (0..2)
        .map(|sequence| world.write_some(second, HOUR + 1, "w1", sequence, 3).0)
        .collect();
    assert_eq!(
        tell(&mut compactor, &inner, at(END)),
        [Err(ErrorKind::Halted), Err(ErrorKind::Halted)]
    );
    let quarantined = compactor.status(at(END)).quarantine;
    assert_eq!(quarantined.count, 2);
    assert_eq!(
        serde_json::to_value(&quarantined.files[0].reason).unwrap(),
        serde_json::json!({"kind": "tableRootOverlap", "other": "eu (mem://tables/eu)"})
    );
    let reports = work_until(&mut compactor, at(END), at(END + 3 * DAY));
    assert_eq!(commits(&reports), [(1, 0, 2, 6)]);
    assert_eq!(world.table_rows("eu"), rows);
    // The order in which they are opened changes nothing.
    let again = world.open(at(END + 3 * DAY));
    assert_eq!(
        again.namespaces().map(firnline::Namespace::as_str).collect::<Vec<_>>()[..1],
        ["eu"][..]
    );
    assert_eq!(world.sources().len(), 2);
}

#[test]
fn a_namespace_inside_another_is_refused_as_a_whole_and_the_first_goes_on() {
    overlapping("eu/users");
}

#[test]
fn case_makes_no_difference_to_what_overlaps() {
    overlapping("EU");
    overlapping("Eu/users");
}

#[test]
fn a_namespace_that_was_refused_goes_on_once_it_is_in_nobodys_way() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (outer, _) = world.write_some("eu", HOUR + 1, "w1", 0, 3);
    tell(&mut compactor, &[outer], at(END));
    let mut events = Vec::new();
    let mut rows = Vec::new();
    for writer in ["w1", "w2"] {
        let (event, more) = world.write_some("eu/users", HOUR + 1, writer, 0, 3);
        events.push(event);
        rows.extend(more);
    }
    assert_eq!(
        tell(&mut compactor, &events, at(END)),
        [Err(ErrorKind::Halted), Err(ErrorKind::Halted)]
    );
    // The host moves the outer table away, and so ends its lane.
    for path in world.list(&world.control, &Path::from("lanes/eu")) {
        super::support::delete(&world.control, path.as_ref());
    }
    drop(compactor);
    let mut compactor = world.open(at(END + 10 * MINUTE));
    assert_eq!(
        tell(&mut compactor, &events, at(END + 10 * MINUTE)),
        [Ok(EventOutcome::Recorded), Ok(EventOutcome::Recorded)]
    );
    let reports = work_until(&mut compactor, at(END + 10 * MINUTE), at(END + DAY));
    assert_eq!(commits(&reports), [(1, 0, 2, 6)]);
    assert_eq!(world.table_rows("eu/users"), sorted(&[&rows]));
}

#[test]
fn a_table_that_cannot_be_had_is_asked_for_again_and_what_was_seen_meanwhile_is_saved_before_it_is_acknowledged() {
    let world = World::new();
    let flaky = Flaky::default();
    let builder = |flaky: &Flaky| {
        CompactorBuilder::new(
            place("mem://bucket", &world.bucket),
            place("mem://control", &world.control),
            FlakyTables(tables(&world, "mem://tables"), flaky.clone()),
            Arc::clone(&world.state),
            world.options.clone(),
        )
    };
    let mut compactor = block_on(builder(&flaky).open(at(END))).unwrap();
    flaky.set(true);
    let mut events = Vec::new();
    let mut rows = Vec::new();
    for writer in ["w1", "w2"] {
        let (event, more) = world.write_some("users", HOUR + 1, writer, 0, 3);
        events.push(event);
        rows.extend(more);
    }
    assert_eq!(
        tell(&mut compactor, &events, at(END)),
        [Err(ErrorKind::Halted), Err(ErrorKind::Halted)]
    );
    flaky.set(false);
    let later = at(END + 10 * MINUTE);
    for outcome in tell(&mut compactor, &events, later) {
        assert!(outcome.is_ok(), "{outcome:?}");
    }
    // What was acknowledged is remembered by the next process, without a listing.
    drop(compactor);
    let mut compactor = block_on(builder(&flaky).open(later)).unwrap();
    assert_eq!(compactor.status(later).windows[0].file_count, 2);
    let reports = work_until(&mut compactor, later, at(END + DAY));
    assert_eq!(commits(&reports), [(1, 0, 2, 6)]);
    assert_eq!(world.table_rows("users"), sorted(&[&rows]));
}

#[test]
fn a_namespace_that_was_refused_for_a_while_is_planned_by_the_same_compactor() {
    let world = World::new();
    let flaky = Flaky::default();
    let builder = CompactorBuilder::new(
        place("mem://bucket", &world.bucket),
        place("mem://control", &world.control),
        FlakyTables(tables(&world, "mem://tables"), flaky.clone()),
        Arc::clone(&world.state),
        world.options.clone(),
    );
    let mut compactor = block_on(builder.open(at(END))).unwrap();
    flaky.set(true);
    let (event, rows) = world.write_some("users", HOUR + 1, "w1", 0, 3);
    assert_eq!(
        tell(&mut compactor, std::slice::from_ref(&event), at(END)),
        [Err(ErrorKind::Halted)]
    );
    block_on(compactor.reconcile(at(END))).unwrap();
    flaky.set(false);
    let later = at(END + 10 * MINUTE);
    assert_eq!(tell(&mut compactor, &[event], later).len(), 1);
    assert_eq!(compactor.status(later).halts, []);
    let reports = work_until(&mut compactor, later, at(END + 2 * DAY));
    assert_eq!(commits(&reports), [(1, 0, 1, 3)]);
    assert_eq!(world.table_rows("users"), rows);
}

/// Whether a table cannot be had at the moment.
#[derive(Clone, Debug, Default)]
struct Flaky(Arc<std::sync::atomic::AtomicBool>);

impl Flaky {
    fn set(&self, fails: bool) {
        self.0.store(fails, std::sync::atomic::Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct FlakyTables(Arc<dyn firnline::TableProvider>, Flaky);

impl firnline::TableProvider for FlakyTables {
    fn table(&self, namespace: &firnline::Namespace) -> firnline::Result<firnline::Table> {
        if self.1.0.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(firnline::Error::new(ErrorKind::Invalid, "no such table"));
        }
        firnline::TableProvider::table(&self.0, namespace)
    }
}

#[test]
fn a_store_that_ignores_put_if_absent_is_refused_by_name() {
    let mut world = World::new();
    world.control = HookStore::ignoring_create(&world.control);
    let error = block_on(world.builder().open(at(END))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(
        error.to_string(),
        "the store overwrites an object that was to be created only if absent (put-if-absent). \
         object=`firnline.json`"
    );
}

#[test]
fn a_store_without_put_if_absent_is_refused_by_name() {
    let mut world = World::new();
    world.control = HookStore::new(&world.control, |moment, operation, _| {
        if (moment, operation) == (Moment::Before, "put") {
            return Err(StoreError::NotImplemented {
                operation: "put if absent".into(),
                implementer: "HookStore".into(),
            });
        }
        Ok(())
    });
    let error = block_on(world.builder().open(at(END))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(
        error.to_string(),
        "the store cannot create an object only if it is absent (put-if-absent). object=`firnline.json`"
    );
}

#[test]
fn a_key_grammar_without_the_namespace_is_no_reason_to_mix_up_two() {
    // `eu%2Fusers` is a namespace of its own, not an encoded `eu/users`.
    let world = World::new();
    let mut compactor = world.open(at(END));
    let rows: Vec<_> = (0..2).map(|i| (HOUR * 1_000 + i, format!("a{i}"), i)).collect();
    let events: Vec<_> = ["w1", "w2"]
        .iter()
        .map(|writer| {
            let key = format!("data/eu%2Fusers/{HOUR}-{writer}-0.parquet");
            put(&world.bucket, &key, parquet_of(&rows))
        })
        .collect();
    assert_eq!(tell(&mut compactor, &events, at(END)), [Ok(EventOutcome::Recorded); 2]);
    assert_eq!(
        commits(&work_until(&mut compactor, at(END), at(END + DAY))),
        [(1, 0, 2, 4)]
    );
    assert_eq!(compactor.namespaces().collect::<Vec<_>>(), [&ns("eu%2Fusers")]);
    assert_eq!(quarantine(&compactor, at(END)), []);
    assert_eq!(
        content(&world.control)
            .iter()
            .filter(|(path, _)| path.starts_with("lanes/eu%252Fusers/"))
            .count(),
        content(&world.control).len() - 1
    );
}
