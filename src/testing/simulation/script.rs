//! What happens in the world of a simulation, drawn from its seed. Pure.

use super::Troubles;
use super::rows::Row;
use crate::testing::SeededRandomness;
use crate::time::Timestamp;

pub(super) const MINUTE: u64 = 60_000;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;
/// 2023-11-14T22:00:00Z, the start of a window of an hour.
pub(super) const START: Timestamp = Timestamp::from_millis(1_699_999_200_000);
/// Trouble ends so long after the start.
pub(super) const CALM_AFTER: u64 = 2 * DAY;

/// A file that a writer writes.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) namespace: String,
    pub(super) key: String,
    pub(super) rows: Vec<Row>,
    /// Whether its pages are garbage: only the merge finds out.
    pub(super) is_corrupt: bool,
}

/// What happens, by the number of its source where it is about one.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Written(usize),
    Notified(usize),
    /// Another writer changes the table of a namespace.
    Disturbed(String, Foreign),
    /// Somebody reads a namespace.
    Read(String),
    /// All state is lost.
    StateLost,
    /// A key of the state is what it was so many writes ago.
    StateRewound {
        key: u64,
        steps: usize,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Foreign {
    Append,
    Delete,
    Optimize,
    Expire,
}

/// What happens, in order of time.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) sources: Vec<Source>,
    pub(super) steps: Vec<(Timestamp, Happening)>,
}

impl Script {
    pub(super) fn drawn(dice: &SeededRandomness, troubles: &Troubles) -> Self {
        let mut script = Self {
            sources: Vec::new(),
            steps: Vec::new(),
        };
        let namespaces: Vec<String> = (0..troubles.namespaces).map(|n| format!("n{n}")).collect();
        for namespace in &namespaces {
            for number in 0..troubles.files {
                script.write(dice, troubles, namespace, number);
            }
            for _ in 0..troubles.disturbances {
                let what = match dice.below(6) {
                    0 => Foreign::Delete,
                    1 => Foreign::Optimize,
                    2 => Foreign::Expire,
                    _ => Foreign::Append,
                };
                script.at(dice.below(CALM_AFTER), Happening::Disturbed(namespace.clone(), what));
            }
            for _ in 0..troubles.reads {
                script.at(dice.below(CALM_AFTER + DAY), Happening::Read(namespace.clone()));
            }
        }
        for _ in 0..troubles.state_losses {
            let at = dice.below(CALM_AFTER);
            let steps = usize::try_from(1 + dice.below(4)).unwrap_or(1);
            script.at(
                at,
                match dice.below(4) {
                    0 => Happening::StateLost,
                    _ => Happening::StateRewound {
                        key: dice.next_u64(),
                        steps,
                    },
                },
            );
        }
        script.steps.sort_by_key(|(at, _)| *at);
        script
    }

    /// A file of one of a few writers in one of three windows. Most are written at once, some many hours late; most
    /// events come soon, some again and again, some never.
    fn write(&mut self, dice: &SeededRandomness, troubles: &Troubles, namespace: &str, number: u64) {
        let writer = format!("w{}", dice.below(troubles.writers));
        let told = dice.below(3 * HOUR);
        let start = START + told;
        let rows = match dice.below(12) {
            0 => 0,
            _ => 1 + i64::try_from(dice.below(4)).unwrap_or(0),
        };
        let rows = (0..rows).map(|n| {
            let instant = start.as_millis() + n * 7;
            (instant * 1_000, format!("{namespace}-{number:03}-{n}"), n)
        });
        let rows: Vec<Row> = rows.collect();
        let index = self.sources.len();
        self.sources.push(Source {
            namespace: namespace.to_owned(),
            key: format!("data/{namespace}/{}-{writer}-{number}.parquet", start.as_millis()),
            is_corrupt: !rows.is_empty() && dice.below(10) == 0,
            rows,
        });
        let late = match dice.below(5) {
            0 => dice.below(30 * HOUR),
            _ => dice.below(5 * MINUTE),
        };
        let written = told + late;
        self.at(written, Happening::Written(index));
        if dice.below(troubles.lost_events) == 0 {
            return;
        }
        for _ in 0..=dice.below(4) {
            let within = match dice.below(3) {
                0 => 30 * HOUR,
                1 => 2 * HOUR,
                _ => MINUTE,
            };
            self.at(written + dice.below(within), Happening::Notified(index));
        }
    }

    fn at(&mut self, after: u64, happening: Happening) {
        self.steps.push((START + after, happening));
    }
}
