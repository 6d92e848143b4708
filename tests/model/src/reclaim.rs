//! Deleting the sources of committed plans, any number of them at once and beside the work on later seqs (rule 9).

use crate::action::Action;
use crate::model::LaneModel;
use crate::mutants::Mutant;
use crate::names::{Lane, Seq, Source, Sources};
use crate::state::{Decision, Halt, Offence, Outcome, Plan, State};

/// What reclaims may do, also those of processes that are behind.
pub fn actions(model: &LaneModel, state: &State, actions: &mut Vec<Action>) {
    for lane in model.registers() {
        if state.halt.is_none() {
            begin(model, state, lane, actions);
        }
        for seq in Seq::all() {
            let deletes = state.reclaims[lane][seq]
                .iter()
                .filter_map(|planned| found(model, state, planned));
            actions.extend(deletes.map(|source| Action::SourceDeleted { lane, seq, source }));
        }
    }
}

fn begin(model: &LaneModel, state: &State, lane: Lane, actions: &mut Vec<Action>) {
    let register = model.register(state, lane);
    for (seq, plan) in model.ledger(state, lane).plans() {
        let decision = register.decisions[seq];
        let wanted = match decision {
            Some(decision) => decision.outcome == Outcome::Data || model.lacks(Mutant::ReclaimVoid),
            None => model.lacks(Mutant::ReclaimBeforeCommit),
        };
        let waits = !model.grace_over(register, seq) && !model.lacks(Mutant::GraceDoesNotWait);
        let left = (plan.sources() & state.bucket) - state.reclaims[lane][seq];
        if !wanted || left.is_empty() || waits && decision.is_some_and(|d| d.outcome == Outcome::Data) {
            continue;
        }
        match confirm(model, state, lane, seq, plan, decision) {
            Ok(()) => actions.push(Action::ReclaimConfirmed { lane, seq }),
            // What becomes of a lane that is not the manifest's any more is its own trouble.
            Err(halt) if state.manifest == Some(lane) => actions.push(Action::ReclaimRefuted { lane, seq, halt }),
            Err(_) => {}
        }
    }
}

/// Asks the table for an entry equal to the decision in outcome, plan hash and attempt.
fn confirm(
    model: &LaneModel,
    state: &State,
    lane: Lane,
    seq: Seq,
    plan: Plan,
    decision: Option<Decision>,
) -> Result<(), Halt> {
    let no_hashes = model.lacks(Mutant::PlanHashNeverCompared);
    if decision.is_some_and(|decision| decision.plan != plan) && !no_hashes {
        return Err(Halt::RegisterWrong);
    }
    if model.lacks(Mutant::NoConfirmation) {
        return Ok(());
    }
    let mut of_seq = state.table.entries().filter(|entry| {
        let same_lane =
            entry.lane == lane || model.lacks(Mutant::AnyLane) || model.lacks(Mutant::ControlNamesWithoutLane);
        same_lane && entry.seq == seq && (entry.plan == plan || no_hashes)
    });
    let confirmed = of_seq.any(|entry| match decision {
        Some(decision) if !model.lacks(Mutant::WeakConfirmation) => {
            let outcome = entry.outcome == decision.outcome || model.lacks(Mutant::VoidLikeEmptyCommit);
            outcome && entry.attempt == decision.attempt && !entry.is_hidden
        }
        _ => !entry.is_hidden,
    });
    match confirmed {
        true => Ok(()),
        false => Err(Halt::TableRolledBack),
    }
}

/// What the delete of a planned source would hit.
fn found(model: &LaneModel, state: &State, planned: Source) -> Option<Source> {
    let of_key = Sources::one(planned).of_same_keys() & state.bucket;
    match model.lacks(Mutant::EtagNotCompared) {
        true => of_key.iter().next(),
        false => Some(planned).filter(|source| of_key.has(*source)),
    }
}

/// Does what is a reclaim's to do.
pub fn apply(model: &LaneModel, state: &mut State, action: Action) {
    match action {
        Action::ReclaimConfirmed { lane, seq } => {
            if let Some(plan) = model.register(state, lane).plans[seq] {
                state.reclaims[lane][seq] = plan.sources();
            }
        }
        Action::ReclaimRefuted { halt, .. } => state.halt = state.halt.or(Some(halt)),
        Action::SourceDeleted { lane, seq, source } => {
            note_offence(model, state, lane, seq, source);
            state.bucket -= Sources::one(source);
            state.reclaims[lane][seq] -= Sources::one(source).of_same_keys();
        }
        _ => {}
    }
}

/// Whether the rows were visible, and for at least the grace.
fn note_offence(model: &LaneModel, state: &mut State, lane: Lane, seq: Seq, source: Source) {
    let is_early = !model.grace_over(model.register(state, lane), seq) && !state.damage.register;
    let offence = match () {
        () if !state.table.rows().has(source) => Some(Offence::NotVisible),
        () if is_early => Some(Offence::BeforeGrace),
        () => None,
    };
    state.offence = state.offence.or(offence);
}
