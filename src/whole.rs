//! Whole objects of stores, up to a size that is looked at before anything is read.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetResult, ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::error::{Error, ErrorKind, Result};

/// Most bytes of an object of a table that is read as a whole: a commit, a manifest, a metadata file. Others write them too,
/// and the largest ones seen have some hundred megabytes.
#[cfg(any(feature = "delta", feature = "iceberg"))]
pub(crate) const MAX_TABLE_OBJECT_BYTES: u64 = 1 << 30;

/// The content of an object with what the store says of it, `None` if there is no such object.
///
/// # Errors
///
/// `Data` when it has more than `limit` bytes; that of the store otherwise.
pub(crate) async fn whole_object(
    store: &dyn ObjectStore,
    path: &Path,
    limit: u64,
) -> Result<Option<(Bytes, ObjectMeta)>> {
    let Some(answer) = object_at(store, path).await? else {
        return Ok(None);
    };
    let meta = answer.meta.clone();
    if meta.size > limit {
        let message = format!(
            "object too large. object=`{path}` bytes=`{}` limit=`{limit}`",
            meta.size
        );
        return Err(Error::new(ErrorKind::Data, message));
    }
    let bytes = answer.bytes().await;
    let bytes = bytes.map_err(|e| Error::from_store("get", path, e))?;
    Ok(Some((bytes, meta)))
}

/// An object whose content is still to be read, `None` if there is no such object.
pub(crate) async fn object_at(store: &dyn ObjectStore, path: &Path) -> Result<Option<GetResult>> {
    match store.get(path).await {
        Ok(answer) => Ok(Some(answer)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(Error::from_store("get", path, e)),
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn what_is_too_large_is_not_read() {
        let (store, path) = (InMemory::new(), Path::from("a"));
        assert_eq!(block_on(whole_object(&store, &path, 3)).unwrap(), None);
        block_on(store.put(&path, b"four".to_vec().into())).unwrap();
        let (bytes, meta) = block_on(whole_object(&store, &path, 4)).unwrap().unwrap();
        assert_eq!((bytes.as_ref(), meta.size), (b"four".as_ref(), 4));
        let error = block_on(whole_object(&store, &path, 3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert_eq!(error.to_string(), "object too large. object=`a` bytes=`4` limit=`3`");
    }
}
