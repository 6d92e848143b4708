//! The command line: what to search, and whether all that was searched holds.

use std::process::ExitCode;
use std::time::Duration;

use firnline_model::cases::CASES;
use firnline_model::config::Config;
use firnline_model::configurations::CONFIGS;
use firnline_model::mutants::{Mutant, Mutants};
use firnline_model::results;

const USAGE: &str = "usage: firnline-model all | quick [SECONDS] | mutants | one CONFIG [MUTANT,...] | list";

/// Seconds after which `quick` begins no further configuration.
const QUICK_SECONDS: u64 = 60;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let is_good = match words.as_slice() {
        ["all"] => Ok(results::configurations(None)),
        ["quick"] => Ok(results::configurations(Some(Duration::from_secs(QUICK_SECONDS)))),
        ["quick", seconds] => match seconds.parse() {
            Ok(seconds) => Ok(results::configurations(Some(Duration::from_secs(seconds)))),
            Err(_) => Err(format!("not a number of seconds: {seconds}")),
        },
        ["mutants"] => Ok(results::mutants()),
        ["one", config] => one(config, ""),
        ["one", config, mutants] => one(config, mutants),
        ["list"] => {
            list();
            Ok(true)
        }
        _ => Err(USAGE.to_owned()),
    };
    match is_good {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

/// Searches one configuration with some rules left out, and tells how it breaks.
fn one(config: &str, mutants: &str) -> Result<bool, String> {
    let config = Config::named(config).ok_or_else(|| format!("no such configuration: {config}"))?;
    let named = |name: &str| {
        let mut all = Mutant::ALL.iter().copied();
        all.find(|mutant| mutant.to_string() == name)
            .ok_or_else(|| format!("no such mutant: {name}"))
    };
    let names = mutants.split(',').filter(|name| !name.is_empty());
    let mutants = names.map(named).collect::<Result<Vec<_>, _>>()?;
    Ok(results::one(config, Mutants::of(&mutants)))
}

fn list() {
    println!("configurations:");
    for config in CONFIGS {
        println!("  {:18} {}", config.name, config.about);
    }
    println!("mutants, and where they are tried:");
    for mutant in Mutant::ALL {
        let cases = CASES.iter().filter(|case| case.mutants.contains(mutant));
        let configs: Vec<_> = cases.map(|case| case.config).collect();
        println!("  {:24} {}", mutant.to_string(), configs.join(", "));
    }
}
