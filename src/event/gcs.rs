//! Notifications of Google Cloud Storage as Pub/Sub delivers them.
//!
//! What happened stands in the attributes of a message; its data, if it has any, is the object's resource. Keys come as they
//! are. Source: Google Cloud documentation, "Pub/Sub notifications for Cloud Storage". The entity tag of the JSON API is
//! another one than object stores answer with, and is left out.

use serde_json::Value;

use super::fields::{Parsed, bad_text, of_json, required, size, text, time, unpacked};
use super::{EventBatch, EventMessage, ObjectEvent, ObjectEventKind, ParseError, Receipt};
use crate::naming::ObjectKey;

/// Reads one message: as it is, or in the envelope of a push subscription. Messages about anything but objects that are
/// created or deleted are left out. See [`r2::parse`](super::r2::parse) for what to do with errors.
pub fn parse(body: &[u8]) -> Parsed {
    of_json(body, message)
}

/// Reads the answer of a pull, each message with its `ackId`.
///
/// # Errors
///
/// When it is no such answer; one message that cannot be read is an error of that message.
pub fn parse_pull(body: &[u8]) -> Result<EventBatch, ParseError> {
    let answer: Value = serde_json::from_slice(body).map_err(|e| ParseError::NotJson { detail: e.to_string() })?;
    let received = match answer.pointer("/receivedMessages") {
        Some(Value::Array(received)) => received.as_slice(),
        // Nothing waits.
        None if answer.is_object() => &[],
        _ => {
            return Err(ParseError::MissingField {
                field: "receivedMessages",
            });
        }
    };
    let messages = received.iter().map(|one| {
        Ok(EventMessage {
            receipt: Receipt::new(required(one, "/ackId", "ackId")?),
            events: message(one),
        })
    });
    Ok(EventBatch {
        messages: messages.collect::<Result<_, _>>()?,
    })
}

pub(super) fn message(value: &Value) -> Parsed {
    let message = value.pointer("/message").unwrap_or(value);
    notification(message).transpose().into_iter().collect()
}

fn notification(message: &Value) -> Result<Option<ObjectEvent>, ParseError> {
    let kind = match required(message, "/attributes/eventType", "attributes.eventType")? {
        "OBJECT_FINALIZE" => ObjectEventKind::Created,
        // An object that has become an older version is there no more under its key.
        "OBJECT_ARCHIVE" | "OBJECT_DELETE" => ObjectEventKind::Deleted,
        "OBJECT_METADATA_UPDATE" => return Ok(None),
        other => {
            let rule = "must be an event type of Cloud Storage";
            return Err(bad_text("attributes.eventType", other, rule));
        }
    };
    let key = required(message, "/attributes/objectId", "attributes.objectId")?;
    Ok(Some(ObjectEvent {
        bucket: text(message, "/attributes/bucketId", "attributes.bucketId")?.map(str::to_owned),
        key: ObjectKey::new(key),
        size: resource_size(message)?,
        etag: None,
        kind,
        event_time: time(message, "/attributes/eventTime"),
    }))
}

/// The size that the object's resource has, where it is in the message.
fn resource_size(message: &Value) -> Result<Option<u64>, ParseError> {
    let form = text(message, "/attributes/payloadFormat", "attributes.payloadFormat")?;
    match text(message, "/data", "data")? {
        Some(data) if form == Some("JSON_API_V1") && !data.is_empty() => {
            let resource = serde_json::from_slice(&unpacked(data, "data")?);
            let resource: Value = resource.map_err(|e| ParseError::NotJson { detail: e.to_string() })?;
            size(&resource, "/size", "data.size")
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn message(kind: &str, key: &str) -> String {
        let data = STANDARD.encode(r#"{"kind":"storage#object","size":"1024","generation":"17","etag":"CJjA"}"#);
        format!(
            r#"{{"attributes":{{"notificationConfig":"projects/_/buckets/lake/notificationConfigs/3","eventType":"{kind}",
            "payloadFormat":"JSON_API_V1","bucketId":"lake","objectId":"{key}","objectGeneration":"17",
            "eventTime":"1970-01-01T00:00:01Z"}},"data":"{data}","messageId":"9"}}"#
        )
    }

    #[test]
    fn a_message_is_read_alone_and_in_an_envelope() {
        let event = ObjectEvent {
            bucket: Some("lake".to_owned()),
            key: ObjectKey::new("data/a+b%20"),
            size: Some(1024),
            etag: None,
            kind: ObjectEventKind::Created,
            event_time: Some(crate::time::Timestamp::from_millis(1_000)),
        };
        let bare = message("OBJECT_FINALIZE", "data/a+b%20");
        assert_eq!(parse(bare.as_bytes()), [Ok(event.clone())]);
        let pushed = format!(r#"{{"message":{bare},"subscription":"projects/p/subscriptions/s"}}"#);
        assert_eq!(parse(pushed.as_bytes()), [Ok(event.clone())]);
        let pulled =
            format!(r#"{{"receivedMessages":[{{"ackId":"x","message":{bare}}},{{"ackId":"y","message":{{}}}}]}}"#);
        let pulled = parse_pull(pulled.as_bytes()).unwrap().messages;
        assert_eq!((pulled[0].receipt.as_str(), &pulled[0].events), ("x", &vec![Ok(event)]));
        let missing = "attributes.eventType";
        assert_eq!(pulled[1].events, [Err(ParseError::MissingField { field: missing })]);
        assert_eq!(parse_pull(b"{}").unwrap().messages.len(), 0);
    }

    #[test]
    fn each_type_creates_deletes_or_is_left_out() {
        let kind = |kind: &str| {
            parse(message(kind, "k").as_bytes())
                .pop()
                .map(|event| event.map(|event| event.kind))
        };
        for deleted in ["OBJECT_ARCHIVE", "OBJECT_DELETE"] {
            assert_eq!(kind(deleted), Some(Ok(ObjectEventKind::Deleted)));
        }
        assert_eq!(kind("OBJECT_METADATA_UPDATE"), None);
        assert!(kind("OBJECT_ELSE").unwrap().is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let broken = message("OBJECT_FINALIZE", "k").replace("\"data\":\"", "\"data\":\"!");
        assert!(matches!(
            parse(broken.as_bytes())[..],
            [Err(ParseError::BadField { field: "data", .. })]
        ));
        assert!(parse_pull(br#"{"receivedMessages":7}"#).is_err());
        assert!(parse_pull(b"[]").is_err());
    }
}
