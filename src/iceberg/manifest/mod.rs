//! Manifests: the files of a table, with what is known of them (Iceberg specification, "Manifests").

mod error;
mod model;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

pub(super) use error::{ManifestError, ReadError};
pub use model::{EntryStatus, FileContent, ManifestDataFile, ManifestEntry};
pub use read::{ManifestReader, read_manifest};
pub(super) use schema::{optional, required};
pub(super) use write::check_writable;
pub use write::{ManifestHeader, ManifestWriter};
