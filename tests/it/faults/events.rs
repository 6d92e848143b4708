//! Every event many times, in any order, before and after its file was committed and reclaimed.

use firnline::testing::{Faults, SeededRandomness};

use crate::faults::oracle::{check_end, check_swept, entries};
use crate::faults::rig::{Driver, Happening, MINUTE, Rig, Script};
use crate::faults::times;
use crate::world::{HOUR, at};

/// Each file is notified of up to 20 times at random, at any time from when it was written on.
fn storm(seed: u64) -> Script {
    let dice = SeededRandomness::new(seed);
    let mut script = Script::whole_run();
    let written: Vec<_> = script
        .steps
        .iter()
        .filter(|(_, happening)| matches!(happening, Happening::Written(_)))
        .cloned()
        .collect();
    let mut notices = Vec::new();
    for (moment, happening) in &written {
        let Happening::Written(index) = happening else { continue };
        for _ in 0..=dice.below(20) {
            // Most soon, some after the commit, some after the reclaim.
            let within = [5, 120, 3_000][dice.below(3) as usize];
            let later = dice.below(within) * MINUTE as u64;
            notices.push((*moment + later, Happening::Notified(*index)));
        }
    }
    // In any order among those of a minute.
    for at in (1..notices.len()).rev() {
        notices.swap(at, dice.below(at as u64 + 1) as usize);
    }
    script.steps.clear();
    script.steps.extend(written);
    script.steps.extend(notices);
    script.sort();
    script
}

#[test]
fn events_that_come_again_and_again_in_any_order_change_nothing() {
    for seed in 0..times(100) {
        let what = format!("seed {seed}");
        let rig = Rig::new(Faults::none());
        let script = storm(seed);
        let mut driver = Driver::new(&rig, script.clone());
        driver.to_the_end();
        let status = driver.status();
        check_end(&rig, &script, &status, &what);
        check_swept(&rig, &what);
        assert_eq!(rig.truth.table_rows("users").len(), 18, "{what}");
        assert!(entries(&rig).len() <= 7, "{what}: {:#?}", entries(&rig));
    }
}

#[test]
fn a_thousand_copies_of_an_event_leave_counts_and_readiness_as_they_are() {
    let rig = Rig::new(Faults::none());
    let mut once = Driver::new(&rig, Script::whole_run());
    once.until(at(HOUR + 3 * MINUTE));
    let before = once.status();
    for _ in 0..1_000 {
        once.script.steps.push_front((rig.now(), Happening::Notified(1)));
    }
    once.until(at(HOUR + 3 * MINUTE + 1));
    let after = once.status();
    assert_eq!(after.windows, before.windows);
    assert_eq!(after.windows[0].file_count, 3);
    assert_eq!(after.counters.duplicates, 1_000);
}
