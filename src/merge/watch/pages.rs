//! The pages of a column chunk, each looked at before it is handed on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;

use super::inflate::{check_lz4_frame, inflate, is_unbounded};
use super::lengths::{check_delta, plain_lengths, walk_delta, walk_indexes};
use super::places::{Place, Places};
use super::shape::Shape;
use super::{Result, Watch};
use crate::merge::budget::to_usize;
use crate::merge::decode::Extents;
use crate::merge::pages::PageHeader;

/// Most lengths in a page: the decoder keeps them all.
const MAX_LENGTHS: u64 = 4 << 20;

/// The pages of a column chunk, each looked at before it is handed on.
pub(in crate::merge) struct WatchedPages {
    pages: SerializedPageReader<Extents>,
    places: Places,
    bytes: Arc<Extents>,
    /// Whose pages are decompressed here.
    codec: Compression,
    shape: Shape,
    /// Lengths of the values of the dictionary, where they are needed.
    dictionary: Vec<u32>,
    /// The longest of them.
    longest: u64,
    watch: Arc<Watch>,
    leaf: usize,
    /// Number of the next data page.
    next: usize,
    /// What this column has put into [`Watch::widest`].
    widest: u64,
    /// The batch in which the last page was opened, and what it unfolds to.
    opened: (u64, u64),
}

impl WatchedPages {
    pub(in crate::merge) fn new(
        bytes: &Arc<Extents>,
        (leaf, chunk): (usize, &ColumnChunkMetaData),
        rows: usize,
        places: Option<Vec<PageLocation>>,
        watch: &Arc<Watch>,
    ) -> Result<Self> {
        let codec = chunk.compression();
        let plain = is_unbounded(codec).then(|| {
            let builder = chunk.clone().into_builder();
            builder.set_compression(Compression::UNCOMPRESSED).build()
        });
        let plain = plain.transpose()?;
        let read_as = plain.as_ref().unwrap_or(chunk);
        Ok(Self {
            places: Places::new(chunk, places.as_deref()),
            pages: SerializedPageReader::new(Arc::clone(bytes), read_as, rows, places)?,
            bytes: Arc::clone(bytes),
            codec,
            shape: Shape::of(chunk.column_descr()),
            dictionary: Vec::new(),
            longest: 0,
            watch: Arc::clone(watch),
            leaf,
            next: 0,
            widest: 0,
            opened: (0, 0),
        })
    }

    /// A page as it is once decompressed.
    fn inflate(&self, mut page: Page, told: &PageHeader) -> Result<Page> {
        if !is_unbounded(self.codec) {
            return Ok(page);
        }
        let (buf, levels) = match &mut page {
            Page::DictionaryPage { buf, .. } | Page::DataPage { buf, .. } => (buf, 0),
            Page::DataPageV2 {
                is_compressed: false, ..
            } => return Ok(page),
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => (buf, u64::from(*def_levels_byte_len) + u64::from(*rep_levels_byte_len)),
        };
        *buf = inflate(self.codec, buf, to_usize(levels), to_usize(told.uncompressed))?;
        Ok(page)
    }

    /// Looks at a page before it is decoded.
    fn check(&mut self, page: &Page) -> Result<()> {
        let (buf, count, encoding) = match page {
            Page::DictionaryPage { buf, num_values, .. } => return self.check_dictionary(buf, u64::from(*num_values)),
            Page::DataPage {
                buf,
                num_values,
                encoding,
                ..
            }
            | Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                ..
            } => (buf, u64::from(*num_values), *encoding),
        };
        let values = self.shape.values(page)?;
        let mut unfolded = buf.len() as u64;
        let mut widest = 0;
        match encoding {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => check_delta(values, count.min(MAX_LENGTHS))?,
            Encoding::DELTA_BYTE_ARRAY => {
                let mut prefixes = Vec::new();
                let end = walk_delta(values, count.min(MAX_LENGTHS), |length| prefixes.push(length))?;
                let mut prefixes = prefixes.into_iter();
                let (mut all, suffixes) = (0, values.get(end..).unwrap_or_default());
                walk_delta(suffixes, count.min(MAX_LENGTHS), |suffix| {
                    let prefix = prefixes.next().unwrap_or(0);
                    let length = natural(prefix).saturating_add(natural(suffix));
                    all += length;
                    widest = widest.max(length);
                })?;
                unfolded = unfolded.max(all);
            }
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY if self.shape.is_bytes() => {
                if self.shape.is_list() {
                    let mut all = 0;
                    walk_indexes(values, count, |index, times| {
                        let length = self.dictionary.get(to_usize(u64::from(index)));
                        all += u64::from(length.copied().unwrap_or(0)) * times;
                    })?;
                    unfolded = unfolded.max(all);
                } else {
                    widest = self.longest;
                }
            }
            _ => {}
        }
        self.open(
            unfolded.saturating_add(count.saturating_mul(self.shape.beside())),
            widest,
        )
    }

    /// Decoders allocate by the count of values of a dictionary.
    fn check_dictionary(&mut self, buf: &Bytes, count: u64) -> Result<()> {
        if count.saturating_mul(self.shape.least()) > (buf.len() as u64).max(self.shape.least()) {
            return Err(ParquetError::General(
                "more values in a dictionary than bytes".to_owned(),
            ));
        }
        if self.shape.is_bytes() {
            let lengths = plain_lengths(buf, count);
            if self.shape.is_list() {
                self.dictionary = lengths.collect();
            } else {
                self.longest = lengths.max().map_or(0, u64::from);
            }
        }
        Ok(())
    }

    /// A page is opened that unfolds to so many bytes, with values of up to `widest`.
    fn open(&mut self, unfolded: u64, widest: u64) -> Result<()> {
        let watch = &self.watch;
        self.next += 1;
        if let Some(opened) = watch.opened.get(self.leaf) {
            opened.store(self.next, Ordering::Relaxed);
        }
        // Values of lists are many to a row; what they unfold to is known of the page as a whole.
        let is_list = self.shape.is_list();
        let widest = if is_list { 0 } else { widest };
        let before = std::mem::replace(&mut self.widest, widest);
        watch.widest.fetch_add(widest, Ordering::Relaxed);
        watch.widest.fetch_sub(before, Ordering::Relaxed);
        if watch.passed.get(self.leaf).is_some_and(|passed| self.next <= *passed) {
            return watch.check();
        }
        let batch = watch.batch.load(Ordering::Relaxed);
        let (opened, bytes) = std::mem::replace(&mut self.opened, (batch, unfolded));
        if opened == batch {
            // The page before was opened and used up by the same rows.
            watch.used.fetch_add(bytes, Ordering::Relaxed);
        }
        if is_list && unfolded > watch.limit {
            // All of it may be of one row.
            watch.used.fetch_add(unfolded, Ordering::Relaxed);
        }
        self.watch.check()
    }
}

impl Iterator for WatchedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for WatchedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(Place { header, body }) = self.places.next(&self.bytes)? else {
            return self.pages.get_next_page();
        };
        if self.codec == Compression::LZ4 {
            let body = self.bytes.get_bytes(body.start, to_usize(header.compressed))?;
            check_lz4_frame(&body, to_usize(header.uncompressed))?;
        }
        let Some(page) = self.pages.get_next_page()? else {
            return Ok(None);
        };
        let page = self.inflate(page, &header)?;
        self.check(&page)?;
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        if self.places.skip(&self.bytes)? {
            self.next += 1;
        }
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

/// What is negative is found by the decoder.
fn natural(length: i32) -> u64 {
    u64::try_from(length).unwrap_or(0)
}
