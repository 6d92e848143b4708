//! What register and table say together: where a lane stands, or why it must halt (rules 3, 5 and 6).

use crate::model::LaneModel;
use crate::mutants::Mutant;
use crate::names::{Lane, Seq, Sources};
use crate::state::{Decision, Entry, Halt, Outcome, Plan, Register, Work};

/// Register and table of a lane.
#[derive(Clone, Copy, Debug)]
pub struct Ledger<'a> {
    model: &'a LaneModel,
    register: &'a Register,
    marker: Option<&'a Entry>,
    lane: Lane,
}

/// Where a lane stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The next seq is free.
    Free,
    /// The table has decided a seq; its decision object is still to be written.
    ToRecord(Seq),
    /// The plan of a seq is not in the table.
    Undecided(Seq),
}

impl<'a> Ledger<'a> {
    /// Both, read just before.
    pub fn new(model: &'a LaneModel, register: &'a Register, marker: Option<&'a Entry>, lane: Lane) -> Self {
        Self {
            model,
            register,
            marker,
            lane,
        }
    }

    /// The seq of the table's marker.
    pub fn in_table(&self) -> Seq {
        self.marker.map_or(Seq::ZERO, |marker| marker.seq)
    }

    /// Whether the table belongs to another lane.
    pub fn is_of_another_lane(&self) -> bool {
        !self.model.lacks(Mutant::AnyLane) && self.marker.is_some_and(|marker| marker.lane != self.lane)
    }

    /// The plans from the floor on, without a gap.
    pub fn plans(&self) -> impl Iterator<Item = (Seq, Plan)> {
        let above = Seq::all().filter(|seq| *seq > self.register.floor);
        above.map_while(|seq| Some((seq, self.register.plans[seq]?)))
    }

    /// The last seq that has a plan, without a gap.
    pub fn head(&self) -> Seq {
        self.plans().last().map_or(self.register.floor, |(seq, _)| seq)
    }

    /// The last seq that has a decision, without a gap.
    pub fn recorded(&self) -> Seq {
        let decided = self
            .plans()
            .take_while(|(seq, _)| self.register.decisions[*seq].is_some());
        decided.last().map_or(self.register.floor, |(seq, _)| seq)
    }

    /// The plan of a seq, and of the floor.
    pub fn plan(&self, seq: Seq) -> Option<Plan> {
        match seq == self.register.floor {
            true => Some(self.register.floor_plan),
            false => self.plans().find(|(at, _)| *at == seq).map(|(_, plan)| plan),
        }
    }

    /// Where the lane stands.
    ///
    /// # Errors
    ///
    /// The reason to halt.
    pub fn check(&self) -> Result<Standing, Halt> {
        let lacks = |rule| self.model.lacks(rule);
        if self.is_of_another_lane() {
            return Err(Halt::RegisterLost);
        }
        self.check_register()?;
        let (in_table, head, recorded) = (self.in_table(), self.head(), self.recorded());
        if in_table < recorded && !lacks(Mutant::NoRollbackCheck) {
            return Err(Halt::TableRolledBack);
        }
        if in_table > head && !lacks(Mutant::NoPlanCheck) {
            return Err(Halt::RegisterLost);
        }
        if in_table > recorded.next() && in_table <= head && !lacks(Mutant::NoDurableDecision) {
            return Err(Halt::RegisterLost);
        }
        if head > recorded.next() && in_table <= recorded && !lacks(Mutant::PlanWhileUndecided) {
            return Err(Halt::RegisterWrong);
        }
        self.check_marker()?;
        Ok(match () {
            () if in_table > recorded && in_table <= head => Standing::ToRecord(in_table),
            () if head > recorded => Standing::Undecided(in_table.max(recorded).next()),
            () => Standing::Free,
        })
    }

    /// Each plan must follow the one before, and each decision be of its plan.
    fn check_register(&self) -> Result<(), Halt> {
        if self.model.lacks(Mutant::PlanHashNeverCompared) {
            return Ok(());
        }
        let mut previous = self.register.floor_plan;
        for (seq, plan) in self.plans() {
            let is_known = previous != Plan::NONE || self.register.floor == Seq::ZERO;
            if plan.previous() != previous && is_known && !self.model.lacks(Mutant::NoPlanChain) {
                return Err(Halt::RegisterWrong);
            }
            let is_of_plan = |decision: Decision| decision.plan == plan;
            if !self.register.decisions[seq].is_none_or(is_of_plan) && !self.model.lacks(Mutant::DecisionNeverCompared)
            {
                return Err(Halt::RegisterWrong);
            }
            previous = plan;
        }
        Ok(())
    }

    /// Marker, plan and decision of one seq must agree in hash, outcome and attempt.
    fn check_marker(&self) -> Result<(), Halt> {
        let Some(marker) = self.marker.filter(|marker| marker.seq > Seq::ZERO) else {
            return Ok(());
        };
        if self.model.lacks(Mutant::MarkerNeverCompared) {
            return Ok(());
        }
        if let Some(plan) = self.plan(marker.seq)
            && plan != marker.plan
            && !self.model.lacks(Mutant::PlanHashNeverCompared)
        {
            return Err(Halt::RegisterWrong);
        }
        let decision = Some(marker.seq).filter(|seq| *seq > self.register.floor && seq.is_in_range());
        match decision.and_then(|seq| self.register.decisions[seq]) {
            Some(decision) if decision.outcome != self.outcome_of(marker) => Err(Halt::RegisterWrong),
            Some(decision) if decision.attempt != marker.attempt => Err(Halt::RegisterWrong),
            _ => Ok(()),
        }
    }

    /// What the marker says of the outcome.
    fn outcome_of(&self, entry: &Entry) -> Outcome {
        match self.model.lacks(Mutant::VoidLikeEmptyCommit) {
            true => Outcome::Data,
            false => entry.outcome,
        }
    }

    /// What is to be recorded of an entry in the table by a worker that has `own` in hand.
    pub fn observed(&self, entry: &Entry, own: Work) -> Work {
        if self.model.lacks(Mutant::OwnPlanForObserved) && own.seq == entry.seq {
            return own;
        }
        let outcome = self.outcome_of(entry);
        let is_own = own.seq == entry.seq && own.attempt == entry.attempt && outcome == Outcome::Void;
        Work {
            lane: own.lane,
            seq: entry.seq,
            plan: match self.model.lacks(Mutant::PlanHashNeverCompared) {
                // Without a hash in the marker, the plan that is at hand is taken for the one that is in.
                true => self.plan(entry.seq).unwrap_or(own.plan),
                false => entry.plan,
            },
            outcome,
            attempt: entry.attempt,
            bad: if is_own { own.bad } else { Sources::EMPTY },
        }
    }

    /// Whether the table is exactly at the entry before the one that a plan makes.
    pub fn is_base_of(&self, seq: Seq, plan: Plan) -> bool {
        let is_hash = self.marker.map_or(Plan::NONE, |marker| marker.plan) == plan.previous()
            || self.model.lacks(Mutant::NoPlanChain)
            || self.model.lacks(Mutant::PlanHashNeverCompared);
        self.in_table() == seq.previous() && is_hash && !self.is_of_another_lane()
    }

    /// The entry whose marker the table carries.
    pub fn marker(&self) -> Option<&'a Entry> {
        self.marker
    }
}
