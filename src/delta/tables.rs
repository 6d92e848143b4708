//! One Delta table per namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use super::options::DeltaOptions;
use super::sink::DeltaSink;
use crate::error::{Error, ErrorKind, Result};
use crate::naming::Namespace;
use crate::sink::{Table, TableProvider};

/// Delta tables, each at `{prefix}/{namespace}` of one store unless the host says where.
#[derive(Clone, Debug)]
pub struct DeltaTables {
    place_url: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    options: DeltaOptions,
    locations: BTreeMap<Namespace, (String, Path)>,
}

impl DeltaTables {
    /// Tables under `prefix` of `store`; `place_url` is the URL of that prefix (`s3://bucket/tables`).
    pub fn new(place_url: impl Into<String>, store: Arc<dyn ObjectStore>, prefix: Path, options: DeltaOptions) -> Self {
        let place_url: String = place_url.into();
        Self {
            place_url: place_url.trim_end_matches('/').to_owned(),
            store,
            prefix,
            options,
            locations: BTreeMap::new(),
        }
    }

    /// Puts the table of a namespace somewhere else in the same store: at `root`, whose URL is `url`.
    #[must_use]
    pub fn with_location(mut self, namespace: Namespace, url: impl Into<String>, root: Path) -> Self {
        let url: String = url.into();
        self.locations
            .insert(namespace, (url.trim_end_matches('/').to_owned(), root));
        self
    }
}

impl TableProvider for DeltaTables {
    fn table(&self, namespace: &Namespace) -> Result<Table> {
        let (location, root) = if let Some(location) = self.locations.get(namespace) {
            location.clone()
        } else {
            let root = match self.prefix.as_ref() {
                "" => Path::parse(namespace.as_str()),
                prefix => Path::parse(format!("{prefix}/{namespace}")),
            };
            let root = root.map_err(|e| {
                let message = format!("namespace cannot be a table's place. namespace=`{namespace}`");
                Error::new(ErrorKind::Invalid, message).with_source(e)
            })?;
            (format!("{}/{namespace}", self.place_url), root)
        };
        Ok(Table {
            location,
            format: "delta".to_owned(),
            sink: Arc::new(DeltaSink::new(self.store.clone(), root, self.options.clone())),
        })
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn a_namespace_lies_under_the_prefix_unless_it_is_placed() {
        let store = Arc::new(InMemory::new());
        let tables = DeltaTables::new("s3://b/tables/", store, Path::from("tables"), DeltaOptions::default())
            .with_location(Namespace::new("eu"), "s3://b/elsewhere/", Path::from("elsewhere"));
        let location = |namespace| tables.table(&Namespace::new(namespace)).map(|table| table.location);
        assert_eq!(location("eu/users").unwrap(), "s3://b/tables/eu/users");
        assert_eq!(location("eu").unwrap(), "s3://b/elsewhere");
        assert_eq!(location("a/../b").unwrap_err().kind(), ErrorKind::Invalid);
    }
}
