//! Rows per second of a merge, by what makes a difference to it: `cargo bench --bench merge`.
//!
//! Each group varies one thing of a small merge: 8 inputs of 8,000 rows each that interleave row by row, sorted by a
//! time and a text, in zstd. For merges of real size beside other engines see `benches/peers`.

#![allow(clippy::unwrap_used, reason = "a benchmark that panics measures nothing")]

mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use firnline::Codec;

use support::{Columns, Inputs, Key, Merge, Window};

/// Measures cases that differ in one thing.
fn compare<const N: usize>(criterion: &mut Criterion, what: &str, cases: [(&str, Inputs); N]) {
    let mut group = criterion.benchmark_group(what);
    group.sample_size(10);
    for (name, inputs) in cases {
        let merge = Merge::new(&inputs);
        let rows = inputs.rows as u64;
        group.throughput(Throughput::Elements(rows));
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(black_box(merge.run()), rows));
        });
    }
    group.finish();
}

fn inputs(criterion: &mut Criterion) {
    let of = |files| Inputs {
        files,
        ..Inputs::default()
    };
    let chained = |files| Inputs { run: None, ..of(files) };
    let cases = [
        ("8", of(8)),
        ("64", of(64)),
        ("256", of(256)),
        ("8 that follow each other", chained(8)),
        ("64 that follow each other", chained(64)),
    ];
    compare(criterion, "inputs", cases);
}

fn key(criterion: &mut Criterion) {
    let of = |key| Inputs {
        key,
        ..Inputs::default()
    };
    let cases = [
        ("int", of(Key::Int)),
        ("float", of(Key::Float)),
        ("decimal", of(Key::Decimal)),
        ("text", of(Key::Text)),
        ("time and text", of(Key::TimeAndText)),
    ];
    compare(criterion, "key", cases);
}

fn run(criterion: &mut Criterion) {
    let of = |run| Inputs {
        run: Some(run),
        ..Inputs::default()
    };
    compare(
        criterion,
        "run",
        [("1", of(1)), ("10", of(10)), ("100", of(100)), ("1000", of(1_000))],
    );
}

fn codec(criterion: &mut Criterion) {
    let of = |codec| Inputs {
        codec,
        ..Inputs::default()
    };
    let cases = [
        ("none", of(Codec::None)),
        ("snappy", of(Codec::Snappy)),
        ("zstd(1)", of(Codec::Zstd(1))),
        ("zstd(3)", of(Codec::Zstd(3))),
    ];
    compare(criterion, "codec", cases);
}

/// Files that follow each other, of one row group each, which is as large as one is to be.
fn copy(criterion: &mut Criterion) {
    let of = |copy_row_groups| Inputs {
        run: None,
        row_group: 8_000,
        copy_row_groups,
        ..Inputs::default()
    };
    compare(
        criterion,
        "whole row groups",
        [("copied", of(true)), ("decoded", of(false))],
    );
}

/// What it costs to sort files first that are in no order.
fn order(criterion: &mut Criterion) {
    let of = |backwards| Inputs {
        backwards,
        ..Inputs::default()
    };
    compare(criterion, "order", [("sorted", of(false)), ("resorted", of(true))]);
}

fn columns(criterion: &mut Criterion) {
    let of = |columns, rows| Inputs {
        rows,
        columns,
        ..Inputs::default()
    };
    let cases = [
        ("usual", of(Columns::Usual, 64_000)),
        ("nested", of(Columns::Nested, 64_000)),
        ("wide", of(Columns::Wide, 8_000)),
    ];
    compare(criterion, "columns", cases);
}

/// What the distance of the store costs a window of 256 small files, those of 8 writers: from the first request for a
/// footer to the last byte of the output.
fn distance(criterion: &mut Criterion) {
    for rows_of_file in [1_000, 5_000, 20_000] {
        let of = Inputs {
            rows: 256 * rows_of_file,
            ..Inputs::default()
        };
        let mut group = criterion.benchmark_group(format!("256 files of {rows_of_file} rows"));
        group.sample_size(10);
        group.throughput(Throughput::Elements(of.rows as u64));
        for millis in [0, 50] {
            let window = Window::new(&of, 32, Duration::from_millis(millis));
            group.bench_function(format!("{millis} ms away"), |bencher| {
                bencher.iter(|| assert_eq!(black_box(window.merge()), of.rows as u64));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, inputs, key, run, codec, copy, order, columns, distance);
criterion_main!(benches);
