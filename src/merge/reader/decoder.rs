//! Decodes a slice batch by batch; with a spawner the next batch is decoded while the last one is merged.

use arrow::array::RecordBatch;

use crate::merge::budget::Held;
use crate::merge::decode::SliceReader;
use crate::merge::error::MergeError;
use crate::merge::spawner::{Spawner, TASK_BYTES, Task};
use crate::quarantine::QuarantineReason;

type Decoded = Result<Option<RecordBatch>, QuarantineReason>;

/// Decodes a slice. Must not be used again after an error.
#[derive(Debug)]
pub(super) struct Decoder(Place);

/// Where the reader is.
#[derive(Debug)]
enum Place {
    Here(Box<SliceReader>),
    /// With a task, and what its batch is expected to take.
    Away(Task<(Box<SliceReader>, Decoded)>, Held),
    Lost,
}

impl Decoder {
    pub(super) fn new(reader: SliceReader) -> Self {
        Self(Place::Here(Box::new(reader)))
    }

    /// The next rows, `None` after the last.
    pub(super) async fn read(&mut self) -> Result<Decoded, MergeError> {
        let (reader, decoded) = match std::mem::replace(&mut self.0, Place::Lost) {
            Place::Here(mut reader) => {
                let decoded = reader.read();
                (reader, decoded)
            }
            Place::Away(task, _held) => task.outcome().await?,
            Place::Lost => return Err(MergeError::internal("a decoder that was given up")),
        };
        self.0 = Place::Here(reader);
        Ok(decoded)
    }

    /// Goes on with other rows at a time. Not while it goes ahead.
    pub(super) fn set_batch_rows(&mut self, rows: usize) -> Result<Result<(), QuarantineReason>, MergeError> {
        match &mut self.0 {
            Place::Here(reader) => Ok(reader.set_batch_rows(rows)),
            Place::Away(..) | Place::Lost => Err(MergeError::internal("a decoder that is not at hand")),
        }
    }

    /// Starts to decode the next rows, which are expected to be as many bytes as `held`.
    pub(super) fn go_ahead(&mut self, spawner: &Spawner, held: Held) -> Result<(), MergeError> {
        if held.bytes() < TASK_BYTES {
            return Ok(());
        }
        self.0 = match std::mem::replace(&mut self.0, Place::Lost) {
            Place::Here(mut reader) => {
                let work = async move {
                    let decoded = reader.read();
                    (reader, decoded)
                };
                Place::Away(spawner.start(work)?, held)
            }
            other => other,
        };
        Ok(())
    }
}
