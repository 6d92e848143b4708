//! All integration tests in one binary, since linking arrow and parquet is slow.

mod layering;
mod no_runtime;
mod state;
mod state_races;
//! All integration tests in one binary: linking arrow and parquet once is enough.

mod status;
mod window;
//! Integration tests: one binary, so that arrow and parquet are linked once.

mod merge;
