//! What merging hands to a table: files, and what is known of their columns.

use serde::{Deserialize, Serialize};

/// A finished Parquet file with what a table format wants to know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataFile {
    /// Where it lies in the table's object store.
    pub path: String,
    /// Exact bytes.
    pub size: u64,
    /// Rows, from the footer that was written.
    pub rows: u64,
    /// One entry per leaf column, in schema order.
    pub columns: Vec<ColumnMetrics>,
    /// Where each row group starts.
    pub split_offsets: Vec<u64>,
    /// Whether its rows are in the plan's sort order.
    pub sorted: bool,
    /// The one partition that all its rows belong to; `None` where the table is not partitioned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<FilePartition>,
}

/// The partition of a file, and the way of partitioning that it was made for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilePartition {
    /// The [`id`](crate::Partitioner::id) of the partitioner.
    pub spec: String,
    /// A value for each of its fields, in order, as [`partition_value`](crate::partition_value) gives them.
    pub values: Vec<Option<Datum>>,
}

/// Metrics of one leaf column. Never wrong, at most absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnMetrics {
    /// Names from the root to the leaf, as in the Parquet schema.
    pub path: Vec<String>,
    /// The field id in the Parquet schema, where the table's format gives its columns ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_id: Option<i32>,
    /// Compressed bytes.
    pub compressed_size: u64,
    /// Values including nulls, as Parquet counts them (list items, not lists).
    pub value_count: u64,
    /// Nulls. For a column inside a struct a null parent counts.
    pub null_count: Option<u64>,
    /// NaNs; `None` when not counted or not a float column.
    pub nan_count: Option<u64>,
    /// A value that no value of the column, NaN apart, is below.
    pub lower: Option<Bound>,
    /// A value that no value of the column, NaN apart, is above.
    pub upper: Option<Bound>,
}

/// A bound of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bound {
    /// The value.
    pub value: Datum,
    /// Whether a row has exactly this value; a truncated string has not.
    pub exact: bool,
}

/// A value in Parquet's physical form; the column's logical type says what it means.
///
/// Decimals are big-endian two's complement in [`Datum::Bytes`], or integers, as Parquet stores them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Datum {
    /// `BOOLEAN`.
    Boolean(bool),
    /// `INT32`.
    Int32(i32),
    /// `INT64`.
    Int64(i64),
    /// FLOAT, in a bound never NaN; written by its bits, since JSON has no infinity.
    Float(#[serde(with = "float_bits")] f32),
    /// DOUBLE, in a bound never NaN; written by its bits.
    Double(#[serde(with = "double_bits")] f64),
    /// `BYTE_ARRAY` or `FIXED_LEN_BYTE_ARRAY`.
    Bytes(Vec<u8>),
}

mod float_bits {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    pub(super) fn serialize<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
        u32::deserialize(deserializer).map(f32::from_bits)
    }
}

mod double_bits {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinite_bounds_survive_json() {
        let bound = Bound {
            value: Datum::Double(f64::INFINITY),
            exact: true,
        };
        let json = serde_json::to_string(&bound).unwrap();
        assert_eq!(serde_json::from_str::<Bound>(&json).unwrap(), bound);
    }
}
