//! What lies where a table is to be created.

use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// Refuses a place where a table of another format lies: an object in `dir` whose name `is_mark`. Readers that take
/// one format for the other would see half the rows.
///
/// # Errors
///
/// `Unsupported` naming `format` and the object.
pub(crate) async fn refuse_table_of(
    format: &str,
    store: &dyn ObjectStore,
    dir: &Path,
    is_mark: impl Fn(&str) -> bool,
) -> Result<()> {
    let mut listing = store.list(Some(dir));
    while let Some(object) = listing
        .try_next()
        .await
        .map_err(|e| Error::from_store("list", dir, e))?
    {
        if object.location.filename().is_some_and(&is_mark) {
            let object = object.location;
            let message = format!(
                "a table of another format lies where one is to be created. format=`{format}` object=`{object}`"
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    }
    Ok(())
}
