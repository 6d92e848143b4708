//! What others write, struck at random: the targets, what they strike, and how the memory they take is measured.

pub mod bombs;
pub mod counting;
pub mod files;
pub mod strike;
pub mod targets;
pub mod world;

/// Counts what every thread has allocated.
#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;
