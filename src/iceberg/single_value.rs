//! The bytes of single values in bounds and summaries (Iceberg specification, "Binary single-value serialization").

use super::datum::Datum;
use super::types::PrimitiveType;

/// The bytes of a value of `primitive`, `None` if it is not one.
pub(super) fn to_bytes(value: &Datum, primitive: PrimitiveType) -> Option<Vec<u8>> {
    Some(match (primitive, value) {
        (PrimitiveType::Boolean, Datum::Boolean(value)) => vec![u8::from(*value)],
        (PrimitiveType::Int | PrimitiveType::Date, Datum::Int(value)) => value.to_le_bytes().to_vec(),
        (
            PrimitiveType::Long
            | PrimitiveType::Time
            | PrimitiveType::Timestamp
            | PrimitiveType::Timestamptz
            | PrimitiveType::TimestampNs
            | PrimitiveType::TimestamptzNs,
            Datum::Long(value),
        ) => value.to_le_bytes().to_vec(),
        (PrimitiveType::Float, Datum::Float(value)) => value.to_le_bytes().to_vec(),
        (PrimitiveType::Double, Datum::Double(value)) => value.to_le_bytes().to_vec(),
        (PrimitiveType::Decimal { .. }, Datum::Decimal(unscaled)) => minimal_big_endian(*unscaled),
        (PrimitiveType::String, Datum::String(text)) => text.as_bytes().to_vec(),
        (PrimitiveType::Uuid, Datum::Bytes(bytes)) if bytes.len() == 16 => bytes.clone(),
        (PrimitiveType::Fixed(_) | PrimitiveType::Binary, Datum::Bytes(bytes)) => bytes.clone(),
        _ => return None,
    })
}

/// Two's complement in as few bytes as keep the sign, at least one.
fn minimal_big_endian(unscaled: i128) -> Vec<u8> {
    let bytes = unscaled.to_be_bytes();
    let mut minimal = bytes.as_slice();
    while let [first, second, ..] = minimal
        && *first == if *second & 0x80 == 0 { 0x00 } else { 0xFF }
        && let Some((_, rest)) = minimal.split_first()
    {
        minimal = rest;
    }
    minimal.to_vec()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_appendix_d() {
        let bytes = |value: Datum, primitive| to_bytes(&value, primitive).unwrap();
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
        assert_eq!(to_bytes(&Datum::Int(1), PrimitiveType::Long), None);
        assert_eq!(to_bytes(&Datum::Long(1), PrimitiveType::Date), None);
        assert_eq!(to_bytes(&Datum::Bytes(vec![7; 15]), PrimitiveType::Uuid), None);
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
            assert_eq!(minimal_big_endian(unscaled), bytes);
            assert_eq!(from_big_endian(bytes), Some(unscaled));
        }
        for unscaled in [i128::MAX, i128::MIN] {
            assert_eq!(from_big_endian(&minimal_big_endian(unscaled)), Some(unscaled));
        }
        assert_eq!(from_big_endian(&[0xFF; 20]), Some(-1));
        assert_eq!(from_big_endian(&[]), None);
        let mut wide = vec![0xFF; 17];
        wide[1] = 0x7F;
        assert_eq!(from_big_endian(&wide), None);
    }
}
