//! Where things lie: a prefix of an object store, with a URL to compare it by.

use std::fmt;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// A prefix of an object store, and the URL by which it is told apart from other places.
///
/// Two stores that lead to the same bytes cannot be recognised as such, so the host names the place:
/// `s3://bucket/raw`, `file:///srv/tables`. The URL is compared, never opened.
#[derive(Clone)]
pub struct Place {
    url: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Place {
    /// The place `prefix` of `store`, known as `url`.
    ///
    /// # Errors
    ///
    /// `Invalid` when `prefix` is not a path as object stores have them, or when `url` has a password or a query: it is
    /// kept in the open, with lanes and tables.
    pub fn new(url: impl Into<String>, store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self> {
        let url = url.into();
        check_url(&url)?;
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            store,
            prefix: parse_path(prefix)?,
        })
    }

    /// The URL, without a trailing slash.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The prefix in the store.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The path of `key` below this place, taken as it is.
    pub(crate) fn path(&self, key: &str) -> Result<Path> {
        match self.prefix.as_ref() {
            "" => parse_path(key),
            prefix => parse_path(&format!("{prefix}/{key}")),
        }
    }

    /// The key below this place of a path of its store.
    pub(crate) fn key<'a>(&self, path: &'a Path) -> Option<&'a str> {
        match self.prefix.as_ref() {
            "" => Some(path.as_ref()),
            prefix => path.as_ref().strip_prefix(prefix)?.strip_prefix('/'),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("url", &self.url)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// A path from outside, taken as it is: nothing is encoded or decoded.
pub(crate) fn parse_path(text: &str) -> Result<Path> {
    Path::parse(text).map_err(|e| {
        Error::new(
            ErrorKind::Invalid,
            format!("not a path of an object store. path=`{text}`"),
        )
        .with_source(e)
    })
}

/// Refuses a URL that may carry a secret, without showing it: `scheme://user:password@host`, `...?sig=...`. The `@` of
/// `abfss://container@account.dfs.core.windows.net` is none.
pub(crate) fn check_url(url: &str) -> Result<()> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split('/').next().unwrap_or_default();
    let has_password = authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    let what = match (has_password, rest.contains('?')) {
        (true, _) => "a password",
        (false, true) => "a query",
        (false, false) => return Ok(()),
    };
    Err(Error::new(
        ErrorKind::Invalid,
        format!(
            "the URL of a place has {what}: give credentials to its store, the URL is only compared. scheme=`{scheme}`"
        ),
    ))
}

/// Whether one URL is the other, or lies below it. Case is ignored, since some stores do.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    let segments = |url: &str| -> Vec<String> {
        url.to_lowercase()
            .trim_end_matches('/')
            .split('/')
            .map(str::to_owned)
            .collect()
    };
    segments(a).iter().zip(&segments(b)).all(|(x, y)| x == y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_with_a_secret_is_refused_and_not_shown() {
        let url_of =
            |url: &str| Place::new(url, Arc::new(object_store::memory::InMemory::new()), "").map(|place| place.url);
        for url in ["abfss://c@a.dfs.core.windows.net/t", "s3://b/a@b:c", "file:///t", "t"] {
            assert_eq!(url_of(url).unwrap(), url);
        }
        for url in [
            "https://u:hunter2@host/t",
            "https://a.blob.core.windows.net/c?sv=1&sig=hunter2",
        ] {
            let error = format!("{:?}", url_of(url).unwrap_err());
            assert!(
                error.contains("scheme=`https`") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn places_overlap_by_whole_segments_and_without_case() {
        assert!(overlap("file:///t/eu", "file:///t/EU/users"));
        assert!(overlap("file:///t/eu/", "file:///t/eu"));
        assert!(!overlap("file:///t/eu", "file:///t/eu2"));
        assert!(!overlap("s3://a/t", "s3://b/t"));
    }
}
