//! Where the pages of a column chunk lie, so that their headers are known beside the pages.

use std::collections::VecDeque;
use std::ops::Range;

use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::ChunkReader;

use super::Result;
use crate::merge::budget::natural;
use crate::merge::decode::Extents;
use crate::merge::pages::{PageHeader, header};

/// Goes from page to page as the reader of pages does.
pub(super) enum Places {
    /// Each begins where the one before ends.
    InARow(Range<u64>),
    /// As an offset index says, the dictionary first where there is one.
    Told {
        dictionary: Option<Range<u64>>,
        pages: VecDeque<Range<u64>>,
    },
}

/// The header of a page, and where the rest of the page lies.
pub(super) struct Place {
    pub(super) header: PageHeader,
    pub(super) body: Range<u64>,
}

impl Places {
    pub(super) fn new(chunk: &ColumnChunkMetaData, told: Option<&[PageLocation]>) -> Self {
        let (start, length) = chunk.byte_range();
        let Some(told) = told else {
            return Self::InARow(start..start.saturating_add(length));
        };
        let range = |page: &PageLocation| {
            let start = natural(page.offset);
            start..start.saturating_add(natural(i64::from(page.compressed_page_size)))
        };
        let first = told.first().map_or(start, |page| natural(page.offset));
        Self::Told {
            dictionary: (first != start).then_some(start..first),
            pages: told.iter().map(range).collect(),
        }
    }

    /// The next page; `None` after the last.
    pub(super) fn next(&mut self, bytes: &Extents) -> Result<Option<Place>> {
        let place = match self {
            Self::InARow(rest) if rest.is_empty() => return Ok(None),
            Self::InARow(rest) => rest.clone(),
            Self::Told { dictionary, pages } => match dictionary.take().or_else(|| pages.pop_front()) {
                Some(place) => place,
                None => return Ok(None),
            },
        };
        let broken = || ParquetError::EOF("a page longer than its place".to_owned());
        let length = usize::try_from(place.end.saturating_sub(place.start)).map_err(|_| broken())?;
        let page = bytes.get_bytes(place.start, length)?;
        let header = header(&page).map_err(|e| ParquetError::General(format!("page header {e}")))?;
        let start = place.start + header.length as u64;
        let end = start.saturating_add(header.compressed);
        if end > place.end {
            return Err(broken());
        }
        if let Self::InARow(rest) = self {
            rest.start = end;
        }
        Ok(Some(Place {
            header,
            body: start..end,
        }))
    }

    /// Passes over the next page; whether that is one of data. Where an index says where pages are, those that are
    /// passed over may not be at hand.
    pub(super) fn skip(&mut self, bytes: &Extents) -> Result<bool> {
        if let Self::Told { dictionary, pages } = self {
            return Ok(dictionary.take().is_none() && pages.pop_front().is_some());
        }
        let place = self.next(bytes)?;
        Ok(place.is_some_and(|place| !place.header.is_dictionary))
    }
}
