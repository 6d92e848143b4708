//! What the types of all table formats have in common, as Arrow sees them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};

pub(crate) use super::names::{ELEMENT, KEY, VALUE, join, map_parts, without_case};
use crate::quarantine::QuarantineReason;

/// Name of the pairs of a map.
pub(crate) const KEY_VALUE: &str = "key_value";
/// Time zone of every instant in a table.
pub(crate) const UTC: &str = "UTC";
/// Readers recurse; deeper nesting than this is nobody's data.
const MAX_DEPTH: usize = 64;

/// A map of these.
pub(crate) fn map_of(key: FieldRef, value: FieldRef) -> DataType {
    let entries = DataType::Struct(Fields::from(vec![key, value]));
    DataType::Map(Arc::new(Field::new(KEY_VALUE, entries, false)), false)
}

/// A decimal as tables have it, if it is one: up to 38 digits, of which some come after the point.
pub(crate) fn table_decimal(precision: u8, scale: i8) -> Option<DataType> {
    let fits = (1..=38).contains(&precision) && u8::try_from(scale).is_ok_and(|scale| scale <= precision);
    fits.then_some(DataType::Decimal128(precision, scale))
}

/// Refuses a column that is nested deeper than readers follow.
pub(crate) fn check_depth(path: &str, depth: usize) -> Result<(), QuarantineReason> {
    if depth <= MAX_DEPTH {
        return Ok(());
    }
    Err(QuarantineReason::TooLarge {
        what: format!("nesting of column {path}"),
        value: u64::try_from(depth).unwrap_or(u64::MAX),
        limit: u64::try_from(MAX_DEPTH).unwrap_or(u64::MAX),
    })
}
