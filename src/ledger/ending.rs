//! The end of a lane before its first plan, so that other settings may be taken.
//!
//! The place of the first plan is taken by an object that names the lane's successor: as it is created once, either
//! the lane has a first plan and keeps its settings, or everybody finds the same successor, also who is late.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::ids::{LaneId, Seq};
use crate::ledger::manifest::LaneManifest;
use crate::ledger::objects::{self, Created};
use crate::ledger::register::Register;
use crate::naming::Namespace;
use crate::place::Place;

/// `plans/1.json` of a lane that has ended before its first plan.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ending {
    successor: LaneManifest,
}

/// Whether these bytes in the place of a plan say that its lane has ended.
pub(crate) fn is_ending(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Ending>(bytes).is_ok()
}

/// Whether a lane has ended before its first plan.
pub(crate) async fn has_ended(control: &Place, namespace: &Namespace, lane: LaneId) -> Result<bool> {
    Ok(read(control, namespace, lane).await?.is_some())
}

/// The lane that has taken the place of one that ended before its first plan.
pub(crate) async fn successor(control: &Place, lane: &LaneManifest) -> Result<Option<LaneManifest>> {
    let ending = read(control, &lane.namespace, lane.lane).await?;
    Ok(ending.map(|ending| ending.successor))
}

async fn read(control: &Place, namespace: &Namespace, lane: LaneId) -> Result<Option<Ending>> {
    let path = Register::dir_of(control, namespace, lane)?
        .join("plans")
        .join(format!("{}.json", Seq::new(1)));
    let Some((bytes, _)) = objects::read(control.store().as_ref(), &path).await? else {
        return Ok(None);
    };
    let Ok(ending) = serde_json::from_slice(&bytes) else {
        return Ok(None);
    };
    // Below the floor nothing says anything: somebody was too late.
    let floor = Register::open(control, namespace, lane).await?.floor().seq;
    Ok((floor == Seq::ZERO).then_some(ending))
}

/// Ends a lane that has no plan in favour of `wanted`. Says which lane is its successor: perhaps another one, if
/// somebody else was first; `None` if the lane has a plan.
pub(crate) async fn end(control: &Place, lane: &LaneManifest, wanted: &LaneManifest) -> Result<Option<LaneManifest>> {
    let register = Register::open(control, &lane.namespace, lane.lane).await?;
    if register.floor().seq > Seq::ZERO {
        return Ok(None);
    }
    let path = register.plan_path(Seq::new(1));
    let ending = Ending {
        successor: wanted.clone(),
    };
    match objects::read(control.store().as_ref(), &path).await? {
        Some(_) => {}
        None => match objects::create_once(control.store().as_ref(), &path, objects::encode(&ending)?).await? {
            Created::Ours | Created::Theirs(_) => {}
        },
    }
    successor(control, lane).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::executor::block_on;
    use object_store::memory::InMemory;

    use super::*;
    use crate::halt::{Halt, LaneError};
    use crate::ledger::manifest::tests::manifest;
    use crate::ledger::register::Floor;
    use crate::time::Timestamp;

    fn lane(id: u128) -> LaneManifest {
        LaneManifest {
            lane: LaneId::from_u128(id),
            ..manifest()
        }
    }

    fn control() -> Place {
        Place::new("memory:///c", Arc::new(InMemory::new()), "control").unwrap()
    }

    #[test]
    fn who_is_first_names_the_successor_and_nobody_plans_any_more() {
        let control = control();
        block_on(async {
            let old = lane(7);
            assert_eq!(successor(&control, &old).await.unwrap(), None);
            assert_eq!(end(&control, &old, &lane(8)).await.unwrap(), Some(lane(8)));
            assert_eq!(end(&control, &old, &lane(9)).await.unwrap(), Some(lane(8)));
            assert_eq!(successor(&control, &old).await.unwrap(), Some(lane(8)));
            let mut register = Register::open(&control, &old.namespace, old.lane).await.unwrap();
            let halted = register.refresh().await.unwrap_err();
            assert!(matches!(halted, LaneError::Halted(Halt::Superseded { lane }) if lane == old.lane));
        });
    }

    #[test]
    fn a_lane_with_a_plan_or_with_forgotten_plans_does_not_end() {
        let control = control();
        block_on(async {
            let (planned, forgotten) = (lane(7), lane(8));
            let path = Register::open(&control, &planned.namespace, planned.lane)
                .await
                .unwrap();
            objects::create_once(control.store().as_ref(), &path.plan_path(Seq::new(1)), "{}".into())
                .await
                .unwrap();
            assert_eq!(end(&control, &planned, &lane(9)).await.unwrap(), None);
            let mut register = Register::open(&control, &forgotten.namespace, forgotten.lane)
                .await
                .unwrap();
            let floor = Floor {
                seq: Seq::new(1),
                plan_hash: None,
                boundary: Some(Timestamp::from_millis(0)),
            };
            register.prune(floor).await.unwrap();
            assert_eq!(end(&control, &forgotten, &lane(9)).await.unwrap(), None);
            assert_eq!(successor(&control, &forgotten).await.unwrap(), None);
        });
    }
}
