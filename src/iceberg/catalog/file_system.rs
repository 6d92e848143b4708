//! Tables that are their own catalog: `metadata/v{N}.metadata.json`, each written only where nothing is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::try_join;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::{Catalog, CatalogChange, CatalogOutcome, CatalogTable};
use crate::error::{Error, ErrorKind, Result};
use crate::iceberg::error::unsupported;
use crate::iceberg::files::{Root, TableFiles};
use crate::iceberg::metadata::{NewTable, TableMetadata};
use crate::iceberg::metadata_file::{decode, version_of};
use crate::iceberg::update::check_requirements;
use crate::whole::{MAX_TABLE_OBJECT_BYTES, whole_object};

const HINT: &str = "version-hint.text";

/// A file-system table (Iceberg specification, "File System Tables"), as Hadoop's catalog and many engines read it.
///
/// A version is published by creating its metadata file **only if it is absent**, which object stores and local file
/// systems do atomically. That is safe as long as every writer does so and no metadata file is ever deleted: Hadoop's
/// own catalog renames instead, so that Spark must not write to such a table at the same time. The specification
/// deprecates this kind of table in favour of catalogs; it is the one that needs nothing but a store.
///
/// A version may be spelt in three ways: `v{N}.metadata.json`, as here, and compressed `v{N}.gz.metadata.json` or, of
/// old, `v{N}.metadata.json.gz`. All are read and no version that is there is ever made again under another name. But
/// **all writers of a table must spell alike at a time**: creating one name if it is absent says nothing of the others,
/// so that two writers that differ may make the same version in the same instant. That is noticed and refused as
/// `Unsupported`, naming both files.
///
/// `version-hint.text` is written after each commit as well as possible, and never believed: the highest version
/// that is there is the table.
#[derive(Debug)]
pub struct FileSystemCatalog {
    files: TableFiles,
    known: Mutex<Option<Known>>,
    is_probed: Mutex<bool>,
}

/// A version that has been read before, and how to see that it is still the same object.
#[derive(Clone, Debug)]
struct Known {
    version: u64,
    etag: Option<String>,
    table: CatalogTable,
}

impl FileSystemCatalog {
    /// The table at `root` of `store`, whose URI is `location`.
    pub fn new(store: Arc<dyn ObjectStore>, root: Path, location: &str) -> Self {
        Self {
            files: TableFiles::new(store, Root::new(root, location)),
            known: Mutex::default(),
            is_probed: Mutex::default(),
        }
    }

    /// The file of a version that is made here.
    fn path(&self, version: u64) -> Path {
        self.files.metadata_dir().join(format!("v{version}.metadata.json"))
    }

    /// The files of the same version as others may have made it, those that are there.
    async fn others(&self, version: u64) -> Result<Vec<Path>> {
        let dir = self.files.metadata_dir();
        let names = [
            format!("v{version}.gz.metadata.json"),
            format!("v{version}.metadata.json.gz"),
        ];
        let [a, b] = names.map(|name| dir.clone().join(name));
        let (has_a, has_b) = try_join(self.files.head(&a), self.files.head(&b)).await?;
        Ok([has_a.map(|_| a), has_b.map(|_| b)].into_iter().flatten().collect())
    }

    /// The highest version there is, and its file.
    async fn newest(&self) -> Result<Option<(u64, Path)>> {
        let hint = self.files.read_path(&self.files.metadata_dir().join(HINT)).await?;
        let hint = hint.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim().parse().ok());
        let Some(mut version) = hint else {
            return self.listed().await;
        };
        let Some(mut path) = self.file_of(version).await? else {
            return self.listed().await;
        };
        while let Some(next) = version.checked_add(1)
            && let Some(file) = self.file_of(next).await?
        {
            (version, path) = (next, file);
        }
        Ok(Some((version, path)))
    }

    /// As [`newest`](Self::newest), from a listing: without a hint, or where names are not the usual ones.
    async fn listed(&self) -> Result<Option<(u64, Path)>> {
        let dir = self.files.metadata_dir();
        let listing: Vec<_> = self
            .files
            .store()
            .list(Some(&dir))
            .try_collect()
            .await
            .map_err(|e| Error::from_store("list", &dir, e))?;
        let in_dir = |path: &Path| path.prefix_match(&dir).is_some_and(|parts| parts.count() == 1);
        let names = listing.iter().map(|meta| &meta.location).filter(|path| in_dir(path));
        let mut versions: BTreeMap<u64, Vec<&Path>> = BTreeMap::new();
        let mut foreign = None;
        for path in names {
            let name = path.filename().unwrap_or_default();
            match version_of(name) {
                Some(version) => versions.entry(version).or_default().push(path),
                None if name.ends_with(".metadata.json") => foreign = Some(path),
                None => {}
            }
        }
        let newest = versions.last_key_value();
        match (newest.map(|(version, paths)| (version, paths.as_slice())), foreign) {
            (Some((version, [path])), _) => Ok(Some((*version, (*path).clone()))),
            (Some((_, [path, other, ..])), _) => Err(made_twice(path, other)),
            (_, Some(path)) => Err(unsupported(format!(
                "the table belongs to a catalog: only that knows which metadata are current. object=`{path}`"
            ))),
            (_, None) => Ok(None),
        }
    }

    /// The file of a version, however it is spelt.
    async fn file_of(&self, version: u64) -> Result<Option<Path>> {
        let path = self.path(version);
        let (found, others) = try_join(self.files.head(&path), self.others(version)).await?;
        let files: Vec<Path> = found.map(|_| path).into_iter().chain(others).collect();
        match files.as_slice() {
            [one, other, ..] => Err(made_twice(one, other)),
            _ => Ok(files.into_iter().next()),
        }
    }

    async fn read(&self, version: u64, path: &Path) -> Result<Option<CatalogTable>> {
        let found = whole_object(self.files.store().as_ref(), path, MAX_TABLE_OBJECT_BYTES).await?;
        let Some((bytes, meta)) = found else {
            return Ok(None);
        };
        let etag = meta.e_tag;
        let table = self.table(path, &bytes)?;
        self.remember(Known {
            version,
            etag,
            table: table.clone(),
        });
        Ok(Some(table))
    }

    fn table(&self, path: &Path, bytes: &Bytes) -> Result<CatalogTable> {
        Ok(CatalogTable {
            metadata: Arc::new(decode(path.as_ref(), bytes)?),
            metadata_location: self.files.root().uri_of(path.as_ref())?,
        })
    }

    fn remember(&self, known: Known) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    /// What has been read before, if nothing has happened since.
    async fn unchanged(&self) -> Result<Option<CatalogTable>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Known {
            version,
            etag: Some(etag),
            table,
        }) = known
        else {
            return Ok(None);
        };
        let path = self.files.root().path_of(&table.metadata_location)?;
        let (next, now) = try_join(self.file_of(version.saturating_add(1)), self.files.head(&path)).await?;
        if next.is_some() {
            return Ok(None);
        }
        // Another etag: the table was dropped, and made again by somebody.
        Ok((now.and_then(|meta| meta.e_tag) == Some(etag)).then_some(table))
    }

    /// Whether the table that a change was made for is still there: that of a table which was dropped would be its only
    /// metadata, and name manifests that are gone.
    async fn is_there(&self, base: Option<&CatalogTable>) -> Result<bool> {
        let Some(base) = base else { return Ok(true) };
        let path = self.files.root().path_of(&base.metadata_location)?;
        Ok(self.files.head(&path).await?.is_some())
    }

    /// Creates a version if it is absent, of a table that is there.
    async fn publish(
        &self,
        version: u64,
        base: Option<&CatalogTable>,
        metadata: &TableMetadata,
    ) -> Result<Option<CatalogTable>> {
        self.probe().await?;
        let path = self.path(version);
        let (others, is_there) = try_join(self.others(version), self.is_there(base)).await?;
        if !others.is_empty() || !is_there {
            return Ok(None);
        }
        let bytes = Bytes::from(metadata.encode()?);
        let payload = PutPayload::from_bytes(bytes.clone());
        let put = self
            .files
            .store()
            .put_opts(&path, payload, PutOptions::from(PutMode::Create))
            .await;
        let refused = match put {
            Ok(_) => None,
            Err(e @ (StoreError::NotImplemented { .. } | StoreError::NotSupported { .. })) => {
                return Err(cannot_create().with_source(e));
            }
            Err(e) => Some(e),
        };
        if let Some(refused) = refused {
            // No answer proves that nothing was written; only reading does.
            match self.files.read_path(&path).await.map_err(|e| unknown(&path, e))? {
                Some(found) if found == bytes => {}
                Some(_) => return Ok(None),
                // S3 says so while two writers are at it and neither has won.
                None if matches!(
                    refused,
                    StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }
                ) =>
                {
                    return Ok(None);
                }
                None => return Err(unknown(&path, Error::from_store("put", &path, refused))),
            }
        }
        // Nothing can take back what either has made; whoever looks next is told.
        if let Some(other) = self.others(version).await.map_err(|e| unknown(&path, e))?.first() {
            return Err(made_twice(&path, other));
        }
        // Only makes the next look faster.
        let hint = PutPayload::from(version.to_string());
        let _ = self
            .files
            .store()
            .put(&self.files.metadata_dir().join(HINT), hint)
            .await;
        self.table(&path, &bytes).map(Some)
    }

    /// Refuses a store on which an object can be created twice: commits would overwrite each other.
    async fn probe(&self) -> Result<()> {
        if *self.is_probed.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(());
        }
        let path = self.files.metadata_dir().join("firnline-put-if-absent");
        let store = self.files.store();
        for content in ["1", "2"] {
            let put = store
                .put_opts(&path, content.into(), PutOptions::from(PutMode::Create))
                .await;
            match put {
                Ok(_) if content == "2" => return Err(cannot_create()),
                Ok(_) | Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {}
                Err(e @ (StoreError::NotImplemented { .. } | StoreError::NotSupported { .. })) => {
                    return Err(cannot_create().with_source(e));
                }
                Err(e) => return Err(Error::from_store("put", &path, e)),
            }
        }
        *self.is_probed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        Ok(())
    }
}

fn made_twice(one: &Path, other: &Path) -> Error {
    unsupported(format!(
        "two writers that spell versions differently have made the same one, take one of them away. \
         object=`{one}` other=`{other}`"
    ))
}

fn cannot_create() -> Error {
    unsupported("the store cannot create an object only if it is absent, without which commits overwrite each other")
}

fn unknown(path: &Path, cause: Error) -> Error {
    let message = format!("commit may have landed or not, read the table. object=`{path}`");
    Error::new(ErrorKind::Unavailable, message).with_source(cause)
}

#[async_trait]
impl Catalog for FileSystemCatalog {
    async fn load(&self) -> Result<Option<CatalogTable>> {
        if let Some(table) = self.unchanged().await? {
            return Ok(Some(table));
        }
        match self.newest().await? {
            Some((version, path)) => self.read(version, &path).await,
            None => Ok(None),
        }
    }

    async fn create(&self, table: NewTable) -> Result<()> {
        let metadata = TableMetadata::create(table)?;
        self.publish(1, None, &metadata).await.map(|_| ())
    }

    async fn commit(&self, change: &CatalogChange) -> Result<CatalogOutcome> {
        let base = &change.base;
        if check_requirements(&change.requirements, Some(&base.metadata)).is_err() {
            return Ok(CatalogOutcome::Conflict);
        }
        let name = base.metadata_location.rsplit('/').next().unwrap_or_default();
        let version = version_of(name).ok_or_else(|| {
            unsupported(format!(
                "not the metadata of a file-system table. file=`{}`",
                base.metadata_location
            ))
        })?;
        let next = version.saturating_add(1);
        let published = self.publish(next, Some(base), &change.apply()?).await?;
        Ok(published.map_or(CatalogOutcome::Conflict, CatalogOutcome::Committed))
    }
}
