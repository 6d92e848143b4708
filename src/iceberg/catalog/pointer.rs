//! Tables whose current metadata are named by one value of the host's.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;

use super::{Catalog, CatalogChange, CatalogOutcome, CatalogTable};
use crate::error::{Error, ErrorKind, Result};
use crate::iceberg::files::{Root, TableFiles};
use crate::iceberg::metadata::{NewTable, TableMetadata};
use crate::iceberg::metadata_file::decode;
use crate::iceberg::update::check_requirements;
use crate::ids::Randomness;

/// One durable value that says which metadata are a table's: a row of a database, an item of a key-value store.
///
/// **The value is the table.** If it is lost the table is lost, though all its files are there; if it goes back, so
/// does the table. So it lies where the host keeps what must not be lost, and never in a
/// [`StateStore`](crate::StateStore), whose content may be.
///
/// `iceberg_tables(catalog_name, table_namespace, table_name, metadata_location, previous_metadata_location)` is the
/// row by which `PyIceberg`'s `SqlCatalog` and Java's `JdbcCatalog` know a table: a store over it shares tables with
/// them.
#[async_trait]
pub trait PointerStore: fmt::Debug + Send + Sync + 'static {
    /// The value, `None` if there is none. Sees what has been set before.
    ///
    /// # Errors
    ///
    /// `Unavailable` to be tried again.
    async fn get(&self) -> Result<Option<String>>;

    /// Sets the value to `new` if it is `expected`, atomically and durably; says whether it did. No value is ever set
    /// twice.
    ///
    /// # Errors
    ///
    /// `Unavailable` when nobody knows: [`get`](Self::get) tells.
    async fn compare_and_swap(&self, expected: Option<&str>, new: &str) -> Result<bool>;
}

/// A table behind a [`PointerStore`]: a metastore table (Iceberg specification, "Metastore Tables").
///
/// Metadata files are named `{version}-{uuid}.metadata.json`; none is ever overwritten.
#[derive(Debug)]
pub struct PointerCatalog {
    files: TableFiles,
    pointer: Arc<dyn PointerStore>,
    randomness: Arc<dyn Randomness>,
}

impl PointerCatalog {
    /// The table at `root` of `store`, whose URI is `location`.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        root: Path,
        location: &str,
        pointer: Arc<dyn PointerStore>,
        randomness: Arc<dyn Randomness>,
    ) -> Self {
        Self {
            files: TableFiles::new(store, Root::new(root, location)),
            pointer,
            randomness,
        }
    }

    async fn publish(&self, base: Option<&str>, metadata: TableMetadata) -> Result<Option<CatalogTable>> {
        let uuid = uuid::Builder::from_random_bytes(self.randomness.random_u128().to_be_bytes()).into_uuid();
        let name = format!("{:05}-{uuid}.metadata.json", base.map_or(0, |base| number_of(base) + 1));
        let path = self.files.metadata_dir().join(name);
        let location = self.files.root().uri_of(path.as_ref())?;
        self.files.write(&location, Bytes::from(metadata.encode()?)).await?;
        if !self.pointer.compare_and_swap(base, &location).await? {
            // Ours all the same, if a swap whose answer was lost has been tried again below.
            if self.pointer.get().await?.as_deref() != Some(&location) {
                return Ok(None);
            }
        }
        Ok(Some(CatalogTable {
            metadata: Arc::new(metadata),
            metadata_location: location,
        }))
    }
}

/// The number that the name of a metadata file begins with; whoever has another way of naming starts at 0.
fn number_of(location: &str) -> u64 {
    let name = location.rsplit('/').next().unwrap_or_default();
    let digits = name.split('-').next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

#[async_trait]
impl Catalog for PointerCatalog {
    async fn load(&self) -> Result<Option<CatalogTable>> {
        let Some(metadata_location) = self.pointer.get().await? else {
            return Ok(None);
        };
        let bytes = self.files.read(&metadata_location).await?;
        Ok(Some(CatalogTable {
            metadata: Arc::new(decode(&metadata_location, &bytes)?),
            metadata_location,
        }))
    }

    async fn create(&self, table: NewTable) -> Result<()> {
        if self.pointer.get().await?.is_some() {
            return Ok(());
        }
        self.publish(None, TableMetadata::create(table)?).await.map(|_| ())
    }

    async fn commit(&self, change: &CatalogChange) -> Result<CatalogOutcome> {
        let base = &change.base;
        if check_requirements(&change.requirements, Some(&base.metadata)).is_err() {
            return Ok(CatalogOutcome::Conflict);
        }
        let published = self.publish(Some(&base.metadata_location), change.apply()?).await;
        let published = published.map_err(|e| match e.kind() {
            ErrorKind::Unavailable => {
                Error::new(ErrorKind::Unavailable, "commit may have landed or not, read the table").with_source(e)
            }
            _ => e,
        })?;
        Ok(published.map_or(CatalogOutcome::Conflict, CatalogOutcome::Committed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_files_are_numbered_on_from_any_name() {
        assert_eq!(number_of("s3://b/t/metadata/00041-6a92d155.metadata.json"), 41);
        assert_eq!(number_of("s3://b/t/metadata/v3.metadata.json"), 0);
        assert_eq!(number_of(""), 0);
    }
}
