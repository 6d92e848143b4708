//! All integration tests in one binary, since linking arrow and parquet is slow.

mod layering;
mod no_runtime;
mod state;
mod state_races;
