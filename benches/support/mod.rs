//! Inputs of a merge, made for one question each.

mod distant;

use std::sync::Arc;
use std::time::Duration;

use firnline::arrow::array::{
    ArrayRef, Decimal128Array, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use firnline::arrow::datatypes::{DataType, Field, Int32Type};
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::parquet::arrow::ArrowWriter;
use firnline::parquet::basic::{Compression, ZstdLevel};
use firnline::parquet::file::properties::WriterProperties;
use firnline::{
    Codec, DEFAULT_MAX_ROW_GROUP_ROWS, MergeInput, MergeOptions, MergeTarget, OnUnsorted, ParquetMerger, SortField,
    WriterId, read_footer,
};
use futures::executor::block_on;
use futures::{FutureExt, StreamExt, stream};

use distant::Distant;

/// The type of the key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    Decimal,
    Float,
    Int,
    Text,
    /// A time that some rows share, and a text that tells them apart.
    TimeAndText,
}

/// The columns beside the key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Columns {
    /// A list and a struct.
    Nested,
    /// Three integers, a float and a text.
    Usual,
    /// A hundred, of which every fourth is a text.
    Wide,
}

/// What a case is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs {
    pub(crate) files: usize,
    /// Of all files together.
    pub(crate) rows: usize,
    /// So many rows of a file follow each other in the output; `None`: all of them.
    pub(crate) run: Option<usize>,
    pub(crate) key: Key,
    pub(crate) columns: Columns,
    /// Of inputs and outputs.
    pub(crate) codec: Codec,
    /// Most rows of a row group of the outputs.
    pub(crate) row_group: usize,
    pub(crate) copy_row_groups: bool,
    /// Whether each file begins with its greatest key, and has to be sorted first.
    pub(crate) backwards: bool,
}

impl Default for Inputs {
    fn default() -> Self {
        Self {
            files: 8,
            rows: 64_000,
            run: Some(1),
            key: Key::TimeAndText,
            columns: Columns::Usual,
            codec: Codec::Zstd(1),
            row_group: DEFAULT_MAX_ROW_GROUP_ROWS,
            copy_row_groups: true,
            backwards: false,
        }
    }
}

/// A window of a distant bucket, which can be merged again and again.
#[derive(Debug)]
pub(crate) struct Window {
    store: Arc<dyn ObjectStore>,
    /// Paths with writers and sequences.
    sources: Vec<(Path, WriterId, u64)>,
    merger: ParquetMerger,
    target: MergeTarget,
}

impl Window {
    /// Writes the rows of each of the inputs into `files` files one after the other.
    pub(crate) fn new(of: &Inputs, files: usize, latency: Duration) -> Self {
        let inner = InMemory::new();
        let mut sources = Vec::new();
        for writer in 0..of.files {
            let all = batch(of, writer);
            let rows = all.num_rows() / files;
            for file in 0..files {
                let path = Path::from(format!("in/{writer}-{file}"));
                let bytes = encode(of, &all.slice(file * rows, rows));
                block_on(inner.put(&path, bytes.into())).unwrap();
                sources.push((path, WriterId::new(format!("w{writer:04}")), file as u64));
            }
        }
        let store: Arc<dyn ObjectStore> = Arc::new(Distant { inner, latency });
        Self {
            target: target(&store, of),
            merger: ParquetMerger::new(options(of)),
            store,
            sources,
        }
    }

    /// Merges as a compactor does; returns how many rows.
    pub(crate) fn merge(&self) -> u64 {
        let footers = self.sources.iter().map(|(path, writer, sequence)| {
            let footer = read_footer(&*self.store, path, None);
            footer.map(|footer| MergeInput {
                footer: footer.unwrap(),
                writer: writer.clone(),
                sequence: *sequence,
            })
        });
        let merge = async {
            let inputs = stream::iter(footers).buffered(32).collect().await;
            let merge = self.merger.merge(&self.store, inputs, self.target.clone(), &());
            merge.await.unwrap().rows
        };
        block_on(merge)
    }
}

/// A merge that can be repeated.
#[derive(Debug)]
pub(crate) struct Merge {
    store: Arc<dyn ObjectStore>,
    inputs: Vec<MergeInput>,
    merger: ParquetMerger,
    target: MergeTarget,
}

impl Merge {
    /// Writes the inputs into memory.
    pub(crate) fn new(of: &Inputs) -> Self {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let inputs = (0..of.files).map(|file| block_on(write(&store, of, file))).collect();
        Self {
            target: target(&store, of),
            merger: ParquetMerger::new(options(of)),
            store,
            inputs,
        }
    }

    /// Merges; returns how many rows.
    pub(crate) fn run(&self) -> u64 {
        let merge = self
            .merger
            .merge(&self.store, self.inputs.clone(), self.target.clone(), &());
        block_on(merge).unwrap().rows
    }
}

fn options(of: &Inputs) -> MergeOptions {
    let order = match of.key {
        Key::TimeAndText => vec![SortField::ascending("ts"), SortField::ascending("id")],
        _ => vec![SortField::ascending("key")],
    };
    MergeOptions::default()
        .with_sort_order(order)
        .with_codec(of.codec)
        .with_max_row_group_rows(of.row_group)
        .with_copy_row_groups(of.copy_row_groups)
        .with_on_unsorted(OnUnsorted::Resort)
}

fn target(store: &Arc<dyn ObjectStore>, of: &Inputs) -> MergeTarget {
    MergeTarget {
        store: Arc::clone(store),
        dir: Path::from("out"),
        stem: "bench".to_owned(),
        schema: batch(of, 0).schema(),
        partitioner: None,
        key_value_metadata: Vec::new(),
        scratch: Some((Arc::clone(store), Path::from("scratch"))),
    }
}

/// A Parquet file.
fn encode(of: &Inputs, rows: &RecordBatch) -> Vec<u8> {
    let codec = match of.codec {
        Codec::Zstd(level) => Compression::ZSTD(ZstdLevel::try_new(level).unwrap()),
        Codec::Snappy => Compression::SNAPPY,
        Codec::Lz4 => Compression::LZ4_RAW,
        _ => Compression::UNCOMPRESSED,
    };
    let properties = WriterProperties::builder().set_compression(codec).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    writer.into_inner().unwrap()
}

async fn write(store: &Arc<dyn ObjectStore>, of: &Inputs, file: usize) -> MergeInput {
    let path = Path::from(format!("in/{file}"));
    store.put(&path, encode(of, &batch(of, file)).into()).await.unwrap();
    MergeInput {
        footer: read_footer(&**store, &path, None).await.unwrap(),
        writer: WriterId::new(format!("w{file:04}")),
        sequence: 1,
    }
}

/// The rows of a file, whose numbers are their places in the output.
fn batch(of: &Inputs, file: usize) -> RecordBatch {
    let rows = of.rows / of.files;
    let run = of.run.unwrap_or(rows);
    let place = |row: usize| (row / run * of.files + file) * run + row % run;
    let mut numbers: Vec<i64> = (0..rows).map(|row| i64::try_from(place(row)).unwrap()).collect();
    if of.backwards {
        numbers.reverse();
    }
    let mut columns = keys(of.key, &numbers);
    match of.columns {
        Columns::Nested => columns.extend(nested(&numbers)),
        Columns::Usual => columns.extend(flat(&numbers, 5)),
        Columns::Wide => columns.extend(flat(&numbers, 100)),
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

type Named = (String, ArrayRef);

fn keys(key: Key, numbers: &[i64]) -> Vec<Named> {
    let named = |array: ArrayRef| vec![("key".to_owned(), array)];
    let all = || numbers.iter().copied();
    match key {
        Key::Decimal => {
            let values = Decimal128Array::from_iter_values(all().map(i128::from));
            named(Arc::new(values.with_precision_and_scale(20, 2).unwrap()))
        }
        Key::Float => named(Arc::new(Float64Array::from_iter_values(all().map(float)))),
        Key::Int => named(Arc::new(Int64Array::from_iter_values(all()))),
        Key::Text => named(texts(all().map(|number| format!("{number:020}")))),
        Key::TimeAndText => {
            let times = TimestampMicrosecondArray::from_iter_values(all().map(|number| number / 4 * 1_000));
            vec![
                ("ts".to_owned(), Arc::new(times.with_timezone("UTC"))),
                ("id".to_owned(), texts(all().map(|number| format!("{number:026}")))),
            ]
        }
    }
}

fn flat(numbers: &[i64], count: i64) -> impl Iterator<Item = Named> {
    (0..count).map(move |column| {
        let values = numbers
            .iter()
            .map(move |number| scatter(*number, column) % (100 << (column % 12)));
        let array: ArrayRef = match column % 4 {
            1 => Arc::new(Float64Array::from_iter_values(values.map(float))),
            3 => texts(values.map(|value| format!("/page/{value}"))),
            _ => Arc::new(Int64Array::from_iter_values(values)),
        };
        (format!("c{column}"), array)
    })
}

fn nested(numbers: &[i64]) -> Vec<Named> {
    let small = |number: i64, salt: i64| i32::try_from(scatter(number, salt) % 1_000).unwrap();
    let lists = numbers.iter().map(|number| {
        let items = (0..scatter(*number, 1).rem_euclid(5)).map(move |item| Some(small(*number, item)));
        Some(items.collect::<Vec<_>>())
    });
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
    let left = Int32Array::from_iter_values(numbers.iter().map(|number| small(*number, 2)));
    let right = texts(numbers.iter().map(|number| format!("{}", small(*number, 3))));
    let pair = StructArray::from(vec![
        (
            Arc::new(Field::new("left", DataType::Int32, false)),
            Arc::new(left) as ArrayRef,
        ),
        (Arc::new(Field::new("right", DataType::Utf8, false)), right),
    ]);
    vec![
        ("list".to_owned(), Arc::new(lists)),
        ("pair".to_owned(), Arc::new(pair)),
    ]
}

fn texts(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
fn float(number: i64) -> f64 {
    number as f64 / 8.0
}

/// A number that looks random, the same for the same number.
fn scatter(value: i64, salt: i64) -> i64 {
    (value.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed()) ^ salt.wrapping_mul(0x2545_f491)) >> 20
}
