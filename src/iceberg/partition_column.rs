//! Partition values in manifests: their Avro types, names and values.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::avro::Value;
use super::datum::{Datum, from_big_endian};
use super::types::PrimitiveType;
use crate::data_file::Datum as FileDatum;

/// A field of a partition spec as manifests see it: its id, its name, and the type of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionColumn {
    /// The id of the partition field, 1000 and up.
    pub field_id: i32,
    /// The name of the partition field.
    pub name: String,
    /// What the transform results in; `date` for `day`.
    pub primitive: PrimitiveType,
}

impl PartitionColumn {
    /// The value that a file holds, `None` if it is of another type. Types that have been promoted since are those
    /// of this column afterwards.
    pub(super) fn datum(&self, value: Value) -> Option<Datum> {
        Some(match (self.primitive, value) {
            (PrimitiveType::Boolean, Value::Boolean(value)) => Datum::Boolean(value),
            (PrimitiveType::Int | PrimitiveType::Date, Value::Long(value)) => Datum::Int(value.try_into().ok()?),
            (
                PrimitiveType::Long
                | PrimitiveType::Time
                | PrimitiveType::Timestamp
                | PrimitiveType::Timestamptz
                | PrimitiveType::TimestampNs
                | PrimitiveType::TimestamptzNs,
                Value::Long(value),
            ) => Datum::Long(value),
            (PrimitiveType::Float, Value::Float(value)) => Datum::Float(value),
            (PrimitiveType::Double, Value::Double(value)) => Datum::Double(value),
            (PrimitiveType::Double, Value::Float(value)) => Datum::Double(value.into()),
            (PrimitiveType::Decimal { .. }, Value::Bytes(bytes)) => Datum::Decimal(from_big_endian(&bytes)?),
            (PrimitiveType::String, Value::String(text)) => Datum::String(text),
            (PrimitiveType::Uuid, Value::Bytes(bytes)) if bytes.len() == 16 => Datum::Bytes(bytes),
            // Written by those who take Avro's own uuid, which is text.
            (PrimitiveType::Uuid, Value::String(text)) => {
                Datum::Bytes(Uuid::try_parse(&text).ok()?.as_bytes().to_vec())
            }
            (PrimitiveType::Fixed(_) | PrimitiveType::Binary, Value::Bytes(bytes)) => Datum::Bytes(bytes),
            _ => return None,
        })
    }

    /// The value that a data file was written for, `None` if it is of another type.
    pub(super) fn of_file(&self, value: &FileDatum) -> Option<Datum> {
        let datum = match (self.primitive, value) {
            (_, FileDatum::Boolean(value)) => Datum::Boolean(*value),
            (_, FileDatum::Int32(value)) => Datum::Int(*value),
            (_, FileDatum::Int64(value)) => Datum::Long(*value),
            (_, FileDatum::Float(value)) => Datum::Float(*value),
            (_, FileDatum::Double(value)) => Datum::Double(*value),
            (PrimitiveType::Decimal { .. }, FileDatum::Bytes(bytes)) => Datum::Decimal(from_big_endian(bytes)?),
            (PrimitiveType::String, FileDatum::Bytes(bytes)) => Datum::String(String::from_utf8(bytes.clone()).ok()?),
            (_, FileDatum::Bytes(bytes)) => Datum::Bytes(bytes.clone()),
        };
        datum.is_of(self.primitive).then_some(datum)
    }

    /// The value as a file holds it, `None` if it is not one of this column.
    pub(super) fn value(&self, datum: &Datum) -> Option<Value> {
        Some(match (self.primitive, datum) {
            (PrimitiveType::Boolean, Datum::Boolean(value)) => Value::Boolean(*value),
            (PrimitiveType::Int | PrimitiveType::Date, Datum::Int(value)) => Value::Long((*value).into()),
            (
                PrimitiveType::Long
                | PrimitiveType::Time
                | PrimitiveType::Timestamp
                | PrimitiveType::Timestamptz
                | PrimitiveType::TimestampNs
                | PrimitiveType::TimestamptzNs,
                Datum::Long(value),
            ) => Value::Long(*value),
            (PrimitiveType::Float, Datum::Float(value)) => Value::Float(*value),
            (PrimitiveType::Double, Datum::Double(value)) => Value::Double(*value),
            (PrimitiveType::Decimal { precision, .. }, Datum::Decimal(unscaled)) => {
                Value::Bytes(sized_big_endian(*unscaled, decimal_size(precision))?)
            }
            (PrimitiveType::String, Datum::String(text)) => Value::String(text.clone()),
            (PrimitiveType::Uuid, Datum::Bytes(bytes)) if bytes.len() == 16 => Value::Bytes(bytes.clone()),
            (PrimitiveType::Fixed(size), Datum::Bytes(bytes)) if u64::try_from(bytes.len()) == Ok(size) => {
                Value::Bytes(bytes.clone())
            }
            (PrimitiveType::Binary, Datum::Bytes(bytes)) => Value::Bytes(bytes.clone()),
            _ => return None,
        })
    }
}

/// The fields of the Avro record of partition values.
pub(super) fn avro_fields(columns: &[PartitionColumn]) -> Vec<Json> {
    let mut names = BTreeSet::new();
    let mut types = BTreeSet::new();
    columns
        .iter()
        .map(|column| {
            let id = column.field_id;
            let name = once(avro_name(&column.name), id, &mut names);
            // PyIceberg does not look types up by their names, so that each is defined where it stands.
            let avro_type = avro_type(column.primitive, |name| once(name, id, &mut types));
            let mut field = json!({"name": name, "type": ["null", avro_type], "default": null, "field-id": id});
            if name != column.name
                && let Some(field) = field.as_object_mut()
            {
                field.insert("iceberg-field-name".to_owned(), json!(column.name));
            }
            field
        })
        .collect()
}

/// `name`, with the id of its field behind it if it is already taken.
fn once(mut name: String, field_id: i32, taken: &mut BTreeSet<String>) -> String {
    if taken.contains(&name) {
        let _ = write!(name, "_r{field_id}");
    }
    taken.insert(name.clone());
    name
}

/// The Avro type (Iceberg specification, "Data Type Mappings" of Avro), whose name, if it has one, is `name`.
fn avro_type(primitive: PrimitiveType, mut name: impl FnMut(String) -> String) -> Json {
    let long = |logical: &str, utc: bool| json!({"type": "long", "logicalType": logical, "adjust-to-utc": utc});
    match primitive {
        PrimitiveType::Boolean => json!("boolean"),
        PrimitiveType::Int => json!("int"),
        PrimitiveType::Long => json!("long"),
        PrimitiveType::Float => json!("float"),
        PrimitiveType::Double => json!("double"),
        PrimitiveType::Decimal { precision, scale } => json!({
            "type": "fixed", "name": name(format!("decimal_{precision}_{scale}")), "size": decimal_size(precision),
            "logicalType": "decimal", "precision": precision, "scale": scale,
        }),
        PrimitiveType::Date => json!({"type": "int", "logicalType": "date"}),
        PrimitiveType::Time => json!({"type": "long", "logicalType": "time-micros"}),
        PrimitiveType::Timestamp => long("timestamp-micros", false),
        PrimitiveType::Timestamptz => long("timestamp-micros", true),
        PrimitiveType::TimestampNs => long("timestamp-nanos", false),
        PrimitiveType::TimestamptzNs => long("timestamp-nanos", true),
        PrimitiveType::String => json!("string"),
        PrimitiveType::Uuid => {
            json!({"type": "fixed", "name": name("uuid_fixed".to_owned()), "size": 16, "logicalType": "uuid"})
        }
        PrimitiveType::Fixed(size) => json!({"type": "fixed", "name": name(format!("fixed_{size}")), "size": size}),
        PrimitiveType::Binary => json!("bytes"),
    }
}

/// A name that Avro allows: what is no letter, digit or `_` becomes `_x` and its UTF-16 code, a leading digit
/// follows a `_`, as Java does. Letters outside ASCII, which Java keeps, are replaced too: Avro does not allow them.
fn avro_name(name: &str) -> String {
    let mut avro = String::with_capacity(name.len());
    for unit in name.encode_utf16() {
        match u8::try_from(unit).map(char::from) {
            Ok(char) if char.is_ascii_alphabetic() || char == '_' => avro.push(char),
            Ok(char) if char.is_ascii_digit() => {
                if avro.is_empty() {
                    avro.push('_');
                }
                avro.push(char);
            }
            _ => {
                let _ = write!(avro, "_x{unit:X}");
            }
        }
    }
    if avro.is_empty() { "_".to_owned() } else { avro }
}

/// Bytes that hold every number of `precision` digits.
fn decimal_size(precision: u8) -> usize {
    let greatest = 10_u128.saturating_pow(precision.into()) - 1;
    let bits = 128 - greatest.leading_zeros() + 1;
    usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX)
}

fn sized_big_endian(unscaled: i128, size: usize) -> Option<Vec<u8>> {
    let bytes = unscaled.to_be_bytes();
    let start = bytes.len().checked_sub(size)?;
    let bytes = bytes.get(start..)?;
    (from_big_endian(bytes) == Some(unscaled)).then(|| bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_what_avro_allows() {
        for (name, avro) in [
            ("day", "day"),
            ("a b", "a_x20b"),
            ("a.b", "a_x2Eb"),
            ("9lives", "_9lives"),
            ("a9", "a9"),
            ("_x", "_x"),
            ("é", "_xE9"),
            ("☃", "_x2603"),
            ("😎", "_xD83D_xDE0E"),
            ("", "_"),
        ] {
            assert_eq!(avro_name(name), avro);
        }
    }

    #[test]
    fn decimals_take_the_bytes_that_java_takes() {
        let sizes = [
            (1, 1),
            (2, 1),
            (3, 2),
            (4, 2),
            (5, 3),
            (9, 4),
            (10, 5),
            (18, 8),
            (19, 9),
            (38, 16),
        ];
        for (precision, size) in sizes {
            assert_eq!(decimal_size(precision), size, "{precision}");
        }
        assert_eq!(sized_big_endian(-2, 4), Some(vec![0xFF, 0xFF, 0xFF, 0xFE]));
        assert_eq!(sized_big_endian(128, 1), None);
        assert_eq!(sized_big_endian(127, 1), Some(vec![127]));
    }

    #[test]
    fn fields_and_types_that_would_meet_are_told_apart() {
        let column = |field_id, name: &str, primitive| PartitionColumn {
            field_id,
            name: name.to_owned(),
            primitive,
        };
        let fields = avro_fields(&[
            column(1000, "a b", PrimitiveType::Uuid),
            column(1001, "a_x20b", PrimitiveType::Uuid),
        ]);
        let uuid = |name: &str| json!({"type": "fixed", "name": name, "size": 16, "logicalType": "uuid"});
        assert_eq!(
            fields,
            [
                json!({"name": "a_x20b", "type": ["null", uuid("uuid_fixed")], "default": null, "field-id": 1000, "iceberg-field-name": "a b"}),
                json!({"name": "a_x20b_r1001", "type": ["null", uuid("uuid_fixed_r1001")], "default": null, "field-id": 1001, "iceberg-field-name": "a_x20b"}),
            ]
        );
    }

    #[test]
    fn values_come_back_as_they_were() {
        for (primitive, datum) in [
            (PrimitiveType::Boolean, Datum::Boolean(true)),
            (PrimitiveType::Int, Datum::Int(-1)),
            (PrimitiveType::Date, Datum::Int(20_000)),
            (PrimitiveType::Long, Datum::Long(i64::MIN)),
            (PrimitiveType::Float, Datum::Float(1.5)),
            (PrimitiveType::Double, Datum::Double(-0.0)),
            (
                PrimitiveType::Decimal {
                    precision: 38,
                    scale: 2,
                },
                Datum::Decimal(-12345),
            ),
            (PrimitiveType::String, Datum::String("ü".to_owned())),
            (PrimitiveType::Uuid, Datum::Bytes(vec![1; 16])),
            (PrimitiveType::Fixed(2), Datum::Bytes(vec![1, 2])),
            (PrimitiveType::Binary, Datum::Bytes(Vec::new())),
        ] {
            let column = PartitionColumn {
                field_id: 1000,
                name: "p".to_owned(),
                primitive,
            };
            let value = column.value(&datum).unwrap();
            assert_eq!(column.datum(value), Some(datum));
        }
        let column = PartitionColumn {
            field_id: 1000,
            name: "p".to_owned(),
            primitive: PrimitiveType::Uuid,
        };
        let text = "00010203-0405-0607-0809-0a0b0c0d0e0f".to_owned();
        assert_eq!(column.datum(Value::String(text)), Some(Datum::Bytes((0..16).collect())));
        assert_eq!(column.value(&Datum::Bytes(vec![1])), None);
    }
}
