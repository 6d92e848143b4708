//! Whether all is well: the answers to the guide's troubleshooting questions.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Counters, Status, WaitingFor, WindowStatus};
use crate::naming::WriterId;
use crate::printable::printable;
use crate::time::Timestamp;

/// Whether all is well, and if not, why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// The worst state of any reason.
    pub state: HealthState,
    /// What an operator should know, worst first. A reason that is itself healthy is information.
    pub reasons: Vec<HealthReason>,
}

/// How well something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HealthState {
    /// As it should be.
    #[default]
    Healthy,
    /// It goes on, but somebody should look.
    Degraded,
    /// Something does not go on by itself.
    Unhealthy,
}

/// One thing an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthReason {
    /// Which question it answers.
    pub topic: HealthTopic,
    /// How bad this alone is.
    pub state: HealthState,
    /// The answer.
    pub message: String,
}

/// The questions of the guide's troubleshooting section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum HealthTopic {
    /// "Events not arriving".
    EventsNotArriving,
    /// "Compaction not triggering".
    CompactionNotTriggering,
    /// "Workflow failures".
    PlanFailures,
    /// Sources have been set aside.
    Quarantine,
    /// The state store does not hold what was written into it.
    StateDamaged,
}

impl Health {
    /// Without a notification for this long, and with files found by listing, something is wrong with them.
    pub const QUIET_MS: u64 = 3_600_000;
    /// After this many tries a plan is not just unlucky.
    pub const WORRYING_ATTEMPTS: u32 = 5;
    /// Most waiting windows that are explained.
    pub const MAX_WAITING_WINDOWS: usize = 20;

    /// Judges a status document, whatever its own `health` says.
    pub fn assess(status: &Status, now: Timestamp) -> Self {
        let mut reasons = Vec::new();
        reasons.extend(status.halts.iter().map(|halt| {
            let message = format!("namespace `{}` is halted: {}", halt.namespace, halt.reason);
            HealthReason::new(HealthTopic::CompactionNotTriggering, HealthState::Unhealthy, message)
        }));
        reasons.extend(failures(status));
        reasons.extend(events(&status.counters, now));
        if status.quarantine.count > 0 {
            let message = format!(
                "{} in quarantine: see `quarantine` for the reasons, then release or discard",
                Files(status.quarantine.count)
            );
            reasons.push(HealthReason::new(
                HealthTopic::Quarantine,
                HealthState::Degraded,
                message,
            ));
        }
        if status.counters.damaged_state > 0 {
            let message = format!(
                "{} damaged in the state store, found again in bucket, plan register and table: does something else \
                 write there?",
                Counted(status.counters.damaged_state, "value")
            );
            reasons.push(HealthReason::new(
                HealthTopic::StateDamaged,
                HealthState::Degraded,
                message,
            ));
        }
        reasons.extend(waiting(&status.windows));
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.state));
        let state = reasons
            .first()
            .map_or(HealthState::Healthy, |reason: &HealthReason| reason.state);
        Self { state, reasons }
    }
}

impl HealthReason {
    fn new(topic: HealthTopic, state: HealthState, message: String) -> Self {
        Self {
            topic,
            state,
            message: printable(message).to_string(),
        }
    }
}

fn failures(status: &Status) -> impl Iterator<Item = HealthReason> {
    status.plans.iter().filter_map(|plan| {
        let error = plan.last_error.as_ref()?;
        let state = if plan.attempt >= Health::WORRYING_ATTEMPTS {
            HealthState::Unhealthy
        } else {
            HealthState::Degraded
        };
        let message = format!(
            "plan {} of `{}` is at attempt {}: {error}",
            plan.seq, plan.window_key, plan.attempt
        );
        Some(HealthReason::new(HealthTopic::PlanFailures, state, message))
    })
}

fn events(counters: &Counters, now: Timestamp) -> Vec<HealthReason> {
    let mut messages = Vec::new();
    if counters.bad_messages > 0 {
        messages.push(format!(
            "{} of the queue could not be read: is its consumer fed by this bucket's notifications only?",
            Counted(counters.bad_messages, "message")
        ));
    }
    if counters.malformed_keys > 0 {
        messages.push(format!(
            "{} keys under the prefix do not follow the naming convention: see `quarantine`",
            counters.malformed_keys
        ));
    }
    if counters.found_by_listing > 0 && counters.events_expected {
        let found = Files(usize::try_from(counters.found_by_listing).unwrap_or(usize::MAX));
        messages.push(match counters.last_event_at {
            None => format!("no notification has ever arrived, but a listing found {found}: check notification and queue"),
            Some(last) if now.millis_since(last) >= Health::QUIET_MS => {
                format!("no notification since {last}, and listings found {found} that none announced: check notification and queue")
            }
            Some(_) => format!("listings found {found} that no notification announced: does its filter cover the prefix?"),
        });
    }
    messages
        .into_iter()
        .map(|message| HealthReason::new(HealthTopic::EventsNotArriving, HealthState::Degraded, message))
        .collect()
}

fn waiting(windows: &[WindowStatus]) -> Vec<HealthReason> {
    let mut reasons: Vec<_> = windows
        .iter()
        .filter_map(|window| Some((window, explain(window)?)))
        .map(|(window, why)| {
            let until = window
                .until
                .map(|t| format!(", at the latest at {t}"))
                .unwrap_or_default();
            let message = format!("window `{}` {why}{until}", window.key);
            HealthReason::new(HealthTopic::CompactionNotTriggering, HealthState::Healthy, message)
        })
        .collect();
    let more = reasons.len().saturating_sub(Health::MAX_WAITING_WINDOWS);
    if more > 0 {
        reasons.truncate(Health::MAX_WAITING_WINDOWS);
        let message = format!("{more} more windows wait: see `windows`");
        reasons.push(HealthReason::new(
            HealthTopic::CompactionNotTriggering,
            HealthState::Healthy,
            message,
        ));
    }
    reasons
}

fn explain(window: &WindowStatus) -> Option<String> {
    Some(match window.waiting_for? {
        // Said once for the namespace.
        WaitingFor::Halt => return None,
        WaitingFor::Turn => "waits for the plan before it".to_owned(),
        WaitingFor::Listing => "waits for a listing of its namespace to end".to_owned(),
        WaitingFor::Retry => "waits before its plan is tried again".to_owned(),
        WaitingFor::Clock => format!("holds {} from the future", Files(window.held)),
        WaitingFor::Quarantine => "is older than what is remembered: its files go to quarantine".to_owned(),
        WaitingFor::WindowEnd => format!("has not ended: it ends at {}", window.window_end),
        WaitingFor::MinimumFiles { have, need } => {
            format!("has {have} of {need} files (minFilesToCompact): planned with more")
        }
        WaitingFor::Settling => "still receives files".to_owned(),
        WaitingFor::Writers => {
            let missing: Vec<_> = window
                .missing_writers
                .iter()
                .take(MAX_NAMED_WRITERS)
                .map(WriterId::as_str)
                .collect();
            let more = window.missing_writers.len().saturating_sub(missing.len());
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!("waits for writers ({}{more})", missing.join(", "))
        }
    })
}

struct Files(usize);

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Counted(self.0 as u64, "file").fmt(f)
    }
}

/// So many of something.
struct Counted(u64, &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

const MAX_NAMED_WRITERS: usize = 5;

#[cfg(test)]
mod tests {
    use super::super::{HaltStatus, PlanPhase, PlanStatus, QuarantineStatus};
    use super::*;
    use crate::ids::Seq;
    use crate::naming::Namespace;

    fn now() -> Timestamp {
        "2024-01-01T12:00:00Z".parse().unwrap()
    }

    fn assess(status: &Status) -> (HealthState, Vec<String>) {
        let health = Health::assess(status, now());
        (
            health.state,
            health.reasons.into_iter().map(|reason| reason.message).collect(),
        )
    }

    fn window(waiting_for: Option<WaitingFor>) -> WindowStatus {
        WindowStatus {
            key: "users:1704103200000".to_owned(),
            window_start: "2024-01-01T10:00:00Z".parse().unwrap(),
            window_end: "2024-01-01T11:00:00Z".parse().unwrap(),
            writers: Vec::new(),
            file_count: 3,
            total_size: 30,
            generation: 0,
            missing_writers: (1..8).map(|n| WriterId::new(format!("w{n}"))).collect(),
            ready: None,
            waiting_for,
            until: Some("2024-01-01T12:05:00Z".parse().unwrap()),
            held: 1,
        }
    }

    #[test]
    fn nothing_to_say_is_healthy() {
        assert_eq!(assess(&Status::default()), (HealthState::Healthy, Vec::new()));
        let status = Status {
            windows: vec![window(None)],
            ..Status::default()
        };
        assert_eq!(assess(&status), (HealthState::Healthy, Vec::new()));
    }

    #[test]
    fn a_waiting_window_is_explained_and_healthy() {
        for (waiting_for, message) in [
            (
                WaitingFor::MinimumFiles { have: 3, need: 10 },
                "window `users:1704103200000` has 3 of 10 files (minFilesToCompact): planned with more, at the latest at 2024-01-01T12:05:00.000Z",
            ),
            (
                WaitingFor::Writers,
                "window `users:1704103200000` waits for writers (w1, w2, w3, w4, w5 and 2 more), at the latest at 2024-01-01T12:05:00.000Z",
            ),
            (
                WaitingFor::WindowEnd,
                "window `users:1704103200000` has not ended: it ends at 2024-01-01T11:00:00.000Z, at the latest at 2024-01-01T12:05:00.000Z",
            ),
        ] {
            let status = Status {
                windows: vec![window(Some(waiting_for))],
                ..Status::default()
            };
            assert_eq!(assess(&status), (HealthState::Healthy, vec![message.to_owned()]));
        }
    }

    #[test]
    fn many_waiting_windows_are_summed_up() {
        let status = Status {
            windows: vec![window(Some(WaitingFor::Turn)); 25],
            ..Status::default()
        };
        let (_, messages) = assess(&status);
        assert_eq!(messages.len(), 21);
        assert_eq!(messages[20], "5 more windows wait: see `windows`");
    }

    #[test]
    fn files_that_no_notification_announced_are_a_reason() {
        let counters = |last_event_at: Option<&str>| Status {
            counters: Counters {
                found_by_listing: 1,
                events_expected: true,
                last_event_at: last_event_at.map(|t| t.parse().unwrap()),
                ..Counters::default()
            },
            ..Status::default()
        };
        for (last, message) in [
            (
                None,
                "no notification has ever arrived, but a listing found 1 file: check notification and queue",
            ),
            (
                Some("2024-01-01T11:00:00Z"),
                "no notification since 2024-01-01T11:00:00.000Z, and listings found 1 file that none announced: check notification and queue",
            ),
            (
                Some("2024-01-01T11:00:01Z"),
                "listings found 1 file that no notification announced: does its filter cover the prefix?",
            ),
        ] {
            assert_eq!(
                assess(&counters(last)),
                (HealthState::Degraded, vec![message.to_owned()])
            );
        }
    }

    #[test]
    fn who_only_lists_misses_no_notifications() {
        let status = Status {
            counters: Counters {
                found_by_listing: 7,
                ..Counters::default()
            },
            ..Status::default()
        };
        assert_eq!(assess(&status), (HealthState::Healthy, Vec::new()));
    }

    #[test]
    fn a_state_that_was_damaged_is_said() {
        let status = Status {
            counters: Counters {
                damaged_state: 2,
                ..Counters::default()
            },
            ..Status::default()
        };
        let message = "2 values damaged in the state store, found again in bucket, plan register and table: does \
                       something else write there?";
        assert_eq!(assess(&status), (HealthState::Degraded, vec![message.to_owned()]));
    }

    #[test]
    fn failures_and_halts_come_worst_first() {
        let plan = |attempt| PlanStatus {
            seq: Seq::new(4),
            window_key: "users:0".to_owned(),
            phase: PlanPhase::Committing,
            attempt,
            started_at: now(),
            progress: None,
            last_error: Some("timeout".to_owned()),
        };
        let status = Status {
            plans: vec![plan(1)],
            quarantine: QuarantineStatus {
                count: 2,
                files: Vec::new(),
            },
            halts: vec![HaltStatus {
                namespace: Namespace::new("users"),
                reason: "register lost".to_owned(),
            }],
            windows: vec![window(Some(WaitingFor::Halt))],
            ..Status::default()
        };
        let messages = [
            "namespace `users` is halted: register lost",
            "plan 4 of `users:0` is at attempt 1: timeout",
            "2 files in quarantine: see `quarantine` for the reasons, then release or discard",
        ];
        assert_eq!(
            assess(&status),
            (HealthState::Unhealthy, messages.map(str::to_owned).to_vec())
        );
        let failing = Status {
            plans: vec![plan(5)],
            ..Status::default()
        };
        assert_eq!(assess(&failing).0, HealthState::Unhealthy);
    }
}
