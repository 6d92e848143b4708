//! Where a table's current metadata are found, and how they are changed: one door for all catalogs.

mod file_system;
mod pointer;
mod rest;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub use file_system::FileSystemCatalog;
pub use pointer::{PointerCatalog, PointerStore};
pub use rest::{
    HttpRequest, HttpResponse, HttpTransport, RestCatalog, RestOptions, StorageCredential, VendedCredentials,
};

use super::metadata::{NewTable, TableMetadata};
use super::update::{TableRequirement, TableUpdate};
use crate::error::Result;
use crate::time::Timestamp;

/// One table in its catalog.
///
/// [`FileSystemCatalog`] needs nothing but the table's object store, [`PointerCatalog`] keeps the place of the current
/// metadata in a value of the host's, [`RestCatalog`] asks a server. Workers have a catalog each; others are tried with
/// `testing::conformance::catalog`.
#[async_trait]
pub trait Catalog: fmt::Debug + Send + Sync + 'static {
    /// The table as it is now, `None` if there is none.
    ///
    /// # Errors
    ///
    /// `Unavailable` to be tried again; `Unsupported` or `Invalid` when it is no table that can be read here.
    async fn load(&self) -> Result<Option<CatalogTable>>;

    /// Creates the table without rows, unless there is one. The catalog may give its columns other ids.
    ///
    /// # Errors
    ///
    /// None proves that nothing was created: [`load`](Self::load) tells.
    async fn create(&self, table: NewTable) -> Result<()>;

    /// Changes the table in one step, if all that is required is true of it. A table that is gone is not made again.
    ///
    /// # Errors
    ///
    /// None proves that nothing was changed: [`load`](Self::load) tells.
    async fn commit(&self, change: &CatalogChange) -> Result<CatalogOutcome>;

    /// Whether [`create`](Self::create) may give columns other ids than those it was asked for, so that a table is
    /// better created before its first files are written. Such a catalog also gives the table its own id, and knows
    /// the time itself.
    fn assigns_ids(&self) -> bool {
        false
    }
}

/// A table as its catalog has it.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogTable {
    /// Its metadata.
    pub metadata: Arc<TableMetadata>,
    /// Where these lie.
    pub metadata_location: String,
}

/// A change of a table.
#[derive(Clone, Debug)]
pub struct CatalogChange {
    /// The table that the change was made for.
    pub base: CatalogTable,
    /// What must be true.
    pub requirements: Vec<TableRequirement>,
    /// What is to be done, in order.
    pub updates: Vec<TableUpdate>,
    /// When.
    pub now: Timestamp,
}

impl CatalogChange {
    /// The metadata after the change, for catalogs that write them.
    ///
    /// # Errors
    ///
    /// `Invalid` when an update cannot be made.
    pub fn apply(&self) -> Result<TableMetadata> {
        self.base
            .metadata
            .apply(&self.updates, self.now, Some(&self.base.metadata_location))
    }
}

/// How a change ended.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum CatalogOutcome {
    /// It is in; the table as it is since.
    Committed(CatalogTable),
    /// Somebody else has changed the table: make the change anew from what [`Catalog::load`] says.
    Conflict,
}
