//! Notifications of Amazon S3 as `EventBridge` delivers them.
//!
//! Source: Amazon S3 User Guide, "`EventBridge` event message structure". Keys come as they are (not URL-encoded).

use serde_json::Value;

use super::fields::{Parsed, of_json, one_or_many, required, size, text, time};
use super::{ObjectEvent, ObjectEventKind, ParseError};
use crate::naming::{ETag, ObjectKey};

/// Reads one event, or an array of them. Events about anything but objects that are created or deleted are left out. See
/// [`r2::parse`](super::r2::parse) for what to do with errors.
pub fn parse(body: &[u8]) -> Parsed {
    of_json(body, message)
}

pub(super) fn message(value: &Value) -> Parsed {
    one_or_many(value, event)
}

fn event(value: &Value) -> Result<Option<ObjectEvent>, ParseError> {
    let kind = match required(value, "/detail-type", "detail-type")? {
        "Object Created" => ObjectEventKind::Created,
        "Object Deleted" => ObjectEventKind::Deleted,
        _ => return Ok(None),
    };
    // The guide has `etag`; others that speak likewise write `eTag`.
    let etag = match text(value, "/detail/object/etag", "detail.object.etag")? {
        Some(etag) => Some(etag),
        None => text(value, "/detail/object/eTag", "detail.object.eTag")?,
    };
    Ok(Some(ObjectEvent {
        bucket: text(value, "/detail/bucket/name", "detail.bucket.name")?.map(str::to_owned),
        key: ObjectKey::new(required(value, "/detail/object/key", "detail.object.key")?),
        size: size(value, "/detail/object/size", "detail.object.size")?,
        etag: etag.map(ETag::new),
        kind,
        event_time: time(value, "/time"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: &str) -> String {
        format!(
            r#"{{"version":"0","id":"17793124-05d4-b198-2fde-7ededc63b103","detail-type":"{what}","source":"aws.s3",
            "account":"111122223333","time":"1970-01-01T00:00:00Z","region":"ca-central-1","resources":[],
            "detail":{{"version":"0","bucket":{{"name":"lake"}},"object":{{"key":"data/a+b%20.parquet","size":5,
            "etag":"b1946ac92492d2347c6235b4d2611184","version-id":"v","sequencer":"617f08299329d189"}},
            "request-id":"N4N7GDK58NMKJ12R","requester":"123456789012","reason":"PutObject"}}}}"#
        )
    }

    #[test]
    fn an_event_is_read_as_it_is() {
        let expected = ObjectEvent {
            bucket: Some("lake".to_owned()),
            key: ObjectKey::new("data/a+b%20.parquet"),
            size: Some(5),
            etag: Some(ETag::new("b1946ac92492d2347c6235b4d2611184")),
            kind: ObjectEventKind::Created,
            event_time: Some(crate::time::Timestamp::from_millis(0)),
        };
        assert_eq!(parse(event("Object Created").as_bytes()), [Ok(expected.clone())]);
        let other = event("Object Created").replace("\"etag\"", "\"eTag\"");
        assert_eq!(parse(other.as_bytes()), [Ok(expected)]);
    }

    #[test]
    fn deletes_are_told_and_all_else_left_out() {
        let all = ["Object Deleted", "Object Restore Completed", "Object Tags Added"]
            .map(event)
            .join(",");
        let kinds: Vec<_> = parse(format!("[{all}]").as_bytes())
            .into_iter()
            .map(|e| e.unwrap().kind)
            .collect();
        assert_eq!(kinds, [ObjectEventKind::Deleted]);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(parse(b"{}"), [Err(ParseError::MissingField { field: "detail-type" })]);
        assert_eq!(
            parse(br#"{"detail-type":"Object Created"}"#),
            [Err(ParseError::MissingField {
                field: "detail.object.key"
            })]
        );
    }
}
