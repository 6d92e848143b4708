//! What register and table say together: where a lane stands, or why it must halt. Pure.

use crate::halt::Halt;
use crate::ids::Seq;
use crate::ledger::register::Register;
use crate::sink::{Decided, Marker, TableState};

/// Where a lane stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Every plan is decided and recorded: the next seq is free.
    Free,
    /// The table has decided the newest plan; the decision object is still to be written.
    ToRecord(Seq, Decided),
    /// The newest plan is not in the table.
    Undecided(Seq),
}

/// Compares register and table, both read just before, in this order.
///
/// A seq is never taken for decided without its plan, a plan never for the one that the table names
/// without comparing hashes, and a table that has gone back is never written.
pub(crate) fn check(register: &Register, table: &TableState) -> Result<Standing, Halt> {
    if table.superseded {
        return Err(Halt::Superseded { lane: register.lane() });
    }
    if let Some(other) = table.other_lanes.first() {
        return Err(Halt::RegisterLost {
            detail: format!(
                "the table belongs to another lane, whose register this is not. table=`{other}` register=`{}`",
                register.lane()
            ),
        });
    }
    let marker = table.decided.as_ref().map(|decided| decided.marker);
    let in_table = marker.map_or(Seq::ZERO, |m| m.seq);
    let (head, recorded) = (register.head(), register.newest_decided());
    if in_table < recorded {
        return Err(Halt::TableRolledBack {
            detail: match &table.table {
                None => format!("there is no table, but seq {recorded} was in it"),
                Some(_) => format!("the table is at seq {in_table}, but seq {recorded} was in it"),
            },
        });
    }
    if in_table > head {
        return Err(Halt::RegisterLost {
            detail: format!("the table is at seq {in_table}, but plans end at seq {head}"),
        });
    }
    if in_table > recorded.next() {
        return Err(Halt::RegisterLost {
            detail: format!("the table is at seq {in_table}, but decisions end at seq {recorded}"),
        });
    }
    if head > recorded.next() && in_table <= recorded {
        return Err(Halt::RegisterWrong {
            seq: head,
            detail: format!("planned while seq {} was undecided", recorded.next()),
        });
    }
    if let Some(marker) = marker.filter(|m| m.seq > Seq::ZERO) {
        compare(register, marker)?;
    }
    match &table.decided {
        Some(decided) if in_table > recorded => Ok(Standing::ToRecord(in_table, decided.clone())),
        _ if head > recorded => Ok(Standing::Undecided(head)),
        _ => Ok(Standing::Free),
    }
}

/// Marker, plan and decision of one seq must agree in hash, outcome and attempt.
fn compare(register: &Register, marker: Marker) -> Result<(), Halt> {
    let seq = marker.seq;
    let wrong = |detail: &str| Halt::RegisterWrong {
        seq,
        detail: detail.to_owned(),
    };
    if register.hash(seq).map(|hash| hash.prefix()) != Some(marker.plan_hash) {
        return Err(wrong("the table names another plan"));
    }
    match register.decision(seq) {
        Some(decision) if decision.outcome != marker.outcome => Err(wrong("the table names another outcome")),
        Some(decision) if decision.attempt != marker.attempt => Err(wrong("the table names another attempt")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;
    use futures::executor::block_on;
    use object_store::memory::InMemory;

    use super::*;
    use crate::ids::{AttemptId, HashPrefix, LaneId};
    use crate::naming::Namespace;
    use crate::options::Evolve;
    use crate::place::Place;
    use crate::plan::{Plan, Window};
    use crate::schema::Evolution;
    use crate::sink::{Decision, Outcome, TableInfo};
    use crate::time::Timestamp;

    const LANE: LaneId = LaneId::from_u128(7);

    /// A register of `plans` plans, of which the first ones are decided as `decided` says.
    fn register(plans: u64, decided: &[Outcome]) -> Register {
        block_on(async {
            let control = Place::new("mem://control", Arc::new(InMemory::new()), "").unwrap();
            let namespace = Namespace::new("users");
            let mut register = Register::open(&control, &namespace, LANE).await.unwrap();
            for seq in (1..=plans).map(Seq::new) {
                let plan = Plan {
                    version: Plan::VERSION,
                    lane: LANE,
                    seq,
                    previous: register.hash(seq.previous()),
                    namespace: namespace.clone(),
                    window: Window {
                        start: Timestamp::from_millis(0),
                        end: Timestamp::from_millis(1),
                    },
                    generation: seq.get() - 1,
                    sources: Vec::new(),
                    schema: Arc::new(Schema::empty()),
                    sort_order: Vec::new(),
                    evolve: Evolve::Never,
                    match_field_ids: false,
                };
                register.put_plan(&plan).await.unwrap();
            }
            for (seq, outcome) in (1..).map(Seq::new).zip(decided) {
                let decision = Decision {
                    version: 1,
                    lane: LANE,
                    seq,
                    outcome: *outcome,
                    plan_hash: register.hash(seq).unwrap(),
                    attempt: attempt(seq),
                    table_version: None,
                    outputs: Vec::new(),
                    decided_at: Timestamp::from_millis(0),
                    bad_sources: Vec::new(),
                };
                register.put_decision(&decision).await.unwrap();
            }
            register
        })
    }

    fn attempt(seq: Seq) -> AttemptId {
        AttemptId::from_u64(100 + seq.get())
    }

    /// A table whose newest entry is that of `seq`, as the register has it planned.
    fn table(register: &Register, seq: u64, outcome: Outcome) -> TableState {
        let seq = Seq::new(seq);
        let info = TableInfo {
            uuid: "t".to_owned(),
            version: 5,
            schema: Arc::new(Schema::empty()),
            evolution: Evolution::default(),
        };
        let marker = Marker {
            seq,
            outcome,
            plan_hash: register.hash(seq).map_or(HashPrefix::from_u64(0), |hash| hash.prefix()),
            attempt: attempt(seq),
        };
        TableState {
            table: Some(info),
            decided: Some(Decided { marker, entry: None }),
            ..TableState::default()
        }
    }

    fn halt(register: &Register, table: &TableState) -> String {
        check(register, table).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_register_beside_no_table_or_a_foreign_one_is_free() {
        let register = register(0, &[]);
        assert_eq!(check(&register, &TableState::default()), Ok(Standing::Free));
        let mut foreign = table(&register, 0, Outcome::Data);
        foreign.decided = None;
        assert_eq!(check(&register, &foreign), Ok(Standing::Free));
    }

    #[test]
    fn an_adopted_table_begins_with_a_marker_of_seq_0() {
        let fresh = register(0, &[]);
        assert_eq!(check(&fresh, &table(&fresh, 0, Outcome::Void)), Ok(Standing::Free));
        let planned = register(1, &[]);
        let adopted = table(&planned, 0, Outcome::Void);
        assert_eq!(check(&planned, &adopted), Ok(Standing::Undecided(Seq::new(1))));
    }

    #[test]
    fn a_plan_that_the_table_does_not_have_is_undecided() {
        let first = register(1, &[]);
        assert_eq!(
            check(&first, &TableState::default()),
            Ok(Standing::Undecided(Seq::new(1)))
        );
        let second = register(2, &[Outcome::Void]);
        assert_eq!(
            check(&second, &table(&second, 1, Outcome::Void)),
            Ok(Standing::Undecided(Seq::new(2)))
        );
    }

    #[test]
    fn an_entry_without_its_decision_is_to_be_recorded() {
        let register = register(2, &[Outcome::Data]);
        let table = table(&register, 2, Outcome::Void);
        let decided = table.decided.clone().unwrap();
        assert_eq!(check(&register, &table), Ok(Standing::ToRecord(Seq::new(2), decided)));
    }

    #[test]
    fn a_lane_whose_newest_plan_is_decided_and_recorded_is_free() {
        let register = register(2, &[Outcome::Void, Outcome::Data]);
        assert_eq!(
            check(&register, &table(&register, 2, Outcome::Data)),
            Ok(Standing::Free)
        );
    }

    #[test]
    fn a_lane_that_was_superseded_halts_before_anything_else() {
        let register = register(1, &[Outcome::Data]);
        let mut table = table(&register, 0, Outcome::Data);
        table.superseded = true;
        table.other_lanes = vec![LaneId::from_u128(8)];
        assert_eq!(check(&register, &table), Err(Halt::Superseded { lane: LANE }));
    }

    #[test]
    fn a_table_of_another_lane_halts_as_a_lost_register() {
        let register = register(0, &[]);
        let table = TableState {
            other_lanes: vec![LaneId::from_u128(8)],
            ..TableState::default()
        };
        assert!(matches!(check(&register, &table), Err(Halt::RegisterLost { .. })));
    }

    #[test]
    fn a_table_behind_the_newest_decision_was_rolled_back_or_dropped() {
        let register = register(2, &[Outcome::Data, Outcome::Data]);
        assert_eq!(
            halt(&register, &table(&register, 1, Outcome::Data)),
            "table rolled back: the table is at seq 1, but seq 2 was in it; `replay` puts in again what is missing, \
             `adopt` takes the table as it is"
        );
        assert!(halt(&register, &TableState::default()).starts_with("table rolled back: there is no table, but seq 2"),);
    }

    #[test]
    fn a_table_ahead_of_the_plans_halts_as_a_lost_register() {
        let register = register(1, &[Outcome::Data]);
        assert_eq!(
            halt(&register, &table(&register, 2, Outcome::Data)),
            "plan register lost: the table is at seq 2, but plans end at seq 1; `adopt` or `replay` goes on"
        );
    }

    #[test]
    fn a_table_ahead_of_the_decisions_by_more_than_one_halts_as_a_lost_register() {
        let register = register(3, &[Outcome::Data]);
        assert_eq!(
            halt(&register, &table(&register, 3, Outcome::Data)),
            "plan register lost: the table is at seq 3, but decisions end at seq 1; `adopt` or `replay` goes on"
        );
    }

    #[test]
    fn a_plan_made_while_the_one_before_was_undecided_halts_as_a_wrong_register() {
        let register = register(3, &[Outcome::Data]);
        assert_eq!(
            check(&register, &table(&register, 1, Outcome::Data)),
            Err(Halt::RegisterWrong {
                seq: Seq::new(3),
                detail: "planned while seq 2 was undecided".to_owned()
            })
        );
    }

    #[test]
    fn marker_plan_and_decision_must_agree_in_hash_outcome_and_attempt() {
        let register = register(2, &[Outcome::Data, Outcome::Data]);
        let wrong = |change: fn(&mut Marker)| {
            let mut table = table(&register, 2, Outcome::Data);
            change(&mut table.decided.as_mut().unwrap().marker);
            match check(&register, &table) {
                Err(Halt::RegisterWrong { seq, detail }) if seq == Seq::new(2) => detail,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            wrong(|marker| marker.plan_hash = HashPrefix::from_u64(1)),
            "the table names another plan"
        );
        assert_eq!(
            wrong(|marker| marker.outcome = Outcome::Void),
            "the table names another outcome"
        );
        assert_eq!(
            wrong(|marker| marker.attempt = AttemptId::from_u64(1)),
            "the table names another attempt"
        );
    }

    #[test]
    fn the_hash_of_an_entry_that_is_not_recorded_is_compared_as_well() {
        let register = register(1, &[]);
        let mut table = table(&register, 1, Outcome::Data);
        table.decided.as_mut().unwrap().marker.plan_hash = HashPrefix::from_u64(1);
        assert_eq!(
            check(&register, &table),
            Err(Halt::RegisterWrong {
                seq: Seq::new(1),
                detail: "the table names another plan".to_owned()
            })
        );
    }
}
