//! The status document.

use crate::compactor::lane::Lane;
use crate::compactor::{Compactor, LaneSlot};
use crate::halt::Halt;
use crate::ids::Seq;
use crate::naming::Namespace;
use crate::quarantine::QuarantineReason;
use crate::status::{
    HaltStatus, Health, PlanPhase, PlanProgress, PlanStatus, QuarantineStatus, QuarantinedFile, Status,
};
use crate::time::Timestamp;

impl Compactor {
    /// What is pending, what it waits for, what is being done, what is set aside and why.
    pub fn status(&self, now: Timestamp) -> Status {
        let tracked = self.tracker.status(now);
        let mut status = Status {
            active_windows: tracked.windows.len(),
            known_writers: tracked.known_writers,
            active_writers: tracked.active_writers,
            windows: tracked.windows,
            plans: self.open_lanes().flat_map(|(_, lane)| plans(lane)).collect(),
            quarantine: QuarantineStatus::new(self.quarantined(now)),
            halts: self.halts().collect(),
            counters: self.counters.clone(),
            health: Health::default(),
        };
        status.health = Health::assess(&status, now);
        status
    }

    /// Every source in quarantine, by namespace and key; not those that were discarded.
    pub fn quarantined(&self, now: Timestamp) -> impl Iterator<Item = QuarantinedFile> + '_ {
        let shelves = self
            .open_lanes()
            .map(|(_, lane)| &lane.shelf)
            .chain(std::iter::once(&self.malformed));
        let shelved = shelves.flat_map(|shelf| {
            shelf.shown().map(|entry| QuarantinedFile {
                key: entry.key.clone(),
                reason: entry.reason.clone(),
                since: entry.since,
            })
        });
        shelved.chain(self.overlapping(now))
    }

    /// The files of a namespace whose table would lie in another's: set aside as a whole.
    fn overlapping(&self, now: Timestamp) -> impl Iterator<Item = QuarantinedFile> + '_ {
        let refused = self.lanes.iter().filter_map(|(namespace, slot)| match slot {
            LaneSlot::Refused {
                halt: Halt::TableRootOverlap { other },
                ..
            } => Some((namespace, other)),
            _ => None,
        });
        refused.flat_map(move |(namespace, other)| {
            self.tracker.pending(namespace).map(move |pending| QuarantinedFile {
                key: pending.file.key.clone(),
                reason: QuarantineReason::TableRootOverlap { other: other.clone() },
                since: pending.seen.min(now),
            })
        })
    }

    fn halts(&self) -> impl Iterator<Item = HaltStatus> + '_ {
        self.lanes.iter().filter_map(|(namespace, slot)| {
            let halt = match slot {
                LaneSlot::Open(lane) => &lane.halted.as_ref()?.halt,
                LaneSlot::Refused { halt, .. } => halt,
            };
            Some(HaltStatus {
                namespace: namespace.clone(),
                reason: halt.to_string(),
            })
        })
    }

    fn open_lanes(&self) -> impl Iterator<Item = (&Namespace, &Lane)> {
        self.lanes
            .iter()
            .filter_map(|(namespace, slot)| Some((namespace, slot.open()?)))
    }
}

/// The plans of a lane that are not finished: the newest until it is decided, and those still to be reclaimed.
fn plans(lane: &Lane) -> Vec<PlanStatus> {
    let running = lane.progress.get();
    let head = lane.register.head();
    let undecided = (head > lane.register.newest_decided()).then_some(head);
    let reclaiming = lane.to_reclaim.iter().copied().filter_map(|seq| {
        let decision = lane.register.decision(seq)?;
        let last_error = lane.reclaim_backoff.last_error.clone();
        Some(PlanStatus {
            last_error,
            ..plan_status(lane, seq, PlanPhase::Reclaiming, 0, decision.decided_at)
        })
    });
    let mut plans: Vec<_> = reclaiming.collect();
    match running {
        Some(running) => plans.push(PlanStatus {
            seq: running.seq,
            window_key: running.window.key(&lane.namespace),
            phase: running.phase,
            attempt: running.attempt,
            started_at: running.started_at,
            progress: Some(PlanProgress {
                rows_done: running.rows,
                rows_total: running.rows_total,
                bytes_written: 0,
            }),
            last_error: lane.backoff.last_error.clone(),
        }),
        None => plans.extend(undecided.map(|seq| plan_status(lane, seq, PlanPhase::Planned, 0, Timestamp::default()))),
    }
    plans
}

fn plan_status(lane: &Lane, seq: Seq, phase: PlanPhase, attempt: u32, started_at: Timestamp) -> PlanStatus {
    PlanStatus {
        seq,
        window_key: lane
            .register
            .plan(seq)
            .map(|plan| plan.window.key(&lane.namespace))
            .unwrap_or_default(),
        phase,
        attempt,
        started_at,
        progress: None,
        last_error: lane.backoff.last_error.clone(),
    }
}
