//! The inputs of a merge, as far as planning needs to know them.
//!
//! A parsed footer may take as much memory as the rows it tells of, so that those of many inputs are not all kept.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::file::metadata::RowGroupMetaData;

use super::MergeInput;
use super::budget::{Held, Memory};
use super::chain::{self, Span};
use super::encodings::Encodings;
use super::error::{MergeError, SourceError};
use super::footer::{SourceFooter, read_footer};
use super::input::{Input, Origin};
use super::slices;
use crate::ids::Sha256Digest;
use crate::naming::{ETag, WriterId};
use crate::options::SortField;
use crate::quarantine::QuarantineReason;
use crate::schema::SharedSchemas;

/// The inputs of a merge, added one after the other.
#[derive(Debug)]
pub(crate) struct Sources {
    store: Arc<dyn ObjectStore>,
    schema: SchemaRef,
    sort_order: Vec<SortField>,
    pub(super) all: Vec<Source>,
    schemas: SharedSchemas,
    /// How all of them are encoded.
    pub(super) encodings: Encodings,
    /// Footers and contents that are kept, and what they may take.
    kept: u64,
    limit: u64,
    pub(super) memory: Memory,
    held: Held,
}

/// An input, as far as planning needs to know it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    store: Arc<dyn ObjectStore>,
    pub(super) index: usize,
    pub(super) rank: u32,
    pub(super) writer: WriterId,
    pub(super) sequence: u64,
    pub(super) rows: u64,
    pub(super) size: u64,
    /// `None`: its footer does not tell, or has told what is not so.
    pub(super) span: Option<Span>,
    /// Whether its row groups may be copied; not once it has turned out that they cannot.
    pub(super) may_copy: bool,
    pub(super) needs: Needs,
    location: Path,
    etag: ETag,
    digest: Sha256Digest,
    schema: SchemaRef,
    /// `None`: to be read again.
    footer: Option<SourceFooter>,
}

/// The allotments that reading an input needs, as far as its footer tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Of each kind of row group.
    groups: Vec<GroupNeeds>,
    leaves: u64,
    /// Of the footer, where a reader has it as long as it reads.
    footer: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GroupNeeds {
    in_batches: u64,
    at_once: u64,
    is_divisible: bool,
}

/// How row groups are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// As a whole and batch by batch, unless that takes half of the readers' share.
    InBatches,
    /// As a whole and in the way that takes least, unless that takes half of the readers' share.
    Whole,
    /// Those that have a page index a few pages at a time.
    Parts,
}

impl Needs {
    pub(super) fn of(footer: &SourceFooter, is_shared: bool) -> Self {
        let mut groups: Vec<GroupNeeds> = Vec::new();
        for group in footer.metadata.row_groups() {
            let needs = GroupNeeds {
                in_batches: slices::cost_in_batches(group),
                at_once: slices::cost_at_once(group),
                is_divisible: slices::is_divisible(group),
            };
            let alike = |other: &&mut GroupNeeds| other.is_divisible == needs.is_divisible;
            match groups.iter_mut().find(alike) {
                Some(other) => {
                    other.in_batches = other.in_batches.max(needs.in_batches);
                    other.at_once = other.at_once.max(needs.at_once);
                }
                None => groups.push(needs),
            }
        }
        let leaves = footer
            .metadata
            .row_groups()
            .first()
            .map_or(0, RowGroupMetaData::num_columns) as u64;
        // Of a single row group that is decoded at once nothing is kept but its rows.
        let is_let_go = footer.metadata.num_row_groups() <= 1;
        Self {
            groups,
            leaves,
            footer: if is_shared || is_let_go {
                0
            } else {
                footer.memory_size()
            },
        }
    }

    /// The least allotment, where all readers together have `sources` bytes and reading in parts is known to cost
    /// `parts`.
    pub(super) fn least(&self, reading: Reading, sources: u64, parts: u64) -> u64 {
        let groups = self.groups.iter().map(|group| {
            let least = group.in_batches.min(group.at_once);
            let whole = if reading == Reading::InBatches && group.in_batches <= sources / 2 {
                group.in_batches
            } else {
                least
            };
            if group.is_divisible && (reading == Reading::Parts || whole > sources / 2) {
                whole.min(parts)
            } else {
                whole
            }
        });
        let needed = groups.max().unwrap_or(0).max(READER_BYTES);
        needed
            .saturating_add(READER_COLUMN_BYTES * self.leaves)
            .saturating_add(self.footer)
    }
}

/// Least bytes that a reader gets, and what it takes for every leaf column.
pub(super) const READER_BYTES: u64 = 32 << 10;
const READER_COLUMN_BYTES: u64 = 1 << 10;

impl Sources {
    /// No inputs yet, of a merge into rows of `schema` by `sort_order`; footers are kept as long as all take no more
    /// than `limit` bytes.
    pub(super) fn new(store: &Arc<dyn ObjectStore>, schema: &SchemaRef, sort_order: &[SortField], limit: u64) -> Self {
        let memory = Memory::default();
        Self {
            store: Arc::clone(store),
            schema: Arc::clone(schema),
            sort_order: sort_order.to_vec(),
            all: Vec::new(),
            schemas: SharedSchemas::default(),
            encodings: Encodings::default(),
            kept: 0,
            limit,
            held: memory.hold(0),
            memory,
        }
    }

    /// Adds an input.
    pub(crate) fn add(&mut self, input: MergeInput) {
        let MergeInput {
            mut footer,
            writer,
            sequence,
        } = input;
        footer.schema = self.schemas.share(footer.schema);
        // Contents at hand save requests, but must not crowd out the footers.
        if self.kept.saturating_add(footer.memory_size()) > self.limit / 2 {
            footer.content = None;
        }
        self.encodings.add(&footer.metadata);
        let is_kept = self.kept.saturating_add(footer.memory_size()) <= self.limit;
        self.all.push(Source {
            store: Arc::clone(&self.store),
            index: self.all.len(),
            rank: 0,
            writer,
            sequence,
            rows: footer.rows,
            size: footer.size,
            span: chain::span(&footer.metadata, &footer.schema, &self.schema, &self.sort_order),
            may_copy: true,
            needs: Needs::of(&footer, is_kept),
            location: footer.location.clone(),
            etag: footer.etag.clone(),
            digest: footer.digest,
            schema: Arc::clone(&footer.schema),
            footer: is_kept.then_some(footer.clone()),
        });
        if is_kept {
            self.kept = self.kept.saturating_add(footer.memory_size());
            self.held.resize(self.kept);
        }
    }
}

impl Source {
    /// The input with its footer, which is read again if it has been let go of.
    pub(super) async fn open(self) -> Result<Input, MergeError> {
        let (index, rank) = (self.index, self.rank);
        let footer = match self.footer {
            Some(footer) => footer,
            None => read_again(&self).await.map_err(|error| error.at(index))?,
        };
        Ok(Input {
            store: self.store,
            footer,
            origin: Origin { index, rank },
            may_copy: self.may_copy,
        })
    }

    /// The input, if its footer is at hand.
    pub(super) fn at_hand(&self) -> Option<Input> {
        Some(Input {
            store: Arc::clone(&self.store),
            footer: self.footer.clone()?,
            origin: Origin {
                index: self.index,
                rank: self.rank,
            },
            may_copy: self.may_copy,
        })
    }
}

async fn read_again(source: &Source) -> Result<SourceFooter, SourceError> {
    let mut footer = read_footer(&*source.store, &source.location, Some(&source.etag)).await?;
    if footer.digest != source.digest || footer.size != source.size {
        return Err(SourceError::Bad(QuarantineReason::Replaced {
            planned: source.etag.to_string(),
            found: footer.etag.to_string(),
        }));
    }
    footer.schema = Arc::clone(&source.schema);
    Ok(footer)
}
