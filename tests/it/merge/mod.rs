//! Merging, over the public interface alone.

mod bounded;
mod codecs;
mod faults;
mod floats;
mod property;
mod recording;
mod support;
