//! Merging, over the public interface alone.

mod bounded;
mod faults;
mod property;
mod recording;
mod support;
