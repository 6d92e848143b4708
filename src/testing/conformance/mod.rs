//! Suites that a host runs against its own implementations of this crate's traits, and against its object store.
//!
//! Each takes a function that makes something fresh and empty to be tried, and panics with the sentence of the rule
//! that is broken; all its sentences are listed beside it. They need no runtime of their own: await them in whatever
//! test harness there is, inside the runtime that the implementation needs, with whatever time-out is apt.
//!
//! | what is tried | suite | rules |
//! |---|---|---|
//! | [`StateStore`](crate::StateStore) | [`state_store`](state_store()) | [`STATE_STORE_RULES`] |
//! | [`EventSource`](crate::EventSource) | [`event_source`](event_source()) | [`EVENT_SOURCE_RULES`] |
//! | [`ObjectStore`](crate::object_store::ObjectStore) | [`object_store`](object_store()) | [`OBJECT_STORE_RULES`] |
//! | [`TableSink`](crate::TableSink) | [`table_sink`](table_sink()) | [`TABLE_SINK_RULES`] |
//! | `iceberg::Catalog` | `catalog` | `CATALOG_RULES` |
#![expect(
    clippy::panic,
    clippy::future_not_send,
    reason = "a suite panics where a contract is broken, and runs where the host's test runs"
)]

#[cfg(feature = "iceberg")]
mod catalog;
mod event_source;
mod object_store;
mod state_store;
mod table_sink;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures::poll;

use super::yielding::give_way;
use crate::error::Result;

#[cfg(feature = "iceberg")]
#[cfg_attr(docsrs, doc(cfg(feature = "iceberg")))]
pub use catalog::{CATALOG_RULES, CatalogTrial, catalog};
pub use event_source::{EVENT_SOURCE_RULES, EventQueue, event_source};
pub use object_store::{OBJECT_STORE_RULES, ObjectStoreClaims, object_store};
pub use state_store::{STATE_STORE_RULES, state_store};
pub use table_sink::{TABLE_SINK_RULES, TableTrial, table_sink};

/// The same thing as two workers have it: each its own handle. What lives within one process may be given twice.
#[derive(Debug)]
pub struct Handles<T: ?Sized>([Arc<T>; 2]);

impl<T: ?Sized> From<Arc<T>> for Handles<T> {
    /// One handle that the workers share.
    fn from(shared: Arc<T>) -> Self {
        Self([Arc::clone(&shared), shared])
    }
}

impl<T: ?Sized> From<[Arc<T>; 2]> for Handles<T> {
    /// A handle for each worker.
    fn from(handles: [Arc<T>; 2]) -> Self {
        Self(handles)
    }
}

/// Panics with the sentence of a rule unless it is kept.
#[track_caller]
fn keep(rule: &str, is_kept: bool, found: impl fmt::Debug) {
    if !is_kept {
        broken(rule, format!("found `{found:?}`"));
    }
}

#[track_caller]
fn broken(rule: &str, detail: impl fmt::Display) -> ! {
    panic!("broken rule: {rule}. {detail}")
}

/// The answer of a call that has to succeed for a rule to be kept.
#[track_caller]
fn answered<T>(rule: &str, answer: Result<T>) -> T {
    answer.unwrap_or_else(|e| broken(rule, format!("the call failed: {}", e.chain())))
}

/// Polls a call as many times as `polls` says, lets others act in between, and then drops it. Says whether it was done
/// by then.
async fn dropped_after<F: Future>(polls: usize, call: F) -> bool {
    let mut call: Pin<Box<F>> = Box::pin(call);
    for _ in 0..polls {
        if poll!(call.as_mut()).is_ready() {
            return true;
        }
        give_way().await;
    }
    false
}

/// After how many polls a call is dropped. Most are done by then; what is not is still waiting for its network.
const POLLS: [usize; 12] = [0, 1, 2, 3, 4, 5, 6, 8, 11, 16, 32, 64];
