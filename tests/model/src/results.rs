//! Searches run beside each other, and told in order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::action::Kind;
use crate::cases::{CASES, Case};
use crate::config::Config;
use crate::configurations::CONFIGS;
use crate::model::LaneModel;
use crate::mutants::Mutants;
use crate::search::{Found, search};

/// Searches that run at once. Each is single-threaded, so that what it finds is always the same; the largest needs 4 GB.
const MOST_AT_ONCE: usize = 2;

/// Searches every configuration; with a limit, in the order of their size, and begins none after it. Says whether all
/// hold, and, without a limit, whether every kind of step was taken.
pub fn configurations(limit: Option<Duration>) -> bool {
    println!("{}", heading());
    let (mut states, mut steps, mut broken, mut searched) = (0, 0, 0, 0);
    let mut kinds = vec![0; Kind::ALL.len()];
    let began = Instant::now();
    let model = |config: &'static Config| LaneModel {
        config,
        mutants: Mutants::default(),
    };
    run(CONFIGS, limit, model, |config, found, seconds| {
        println!("{}", row(config.name, found, seconds));
        states += found.states;
        steps += found.steps;
        searched += 1;
        broken += usize::from(found.violation.is_some());
        kinds
            .iter_mut()
            .zip(&found.kinds)
            .for_each(|(sum, count)| *sum += count);
    });
    let seconds = began.elapsed().as_secs_f64();
    let all = CONFIGS.len();
    println!("{searched} of {all} configurations, {states} states, {steps} steps, {seconds:.0} s, {broken} broken");
    let is_whole = limit.is_none();
    let taken = kinds.iter().filter(|count| **count > 0).count();
    if is_whole {
        println!("{taken} of {} kinds of steps taken", Kind::ALL.len());
        for (kind, _) in Kind::ALL.iter().zip(&kinds).filter(|(_, count)| **count == 0) {
            println!("never taken: {kind:?}");
        }
    }
    broken == 0 && searched > 0 && (!is_whole || taken == Kind::ALL.len())
}

/// Leaves rules out, case by case. Says whether each breaks what it should.
pub fn mutants() -> bool {
    let (mut missed, mut caught, mut survived) = (0, 0, 0);
    let model = |case: &'static Case| LaneModel {
        config: case.configuration(),
        mutants: Mutants::of(case.mutants),
    };
    run(CASES, None, model, |case, found, _| {
        let names: Vec<_> = case.mutants.iter().map(ToString::to_string).collect();
        let violation = found.violation.as_ref();
        let verdict = match (violation, case.breaks) {
            (Some(found), Some(expected)) if found.property == expected => "caught",
            (None, None) => "guarded twice",
            _ => "MISSED",
        };
        match verdict {
            "caught" => caught += 1,
            "MISSED" => missed += 1,
            _ => survived += 1,
        }
        let what = violation.map_or_else(
            || format!("holds in {} states", found.states),
            |violation| format!("{} [{}]", violation.property, violation.trace.len()),
        );
        println!("{verdict:14} {:16} {:48} {what}", case.config, names.join(","));
    });
    println!("{caught} caught, {survived} guarded by another rule as well, {missed} missed");
    missed == 0
}

/// Searches one configuration and tells the way to what is broken.
pub fn one(config: &'static Config, mutants: Mutants) -> bool {
    let began = Instant::now();
    let found = search(LaneModel { config, mutants });
    println!(
        "{}\n{}",
        heading(),
        row(config.name, &found, began.elapsed().as_secs_f64())
    );
    let Some(violation) = found.violation else { return true };
    for (number, action) in violation.trace.iter().enumerate() {
        println!("{:4}  {action}", number + 1);
    }
    false
}

/// Runs searches, a few at once, and hands over what each has found, in order.
fn run<T: Sync>(
    jobs: &'static [T],
    limit: Option<Duration>,
    model: impl Fn(&'static T) -> LaneModel + Sync,
    mut tell: impl FnMut(&'static T, &Found, f64),
) {
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let at_once = thread::available_parallelism().map_or(1, usize::from).min(MOST_AT_ONCE);
    let (sender, found) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..at_once {
            let (sender, next, model) = (sender.clone(), &next, &model);
            scope.spawn(move || {
                while limit.is_none_or(|limit| began.elapsed() < limit) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(number) else { return };
                    let began = Instant::now();
                    let found = search(model(job));
                    if sender.send((number, found, began.elapsed().as_secs_f64())).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early: Vec<(usize, Found, f64)> = Vec::new();
        let mut told = 0;
        for of_job in found {
            early.push(of_job);
            while let Some(at) = early.iter().position(|(number, ..)| *number == told) {
                let (number, found, seconds) = early.swap_remove(at);
                if let Some(job) = jobs.get(number) {
                    tell(job, &found, seconds);
                }
                told += 1;
            }
        }
    });
}

fn heading() -> String {
    format!(
        "{:18} {:>9} {:>9} {:>5} {:>8} {:>6}  result",
        "configuration", "states", "steps", "depth", "goals", "s"
    )
}

fn row(name: &str, found: &Found, seconds: f64) -> String {
    let Found {
        states,
        steps,
        depth,
        goals,
        ..
    } = found;
    let result = match &found.violation {
        None => "holds".to_owned(),
        Some(violation) => format!("BROKEN after {} steps: {}", violation.trace.len(), violation.property),
    };
    format!("{name:18} {states:9} {steps:9} {depth:5} {goals:8} {seconds:6.1}  {result}")
}
