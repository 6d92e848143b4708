//! The operator's doors: out of quarantine, and on from a halt.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::compactor::lane::Lane;
use crate::compactor::lane_work::table_error;
use crate::compactor::shelf::ShelfEntry;
use crate::compactor::{Compactor, LaneSlot};
use crate::error::{Error, ErrorKind, Result};
use crate::halt::LaneError;
use crate::ids::{AttemptId, LaneId, Seq};
use crate::ledger::manifest::{self, LaneManifest};
use crate::ledger::{Register, SettledSource, Verdict};
use crate::naming::{FileNameParser, Namespace, ObjectKey, SourceFile};
use crate::quarantine::QuarantineReason;
use crate::sink::{CommitOutcome, Confirmation, Outcome, TableChange, TableCommit, TableSink, TableState};
use crate::time::Timestamp;
use crate::window::{Arrival, Observed, WindowSizes};

/// A door that an operator may open: says what will be done, and does nothing until it is handed to
/// [`Compactor::go_through`].
#[derive(Clone, Debug)]
#[must_use = "nothing is done before `go_through`"]
pub struct Door {
    passage: Passage,
}

#[derive(Clone, Debug)]
enum Passage {
    Discard(ObjectKey),
    Release(ObjectKey),
    Renew(Box<Renewal>),
}

/// A lane that is to start anew over the table as it is.
#[derive(Clone, Debug)]
struct Renewal {
    namespace: Namespace,
    why: Why,
    /// The lanes that must not write any more.
    supersedes: Vec<LaneId>,
    /// Whether there is no register of one of them, so that nobody knows what it has put into the table.
    strangers: bool,
    table_there: bool,
    in_table: Vec<SourceFile>,
    unknown: Vec<SourceFile>,
    pending: usize,
    /// Sources that the table has not, and the bucket neither.
    lost: Vec<ObjectKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Adopt,
    Replay,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DoorReport {
    /// Source files that are pending again.
    pub pending: usize,
    /// Source files that are in quarantine now.
    pub quarantined: usize,
    /// Source files left in the bucket, since their rows are in the table.
    pub left: usize,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.passage {
            Passage::Discard(key) => write!(f, "discard `{key}`: it stays in the bucket and is never compacted"),
            Passage::Release(key) => write!(f, "release `{key}`: it is pending again and judged anew"),
            Passage::Renew(renewal) => {
                let what = match renewal.why {
                    Why::Adopt => "adopt: the table is taken as it is",
                    Why::Replay => "replay: what the table no longer has is put in again",
                };
                write!(
                    f,
                    "{what}. namespace=`{}`: {} source files are pending, {} are left in the bucket since their rows \
                     are in the table, {} go to quarantine since nobody can tell, {} are neither in the table nor in \
                     the bucket",
                    renewal.namespace,
                    renewal.pending,
                    renewal.in_table.len(),
                    renewal.unknown.len(),
                    renewal.lost.len(),
                )?;
                if let Some(first) = renewal.lost.first() {
                    write!(f, " (the first: `{first}`)")?;
                }
                Ok(())
            }
        }
    }
}

impl Compactor {
    /// The door by which a source leaves quarantine and is judged anew.
    ///
    /// # Errors
    ///
    /// `Invalid` when the key is not in quarantine, or would go straight back.
    pub fn release(&self, key: &ObjectKey) -> Result<Door> {
        let door = Door {
            passage: Passage::Release(key.clone()),
        };
        if self.malformed.get(key).is_some() {
            return match self.shared.parser.parse(key) {
                Ok(_) => Ok(door),
                Err(_) => Err(Error::new(
                    ErrorKind::Invalid,
                    format!(
                        "a key that does not parse cannot be released: copy the object to a right name. key=`{key}`"
                    ),
                )),
            };
        }
        let lane = self.lane_of(key)?;
        let below = lane.shelf.get(key).and_then(|entry| {
            let boundary = lane.register.floor().boundary?;
            let start = self
                .tracker
                .window_of(&lane.namespace, entry.name.as_ref()?.timestamp)
                .start;
            (start < boundary).then_some(boundary)
        });
        match below {
            None => Ok(door),
            Some(boundary) => Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "a file of a forgotten window cannot be released: copy the object to a key with a later timestamp. \
                     key=`{key}` boundary=`{boundary}`"
                ),
            )),
        }
    }

    /// The door by which a source is given up: it stays in the bucket, out of sight.
    ///
    /// # Errors
    ///
    /// `Invalid` when the key is not in quarantine.
    pub fn discard(&self, key: &ObjectKey) -> Result<Door> {
        if self.malformed.get(key).is_none() {
            self.lane_of(key)?;
        }
        Ok(Door {
            passage: Passage::Discard(key.clone()),
        })
    }

    /// The door on from a halt that takes the table as it is: whatever it shows or does not show, the sources of
    /// committed plans are done with.
    ///
    /// # Errors
    ///
    /// `Invalid` when there is no such namespace; `Unavailable` to be tried again.
    pub async fn adopt(&self, namespace: &Namespace) -> Result<Door> {
        self.renewal(namespace, Why::Adopt).await
    }

    /// The door on from a table that was rolled back or dropped: the sources of plans that it no longer has are
    /// pending again, as far as they are still in the bucket.
    ///
    /// # Errors
    ///
    /// As for [`adopt`](Self::adopt).
    pub async fn replay(&self, namespace: &Namespace) -> Result<Door> {
        self.renewal(namespace, Why::Replay).await
    }

    /// Does what a door says.
    ///
    /// # Errors
    ///
    /// `Conflict` when things have changed since the door was made: make it again. `Unavailable` to be tried again.
    pub async fn go_through(&mut self, door: Door, now: Timestamp) -> Result<DoorReport> {
        self.writable()?;
        let report = match door.passage {
            Passage::Discard(key) => self.do_discard(&key)?,
            Passage::Release(key) => self.do_release(&key, now).await?,
            Passage::Renew(renewal) => self.do_renew(*renewal, now).await?,
        };
        self.saved().await?;
        Ok(report)
    }

    fn lane_of(&self, key: &ObjectKey) -> Result<&Lane> {
        let mut lanes = self.lanes.values().filter_map(LaneSlot::open);
        lanes
            .find(|lane| lane.shelf.get(key).is_some_and(|entry| !entry.discarded))
            .ok_or_else(|| Error::new(ErrorKind::Invalid, format!("not in quarantine. key=`{key}`")))
    }

    fn do_discard(&mut self, key: &ObjectKey) -> Result<DoorReport> {
        let lanes = self.lanes.values_mut().filter_map(LaneSlot::open_mut);
        for shelf in lanes
            .map(|lane| &mut lane.shelf)
            .chain(std::iter::once(&mut self.malformed))
        {
            if let Some(mut entry) = shelf.get(key).cloned() {
                entry.discarded = true;
                shelf.insert(entry)?;
                return Ok(DoorReport {
                    left: 1,
                    ..DoorReport::default()
                });
            }
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!("no longer in quarantine. key=`{key}`"),
        ))
    }

    async fn do_release(&mut self, key: &ObjectKey, now: Timestamp) -> Result<DoorReport> {
        let report = DoorReport {
            pending: 1,
            ..DoorReport::default()
        };
        let full = || {
            let message = format!("too many open windows: release it later. key=`{key}`");
            Error::new(ErrorKind::Unavailable, message)
        };
        if let Some(entry) = self.malformed.get(key).cloned() {
            let sighting = crate::compactor::events::Sighting::Event;
            let (outcome, _) = self.sight(key, entry.size, entry.etag, sighting, now).await?;
            outcome.ok_or_else(full)?;
            self.malformed.remove(key);
            return Ok(report);
        }
        let lanes = self.lanes.values_mut().filter_map(LaneSlot::open_mut);
        for lane in lanes {
            let Some(file) = lane.shelf.get(key).and_then(ShelfEntry::file) else {
                continue;
            };
            let namespace = lane.namespace.clone();
            let window = self.tracker.window_of(&namespace, file.name.timestamp);
            let etag = file.etag.clone();
            if let Observed::Deferred = self.tracker.handle_file(file, Arrival::Event, now) {
                return Err(full());
            }
            lane.shelf.remove(key);
            if let Some(etag) = etag {
                lane.memory.released.insert(key.clone(), etag);
            }
            // Nothing is waited for: an operator is.
            self.tracker.voided(&namespace, window);
            return Ok(report);
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!("no longer in quarantine. key=`{key}`"),
        ))
    }

    async fn renewal(&self, namespace: &Namespace, why: Why) -> Result<Door> {
        let renewal = self.judge(namespace, why, None).await?;
        Ok(Door {
            passage: Passage::Renew(Box::new(renewal)),
        })
    }

    /// Judges every raw file of a namespace by what register and table say now.
    ///
    /// `proposed` is what was judged before the table was handed over, which hides the lanes that had it before.
    async fn judge(&self, namespace: &Namespace, why: Why, proposed: Option<&Renewal>) -> Result<Renewal> {
        let lane = self.open_lane_of(namespace)?;
        let sink = lane.table.sink.as_ref();
        let table = sink.decided(lane.id()).await.map_err(|e| Error::from(table_error(e)))?;
        let strangers = match proposed {
            Some(proposed) => proposed.strangers,
            // Also a lane that a door has left half made: the lanes that it supersedes are hidden by now.
            None => !table.other_lanes.is_empty(),
        };
        let mut register = lane.register.clone();
        // What contradicts itself is why the door is opened: as much as can be read counts.
        match register.refresh().await {
            Ok(()) | Err(LaneError::Halted(_)) => {}
            Err(LaneError::Failed(error)) => return Err(error),
        }
        let whole = !strangers && is_whole(&register, &table);
        let mut planned: BTreeMap<ObjectKey, Vec<(crate::naming::ETag, bool)>> = BTreeMap::new();
        let seqs: Vec<Seq> = register.plans().map(|(seq, _)| seq).collect();
        for seq in seqs {
            let in_table = is_in_table(sink, &register, &table, seq, why).await?;
            let plan = match register.load_plan(seq).await {
                Ok(plan) => plan,
                // A plan object that is gone or wrong says nothing.
                Err(LaneError::Halted(_)) => continue,
                Err(LaneError::Failed(error)) => return Err(error),
            };
            for source in plan.sources {
                planned.entry(source.key).or_default().push((source.etag, in_table));
            }
        }
        let mut renewal = Renewal {
            namespace: namespace.clone(),
            why,
            supersedes: table.other_lanes.clone(),
            strangers,
            table_there: table.table.is_some(),
            in_table: Vec::new(),
            unknown: Vec::new(),
            pending: 0,
            lost: Vec::new(),
        };
        renewal.supersedes.push(lane.id());
        for file in self.raw_files(namespace).await? {
            let verdicts = planned.remove(&file.key).unwrap_or_default();
            match self.settled_before(lane, &register, &file).await? {
                Some(Verdict::InTable) => {
                    renewal.in_table.push(file);
                    continue;
                }
                Some(Verdict::Unknown) if verdicts.is_empty() => {
                    renewal.unknown.push(file);
                    continue;
                }
                Some(Verdict::Unknown) | None => {}
            }
            let of_content: Vec<_> = verdicts
                .iter()
                .filter(|(etag, _)| file.etag.as_ref() == Some(etag))
                .collect();
            match of_content.iter().any(|(_, in_table)| *in_table) {
                true => renewal.in_table.push(file),
                false if of_content.is_empty() && !whole => renewal.unknown.push(file),
                false => renewal.pending += 1,
            }
        }
        if why == Why::Replay {
            let gone = planned
                .into_iter()
                .filter(|(_, verdicts)| verdicts.iter().all(|(_, in_table)| !in_table));
            renewal.lost = gone.map(|(key, _)| key).collect();
        }
        Ok(renewal)
    }

    /// What was judged of a source when its lane was made by a door.
    async fn settled_before(&self, lane: &Lane, register: &Register, file: &SourceFile) -> Result<Option<Verdict>> {
        if !lane.manifest.adopted {
            return Ok(None);
        }
        let window = self.tracker.window_of(&lane.namespace, file.name.timestamp);
        let settled = register.settled(window.start).await?;
        let of_file = settled
            .into_iter()
            .find(|s| s.key == file.key && Some(&s.etag) == file.etag.as_ref());
        Ok(of_file.map(|source| source.verdict))
    }

    fn open_lane_of(&self, namespace: &Namespace) -> Result<&Lane> {
        let lane = self.lanes.get(namespace).and_then(LaneSlot::open);
        lane.ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                format!("no such namespace. namespace=`{namespace}`"),
            )
        })
    }

    async fn do_renew(&mut self, proposed: Renewal, now: Timestamp) -> Result<DoorReport> {
        let Renewal { why, table_there, .. } = proposed;
        let namespace = proposed.namespace.clone();
        let shared = Arc::clone(&self.shared);
        let lane = self.open_lane_of(&namespace)?;
        let manifest = LaneManifest {
            lane: LaneId::random(shared.randomness.as_ref()),
            window_size_ms: shared.options.window_size_ms,
            adopted: table_there,
            ..lane.manifest.clone()
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
            match lane.table.sink.commit(&commit).await? {
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
        manifest::replace(&shared.control, &manifest).await?;
        let discarded = self.open_lane_of(&namespace)?.shelf.discarded();
        self.reopen(&namespace, now).await?;
        let Some(lane) = self.lanes.get_mut(&namespace).and_then(LaneSlot::open_mut) else {
            return Err(moved(&namespace));
        };
        for entry in discarded {
            self.tracker.forget_file(&namespace, &entry.key);
            lane.shelf.insert(entry)?;
        }
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

/// Whether the rows of a plan count as in the table.
async fn is_in_table(
    sink: &dyn TableSink,
    register: &Register,
    table: &TableState,
    seq: Seq,
    why: Why,
) -> Result<bool> {
    let marker = table.decided.as_ref().map(|decided| decided.marker);
    let Some((decision, _)) = register.load_decision(seq).await.map_err(Error::from)? else {
        // Committed and not recorded: the newest entry may be of this very plan.
        let hash = register.hash(seq).map(|hash| hash.prefix());
        return Ok(marker.is_some_and(|m| m.seq == seq && m.outcome == Outcome::Data && Some(m.plan_hash) == hash));
    };
    match (decision.outcome, why) {
        (Outcome::Void, _) => Ok(false),
        (Outcome::Data, Why::Adopt) => Ok(true),
        (Outcome::Data, Why::Replay) => {
            Ok(table.table.is_some() && sink.confirm(&decision).await? == Confirmation::Confirmed)
        }
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
