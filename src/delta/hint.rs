//! `_last_checkpoint`: only ever a hint (Delta protocol, "Last Checkpoint File").

use std::fmt::Write as _;

use md5::{Digest, Md5};
use serde_json::{Map, Value};

/// Name of the hint in the log.
pub(super) const NAME: &str = "_last_checkpoint";

/// The version that a hint names; `None` when it cannot be trusted.
pub(super) fn parse_hint(bytes: &[u8]) -> Option<u64> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let object = value.as_object()?;
    if let Some(checksum) = object.get("checksum") {
        let expected = checksum_of(object);
        if !checksum.as_str()?.eq_ignore_ascii_case(&expected) {
            return None;
        }
    }
    object.get("version")?.as_u64()
}

/// The hint that names a single-file checkpoint.
pub(super) fn encode_hint(version: u64, actions: u64, size: u64, adds: u64) -> String {
    let mut object = Map::new();
    object.insert("version".to_owned(), version.into());
    object.insert("size".to_owned(), actions.into());
    object.insert("sizeInBytes".to_owned(), size.into());
    object.insert("numOfAddFiles".to_owned(), adds.into());
    let checksum = checksum_of(&object);
    object.insert("checksum".to_owned(), checksum.into());
    Value::Object(object).to_string()
}

/// MD5 of the canonical form (Delta protocol, "JSON checksum").
fn checksum_of(object: &Map<String, Value>) -> String {
    let mut hex = String::with_capacity(32);
    for byte in Md5::digest(canonical_form(object)) {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn canonical_form(object: &Map<String, Value>) -> String {
    let mut leaves = Vec::new();
    for (key, value) in object.iter().filter(|(key, _)| *key != "checksum") {
        flatten(value, quote(key), &mut leaves);
    }
    leaves.sort();
    let leaves: Vec<_> = leaves
        .into_iter()
        .map(|(path, value)| format!("{path}={value}"))
        .collect();
    leaves.join(",")
}

/// Nesting is bounded: `serde_json` reads no more than 128 levels.
fn flatten(value: &Value, path: String, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                flatten(value, format!("{path}+{}", quote(key)), leaves);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                flatten(value, format!("{path}+{index}"), leaves);
            }
        }
        Value::String(text) => leaves.push((path, quote(text))),
        other => leaves.push((path, other.to_string())),
    }
}

fn quote(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    format!("\"{}\"", utf8_percent_encode(text, RESERVED))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vector of the specification.
    const SAMPLE: &str = r#"{"k0":"'v 0'", "checksum": "adsaskfljadfkjadfkj", "k1":{"k2": 2, "k3": ["v3", [1, 2], {"k4": "v4", "k5": ["v5", "v6", "v7"]}]}}"#;

    #[test]
    fn the_checksum_is_that_of_the_specification() {
        let value: Value = serde_json::from_str(SAMPLE).unwrap();
        let object = value.as_object().unwrap();
        assert_eq!(
            canonical_form(object),
            concat!(
                r#""k0"="%27v%200%27","k1"+"k2"=2,"k1"+"k3"+0="v3","k1"+"k3"+1+0=1,"k1"+"k3"+1+1=2,"#,
                r#""k1"+"k3"+2+"k4"="v4","k1"+"k3"+2+"k5"+0="v5","k1"+"k3"+2+"k5"+1="v6","k1"+"k3"+2+"k5"+2="v7""#
            )
        );
        assert_eq!(checksum_of(object), "6a92d155a59bf2eecbd4b4ec7fd1f875");
    }

    #[test]
    fn a_hint_is_trusted_only_with_its_checksum() {
        let hint = encode_hint(10, 14, 1_000, 12);
        assert_eq!(parse_hint(hint.as_bytes()), Some(10));
        assert_eq!(
            parse_hint(hint.replace("\"version\":10", "\"version\":11").as_bytes()),
            None
        );
        assert_eq!(parse_hint(br#"{"version":3,"size":1}"#), Some(3));
        assert_eq!(parse_hint(b"{\"version\":3"), None);
        assert_eq!(parse_hint(b"[]"), None);
        assert_eq!(parse_hint(br#"{"version":-1}"#), None);
    }
}
