//! A control object that is not what it should be stops its own lane and no other.

use firnline::EventOutcome;

use super::support::{put, tell};
use crate::world::{HOUR, World, at, work_until};

#[test]
fn a_damaged_manifest_halts_its_lane_and_the_others_go_on() {
    let world = World::new();
    put(&world.control, "lanes/broken/lane.json", b"{".to_vec());
    let now = at(HOUR + 3_600_000);
    let mut compactor = world.open(now);
    let (first, mut rows) = world.write_some("users", HOUR + 1, "w1", 0, 5);
    let (second, more) = world.write_some("users", HOUR + 2, "w2", 0, 5);
    let (third, _) = world.write_some("broken", HOUR + 2, "w2", 0, 5);
    let told = tell(&mut compactor, &[first, second, third], now);
    assert_eq!(told[..2], [Ok(EventOutcome::Recorded), Ok(EventOutcome::Recorded)]);
    assert!(told[2].is_err(), "not to be acknowledged: {told:?}");
    work_until(&mut compactor, now, at(HOUR + 4 * 3_600_000));
    rows.extend(more);
    rows.sort();
    assert_eq!(world.table_rows("users"), rows);
    let halts = compactor.status(now).halts;
    assert_eq!(halts.len(), 1);
    assert_eq!(halts[0].namespace.as_str(), "broken");
    assert!(halts[0].reason.contains("lane.json"), "{}", halts[0].reason);
    assert_eq!(world.sources(), ["data/broken/1699999200002-w2-0.parquet"]);
}
