//! Row groups of an input that are copied as they are.

use std::sync::Arc;

use arrow::row::OwnedRow;
use parquet::file::metadata::{PageIndexPolicy, RowGroupMetaData};

use super::key_check::{KeyCheck, KeyReader};
use super::{InputReader, bytes_of};
use crate::merge::batch::MAX_BATCH_ROWS;
use crate::merge::budget::{fetch_limit, natural, to_usize};
use crate::merge::chain::span_of;
use crate::merge::copying::{Claim, Copied, Offer};
use crate::merge::decode::find;
use crate::merge::error::{MergeError, SourceError};
use crate::merge::fetch::{coalesced, fetch_ranges, length};
use crate::merge::input::Input;
use crate::merge::order::KeyEncoder;
use crate::merge::page_index::read_page_indexes;
use crate::merge::pages::measure;
use crate::merge::slices::Slice;

/// The part of an allotment that key columns are decoded in.
const KEY_BATCH_SHARE: u64 = 32;

impl InputReader {
    /// What the footer tells of the next row group, if that is to be copied by the rule of the plan.
    pub(in crate::merge) fn claim(&mut self) -> Option<Claim> {
        if self.open.is_some() || self.postponed.is_some() {
            return None;
        }
        let plan = self.plan.clone();
        let rule = plan.copying.as_ref()?;
        let file = self.file.as_mut()?;
        let number = file.next_whole_group()?;
        let footer = &file.input.footer;
        let group = footer.metadata.row_groups().get(number)?;
        if !file.input.may_copy || file.decoded == Some(number) || !rule.allows(group) {
            return None;
        }
        let keys = plan
            .keys
            .as_ref()
            .map_or(0, |keys| length(&slice_of(group, keys).ranges()));
        // Its key columns are there at once, and then any one column beside them.
        if keys > fetch_limit(self.allotment) || largest_chunk(group) > self.allotment - keys {
            return None;
        }
        let offer = Offer::of(group);
        if plan.keys.is_none() {
            return Some(Claim { offer, span: None });
        }
        let (groups, schema) = (std::slice::from_ref(group), &footer.schema);
        let span = span_of(groups, schema, &plan.columns, &rule.sort_order);
        Some(Claim {
            offer,
            span: Some(span?),
        })
    }

    /// Lets the next row group be decoded.
    pub(in crate::merge) fn decline(&mut self) {
        if let Some(file) = &mut self.file {
            file.decoded = Some(file.next_group);
        }
    }

    /// The next row group as it is; `None` if it has to be decoded after all, for want of memory. Its keys are still to
    /// be read.
    pub(in crate::merge) async fn copy(&mut self) -> Result<Option<Copied>, MergeError> {
        let index = self.origin.index;
        let at = |error: SourceError| error.at(index);
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        let (input, number) = (file.input.clone(), file.next_group);
        let Some(group) = input.footer.metadata.row_groups().get(number) else {
            return Ok(None);
        };
        let metadata = read_page_indexes(&input, group, PageIndexPolicy::Optional).await;
        let metadata = Arc::new(metadata.map_err(at)?);
        if let Some(encoder) = self.plan.keys.clone() {
            let slice = slice_of(group, &encoder);
            let Some(width) = self.fetch_keys(&input, &slice).await.map_err(at)? else {
                self.decline();
                return Ok(None);
            };
            let spawner = self.plan.spawner.as_ref();
            let rows = to_usize(self.allotment / KEY_BATCH_SHARE / width.max(1)).clamp(1, MAX_BATCH_ROWS);
            let reader = KeyReader::new(&input, &self.plan, (&metadata, slice), &self.extents, rows);
            let reader = reader.map_err(|reason| at(reason.into()))?;
            self.key_check = Some(KeyCheck::start(reader, encoder, self.in_order.clone(), index, spawner)?);
        }
        if let Some(file) = &mut self.file {
            file.next_group += 1;
        }
        Ok(Some(Copied {
            offer: Offer::of(group),
            room: self.allotment.saturating_sub(self.held.bytes()),
            extents: Arc::clone(&self.extents),
            held: self.plan.memory.hold(0),
            input,
            metadata,
        }))
    }

    /// The first and the last key of the row group that has been copied, now that they have been read and are in order.
    pub(in crate::merge) async fn copied_keys(&mut self) -> Result<Option<(OwnedRow, OwnedRow)>, MergeError> {
        let Some(check) = self.key_check.take() else {
            return Ok(None);
        };
        let (first, in_order) = check.outcome().await?;
        // What the decoder held is free again.
        self.held.resize(bytes_of(&self.extents));
        let keys = first.zip(in_order.last.clone());
        self.in_order = in_order;
        Ok(keys)
    }

    /// Fetches key columns; the width of a row of them, or `None` if decoding them takes too much.
    async fn fetch_keys(&mut self, input: &Input, slice: &Slice) -> Result<Option<u64>, SourceError> {
        let ranges = slice.ranges();
        if ranges.iter().any(|range| find(&self.extents, range).is_none()) {
            self.extents = Arc::default();
            self.held.resize(length(&coalesced(&ranges)));
            let footer = &input.footer;
            let extents = fetch_ranges(&*input.store, &footer.location, &footer.etag, &ranges).await?;
            self.extents = Arc::new(extents);
        }
        let measured = measure(slice, &self.extents)?;
        let needed = bytes_of(&self.extents).saturating_add(measured.resident());
        self.held.resize(needed);
        Ok((needed <= fetch_limit(self.allotment)).then_some(measured.row_width))
    }
}

fn largest_chunk(group: &RowGroupMetaData) -> u64 {
    let bytes = group.columns().iter().map(|chunk| natural(chunk.compressed_size()));
    bytes.max().unwrap_or(0)
}

/// The key columns of a row group, which has the columns of the plan.
fn slice_of(group: &RowGroupMetaData, encoder: &KeyEncoder) -> Slice {
    let mut slice = Slice::whole(group);
    let schema = group.schema_descr();
    let mut leaf = 0;
    slice.columns.retain(|_| {
        let root = schema.get_column_root_idx(leaf);
        leaf += 1;
        encoder.columns().contains(&root)
    });
    slice
}
