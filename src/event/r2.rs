//! Notifications of Cloudflare R2: as a queue message's body carries them, and as an HTTP pull of the queue answers.
//!
//! Keys come as they are (not URL-encoded), entity tags without quotes. Source: Cloudflare documentation,
//! "R2, Event notifications" and "Queues, Pull consumers".

use serde_json::Value;

use super::fields::{Parsed, bad_text, of_json, required, size, text, time, unpacked};
use super::{EventBatch, EventMessage, ObjectEvent, ObjectEventKind, ParseError, Receipt};
use crate::naming::{ETag, ObjectKey};

/// Reads one message body: a notification, or an array of them. Unknown fields are ignored.
///
/// One result for each notification: a bad one is no reason to lose the others. A body that is no JSON is one bad
/// notification. [`ParseError`] names the field; hand it to [`Compactor::bad_message`](crate::Compactor::bad_message),
/// and leave the message to the queue's rule for messages that cannot be read.
pub fn parse(body: &[u8]) -> Parsed {
    of_json(body, message)
}

/// Reads the answer of an HTTP pull, each message with its lease.
///
/// # Errors
///
/// When it is no such answer, or one that says that the pull failed; one message that cannot be read is an error of that
/// message.
pub fn parse_pull(body: &[u8]) -> Result<EventBatch, ParseError> {
    let answer: Value = serde_json::from_slice(body).map_err(|e| ParseError::NotJson { detail: e.to_string() })?;
    if answer.pointer("/success") != Some(&Value::Bool(true)) {
        let errors = answer.pointer("/errors").map(Value::to_string).unwrap_or_default();
        return Err(bad_text("success", &errors, "must be true"));
    }
    let Some(Value::Array(pulled)) = answer.pointer("/result/messages") else {
        return Err(ParseError::MissingField {
            field: "result.messages",
        });
    };
    let messages = pulled.iter().map(|one| {
        Ok(EventMessage {
            receipt: Receipt::new(required(one, "/lease_id", "lease_id")?),
            events: pulled_body(one).map_or_else(|error| vec![Err(error)], |body| parse(&body)),
        })
    });
    Ok(EventBatch {
        messages: messages.collect::<Result<_, _>>()?,
    })
}

/// The body of a message, which is packed by base64 unless it is of the content type `text`.
fn pulled_body(message: &Value) -> Result<Vec<u8>, ParseError> {
    let body = required(message, "/body", "body")?;
    let is_text = text(message, "/metadata/CF-Content-Type", "metadata.CF-Content-Type")? == Some("text");
    match is_text || body.trim_start().starts_with(['{', '[']) {
        true => Ok(body.as_bytes().to_vec()),
        false => unpacked(body, "body"),
    }
}

pub(super) fn message(value: &Value) -> Parsed {
    match value {
        Value::Array(notifications) => notifications.iter().map(notification).collect(),
        one => vec![notification(one)],
    }
}

fn notification(value: &Value) -> Result<ObjectEvent, ParseError> {
    let action = required(value, "/action", "action")?;
    let kind = match action {
        "CompleteMultipartUpload" | "CopyObject" | "PutObject" => ObjectEventKind::Created,
        "DeleteObject" | "LifecycleDeletion" => ObjectEventKind::Deleted,
        _ => {
            return Err(bad_text(
                "action",
                action,
                "must be an object-create or object-delete action",
            ));
        }
    };
    Ok(ObjectEvent {
        bucket: text(value, "/bucket", "bucket")?.map(str::to_owned),
        key: ObjectKey::new(required(value, "/object/key", "object.key")?),
        size: size(value, "/object/size", "object.size")?,
        etag: text(value, "/object/eTag", "object.eTag")?.map(ETag::new),
        kind,
        event_time: time(value, "/eventTime"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Timestamp;

    const COPY: &str = r#"{"account":"3f4b7e3dcab231cbfdaa90a6a28bd548","action":"CopyObject","bucket":"my-bucket",
        "object":{"key":"my-new-object","size":65536,"eTag":"c846ff7a18f28c2e262116d6e8719ef0"},
        "eventTime":"2024-05-24T19:36:44.379Z","copySource":{"bucket":"my-bucket","object":"my-original-object"}}"#;

    /// All notifications of a body, or the first that is bad.
    fn all(body: &[u8]) -> Result<Vec<ObjectEvent>, ParseError> {
        parse(body).into_iter().collect()
    }

    fn action(action: &str) -> Result<Vec<ObjectEvent>, ParseError> {
        all(format!(r#"{{"action":"{action}","object":{{"key":"k"}}}}"#).as_bytes())
    }

    #[test]
    fn the_documented_sample_is_read() {
        let event = ObjectEvent {
            bucket: Some("my-bucket".to_owned()),
            key: ObjectKey::new("my-new-object"),
            size: Some(65_536),
            etag: Some(ETag::new("c846ff7a18f28c2e262116d6e8719ef0")),
            kind: ObjectEventKind::Created,
            event_time: Some(Timestamp::from_millis(1_716_579_404_379)),
        };
        assert_eq!(all(COPY.as_bytes()).unwrap(), std::slice::from_ref(&event));
        assert_eq!(
            all(format!("[{COPY},{COPY}]").as_bytes()).unwrap(),
            [event.clone(), event]
        );
        assert_eq!(parse(b"[]"), []);
    }

    #[test]
    fn a_bad_notification_among_others_is_bad_alone() {
        let good = |key: &str| format!(r#"{{"action":"PutObject","object":{{"key":"{key}"}}}}"#);
        let body = format!(r#"[{},{{"action":"WeirdNewAction"}},{}]"#, good("a"), good("b"));
        let mut parsed = parse(body.as_bytes());
        assert_eq!(parsed.remove(0), Ok(ObjectEvent::created("a")));
        assert_eq!(parsed.pop(), Some(Ok(ObjectEvent::created("b"))));
        assert!(matches!(
            parsed.as_slice(),
            [Err(ParseError::BadField { field: "action", .. })]
        ));
    }

    #[test]
    fn each_action_creates_or_deletes() {
        for created in ["PutObject", "CopyObject", "CompleteMultipartUpload"] {
            assert_eq!(action(created).unwrap(), [ObjectEvent::created("k")]);
        }
        for deleted in ["DeleteObject", "LifecycleDeletion"] {
            assert_eq!(action(deleted).unwrap()[0].kind, ObjectEventKind::Deleted);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            action("GetObject").unwrap_err().to_string(),
            "notification field malformed: must be an object-create or object-delete action. field=`action` value=`GetObject`"
        );
        let missing = |body: &str| all(body.as_bytes()).unwrap_err();
        assert_eq!(missing("{}"), ParseError::MissingField { field: "action" });
        assert_eq!(missing("7"), ParseError::MissingField { field: "action" });
        assert_eq!(
            missing(r#"{"action":"PutObject"}"#),
            ParseError::MissingField { field: "object.key" }
        );
        assert!(matches!(
            missing(r#"{"action":"PutObject","object":{"key":"k","size":-1}}"#),
            ParseError::BadField {
                field: "object.size",
                ..
            }
        ));
        assert!(matches!(
            missing(r#"{"action":"PutObject","object":{"key":7}}"#),
            ParseError::BadField {
                field: "object.key",
                ..
            }
        ));
        assert!(matches!(missing("{"), ParseError::NotJson { .. }));
    }

    #[test]
    fn a_pull_gives_each_message_with_its_lease() {
        use base64::Engine as _;
        let packed = base64::engine::general_purpose::STANDARD.encode(COPY);
        let text = serde_json::Value::from(COPY);
        let body = format!(
            r#"{{"success":true,"errors":[],"messages":[],"result":{{"messages":[
            {{"body":"{packed}","id":"1","timestamp_ms":1689615013586,"attempts":2,
            "metadata":{{"CF-sourceMessageSource":"dash","CF-Content-Type":"json"}},"lease_id":"a"}},
            {{"body":{text},"id":"2","attempts":1,"metadata":{{"CF-Content-Type":"text"}},"lease_id":"b"}},
            {{"body":"!","id":"3","attempts":1,"metadata":{{"CF-Content-Type":"bytes"}},"lease_id":"c"}}]}}}}"#
        );
        let messages = parse_pull(body.as_bytes()).unwrap().messages;
        let leases: Vec<_> = messages.iter().map(|message| message.receipt.as_str()).collect();
        assert_eq!(leases, ["a", "b", "c"]);
        let expected = parse(COPY.as_bytes());
        assert_eq!((&messages[0].events, &messages[1].events), (&expected, &expected));
        assert_eq!(messages[2].events, [Err(bad_text("body", "!", "must be base64"))]);
        let failed = parse_pull(br#"{"success":false,"errors":[{"code":10000}],"result":null}"#).unwrap_err();
        assert_eq!(
            failed.to_string(),
            r#"notification field malformed: must be true. field=`success` value=`[{"code":10000}]`"#
        );
        let nothing = parse_pull(br#"{"success":true}"#).unwrap_err();
        assert_eq!(
            nothing,
            ParseError::MissingField {
                field: "result.messages"
            }
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
