//! The files of a table: metadata name them by URI, the store by path.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::error::{invalid, unsupported};
use crate::error::{Error, ErrorKind, Result};
use crate::place::parse_path;
use crate::whole::{MAX_TABLE_OBJECT_BYTES, whole_object};

/// A table's root, as URI and in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    path: Path,
    uri: String,
}

/// The files of a table in its store.
#[derive(Clone, Debug)]
pub(super) struct TableFiles {
    store: Arc<dyn ObjectStore>,
    root: Root,
}

impl Root {
    /// The table at `path` of a store, whose URI is `uri`.
    pub(super) fn new(path: Path, uri: &str) -> Self {
        let uri = uri.trim_end_matches('/').to_owned();
        Self { path, uri }
    }

    /// The URI, without trailing slash.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Whether this is the root, however it is spelt.
    pub(super) fn is_at(&self, uri: &str) -> bool {
        canonical(uri.trim_end_matches('/')) == canonical(&self.uri)
    }

    /// The path of a file that is somewhere in the table's store.
    pub(super) fn path_of(&self, uri: &str) -> Result<Path> {
        let (file, root) = (canonical(uri), canonical(&self.uri));
        let path = match below(&file, &root) {
            Some(rest) => join(self.path.as_ref(), rest),
            // Elsewhere in the same store, whose own URI is the table's without the path.
            None => root
                .strip_suffix(self.path.as_ref())
                .and_then(|store| below(&file, store.trim_end_matches('/')))
                .map(str::to_owned)
                .ok_or_else(|| {
                    unsupported(format!(
                        "file of the table lies in another store. file=`{uri}` table=`{}`",
                        self.uri
                    ))
                })?,
        };
        parse_path(&path)
    }

    /// The URI of a file that is written below the root.
    pub(super) fn uri_of(&self, path: &str) -> Result<String> {
        let rest = match self.path.as_ref() {
            "" => Some(path),
            root => below(path, root),
        };
        let rest = rest.ok_or_else(|| {
            let root = &self.path;
            invalid(format!("file lies outside its table. file=`{path}` table=`{root}`"))
        })?;
        Ok(format!("{}/{rest}", self.uri))
    }
}

impl TableFiles {
    pub(super) fn new(store: Arc<dyn ObjectStore>, root: Root) -> Self {
        Self { store, root }
    }

    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    pub(super) fn data_dir(&self) -> Path {
        self.root.path.clone().join("data")
    }

    pub(super) fn metadata_dir(&self) -> Path {
        self.root.path.clone().join("metadata")
    }

    /// Reads a whole file, `None` if it is not there.
    pub(super) async fn read_path(&self, path: &Path) -> Result<Option<Bytes>> {
        let found = whole_object(self.store.as_ref(), path, MAX_TABLE_OBJECT_BYTES).await?;
        Ok(found.map(|(bytes, _)| bytes))
    }

    /// What the store knows of a file, `None` if it is not there.
    pub(super) async fn head(&self, path: &Path) -> Result<Option<ObjectMeta>> {
        match self.store.head(path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(Error::from_store("head", path, e)),
        }
    }

    /// Reads a whole file that the metadata name.
    pub(super) async fn read(&self, uri: &str) -> Result<Bytes> {
        let found = self.read_path(&self.root.path_of(uri)?).await?;
        found.ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                format!("file that the table's metadata name is not there. file=`{uri}`"),
            )
        })
    }

    /// Writes a file under a name that nobody else has: if something is there, it is this, and an answer was lost.
    pub(super) async fn write(&self, uri: &str, bytes: Bytes) -> Result<()> {
        let path = self.root.path_of(uri)?;
        let payload = PutPayload::from_bytes(bytes);
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&path, payload, options).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(()),
            Err(e) => Err(Error::from_store("put", &path, e)),
        }
    }
}

fn join(root: &str, rest: &str) -> String {
    match (root, rest) {
        ("", rest) => rest.to_owned(),
        (root, "") => root.to_owned(),
        (root, rest) => format!("{root}/{rest}"),
    }
}

/// What comes after `parent` and a slash.
fn below<'a>(path: &'a str, parent: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(parent)?;
    rest.strip_prefix('/').or_else(|| rest.is_empty().then_some(rest))
}

/// One spelling for all that mean the same file: `file:/a`, `file:///a` and `/a`; `s3a` and `s3n` are Hadoop's `s3`.
fn canonical(uri: &str) -> String {
    let (scheme, rest) = uri
        .split_once(':')
        .filter(|(scheme, _)| !scheme.contains('/'))
        .unwrap_or(("file", uri));
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "s3a" | "s3n" => "s3".to_owned(),
        other => other.to_owned(),
    };
    match scheme.as_str() {
        "file" => format!("file:/{}", rest.trim_start_matches('/')),
        _ => format!("{scheme}:{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_however_its_uri_is_spelt() {
        let local = Root::new(Path::from("tables/users"), "file:///srv/tables/users/");
        for uri in [
            "file:///srv/tables/users/metadata/a.avro",
            "file:/srv/tables/users/metadata/a.avro",
            "/srv/tables/users/metadata/a.avro",
        ] {
            assert_eq!(
                local.path_of(uri).unwrap().as_ref(),
                "tables/users/metadata/a.avro",
                "{uri}"
            );
        }
        let cloud = Root::new(Path::from("tables/users"), "s3://b/tables/users");
        assert_eq!(
            cloud.path_of("s3a://b/tables/users/x").unwrap().as_ref(),
            "tables/users/x"
        );
        assert_eq!(cloud.path_of("s3://b/elsewhere/x").unwrap().as_ref(), "elsewhere/x");
        for uri in ["s3://other/tables/users/x", "gs://b/tables/users/x", "s3://b/../x"] {
            assert!(cloud.path_of(uri).is_err(), "{uri}");
        }
        let bucket = Root::new(Path::default(), "s3://b");
        assert_eq!(bucket.path_of("s3://b/x").unwrap().as_ref(), "x");
        assert_eq!(bucket.uri_of("x").unwrap(), "s3://b/x");
    }

    #[test]
    fn what_lies_beside_the_table_has_no_uri() {
        let cloud = Root::new(Path::from("tables/users"), "s3://b/tables/users");
        assert_eq!(
            cloud.uri_of("tables/users/data/x").unwrap(),
            "s3://b/tables/users/data/x"
        );
        assert!(cloud.uri_of("tables/users2/data/x").is_err());
    }
}
