//! What a namespace has to plan, and when.

use std::collections::BTreeSet;

use super::{Busy, NamespaceState};
use crate::naming::WriterId;
use crate::options::Options;
use crate::status::{Readiness, WaitingFor, WindowStatus};
use crate::time::Timestamp;
use crate::window::generation::{Cut, Generation};
use crate::window::readiness::{Facts, Rules, waiting_for};
use crate::window::roster::Activity;
use crate::window::tracker::PlanDraft;

impl NamespaceState {
    /// A draft of the oldest window that is ready.
    pub(in crate::window) fn poll_plan(&mut self, now: Timestamp, options: &Options) -> Option<PlanDraft> {
        if self.windows.is_empty() {
            return None;
        }
        // Whatever is in the way: what a file has told stays when the file is forgotten meanwhile.
        self.catch_up(now, options);
        if self.obstacle(now).is_some() {
            return None;
        }
        let mut rules = RulesOf::new(self, now, options);
        let (start, why) = self
            .candidates()
            .find_map(|generation| Some((generation.window.start, rules.of(generation, now).ready(now)?)))?;
        let generation = self.windows.get_mut(&start)?;
        let Cut { files, rest } = generation.cut(options, now);
        let rest_of = rest_of(rest, why);
        if rest && (!generation.exempt || generation.rest_of != rest_of) {
            generation.exempt = true;
            generation.rest_of = rest_of;
            self.dirty_windows.insert(start);
        }
        self.busy = Some(Busy {
            start,
            files_left: files.iter().map(|file| file.key.clone()).collect(),
            changed: BTreeSet::new(),
            rest,
            why,
        });
        Some(PlanDraft {
            namespace: self.name.clone(),
            window: generation.window,
            generation: self.generation(start),
            files,
            why,
        })
    }

    /// When [`poll_plan`](Self::poll_plan) could next give something, if that is before `limit`.
    pub(in crate::window) fn poll_deadline(&self, now: Timestamp, limit: Timestamp, options: &Options) -> Timestamp {
        let not_before = match self.obstacle(now) {
            None => Timestamp::MIN,
            Some((_, Some(until))) => until,
            Some((_, None)) => return limit,
        };
        let mut rules = RulesOf::new(self, now, options);
        let mut best = limit;
        if not_before >= limit || self.windows.is_empty() {
            return limit;
        }
        if let Some((timestamp, _)) = self.ahead.first() {
            best = best.min((*timestamp - options.max_future_skew_ms).max(not_before));
        }
        for generation in self.candidates() {
            if let Some(at) = rules.of(generation, best).earliest() {
                best = best.min(at.max(not_before));
            }
            if best <= now {
                break;
            }
        }
        best
    }

    fn candidates(&self) -> impl Iterator<Item = &Generation> {
        let below = |generation: &&Generation| self.is_below_boundary(generation.window);
        self.windows.values().skip_while(below)
    }

    /// Why no window of this namespace is planned, and until when.
    fn obstacle(&self, now: Timestamp) -> Option<(WaitingFor, Option<Timestamp>)> {
        if self.paused {
            Some((WaitingFor::Halt, None))
        } else if self.listing {
            Some((WaitingFor::Listing, None))
        } else if self.busy.is_some() {
            Some((WaitingFor::Turn, None))
        } else {
            let not_before = self.not_before.filter(|not_before| now < *not_before)?;
            Some((WaitingFor::Retry, Some(not_before)))
        }
    }

    /// What is pending, and what it waits for.
    pub(in crate::window) fn status(&self, options: &Options, now: Timestamp) -> Vec<WindowStatus> {
        let mut rules = RulesOf::new(self, now, options);
        let active: Vec<_> = self.active_writers(options, now).collect();
        let statuses = self.windows.values().map(|generation| {
            let (ready, waiting_for, until) = self.outlook(generation, &mut rules);
            let is_missing = |id: &&&WriterId| !generation.writers().contains_key(**id);
            WindowStatus {
                key: generation.window.key(&self.name),
                window_start: generation.window.start,
                window_end: generation.window.end,
                writers: generation.writers().keys().cloned().collect(),
                file_count: generation.file_count(),
                total_size: generation.total_size(),
                generation: self.generation(generation.window.start),
                missing_writers: active.iter().filter(is_missing).copied().cloned().collect(),
                ready,
                waiting_for,
                until,
                held: generation.held(options, now),
            }
        });
        statuses.collect()
    }

    fn outlook(
        &self,
        generation: &Generation,
        rules: &mut RulesOf<'_>,
    ) -> (Option<Readiness>, Option<WaitingFor>, Option<Timestamp>) {
        let (options, now) = (rules.options, rules.now);
        if let Some(busy) = self.busy.as_ref().filter(|busy| busy.start == generation.window.start) {
            return (Some(busy.why), None, None);
        }
        if self.is_below_boundary(generation.window) {
            return (None, Some(WaitingFor::Quarantine), None);
        }
        let facts = generation.facts(options, now);
        let found = rules.apply(&facts, generation, Timestamp::MAX);
        let ready = found.ready(now);
        match self.obstacle(now) {
            Some((why, until)) => {
                let until = until.map(|until| found.earliest().map_or(until, |at| at.max(until)));
                (ready, Some(why), until)
            }
            None if ready.is_some() => (ready, None, None),
            None => (None, Some(waiting_for(&facts, options, now)), found.earliest()),
        }
    }
}

/// Why the rest of a plan is ready, if it is: a window that was planned early for its size may still grow.
pub(super) fn rest_of(rest: bool, why: Readiness) -> Option<Readiness> {
    (rest && why != Readiness::Full).then_some(why)
}

/// The rules of one namespace's windows; what they need to know of writers is computed once, if at all.
struct RulesOf<'a> {
    state: &'a NamespaceState,
    options: &'a Options,
    now: Timestamp,
    activity: Option<Activity<'a>>,
}

impl<'a> RulesOf<'a> {
    fn new(state: &'a NamespaceState, now: Timestamp, options: &'a Options) -> Self {
        Self {
            state,
            options,
            now,
            activity: None,
        }
    }

    fn of(&mut self, generation: &Generation, horizon: Timestamp) -> Rules {
        self.apply(&generation.facts(self.options, self.now), generation, horizon)
    }

    fn apply(&mut self, facts: &Facts, generation: &Generation, horizon: Timestamp) -> Rules {
        Rules::new(facts, self.options, horizon, || {
            self.activity
                .get_or_insert_with(|| self.state.roster.activity(self.state.active_ms(self.options), self.now))
                .quorum(generation.window.end, generation.writers())
        })
    }
}
