//! The type that holds the values of two.

use arrow::datatypes::DataType;

/// The narrowest type of the same kind that holds all values of both, if there is one.
pub(super) fn joined(a: &DataType, b: &DataType) -> Option<DataType> {
    if a == b || is_wider(a, b) {
        return Some(a.clone());
    }
    if is_wider(b, a) {
        return Some(b.clone());
    }
    match (a, b) {
        (DataType::Decimal128(a_precision, a_scale), DataType::Decimal128(b_precision, b_scale)) => {
            decimal((*a_precision, *a_scale), (*b_precision, *b_scale))
        }
        _ => None,
    }
}

/// Whether every value of `narrow` is one of `wide`, which is of the same kind.
pub(crate) fn is_wider(wide: &DataType, narrow: &DataType) -> bool {
    use DataType as T;
    match (narrow, wide) {
        (T::Int8, T::Int16 | T::Int32 | T::Int64)
        | (T::Int16, T::Int32 | T::Int64)
        | (T::Int32, T::Int64)
        | (T::Float32, T::Float64)
        | (T::Date32, T::Timestamp(_, None)) => true,
        (T::Decimal128(precision, scale), T::Decimal128(..)) => {
            joined_decimal_is(wide, *precision, *scale) && narrow != wide
        }
        _ => false,
    }
}

fn joined_decimal_is(wide: &DataType, precision: u8, scale: i8) -> bool {
    let DataType::Decimal128(wide_precision, wide_scale) = wide else {
        return false;
    };
    decimal((*wide_precision, *wide_scale), (precision, scale)).as_ref() == Some(wide)
}

/// The digits before and after the point that two decimals need.
fn decimal(a: (u8, i8), b: (u8, i8)) -> Option<DataType> {
    const MOST_DIGITS: i16 = 38;
    let before = |(precision, scale): (u8, i8)| i16::from(precision) - i16::from(scale);
    let scale = a.1.max(b.1);
    let precision = before(a).max(before(b)) + i16::from(scale);
    let precision = u8::try_from(precision).ok().filter(|_| precision <= MOST_DIGITS)?;
    Some(DataType::Decimal128(precision, scale))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn types_of_a_kind_join_in_either_order() {
        use DataType as T;
        let local = T::Timestamp(TimeUnit::Microsecond, None);
        for (a, b, both) in [
            (T::Int8, T::Int64, T::Int64),
            (T::Int32, T::Int16, T::Int32),
            (T::Float32, T::Float64, T::Float64),
            (T::Date32, local.clone(), local),
            (T::Decimal128(9, 2), T::Decimal128(12, 2), T::Decimal128(12, 2)),
            (T::Decimal128(9, 2), T::Decimal128(9, 4), T::Decimal128(11, 4)),
            (T::Decimal128(38, 0), T::Decimal128(30, 0), T::Decimal128(38, 0)),
        ] {
            assert_eq!(joined(&a, &b), Some(both.clone()), "{a} {b}");
            assert_eq!(joined(&b, &a), Some(both), "{b} {a}");
        }
    }

    #[test]
    fn what_would_lose_values_or_change_their_meaning_does_not_join() {
        use DataType as T;
        for (a, b) in [
            (T::Int64, T::Float64),
            (T::Int32, T::Utf8),
            (T::Utf8, T::Binary),
            (T::Int64, T::Decimal128(20, 0)),
            (T::Decimal128(38, 0), T::Decimal128(38, 1)),
            (T::Date32, T::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            (
                T::Timestamp(TimeUnit::Microsecond, None),
                T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ),
            (
                T::Timestamp(TimeUnit::Microsecond, None),
                T::Timestamp(TimeUnit::Nanosecond, None),
            ),
            (T::Boolean, T::Int8),
        ] {
            assert_eq!(joined(&a, &b), None, "{a} {b}");
            assert_eq!(joined(&b, &a), None, "{b} {a}");
        }
    }
}
