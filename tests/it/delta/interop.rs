//! Writes tables for other readers: into `FIRNLINE_INTEROP_DIR`, where `tests/interop/delta.py` reads them,
//! else into a directory that goes away.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::from_iter_instead_of_collect,
    reason = "the numbers are small, and columns read better by their type"
)]

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use firnline::arrow::array::*;
use firnline::arrow::buffer::{NullBuffer, OffsetBuffer};
use firnline::arrow::datatypes::{DataType, Field, Fields, Float32Type, Float64Type, Schema, TimeUnit};
use firnline::delta::{DeltaOptions, DeltaSink};
use firnline::object_store::local::LocalFileSystem;
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use firnline::parquet::arrow::ArrowWriter;
use firnline::parquet::file::metadata::ColumnChunkMetaData;
use firnline::parquet::file::properties::{EnabledStatistics, WriterProperties};
use firnline::parquet::file::statistics::Statistics;
use firnline::parquet::schema::types::ColumnPath;
use firnline::{
    AttemptId, Bound, ColumnMetrics, CommitOutcome, DataFile, Datum, LaneId, PlanHash, Seq, TableChange, TableCommit,
    TableSink, Timestamp,
};
use futures::executor::block_on;
use uuid::Uuid;

const COMMITS: i64 = 13;
const NOW: i64 = 1_700_000_000_000;

#[expect(clippy::too_many_lines, reason = "one line a column")]
/// Rows of one file: every type, with values at which statistics go wrong.
fn rows(n: i64) -> RecordBatch {
    const ROWS: i64 = 5;
    let ids: Vec<i64> = (0..ROWS).map(|r| n * 10 + r).collect();
    let each = |value: &dyn Fn(i64) -> i64| ids.iter().map(|id| value(*id)).collect::<Vec<_>>();
    let double = |id: i64| match (n % 4, id % 10) {
        (1, 2) => f64::NAN,
        (2, 3) => f64::INFINITY,
        (3, 0) => -0.0,
        (3, _) => 0.0,
        _ => id as f64 / 3.0,
    };
    let decimal = |precision, scale, factor: i128| {
        let values = ids.iter().map(|id| Some((i128::from(*id) - 60) * factor));
        values
            .collect::<Decimal128Array>()
            .with_precision_and_scale(precision, scale)
            .unwrap()
    };
    let micros = each(&|id| 1_704_067_200_000_000 + id * 333_333_457 - 1);
    let long_text = |id: &i64| match n % 3 {
        0 => format!("{}-{id:04}", "x".repeat(40)),
        1 => format!("{}\u{10ffff}{id:04}", "é".repeat(32)),
        _ => format!("s{id:04}"),
    };
    let nulls = ids.iter().map(|id| id % 10 != 3).collect::<NullBuffer>();
    let inner = Fields::from(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
    ]);
    let group = StructArray::new(
        inner.clone(),
        vec![
            Arc::new(Int64Array::from_iter(
                ids.iter().map(|id| (id % 10 != 1).then_some(*id)),
            )),
            Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("b{id}")))),
        ],
        Some(nulls.clone()),
    );
    let element = Arc::new(Field::new("element", DataType::Int32, true));
    let list = ListArray::new(
        element.clone(),
        OffsetBuffer::from_lengths([0, 1, 2, 0, 1]),
        Arc::new(Int32Array::from(vec![Some(1), None, Some(3), Some(4)])),
        Some(nulls),
    );
    let entry = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Int64, true),
    ]);
    let entries = StructArray::new(
        entry.clone(),
        vec![
            Arc::new(StringArray::from(vec!["k", "k", "l"])),
            Arc::new(Int64Array::from(vec![Some(1), None, Some(2)])),
        ],
        None,
    );
    let entry = Arc::new(Field::new("key_value", DataType::Struct(entry), false));
    let map = MapArray::new(
        entry.clone(),
        OffsetBuffer::from_lengths([1, 2, 0, 0, 0]),
        entries,
        None,
        false,
    );
    let columns: Vec<(&str, bool, ArrayRef)> = vec![
        ("id", false, Arc::new(Int64Array::from(ids.clone()))),
        (
            "byte",
            true,
            Arc::new(Int8Array::from_iter_values(ids.iter().map(|id| (id % 100) as i8 - 50))),
        ),
        (
            "short",
            true,
            Arc::new(Int16Array::from_iter_values(ids.iter().map(|id| *id as i16))),
        ),
        (
            "int",
            true,
            Arc::new(Int32Array::from_iter(
                ids.iter().map(|id| (id % 10 != 2).then_some(*id as i32)),
            )),
        ),
        (
            "double",
            true,
            Arc::new(Float64Array::from_iter_values(ids.iter().map(|id| double(*id)))),
        ),
        (
            "single",
            true,
            Arc::new(Float32Array::from_iter_values(ids.iter().map(|id| *id as f32 / 10.0))),
        ),
        ("dec9", true, Arc::new(decimal(9, 2, 1_001))),
        ("dec18", true, Arc::new(decimal(18, 4, 100_000_000_001))),
        (
            "dec38",
            true,
            Arc::new(decimal(38, 10, 1_000_000_000_000_000_000_000_000_000_000_001)),
        ),
        (
            "ts",
            true,
            Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC")),
        ),
        (
            "day",
            true,
            Arc::new(Date32Array::from_iter_values(ids.iter().map(|id| 19_000 + *id as i32))),
        ),
        (
            "text",
            true,
            Arc::new(StringArray::from_iter_values(ids.iter().map(long_text))),
        ),
        (
            "flag",
            true,
            Arc::new(BooleanArray::from_iter(ids.iter().map(|id| Some(id % 2 == 0)))),
        ),
        (
            "bytes",
            true,
            Arc::new(BinaryArray::from_iter_values(ids.iter().map(|id| id.to_be_bytes()))),
        ),
        ("none", true, new_null_array(&DataType::Int64, ids.len())),
        ("st", true, Arc::new(group)),
        ("li", true, Arc::new(list)),
        ("ma", true, Arc::new(map)),
    ];
    batch(columns)
}

fn batch(columns: Vec<(&str, bool, ArrayRef)>) -> RecordBatch {
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, nullable, array)| Field::new(*name, array.data_type().clone(), *nullable))
        .collect();
    let columns = columns.into_iter().map(|(.., array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// NaNs of a float column.
fn nans(column: &ArrayRef) -> Option<u64> {
    match column.data_type() {
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>().iter().flatten();
            Some(values.filter(|value| value.is_nan()).count() as u64)
        }
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>().iter().flatten();
            Some(values.filter(|value| value.is_nan()).count() as u64)
        }
        _ => None,
    }
}

/// What the merger would say of a column, from the footer.
fn metrics(column: &ColumnChunkMetaData, batch: &RecordBatch) -> ColumnMetrics {
    let path = column.column_path().parts().to_vec();
    let statistics = column.statistics();
    let bound = |value: Option<Datum>, exact: bool| value.map(|value| Bound { value, exact });
    let datum = |min: bool| match statistics? {
        Statistics::Boolean(s) => if min { s.min_opt() } else { s.max_opt() }.map(|v| Datum::Boolean(*v)),
        Statistics::Int32(s) => if min { s.min_opt() } else { s.max_opt() }.map(|v| Datum::Int32(*v)),
        Statistics::Int64(s) => if min { s.min_opt() } else { s.max_opt() }.map(|v| Datum::Int64(*v)),
        Statistics::Float(s) => if min { s.min_opt() } else { s.max_opt() }.map(|v| Datum::Float(*v)),
        Statistics::Double(s) => if min { s.min_opt() } else { s.max_opt() }.map(|v| Datum::Double(*v)),
        Statistics::ByteArray(s) => {
            if min { s.min_opt() } else { s.max_opt() }.map(|v| Datum::Bytes(v.data().to_vec()))
        }
        Statistics::FixedLenByteArray(s) => {
            if min { s.min_opt() } else { s.max_opt() }.map(|v| Datum::Bytes(v.data().to_vec()))
        }
        Statistics::Int96(_) => None,
    };
    let nan_count = nans(batch.column_by_name(&path[0]).unwrap());
    ColumnMetrics {
        field_id: None,
        path,
        compressed_size: column.compressed_size() as u64,
        value_count: column.num_values() as u64,
        null_count: statistics.and_then(Statistics::null_count_opt),
        nan_count,
        lower: bound(datum(true), statistics.is_some_and(Statistics::min_is_exact)),
        upper: bound(datum(false), statistics.is_some_and(Statistics::max_is_exact)),
    }
}

struct Appender {
    store: Arc<LocalFileSystem>,
    root: Path,
    sink: DeltaSink,
    lane: LaneId,
    next: u64,
}

impl Appender {
    fn open(dir: &FsPath, name: &str, options: DeltaOptions) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let store = Arc::new(LocalFileSystem::new_with_prefix(dir).unwrap());
        let root = Path::parse(name).unwrap();
        let shared: Arc<dyn ObjectStore> = store.clone();
        Self {
            sink: DeltaSink::new(shared, root.clone(), options),
            store,
            root,
            lane: LaneId::from_u128(0xFEED),
            next: 1,
        }
    }

    /// Writes the rows into a file where the sink wants it, and commits it as the next entry.
    fn append(&mut self, batch: &RecordBatch) {
        let layout = block_on(self.sink.prepare(self.lane, &batch.schema(), firnline::Evolve::Never)).unwrap();
        let columns: Vec<_> = layout
            .schema
            .fields()
            .iter()
            .map(|field| batch.column_by_name(field.name()).unwrap().clone())
            .collect();
        let ordered = RecordBatch::try_new(layout.schema.clone(), columns).unwrap();
        let mut bytes = Vec::new();
        let mut properties = WriterProperties::builder();
        for (field, column) in ordered.schema().fields().iter().zip(ordered.columns()) {
            if nans(column) > Some(0) {
                // Footer statistics pass over NaN, and readers skip the row group by them.
                let path = ColumnPath::from(field.name().as_str());
                properties = properties.set_column_statistics_enabled(path, EnabledStatistics::None);
            }
        }
        let properties = Some(properties.build());
        let mut writer = ArrowWriter::try_new(&mut bytes, layout.schema.clone(), properties).unwrap();
        writer.write(&ordered).unwrap();
        let footer = writer.close().unwrap();
        let path = layout.data_dir.join(format!("{}-{}-1-0.parquet", self.lane, self.next));
        let group = footer.row_group(0);
        let file = DataFile {
            path: path.to_string(),
            size: bytes.len() as u64,
            rows: ordered.num_rows() as u64,
            columns: group.columns().iter().map(|column| metrics(column, &ordered)).collect(),
            split_offsets: vec![4],
            sorted: true,
            partition: None,
        };
        block_on(self.store.put(&path, PutPayload::from(bytes))).unwrap();
        self.commit(TableChange::Append {
            schema: layout.schema,
            evolve: firnline::Evolve::Never,
            files: vec![file],
        });
    }

    fn commit(&mut self, change: TableChange) {
        let hash = |seq: u64| PlanHash::of(&seq.to_be_bytes());
        let seq = self.next;
        let commit = TableCommit {
            lane: self.lane,
            seq: Seq::new(seq),
            plan_hash: Some(hash(seq)),
            attempt: AttemptId::from_u64(seq),
            base: (seq > 1).then(|| (Seq::new(seq - 1), hash(seq - 1).prefix())),
            now: Timestamp::from_millis(NOW) + seq,
            new_table_uuid: Uuid::from_u128(self.lane.to_string().len() as u128 + 0x4000_8000_0000_0000_0000),
            sort_order: Vec::new(),
            change,
        };
        let outcome = block_on(self.sink.commit(&commit)).unwrap();
        assert!(
            matches!(outcome, CommitOutcome::Committed(_)),
            "{:?} of {}",
            outcome,
            self.root
        );
        self.next += 1;
    }
}

fn fill(mut table: Appender, rows: impl Fn(i64) -> RecordBatch) {
    for n in 0..COMMITS {
        table.append(&rows(n));
    }
    // A void and a plan without rows must not disturb anybody.
    let schema = rows(0).schema();
    table.commit(TableChange::Void { schema: schema.clone() });
    table.commit(TableChange::Append {
        schema,
        evolve: firnline::Evolve::Never,
        files: Vec::new(),
    });
}

#[test]
fn tables_for_other_readers_are_written() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = std::env::var_os("FIRNLINE_INTEROP_DIR").map_or_else(|| temporary.path().to_owned(), PathBuf::from);

    fill(
        Appender::open(&dir, "plain", DeltaOptions::default().with_checkpoint_interval(0)),
        rows,
    );
    fill(
        Appender::open(
            &dir,
            "checkpointed",
            DeltaOptions::default().with_checkpoint_interval(5),
        ),
        rows,
    );

    let local = |n: i64| {
        let micros: Vec<_> = (0..5).map(|r| (n * 10 + r) * 3_600_000_457 - 1_000_001).collect();
        batch(vec![
            (
                "id",
                false,
                Arc::new(Int64Array::from_iter_values((0..5).map(|r| n * 10 + r))),
            ),
            ("local", true, Arc::new(TimestampMicrosecondArray::from(micros))),
        ])
    };
    assert_eq!(
        local(0).schema().field(1).data_type(),
        &DataType::Timestamp(TimeUnit::Microsecond, None)
    );
    fill(
        Appender::open(&dir, "local_times", DeltaOptions::default().with_checkpoint_interval(4)),
        local,
    );

    // Tables that another writer has made, if there are any.
    let simple = |n: i64| {
        batch(vec![
            (
                "id",
                true,
                Arc::new(Int64Array::from_iter_values((0..5).map(|r| 1_000 + n * 10 + r))),
            ),
            (
                "name",
                true,
                Arc::new(StringArray::from_iter_values((0..5).map(|r| format!("ours-{n}-{r}")))),
            ),
        ])
    };
    for name in ["foreign", "foreign_checkpointed", "foreign_features"] {
        if dir.join(name).join("_delta_log").is_dir() {
            fill(
                Appender::open(&dir, name, DeltaOptions::default().with_checkpoint_interval(4)),
                simple,
            );
        }
    }
}
