//! Avro's binary encoding of single values (Avro specification, "Binary Encoding").

use super::error::AvroError;
use super::schema::AvroType;
use super::value::{Record, Value};

/// Decodes values out of bytes that somebody else has written.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    values_left: usize,
}

/// No record of Iceberg's has as many values; one that declares more wants the memory, not the values.
const MAX_VALUES: usize = 1 << 22;

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            values_left: MAX_VALUES,
        }
    }

    /// The bytes after those that have been decoded.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next value, which is of the type `avro_type`.
    pub(super) fn value(&mut self, avro_type: &AvroType) -> Result<Value, AvroError> {
        self.values_left = self.values_left.checked_sub(1).ok_or(AvroError::TooLarge {
            what: "values of a record",
            limit: MAX_VALUES,
        })?;
        Ok(match avro_type {
            AvroType::Null => Value::Null,
            AvroType::Boolean => match self.take(1)? {
                [0] => Value::Boolean(false),
                [1] => Value::Boolean(true),
                _ => return Err(damaged("a boolean is neither 0 nor 1")),
            },
            AvroType::Int | AvroType::Enum => {
                let value = self.long()?;
                i32::try_from(value).map_err(|_| damaged("an int has more than 32 bits"))?;
                Value::Long(value)
            }
            AvroType::Long => Value::Long(self.long()?),
            AvroType::Float => Value::Float(f32::from_le_bytes(self.array()?)),
            AvroType::Double => Value::Double(f64::from_le_bytes(self.array()?)),
            AvroType::Bytes => Value::Bytes(self.sized()?.to_vec()),
            AvroType::Fixed(size) => Value::Bytes(self.take(*size)?.to_vec()),
            AvroType::String => Value::String(self.text()?),
            AvroType::Union(variants) => {
                let variant = usize::try_from(self.long()?).ok();
                let variant = variant.and_then(|index| variants.get(index));
                self.value(variant.ok_or(damaged("a union has no such variant"))?)?
            }
            AvroType::Array(items) => {
                let mut values = Vec::new();
                self.blocks(|decoder| {
                    values.push(decoder.value(items)?);
                    Ok(())
                })?;
                Value::Array(values)
            }
            // Iceberg's maps are arrays of records; what has text keys is a foreign column, which nobody asks for.
            AvroType::Map(values) => {
                self.blocks(|decoder| {
                    decoder.text()?;
                    decoder.value(values).map(|_| ())
                })?;
                Value::Null
            }
            AvroType::Record(fields) => {
                let mut record = Record::with_capacity(fields.len());
                for field in fields {
                    let value = self.value(&field.field_type)?;
                    if let Some(id) = field.id {
                        record.push(id, value);
                    }
                }
                Value::Record(record)
            }
        })
    }

    /// Calls `item` for each item of an array or a map, which come in counted blocks.
    pub(super) fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), AvroError>) -> Result<(), AvroError> {
        loop {
            let mut count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // The size of the block follows, for those who skip it.
                self.long()?;
                count = count.checked_neg().ok_or(damaged("a count is out of range"))?;
            }
            for _ in 0..count {
                item(self)?;
            }
        }
    }

    pub(super) fn long(&mut self) -> Result<i64, AvroError> {
        let mut zigzag = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                break;
            }
            zigzag |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
            }
        }
        Err(damaged("a number has more than 64 bits"))
    }

    /// Bytes after their length.
    pub(super) fn sized(&mut self) -> Result<&'a [u8], AvroError> {
        let length = usize::try_from(self.long()?).map_err(|_| damaged("a length is out of range"))?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<String, AvroError> {
        let text = str::from_utf8(self.sized()?).map_err(|_| damaged("a text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], AvroError> {
        let (array, rest) = self.bytes.split_first_chunk().ok_or(CUT)?;
        self.bytes = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], AvroError> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(CUT)?;
        self.bytes = rest;
        Ok(taken)
    }
}

/// Appends `value` to `out` as `avro_type` says.
pub(super) fn encode(avro_type: &AvroType, value: &Value, out: &mut Vec<u8>) -> Result<(), AvroError> {
    match (avro_type, value) {
        (AvroType::Null, Value::Null) => {}
        (AvroType::Boolean, Value::Boolean(value)) => out.push((*value).into()),
        (AvroType::Int, Value::Long(value)) => {
            i32::try_from(*value).map_err(|_| unwritable("an int has more than 32 bits"))?;
            encode_long(*value, out);
        }
        (AvroType::Long, Value::Long(value)) => encode_long(*value, out),
        (AvroType::Float, Value::Float(value)) => out.extend(value.to_le_bytes()),
        (AvroType::Double, Value::Double(value)) => out.extend(value.to_le_bytes()),
        (AvroType::Bytes, Value::Bytes(bytes)) => encode_sized(bytes, out),
        (AvroType::Fixed(size), Value::Bytes(bytes)) if bytes.len() == *size => out.extend(bytes),
        (AvroType::String, Value::String(text)) => encode_sized(text.as_bytes(), out),
        (AvroType::Union(variants), value) => {
            let variant = variants
                .iter()
                .enumerate()
                .find(|(_, variant)| matches!(variant.as_ref(), AvroType::Null) == (*value == Value::Null));
            let (index, variant) = variant.ok_or(unwritable("a union has no variant for it"))?;
            encode_length(index, out);
            encode(variant, value, out)?;
        }
        (AvroType::Array(items), Value::Array(values)) => {
            if !values.is_empty() {
                encode_length(values.len(), out);
                for value in values {
                    encode(items, value, out)?;
                }
            }
            out.push(0);
        }
        (AvroType::Record(fields), Value::Record(record)) => {
            for field in fields {
                let value = field.id.and_then(|id| record.get(id)).unwrap_or(&Value::Null);
                encode(&field.field_type, value, out)?;
            }
        }
        _ => return Err(unwritable("it is of another type")),
    }
    Ok(())
}

/// Appends bytes after their length.
pub(super) fn encode_sized(bytes: &[u8], out: &mut Vec<u8>) {
    encode_length(bytes.len(), out);
    out.extend(bytes);
}

pub(super) fn encode_length(length: usize, out: &mut Vec<u8>) {
    // No allocation is larger than what an `i64` counts.
    encode_long(i64::try_from(length).unwrap_or(i64::MAX), out);
}

fn encode_long(value: i64, out: &mut Vec<u8>) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    loop {
        let [byte, ..] = zigzag.to_le_bytes();
        zigzag >>= 7;
        if zigzag == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

const CUT: AvroError = damaged("a value is longer than what is there");

pub(super) const fn damaged(what: &'static str) -> AvroError {
    AvroError::Damaged { what }
}

const fn unwritable(what: &'static str) -> AvroError {
    AvroError::Unwritable { what }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn numbers_are_those_of_the_specification() {
        for (number, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (-64, &[0x7F]),
            (64, &[0x80, 0x01]),
            (i64::MAX, &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
            (i64::MIN, &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
        ] {
            let mut out = Vec::new();
            encode_long(number, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(Decoder::new(bytes).long().unwrap(), number);
        }
        assert!(Decoder::new(&[0xFF; 11]).long().is_err());
        assert!(Decoder::new(&[0x80]).long().is_err());
    }

    #[test]
    fn cut_values_are_errors_and_never_null() {
        let optional = AvroType::Union(vec![Arc::new(AvroType::Null), Arc::new(AvroType::String)]);
        for bytes in [&[][..], &[0x02], &[0x02, 0x04, b'a'], &[0x04]] {
            assert!(Decoder::new(bytes).value(&optional).is_err(), "{bytes:?}");
        }
        assert!(Decoder::new(&[]).value(&AvroType::Boolean).is_err());
        assert!(Decoder::new(&[2]).value(&AvroType::Boolean).is_err());
    }

    #[test]
    fn declared_sizes_are_not_believed() {
        let mut huge = Vec::new();
        encode_long(i64::MAX, &mut huge);
        let array = |items| AvroType::Array(Arc::new(items));
        for avro_type in [
            array(AvroType::Null),
            array(AvroType::Long),
            AvroType::Bytes,
            AvroType::String,
        ] {
            assert!(Decoder::new(&huge).value(&avro_type).is_err(), "{avro_type:?}");
        }
        assert!(Decoder::new(&huge).value(&AvroType::Fixed(usize::MAX)).is_err());
        let mut negative = Vec::new();
        encode_long(i64::MIN, &mut negative);
        negative.push(0);
        assert!(Decoder::new(&negative).value(&array(AvroType::Null)).is_err());
    }

    #[test]
    fn blocks_with_a_size_are_read() {
        let bytes = [0x03, 0x04, 0x02, 0x04, 0x02, 0x06, 0x00];
        let value = Decoder::new(&bytes).value(&AvroType::Array(Arc::new(AvroType::Int)));
        assert_eq!(
            value.unwrap(),
            Value::Array(vec![Value::Long(1), Value::Long(2), Value::Long(3)])
        );
    }
}
