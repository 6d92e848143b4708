//! Delta tables through the public API only, over stores in memory and on disk.

mod checkpoints;
mod confirming;
mod evolving;
mod faults;

mod interop;
mod lanes;
mod mapped;
mod refusals;
mod support;
