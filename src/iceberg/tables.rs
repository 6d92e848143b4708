//! One Iceberg table per namespace.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use super::catalog::FileSystemCatalog;
use super::options::IcebergOptions;
use super::sink::IcebergSink;
use crate::error::Result;
use crate::ids::{Randomness, SystemRandomness};
use crate::naming::Namespace;
use crate::sink::{Table, TablePlaces, TableProvider};

/// File-system Iceberg tables, each at `{prefix}/{namespace}` of one store unless the host says where.
///
/// A host with another catalog implements [`TableProvider`] itself, with an [`IcebergSink`] over its [`Catalog`].
///
/// [`Catalog`]: super::Catalog
#[derive(Clone, Debug)]
pub struct IcebergTables {
    places: TablePlaces,
    options: IcebergOptions,
    randomness: Arc<dyn Randomness>,
}

impl IcebergTables {
    /// Tables under `prefix` of `store`; `place_url` is the URI of that prefix (`s3://bucket/tables`), which readers
    /// of the tables see.
    pub fn new(
        place_url: impl Into<String>,
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        options: IcebergOptions,
    ) -> Self {
        let places = TablePlaces::new(&place_url.into(), store, prefix);
        Self {
            places,
            options,
            randomness: Arc::new(SystemRandomness),
        }
    }

    /// Where the ids of snapshots come from; [`SystemRandomness`] unless this is called.
    #[must_use]
    pub fn with_randomness(mut self, randomness: impl Randomness) -> Self {
        self.randomness = Arc::new(randomness);
        self
    }

    /// Puts the table of a namespace somewhere else in the same store: at `root`, whose URI is `url`.
    #[must_use]
    pub fn with_location(mut self, namespace: Namespace, url: impl Into<String>, root: Path) -> Self {
        self.places.place(namespace, &url.into(), root);
        self
    }
}

impl TableProvider for IcebergTables {
    fn table(&self, namespace: &Namespace) -> Result<Table> {
        let place = self.places.of(namespace)?;
        let store = self.places.store();
        let catalog = FileSystemCatalog::new(Arc::clone(store), place.root.clone(), &place.location);
        let sink = IcebergSink::new(
            Arc::new(catalog),
            Arc::clone(store),
            place.root,
            &place.location,
            self.options.clone(),
        )
        .with_randomness(Arc::clone(&self.randomness));
        Ok(Table {
            location: place.location,
            format: "iceberg".to_owned(),
            sink: Arc::new(sink),
        })
    }
}
