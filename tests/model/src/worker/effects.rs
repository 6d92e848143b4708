//! What becomes of a worker, and of all around it, by a step that it takes.

use crate::action::Action;
use crate::model::LaneModel;
use crate::mutants::Mutant;
use crate::names::{Lane, Seq, Sources, WorkerId};
use crate::set::Set;
use crate::state::{Outcome, Plan, Register, Request, State, Work, Worker};
use crate::worker::waiting;

/// Does what is a worker's to do.
pub fn apply(model: &LaneModel, state: &mut State, action: Action) {
    match action {
        Action::LaneOpened => open_lane(model, state),
        Action::WorkerCrashes { worker } | Action::AttemptEnds { worker } | Action::NothingPlanned { worker } => {
            state.workers[worker] = Worker::Idle;
        }
        Action::WorkerHalts { worker, halt } => {
            let lane = lane_of(state.workers[worker]).or(state.manifest);
            state.workers[worker] = Worker::Idle;
            if lane == state.manifest {
                state.halt = state.halt.or(Some(halt));
            }
        }
        Action::PendingRead { worker, window } => {
            let saved = state.windows[window];
            if let Some(lane) = state.manifest {
                state.workers[worker] = Worker::Drafting {
                    lane,
                    pending: waiting(saved.pending, saved.quarantined),
                    index: saved.index,
                };
            }
        }
        Action::PlanTakenUp { worker, seq } => {
            if let Some(lane) = state.manifest
                && let Some(plan) = model.register(state, lane).plans[seq]
            {
                state.workers[worker] = Worker::Merging { lane, seq, plan };
            }
        }
        Action::PlanDrafted { worker, seq, plan } => {
            if let Worker::Drafting { lane, .. } = state.workers[worker] {
                state.workers[worker] = Worker::Planning { lane, seq, plan };
            }
        }
        Action::PlanPut { worker, seq, plan }
        | Action::PlanAdopted { worker, seq, plan }
        | Action::PlanPutUnanswered { worker, seq, plan } => planned(model, state, action, worker, (seq, plan)),
        Action::AttemptUploaded { worker, .. }
        | Action::BadSourcesFound { worker, .. }
        | Action::AttemptsExhausted { worker, .. } => merged(model, state, worker, action),
        Action::OutputsGone { worker } => {
            if let Worker::Looking(Work { lane, seq, plan, .. }) = state.workers[worker] {
                state.workers[worker] = Worker::Merging { lane, seq, plan };
            }
        }
        Action::BaseRead { worker } => {
            if let Worker::Looking(work) = state.workers[worker] {
                state.workers[worker] = Worker::Committing(work);
            }
        }
        Action::EntrySeen { worker, work } => state.workers[worker] = Worker::Recording(work),
        Action::EntryCommitted { worker, .. } | Action::CommitUnanswered { worker, .. } => {
            if let Worker::Committing(work) = state.workers[worker] {
                committed(model, state, action, worker, work);
            }
        }
        Action::DecisionPut { worker, seq, decision } | Action::DecisionPutUnanswered { worker, seq, decision } => {
            if let Worker::Recording(Work { lane, .. }) = state.workers[worker] {
                match action {
                    Action::DecisionPut { .. } => model.register_mut(state, lane).decisions[seq] = Some(decision),
                    _ => state.request = Some(Request::Decision(lane, seq, decision)),
                }
            }
            state.workers[worker] = Worker::Idle;
        }
        Action::DecisionFound { worker, .. } => state.workers[worker] = Worker::Idle,
        _ => {}
    }
}

fn open_lane(model: &LaneModel, state: &mut State) {
    if let Some(lane) = state.newest_lane.next() {
        state.newest_lane = lane;
        state.manifest = Some(lane);
        if !model.lacks(Mutant::ControlNamesWithoutLane) {
            state.registers[lane] = Register::default();
        }
    }
}

fn lane_of(worker: Worker) -> Option<Lane> {
    match worker {
        Worker::Idle => None,
        Worker::Drafting { lane, .. } | Worker::Planning { lane, .. } | Worker::Merging { lane, .. } => Some(lane),
        Worker::Looking(work) | Worker::Committing(work) | Worker::Recording(work) => Some(work.lane),
    }
}

fn planned(model: &LaneModel, state: &mut State, action: Action, worker: WorkerId, (seq, plan): (Seq, Plan)) {
    let Some(lane) = lane_of(state.workers[worker]) else {
        return;
    };
    if let Action::PlanPutUnanswered { .. } = action {
        state.request = Some(Request::Plan(lane, seq, plan));
        state.workers[worker] = Worker::Idle;
        return;
    }
    let register = model.register_mut(state, lane);
    if let Action::PlanPut { .. } = action {
        register.plans[seq] = Some(plan);
    }
    let before = seq.previous();
    let waits = before > register.floor && register.decisions[before].is_none();
    // A plan that was put too early is taken up in its turn.
    let in_turn = !waits || model.lacks(Mutant::NoDurableDecision) || !model.lacks(Mutant::PlanWhileUndecided);
    state.workers[worker] = match in_turn {
        true => Worker::Merging { lane, seq, plan },
        false => Worker::Idle,
    };
}

fn merged(model: &LaneModel, state: &mut State, worker: WorkerId, action: Action) {
    let Worker::Merging { lane, seq, plan } = state.workers[worker] else {
        return;
    };
    let (attempt, outcome, bad) = match action {
        Action::AttemptUploaded { attempt, skipped, .. } => (attempt, Outcome::Data, skipped),
        Action::BadSourcesFound { attempt, bad, .. } => (attempt, Outcome::Void, bad),
        Action::AttemptsExhausted { attempt, .. } => (attempt, Outcome::Void, Sources::EMPTY),
        _ => return,
    };
    if outcome == Outcome::Data {
        state.outputs[model.outputs_of(lane)][seq] |= Set::one(attempt);
    }
    state.workers[worker] = Worker::Looking(Work {
        lane,
        seq,
        plan,
        outcome,
        attempt,
        bad,
    });
}

fn committed(model: &LaneModel, state: &mut State, action: Action, worker: WorkerId, work: Work) {
    let rows = match work.outcome {
        Outcome::Data => work.plan.sources() - work.bad,
        Outcome::Void => Sources::EMPTY,
    };
    let entry = work.entry(rows);
    if work.outcome == Outcome::Void && model.lacks(Mutant::VoidWithoutEntry) {
        state.workers[worker] = Worker::Recording(work);
        return;
    }
    if let Action::CommitUnanswered { .. } = action {
        state.request = Some(Request::Commit(entry));
        state.workers[worker] = match () {
            () if model.lacks(Mutant::ErrorTakenForSuccess) => Worker::Recording(work),
            () if model.lacks(Mutant::BlindRetry) => Worker::Committing(work),
            () => Worker::Looking(work),
        };
        return;
    }
    state.workers[worker] = Worker::Looking(work);
    state.table.push(entry);
    model.table_moved(state);
}
