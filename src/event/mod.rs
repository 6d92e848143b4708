//! Notifications of new objects: what they say, and where a host gets them from.

mod memory;
pub mod r2;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;
use crate::naming::{ETag, ObjectKey};
use crate::printable::printable;
use crate::time::Timestamp;

pub use memory::MemoryEventSource;

/// What happened to an object, whatever service said so.
///
/// What an event says of size and etag is a hint: the object store is the authority.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectEvent {
    /// The bucket, when the service names it.
    pub bucket: Option<String>,
    /// The key, already decoded where the service encodes keys.
    pub key: ObjectKey,
    /// Bytes.
    pub size: Option<u64>,
    /// Entity tag.
    pub etag: Option<ETag>,
    /// Created or deleted.
    pub kind: ObjectEventKind,
    /// When the service says that it happened; never used for a decision.
    pub event_time: Option<Timestamp>,
}

impl ObjectEvent {
    /// The event that an object was created, with nothing else known.
    pub fn created(key: impl Into<String>) -> Self {
        Self {
            bucket: None,
            key: ObjectKey::new(key),
            size: None,
            etag: None,
            kind: ObjectEventKind::Created,
            event_time: None,
        }
    }

    /// Adds the size.
    #[must_use]
    pub fn with_size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// Adds the entity tag.
    #[must_use]
    pub fn with_etag(mut self, etag: impl Into<String>) -> Self {
        self.etag = Some(ETag::new(etag));
        self
    }
}

/// What happened to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectEventKind {
    /// It was created or overwritten.
    Created,
    /// It was deleted: ignored.
    Deleted,
}

/// Where notifications come from: a queue, a webhook's buffer, a file.
///
/// It may deliver an event more than once and in any order.
#[async_trait]
pub trait EventSource: fmt::Debug + Send + Sync + 'static {
    /// Waits for the next messages; an empty batch is allowed. `None`: the source is closed.
    ///
    /// Dropping the future loses nothing: messages not acknowledged come again.
    ///
    /// # Errors
    ///
    /// `Unavailable` to be tried again.
    async fn next_batch(&self) -> Result<Option<EventBatch>>;

    /// Acknowledges messages, and no others. Called only after the state that reflects them has been saved, perhaps
    /// again for the same messages, or for none.
    ///
    /// # Errors
    ///
    /// A failure is reported and otherwise harmless: the messages come again and are recognised.
    async fn ack(&self, receipts: &[Receipt]) -> Result<()>;
}

#[async_trait]
impl<T: EventSource + ?Sized> EventSource for Arc<T> {
    async fn next_batch(&self) -> Result<Option<EventBatch>> {
        (**self).next_batch().await
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        (**self).ack(receipts).await
    }
}

/// What identifies a message to its source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt(String);

impl Receipt {
    /// Takes a receipt as the source gives it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Messages that were delivered together.
#[derive(Debug, Default)]
pub struct EventBatch {
    /// The messages.
    pub messages: Vec<EventMessage>,
}

/// One message. What could not be read of it is reported by itself, and then it is never acknowledged, so that the
/// queue's own rule for such messages applies; all else proceeds.
#[derive(Debug)]
pub struct EventMessage {
    /// For its acknowledgement.
    pub receipt: Receipt,
    /// What it says: a result for each notification in it.
    pub events: Vec<Result<ObjectEvent, ParseError>>,
}

/// Why a message could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// A field has a value that it cannot have.
    #[error(
        "notification field malformed: {rule}. field=`{field}` value=`{value}`",
        value = printable(.value), rule = printable(.rule)
    )]
    BadField {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A field is missing.
    #[error("notification field missing. field=`{field}`")]
    MissingField {
        /// The field.
        field: &'static str,
    },
    /// Not JSON.
    #[error("notification is not JSON: {detail}", detail = printable(.detail))]
    NotJson {
        /// What the parser said.
        detail: String,
    },
}
