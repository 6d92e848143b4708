//! The doors on from a halt: a lane that starts anew over the table as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::compactor::doors::{Door, DoorReport};
use crate::compactor::lane_work::table_error;
use crate::compactor::shelf::ShelfEntry;
use crate::compactor::{Compactor, LaneSlot};
use crate::error::{Error, ErrorKind, Result};
use crate::halt::LaneError;
use crate::ids::{AttemptId, LaneId, Seq, Sha256Digest};
use crate::ledger::manifest::{self, LaneManifest};
use crate::ledger::{Register, SettledSource, Verdict, ending};
use crate::merge::{SourceError, read_footer};
use crate::naming::{ETag, Namespace, ObjectKey, SourceFile};
use crate::quarantine::QuarantineReason;
use crate::sink::{
    CommitOutcome, Confirmation, Decision, Marker, Outcome, Table, TableChange, TableCommit, TableSink, TableState,
};
use crate::time::Timestamp;
use crate::window::WindowSizes;

/// A lane that is to start anew over the table as it is.
#[derive(Clone, Debug)]
pub(super) struct Renewal {
    pub(super) namespace: Namespace,
    pub(super) why: Why,
    /// The lane that is judged by.
    lane: Option<LaneId>,
    /// The lanes that must not write any more.
    supersedes: Vec<LaneId>,
    /// Whether something of the lanes before is gone, so that nobody knows what they have put into the table.
    strangers: bool,
    table_there: bool,
    /// The table is gone or was set back: what an operator has found in it may not be there any more.
    rolled_back: bool,
    pub(super) in_table: Vec<SourceFile>,
    pub(super) unknown: Vec<SourceFile>,
    pub(super) pending: usize,
    /// Sources that the table has not, and the bucket neither.
    pub(super) lost: Vec<ObjectKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Adopt,
    Replay,
}

/// What is there of a namespace that is to start anew, also where its lane cannot be opened.
struct Ground {
    table: Table,
    manifest: Option<LaneManifest>,
    /// The lane that the manifest names, or where that is gone, the one that table and control prefix tell of.
    lane: Option<LaneId>,
    /// Lanes that have objects, where no manifest says which of them counts.
    leftover: Vec<LaneId>,
    register: Option<Register>,
    strangers: bool,
}

/// Whether rows are in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    InTable,
    NotIn,
    Unknown,
}

/// A content that was planned, and what became of it.
struct Planned {
    etag: ETag,
    content: (u64, Sha256Digest),
    told: Told,
}

impl Compactor {
    /// The door on from a halt that takes the table as it is: whatever it shows or does not show, the sources of
    /// committed plans are done with. It also takes the settings as they are now, where those of the lane differ.
    ///
    /// # Errors
    ///
    /// `Invalid` when there is no such namespace; `Halted` when its table may not be written; `Unsupported` when what
    /// is there was written by a later release; `Unavailable` to be tried again.
    pub async fn adopt(&self, namespace: &Namespace) -> Result<Door> {
        let renewal = self.judge(namespace, Why::Adopt, None).await?;
        Ok(Door::renew(renewal))
    }

    /// The door on from a table that was rolled back or dropped: the sources of plans that it no longer has are
    /// pending again, as far as they are still in the bucket.
    ///
    /// # Errors
    ///
    /// As for [`adopt`](Self::adopt).
    pub async fn replay(&self, namespace: &Namespace) -> Result<Door> {
        let renewal = self.judge(namespace, Why::Replay, None).await?;
        Ok(Door::renew(renewal))
    }

    /// Judges every raw file of a namespace by what register and table say now.
    ///
    /// `proposed` is what was judged before the table was handed over, which hides the lanes that had it before.
    async fn judge(&self, namespace: &Namespace, why: Why, proposed: Option<&Renewal>) -> Result<Renewal> {
        let mut ground = self.ground(namespace, proposed).await?;
        let files = self.raw_files(namespace).await?;
        let sink = ground.table.sink.as_ref();
        let asked = ground.lane.unwrap_or_else(|| self.new_lane());
        let table = decided(sink, asked).await?;
        let strangers = match proposed {
            Some(proposed) => proposed.strangers,
            // Also a lane that a door has left half made: the lanes that it supersedes are hidden by now.
            None => ground.strangers || !table.other_lanes.is_empty(),
        };
        let nothing_of_ours = ground.manifest.is_none() && ground.lane.is_none() && ground.leftover.is_empty();
        if nothing_of_ours && table.other_lanes.is_empty() && files.is_empty() {
            let message = format!("no such namespace. namespace=`{namespace}`");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let mut planned: BTreeMap<ObjectKey, Vec<Planned>> = BTreeMap::new();
        let mut settled: BTreeMap<ObjectKey, Vec<SettledSource>> = BTreeMap::new();
        let mut whole = !strangers;
        let mut adopted = adopted_rows(why, &table);
        match &mut ground.register {
            Some(register) => {
                register.salvage().await?;
                whole &= is_whole(register, &table);
                let read = read_plans(register, sink, &table, why, &mut planned).await?;
                whole &= read.all;
                if read.rolled_back && adopted == Told::InTable {
                    adopted = Told::Unknown;
                }
                match register.all_settled().await? {
                    Some(all) => all
                        .into_iter()
                        .for_each(|s| settled.entry(s.key.clone()).or_default().push(s)),
                    None => whole = false,
                }
            }
            None => whole &= table.table.is_none() || table.decided.is_none(),
        }
        let mut supersedes: BTreeSet<LaneId> = table.other_lanes.iter().copied().collect();
        supersedes.extend(ground.lane);
        supersedes.extend(ground.leftover);
        let mut renewal = Renewal {
            namespace: namespace.clone(),
            why,
            lane: ground.lane,
            supersedes: supersedes.into_iter().collect(),
            strangers,
            table_there: table.table.is_some(),
            rolled_back: adopted != Told::InTable,
            in_table: Vec::new(),
            unknown: Vec::new(),
            pending: 0,
            lost: Vec::new(),
        };
        for file in files {
            let of_key = planned.remove(&file.key).unwrap_or_default();
            let before = settled.remove(&file.key).unwrap_or_default();
            let of_content = before.iter().find(|s| Some(&s.etag) == file.etag.as_ref());
            let told = match of_content.map(|s| s.verdict) {
                // What a table had cannot be in one that is not there.
                _ if adopted == Told::NotIn => Told::NotIn,
                Some(Verdict::InTable) => adopted,
                Some(Verdict::Unknown) if of_key.is_empty() => Told::Unknown,
                Some(Verdict::Unknown) | None => self.told_of(&file, &of_key, whole).await?,
            };
            match told {
                Told::InTable => renewal.in_table.push(file),
                Told::NotIn => renewal.pending += 1,
                Told::Unknown => renewal.unknown.push(file),
            }
        }
        if why == Why::Replay {
            let gone = planned
                .into_iter()
                .filter(|(_, plans)| plans.iter().all(|planned| planned.told == Told::NotIn));
            renewal.lost = gone.map(|(key, _)| key).collect();
        }
        Ok(renewal)
    }

    /// Whether the rows of a raw file are in the table, by the plans that its key was in.
    async fn told_of(&self, file: &SourceFile, of_key: &[Planned], whole: bool) -> Result<Told> {
        let mut same: Vec<_> = of_key
            .iter()
            .filter(|planned| file.etag.as_ref() == Some(&planned.etag))
            .collect();
        let may_be_in = of_key.iter().any(|planned| planned.told != Told::NotIn);
        if same.is_empty() && may_be_in {
            // Uploaded or copied again: the content tells.
            let path = self.shared.bucket.path(file.key.as_str())?;
            match read_footer(self.shared.bucket.store().as_ref(), &path, file.etag.as_ref()).await {
                Ok(footer) => {
                    let content = (footer.size, footer.digest);
                    same = of_key.iter().filter(|planned| planned.content == content).collect();
                }
                Err(SourceError::Unavailable(error)) => return Err(error),
                Err(SourceError::Bad(_)) => {}
            }
            if same.is_empty() {
                return Ok(Told::Unknown);
            }
        }
        let any = |told: Told| same.iter().any(|planned| planned.told == told);
        Ok(match () {
            () if any(Told::InTable) => Told::InTable,
            () if any(Told::Unknown) => Told::Unknown,
            // A plan that is not known, or of a lane that is not, may have had it as well.
            () if !whole => Told::Unknown,
            () => Told::NotIn,
        })
    }

    /// Finds out what there is of a namespace.
    async fn ground(&self, namespace: &Namespace, proposed: Option<&Renewal>) -> Result<Ground> {
        let control = &self.shared.control;
        let read = match manifest::read(control, namespace).await {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Data => None,
            Err(error) => return Err(error),
        };
        let named = read.as_ref().map(|(manifest, _)| manifest.lane);
        if proposed.is_some_and(|proposed| named.is_some() && named != proposed.lane) {
            return Err(moved(namespace));
        }
        // Not where another worker has gone through a door: what the lane before knows is no longer all.
        if let Some(lane) = self.lanes.get(namespace).and_then(LaneSlot::open)
            && named.is_none_or(|named| named == lane.id())
        {
            return Ok(Ground {
                table: lane.table.clone(),
                manifest: Some(lane.manifest.clone()),
                lane: Some(lane.id()),
                leftover: Vec::new(),
                register: Some(lane.register.clone()),
                strangers: false,
            });
        }
        let halted = |halt| Error::from(LaneError::Halted(halt));
        let table = self.table_of(namespace).map_err(halted)?;
        let made_at = read.as_ref().map(|(_, made_at)| *made_at);
        self.refuse_overlap(namespace, &table, made_at).map_err(halted)?;
        let mut ground = Ground {
            lane: read.as_ref().map(|(manifest, _)| manifest.lane),
            manifest: read.map(|(manifest, _)| manifest),
            table,
            leftover: Vec::new(),
            register: None,
            strangers: false,
        };
        if ground.manifest.is_none() {
            ground.leftover = manifest::lanes_of(control, namespace).await?;
            match proposed {
                Some(proposed) => ground.lane = proposed.lane,
                None => self.find_lane(namespace, &mut ground).await?,
            }
        }
        if let Some(lane) = ground.lane {
            match Register::open(control, namespace, lane).await {
                Ok(register) => ground.register = Some(register),
                Err(error) if error.kind() == ErrorKind::Data => ground.strangers = true,
                Err(error) => return Err(error),
            }
        }
        Ok(ground)
    }

    /// Without a manifest: finds the lane whose register tells what is in the table, if there is one.
    async fn find_lane(&self, namespace: &Namespace, ground: &mut Ground) -> Result<()> {
        let sink = ground.table.sink.as_ref();
        match decided(sink, self.new_lane()).await?.other_lanes.as_slice() {
            [] => {
                let mut alive = Vec::new();
                for lane in &ground.leftover {
                    let ended = ending::has_ended(&self.shared.control, namespace, *lane).await?;
                    if !ended && !decided(sink, *lane).await?.superseded {
                        alive.push(*lane);
                    }
                }
                ground.strangers = alive.len() > 1;
                ground.lane = alive.first().copied().filter(|_| alive.len() == 1);
            }
            [lane] if ground.leftover.contains(lane) => {
                ground.lane = Some(*lane);
                // With a plan in the table it had a manifest. Before that, a door may have left it half made, and what
                // was to be judged for it be missing.
                let marker = decided(sink, *lane).await?.decided.map(|decided| decided.marker);
                ground.strangers = marker.is_none_or(|marker| marker.seq == Seq::ZERO);
            }
            _ => ground.strangers = true,
        }
        Ok(())
    }

    fn new_lane(&self) -> LaneId {
        LaneId::random(self.shared.randomness.as_ref())
    }

    pub(super) async fn do_renew(&mut self, proposed: Renewal, now: Timestamp) -> Result<DoorReport> {
        let Renewal { why, table_there, .. } = proposed;
        let namespace = proposed.namespace.clone();
        let shared = Arc::clone(&self.shared);
        let Ground {
            table, manifest: old, ..
        } = self.ground(&namespace, Some(&proposed)).await?;
        let wanted = self.wanted_manifest(&namespace, &table);
        let of_table = old.as_ref().filter(|old| old.table_location == wanted.table_location);
        let manifest = LaneManifest {
            new_table_uuid: of_table.map_or(wanted.new_table_uuid, |old| old.new_table_uuid),
            adopted: table_there,
            ..wanted
        };
        if table_there {
            // The table first: from here on zombies of the old lane are shut out.
            let commit = TableCommit {
                lane: manifest.lane,
                seq: Seq::ZERO,
                plan_hash: None,
                attempt: AttemptId::random(shared.randomness.as_ref()),
                base: None,
                now,
                new_table_uuid: manifest.new_table_uuid,
                sort_order: manifest.sort_order.clone(),
                change: TableChange::Adopt {
                    supersedes: proposed.supersedes.clone(),
                },
            };
            match table.sink.commit(&commit).await? {
                CommitOutcome::Committed(_) | CommitOutcome::Decided(_) => {}
                CommitOutcome::Contended | CommitOutcome::Diverged { .. } | CommitOutcome::Outdated { .. } => {
                    return Err(moved(&namespace));
                }
            }
        }
        // Judged only now, since until now the old lane's workers could still commit.
        let renewal = self.judge(&namespace, why, Some(&proposed)).await?;
        if renewal.table_there != table_there {
            return Err(moved(&namespace));
        }
        let register = Register::open(&shared.control, &namespace, manifest.lane).await?;
        settle(&register, &renewal, manifest.window_size_ms).await?;
        let mut discarded = self.discarded_before(&namespace, proposed.lane).await?;
        if renewal.rolled_back {
            // Discarded for being in the table already.
            discarded.retain(|entry| !matches!(entry.reason, QuarantineReason::BelowBoundary { .. }));
        }
        manifest::replace(&shared.control, &manifest).await?;
        self.reopen(&namespace, now).await?;
        let Some(lane) = self.lanes.get_mut(&namespace).and_then(LaneSlot::open_mut) else {
            return Err(moved(&namespace));
        };
        for entry in &discarded {
            self.tracker.forget_file(&namespace, &entry.key);
        }
        lane.discard_again(discarded)?;
        for file in &renewal.unknown {
            let boundary = self.tracker.window_of(&namespace, file.name.timestamp).end;
            let reason = QuarantineReason::BelowBoundary { boundary };
            lane.set_aside(&mut self.tracker, file, reason, now)?;
        }
        Ok(DoorReport {
            pending: renewal.pending,
            quarantined: renewal.unknown.len(),
            left: renewal.in_table.len(),
        })
    }

    /// What an operator had given up of the lane before.
    async fn discarded_before(&self, namespace: &Namespace, lane: Option<LaneId>) -> Result<Vec<ShelfEntry>> {
        match (self.lanes.get(namespace).and_then(LaneSlot::open), lane) {
            (Some(open), _) if lane.is_none_or(|lane| lane == open.id()) => Ok(open.shelf.discarded()),
            (_, Some(lane)) => self.discarded(namespace, lane).await,
            (_, None) => Ok(Vec::new()),
        }
    }

    /// Opens a lane again under its new manifest, with nothing left of the old one in memory.
    async fn reopen(&mut self, namespace: &Namespace, now: Timestamp) -> Result<()> {
        self.lanes.remove(namespace);
        let keys: Vec<_> = self
            .tracker
            .pending(namespace)
            .map(|pending| pending.file.key.clone())
            .collect();
        for key in keys {
            self.tracker.forget_file(namespace, &key);
        }
        self.tracker.pause(namespace, false);
        self.tracker.abandoned(namespace, None);
        // What the old lane had in its windows is not saved again under the new one.
        self.unsaved.append(&mut self.tracker.take_dirty());
        self.unsaved.retain(|key| key.namespace() != namespace);
        self.open_lane(namespace, now).await?;
        self.list_new_lanes(now).await.map_err(|(_, error)| error)
    }
}

/// What the table says of a lane.
async fn decided(sink: &dyn TableSink, lane: LaneId) -> Result<TableState> {
    sink.decided(lane).await.map_err(|e| Error::from(table_error(e)))
}

/// Whether the rows that were in the table when its lane began are in it still.
fn adopted_rows(why: Why, table: &TableState) -> Told {
    match (why, &table.table, &table.decided) {
        (Why::Adopt, ..) => Told::InTable,
        (Why::Replay, None, _) => Told::NotIn,
        // The entry of the lane is there, and what was before it.
        (Why::Replay, Some(_), Some(decided)) if decided.entry.is_some() => Told::InTable,
        (Why::Replay, Some(_), _) => Told::Unknown,
    }
}

/// What has been read of a register.
struct PlansRead {
    /// Nothing was missing.
    all: bool,
    /// The table knows of entries whose rows it does not have: it was set back to an earlier state, which may be one
    /// from before the lane.
    rolled_back: bool,
}

/// Reads what was planned, and what became of it.
async fn read_plans(
    register: &Register,
    sink: &dyn TableSink,
    table: &TableState,
    why: Why,
    planned: &mut BTreeMap<ObjectKey, Vec<Planned>>,
) -> Result<PlansRead> {
    let mut read = PlansRead {
        all: true,
        rolled_back: false,
    };
    let marker = table.decided.as_ref().map(|decided| decided.marker);
    let seqs: Vec<Seq> = register.plans().map(|(seq, _)| seq).collect();
    for seq in seqs {
        let (told, is_void) = tell(sink, register, table, seq, why).await?;
        read.rolled_back |= told == Told::NotIn && !is_void && marker.is_some_and(|marker| marker.seq >= seq);
        let plan = match register.load_plan(seq).await {
            Ok(plan) => plan,
            // Nobody knows what a plan object held that is gone or wrong.
            Err(error) if error.is_lost() => {
                read.all &= told == Told::NotIn;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for source in plan.sources {
            planned.entry(source.key).or_default().push(Planned {
                etag: source.etag,
                content: (source.size, source.footer),
                told,
            });
        }
    }
    Ok(read)
}

/// Whether the rows of a plan count as in the table, and whether it is known to be void.
async fn tell(
    sink: &dyn TableSink,
    register: &Register,
    table: &TableState,
    seq: Seq,
    why: Why,
) -> Result<(Told, bool)> {
    let by_marker = |was_decided| {
        let is_void = |m: &Marker| m.seq == seq && m.outcome == Outcome::Void;
        let is_void = table.decided.as_ref().is_some_and(|decided| is_void(&decided.marker));
        (by_marker(register, table, seq, was_decided), is_void)
    };
    let decision = match register.decision_of(seq).await {
        Ok(decision) => decision,
        Err(error) if error.is_lost() => return Ok(by_marker(why == Why::Adopt)),
        Err(error) => return Err(error.into()),
    };
    let Some(Decision { outcome, .. }) = &decision else {
        return Ok(by_marker(false));
    };
    match (outcome, why, &decision) {
        (Outcome::Data, Why::Adopt, _) => Ok((Told::InTable, false)),
        (Outcome::Data, Why::Replay, Some(decision)) if table.table.is_some() => {
            let confirmed = sink.confirm(decision).await? == Confirmation::Confirmed;
            let told = if confirmed { Told::InTable } else { Told::NotIn };
            Ok((told, false))
        }
        (Outcome::Void, _, _) => Ok((Told::NotIn, true)),
        (Outcome::Data, Why::Replay, _) => Ok((Told::NotIn, false)),
    }
}

/// What the table's newest entry tells of a plan without a decision: committed and not recorded, or recorded in an
/// object that is gone.
fn by_marker(register: &Register, table: &TableState, seq: Seq, was_decided: bool) -> Told {
    let marker = table.decided.as_ref().map(|decided| decided.marker);
    let hash = register.hash(seq).map(|hash| hash.prefix());
    match marker {
        Some(marker) if marker.seq == seq && Some(marker.plan_hash) == hash => match marker.outcome {
            Outcome::Data => Told::InTable,
            Outcome::Void => Told::NotIn,
        },
        // Decided, and nobody can tell how.
        Some(marker) if marker.seq >= seq => Told::Unknown,
        _ if was_decided => Told::Unknown,
        _ => Told::NotIn,
    }
}

fn moved(namespace: &Namespace) -> Error {
    let message = format!("the table moved while the door was gone through: open it again. namespace=`{namespace}`");
    Error::new(ErrorKind::Conflict, message)
}

/// Whether the register accounts for every source that its lane could have put into the table.
fn is_whole(register: &Register, table: &TableState) -> bool {
    if table.table.is_none() {
        return true;
    }
    let marker = table.decided.as_ref().map(|decided| decided.marker);
    let named =
        marker.is_none_or(|m| m.seq == Seq::ZERO || register.hash(m.seq).map(|h| h.prefix()) == Some(m.plan_hash));
    named && register.floor().seq == Seq::ZERO
}

/// Writes down what was judged, before the table knows the lane.
async fn settle(register: &Register, renewal: &Renewal, window_size_ms: u64) -> Result<()> {
    let sizes = WindowSizes::fixed(window_size_ms);
    let mut windows: BTreeMap<Timestamp, Vec<SettledSource>> = BTreeMap::new();
    let judged = renewal.in_table.iter().map(|file| (file, Verdict::InTable));
    for (file, verdict) in judged.chain(renewal.unknown.iter().map(|file| (file, Verdict::Unknown))) {
        if let Some(etag) = file.etag.clone() {
            windows
                .entry(sizes.window_of(file.name.timestamp).start)
                .or_default()
                .push(SettledSource {
                    key: file.key.clone(),
                    etag,
                    verdict,
                });
        }
    }
    for (start, sources) in windows {
        register.put_settled(start, &sources).await?;
    }
    Ok(())
}
