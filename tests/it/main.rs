//! All integration tests in one binary, since linking arrow and parquet is slow.

mod layering;
mod no_runtime;
mod state;
mod state_races;
//! All integration tests in one binary: linking arrow and parquet once is enough.

mod status;
mod window;
