//! What must hold in every state, and the goal that must stay within reach. The names begin with the promise they check.

use stateright::Property;

use crate::model::LaneModel;
use crate::names::{Seq, Sources};
use crate::orphans;
use crate::state::{Halt, Offence, Outcome, Reader, State};

/// I1: no row is in two visible entries.
pub const NO_ROW_TWICE: &str = "I1 a row is in the table twice";
/// I2: each (lane, seq) has one entry.
pub const ONE_ENTRY: &str = "I2 a seq has two entries";
/// I3: no row is lost.
pub const NO_ROW_LOST: &str = "I3 a row is lost";
/// I3: no source is deleted before the grace is over.
pub const GRACE_KEPT: &str = "I3 a source is deleted before its grace is over";
/// I3: no source is deleted while its rows are not visible.
pub const VISIBLE_FIRST: &str = "I3 a source is deleted whose rows are not visible";
/// I5: no committed file is deleted.
pub const FILES_KEPT: &str = "I5 a committed file is deleted";
/// I6: no acknowledged file is forgotten.
pub const NONE_FORGOTTEN: &str = "I6 an acknowledged file is forgotten";
/// I8: the goal stays within reach.
pub const GOAL_IN_REACH: &str = "I8 the goal is out of reach";
/// I10: no view has a row twice.
pub const VIEW_ONCE: &str = "I10 a view has a row twice";
/// I10: no view misses a row.
pub const VIEW_WHOLE: &str = "I10 a view misses a row";
/// A lane halts only after its register or its table was damaged.
pub const NO_FALSE_HALT: &str = "a lane halts without cause";

/// Everything but the goal.
pub fn invariants() -> Vec<Property<LaneModel>> {
    vec![
        Property::always(NO_ROW_TWICE, no_row_twice),
        Property::always(ONE_ENTRY, one_entry),
        Property::always(NO_ROW_LOST, no_row_lost),
        Property::always(GRACE_KEPT, |_, state: &State| {
            state.offence != Some(Offence::BeforeGrace)
        }),
        Property::always(VISIBLE_FIRST, |_, state: &State| {
            state.offence != Some(Offence::NotVisible)
        }),
        Property::always(FILES_KEPT, files_kept),
        Property::always(NONE_FORGOTTEN, none_forgotten),
        Property::always(VIEW_ONCE, view_once),
        Property::always(VIEW_WHOLE, view_whole),
        Property::always(NO_FALSE_HALT, no_false_halt),
    ]
}

fn no_row_twice(_: &LaneModel, state: &State) -> bool {
    let mut seen = Sources::EMPTY;
    state.table.entries().filter(|entry| !entry.is_hidden).all(|entry| {
        let is_new = !seen.meets(entry.rows);
        seen |= entry.rows;
        is_new
    })
}

fn one_entry(_: &LaneModel, state: &State) -> bool {
    let later = |count: usize| state.table.entries().skip(count + 1);
    let mut entries = state.table.entries().enumerate();
    entries.all(|(index, entry)| later(index).all(|other| (other.lane, other.seq) != (entry.lane, entry.seq)))
}

fn no_row_lost(_: &LaneModel, state: &State) -> bool {
    let gone = state.landed - state.bucket - state.exempt;
    gone.is_within(state.table.rows())
}

fn files_kept(model: &LaneModel, state: &State) -> bool {
    let mut data = state.table.entries().filter(|entry| entry.outcome == Outcome::Data);
    data.all(|entry| orphans::files(model, state, entry.lane, entry.seq).has(entry.attempt))
}

/// Only where nothing was damaged: otherwise the register or a listing brings back what the state has lost.
fn none_forgotten(_: &LaneModel, state: &State) -> bool {
    let damage = state.damage;
    if damage.state || damage.register || damage.table {
        return true;
    }
    let known = state.windows.values();
    let known = known.fold(Sources::EMPTY, |all, window| all | window.pending | window.quarantined);
    let mut planned = Sources::EMPTY;
    for register in state.registers.values() {
        let plans = register.plans.values().flatten();
        planned = plans.fold(planned, |all, plan| all | plan.sources());
    }
    let listed_again = known.of_same_keys();
    (state.acknowledged - state.exempt).is_within(listed_again | planned | state.table.rows())
}

fn view_once(_: &LaneModel, state: &State) -> bool {
    match state.reader {
        Reader::Open { rows, files, .. } => !rows.meets(files),
        Reader::Idle | Reader::TableRead { .. } => true,
    }
}

fn view_whole(_: &LaneModel, state: &State) -> bool {
    match state.reader {
        Reader::Open { rows, files, due, .. } => due.is_within(rows | files) && files.is_within(state.bucket),
        Reader::Idle | Reader::TableRead { .. } => true,
    }
}

fn no_false_halt(_: &LaneModel, state: &State) -> bool {
    match state.halt {
        None => true,
        Some(Halt::RegisterLost | Halt::RegisterWrong | Halt::TableRolledBack) => {
            state.damage.register || state.damage.table
        }
    }
}

/// Whether all that can be done is done: every plan decided, every file in the table or set aside with a reason. A lane
/// that stands still waits for its operator, and one without seqs is at the model's own end.
pub fn is_goal(model: &LaneModel, state: &State) -> bool {
    if state.halt.is_some() {
        return true;
    }
    let Some(lane) = state.manifest else { return false };
    let register = model.register(state, lane);
    let ledger = model.ledger(state, lane);
    if ledger.recorded() < ledger.head() {
        return false;
    }
    if !Seq::is_up_to(ledger.head().next(), model.config.seqs) {
        return true;
    }
    let quarantined = state.windows.values();
    let quarantined = quarantined.fold(Sources::EMPTY, |all, window| all | window.quarantined);
    let bad = model.config.bad_files();
    // A key that was taken before its content was replaced, and what a door could not tell.
    let may_be_aside = bad | replaced(state) | register.in_doubt;
    let left = state.bucket - quarantined - register.settled;
    let all_came = (model.config.late_files() - state.landed).is_empty() && state.bucket.is_within(state.acknowledged);
    all_came && left.is_empty() && (quarantined & state.bucket).is_within(may_be_aside)
}

/// Second contents.
fn replaced(state: &State) -> Sources {
    state.bucket.iter().filter(|source| !source.is_first()).collect()
}
