//! A reader of table and raw files together: the table first, then the raw files that are not in committed plans.

use crate::action::Action;
use crate::model::LaneModel;
use crate::mutants::Mutant;
use crate::names::{Seq, Sources};
use crate::state::{Outcome, Reader, State};

/// What a reader may do.
pub fn actions(model: &LaneModel, state: &State, actions: &mut Vec<Action>) {
    if !model.config.has_reader {
        return;
    }
    actions.push(match state.reader {
        Reader::Idle => Action::ViewReadsTable,
        Reader::TableRead { .. } => Action::ViewListsBucket,
        Reader::Open { .. } => Action::ViewExpires,
    });
}

/// Does what is a reader's to do.
pub fn apply(model: &LaneModel, state: &mut State, action: Action) {
    match action {
        Action::ViewReadsTable => {
            let Some(lane) = state.manifest else { return };
            let register = model.register(state, lane);
            let marker = state.table.newest();
            state.reader = Reader::TableRead {
                rows: state.table.rows(),
                seq: marker.map_or(Seq::ZERO, |marker| marker.seq),
                is_data: marker.is_some_and(|marker| marker.outcome == Outcome::Data),
                due: (state.acknowledged & (state.bucket | state.table.rows())) - superseded(state),
                undecided: Seq::all().filter(|seq| register.decisions[*seq].is_none()).collect(),
            };
        }
        Action::ViewListsBucket => {
            let Reader::TableRead {
                rows, due, undecided, ..
            } = state.reader
            else {
                return;
            };
            let files = state.bucket - hidden(model, state).of_same_keys();
            state.reader = Reader::Open {
                rows,
                files,
                due,
                undecided,
            };
        }
        Action::ViewExpires => state.reader = Reader::Idle,
        _ => {}
    }
}

/// What replaced a file whose rows are in the table: not part of a view.
fn superseded(state: &State) -> Sources {
    let rows = state.table.rows();
    (rows.of_same_keys() - rows) & state.bucket
}

/// The sources of the plans that count as committed for the view.
fn hidden(model: &LaneModel, state: &State) -> Sources {
    let (
        Some(lane),
        Reader::TableRead {
            seq: newest, is_data, ..
        },
    ) = (state.manifest, state.reader)
    else {
        return Sources::EMPTY;
    };
    if model.lacks(Mutant::ViewHidesNothing) {
        return Sources::EMPTY;
    }
    let register = model.register(state, lane);
    let ledger = model.ledger(state, lane);
    let is_committed = |seq: Seq| match register.decisions[seq] {
        Some(decision) => decision.outcome == Outcome::Data || model.lacks(Mutant::ViewHidesVoids),
        None => seq == newest && is_data || model.lacks(Mutant::ViewHidesLaterCommits),
    };
    let is_seen = |seq: Seq| seq <= newest || model.lacks(Mutant::ViewHidesLaterCommits);
    let committed = ledger.plans().filter(|(seq, _)| is_seen(*seq) && is_committed(*seq));
    committed.fold(Sources::EMPTY, |all, (_, plan)| all | plan.sources())
}
