//! Iceberg tables.

mod manifests;
mod metadata;
mod nanoseconds;
mod partitions;
mod pointer;
mod rest;
mod support;
mod versions;
