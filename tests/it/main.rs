//! All integration tests in one binary: linking arrow and parquet once is enough.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::future_not_send,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::case_sensitive_file_extension_comparisons,
    clippy::cloned_ref_to_slice_refs,
    clippy::format_push_string,
    clippy::new_ret_no_self,
    clippy::or_fun_call,
    clippy::type_complexity,
    clippy::unused_self,
    clippy::wrong_self_convention,
    reason = "a test that panics has failed, as it should, and runs on one thread; small known numbers, plain words"
)]

mod compactor;
mod conformance;
mod delta;

mod faults;
mod iceberg;
mod layering;
mod merge;
mod no_runtime;
mod simulation;

mod state_faults;
mod state_races;
mod status;
mod table_log;
mod window;
mod world;
