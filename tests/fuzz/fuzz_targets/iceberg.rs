//! Strikes what `firnline_fuzz::targets::iceberg` reads.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| firnline_fuzz::strike::strike(firnline_fuzz::targets::iceberg, bytes));
