//! Reading and writing the plan register.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::halt::{Halt, LaneError};
use crate::ids::{AttemptId, LaneId, PlanHash, Seq};
use crate::ledger::ending::is_ending;
use crate::ledger::manifest;
use crate::ledger::objects::{self, Created};
use crate::naming::{ETag, Namespace, ObjectKey};
use crate::place::Place;
use crate::plan::{Plan, Window};
use crate::sink::{Decision, Outcome};
use crate::time::Timestamp;
use crate::window::WindowSizeChange;

/// Plans and decisions read at once while catching up.
const MOST_READ_AHEAD: u64 = 32;

/// The plan register of one lane, as far as it has been read.
///
/// Plans and decisions are immutable, so a copy that is behind is never wrong; [`Register::refresh`] reads
/// on. Cloning shares nothing that changes.
#[derive(Clone, Debug)]
pub(crate) struct Register {
    lane: LaneId,
    namespace: Namespace,
    store: Arc<dyn ObjectStore>,
    dir: Path,
    floor: Floor,
    plans: BTreeMap<Seq, PlanSummary>,
    decisions: BTreeMap<Seq, DecisionSummary>,
    windows: BTreeMap<Timestamp, Vec<Seq>>,
}

/// Up to where plans and decisions have been pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Floor {
    /// The last pruned seq; 0 when nothing has been.
    pub(crate) seq: Seq,
    /// Its plan hash.
    pub(crate) plan_hash: Option<PlanHash>,
    /// The latest end of a pruned window: files of windows below cannot be judged any more.
    pub(crate) boundary: Option<Timestamp>,
}

/// What is kept in memory of a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanSummary {
    pub(crate) hash: PlanHash,
    pub(crate) window: Window,
}

/// What is kept in memory of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DecisionSummary {
    pub(crate) outcome: Outcome,
    pub(crate) plan_hash: PlanHash,
    pub(crate) attempt: AttemptId,
    /// The version or snapshot that holds the entry, if it was still in the log.
    pub(crate) table_version: Option<u64>,
    /// By the object store's clock.
    pub(crate) stored_at: Timestamp,
    /// By the clock of the worker that recorded it.
    pub(crate) decided_at: Timestamp,
}

impl DecisionSummary {
    fn new(decision: &Decision, stored_at: Timestamp) -> Self {
        Self {
            outcome: decision.outcome,
            plan_hash: decision.plan_hash,
            attempt: decision.attempt,
            table_version: decision.table_version,
            stored_at,
            decided_at: decision.decided_at,
        }
    }

    /// From when on the grace is counted: the later of what the store's clock and the recording worker's say, so
    /// that sources stay too where the host's clock is ahead of the store's; where it is behind, what the worker
    /// saw. Never later than now.
    pub(crate) fn since(&self, now: Timestamp) -> Timestamp {
        let decided_at = self.decided_at.min(now);
        if self.stored_at > now {
            decided_at
        } else {
            self.stored_at.max(decided_at)
        }
    }
}

/// `settled/{window start}.json`: sources of an adopted lane that were judged when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SettledSource {
    pub(crate) key: ObjectKey,
    pub(crate) etag: ETag,
    pub(crate) verdict: Verdict,
}

/// What was found of a source when its lane was adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    /// Its rows are in the table.
    InTable,
    /// Nobody can tell: it is in quarantine until an operator says.
    Unknown,
}

impl Register {
    /// The register of `lane`, nothing of it read yet but the floor.
    pub(crate) async fn open(control: &Place, namespace: &Namespace, lane: LaneId) -> Result<Self> {
        let dir = Self::dir_of(control, namespace, lane)?;
        let store = Arc::clone(control.store());
        let floor = read_floor(store.as_ref(), &dir).await?;
        Ok(Self {
            lane,
            namespace: namespace.clone(),
            store,
            dir,
            floor,
            plans: BTreeMap::new(),
            decisions: BTreeMap::new(),
            windows: BTreeMap::new(),
        })
    }

    /// Where the register of a lane lies.
    pub(crate) fn dir_of(control: &Place, namespace: &Namespace, lane: LaneId) -> Result<Path> {
        Ok(manifest::lane_dir(control, namespace)?.join(lane.to_string()))
    }

    pub(crate) fn lane(&self) -> LaneId {
        self.lane
    }

    pub(crate) fn floor(&self) -> &Floor {
        &self.floor
    }

    /// The last seq that has a plan, without a gap from the floor.
    pub(crate) fn head(&self) -> Seq {
        self.plans.last_key_value().map_or(self.floor.seq, |(seq, _)| *seq)
    }

    /// The last seq that has a decision, without a gap from the floor.
    pub(crate) fn newest_decided(&self) -> Seq {
        self.decisions.last_key_value().map_or(self.floor.seq, |(seq, _)| *seq)
    }

    pub(crate) fn plan(&self, seq: Seq) -> Option<&PlanSummary> {
        self.plans.get(&seq)
    }

    pub(crate) fn plans(&self) -> impl DoubleEndedIterator<Item = (Seq, &PlanSummary)> {
        self.plans.iter().map(|(seq, plan)| (*seq, plan))
    }

    pub(crate) fn decision(&self, seq: Seq) -> Option<&DecisionSummary> {
        self.decisions.get(&seq)
    }

    /// The hash of the plan at `seq`, also when `seq` is the floor.
    pub(crate) fn hash(&self, seq: Seq) -> Option<PlanHash> {
        match self.plans.get(&seq) {
            Some(plan) => Some(plan.hash),
            None if seq == self.floor.seq => self.floor.plan_hash,
            None => None,
        }
    }

    /// The seqs planned from the window that starts at `start`, oldest first.
    pub(crate) fn seqs_of(&self, start: Timestamp) -> &[Seq] {
        self.windows.get(&start).map_or(&[], Vec::as_slice)
    }

    /// Those of [`seqs_of`](Self::seqs_of) whose sources count as taken: not void.
    pub(crate) fn covering(&self, start: Timestamp) -> impl DoubleEndedIterator<Item = Seq> + '_ {
        let is_void = |seq: &Seq| self.decisions.get(seq).is_some_and(|d| d.outcome == Outcome::Void);
        self.seqs_of(start).iter().copied().filter(move |seq| !is_void(seq))
    }

    /// Reads on: every plan and decision by exact name, without a gap.
    ///
    /// # Errors
    ///
    /// `Halted` when what is read contradicts itself.
    pub(crate) async fn refresh(&mut self) -> Result<(), LaneError> {
        let floor = read_floor(self.store.as_ref(), &self.dir).await?;
        if floor.seq > self.floor.seq {
            self.raise_floor(floor);
        }
        self.read_decisions().await?;
        let mut step = 1;
        loop {
            let first = self.head().next();
            let found = self.read_batch(first, step).await?;
            let read = found.len() as u64;
            for (seq, plan, decision) in found {
                self.add_plan(seq, &plan)?;
                if let Some((decision, stored_at)) = decision {
                    self.add_decision(&decision, stored_at)?;
                }
            }
            if read < step {
                return Ok(());
            }
            step = (step * 2).min(MOST_READ_AHEAD);
        }
    }

    /// Reads on as far as plans can be read, whatever may be wrong with the register: for a lane that is to end.
    /// Decisions are left to be loaded one by one.
    pub(crate) async fn salvage(&mut self) -> Result<()> {
        match self.refresh().await {
            Err(LaneError::Failed(error)) if !error.is_unreadable() => return Err(error),
            _ => {}
        }
        loop {
            let seq = self.head().next();
            let read = objects::read(self.store.as_ref(), &self.plan_path(seq)).await;
            let bytes = match read {
                Ok(Some((bytes, _))) => bytes,
                Ok(None) => return Ok(()),
                Err(error) if error.is_unreadable() => return Ok(()),
                Err(error) => return Err(error),
            };
            match self.add_plan(seq, &bytes) {
                Ok(_) => {}
                Err(LaneError::Failed(error)) if !error.is_unreadable() => return Err(error),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Decisions of known plans that were missing when those were read: at most the newest plan's.
    async fn read_decisions(&mut self) -> Result<(), LaneError> {
        loop {
            let seq = self.newest_decided().next();
            if !self.plans.contains_key(&seq) {
                return Ok(());
            }
            match self.load_decision(seq).await? {
                Some((decision, stored_at)) => self.add_decision(&decision, stored_at)?,
                None => return Ok(()),
            }
        }
    }

    /// Up to `count` plans from `first` on, ending before the first that is not there.
    async fn read_batch(
        &self,
        first: Seq,
        count: u64,
    ) -> Result<Vec<(Seq, Bytes, Option<(Decision, Timestamp)>)>, LaneError> {
        let seqs = (0..count).map(|i| Seq::new(first.get().saturating_add(i)));
        let reads: Vec<_> = seqs
            .map(|seq| {
                let read = async move {
                    let Some((plan, _)) = objects::read(self.store.as_ref(), &self.plan_path(seq)).await? else {
                        return Ok::<_, LaneError>(None);
                    };
                    let decision = self.load_decision(seq).await?;
                    Ok(Some((seq, plan, decision)))
                };
                read.boxed()
            })
            .collect();
        let limit = usize::try_from(count).unwrap_or(1);
        let found: Vec<_> = futures::stream::iter(reads).buffered(limit).try_collect().await?;
        Ok(found.into_iter().map_while(|entry| entry).collect())
    }

    /// Takes up the plan object of the next seq.
    fn add_plan(&mut self, seq: Seq, bytes: &Bytes) -> Result<Plan, LaneError> {
        let wrong = |detail: String| Halt::RegisterWrong { seq, detail };
        if seq == Seq::new(1) && is_ending(bytes) {
            return Err(Halt::Superseded { lane: self.lane }.into());
        }
        let plan = Plan::decode(bytes).map_err(|e| match e.kind() {
            ErrorKind::Data => LaneError::Halted(wrong(e.chain())),
            _ => LaneError::Failed(e),
        })?;
        if plan.lane != self.lane || plan.seq != seq || plan.namespace != self.namespace {
            return Err(wrong(format!(
                "plan object of another lane or seq. lane=`{}` seq=`{}`",
                plan.lane, plan.seq
            ))
            .into());
        }
        if plan.previous != self.hash(seq.previous()) {
            return Err(wrong("the plan does not follow the plan before it".to_owned()).into());
        }
        self.windows.entry(plan.window.start).or_default().push(seq);
        self.plans.insert(
            seq,
            PlanSummary {
                hash: PlanHash::of(bytes),
                window: plan.window,
            },
        );
        Ok(plan)
    }

    fn add_decision(&mut self, decision: &Decision, stored_at: Timestamp) -> Result<(), LaneError> {
        let seq = decision.seq;
        let Some(plan) = self.plans.get(&seq) else {
            return Err(Halt::RegisterLost {
                detail: format!("decision without its plan. seq=`{seq}`"),
            }
            .into());
        };
        if decision.lane != self.lane || decision.plan_hash != plan.hash {
            return Err(Halt::RegisterWrong {
                seq,
                detail: "the decision is of another plan".to_owned(),
            }
            .into());
        }
        self.decisions.insert(seq, DecisionSummary::new(decision, stored_at));
        Ok(())
    }

    /// Creates the plan after [`head`](Self::head), or takes up the one that somebody else has created.
    ///
    /// The caller has read the register and the table just before, and found the seq before it decided.
    pub(crate) async fn put_plan(&mut self, plan: &Plan) -> Result<Plan, LaneError> {
        let seq = self.head().next();
        if plan.seq != seq {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("plan out of turn. seq=`{}` next=`{seq}`", plan.seq),
            )
            .into());
        }
        let bytes = plan.encode()?;
        match objects::create_once(self.store.as_ref(), &self.plan_path(seq), bytes.clone()).await? {
            Created::Ours => self.add_plan(seq, &bytes),
            Created::Theirs(bytes) => self.add_plan(seq, &bytes),
        }
    }

    /// Reads a plan again, as it was when the register was read.
    pub(crate) async fn load_plan(&self, seq: Seq) -> Result<Plan, LaneError> {
        let lost = || Halt::RegisterLost {
            detail: format!("plan object gone. seq=`{seq}`"),
        };
        let (bytes, _) = objects::read(self.store.as_ref(), &self.plan_path(seq))
            .await?
            .ok_or_else(lost)?;
        if Some(PlanHash::of(&bytes)) != self.hash(seq) {
            return Err(Halt::RegisterWrong {
                seq,
                detail: "the plan object has changed".to_owned(),
            }
            .into());
        }
        Ok(Plan::decode(&bytes)?)
    }

    /// Creates the decision of a seq, or compares with the one that somebody else has created.
    pub(crate) async fn put_decision(&mut self, decision: &Decision) -> Result<Decision, LaneError> {
        let seq = decision.seq;
        let path = self.decision_path(seq);
        let created = objects::create_once(self.store.as_ref(), &path, objects::encode(decision)?).await?;
        if let Created::Theirs(bytes) = created {
            let theirs: Decision = objects::decode(&path, &bytes)?;
            let names = |d: &Decision| (d.outcome, d.plan_hash, d.attempt);
            if names(&theirs) != names(decision) {
                let detail = "the decision differs from what the table says".to_owned();
                return Err(Halt::RegisterWrong { seq, detail }.into());
            }
        }
        // Read back for the store's own time of it: the grace is counted from there, and the work on the plan may
        // have begun days before.
        let Some((stored, stored_at)) = self.load_decision(seq).await? else {
            let detail = format!("decision gone. seq=`{seq}`");
            return Err(Halt::RegisterLost { detail }.into());
        };
        self.add_decision(&stored, stored_at)?;
        Ok(stored)
    }

    /// The decision of `seq` and when it was stored.
    pub(crate) async fn load_decision(&self, seq: Seq) -> Result<Option<(Decision, Timestamp)>, LaneError> {
        let path = self.decision_path(seq);
        let Some((bytes, meta)) = objects::read(self.store.as_ref(), &path).await? else {
            return Ok(None);
        };
        let decision: Decision = serde_json::from_slice(&bytes).map_err(|e| Halt::RegisterWrong {
            seq,
            detail: format!("decision malformed: {e}"),
        })?;
        if decision.seq != seq {
            return Err(Halt::RegisterWrong {
                seq,
                detail: "decision object of another seq".to_owned(),
            }
            .into());
        }
        Ok(Some((decision, meta.last_modified.into())))
    }

    /// The decision of a seq that is known to have one, compared with its plan.
    pub(crate) async fn known_decision(&self, seq: Seq) -> Result<Decision, LaneError> {
        let lost = || Halt::RegisterLost {
            detail: format!("decision gone. seq=`{seq}`"),
        };
        let (decision, _) = self.load_decision(seq).await?.ok_or_else(lost)?;
        if Some(decision.plan_hash) != self.hash(seq) {
            let detail = "the decision is of another plan".to_owned();
            return Err(Halt::RegisterWrong { seq, detail }.into());
        }
        Ok(decision)
    }

    /// The decision of a seq, compared with its plan; `None` if there is none.
    pub(crate) async fn decision_of(&self, seq: Seq) -> Result<Option<Decision>, LaneError> {
        match self.load_decision(seq).await? {
            Some(_) => self.known_decision(seq).await.map(Some),
            None => Ok(None),
        }
    }

    /// Forgets everything up to `floor`, which has been made durable before anything is deleted.
    pub(crate) async fn prune(&mut self, floor: Floor) -> Result<(), LaneError> {
        let path = self.dir.clone().join("floor").join(format!("{}.json", floor.seq));
        let pruned: Vec<Seq> = self.plans.keys().copied().take_while(|seq| *seq <= floor.seq).collect();
        let bytes = objects::encode(&floor)?;
        if let Created::Theirs(theirs) = objects::create_once(self.store.as_ref(), &path, bytes.clone()).await?
            && theirs != bytes
        {
            return Err(Halt::RegisterWrong {
                seq: floor.seq,
                detail: "another floor was recorded for this seq".to_owned(),
            }
            .into());
        }
        for seq in pruned {
            objects::remove(self.store.as_ref(), &self.plan_path(seq)).await?;
            objects::remove(self.store.as_ref(), &self.decision_path(seq)).await?;
        }
        self.raise_floor(floor);
        Ok(())
    }

    /// Notes that a decision was recorded no later than `now`, for a host whose clock is behind the store's: its
    /// object says when the work on the plan began.
    pub(crate) fn decided_by(&mut self, seq: Seq, now: Timestamp) {
        if let Some(decision) = self.decisions.get_mut(&seq) {
            decision.decided_at = decision.decided_at.max(now);
        }
    }

    /// Takes over a copy that has read further; one that is behind changes nothing.
    pub(crate) fn catch_up(&mut self, other: Self) {
        if other.lane == self.lane && (other.head(), other.newest_decided()) >= (self.head(), self.newest_decided()) {
            *self = other;
        }
    }

    /// Forgets everything up to `floor`.
    pub(crate) fn raise_floor(&mut self, floor: Floor) {
        self.plans.retain(|seq, _| *seq > floor.seq);
        self.decisions.retain(|seq, _| *seq > floor.seq);
        for seqs in self.windows.values_mut() {
            seqs.retain(|seq| *seq > floor.seq);
        }
        self.windows.retain(|_, seqs| !seqs.is_empty());
        self.floor = floor;
    }

    /// The later window sizes, in order.
    pub(crate) async fn window_sizes(&self) -> Result<Vec<WindowSizeChange>> {
        let mut changes = Vec::new();
        while let Some((bytes, _)) =
            objects::read(self.store.as_ref(), &self.window_size_path(changes.len() as u64 + 1)).await?
        {
            changes.push(objects::decode(
                &self.window_size_path(changes.len() as u64 + 1),
                &bytes,
            )?);
        }
        Ok(changes)
    }

    /// Records the `n`th later window size (from 1), or reads that of whoever was first.
    pub(crate) async fn put_window_size(&self, n: NonZeroU64, change: WindowSizeChange) -> Result<WindowSizeChange> {
        let path = self.window_size_path(n.get());
        match objects::create_once(self.store.as_ref(), &path, objects::encode(&change)?).await? {
            Created::Ours => Ok(change),
            Created::Theirs(bytes) => objects::decode(&path, &bytes),
        }
    }

    /// What was judged of a window's sources when the lane was adopted.
    pub(crate) async fn settled(&self, window_start: Timestamp) -> Result<Vec<SettledSource>> {
        let path = self.settled_path(window_start);
        match objects::read(self.store.as_ref(), &path).await? {
            Some((bytes, _)) => objects::decode(&path, &bytes),
            None => Ok(Vec::new()),
        }
    }

    /// All that was judged when the lane was adopted, of whatever window; `None` if some of it cannot be read.
    pub(crate) async fn all_settled(&self) -> Result<Option<Vec<SettledSource>>> {
        let dir = self.dir.clone().join("settled");
        let listed = self.store.list(Some(&dir)).try_collect::<Vec<_>>().await;
        let listed = listed.map_err(|e| Error::from_store("list", &dir, e))?;
        let mut settled = Vec::new();
        for meta in listed {
            let path = meta.location;
            let read = match objects::read(self.store.as_ref(), &path).await {
                Ok(Some((bytes, _))) => objects::decode::<Vec<SettledSource>>(&path, &bytes),
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            match read {
                Ok(of_window) => settled.extend(of_window),
                Err(error) if error.is_unreadable() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(settled))
    }

    /// Records what was judged of a window's sources, while the lane is being adopted.
    pub(crate) async fn put_settled(&self, window_start: Timestamp, sources: &[SettledSource]) -> Result<()> {
        let path = self.settled_path(window_start);
        objects::create_once(self.store.as_ref(), &path, objects::encode(&sources)?).await?;
        Ok(())
    }

    /// Where an attempt's list of uploaded files lies.
    pub(crate) fn attempt_path(&self, seq: Seq, attempt: AttemptId) -> Path {
        self.attempts_dir().join(format!("{seq}-{attempt}.json"))
    }

    pub(crate) fn attempts_dir(&self) -> Path {
        self.dir.clone().join("attempts")
    }

    pub(crate) fn scratch_dir(&self) -> Path {
        self.dir.clone().join("scratch")
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(super) fn plan_path(&self, seq: Seq) -> Path {
        self.dir.clone().join("plans").join(format!("{seq}.json"))
    }

    fn decision_path(&self, seq: Seq) -> Path {
        self.dir.clone().join("decided").join(format!("{seq}.json"))
    }

    fn window_size_path(&self, n: u64) -> Path {
        self.dir.clone().join("window-sizes").join(format!("{n}.json"))
    }

    fn settled_path(&self, window_start: Timestamp) -> Path {
        self.dir
            .clone()
            .join("settled")
            .join(format!("{}.json", window_start.as_millis()))
    }
}

/// The highest floor. A late writer of a lower one changes nothing, so old ones need not be guarded.
async fn read_floor(store: &dyn ObjectStore, dir: &Path) -> Result<Floor> {
    let floors = dir.clone().join("floor");
    let listed: Vec<_> = store
        .list(Some(&floors))
        .try_collect()
        .await
        .map_err(|e| Error::from_store("list", &floors, e))?;
    let Some(newest) = listed.iter().filter_map(|meta| floor_number(&meta.location)).max() else {
        return Ok(Floor::default());
    };
    let path = floors.join(format!("{newest}.json"));
    match objects::read(store, &path).await? {
        Some((bytes, _)) => objects::decode(&path, &bytes),
        None => Err(Error::new(
            ErrorKind::Unavailable,
            format!("a floor went away while it was read. object=`{path}`"),
        )),
    }
}

fn floor_number(path: &Path) -> Option<u64> {
    path.filename()?.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grace_is_counted_from_the_later_clock_that_is_not_ahead_of_now() {
        let since = |stored_at: i64, decided_at: i64, now: i64| {
            let decision = DecisionSummary {
                outcome: Outcome::Data,
                plan_hash: PlanHash::of(b""),
                attempt: AttemptId::from_u64(1),
                table_version: None,
                stored_at: Timestamp::from_millis(stored_at),
                decided_at: Timestamp::from_millis(decided_at),
            };
            decision.since(Timestamp::from_millis(now)).as_millis()
        };
        assert_eq!(
            since(10, 5, 20),
            10,
            "clocks agree: the work began before the store's object was made"
        );
        assert_eq!(since(10, 900, 1_000), 900, "the host's clock is ahead of the store's");
        assert_eq!(since(900, 5, 20), 5, "the host's clock is behind the store's");
        assert_eq!(since(10, 900, 20), 20, "another worker's clock is ahead of ours");
        assert_eq!(since(900, 800, 20), 20, "both are");
    }
}
