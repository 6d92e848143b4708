//! Merging, over the public interface alone.

mod bounded;
mod codecs;
mod copying;
mod faults;
mod floats;
mod hostile;
mod partitions;
mod property;
pub(crate) mod recording;
mod spawned;
pub(crate) mod support;
mod unsorted;
