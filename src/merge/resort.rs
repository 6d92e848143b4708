//! Sorting inputs that are not in order: as many rows as fit at a time, into intermediate files that are merged then.

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;

use super::batch::Batch;
use super::cursor::Chain;
use super::error::MergeError;
use super::input::Plan;
use super::job::{Job, Shares};
use super::merging::{Merging, Stop};
use super::passes::{Scratch, block_bytes};
use super::reader::InputReader;
use super::sources::Reading;
use super::step::yield_now;

/// Of what all readers may hold, at least so much is for rows that are sorted together.
const LEAST_SHARE: u64 = 8;

impl Scratch {
    /// Sorts the inputs that are to be sorted into chains, one for the rows that were sorted together.
    pub(super) async fn sort(&mut self, job: &Job, plan: &Plan, shares: Shares) -> Result<Vec<Chain>, Stop> {
        let inputs = job.to_be_sorted();
        let needed = inputs.iter().map(|input| job.need(input, Reading::Whole)).max();
        let allotment = needed.unwrap_or(0).max(shares.sources / 2);
        let together = shares
            .sources
            .saturating_sub(allotment)
            .max(shares.sources / LEAST_SHARE);
        // How many there will be, if rows take a few times the bytes that they have in the inputs.
        let bytes: u64 = inputs.iter().map(|input| input.size).sum();
        let block = block_bytes(plan, shares, bytes.saturating_mul(4) / together.max(1));
        let mut chains = Vec::new();
        let (mut batches, mut held) = (Vec::new(), 0);
        for input in inputs {
            let mut reader = InputReader::new(input.clone().open().await?, plan, allotment)?.unordered();
            while let Some(batch) = reader.next().await? {
                yield_now().await;
                if batch.rows.num_rows() == 0 {
                    continue;
                }
                let batch = sorted(batch, plan)?;
                yield_now().await;
                held += batch.memory_size();
                batches.push(batch);
                if held >= together {
                    let batches = std::mem::take(&mut batches);
                    chains.push(self.write_together(plan, shares, block, batches).await?);
                    held = 0;
                }
            }
        }
        if !batches.is_empty() {
            chains.push(self.write_together(plan, shares, block, batches).await?);
        }
        Ok(chains)
    }

    /// Merges batches that are each in order into one chain.
    async fn write_together(
        &mut self,
        plan: &Plan,
        shares: Shares,
        block: u64,
        batches: Vec<Batch>,
    ) -> Result<Chain, Stop> {
        let merging = Merging::of_batches(plan.clone(), batches, shares.merged);
        self.write(plan, shares, block, merging).await
    }
}

/// The rows of a batch in order; equal ones as they were.
fn sorted(batch: Batch, plan: &Plan) -> Result<Batch, MergeError> {
    let Some(keys) = batch.keys.as_ref().filter(|keys| keys.first_inversion().is_some()) else {
        return Ok(batch);
    };
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|a, b| keys.compare(*a, keys, *b));
    let order: Result<Vec<u32>, _> = order.into_iter().map(u32::try_from).collect();
    let order = UInt32Array::from(order.map_err(MergeError::internal)?);
    let rows = take_record_batch(&batch.rows, &order).map_err(MergeError::internal)?;
    let bytes = rows.get_array_memory_size() as u64;
    Batch::new(rows, bytes, plan)
}
