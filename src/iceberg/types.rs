//! The types of columns (Iceberg specification, "Schemas and Data Types").

use std::fmt;

use super::schema::NestedField;
use super::version::FormatVersion;

/// The type of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// A single value.
    Primitive(PrimitiveType),
    /// Named fields.
    Struct(StructType),
    /// Values of one type.
    List(Box<ListType>),
    /// Keys and values.
    Map(Box<MapType>),
}

impl Type {
    /// The type, if it has no parts.
    pub fn as_primitive(&self) -> Option<PrimitiveType> {
        match self {
            Self::Primitive(primitive) => Some(*primitive),
            Self::Struct(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The fields right below, in the order of their columns in a file.
    pub(super) fn children(&self) -> Vec<&NestedField> {
        match self {
            Self::Primitive(_) => Vec::new(),
            Self::Struct(parts) => parts.fields.iter().collect(),
            Self::List(list) => vec![&list.element],
            Self::Map(map) => vec![&map.key, &map.value],
        }
    }
}

impl From<PrimitiveType> for Type {
    fn from(primitive: PrimitiveType) -> Self {
        Self::Primitive(primitive)
    }
}

/// A type without parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PrimitiveType {
    /// `boolean`.
    Boolean,
    /// `int`, 32 bits.
    Int,
    /// `long`, 64 bits.
    Long,
    /// `float`, 32 bits.
    Float,
    /// `double`, 64 bits.
    Double,
    /// `decimal(P,S)`.
    Decimal {
        /// Digits, at most 38.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// `date`, days since 1970.
    Date,
    /// `time`, microseconds since midnight.
    Time,
    /// `timestamp`, microseconds, local time.
    Timestamp,
    /// `timestamptz`, microseconds, UTC.
    Timestamptz,
    /// `timestamp_ns` of v3.
    TimestampNs,
    /// `timestamptz_ns` of v3.
    TimestamptzNs,
    /// `string`.
    String,
    /// `uuid`, 16 bytes.
    Uuid,
    /// `fixed[L]`.
    Fixed(u64),
    /// `binary`.
    Binary,
}

impl PrimitiveType {
    /// Reads a type string (Iceberg specification, appendix C, "Schemas"); `None` for what is not known here,
    /// such as `variant`, `geometry` and `unknown`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        Some(match text.as_str() {
            "binary" => Self::Binary,
            "boolean" => Self::Boolean,
            "date" => Self::Date,
            "double" => Self::Double,
            "float" => Self::Float,
            "int" => Self::Int,
            "long" => Self::Long,
            "string" => Self::String,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "timestamp_ns" => Self::TimestampNs,
            "timestamptz" => Self::Timestamptz,
            "timestamptz_ns" => Self::TimestamptzNs,
            "uuid" => Self::Uuid,
            text => {
                if let Some(length) = argument(text, "fixed", '[', ']') {
                    // No reader holds more in one value.
                    let length = length.trim().parse::<u64>().ok();
                    return length.filter(|n| i32::try_from(*n).is_ok()).map(Self::Fixed);
                }
                let (precision, scale) = argument(text, "decimal", '(', ')')?.split_once(',')?;
                let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
                ((1..=38).contains(&precision) && scale <= precision).then_some(Self::Decimal { precision, scale })?
            }
        })
    }

    /// The first version of the format that has this type.
    pub fn since(self) -> FormatVersion {
        match self {
            Self::TimestampNs | Self::TimestamptzNs => FormatVersion::V3,
            _ => FormatVersion::V1,
        }
    }
}

/// What stands between the brackets of `name(argument)`.
pub(super) fn argument<'a>(text: &'a str, name: &str, open: char, close: char) -> Option<&'a str> {
    text.strip_prefix(name)?
        .trim_start()
        .strip_prefix(open)?
        .strip_suffix(close)
}

/// The type string of the specification.
impl fmt::Display for PrimitiveType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Decimal { precision, scale } => return write!(f, "decimal({precision},{scale})"),
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::Timestamptz => "timestamptz",
            Self::TimestampNs => "timestamp_ns",
            Self::TimestamptzNs => "timestamptz_ns",
            Self::String => "string",
            Self::Uuid => "uuid",
            Self::Fixed(length) => return write!(f, "fixed[{length}]"),
            Self::Binary => "binary",
        })
    }
}

/// A struct.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StructType {
    /// Its fields, in order.
    pub fields: Vec<NestedField>,
}

/// A list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListType {
    /// The element, named `element`.
    pub element: NestedField,
}

/// A map.
#[derive(Clone, Debug, PartialEq)]
pub struct MapType {
    /// The key, named `key`, always required.
    pub key: NestedField,
    /// The value, named `value`.
    pub value: NestedField,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_strings_round_trip() {
        for text in [
            "boolean",
            "int",
            "long",
            "float",
            "double",
            "decimal(9,2)",
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "timestamp_ns",
            "timestamptz_ns",
            "string",
            "uuid",
            "fixed[16]",
            "binary",
        ] {
            assert_eq!(PrimitiveType::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn blanks_around_parameters_are_taken() {
        let decimal = PrimitiveType::Decimal { precision: 9, scale: 2 };
        for text in ["decimal(9, 2)", "decimal( 9 , 2 )", "Decimal(9,2)"] {
            assert_eq!(PrimitiveType::parse(text), Some(decimal), "{text}");
        }
        assert_eq!(PrimitiveType::parse("fixed[ 3 ]"), Some(PrimitiveType::Fixed(3)));
    }

    #[test]
    fn types_that_are_not_known_or_not_possible_are_none() {
        for text in [
            "variant",
            "unknown",
            "geometry(srid:4326)",
            "decimal(39,0)",
            "decimal(0,0)",
            "decimal(2,3)",
            "decimal(9,-1)",
            "decimal(9)",
            "fixed[-1]",
            "fixed[4294967296]",
            "fixed",
            "",
        ] {
            assert_eq!(PrimitiveType::parse(text), None, "{text}");
        }
    }
}
