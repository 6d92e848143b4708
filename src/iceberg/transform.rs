//! Partition and sort transforms (Iceberg specification, "Partition Transforms", appendix B).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::datum::{Datum, shortest};
use super::error::SpecError;
use super::murmur3::murmur3_x86_32;
use super::types::{PrimitiveType, argument};
use crate::error::Result;

/// How a partition or sort value is made of a column's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transform {
    /// The hash modulo a number of buckets.
    Bucket(i32),
    /// Days since 1970.
    Day,
    /// Hours since 1970.
    Hour,
    /// The value itself.
    Identity,
    /// Months since 1970.
    Month,
    /// The value cut to a width.
    Truncate(i32),
    /// Any other, by its text: kept, never applied.
    Unknown(String),
    /// Always null.
    Void,
    /// Years since 1970.
    Year,
}

impl Transform {
    /// Reads a transform; what is not known here becomes [`Unknown`](Self::Unknown).
    pub fn parse(text: &str) -> Self {
        let sized = |name: &str| {
            let size = argument(text, name, '[', ']')?.trim().parse::<i32>().ok()?;
            (size > 0).then_some(size)
        };
        match text {
            "day" => Self::Day,
            "hour" => Self::Hour,
            "identity" => Self::Identity,
            "month" => Self::Month,
            "void" => Self::Void,
            "year" => Self::Year,
            text => sized("bucket")
                .map(Self::Bucket)
                .or_else(|| sized("truncate").map(Self::Truncate))
                .unwrap_or_else(|| Self::Unknown(text.to_owned())),
        }
    }

    /// The type of the values that this makes of values of `source`; `None` where it cannot be applied.
    pub fn result_type(&self, source: PrimitiveType) -> Option<PrimitiveType> {
        use PrimitiveType as T;
        let result = match self {
            Self::Identity | Self::Void => source,
            Self::Bucket(_) => match source {
                T::Boolean | T::Float | T::Double => return None,
                _ => T::Int,
            },
            Self::Truncate(_) => match source {
                T::Int | T::Long | T::Decimal { .. } | T::String | T::Binary => source,
                _ => return None,
            },
            Self::Year | Self::Month if source == T::Date || is_timestamp(source) => T::Int,
            Self::Day if source == T::Date || is_timestamp(source) => T::Date,
            Self::Hour if is_timestamp(source) => T::Int,
            Self::Year | Self::Month | Self::Day | Self::Hour | Self::Unknown(_) => return None,
        };
        Some(result)
    }

    /// What this makes of a value of type `source`; `None` is null, and null becomes null always.
    ///
    /// # Errors
    ///
    /// `Unsupported` where the transform is not known or not for this type; `Invalid` when the value is not of
    /// the type, or the result is beyond the result's type.
    pub fn apply(&self, source: PrimitiveType, value: Option<&Datum>) -> Result<Option<Datum>> {
        if self.result_type(source).is_none() {
            return Err(SpecError::Transform {
                transform: self.to_string(),
                data_type: source.to_string(),
            }
            .into());
        }
        let (Some(value), true) = (value, *self != Self::Void) else {
            return Ok(None);
        };
        let wrong = |rule| SpecError::Datum {
            data_type: source.to_string(),
            rule,
        };
        if !value.is_of(source) {
            return Err(wrong("another type's value").into());
        }
        let result = match self {
            Self::Identity => Some(value.clone()),
            Self::Bucket(buckets) => hash(source, value).map(|hash| Datum::Int(bucket(hash, *buckets))),
            Self::Truncate(width) => truncate(*width, value),
            Self::Year => days(source, value).map(year).and_then(int),
            Self::Month => days(source, value).map(month).and_then(int),
            Self::Day => days(source, value).and_then(int),
            Self::Hour => micros(source, value).map(hour_of_micros).and_then(int),
            Self::Unknown(_) | Self::Void => None,
        };
        Ok(Some(result.ok_or_else(|| wrong("out of range"))?))
    }
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bucket(buckets) => return write!(f, "bucket[{buckets}]"),
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Identity => "identity",
            Self::Month => "month",
            Self::Truncate(width) => return write!(f, "truncate[{width}]"),
            Self::Unknown(text) => text,
            Self::Void => "void",
            Self::Year => "year",
        })
    }
}

impl Serialize for Transform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Transform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::parse(&text))
    }
}

const US_PER_HOUR: i64 = 3_600_000_000;
const US_PER_DAY: i64 = 24 * US_PER_HOUR;

fn is_timestamp(data_type: PrimitiveType) -> bool {
    use PrimitiveType as T;
    matches!(
        data_type,
        T::Timestamp | T::Timestamptz | T::TimestampNs | T::TimestamptzNs
    )
}

fn int(value: i64) -> Option<Datum> {
    i32::try_from(value).ok().map(Datum::Int)
}

/// Microseconds since 1970 of a timestamp, rounded down.
fn micros(source: PrimitiveType, value: &Datum) -> Option<i64> {
    match (source, value) {
        (PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs, Datum::Long(ns)) => Some(micros_of_nanos(*ns)),
        (_, Datum::Long(us)) => Some(*us),
        _ => None,
    }
}

fn days(source: PrimitiveType, value: &Datum) -> Option<i64> {
    match value {
        Datum::Int(days) => Some(i64::from(*days)),
        _ => micros(source, value).map(day_of_micros),
    }
}

/// The bucket of a hash.
pub(super) fn bucket(hash: i32, buckets: i32) -> i32 {
    (hash & i32::MAX).checked_rem(buckets).unwrap_or(0)
}

/// The hash of whole numbers, dates and times.
pub(super) fn hash_long(value: i64) -> i32 {
    murmur3_x86_32(&value.to_le_bytes())
}

/// The hash of an unscaled decimal.
pub(super) fn hash_decimal(unscaled: i128) -> i32 {
    murmur3_x86_32(shortest(&unscaled.to_be_bytes()))
}

/// Microseconds of nanoseconds, rounded down.
pub(super) fn micros_of_nanos(ns: i64) -> i64 {
    ns.div_euclid(1_000)
}

/// The day of a time in microseconds.
pub(super) fn day_of_micros(us: i64) -> i64 {
    us.div_euclid(US_PER_DAY)
}

/// The hour of a time in microseconds.
pub(super) fn hour_of_micros(us: i64) -> i64 {
    us.div_euclid(US_PER_HOUR)
}

/// The years from 1970 to the year of a day.
pub(super) fn year(days: i64) -> i64 {
    civil(days).0 - 1970
}

/// The months from 1970 to the month of a day.
pub(super) fn month(days: i64) -> i64 {
    let (year, month) = civil(days);
    (year - 1970) * 12 + month - 1
}

// What is cut off below zero makes a number less. Java lets those wrap that are less than a width above the least one,
// and puts them into a partition in which no reader looks for them.

/// An `int` cut to a width; `None` if the result is no `int`.
pub(super) fn truncate_int(value: i32, width: i32) -> Option<i32> {
    value.checked_sub(value.checked_rem_euclid(width).unwrap_or(0))
}

/// A `long` cut to a width; `None` if the result is no `long`.
pub(super) fn truncate_long(value: i64, width: i32) -> Option<i64> {
    value.checked_sub(value.checked_rem_euclid(width.into()).unwrap_or(0))
}

/// An unscaled decimal cut to a width.
pub(super) fn truncate_decimal(value: i128, width: i32) -> i128 {
    value.wrapping_sub(value.checked_rem_euclid(width.into()).unwrap_or(0))
}

/// The first code points of a text.
pub(super) fn truncate_text(text: &str, length: usize) -> &str {
    match text.char_indices().nth(length) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

/// The first bytes.
pub(super) fn truncate_bytes(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(..length).unwrap_or(bytes)
}

/// Year and month of a day, in the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day ends a year, in eras of 400 years. All days that any type
/// holds are far from the limits of `i64`.
fn civil(days: i64) -> (i64, i64) {
    let since_era_zero = days + 719_468;
    let era = since_era_zero.div_euclid(146_097);
    let day_of_era = since_era_zero.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month)
}

/// The hash of appendix B.
fn hash(source: PrimitiveType, value: &Datum) -> Option<i32> {
    Some(match value {
        Datum::Int(value) => hash_long((*value).into()),
        Datum::Long(_) if is_timestamp(source) => hash_long(micros(source, value)?),
        Datum::Long(value) => hash_long(*value),
        Datum::Decimal(unscaled) => hash_decimal(*unscaled),
        Datum::String(text) => murmur3_x86_32(text.as_bytes()),
        Datum::Bytes(bytes) => murmur3_x86_32(bytes),
        Datum::Boolean(_) | Datum::Float(_) | Datum::Double(_) => return None,
    })
}

fn truncate(width: i32, value: &Datum) -> Option<Datum> {
    let length = usize::try_from(width).ok()?;
    Some(match value {
        Datum::Int(value) => Datum::Int(truncate_int(*value, width)?),
        Datum::Long(value) => Datum::Long(truncate_long(*value, width)?),
        Datum::Decimal(unscaled) => Datum::Decimal(truncate_decimal(*unscaled, width)),
        Datum::String(text) => Datum::String(truncate_text(text, length).to_owned()),
        Datum::Bytes(bytes) => Datum::Bytes(truncate_bytes(bytes, length).to_vec()),
        Datum::Boolean(_) | Datum::Float(_) | Datum::Double(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    use PrimitiveType as T;

    fn apply(transform: &str, source: T, value: &Datum) -> Datum {
        Transform::parse(transform).apply(source, Some(value)).unwrap().unwrap()
    }

    fn decimal(unscaled: i128) -> (T, Datum) {
        (T::Decimal { precision: 9, scale: 2 }, Datum::Decimal(unscaled))
    }

    #[test]
    fn transforms_round_trip_and_unknown_ones_keep_their_text() {
        for text in [
            "identity",
            "bucket[16]",
            "truncate[4]",
            "year",
            "month",
            "day",
            "hour",
            "void",
        ] {
            let transform = Transform::parse(text);
            assert_eq!(transform.to_string(), text);
            assert!(!matches!(transform, Transform::Unknown(_)), "{text}");
        }
        for text in ["zorder(1,2)", "bucket[0]", "bucket[-1]", "truncate[x]", ""] {
            assert_eq!(Transform::parse(text), Transform::Unknown(text.to_owned()));
            assert_eq!(Transform::parse(text).to_string(), text);
        }
    }

    #[test]
    fn hashes_are_those_of_appendix_b() {
        let us = 1_510_871_468_000_000;
        let uuid = uuid::uuid!("f79c3e09-677c-4bbd-a479-3f349cb785e7").as_bytes().to_vec();
        for (source, value, expected) in [
            (T::Int, Datum::Int(34), 2_017_239_379),
            (T::Long, Datum::Long(34), 2_017_239_379),
            (decimal(0).0, decimal(1420).1, -500_754_589),
            (T::Date, Datum::Int(17_486), -653_330_422),
            (T::Time, Datum::Long(81_068_000_000), -662_762_989),
            (T::Timestamp, Datum::Long(us), -2_047_944_441),
            (T::Timestamptz, Datum::Long(us + 1), -1_207_196_810),
            (T::TimestampNs, Datum::Long(us * 1_000), -2_047_944_441),
            (T::TimestamptzNs, Datum::Long((us + 1) * 1_000 + 1), -1_207_196_810),
            (T::String, Datum::String("iceberg".into()), 1_210_000_089),
            (T::Uuid, Datum::Bytes(uuid), 1_488_055_340),
            (T::Fixed(4), Datum::Bytes(vec![0, 1, 2, 3]), -188_683_207),
            (T::Binary, Datum::Bytes(vec![0, 1, 2, 3]), -188_683_207),
        ] {
            assert_eq!(hash(source, &value), Some(expected), "{source}");
            let bucket = (expected & i32::MAX) % 16;
            assert_eq!(apply("bucket[16]", source, &value), Datum::Int(bucket));
        }
    }

    #[test]
    fn truncation_rounds_down() {
        let text = |text: &str| Datum::String(text.to_owned());
        for (transform, (source, value), expected) in [
            ("truncate[10]", (T::Int, Datum::Int(1)), Datum::Int(0)),
            ("truncate[10]", (T::Int, Datum::Int(-1)), Datum::Int(-10)),
            ("truncate[10]", (T::Long, Datum::Long(-10)), Datum::Long(-10)),
            ("truncate[50]", decimal(1065), Datum::Decimal(1050)),
            ("truncate[10]", decimal(-1), Datum::Decimal(-10)),
            ("truncate[3]", (T::String, text("iceberg")), text("ice")),
            ("truncate[2]", (T::String, text("żółć")), text("żó")),
            (
                "truncate[3]",
                (T::Binary, Datum::Bytes(vec![1, 2, 3, 4])),
                Datum::Bytes(vec![1, 2, 3]),
            ),
            ("truncate[3]", (T::Binary, Datum::Bytes(vec![1])), Datum::Bytes(vec![1])),
        ] {
            assert_eq!(apply(transform, source, &value), expected, "{transform}");
        }
    }

    #[test]
    fn parts_of_time_are_floored_before_1970_too() {
        let last = Datum::Long(-1);
        assert_eq!(apply("year", T::Timestamp, &last), Datum::Int(-1));
        assert_eq!(apply("month", T::Timestamptz, &last), Datum::Int(-1));
        assert_eq!(apply("day", T::TimestampNs, &last), Datum::Int(-1));
        assert_eq!(apply("hour", T::TimestamptzNs, &last), Datum::Int(-1));
        assert_eq!(apply("year", T::Date, &Datum::Int(-1)), Datum::Int(-1));
        assert_eq!(apply("month", T::Date, &Datum::Int(-366)), Datum::Int(-13));
        // 2017-12-01T10:30:55.038194
        let us = Datum::Long(1_512_124_255_038_194);
        assert_eq!(apply("year", T::Timestamp, &us), Datum::Int(47));
        assert_eq!(apply("month", T::Timestamp, &us), Datum::Int(575));
        assert_eq!(apply("day", T::Timestamp, &us), Datum::Int(17_501));
        assert_eq!(apply("hour", T::Timestamp, &us), Datum::Int(420_034));
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        use chrono::{Datelike, NaiveDate};
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        for days in (-1_000_000..1_000_000).step_by(17) {
            let date = epoch + chrono::Duration::days(days);
            assert_eq!(civil(days), (i64::from(date.year()), i64::from(date.month())), "{date}");
        }
    }

    #[test]
    fn limits_neither_panic_nor_wrap_silently() {
        for ticks in [i64::MIN, i64::MAX] {
            for source in [T::Timestamp, T::TimestampNs] {
                for transform in ["year", "month", "day", "bucket[7]"] {
                    apply(transform, source, &Datum::Long(ticks));
                }
            }
            let error = Transform::Hour
                .apply(T::Timestamp, Some(&Datum::Long(ticks)))
                .unwrap_err();
            assert_eq!(
                error.to_string(),
                "value does not fit its type: out of range. type=`timestamp`"
            );
        }
        for days in [i32::MIN, i32::MAX] {
            apply("month", T::Date, &Datum::Int(days));
        }
        for (source, value, least) in [
            (T::Int, Datum::Int(i32::MIN), Datum::Int(i32::MIN + 8)),
            (T::Long, Datum::Long(i64::MIN), Datum::Long(i64::MIN + 8)),
            (T::Int, Datum::Int(i32::MIN + 7), Datum::Int(i32::MIN + 8)),
            (T::Long, Datum::Long(i64::MIN + 7), Datum::Long(i64::MIN + 8)),
        ] {
            let error = Transform::Truncate(10).apply(source, Some(&value)).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("value does not fit its type: out of range. type=`{source}`")
            );
            assert_eq!(apply("truncate[10]", source, &least), least);
        }
    }

    #[test]
    fn null_stays_null_and_the_wrong_type_is_refused() {
        assert_eq!(Transform::Day.apply(T::Date, None).unwrap(), None);
        assert_eq!(Transform::Void.apply(T::Float, Some(&Datum::Float(1.0))).unwrap(), None);
        for (transform, source) in [
            ("bucket[2]", T::Double),
            ("truncate[2]", T::Date),
            ("hour", T::Date),
            ("year", T::Long),
            ("new", T::Int),
        ] {
            let error = Transform::parse(transform).apply(source, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{transform}");
        }
        let error = Transform::Identity.apply(T::Int, Some(&Datum::Long(1))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn results_have_the_types_of_the_specification() {
        for (transform, source, expected) in [
            ("identity", T::Uuid, T::Uuid),
            ("void", T::Double, T::Double),
            ("bucket[2]", T::String, T::Int),
            ("truncate[2]", T::String, T::String),
            ("year", T::Date, T::Int),
            ("day", T::Timestamptz, T::Date),
            ("hour", T::Timestamp, T::Int),
        ] {
            assert_eq!(Transform::parse(transform).result_type(source), Some(expected));
        }
    }
}
