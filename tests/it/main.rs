//! All integration tests in one binary, since linking arrow and parquet is slow.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::future_not_send,
    reason = "a test that panics has failed, as it should, and runs on one thread"
)]

mod events;
mod layering;
mod no_runtime;
mod state;
mod state_faults;
mod state_races;
