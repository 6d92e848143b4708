//! Two faults in a whole run, the second of which may strike what the first has brought about.
//!
//! `FIRNLINE_PAIRS=a..b` tries all pairs whose first operation is one of these, on a store without limits.

use firnline::testing::{Fault, Faults, Operation, Profile, SeededRandomness};

use crate::faults::one::{run, strikes};
use crate::faults::{PROFILES, times};

fn both(profile: Profile, first: (usize, Fault), second: (usize, Fault)) -> Vec<Operation> {
    let faults = Faults::at(first.0, first.1).and(second.0, second.1);
    let what = format!(
        "{:?} at {}, {:?} at {} on {profile:?}",
        first.1, first.0, second.1, second.0
    );
    run(profile, faults, &what)
}

#[test]
fn two_faults_cost_nothing() {
    let dice = SeededRandomness::new(2);
    let draw = |below: usize| usize::try_from(dice.below(below as u64)).unwrap();
    let operations = run(Profile::S3, Faults::none(), "no fault").len();
    let (tried, mut struck) = (times(200), 0);
    for _ in 0..tried {
        let profile = PROFILES[draw(PROFILES.len())];
        // What lags behind would have to be chosen by its operation, which the first fault may move.
        let fault = || loop {
            let fault = Fault::ALL[draw(Fault::ALL.len())];
            if fault != Fault::StaleRead {
                return fault;
            }
        };
        let (one, other) = (fault(), fault());
        let (at, later) = (draw(operations), 1 + draw(operations));
        let log = both(profile, (at, one), (at + later, other));
        struck += usize::from(log.iter().filter(|operation| operation.fault.is_some()).count() == 2);
    }
    println!("{tried} pairs of faults, of which {struck} have struck both");
}

#[test]
fn pairs_that_are_asked_for_cost_nothing() {
    let Ok(asked) = std::env::var("FIRNLINE_PAIRS") else {
        return;
    };
    let (from, to) = asked.split_once("..").unwrap();
    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
    let operations = run(Profile::S3, Faults::none(), "no fault");
    let mut tried = 0_u64;
    for operation in operations.iter().take(to).skip(from) {
        for one in Fault::ALL.into_iter().filter(|fault| strikes(*fault, operation)) {
            let at = operation.index;
            let then = run(Profile::S3, Faults::at(at, one), &format!("{one:?} at {at}"));
            for later in then.iter().skip(at + 1) {
                for other in Fault::ALL.into_iter().filter(|fault| strikes(*fault, later)) {
                    both(Profile::S3, (at, one), (later.index, other));
                    tried += 1;
                }
            }
        }
    }
    println!("{tried} pairs of faults");
}
