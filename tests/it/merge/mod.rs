//! Merging, over the public interface alone.

mod property;
mod support;
