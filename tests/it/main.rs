//! All integration tests in one binary: linking arrow and parquet once is enough.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::future_not_send,
    reason = "a test that panics has failed, as it should, and runs on one thread"
)]

mod compactor;
mod delta;
mod events;
mod faults;
mod layering;
mod merge;
mod no_runtime;
mod state;
mod state_faults;
mod state_races;
mod status;
mod window;
mod world;
