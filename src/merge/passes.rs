//! Merging in passes: what does not fit the budget at once is merged in groups into intermediate files first.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::budget::to_usize;
use super::encodings::Encodings;
use super::error::MergeError;
use super::input::Plan;
use super::job::{Job, Shares, allot};
use super::merging::{Chain, Merging, Stop, Waiting};
use super::output::{Output, OutputOptions, location};
use crate::options::{Codec, SortField};

/// Intermediate files are rolled at this size, so that none has too many row groups.
const SCRATCH_FILE_BYTES: u64 = 64 << 20;
/// Least memory of a row group of an intermediate file, and of each of its column chunks.
const MIN_ROW_GROUP_BYTES: u64 = 128 << 10;
const MIN_CHUNK_BYTES: u64 = 4 << 10;
/// What a column chunk takes in a footer that is in memory, as it is for as long as its file is read.
const CHUNK_FOOTER_BYTES: u64 = 600;
/// Passes after which a merge does not get any smaller.
const MAX_PASSES: usize = 16;

/// Where intermediate files go, and which are there.
#[derive(Debug)]
pub(super) struct Scratch {
    store: Arc<dyn ObjectStore>,
    dir: Path,
    stem: String,
    files: Vec<Path>,
    outputs: usize,
}

impl Scratch {
    pub(super) fn new(store: Arc<dyn ObjectStore>, dir: Path, stem: String) -> Self {
        Self {
            store,
            dir,
            stem,
            files: Vec::new(),
            outputs: 0,
        }
    }

    /// Merges groups of chains until what is left fits `shares` at once.
    pub(super) async fn reduce(
        &mut self,
        job: &Job,
        plan: &Plan,
        shares: Shares,
        mut chains: Vec<Chain>,
    ) -> Result<Vec<Chain>, Stop> {
        // Whether all of them are intermediate files, which another pass alone makes no smaller.
        let mut is_scratch = false;
        for _ in 0..MAX_PASSES {
            if let Some(chains) = allot(chains.clone(), shares.sources) {
                return Ok(chains);
            }
            let before = chains.len();
            let groups = groups(chains, shares.sources);
            if is_scratch && groups.len() == before {
                break;
            }
            is_scratch = true;
            let row_group = row_group(plan, shares, groups.len() as u64);
            let mut next = Vec::with_capacity(groups.len());
            for group in groups {
                let group = allot(group, shares.sources).ok_or_else(|| too_small(job))?;
                next.push(self.pass(job, plan, shares, row_group, group).await?);
            }
            chains = next;
        }
        Err(too_small(job).into())
    }

    /// Deletes the intermediate files, as far as that goes: what is left is an orphan.
    pub(super) async fn clear(&mut self) {
        for path in self.files.drain(..) {
            let _ = self.store.delete(&path).await;
        }
    }

    /// Merges one group of chains into a chain of intermediate files.
    async fn pass(
        &mut self,
        job: &Job,
        plan: &Plan,
        shares: Shares,
        row_group: u64,
        group: Vec<Chain>,
    ) -> Result<Chain, Stop> {
        let merging = Merging::new(plan.clone(), group, Arc::clone(&plan.schema), shares.merged);
        self.write(job, plan, shares, row_group, merging).await
    }

    /// Writes merged rows as a chain of intermediate files.
    pub(super) async fn write(
        &mut self,
        job: &Job,
        plan: &Plan,
        shares: Shares,
        row_group: u64,
        mut merging: Merging,
    ) -> Result<Chain, Stop> {
        self.outputs += 1;
        let columns = plan.schema.fields().len() as u64;
        let mut order = job.options.sort_order.clone();
        order.extend(
            plan.schema
                .fields()
                .last()
                .map(|field| SortField::ascending(field.name())),
        );
        let options = OutputOptions {
            store: Arc::clone(&self.store),
            dir: self.dir.clone(),
            stem: format!("{}-{}", self.stem, self.outputs),
            schema: Arc::clone(&plan.schema),
            sort_order: order,
            key_value_metadata: Vec::new(),
            codec: if cfg!(feature = "snap") {
                Codec::Snappy
            } else {
                Codec::None
            },
            target_file_size: SCRATCH_FILE_BYTES,
            // Footers that are small beside what they tell of.
            file_row_groups: to_usize(row_group / 8 / (CHUNK_FOOTER_BYTES * columns.max(1))).max(1),
            part_size: shares.part,
            row_group_bytes: row_group,
            row_group_rows: job.options.max_row_group_rows,
            is_scratch: true,
            spawner: job.spawner.clone(),
            encodings: Encodings::default(),
            memory: job.memory.clone(),
        };
        let mut output = Output::new(options)?;
        let written = async {
            while let Some(merged) = merging.next().await? {
                output.write(&merged.rows).await.map_err(scratch)?;
            }
            output.finish().await.map_err(|e| Stop::Failed(scratch(e)))
        }
        .await;
        let files = match written {
            Ok(files) => files,
            Err(stop) => {
                self.files.extend(output.restart().await.iter().map(location));
                return Err(stop);
            }
        };
        let paths: Vec<Path> = files.iter().map(location).collect();
        // Noted before they are read, so that a failure leaves none behind.
        self.files.extend(paths.iter().cloned());
        let mut chain = Chain {
            inputs: Vec::with_capacity(paths.len()),
            allotment: 0,
        };
        for path in paths {
            let waiting = Waiting::Scratch(Arc::clone(&self.store), path);
            // Only to learn what it needs; let go of again at once.
            let input = waiting.clone().open().await?;
            chain.allotment = chain.allotment.max(job.scratch_need(&input));
            chain.inputs.push(waiting);
        }
        Ok(chain)
    }
}

/// Memory of a row group of `files` intermediate files that are read at the same time: two readers of one as it was
/// written, with room to spare.
pub(super) fn row_group(plan: &Plan, shares: Shares, files: u64) -> u64 {
    let columns = plan.schema.fields().len() as u64;
    (shares.sources / files.saturating_mul(4).max(1))
        .max(MIN_ROW_GROUP_BYTES)
        .max(MIN_CHUNK_BYTES.saturating_mul(columns))
        .min(shares.row_group)
}

/// Chains in groups that each fit `sources`, or of one that does not.
fn groups(chains: Vec<Chain>, sources: u64) -> Vec<Vec<Chain>> {
    let mut groups: Vec<Vec<Chain>> = Vec::new();
    let mut used = 0_u64;
    for chain in chains {
        let needed = used.saturating_add(chain.allotment);
        match groups.last_mut() {
            Some(group) if needed <= sources => {
                used = needed;
                group.push(chain);
            }
            _ => {
                used = chain.allotment;
                groups.push(vec![chain]);
            }
        }
    }
    groups
}

fn scratch(error: MergeError) -> MergeError {
    match error {
        MergeError::Output { source } => MergeError::Scratch { source },
        other => other,
    }
}

fn too_small(job: &Job) -> MergeError {
    let budget = job.options.memory_budget_bytes;
    MergeError::Budget {
        needed: budget.saturating_mul(2),
        budget,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_as_large_as_fits() {
        let chains = [3, 3, 3, 9, 1, 2].map(|allotment| Chain {
            inputs: Vec::new(),
            allotment,
        });
        let groups = groups(chains.to_vec(), 7);
        let sizes: Vec<Vec<u64>> = groups.iter().map(|g| g.iter().map(|c| c.allotment).collect()).collect();
        assert_eq!(sizes, vec![vec![3, 3], vec![3], vec![9], vec![1, 2]]);
    }
}
