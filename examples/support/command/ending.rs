//! How a command ends when it cannot do what was asked.

use std::io::{ErrorKind, Write};
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

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
        // What is wrong stands on standard error already.
        let _ = put(&format!("{:#}", json!({ "error": message, "exitCode": code })));
    }
    ExitCode::from(code)
}

/// Prints a line, or says why it cannot. A reader that has seen enough closes the pipe; that is not an error of ours.
pub(crate) fn put(line: &str) -> Result<(), String> {
    let mut out = std::io::stdout();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("standard output cannot be written: {error}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Runs a command whose library catches panics of decoders: of these nothing is printed, of any other the message.
pub(crate) fn quietly<T>(run: impl FnOnce() -> T) -> T {
    let last = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&last);
    let this_thread = std::thread::current().id();
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() == this_thread {
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
        } else {
            default_hook(info);
        }
    }));
    match std::panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(done) => done,
        Err(panic) => {
            eprintln!("{}", last.lock().unwrap_or_else(PoisonError::into_inner));
            std::panic::resume_unwind(panic)
        }
    }
}
