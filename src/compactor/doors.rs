//! The operator's doors: out of quarantine, and on from a halt.

use std::fmt;

use crate::compactor::lane::Lane;
use crate::compactor::renewal::{Renewal, Why};
use crate::compactor::shelf::ShelfEntry;
use crate::compactor::{Compactor, LaneSlot};
use crate::error::{Error, ErrorKind, Result};
use crate::naming::{FileNameParser, ObjectKey, SourceFile};
use crate::quarantine::QuarantineReason;
use crate::time::Timestamp;
use crate::window::{Arrival, Observed};

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
    /// A source that is pending already.
    Pending(SourceFile),
    Release {
        key: ObjectKey,
        /// Whether nobody can tell if its rows are in the table.
        in_doubt: bool,
    },
    Renew(Box<Renewal>),
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

/// What is said of a source of which nobody can tell whether its rows are in the table.
const IN_DOUBT: &str = ". WARNING: nobody can tell whether its rows are in the table already, and if they are, they \
                        will be in it TWICE. Look first: read some of its rows and ask the table for them; where it \
                        has them, `discard` the file instead";

impl Door {
    pub(super) fn renew(renewal: Renewal) -> Self {
        Self {
            passage: Passage::Renew(Box::new(renewal)),
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.passage {
            Passage::Discard(key) => write!(f, "discard `{key}`: it stays in the bucket and is never compacted"),
            Passage::Release { key, in_doubt } => {
                write!(f, "release `{key}`: it is pending again and judged anew")?;
                match in_doubt {
                    true => f.write_str(IN_DOUBT),
                    false => Ok(()),
                }
            }
            Passage::Pending(file) => write!(f, "release `{}`: it is pending already", file.key),
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
    /// The door by which a source leaves quarantine and is judged anew; one that is pending is planned at once.
    ///
    /// Of a source of which nobody can tell whether its rows are in the table (after `adopt`, mostly) the door says so:
    /// whoever goes through puts them in, also if they were.
    ///
    /// # Errors
    ///
    /// `Invalid` when the key is not in quarantine, or would go straight back.
    pub fn release(&self, key: &ObjectKey) -> Result<Door> {
        let door = |in_doubt: bool| Door {
            passage: Passage::Release {
                key: key.clone(),
                in_doubt,
            },
        };
        if self.malformed.get(key).is_some() {
            return match self.shared.parser.parse(key) {
                Ok(_) => Ok(door(false)),
                Err(_) => Err(Error::new(
                    ErrorKind::Invalid,
                    format!(
                        "a key that does not parse cannot be released: copy the object to a right name. key=`{key}`"
                    ),
                )),
            };
        }
        if let Some(passage) = self.pending_passage(key) {
            return Ok(Door { passage });
        }
        let lane = self.lane_of(key)?;
        let entry = lane.shelf.get(key);
        let in_doubt = entry.is_some_and(|entry| matches!(entry.reason, QuarantineReason::BelowBoundary { .. }));
        let below = entry.and_then(|entry| {
            let boundary = lane.register.floor().boundary?;
            let start = self
                .tracker
                .window_of(&lane.namespace, entry.name.as_ref()?.timestamp)
                .start;
            (start < boundary).then_some(boundary)
        });
        match below {
            None => Ok(door(in_doubt)),
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

    /// Does what a door says.
    ///
    /// # Errors
    ///
    /// `Conflict` when things have changed since the door was made: make it again. `Unavailable` to be tried again.
    pub async fn go_through(&mut self, door: Door, now: Timestamp) -> Result<DoorReport> {
        self.writable()?;
        let report = match door.passage {
            Passage::Discard(key) => self.do_discard(&key)?,
            Passage::Release { key, .. } => self.do_release(&key, now).await?,
            Passage::Pending(file) => self.do_hurry(&file),
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

    fn pending_passage(&self, key: &ObjectKey) -> Option<Passage> {
        let name = self.shared.parser.parse(key).ok()?;
        let file = self.tracker.is_pending(&name.namespace, key)?;
        Some(Passage::Pending(file.clone()))
    }

    /// Nothing is waited for: an operator is.
    fn do_hurry(&mut self, file: &SourceFile) -> DoorReport {
        let window = self.tracker.window_of(&file.name.namespace, file.name.timestamp);
        self.tracker.voided(&file.name.namespace, window);
        DoorReport {
            pending: 1,
            ..DoorReport::default()
        }
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
}
