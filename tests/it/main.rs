//! Integration tests: one binary, so that arrow and parquet are linked once.

mod merge;
