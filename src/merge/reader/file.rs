//! The file of an input, and how far it has been read.

use std::sync::Arc;

use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::file::metadata::RowGroupMetaData;

use super::opening::Refusal;
use crate::merge::decode::Piece;
use crate::merge::error::SourceError;
use crate::merge::input::Input;
use crate::merge::page_index::read_page_index;
use crate::merge::slices::{self, Division, Slice};
use crate::schema::Caster;

/// What is known of the file being read, and how far it has been read.
#[derive(Debug)]
pub(super) struct File {
    pub(super) input: Input,
    pub(super) caster: Caster,
    pub(super) arrow: ArrowReaderMetadata,
    pub(super) next_group: usize,
    /// A row group that is not copied, whatever the rule says.
    pub(super) decoded: Option<usize>,
    /// The row group before `next_group`, if it is read in parts.
    pub(super) division: Option<(ArrowReaderMetadata, Division)>,
}

impl File {
    pub(super) fn is_at_its_end(&self) -> bool {
        self.division.as_ref().is_none_or(|(_, division)| division.is_done())
            && self.next_group >= self.input.footer.metadata.num_row_groups()
    }

    /// A part of a slice that takes more than was told, if it can be cut.
    pub(super) async fn smaller(&mut self, piece: &Piece, allotment: u64) -> Result<Option<Piece>, SourceError> {
        if let Some((arrow, division)) = &mut self.division {
            return Ok(division.smaller(&piece.slice).map(|slice| Piece {
                arrow: arrow.clone(),
                group: 0,
                slice,
            }));
        }
        let metadata = Arc::clone(&self.input.footer.metadata);
        let group = metadata.row_groups().get(piece.group);
        let Some(group) = group.filter(|group| slices::is_divisible(group)) else {
            return Ok(None);
        };
        let (arrow, index) = read_page_index(&self.input, group).await?;
        let mut division = Division::new(group, &index)?;
        let first = division.next(allotment / 2);
        self.division = Some((arrow.clone(), division));
        Ok(first.and_then(Result::ok).map(|slice| Piece { arrow, group: 0, slice }))
    }

    /// Of the page index being used.
    pub(super) fn memory_size(&self) -> u64 {
        self.division.as_ref().map_or(0, |(_, division)| division.memory_size())
    }

    /// The next slice to read; divides the next row group when needed.
    pub(super) async fn next_piece(&mut self, allotment: u64) -> Result<Option<Piece>, Refusal> {
        let metadata = Arc::clone(&self.input.footer.metadata);
        loop {
            if let Some((arrow, division)) = &mut self.division {
                match division.next(allotment) {
                    Some(Ok(slice)) => {
                        let arrow = arrow.clone();
                        return Ok(Some(Piece { arrow, group: 0, slice }));
                    }
                    Some(Err(needed)) => {
                        let what = "one page of every column";
                        return Err(Refusal::NeedsMore { what, needed });
                    }
                    None => self.division = None,
                }
            }
            let group = self.next_group;
            let Some(row_group) = metadata.row_groups().get(group) else {
                return Ok(None);
            };
            self.next_group += 1;
            if row_group.num_rows() == 0 {
                continue;
            }
            let needed = slices::cost_in_batches(row_group).min(slices::cost_at_once(row_group));
            if needed <= allotment {
                return Ok(Some(Piece {
                    arrow: self.arrow.clone(),
                    group,
                    slice: Slice::whole(row_group),
                }));
            }
            if !slices::is_divisible(row_group) {
                let what = "row group without page index";
                return Err(Refusal::NeedsMore { what, needed });
            }
            let (arrow, index) = read_page_index(&self.input, row_group).await?;
            self.division = Some((arrow, Division::new(row_group, &index)?));
        }
    }

    /// The number of the next row group that has rows; none while one is being read in parts.
    pub(super) fn next_whole_group(&mut self) -> Option<usize> {
        if self.division.as_ref().is_some_and(|(_, division)| !division.is_done()) {
            return None;
        }
        let groups = self.input.footer.metadata.row_groups();
        while groups.get(self.next_group)?.num_rows() == 0 {
            self.next_group += 1;
        }
        Some(self.next_group)
    }
}

/// The ranges of all row groups, if the whole file may be held at once.
pub(super) fn whole_file(input: &Input, allotment: u64) -> Option<Vec<std::ops::Range<u64>>> {
    let groups = input.footer.metadata.row_groups();
    let bytes = groups
        .iter()
        .flat_map(RowGroupMetaData::columns)
        .fold(0_u64, |sum, chunk| sum.saturating_add(chunk.byte_range().1));
    let needs = groups
        .iter()
        .map(|group| slices::cost_in_batches(group).min(slices::cost_at_once(group)));
    let fits = bytes.saturating_add(needs.max().unwrap_or(0)) <= allotment;
    fits.then(|| input.ranges())
}
