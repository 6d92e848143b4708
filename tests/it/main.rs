//! All integration tests in one binary: linking arrow and parquet once is enough.

mod delta;
