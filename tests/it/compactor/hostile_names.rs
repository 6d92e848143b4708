//! Keys that strangers chose: whatever they say, nothing outside the places of a compactor is touched, and no line of a log
//! is forged.
#![cfg(feature = "testing")]

use std::collections::BTreeSet;
use std::sync::Arc;

use firnline::ObjectEvent;
use firnline::testing::{FaultStore, Faults};
use futures::executor::block_on;

use super::support::{DAY, END, errors, put, two_good};
use crate::world::{HOUR, World, at, work_until};

/// Keys outside the prefix, keys that climb out of it, and keys that would break a log.
fn hostile_keys() -> Vec<String> {
    let good = format!("{HOUR}-w1-1.parquet");
    let mut keys = vec![
        "/etc/passwd".to_owned(),
        "..".to_owned(),
        String::new(),
        format!("firnline/lanes/users/{good}"),
        format!("data/users/../../tables/users/{good}"),
        format!("data/../firnline/{good}"),
        format!("data/users/%2e%2e/%2e%2e/{good}"),
        format!("data//{good}"),
        format!("/data/users/{good}"),
        format!("DATA/users/{good}"),
        format!("data/users/./{good}"),
        format!("data/users/_delta_log/{good}"),
        format!("data/metadata/{good}"),
        format!("data/{}/{good}", "deep/".repeat(400)),
        format!("data/users/{}-w1-1.parquet", "9".repeat(900)),
        format!("data/us\u{0}ers/{good}"),
        format!("data/users/{HOUR}-w\u{1b}[2K-1.parquet"),
        format!("data/users/{HOUR}-w1\nERROR all is lost-1.parquet"),
        format!("data/eu\r\nWARN\u{2028}x/{good}"),
        format!("data/users/x\u{202e}\n{good}"),
    ];
    keys.extend((0..32_u8).map(|control| format!("data/users/{HOUR}-{}-1.parquet", char::from(control))));
    keys
}

/// A world whose stores write down what is asked of them.
fn logged() -> (World, Faults) {
    let (mut world, faults) = (World::new(), Faults::none());
    for (store, name) in [
        (&mut world.bucket, "bucket"),
        (&mut world.control, "control"),
        (&mut world.tables, "tables"),
    ] {
        *store = Arc::new(FaultStore::new(Arc::clone(store), name, &faults));
    }
    (world, faults)
}

fn misleads(text: &str) -> bool {
    text.contains(|char: char| char.is_control() || matches!(char, '\u{2028}' | '\u{202e}'))
}

#[test]
fn no_key_leads_outside_of_the_places_of_a_compactor() {
    let (world, faults) = logged();
    let mut compactor = world.open(at(END));
    let from = faults.operations();
    for key in hostile_keys() {
        let event = ObjectEvent::created(key).with_size(10).with_etag("e");
        let _ = block_on(compactor.handle_events(&[event], at(END)));
    }
    work_until(&mut compactor, at(END), at(END + 2 * DAY));
    for operation in faults.log_from(from) {
        let path = operation.path.as_str();
        assert!(!path.split('/').any(|segment| segment == ".."), "{operation:?}");
        let is_inside = match operation.store.as_str() {
            "bucket" => path == "data" || path.starts_with("data/"),
            "control" => path.is_empty() || path == "firnline.json" || path.starts_with("lanes"),
            _ => !path.starts_with('/'),
        };
        assert!(is_inside, "{operation:?}");
    }
}

#[test]
fn no_key_stops_the_files_beside_it() {
    let (world, _) = logged();
    let mut compactor = world.open(at(END));
    // Whoever has a namespace first keeps it, see `mapped`.
    let (_, rows) = two_good(&world, &mut compactor);
    for key in hostile_keys() {
        // Keys that a store can have at all are there, with content that is no Parquet.
        if firnline::object_store::path::Path::parse(&key).is_ok_and(|path| !path.as_ref().is_empty()) {
            let _ = put(&world.bucket, &key, b"PAR1 no PAR1".to_vec());
        }
        let _ = block_on(compactor.handle_events(&[ObjectEvent::created(key)], at(END)));
    }
    block_on(compactor.reconcile(at(END))).unwrap();
    work_until(&mut compactor, at(END), at(END + 2 * DAY));
    assert_eq!(world.table_rows("users"), rows);
}

#[test]
fn what_is_shown_of_a_key_stays_on_its_line() {
    let (world, _) = logged();
    let mut compactor = world.open(at(END));
    let mut lines = BTreeSet::new();
    for key in hostile_keys() {
        let handled = block_on(compactor.handle_events(&[ObjectEvent::created(key)], at(END)));
        let failed = handled.outcomes().iter().filter_map(|outcome| outcome.as_ref().err());
        lines.extend(failed.map(|error| format!("{error} {}", error.chain())));
    }
    let reports = work_until(&mut compactor, at(END), at(END + 2 * DAY));
    lines.extend(errors(&reports));
    let now = at(END + 2 * DAY);
    lines.extend(compactor.quarantined(now).map(|file| file.reason.to_string()));
    lines.extend(
        compactor
            .status(now)
            .health
            .reasons
            .into_iter()
            .map(|reason| reason.message),
    );
    assert!(lines.len() > 5, "{lines:?}");
    let forged: Vec<_> = lines.iter().filter(|line| misleads(line)).collect();
    assert_eq!(forged, Vec::<&String>::new());
}
