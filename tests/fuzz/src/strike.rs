//! Runs a target so that only panics that get out of the library count: those of decoders that it contains are
//! its business, and the fuzzer would end at each.

use std::cell::RefCell;
use std::panic::{catch_unwind, set_hook};
use std::sync::Once;

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Strikes `target` with `bytes`, and ends the process if it panics.
pub fn strike(target: fn(&[u8]), bytes: &[u8]) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        set_hook(Box::new(|panic| LAST.set(panic.to_string())));
    });
    if catch_unwind(|| target(bytes)).is_err() {
        eprintln!("{}", LAST.take());
        std::process::abort();
    }
}
