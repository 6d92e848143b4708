//! Single values: partition values and bounds (Iceberg specification, appendix D).

use std::cmp::Ordering;

use super::error::SpecError;
use super::types::PrimitiveType;
use crate::error::Result;

/// A value of a primitive type.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Datum {
    /// `boolean`.
    Boolean(bool),
    /// `int` and `date`.
    Int(i32),
    /// `long`, `time` and all timestamps.
    Long(i64),
    /// `float`.
    Float(f32),
    /// `double`.
    Double(f64),
    /// `decimal`, unscaled.
    Decimal(i128),
    /// `string`.
    String(String),
    /// `uuid`, `fixed` and `binary`.
    Bytes(Vec<u8>),
}

impl Datum {
    /// The value's bytes in bounds and elsewhere ("Binary single-value serialization").
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Boolean(value) => vec![u8::from(*value)],
            Self::Int(value) => value.to_le_bytes().to_vec(),
            Self::Long(value) => value.to_le_bytes().to_vec(),
            Self::Float(value) => value.to_le_bytes().to_vec(),
            Self::Double(value) => value.to_le_bytes().to_vec(),
            Self::Decimal(unscaled) => min_bytes(*unscaled),
            Self::String(text) => text.as_bytes().to_vec(),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }

    /// The same, `None` if this is no value of `data_type`.
    pub(super) fn bytes_as(&self, data_type: PrimitiveType) -> Option<Vec<u8>> {
        self.is_of(data_type).then(|| self.to_bytes())
    }

    /// Reads the bytes of a value of `data_type`.
    ///
    /// Those of a column that was an `int` or a `float` before it was made a `long` or a `double` are read too
    /// (Iceberg specification, "Schema Evolution").
    ///
    /// # Errors
    ///
    /// `Invalid` when they are no value of this type: the bound or partition value must not be used.
    pub fn from_bytes(data_type: PrimitiveType, bytes: &[u8]) -> Result<Self> {
        Ok(decode(data_type, bytes).map_err(|rule| SpecError::Datum {
            data_type: data_type.to_string(),
            rule,
        })?)
    }

    /// Whether this is a value of `data_type`.
    pub fn is_of(&self, data_type: PrimitiveType) -> bool {
        use PrimitiveType as T;
        match self {
            Self::Boolean(_) => data_type == T::Boolean,
            Self::Int(_) => matches!(data_type, T::Int | T::Date),
            Self::Long(_) => matches!(
                data_type,
                T::Long | T::Time | T::Timestamp | T::Timestamptz | T::TimestampNs | T::TimestamptzNs
            ),
            Self::Float(_) => data_type == T::Float,
            Self::Double(_) => data_type == T::Double,
            Self::Decimal(_) => matches!(data_type, T::Decimal { .. }),
            Self::String(_) => data_type == T::String,
            Self::Bytes(bytes) => match data_type {
                T::Binary => true,
                T::Uuid => bytes.len() == 16,
                T::Fixed(length) => u64::try_from(bytes.len()) == Ok(length),
                _ => false,
            },
        }
    }

    /// The order of two values of the same type; `None` for values of different types.
    ///
    /// Floats are in the order -NaN < -Infinity < -0 < 0 < Infinity < NaN (Iceberg specification, "Sorting"),
    /// strings and bytes in that of their unsigned bytes, decimals must be of the same scale.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        Some(match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Long(a), Self::Long(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Double(a), Self::Double(b)) => a.total_cmp(b),
            (Self::Decimal(a), Self::Decimal(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            _ => return None,
        })
    }
}

/// Two's complement, big-endian, as short as possible.
pub(super) fn min_bytes(value: i128) -> Vec<u8> {
    shortest(&value.to_be_bytes()).to_vec()
}

/// The bytes of a number in big-endian two's complement without those that say nothing.
pub(super) fn shortest(bytes: &[u8; 16]) -> &[u8] {
    let sign = if i128::from_be_bytes(*bytes) < 0 { 0xff } else { 0 };
    let mut rest = bytes.as_slice();
    // A leading byte says nothing if the next one has the same sign.
    while let [first, tail @ ..] = rest {
        match tail.first() {
            Some(next) if *first == sign && (next ^ sign) < 0x80 => rest = tail,
            _ => break,
        }
    }
    rest
}

/// The number that big-endian two's complement of any length stands for, `None` if it has more than 128 bits.
pub(super) fn from_big_endian(bytes: &[u8]) -> Option<i128> {
    let sign = if bytes.first()? & 0x80 == 0 { 0x00 } else { 0xFF };
    let extra = bytes.len().saturating_sub(16);
    let (padding, significant) = bytes.split_at_checked(extra)?;
    if padding.iter().any(|byte| *byte != sign) || (significant.first()? ^ sign) & 0x80 != 0 {
        return None;
    }
    let start = if sign == 0 { 0_i128 } else { -1 };
    Some(
        significant
            .iter()
            .fold(start, |number, byte| number << 8 | i128::from(*byte)),
    )
}

const LENGTH: &str = "wrong number of bytes";

fn decode(data_type: PrimitiveType, bytes: &[u8]) -> Result<Datum, &'static str> {
    use PrimitiveType as T;
    Ok(match data_type {
        T::Boolean => match bytes {
            [value] => Datum::Boolean(*value != 0),
            _ => return Err(LENGTH),
        },
        T::Int | T::Date => Datum::Int(i32::from_le_bytes(array(bytes)?)),
        T::Long if bytes.len() == 4 => Datum::Long(i32::from_le_bytes(array(bytes)?).into()),
        T::Long | T::Time | T::Timestamp | T::Timestamptz | T::TimestampNs | T::TimestamptzNs => {
            Datum::Long(i64::from_le_bytes(array(bytes)?))
        }
        T::Float => Datum::Float(f32::from_le_bytes(array(bytes)?)),
        T::Double if bytes.len() == 4 => Datum::Double(f32::from_le_bytes(array(bytes)?).into()),
        T::Double => Datum::Double(f64::from_le_bytes(array(bytes)?)),
        T::Decimal { .. } if bytes.len() <= 16 => Datum::Decimal(from_big_endian(bytes).ok_or(LENGTH)?),
        T::Decimal { .. } => return Err(LENGTH),
        T::String => Datum::String(str::from_utf8(bytes).map_err(|_| "not UTF-8")?.to_owned()),
        T::Uuid | T::Fixed(_) | T::Binary => {
            let value = Datum::Bytes(bytes.to_vec());
            if !value.is_of(data_type) {
                return Err(LENGTH);
            }
            value
        }
    })
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], &'static str> {
    bytes.try_into().map_err(|_| LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_bytes_of_the_specification_and_come_back() {
        use PrimitiveType as T;
        let decimal = T::Decimal {
            precision: 38,
            scale: 2,
        };
        for (data_type, value, bytes) in [
            (T::Boolean, Datum::Boolean(true), vec![1]),
            (T::Int, Datum::Int(-2), vec![0xfe, 0xff, 0xff, 0xff]),
            (T::Date, Datum::Int(1), vec![1, 0, 0, 0]),
            (T::Timestamptz, Datum::Long(1), vec![1, 0, 0, 0, 0, 0, 0, 0]),
            (T::Float, Datum::Float(-4.5), vec![0, 0, 0x90, 0xc0]),
            (T::Double, Datum::Double(6.0), vec![0, 0, 0, 0, 0, 0, 0x18, 0x40]),
            (decimal, Datum::Decimal(1420), vec![0x05, 0x8c]),
            (decimal, Datum::Decimal(0), vec![0]),
            (decimal, Datum::Decimal(127), vec![0x7f]),
            (decimal, Datum::Decimal(128), vec![0, 0x80]),
            (decimal, Datum::Decimal(-1), vec![0xff]),
            (decimal, Datum::Decimal(-128), vec![0x80]),
            (decimal, Datum::Decimal(-129), vec![0xff, 0x7f]),
            (decimal, Datum::Decimal(i128::MIN), i128::MIN.to_be_bytes().to_vec()),
            (decimal, Datum::Decimal(i128::MAX), i128::MAX.to_be_bytes().to_vec()),
            (T::String, Datum::String("zürich".into()), "zürich".as_bytes().to_vec()),
            (T::Fixed(2), Datum::Bytes(vec![1, 2]), vec![1, 2]),
            (T::Uuid, Datum::Bytes(vec![7; 16]), vec![7; 16]),
            (T::Binary, Datum::Bytes(vec![]), vec![]),
        ] {
            assert!(value.is_of(data_type));
            assert_eq!(value.to_bytes(), bytes, "{value:?}");
            assert_eq!(Datum::from_bytes(data_type, &bytes).unwrap(), value);
        }
    }

    #[test]
    fn bounds_written_before_a_column_was_widened_are_read() {
        let read = |data_type, bytes: &[u8]| Datum::from_bytes(data_type, bytes).unwrap();
        assert_eq!(read(PrimitiveType::Long, &(-2_i32).to_le_bytes()), Datum::Long(-2));
        assert_eq!(read(PrimitiveType::Double, &0.5_f32.to_le_bytes()), Datum::Double(0.5));
    }

    #[test]
    fn bytes_of_another_length_are_refused() {
        use PrimitiveType as T;
        for (data_type, bytes) in [
            (T::Boolean, vec![]),
            (T::Int, vec![0; 8]),
            (T::Timestamp, vec![0; 4]),
            (T::Decimal { precision: 9, scale: 0 }, vec![]),
            (T::Decimal { precision: 9, scale: 0 }, vec![0; 17]),
            (T::String, vec![0xff]),
            (T::Uuid, vec![0; 15]),
            (T::Fixed(3), vec![0; 2]),
        ] {
            let error = Datum::from_bytes(data_type, &bytes).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Invalid, "{data_type}");
        }
    }

    #[test]
    fn values_are_ordered_as_the_specification_sorts() {
        let ordered = [
            -f64::NAN,
            f64::NEG_INFINITY,
            -1.0,
            -0.0,
            0.0,
            1.0,
            f64::INFINITY,
            f64::NAN,
        ];
        for pair in ordered.windows(2) {
            assert_eq!(
                Datum::Double(pair[0]).compare(&Datum::Double(pair[1])),
                Some(Ordering::Less)
            );
        }
        let bytes = |bytes: &[u8]| Datum::Bytes(bytes.to_vec());
        assert_eq!(bytes(&[0x7f]).compare(&bytes(&[0x80])), Some(Ordering::Less));
        assert_eq!(bytes(&[1]).compare(&bytes(&[1, 0])), Some(Ordering::Less));
        assert_eq!(Datum::Int(1).compare(&Datum::Long(1)), None);
    }

    #[test]
    fn values_are_those_of_appendix_d() {
        let bytes = |value: Datum, primitive| value.bytes_as(primitive).unwrap();
        assert_eq!(bytes(Datum::Boolean(true), PrimitiveType::Boolean), [1]);
        assert_eq!(bytes(Datum::Int(-2), PrimitiveType::Int), [0xFE, 0xFF, 0xFF, 0xFF]);
        assert_eq!(bytes(Datum::Int(1), PrimitiveType::Date), [1, 0, 0, 0]);
        assert_eq!(
            bytes(Datum::Long(258), PrimitiveType::Timestamptz),
            [2, 1, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(bytes(Datum::Float(1.0), PrimitiveType::Float), [0, 0, 0x80, 0x3F]);
        assert_eq!(
            bytes(Datum::Double(1.0), PrimitiveType::Double),
            [0, 0, 0, 0, 0, 0, 0xF0, 0x3F]
        );
        assert_eq!(bytes(Datum::String("ü".into()), PrimitiveType::String), [0xC3, 0xBC]);
        assert_eq!(bytes(Datum::Bytes(vec![7; 16]), PrimitiveType::Uuid), [7; 16]);
        assert_eq!(bytes(Datum::Bytes(vec![7]), PrimitiveType::Binary), [7]);
    }

    #[test]
    fn values_of_other_types_have_no_bytes() {
        assert_eq!(Datum::Int(1).bytes_as(PrimitiveType::Long), None);
        assert_eq!(Datum::Long(1).bytes_as(PrimitiveType::Date), None);
        assert_eq!(Datum::Bytes(vec![7; 15]).bytes_as(PrimitiveType::Uuid), None);
    }

    #[test]
    fn decimals_take_as_few_bytes_as_keep_the_sign() {
        for (unscaled, bytes) in [
            (0, &[0][..]),
            (127, &[0x7F]),
            (128, &[0x00, 0x80]),
            (-128, &[0x80]),
            (-129, &[0xFF, 0x7F]),
            (-1, &[0xFF]),
            (1420, &[0x05, 0x8C]),
        ] {
            assert_eq!(min_bytes(unscaled), bytes);
            assert_eq!(from_big_endian(bytes), Some(unscaled));
        }
        for unscaled in [i128::MAX, i128::MIN] {
            assert_eq!(from_big_endian(&min_bytes(unscaled)), Some(unscaled));
        }
        assert_eq!(from_big_endian(&[0xFF; 20]), Some(-1));
        assert_eq!(from_big_endian(&[]), None);
        let mut wide = vec![0xFF; 17];
        wide[1] = 0x7F;
        assert_eq!(from_big_endian(&wide), None);
    }
}
