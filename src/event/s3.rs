//! Notifications of Amazon S3 as SQS, SNS over SQS, or Lambda deliver them, and of stores that speak likewise: `MinIO`, `RustFS`,
//! Ceph.
//!
//! Source: Amazon S3 User Guide, "Event message structure"; keys are encoded as in a form. Messages wrapped by SNS are
//! unwrapped ([`sns`]). Bucket notifications of `MinIO` and `RustFS` are records of the same shape, whose event
//! names begin with `s3:`. Keys by Ceph are taken as they are.

use serde_json::Value;

use super::fields::{Parsed, bad_text, form_decoded, of_json, one_or_many, required, size, text, time};
use super::{ObjectEvent, ObjectEventKind, ParseError, sns};
use crate::naming::{ETag, ObjectKey};

/// Reads one message body: records, the test message that S3 sends when a notification is configured (nothing), or either
/// wrapped by SNS.
///
/// One result for each record about an object that was created or deleted; a bad one is no reason to lose the others.
/// Records about anything else (tags, restores, transitions) are left out. See [`r2::parse`](super::r2::parse) for what to do
/// with errors.
pub fn parse(body: &[u8]) -> Parsed {
    of_json(body, message)
}

pub(super) fn message(value: &Value) -> Parsed {
    if is_test(value) {
        return Vec::new();
    }
    if sns::is_wrapped(value) {
        return sns::message(value);
    }
    match value.pointer("/Records") {
        Some(records @ Value::Array(_)) => one_or_many(records, record),
        _ => vec![Err(ParseError::MissingField { field: "Records" })],
    }
}

/// Whether it is what S3 sends when a notification is configured.
pub(super) fn is_test(value: &Value) -> bool {
    value.pointer("/Event").and_then(Value::as_str) == Some("s3:TestEvent")
}

fn record(value: &Value) -> Result<Option<ObjectEvent>, ParseError> {
    // Minor versions add fields.
    let version = text(value, "/eventVersion", "eventVersion")?;
    if let Some(version) = version
        && version.split('.').next() != Some("2")
    {
        return Err(bad_text("eventVersion", version, "must be 2.x"));
    }
    let name = required(value, "/eventName", "eventName")?;
    let name = name.strip_prefix("s3:").unwrap_or(name);
    let kind = if name.starts_with("ObjectCreated:") {
        ObjectEventKind::Created
    } else if name.starts_with("ObjectRemoved:") || name.starts_with("LifecycleExpiration:") {
        ObjectEventKind::Deleted
    } else {
        return Ok(None);
    };
    let key = required(value, "/s3/object/key", "s3.object.key")?;
    let is_raw = text(value, "/eventSource", "eventSource")?.is_some_and(|source| source.starts_with("ceph:"));
    let key = match is_raw {
        true => key.to_owned(),
        false => form_decoded(key, "s3.object.key")?,
    };
    Ok(Some(ObjectEvent {
        bucket: text(value, "/s3/bucket/name", "s3.bucket.name")?.map(str::to_owned),
        key: ObjectKey::new(key),
        size: size(value, "/s3/object/size", "s3.object.size")?,
        etag: text(value, "/s3/object/eTag", "s3.object.eTag")?.map(ETag::new),
        kind,
        event_time: time(value, "/eventTime"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of a record that matter, as the User Guide shows them.
    fn record(name: &str, key: &str) -> String {
        format!(
            r#"{{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-west-2","eventTime":"1970-01-01T00:00:00.007Z",
            "eventName":"{name}","s3":{{"s3SchemaVersion":"1.0","configurationId":"c","bucket":{{"name":"lake"}},
            "object":{{"key":"{key}","size":1024,"eTag":"d41d8cd98f00b204e9800998ecf8427e","sequencer":"0055AED6DCD90281E5"}}}}}}"#
        )
    }

    fn parsed(records: &[String]) -> Parsed {
        parse(format!(r#"{{"Records":[{}]}}"#, records.join(",")).as_bytes())
    }

    #[test]
    fn a_record_is_read_and_its_key_decoded() {
        let key = "data%2Fusers%2Fmy+key%2B%C3%BC%3D1.parquet";
        let event = ObjectEvent {
            bucket: Some("lake".to_owned()),
            key: ObjectKey::new("data/users/my key+\u{fc}=1.parquet"),
            size: Some(1024),
            etag: Some(ETag::new("d41d8cd98f00b204e9800998ecf8427e")),
            kind: ObjectEventKind::Created,
            event_time: Some(crate::time::Timestamp::from_millis(7)),
        };
        assert_eq!(parsed(&[record("ObjectCreated:Put", key)]), [Ok(event.clone())]);
        // MinIO and RustFS.
        assert_eq!(parsed(&[record("s3:ObjectCreated:Put", key)]), [Ok(event)]);
        let ceph = record("ObjectCreated:Put", "a+b").replace("aws:s3", "ceph:s3");
        assert_eq!(parsed(&[ceph])[0].as_ref().unwrap().key, ObjectKey::new("a+b"));
    }

    #[test]
    fn what_creates_and_deletes_is_told_apart_and_all_else_left_out() {
        let kinds = |names: &[&str]| -> Vec<_> {
            let records: Vec<_> = names.iter().map(|name| record(name, "k")).collect();
            parsed(&records).into_iter().map(|event| event.unwrap().kind).collect()
        };
        let created = ["Put", "Post", "Copy", "CompleteMultipartUpload"].map(|of| format!("ObjectCreated:{of}"));
        assert_eq!(
            kinds(&created.each_ref().map(String::as_str)),
            [ObjectEventKind::Created; 4]
        );
        let deleted = [
            "ObjectRemoved:Delete",
            "ObjectRemoved:DeleteMarkerCreated",
            "LifecycleExpiration:Delete",
        ];
        assert_eq!(kinds(&deleted), [ObjectEventKind::Deleted; 3]);
        assert_eq!(
            kinds(&["ObjectTagging:Put", "ObjectRestore:Completed", "s3:ObjectAccessed:Get"]),
            []
        );
    }

    #[test]
    fn the_test_message_is_about_nothing() {
        let test = br#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2014-10-13T15:57:02.089Z","Bucket":"lake",
            "RequestId":"5582815E1AEA5ADF","HostId":"8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR"}"#;
        assert_eq!(parse(test), []);
    }

    #[test]
    fn minor_versions_do_not_matter_and_others_do() {
        let of = |version: &str| parsed(&[record("ObjectCreated:Put", "k").replace("2.1", version)]).remove(0);
        for version in ["2.0", "2.6", "2.10"] {
            assert!(of(version).is_ok(), "{version}");
        }
        assert_eq!(
            of("3.0").unwrap_err().to_string(),
            "notification field malformed: must be 2.x. field=`eventVersion` value=`3.0`"
        );
    }

    #[test]
    fn a_bad_record_among_others_is_bad_alone() {
        let records = [
            record("ObjectCreated:Put", "a"),
            record("ObjectCreated:Put", "%ff"),
            "7".to_owned(),
            record("ObjectCreated:Put", "b"),
        ];
        let keys: Vec<_> = parsed(&records)
            .into_iter()
            .map(|event| event.map(|event| event.key))
            .collect();
        assert_eq!(
            keys,
            [
                Ok(ObjectKey::new("a")),
                Err(bad_text("s3.object.key", "%ff", "must be UTF-8 once it is decoded")),
                Err(ParseError::MissingField { field: "eventName" }),
                Ok(ObjectKey::new("b")),
            ]
        );
        assert_eq!(parse(b"{}"), [Err(ParseError::MissingField { field: "Records" })]);
    }
}
