//! How much goes wrong in a simulation.

use crate::testing::{Profile, SeededRandomness};

/// How bad it gets. Odds are one in so many; `u64::MAX` is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Troubles {
    /// Workers at a time, on all lanes.
    pub workers: usize,
    /// Namespaces, each with a lane and a table.
    pub namespaces: usize,
    /// Files of each namespace.
    pub files: u64,
    /// Writers of each namespace.
    pub writers: u64,
    /// What the stores can do.
    pub profile: Profile,
    /// Odds that a worker falls asleep after a step, for up to three days.
    pub sleeps: u64,
    /// Odds that a worker dies after a step, and another takes its place.
    pub deaths: u64,
    /// Odds that an operation goes wrong.
    pub faults: u64,
    /// Odds that nobody is told of a file.
    pub lost_events: u64,
    /// How often others change each table.
    pub disturbances: u64,
    /// How often a key of the state goes back, or all of it is lost.
    pub state_losses: u64,
    /// How often somebody reads each namespace.
    pub reads: u64,
}

impl Troubles {
    /// Workers, one on its own, and nothing that goes wrong.
    pub fn none() -> Self {
        Self {
            workers: 1,
            namespaces: 1,
            files: 8,
            writers: 3,
            profile: Profile::S3,
            sleeps: u64::MAX,
            deaths: u64::MAX,
            faults: u64::MAX,
            lost_events: u64::MAX,
            disturbances: 0,
            state_losses: 0,
            reads: 0,
        }
    }

    /// Those of a seed: some of everything, and much of some things.
    pub fn drawn(seed: u64) -> Self {
        let dice = SeededRandomness::new(seed ^ 0x7201);
        let often = |most: [u64; 4]| {
            most.get(usize::try_from(dice.below(4)).unwrap_or(0))
                .copied()
                .unwrap_or(u64::MAX)
        };
        let profiles = [Profile::S3, Profile::R2, Profile::Local, Profile::EventualList];
        Self {
            workers: usize::try_from(1 + dice.below(3)).unwrap_or(1),
            namespaces: usize::try_from(1 + dice.below(2)).unwrap_or(1),
            files: 3 + dice.below(8),
            writers: 1 + dice.below(4),
            profile: usize::try_from(dice.below(4))
                .ok()
                .and_then(|at| profiles.get(at).copied())
                .unwrap_or(Profile::S3),
            sleeps: often([u64::MAX, 400, 120, 50]),
            deaths: often([u64::MAX, 400, 150, 80]),
            faults: often([u64::MAX, 200, 60, 25]),
            lost_events: often([u64::MAX, 20, 5, 2]),
            disturbances: often([0, 0, 3, 10]),
            state_losses: often([0, 0, 2, 5]),
            reads: 2,
        }
    }
}
