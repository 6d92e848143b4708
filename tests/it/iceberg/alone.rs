//! `IcebergCommitBuilder` by itself: a host that reads and writes the objects, and publishes versions, on its own.

use std::sync::Arc;

use firnline::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use firnline::iceberg::{
    CatalogTable, EntryStatus, IcebergCommit, IcebergCommitBuilder, IcebergCommitStep, IcebergOptions, TableMetadata,
    arrow_schema, read_manifest, read_manifest_list,
};
use firnline::object_store::path::Path;
use firnline::object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use firnline::parquet::file::properties::WriterProperties;
use firnline::{
    AttemptId, DataFile, LaneId, MergeOptions, MergeTarget, ParquetMerger, PlanHash, Seq, SortField, TableChange,
    TableCommit, Timestamp,
};
use futures::executor::block_on;

use super::support::{Store, get, memory};
use crate::merge::support::{decode, encode, input};

const LOCATION: &str = "mem://bucket/tables/users";

/// Where a URI of the table lies in the store.
fn path_of(uri: &str) -> Path {
    Path::from(uri.strip_prefix("mem://bucket/").unwrap())
}

fn version_uri(version: u64) -> String {
    format!("{LOCATION}/metadata/v{version}.metadata.json")
}

/// Puts a version where none is; `false` if somebody was first.
async fn publish(store: &Store, version: u64, metadata: &TableMetadata) -> bool {
    let (path, bytes) = (path_of(&version_uri(version)), metadata.encode().unwrap());
    match store
        .put_opts(&path, bytes.into(), PutOptions::from(PutMode::Create))
        .await
    {
        Ok(_) => true,
        Err(StoreError::AlreadyExists { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn table(store: &Store, version: u64) -> CatalogTable {
    let uri = version_uri(version);
    let bytes = get(store, path_of(&uri).as_ref()).await;
    CatalogTable {
        metadata: Arc::new(TableMetadata::parse(&bytes).unwrap()),
        metadata_location: uri,
    }
}

fn rows(ids: &[i64]) -> RecordBatch {
    let names = ids.iter().map(|id| format!("name {id}"));
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef),
        ("name", Arc::new(StringArray::from_iter_values(names)) as ArrayRef),
    ])
    .unwrap()
}

fn commit(seq: u64, files: Vec<DataFile>) -> TableCommit {
    let hash = |seq: u64| PlanHash::of(seq.to_string().as_bytes());
    TableCommit {
        lane: LaneId::from_u128(1),
        seq: Seq::new(seq),
        plan_hash: Some(hash(seq)),
        attempt: AttemptId::from_u64(7),
        base: (seq > 1).then(|| (Seq::new(seq - 1), hash(seq - 1).prefix())),
        now: Timestamp::from_millis(1_700_000_000_000),
        new_table_uuid: uuid::Uuid::from_u128(2),
        sort_order: vec![SortField::ascending("id")],
        change: TableChange::Append {
            schema: rows(&[]).schema(),
            evolve: firnline::Evolve::Never,
            files,
        },
    }
}

/// Writes a data file of the table's columns, with their ids.
async fn written(store: &Store, table: &TableMetadata, name: &str, ids: &[i64]) -> Vec<DataFile> {
    let source = Path::from(format!("sources/{name}"));
    let bytes = encode(&rows(ids), WriterProperties::default());
    store.put(&source, bytes.into()).await.unwrap();
    let target = MergeTarget {
        store: Arc::clone(store),
        dir: Path::from("tables/users/data"),
        stem: name.to_owned(),
        schema: arrow_schema(table.schema()),
        partitioner: None,
        key_value_metadata: Vec::new(),
        scratch: None,
    };
    let merger = ParquetMerger::new(MergeOptions::default().with_sort_order(vec![SortField::ascending("id")]));
    let inputs = vec![input(store, &source, "w", 1).await];
    merger.merge(store, inputs, target, &()).await.unwrap().files
}

/// Builds a commit, reading what the builder asks for.
async fn built(store: &Store, mut builder: IcebergCommitBuilder, commit: &TableCommit, id: u64) -> IcebergCommit {
    loop {
        match builder.build(commit, uuid::Uuid::from_u64_pair(0, id)).unwrap() {
            IcebergCommitStep::Read(uris) => {
                for uri in uris {
                    let bytes = get(store, path_of(&uri).as_ref()).await;
                    builder = builder.with_object(uri, bytes);
                }
            }
            IcebergCommitStep::Write(commit) => return *commit,
            other => panic!("{other:?}"),
        }
    }
}

/// Writes the objects of a commit, then publishes it.
async fn write(store: &Store, version: u64, commit: &IcebergCommit) -> bool {
    for (uri, bytes) in &commit.objects {
        let options = PutOptions::from(PutMode::Create);
        store
            .put_opts(&path_of(uri), bytes.clone().into(), options)
            .await
            .unwrap();
    }
    publish(store, version, &commit.change.apply().unwrap()).await
}

/// The ids of all live rows, and by which snapshot each file came.
async fn read_back(store: &Store, table: &TableMetadata) -> (Vec<i64>, Vec<i64>) {
    let list = table.current_snapshot().unwrap().manifest_list.clone().unwrap();
    let bytes = get(store, path_of(&list).as_ref()).await;
    let (mut ids, mut snapshots) = (Vec::new(), Vec::new());
    for manifest in read_manifest_list(&bytes, &list).unwrap() {
        let bytes = get(store, path_of(&manifest.path).as_ref()).await;
        for entry in read_manifest(&bytes, &manifest, &[]).unwrap() {
            assert_ne!(entry.status, EntryStatus::Deleted);
            snapshots.push(entry.snapshot_id);
            let file = get(store, path_of(&entry.data_file.file_path).as_ref()).await;
            assert_eq!(file.len() as u64, entry.data_file.file_size);
            for batch in decode(file) {
                let column = batch.column_by_name("id").unwrap();
                ids.extend(column.as_any().downcast_ref::<Int64Array>().unwrap().values());
            }
        }
    }
    ids.sort_unstable();
    (ids, snapshots)
}

#[test]
fn a_host_creates_a_table_and_appends_to_it_by_its_own_means() {
    block_on(async {
        let store = memory();
        let builder = IcebergCommitBuilder::new(Path::from("tables/users"), LOCATION, IcebergOptions::default());
        let step = builder
            .build(&commit(1, Vec::new()), uuid::Uuid::from_u128(10))
            .unwrap();
        let IcebergCommitStep::Create(new) = step else {
            panic!("{step:?}")
        };
        assert!(publish(&store, 1, &TableMetadata::create(*new).unwrap()).await);
        let base = table(&store, 1).await;
        let first = commit(1, written(&store, &base.metadata, "one", &[3, 5]).await);
        let one = built(&store, builder.clone().with_base(Some(base)), &first, 1_100).await;
        assert!(write(&store, 2, &one).await);

        // Two commits on one base: the second is made anew from what the first has left, on the same data file.
        let base = table(&store, 2).await;
        let files = written(&store, &base.metadata, "two", &[4]).await;
        let builder = builder.with_base(Some(base));
        let theirs = commit(
            2,
            written(&store, &builder.base().unwrap().metadata, "three", &[9]).await,
        );
        let loser = built(&store, builder.clone(), &commit(2, files.clone()), 1_200).await;
        let winner = built(&store, builder.clone(), &theirs, 1_300).await;
        assert!(write(&store, 3, &winner).await);
        assert!(!write(&store, 3, &loser).await);
        let builder = builder.with_base(Some(table(&store, 3).await));
        // The winner was of the same lane and seq: there is nothing left to do, and the builder says so.
        let step = builder
            .build(&commit(2, files.clone()), uuid::Uuid::from_u128(14))
            .unwrap();
        assert!(
            matches!(&step, IcebergCommitStep::Decided(marker) if marker.seq == Seq::new(2)),
            "{step:?}"
        );
        let next = built(&store, builder, &commit(3, files), 1_500).await;
        assert!(write(&store, 4, &next).await);

        let table = table(&store, 4).await.metadata;
        let entries = [&one, &winner, &next].map(|commit| commit.entry.version.cast_signed());
        let (ids, mut snapshots) = read_back(&store, &table).await;
        assert_eq!(ids, [3, 4, 5, 9]);
        snapshots.reverse();
        assert_eq!(snapshots, entries);
        let summary = &table.current_snapshot().unwrap().summary;
        assert_eq!(
            (summary["total-records"].as_str(), summary["total-data-files"].as_str()),
            ("4", "3")
        );
    });
}
