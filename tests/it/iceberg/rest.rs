//! Whole runs over a REST catalog that fails at any of its calls: every row is in the table once.

pub(crate) mod server;

use std::sync::Arc;

use firnline::iceberg::{
    Catalog, CatalogOutcome, IcebergCommitBuilder, IcebergCommitStep, IcebergOptions, IcebergSink, RestCatalog,
    RestOptions,
};
use firnline::object_store::path::Path;
use firnline::{
    CommitOutcome, Compactor, CompactorBuilder, ErrorKind, LaneId, Namespace, ObjectEvent, Place, SortField, Table,
    TableFormat, TableProvider, TableSink, Timestamp,
};
use futures::executor::block_on;

use super::support::{LANE, append, columns, get, put, void};
use crate::world::{HOUR, Row, World, at, parquet_of, work_until};
use server::{Fault, Server};

const HOUR_MS: i64 = 3_600_000;
const LOCATION: &str = "mem://tables/users";

/// The tables of a compactor in a catalog.
#[derive(Debug)]
struct Tables {
    server: Arc<Server>,
    world: World,
}

impl Tables {
    fn catalog(&self) -> RestCatalog {
        let options =
            RestOptions::new("http://catalog/api/").with_access_delegation(Some("vended-credentials".to_owned()));
        let transport = Arc::clone(&self.server);
        RestCatalog::new(transport, options, vec!["a".to_owned(), "b".to_owned()], "users").unwrap()
    }

    fn sink(&self, location: &str) -> IcebergSink {
        let (catalog, store) = (Arc::new(self.catalog()), Arc::clone(&self.world.tables));
        IcebergSink::new(catalog, store, Path::from("users"), location, IcebergOptions::default())
            .with_sort_order(self.world.options.sort_order.clone())
    }
}

impl TableProvider for Tables {
    fn table(&self, _: &Namespace) -> firnline::Result<Table> {
        Ok(Table {
            location: LOCATION.to_owned(),
            format: "iceberg".to_owned(),
            sink: Arc::new(self.sink(LOCATION)),
        })
    }
}

/// A compactor over a server, and what it has been given.
struct Rig {
    server: Arc<Server>,
    world: World,
    given: Vec<Row>,
}

impl Rig {
    fn new(server: Server) -> Self {
        let mut world = World::new();
        world.options = world.options.with_target_format(TableFormat::Iceberg);
        Self {
            server: Arc::new(server),
            world,
            given: Vec::new(),
        }
    }

    fn tables(&self) -> Tables {
        Tables {
            server: Arc::clone(&self.server),
            world: self.world.clone(),
        }
    }

    fn open(&self, now: Timestamp) -> firnline::Result<Compactor> {
        let place = |url: &str, store| Place::new(url, Arc::clone(store), "").unwrap();
        let builder = CompactorBuilder::new(
            place("mem://bucket", &self.world.bucket),
            place("mem://control", &self.world.control),
            Arc::new(self.tables()),
            Arc::clone(&self.world.state),
            self.world.options.clone(),
        );
        block_on(builder.open(now))
    }

    fn write(&mut self, hour: i64) -> Vec<ObjectEvent> {
        let start = HOUR + hour * HOUR_MS;
        let mut events = Vec::new();
        for (writer, offset) in [("w1", 1_000), ("w2", 2_000)] {
            let sequence = u64::try_from(hour).unwrap();
            let (event, rows) = self.world.write_some("users", start + offset, writer, sequence, 5);
            events.push(event);
            self.given.extend(rows);
        }
        events
    }

    /// Two windows of two files each, in two lives of the process.
    fn run(&mut self) {
        for hour in 0..2 {
            let events = self.write(hour);
            let now = at(HOUR + (hour + 1) * HOUR_MS);
            let mut compactor = (0..3).find_map(|_| self.open(now).ok()).unwrap();
            let taken = (0..3).any(|_| block_on(compactor.handle_events(&events, now)).all_saved());
            assert!(taken, "the events are not taken");
            work_until(&mut compactor, now, now + 12 * 3_600_000);
            let status = compactor.status(now);
            assert!(status.halts.is_empty(), "{:?}", status.halts);
        }
    }

    fn check(&mut self, what: &str) {
        let mut found = self.server.rows(&self.world.tables);
        found.sort();
        self.given.sort();
        assert_eq!(found, self.given, "{what}");
        assert_eq!(self.world.sources(), Vec::<String>::new(), "{what}: sources are left");
    }
}

#[test]
fn every_row_is_there_once_whichever_call_fails_and_however() {
    let mut plain = Rig::new(Server::default());
    plain.run();
    plain.check("without faults");
    let calls = plain.server.calls();
    assert_eq!(calls.iter().filter(|call| *call == "create").count(), 1);
    assert_eq!(calls.iter().filter(|call| *call == "commit").count(), 2);
    for fault in Fault::ALL {
        for (nth, call) in calls.iter().enumerate() {
            // A request that nobody repeats is the same call after call.
            let is_change = matches!(call.as_str(), "create" | "commit");
            if !is_change && nth > 6 && std::env::var_os("FIRNLINE_FULL").is_none() {
                continue;
            }
            let mut rig = Rig::new(Server::striking(nth, fault));
            rig.run();
            rig.check(&format!("{fault:?} at call {nth}, {call}"));
            assert!(rig.server.has_struck(), "{fault:?} at call {nth}");
        }
    }
}

#[test]
fn files_are_written_with_the_ids_that_the_catalog_has_given() {
    let mut rig = Rig::new(Server::default().reassigning());
    rig.run();
    rig.check("with other ids");
    assert_eq!(rig.server.column_ids(), [1001, 1002, 1003]);
    let files = rig.server.files(&rig.world.tables);
    assert_eq!(files.len(), 2);
    for (path, sort_order_id) in files {
        assert_eq!(server::ids_of(&rig.world.tables, &path), [1001, 1002, 1003]);
        assert_eq!(sort_order_id, Some(1), "the order was declared when the table was made");
    }
    // Nothing was written twice: the ids were known from the start.
    assert_eq!(rig.world.list(&rig.world.tables, &Path::from("users/data")).len(), 2);
}

#[test]
fn a_table_that_the_catalog_puts_elsewhere_is_refused_before_anything_is_written() {
    let rig = Rig::new(Server::default());
    let schema = server::schema_of(&parquet_of(&[(1, "a".to_owned(), 1)]));
    let tables = rig.tables();
    let lane = LaneId::from_u128(1);
    let layout = block_on(tables.sink(LOCATION).prepare(lane, &schema, firnline::Evolve::Never)).unwrap();
    assert_eq!(layout.data_dir, Path::from("users/data"));
    let error = block_on(
        tables
            .sink("mem://other/users")
            .prepare(lane, &schema, firnline::Evolve::Never),
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        error.to_string(),
        "the catalog has the table elsewhere, open it there. catalog=`mem://tables/users` sink=`mem://other/users`"
    );
}

#[test]
fn requests_are_those_of_the_specification_and_credentials_are_handed_on() {
    let mut rig = Rig::new(Server::default());
    rig.run();
    let log = rig.server.log();
    let urls: Vec<_> = log
        .iter()
        .map(|request| (request.method, request.url.as_str()))
        .collect();
    let tables = "http://catalog/api/v1/p/namespaces/a%1Fb/tables";
    assert_eq!(urls[0], ("GET", "http://catalog/api/v1/config"));
    assert!(urls.contains(&("POST", tables)));
    assert!(urls.contains(&("POST", format!("{tables}/users").as_str())));
    let mut keys = Vec::new();
    for request in &log {
        assert_eq!(
            request.header("x-iceberg-access-delegation"),
            Some("vended-credentials")
        );
        if request.method == "POST" && request.url.ends_with("/users") {
            let key: uuid::Uuid = request.header("idempotency-key").unwrap().parse().unwrap();
            assert_eq!(key.get_version_num(), 7);
            keys.push(key);
        }
    }
    keys.dedup();
    assert_eq!(keys.len(), 2, "every commit has a key of its own");
    let catalog = rig.tables().catalog();
    assert_eq!(catalog.credentials(), None);
    block_on(catalog.load()).unwrap().unwrap();
    let credentials = catalog.credentials().unwrap();
    assert_eq!(credentials.setting(LOCATION, "s3.session-token"), Some("secret"));
}

#[test]
fn what_the_catalog_refuses_halts_the_lane_and_says_why() {
    let rig = Rig::new(Server::default().refusing("no such luck"));
    let mut rig = rig;
    let events = rig.write(0);
    let now = at(HOUR + HOUR_MS);
    let mut compactor = rig.open(now).unwrap();
    assert!(block_on(compactor.handle_events(&events, now)).all_saved());
    work_until(&mut compactor, now, now + 3_600_000);
    let status = compactor.status(now);
    let halts = format!("{:?}", status.halts);
    assert_eq!(status.halts.len(), 1, "{halts}");
    assert!(halts.contains("no such luck"), "{halts}");
    assert_eq!(rig.world.sources().len(), 2, "nothing is deleted");
}

#[test]
fn the_order_of_rows_is_declared_only_when_it_was_named() {
    let rig = Rig::new(Server::default());
    let schema = server::schema_of(&parquet_of(&[(1, "a".to_owned(), 1)]));
    let sink = rig
        .tables()
        .sink(LOCATION)
        .with_sort_order(vec![SortField::ascending("gone")]);
    block_on(sink.prepare(LaneId::from_u128(1), &schema, firnline::Evolve::Never)).unwrap();
    assert!(rig.server.is_unsorted());
}

#[test]
fn a_commit_in_flight_cannot_land_after_a_void_of_its_seq() {
    let rig = Rig::new(Server::default());
    let (tables, store) = (rig.tables(), &rig.world.tables);
    block_on(async {
        let sink = tables.sink(LOCATION);
        sink.prepare(LANE, &columns(), firnline::Evolve::Never).await.unwrap();
        assert!(matches!(sink.commit(&append(1)).await, Ok(CommitOutcome::Committed(_))));
        let (catalog, options) = (tables.catalog(), IcebergOptions::default());
        let base = catalog.load().await.unwrap();
        let mut builder = IcebergCommitBuilder::new(Path::from("users"), LOCATION, options).with_base(base);
        let in_flight = loop {
            match builder.build(&append(2), uuid::Uuid::from_u128(5)).unwrap() {
                IcebergCommitStep::Read(uris) => {
                    for uri in uris {
                        let bytes = get(store, uri.strip_prefix("mem://tables/").unwrap()).await;
                        builder = builder.with_object(uri, bytes);
                    }
                }
                IcebergCommitStep::Write(commit) => break commit,
                other => panic!("{other:?}"),
            }
        };
        for (uri, bytes) in &in_flight.objects {
            put(store, uri.strip_prefix("mem://tables/").unwrap(), bytes.clone()).await;
        }
        assert!(matches!(sink.commit(&void(2)).await, Ok(CommitOutcome::Committed(_))));
        let answer = catalog.commit(&in_flight.change).await.unwrap();
        assert!(matches!(answer, CatalogOutcome::Conflict), "{answer:?}");
    });
    let files: Vec<_> = rig.server.files(store).into_iter().map(|(path, _)| path).collect();
    assert_eq!(files, [Path::from("users/data/1.parquet")]);
}
