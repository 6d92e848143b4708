//! The status document: the guide's names, as a subset of ours.

use std::path::{Path, PathBuf};

use firnline::{
    Arrival, Counters, FileName, FileNameParser, HaltStatus, Health, HealthState, Namespace, ObjectKey, Observed,
    Options, PlanPhase, PlanProgress, PlanStatus, QuarantineReason, QuarantineStatus, QuarantinedFile, Seq, SourceFile,
    Status, Timestamp, WindowTracker,
};
use serde_json::Value;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(data(name)).unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Whether everything in `part` is in `whole`, with the same values.
fn assert_subset(part: &Value, whole: &Value, path: &str) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            for (name, value) in part {
                let found = whole.get(name).unwrap_or_else(|| panic!("{path}/{name} is missing"));
                assert_subset(value, found, &format!("{path}/{name}"));
            }
        }
        (Value::Array(part), Value::Array(whole)) => {
            assert_eq!(part.len(), whole.len(), "{path}");
            for (index, (part, whole)) in part.iter().zip(whole).enumerate() {
                assert_subset(part, whole, &format!("{path}/{index}"));
            }
        }
        _ => assert_eq!(part, whole, "{path}"),
    }
}

#[test]
fn the_guides_document_is_read_and_written_back_as_a_part_of_ours() {
    let guide = read("status.guide.json");
    let status: Status = serde_json::from_str(&guide).unwrap();
    assert_eq!(status.windows[0].window_start, time("2024-11-14T00:00:00Z"));
    assert_eq!(status.health.state, HealthState::Healthy);
    let ours = serde_json::to_value(&status).unwrap();
    assert_subset(&serde_json::from_str(&guide).unwrap(), &ours, "");
    assert_eq!(serde_json::from_value::<Status>(ours).unwrap(), status);
}

fn tracked() -> (WindowTracker, Timestamp) {
    let options = Options::default().with_min_files_to_compact(2).validated().unwrap();
    let names = firnline::DefaultFileNames::from_options(&options);
    let mut tracker = WindowTracker::new(options);
    let now = time("2023-11-14T23:10:00Z");
    for (key, size) in [
        ("data/users/1700001234567-writer1-0.parquet", 100),
        ("data/users/1700001234567-writer2-0.parquet", 200),
        ("data/users/1700001235000-writer1-1.parquet", 300),
        ("data/users/1700003600000-writer3-0.parquet", 400),
        ("data/orders/1700003100000-writer1-2.parquet", 500),
        ("data/orders/1700089600000-writer1-3.parquet", 600),
    ] {
        let key = ObjectKey::new(key);
        let name: FileName = names.parse(&key).unwrap();
        let seen = name.timestamp.min(now);
        let file = SourceFile {
            key,
            name,
            size,
            etag: None,
        };
        assert_eq!(tracker.handle_file(file, Arrival::Event, seen), Observed::Recorded);
    }
    (tracker, now)
}

#[test]
fn a_full_document_is_written_as_it_was() {
    let (mut tracker, now) = tracked();
    tracker.pause(&Namespace::new("orders"), true);
    let found = tracker.status(now);
    let mut status = Status {
        active_windows: found.windows.len(),
        known_writers: found.known_writers,
        active_writers: found.active_writers,
        windows: found.windows,
        plans: vec![PlanStatus {
            seq: Seq::new(7),
            window_key: "users:1699995600000".to_owned(),
            phase: PlanPhase::Merging,
            attempt: 2,
            started_at: time("2023-11-14T22:05:00Z"),
            progress: Some(PlanProgress {
                rows_done: 10,
                rows_total: 40,
                bytes_written: 2_048,
            }),
            last_error: Some("put failed: 503 Slow Down".to_owned()),
        }],
        quarantine: QuarantineStatus::new((0..101).map(|n| QuarantinedFile {
            key: ObjectKey::new(format!("data/users/{n}.parquet")),
            reason: QuarantineReason::Vanished,
            since: time("2023-11-14T20:00:00Z"),
        })),
        halts: vec![HaltStatus {
            namespace: Namespace::new("orders"),
            reason: "table rolled back".to_owned(),
        }],
        counters: Counters {
            events_received: 120,
            duplicates: 4,
            unrelated_keys: 3,
            malformed_keys: 2,
            bad_messages: 1,
            damaged_state: 0,
            found_by_listing: 5,
            events_expected: true,
            last_event_at: Some(time("2023-11-14T22:00:00.250Z")),
            last_listing_at: None,
        },
        health: Health::default(),
    };
    status.health = Health::assess(&status, now);
    assert_eq!((status.quarantine.count, status.quarantine.files.len()), (101, 100));
    status.quarantine.files.truncate(1);

    let text = serde_json::to_string_pretty(&status).unwrap() + "\n";
    if std::env::var_os("FIRNLINE_REWRITE").is_some() {
        std::fs::write(data("status.json"), &text).unwrap();
    }
    assert_eq!(text, read("status.json"));
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
}
