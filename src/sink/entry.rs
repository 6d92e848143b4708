//! What follows from a table's marker for a commit, alike in every format. Pure.

use super::{Marker, Outcome, TableChange, TableCommit};
use crate::data_file::DataFile;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{HashPrefix, LaneId, Seq};

/// What a table says of the lanes that write into it.
pub(crate) struct LanesInTable<'a> {
    /// The marker of the commit's lane.
    pub(crate) marker: Option<Marker>,
    /// Lanes other than that one that have not been superseded.
    pub(crate) others: Vec<LaneId>,
    /// Whether a lane must not write any more.
    pub(crate) is_superseded: &'a dyn Fn(LaneId) -> bool,
}

/// How a commit ends without anything being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The table already has an entry of this seq or a later one.
    Decided(Marker),
    /// The table's marker is not the base of the change, or the table belongs to another lane.
    Diverged(Option<Marker>),
}

impl LanesInTable<'_> {
    /// Whether the marker alone says how `commit` ends.
    pub(crate) fn settle(mut self, commit: &TableCommit) -> Option<Settled> {
        let found = self.marker;
        let diverged = Some(Settled::Diverged(found));
        let is_shut_out = (self.is_superseded)(commit.lane);
        if let TableChange::Adopt { supersedes } = &commit.change {
            self.others.retain(|lane| !supersedes.contains(lane));
            let done = supersedes.iter().all(|lane| (self.is_superseded)(*lane));
            return match found {
                Some(marker) if done => Some(Settled::Decided(marker)),
                _ if is_shut_out || !self.others.is_empty() => diverged,
                _ => None,
            };
        }
        match found {
            Some(marker) if marker.seq >= commit.seq => Some(Settled::Decided(marker)),
            _ if is_shut_out || !self.others.is_empty() => diverged,
            _ if found.map(|marker| (marker.seq, marker.plan_hash)) != commit.base => diverged,
            _ => None,
        }
    }
}

impl TableCommit {
    /// What the table's marker is once this is in.
    pub(crate) fn marker(&self) -> Result<Marker> {
        let invalid = |message: String| Error::new(ErrorKind::Invalid, message);
        let adopts = matches!(self.change, TableChange::Adopt { .. });
        let plan_hash = match self.plan_hash {
            Some(hash) if !adopts => hash.prefix(),
            None if adopts => HashPrefix::from_u64(0),
            _ => return Err(invalid("an entry has a plan, and an adoption has none".to_owned())),
        };
        if adopts != (self.seq == Seq::ZERO) {
            let seq = self.seq;
            let rule = "seq 0 is for adopting a table, and only that";
            return Err(invalid(format!("{rule}. seq=`{seq}`")));
        }
        let base_seq = self.base.map_or(Seq::ZERO, |(seq, _)| seq);
        if !adopts && base_seq != self.seq.previous() {
            return Err(invalid(format!(
                "the base of an entry is the entry before it. seq=`{}` base=`{base_seq}`",
                self.seq
            )));
        }
        Ok(Marker {
            seq: self.seq,
            outcome: self.outcome(),
            plan_hash,
            attempt: self.attempt,
        })
    }

    /// What the entry does.
    pub(crate) fn outcome(&self) -> Outcome {
        match self.change {
            TableChange::Void { .. } => Outcome::Void,
            TableChange::Adopt { .. } | TableChange::Append { .. } => Outcome::Data,
        }
    }

    /// The files that it adds.
    pub(crate) fn files(&self) -> &[DataFile] {
        match &self.change {
            TableChange::Append { files, .. } => files,
            TableChange::Adopt { .. } | TableChange::Void { .. } => &[],
        }
    }
}
