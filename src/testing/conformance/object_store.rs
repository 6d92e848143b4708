//! What the library relies on of an [`ObjectStore`], and no more.

mod listings;
mod multipart;
mod reads;
mod writes;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutResult, Result};

use super::{broken, keep};

/// What [`object_store()`] asks of an [`ObjectStore`]: it panics with one of these.
pub const OBJECT_STORE_RULES: &[&str] = &[
    writes::READ,
    writes::REPLACED,
    writes::EVERY_SIZE,
    writes::CREATED,
    writes::CREATED_ONCE,
    writes::CREATE_RACE,
    writes::UPDATED,
    writes::STALE_UPDATE,
    writes::UPDATE_REFUSED,
    writes::WHOLE,
    writes::DROPPED,
    reads::ABSENT,
    reads::TAGGED,
    reads::TAGS_AGREE,
    reads::TAGS_CHANGE,
    reads::SIZED,
    reads::DATED,
    reads::RANGES,
    reads::SUFFIXES,
    reads::BEYOND,
    reads::IF_MATCH,
    multipart::COMPLETED,
    multipart::HIDDEN,
    multipart::ABORTED,
    listings::LISTED,
    listings::LISTED_META,
    listings::OFFSET,
    listings::DELIMITED,
    listings::MANY,
    listings::KEYS,
    listings::DELETED,
    listings::MISSING_DELETE,
];

/// What a store says that it can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectStoreClaims {
    /// Objects are replaced conditionally, with `PutMode::Update`: asked of a store that is to keep state by
    /// [etag updates](crate::ObjectStoreStateStore::with_etag_updates). One that cannot has to say so.
    pub conditional_update: bool,
}

impl ObjectStoreClaims {
    /// Sets [`conditional_update`](Self::conditional_update).
    #[must_use]
    pub fn with_conditional_update(mut self, conditional_update: bool) -> Self {
        self.conditional_update = conditional_update;
        self
    }
}

/// Checks what the library relies on of an [`ObjectStore`]: that of a bucket, of tables, of control objects and of state.
///
/// `make` gives a fresh, empty store, or an empty prefix of one behind an `object_store::prefix::PrefixStore`; it is
/// called some ten times. The suite writes some thousand small objects and a few of some megabytes, and leaves them.
///
/// ```
/// use std::sync::Arc;
///
/// use firnline::object_store::{ObjectStore, memory::InMemory};
/// use firnline::testing::conformance::{self, ObjectStoreClaims};
///
/// let claims = ObjectStoreClaims::default().with_conditional_update(true);
/// futures::executor::block_on(conformance::object_store(claims, || async {
///     Arc::new(InMemory::new()) as Arc<dyn ObjectStore>
/// }));
/// ```
pub async fn object_store<F, Fut>(claims: ObjectStoreClaims, make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn ObjectStore>>,
{
    writes::put_and_read(&*make().await).await;
    writes::create(&*make().await).await;
    writes::update(&*make().await, claims.conditional_update).await;
    writes::whole_or_not_at_all(&*make().await).await;
    reads::metadata(&*make().await).await;
    reads::ranges(&*make().await).await;
    reads::conditions(&*make().await).await;
    multipart::uploads(&*make().await).await;
    listings::listings(&*make().await).await;
    listings::odd_keys(&*make().await).await;
    listings::many_objects(&*make().await).await;
    listings::deletes(&*make().await).await;
}

/// A path as keys come: taken as it is.
fn path(text: &str) -> Path {
    Path::parse(text).unwrap_or_else(|e| broken("a key is a path", e))
}

/// The answer of a request that has to succeed for a rule to be kept.
#[track_caller]
fn done<T>(rule: &str, answer: Result<T>) -> T {
    answer.unwrap_or_else(|e| broken(rule, format!("the request failed: {e}")))
}

async fn put(rule: &str, store: &dyn ObjectStore, path: &Path, content: &[u8]) -> PutResult {
    done(rule, store.put(path, Bytes::copy_from_slice(content).into()).await)
}

/// What is at a path; `None` where nothing is.
async fn content(rule: &str, store: &dyn ObjectStore, path: &Path) -> Option<Bytes> {
    let found = match store.get(path).await {
        Ok(found) => found.bytes().await,
        Err(e) => Err(e),
    };
    match found {
        Ok(bytes) => Some(bytes),
        Err(StoreError::NotFound { .. }) => None,
        Err(e) => broken(rule, format!("the request failed: {e}")),
    }
}

async fn holds(rule: &str, store: &dyn ObjectStore, path: &Path, expected: Option<&[u8]>) {
    let found = content(rule, store, path).await;
    keep(rule, found.as_deref() == expected, Found(path, found.as_deref()));
}

async fn head(rule: &str, store: &dyn ObjectStore, path: &Path) -> ObjectMeta {
    let options = GetOptions::new().with_head(true);
    done(rule, store.get_opts(path, options).await).meta
}

async fn listed(rule: &str, store: &dyn ObjectStore, prefix: Option<&Path>) -> Vec<ObjectMeta> {
    done(rule, store.list(prefix).try_collect().await)
}

fn locations(listed: &[ObjectMeta]) -> BTreeSet<Path> {
    listed.iter().map(|meta| meta.location.clone()).collect()
}

/// An object in a message: not all of its bytes.
struct Found<'a>(&'a Path, Option<&'a [u8]>);

impl fmt::Debug for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(path, content) = self;
        match content {
            None => write!(f, "{path}: nothing"),
            Some(bytes) => {
                let start = bytes.get(..bytes.len().min(32)).unwrap_or_default();
                write!(f, "{path}: {} bytes, {:?}", bytes.len(), String::from_utf8_lossy(start))
            }
        }
    }
}
