//! A table has one lane, until an operator hands it to another one.

use super::TableTrial;
use super::desk::{HEIR, LANE, adopt, append, committed, marker, outcome, paths, shows, state};
use crate::ids::{HashPrefix, LaneId, Seq};
use crate::sink::{CommitOutcome, TableCommit};
use crate::testing::conformance::keep;

pub(super) const ONE_LANE: &str = "a table takes entries of one lane, and names it to others";
pub(super) const ADOPTED: &str =
    "an adoption marks the table with seq 0 of its lane, which goes on from there, and changes no row";
pub(super) const ADOPTED_AGAIN: &str = "an adoption that is in already is decided";
pub(super) const NAMED_ONLY: &str =
    "an adoption supersedes the lanes that it names, and diverges where there is another one";
pub(super) const SUPERSEDED: &str = "a lane that was superseded is told so, and never gets in again";

pub(super) async fn one_lane_and_its_heir(trial: &dyn TableTrial) {
    let sink = trial.sink();
    let first = append(ONE_LANE, &*sink, LANE, 1, 1).await;
    committed(ONE_LANE, &*sink, &first).await;
    let mut live = paths(&first);
    let of_heir = append(ONE_LANE, &*sink, HEIR, 1, 11).await;
    let diverged = CommitOutcome::Diverged { found: None };
    let found = outcome(ONE_LANE, &*sink, &of_heir).await;
    keep(ONE_LANE, found == diverged, found);
    let found = state(ONE_LANE, &*trial.sink(), HEIR).await;
    let is_named = found.other_lanes == [LANE] && found.decided.is_none() && !found.superseded;
    keep(ONE_LANE, is_named, found);
    shows(ONE_LANE, trial, &live).await;

    for others in [Vec::new(), vec![LaneId::from_u128(0xE1E)]] {
        let found = outcome(NAMED_ONLY, &*sink, &adopt(HEIR, others)).await;
        keep(NAMED_ONLY, found == diverged, found);
    }
    let adoption = adopt(HEIR, vec![LANE]);
    committed(ADOPTED, &*sink, &adoption).await;
    let found = state(ADOPTED, &*trial.sink(), HEIR).await;
    let is_marked = found.decided.as_ref().map(|decided| decided.marker) == Some(marker(&adoption));
    keep(
        ADOPTED,
        is_marked && found.other_lanes.is_empty() && !found.superseded,
        found,
    );
    shows(ADOPTED, trial, &live).await;
    let again = outcome(ADOPTED_AGAIN, &*trial.sink(), &adoption).await;
    let is_decided = matches!(&again, CommitOutcome::Decided(found) if found.marker == marker(&adoption));
    keep(ADOPTED_AGAIN, is_decided, again);

    // A worker of the old lane that has slept has the right base.
    let second = append(SUPERSEDED, &*sink, LANE, 2, 2).await;
    let back = adopt(LANE, vec![HEIR]);
    for commit in [&second, &back] {
        let found = outcome(SUPERSEDED, &*trial.sink(), commit).await;
        keep(SUPERSEDED, matches!(found, CommitOutcome::Diverged { .. }), found);
    }
    let found = state(SUPERSEDED, &*trial.sink(), LANE).await;
    keep(SUPERSEDED, found.superseded, found);
    shows(SUPERSEDED, trial, &live).await;

    let next = TableCommit {
        base: Some((Seq::ZERO, HashPrefix::from_u64(0))),
        ..of_heir
    };
    committed(ADOPTED, &*trial.sink(), &next).await;
    live.extend(paths(&next));
    shows(ADOPTED, trial, &live).await;
}
