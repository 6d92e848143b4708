//! What a lane writes into a table's properties and its snapshots' summaries, and how it is read. Pure.
//!
//! Every entry sets the property `firnline.lane.{lane}` to `{seq}:{data|void}:{plan hash}:{attempt}` in the commit
//! that adds its snapshot, and repeats it in the snapshot's summary: the property outlives the snapshot. An adopted
//! table carries `firnline.superseded.{old}`.

use std::collections::BTreeMap;

use super::error::SpecError;
use crate::ids::{HashPrefix, LaneId, Seq};
use crate::sink::{Marker, Outcome};

const LANE: &str = "firnline.lane.";
const SUPERSEDED: &str = "firnline.superseded.";

/// The property of a lane, and the key in the summary of its snapshots.
pub(super) fn marker_key(lane: LaneId) -> String {
    format!("{LANE}{lane}")
}

/// The property that says that `lane` must not write any more.
pub(super) fn superseded_key(lane: LaneId) -> String {
    format!("{SUPERSEDED}{lane}")
}

/// The text of a marker.
pub(super) fn marker_text(marker: &Marker) -> String {
    let outcome = match marker.outcome {
        Outcome::Data => "data",
        Outcome::Void => "void",
    };
    format!("{}:{outcome}:{}:{}", marker.seq, marker.plan_hash, marker.attempt)
}

/// The marker of `lane` in properties or in a summary.
pub(super) fn marker_of(properties: &BTreeMap<String, String>, lane: LaneId) -> Result<Option<Marker>, SpecError> {
    let key = marker_key(lane);
    let Some(text) = properties.get(&key) else {
        return Ok(None);
    };
    parse(text).map(Some).ok_or_else(|| SpecError::Marker {
        property: key,
        value: text.clone(),
    })
}

fn parse(text: &str) -> Option<Marker> {
    let mut parts = text.split(':');
    let marker = Marker {
        seq: Seq::new(parts.next()?.parse().ok()?),
        outcome: match parts.next()? {
            "data" => Outcome::Data,
            "void" => Outcome::Void,
            _ => return None,
        },
        plan_hash: parts.next()?.parse::<HashPrefix>().ok()?,
        attempt: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(marker)
}

/// Whether an operator has handed the table to another lane than `lane`.
pub(super) fn is_superseded(properties: &BTreeMap<String, String>, lane: LaneId) -> bool {
    properties.contains_key(&superseded_key(lane))
}

/// Lanes other than `lane` that have written and have not been superseded.
pub(super) fn other_lanes(properties: &BTreeMap<String, String>, lane: LaneId) -> Vec<LaneId> {
    properties
        .range(LANE.to_owned()..)
        .map_while(|(key, _)| key.strip_prefix(LANE))
        .filter_map(|id| id.parse().ok())
        .filter(|other| *other != lane && !is_superseded(properties, *other))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::AttemptId;

    fn marker(seq: u64, outcome: Outcome) -> Marker {
        Marker {
            seq: Seq::new(seq),
            outcome,
            plan_hash: HashPrefix::from_u64(70 + seq),
            attempt: AttemptId::from_u64(90 + seq),
        }
    }

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        let lane = LaneId::from_u128(1);
        for written in [marker(0, Outcome::Data), marker(7, Outcome::Void)] {
            let properties = BTreeMap::from([(marker_key(lane), marker_text(&written))]);
            assert_eq!(marker_of(&properties, lane).unwrap(), Some(written));
            assert_eq!(marker_of(&properties, LaneId::from_u128(2)).unwrap(), None);
        }
        assert_eq!(
            marker_text(&marker(7, Outcome::Void)),
            "7:void:000000000000004d:0000000000000061"
        );
    }

    #[test]
    fn a_marker_that_is_not_whole_is_an_error_and_never_none() {
        let lane = LaneId::from_u128(1);
        let whole = marker_text(&marker(7, Outcome::Data));
        for text in [
            "",
            "7",
            "7:data",
            &whole[..whole.len() - 1],
            &format!("{whole}:1"),
            "7:x:0:0",
        ] {
            let properties = BTreeMap::from([(marker_key(lane), text.to_owned())]);
            assert!(marker_of(&properties, lane).is_err(), "{text}");
        }
    }

    #[test]
    fn other_lanes_are_those_not_superseded() {
        let [ours, old, stray] = [1, 2, 3].map(LaneId::from_u128);
        let mut properties: BTreeMap<_, _> = [ours, old, stray]
            .map(|lane| (marker_key(lane), marker_text(&marker(1, Outcome::Data))))
            .into();
        properties.insert("write.format.default".to_owned(), "parquet".to_owned());
        assert_eq!(other_lanes(&properties, ours), [old, stray]);
        properties.insert(superseded_key(old), "true".to_owned());
        assert_eq!(other_lanes(&properties, ours), [stray]);
        assert!(is_superseded(&properties, old));
        assert!(!is_superseded(&properties, ours));
    }
}
