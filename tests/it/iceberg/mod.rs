//! Iceberg tables.

mod metadata;
