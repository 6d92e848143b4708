//! What a host brings: a clock, and places on the local file system.

use std::path::Path;
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
    match path.is_dir() {
        true => directory(path),
        false => Place::new(format!("file://{}", path.display()), Arc::new(InMemory::new()), ""),
    }
}

/// A directory as a place; created if it is not there. Writes are on disk before they are reported.
pub(crate) fn directory(path: &Path) -> Result<Place> {
    let failed = |e: std::io::Error| {
        Error::new(
            ErrorKind::Invalid,
            format!("directory cannot be used. path=`{}`", path.display()),
        )
        .with_source(e)
    };
    std::fs::create_dir_all(path).map_err(failed)?;
    let path = path.canonicalize().map_err(failed)?;
    let store = LocalFileSystem::new_with_prefix(&path)
        .map_err(|e| Error::from_store("open", path.display(), e))?
        .with_fsync(true);
    Place::new(format!("file://{}", path.display()), Arc::new(store), "")
}
