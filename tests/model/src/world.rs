//! What happens around the lane: files and events, faults, foreign hands, and the upkeep of the state.

use crate::action::Action;
use crate::faults::Fault;
use crate::model::LaneModel;
use crate::mutants::Mutant;
use crate::names::{Attempts, Lane, Seq, Sources, Window};
use crate::set::{By, Set};
use crate::state::{Outcome, Reader, Request, State, WindowState, Worker};

/// What may happen.
pub fn actions(model: &LaneModel, state: &State, actions: &mut Vec<Action>) {
    files(model, state, actions);
    foreign_hands(model, state, actions);
    losses(model, state, actions);
    upkeep(model, state, actions);
    time(model, state, actions);
    if let Some(request) = state.request {
        if can_land(model, state, request) {
            actions.push(Action::RequestLands);
        }
        actions.push(Action::RequestLost);
    }
}

fn files(model: &LaneModel, state: &State, actions: &mut Vec<Action>) {
    let config = model.config;
    let late = config.late_files() - state.landed;
    actions.extend(late.iter().next().map(|source| Action::FileArrives { source }));
    let announced = state.bucket - state.acknowledged;
    actions.extend(announced.iter().map(|source| Action::EventHandled { source }));
    if state.left.allows(Fault::Redelivery) {
        for window in config.windows() {
            let again = (state.acknowledged & config.sources_of(window)) - state.windows[window].pending;
            if !again.is_empty() {
                actions.push(Action::EventsRedelivered { window });
            }
        }
    }
    let whole: Sources = state.bucket.iter().filter(|source| source.is_first()).collect();
    if state.left.allows(Fault::Replacement) {
        actions.extend(whole.iter().map(|source| Action::FileReplaced { source }));
    }
    if state.left.allows(Fault::Vanishing) {
        actions.extend(whole.iter().map(|source| Action::FileVanishes { source }));
    }
}

fn foreign_hands(model: &LaneModel, state: &State, actions: &mut Vec<Action>) {
    if state.left.allows(Fault::ForeignCommit) {
        actions.push(Action::ForeignCommit);
    }
    if state.left.allows(Fault::Vacuum) {
        vacuum(model, state, actions);
    }
    let Some(newest) = state.table.newest() else { return };
    if state.left.allows(Fault::LogCleaning) {
        actions.push(Action::LogCleaned);
    }
    // What the log does not show any more nobody can restore to; what an operator's door wrote stays.
    let has_rows = newest.outcome == Outcome::Data && !newest.is_hidden && !newest.is_expired;
    if state.left.allows(Fault::Restore) && has_rows {
        actions.push(Action::TableRestored);
    }
    if state.left.allows(Fault::TableRollback) && newest.seq > Seq::ZERO {
        actions.push(Action::TableRolledBack);
    }
}

/// What a cleaner may delete: old files that are in no entry. Not within the instant between the look at an attempt's files
/// and its commit.
fn vacuum(model: &LaneModel, state: &State, actions: &mut Vec<Action>) {
    for lane in Lane::all().filter(|lane| model.outputs_of(*lane) == *lane) {
        for seq in Seq::all() {
            let entries = state
                .table
                .entries()
                .filter(|entry| (entry.lane, entry.seq) == (lane, seq));
            let in_table: Attempts = entries.map(|entry| entry.attempt).collect();
            let committing = state.workers.values().filter_map(|worker| match worker {
                Worker::Committing(work) if work.seq == seq => Some(work.attempt),
                _ => None,
            });
            let in_flight = match state.request {
                Some(Request::Commit(entry)) if entry.seq == seq => Some(entry.attempt),
                _ => None,
            };
            let kept = in_table | committing.chain(in_flight).collect();
            let old = state.outputs[lane][seq] - kept;
            actions.extend(old.iter().map(|attempt| Action::OutputVacuumed { lane, seq, attempt }));
        }
    }
}

fn losses(model: &LaneModel, state: &State, actions: &mut Vec<Action>) {
    if state.left.allows(Fault::KeyRollback) {
        let changed = |window: &Window| state.windows[*window] != state.windows_before[*window];
        let changed = model.config.windows().filter(changed);
        actions.extend(changed.map(|window| Action::KeyRolledBack { window }));
    }
    for (fault, action) in [
        (Fault::StateLoss, Action::StateLost),
        (Fault::ControlLoss, Action::ControlPrefixLost),
        (Fault::PlansLoss, Action::PlansLost),
    ] {
        if state.left.allows(fault) {
            actions.push(action);
        }
    }
}

/// What anyone may do at any time for the state of a window.
fn upkeep(model: &LaneModel, state: &State, actions: &mut Vec<Action>) {
    let Some(lane) = state.manifest else { return };
    for window in model.config.windows() {
        if derived(model, state, lane, window) != state.windows[window] {
            actions.push(Action::WindowDerived { window });
        }
        if !unknown(model, state, lane, window).is_empty() && !model.lacks(Mutant::NoReconcile) {
            actions.push(Action::BucketListed { window });
        }
        if !replaced(model, state, lane, window).is_empty() {
            actions.push(Action::ReplacedSetAside { window });
        }
    }
}

/// The grace of a decision ends, but not before that of a view that was begun earlier.
fn time(model: &LaneModel, state: &State, actions: &mut Vec<Action>) {
    if !model.config.has_grace {
        return;
    }
    let waiting = match state.reader {
        Reader::Idle => Set::EMPTY,
        Reader::Open { undecided, .. } | Reader::TableRead { undecided, .. } => undecided,
    };
    for (lane, register) in state.registers.iter() {
        let data = Seq::all().filter(|seq| register.decisions[*seq].is_some_and(|d| d.outcome == Outcome::Data));
        let ends = data.filter(|seq| !register.grace_over.has(*seq) && !waiting.has(*seq));
        actions.extend(ends.map(|seq| Action::GraceEnds { lane, seq }));
    }
}

fn can_land(model: &LaneModel, state: &State, request: Request) -> bool {
    match request {
        Request::Plan(lane, seq, _) => model.register(state, lane).plans[seq].is_none(),
        Request::Decision(lane, seq, _) => model.register(state, lane).decisions[seq].is_none(),
        Request::Commit(_) => state.table.has_room(),
    }
}

/// The state of a window as it follows from the register: sources of void plans are pending again but for the culprits,
/// sources of other plans are not.
fn derived(model: &LaneModel, state: &State, lane: Lane, window: Window) -> WindowState {
    let of_window = model.config.sources_of(window);
    let register = model.register(state, lane);
    let taken = model.taken(state, lane);
    let (mut back, mut bad, mut index) = (Sources::EMPTY, register.in_doubt, state.windows[window].index);
    for (seq, plan) in model.ledger(state, lane).plans() {
        if let Some(decision) = register.decisions[seq]
            && decision.outcome == Outcome::Void
        {
            back |= plan.sources();
            bad |= decision.bad - taken;
        }
        if plan.sources().meets(of_window) && model.lacks(Mutant::IndexApart) {
            index |= Set::one(seq);
        }
    }
    if model.lacks(Mutant::VoidBackByVoider) {
        back = Sources::EMPTY;
    }
    let quarantined = state.windows[window].quarantined | bad & of_window;
    let pending = (state.windows[window].pending | back & of_window) - taken - quarantined;
    WindowState {
        pending,
        quarantined,
        index,
    }
}

/// Files of a window that are in the bucket, and that neither state nor register know.
fn unknown(model: &LaneModel, state: &State, lane: Lane, window: Window) -> Sources {
    let known = state.windows[window];
    let new = (state.bucket & model.config.sources_of(window)) - known.pending - known.quarantined;
    new - model.taken(state, lane)
}

/// Pending files whose key is taken in another content.
fn replaced(model: &LaneModel, state: &State, lane: Lane, window: Window) -> Sources {
    if model.config.appends_replaced {
        return Sources::EMPTY;
    }
    let taken = model.taken(state, lane);
    (state.windows[window].pending & state.bucket & taken.of_same_keys()) - taken
}

/// Does what is the world's to do.
pub fn apply(model: &LaneModel, state: &mut State, action: Action) {
    match action {
        Action::FileArrives { source } => {
            let file = Sources::one(source);
            state.bucket |= file;
            state.landed |= file;
            state.acknowledged |= file;
            add_pending(model, state, file);
        }
        Action::EventHandled { source } => {
            state.acknowledged |= Sources::one(source);
            add_pending(model, state, Sources::one(source));
        }
        Action::EventsRedelivered { window } => {
            let again = state.acknowledged & model.config.sources_of(window);
            save(model, state, window, |saved| saved.pending |= again);
        }
        Action::FileReplaced { source } => {
            let (old, new) = (Sources::one(source), Sources::one(source.second()));
            remove_by_others(state, old);
            state.bucket |= new;
            state.landed |= new;
        }
        Action::OutputVacuumed { lane, seq, attempt } => state.outputs[lane][seq] -= Set::one(attempt),
        Action::FileVanishes { source } => remove_by_others(state, Sources::one(source)),
        Action::ForeignCommit => model.table_moved(state),
        Action::LogCleaned => {
            state.table.expire();
            model.table_moved(state);
        }
        Action::TableRestored | Action::TableRolledBack => set_back(model, state, action),
        Action::KeyRolledBack { window } => {
            state.windows[window] = state.windows_before[window];
            state.damage.state = true;
        }
        Action::StateLost => {
            state.windows = By::default();
            state.windows_before = By::default();
            state.index_extent = Seq::ZERO;
            state.damage.state = true;
            if model.lacks(Mutant::FloorInState) {
                state
                    .registers
                    .values_mut()
                    .for_each(|register| register.floor = Seq::ZERO);
            }
        }
        Action::ControlPrefixLost => {
            state.manifest = None;
            state.registers = By::default();
            state.damage.register = true;
        }
        Action::PlansLost => {
            state.registers = By::default();
            state.damage.register = true;
        }
        Action::GraceEnds { lane, seq } => state.registers[lane].grace_over |= Set::one(seq),
        Action::WindowDerived { window } => {
            if let Some(lane) = state.manifest {
                let derived = derived(model, state, lane, window);
                state.index_extent = match model.lacks(Mutant::IndexApart) {
                    true => model.ledger(state, lane).head(),
                    false => Seq::ZERO,
                };
                save(model, state, window, |saved| *saved = derived);
            }
        }
        Action::BucketListed { window } => {
            if let Some(lane) = state.manifest {
                let unknown = unknown(model, state, lane, window);
                save(model, state, window, |saved| saved.pending |= unknown);
            }
        }
        Action::ReplacedSetAside { window } => {
            if let Some(lane) = state.manifest {
                let replaced = replaced(model, state, lane, window);
                save(model, state, window, |saved| {
                    saved.pending -= replaced;
                    saved.quarantined |= replaced;
                });
            }
        }
        Action::RequestLands => {
            if let Some(request) = state.request.take() {
                land(model, state, request);
            }
        }
        Action::RequestLost => state.request = None,
        _ => {}
    }
}

/// Saves the files of events.
fn add_pending(model: &LaneModel, state: &mut State, files: Sources) {
    if model.lacks(Mutant::AckBeforeSave) {
        return;
    }
    for window in model.config.windows() {
        let of_window = files & model.config.sources_of(window);
        let is_planned = state
            .manifest
            .is_some_and(|lane| model.taken(state, lane).meets(model.config.sources_of(window)));
        if of_window.is_empty() || is_planned && model.lacks(Mutant::LateFileDropped) {
            continue;
        }
        save(model, state, window, |saved| {
            saved.pending |= of_window - saved.quarantined;
        });
    }
}

/// Saves a key of the state store. What it held before is kept only where it may come back.
pub fn save(model: &LaneModel, state: &mut State, window: Window, change: impl FnOnce(&mut WindowState)) {
    if model.config.may(Fault::KeyRollback) {
        state.windows_before[window] = state.windows[window];
    }
    change(&mut state.windows[window]);
}

/// A source goes by somebody else's hand: what is not in the table then is lost, and not by us. Nobody may do that
/// within the instant between a reclaim's look at an etag and its delete, nor under a reader.
fn remove_by_others(state: &mut State, gone: Sources) {
    state.bucket -= gone;
    state.exempt |= gone - state.table.rows();
    if let Reader::Open { files, due, .. } = &mut state.reader {
        *files -= gone;
        *due -= gone;
    }
    if let Reader::TableRead { due, .. } = &mut state.reader {
        *due -= gone;
    }
}

/// The newest rows are taken out. Sources of theirs that are gone are lost, and not by us. Nobody may do that within a
/// reclaim, so one that is under way ends.
fn set_back(model: &LaneModel, state: &mut State, action: Action) {
    let Some(newest) = state.table.newest().copied() else {
        return;
    };
    state.damage.table = true;
    if !newest.is_hidden {
        state.exempt |= newest.rows - state.bucket;
    }
    state.reclaims[model.control_of(newest.lane)][newest.seq] = Sources::EMPTY;
    match action {
        Action::TableRestored => state.table.hide_newest(),
        _ => state.table.pop(),
    }
    model.table_moved(state);
}

fn land(model: &LaneModel, state: &mut State, request: Request) {
    match request {
        Request::Plan(lane, seq, plan) => model.register_mut(state, lane).plans[seq] = Some(plan),
        Request::Decision(lane, seq, decision) => model.register_mut(state, lane).decisions[seq] = Some(decision),
        Request::Commit(entry) => {
            state.table.push(entry);
            model.table_moved(state);
        }
    }
}
