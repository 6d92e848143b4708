//! Deleting what attempts that did not make it have left: only of decided seqs, and only after the table confirms what
//! the decision names.

use crate::action::Action;
use crate::model::LaneModel;
use crate::mutants::Mutant;
use crate::names::{Attempts, Lane, Seq};
use crate::set::Set;
use crate::state::State;

/// What sweeps may do, also those of processes that are behind.
pub fn actions(model: &LaneModel, state: &State, actions: &mut Vec<Action>) {
    if !model.config.sweeps {
        return;
    }
    for lane in model.registers() {
        for seq in Seq::all() {
            let orphans = state.sweeps[lane][seq];
            if !(found(model, state, lane, seq) - orphans).is_empty() {
                actions.push(Action::SweepConfirmed { lane, seq });
            }
            actions.extend(
                orphans
                    .iter()
                    .map(|attempt| Action::OrphanDeleted { lane, seq, attempt }),
            );
        }
    }
}

/// The orphans of a seq, if the table confirms its decision.
fn found(model: &LaneModel, state: &State, lane: Lane, seq: Seq) -> Attempts {
    let register = model.register(state, lane);
    let files = state.outputs[model.outputs_of(lane)][seq];
    let of_seq = |entry: &&crate::state::Entry| entry.seq == seq && model.control_of(entry.lane) == lane;
    let Some(decision) = register.decisions[seq].filter(|_| seq > register.floor) else {
        let in_log = state.table.entries().filter(of_seq).map(|entry| entry.attempt);
        return match () {
            () if model.lacks(Mutant::SweepUndecided) => files,
            () if model.lacks(Mutant::SweepUnreferenced) => files - in_log.collect(),
            () => Attempts::EMPTY,
        };
    };
    let mut entries = state.table.entries().filter(of_seq);
    let is_confirmed = entries.any(|entry| entry.outcome == decision.outcome && entry.attempt == decision.attempt);
    let marker = state.table.newest().filter(of_seq).map(|entry| entry.attempt);
    match () {
        () if model.lacks(Mutant::SweepAllButNewest) => files - marker.into_iter().collect(),
        () if is_confirmed || model.lacks(Mutant::SweepWithoutConfirmation) => files - Set::one(decision.attempt),
        () => Attempts::EMPTY,
    }
}

/// Does what is a sweep's to do.
pub fn apply(model: &LaneModel, state: &mut State, action: Action) {
    match action {
        Action::SweepConfirmed { lane, seq } => {
            let found = found(model, state, lane, seq);
            state.sweeps[lane][seq] |= found;
        }
        Action::OrphanDeleted { lane, seq, attempt } => {
            state.outputs[model.outputs_of(lane)][seq] -= Set::one(attempt);
            state.sweeps[lane][seq] -= Set::one(attempt);
        }
        _ => {}
    }
}

/// The data files of a lane at a seq.
pub fn files(model: &LaneModel, state: &State, lane: Lane, seq: Seq) -> Attempts {
    state.outputs[model.outputs_of(lane)][seq]
}
