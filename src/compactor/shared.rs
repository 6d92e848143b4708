//! What every part of a compactor uses and none changes.

use std::sync::Arc;

use crate::ids::Randomness;
use crate::merge::ParquetMerger;
use crate::naming::FileNameParser;
use crate::options::ValidOptions;
use crate::place::Place;
use crate::sink::TableProvider;
use crate::state::StateStore;

/// The parts a compactor was built from.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: ValidOptions,
    /// Where the sources are; keys are below its prefix.
    pub(crate) bucket: Place,
    /// The bucket's name in events; `None`: any.
    pub(crate) bucket_name: Option<String>,
    /// Where plans, decisions and scratch are.
    pub(crate) control: Place,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) tables: Arc<dyn TableProvider>,
    pub(crate) parser: Arc<dyn FileNameParser>,
    pub(crate) randomness: Arc<dyn Randomness>,
    pub(crate) merger: ParquetMerger,
}
