//! Iceberg tables.

mod manifests;
mod metadata;
