//! Manifest lists: the manifests of a snapshot (Iceberg specification, "Manifest Lists").

mod model;
mod read;
mod schema;
mod summary;
#[cfg(test)]
mod tests;
mod write;

pub use model::{FieldSummary, ManifestContent, ManifestFile};
pub use read::read_manifest_list;
pub(super) use summary::SummaryBuilder;
pub use write::{ManifestList, WrittenManifestList};
