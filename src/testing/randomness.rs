//! Randomness that is the same in every run.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::Randomness;

/// Numbers that depend on a seed and nothing else (`SplitMix64`).
#[derive(Debug)]
pub struct SeededRandomness {
    state: AtomicU64,
}

/// The step of `SplitMix64`.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl SeededRandomness {
    /// The numbers of `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            state: AtomicU64::new(seed),
        }
    }

    /// The next 64 bits.
    pub fn next_u64(&self) -> u64 {
        let state = self.state.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, 0 if that is 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }
}

impl Randomness for SeededRandomness {
    fn random_u128(&self) -> u128 {
        u128::from(self.next_u64()) << 64 | u128::from(self.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_are_those_of_splitmix64() {
        let randomness = SeededRandomness::new(1_234_567);
        assert_eq!(randomness.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(randomness.next_u64(), 3_203_168_211_198_807_973);
    }
}
