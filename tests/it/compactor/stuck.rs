//! Lanes that stand still: the doors that their halts name do open, and damaged state is no halt.

use std::sync::Arc;

use firnline::delta::{DeltaOptions, DeltaTables};
use firnline::object_store::path::Path;
use firnline::{
    Compactor, CompactorBuilder, ErrorKind, EventOutcome, HealthState, MemoryStateStore, ObjectStoreStateStore, Place,
    SortField,
};
use futures::executor::block_on;

use super::support::{DAY, END, MINUTE, commits, content, delete, ns, put, quarantine, sorted, tell, two_good};
use crate::world::{HOUR, Row, World, at, parquet_of, work, work_until};

const T: i64 = END + 10 * MINUTE;
const MANIFEST: &str = "lanes/users/lane.json";

/// A committed window of two files within its grace.
fn committed() -> (World, Vec<Row>) {
    let mut world = World::new();
    world.options = world.options.with_delete_grace_ms(3_600_000);
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    assert_eq!(commits(&work_until(&mut compactor, at(END), at(T))), [(1, 0, 2, 40)]);
    (world, rows)
}

fn halts(compactor: &Compactor) -> Vec<String> {
    let halts = compactor.status(at(T)).halts.into_iter();
    halts.map(|halt| halt.reason).collect()
}

/// Goes through `adopt`: how many files are pending, in quarantine, and left.
fn adopted(compactor: &mut Compactor) -> (usize, usize, usize) {
    let door = block_on(compactor.adopt(&ns("users"))).unwrap();
    let report = block_on(compactor.go_through(door, at(T))).unwrap();
    assert_eq!(halts(compactor), Vec::<String>::new());
    (report.pending, report.quarantined, report.left)
}

/// A file that comes later goes in, once, and everything else stays in once.
fn goes_on(world: &World, compactor: &mut Compactor, rows: &[Row]) {
    let (event, more) = world.write_some("users", HOUR + 99, "w9", 0, 5);
    assert_eq!(tell(compactor, &[event], at(T)), [Ok(EventOutcome::Recorded)]);
    work_until(compactor, at(T), at(T + 2 * DAY));
    assert_eq!(halts(compactor), Vec::<String>::new());
    assert_eq!(world.table_rows("users"), sorted(&[rows, &more]));
}

#[test]
fn a_damaged_manifest_is_replaced_by_adopt_and_the_register_still_tells_what_is_in_the_table() {
    for damage in ["", "{", "{\"version\":1}"] {
        let (world, rows) = committed();
        put(&world.control, MANIFEST, damage);
        let mut compactor = world.open(at(T));
        assert!(halts(&compactor)[0].contains("`adopt` or `replay` goes on"), "{damage}");
        assert_eq!(adopted(&mut compactor), (0, 0, 2), "{damage}");
        goes_on(&world, &mut compactor, &rows);
    }
}

#[test]
fn a_damaged_manifest_beside_a_dropped_table_is_replaced_by_replay() {
    let (world, rows) = committed();
    put(&world.control, MANIFEST, "{\"trunc");
    for (path, _) in content(&world.tables) {
        delete(&world.tables, &path);
    }
    let mut compactor = world.open(at(T));
    let door = block_on(compactor.replay(&ns("users"))).unwrap();
    let report = block_on(compactor.go_through(door, at(T))).unwrap();
    assert_eq!((report.pending, report.quarantined, report.left), (2, 0, 0));
    goes_on(&world, &mut compactor, &rows);
}

#[test]
fn a_manifest_of_a_later_release_is_left_alone() {
    let (world, _) = committed();
    put(&world.control, MANIFEST, "{\"version\":2,\"lanes\":[]}");
    let before = content(&world.control);
    let compactor = world.open(at(T));
    assert!(halts(&compactor)[0].starts_with("what is kept of the lane is of a later release"));
    let error = block_on(compactor.adopt(&ns("users"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(content(&world.control), before);
}

#[test]
fn a_lane_that_a_door_left_half_made_is_not_believed_when_its_manifest_is_damaged() {
    let (world, rows) = committed();
    let mut compactor = world.open(at(T));
    assert_eq!(adopted(&mut compactor), (0, 0, 2));
    // As if the process had died before what it judged was written down.
    for path in world.list(&world.control, &Path::default()) {
        if path.as_ref().contains("/settled/") {
            put(
                &world.control,
                &format!(
                    "{}/attempts/x.json",
                    path.parts()
                        .take(3)
                        .map(|p| p.as_ref().to_owned())
                        .collect::<Vec<_>>()
                        .join("/")
                ),
                "",
            );
            delete(&world.control, path.as_ref());
        }
    }
    put(&world.control, MANIFEST, "");
    let mut compactor = world.open(at(T));
    assert_eq!(adopted(&mut compactor), (0, 2, 0));
    goes_on(&world, &mut compactor, &rows);
}

#[test]
fn a_decision_that_is_gone_or_damaged_leaves_its_sources_in_doubt() {
    for damage in [None, Some("{\"trunc")] {
        let (world, mut rows) = committed();
        let mut compactor = world.open(at(T));
        let (event, more) = world.write_some("users", HOUR + 50, "w1", 1, 3);
        rows.extend(more);
        tell(&mut compactor, &[event], at(T));
        compactor.drain(None);
        assert_eq!(commits(&work(&mut compactor, at(T))), [(2, 1, 1, 3)]);
        let decided = world.list(&world.control, &Path::default());
        let decided = decided
            .iter()
            .find(|path| path.as_ref().ends_with("/decided/1.json"))
            .unwrap();
        match damage {
            None => delete(&world.control, decided.as_ref()),
            Some(damage) => drop(put(&world.control, decided.as_ref(), damage)),
        }
        let mut compactor = world.open(at(T));
        // The newest entry's own sources are known to be in.
        assert_eq!(adopted(&mut compactor), (0, 2, 1), "{damage:?}");
        goes_on(&world, &mut compactor, &rows);
    }
}

#[test]
fn a_plan_that_is_damaged_leaves_its_sources_in_doubt() {
    let (world, rows) = committed();
    let plans = world.list(&world.control, &Path::default());
    let plan = plans
        .iter()
        .find(|path| path.as_ref().ends_with("/plans/1.json"))
        .unwrap();
    put(&world.control, plan.as_ref(), "{\"trunc");
    let mut compactor = world.open(at(T));
    assert_eq!(adopted(&mut compactor), (0, 2, 0));
    goes_on(&world, &mut compactor, &rows);
}

#[test]
fn committed_files_that_were_copied_since_are_known_by_their_content() {
    let (world, rows) = committed();
    put(&world.control, MANIFEST, "");
    for (key, bytes) in content(&world.bucket) {
        put(&world.bucket, &key, bytes);
    }
    let mut compactor = world.open(at(T));
    assert_eq!(adopted(&mut compactor), (0, 0, 2));
    goes_on(&world, &mut compactor, &rows);
}

#[test]
fn adopt_may_be_the_first_command_after_the_control_prefix_was_lost() {
    let (mut world, rows) = committed();
    world.control = World::new().control;
    world.state = Arc::new(MemoryStateStore::new());
    let mut compactor = world.open(at(T));
    assert_eq!(compactor.namespaces().count(), 0);
    assert_eq!(adopted(&mut compactor), (0, 2, 0));
    goes_on(&world, &mut compactor, &rows);
    let error = block_on(compactor.adopt(&ns("nobody"))).unwrap_err();
    assert_eq!(error.to_string(), "no such namespace. namespace=`nobody`");
}

fn with_order(world: &World, columns: &[&str]) -> World {
    let mut other = world.clone();
    let order = columns.iter().map(|column| SortField::ascending(*column)).collect();
    other.options = other.options.with_sort_order(order);
    other
}

#[test]
fn other_settings_are_taken_by_a_lane_without_a_plan() {
    let right = World::new();
    let forgotten = with_order(&right, &[]);
    let mut old = forgotten.open(at(END));
    let (first, mut rows) = right.write_some("users", HOUR + 1_000, "w1", 0, 20);
    assert_eq!(tell(&mut old, &[first], at(END)), [Ok(EventOutcome::Recorded)]);
    let mut compactor = right.open(at(T));
    assert_eq!(halts(&compactor), Vec::<String>::new());
    assert_eq!(compactor.status(at(T)).windows[0].file_count, 1, "listed anew");
    // The worker with the old settings, which has been running all the time, is shut out.
    let (second, more) = right.write_some("users", HOUR + 2_000, "w2", 0, 20);
    rows.extend(more);
    tell(&mut old, std::slice::from_ref(&second), at(T));
    assert_eq!(commits(&work_until(&mut old, at(T), at(T + DAY))), []);
    assert!(halts(&old)[0].starts_with("the lane has ended and another one has its table"));
    assert_eq!(tell(&mut compactor, &[second], at(T)), [Ok(EventOutcome::Recorded)]);
    assert_eq!(
        commits(&work_until(&mut compactor, at(T), at(T + DAY))),
        [(1, 0, 2, 40)]
    );
    assert_eq!(right.table_rows("users"), sorted(&[&rows]));
    // From now on they are kept.
    let reason = &halts(&forgotten.open(at(T + DAY)))[0];
    assert!(
        reason.contains("`adopt` goes on with the new ones. field=`sortOrder` lane=`ts,id` now=``"),
        "{reason}"
    );
}

#[test]
fn a_manifest_that_still_names_a_lane_that_has_ended_leads_to_its_successor() {
    let right = World::new();
    let mut old = with_order(&right, &[]).open(at(END));
    let (first, _) = right.write_some("users", HOUR + 1_000, "w1", 0, 20);
    tell(&mut old, &[first], at(END));
    let manifest = content(&right.control)
        .into_iter()
        .find(|(path, _)| path == MANIFEST)
        .unwrap()
        .1;
    drop(right.open(at(T)));
    put(&right.control, MANIFEST, manifest);
    let mut compactor = right.open(at(T));
    assert_eq!(halts(&compactor), Vec::<String>::new());
    compactor.drain(None);
    assert_eq!(commits(&work(&mut compactor, at(T))), [(1, 0, 1, 20)]);
}

#[test]
fn files_set_aside_under_a_mistyped_sort_order_go_in_once_it_is_right() {
    let right = World::new();
    let mistyped = with_order(&right, &["tss", "id"]);
    let mut compactor = mistyped.open(at(END));
    let (events, rows) = two_good(&mistyped, &mut compactor);
    assert_eq!(commits(&work_until(&mut compactor, at(END), at(T))), []);
    let kinds: Vec<_> = quarantine(&compactor, at(T))
        .into_iter()
        .map(|(_, kind)| kind)
        .collect();
    assert_eq!(kinds, ["schemaDrift", "schemaDrift"]);
    let door = compactor.discard(&events[1].key).unwrap();
    block_on(compactor.go_through(door, at(T))).unwrap();
    let mut compactor = right.open(at(T));
    assert_eq!(quarantine(&compactor, at(T)), []);
    let door = compactor.release(&events[0].key).unwrap();
    assert_eq!(
        door.to_string(),
        format!("release `{}`: it is pending already", events[0].key)
    );
    assert_eq!(block_on(compactor.go_through(door, at(T))).unwrap().pending, 1);
    assert_eq!(commits(&work(&mut compactor, at(T))), [(1, 0, 1, 20)]);
    assert_eq!(right.table_rows("users"), sorted(&[&rows[..20]]));
    assert_eq!(
        right.sources(),
        [events[1].key.as_str()],
        "what was given up stays given up"
    );
}

#[test]
fn adopt_goes_on_with_another_sort_order() {
    let (world, rows) = committed();
    let other = with_order(&world, &["id"]);
    let mut compactor = other.open(at(T));
    assert_eq!(
        halts(&compactor),
        [
            "settings differ from those the lane was made with: put them back, or `adopt` goes on with the new ones. \
          field=`sortOrder` lane=`ts,id` now=`id`"
        ]
    );
    assert_eq!(adopted(&mut compactor), (0, 0, 2));
    goes_on(&other, &mut compactor, &rows);
    assert!(halts(&world.open(at(T)))[0].contains("lane=`id` now=`ts,id`"));
}

#[test]
fn adopt_goes_on_with_a_table_that_was_moved() {
    if crate::table_log::is_iceberg() {
        return; // such a table cannot be moved: its metadata hold full URIs
    }
    let (world, rows) = committed();
    let place = |url: &str, store| Place::new(url, store, "").unwrap();
    let tables = Arc::clone(&world.tables);
    let builder = CompactorBuilder::new(
        place("mem://bucket", Arc::clone(&world.bucket)),
        place("mem://control", Arc::clone(&world.control)),
        DeltaTables::new("mem://elsewhere", tables, Path::default(), DeltaOptions::default()),
        Arc::clone(&world.state),
        world.options.clone(),
    );
    let mut compactor = block_on(builder.open(at(T))).unwrap();
    assert!(halts(&compactor)[0].contains("field=`tableLocation`"));
    assert_eq!(adopted(&mut compactor), (0, 0, 2));
    goes_on(&world, &mut compactor, &rows);
}

/// A world whose state lies in an object store: a window within its grace, a bad file, a pending one.
fn with_state() -> (World, Vec<Row>) {
    let mut world = World::new();
    world.options = world.options.with_delete_grace_ms(3_600_000);
    world.state = Arc::new(ObjectStoreStateStore::new(
        Arc::clone(&world.control),
        Path::from("state"),
    ));
    let mut compactor = world.open(at(END));
    let (_, mut rows) = two_good(&world, &mut compactor);
    let bad = put(
        &world.bucket,
        &format!("data/users/{}-w3-0.parquet", HOUR + 3_000),
        b"garbage".to_vec(),
    );
    let misnamed = put(&world.bucket, "data/users/x.parquet", parquet_of(&rows));
    tell(&mut compactor, &[bad, misnamed], at(END));
    assert_eq!(commits(&work_until(&mut compactor, at(END), at(T))), [(1, 0, 2, 40)]);
    let (event, more) = world.write_some("users", HOUR + 50, "w1", 1, 3);
    tell(&mut compactor, &[event], at(T));
    rows.extend(more);
    (world, rows)
}

#[test]
fn a_damaged_object_of_the_state_costs_a_listing_and_is_said() {
    let (world, rows) = with_state();
    let objects = content(&world.control).into_iter();
    let objects: Vec<_> = objects.filter(|(path, _)| path.starts_with("state/")).collect();
    assert!(objects.len() > 5, "{objects:?}");
    let mut noticed = 0;
    for (path, good) in objects {
        let half = good.slice(..good.len() - 7);
        let mut flipped = good.to_vec();
        let end = flipped.len();
        flipped[end - 3..].fill(0xff);
        for damage in [Vec::new(), b"{\"trunc".to_vec(), half.to_vec(), flipped] {
            let (world, rows_of_it) = with_state();
            assert_eq!(rows_of_it, rows);
            // Ids of lanes are random: the same place in another lane.
            let lane = |text: &str| {
                text.split('/')
                    .nth(3)
                    .filter(|_| text.starts_with("state/lanes/"))
                    .map(str::to_owned)
            };
            let paths = content(&world.control);
            let theirs = paths.iter().find_map(|(path, _)| lane(path)).unwrap();
            let path = lane(&path).map_or_else(|| path.clone(), |ours| path.replace(&ours, &theirs));
            let what = format!("{path} {:?}", String::from_utf8_lossy(&damage));
            put(&world.control, &path, damage);
            let mut compactor = world.open(at(T));
            assert_eq!(halts(&compactor), Vec::<String>::new(), "{what}");
            let status = compactor.status(at(T));
            if status.counters.damaged_state > 0 {
                noticed += 1;
                assert!(status.health.state >= HealthState::Degraded, "{what}");
                assert_eq!(status.windows.len(), 1, "{what}");
                assert_eq!(
                    world.open(at(T)).status(at(T)).counters.damaged_state,
                    0,
                    "{what}: mended"
                );
            }
            compactor.drain(None);
            work_until(&mut compactor, at(T), at(T + 2 * DAY));
            assert_eq!(world.table_rows("users"), sorted(&[&rows]), "{what}");
            assert_eq!(world.sources().len(), 2, "{what}");
            block_on(compactor.reconcile(at(T + 2 * DAY))).unwrap();
            let kinds: Vec<_> = quarantine(&compactor, at(T))
                .into_iter()
                .map(|(_, kind)| kind)
                .collect();
            assert_eq!(kinds, ["corrupt", "malformed"], "{what}");
        }
    }
    assert!(noticed > 10, "{noticed}");
}

#[test]
fn what_is_in_doubt_is_in_quarantine_again_when_the_state_that_said_so_is_damaged() {
    let (mut world, rows) = committed();
    world.control = World::new().control;
    world.state = Arc::new(ObjectStoreStateStore::new(
        Arc::clone(&world.control),
        Path::from("state"),
    ));
    let mut compactor = world.open(at(T));
    assert_eq!(adopted(&mut compactor), (0, 2, 0));
    drop(compactor);
    let state = world.list(&world.control, &Path::from("state"));
    for path in state {
        put(&world.control, path.as_ref(), "\u{0}");
    }
    let mut compactor = world.open(at(T));
    assert!(compactor.status(at(T)).counters.damaged_state > 0);
    goes_on(&world, &mut compactor, &rows);
    assert_eq!(compactor.status(at(T)).quarantine.count, 2);
}

#[test]
fn state_of_a_later_release_is_left_alone() {
    let (world, _) = with_state();
    let state = world.list(&world.control, &Path::from("state"));
    let of_lane: Vec<_> = state.iter().filter(|path| path.as_ref().contains("/lane/")).collect();
    put(
        &world.control,
        of_lane.last().unwrap().as_ref(),
        "firnline-state 2 something",
    );
    let before = content(&world.control);
    let compactor = world.open(at(T));
    assert!(halts(&compactor)[0].starts_with("what is kept of the lane is of a later release"));
    assert_eq!(content(&world.control), before);
}
