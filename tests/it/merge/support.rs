//! Rows to be merged, how they are written, and an order of their own to compare with.

use std::cmp::Ordering;
use std::sync::Arc;

use firnline::arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Float64Builder, Int32Builder, Int64Array,
    Int64Builder, ListBuilder, MapBuilder, RecordBatch, StringArray, StringBuilder, StructBuilder,
    TimestampMicrosecondArray,
};
use firnline::arrow::compute::concat_batches;
use firnline::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::parquet::arrow::ArrowWriter;
use firnline::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use firnline::parquet::basic::Compression;
use firnline::parquet::file::metadata::{ColumnChunkMetaDataBuilder, ParquetMetaDataReader, ParquetMetaDataWriter};
use firnline::parquet::file::properties::WriterProperties;
use firnline::{
    Codec, MergeError, MergeInput, MergeOptions, MergeOutput, MergeTarget, ParquetMerger, SortField, WriterId,
    read_footer,
};

/// A small generator of numbers, the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    pub(crate) fn size(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap()
    }
}

/// The light codec of a build that has it.
pub(crate) const LIGHT: Compression = if cfg!(feature = "snap") {
    Compression::SNAPPY
} else {
    Compression::UNCOMPRESSED
};

type Item = Option<(Option<i32>, Option<f64>)>;

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) t: i64,
    pub(crate) f: Option<f64>,
    pub(crate) s: Option<String>,
    pub(crate) d: Option<i128>,
    pub(crate) b: Option<Vec<u8>>,
    pub(crate) flag: Option<bool>,
    pub(crate) list: Option<Vec<Item>>,
    pub(crate) map: Option<Vec<(String, Option<i64>)>>,
    /// Place among equal keys: writer, sequence, row.
    pub(crate) place: (usize, u64, usize),
}

impl Row {
    pub(crate) fn random(random: &mut Random, id: i64) -> Self {
        let floats = [
            -0.0,
            0.0,
            1.5,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            -f64::NAN,
            f64::from_bits(0x7ff0_0000_0000_0001),
        ];
        let mut maybe = |random: &mut Random| random.below(5) > 0;
        let some = &mut maybe;
        Self {
            id,
            t: i64::try_from(random.below(60)).unwrap() - 30,
            f: some(random).then(|| floats[random.size(floats.len())]),
            s: some(random).then(|| ["", "a", "ab", "b", "\u{e9}", "Z"][random.size(6)].to_owned()),
            d: some(random).then(|| i128::from(random.below(2000)) - 1000),
            b: some(random).then(|| {
                (0..random.below(4))
                    .map(|_| if random.below(2) == 0 { 0 } else { 0xff })
                    .collect()
            }),
            flag: some(random).then(|| random.below(2) == 0),
            list: some(random).then(|| {
                let item = |random: &mut Random| {
                    (random.below(4) > 0).then(|| {
                        let a = (random.below(3) > 0).then(|| i32::try_from(random.below(9)).unwrap());
                        (a, (random.below(3) > 0).then(|| floats[random.size(floats.len())]))
                    })
                };
                (0..random.below(4)).map(|_| item(random)).collect()
            }),
            map: some(random).then(|| {
                let value =
                    |random: &mut Random| (random.below(3) > 0).then(|| i64::try_from(random.below(99)).unwrap());
                (0..random.below(3)).map(|i| (format!("k{i}"), value(random))).collect()
            }),
            place: (0, 0, 0),
        }
    }
}

/// The order of rows, written down once more and in another way.
pub(crate) fn compare(order: &[SortField], a: &Row, b: &Row) -> Ordering {
    for field in order {
        let ordering = match field.column.as_str() {
            "id" => nullable(field, Some(a.id), Some(b.id), std::cmp::Ord::cmp),
            "t" => nullable(field, Some(a.t), Some(b.t), std::cmp::Ord::cmp),
            "f" => nullable(field, a.f, b.f, |a, b| match (a.is_nan(), b.is_nan()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => a.partial_cmp(b).unwrap(),
            }),
            "s" => nullable(field, a.s.as_ref(), b.s.as_ref(), |a, b| a.as_bytes().cmp(b.as_bytes())),
            "d" => nullable(field, a.d, b.d, std::cmp::Ord::cmp),
            "b" => nullable(field, a.b.as_ref(), b.b.as_ref(), std::cmp::Ord::cmp),
            "flag" => nullable(field, a.flag, b.flag, std::cmp::Ord::cmp),
            other => panic!("no such column: {other}"),
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    Ordering::Equal
}

fn nullable<T>(field: &SortField, a: Option<T>, b: Option<T>, compare: impl Fn(&T, &T) -> Ordering) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) if field.descending => compare(&b, &a),
        (Some(a), Some(b)) => compare(&a, &b),
        (None, None) => Ordering::Equal,
        (None, Some(_)) if field.nulls_first => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) if field.nulls_first => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
    }
}

/// The columns of rows, as a table would have them.
pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let fields = vec![
        Field::new("a", DataType::Int32, true),
        Field::new("x", DataType::Float64, true),
    ];
    let item = StructBuilder::new(
        fields,
        vec![Box::new(Int32Builder::new()), Box::new(Float64Builder::new())],
    );
    let mut list = ListBuilder::new(item);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for row in rows {
        for item in row.list.iter().flatten() {
            let (a, x) = item.unwrap_or_default();
            let values = list.values();
            values.field_builder::<Int32Builder>(0).unwrap().append_option(a);
            values.field_builder::<Float64Builder>(1).unwrap().append_option(x);
            values.append(item.is_some());
        }
        list.append(row.list.is_some());
        for (key, value) in row.map.iter().flatten() {
            map.keys().append_value(key);
            map.values().append_option(*value);
        }
        map.append(row.map.is_some()).unwrap();
    }
    let decimals: Decimal128Array = rows.iter().map(|row| row.d).collect();
    let decimals = decimals.with_precision_and_scale(20, 2).unwrap();
    let times =
        TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.t * 1_000_000)).with_timezone("UTC");
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        (
            "id",
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.id))),
            false,
        ),
        ("t", Arc::new(times), false),
        (
            "f",
            Arc::new(rows.iter().map(|row| row.f).collect::<Float64Array>()),
            true,
        ),
        (
            "s",
            Arc::new(rows.iter().map(|row| row.s.as_ref()).collect::<StringArray>()),
            true,
        ),
        ("d", Arc::new(decimals), true),
        (
            "b",
            Arc::new(rows.iter().map(|row| row.b.as_ref()).collect::<BinaryArray>()),
            true,
        ),
        (
            "flag",
            Arc::new(rows.iter().map(|row| row.flag).collect::<BooleanArray>()),
            true,
        ),
        ("list", Arc::new(list.finish()), true),
        ("map", Arc::new(map.finish()), true),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array, null)| Field::new(*name, array.data_type().clone(), *null))
        .collect();
    let columns = columns.into_iter().map(|(_, array, _)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

pub(crate) fn schema() -> SchemaRef {
    batch(&[]).schema()
}

/// A Parquet file of a batch.
pub(crate) fn encode(batch: &RecordBatch, properties: WriterProperties) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

/// The same file, with a footer that says something else of its first column.
pub(crate) fn refooted(
    file: &[u8],
    edit: impl Fn(ColumnChunkMetaDataBuilder) -> ColumnChunkMetaDataBuilder,
) -> Vec<u8> {
    let bytes = bytes::Bytes::copy_from_slice(file);
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
    let mut builder = metadata.into_builder();
    let groups = builder.take_row_groups().into_iter().map(|group| {
        let mut group = group.into_builder();
        let mut columns = group.take_columns();
        columns[0] = edit(columns[0].clone().into_builder()).build().unwrap();
        group.set_column_metadata(columns).build().unwrap()
    });
    let metadata = builder.set_row_groups(groups.collect()).build();
    let length = u32::from_le_bytes(*file[..file.len() - 4].last_chunk().unwrap());
    let data = file.len() - 8 - usize::try_from(length).unwrap();
    let mut out = file[..data].to_vec();
    ParquetMetaDataWriter::new(&mut out, &metadata).finish().unwrap();
    out
}

/// Decodes a Parquet file without any of our own code.
pub(crate) fn decode(bytes: impl Into<bytes::Bytes>) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.into()).unwrap();
    reader.build().unwrap().collect::<Result<_, _>>().unwrap()
}

pub(crate) fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

pub(crate) async fn put(store: &Arc<dyn ObjectStore>, path: &str, bytes: Vec<u8>) -> Path {
    let path = Path::from(path);
    store.put(&path, bytes.into()).await.unwrap();
    path
}

pub(crate) async fn input(store: &Arc<dyn ObjectStore>, path: &Path, writer: &str, sequence: u64) -> MergeInput {
    MergeInput {
        footer: read_footer(&**store, path, None).await.unwrap(),
        writer: WriterId::new(writer),
        sequence,
    }
}

pub(crate) fn target(store: &Arc<dyn ObjectStore>, schema: SchemaRef) -> MergeTarget {
    MergeTarget {
        store: Arc::clone(store),
        // A directory whose name is encoded, as those of lanes are.
        dir: Path::parse("out/eu%2Fusers").unwrap(),
        stem: "lane-1-attempt".to_owned(),
        schema,
        partitioner: None,
        key_value_metadata: vec![("firnline.seq".to_owned(), "1".to_owned())],
        scratch: Some((Arc::clone(store), Path::from("scratch"))),
    }
}

pub(crate) fn options(order: &[SortField]) -> MergeOptions {
    MergeOptions::default()
        .with_sort_order(order.to_vec())
        .with_codec(if LIGHT == Compression::SNAPPY {
            Codec::Snappy
        } else {
            Codec::None
        })
}

pub(crate) async fn merge(
    store: &Arc<dyn ObjectStore>,
    inputs: Vec<MergeInput>,
    options: MergeOptions,
    schema: SchemaRef,
) -> Result<MergeOutput, MergeError> {
    ParquetMerger::new(options)
        .merge(store, inputs, target(store, schema), &())
        .await
}

/// All rows of the outputs, in order, in one batch of `schema`.
pub(crate) async fn read_back(store: &Arc<dyn ObjectStore>, output: &MergeOutput, schema: &SchemaRef) -> RecordBatch {
    let mut batches = Vec::new();
    for file in &output.files {
        let bytes = store
            .get(&Path::parse(&file.path).unwrap())
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        assert_eq!(bytes.len() as u64, file.size);
        let decoded = decode(bytes);
        assert_eq!(decoded.iter().map(|b| b.num_rows() as u64).sum::<u64>(), file.rows);
        batches.extend(decoded.iter().map(|batch| relabeled(batch, schema)));
    }
    concat_batches(schema, &batches).unwrap()
}

/// The same columns under the schema of the plan: names inside of lists and maps are Parquet's in the file.
fn relabeled(batch: &RecordBatch, schema: &SchemaRef) -> RecordBatch {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(array, field)| {
        let data = array.to_data().into_builder().data_type(field.data_type().clone());
        if array.data_type() == field.data_type() {
            Arc::clone(array)
        } else {
            firnline::arrow::array::make_array(relabel(
                data.build().unwrap_or_else(|_| array.to_data()),
                field.data_type(),
            ))
        }
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).unwrap()
}

fn relabel(data: firnline::arrow::array::ArrayData, data_type: &DataType) -> firnline::arrow::array::ArrayData {
    let children = match data_type {
        DataType::List(item) | DataType::Map(item, _) => vec![item.data_type().clone()],
        DataType::Struct(fields) => fields.iter().map(|field| field.data_type().clone()).collect(),
        _ => Vec::new(),
    };
    let children = data
        .child_data()
        .iter()
        .cloned()
        .zip(children)
        .map(|(child, data_type)| relabel(child, &data_type))
        .collect();
    data.into_builder()
        .data_type(data_type.clone())
        .child_data(children)
        .build()
        .unwrap()
}
