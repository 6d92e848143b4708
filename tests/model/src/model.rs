//! The model: a configuration, the rules that are left out, and what stateright asks for.

use stateright::{Model, Property};

use crate::action::Action;
use crate::config::Config;
use crate::mutants::{Mutant, Mutants};
use crate::names::{Lane, Seq, Sources};
use crate::properties;
use crate::set::By;
use crate::state::{Damage, Entry, Outcome, Reader, Register, Request, State, Table, Worker};
use crate::{check::Ledger, operator, orphans, pruning, reader, reclaim, worker, world};

/// One configuration of the protocol, perhaps with rules left out.
#[derive(Clone, Copy, Debug)]
pub struct LaneModel {
    /// What there is and what may go wrong.
    pub config: &'static Config,
    /// What is left out.
    pub mutants: Mutants,
}

impl LaneModel {
    /// Whether a rule is left out.
    pub fn lacks(&self, rule: Mutant) -> bool {
        self.mutants.has(rule)
    }

    /// Below which id the control objects of a lane lie.
    pub fn control_of(&self, lane: Lane) -> Lane {
        match self.lacks(Mutant::ControlNamesWithoutLane) {
            true => Lane::FIRST,
            false => lane,
        }
    }

    /// Which id the names of a lane's data files carry.
    pub fn outputs_of(&self, lane: Lane) -> Lane {
        match self.lacks(Mutant::OutputNamesWithoutLane) {
            true => Lane::FIRST,
            false => lane,
        }
    }

    /// The lanes whose control objects lie apart.
    pub fn registers(&self) -> impl Iterator<Item = Lane> {
        Lane::all().filter(|lane| self.control_of(*lane) == *lane)
    }

    /// The register of a lane.
    pub fn register<'a>(&self, state: &'a State, lane: Lane) -> &'a Register {
        &state.registers[self.control_of(lane)]
    }

    /// The register of a lane, to be changed.
    pub fn register_mut<'a>(&self, state: &'a mut State, lane: Lane) -> &'a mut Register {
        &mut state.registers[self.control_of(lane)]
    }

    /// Register and table of a lane, side by side.
    pub fn ledger<'a>(&'a self, state: &'a State, lane: Lane) -> Ledger<'a> {
        Ledger::new(self, self.register(state, lane), self.marker(&state.table), lane)
    }

    /// The entry whose marker the table carries.
    pub fn marker<'a>(&self, table: &'a Table) -> Option<&'a Entry> {
        let mut entries = table.entries().rev();
        match self.lacks(Mutant::MarkerExpires) {
            true => entries.find(|entry| !entry.is_expired),
            false => entries.next(),
        }
    }

    /// The sources that count as taken: those of plans that are not void, and those a door has settled.
    pub fn taken(&self, state: &State, lane: Lane) -> Sources {
        let register = self.register(state, lane);
        let ledger = self.ledger(state, lane);
        let covering = ledger.plans().filter(|(seq, _)| {
            let decision = register.decisions[*seq];
            decision.is_none_or(|decision| decision.outcome == Outcome::Data)
        });
        let planned = covering.fold(Sources::EMPTY, |all, (_, plan)| all | plan.sources());
        planned | register.settled | register.in_doubt
    }

    /// Whether the grace of a decision is over. Where it is not modelled, it is over at once.
    pub fn grace_over(&self, register: &Register, seq: Seq) -> bool {
        !self.config.has_grace || register.grace_over.has(seq)
    }

    /// The table has moved: a base that was read can only be read again, and a commit in flight never lands.
    pub fn table_moved(&self, state: &mut State) {
        let stale_commits = self.lacks(Mutant::CommitOnStaleBase);
        if !stale_commits && !self.lacks(Mutant::RebaseWithoutSeqCheck) && !self.lacks(Mutant::BlindRetry) {
            for worker in state.workers.values_mut() {
                if let Worker::Committing(work) = *worker {
                    *worker = Worker::Looking(work);
                }
            }
        }
        if !stale_commits && matches!(state.request, Some(Request::Commit(_))) {
            state.request = None;
        }
    }

    /// Makes states the same that differ in nothing that counts.
    fn normalise(&self, state: &mut State) {
        // The idle come last, so that those that a configuration does not have stay out of it.
        state.workers.sort_down();
        let is_there = match self.lacks(Mutant::EtagNotCompared) {
            true => state.bucket.of_same_keys(),
            false => state.bucket,
        };
        for seqs in state.reclaims.values_mut() {
            seqs.values_mut().for_each(|sources| *sources &= is_there);
        }
        for (of_lane, files) in state.sweeps.values_mut().zip(state.outputs.values()) {
            for (orphans, there) in of_lane.values_mut().zip(files.values()) {
                *orphans &= *there;
            }
        }
    }
}

impl Model for LaneModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let config = self.config;
        let bucket = config.first_files();
        let mut windows = By::default();
        for window in config.windows() {
            let state: &mut crate::state::WindowState = &mut windows[window];
            state.pending = bucket & config.sources_of(window);
        }
        vec![State {
            bucket,
            landed: bucket,
            acknowledged: bucket,
            windows,
            windows_before: windows,
            index_extent: Seq::ZERO,
            manifest: Some(Lane::FIRST),
            newest_lane: Lane::FIRST,
            registers: By::default(),
            table: Table::default(),
            outputs: By::default(),
            workers: By::default(),
            request: None,
            reclaims: By::default(),
            sweeps: By::default(),
            reader: Reader::Idle,
            door: None,
            halt: None,
            left: config.budget(),
            damage: Damage::default(),
            exempt: Sources::EMPTY,
            offence: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        world::actions(self, state, actions);
        operator::actions(self, state, actions);
        worker::actions(self, state, actions);
        reclaim::actions(self, state, actions);
        orphans::actions(self, state, actions);
        pruning::actions(self, state, actions);
        reader::actions(self, state, actions);
    }

    fn next_state(&self, last_state: &State, action: Action) -> Option<State> {
        let mut state = last_state.clone();
        if let Some(fault) = action.spends() {
            state.left.spend(fault);
        }
        // Each part knows its own actions and leaves the others alone.
        world::apply(self, &mut state, action);
        operator::apply(self, &mut state, action);
        worker::apply(self, &mut state, action);
        reclaim::apply(self, &mut state, action);
        orphans::apply(self, &mut state, action);
        pruning::apply(self, &mut state, action);
        reader::apply(self, &mut state, action);
        self.normalise(&mut state);
        Some(state)
    }

    fn format_action(&self, action: &Action) -> String {
        action.to_string()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::invariants()
    }
}
