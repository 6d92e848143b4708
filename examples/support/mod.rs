//! What a host brings: a clock, and places on the local file system.

use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use firnline::object_store::local::LocalFileSystem;
use firnline::object_store::memory::InMemory;
use firnline::{Clock, Error, ErrorKind, Place, Result, Timestamp};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures_timer::Delay;

/// The system's clock, or one that started at another time and runs at the same speed.
#[derive(Clone, Debug)]
pub(crate) struct SystemClock {
    ahead_ms: i64,
}

impl SystemClock {
    /// A clock that shows `start` now; without one, the time.
    pub(crate) fn starting_at(start: Option<Timestamp>) -> Self {
        let ahead_ms = start.map_or(0, |start| start.as_millis() - system_millis());
        Self { ahead_ms }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(system_millis() + self.ahead_ms)
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        // At most a minute, since a system's clock may be set; waking early is allowed.
        let pause = deadline.millis_since(self.now()).min(60_000);
        Delay::new(Duration::from_millis(pause)).boxed()
    }
}

fn system_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A directory to look at: an empty place where there is none, so that looking creates nothing.
pub(crate) fn directory_as_it_is(path: &Path) -> Result<Place> {
    if path.is_dir() {
        return directory(path);
    }
    let path = resolved(path).map_err(|e| unusable(path, e))?;
    Place::new(format!("file://{}", path.display()), Arc::new(InMemory::new()), "")
}

/// A directory as a place; created if it is not there. Writes are on disk before they are reported.
pub(crate) fn directory(path: &Path) -> Result<Place> {
    std::fs::create_dir_all(path).map_err(|e| unusable(path, e))?;
    let path = path.canonicalize().map_err(|e| unusable(path, e))?;
    let store = LocalFileSystem::new_with_prefix(&path)
        .map_err(|e| Error::from_store("open", path.display(), e))?
        .with_fsync(true);
    Place::new(format!("file://{}", path.display()), Arc::new(store), "")
}

/// Where a directory lies or will lie, links followed.
pub(crate) fn resolved(path: &Path) -> std::io::Result<PathBuf> {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Err(e), Some(parent), Some(name)) if e.kind() == IoErrorKind::NotFound => {
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            Ok(resolved(parent)?.join(name))
        }
        (answer, ..) => answer,
    }
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    let message = format!("directory cannot be used. path=`{}`", path.display());
    Error::new(ErrorKind::Unavailable, message).with_source(error)
}
