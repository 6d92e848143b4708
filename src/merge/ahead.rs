//! Fetching the input that comes next in a chain while the one before it is being merged.

use std::fmt;
use std::pin::Pin;

use futures::FutureExt;
use futures::future::{BoxFuture, MaybeDone, maybe_done};

use super::budget::{Held, Memory};
use super::error::SourceError;
use super::fetch::{Extent, coalesced, fetch_ranges, length};
use super::input::Input;

/// All pages of an input, under way. Nothing runs by itself: it goes on when it is polled.
pub(super) struct Ahead {
    fetch: Pin<Box<MaybeDone<Fetch>>>,
    held: Held,
}

type Fetch = BoxFuture<'static, Result<Vec<Extent>, SourceError>>;

impl Ahead {
    /// Starts to fetch the whole of `input`, if that is worth it and takes no more than `spare` bytes.
    pub(super) fn start(input: &Input, spare: u64, memory: &Memory) -> Option<Self> {
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
        let fetch: Fetch = async move { fetch_ranges(&*store, &location, &etag, &ranges).await }.boxed();
        Some(Self {
            fetch: Box::pin(maybe_done(fetch)),
            held: memory.hold(bytes),
        })
    }

    /// Lets it go on for a turn.
    pub(super) async fn turn(&mut self) {
        // Polled again when its outcome is wanted, at the latest.
        let _ = futures::poll!(self.fetch.as_mut());
    }

    /// What was fetched, with what it counts for.
    pub(super) async fn finish(mut self) -> Result<(Vec<Extent>, Held), SourceError> {
        self.fetch.as_mut().await;
        let extents = self.fetch.as_mut().take_output().unwrap_or_else(|| Ok(Vec::new()))?;
        Ok((extents, self.held))
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
