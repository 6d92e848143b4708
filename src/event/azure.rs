//! Notifications of Azure Blob Storage as Event Grid delivers them, in its own schema; as `CloudEvents` see
//! [`cloudevents`](super::cloudevents).
//!
//! Source: Azure documentation, "Azure Blob Storage as Event Grid source". Keys come as they are, in the subject.

use serde_json::Value;

use super::fields::{Parsed, bad_text, of_json, one_or_many, required, size, text, time, unpacked};
use super::{ObjectEvent, ObjectEventKind, ParseError, parse_any};
use crate::naming::{ETag, ObjectKey};

/// Operations that leave a whole blob. Creating a file in a hierarchical namespace leaves an empty one, which is told of
/// again once it has been written and closed.
const WHOLE: [&str; 6] = [
    "CopyBlob",
    "FlushWithClose",
    "PutBlob",
    "PutBlobFromURL",
    "PutBlockList",
    "SftpCommit",
];

/// Reads the events of a delivery: an array of them, or one. A text of a storage queue, which is packed by base64, is
/// unpacked first. Events about anything but blobs that are created, renamed or deleted are left out. See
/// [`r2::parse`](super::r2::parse) for what to do with errors.
///
/// The event by which Event Grid validates an endpoint is [`ParseError::Unrelated`]: the host answers it.
pub fn parse(body: &[u8]) -> Parsed {
    match std::str::from_utf8(body) {
        Ok(text) if is_packed(text) => match unpacked(text, "message") {
            Ok(inner) => parse_any(&inner),
            Err(error) => vec![Err(error)],
        },
        _ => of_json(body, message),
    }
}

/// Whether a text is no JSON that could be a notification, and might be packed.
pub(super) fn is_packed(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
}

pub(super) fn message(value: &Value) -> Parsed {
    one_or_many(value, |one| event(one, "/eventType", "eventType", "/eventTime"))
}

/// An event whose type and time are in these fields; all else is the same in both schemas.
pub(super) fn event(
    value: &Value,
    kind: &str,
    kind_field: &'static str,
    at: &str,
) -> Result<Option<ObjectEvent>, ParseError> {
    let (kind, api) = match required(value, kind, kind_field)? {
        "Microsoft.Storage.BlobCreated" => (ObjectEventKind::Created, text(value, "/data/api", "data.api")?),
        "Microsoft.Storage.BlobRenamed" => (ObjectEventKind::Created, None),
        "Microsoft.Storage.BlobDeleted" => (ObjectEventKind::Deleted, None),
        other if other.starts_with("Microsoft.EventGrid.") => {
            return Err(ParseError::Unrelated {
                what: format!("event of type {other}"),
            });
        }
        _ => return Ok(None),
    };
    if api.is_some_and(|api| !WHOLE.contains(&api)) {
        return Ok(None);
    }
    let subject = required(value, "/subject", "subject")?;
    let (container, key) = subject
        .strip_prefix("/blobServices/default/containers/")
        .and_then(|rest| rest.split_once("/blobs/"))
        .ok_or_else(|| {
            bad_text(
                "subject",
                subject,
                "must be /blobServices/default/containers/CONTAINER/blobs/NAME",
            )
        })?;
    Ok(Some(ObjectEvent {
        bucket: Some(container.to_owned()),
        key: ObjectKey::new(key),
        size: size(value, "/data/contentLength", "data.contentLength")?,
        etag: text(value, "/data/eTag", "data.eTag")?.map(ETag::new),
        kind,
        event_time: time(value, at),
    }))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn event(kind: &str, api: &str) -> String {
        format!(
            r#"{{"topic":"/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a",
            "subject":"/blobServices/default/containers/lake/blobs/data/a b+%20.parquet",
            "eventType":"Microsoft.Storage.{kind}","eventTime":"1970-01-01T00:00:00.25Z","id":"i",
            "data":{{"api":"{api}","eTag":"0x8D4BCC2E4835CD0","contentLength":524288,"blobType":"BlockBlob",
            "sequencer":"00000000000004420000000000028963"}},"dataVersion":"","metadataVersion":"1"}}"#
        )
    }

    fn expected() -> ObjectEvent {
        ObjectEvent {
            bucket: Some("lake".to_owned()),
            key: ObjectKey::new("data/a b+%20.parquet"),
            size: Some(524_288),
            etag: Some(ETag::new("0x8D4BCC2E4835CD0")),
            kind: ObjectEventKind::Created,
            event_time: Some(crate::time::Timestamp::from_millis(250)),
        }
    }

    #[test]
    fn an_event_is_read_alone_in_an_array_and_packed() {
        let one = event("BlobCreated", "PutBlockList");
        for body in [one.clone(), format!("[{one}]"), STANDARD.encode(&one)] {
            assert_eq!(parse(body.as_bytes()), [Ok(expected())], "{body}");
        }
    }

    #[test]
    fn only_whole_blobs_count_and_a_new_name_is_a_new_blob() {
        let kinds = |kind: &str, api: &str| -> Vec<_> {
            let parsed = parse(event(kind, api).as_bytes()).into_iter();
            parsed.map(|event| event.unwrap().kind).collect()
        };
        for api in WHOLE {
            assert_eq!(kinds("BlobCreated", api), [ObjectEventKind::Created]);
        }
        assert_eq!(kinds("BlobCreated", "CreateFile"), []);
        assert_eq!(kinds("BlobRenamed", "RenameFile"), [ObjectEventKind::Created]);
        assert_eq!(kinds("BlobDeleted", "DeleteBlob"), [ObjectEventKind::Deleted]);
        assert_eq!(kinds("BlobTierChanged", "SetBlobTier"), []);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let validation = br#"[{"eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":{}}]"#;
        assert!(matches!(parse(validation)[..], [Err(ParseError::Unrelated { .. })]));
        let elsewhere = event("BlobCreated", "PutBlob").replace("/blobServices/default/containers/", "/");
        assert!(matches!(
            parse(elsewhere.as_bytes())[..],
            [Err(ParseError::BadField { field: "subject", .. })]
        ));
        assert!(matches!(
            parse(b"abc")[..],
            [Err(ParseError::BadField { field: "message", .. })]
        ));
    }
}
