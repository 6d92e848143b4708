//! Rows per second of a merge, by number of inputs, overlap and width: `cargo bench --bench merge`.

#![allow(clippy::unwrap_used, reason = "a benchmark that panics measures nothing")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use firnline::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::parquet::arrow::ArrowWriter;
use firnline::parquet::basic::{Compression, ZstdLevel};
use firnline::parquet::file::properties::WriterProperties;
use firnline::{MergeInput, MergeOptions, MergeTarget, ParquetMerger, SortField, WriterId, read_footer};
use futures::executor::block_on;

const ROWS: usize = 20_000;

/// One input of `inputs`, whose times interleave with those of the others or follow them.
fn batch(input: usize, inputs: usize, interleaved: bool, wide: bool) -> RecordBatch {
    let number = |row: usize| {
        i64::try_from(if interleaved {
            row * inputs + input
        } else {
            input * ROWS + row
        })
    };
    let numbers: Vec<i64> = (0..ROWS).map(number).collect::<Result<_, _>>().unwrap();
    let scatter = |value: i64, salt: i64| (value.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed()) ^ salt) >> 20;
    let mut columns: Vec<(String, ArrayRef)> = vec![(
        "ts".to_owned(),
        Arc::new(TimestampMicrosecondArray::from(numbers.clone()).with_timezone("UTC")),
    )];
    let ids = numbers
        .iter()
        .map(|number| Some(format!("{:026x}", scatter(*number, 7))));
    columns.push(("id".to_owned(), Arc::new(ids.collect::<StringArray>())));
    for column in 0..if wide { 50 } else { 5 } {
        let values = numbers
            .iter()
            .map(|number| scatter(*number, column) % (100 << (column % 12)));
        columns.push((format!("c{column}"), Arc::new(Int64Array::from_iter_values(values))));
    }
    let floats = numbers
        .iter()
        .map(|number| f64::from(i16::try_from(number % 1000).unwrap_or(0)) / 8.0);
    columns.push(("value".to_owned(), Arc::new(Float64Array::from_iter_values(floats))));
    RecordBatch::try_from_iter(columns).unwrap()
}

fn file(batch: &RecordBatch) -> Vec<u8> {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(zstd).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn merge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    group.sample_size(10);
    for (inputs, interleaved, wide) in [
        (8, true, false),
        (8, false, false),
        (64, true, false),
        (64, false, false),
        (8, true, true),
    ] {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let schema = batch(0, inputs, interleaved, wide).schema();
        let sources: Vec<MergeInput> = block_on(async {
            let mut sources = Vec::new();
            for input in 0..inputs {
                let path = Path::from(format!("in/{input}"));
                let bytes = file(&batch(input, inputs, interleaved, wide));
                store.put(&path, bytes.into()).await.unwrap();
                sources.push(MergeInput {
                    footer: read_footer(&*store, &path, None).await.unwrap(),
                    writer: WriterId::new(format!("w{input}")),
                    sequence: 1,
                });
            }
            sources
        });
        let order = vec![SortField::ascending("ts"), SortField::ascending("id")];
        let merger = ParquetMerger::new(MergeOptions::default().with_sort_order(order));
        let target = MergeTarget {
            store: Arc::clone(&store),
            dir: Path::from("out"),
            stem: "bench".to_owned(),
            schema,
            partitioner: None,
            key_value_metadata: Vec::new(),
            scratch: Some((Arc::clone(&store), Path::from("scratch"))),
        };
        group.throughput(Throughput::Elements((inputs * ROWS) as u64));
        let name = format!(
            "{}/{}",
            if interleaved { "interleaved" } else { "disjoint" },
            if wide { "wide" } else { "narrow" }
        );
        group.bench_function(BenchmarkId::new(name, inputs), |bencher| {
            bencher.iter(|| {
                let output = block_on(merger.merge(&store, sources.clone(), target.clone(), &())).unwrap();
                assert_eq!(black_box(output).rows, (inputs * ROWS) as u64);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, merge);
criterion_main!(benches);
