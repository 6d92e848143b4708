//! Iceberg tables.

mod manifests;
mod metadata;
mod pointer;
mod rest;
