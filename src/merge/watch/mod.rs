//! Pages on their way to the decoder: what they unfold to is known before it is decoded.
//!
//! What page headers claim has been checked before (`pages`); here it is what the pages themselves say. A decoder
//! allocates by counts within them, and repeats values and parts of values as often as they ask for: a page of some
//! hundred bytes would take all of the memory, and the process with it.

mod inflate;
mod lengths;
mod pages;
mod places;
mod shape;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parquet::arrow::arrow_reader::RowGroups;
use parquet::column::page::{PageIterator, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

pub(super) use self::pages::WatchedPages;
use super::decode::Extents;

type Result<T> = std::result::Result<T, ParquetError>;

/// How wide rows may be that are decoded at once, and how wide they are.
#[derive(Debug)]
pub(super) struct Watch {
    /// Bytes that the rows of a batch may unfold to.
    limit: u64,
    /// Rows of a batch.
    rows: u64,
    /// Number of the batch.
    batch: AtomicU64,
    /// Bytes of pages that this batch has used up.
    used: AtomicU64,
    /// The widest values that the open pages have, of all columns.
    widest: AtomicU64,
    /// What the rows of a batch would have come to, once that was too much.
    exceeded: AtomicU64,
    /// Pages opened so far, by leaf column.
    opened: Vec<AtomicUsize>,
    /// Pages that other decoders have opened for rows before; to pass over lists takes opening them again.
    passed: Vec<usize>,
}

impl Watch {
    /// For batches of so many rows, of so many leaf columns, after pages that have been `passed`.
    pub(super) fn new(limit: u64, rows: usize, leaves: usize, passed: Vec<usize>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            rows: rows as u64,
            batch: AtomicU64::new(0),
            used: AtomicU64::new(0),
            widest: AtomicU64::new(0),
            exceeded: AtomicU64::new(0),
            opened: std::iter::repeat_with(AtomicUsize::default).take(leaves).collect(),
            passed,
        })
    }

    /// Pages opened so far, by leaf column.
    pub(super) fn opened(&self) -> Vec<usize> {
        self.opened.iter().map(|pages| pages.load(Ordering::Relaxed)).collect()
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Another batch begins.
    pub(super) fn next_batch(&self) {
        self.batch.fetch_add(1, Ordering::Relaxed);
        self.used.store(0, Ordering::Relaxed);
    }

    /// What a batch would have come to that was too wide, so that the decoder was stopped; with fewer rows it may do.
    pub(super) fn exceeded(&self) -> Option<u64> {
        Some(self.exceeded.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    fn check(&self) -> Result<()> {
        // What a single row repeats is no more than a page has, and that is counted against the budget.
        let repeated = match self.rows {
            1 => 0,
            rows => self.widest.load(Ordering::Relaxed).saturating_mul(rows),
        };
        let bytes = self.used.load(Ordering::Relaxed).max(repeated);
        if bytes <= self.limit {
            return Ok(());
        }
        self.exceeded.store(bytes, Ordering::Relaxed);
        Err(ParquetError::General("rows are wider than told".to_owned()))
    }
}

/// The column chunks of a row group whose bytes are at hand.
pub(super) struct Watched {
    pub(super) metadata: Arc<ParquetMetaData>,
    pub(super) group: usize,
    pub(super) bytes: Arc<Extents>,
    /// Whether pages are read where the offset index says, and not one after the other.
    pub(super) by_index: bool,
    pub(super) watch: Arc<Watch>,
}

impl Watched {
    fn group(&self) -> Option<&RowGroupMetaData> {
        self.metadata.row_groups().get(self.group)
    }

    fn pages(&self, leaf: usize) -> Result<Box<dyn PageReader>> {
        let chunk = self.group().and_then(|group| group.columns().get(leaf));
        let chunk = chunk.ok_or_else(|| ParquetError::General("no such column chunk".to_owned()))?;
        let index = self.metadata.page_index_for_row_group(self.group);
        let places = index.offset_index(leaf).filter(|_| self.by_index);
        let places = places.map(|index| index.page_locations().clone());
        let pages = WatchedPages::new(&self.bytes, (leaf, chunk), self.num_rows(), places, &self.watch)?;
        Ok(Box::new(pages))
    }
}

impl RowGroups for Watched {
    fn num_rows(&self) -> usize {
        let rows = self.group().map_or(0, RowGroupMetaData::num_rows);
        usize::try_from(rows).unwrap_or(0)
    }

    fn column_chunks(&self, leaf: usize) -> Result<Box<dyn PageIterator>> {
        Ok(Box::new(OneChunk(Some(self.pages(leaf)))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.group().into_iter())
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

struct OneChunk(Option<Result<Box<dyn PageReader>>>);

impl Iterator for OneChunk {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take()
    }
}

impl PageIterator for OneChunk {}
