//! Plans a merge inside its budget: which inputs form a chain, what each may hold, whether passes are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use object_store::ObjectStore;

use super::budget::Memory;
use super::chain::{self, Link};
use super::cursor::{Chain, Waiting};
use super::encodings::Encodings;
use super::error::MergeError;
use super::footer::too_large;
use super::hash::RowHash;
use super::input::Plan;
use super::merging::Stop;
use super::options::{MIN_MEMORY_BUDGET_BYTES, MergeOptions};
use super::order::KeyEncoder;
use super::sources::{READER_BYTES, Reading, Source, Sources};
use super::spawner::Spawner;
use super::turns::Turns;
use super::upload;
use crate::options::SortField;
use crate::quarantine::QuarantineReason;

/// Largest row group in memory, whatever the budget.
const MAX_ROW_GROUP_BYTES: u64 = 128 << 20;
/// Of the budget, at most so much is a part of an upload: larger files than many of those are not written.
const PART_SHARE: u64 = 8;
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
    /// Footers that are kept.
    pub(super) footers: u64,
    /// Columns while they are decoded at once.
    pub(super) decoding: u64,
    /// All readers together.
    pub(super) sources: u64,
}

/// Shares the budget out, the same way whatever the inputs are: so each is judged by itself.
fn shares(options: &MergeOptions) -> Shares {
    let budget = options.memory_budget_bytes;
    let part = upload::part_size(options.target_file_size_bytes.saturating_mul(2));
    let part = part.min((budget / PART_SHARE).max(upload::MIN_PART_BYTES));
    let row_group = (budget.saturating_sub(part) / 3).min(MAX_ROW_GROUP_BYTES);
    let (merged, footers, decoding) = (budget / 16, budget / 16, budget / 32);
    let others = [row_group, part, merged, footers, decoding].iter().sum();
    Shares {
        row_group,
        part,
        merged,
        footers,
        decoding,
        sources: budget.saturating_sub(others).max(READER_BYTES),
    }
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
    pub(super) inputs: Vec<Source>,
    /// The plan's columns.
    pub(super) schema: SchemaRef,
    /// Those of them that the outputs have.
    pub(super) stored: SchemaRef,
    pub(super) memory: Memory,
    pub(super) encodings: Encodings,
    pub(super) spawner: Option<Spawner>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    needs: BTreeMap<usize, u64>,
    /// What inputs need of what their footers tell, in thousandths, as one has shown.
    needed_of_told: u64,
    /// What a slice of a row group that is read in parts needs, as one has shown.
    parts_need: u64,
    /// Inputs that are to be sorted; `None`: what is not in order is refused.
    pub(super) unsorted: Option<BTreeSet<usize>>,
    replans: usize,
    _sources: Sources,
}

impl Job {
    /// No inputs yet: they are added before the job is made.
    pub(super) fn sources(
        options: &MergeOptions,
        store: &Arc<dyn ObjectStore>,
        schema: &SchemaRef,
    ) -> Result<Sources, MergeError> {
        let needed = MIN_MEMORY_BUDGET_BYTES.max(options.codec.least_budget());
        if options.memory_budget_bytes < needed {
            return Err(MergeError::Budget {
                needed,
                budget: options.memory_budget_bytes,
            });
        }
        // Also says early whether the columns can be sorted by.
        KeyEncoder::new(schema, &options.sort_order)?;
        let limit = shares(options).footers;
        Ok(Sources::new(store, schema, &options.sort_order, limit))
    }

    pub(super) fn new(options: &MergeOptions, mut sources: Sources, schema: &SchemaRef) -> Self {
        let mut inputs = std::mem::take(&mut sources.all);
        let encodings = std::mem::take(&mut sources.encodings);
        rank(&mut inputs);
        Self {
            rows: inputs.iter().map(|input| input.rows).sum(),
            bytes: inputs.iter().map(|input| input.size).sum(),
            options: options.clone(),
            schema: Arc::clone(schema),
            stored: Arc::clone(schema),
            needs: BTreeMap::new(),
            needed_of_told: 1_000,
            parts_need: 0,
            unsorted: None,
            replans: 0,
            memory: sources.memory.clone(),
            encodings,
            spawner: None,
            inputs,
            _sources: sources,
        }
    }

    /// How the budget is shared out.
    pub(super) fn shares(&self) -> Shares {
        let shares = shares(&self.options);
        match self.spawner {
            // While some rows are encoded the next ones are merged.
            Some(_) => Shares {
                merged: shares.merged / 2,
                ..shares
            },
            None => shares,
        }
    }

    /// The inputs that are to be sorted.
    pub(super) fn to_be_sorted(&self) -> Vec<&Source> {
        let inputs = self.inputs.iter().filter(|input| self.is_to_be_sorted(input));
        inputs.collect()
    }

    fn is_to_be_sorted(&self, input: &Source) -> bool {
        self.unsorted.as_ref().is_some_and(|all| all.contains(&input.index))
    }

    /// Takes note of an input that is not in order: others by the same hand will be like it, and if not only those are
    /// not, any may be.
    fn sort_like(&mut self, index: usize) {
        let Some(unsorted) = &mut self.unsorted else { return };
        let is_first = unsorted.is_empty();
        let writer = self.inputs.get(index).map(|input| &input.writer);
        let like = self.inputs.iter();
        let like = like.filter(|input| !is_first || Some(&input.writer) == writer);
        unsorted.extend(like.map(|input| input.index));
    }

    /// The inputs in chains, by index. Inputs without rows are in none, nor are those that are to be sorted.
    pub(super) fn chains(&self) -> Vec<Vec<usize>> {
        let with_rows = self
            .inputs
            .iter()
            .filter(|input| input.rows > 0 && !self.is_to_be_sorted(input));
        if self.options.sort_order.is_empty() {
            let all: Vec<usize> = with_rows.map(|input| input.index).collect();
            return if all.is_empty() { Vec::new() } else { vec![all] };
        }
        let links = with_rows.map(|input| Link {
            index: input.index,
            rank: input.rank,
            span: input.span.clone(),
        });
        chain::chains(links.collect(), self.options.sort_order.len() == 1)
    }

    /// How the inputs fit the budget; an error if one alone is too large, whatever the others are.
    pub(super) fn fit(&self) -> Result<Fit, MergeError> {
        let sources = self.shares().sources;
        let indices = self.chains();
        for input in &self.inputs {
            let needed = self.need(input, Reading::Parts);
            if needed > sources {
                let index = input.index;
                let reason = too_large("row group without page index, of memoryBudgetBytes", needed, sources);
                return Err(MergeError::Source { index, reason });
            }
        }
        if self.unsorted.as_ref().is_some_and(|all| !all.is_empty()) {
            return Ok(Fit::InPasses(self.needy(&indices, Reading::Whole)));
        }
        // Decoding at once is slower, reading in parts costs more requests, passes cost writing everything twice.
        for reading in [Reading::InBatches, Reading::Whole, Reading::Parts] {
            if let Some(chains) = allot(self.needy(&indices, reading), sources) {
                return Ok(Fit::AtOnce(chains));
            }
        }
        Ok(Fit::InPasses(self.needy(&indices, Reading::Whole)))
    }

    /// The chains of these indices, each allotted what it needs.
    fn needy(&self, chains: &[Vec<usize>], reading: Reading) -> Vec<Chain> {
        let chains = chains.iter().map(|indices| {
            let inputs: Vec<&Source> = indices.iter().filter_map(|index| self.inputs.get(*index)).collect();
            let needs = inputs.iter().map(|input| self.need(input, reading));
            Chain {
                allotment: needs.max().unwrap_or(0),
                spare: 0,
                inputs: inputs.into_iter().cloned().map(Box::new).map(Waiting::Source).collect(),
            }
        });
        chains.collect()
    }

    /// The bytes that a reader of this input needs, as far as footers and experience tell.
    pub(super) fn need(&self, input: &Source, reading: Reading) -> u64 {
        let told = self.told(input, reading);
        let learned = self.needs.get(&input.index).copied().unwrap_or(0);
        // A file that needs more than there is has said so itself.
        let like_others = told.saturating_mul(self.needed_of_told) / 1_000;
        told.max(learned).max(like_others.min(self.shares().sources))
    }

    fn told(&self, input: &Source, reading: Reading) -> u64 {
        let sources = self.shares().sources;
        input.needs.least(reading, sources, self.parts_need.max(sources / 16))
    }

    /// What the readers of one merge share. With `ordinal`, rows carry their rank in a column of that name.
    pub(super) fn plan(&self, ordinal: Option<&str>) -> Result<Plan, MergeError> {
        let (mut schema, mut order) = (Arc::clone(&self.schema), self.options.sort_order.clone());
        if let Some(name) = ordinal {
            let mut fields: Vec<_> = self.schema.fields().iter().cloned().collect();
            fields.push(Arc::new(Field::new(name, DataType::UInt64, false)));
            schema = Arc::new(Schema::new(fields));
            order.push(SortField::ascending(name));
        }
        let hash = if self.options.verify_reread {
            Some(Arc::new(Mutex::new(RowHash::new(&self.schema, &self.stored)?)))
        } else {
            None
        };
        Ok(Plan {
            keys: KeyEncoder::new(&schema, &order)?.map(Arc::new),
            schema,
            columns: Arc::clone(&self.schema),
            memory: self.memory.clone(),
            decoding: Turns::new(self.shares().decoding),
            spawner: self.spawner.clone(),
            copying: None,
            hash,
        })
    }

    /// Takes note of why a merge stopped; the error, if planning anew cannot help.
    pub(super) fn learn(&mut self, stop: Stop) -> Result<(), MergeError> {
        self.replans += 1;
        let sources = self.shares().sources;
        match stop {
            Stop::Failed(MergeError::Source {
                index,
                reason: QuarantineReason::Unsorted { .. },
            }) if self.unsorted.is_some() => {
                self.sort_like(index);
                Ok(())
            }
            Stop::Failed(error) => Err(error),
            Stop::ChainBroken { index } => {
                let is_last_try = self.replans > MAX_REPLANS;
                for input in &mut self.inputs {
                    if input.index == index || is_last_try {
                        (input.span, input.may_copy) = (None, false);
                    }
                }
                Ok(())
            }
            Stop::CannotCopy { index } => {
                if let Some(input) = self.inputs.get_mut(index) {
                    input.may_copy = false;
                }
                Ok(())
            }
            Stop::NeedsMore { index, what, needed } => {
                if needed > sources {
                    let what = format!("{what}, of memoryBudgetBytes");
                    let reason = too_large(&what, needed, sources);
                    return Err(MergeError::Source { index, reason });
                }
                // Each time something larger was found, so this ends; other inputs will be alike.
                if let Some(input) = self.inputs.get(index) {
                    let told = self.told(input, Reading::Whole).max(1);
                    let thousandths = (u128::from(needed) * 1_000).div_ceil(u128::from(told));
                    let thousandths = u64::try_from(thousandths).unwrap_or(u64::MAX);
                    self.needed_of_told = self.needed_of_told.max(thousandths);
                }
                self.needs.insert(index, needed);
                self.parts_need = self.parts_need.max(needed);
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
        let share = u64::try_from(share).unwrap_or(sources).max(chain.allotment);
        // Half of what is not needed is for fetching ahead.
        chain.spare = (share - chain.allotment) / 2;
        chain.allotment = share - chain.spare;
    }
    Some(chains)
}

/// The place of each input among equal keys: by writer, sequence, and the order in which they were given.
fn rank(inputs: &mut [Source]) {
    let mut order: Vec<usize> = (0..inputs.len()).collect();
    order.sort_by_key(|index| inputs.get(*index).map(|input| (&input.writer, input.sequence)));
    for (rank, index) in (0..).zip(order) {
        if let Some(input) = inputs.get_mut(index) {
            input.rank = rank;
        }
    }
}
