//! What the wire forms have in common: fields of JSON, encoded keys, and text that is packed into text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::{ObjectEvent, ParseError};
use crate::time::Timestamp;

/// A result for each notification of a message.
pub(super) type Parsed = Vec<Result<ObjectEvent, ParseError>>;

/// The JSON of a body, read by `read`; a body that is no JSON is one bad notification.
pub(super) fn of_json(body: &[u8], read: impl FnOnce(&Value) -> Parsed) -> Parsed {
    match serde_json::from_slice(body) {
        Ok(value) => read(&value),
        Err(e) => vec![Err(ParseError::NotJson { detail: e.to_string() })],
    }
}

/// One notification, or each of an array of them; what `read` gives nothing for is about nothing that is created or
/// deleted.
pub(super) fn one_or_many(value: &Value, read: impl Fn(&Value) -> Result<Option<ObjectEvent>, ParseError>) -> Parsed {
    match value {
        Value::Array(all) => all.iter().filter_map(|one| read(one).transpose()).collect(),
        one => read(one).transpose().into_iter().collect(),
    }
}

/// A field that is there and not null.
pub(super) fn known<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    value.pointer(pointer).filter(|found| !found.is_null())
}

pub(super) fn text<'a>(value: &'a Value, pointer: &str, field: &'static str) -> Result<Option<&'a str>, ParseError> {
    known(value, pointer)
        .map(|found| found.as_str().ok_or_else(|| bad_field(field, found, "must be text")))
        .transpose()
}

pub(super) fn required<'a>(value: &'a Value, pointer: &str, field: &'static str) -> Result<&'a str, ParseError> {
    text(value, pointer, field)?.ok_or(ParseError::MissingField { field })
}

/// A number of bytes, which some services write as text.
pub(super) fn size(value: &Value, pointer: &str, field: &'static str) -> Result<Option<u64>, ParseError> {
    let number = |found: &Value| match found {
        Value::String(digits) => digits.parse().ok(),
        number => number.as_u64(),
    };
    known(value, pointer)
        .map(|found| number(found).ok_or_else(|| bad_field(field, found, "must be a number of bytes")))
        .transpose()
}

/// Shown, never decided by: a time in an unknown form is no reason to lose the event.
pub(super) fn time(value: &Value, pointer: &str) -> Option<Timestamp> {
    value.pointer(pointer)?.as_str()?.parse().ok()
}

pub(super) fn bad_field(field: &'static str, value: &Value, rule: &'static str) -> ParseError {
    ParseError::BadField {
        field,
        value: value.to_string(),
        rule,
    }
}

pub(super) fn bad_text(field: &'static str, value: &str, rule: &'static str) -> ParseError {
    ParseError::BadField {
        field,
        value: value.to_owned(),
        rule,
    }
}

/// A key that is encoded as in a form (`application/x-www-form-urlencoded`): `+` is a space, `%XX` a byte of UTF-8.
pub(super) fn form_decoded(text: &str, field: &'static str) -> Result<String, ParseError> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    let decoded = decoded.map_err(|_| bad_text(field, text, "must be UTF-8 once it is decoded"))?;
    Ok(decoded.into_owned())
}

/// Bytes that are packed into text by base64.
pub(super) fn unpacked(text: &str, field: &'static str) -> Result<Vec<u8>, ParseError> {
    STANDARD
        .decode(text.trim())
        .map_err(|_| bad_text(field, text, "must be base64"))
}
