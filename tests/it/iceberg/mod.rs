//! Iceberg tables.

mod manifests;
mod metadata;
mod rest;
