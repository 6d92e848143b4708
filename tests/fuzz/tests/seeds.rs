//! All seeds, replayed: what was found once stays found.

use std::fs;
use std::path::Path;

use firnline_fuzz::targets;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 9] = [
    ("delta_log", targets::delta_log),
    ("events", targets::events),
    ("footer", targets::footer),
    ("iceberg", targets::iceberg),
    ("keys", targets::keys),
    ("merge", targets::merge),
    ("plan", targets::plan),
    ("state", targets::state),
    ("status", targets::status),
];

#[test]
fn seeds_break_nothing() {
    for (name, target) in TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut seeds = 0;
        for entry in fs::read_dir(&directory).expect("each target has seeds") {
            let path = entry.expect("a directory that can be listed").path();
            target(&fs::read(&path).expect("a file that can be read"));
            seeds += 1;
        }
        assert!(seeds > 0, "{name}");
    }
}
