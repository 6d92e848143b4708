//! When a generation may be planned: for each rule the instant from which it holds if nothing else arrives.
//!
//! No rule that holds stops holding by time alone. So the earliest of these instants decides whether the
//! generation is ready, and is its deadline.

use crate::options::Options;
use crate::status::{Readiness, WaitingFor};
use crate::time::Timestamp;

/// What the rules look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// End of the window.
    pub(super) end: Timestamp,
    /// First arrival.
    pub(super) open: Timestamp,
    /// When the newest arrival is long enough ago; in the past if a listing that has ended brought it.
    pub(super) settled_at: Timestamp,
    /// Pending files.
    pub(super) files: usize,
    /// The minimum does not apply.
    pub(super) exempt: bool,
    /// Why the plan was ready that left these files over.
    pub(super) rest_of: Option<Readiness>,
    /// When the first file is not from the future any more.
    pub(super) visible_at: Timestamp,
    /// When so many are not from the future that they exceed a plan.
    pub(super) full_at: Option<Timestamp>,
    /// Everything known is to be planned.
    pub(super) drained: bool,
    /// An earlier plan came to nothing.
    pub(super) voided: bool,
}

impl Facts {
    fn has_enough(&self, options: &Options) -> bool {
        self.exempt || self.files >= options.min_files_to_compact
    }

    fn due(&self) -> Timestamp {
        self.end.max(self.open)
    }
}

/// When writers cease to stand against a quorum, if they stay silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quorum {
    /// All active writers' watermarks are past the window's end.
    pub(super) watermark_at: Timestamp,
    /// All active writers have a file in the window.
    pub(super) presence_at: Timestamp,
}

/// The instants from which the rules hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules([(Readiness, Option<Timestamp>); 9]);

impl Rules {
    /// Applies the rules. A rule that cannot hold before `horizon` has passed may be left out; only then
    /// `quorum` is not asked.
    pub(super) fn new(facts: &Facts, options: &Options, horizon: Timestamp, quorum: impl FnOnce() -> Quorum) -> Self {
        let enough = facts.has_enough(options);
        let settled_at = facts.settled_at;
        let due = facts.due();
        let calm_at = facts.end.max(settled_at);
        let quorum = (enough && calm_at <= horizon).then(quorum);
        let wait = options.max_wait_time_ms;
        Self([
            (Readiness::Drained, facts.drained.then_some(facts.visible_at)),
            (Readiness::Voided, facts.voided.then_some(facts.visible_at)),
            (
                facts.rest_of.unwrap_or(Readiness::Full),
                facts.rest_of.map(|_| facts.visible_at),
            ),
            (
                Readiness::WatermarkQuorum,
                quorum.map(|quorum| calm_at.max(quorum.watermark_at)),
            ),
            (
                Readiness::PresenceQuorum,
                quorum.map(|quorum| calm_at.max(quorum.presence_at)),
            ),
            (Readiness::Timeout, enough.then(|| (due + wait).max(settled_at))),
            (Readiness::UnsettledTimeout, enough.then(|| due + wait + wait)),
            (Readiness::Age, (!enough).then(|| due + options.max_window_age_ms)),
            (Readiness::Full, facts.full_at),
        ])
    }

    /// The first rule that holds at `now`.
    pub(super) fn ready(&self, now: Timestamp) -> Option<Readiness> {
        let holds = |&&(_, at): &&(Readiness, Option<Timestamp>)| at.is_some_and(|at| at <= now);
        self.0.iter().find(holds).map(|(why, _)| *why)
    }

    /// From when on a rule holds.
    pub(super) fn earliest(&self) -> Option<Timestamp> {
        self.0.iter().filter_map(|(_, at)| *at).min()
    }
}

/// What a generation that is not ready waits for.
pub(super) fn waiting_for(facts: &Facts, options: &Options, now: Timestamp) -> WaitingFor {
    if now < facts.visible_at {
        WaitingFor::Clock
    } else if now < facts.end {
        WaitingFor::WindowEnd
    } else if !facts.has_enough(options) {
        WaitingFor::MinimumFiles {
            have: facts.files,
            need: options.min_files_to_compact,
        }
    } else if now < facts.settled_at {
        WaitingFor::Settling
    } else {
        WaitingFor::Writers
    }
}
