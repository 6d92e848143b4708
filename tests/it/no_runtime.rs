//! The library brings no runtime, no thread, no clock and no file system of its own.

use std::fs;

use crate::layering::sources;

/// What must not be named anywhere in `src`.
const FORBIDDEN: &[&str] = &[
    "tokio",
    "SystemTime::now",
    "Instant::now",
    "Utc::now",
    "Local::now",
    "std::thread",
    "thread::spawn",
    "std::fs",
    "BufWriter",
    "WriteMultipart",
];

#[test]
fn no_source_file_names_a_runtime_a_clock_a_thread_or_the_file_system() {
    let mut wrong = Vec::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        for (n, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            wrong.extend(
                FORBIDDEN
                    .iter()
                    .filter(|word| code.contains(**word))
                    .map(|word| format!("{}:{}: `{word}`", file.display(), n + 1)),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
