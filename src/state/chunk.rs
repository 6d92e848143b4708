//! The entries of one chunk of a document, as they are kept and as they are written.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::StateKey;
use crate::error::{Error, ErrorKind, Result};

/// Number of the form in which chunks are written.
const FORMAT: u32 = 1;
/// Length of a chunk without entries, with room for a longer format number.
pub(super) const EMPTY_CHUNK_BYTES: usize = 32;

/// One copy of an entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "r")]
    pub(super) revision: u64,
    #[serde(rename = "j")]
    pub(super) json: Box<RawValue>,
}

impl Entry {
    /// Upper bound of what it takes in a chunk.
    pub(super) fn bytes(&self, key: &str) -> usize {
        // A control character becomes `\u00xx`; all others at most two bytes for one.
        let key: usize = key
            .bytes()
            .map(|b| {
                if b < 0x20 {
                    6
                } else if b"\"\\".contains(&b) {
                    2
                } else {
                    1
                }
            })
            .sum();
        let revision = self.revision.checked_ilog10().map_or(1, |log| log as usize + 1);
        key + revision + self.json.get().len() + r#""":{"r":,"j":},"#.len()
    }
}

/// The entries of a chunk and what they take.
#[derive(Clone, Debug, Default)]
pub(super) struct Sheet {
    pub(super) entries: BTreeMap<String, Entry>,
    bytes: usize,
}

/// A chunk as it is written.
#[derive(Serialize)]
struct WireOut<'a> {
    format: u32,
    entries: &'a BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct WireIn {
    entries: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct WireFormat {
    format: u32,
}

impl Sheet {
    pub(super) fn insert(&mut self, key: &str, entry: Entry) {
        self.bytes += entry.bytes(key);
        if let Some(old) = self.entries.insert(key.to_owned(), entry) {
            self.bytes -= old.bytes(key);
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        if let Some(old) = self.entries.remove(key) {
            self.bytes -= old.bytes(key);
        }
    }

    /// What it takes with `entry` in the place of the one of that key.
    pub(super) fn bytes_with(&self, key: &str, entry: &Entry) -> usize {
        let old = self.entries.get(key).map_or(0, |old| old.bytes(key));
        EMPTY_CHUNK_BYTES + self.bytes - old + entry.bytes(key)
    }

    pub(super) fn encode(&self, key: &StateKey) -> Result<Bytes> {
        let (format, entries) = (FORMAT, &self.entries);
        let bytes = serde_json::to_vec(&WireOut { format, entries });
        let encoded = bytes.map_err(|e| {
            let message = format!("state chunk cannot be written. key=`{key}`");
            Error::new(ErrorKind::Internal, message).with_source(e)
        });
        Ok(encoded?.into())
    }

    pub(super) fn decode(key: &StateKey, bytes: &[u8]) -> Result<Self> {
        let malformed = |e| {
            let message = format!("state chunk is malformed. key=`{key}`");
            Error::new(ErrorKind::Data, message).with_source(e)
        };
        let WireFormat { format } = serde_json::from_slice(bytes).map_err(malformed)?;
        if format != FORMAT {
            let message =
                format!("state chunk is of another form than this release writes. key=`{key}` form=`{format}`");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let WireIn { entries } = serde_json::from_slice(bytes).map_err(malformed)?;
        let bytes = entries.iter().map(|(key, entry)| entry.bytes(key)).sum();
        Ok(Self { entries, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_never_takes_more_than_is_reckoned() {
        let mut sheet = Sheet::default();
        for (n, key) in ["", "plain", "\"\\", "\u{1}\n", "ü", &"k".repeat(200)]
            .into_iter()
            .enumerate()
        {
            let json = RawValue::from_string(format!("[{n}]")).unwrap();
            let revision = [0, 1, 9, 10, 999, u64::MAX][n];
            sheet.insert(key, Entry { revision, json });
        }
        let key = StateKey::new(["k"]);
        let bytes = sheet.encode(&key).unwrap();
        assert!(
            bytes.len() <= sheet.bytes + EMPTY_CHUNK_BYTES,
            "{} {}",
            bytes.len(),
            sheet.bytes
        );
        let read = Sheet::decode(&key, &bytes).unwrap();
        assert_eq!(read.bytes, sheet.bytes);
        assert_eq!(read.encode(&key).unwrap(), bytes);
    }

    #[test]
    fn a_chunk_of_a_later_form_is_refused_and_garbage_is_bad_data() {
        let key = StateKey::new(["k"]);
        let later = Sheet::decode(&key, br#"{"format":2,"entries":[]}"#).unwrap_err();
        assert_eq!(later.kind(), ErrorKind::Unsupported);
        let garbage = Sheet::decode(&key, b"{\"format\":1").unwrap_err();
        assert_eq!(garbage.kind(), ErrorKind::Data);
    }
}
