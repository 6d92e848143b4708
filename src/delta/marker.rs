//! What a lane writes into a table's transaction identifiers, and how it is read. Pure.
//!
//! Every entry sets `firnline/{lane}` to its seq, `firnline/{lane}/hash` and `firnline/{lane}/attempt`; a
//! void sets `firnline/{lane}/void` to its seq too. An adopted table carries `firnline/{old}/superseded`.

use std::collections::BTreeMap;

use super::action::{Action, Txn};
use super::error::LogError;
use crate::ids::{AttemptId, HashPrefix, LaneId, Seq};
use crate::sink::{Marker, Outcome};
use crate::time::Timestamp;

/// What all application ids of lanes start with.
pub(super) const PREFIX: &str = "firnline/";

/// Transaction identifiers by application id.
pub(super) type Txns = BTreeMap<String, Txn>;

/// The application ids of one lane.
pub(super) struct AppIds {
    pub(super) seq: String,
    pub(super) hash: String,
    pub(super) attempt: String,
    pub(super) void: String,
    pub(super) superseded: String,
}

impl AppIds {
    pub(super) fn of(lane: LaneId) -> Self {
        Self {
            seq: format!("{PREFIX}{lane}"),
            hash: format!("{PREFIX}{lane}/hash"),
            attempt: format!("{PREFIX}{lane}/attempt"),
            void: format!("{PREFIX}{lane}/void"),
            superseded: format!("{PREFIX}{lane}/superseded"),
        }
    }
}

/// The marker of `lane`.
pub(super) fn marker_of(txns: &Txns, lane: LaneId) -> Result<Option<Marker>, LogError> {
    let ids = AppIds::of(lane);
    let Some(seq) = txns.get(&ids.seq) else {
        return Ok(None);
    };
    let number = |app_id: String, version: Option<i64>| {
        version
            .and_then(|version| u64::try_from(version).ok())
            .ok_or(LogError::Marker { app_id })
    };
    let version_of = |app_id: &str| txns.get(app_id).map(|txn| txn.version);
    let (hash, attempt) = (version_of(&ids.hash), version_of(&ids.attempt));
    let outcome = if version_of(&ids.void) == Some(seq.version) {
        Outcome::Void
    } else {
        Outcome::Data
    };
    Ok(Some(Marker {
        seq: Seq::new(number(ids.seq, Some(seq.version))?),
        outcome,
        plan_hash: HashPrefix::from_u64(number(ids.hash, hash)?),
        attempt: AttemptId::from_u64(number(ids.attempt, attempt)?),
    }))
}

/// Whether an operator has handed the table to another lane than `lane`.
pub(super) fn is_superseded(txns: &Txns, lane: LaneId) -> bool {
    txns.get(&AppIds::of(lane).superseded)
        .is_some_and(|txn| txn.version > 0)
}

/// Lanes other than `lane` that have written and have not been superseded.
pub(super) fn other_lanes(txns: &Txns, lane: LaneId) -> Vec<LaneId> {
    txns.range(PREFIX.to_owned()..)
        .map_while(|(app_id, _)| app_id.strip_prefix(PREFIX))
        .filter_map(|id| id.parse().ok())
        .filter(|other| *other != lane && !is_superseded(txns, *other))
        .collect()
}

/// The marker that a commit itself carries for `lane`, if it is an entry of it.
pub(super) fn entry_marker(actions: &[Action], lane: LaneId) -> Result<Option<Marker>, LogError> {
    let ours = |txn: &&Txn| txn.app_id.starts_with(PREFIX);
    let txns = actions
        .iter()
        .filter_map(|action| match action {
            Action::Txn(txn) => Some(txn),
            _ => None,
        })
        .filter(ours)
        .map(|txn| (txn.app_id.clone(), txn.clone()))
        .collect();
    marker_of(&txns, lane)
}

/// The transaction identifiers of an entry.
pub(super) fn entry_txns(lane: LaneId, marker: &Marker, now: Timestamp) -> Option<Vec<Txn>> {
    let ids = AppIds::of(lane);
    let seq = i64::try_from(marker.seq.get()).ok()?;
    let txn = |app_id: String, version: i64| Txn {
        app_id,
        version,
        last_updated: Some(now.as_millis()),
    };
    let mut txns = vec![
        txn(ids.seq, seq),
        txn(ids.hash, marker.plan_hash.as_i64()),
        txn(ids.attempt, marker.attempt.as_i64()),
    ];
    if marker.outcome == Outcome::Void {
        txns.push(txn(ids.void, seq));
    }
    Some(txns)
}

/// The transaction identifier that says that `lane` must not write any more.
pub(super) fn superseded_txn(lane: LaneId, now: Timestamp) -> Txn {
    Txn {
        app_id: AppIds::of(lane).superseded,
        version: 1,
        last_updated: Some(now.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(seq: u64, outcome: Outcome) -> Marker {
        Marker {
            seq: Seq::new(seq),
            outcome,
            plan_hash: HashPrefix::from_u64(70 + seq),
            attempt: AttemptId::from_u64(90 + seq),
        }
    }

    fn written(txns: &mut Txns, lane: LaneId, marker: &Marker) {
        for txn in entry_txns(lane, marker, Timestamp::from_millis(5)).unwrap() {
            txns.insert(txn.app_id.clone(), txn);
        }
    }

    #[test]
    fn a_marker_is_read_as_it_was_written_and_a_void_is_over_with_the_next_entry() {
        let lane = LaneId::from_u128(1);
        let mut txns = Txns::new();
        assert_eq!(marker_of(&txns, lane).unwrap(), None);
        for step in [
            marker(1, Outcome::Data),
            marker(2, Outcome::Void),
            marker(3, Outcome::Data),
        ] {
            written(&mut txns, lane, &step);
            assert_eq!(marker_of(&txns, lane).unwrap(), Some(step));
        }
        assert!(txns.values().all(|txn| txn.last_updated == Some(5)));
    }

    #[test]
    fn other_lanes_are_those_not_superseded() {
        let (ours, old, stray) = (LaneId::from_u128(1), LaneId::from_u128(2), LaneId::from_u128(3));
        let mut txns = Txns::new();
        for lane in [ours, old, stray] {
            written(&mut txns, lane, &marker(1, Outcome::Data));
        }
        txns.insert("a-job".to_owned(), Txn::default());
        txns.insert("firnlineX".to_owned(), Txn::default());
        assert_eq!(other_lanes(&txns, ours), [old, stray]);
        let superseded = superseded_txn(old, Timestamp::from_millis(6));
        txns.insert(superseded.app_id.clone(), superseded);
        assert_eq!(other_lanes(&txns, ours), [stray]);
        assert!(is_superseded(&txns, old));
        assert!(!is_superseded(&txns, ours));
    }

    #[test]
    fn an_incomplete_marker_is_an_error_and_never_none() {
        let lane = LaneId::from_u128(1);
        let mut txns = Txns::new();
        written(&mut txns, lane, &marker(1, Outcome::Data));
        txns.remove(&AppIds::of(lane).hash);
        assert!(marker_of(&txns, lane).is_err());
    }
}
