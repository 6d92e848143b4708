//! Files that are cut or changed at any place: told by a typed reason, or merged as they were.

use std::sync::Arc;

use firnline::arrow::array::{
    ArrayRef, Int32Builder, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
};
use firnline::arrow::datatypes::SchemaRef;
use firnline::parquet::file::properties::{WriterProperties, WriterVersion};
use firnline::{
    MIN_MEMORY_BUDGET_BYTES, MergeError, MergeInput, MergeOptions, QuarantineReason, SortField, SourceError, WriterId,
    read_footer,
};
use futures::executor::block_on;

use super::support::{encode, input, memory, merge, options, put, read_back};

const ROWS: i64 = 12;

/// Three columns in two row groups: numbers, texts with a dictionary, lists with nulls.
fn rows() -> RecordBatch {
    let mut lists = ListBuilder::new(Int32Builder::new());
    for number in 0..ROWS {
        for item in 0..number % 3 {
            let item = i32::try_from(item).unwrap();
            lists.values().append_option((item != 1).then_some(item));
        }
        lists.append(number % 5 != 4);
    }
    let texts = (0..ROWS).map(|number| (number % 4 != 1).then(|| format!("text {}", number % 3)));
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..ROWS)) as ArrayRef),
        ("text", Arc::new(texts.collect::<StringArray>()) as ArrayRef),
        ("list", Arc::new(lists.finish()) as ArrayRef),
    ])
    .unwrap()
}

fn file(version: WriterVersion) -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(7))
        .set_writer_version(version);
    encode(&rows(), properties.build())
}

/// Where the footer begins, of a file as it was written.
fn footer_of(file: &[u8]) -> usize {
    let length = u32::from_le_bytes(*file[..file.len() - 4].last_chunk().unwrap());
    file.len() - 8 - usize::try_from(length).unwrap()
}

/// What becomes of a file.
#[derive(Debug)]
enum Fate {
    Refused(QuarantineReason),
    Merged(SchemaRef, RecordBatch),
}

fn by_id() -> MergeOptions {
    options(&[SortField::ascending("id")])
}

/// Merges a file into columns of its own, as long as it has the one that it is sorted by.
fn fate(bytes: Vec<u8>) -> Fate {
    block_on(async {
        let store = memory();
        let path = put(&store, "bad", bytes).await;
        let footer = match read_footer(&*store, &path, None).await {
            Ok(footer) => footer,
            Err(SourceError::Bad(reason)) => return Fate::Refused(reason),
            Err(other) => panic!("not the fault of a file: {other}"),
        };
        let schema = Arc::clone(&footer.schema);
        let order = if schema.column_with_name("id").is_some() {
            by_id()
        } else {
            options(&[])
        };
        let input = MergeInput {
            footer,
            writer: WriterId::new("w"),
            sequence: 1,
        };
        match merge(&store, vec![input], order, Arc::clone(&schema)).await {
            Ok(output) => Fate::Merged(Arc::clone(&schema), read_back(&store, &output, &schema).await),
            Err(MergeError::Source { index: 0, reason }) => Fate::Refused(reason),
            // Of columns that no output may have: their names are those of the file here.
            Err(MergeError::Invalid { detail }) => Fate::Refused(QuarantineReason::corrupt(detail)),
            Err(other) => panic!("not the fault of a file: {other}"),
        }
    })
}

#[test]
fn a_file_that_is_cut_anywhere_is_corrupt() {
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        let file = file(version);
        for length in 0..file.len() {
            let fate = fate(file[..length].to_vec());
            assert!(
                matches!(fate, Fate::Refused(QuarantineReason::Corrupt { .. })),
                "{length}: {fate:?}"
            );
        }
        assert!(matches!(fate(file), Fate::Merged(_, merged) if merged == rows()));
    }
}

#[test]
fn a_footer_with_any_byte_changed_is_refused_or_costs_no_row() {
    let file = file(WriterVersion::PARQUET_1_0);
    let (mut refused, mut merged) = (0, 0);
    let good = rows();
    for place in footer_of(&file)..file.len() {
        let byte = file[place];
        let changes = (0..8).map(|bit| byte ^ (1 << bit)).chain([0, 0xff]);
        for change in changes.filter(|change| *change != byte) {
            let mut changed = file.clone();
            changed[place] = change;
            match fate(changed) {
                Fate::Refused(_) => refused += 1,
                // Another name or type is what the file now says of itself; its rows are all there.
                Fate::Merged(schema, rows) if schema != good.schema() => {
                    assert_eq!(rows.num_rows(), good.num_rows(), "byte {place} as {change}");
                    merged += 1;
                }
                Fate::Merged(_, rows) => {
                    assert_eq!(rows, good, "byte {place} as {change}");
                    merged += 1;
                }
            }
        }
    }
    assert!(refused > 1_000 && merged > 1_000, "{refused} {merged}");
}

#[test]
fn pages_with_any_byte_changed_are_refused_or_say_something_else() {
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        let file = file(version);
        let (mut refused, mut merged) = (0, 0);
        for place in 0..footer_of(&file) {
            let byte = file[place];
            for change in [byte ^ 1, byte ^ 0x80, 0, 0x7f, 0xff]
                .into_iter()
                .filter(|change| *change != byte)
            {
                let mut changed = file.clone();
                changed[place] = change;
                match fate(changed) {
                    Fate::Refused(_) => refused += 1,
                    Fate::Merged(_, rows) => {
                        assert_eq!(rows.num_rows(), 12, "byte {place} as {change}");
                        merged += 1;
                    }
                }
            }
        }
        assert!(refused > 500 && merged > 100, "{refused} {merged}");
    }
}

/// Where the store itself says something else than the footer.
#[test]
fn the_length_of_a_footer_may_be_anything() {
    let file = file(WriterVersion::PARQUET_1_0);
    let size = u32::try_from(file.len()).unwrap();
    let told = [
        0,
        1,
        7,
        8,
        size - 12,
        size - 11,
        size - 8,
        size,
        1 << 24,
        (1 << 24) + 1,
        1 << 31,
        u32::MAX,
    ];
    for length in told {
        let mut changed = file.clone();
        let trailer = changed.len() - 8;
        changed[trailer..trailer + 4].copy_from_slice(&length.to_le_bytes());
        let fate = fate(changed);
        let expected = matches!(
            fate,
            Fate::Refused(QuarantineReason::Corrupt { .. } | QuarantineReason::TooLarge { .. })
        );
        assert!(expected, "{length}: {fate:?}");
    }
}

#[test]
fn rows_that_become_ever_wider_are_read_in_ever_smaller_parts() {
    // Short values of all kinds come first, so that dictionaries tell of short rows.
    let text = |row: i64, length: usize| {
        if row < 3_000 {
            format!("{row}")
        } else {
            "w".repeat(length)
        }
    };
    let last = 3_000 + 16_384;
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..last + 300 {
        let item = text(row, if row < last { 2_750 } else { 40_000 });
        lists.values().append_value(&item);
        lists.values().append_value(&item);
        lists.append(true);
    }
    let texts = (0..last + 300).map(|row| text(row, 7_000));
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..last + 300)) as ArrayRef),
        ("lists", Arc::new(lists.finish()) as ArrayRef),
        ("text", Arc::new(StringArray::from_iter_values(texts)) as ArrayRef),
    ])
    .unwrap();
    let properties = WriterProperties::builder()
        .set_data_page_row_count_limit(500)
        .set_write_batch_size(100);
    let file = encode(&rows, properties.build());
    block_on(async {
        let store = memory();
        let path = put(&store, "wide", file).await;
        let options = by_id().with_memory_budget_bytes(MIN_MEMORY_BUDGET_BYTES);
        let inputs = vec![input(&store, &path, "w", 1).await];
        let output = merge(&store, inputs, options, rows.schema()).await.unwrap();
        assert!(read_back(&store, &output, &rows.schema()).await == rows);
    });
}
