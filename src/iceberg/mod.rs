//! Apache Iceberg tables: an own, small core of the specification that reads any v1 to v3 table and appends to it.

mod datum;
mod schema;
mod types;

pub use datum::Datum;
pub use schema::{NestedField, Schema};
pub use types::{ListType, MapType, PrimitiveType, StructType, Type};
