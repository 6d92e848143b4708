//! Plans a merge inside its budget: which inputs form a chain, what each may hold, whether passes are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use object_store::ObjectStore;
use parquet::file::metadata::RowGroupMetaData;

use super::MergeInput;
use super::budget::{Held, Memory, allotment_for, fetch_limit};
use super::chain::{self, Link};
use super::error::MergeError;
use super::footer::too_large;
use super::hash::RowHash;
use super::input::{Input, Origin, Plan};
use super::merging::{Chain, Stop, Waiting};
use super::options::{MIN_MEMORY_BUDGET_BYTES, MergeOptions};
use super::order::KeyEncoder;
use super::slices;
use super::upload;
use crate::options::SortField;

/// Largest row group in memory, whatever the budget.
const MAX_ROW_GROUP_BYTES: u64 = 128 << 20;
/// Least bytes that a reader gets, and what it gets for every leaf column.
const READER_BYTES: u64 = 32 << 10;
const READER_COLUMN_BYTES: u64 = 1 << 10;
/// How often a merge is planned anew before it stops relying on what turned out wrong.
const MAX_REPLANS: usize = 16;

/// How the budget is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// The row group under construction.
    pub(super) row_group: u64,
    /// Size of upload parts.
    pub(super) part: u64,
    /// Merged rows on their way to the output.
    pub(super) merged: u64,
    /// All readers together.
    pub(super) sources: u64,
}

/// How a row group that has a page index is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// A few pages at a time.
    Parts,
    /// As a whole, unless that takes half of the readers' share.
    Whole,
}

/// How inputs fit the budget.
#[derive(Debug)]
pub(super) enum Fit {
    /// All chains can be read at once, with these allotments.
    AtOnce(Vec<Chain>),
    /// They cannot; this is what each needs.
    InPasses(Vec<Chain>),
}

/// A merge to be done, and what has been learned about its inputs.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) options: MergeOptions,
    pub(super) inputs: Vec<Input>,
    /// The plan's columns.
    pub(super) schema: SchemaRef,
    pub(super) memory: Memory,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    spans: Vec<Option<chain::Span>>,
    needs: BTreeMap<usize, u64>,
    /// What a slice of a row group that is read in parts costs, as one has shown.
    parts_cost: u64,
    unchained: BTreeSet<usize>,
    replans: usize,
    footers: u64,
    _held: Held,
}

impl Job {
    pub(super) fn new(
        options: &MergeOptions,
        store: &Arc<dyn ObjectStore>,
        inputs: Vec<MergeInput>,
        schema: &SchemaRef,
    ) -> Result<Self, MergeError> {
        if options.memory_budget_bytes < MIN_MEMORY_BUDGET_BYTES {
            return Err(MergeError::Budget {
                needed: MIN_MEMORY_BUDGET_BYTES,
                budget: options.memory_budget_bytes,
            });
        }
        // Also says early whether the columns can be sorted by.
        KeyEncoder::new(schema, &options.sort_order)?;
        let ranks = ranks(&inputs);
        // Contents at hand save requests, but must not crowd out the readers.
        let contents: u64 = inputs
            .iter()
            .map(|input| input.footer.content.as_ref().map_or(0, |c| c.len() as u64))
            .sum();
        let keep_contents = contents <= options.memory_budget_bytes / 8;
        let inputs: Vec<Input> = inputs
            .into_iter()
            .zip(ranks)
            .enumerate()
            .map(|(index, (input, rank))| Input {
                store: Arc::clone(store),
                footer: if keep_contents {
                    input.footer
                } else {
                    input.footer.without_content()
                },
                origin: Origin::Source { index, rank },
            })
            .collect();
        let memory = Memory::default();
        let footers = inputs.iter().map(|input| input.footer.memory_size()).sum();
        let order = &options.sort_order;
        let spans = inputs
            .iter()
            .map(|input| chain::span(&input.footer.metadata, &input.footer.schema, schema, order));
        Ok(Self {
            spans: spans.collect(),
            rows: inputs.iter().map(|input| input.footer.rows).sum(),
            bytes: inputs.iter().map(|input| input.footer.size).sum(),
            options: options.clone(),
            schema: Arc::clone(schema),
            needs: BTreeMap::new(),
            parts_cost: 0,
            unchained: BTreeSet::new(),
            replans: 0,
            footers,
            _held: memory.hold(footers),
            memory,
            inputs,
        })
    }

    /// How the budget is shared out.
    pub(super) fn shares(&self) -> Result<Shares, MergeError> {
        let budget = self.options.memory_budget_bytes;
        let row_group = (budget / 3).min(MAX_ROW_GROUP_BYTES);
        let part = upload::part_size(self.options.target_file_size_bytes.saturating_mul(2));
        let merged = budget / 16;
        let others = row_group
            .saturating_add(part)
            .saturating_add(merged)
            .saturating_add(self.footers);
        let sources = budget.saturating_sub(others);
        if sources < READER_BYTES {
            return Err(MergeError::Budget {
                needed: others.saturating_add(READER_BYTES),
                budget,
            });
        }
        Ok(Shares {
            row_group,
            part,
            merged,
            sources,
        })
    }

    /// The inputs in chains, by index. Inputs without rows are in none.
    pub(super) fn chains(&self) -> Vec<Vec<usize>> {
        let with_rows = self
            .inputs
            .iter()
            .enumerate()
            .filter(|(_, input)| input.footer.rows > 0);
        if self.options.sort_order.is_empty() {
            let all: Vec<usize> = with_rows.map(|(index, _)| index).collect();
            return if all.is_empty() { Vec::new() } else { vec![all] };
        }
        let links = with_rows.map(|(index, input)| Link {
            index,
            rank: input.origin.rank(),
            span: if self.unchained.contains(&index) {
                None
            } else {
                self.spans.get(index).cloned().flatten()
            },
        });
        chain::chains(links.collect(), self.options.sort_order.len() == 1)
    }

    /// How the inputs fit the budget; an error if one alone is too large.
    pub(super) fn fit(&self) -> Result<Fit, MergeError> {
        let sources = self.shares()?.sources;
        let indices = self.chains();
        for (index, input) in self.inputs.iter().enumerate() {
            let needed = self.need(input, Reading::Parts);
            if needed > sources {
                let reason = too_large("row group without page index, of memoryBudgetBytes", needed, sources);
                return Err(MergeError::Source { index, reason });
            }
        }
        // Reading in parts costs more requests, passes cost writing everything twice.
        for reading in [Reading::Whole, Reading::Parts] {
            if let Some(chains) = allot(self.needy(&indices, reading), sources) {
                return Ok(Fit::AtOnce(chains));
            }
        }
        Ok(Fit::InPasses(self.needy(&indices, Reading::Whole)))
    }

    /// The chains of these indices, each allotted what it needs.
    fn needy(&self, chains: &[Vec<usize>], reading: Reading) -> Vec<Chain> {
        let chains = chains.iter().map(|indices| {
            let inputs: Vec<&Input> = indices.iter().filter_map(|index| self.inputs.get(*index)).collect();
            let needs = inputs.iter().map(|input| self.need(input, reading));
            Chain {
                allotment: needs.max().unwrap_or(0),
                inputs: inputs.into_iter().cloned().map(Waiting::Source).collect(),
            }
        });
        chains.collect()
    }

    /// The bytes that a reader of this input needs, as far as footers and experience tell.
    pub(super) fn need(&self, input: &Input, reading: Reading) -> u64 {
        let sources = self.shares().map_or(0, |shares| shares.sources);
        let parts = self.parts_cost.max(sources / 16);
        let groups = input.footer.metadata.row_groups();
        let cost = groups.iter().map(|group| {
            let cost = slices::cost(group);
            let in_parts = reading == Reading::Parts || allotment_for(cost) > sources / 2;
            if in_parts && slices::is_divisible(group) {
                cost.min(parts)
            } else {
                cost
            }
        });
        let leaves = groups.first().map_or(0, RowGroupMetaData::num_columns) as u64;
        let told = allotment_for(cost.max().unwrap_or(0)).max(READER_BYTES + READER_COLUMN_BYTES * leaves);
        match input.origin {
            Origin::Source { index, .. } => told.max(self.needs.get(&index).copied().unwrap_or(0)),
            Origin::Scratch => told,
        }
    }

    /// What the readers of one merge share. With `ordinal`, rows carry their rank in a column of that name.
    pub(super) fn plan(&self, ordinal: Option<&str>) -> Result<Plan, MergeError> {
        let (mut schema, mut order) = (Arc::clone(&self.schema), self.options.sort_order.clone());
        if let Some(name) = ordinal {
            let mut fields: Vec<_> = self.schema.fields().iter().cloned().collect();
            fields.push(Arc::new(Field::new(name, DataType::UInt32, false)));
            schema = Arc::new(Schema::new(fields));
            order.push(SortField::ascending(name));
        }
        let hash = if self.options.verify_reread {
            Some(Arc::new(Mutex::new(RowHash::new(&self.schema)?)))
        } else {
            None
        };
        Ok(Plan {
            keys: KeyEncoder::new(&schema, &order)?.map(Arc::new),
            schema,
            columns: Arc::clone(&self.schema),
            memory: self.memory.clone(),
            hash,
        })
    }

    /// Takes note of why a merge stopped; the error, if planning anew cannot help.
    pub(super) fn learn(&mut self, stop: Stop) -> Result<(), MergeError> {
        self.replans += 1;
        let sources = self.shares()?.sources;
        match stop {
            Stop::Failed(error) => Err(error),
            Stop::ChainBroken { index } => {
                self.unchained.insert(index);
                if self.replans > MAX_REPLANS {
                    self.unchained.extend(0..self.inputs.len());
                }
                Ok(())
            }
            Stop::NeedsMore { origin, what, needed } => {
                let Origin::Source { index, .. } = origin else {
                    return Err(MergeError::Budget {
                        needed: self.options.memory_budget_bytes.saturating_add(needed),
                        budget: self.options.memory_budget_bytes,
                    });
                };
                if needed > sources {
                    let what = format!("{what}, of memoryBudgetBytes");
                    let reason = too_large(&what, needed, sources);
                    return Err(MergeError::Source { index, reason });
                }
                // Each time something larger was found, so this ends; other inputs will be alike.
                self.needs.insert(index, needed);
                self.parts_cost = self.parts_cost.max(fetch_limit(needed));
                if self.replans > MAX_REPLANS {
                    let twice = |need: u64| need.saturating_mul(2).min(sources);
                    for index in 0..self.inputs.len() {
                        let known = self.needs.get(&index).copied().unwrap_or(needed);
                        self.needs.insert(index, twice(known));
                    }
                }
                Ok(())
            }
        }
    }
}

/// Shares `sources` bytes out in proportion to need; `None` if they do not suffice.
pub(super) fn allot(mut chains: Vec<Chain>, sources: u64) -> Option<Vec<Chain>> {
    let needed = chains
        .iter()
        .fold(0_u64, |sum, chain| sum.saturating_add(chain.allotment));
    if needed > sources {
        return None;
    }
    for chain in &mut chains {
        let share = u128::from(chain.allotment) * u128::from(sources) / u128::from(needed.max(1));
        chain.allotment = u64::try_from(share).unwrap_or(sources).max(chain.allotment);
    }
    Some(chains)
}

/// The place of each input among equal keys: by writer, sequence, and the order in which they were given.
fn ranks(inputs: &[MergeInput]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..inputs.len()).collect();
    order.sort_by_key(|index| inputs.get(*index).map(|input| (&input.writer, input.sequence)));
    let mut ranks = vec![0; inputs.len()];
    for (rank, index) in (0..).zip(order) {
        if let Some(place) = ranks.get_mut(index) {
            *place = rank;
        }
    }
    ranks
}
