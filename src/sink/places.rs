//! Where the table of each namespace lies.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::naming::Namespace;

/// The places of one store's tables: each at `{prefix}/{namespace}`, unless the host says where.
#[derive(Clone, Debug)]
pub(crate) struct TablePlaces {
    url: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    placed: BTreeMap<Namespace, TablePlace>,
}

/// The root of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TablePlace {
    /// As a URL without trailing slash.
    pub(crate) location: String,
    /// In the store.
    pub(crate) root: Path,
}

impl TablePlaces {
    pub(crate) fn new(url: &str, store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            store,
            prefix,
            placed: BTreeMap::new(),
        }
    }

    /// Puts the table of a namespace somewhere else in the store.
    pub(crate) fn place(&mut self, namespace: Namespace, url: &str, root: Path) {
        let location = url.trim_end_matches('/').to_owned();
        self.placed.insert(namespace, TablePlace { location, root });
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(crate) fn of(&self, namespace: &Namespace) -> Result<TablePlace> {
        if let Some(place) = self.placed.get(namespace) {
            return Ok(place.clone());
        }
        let root = match self.prefix.as_ref() {
            "" => Path::parse(namespace.as_str()),
            prefix => Path::parse(format!("{prefix}/{namespace}")),
        };
        let root = root.map_err(|e| {
            let message = format!("namespace cannot be a table's place. namespace=`{namespace}`");
            Error::new(ErrorKind::Invalid, message).with_source(e)
        })?;
        Ok(TablePlace {
            location: format!("{}/{namespace}", self.url),
            root,
        })
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn a_namespace_lies_under_the_prefix_unless_it_is_placed() {
        let mut places = TablePlaces::new("s3://b/tables/", Arc::new(InMemory::new()), Path::from("tables"));
        places.place(Namespace::new("eu"), "s3://b/elsewhere/", Path::from("elsewhere"));
        let location = |namespace| places.of(&Namespace::new(namespace)).map(|place| place.location);
        assert_eq!(location("eu/users").unwrap(), "s3://b/tables/eu/users");
        assert_eq!(location("eu").unwrap(), "s3://b/elsewhere");
        assert_eq!(location("a/../b").unwrap_err().kind(), ErrorKind::Invalid);
    }
}
