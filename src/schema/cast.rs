//! Conversion of decoded columns to the plan's types, without loss or with a typed reason.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};

use super::names::map_parts;
use super::step::{Step, not_null};
use super::typed::is_typed;
use super::unify::{drift, required};
use crate::quarantine::QuarantineReason;

/// Turns batches of one schema into batches of another, column by column and without loss.
#[derive(Clone, Debug)]
pub(crate) struct Caster {
    target: SchemaRef,
    columns: Vec<Column>,
}

#[derive(Clone, Debug)]
struct Column {
    name: String,
    /// Place in the source, `None` when the source lacks the column.
    source: Option<usize>,
    step: Step,
    target: FieldRef,
}

impl Caster {
    /// Prepares the conversion of batches of `source` to `target`. Columns are matched by name; nullable ones
    /// that the source lacks are filled with null. What the source has as `Null` it lacks.
    pub(crate) fn new(source: &Schema, target: &SchemaRef) -> Result<Self, QuarantineReason> {
        let columns = target.fields().iter().map(|field| {
            let name = field.name().clone();
            if !field.is_nullable() {
                required(field, source)?;
            }
            let found = source
                .index_of(&name)
                .ok()
                .filter(|index| is_typed(source.field(*index)));
            let step = match found.map(|index| source.field(index)) {
                Some(from) => step(&name, from.data_type(), field.data_type())?,
                None => Step::Keep,
            };
            Ok(Column {
                name,
                source: found,
                step,
                target: Arc::clone(field),
            })
        });
        let columns = columns.collect::<Result<_, _>>()?;
        if let Some(extra) = source
            .fields()
            .iter()
            .find(|field| is_typed(field) && target.index_of(field.name()).is_err())
        {
            let found = extra.data_type().to_string();
            return Err(drift(extra.name(), found, "absent", "column not in the table"));
        }
        Ok(Self {
            target: Arc::clone(target),
            columns,
        })
    }

    /// Converts a batch.
    pub(crate) fn cast(&self, batch: &RecordBatch) -> Result<RecordBatch, QuarantineReason> {
        let rows = batch.num_rows();
        let columns = self.columns.iter().map(|column| {
            let array = match column.source.and_then(|index| batch.columns().get(index)) {
                Some(array) => column.step.apply(&column.name, array)?,
                None => new_null_array(column.target.data_type(), rows),
            };
            if !column.target.is_nullable() && array.null_count() > 0 {
                return Err(not_null(&column.name, &column.target));
            }
            Ok(array)
        });
        let columns = columns.collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.target), columns, &options)
            .map_err(QuarantineReason::corrupt)
    }
}

/// Chooses the step, or says why there is none.
fn step(column: &str, from: &DataType, to: &DataType) -> Result<Step, QuarantineReason> {
    use DataType as T;
    let refused = || {
        let rule = "conversion would lose values";
        Err(drift(column, from.to_string(), to.to_string(), rule))
    };
    let step = match (from, to) {
        (a, b) if a == b => Step::Keep,
        // The items of a list or a map.
        (T::Null, _) => Step::Nulls(to.clone()),
        (T::Dictionary(_, values), _) => unpacked(column, values, to)?,
        (T::RunEndEncoded(_, values), _) => unpacked(column, values.data_type(), to)?,
        (T::LargeList(a) | T::ListView(a) | T::LargeListView(a) | T::FixedSizeList(a, _), T::List(_)) => {
            unpacked(column, &T::List(Arc::clone(a)), to)?
        }
        (T::List(a), T::List(b)) => Step::List(Box::new(step(column, a.data_type(), b.data_type())?), Arc::clone(b)),
        (T::Map(a, _), T::Map(b, sorted)) => match (map_parts(a), map_parts(b)) {
            (Some((a_key, a_value)), Some((b_key, b_value))) => Step::Map(
                Box::new(step(column, a_key.data_type(), b_key.data_type())?),
                Box::new(step(column, a_value.data_type(), b_value.data_type())?),
                Arc::clone(b),
                *sorted,
            ),
            _ => return refused(),
        },
        (T::Struct(a), T::Struct(b)) => {
            if a.iter().any(|field| is_typed(field) && b.find(field.name()).is_none()) {
                return refused();
            }
            let children = b
                .iter()
                .map(|field| match a.find(field.name()).filter(|(_, a)| is_typed(a)) {
                    Some((index, found)) => {
                        let child = format!("{column}.{}", field.name());
                        Ok((Some(index), step(&child, found.data_type(), field.data_type())?))
                    }
                    None if field.is_nullable() => Ok((None, Step::Keep)),
                    None => refused().map(|step| (None, step)),
                });
            Step::Struct(children.collect::<Result<_, _>>()?, b.clone())
        }
        (T::Timestamp(TimeUnit::Nanosecond, a), T::Timestamp(TimeUnit::Microsecond, b))
            if a.is_some() == b.is_some() =>
        {
            Step::NanosToMicros(to.clone())
        }
        (T::Time64(TimeUnit::Nanosecond), T::Time64(TimeUnit::Microsecond)) => Step::NanosToMicros(to.clone()),
        (T::Date64, T::Date32) => Step::MillisToDate,
        (T::Date32, T::Timestamp(unit, None)) => Step::DateToMidnight(*unit),
        _ if is_lossless(from, to) => Step::Kernel(to.clone()),
        _ => return refused(),
    };
    Ok(step)
}

/// First the same values in the plain form `plain`, then the step from there.
fn unpacked(column: &str, plain: &DataType, to: &DataType) -> Result<Step, QuarantineReason> {
    let next = step(column, plain, to)?;
    Ok(Step::Unpacked(plain.clone(), Box::new(next)))
}

/// Whether arrow's cast keeps every value of `from`, or fails.
fn is_lossless(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    match (from, to) {
        (T::Utf8View | T::LargeUtf8, T::Utf8)
        | (T::BinaryView | T::LargeBinary | T::FixedSizeBinary(_), T::Binary)
        | (T::Int8 | T::UInt8, T::Int16 | T::Int32 | T::Int64)
        | (T::Int16 | T::UInt16, T::Int32 | T::Int64)
        | (T::Int32 | T::UInt32, T::Int64)
        | (T::Float16, T::Float32 | T::Float64)
        | (T::Float32, T::Float64)
        | (T::Time32(_), T::Time64(TimeUnit::Microsecond)) => true,
        (T::Timestamp(TimeUnit::Second, a), T::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, b))
        | (T::Timestamp(TimeUnit::Millisecond, a), T::Timestamp(TimeUnit::Microsecond, b)) => {
            a.is_some() == b.is_some()
        }
        (T::Timestamp(a_unit, Some(_)), T::Timestamp(b_unit, Some(_))) => a_unit == b_unit,
        (T::UInt64, T::Decimal128(to_p, to_s)) => *to_s >= 0 && i16::from(*to_p) - i16::from(*to_s) >= 20,
        (
            T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) | T::Decimal256(p, s),
            T::Decimal128(to_p, to_s),
        ) => {
            let digits = |precision: u8, scale: i8| i16::from(precision) - i16::from(scale);
            to_s >= s && digits(*to_p, *to_s) >= digits(*p, *s)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, AsArray, Date32Array, Date64Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
        Int32Array, Int64Array, ListArray, StringArray, StructArray, Time32MillisecondArray, Time64MicrosecondArray,
        Time64NanosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
        UInt32Array, UInt64Array,
    };
    use arrow::datatypes::{Field, Int32Type};

    use super::*;

    fn cast(array: ArrayRef, to: DataType) -> Result<ArrayRef, QuarantineReason> {
        let source = Schema::new(vec![Field::new("c", array.data_type().clone(), true)]);
        let target = Arc::new(Schema::new(vec![Field::new("c", to, true)]));
        let batch = RecordBatch::try_new(Arc::new(source.clone()), vec![array]).unwrap();
        Ok(Arc::clone(Caster::new(&source, &target)?.cast(&batch)?.column(0)))
    }

    #[test]
    fn nanoseconds_must_be_whole_microseconds() {
        let to = DataType::Timestamp(TimeUnit::Microsecond, None);
        let fits: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Some(-1_000), None, Some(2_000)]));
        let expected = TimestampMicrosecondArray::from(vec![Some(-1), None, Some(2)]);
        assert_eq!(cast(fits, to.clone()).unwrap().as_primitive(), &expected);
        let lossy: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_000, 1_001]));
        let reason = QuarantineReason::LossyValue {
            column: "c".into(),
            value: "1001".into(),
            data_type: to.to_string(),
        };
        assert_eq!(cast(lossy, to).unwrap_err(), reason);
    }

    #[test]
    fn times_of_day_become_microseconds() {
        let to = DataType::Time64(TimeUnit::Microsecond);
        let expected = Time64MicrosecondArray::from(vec![Some(2_000), None]);
        let millis: ArrayRef = Arc::new(Time32MillisecondArray::from(vec![Some(2), None]));
        assert_eq!(cast(millis, to.clone()).unwrap().as_primitive(), &expected);
        let nanos: ArrayRef = Arc::new(Time64NanosecondArray::from(vec![Some(2_000_000), None]));
        assert_eq!(cast(nanos, to.clone()).unwrap().as_primitive(), &expected);
        let lossy: ArrayRef = Arc::new(Time64NanosecondArray::from(vec![1_000, 1_001]));
        let reason = QuarantineReason::LossyValue {
            column: "c".into(),
            value: "1001".into(),
            data_type: to.to_string(),
        };
        assert_eq!(cast(lossy, to).unwrap_err(), reason);
    }

    #[test]
    fn unsigned_longs_fit_into_decimals_of_twenty_digits() {
        let longs: ArrayRef = Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]));
        let expected = Decimal128Array::from(vec![Some(i128::from(u64::MAX)), None]);
        let expected = expected.with_precision_and_scale(20, 0).unwrap();
        let decimals = cast(Arc::clone(&longs), DataType::Decimal128(20, 0)).unwrap();
        assert_eq!(decimals.as_primitive(), &expected);
        let expected = drift("c", "UInt64", "Decimal128(19, 0)", "conversion would lose values");
        assert_eq!(cast(longs, DataType::Decimal128(19, 0)).unwrap_err(), expected);
    }

    #[test]
    fn times_too_large_for_microseconds_are_named() {
        let to = DataType::Timestamp(TimeUnit::Microsecond, None);
        let array: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![0, i64::MAX]));
        let reason = cast(array, to.clone()).unwrap_err();
        let expected = QuarantineReason::LossyValue {
            column: "c".into(),
            value: i64::MAX.to_string(),
            data_type: to.to_string(),
        };
        assert_eq!(reason, expected);
    }

    #[test]
    fn dates_keep_whole_days_only() {
        let array: ArrayRef = Arc::new(Date64Array::from(vec![86_400_000, -86_400_000]));
        let expected = Date32Array::from(vec![1, -1]);
        assert_eq!(cast(array, DataType::Date32).unwrap().as_primitive(), &expected);
        let array: ArrayRef = Arc::new(Date64Array::from(vec![1]));
        assert!(
            matches!(cast(array, DataType::Date32), Err(QuarantineReason::LossyValue { value, .. }) if value == "1")
        );
    }

    #[test]
    fn numbers_widen_and_never_narrow() {
        let array: ArrayRef = Arc::new(UInt32Array::from(vec![u32::MAX]));
        let expected = Int64Array::from(vec![i64::from(u32::MAX)]);
        assert_eq!(cast(array, DataType::Int64).unwrap().as_primitive(), &expected);
        let array: ArrayRef = Arc::new(Float32Array::from(vec![0.5]));
        assert_eq!(
            cast(array, DataType::Float64).unwrap().as_primitive(),
            &Float64Array::from(vec![0.5])
        );
        let array: ArrayRef = Arc::new(UInt64Array::from(vec![1]));
        let expected = drift("c", "UInt64", "Int64", "conversion would lose values");
        assert_eq!(cast(array, DataType::Int64).unwrap_err(), expected);
        let array: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let expected = drift("c", "Int64", "Int32", "conversion would lose values");
        assert_eq!(cast(array, DataType::Int32).unwrap_err(), expected);
    }

    #[test]
    fn decimals_widen_in_digits_and_scale() {
        let array = Decimal128Array::from(vec![12_345])
            .with_precision_and_scale(5, 2)
            .unwrap();
        let wide = cast(Arc::new(array.clone()), DataType::Decimal128(8, 4)).unwrap();
        let expected = Decimal128Array::from(vec![1_234_500])
            .with_precision_and_scale(8, 4)
            .unwrap();
        assert_eq!(wide.as_primitive(), &expected);
        let error = cast(Arc::new(array), DataType::Decimal128(5, 3)).unwrap_err();
        assert!(matches!(error, QuarantineReason::SchemaDrift { .. }), "{error}");
    }

    #[test]
    fn lists_structs_and_binaries_convert_inside() {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None]);
        let to = DataType::List(Arc::new(Field::new("element", DataType::Int64, true)));
        let cast_lists = cast(Arc::new(lists), to.clone()).unwrap();
        assert_eq!(cast_lists.data_type(), &to);
        let values = cast_lists.as_list::<i32>().value(0);
        assert_eq!(values.as_primitive(), &Int64Array::from(vec![Some(1), None]));

        let int = Arc::new(Field::new("a", DataType::Int32, false));
        let array: ArrayRef = Arc::new(Int32Array::from(vec![7]));
        let structs: ArrayRef = Arc::new(StructArray::from(vec![(int, array)]));
        let fields = vec![
            Field::new("b", DataType::Utf8, true),
            Field::new("a", DataType::Int64, false),
        ];
        let out = cast(structs, DataType::Struct(fields.into())).unwrap();
        assert!(out.as_struct().column(0).is_null(0));
        assert_eq!(out.as_struct().column(1).as_primitive(), &Int64Array::from(vec![7]));

        let fixed = FixedSizeBinaryArray::try_from_iter([[1_u8, 2]].into_iter()).unwrap();
        let binary = cast(Arc::new(fixed), DataType::Binary).unwrap();
        assert_eq!(binary.as_binary::<i32>().value(0), [1, 2]);
    }

    #[test]
    fn a_null_in_a_required_part_of_a_struct_breaks_not_null_where_the_struct_is_there() {
        let of = |values: Vec<Option<i32>>, valid: Vec<bool>| -> ArrayRef {
            let field = Field::new("a", DataType::Int32, true);
            let values: ArrayRef = Arc::new(Int32Array::from(values));
            Arc::new(StructArray::new(vec![field].into(), vec![values], Some(valid.into())))
        };
        let required = DataType::Struct(vec![Field::new("a", DataType::Int32, false)].into());
        let masked = of(vec![Some(1), None], vec![true, false]);
        assert_eq!(cast(masked, required.clone()).unwrap().null_count(), 1);
        let broken = of(vec![Some(1), None], vec![true, true]);
        let expected = drift("c.a", "null", "Int32 NOT NULL", "NOT NULL broken");
        assert_eq!(cast(broken, required).unwrap_err(), expected);
    }

    #[test]
    fn a_null_in_a_required_column_breaks_not_null() {
        let source = Schema::new(vec![Field::new("c", DataType::Utf8, true)]);
        let target = Arc::new(Schema::new(vec![Field::new("c", DataType::Utf8, false)]));
        let caster = Caster::new(&source, &target).unwrap();
        let batch = |values: Vec<Option<&str>>| {
            RecordBatch::try_new(Arc::new(source.clone()), vec![Arc::new(StringArray::from(values))]).unwrap()
        };
        assert_eq!(caster.cast(&batch(vec![Some("a")])).unwrap().num_rows(), 1);
        let expected = drift("c", "null", "Utf8 NOT NULL", "NOT NULL broken");
        assert_eq!(caster.cast(&batch(vec![None])).unwrap_err(), expected);
    }
}
