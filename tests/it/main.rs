//! All integration tests in one binary: linking arrow and parquet once is enough.

mod compactor;
mod faults;
mod layering;
mod merge;
mod no_runtime;
mod state;
mod state_races;
mod status;
mod window;
mod world;
