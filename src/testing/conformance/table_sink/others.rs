//! Other workers of the lane, other writers of the table, and calls that nobody waits for.

use futures::future::join;

use super::TableTrial;
use super::desk::{LANE, append, committed, decision, found_marker, marker, outcome, paths, shows, state};
use super::entries::is_confirmed;
use crate::sink::{CommitOutcome, Confirmation};
use crate::testing::conformance::{POLLS, answered, broken, dropped_after, keep};

pub(super) const SHARED: &str = "what one worker has committed another one sees, whatever it has seen before";
pub(super) const RACE: &str = "of two workers at one seq one commits, the other one is told, and adds nothing";
pub(super) const REBASED: &str = "a change by another writer is gone out of the way of";
pub(super) const MARKER_KEPT: &str = "a lane's marker, and that its entries are in, outlives what others commit";
pub(super) const FOREIGN_KEPT: &str = "what others have put into the table stays there";
pub(super) const SET_BACK: &str = "an entry that was taken back is refuted";
pub(super) const DROPPED: &str = "a commit that is dropped is in or not, whole, and the lane goes on";

pub(super) async fn workers_see_each_other(trial: &dyn TableTrial) {
    let (a, b) = (trial.sink(), trial.sink());
    let found = state(SHARED, &*b, LANE).await;
    keep(SHARED, found.decided.is_none(), found);
    for seq in 1..=4 {
        let (writer, reader) = if seq % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let commit = append(SHARED, &**writer, LANE, seq, seq).await;
        committed(SHARED, &**writer, &commit).await;
        for sink in [reader, writer] {
            let found = state(SHARED, &**sink, LANE).await.decided;
            let found = found.map(|decided| decided.marker);
            keep(SHARED, found == Some(marker(&commit)), found);
        }
    }
}

pub(super) async fn workers_race(trial: &dyn TableTrial) {
    let (a, b) = (trial.sink(), trial.sink());
    let mut live = Vec::new();
    for seq in 1..=6 {
        let ours = append(RACE, &*a, LANE, seq, seq * 10 + 1).await;
        let theirs = append(RACE, &*b, LANE, seq, seq * 10 + 2).await;
        let outcomes = join(outcome(RACE, &*a, &ours), outcome(RACE, &*b, &theirs)).await;
        let found = found_marker(RACE, trial, LANE).await;
        let is_told = |outcome: &CommitOutcome| {
            let CommitOutcome::Decided(decided) = outcome else {
                return false;
            };
            Some(decided.marker) == found
        };
        let won = |outcome: &CommitOutcome| matches!(outcome, CommitOutcome::Committed(_));
        let is_fair = match &outcomes {
            (one, other) if won(one) => is_told(other) && found == Some(marker(&ours)),
            (one, other) if won(other) => is_told(one) && found == Some(marker(&theirs)),
            // An answer was lost, and the commit made again.
            (one, other) => is_told(one) && is_told(other),
        };
        keep(RACE, is_fair, (&outcomes, found));
        let winner = if found == Some(marker(&ours)) { &ours } else { &theirs };
        live.extend(paths(winner));
        shows(RACE, trial, &live).await;
    }
}

pub(super) async fn foreign_writers(trial: &dyn TableTrial) {
    let sink = trial.sink();
    let first = append(REBASED, &*sink, LANE, 1, 1).await;
    let first_entry = committed(REBASED, &*sink, &first).await;
    let second = append(REBASED, &*sink, LANE, 2, 2).await;
    trial.foreign_commit().await;
    let before = trial.live_files().await;
    let second_entry = committed(REBASED, &*sink, &second).await;
    shows(FOREIGN_KEPT, trial, &[before, paths(&second)].concat()).await;
    trial.foreign_commit().await;
    trial.foreign_commit().await;
    let found = found_marker(MARKER_KEPT, trial, LANE).await;
    keep(MARKER_KEPT, found == Some(marker(&second)), found);
    is_confirmed(MARKER_KEPT, trial, &decision(&first, &first_entry)).await;
    is_confirmed(MARKER_KEPT, trial, &decision(&second, &second_entry)).await;
    let third = append(REBASED, &*sink, LANE, 3, 3).await;
    let before = trial.live_files().await;
    let (third_entry, ()) = join(committed(REBASED, &*sink, &third), trial.foreign_commit()).await;
    let live = trial.live_files().await;
    let there = before.iter().chain(&paths(&third)).all(|path| live.contains(path));
    keep(FOREIGN_KEPT, there, (before, live));
    is_confirmed(MARKER_KEPT, trial, &decision(&third, &third_entry)).await;
}

pub(super) async fn a_table_is_set_back(trial: &dyn TableTrial) {
    let sink = trial.sink();
    let first = append(SET_BACK, &*sink, LANE, 1, 1).await;
    let first = decision(&first, &committed(SET_BACK, &*sink, &first).await);
    let commit = append(SET_BACK, &*sink, LANE, 2, 2).await;
    let entry = committed(SET_BACK, &*sink, &commit).await;
    let second = decision(&commit, &entry);
    let confirmation = answered(SET_BACK, sink.confirm(&second).await);
    keep(SET_BACK, confirmation == Confirmation::Confirmed, confirmation);
    if !trial.set_back(&entry).await {
        return;
    }
    let live = trial.live_files().await;
    let is_back = paths(&commit).iter().all(|path| !live.contains(path));
    keep(
        "`TableTrial::set_back` takes the files of the entry out of the table",
        is_back,
        &live,
    );
    for worker in [&sink, &trial.sink()] {
        let confirmation = answered(SET_BACK, worker.confirm(&second).await);
        keep(
            SET_BACK,
            matches!(confirmation, Confirmation::Refuted { .. }),
            confirmation,
        );
    }
    is_confirmed(SET_BACK, trial, &first).await;
}

pub(super) async fn dropped_commits(trial: &dyn TableTrial) {
    let (a, b) = (trial.sink(), trial.sink());
    let mut live = Vec::new();
    for (seq, polls) in (1..).zip(POLLS) {
        let commit = append(DROPPED, &*a, LANE, seq, seq).await;
        dropped_after(polls, a.commit(&commit)).await;
        let sink = if seq % 2 == 0 { &a } else { &b };
        match outcome(DROPPED, &**sink, &commit).await {
            CommitOutcome::Committed(_) => {}
            CommitOutcome::Decided(decided) if decided.marker == marker(&commit) => {}
            other => broken(DROPPED, format!("found `{other:?}`")),
        }
        live.extend(paths(&commit));
        shows(DROPPED, trial, &live).await;
    }
}
