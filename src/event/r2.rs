//! Notifications of Cloudflare R2, as a queue message's body carries them.
//!
//! Keys come as they are (not URL-encoded), entity tags without quotes. Source: Cloudflare documentation,
//! "R2, Event notifications".

use serde_json::Value;

use super::{ObjectEvent, ObjectEventKind, ParseError};
use crate::naming::{ETag, ObjectKey};

/// Reads one message body: a notification, or an array of them. Unknown fields are ignored.
///
/// # Errors
///
/// [`ParseError`] names the field; leave the message to the queue's rule for messages that cannot be read.
pub fn parse(body: &[u8]) -> Result<Vec<ObjectEvent>, ParseError> {
    let value: Value = serde_json::from_slice(body).map_err(|e| ParseError::NotJson { detail: e.to_string() })?;
    match value {
        Value::Array(notifications) => notifications.iter().map(notification).collect(),
        one => Ok(vec![notification(&one)?]),
    }
}

fn notification(value: &Value) -> Result<ObjectEvent, ParseError> {
    let action = required_text(value, "/action", "action")?;
    let kind = match action {
        "CompleteMultipartUpload" | "CopyObject" | "PutObject" => ObjectEventKind::Created,
        "DeleteObject" | "LifecycleDeletion" => ObjectEventKind::Deleted,
        _ => {
            return Err(ParseError::BadField {
                field: "action",
                value: action.to_owned(),
                rule: "must be an object-create or object-delete action",
            });
        }
    };
    let key = required_text(value, "/object/key", "object.key")?;
    let size = match known(value, "/object/size") {
        None => None,
        Some(size) => Some(
            size.as_u64()
                .ok_or_else(|| bad_field("object.size", size, "must be a number of bytes"))?,
        ),
    };
    Ok(ObjectEvent {
        bucket: text(value, "/bucket", "bucket")?.map(str::to_owned),
        key: ObjectKey::new(key),
        size,
        etag: text(value, "/object/eTag", "object.eTag")?.map(ETag::new),
        kind,
        // Shown, never decided by: a time in an unknown form is no reason to lose the event.
        event_time: value
            .pointer("/eventTime")
            .and_then(Value::as_str)
            .and_then(|time| time.parse().ok()),
    })
}

fn known<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    value.pointer(pointer).filter(|found| !found.is_null())
}

fn text<'a>(value: &'a Value, pointer: &str, field: &'static str) -> Result<Option<&'a str>, ParseError> {
    known(value, pointer)
        .map(|found| found.as_str().ok_or_else(|| bad_field(field, found, "must be text")))
        .transpose()
}

fn required_text<'a>(value: &'a Value, pointer: &str, field: &'static str) -> Result<&'a str, ParseError> {
    text(value, pointer, field)?.ok_or(ParseError::MissingField { field })
}

fn bad_field(field: &'static str, value: &Value, rule: &'static str) -> ParseError {
    ParseError::BadField {
        field,
        value: value.to_string(),
        rule,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Timestamp;

    const COPY: &str = r#"{"account":"3f4b7e3dcab231cbfdaa90a6a28bd548","action":"CopyObject","bucket":"my-bucket",
        "object":{"key":"my-new-object","size":65536,"eTag":"c846ff7a18f28c2e262116d6e8719ef0"},
        "eventTime":"2024-05-24T19:36:44.379Z","copySource":{"bucket":"my-bucket","object":"my-original-object"}}"#;

    fn action(action: &str) -> Result<Vec<ObjectEvent>, ParseError> {
        parse(format!(r#"{{"action":"{action}","object":{{"key":"k"}}}}"#).as_bytes())
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
        assert_eq!(parse(COPY.as_bytes()).unwrap(), std::slice::from_ref(&event));
        assert_eq!(
            parse(format!("[{COPY},{COPY}]").as_bytes()).unwrap(),
            [event.clone(), event]
        );
        assert_eq!(parse(b"[]").unwrap(), []);
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
        let missing = |body: &str| parse(body.as_bytes()).unwrap_err();
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

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
