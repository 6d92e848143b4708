//! Small immutable objects: created once, read by exact name.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::whole::whole_object;

/// Largest control object that is read. The largest that is written, a plan, stays far below.
const MAX_OBJECT_BYTES: u64 = 64 << 20;

/// Whose content an object has that was to be created.
#[derive(Debug)]
pub(crate) enum Created {
    /// The one that was handed in.
    Ours,
    /// Another one, which was there first.
    Theirs(Bytes),
}

/// Creates `path` with `bytes` if nothing is there, and says what is there now.
///
/// No error of a store proves that a write did not happen, so every one is settled by reading.
pub(crate) async fn create_once(store: &dyn ObjectStore, path: &Path, bytes: Bytes) -> Result<Created> {
    let put = store
        .put_opts(path, bytes.clone().into(), PutOptions::from(PutMode::Create))
        .await;
    let error = match put {
        Ok(_) => return Ok(Created::Ours),
        Err(error @ (object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. })) => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the store cannot create an object only if it is absent (put-if-absent). object=`{path}`"),
            )
            .with_source(error));
        }
        Err(error) => error,
    };
    match read(store, path).await? {
        Some((found, _)) if found == bytes => Ok(Created::Ours),
        Some((found, _)) => Ok(Created::Theirs(found)),
        None => Err(Error::new(ErrorKind::Unavailable, format!("create failed. object=`{path}`")).with_source(error)),
    }
}

/// The content of `path`, `None` if there is no such object.
pub(crate) async fn read(store: &dyn ObjectStore, path: &Path) -> Result<Option<(Bytes, ObjectMeta)>> {
    whole_object(store, path, MAX_OBJECT_BYTES).await
}

/// Deletes `path`; that it is gone already is fine.
pub(crate) async fn remove(store: &dyn ObjectStore, path: &Path) -> Result<()> {
    match store.delete(path).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(e) => Err(Error::from_store("delete", path, e)),
    }
}

/// The bytes of a control document.
pub(crate) fn encode<T: Serialize>(document: &T) -> Result<Bytes> {
    serde_json::to_vec(document)
        .map(Bytes::from)
        .map_err(|e| Error::new(ErrorKind::Internal, "control object cannot be encoded").with_source(e))
}

/// Reads a control document.
pub(crate) fn decode<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::new(ErrorKind::Data, format!("control object malformed. object=`{path}`")).with_source(e))
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn the_first_creator_wins_and_a_repeat_of_the_same_content_is_ours() {
        let store = InMemory::new();
        let path = Path::from("a/b.json");
        block_on(async {
            assert!(matches!(
                create_once(&store, &path, "1".into()).await,
                Ok(Created::Ours)
            ));
            assert!(matches!(
                create_once(&store, &path, "1".into()).await,
                Ok(Created::Ours)
            ));
            match create_once(&store, &path, "2".into()).await.unwrap() {
                Created::Theirs(found) => assert_eq!(found, "1"),
                Created::Ours => panic!("the first content was overwritten"),
            }
            remove(&store, &path).await.unwrap();
            remove(&store, &path).await.unwrap();
            assert!(read(&store, &path).await.unwrap().is_none());
        });
    }
}
