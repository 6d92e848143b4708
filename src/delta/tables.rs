//! One Delta table per namespace.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use super::options::DeltaOptions;
use super::sink::DeltaSink;
use crate::error::Result;
use crate::naming::Namespace;
use crate::sink::{Table, TablePlaces, TableProvider};

/// Delta tables, each at `{prefix}/{namespace}` of one store unless the host says where.
#[derive(Clone, Debug)]
pub struct DeltaTables {
    places: TablePlaces,
    options: DeltaOptions,
}

impl DeltaTables {
    /// Tables under `prefix` of `store`; `place_url` is the URL of that prefix (`s3://bucket/tables`).
    pub fn new(place_url: impl Into<String>, store: Arc<dyn ObjectStore>, prefix: Path, options: DeltaOptions) -> Self {
        let places = TablePlaces::new(&place_url.into(), store, prefix);
        Self { places, options }
    }

    /// Puts the table of a namespace somewhere else in the same store: at `root`, whose URL is `url`.
    #[must_use]
    pub fn with_location(mut self, namespace: Namespace, url: impl Into<String>, root: Path) -> Self {
        self.places.place(namespace, &url.into(), root);
        self
    }
}

impl TableProvider for DeltaTables {
    fn table(&self, namespace: &Namespace) -> Result<Table> {
        let place = self.places.of(namespace)?;
        let store = Arc::clone(self.places.store());
        Ok(Table {
            location: place.location,
            format: "delta".to_owned(),
            sink: Arc::new(DeltaSink::new(store, place.root, self.options.clone())),
        })
    }
}
