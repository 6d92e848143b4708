//! Values of every type that a source can have, all the way into the table.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Fields, Float16Type, Int8Type, Int16Type, Int32Type, UInt64Type, i256};
use firnline::SortField;

use super::schemas::{column, compacted, created, file, longs, set_aside, structs, table, ts, world};
use super::support::{END, commits, voids};
use crate::world::{World, at};

fn lengths(values: [usize; 3]) -> OffsetBuffer<i32> {
    OffsetBuffer::from_lengths(values)
}

fn decimals(values: Vec<Option<i128>>, precision: u8, scale: i8) -> ArrayRef {
    let array = Decimal128Array::from(values);
    Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
}

/// Values of a type that Parquet has, and what they are in the table.
#[expect(clippy::too_many_lines, reason = "a table")]
fn types() -> Vec<(&'static str, ArrayRef, ArrayRef)> {
    const BIG: u64 = u64::MAX;
    let big = || decimals(vec![Some(BIG.into()), None, Some(0)], 20, 0);
    let strings: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("\u{e9}")]));
    let binaries: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&[0_u8, 0xff][..]), None, Some(&[1, 2])]));
    let micros = |zone: Option<&str>| -> ArrayRef {
        let array = TimestampMicrosecondArray::from(vec![Some(-1_000), None, Some(1_700_000_000_123_000)]);
        Arc::new(array.with_timezone_opt(zone))
    };
    let element = |data_type| Arc::new(Field::new("element", data_type, true));
    let items = || -> ArrayRef { Arc::new(UInt64Array::from(vec![Some(BIG), None, Some(1)])) };
    let item = || Arc::new(Field::new("item", DataType::UInt64, true));
    let validity = || Some(NullBuffer::from(vec![true, false, true]));
    let expected_items = || decimals(vec![Some(BIG.into()), None, Some(1)], 20, 0);
    let decimal = DataType::Decimal128(20, 0);
    let expected_list = || -> ArrayRef {
        Arc::new(ListArray::new(
            element(decimal.clone()),
            lengths([2, 0, 1]),
            expected_items(),
            validity(),
        ))
    };
    let map = |name: &str, value_type: DataType, values| -> ArrayRef {
        let entries = Fields::from(vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", value_type, true),
        ]);
        let keys: ArrayRef = Arc::new(StringArray::from(vec!["p", "q", "r"]));
        let pairs = StructArray::new(entries.clone(), vec![keys, values], None);
        let entries = Arc::new(Field::new(name, DataType::Struct(entries), false));
        Arc::new(MapArray::new(entries, lengths([2, 0, 1]), pairs, validity(), false))
    };
    let half = |value: f32| <Float16Type as ArrowPrimitiveType>::Native::from_f32(value);
    vec![
        (
            "u8",
            Arc::new(UInt8Array::from(vec![Some(u8::MAX), None, Some(0)])),
            Arc::new(Int16Array::from(vec![Some(255), None, Some(0)])),
        ),
        (
            "u16",
            Arc::new(UInt16Array::from(vec![Some(u16::MAX), None, Some(0)])),
            Arc::new(Int32Array::from(vec![Some(65_535), None, Some(0)])),
        ),
        (
            "u32",
            Arc::new(UInt32Array::from(vec![Some(u32::MAX), None, Some(0)])),
            longs(vec![Some(u32::MAX.into()), None, Some(0)]),
        ),
        (
            "u64",
            Arc::new(UInt64Array::from(vec![Some(BIG), None, Some(0)])),
            big(),
        ),
        (
            "f16",
            Arc::new(Float16Array::from(vec![Some(half(1.5)), None, Some(half(-0.25))])),
            Arc::new(Float32Array::from(vec![Some(1.5), None, Some(-0.25)])),
        ),
        (
            "i8",
            Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(i8::MAX)])),
            Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(i8::MAX)])),
        ),
        ("utf8", Arc::clone(&strings), Arc::clone(&strings)),
        (
            "large_utf8",
            Arc::new(LargeStringArray::from(vec![Some("a"), None, Some("\u{e9}")])),
            Arc::clone(&strings),
        ),
        (
            "utf8_view",
            Arc::new(StringViewArray::from(vec![Some("a"), None, Some("\u{e9}")])),
            Arc::clone(&strings),
        ),
        (
            "large_binary",
            Arc::new(LargeBinaryArray::from(vec![
                Some(&[0_u8, 0xff][..]),
                None,
                Some(&[1, 2]),
            ])),
            Arc::clone(&binaries),
        ),
        (
            "binary_view",
            Arc::new(BinaryViewArray::from(vec![
                Some(&[0_u8, 0xff][..]),
                None,
                Some(&[1, 2]),
            ])),
            Arc::clone(&binaries),
        ),
        (
            "fixed_binary",
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                    [Some([0_u8, 0xff]), None, Some([1, 2])].into_iter(),
                    2,
                )
                .unwrap(),
            ),
            Arc::clone(&binaries),
        ),
        (
            "decimal32",
            Arc::new(
                Decimal32Array::from(vec![Some(-999_999_999), None, Some(1)])
                    .with_precision_and_scale(9, 9)
                    .unwrap(),
            ),
            decimals(vec![Some(-999_999_999), None, Some(1)], 9, 9),
        ),
        (
            "decimal64",
            Arc::new(
                Decimal64Array::from(vec![Some(-999_999_999_999_999_999), None, Some(1)])
                    .with_precision_and_scale(18, 3)
                    .unwrap(),
            ),
            decimals(vec![Some(-999_999_999_999_999_999), None, Some(1)], 18, 3),
        ),
        (
            "decimal256",
            Arc::new(
                Decimal256Array::from(vec![Some(i256::from_i128(10_i128.pow(38) - 1)), None, Some(i256::ONE)])
                    .with_precision_and_scale(38, 4)
                    .unwrap(),
            ),
            decimals(vec![Some(10_i128.pow(38) - 1), None, Some(1)], 38, 4),
        ),
        (
            "millis",
            Arc::new(TimestampMillisecondArray::from(vec![
                Some(-1),
                None,
                Some(1_700_000_000_123),
            ])),
            micros(None),
        ),
        (
            "millis_utc",
            Arc::new(
                TimestampMillisecondArray::from(vec![Some(-1), None, Some(1_700_000_000_123)]).with_timezone("+02:00"),
            ),
            micros(Some("UTC")),
        ),
        ("micros", micros(None), micros(None)),
        ("micros_utc", micros(Some("America/New_York")), micros(Some("UTC"))),
        (
            "nanos",
            Arc::new(TimestampNanosecondArray::from(vec![
                Some(-1_000_000),
                None,
                Some(1_700_000_000_123_000_000),
            ])),
            micros(None),
        ),
        (
            "nanos_utc",
            Arc::new(
                TimestampNanosecondArray::from(vec![Some(-1_000_000), None, Some(1_700_000_000_123_000_000)])
                    .with_timezone("UTC"),
            ),
            micros(Some("UTC")),
        ),
        (
            "date",
            Arc::new(Date32Array::from(vec![Some(-1), None, Some(19_000)])),
            Arc::new(Date32Array::from(vec![Some(-1), None, Some(19_000)])),
        ),
        // Parquet has neither seconds nor milliseconds of days: these are plain integers in the file.
        (
            "seconds",
            Arc::new(TimestampSecondArray::from(vec![Some(-1), None, Some(5)])),
            longs(vec![Some(-1), None, Some(5)]),
        ),
        (
            "date64",
            Arc::new(Date64Array::from(vec![Some(-86_400_000), None, Some(86_400_000)])),
            longs(vec![Some(-86_400_000), None, Some(86_400_000)]),
        ),
        (
            "dictionary",
            Arc::new(DictionaryArray::<Int8Type>::from_iter([
                Some("a"),
                None,
                Some("\u{e9}"),
            ])),
            strings,
        ),
        (
            "dictionary_u64",
            Arc::new(DictionaryArray::<Int16Type>::new(
                Int16Array::from(vec![Some(1), None, Some(0)]),
                Arc::new(UInt64Array::from(vec![0, BIG])),
            )),
            big(),
        ),
        (
            "runs_u64",
            Arc::new(
                RunArray::<Int32Type>::try_new(
                    &Int32Array::from(vec![1, 2, 3]),
                    &UInt64Array::from(vec![Some(BIG), None, Some(0)]),
                )
                .unwrap(),
            ),
            big(),
        ),
        (
            "list",
            Arc::new(ListArray::new(item(), lengths([2, 0, 1]), items(), validity())),
            expected_list(),
        ),
        (
            "large_list",
            Arc::new(LargeListArray::new(
                item(),
                OffsetBuffer::from_lengths([2, 0, 1]),
                items(),
                validity(),
            )),
            expected_list(),
        ),
        (
            "list_view",
            Arc::new(ListViewArray::new(
                item(),
                ScalarBuffer::from(vec![0, 0, 2]),
                ScalarBuffer::from(vec![2, 0, 1]),
                items(),
                validity(),
            )),
            expected_list(),
        ),
        (
            "fixed_list",
            Arc::new(FixedSizeListArray::new(item(), 1, items(), None)),
            Arc::new(ListArray::new(
                element(decimal.clone()),
                lengths([1, 1, 1]),
                expected_items(),
                None,
            )),
        ),
        (
            "map",
            map("entries", DataType::UInt64, items()),
            map("key_value", decimal.clone(), expected_items()),
        ),
        (
            "struct",
            structs(vec![("x", items()), ("y", Arc::new(UInt8Array::from(vec![1, 2, 3])))]),
            structs(vec![
                ("x", expected_items()),
                ("y", Arc::new(Int16Array::from(vec![1, 2, 3]))),
            ]),
        ),
        (
            "deep",
            structs(vec![(
                "l",
                Arc::new(ListArray::new(
                    Arc::new(Field::new(
                        "item",
                        structs(vec![("x", items())]).data_type().clone(),
                        true,
                    )),
                    lengths([2, 0, 1]),
                    structs(vec![("x", items())]),
                    None,
                )),
            )]),
            structs(vec![(
                "l",
                Arc::new(ListArray::new(
                    element(structs(vec![("x", expected_items())]).data_type().clone()),
                    lengths([2, 0, 1]),
                    structs(vec![("x", expected_items())]),
                    None,
                )),
            )]),
        ),
    ]
}

#[test]
fn every_type_of_a_source_arrives_in_the_table_with_its_values() {
    let world = world();
    let mut compactor = world.open(at(END));
    let types = types();
    let of = |times: [i64; 3]| {
        let mut columns = vec![ts(times)];
        columns.extend(types.iter().map(|(name, values, _)| (*name, Arc::clone(values), true)));
        file(columns)
    };
    let reports = compacted(&world, &mut compactor, vec![of([1, 2, 3]), of([4, 5, 6])]);
    assert_eq!(set_aside(&compactor), []);
    assert_eq!((commits(&reports), voids(&reports)), (vec![(1, 0, 2, 6)], vec![]));
    let table = table(&world);
    for (name, _, expected) in &types {
        let expected = concat(&[expected.as_ref(), expected.as_ref()]).unwrap();
        assert_eq!(table.column_by_name(name).unwrap(), &expected, "{name}");
    }
}

#[test]
fn a_sort_key_of_unsigned_integers_keeps_its_order_and_its_bounds_to_the_last_digit() {
    let mut world = World::new();
    world.options = world.options.with_sort_order(vec![SortField::ascending("k")]);
    let mut compactor = world.open(at(END));
    let half = u64::MAX / 2;
    let of = |keys: Vec<u64>| {
        let keys = PrimitiveArray::<UInt64Type>::from_iter_values(keys);
        file(vec![("k", Arc::new(keys), false)])
    };
    // Two overlap, one follows both.
    let files = vec![
        of(vec![0, half + 1, u64::MAX - 9]),
        of(vec![1, half, half + 2]),
        of(vec![u64::MAX - 8, u64::MAX]),
    ];
    let reports = compacted(&world, &mut compactor, files);
    assert_eq!(set_aside(&compactor), []);
    assert_eq!(commits(&reports), [(1, 0, 3, 8)]);
    let keys = [0, 1, half, half + 1, half + 2, u64::MAX - 9, u64::MAX - 8, u64::MAX];
    let expected = decimals(keys.iter().map(|key| Some(i128::from(*key))).collect(), 20, 0);
    assert_eq!(&column(&world, "k"), &expected);
    let stats: Vec<_> = created(&world)
        .iter()
        .filter_map(|action| action["add"]["stats"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(
        stats,
        [r#"{"numRecords":8,"minValues":{"k":0},"maxValues":{"k":18446744073709551615},"nullCount":{"k":0}}"#]
    );
}
