//! Names that any text can be turned into: one percent-encoded path segment. JSON that may nest deep.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
#[cfg(any(feature = "delta", feature = "iceberg"))]
use serde::de::{DeserializeOwned, Error as _};

/// What is encoded in a segment: all but letters, digits, `.`, `_` and `-`.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');

/// `text` as one path segment. `.` and `..` are encoded whole, the empty text is `%`.
pub(crate) fn encode_segment(text: &str) -> String {
    match text {
        "" => "%".to_owned(),
        "." | ".." => text.replace('.', "%2E"),
        _ => utf8_percent_encode(text, SEGMENT).to_string(),
    }
}

/// The text of a segment; invalid sequences stay as they are.
pub(crate) fn decode_segment(segment: &str) -> String {
    match segment {
        "%" => String::new(),
        _ => percent_decode_str(segment).decode_utf8_lossy().into_owned(),
    }
}

/// Deepest nesting of a JSON document. Schemas of tables take three levels for each of a column's, of which there are at
/// most 64.
#[cfg(any(feature = "delta", feature = "iceberg"))]
const MAX_JSON_DEPTH: usize = 256;

/// Reads JSON that holds a table's schema, which may nest deeper than `serde_json` lets documents by itself.
///
/// # Errors
///
/// As for [`serde_json::from_slice`]; nesting is limited still.
#[cfg(any(feature = "delta", feature = "iceberg"))]
pub(crate) fn deep_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let depth = json_depth(bytes);
    if depth > MAX_JSON_DEPTH {
        let message = format!("nested too deep. depth=`{depth}` limit=`{MAX_JSON_DEPTH}`");
        return Err(serde_json::Error::custom(message));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    deserializer.disable_recursion_limit();
    let value = T::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// The most brackets that are open at once; of text that is no JSON, some number.
#[cfg(any(feature = "delta", feature = "iceberg"))]
fn json_depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut is_escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_text,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(feature = "delta", feature = "iceberg"))]
    #[test]
    fn json_may_nest_deep_but_not_without_end() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let read = |text: &str| deep_json::<serde_json::Value>(text.as_bytes());
        read(&nested(MAX_JSON_DEPTH)).unwrap();
        for depth in [MAX_JSON_DEPTH + 1, 1_000_000] {
            let error = read(&nested(depth)).unwrap_err();
            assert!(error.to_string().contains("limit=`256`"), "{error}");
        }
        assert_eq!(json_depth(br#"{"a[{\"[":[1,{"\\":2}],"b":[]}"#), 3);
        assert!(read("[1] 2").is_err());
    }

    #[test]
    fn segments_round_trip_and_cannot_meet() {
        for text in ["", ".", "..", "eu/users", "eu", "ü +%", "a_b-c.d"] {
            let segment = encode_segment(text);
            assert!(!segment.contains('/'), "{segment}");
            assert_eq!(decode_segment(&segment), text);
        }
        assert_eq!(encode_segment("eu/plans"), "eu%2Fplans");
    }
}
