//! An end that is asked for from outside.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures::task::AtomicWaker;

/// What a shell says of a process that was interrupted.
const INTERRUPTED: i32 = 130;

/// Whether somebody has asked for the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicBool,
    waker: AtomicWaker,
}

impl Interrupt {
    /// Listens for signals that ask for the end; the second one ends the process at once, which does no harm either.
    pub(crate) fn listen() -> Self {
        let interrupt = Self::default();
        let shared = Arc::clone(&interrupt.shared);
        let listening = ctrlc::set_handler(move || {
            if shared.asked.swap(true, Ordering::SeqCst) {
                std::process::exit(INTERRUPTED);
            }
            shared.waker.wake();
        });
        if let Err(error) = listening {
            eprintln!("a signal will end this at once: {error}");
        }
        interrupt
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Waits until the end is asked for; only one task at a time.
    pub(crate) async fn asked(&self) {
        poll_fn(|context| {
            self.shared.waker.register(context.waker());
            match self.is_asked() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}
