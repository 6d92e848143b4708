//! Forgetting old plans: the floor first, then their objects one by one, with a crash anywhere between.

use crate::action::Action;
use crate::model::LaneModel;
use crate::mutants::Mutant;
use crate::names::{Lane, Seq, Sources};
use crate::state::{Outcome, Plan, State};

/// What pruning may do.
pub fn actions(model: &LaneModel, state: &State, actions: &mut Vec<Action>) {
    let Some(lane) = state.manifest.filter(|_| model.config.prunes) else {
        return;
    };
    if let Some(seq) = prunable(model, state, lane).filter(|_| state.halt.is_none()) {
        actions.push(Action::FloorRaised { lane, seq });
    }
    let register = model.register(state, lane);
    let last = match forgets_first(model, state, lane) {
        Some(seq) => seq,
        None => register.floor,
    };
    for seq in Seq::all().filter(|seq| *seq <= last) {
        if register.plans[seq].is_some() {
            actions.push(Action::PlanForgotten { lane, seq });
        }
        if register.decisions[seq].is_some() {
            actions.push(Action::DecisionForgotten { lane, seq });
        }
    }
}

/// The seq after the floor, if nothing can be asked about it any more. Never the newest.
fn prunable(model: &LaneModel, state: &State, lane: Lane) -> Option<Seq> {
    let register = model.register(state, lane);
    let ledger = model.ledger(state, lane);
    let first = match model.lacks(Mutant::NoFloor) {
        // Nobody remembers where the plans begin, but they are looked for.
        true => Seq::all().find(|seq| register.plans[*seq].is_some())?,
        false => register.floor.next(),
    };
    if !first.is_in_range() {
        return None;
    }
    if model.lacks(Mutant::FloorAfterwards) && register.plans[first].is_none() && register.decisions[first].is_none() {
        let follows = Seq::all().any(|seq| seq > first && register.plans[seq].is_some());
        return follows.then_some(first);
    }
    let (plan, decision) = (register.plans[first]?, register.decisions[first]?);
    let is_newest = match model.lacks(Mutant::NoFloor) {
        true => !first.next().is_in_range() || register.decisions[first.next()].is_none(),
        false => first == ledger.recorded(),
    };
    if is_newest && !model.lacks(Mutant::PrunesNewest) {
        return None;
    }
    let quarantined = state
        .windows
        .values()
        .fold(Sources::EMPTY, |all, w| all | w.quarantined);
    let there = plan.sources() & state.bucket;
    let is_forgettable = match decision.outcome {
        Outcome::Data => there.is_empty(),
        Outcome::Void => there.is_within(model.taken(state, lane) | quarantined),
    };
    (is_forgettable && !model.lacks(Mutant::FloorAfterwards)).then_some(first)
}

/// Where the floor is raised afterwards: up to where objects are deleted meanwhile.
fn forgets_first(model: &LaneModel, state: &State, lane: Lane) -> Option<Seq> {
    if !model.lacks(Mutant::FloorAfterwards) {
        return None;
    }
    let register = model.register(state, lane);
    let first = Some(register.floor.next()).filter(|seq| seq.is_in_range())?;
    let is_done = match register.plans[first] {
        Some(plan) => !plan.sources().meets(state.bucket) && first < model.ledger(state, lane).recorded(),
        None => true,
    };
    is_done.then_some(first)
}

/// Does what is pruning's to do.
pub fn apply(model: &LaneModel, state: &mut State, action: Action) {
    match action {
        Action::FloorRaised { lane, seq } => {
            let next = Some(seq.next()).filter(|next| next.is_in_range());
            let forgets_hash = model.lacks(Mutant::FloorWithoutHash);
            let register = model.register_mut(state, lane);
            let next = next.and_then(|next| register.plans[next]);
            let plan = register.plans[seq].or_else(|| next.map(Plan::previous));
            if model.lacks(Mutant::NoFloor) {
                register.plans[seq] = None;
                register.decisions[seq] = None;
                return;
            }
            register.floor = seq;
            register.floor_plan = plan.filter(|_| !forgets_hash).unwrap_or(Plan::NONE);
        }
        Action::PlanForgotten { lane, seq } => model.register_mut(state, lane).plans[seq] = None,
        Action::DecisionForgotten { lane, seq } => model.register_mut(state, lane).decisions[seq] = None,
        _ => {}
    }
}
