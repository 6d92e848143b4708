//! Files that are committed to partitioned tables: of the spec that the table has, or not at all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use firnline::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use firnline::iceberg::{
    Catalog, CatalogChange, CatalogOutcome, CatalogTable, EntryStatus, FieldSummary, FileSystemCatalog, FormatVersion,
    IcebergOptions, IcebergSink, NewTable, PartitionColumn, PartitionSpec, PrimitiveType, Schema, SortOrder,
    TableUpdate, read_manifest, read_manifest_list,
};
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::parquet::file::properties::WriterProperties;
use firnline::{
    AttemptId, CommitOutcome, DataFile, ErrorKind, LaneId, MergeOptions, MergeTarget, ParquetMerger, PlanHash,
    QuarantineReason, Seq, SortField, TableChange, TableCommit, TableLayout, TableSink, Timestamp,
};
use futures::executor::block_on;
use serde_json::json;

use super::support::{compacted, get, metadata, put};
use crate::merge::support::{decode, encode, input};
use crate::table_log;
use crate::world::HOUR;

const LOCATION: &str = "mem://tables/users";

/// A catalog whose table is changed by somebody else right before the next commit.
#[derive(Debug)]
struct Crowded {
    inner: FileSystemCatalog,
    before_commit: Mutex<Vec<TableUpdate>>,
    struck: AtomicBool,
}

impl Crowded {
    fn new(store: &Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self {
            inner: FileSystemCatalog::new(Arc::clone(store), Path::from("users"), LOCATION),
            before_commit: Mutex::default(),
            struck: AtomicBool::new(false),
        })
    }

    async fn change(&self, updates: Vec<TableUpdate>) {
        let change = CatalogChange {
            base: self.inner.load().await.unwrap().unwrap(),
            requirements: Vec::new(),
            updates,
            now: Timestamp::from_millis(2_000),
        };
        let outcome = self.inner.commit(&change).await.unwrap();
        assert!(matches!(outcome, CatalogOutcome::Committed(_)));
    }
}

#[async_trait]
impl Catalog for Crowded {
    async fn load(&self) -> firnline::Result<Option<CatalogTable>> {
        self.inner.load().await
    }

    async fn create(&self, table: NewTable) -> firnline::Result<()> {
        self.inner.create(table).await
    }

    async fn commit(&self, change: &CatalogChange) -> firnline::Result<CatalogOutcome> {
        let updates = std::mem::take(&mut *self.before_commit.lock().unwrap());
        if !updates.is_empty() {
            self.struck.store(true, Ordering::SeqCst);
            self.change(updates).await;
        }
        self.inner.commit(change).await
    }
}

fn spec(fields: &[(i32, &str)]) -> PartitionSpec {
    let fields = fields.iter().zip(1000..).map(|((source, transform), id)| {
        json!({"source-id": source, "field-id": id, "name": format!("p{id}"), "transform": transform})
    });
    serde_json::from_value(json!({"spec-id": 0, "fields": fields.collect::<Vec<_>>()})).unwrap()
}

/// The change of the default spec to another one.
fn respecified(fields: &[(i32, &str)]) -> Vec<TableUpdate> {
    let mut spec = spec(fields);
    // Ids of fields are never used for anything else.
    for field in &mut spec.fields {
        field.field_id += 100;
    }
    vec![
        TableUpdate::AddSpec { spec },
        TableUpdate::SetDefaultSpec { spec_id: -1 },
    ]
}

struct World {
    store: Arc<dyn ObjectStore>,
    catalog: Arc<Crowded>,
    sink: IcebergSink,
}

/// A table with the columns `id` and `name` that somebody else has created.
async fn world(version: FormatVersion, fields: &[(i32, &str)]) -> World {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let catalog = Crowded::new(&store);
    let schema = Schema::from_json(&json!({"type": "struct", "schema-id": 0, "fields": [
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "name", "required": false, "type": "string"}]}));
    let table = NewTable {
        uuid: uuid::Uuid::from_u128(1),
        location: LOCATION.to_owned(),
        format_version: version,
        schema: schema.unwrap(),
        partition_spec: spec(fields),
        sort_order: SortOrder::unsorted(),
        properties: [("owner".to_owned(), "them".to_owned())].into(),
        now: Timestamp::from_millis(1_000),
    };
    catalog.create(table).await.unwrap();
    let shared: Arc<dyn Catalog> = Arc::clone(&catalog) as _;
    let sink = IcebergSink::new(
        shared,
        Arc::clone(&store),
        Path::from("users"),
        LOCATION,
        IcebergOptions::default(),
    );
    World { store, catalog, sink }
}

fn rows() -> RecordBatch {
    RecordBatch::try_from_iter([
        (
            "id",
            Arc::new(Int64Array::from(vec![Some(-1), Some(3), Some(17), None])) as ArrayRef,
        ),
        (
            "name",
            Arc::new(StringArray::from(vec![
                Some("iceberg"),
                Some("ice"),
                None,
                Some("\u{e9}"),
            ])) as ArrayRef,
        ),
    ])
    .unwrap()
}

impl World {
    async fn prepare(&self) -> firnline::Result<TableLayout> {
        self.sink
            .prepare(LaneId::from_u128(7), &rows().schema(), firnline::Evolve::Never)
            .await
    }

    /// Merges the rows into files of the layout.
    async fn merge(&self, layout: &TableLayout, stem: &str) -> Vec<DataFile> {
        let path = Path::from(format!("in/{stem}"));
        let bytes = encode(&rows(), WriterProperties::default());
        self.store.put(&path, bytes.into()).await.unwrap();
        let target = MergeTarget {
            store: Arc::clone(&layout.store),
            dir: layout.data_dir.clone(),
            stem: stem.to_owned(),
            schema: Arc::clone(&layout.schema),
            partitioner: layout.partitioner.clone(),
            key_value_metadata: Vec::new(),
            scratch: None,
        };
        let order = vec![SortField::ascending("id")];
        let merger = ParquetMerger::new(MergeOptions::default().with_sort_order(order));
        let inputs = vec![input(&self.store, &path, "w", 1).await];
        merger.merge(&self.store, inputs, target, &()).await.unwrap().files
    }

    async fn commit(&self, files: Vec<DataFile>) -> CommitOutcome {
        let change = TableChange::Append {
            schema: rows().schema(),
            evolve: firnline::Evolve::Never,
            files,
        };
        let commit = TableCommit {
            lane: LaneId::from_u128(7),
            seq: Seq::new(1),
            plan_hash: Some(PlanHash::of(b"plan")),
            attempt: AttemptId::from_u64(1),
            base: None,
            now: Timestamp::from_millis(5_000),
            new_table_uuid: uuid::Uuid::from_u128(2),
            sort_order: vec![SortField::ascending("id")],
            change,
        };
        self.sink.commit(&commit).await.unwrap()
    }

    async fn object(&self, uri: &str) -> bytes::Bytes {
        let path = Path::from(uri.strip_prefix("mem://tables/").unwrap());
        self.store.get(&path).await.unwrap().bytes().await.unwrap()
    }
}

#[test]
fn every_file_carries_its_tuple_and_the_list_sums_them_up() {
    for version in [FormatVersion::V2, FormatVersion::V3] {
        block_on(async {
            let world = world(version, &[(1, "truncate[10]"), (2, "bucket[16]"), (1, "void")]).await;
            let layout = world.prepare().await.unwrap();
            let files = world.merge(&layout, "lane-1-a").await;
            assert_eq!(files.len(), 4);
            assert!(matches!(world.commit(files).await, CommitOutcome::Committed(_)));
            let table = world.catalog.load().await.unwrap().unwrap().metadata;
            assert_eq!(table.properties().get("owner").map(String::as_str), Some("them"));
            let snapshot = table.current_snapshot().unwrap();
            assert_eq!(snapshot.summary["changed-partition-count"], "4");
            let uri = snapshot.manifest_list.clone().unwrap();
            let list = read_manifest_list(&world.object(&uri).await, &uri).unwrap();
            let long = |value: i64| Some(value.to_le_bytes().to_vec());
            let int = |value: i32| Some(value.to_le_bytes().to_vec());
            let summary = |contains_null, lower_bound, upper_bound| FieldSummary {
                contains_null,
                contains_nan: Some(false),
                lower_bound,
                upper_bound,
            };
            assert_eq!(list.len(), 1);
            assert_eq!((list[0].partition_spec_id, list[0].added_files_count), (0, Some(4)));
            // The hash of `iceberg` is 1210000089, in the murmur3 test vectors of the specification.
            let columns: Vec<PartitionColumn> = [
                (1000, PrimitiveType::Long),
                (1001, PrimitiveType::Int),
                (1002, PrimitiveType::Long),
            ]
            .map(|(field_id, primitive)| PartitionColumn {
                field_id,
                name: format!("p{field_id}"),
                primitive,
            })
            .into();
            let entries = read_manifest(&world.object(&list[0].path).await, &list[0], &columns).unwrap();
            assert!(entries.iter().all(|entry| entry.status == EntryStatus::Added));
            let tuples: Vec<String> = entries
                .iter()
                .map(|entry| format!("{:?}", entry.data_file.partition))
                .collect();
            assert_eq!(tuples[0], "[Some(Long(-10)), Some(Int(9)), None]");
            assert!(tuples[1].starts_with("[Some(Long(0)), Some(Int("), "{}", tuples[1]);
            assert_eq!(tuples[2], "[Some(Long(10)), None, None]");
            assert!(tuples[3].starts_with("[None, Some(Int("), "{}", tuples[3]);
            let summaries = list[0].partitions.clone().unwrap();
            assert_eq!(summaries[0], summary(true, long(-10), long(10)));
            assert!(summaries[1].contains_null);
            assert_eq!(summaries[2], summary(true, None, None));
            let buckets = entries.iter().filter_map(|entry| entry.data_file.partition[1].clone());
            let buckets: Vec<i32> = buckets
                .map(|bucket| match bucket {
                    firnline::iceberg::Datum::Int(bucket) => bucket,
                    other => panic!("{other:?}"),
                })
                .collect();
            let (least, most) = (buckets.iter().min().unwrap(), buckets.iter().max().unwrap());
            assert_eq!(summaries[1], summary(true, int(*least), int(*most)));
        });
    }
}

#[test]
fn files_of_another_spec_are_written_again() {
    let by_bucket: &[(i32, &str)] = &[(1, "bucket[4]")];
    // Even of the same field with the same type of values, and where there are no partitions any more, or not yet.
    for (before, after) in [
        (by_bucket, &[(1, "bucket[8]")][..]),
        (by_bucket, &[]),
        (&[], by_bucket),
        (&[(2, "truncate[1]")], &[(2, "identity")]),
    ] {
        block_on(async {
            let world = world(FormatVersion::V2, before).await;
            let layout = world.prepare().await.unwrap();
            let files = world.merge(&layout, "lane-1-a").await;
            world.catalog.change(respecified(after)).await;
            let outcome = world.commit(files).await;
            assert!(matches!(outcome, CommitOutcome::Outdated { .. }), "{outcome:?}");
            let layout = world.prepare().await.unwrap();
            let files = world.merge(&layout, "lane-1-b").await;
            assert!(matches!(world.commit(files).await, CommitOutcome::Committed(_)));
            let table = world.catalog.load().await.unwrap().unwrap().metadata;
            assert_eq!(table.snapshots().len(), 1);
        });
    }
}

#[test]
fn a_spec_that_changes_while_the_commit_is_published_is_noticed() {
    block_on(async {
        let world = world(FormatVersion::V2, &[(1, "bucket[4]")]).await;
        let layout = world.prepare().await.unwrap();
        let files = world.merge(&layout, "lane-1-a").await;
        *world.catalog.before_commit.lock().unwrap() = respecified(&[(1, "bucket[5]")]);
        let outcome = world.commit(files).await;
        assert!(world.catalog.struck.load(Ordering::SeqCst));
        assert!(matches!(outcome, CommitOutcome::Outdated { .. }), "{outcome:?}");
        let table = world.catalog.load().await.unwrap().unwrap().metadata;
        assert!(table.current_snapshot().is_none());
    });
}

#[test]
fn a_property_that_changes_meanwhile_costs_nothing() {
    block_on(async {
        let world = world(FormatVersion::V3, &[(1, "bucket[4]")]).await;
        let layout = world.prepare().await.unwrap();
        let files = world.merge(&layout, "lane-1-a").await;
        let updates = [("k".to_owned(), "v".to_owned())].into();
        *world.catalog.before_commit.lock().unwrap() = vec![TableUpdate::SetProperties { updates }];
        assert!(matches!(world.commit(files).await, CommitOutcome::Committed(_)));
        let table = world.catalog.load().await.unwrap().unwrap().metadata;
        assert_eq!(table.properties().get("k").map(String::as_str), Some("v"));
    });
}

#[test]
fn a_transform_that_is_not_known_is_refused_by_name_before_anything_is_uploaded() {
    block_on(async {
        let world = world(FormatVersion::V2, &[(1, "bucket[4]")]).await;
        let path = Path::from("users/metadata/v1.metadata.json");
        let bytes = world.store.get(&path).await.unwrap().bytes().await.unwrap();
        let text = String::from_utf8(bytes.to_vec())
            .unwrap()
            .replace("bucket[4]", "geohash[4]");
        world.store.put(&path, text.into()).await.unwrap();
        let fresh = IcebergSink::new(
            Crowded::new(&world.store),
            Arc::clone(&world.store),
            Path::from("users"),
            LOCATION,
            IcebergOptions::default(),
        );
        let error = fresh
            .prepare(LaneId::from_u128(7), &rows().schema(), firnline::Evolve::Never)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("geohash[4]"), "{error}");
    });
}

#[test]
fn a_source_with_a_row_in_no_partition_is_set_aside_and_the_others_are_committed() {
    let long = |values: &[i64]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    let source =
        |ids: &[i64], values: &[i64]| RecordBatch::try_from_iter([("id", long(ids)), ("value", long(values))]).unwrap();
    let sources = [
        source(&[1, 4, 7], &[-10, 5, 12_345]),
        source(&[2, 5, 8], &[0, i64::MIN, 3]),
        source(&[3, 6, 9], &[i64::MIN + 808, 1, i64::MAX]),
        source(&[10], &[i64::MIN + 807]),
    ];
    let world = crate::world::World::new();
    let mut table = metadata();
    table["schemas"][0]["fields"][1] = json!({"id": 2, "name": "value", "required": false, "type": "long"});
    table["partition-specs"][0]["fields"] =
        json!([{"source-id": 2, "field-id": 1000, "name": "p", "transform": "truncate[1000]"}]);
    block_on(put(&world.tables, "users/metadata/v1.metadata.json", table.to_string()));
    let set_aside = compacted(&world, IcebergOptions::default(), &sources);
    let no_partition = |value: i64| QuarantineReason::NoPartition {
        detail: format!("value out of range of its partition. value=`{value}` type=`long`"),
    };
    let key = |writer: usize| format!("data/users/{HOUR}-w{writer}-0.parquet");
    assert_eq!(
        set_aside,
        [(key(1), no_partition(i64::MIN)), (key(3), no_partition(i64::MIN + 807))]
    );
    let mut ids: Vec<i64> = Vec::new();
    for path in table_log::iceberg_live_files(&world.tables, "users") {
        for batch in decode(block_on(get(&world.tables, path.as_ref()))) {
            let column = batch.column_by_name("id").unwrap();
            ids.extend(column.as_any().downcast_ref::<Int64Array>().unwrap().values());
        }
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 3, 4, 6, 7, 9]);
    assert_eq!(world.sources(), [key(1), key(3)]);
}
