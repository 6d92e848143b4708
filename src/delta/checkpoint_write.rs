//! Writes checkpoints.

use super::error::unsupported;
use super::log::Log;
use crate::error::Result;
use crate::time::Timestamp;

pub(super) async fn write_checkpoint(_log: &Log, _version: u64, _now: Timestamp) -> Result<()> {
    Err(unsupported("later"))
}
