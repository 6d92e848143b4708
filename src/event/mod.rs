//! Notifications of new objects: what they say, and where a host gets them from.

pub mod azure;
pub mod cloudevents;
pub mod eventbridge;
mod fields;
pub mod gcs;
mod memory;
pub mod r2;
pub mod s3;
pub mod sns;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

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

/// Reads one message body of any service that is known, told by its fields: [`azure`], [`cloudevents`], [`eventbridge`],
/// [`gcs`], [`r2`], [`s3`] and what speaks likewise, [`sns`]. Of an array each element by itself.
///
/// One result for each notification, none for what is about anything but objects that are created or deleted. See
/// [`r2::parse`] for what to do with errors.
pub fn parse_any(body: &[u8]) -> Vec<Result<ObjectEvent, ParseError>> {
    match std::str::from_utf8(body) {
        Ok(text) if azure::is_packed(text) => azure::parse(body),
        _ => fields::of_json(body, any),
    }
}

fn any(value: &Value) -> Vec<Result<ObjectEvent, ParseError>> {
    if let Value::Array(all) = value {
        return all.iter().flat_map(any).collect();
    }
    let has = |pointer: &str| value.pointer(pointer).is_some();
    if sns::is_wrapped(value) {
        sns::message(value)
    } else if has("/Records") || s3::is_test(value) {
        s3::message(value)
    } else if has("/detail-type") {
        eventbridge::message(value)
    } else if has("/specversion") {
        cloudevents::message(value)
    } else if has("/eventType") {
        azure::message(value)
    } else if has("/attributes") || has("/message/attributes") {
        gcs::message(value)
    } else if has("/action") {
        r2::message(value)
    } else {
        vec![Err(ParseError::Unrelated {
            what: "JSON of no form that is known".to_owned(),
        })]
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
    /// A message, but not about an object.
    #[error("not a notification about an object: {what}", what = printable(.what))]
    Unrelated {
        /// What it is.
        what: String,
    },
    /// Not JSON.
    #[error("notification is not JSON: {detail}", detail = printable(.detail))]
    NotJson {
        /// What the parser said.
        detail: String,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_form_is_told_by_its_fields() {
        let forms = [
            r#"{"action":"PutObject","object":{"key":"k"}}"#,
            r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"object":{"key":"k"}}}]}"#,
            r#"{"Type":"Notification","TopicArn":"t","Message":"{\"action\":\"PutObject\",\"object\":{\"key\":\"k\"}}"}"#,
            r#"{"detail-type":"Object Created","detail":{"object":{"key":"k"}}}"#,
            r#"{"attributes":{"eventType":"OBJECT_FINALIZE","objectId":"k"}}"#,
            r#"{"message":{"attributes":{"eventType":"OBJECT_FINALIZE","objectId":"k"}}}"#,
            r#"{"specversion":"1.0","type":"google.cloud.storage.object.v1.finalized","data":{"name":"k"}}"#,
        ];
        for form in forms {
            assert_eq!(parse_any(form.as_bytes()), [Ok(ObjectEvent::created("k"))], "{form}");
        }
        let all = format!("[{}]", forms.join(","));
        assert_eq!(parse_any(all.as_bytes()).len(), forms.len());
        let azure =
            r#"{"eventType":"Microsoft.Storage.BlobCreated","subject":"/blobServices/default/containers/c/blobs/k"}"#;
        assert_eq!(
            parse_any(azure.as_bytes())[0].as_ref().unwrap().key,
            ObjectKey::new("k")
        );
        assert_eq!(parse_any(br#"{"Event":"s3:TestEvent"}"#), []);
        assert!(matches!(parse_any(b"{}")[..], [Err(ParseError::Unrelated { .. })]));
        assert!(matches!(parse_any(b"")[..], [Err(ParseError::NotJson { .. })]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let _ = parse_any(&bytes);
        }
    }
}
