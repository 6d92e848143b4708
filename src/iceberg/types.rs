//! The types of columns (Iceberg specification, "Schemas and Data Types").

use super::schema::NestedField;

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
