use arrow::array::{ArrayRef, Float64Builder, Int64Array, Int64Builder, ListBuilder, StringArray, StructBuilder};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field};
use futures::executor::block_on;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::*;
use crate::merge::budget::Memory;
use crate::merge::read_footer;
use crate::merge::turns::Turns;

/// Rows of very different widths, with lists of structs.
fn rows() -> RecordBatch {
    let fields = vec![
        Field::new("a", DataType::Int64, true),
        Field::new("x", DataType::Float64, true),
    ];
    let item = StructBuilder::new(
        fields,
        vec![Box::new(Int64Builder::new()), Box::new(Float64Builder::new())],
    );
    let mut list = ListBuilder::new(item);
    for row in 0..3_000_i32 {
        for item in 0..row % 5 {
            let values = list.values();
            values
                .field_builder::<Int64Builder>(0)
                .unwrap()
                .append_option((item > 0).then(|| row.into()));
            values
                .field_builder::<Float64Builder>(1)
                .unwrap()
                .append_value(row.into());
            values.append(item != 2);
        }
        list.append(row % 7 != 0);
    }
    let text: StringArray = (0..3_000_usize)
        .map(|row| Some(format!("{row}").repeat(row % 40)))
        .collect();
    RecordBatch::try_from_iter_with_nullable([
        (
            "id",
            Arc::new(Int64Array::from_iter_values(0..3_000)) as ArrayRef,
            false,
        ),
        ("text", Arc::new(text), true),
        ("list", Arc::new(list.finish()), true),
    ])
    .unwrap()
}

/// What a reader of these inputs is told.
fn plan(input: &Input) -> Plan {
    let schema = crate::schema::strip_metadata(&input.footer.schema);
    Plan {
        copying: None,
        spawner: None,
        columns: Arc::clone(&schema),
        schema,
        keys: None,
        memory: Memory::default(),
        decoding: Turns::new(0),
        hash: None,
    }
}

/// The rows as an allotment lets them be read, and in how many batches; `None` if it is too small.
fn read(input: &Input, allotment: u64) -> Option<(RecordBatch, usize)> {
    let plan = plan(input);
    let reader = InputReader::new(input.clone(), &plan, allotment).unwrap();
    read_all(reader, &plan, allotment)
}

fn read_all(mut reader: InputReader, plan: &Plan, allotment: u64) -> Option<(RecordBatch, usize)> {
    let mut batches = Vec::new();
    loop {
        match block_on(reader.next()) {
            Ok(Some(batch)) => batches.push(batch.rows),
            Ok(None) => break,
            Err(Stop::NeedsMore { needed, .. }) => {
                assert!(needed > allotment, "{needed} {allotment}");
                return None;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    Some((concat_batches(&plan.columns, &batches).unwrap(), batches.len()))
}

/// An input of these rows, in many pages.
fn input_of(rows: &RecordBatch, dictionary: bool) -> Input {
    let properties = WriterProperties::builder()
        .set_data_page_row_count_limit(70)
        .set_write_batch_size(10)
        .set_dictionary_enabled(dictionary)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let path = Path::from("x");
    block_on(store.put(&path, writer.into_inner().unwrap().into())).unwrap();
    Input {
        footer: block_on(read_footer(&*store, &path, None)).unwrap().without_content(),
        store,
        origin: Origin { index: 0, rank: 0 },
        may_copy: true,
    }
}

#[test]
fn what_is_opened_ahead_fits_beside_the_rows_before_it() {
    let expected = rows();
    let input = input_of(&expected, true);
    let (mut opened, mut postponed) = (0, 0);
    let allotments = (0..96).map(|step| (16_u64 + step % 16) << (14 + step / 16));
    let enough = allotments.filter(|allotment| read(&input, *allotment).is_some());
    for (allotment, share) in enough.flat_map(|allotment| [2, 3, 8, 100].map(|share| (allotment, share))) {
        let plan = plan(&input);
        let mut reader = InputReader::new(input.clone(), &plan, allotment).unwrap();
        let taken = allotment / share;
        block_on(reader.open_ahead(taken)).unwrap();
        match &reader.open {
            None => postponed += 1,
            Some(OpenSlice::AtOnce(_)) => {
                panic!("{allotment} {taken}: all rows are there beside those before them")
            }
            Some(OpenSlice::InBatches { .. }) => {
                opened += 1;
                let held = plan.memory.peak();
                assert!(
                    held + allotment / BATCH_SHARE + taken <= allotment,
                    "{allotment} {taken}: {held}"
                );
            }
        }
        let (rows, _) = read_all(reader, &plan, allotment).unwrap();
        assert_eq!(rows, expected, "{allotment} {taken}");
    }
    assert!(opened > 0 && postponed > 0, "{opened} {postponed}");
}

#[test]
fn every_allotment_gives_the_same_rows_or_says_that_it_is_too_small() {
    let expected = rows();
    for dictionary in [false, true] {
        let input = input_of(&expected, dictionary);
        let (mut refused, mut batches) = (0, Vec::new());
        for allotment in (10..24).map(|power| 1 << power) {
            let Some((rows, count)) = read(&input, allotment) else {
                assert!(batches.is_empty(), "what suffices must go on to suffice");
                refused += 1;
                continue;
            };
            for (column, expected) in rows.columns().iter().zip(expected.columns()) {
                assert_eq!(column.to_data(), expected.to_data(), "allotment {allotment}");
            }
            batches.push(count);
        }
        assert!(
            refused > 0 && batches.is_sorted_by(|a, b| a >= b),
            "{refused} {batches:?}"
        );
        assert_eq!(batches.last(), Some(&1));
    }
}
