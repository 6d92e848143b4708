//! Iceberg tables.

mod alone;
mod evolving;
mod manifests;
mod metadata;
mod nanoseconds;
mod partitions;
mod pointer;
mod refusals;
pub(crate) mod rest;
mod support;
mod versions;
