//! Notifications as `CloudEvents` in JSON, one or a batch: of Azure Blob Storage by Event Grid, of Google Cloud Storage by
//! Eventarc.
//!
//! Source: `CloudEvents` 1.0, "JSON Event Format"; for the types of events, the services' own pages.

use serde_json::Value;

use super::fields::{Parsed, bad_text, of_json, one_or_many, required, size, text, time};
use super::{ObjectEvent, ObjectEventKind, ParseError, azure};
use crate::naming::ObjectKey;

/// Begins the types of Google Cloud Storage's events.
const GOOGLE: &str = "google.cloud.storage.object.v1.";

/// Reads an event in structured mode, or a batch of them. Events about anything but objects that are created or deleted are
/// left out. See [`r2::parse`](super::r2::parse) for what to do with errors.
pub fn parse(body: &[u8]) -> Parsed {
    of_json(body, message)
}

pub(super) fn message(value: &Value) -> Parsed {
    one_or_many(value, event)
}

fn event(value: &Value) -> Result<Option<ObjectEvent>, ParseError> {
    let version = required(value, "/specversion", "specversion")?;
    if version.split('.').next() != Some("1") {
        return Err(bad_text("specversion", version, "must be 1.x"));
    }
    let kind = required(value, "/type", "type")?;
    match kind.strip_prefix(GOOGLE) {
        Some("finalized") => google(value, ObjectEventKind::Created).map(Some),
        Some("archived" | "deleted") => google(value, ObjectEventKind::Deleted).map(Some),
        Some(_) => Ok(None),
        None if kind.starts_with("Microsoft.") => azure::event(value, "/type", "type", "/time"),
        None => Err(ParseError::Unrelated {
            what: format!("CloudEvent of type {kind}"),
        }),
    }
}

fn google(value: &Value, kind: ObjectEventKind) -> Result<ObjectEvent, ParseError> {
    Ok(ObjectEvent {
        bucket: text(value, "/data/bucket", "data.bucket")?.map(str::to_owned),
        key: ObjectKey::new(required(value, "/data/name", "data.name")?),
        size: size(value, "/data/size", "data.size")?,
        etag: None,
        kind,
        event_time: time(value, "/time"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::ETag;

    fn blob(kind: &str) -> String {
        format!(
            r#"{{"source":"/subscriptions/s/storageAccounts/a","subject":"/blobServices/default/containers/lake/blobs/data/x",
            "type":"{kind}","time":"1970-01-01T00:00:00Z","id":"i","specversion":"1.0",
            "data":{{"api":"PutBlob","eTag":"0x8","contentLength":3}}}}"#
        )
    }

    fn object(kind: &str) -> String {
        format!(
            r#"{{"specversion":"1.0","type":"{GOOGLE}{kind}","source":"//storage.googleapis.com/projects/_/buckets/lake",
            "subject":"objects/data/x","id":"i","time":"1970-01-01T00:00:00Z",
            "data":{{"bucket":"lake","name":"data/x","size":"3","etag":"CJjA"}}}}"#
        )
    }

    #[test]
    fn events_of_both_services_are_read_alone_and_in_a_batch() {
        let expected = |etag: Option<&str>| ObjectEvent {
            bucket: Some("lake".to_owned()),
            key: ObjectKey::new("data/x"),
            size: Some(3),
            etag: etag.map(ETag::new),
            kind: ObjectEventKind::Created,
            event_time: Some(crate::time::Timestamp::from_millis(0)),
        };
        let (blob, object) = (blob("Microsoft.Storage.BlobCreated"), object("finalized"));
        assert_eq!(parse(blob.as_bytes()), [Ok(expected(Some("0x8")))]);
        assert_eq!(
            parse(format!("[{object},{blob}]").as_bytes()),
            [Ok(expected(None)), Ok(expected(Some("0x8")))]
        );
    }

    #[test]
    fn deletes_are_told_and_metadata_left_out() {
        let kinds = |body: &str| -> Vec<_> { parse(body.as_bytes()).into_iter().map(|e| e.unwrap().kind).collect() };
        for deleted in [
            blob("Microsoft.Storage.BlobDeleted"),
            object("deleted"),
            object("archived"),
        ] {
            assert_eq!(kinds(&deleted), [ObjectEventKind::Deleted]);
        }
        assert_eq!(kinds(&object("metadataUpdated")), []);
        assert_eq!(kinds(&blob("Microsoft.Storage.BlobTierChanged")), []);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let other = parse(br#"{"specversion":"1.0","type":"com.example.made"}"#)
            .remove(0)
            .unwrap_err();
        assert_eq!(
            other.to_string(),
            "not a notification about an object: CloudEvent of type com.example.made"
        );
        assert!(matches!(
            parse(br#"{"specversion":"0.3","type":"x"}"#)[..],
            [Err(ParseError::BadField {
                field: "specversion",
                ..
            })]
        ));
    }
}
