//! Merging, over the public interface alone.

mod faults;
mod property;
mod recording;
mod support;
