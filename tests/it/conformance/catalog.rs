//! Iceberg catalogs: ours, and one broken for each rule.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use firnline::iceberg::{
    Catalog, CatalogChange, CatalogOutcome, CatalogTable, FileSystemCatalog, NewTable, PointerCatalog, PointerStore,
    RestCatalog, RestOptions,
};
use firnline::object_store::ObjectStore;
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::testing::YieldingStore;
use firnline::testing::conformance::{self, CATALOG_RULES, CatalogTrial};
use firnline::{Error, ErrorKind, Result, SystemRandomness};

use super::{catches_all, give_way, wait};
use crate::iceberg::rest::server::Server;

pub(super) const LOCATION: &str = "mem://tables/users";

/// Where a table and its catalog lie.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) store: Arc<dyn ObjectStore>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Files,
    Pointer(Arc<Pointer>),
    Rest(Arc<Server>),
}

impl Place {
    pub(super) fn files(store: Arc<dyn ObjectStore>) -> Self {
        let kind = Kind::Files;
        Self { store, kind }
    }

    pub(super) fn pointer(store: Arc<dyn ObjectStore>) -> Self {
        let kind = Kind::Pointer(Arc::default());
        Self { store, kind }
    }

    pub(super) fn rest(store: Arc<dyn ObjectStore>) -> Self {
        let kind = Kind::Rest(Arc::default());
        Self { store, kind }
    }

    /// The table's catalog, as another worker opens it.
    pub(super) fn catalog(&self) -> Arc<dyn Catalog> {
        let (store, root) = (Arc::clone(&self.store), Path::from("users"));
        match &self.kind {
            Kind::Files => Arc::new(FileSystemCatalog::new(store, root, LOCATION)),
            Kind::Pointer(pointer) => {
                let (pointer, randomness) = (Arc::clone(pointer), Arc::new(SystemRandomness));
                Arc::new(PointerCatalog::new(store, root, LOCATION, pointer, randomness))
            }
            Kind::Rest(server) => {
                let options = RestOptions::new("http://catalog/api/");
                let namespace = vec!["a".to_owned()];
                let transport = Arc::clone(server);
                Arc::new(RestCatalog::new(transport, options, namespace, "users").unwrap())
            }
        }
    }

    fn trial(&self) -> CatalogTrial {
        CatalogTrial::new(LOCATION, [self.catalog(), self.catalog()])
    }
}

/// A value in memory, which lets others act before each call.
#[derive(Debug, Default)]
struct Pointer(Mutex<Option<String>>);

#[async_trait]
impl PointerStore for Pointer {
    async fn get(&self) -> Result<Option<String>> {
        give_way().await;
        Ok(self.0.lock().unwrap().clone())
    }

    async fn compare_and_swap(&self, expected: Option<&str>, new: &str) -> Result<bool> {
        give_way().await;
        let mut value = self.0.lock().unwrap();
        let is_expected = value.as_deref() == expected;
        if is_expected {
            *value = Some(new.to_owned());
        }
        Ok(is_expected)
    }
}

fn keeps_the_contract(make: fn(Arc<dyn ObjectStore>) -> Place) {
    let memory = || Arc::new(InMemory::new()) as Arc<dyn ObjectStore>;
    wait(conformance::catalog(|| async { make(memory()).trial() }));
    wait(conformance::catalog(|| async {
        make(Arc::new(YieldingStore::new(memory()))).trial()
    }));
}

#[test]
fn files_keep_the_contract() {
    keeps_the_contract(Place::files);
}

#[test]
fn a_pointer_keeps_the_contract() {
    keeps_the_contract(Place::pointer);
}

#[test]
fn a_rest_catalog_keeps_the_contract() {
    keeps_the_contract(Place::rest);
}

/// What is wrong with a catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    AbsentIsEmpty,
    OtherTable,
    CreateOverwrites,
    LooksThenCreates,
    DropsProperties,
    Caches,
    OneMetadataFile,
    RequiresNothing,
    ConflictChanges,
    BothWin,
    LosesAnswered,
    InTwoSteps,
    MakesTheGone,
    StaysLocked,
}

/// Each rule, and a catalog that breaks it.
const BROKEN: &[(&str, Flaw)] = &[
    ("a table that is not there loads as none", Flaw::AbsentIsEmpty),
    ("a table is created as it was asked for, without rows", Flaw::OtherTable),
    (
        "creating a table where there is one changes nothing",
        Flaw::CreateOverwrites,
    ),
    (
        "of creates at the same time one makes the table",
        Flaw::LooksThenCreates,
    ),
    (
        "a change whose requirements are met is made, and answered with the table as it is since",
        Flaw::DropsProperties,
    ),
    (
        "a load gives what was committed last, whoever did, whatever was loaded before",
        Flaw::Caches,
    ),
    ("every change has metadata at a place of its own", Flaw::OneMetadataFile),
    (
        "a change one of whose requirements is not met is a conflict",
        Flaw::RequiresNothing,
    ),
    ("a conflict changes nothing", Flaw::ConflictChanges),
    (
        "of changes at the same time that require the same snapshot one at most is made",
        Flaw::BothWin,
    ),
    ("no change that was answered is lost", Flaw::LosesAnswered),
    ("all of a change is seen, or nothing of it", Flaw::InTwoSteps),
    ("a change of a table that is not there makes none", Flaw::MakesTheGone),
    (
        "a call that is dropped is made or not, and leaves a catalog that can be used",
        Flaw::StaysLocked,
    ),
];

#[test]
fn each_rule_catches_a_catalog_that_breaks_it() {
    catches_all(CATALOG_RULES, BROKEN, |flaw| {
        wait(conformance::catalog(|| async {
            let shared = Arc::new(Shared::default());
            let worker = || {
                let (flaw, shared, cached) = (*flaw, Arc::clone(&shared), Mutex::default());
                Arc::new(InMemoryCatalog { flaw, shared, cached }) as Arc<dyn Catalog>
            };
            CatalogTrial::new(LOCATION, [worker(), worker()])
        }));
    });
}

#[derive(Debug, Default)]
struct Shared {
    table: Mutex<Option<CatalogTable>>,
    commits: Mutex<usize>,
    locked: Mutex<bool>,
}

/// A catalog in memory with one thing wrong.
#[derive(Debug)]
struct InMemoryCatalog {
    flaw: Flaw,
    shared: Arc<Shared>,
    cached: Mutex<Option<CatalogTable>>,
}

impl InMemoryCatalog {
    fn current(&self) -> Option<CatalogTable> {
        self.shared.table.lock().unwrap().clone()
    }

    fn set(&self, table: CatalogTable) {
        *self.cached.lock().unwrap() = Some(table.clone());
        *self.shared.table.lock().unwrap() = Some(table);
    }

    /// The change on the table as it is now.
    fn applied(&self, base: CatalogTable, change: &CatalogChange) -> Result<CatalogTable> {
        let mut commits = self.shared.commits.lock().unwrap();
        *commits += 1;
        let number = if self.flaw == Flaw::OneMetadataFile {
            0
        } else {
            *commits
        };
        let change = CatalogChange { base, ..change.clone() };
        Ok(CatalogTable {
            metadata: Arc::new(change.apply()?),
            metadata_location: format!("{LOCATION}/metadata/{number}.metadata.json"),
        })
    }

    fn made(table: NewTable) -> Result<CatalogTable> {
        Ok(CatalogTable {
            metadata: Arc::new(firnline::iceberg::TableMetadata::create(table)?),
            metadata_location: format!("{LOCATION}/metadata/new.metadata.json"),
        })
    }
}

#[async_trait]
impl Catalog for InMemoryCatalog {
    async fn load(&self) -> Result<Option<CatalogTable>> {
        give_way().await;
        let current = self.current();
        match (self.flaw, current) {
            (Flaw::AbsentIsEmpty, None) => Err(Error::new(ErrorKind::Invalid, "no such table")),
            (Flaw::Caches, Some(current)) => {
                let mut cached = self.cached.lock().unwrap();
                Ok(Some(cached.get_or_insert(current).clone()))
            }
            (Flaw::LooksThenCreates, current) => Ok(self.cached.lock().unwrap().clone().or(current)),
            (_, current) => Ok(current),
        }
    }

    async fn create(&self, mut table: NewTable) -> Result<()> {
        let is_there = self.current().is_some();
        match self.flaw {
            Flaw::OtherTable => table.uuid = uuid::Uuid::from_u128(4_000),
            // Each worker has a table of its own from then on.
            Flaw::LooksThenCreates if !is_there => {
                give_way().await;
                let is_race = self.current().is_some();
                let made = Self::made(table)?;
                if is_race {
                    *self.cached.lock().unwrap() = Some(made);
                } else {
                    self.set(made);
                    self.cached.lock().unwrap().take();
                }
                return Ok(());
            }
            _ => give_way().await,
        }
        if self.current().is_none() || self.flaw == Flaw::CreateOverwrites {
            self.set(Self::made(table)?);
        }
        Ok(())
    }

    async fn commit(&self, change: &CatalogChange) -> Result<CatalogOutcome> {
        if self.flaw == Flaw::StaysLocked {
            if std::mem::replace(&mut *self.shared.locked.lock().unwrap(), true) {
                return Err(Error::new(ErrorKind::Unavailable, "locked"));
            }
            give_way().await;
            *self.shared.locked.lock().unwrap() = false;
        }
        let Some(mut current) = self.current() else {
            if self.flaw == Flaw::MakesTheGone {
                let made = self.applied(change.base.clone(), change)?;
                self.set(made.clone());
                return Ok(CatalogOutcome::Committed(made));
            }
            return Ok(CatalogOutcome::Conflict);
        };
        let mut change = change.clone();
        let is_met = |table: &CatalogTable| {
            firnline::iceberg::check_requirements(&change.requirements, Some(&table.metadata)).is_ok()
        };
        let was_met = is_met(&current);
        give_way().await;
        let at_race = self.current().unwrap();
        let is_race = was_met && at_race != current;
        current = at_race;
        if !is_met(&current) {
            match self.flaw {
                Flaw::RequiresNothing if !was_met => {}
                // The later one takes the place of the earlier one.
                Flaw::BothWin if is_race => {
                    let made = self.applied(change.base.clone(), &change)?;
                    self.set(made.clone());
                    return Ok(CatalogOutcome::Committed(made));
                }
                Flaw::ConflictChanges => {
                    change.updates.truncate(1);
                    let made = self.applied(current, &change)?;
                    self.set(made);
                    return Ok(CatalogOutcome::Conflict);
                }
                _ => return Ok(CatalogOutcome::Conflict),
            }
        }
        if self.flaw == Flaw::DropsProperties {
            change.updates.truncate(2);
        }
        if self.flaw == Flaw::InTwoSteps && change.updates.len() > 2 {
            let last = change.updates.split_off(change.updates.len() - 1);
            let first = change.clone();
            change.updates = last;
            current = self.applied(current, &first)?;
            self.set(current.clone());
            give_way().await;
        }
        let made = self.applied(current, &change)?;
        let count = made.metadata.snapshots().len();
        // As if a write were only buffered.
        if self.flaw != Flaw::LosesAnswered || count < 10 {
            self.set(made.clone());
        }
        Ok(CatalogOutcome::Committed(made))
    }
}
