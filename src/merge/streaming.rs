//! Merged rows as a stream, which is given out and cannot be taken back.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{Stream, stream};

use super::budget::to_usize;
use super::error::MergeError;
use super::job::{Fit, Job};
use super::merging::{Merging, Stop};
use super::too_many;
use crate::quarantine::QuarantineReason;

/// A stream of merged rows.
pub(super) struct Streaming {
    job: Result<Job, MergeError>,
    merging: Option<Merging>,
    /// Rows that have been given out.
    given: u64,
    done: bool,
}

impl Streaming {
    /// Of a merge that has not begun.
    pub(super) fn of(job: Result<Job, MergeError>) -> impl Stream<Item = Result<RecordBatch, MergeError>> + Send {
        let start = Self {
            job,
            merging: None,
            given: 0,
            done: false,
        };
        stream::unfold(start, |mut streaming| async move {
            if streaming.done {
                return None;
            }
            let next = streaming.next().await;
            streaming.done = !matches!(next, Ok(Some(_)));
            next.transpose().map(|item| (item, streaming))
        })
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>, MergeError> {
        let Ok(job) = &mut self.job else {
            let failed = std::mem::replace(&mut self.job, Err(MergeError::internal("stream is at its end")));
            return failed.map(|_| None);
        };
        // Rows that an earlier plan has given out already; every plan has the same order.
        let mut skip = if self.merging.is_some() { 0 } else { self.given };
        loop {
            let merging = match &mut self.merging {
                Some(merging) => merging,
                none => {
                    let chains = match job.fit()? {
                        Fit::AtOnce(chains) => chains,
                        Fit::InPasses(chains) => return Err(too_many(job, &chains)),
                    };
                    let merged = job.shares().merged;
                    none.insert(Merging::new(job.plan(None)?, chains, Arc::clone(&job.schema), merged))
                }
            };
            match merging.next_rows().await {
                Ok(None) => return Ok(None),
                Ok(Some(merged)) => {
                    let rows = merged.rows.num_rows();
                    let skipped = to_usize(skip).min(rows);
                    skip -= skipped as u64;
                    if skipped < rows {
                        self.given += (rows - skipped) as u64;
                        return Ok(Some(merged.rows.slice(skipped, rows - skipped)));
                    }
                }
                Err(Stop::ChainBroken { index }) if self.given > 0 => {
                    let detail = "the statistics of its keys contradict its rows";
                    let reason = QuarantineReason::corrupt(detail);
                    return Err(MergeError::Source { index, reason });
                }
                Err(stop) => {
                    job.learn(stop)?;
                    self.merging = None;
                    skip = self.given;
                }
            }
        }
    }
}
