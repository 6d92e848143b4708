//! Fetching what comes next while what is at hand is being merged.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;

use futures::FutureExt;
use futures::future::{BoxFuture, MaybeDone, maybe_done};

use super::budget::{Held, Memory};
use super::error::SourceError;
use super::fetch::{Extent, coalesced, fetch_ranges, length};
use super::input::Input;
use super::sources::Source;

/// Inputs of a chain that are fetched ahead at most.
const MOST_AHEAD: usize = 16;

type Fetch<T, E> = BoxFuture<'static, Result<T, E>>;

/// A fetch under way. Nothing runs by itself: it goes on when it is polled.
pub(super) struct Ahead<T, E> {
    fetch: Pin<Box<MaybeDone<Fetch<T, E>>>>,
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

impl Pages {
    /// Starts to fetch all pages of `input`, if that takes no more than `spare` bytes.
    fn of(input: &Input, spare: u64, memory: &Memory) -> Option<Self> {
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

/// All pages of an input.
pub(super) type Pages = Ahead<Vec<Extent>, SourceError>;

/// What is fetched ahead of the inputs of a chain that wait, in their order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// `None` where there is nothing to fetch.
    ahead: VecDeque<Option<Pages>>,
}

impl Queue {
    /// Fetches ahead of those that `wait`, as far as `limit` bytes go for all of them, or `spare` for the first.
    pub(super) fn extend<'a>(
        &mut self,
        wait: impl Iterator<Item = &'a Source>,
        (limit, spare): (u64, u64),
        memory: &Memory,
    ) {
        for input in wait
            .skip(self.ahead.len())
            .take(MOST_AHEAD.saturating_sub(self.ahead.len()))
        {
            // Where the footer has to be read again, nothing is known yet.
            let Some(input) = input.at_hand() else { break };
            if input.footer.content.is_some() {
                self.ahead.push_back(None);
                continue;
            }
            let left = limit.saturating_sub(self.bytes());
            let left = if self.bytes() == 0 { left.max(spare) } else { left };
            let Some(pages) = Pages::of(&input, left, memory) else {
                break;
            };
            self.ahead.push_back(Some(pages));
        }
    }

    /// Whether the next input has not been looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.ahead.is_empty()
    }

    fn bytes(&self) -> u64 {
        self.ahead.iter().flatten().map(|pages| pages.held.bytes()).sum()
    }

    /// What is fetched of the first one.
    pub(super) fn next(&mut self) -> Option<Pages> {
        self.ahead.pop_front().flatten()
    }

    /// Lets all go on for a turn.
    pub(super) async fn turn(&mut self) {
        for pages in self.ahead.iter_mut().flatten() {
            pages.turn().await;
        }
    }
}

impl<T, E> fmt::Debug for Ahead<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
