//! Single values: partition values and bounds (Iceberg specification, appendix D).

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
