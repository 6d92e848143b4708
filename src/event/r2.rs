//! Notifications of Cloudflare R2, as a queue message's body carries them.
//!
//! Keys come as they are (not URL-encoded), entity tags without quotes. Source: Cloudflare documentation,
//! "R2, Event notifications".

use serde_json::Value;

use super::{ObjectEvent, ObjectEventKind, ParseError};
use crate::naming::{ETag, ObjectKey};

/// Reads one message body: a notification, or an array of them. Unknown fields are ignored.
///
/// One result for each notification: a bad one is no reason to lose the others. A body that is no JSON is one bad
/// notification. [`ParseError`] names the field; hand it to [`Compactor::bad_message`](crate::Compactor::bad_message),
/// and leave the message to the queue's rule for messages that cannot be read.
pub fn parse(body: &[u8]) -> Vec<Result<ObjectEvent, ParseError>> {
    match serde_json::from_slice(body) {
        Ok(Value::Array(notifications)) => notifications.iter().map(notification).collect(),
        Ok(one) => vec![notification(&one)],
        Err(e) => vec![Err(ParseError::NotJson { detail: e.to_string() })],
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

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
