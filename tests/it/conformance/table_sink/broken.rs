//! A Delta table in memory behind a sink with one thing wrong.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use firnline::arrow::datatypes::{Schema, SchemaRef};
use firnline::object_store::ObjectStoreExt;
use firnline::object_store::memory::InMemory;
use firnline::testing::conformance::TableTrial;
use firnline::{
    AttemptId, CommitOutcome, Confirmation, Decision, Entry, Error, ErrorKind, Evolve, LaneId, Outcome,
    QuarantineReason, Result, Seq, TableChange, TableCommit, TableLayout, TableSink, TableState,
};

use super::trials::DeltaTrial;
use crate::conformance::give_way;

/// What is wrong with a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    CanonicalIsReversed,
    LayoutLacksColumns,
    PreparingWrites,
    LayoutIsInFileOrder,
    TakesAnyColumns,
    NeverEvolves,
    AbsentIsSuperseded,
    AnswersWithoutFiles,
    CommitsOneFile,
    ForgetsTheAttempt,
    OwnTableId,
    RepetitionDiverges,
    SecondAttemptGoesIn,
    OlderDiverges,
    VoidIsEmpty,
    VoidIsFilled,
    VoidCreatesNothing,
    EmptyIsVoid,
    IgnoresBase,
    ConfirmsTheNewest,
    ConfirmsAll,
    Caches,
    BothWin,
    GivesWayForEver,
    MarkerIsOfTheNewest,
    DropsWhatOthersPut,
    RemembersConfirmations,
    StaysLocked,
    TakesAnyLane,
    AdoptsNothing,
    AdoptsTwice,
    SupersedesAll,
    SupersededGoesOn,
}

/// What readers see beside the table, and what all sinks of it know of each other.
#[derive(Debug, Default)]
struct Shared {
    extra: Mutex<Vec<String>>,
    hidden: Mutex<BTreeSet<String>>,
    at_work: Mutex<usize>,
    locked: Mutex<bool>,
}

#[derive(Debug)]
pub(super) struct BrokenTrial {
    flaw: Flaw,
    inner: Arc<DeltaTrial>,
    shared: Arc<Shared>,
}

impl BrokenTrial {
    pub(super) fn new(flaw: Flaw) -> Self {
        Self {
            flaw,
            inner: Arc::new(DeltaTrial::new(Arc::new(InMemory::new()))),
            shared: Arc::default(),
        }
    }
}

#[async_trait]
impl TableTrial for BrokenTrial {
    fn sink(&self) -> Arc<dyn TableSink> {
        Arc::new(BrokenSink {
            flaw: self.flaw,
            table: Arc::clone(&self.inner),
            inner: self.inner.sink(),
            shared: Arc::clone(&self.shared),
            seen: Mutex::default(),
            confirmed: Mutex::default(),
        })
    }

    async fn live_files(&self) -> Vec<String> {
        let mut live = self.inner.live_files().await;
        live.retain(|path| !self.shared.hidden.lock().unwrap().contains(path));
        live.extend(self.shared.extra.lock().unwrap().iter().cloned());
        live
    }

    async fn foreign_commit(&self) {
        self.inner.foreign_commit().await;
    }

    async fn set_back(&self, entry: &Entry) -> bool {
        self.inner.set_back(entry).await
    }
}

#[derive(Debug)]
struct BrokenSink {
    flaw: Flaw,
    table: Arc<DeltaTrial>,
    inner: Arc<dyn TableSink>,
    shared: Arc<Shared>,
    seen: Mutex<Option<TableState>>,
    confirmed: Mutex<BTreeSet<Seq>>,
}

impl BrokenSink {
    /// Says that a commit is in which is not, and shows its files.
    fn pretended(&self, commit: &TableCommit) -> CommitOutcome {
        let outputs: Vec<firnline::OutputFile> = match &commit.change {
            TableChange::Append { files, .. } => files.iter().map(firnline::OutputFile::from).collect(),
            _ => Vec::new(),
        };
        let paths = outputs.iter().map(|output| output.path.clone());
        self.shared.extra.lock().unwrap().extend(paths);
        CommitOutcome::Committed(Entry { version: 0, outputs })
    }

    /// The change that is made in the place of the one that is asked for.
    async fn changed(&self, commit: &TableCommit) -> Result<TableCommit> {
        let mut commit = commit.clone();
        let state = self.inner.decided(commit.lane).await?;
        match (self.flaw, &mut commit.change) {
            (Flaw::NeverEvolves, TableChange::Append { evolve, .. }) => *evolve = Evolve::Never,
            (Flaw::VoidIsEmpty, TableChange::Void { schema }) => {
                commit.change = TableChange::Append {
                    schema: Arc::clone(schema),
                    evolve: Evolve::Never,
                    files: Vec::new(),
                };
            }
            (Flaw::EmptyIsVoid, TableChange::Append { files, schema, .. }) if files.is_empty() => {
                let schema = Arc::clone(schema);
                commit.change = TableChange::Void { schema };
            }
            (Flaw::SupersedesAll, TableChange::Adopt { supersedes }) => {
                supersedes.extend(&state.other_lanes);
            }
            (Flaw::IgnoresBase, TableChange::Append { .. }) => {
                if let Some(decided) = &state.decided
                    && decided.marker.seq == commit.seq.previous()
                {
                    commit.base = Some((decided.marker.seq, decided.marker.plan_hash));
                }
            }
            (Flaw::OwnTableId, _) => commit.new_table_uuid = uuid::Uuid::from_u128(4_000),
            _ => {}
        }
        Ok(commit)
    }

    /// What is answered in the place of what happened.
    fn answer(&self, commit: &TableCommit, state: &TableState, outcome: CommitOutcome) -> CommitOutcome {
        let is_adoption = matches!(commit.change, TableChange::Adopt { .. });
        match (self.flaw, outcome) {
            (Flaw::AnswersWithoutFiles, CommitOutcome::Committed(entry)) => CommitOutcome::Committed(Entry {
                outputs: Vec::new(),
                ..entry
            }),
            (Flaw::CommitsOneFile, CommitOutcome::Committed(entry)) => {
                let lost = entry.outputs.iter().skip(1).map(|output| output.path.clone());
                self.shared.hidden.lock().unwrap().extend(lost);
                CommitOutcome::Committed(entry)
            }
            (Flaw::RepetitionDiverges, CommitOutcome::Decided(found)) if found.marker.attempt == commit.attempt => {
                let found = Some(found.marker);
                CommitOutcome::Diverged { found }
            }
            (Flaw::SecondAttemptGoesIn, CommitOutcome::Decided(found))
                if found.marker.seq == commit.seq && found.marker.attempt != commit.attempt =>
            {
                self.pretended(commit)
            }
            (Flaw::OlderDiverges, CommitOutcome::Decided(found)) if found.marker.seq > commit.seq => {
                let found = Some(found.marker);
                CommitOutcome::Diverged { found }
            }
            (Flaw::VoidIsFilled, CommitOutcome::Decided(found)) if found.marker.outcome == Outcome::Void => {
                self.pretended(commit)
            }
            (Flaw::TakesAnyLane, CommitOutcome::Diverged { .. }) if !state.superseded && !is_adoption => {
                match state.other_lanes.is_empty() {
                    true => CommitOutcome::Diverged {
                        found: state.decided.as_ref().map(|decided| decided.marker),
                    },
                    false => self.pretended(commit),
                }
            }
            (Flaw::AdoptsTwice, CommitOutcome::Decided(_)) if is_adoption => self.pretended(commit),
            (Flaw::SupersededGoesOn, CommitOutcome::Diverged { .. }) if state.superseded => self.pretended(commit),
            (_, outcome) => outcome,
        }
    }
}

#[async_trait]
impl TableSink for BrokenSink {
    fn canonical_schema(&self, source: &Schema, table: Option<&Schema>) -> Result<SchemaRef, QuarantineReason> {
        let schema = self.inner.canonical_schema(source, table)?;
        Ok(match self.flaw {
            Flaw::CanonicalIsReversed => {
                Arc::new(Schema::new(schema.fields().iter().rev().cloned().collect::<Vec<_>>()))
            }
            _ => schema,
        })
    }

    async fn decided(&self, lane: LaneId) -> Result<TableState> {
        let mut state = self.inner.decided(lane).await?;
        match self.flaw {
            Flaw::AbsentIsSuperseded if state.table.is_none() => state.superseded = true,
            Flaw::ForgetsTheAttempt => {
                if let Some(decided) = &mut state.decided {
                    decided.marker.attempt = AttemptId::from_u64(0);
                }
            }
            Flaw::Caches => return Ok(self.seen.lock().unwrap().get_or_insert(state).clone()),
            Flaw::MarkerIsOfTheNewest => {
                let version = state.table.as_ref().map(|table| table.version);
                let entry = state.decided.as_ref().and_then(|decided| decided.entry.as_ref());
                if entry.map(|entry| entry.version) != version {
                    state.decided = None;
                }
            }
            _ => {}
        }
        Ok(state)
    }

    async fn prepare(&self, lane: LaneId, schema: &SchemaRef, evolve: Evolve) -> Result<TableLayout> {
        let mut layout = match self.inner.prepare(lane, schema, evolve).await {
            Err(_) if self.flaw == Flaw::TakesAnyColumns => {
                let table = self.inner.decided(lane).await?.table.unwrap().schema;
                self.inner.prepare(lane, &table, Evolve::Never).await?
            }
            layout => layout?,
        };
        match self.flaw {
            Flaw::LayoutLacksColumns => {
                let fields = layout.schema.fields().iter().take(1).cloned();
                layout.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            }
            Flaw::PreparingWrites => {
                let lock = layout.data_dir.clone().join("lock");
                layout.store.put(&lock, "".into()).await.unwrap();
            }
            Flaw::LayoutIsInFileOrder => {
                let fields = schema.fields().iter().cloned().collect::<Vec<_>>();
                layout.schema = Arc::new(Schema::new(fields));
            }
            _ => {}
        }
        Ok(layout)
    }

    async fn commit(&self, commit: &TableCommit) -> Result<CommitOutcome> {
        let state = self.inner.decided(commit.lane).await?;
        match self.flaw {
            Flaw::VoidCreatesNothing if state.table.is_none() && matches!(commit.change, TableChange::Void { .. }) => {
                return Ok(self.pretended(commit));
            }
            Flaw::AdoptsNothing
                if matches!(commit.change, TableChange::Adopt { .. }) && !state.other_lanes.is_empty() =>
            {
                let TableChange::Adopt { supersedes } = &commit.change else {
                    unreachable!()
                };
                if *supersedes == state.other_lanes {
                    return Ok(self.pretended(commit));
                }
            }
            Flaw::GivesWayForEver => {
                let newest = state.table.as_ref().map(|table| table.version);
                let entry = state.decided.as_ref().and_then(|decided| decided.entry.as_ref());
                if entry.is_some() && entry.map(|entry| entry.version) != newest {
                    return Ok(CommitOutcome::Contended);
                }
            }
            Flaw::DropsWhatOthersPut => {
                let live = self.table.live_files().await;
                let theirs = live.into_iter().filter(|path| path.contains("foreign"));
                self.shared.hidden.lock().unwrap().extend(theirs);
            }
            Flaw::StaysLocked => {
                if std::mem::replace(&mut *self.shared.locked.lock().unwrap(), true) {
                    return Err(Error::new(ErrorKind::Unavailable, "locked"));
                }
                give_way().await;
                *self.shared.locked.lock().unwrap() = false;
            }
            Flaw::BothWin => {
                *self.shared.at_work.lock().unwrap() += 1;
                give_way().await;
                let at_once = *self.shared.at_work.lock().unwrap();
                let outcome = self.inner.commit(commit).await?;
                give_way().await;
                *self.shared.at_work.lock().unwrap() -= 1;
                return Ok(match outcome {
                    CommitOutcome::Decided(_) if at_once > 1 => self.pretended(commit),
                    outcome => outcome,
                });
            }
            _ => {}
        }
        let outcome = self.inner.commit(&self.changed(commit).await?).await?;
        *self.seen.lock().unwrap() = None;
        Ok(self.answer(commit, &state, outcome))
    }

    async fn confirm(&self, decision: &Decision) -> Result<Confirmation> {
        let refuted = |reason: &str| Confirmation::Refuted {
            reason: reason.to_owned(),
        };
        let confirmation = self.inner.confirm(decision).await?;
        match self.flaw {
            Flaw::ConfirmsAll => Ok(Confirmation::Confirmed),
            Flaw::ConfirmsTheNewest => {
                let decided = self.inner.decided(decision.lane).await?.decided;
                let is_newest = decided.is_some_and(|decided| decided.marker.seq == decision.seq);
                Ok(if is_newest { confirmation } else { refuted("old") })
            }
            Flaw::RemembersConfirmations => {
                let mut confirmed = self.confirmed.lock().unwrap();
                if confirmation == Confirmation::Confirmed {
                    confirmed.insert(decision.seq);
                }
                Ok(match confirmed.contains(&decision.seq) {
                    true => Confirmation::Confirmed,
                    false => confirmation,
                })
            }
            _ => Ok(confirmation),
        }
    }
}
