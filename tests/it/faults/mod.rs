//! Exactly once, whatever fails: every operation of a whole run struck by every fault, two workers at once, lost
//! and rewound states, foreign writers, events in any order.
//!
//! What holds is judged from outside: by the stores' content and the log of the operations on them.
#![cfg(feature = "testing")]

mod events;
mod foreign;
mod loss;
mod one;
mod oracle;
mod pairs;
mod rig;
mod two;

use firnline::testing::Profile;

/// The stores on which runs are struck.
const PROFILES: [Profile; 5] = [
    Profile::S3,
    Profile::Azure,
    Profile::EventualList,
    Profile::Local,
    Profile::R2,
];

/// With `FIRNLINE_EVERY=1` or `FIRNLINE_FULL=1` everything is tried, otherwise every so many.
fn every(stride: usize) -> usize {
    let asked = std::env::var_os("FIRNLINE_EVERY").is_some_and(|value| value == "1");
    if asked || full() { 1 } else { stride }
}

/// How many schedules where `count` are tried on every change: 50 times as many with `FIRNLINE_FULL=1`, or as many
/// times as `FIRNLINE_TIMES` says.
pub(crate) fn times(count: u64) -> u64 {
    let asked = std::env::var("FIRNLINE_TIMES").ok().map(|value| value.parse().unwrap());
    count * asked.unwrap_or(if full() { 50 } else { 1 })
}

pub(crate) fn full() -> bool {
    std::env::var_os("FIRNLINE_FULL").is_some_and(|value| value == "1")
}
