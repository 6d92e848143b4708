//! The contract of an Iceberg [`Catalog`].

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use futures::future::{join, join_all};
use uuid::Uuid;

use super::{Handles, POLLS, answered, broken, dropped_after, give_way, keep};
use crate::error::Result;
use crate::iceberg::{
    Catalog, CatalogChange, CatalogOutcome, CatalogTable, FormatVersion, MAIN_BRANCH, NewTable, PartitionSpec,
    Snapshot, SnapshotRef, SortOrder, TableMetadata, TableRequirement, TableUpdate, new_schema,
};
use crate::time::Timestamp;

/// What [`catalog`] asks of a [`Catalog`]: it panics with one of these.
pub const CATALOG_RULES: &[&str] = &[
    ABSENT,
    CREATED,
    CREATED_ONCE,
    CREATE_RACE,
    COMMITTED,
    LOADED,
    NEW_METADATA,
    REQUIRED,
    UNCHANGED,
    RACE,
    NOT_LOST,
    AT_ONCE,
    GONE,
    DROPPED,
];

const ABSENT: &str = "a table that is not there loads as none";
const CREATED: &str = "a table is created as it was asked for, without rows";
const CREATED_ONCE: &str = "creating a table where there is one changes nothing";
const CREATE_RACE: &str = "of creates at the same time one makes the table";
const COMMITTED: &str = "a change whose requirements are met is made, and answered with the table as it is since";
const LOADED: &str = "a load gives what was committed last, whoever did, whatever was loaded before";
const NEW_METADATA: &str = "every change has metadata at a place of its own";
const REQUIRED: &str = "a change one of whose requirements is not met is a conflict";
const UNCHANGED: &str = "a conflict changes nothing";
const RACE: &str = "of changes at the same time that require the same snapshot one at most is made";
const NOT_LOST: &str = "no change that was answered is lost";
const AT_ONCE: &str = "all of a change is seen, or nothing of it";
const GONE: &str = "a change of a table that is not there makes none";
const DROPPED: &str = "a call that is dropped is made or not, and leaves a catalog that can be used";

/// A place for one table that is tried.
#[derive(Debug)]
pub struct CatalogTrial {
    location: String,
    catalogs: Handles<dyn Catalog>,
}

impl CatalogTrial {
    /// A table that is to lie at the URI `location`: its catalog, or as `[Arc<dyn Catalog>; 2]` one for each of two
    /// workers.
    pub fn new(location: impl Into<String>, catalogs: impl Into<Handles<dyn Catalog>>) -> Self {
        Self {
            location: location.into(),
            catalogs: catalogs.into(),
        }
    }

    fn new_table(&self, uuid: u128) -> NewTable {
        let columns = Arc::new(ArrowSchema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
        ]));
        NewTable {
            uuid: Uuid::from_u128(uuid),
            location: self.location.clone(),
            format_version: FormatVersion::V2,
            schema: answered(CREATED, new_schema(&columns)),
            partition_spec: PartitionSpec::unpartitioned(),
            sort_order: SortOrder::unsorted(),
            properties: BTreeMap::new(),
            now: Timestamp::from_millis(NOW_MS),
        }
    }
}

/// Checks the contract of [`Catalog`].
///
/// `make` gives a place where no table is; it is called some ten times. The suite creates tables and adds snapshots to
/// them whose manifest lists are not there.
///
/// ```
/// use std::sync::Arc;
///
/// use firnline::iceberg::{Catalog, FileSystemCatalog};
/// use firnline::object_store::{ObjectStore, memory::InMemory, path::Path};
/// use firnline::testing::conformance::{self, CatalogTrial};
///
/// futures::executor::block_on(conformance::catalog(|| async {
///     let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
///     let location = "memory://tables/users";
///     let workers = [(); 2].map(|()| {
///         let catalog = FileSystemCatalog::new(Arc::clone(&store), Path::from("users"), location);
///         Arc::new(catalog) as Arc<dyn Catalog>
///     });
///     CatalogTrial::new(location, workers)
/// }));
/// ```
pub async fn catalog<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = CatalogTrial>,
{
    a_table_is_created_once(&make().await).await;
    creates_race(&make().await).await;
    changes_are_made(&make().await).await;
    requirements_are_checked(&make().await).await;
    changes_race(&make().await).await;
    counting_together_loses_nothing(&make().await).await;
    changes_are_seen_at_once(&make().await).await;
    nothing_is_made_of_a_table_that_is_gone(&make().await, &make().await).await;
    dropped_calls_leave_a_usable_catalog(&make().await).await;
}

async fn a_table_is_created_once(trial: &CatalogTrial) {
    let [a, b] = &trial.catalogs.0;
    for catalog in [a, b] {
        let found = answered(ABSENT, catalog.load().await);
        keep(ABSENT, found.is_none(), found);
    }
    let asked = trial.new_table(1);
    answered(CREATED, a.create(asked.clone()).await);
    let created = loaded(CREATED, &**a).await;
    let table = &created.metadata;
    let names = |table: &TableMetadata| -> Vec<(i32, String)> {
        let fields = table.schema().fields.iter();
        fields.map(|field| (field.id, field.name.clone())).collect()
    };
    let asked = answered(CREATED, TableMetadata::create(asked));
    let [asked_names, found_names] = [&asked, &**table].map(names);
    let only_names = |names: &[(i32, String)]| names.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>();
    keep(
        CREATED,
        only_names(&found_names) == only_names(&asked_names),
        &found_names,
    );
    keep(
        CREATED,
        table.snapshots().is_empty() && table.current_snapshot().is_none(),
        table.snapshots(),
    );
    if !a.assigns_ids() {
        let is_asked = table.uuid() == asked.uuid() && table.location() == asked.location();
        keep(
            CREATED,
            is_asked && found_names == asked_names,
            (table.uuid(), table.location(), found_names),
        );
    }
    for catalog in [a, b] {
        // Refusing it is as good as finding that there is one.
        let _ = catalog.create(trial.new_table(2)).await;
        let found = loaded(CREATED_ONCE, &**catalog).await;
        keep(
            CREATED_ONCE,
            found == created,
            (&found.metadata_location, found.metadata.uuid()),
        );
    }
}

async fn creates_race(trial: &CatalogTrial) {
    let [a, b] = &trial.catalogs.0;
    let (one, other) = join(a.create(trial.new_table(1)), b.create(trial.new_table(2))).await;
    keep(CREATE_RACE, one.is_ok() || other.is_ok(), (&one, &other));
    let [one, other] = [loaded(CREATE_RACE, &**a).await, loaded(CREATE_RACE, &**b).await];
    keep(CREATE_RACE, one == other, (one.metadata.uuid(), other.metadata.uuid()));
    committed(CREATE_RACE, &**a, &properties(&one, &[("after", "race")])).await;
    let found = loaded(CREATE_RACE, &**a).await;
    let property = found.metadata.properties().get("after").cloned();
    let is_same = found.metadata.uuid() == one.metadata.uuid() && property.as_deref() == Some("race");
    keep(CREATE_RACE, is_same, (found.metadata.uuid(), property));
}

async fn changes_are_made(trial: &CatalogTrial) {
    let [a, b] = &trial.catalogs.0;
    let mut table = created(trial).await;
    loaded(LOADED, &**b).await;
    let mut places = vec![table.metadata_location.clone()];
    for n in 1..=6 {
        let (writer, reader) = if n % 2 == 0 { (a, b) } else { (b, a) };
        let mut change = snapshot(&table, n);
        change
            .updates
            .extend(properties(&table, &[("n", &n.to_string())]).updates);
        let after = committed(COMMITTED, &**writer, &change).await;
        let current = after.metadata.current_snapshot().map(|snapshot| snapshot.snapshot_id);
        let property = after.metadata.properties().get("n").cloned();
        let is_made = current == Some(n) && property == Some(n.to_string());
        keep(
            COMMITTED,
            is_made && after.metadata.uuid() == table.metadata.uuid(),
            (current, property),
        );
        for catalog in [reader, writer] {
            let found = loaded(LOADED, &**catalog).await;
            let current = found.metadata.current_snapshot().map(|snapshot| snapshot.snapshot_id);
            keep(LOADED, found == after, (n, current, &found.metadata_location));
        }
        keep(
            NEW_METADATA,
            !places.contains(&after.metadata_location),
            &after.metadata_location,
        );
        places.push(after.metadata_location.clone());
        table = after;
    }
}

async fn requirements_are_checked(trial: &CatalogTrial) {
    let [a, b] = &trial.catalogs.0;
    let first = created(trial).await;
    let table = committed(COMMITTED, &**a, &snapshot(&first, 1)).await;
    let wrong = [
        TableRequirement::AssertTableUuid {
            uuid: Uuid::from_u128(4_000).to_string(),
        },
        TableRequirement::AssertRefSnapshotId {
            reference: MAIN_BRANCH.to_owned(),
            snapshot_id: None,
        },
        TableRequirement::AssertRefSnapshotId {
            reference: MAIN_BRANCH.to_owned(),
            snapshot_id: Some(4_000),
        },
        TableRequirement::AssertLastAssignedFieldId {
            last_assigned_field_id: 4_000,
        },
        TableRequirement::AssertCurrentSchemaId {
            current_schema_id: 4_000,
        },
        TableRequirement::AssertLastAssignedPartitionId {
            last_assigned_partition_id: 4_000,
        },
        TableRequirement::AssertDefaultSpecId { default_spec_id: 4_000 },
        TableRequirement::AssertDefaultSortOrderId {
            default_sort_order_id: 4_000,
        },
    ];
    for requirement in wrong {
        let mut change = properties(&table, &[("wrong", "x")]);
        change.requirements.push(requirement.clone());
        conflicts(&**a, &change, &requirement).await;
        is_unchanged(&**b, &table).await;
    }
    // What the change was made for was the newest then.
    let stale = [snapshot(&first, 2), snapshot(&first, 3)];
    for (catalog, change) in [a, b].into_iter().zip(&stale) {
        conflicts(&**catalog, change, &"a stale base").await;
        is_unchanged(&**a, &table).await;
    }
    committed(COMMITTED, &**b, &snapshot(&table, 4)).await;
}

async fn changes_race(trial: &CatalogTrial) {
    let [a, b] = &trial.catalogs.0;
    let mut table = created(trial).await;
    for round in 1..=6 {
        let changes = [1, 2, 3].map(|n| snapshot(&table, round * 10 + n));
        let race = changes.iter().zip([a, b, a]);
        let answers = join_all(race.map(|(change, catalog)| catalog.commit(change))).await;
        let won = answers.iter().filter_map(|answer| match answer {
            Ok(CatalogOutcome::Committed(after)) => Some(after),
            _ => None,
        });
        let won: Vec<_> = won.collect();
        keep(RACE, won.len() <= 1, answers.iter().map(is_made).collect::<Vec<_>>());
        table = loaded(RACE, &**b).await;
        for after in won {
            keep(
                RACE,
                *after == table,
                (&after.metadata_location, &table.metadata_location),
            );
        }
    }
}

/// Workers that commit on what they have loaded, and again after a conflict.
async fn counting_together_loses_nothing(trial: &CatalogTrial) {
    const EACH: i64 = 6;
    let [a, b] = &trial.catalogs.0;
    created(trial).await;
    let work = |worker: i64, catalog: &Arc<dyn Catalog>| {
        let catalog = Arc::clone(catalog);
        async move {
            let mut made = Vec::new();
            for n in 0..EACH {
                let id = worker * 1_000 + n;
                for _ in 0..TRIES {
                    let base = loaded(NOT_LOST, &*catalog).await;
                    if base.metadata.snapshot_by_id(id).is_some() {
                        made.push(id);
                        break;
                    }
                    give_way().await;
                    if is_made(&catalog.commit(&snapshot(&base, id)).await) {
                        made.push(id);
                        break;
                    }
                    give_way().await;
                }
                keep(NOT_LOST, made.contains(&id), "a worker that is overtaken all the time");
            }
            made
        }
    };
    let made = join_all([work(1, a), work(2, b), work(3, a)]).await.concat();
    let table = loaded(NOT_LOST, &**b).await.metadata;
    let current = table.current_snapshot().map(|snapshot| snapshot.snapshot_id);
    let history = current.map(|id| table.ancestors(id)).unwrap_or_default();
    let lost: Vec<_> = made
        .iter()
        .filter(|id| !history.iter().any(|s| s.snapshot_id == **id))
        .collect();
    keep(NOT_LOST, lost.is_empty(), lost);
}

async fn changes_are_seen_at_once(trial: &CatalogTrial) {
    let [a, b] = &trial.catalogs.0;
    let mut table = created(trial).await;
    for n in 1..=4 {
        let mut change = snapshot(&table, n);
        change
            .updates
            .extend(properties(&table, &[("first", &n.to_string()), ("last", &n.to_string())]).updates);
        let reading = async {
            for _ in 0..6 {
                let found = loaded(AT_ONCE, &**b).await.metadata;
                let of = |name: &str| found.properties().get(name).cloned();
                let snapshot = found
                    .current_snapshot()
                    .map(|snapshot| snapshot.snapshot_id.to_string());
                let seen = [of("first"), of("last"), snapshot];
                keep(AT_ONCE, seen.iter().all(|one| Some(one) == seen.first()), &seen);
                give_way().await;
            }
        };
        table = join(committed(AT_ONCE, &**a, &change), reading).await.0;
    }
}

async fn nothing_is_made_of_a_table_that_is_gone(there: &CatalogTrial, gone: &CatalogTrial) {
    let table = created(there).await;
    let mut change = snapshot(&table, 1);
    change.requirements.extend(
        table
            .metadata
            .uuid()
            .map(|uuid| TableRequirement::AssertTableUuid { uuid: uuid.to_owned() }),
    );
    let [a, b] = &gone.catalogs.0;
    let answer = a.commit(&change).await;
    keep(GONE, !is_made(&answer), "the change was made");
    for catalog in [a, b] {
        let found = answered(GONE, catalog.load().await);
        keep(GONE, found.is_none(), found);
    }
}

async fn dropped_calls_leave_a_usable_catalog(trial: &CatalogTrial) {
    let [a, b] = &trial.catalogs.0;
    for polls in POLLS {
        dropped_after(polls, a.create(trial.new_table(1))).await;
    }
    created(trial).await;
    for (polls, n) in POLLS.into_iter().zip(1..) {
        let base = loaded(DROPPED, &**a).await;
        dropped_after(polls, a.load()).await;
        dropped_after(polls, a.commit(&snapshot(&base, n * 10))).await;
        let mut is_committed = false;
        // What was dropped may land late, and then is a conflict for whoever has not seen it.
        for (catalog, id) in [b, a, b, a].into_iter().zip(n * 10 + 1..) {
            let found = loaded(DROPPED, &**catalog).await;
            let answer = catalog.commit(&snapshot(&found, id)).await;
            if is_made(&answer) {
                is_committed = true;
                break;
            }
        }
        keep(DROPPED, is_committed, "a catalog that takes nothing any more");
    }
}

/// Creates the table with the first catalog.
async fn created(trial: &CatalogTrial) -> CatalogTable {
    let [a, _] = &trial.catalogs.0;
    answered(CREATED, a.create(trial.new_table(1)).await);
    loaded(CREATED, &**a).await
}

async fn loaded(rule: &str, catalog: &dyn Catalog) -> CatalogTable {
    let found = answered(rule, catalog.load().await);
    found.unwrap_or_else(|| broken(rule, "the table is not there"))
}

async fn committed(rule: &str, catalog: &dyn Catalog, change: &CatalogChange) -> CatalogTable {
    match answered(rule, catalog.commit(change).await) {
        CatalogOutcome::Committed(after) => after,
        CatalogOutcome::Conflict => broken(rule, "found a conflict"),
    }
}

async fn conflicts(catalog: &dyn Catalog, change: &CatalogChange, why: &impl std::fmt::Debug) {
    let outcome = answered(REQUIRED, catalog.commit(change).await);
    keep(REQUIRED, outcome == CatalogOutcome::Conflict, why);
}

async fn is_unchanged(catalog: &dyn Catalog, table: &CatalogTable) {
    let found = loaded(UNCHANGED, catalog).await;
    keep(
        UNCHANGED,
        found == *table,
        (&found.metadata_location, found.metadata.properties()),
    );
}

fn is_made(answer: &Result<CatalogOutcome>) -> bool {
    matches!(answer, Ok(CatalogOutcome::Committed(_)))
}

/// The change that sets properties, whatever the table is by then.
fn properties(base: &CatalogTable, properties: &[(&str, &str)]) -> CatalogChange {
    let updates = properties
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    CatalogChange {
        base: base.clone(),
        requirements: Vec::new(),
        updates: vec![TableUpdate::SetProperties {
            updates: updates.collect(),
        }],
        now: later(base),
    }
}

/// The change that adds a snapshot without files, if the table's newest is that of `base`.
fn snapshot(base: &CatalogTable, id: i64) -> CatalogChange {
    let table = &base.metadata;
    let parent = table.current_snapshot();
    let parent_id = parent.map(|parent| parent.snapshot_id);
    let snapshot = Snapshot {
        snapshot_id: id,
        parent_snapshot_id: parent_id,
        sequence_number: table
            .snapshots()
            .iter()
            .map(|s| s.sequence_number)
            .max()
            .unwrap_or_default()
            + 1,
        timestamp_ms: later(base),
        manifest_list: Some(format!("{}/metadata/snap-{id}.avro", table.location())),
        summary: BTreeMap::from([("operation".to_owned(), "append".to_owned())]),
        schema_id: Some(table.schema().schema_id),
        ..Snapshot::default()
    };
    CatalogChange {
        base: base.clone(),
        requirements: vec![TableRequirement::AssertRefSnapshotId {
            reference: MAIN_BRANCH.to_owned(),
            snapshot_id: parent_id,
        }],
        updates: vec![
            TableUpdate::AddSnapshot { snapshot },
            TableUpdate::SetSnapshotRef {
                ref_name: MAIN_BRANCH.to_owned(),
                reference: SnapshotRef::branch(id),
            },
        ],
        now: later(base),
    }
}

fn later(base: &CatalogTable) -> Timestamp {
    base.metadata.last_updated() + 1
}

/// 2023-11-14T22:13:20Z.
const NOW_MS: i64 = 1_700_000_000_000;
/// How often a change is tried before it is said to starve.
const TRIES: usize = 200;
