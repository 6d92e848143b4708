//! The conversion of one column, value by value.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, MapArray, PrimitiveArray, StructArray,
    new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options, is_null};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, FieldRef, Fields, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;

use super::unify::drift;
use crate::quarantine::QuarantineReason;

/// How one type becomes another.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A kernel of arrow that is lossless for this pair of types.
    Kernel(DataType),
    /// Same values.
    Keep,
    List(Box<Self>, FieldRef),
    Map(Box<Self>, Box<Self>, FieldRef, bool),
    /// Milliseconds of a day must be zero.
    MillisToDate,
    /// The first instant of the day, which must be within the range of the unit.
    DateToMidnight(TimeUnit),
    /// Nanoseconds must be whole microseconds.
    NanosToMicros(DataType),
    /// Nothing but nulls.
    Nulls(DataType),
    /// The kernel to a plain form of the same values, then on from there.
    Unpacked(DataType, Box<Self>),
    Struct(Vec<(Option<usize>, Self)>, Fields),
}

impl Step {
    /// Converts `array`, a part of `column`.
    pub(super) fn apply(&self, column: &str, array: &ArrayRef) -> Result<ArrayRef, QuarantineReason> {
        let broken = |e: ArrowError| QuarantineReason::corrupt(e);
        match self {
            Self::Keep => Ok(Arc::clone(array)),
            Self::Kernel(to) => kernel(column, array, to),
            Self::Nulls(to) => Ok(new_null_array(to, array.len())),
            Self::Unpacked(plain, step) => step.apply(column, &kernel(column, array, plain)?),
            Self::NanosToMicros(to) => {
                let nanos = nanos(array).ok_or_else(|| unexpected(array))?;
                if let Some(row) = find(nanos.iter(), |nanos| nanos % 1_000 != 0) {
                    return Err(lossy(column, array, row, to));
                }
                let micros: Int64Array = nanos.unary(|nanos| nanos.div_euclid(1_000));
                match to {
                    DataType::Timestamp(_, zone) => {
                        let micros = micros.reinterpret_cast::<TimestampMicrosecondType>();
                        Ok(Arc::new(micros.with_timezone_opt(zone.clone())))
                    }
                    _ => Ok(Arc::new(micros.reinterpret_cast::<Time64MicrosecondType>())),
                }
            }
            Self::MillisToDate => {
                let millis = array
                    .as_primitive_opt::<Date64Type>()
                    .ok_or_else(|| unexpected(array))?;
                if let Some(row) = find(millis.iter(), |millis| millis % 86_400_000 != 0) {
                    return Err(lossy(column, array, row, &DataType::Date32));
                }
                kernel(column, array, &DataType::Date32)
            }
            Self::DateToMidnight(unit) => {
                let to = DataType::Timestamp(*unit, None);
                let days = array
                    .as_primitive_opt::<Date32Type>()
                    .ok_or_else(|| unexpected(array))?;
                let most = i64::MAX / units_in_a_day(*unit);
                if let Some(row) = find(days.iter().map(|day| day.map(i64::from)), |day| day.abs() > most) {
                    return Err(lossy(column, array, row, &to));
                }
                kernel(column, array, &to)
            }
            Self::List(step, field) => {
                let list = array.as_list_opt::<i32>().ok_or_else(|| unexpected(array))?;
                let items = step.apply(column, list.values())?;
                if !field.is_nullable() && items.null_count() > 0 {
                    return Err(not_null(column, field));
                }
                let list = ListArray::try_new(Arc::clone(field), list.offsets().clone(), items, list.nulls().cloned());
                Ok(Arc::new(list.map_err(broken)?))
            }
            Self::Map(key, value, entries, sorted) => {
                let map = array.as_map_opt().ok_or_else(|| unexpected(array))?;
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(unexpected(array));
                };
                let pair = vec![key.apply(column, map.keys())?, value.apply(column, map.values())?];
                for (field, array) in fields.iter().zip(&pair) {
                    check_nulls(column, field, array, map.entries().nulls())?;
                }
                let pairs =
                    StructArray::try_new(fields.clone(), pair, map.entries().nulls().cloned()).map_err(broken)?;
                let offsets = map.offsets().clone();
                let map = MapArray::try_new(Arc::clone(entries), offsets, pairs, map.nulls().cloned(), *sorted);
                Ok(Arc::new(map.map_err(broken)?))
            }
            Self::Struct(children, fields) => {
                let source = array.as_struct_opt().ok_or_else(|| unexpected(array))?;
                let mut columns = Vec::with_capacity(children.len());
                for ((index, step), field) in children.iter().zip(fields) {
                    let child = format!("{column}.{}", field.name());
                    let array = match index.and_then(|index| source.columns().get(index)) {
                        Some(array) => step.apply(&child, array)?,
                        None => new_null_array(field.data_type(), source.len()),
                    };
                    check_nulls(&child, field, &array, source.nulls())?;
                    columns.push(array);
                }
                let nulls = source.nulls().cloned();
                let array = StructArray::try_new_with_length(fields.clone(), columns, nulls, source.len());
                Ok(Arc::new(array.map_err(broken)?))
            }
        }
    }
}

fn units_in_a_day(unit: TimeUnit) -> i64 {
    const SECONDS: i64 = 86_400;
    match unit {
        TimeUnit::Second => SECONDS,
        TimeUnit::Millisecond => SECONDS * 1_000,
        TimeUnit::Microsecond => SECONDS * 1_000_000,
        TimeUnit::Nanosecond => SECONDS * 1_000_000_000,
    }
}

fn kernel(column: &str, array: &ArrayRef, to: &DataType) -> Result<ArrayRef, QuarantineReason> {
    let options = CastOptions {
        safe: !array.data_type().is_nested(),
        ..CastOptions::default()
    };
    // A value that does not fit becomes null; a null that was none before is the one that was lost. Inside of
    // lists nobody would notice it, so there it is an error.
    let cast = cast_with_options(array, to, &options).map_err(|e| QuarantineReason::LossyValue {
        column: column.to_owned(),
        value: e.to_string(),
        data_type: to.to_string(),
    })?;
    if cast.logical_null_count() != array.logical_null_count() {
        let (before, after) = (is_null(array), is_null(&cast));
        let row = match (before, after) {
            (Ok(before), Ok(after)) => first_new_null(&before, &after),
            _ => 0,
        };
        return Err(lossy(column, array, row, to));
    }
    Ok(cast)
}

fn first_new_null(before: &BooleanArray, after: &BooleanArray) -> usize {
    before
        .iter()
        .zip(after)
        .position(|(before, after)| before != after)
        .unwrap_or(0)
}

fn find(values: impl Iterator<Item = Option<i64>>, bad: impl Fn(i64) -> bool) -> Option<usize> {
    values
        .enumerate()
        .find_map(|(row, value)| value.is_some_and(&bad).then_some(row))
}

fn lossy(column: &str, array: &ArrayRef, row: usize, to: &DataType) -> QuarantineReason {
    let value = raw(array, row).map_or_else(
        || array_value_to_string(array, row).unwrap_or_else(|_| "unprintable".to_owned()),
        |value| value.to_string(),
    );
    QuarantineReason::LossyValue {
        column: column.to_owned(),
        value,
        data_type: to.to_string(),
    }
}

/// Nanoseconds as plain numbers.
fn nanos(array: &ArrayRef) -> Option<Int64Array> {
    let timestamps = array.as_primitive_opt::<TimestampNanosecondType>();
    let times = array.as_primitive_opt::<Time64NanosecondType>();
    timestamps
        .map(PrimitiveArray::reinterpret_cast)
        .or_else(|| times.map(PrimitiveArray::reinterpret_cast))
}

/// A time as its plain number: those that do not fit have no calendar form either.
fn raw(array: &ArrayRef, row: usize) -> Option<i64> {
    if row >= array.len() {
        return None;
    }
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => Some(array.as_primitive::<TimestampSecondType>().value(row)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Some(array.as_primitive::<TimestampMillisecondType>().value(row))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Some(array.as_primitive::<TimestampNanosecondType>().value(row))
        }
        DataType::Time64(TimeUnit::Nanosecond) => Some(array.as_primitive::<Time64NanosecondType>().value(row)),
        DataType::Date64 => Some(array.as_primitive::<Date64Type>().value(row)),
        _ => None,
    }
}

/// That a required part of a struct is null only where the struct is.
fn check_nulls(
    column: &str,
    field: &FieldRef,
    array: &ArrayRef,
    outer: Option<&NullBuffer>,
) -> Result<(), QuarantineReason> {
    if field.is_nullable() {
        return Ok(());
    }
    match array.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) if !outer.is_some_and(|outer| outer.contains(&nulls)) => Err(not_null(column, field)),
        _ => Ok(()),
    }
}

pub(super) fn not_null(column: &str, field: &FieldRef) -> QuarantineReason {
    drift(
        column,
        "null",
        format!("{} NOT NULL", field.data_type()),
        "NOT NULL broken",
    )
}

fn unexpected(array: &ArrayRef) -> QuarantineReason {
    QuarantineReason::corrupt(format!("decoded as an unexpected type: {}", array.data_type()))
}
