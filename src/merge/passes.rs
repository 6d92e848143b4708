//! Merging in passes: what does not fit the budget at once is merged in groups into intermediate files first.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::cursor::{Chain, Waiting};
use super::error::MergeError;
use super::input::Plan;
use super::job::{Job, Shares, allot};
use super::merging::{Merging, Stop};
use super::runs::RunWriter;

/// Intermediate files are rolled at this size.
const RUN_BYTES: u64 = 256 << 20;
/// Least bytes of a block of an intermediate file, and of each of its columns: a block has a header.
const MIN_BLOCK_BYTES: u64 = 64 << 10;
const MIN_COLUMN_BYTES: u64 = 1 << 10;
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
            // No row group is under construction meanwhile, but blocks.
            let sources = shares.sources.saturating_add(shares.row_group / 2);
            let groups = groups(chains, sources);
            if is_scratch && groups.len() == before {
                break;
            }
            is_scratch = true;
            let block = block_bytes(plan, shares, groups.len() as u64);
            let mut next = Vec::with_capacity(groups.len());
            for group in groups {
                let group = allot(group, sources).ok_or_else(|| too_small(job))?;
                let merging = Merging::new(plan.clone(), group, Arc::clone(&plan.schema), shares.merged);
                next.push(self.write(plan, shares, block, merging).await?);
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

    /// Writes merged rows as a chain of intermediate files, in blocks of `block` bytes.
    pub(super) async fn write(
        &mut self,
        plan: &Plan,
        shares: Shares,
        block: u64,
        mut merging: Merging,
    ) -> Result<Chain, Stop> {
        let mut chain = Chain::default();
        let mut file: Option<RunWriter> = None;
        let written = async {
            while let Some(merged) = merging.next_rows().await? {
                let open = match &mut file {
                    Some(open) => open,
                    none => none.insert(self.open(plan, shares, block)?),
                };
                open.write(&merged.rows).await?;
                if open.written() >= RUN_BYTES
                    && let Some(full) = file.take()
                {
                    self.end(full, &mut chain).await?;
                }
            }
            Ok::<(), Stop>(())
        }
        .await;
        match (written, file) {
            (Ok(()), Some(last)) => self.end(last, &mut chain).await?,
            (Ok(()), None) => {}
            (Err(stop), open) => {
                if let Some(open) = open {
                    open.abort().await;
                }
                return Err(stop);
            }
        }
        Ok(chain)
    }

    fn open(&mut self, plan: &Plan, shares: Shares, block: u64) -> Result<RunWriter, MergeError> {
        self.outputs += 1;
        let path = self.dir.clone().join(format!("{}-{}.arrows", self.stem, self.outputs));
        // Noted before it is there, so that a failure leaves none behind.
        self.files.push(path.clone());
        RunWriter::new(&self.store, path, &plan.schema, (block, shares.part), &plan.memory)
    }

    async fn end(&mut self, file: RunWriter, chain: &mut Chain) -> Result<(), MergeError> {
        let run = file.finish().await?;
        chain.allotment = chain.allotment.max(run.need);
        chain.inputs.push(Waiting::Run(Arc::new(run)));
        Ok(())
    }
}

/// Bytes of a block of `files` intermediate files that are read at the same time: what reading one needs fits its part.
pub(super) fn block_bytes(plan: &Plan, shares: Shares, files: u64) -> u64 {
    let columns = plan.schema.fields().len() as u64;
    (shares.sources / files.saturating_mul(4).max(1))
        .min(shares.merged / 4)
        .max(MIN_BLOCK_BYTES)
        .max(MIN_COLUMN_BYTES.saturating_mul(columns))
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
            spare: 0,
        });
        let groups = groups(chains.to_vec(), 7);
        let sizes: Vec<Vec<u64>> = groups.iter().map(|g| g.iter().map(|c| c.allotment).collect()).collect();
        assert_eq!(sizes, vec![vec![3, 3], vec![3], vec![9], vec![1, 2]]);
    }
}
