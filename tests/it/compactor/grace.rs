//! Sources stay for the whole grace, readers see each row once meanwhile, and who only reads writes nothing.

use firnline::object_store::path::Path;
use firnline::{Compactor, ErrorKind, EventOutcome};
use futures::executor::block_on;

use super::support::{DAY, END, MINUTE, commits, content, ns, put, sorted, tell, two_good};
use crate::world::{HOUR, Row, World, at, parquet_of, rows_of, work, work_until};

const GRACE: i64 = 6 * 3_600_000;

fn world() -> World {
    let mut world = World::new();
    world.options = world.options.with_delete_grace_ms(GRACE.cast_unsigned());
    world
}

/// The rows of a view: those of the table at its version, and those of its raw files.
fn rows_of_view(world: &World, compactor: &Compactor, now: i64) -> Vec<Row> {
    let view = block_on(compactor.read_view(&ns("users"), at(now))).unwrap();
    assert_eq!(view.expires_at, at(now + GRACE - GRACE / 10));
    let table = match view.table_version {
        Some(_) => world.table_rows("users"),
        None => Vec::new(),
    };
    let mut raw = Vec::new();
    for file in view.files {
        let path = Path::parse(file.key.as_str()).unwrap();
        let bytes = block_on(async {
            let got = firnline::object_store::ObjectStoreExt::get(&world.bucket, &path).await;
            got.unwrap().bytes().await.unwrap()
        });
        raw.extend(rows_of(bytes));
    }
    sorted(&[&table, &raw])
}

#[test]
fn sources_stay_for_the_whole_grace_and_the_deadline_names_its_end() {
    let world = world();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let ready = compactor.next_deadline(at(END)).unwrap();
    assert_eq!(ready, at(END + 30_000), "settled after half a minute");
    let job = compactor.poll_job(ready).unwrap();
    let outcome = block_on(job.run());
    // The merge took a minute: the grace begins when its commit was recorded.
    let committed_at = ready + 60_000;
    let report = block_on(compactor.finish_job(outcome, committed_at)).unwrap();
    assert_eq!(commits(&[report]), [(1, 0, 2, 40)]);
    let over = committed_at + GRACE.cast_unsigned();
    assert_eq!(compactor.next_deadline(committed_at), Some(over));
    assert_eq!(work(&mut compactor, over - 1).len(), 0);
    assert_eq!(world.sources().len(), 2);
    let status = compactor.status(over - 1);
    assert_eq!(status.plans.len(), 1);
    assert_eq!(status.plans[0].phase, firnline::PlanPhase::Reclaiming);
    let reports = work(&mut compactor, over);
    assert_eq!(reports.iter().map(|r| r.reclaimed_sources).sum::<usize>(), 2);
    assert_eq!(world.sources(), Vec::<String>::new());
    assert_eq!(world.table_rows("users"), rows);
    assert_eq!(compactor.status(over).plans, []);
}

#[test]
fn the_grace_is_waited_for_where_the_hosts_clock_is_years_ahead_of_the_stores() {
    // The stores of the tests go by the clock of the machine.
    let ahead = at(4_000_000_000_000);
    let world = world();
    let mut compactor = world.open(ahead);
    let (first, mut rows) = world.write_some("users", HOUR + 1_000, "w1", 0, 20);
    let (second, more) = world.write_some("users", HOUR + 2_000, "w2", 0, 20);
    rows.extend(more);
    assert_eq!(
        tell(&mut compactor, &[first, second], ahead),
        [Ok(EventOutcome::Recorded), Ok(EventOutcome::Recorded)]
    );
    let read_at = ahead + 1_000;
    let view = block_on(compactor.read_view(&ns("users"), read_at)).unwrap();
    let committed_at = ahead + 30_000;
    assert_eq!(
        commits(&work_until(&mut compactor, ahead, committed_at)),
        [(1, 0, 2, 40)]
    );
    let over = committed_at + GRACE.cast_unsigned();
    assert_eq!(compactor.next_deadline(committed_at), Some(over));
    for mut process in [compactor, world.open(committed_at)] {
        assert_eq!(work(&mut process, over - 1).len(), 0);
    }
    assert_eq!(world.sources().len(), 2);
    assert!(view.files.len() == 2 && view.expires_at < over, "{view:?}");
    let reports = work(&mut world.open(over), over);
    assert_eq!(reports.iter().map(|r| r.reclaimed_sources).sum::<usize>(), 2);
    assert_eq!(world.sources(), Vec::<String>::new());
    assert_eq!(world.table_rows("users"), sorted(&[&rows]));
}

#[test]
fn a_view_shows_each_row_once_before_the_commit_after_it_and_after_the_reclaim() {
    let world = world();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    assert_eq!(rows_of_view(&world, &compactor, END), rows);
    let now = at(END + MINUTE);
    let job = compactor.poll_job(now).unwrap();
    let outcome = block_on(job.run());
    // Committed and recorded, though this compactor has not been told.
    assert_eq!(rows_of_view(&world, &compactor, END + MINUTE), rows);
    let report = block_on(compactor.finish_job(outcome, now)).unwrap();
    assert_eq!(commits(&[report]), [(1, 0, 2, 40)]);
    assert_eq!(world.sources().len(), 2);
    assert_eq!(rows_of_view(&world, &compactor, END + MINUTE), rows);
    // A late file is raw until it is committed.
    let (event, late) = world.write_some("users", HOUR + 77, "w1", 5, 4);
    let all = sorted(&[&rows, &late]);
    assert_eq!(rows_of_view(&world, &compactor, END + MINUTE), all);
    assert_eq!(tell(&mut compactor, &[event], now), [Ok(EventOutcome::Recorded)]);
    let mut t = END + MINUTE;
    while t < END + 3 * DAY {
        work(&mut compactor, at(t));
        assert_eq!(rows_of_view(&world, &compactor, t), all, "{t}");
        t += 3_600_000;
    }
    assert_eq!(world.sources(), Vec::<String>::new());
}

#[test]
fn a_view_of_another_process_hides_what_was_committed_and_not_recorded() {
    let mut world = world();
    let inner = world.control.clone();
    world.control = super::support::HookStore::new(&inner, |moment, operation, path| {
        let deciding = operation == "put" && path.as_ref().contains("/decided/");
        match moment {
            super::support::Moment::Before if deciding => Err(super::support::away()),
            _ => Ok(()),
        }
    });
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let reports = work(&mut compactor, at(END + MINUTE));
    assert_eq!(commits(&reports), []);
    assert_eq!(world.table_rows("users"), rows);
    world.control = inner;
    let reader = block_on(world.builder().open_read_only(at(END + MINUTE))).unwrap();
    assert_eq!(rows_of_view(&world, &reader, END + MINUTE), rows);
}

#[test]
fn a_view_shows_rows_once_though_their_file_was_uploaded_again() {
    let world = world();
    let mut compactor = world.open(at(END));
    let (events, rows) = two_good(&world, &mut compactor);
    work(&mut compactor, at(END + MINUTE));
    let again = events[0].key.as_str();
    let path = Path::parse(again).unwrap();
    let bytes = block_on(async {
        let got = firnline::object_store::ObjectStoreExt::get(&world.bucket, &path).await;
        got.unwrap().bytes().await.unwrap()
    });
    put(&world.bucket, again, bytes.clone());
    assert_eq!(rows_of_view(&world, &compactor, END + 2 * MINUTE), rows);
    work_until(&mut compactor, at(END + 2 * MINUTE), at(END + DAY));
    assert_eq!(rows_of_view(&world, &compactor, END + DAY), rows);
    put(&world.bucket, again, bytes);
    assert_eq!(rows_of_view(&world, &compactor, END + DAY), rows);
}

#[test]
fn a_view_is_refused_without_a_grace_and_of_a_namespace_that_is_not_there() {
    let without = World::new();
    let mut compactor = without.open(at(END));
    two_good(&without, &mut compactor);
    let error = block_on(compactor.read_view(&ns("users"), at(END))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        error.to_string(),
        "a view needs a grace: with deleteGraceMs 0 raw files are deleted under its reader"
    );
    let with = world();
    let error = block_on(with.open(at(END)).read_view(&ns("users"), at(END))).unwrap_err();
    assert_eq!(error.to_string(), "no such namespace. namespace=`users`");
}

#[test]
fn a_compactor_that_only_reads_writes_nothing() {
    let world = world();
    let mut compactor = world.open(at(END));
    let (events, rows) = two_good(&world, &mut compactor);
    // A plan that is committed and one that waits.
    work(&mut compactor, at(END + MINUTE));
    let (late, _) = world.write_some("users", HOUR + 77, "w1", 5, 4);
    tell(&mut compactor, &[late], at(END + MINUTE));
    let malformed = put(&world.bucket, "data/users/x.parquet", parquet_of(&rows));
    tell(&mut compactor, &[malformed.clone()], at(END + MINUTE));
    drop(compactor);
    let before = (content(&world.bucket), content(&world.tables), content(&world.control));
    let mut other = world.clone();
    other.options = other.options.with_window_size_ms(60_000);
    let mut reader = block_on(other.builder().open_read_only(at(END + DAY))).unwrap();
    let status = reader.status(at(END + DAY));
    assert_eq!(
        (status.active_windows, status.plans.len(), status.quarantine.count),
        (1, 1, 1)
    );
    block_on(reader.read_view(&ns("users"), at(END + DAY))).unwrap();
    assert_eq!(tell(&mut reader, &events, at(END + DAY)), [Err(ErrorKind::Invalid); 2]);
    assert_eq!(
        block_on(reader.reconcile(at(END + DAY))).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    assert!(reader.poll_job(at(END + 30 * DAY)).is_none());
    let door = reader.discard(&malformed.key).unwrap();
    let error = block_on(reader.go_through(door, at(END + DAY))).unwrap_err();
    assert_eq!(error.to_string(), "this compactor was opened to read only");
    let door = block_on(reader.adopt(&ns("users"))).unwrap();
    let error = block_on(reader.go_through(door, at(END + DAY))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        (content(&world.bucket), content(&world.tables), content(&world.control)),
        before
    );
}

#[test]
fn only_what_was_deleted_is_counted_as_deleted() {
    let world = world();
    let mut compactor = world.open(at(END));
    let (events, _) = two_good(&world, &mut compactor);
    let committed = at(END + 30_000);
    assert_eq!(
        commits(&work_until(&mut compactor, at(END), committed)),
        [(1, 0, 2, 40)]
    );
    let mut other = world.open(committed);
    super::support::delete(&world.bucket, events[0].key.as_str());
    let over = committed + GRACE.cast_unsigned();
    let deleted = |compactor: &mut Compactor| -> Vec<usize> {
        let reports = work(compactor, over);
        reports.iter().map(|report| report.reclaimed_sources).collect()
    };
    assert_eq!(deleted(&mut compactor).iter().sum::<usize>(), 1);
    assert_eq!(deleted(&mut other).iter().sum::<usize>(), 0);
    assert_eq!(world.sources(), Vec::<String>::new());
    assert_eq!(other.status(over).plans, []);
}
