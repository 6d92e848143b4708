//! A worker's turn: from what is pending to a decided plan. It may stop for any time at any step, and go on as a zombie.

mod effects;

pub use effects::apply;

use crate::action::Action;
use crate::check::Standing;
use crate::faults::Fault;
use crate::model::LaneModel;
use crate::mutants::Mutant;
use crate::names::{Attempts, Lane, Seq, Sources, WorkerId};
use crate::set::Set;
use crate::state::{Halt, Outcome, Plan, Request, State, Work, Worker};

/// What workers may do.
pub fn actions(model: &LaneModel, state: &State, actions: &mut Vec<Action>) {
    if state.manifest.is_none() && state.newest_lane.next().is_some() && state.halt.is_none() {
        actions.push(Action::LaneOpened);
    }
    let mut before = None;
    for (worker, at) in state.workers.iter().take(model.config.workers) {
        // Two workers that are at the same thing can do the same.
        if before.replace(*at) == Some(*at) {
            continue;
        }
        if *at != Worker::Idle && state.left.allows(Fault::Crash) {
            actions.push(Action::WorkerCrashes { worker });
        }
        match *at {
            Worker::Idle => begin(model, state, worker, actions),
            Worker::Drafting { lane, pending, index } => {
                actions.push(draft(model, state, worker, lane, pending, index));
            }
            Worker::Planning { lane, seq, plan } => put_plan(model, state, worker, (lane, seq, plan), actions),
            Worker::Merging { lane, seq, plan } => merge(model, state, worker, (lane, seq, plan), actions),
            Worker::Looking(work) => actions.push(look(model, state, worker, work)),
            Worker::Committing(work) => commit(model, state, worker, work, actions),
            Worker::Recording(work) => record(model, state, worker, work, actions),
        }
    }
}

fn begin(model: &LaneModel, state: &State, worker: WorkerId, actions: &mut Vec<Action>) {
    let Some(lane) = state.manifest.filter(|_| state.halt.is_none()) else {
        return;
    };
    let ledger = model.ledger(state, lane);
    if ledger.is_of_another_lane() {
        actions.push(Action::WorkerHalts {
            worker,
            halt: Halt::RegisterLost,
        });
        return;
    }
    for window in model.config.windows() {
        let wanted = waiting(state.windows[window].pending, state.windows[window].quarantined) & state.bucket;
        if !(wanted - taken(model, state, lane, state.windows[window].index)).is_empty() {
            actions.push(Action::PendingRead { worker, window });
        }
    }
    let register = model.register(state, lane);
    let mut undecided = ledger
        .plans()
        .map(|(seq, _)| seq)
        .filter(|seq| register.decisions[*seq].is_none());
    let any = model.lacks(Mutant::NoDurableDecision);
    let taken_up = undecided.by_ref().take(if any { usize::MAX } else { 1 });
    actions.extend(taken_up.map(|seq| Action::PlanTakenUp { worker, seq }));
}

/// What waits in a window, in whatever content is there now, but not what is set aside.
fn waiting(pending: Sources, quarantined: Sources) -> Sources {
    pending.of_same_keys() - quarantined
}

/// The sources that a draft drops.
fn taken(model: &LaneModel, state: &State, lane: Lane, index: Set<Seq>) -> Sources {
    let register = model.register(state, lane);
    let taken = if model.lacks(Mutant::MembershipFromState) || model.lacks(Mutant::NextSeqAfterMarker) {
        Sources::EMPTY
    } else if model.lacks(Mutant::IndexApart) {
        let indexed = |seq: Seq| index.has(seq) || seq > state.index_extent;
        let is_void = |seq: Seq| register.decisions[seq].is_some_and(|d| d.outcome == Outcome::Void);
        let ledger = model.ledger(state, lane);
        let plans = ledger.plans().filter(|(seq, _)| indexed(*seq) && !is_void(*seq));
        plans.fold(Sources::EMPTY, |all, (_, plan)| all | plan.sources())
    } else {
        model.taken(state, lane)
    };
    match model.config.appends_replaced {
        true => taken,
        false => taken.of_same_keys(),
    }
}

fn draft(model: &LaneModel, state: &State, worker: WorkerId, lane: Lane, pending: Sources, index: Set<Seq>) -> Action {
    let ledger = model.ledger(state, lane);
    let standing = match ledger.check() {
        Ok(standing) => standing,
        Err(halt) => return Action::WorkerHalts { worker, halt },
    };
    let after = match model.lacks(Mutant::NextSeqAfterMarker) {
        true => ledger.head().max(ledger.in_table()),
        false => ledger.head(),
    };
    let seq = after.next();
    let sources = (pending & state.bucket) - taken(model, state, lane, index);
    let is_free = standing == Standing::Free || model.lacks(Mutant::PlanWhileUndecided);
    if !is_free || !seq.is_up_to(model.config.seqs) || sources.is_empty() {
        return Action::NothingPlanned { worker };
    }
    let previous = ledger.plan(after).unwrap_or(Plan::NONE);
    Action::PlanDrafted {
        worker,
        seq,
        plan: Plan::new(previous, sources),
    }
}

fn put_plan(
    model: &LaneModel,
    state: &State,
    worker: WorkerId,
    (lane, seq, plan): (Lane, Seq, Plan),
    actions: &mut Vec<Action>,
) {
    match model.register(state, lane).plans[seq] {
        Some(plan) if !model.lacks(Mutant::PlanOverwritten) => actions.push(Action::PlanAdopted { worker, seq, plan }),
        _ => actions.push(Action::PlanPut { worker, seq, plan }),
    }
    if state.left.allows(Fault::LostAnswer) && state.request.is_none() {
        actions.push(Action::PlanPutUnanswered { worker, seq, plan });
    }
}

fn merge(
    model: &LaneModel,
    state: &State,
    worker: WorkerId,
    (lane, seq, plan): (Lane, Seq, Plan),
    actions: &mut Vec<Action>,
) {
    let register = model.register(state, lane);
    let sources = plan.sources();
    let bad = (sources & model.config.bad_files()) | (sources - state.bucket);
    let is_decided = seq <= register.floor || register.decisions[seq].is_some();
    let attempt = attempts_of(model, state, lane, seq).lowest_free();
    let skips = model.lacks(Mutant::SkipCorruptSource);
    if !bad.is_empty() && is_decided && !skips {
        actions.push(Action::AttemptEnds { worker });
        return;
    }
    let Some(attempt) = attempt else { return };
    if !bad.is_empty() && model.lacks(Mutant::ReplanSameSeq) && bad != sources {
        let plan = Plan::new(plan.previous(), sources - bad);
        actions.push(Action::PlanPut { worker, seq, plan });
    } else if !bad.is_empty() && !skips {
        actions.push(Action::BadSourcesFound { worker, attempt, bad });
    } else {
        let skipped = bad;
        actions.push(Action::AttemptUploaded {
            worker,
            attempt,
            skipped,
        });
        if state.left.allows(Fault::BrokenAttempt) {
            actions.push(Action::AttemptsExhausted { worker, attempt });
        }
    }
}

/// The attempt ids at a seq that somebody or something has.
fn attempts_of(model: &LaneModel, state: &State, lane: Lane, seq: Seq) -> Attempts {
    let (names, control) = (model.outputs_of(lane), model.control_of(lane));
    let in_hand = state.workers.values().filter_map(|worker| match worker {
        Worker::Looking(work) | Worker::Committing(work) | Worker::Recording(work) if work.seq == seq => {
            Some(work.attempt)
        }
        _ => None,
    });
    let in_flight = match state.request {
        Some(Request::Commit(entry)) if entry.seq == seq => Some(entry.attempt),
        Some(Request::Decision(_, at, decision)) if at == seq => Some(decision.attempt),
        _ => None,
    };
    let in_table = state.table.entries().filter(|entry| entry.seq == seq);
    let decided = state.registers[control].decisions[seq].map(|decision| decision.attempt);
    state.outputs[names][seq]
        .iter()
        .chain(in_hand)
        .chain(in_flight)
        .chain(in_table.map(|entry| entry.attempt))
        .chain(decided)
        .collect()
}

/// Step 9: what table and register say of the seq that the worker has in hand.
fn look(model: &LaneModel, state: &State, worker: WorkerId, work: Work) -> Action {
    let ledger = model.ledger(state, work.lane);
    let register = model.register(state, work.lane);
    if work.seq <= register.floor {
        return Action::AttemptEnds { worker };
    }
    if ledger.plan(work.seq) != Some(work.plan) {
        return look_from_memory(model, state, worker, work);
    }
    let halts = |halt| Action::WorkerHalts { worker, halt };
    let standing = match ledger.check() {
        Ok(standing) => standing,
        Err(halt) => return halts(halt),
    };
    if model.lacks(Mutant::NoDurableDecision) {
        return look_without_decisions(model, state, worker, work);
    }
    match (standing, ledger.marker()) {
        (Standing::ToRecord(seq), Some(entry)) if seq <= work.seq => Action::EntrySeen {
            worker,
            work: ledger.observed(entry, work),
        },
        (Standing::Undecided(seq), _) if seq == work.seq => to_commit(model, state, worker, work),
        // A plan before it is still to be decided.
        (Standing::Undecided(seq), _) if seq < work.seq => Action::AttemptEnds { worker },
        _ if register.decisions[work.seq].is_some() => Action::AttemptEnds { worker },
        _ => halts(Halt::RegisterLost),
    }
}

/// The register has lost the plan that the worker still has in memory, with all that it read before it. Only the table
/// can stop it.
fn look_from_memory(model: &LaneModel, state: &State, worker: WorkerId, work: Work) -> Action {
    let ledger = model.ledger(state, work.lane);
    let is_same = |plan: Plan| plan == work.plan || model.lacks(Mutant::PlanHashNeverCompared);
    let halts = |halt| Action::WorkerHalts { worker, halt };
    match ledger.marker() {
        _ if ledger.is_of_another_lane() => halts(Halt::RegisterLost),
        Some(entry) if entry.seq == work.seq && is_same(entry.plan) => Action::EntrySeen {
            worker,
            work: ledger.observed(entry, work),
        },
        Some(entry) if entry.seq == work.seq => halts(Halt::RegisterWrong),
        _ if ledger.is_base_of(work.seq, work.plan) => to_commit(model, state, worker, work),
        _ => halts(Halt::RegisterLost),
    }
}

/// Where no durable decision of the seq before is asked for, the log has to tell what became of a seq.
fn look_without_decisions(model: &LaneModel, state: &State, worker: WorkerId, work: Work) -> Action {
    let ledger = model.ledger(state, work.lane);
    let is_recorded = model.register(state, work.lane).decisions[work.seq].is_some();
    let in_log = |entry: &&crate::state::Entry| entry.seq == work.seq && !entry.is_expired;
    let halts = |halt| Action::WorkerHalts { worker, halt };
    match ledger.in_table() {
        _ if is_recorded => Action::AttemptEnds { worker },
        in_table if in_table < work.seq.previous() => Action::AttemptEnds { worker },
        in_table if in_table < work.seq => to_commit(model, state, worker, work),
        in_table => {
            let marker = ledger.marker().filter(|_| in_table == work.seq);
            match marker.or_else(|| state.table.entries().find(in_log)) {
                Some(entry) => Action::EntrySeen {
                    worker,
                    work: ledger.observed(entry, work),
                },
                None => halts(Halt::RegisterLost),
            }
        }
    }
}

fn to_commit(model: &LaneModel, state: &State, worker: WorkerId, work: Work) -> Action {
    let files = state.outputs[model.outputs_of(work.lane)][work.seq];
    if work.outcome == Outcome::Data && !files.has(work.attempt) && !model.lacks(Mutant::OutputsNotLookedFor) {
        return Action::OutputsGone { worker };
    }
    if !model.ledger(state, work.lane).is_base_of(work.seq, work.plan) && !model.lacks(Mutant::MarkerNeverCompared) {
        let halt = Halt::RegisterWrong;
        return Action::WorkerHalts { worker, halt };
    }
    Action::BaseRead { worker }
}

fn commit(model: &LaneModel, state: &State, worker: WorkerId, work: Work, actions: &mut Vec<Action>) {
    let Work { seq, outcome, .. } = work;
    let only_noted = outcome == Outcome::Void && model.lacks(Mutant::VoidWithoutEntry);
    if state.table.has_room() || only_noted {
        actions.push(Action::EntryCommitted { worker, seq, outcome });
    }
    if state.left.allows(Fault::LostAnswer) && state.request.is_none() && !only_noted {
        actions.push(Action::CommitUnanswered { worker, seq, outcome });
    }
}

fn record(model: &LaneModel, state: &State, worker: WorkerId, work: Work, actions: &mut Vec<Action>) {
    let (seq, decision) = (work.seq, work.decision());
    match model.register(state, work.lane).decisions[seq] {
        Some(found) if found.agrees_with(decision) => actions.push(Action::DecisionFound { worker, seq }),
        Some(_) => actions.push(Action::WorkerHalts {
            worker,
            halt: Halt::RegisterWrong,
        }),
        None => {
            actions.push(Action::DecisionPut { worker, seq, decision });
            if state.left.allows(Fault::LostAnswer) && state.request.is_none() {
                actions.push(Action::DecisionPutUnanswered { worker, seq, decision });
            }
        }
    }
}
