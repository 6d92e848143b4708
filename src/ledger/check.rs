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
