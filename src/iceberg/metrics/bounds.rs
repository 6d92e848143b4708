//! Bounds of a column from Parquet's: the type says what the physical value means, and what does not fit it has none.

use crate::data_file::Datum as Physical;
use crate::iceberg::datum::{Datum, from_big_endian};
use crate::iceberg::types::PrimitiveType;

/// The bytes of a lower bound, of at most `length` characters or bytes.
pub(super) fn lower(value: &Physical, primitive: PrimitiveType, length: Option<usize>) -> Option<Vec<u8>> {
    match (primitive, value) {
        (PrimitiveType::String, Physical::Bytes(bytes)) => {
            let text = valid_prefix(bytes);
            let end = end_of(text, length).unwrap_or(text.len());
            text.as_bytes().get(..end).map(<[u8]>::to_vec)
        }
        (PrimitiveType::Binary | PrimitiveType::Fixed(_), Physical::Bytes(bytes)) => {
            fits(bytes, primitive)?;
            let end = length.map_or(bytes.len(), |length| length.min(bytes.len()));
            bytes.get(..end).map(<[u8]>::to_vec)
        }
        _ => number(value, primitive, -0.0),
    }
}

/// The bytes of an upper bound, of at most `length` characters or bytes; `None` if there is none that short.
pub(super) fn upper(value: &Physical, primitive: PrimitiveType, length: Option<usize>) -> Option<Vec<u8>> {
    match (primitive, value) {
        (PrimitiveType::String, Physical::Bytes(bytes)) => {
            let text = valid_prefix(bytes);
            match end_of(text, length) {
                Some(end) => text_after(text.get(..end)?),
                // What Parquet has cut within a character, and moved up by a byte, is no text: the next text is.
                None if text.len() < bytes.len() => text_after(text),
                None => Some(bytes.clone()),
            }
        }
        (PrimitiveType::Binary | PrimitiveType::Fixed(_), Physical::Bytes(bytes)) => {
            fits(bytes, primitive)?;
            match length.filter(|length| *length < bytes.len()) {
                Some(length) => bytes_after(bytes.get(..length)?),
                None => Some(bytes.clone()),
            }
        }
        _ => number(value, primitive, 0.0),
    }
}

/// Numbers are not shortened; zero takes the sign that includes both zeros.
fn number(value: &Physical, primitive: PrimitiveType, zero: f32) -> Option<Vec<u8>> {
    let datum = match (primitive, value) {
        (PrimitiveType::Boolean, Physical::Boolean(value)) => Datum::Boolean(*value),
        (PrimitiveType::Int | PrimitiveType::Date, Physical::Int32(value)) => Datum::Int(*value),
        (
            PrimitiveType::Long
            | PrimitiveType::Time
            | PrimitiveType::Timestamp
            | PrimitiveType::Timestamptz
            | PrimitiveType::TimestampNs
            | PrimitiveType::TimestamptzNs,
            Physical::Int64(value),
        ) => Datum::Long(*value),
        (PrimitiveType::Float, Physical::Float(value)) if value.is_nan() => return None,
        (PrimitiveType::Double, Physical::Double(value)) if value.is_nan() => return None,
        (PrimitiveType::Float, Physical::Float(value)) => Datum::Float(if *value == 0.0 { zero } else { *value }),
        (PrimitiveType::Double, Physical::Double(value)) => {
            Datum::Double(if *value == 0.0 { zero.into() } else { *value })
        }
        (PrimitiveType::Decimal { .. }, Physical::Int32(unscaled)) => Datum::Decimal((*unscaled).into()),
        (PrimitiveType::Decimal { .. }, Physical::Int64(unscaled)) => Datum::Decimal((*unscaled).into()),
        (PrimitiveType::Decimal { .. }, Physical::Bytes(bytes)) => Datum::Decimal(from_big_endian(bytes)?),
        // None for uuids: Java compares them as signed numbers, the specification as bytes.
        _ => return None,
    };
    datum.bytes_as(primitive)
}

/// Parquet may have cut a `fixed`, but not made it longer.
fn fits(bytes: &[u8], primitive: PrimitiveType) -> Option<()> {
    match primitive {
        PrimitiveType::Fixed(size) => (u64::try_from(bytes.len()).ok()? <= size).then_some(()),
        _ => Some(()),
    }
}

/// The longest text that `bytes` start with. It is not greater than `bytes`.
fn valid_prefix(bytes: &[u8]) -> &str {
    match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => bytes
            .get(..error.valid_up_to())
            .and_then(|valid| str::from_utf8(valid).ok())
            .unwrap_or_default(),
    }
}

/// Where `text` has to be cut to have `length` characters, `None` if it has no more.
fn end_of(text: &str, length: Option<usize>) -> Option<usize> {
    text.char_indices().nth(length?).map(|(end, _)| end)
}

/// The least text of no more characters that is greater than all that start with `prefix`: its last character that
/// has a successor gives way to it.
fn text_after(prefix: &str) -> Option<Vec<u8>> {
    prefix.char_indices().rev().find_map(|(start, last)| {
        // A range of characters leaves out the surrogates.
        let next = (last..=char::MAX).nth(1)?;
        let mut text = prefix.get(..start)?.to_owned();
        text.push(next);
        Some(text.into_bytes())
    })
}

/// As [`text_after`], for bytes.
fn bytes_after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut bytes = prefix.get(..=last)?.to_vec();
    if let Some(byte) = bytes.last_mut() {
        *byte += 1;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn text_bounds(bytes: &[u8], length: usize) -> (Option<String>, Option<String>) {
        let value = Physical::Bytes(bytes.to_vec());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            lower(&value, PrimitiveType::String, Some(length)).map(text),
            upper(&value, PrimitiveType::String, Some(length)).map(text),
        )
    }

    #[test]
    fn texts_are_cut_by_characters_and_moved_up_past_surrogates() {
        let some = |lower: &str, upper: &str| (Some(lower.to_owned()), Some(upper.to_owned()));
        let of = |text: &str, length| text_bounds(text.as_bytes(), length);
        assert_eq!(of("abc", 3), some("abc", "abc"));
        assert_eq!(of("abcd", 3), some("abc", "abd"));
        assert_eq!(of("éééé", 3), some("ééé", "ééê"));
        assert_eq!(of("a\u{D7FF}b", 2), some("a\u{D7FF}", "a\u{E000}"));
        assert_eq!(of("a\u{10FFFF}b", 2), some("a\u{10FFFF}", "b"));
        let top = "\u{10FFFF}";
        assert_eq!(of(&top.repeat(3), 2), (Some(top.repeat(2)), None));
        assert_eq!(of("", 2), some("", ""));
    }

    #[test]
    fn what_parquet_has_cut_within_a_character_becomes_a_text() {
        assert_eq!(
            text_bounds(&[b'a', b'b', 0xC3], 16),
            (Some("ab".to_owned()), Some("ac".to_owned()))
        );
        assert_eq!(text_bounds(&[0xFF, b'b'], 16), (Some(String::new()), None));
    }

    #[test]
    fn bytes_are_cut_and_moved_up() {
        let of = |bytes: &[u8]| {
            let value = Physical::Bytes(bytes.to_vec());
            let primitive = PrimitiveType::Binary;
            (lower(&value, primitive, Some(2)), upper(&value, primitive, Some(2)))
        };
        assert_eq!(of(&[1, 2]), (Some(vec![1, 2]), Some(vec![1, 2])));
        assert_eq!(of(&[1, 2, 3]), (Some(vec![1, 2]), Some(vec![1, 3])));
        assert_eq!(of(&[1, 0xFF, 3]), (Some(vec![1, 0xFF]), Some(vec![2])));
        assert_eq!(of(&[0xFF, 0xFF, 3]), (Some(vec![0xFF, 0xFF]), None));
        let long = Physical::Bytes(vec![1; 3]);
        assert_eq!(lower(&long, PrimitiveType::Fixed(2), None), None);
        assert_eq!(upper(&long, PrimitiveType::Fixed(2), None), None);
    }

    #[test]
    fn numbers_take_the_bytes_of_their_types() {
        let both = |value: Physical, primitive| (lower(&value, primitive, Some(1)), upper(&value, primitive, Some(1)));
        let same = |bytes: &[u8]| (Some(bytes.to_vec()), Some(bytes.to_vec()));
        let decimal = PrimitiveType::Decimal {
            precision: 38,
            scale: 2,
        };
        for (value, primitive, bytes) in [
            (Physical::Boolean(false), PrimitiveType::Boolean, &[0][..]),
            (Physical::Int32(1), PrimitiveType::Int, &[1, 0, 0, 0]),
            (Physical::Int32(-1), PrimitiveType::Date, &[0xFF; 4]),
            (Physical::Int64(1), PrimitiveType::Time, &[1, 0, 0, 0, 0, 0, 0, 0]),
            (
                Physical::Int64(2),
                PrimitiveType::TimestamptzNs,
                &[2, 0, 0, 0, 0, 0, 0, 0],
            ),
            (Physical::Int32(-129), decimal, &[0xFF, 0x7F]),
            (Physical::Int64(128), decimal, &[0, 0x80]),
            (Physical::Bytes(vec![0, 0, 0, 7]), decimal, &[7]),
            (Physical::Float(1.0), PrimitiveType::Float, &[0, 0, 0x80, 0x3F]),
        ] {
            assert_eq!(both(value, primitive), same(bytes), "{primitive:?}");
        }
        let zeros = (Some(vec![0, 0, 0, 0x80]), Some(vec![0, 0, 0, 0]));
        assert_eq!(both(Physical::Float(-0.0), PrimitiveType::Float), zeros);
        assert_eq!(both(Physical::Float(0.0), PrimitiveType::Float), zeros);
    }

    #[test]
    fn values_that_do_not_fit_the_type_have_no_bounds() {
        for (value, primitive) in [
            (Physical::Int32(1), PrimitiveType::Long),
            (Physical::Int32(1), PrimitiveType::Time),
            (Physical::Int64(1), PrimitiveType::Int),
            (Physical::Float(1.0), PrimitiveType::Double),
            (Physical::Float(f32::NAN), PrimitiveType::Float),
            (Physical::Double(f64::NAN), PrimitiveType::Double),
            (Physical::Bytes(vec![1; 16]), PrimitiveType::Uuid),
            (Physical::Bytes(vec![1; 4]), PrimitiveType::Int),
            (Physical::Int64(1), PrimitiveType::String),
        ] {
            assert_eq!(lower(&value, primitive, None), None, "{primitive:?}");
            assert_eq!(upper(&value, primitive, None), None, "{primitive:?}");
        }
    }

    proptest! {
        #[test]
        fn bounds_of_a_text_hold_all_texts_that_start_as_it(text: String, more: String, length in 1_usize..20) {
            let (least, greatest) = text_bounds(text.as_bytes(), length);
            let least = least.unwrap();
            prop_assert!(least <= text && least.chars().count() <= length);
            if let Some(greatest) = greatest {
                prop_assert!(greatest >= text && greatest.chars().count() <= length);
                if text.chars().count() > length {
                    let longer = least + &more;
                    prop_assert!(greatest > longer);
                }
            } else {
                prop_assert!(least.chars().all(|c| c == char::MAX));
            }
        }

        #[test]
        fn bounds_of_any_bytes_hold_as_texts(bytes in vec(any::<u8>(), 0..24), length in 1_usize..20) {
            let (least, greatest) = text_bounds(&bytes, length);
            prop_assert!(least.unwrap().as_bytes() <= bytes.as_slice());
            if let Some(greatest) = greatest {
                prop_assert!(greatest.as_bytes() >= bytes.as_slice());
            }
        }

        #[test]
        fn bounds_of_bytes_hold_all_that_start_as_they(bytes in vec(any::<u8>(), 0..24), more in vec(any::<u8>(), 0..4), length in 1_usize..20) {
            let value = Physical::Bytes(bytes.clone());
            let least = lower(&value, PrimitiveType::Binary, Some(length)).unwrap();
            prop_assert!(least <= bytes);
            if let Some(greatest) = upper(&value, PrimitiveType::Binary, Some(length)) {
                prop_assert!(greatest >= bytes);
                if bytes.len() > length {
                    prop_assert!(greatest > [least, more].concat());
                }
            }
        }
    }
}
