//! How a command ends when it cannot do what was asked.

use std::io::Write;
use std::process::ExitCode;

use serde_json::json;

/// Ends with what is wrong about the usage.
pub(crate) fn refuse(error: &clap::Error, json: bool) -> ExitCode {
    let _ = error.print();
    let text = error.to_string();
    let message: Vec<&str> = text
        .lines()
        .take_while(|line| !line.is_empty())
        .map(str::trim)
        .collect();
    failed(message.join(" ").trim_start_matches("error: "), 2, json)
}

/// Ends without a report.
pub(crate) fn failed(message: &str, code: u8, json: bool) -> ExitCode {
    if json {
        put(&format!("{:#}", json!({ "error": message, "exitCode": code })));
    }
    ExitCode::from(code)
}

/// Prints a line. A reader that has seen enough closes the pipe; that is not an error of ours.
pub(crate) fn put(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
