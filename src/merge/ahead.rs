//! Fetching what comes next while what is at hand is being merged.

use std::fmt;
use std::pin::Pin;

use futures::FutureExt;
use futures::future::{BoxFuture, MaybeDone, maybe_done};

use super::budget::{Held, Memory};
use super::error::SourceError;
use super::fetch::{Extent, coalesced, fetch_ranges, length};
use super::input::Input;

/// A fetch under way. Nothing runs by itself: it goes on when it is polled.
pub(super) struct Ahead<T, E> {
    fetch: Pin<Box<MaybeDone<BoxFuture<'static, Result<T, E>>>>>,
    /// What it counts for.
    held: Held,
}

impl<T: Default, E> Ahead<T, E> {
    /// Starts a fetch.
    pub(super) fn start(fetch: impl Future<Output = Result<T, E>> + Send + 'static, held: Held) -> Self {
        Self {
            fetch: Box::pin(maybe_done(fetch.boxed())),
            held,
        }
    }

    /// Lets it go on for a turn.
    pub(super) async fn turn(&mut self) {
        // Polled again when its outcome is wanted, at the latest.
        let _ = futures::poll!(self.fetch.as_mut());
    }

    /// What was fetched, with what it counts for.
    pub(super) async fn finish(mut self) -> Result<(T, Held), E> {
        self.fetch.as_mut().await;
        let fetched = self.fetch.as_mut().take_output().unwrap_or_else(|| Ok(T::default()))?;
        Ok((fetched, self.held))
    }
}

impl Ahead<Vec<Extent>, SourceError> {
    /// Starts to fetch all pages of `input`, if that is worth it and takes no more than `spare` bytes.
    pub(super) fn of(input: &Input, spare: u64, memory: &Memory) -> Option<Self> {
        if input.footer.content.is_some() {
            return None;
        }
        let ranges = coalesced(&input.ranges());
        let bytes = length(&ranges);
        if bytes > spare {
            return None;
        }
        let (store, footer) = (input.store.clone(), &input.footer);
        let (location, etag) = (footer.location.clone(), footer.etag.clone());
        let fetch = async move { fetch_ranges(&*store, &location, &etag, &ranges).await };
        Some(Self::start(fetch, memory.hold(bytes)))
    }
}

impl<T, E> fmt::Debug for Ahead<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
