//! The conformance suites: all that this crate brings passes them, and each of their rules catches an implementation
//! that breaks nothing but that rule.
#![cfg(feature = "testing")]

mod catalog;
mod event_source;
mod object_store;
mod state_store;
mod table_sink;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::executor::block_on;

/// Checks that a suite catches a broken implementation for each of its rules, with the sentence of that rule.
fn catches_all<B>(rules: &[&str], broken: &[(&str, B)], run: impl Fn(&B)) {
    let listed: BTreeSet<_> = broken.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(
        listed,
        rules.iter().copied().collect(),
        "each rule has something that breaks it"
    );
    let mut wrong = Vec::new();
    for (rule, broken) in broken {
        let caught = match catch_unwind(AssertUnwindSafe(|| run(broken))) {
            Ok(()) => "nothing was noticed".to_owned(),
            Err(panic) => match panic.downcast::<String>() {
                Ok(message) => *message,
                Err(_) => "another panic".to_owned(),
            },
        };
        if !caught.starts_with(&format!("broken rule: {rule}. ")) {
            wrong.push(format!("{rule}\n    {caught}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "not caught, or by another rule:\n{}",
        wrong.join("\n")
    );
}

/// Lets others act.
async fn give_way() {
    let mut gave = false;
    futures::future::poll_fn(|context| {
        if std::mem::replace(&mut gave, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

fn wait<F: Future>(suite: F) -> F::Output {
    block_on(suite)
}

/// Runs something that waits by itself where this thread waits for a suite already.
fn elsewhere<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}
