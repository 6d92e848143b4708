//! The operator's doors on from a halt. The table is handed over first, so that zombies of the old lane are shut out;
//! then every raw file is judged, and the new manifest written last.

use crate::action::Action;
use crate::faults::Fault;
use crate::model::LaneModel;
use crate::names::{Attempt, Lane, Seq, Sources};
use crate::set::{By, Ordinal};
use crate::state::{Door, Entry, Outcome, Plan, Register, State};

/// What an operator may do.
pub fn actions(model: &LaneModel, state: &State, actions: &mut Vec<Action>) {
    if state.door.is_some() {
        actions.push(Action::DoorPassed);
        if state.left.allows(Fault::Crash) {
            actions.push(Action::DoorAbandoned);
        }
        return;
    }
    let can_open = state.left.allows(Fault::Operator) && state.newest_lane.next().is_some() && state.table.has_room();
    if state.halt.is_some() && can_open {
        let doors = model.config.doors.iter();
        actions.extend(doors.map(|door| Action::DoorOpened { door: *door }));
    }
}

/// What a door finds out of the sources in the bucket.
struct Judgement {
    in_table: Sources,
    in_doubt: Sources,
}

/// Judges every raw file by what register and table of the old lane say.
fn judge(model: &LaneModel, state: &State, door: Door) -> Judgement {
    let old = state.manifest;
    let marker = old.and_then(|old| {
        let mut entries = state.table.entries().rev();
        entries.find(|entry| model.control_of(entry.lane) == model.control_of(old) && entry.seq > Seq::ZERO)
    });
    let is_stranger = |entry: &Entry| Some(entry.lane) != old && Some(entry.lane) != Some(state.newest_lane);
    let mut is_whole = old.is_some() && !state.table.entries().any(is_stranger);
    let (mut in_table, mut in_doubt) = (Sources::EMPTY, Sources::EMPTY);
    if let Some(old) = old {
        let register = model.register(state, old);
        let ledger = model.ledger(state, old);
        is_whole &= register.floor == Seq::ZERO;
        is_whole &= marker.is_none_or(|marker| ledger.plan(marker.seq) == Some(marker.plan));
        let reaches = marker.map_or(Seq::ZERO, |marker| marker.seq);
        for (seq, plan) in ledger.plans() {
            let entry = state.table.entries().find(|entry| {
                let is_of_plan = entry.seq == seq && entry.lane == old && entry.plan == plan;
                is_of_plan && entry.outcome == Outcome::Data && !entry.is_hidden
            });
            let committed = match register.decisions[seq] {
                Some(decision) => Some(decision.outcome == Outcome::Data),
                None if seq == reaches => Some(marker.is_some_and(|marker| marker.outcome == Outcome::Data)),
                None if seq > reaches => Some(false),
                None => None,
            };
            match (door, committed) {
                (Door::Adopt, Some(true)) => in_table |= plan.sources(),
                (Door::Replay, Some(true)) if entry.is_some() => in_table |= plan.sources(),
                (_, Some(_)) => {}
                (_, None) => in_doubt |= plan.sources(),
            }
        }
        in_table |= register.settled;
        in_doubt |= register.in_doubt;
    }
    if !is_whole {
        // Somebody whose plans are not known may have had any of them.
        in_doubt = state.bucket - in_table;
    }
    // Other content under the key of a source that is in.
    in_doubt |= in_table.of_same_keys() - in_table;
    Judgement {
        in_table: in_table & state.bucket,
        in_doubt: (in_doubt & state.bucket) - in_table,
    }
}

/// Does what is an operator's to do.
pub fn apply(model: &LaneModel, state: &mut State, action: Action) {
    match action {
        Action::DoorOpened { door } => {
            let Some(lane) = state.newest_lane.next() else { return };
            state.newest_lane = lane;
            state.door = Some(door);
            state.table.push(adoption(lane));
            model.table_moved(state);
        }
        Action::DoorAbandoned => state.door = None,
        Action::DoorPassed => {
            let Some(door) = state.door.take() else { return };
            pass(model, state, door);
        }
        _ => {}
    }
}

/// The marker that hands a table over.
fn adoption(lane: Lane) -> Entry {
    Entry {
        lane,
        seq: Seq::ZERO,
        outcome: Outcome::Void,
        plan: Plan::NONE,
        attempt: Attempt::at(0),
        rows: Sources::EMPTY,
        is_hidden: false,
        is_expired: false,
    }
}

fn pass(model: &LaneModel, state: &mut State, door: Door) {
    let Judgement { in_table, in_doubt } = judge(model, state, door);
    let lane = state.newest_lane;
    *model.register_mut(state, lane) = Register {
        settled: in_table,
        in_doubt,
        ..Register::default()
    };
    state.windows = By::default();
    for window in model.config.windows() {
        let of_window = model.config.sources_of(window);
        state.windows[window].pending = (state.bucket & of_window) - in_table - in_doubt;
        state.windows[window].quarantined = in_doubt & of_window;
    }
    state.windows_before = state.windows;
    state.manifest = Some(lane);
    state.halt = None;
}
