//! Many namespaces at once: each has its own lane, and what stops one does not stop another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use firnline::arrow::datatypes::{Schema, SchemaRef};
use firnline::{
    CommitOutcome, CompactorBuilder, Confirmation, Decision, ErrorKind, LaneId, Namespace, Place, Priority,
    QuarantineReason, Table, TableCommit, TableLayout, TableProvider, TableSink, TableState,
};
use futures::executor::block_on;

use super::support::{DAY, END, HookStore, MINUTE, Moment, away, commits, errors, tell, two_good};
use crate::table_log;
use crate::world::{HOUR, Row, World, at, work, work_until};

fn name(number: usize) -> String {
    format!("n{number:02}")
}

/// Three files of two writers in each of `count` namespaces: their rows.
fn fill(world: &World, compactor: &mut firnline::Compactor, count: usize) -> BTreeMap<String, Vec<Row>> {
    let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let mut events = Vec::new();
    for number in 0..count {
        for (writer, sequence) in [("w1", 0), ("w2", 0), ("w1", 1)] {
            let t = HOUR + i64::try_from(sequence).unwrap();
            let (event, more) = world.write_some(&name(number), t, writer, sequence, 3);
            events.push(event);
            rows.entry(name(number)).or_default().extend(more);
        }
    }
    for outcome in tell(compactor, &events, at(END)) {
        assert_eq!(outcome, Ok(firnline::EventOutcome::Recorded));
    }
    for rows in rows.values_mut() {
        rows.sort();
    }
    rows
}

#[test]
fn fifty_namespaces_each_give_one_job_by_priority_and_their_jobs_run_at_the_same_time() {
    let mut world = World::new();
    let priorities = [
        (name(7), Priority::Critical),
        (name(31), Priority::High),
        (name(2), Priority::Background),
    ];
    world.options = world.options.with_priorities(BTreeMap::from(priorities));
    let mut compactor = world.open(at(END));
    let rows = fill(&world, &mut compactor, 50);
    let now = at(END + MINUTE);
    let jobs: Vec<_> = std::iter::from_fn(|| compactor.poll_job(now)).collect();
    let order: Vec<_> = jobs.iter().map(|job| job.namespace().as_str().to_owned()).collect();
    let mut expected = vec![name(7), name(31)];
    expected.extend((0..50).map(name).filter(|n| ![name(7), name(31), name(2)].contains(n)));
    expected.push(name(2));
    assert_eq!(order, expected);
    assert!(jobs.iter().all(|job| job.kind() == "compact"));
    let outcomes = block_on(futures::future::join_all(jobs.into_iter().map(firnline::Job::run)));
    let mut committed = 0;
    for outcome in outcomes {
        let report = block_on(compactor.finish_job(outcome, now)).unwrap();
        assert_eq!(commits(std::slice::from_ref(&report)), [(1, 0, 3, 9)]);
        committed += 1;
    }
    assert_eq!(committed, 50);
    let reports = work(&mut compactor, now);
    assert_eq!(errors(&reports), Vec::<String>::new());
    assert_eq!(reports.iter().map(|r| r.reclaimed_sources).sum::<usize>(), 150);
    for (namespace, rows) in rows {
        assert_eq!(world.table_rows(&namespace), rows, "{namespace}");
    }
    assert_eq!(world.sources(), Vec::<String>::new());
    assert_eq!(
        compactor.next_deadline(now),
        Some(at(END + MINUTE + 3 * DAY)),
        "only upkeep is left"
    );
}

#[test]
fn a_table_that_does_not_answer_stops_its_own_lane_only() {
    let mut world = World::new();
    let inner = Arc::clone(&world.tables);
    world.tables = HookStore::new(&inner, |moment, operation, path| {
        let first = path.as_ref().starts_with("n01/");
        match (moment, operation) {
            (Moment::Before, "put") if first => Err(away()),
            _ => Ok(()),
        }
    });
    let mut compactor = world.open(at(END));
    let rows = fill(&world, &mut compactor, 3);
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 3, 9), (1, 0, 3, 9)]);
    assert!(errors(&reports).len() > 1, "it is tried again");
    assert_eq!(world.table_rows("n00"), rows["n00"]);
    assert_eq!(world.table_rows("n02"), rows["n02"]);
    assert_eq!(compactor.status(at(END + 10 * MINUTE)).halts, []);
    // The store is back: the lane goes on by itself.
    drop(compactor);
    world.tables = inner;
    let mut compactor = world.open(at(END + 10 * MINUTE));
    let reports = work_until(&mut compactor, at(END + 10 * MINUTE), at(END + 20 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 3, 9)]);
    assert_eq!(world.table_rows("n01"), rows["n01"]);
    assert_eq!(world.sources(), Vec::<String>::new());
}

#[test]
fn a_sink_that_panics_is_reported_and_its_lane_tries_again_while_others_go_on() {
    let world = World::new();
    let panics = Arc::new(AtomicUsize::new(2));
    let place = |url: &str, store| Place::new(url, Arc::clone(store), "").unwrap();
    let inner = table_log::tables("mem://tables", &world.tables);
    let builder = CompactorBuilder::new(
        place("mem://bucket", &world.bucket),
        place("mem://control", &world.control),
        PanickyTables(inner, Arc::clone(&panics)),
        Arc::clone(&world.state),
        world.options.clone(),
    );
    let mut compactor = block_on(builder.open(at(END))).unwrap();
    let rows = fill(&world, &mut compactor, 2);
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 3, 9), (1, 0, 3, 9)]);
    let failed: Vec<_> = reports.iter().filter_map(|r| r.error.as_ref()).collect();
    assert_eq!(failed.len(), 2);
    for error in failed {
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.to_string(), "a job panicked: no more commits");
    }
    assert_eq!(panics.load(Ordering::SeqCst), 0);
    for (namespace, rows) in rows {
        assert_eq!(world.table_rows(&namespace), rows);
    }
    assert_eq!(world.sources(), Vec::<String>::new());
}

/// Sinks whose commits panic as often as the counter says, in namespace `n00`.
#[derive(Debug)]
struct PanickyTables(Arc<dyn TableProvider>, Arc<AtomicUsize>);

impl TableProvider for PanickyTables {
    fn table(&self, namespace: &Namespace) -> firnline::Result<Table> {
        let mut table = self.0.table(namespace)?;
        if namespace.as_str() == "n00" {
            table.sink = Arc::new(PanickySink(Arc::clone(&table.sink), Arc::clone(&self.1)));
        }
        Ok(table)
    }
}

#[derive(Debug)]
struct PanickySink(Arc<dyn TableSink>, Arc<AtomicUsize>);

#[async_trait]
impl TableSink for PanickySink {
    fn canonical_schema(&self, source: &Schema, table: Option<&Schema>) -> Result<SchemaRef, QuarantineReason> {
        self.0.canonical_schema(source, table)
    }

    async fn decided(&self, lane: LaneId) -> firnline::Result<TableState> {
        self.0.decided(lane).await
    }

    async fn prepare(
        &self,
        lane: LaneId,
        schema: &SchemaRef,
        evolve: firnline::Evolve,
    ) -> firnline::Result<TableLayout> {
        self.0.prepare(lane, schema, evolve).await
    }

    async fn commit(&self, commit: &TableCommit) -> firnline::Result<CommitOutcome> {
        let left = self
            .1
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(left.is_err(), "no more commits");
        self.0.commit(commit).await
    }

    async fn confirm(&self, decision: &Decision) -> firnline::Result<Confirmation> {
        self.0.confirm(decision).await
    }
}

#[test]
fn a_reclaim_that_fails_takes_nothing_from_the_merge_beside_it() {
    let mut world = World::new();
    world.bucket = HookStore::new(&world.bucket, |moment, operation, path| {
        let first = path.as_ref().ends_with("-w2-0.parquet");
        match (moment, operation) {
            (Moment::Before, "delete") if first => Err(away()),
            _ => Ok(()),
        }
    });
    let mut compactor = world.open(at(END));
    let (_, mut rows) = two_good(&world, &mut compactor);
    let now = at(END + MINUTE);
    let job = compactor.poll_job(now).unwrap();
    let outcome = block_on(job.run());
    let report = block_on(compactor.finish_job(outcome, now)).unwrap();
    assert_eq!(commits(&[report]), [(1, 0, 2, 40)]);
    // A second window is merged while the first is reclaimed.
    let mut events = Vec::new();
    for writer in ["w1", "w3"] {
        let (event, more) = world.write_some("users", END + 5, writer, 7, 4);
        events.push(event);
        rows.extend(more);
    }
    tell(&mut compactor, &events, now);
    compactor.drain(None);
    let reclaim = compactor.poll_job(now).unwrap();
    let merge = compactor.poll_job(now).unwrap();
    assert_eq!((reclaim.kind(), merge.kind()), ("reclaim", "compact"));
    assert!(compactor.poll_job(now).is_none());
    let failed = block_on(reclaim.run());
    let failed = block_on(compactor.finish_job(failed, now)).unwrap();
    assert_eq!(failed.error.unwrap().kind(), ErrorKind::Unavailable);
    assert!(compactor.poll_job(now).is_none(), "the lane still has its merge");
    let merged = block_on(merge.run());
    let merged = block_on(compactor.finish_job(merged, now)).unwrap();
    assert_eq!(commits(&[merged]), [(2, 0, 2, 8)]);
    rows.sort();
    assert_eq!(world.table_rows("users"), rows);
}

#[test]
fn a_namespace_may_have_thousands_of_writers() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let events: Vec<_> = (0..3_000)
        .map(|n| {
            let key = format!("data/users/{}-writer{n:05}-0.parquet", HOUR + n);
            super::support::put(&world.bucket, &key, "not read before its window is ready")
        })
        .collect();
    let told = tell(&mut compactor, &events, at(END));
    assert!(told.iter().all(|told| *told == Ok(firnline::EventOutcome::Recorded)));
    let writers = |compactor: &firnline::Compactor| {
        let status = compactor.status(at(END));
        status.windows[0].writers.len()
    };
    let before = writers(&compactor);
    assert_eq!((before, writers(&world.open(at(END)))), (3_000, 3_000));
}
