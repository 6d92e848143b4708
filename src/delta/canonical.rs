//! The type as which a Delta table stores an Arrow type. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use crate::quarantine::QuarantineReason;
use crate::schema::canonical::{
    ELEMENT, KEY, UTC, VALUE, check_depth, join, map_of, map_parts, table_decimal, without_case,
};
use crate::schema::drift;

/// What a column name must not contain where columns are not mapped (Delta protocol, "Column Mapping").
const FORBIDDEN: [char; 10] = [' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// The columns of `source` in a Delta table.
///
/// Wider types stand in for those that Delta lacks: no value of the source's type is lost, but for times
/// finer than microseconds, where the values decide. `Null` stays, since others may know the type.
pub(super) fn canonical_schema(source: &Schema) -> Result<SchemaRef, QuarantineReason> {
    let fields = canonical_fields(source.fields(), "", 0)?;
    if fields.iter().all(|field| field.data_type() == &DataType::Null) {
        return Err(drift(
            "",
            "",
            "at least one column with a type",
            "a file without columns",
        ));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// That all names of canonical columns may stand in a table whose columns are not mapped.
pub(super) fn check_names(schema: &Schema) -> Result<(), QuarantineReason> {
    check_names_of(schema.fields(), "")
}

fn check_names_of(fields: &Fields, path: &str) -> Result<(), QuarantineReason> {
    fields.iter().try_for_each(|field| {
        let column = join(path, field.name());
        if field.name().contains(FORBIDDEN) {
            return Err(drift(
                &column,
                field.name(),
                "none of ` ,;{}()\\n\\t=`",
                "column name not allowed in Delta tables",
            ));
        }
        match field.data_type() {
            DataType::Struct(fields) => check_names_of(fields, &column),
            DataType::List(part) => check_names_of(&vec![Arc::clone(part)].into(), &column),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(parts) => check_names_of(parts, &column),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    })
}

fn canonical_fields(fields: &Fields, path: &str, depth: usize) -> Result<Fields, QuarantineReason> {
    let mut names = BTreeSet::new();
    fields
        .iter()
        .map(|field| {
            let name = field.name();
            let column = join(path, name);
            if name.is_empty() {
                return Err(drift(&column, name, "a name", "column without a name"));
            }
            if !names.insert(without_case(name)) {
                return Err(drift(
                    &column,
                    name,
                    "names that differ without regard to case",
                    "column name not unique",
                ));
            }
            canonical_field(field, name, &column, depth)
        })
        .collect()
}

fn canonical_field(field: &Field, name: &str, path: &str, depth: usize) -> Result<FieldRef, QuarantineReason> {
    let data_type = canonical_type(field.data_type(), path, depth)?;
    let nullable = field.is_nullable() || data_type == DataType::Null;
    Ok(Arc::new(Field::new(name, data_type, nullable)))
}

fn canonical_type(data_type: &DataType, path: &str, depth: usize) -> Result<DataType, QuarantineReason> {
    let refused = || QuarantineReason::UnsupportedType {
        column: path.to_owned(),
        data_type: data_type.to_string(),
    };
    check_depth(path, depth)?;
    Ok(match data_type {
        DataType::Null
        | DataType::Boolean
        | DataType::Date32
        | DataType::Float32
        | DataType::Float64
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64 => data_type.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => table_decimal(*precision, *scale).ok_or_else(refused)?,
        DataType::Dictionary(_, value) => canonical_type(value, path, depth)?,
        DataType::RunEndEncoded(_, value) => canonical_type(value.data_type(), path, depth)?,
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => DataType::List(canonical_field(
            element,
            ELEMENT,
            &format!("{path}.{ELEMENT}"),
            depth + 1,
        )?),
        DataType::Map(entries, _) => {
            let (key, value) = map_parts(entries).ok_or_else(refused)?;
            let key = canonical_type(key.data_type(), &format!("{path}.{KEY}"), depth + 1)?;
            if key == DataType::Null {
                return Err(refused());
            }
            map_of(
                Arc::new(Field::new(KEY, key, false)),
                canonical_field(value, VALUE, &format!("{path}.{VALUE}"), depth + 1)?,
            )
        }
        DataType::Struct(fields) if !fields.is_empty() => DataType::Struct(canonical_fields(fields, path, depth + 1)?),
        DataType::Struct(_)
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Duration(_)
        | DataType::Interval(_)
        | DataType::Union(..) => return Err(refused()),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::*;
    use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
    use arrow::datatypes::{Float16Type, Int8Type, Int16Type, Int32Type, i256};

    use super::*;
    use crate::schema::Caster;

    fn canonical(data_type: DataType) -> Result<DataType, QuarantineReason> {
        canonical_schema(&Schema::new(vec![Field::new("c", data_type, true)])).map(|s| s.field(0).data_type().clone())
    }

    #[test]
    fn types_that_delta_lacks_become_wider_ones() {
        for (source, target) in [
            (DataType::UInt8, DataType::Int16),
            (DataType::UInt16, DataType::Int32),
            (DataType::UInt32, DataType::Int64),
            (DataType::UInt64, DataType::Decimal128(20, 0)),
            (DataType::Float16, DataType::Float32),
            (DataType::Date64, DataType::Date32),
            (DataType::LargeUtf8, DataType::Utf8),
            (DataType::FixedSizeBinary(16), DataType::Binary),
            (DataType::Decimal256(38, 4), DataType::Decimal128(38, 4)),
            (DataType::Decimal32(9, 9), DataType::Decimal128(9, 9)),
            (
                DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8View)),
                DataType::Utf8,
            ),
            (
                DataType::Timestamp(TimeUnit::Nanosecond, Some("+02:00".into())),
                DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            ),
            (
                DataType::Timestamp(TimeUnit::Second, None),
                DataType::Timestamp(TimeUnit::Microsecond, None),
            ),
        ] {
            assert_eq!(canonical(source.clone()), Ok(target), "{source}");
        }
    }

    /// A list of [MAX, null], null, [1].
    fn expected_list() -> ArrayRef {
        let items = Decimal128Array::from(vec![Some(u64::MAX.into()), None, Some(1)]);
        let items = items.with_precision_and_scale(20, 0).unwrap();
        let field = Arc::new(Field::new("element", items.data_type().clone(), true));
        let validity = NullBuffer::from(vec![true, false, true]);
        let offsets = OffsetBuffer::from_lengths([2, 0, 1]);
        Arc::new(ListArray::new(field, offsets, Arc::new(items), Some(validity)))
    }

    /// Values of types that need more than to be kept, and what they become.
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn conversions() -> Vec<(ArrayRef, ArrayRef)> {
        let half = |value: f32| <Float16Type as ArrowPrimitiveType>::Native::from_f32(value);
        let longs: ArrayRef = Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(1)]));
        let decimals = |values: Vec<Option<i128>>, precision, scale| -> ArrayRef {
            let array = Decimal128Array::from(values);
            Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
        };
        let wide = || decimals(vec![Some(u64::MAX.into()), None, Some(1)], 20, 0);
        let item = || Arc::new(Field::new("item", DataType::UInt64, true));
        let validity = || Some(NullBuffer::from(vec![true, false, true]));
        let strings: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("")]));
        let binaries: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&[0_u8, 0xff][..]), None, Some(&[1, 2])]));
        let seconds = |zone: Option<&str>| -> ArrayRef {
            Arc::new(TimestampSecondArray::from(vec![Some(-1), None, Some(2)]).with_timezone_opt(zone))
        };
        let micros = |zone: Option<&str>| -> ArrayRef {
            let array = TimestampMicrosecondArray::from(vec![Some(-1_000_000), None, Some(2_000_000)]);
            Arc::new(array.with_timezone_opt(zone))
        };
        let nanos = TimestampNanosecondArray::from(vec![Some(-1_000_000_000), None, Some(2_000_000_000)]);
        let dates: ArrayRef = Arc::new(Date32Array::from(vec![Some(-1), None, Some(1)]));
        let millis = Date64Array::from(vec![Some(-86_400_000), None, Some(86_400_000)]);
        let keys = Int16Array::from(vec![Some(0), None, Some(2)]);
        let offsets = || OffsetBuffer::from_lengths([2, 0, 1]);
        let map = |name: &str, values: ArrayRef| -> ArrayRef {
            let keys: ArrayRef = Arc::new(StringArray::from(vec!["p", "q", "r"]));
            let fields = Fields::from(vec![
                Field::new("key", DataType::Utf8, false),
                Field::new("value", values.data_type().clone(), true),
            ]);
            let pairs = StructArray::new(fields.clone(), vec![keys, values], None);
            let entries = Arc::new(Field::new(name, DataType::Struct(fields), false));
            let offsets = OffsetBuffer::from_lengths([2, 0, 1]);
            Arc::new(MapArray::new(entries, offsets, pairs, validity(), false))
        };
        let within = |array: ArrayRef| -> ArrayRef {
            let field = Arc::new(Field::new("x", array.data_type().clone(), true));
            Arc::new(StructArray::from(vec![(field, array)]))
        };
        vec![
            (
                Arc::new(UInt8Array::from(vec![Some(u8::MAX), None])),
                Arc::new(Int16Array::from(vec![Some(255), None])),
            ),
            (
                Arc::new(UInt16Array::from(vec![Some(u16::MAX), None])),
                Arc::new(Int32Array::from(vec![Some(65_535), None])),
            ),
            (
                Arc::new(UInt32Array::from(vec![Some(u32::MAX), None])),
                Arc::new(Int64Array::from(vec![Some(4_294_967_295), None])),
            ),
            (Arc::clone(&longs), wide()),
            (
                Arc::new(Float16Array::from(vec![Some(half(1.5)), None])),
                Arc::new(Float32Array::from(vec![Some(1.5), None])),
            ),
            (Arc::new(millis.clone()), Arc::clone(&dates)),
            (seconds(None), micros(None)),
            (seconds(Some("+02:00")), micros(Some(UTC))),
            (Arc::new(nanos.clone()), micros(None)),
            (Arc::new(nanos.clone().with_timezone("+02:00")), micros(Some(UTC))),
            (
                Arc::new(LargeStringArray::from(vec![Some("a"), None, Some("")])),
                Arc::clone(&strings),
            ),
            (
                Arc::new(StringViewArray::from(vec![Some("a"), None, Some("")])),
                Arc::clone(&strings),
            ),
            (
                Arc::new(LargeBinaryArray::from(vec![
                    Some(&[0_u8, 0xff][..]),
                    None,
                    Some(&[1, 2]),
                ])),
                Arc::clone(&binaries),
            ),
            (
                Arc::new(BinaryViewArray::from(vec![
                    Some(&[0_u8, 0xff][..]),
                    None,
                    Some(&[1, 2]),
                ])),
                Arc::clone(&binaries),
            ),
            (
                Arc::new(
                    FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                        [Some([0_u8, 0xff]), None, Some([1, 2])].into_iter(),
                        2,
                    )
                    .unwrap(),
                ),
                binaries,
            ),
            (
                Arc::new(
                    Decimal32Array::from(vec![Some(-999_999_999), None])
                        .with_precision_and_scale(9, 9)
                        .unwrap(),
                ),
                decimals(vec![Some(-999_999_999), None], 9, 9),
            ),
            (
                Arc::new(
                    Decimal64Array::from(vec![Some(-999_999_999_999_999_999), None])
                        .with_precision_and_scale(18, 3)
                        .unwrap(),
                ),
                decimals(vec![Some(-999_999_999_999_999_999), None], 18, 3),
            ),
            (
                Arc::new(
                    Decimal256Array::from(vec![Some(i256::from_i128(10_i128.pow(38) - 1)), None])
                        .with_precision_and_scale(38, 4)
                        .unwrap(),
                ),
                decimals(vec![Some(10_i128.pow(38) - 1), None], 38, 4),
            ),
            (
                Arc::new(DictionaryArray::<Int8Type>::from_iter([Some("a"), None, Some("")])),
                strings,
            ),
            (Arc::new(DictionaryArray::new(keys.clone(), Arc::clone(&longs))), wide()),
            (
                Arc::new(DictionaryArray::new(keys.clone(), Arc::new(nanos))),
                micros(None),
            ),
            (
                Arc::new(DictionaryArray::<Int16Type>::new(keys, Arc::new(millis))),
                dates,
            ),
            (
                Arc::new(
                    RunArray::<Int32Type>::try_new(
                        &Int32Array::from(vec![1, 2, 3]),
                        longs.as_primitive::<arrow::datatypes::UInt64Type>(),
                    )
                    .unwrap(),
                ),
                wide(),
            ),
            (
                Arc::new(ListArray::new(item(), offsets(), Arc::clone(&longs), validity())),
                expected_list(),
            ),
            (
                Arc::new(LargeListArray::new(
                    item(),
                    OffsetBuffer::from_lengths([2, 0, 1]),
                    Arc::clone(&longs),
                    validity(),
                )),
                expected_list(),
            ),
            (
                Arc::new(ListViewArray::new(
                    item(),
                    ScalarBuffer::from(vec![0, 0, 2]),
                    ScalarBuffer::from(vec![2, 0, 1]),
                    Arc::clone(&longs),
                    validity(),
                )),
                expected_list(),
            ),
            (
                Arc::new(LargeListViewArray::new(
                    item(),
                    ScalarBuffer::from(vec![0, 0, 2]),
                    ScalarBuffer::from(vec![2, 0, 1]),
                    Arc::clone(&longs),
                    validity(),
                )),
                expected_list(),
            ),
            (
                Arc::new(FixedSizeListArray::new(item(), 1, Arc::clone(&longs), None)),
                Arc::new(ListArray::new(
                    Arc::new(Field::new("element", DataType::Decimal128(20, 0), true)),
                    OffsetBuffer::from_lengths([1, 1, 1]),
                    wide(),
                    None,
                )),
            ),
            (map("entries", Arc::clone(&longs)), map("key_value", wide())),
            (
                within(Arc::new(LargeListArray::new(
                    Arc::new(Field::new("item", within(Arc::clone(&longs)).data_type().clone(), true)),
                    OffsetBuffer::from_lengths([2, 0, 1]),
                    within(longs),
                    None,
                ))),
                within(Arc::new(ListArray::new(
                    Arc::new(Field::new("element", within(wide()).data_type().clone(), true)),
                    offsets(),
                    within(wide()),
                    None,
                ))),
            ),
        ]
    }

    #[test]
    fn values_of_every_type_can_be_converted_to_what_stands_in_for_it() {
        for (source, expected) in conversions() {
            let schema = |array: &ArrayRef| Schema::new(vec![Field::new("c", array.data_type().clone(), true)]);
            let (from, to) = (schema(&source), canonical_schema(&schema(&source)).unwrap());
            assert_eq!(*to, schema(&expected), "{}", source.data_type());
            let batch = RecordBatch::try_new(Arc::new(from.clone()), vec![Arc::clone(&source)]).unwrap();
            let cast = Caster::new(&from, &to).unwrap().cast(&batch).unwrap();
            assert_eq!(cast.column(0), &expected, "{}", source.data_type());
        }
    }

    #[test]
    fn types_without_a_counterpart_are_refused_by_name() {
        for refused in [
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Duration(TimeUnit::Second),
            DataType::Decimal256(39, 0),
            DataType::Decimal128(5, -1),
            DataType::Decimal128(2, 3),
            DataType::Struct(Fields::empty()),
        ] {
            let expected = QuarantineReason::UnsupportedType {
                column: "c".to_owned(),
                data_type: refused.to_string(),
            };
            assert_eq!(canonical(refused), Err(expected));
        }
    }

    #[test]
    fn nested_names_are_normalised_and_metadata_dropped() {
        let metadata = HashMap::from([("PARQUET:field_id".to_owned(), "7".to_owned())]);
        let item = Field::new("item", DataType::LargeUtf8, false).with_metadata(metadata);
        let source = DataType::FixedSizeList(Arc::new(item), 3);
        let target = DataType::List(Arc::new(Field::new("element", DataType::Utf8, false)));
        assert_eq!(canonical(source), Ok(target));
    }

    #[test]
    fn names_are_unique_without_regard_to_case_and_free_of_special_characters() {
        let field = |name: &str| Field::new(name, DataType::Int32, true);
        for (names, rule) in [
            (["a", "A"], "column name not unique"),
            (["s", "\u{17f}"], "column name not unique"),
            (["a", "b c"], "column name not allowed in Delta tables"),
            (["a", "b=c"], "column name not allowed in Delta tables"),
        ] {
            let schema = canonical_schema(&Schema::new(names.map(field).to_vec()));
            let checked = schema.and_then(|schema| check_names(&schema));
            let Err(QuarantineReason::SchemaDrift { rule: found, .. }) = checked else {
                panic!("{names:?} were taken")
            };
            assert_eq!(found, rule);
        }
    }

    #[test]
    fn deep_nesting_is_refused_before_anything_overflows() {
        let mut data_type = DataType::Int8;
        for _ in 0..200 {
            data_type = DataType::Struct(Fields::from(vec![Field::new("x", data_type, true)]));
        }
        assert!(matches!(
            canonical(data_type),
            Err(QuarantineReason::TooLarge { limit: 64, .. })
        ));
    }
}
