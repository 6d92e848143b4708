//! Names that any text can be turned into: one percent-encoded path segment.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

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

#[cfg(test)]
mod tests {
    use super::*;

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
