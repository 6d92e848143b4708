//! Iceberg tables.

mod manifests;
mod metadata;
mod partitions;
mod pointer;
mod rest;
mod support;
mod versions;
