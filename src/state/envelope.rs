//! What an object of the object-store backend holds: who wrote it, after whom, and the value.

use std::fmt;
use std::str::FromStr;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::StateKey;
use crate::error::{Error, ErrorKind, Result as StateResult};

/// Starts every object; the number is that of the form.
const MAGIC: &str = "firnline-state 1 ";
/// What every form begins with.
const FAMILY: &str = "firnline-state ";
const NONCE_DIGITS: usize = 32;
/// Length of all that stands before a value, and of a whole tombstone.
pub(super) const HEADER_LEN: usize = MAGIC.len() + NONCE_DIGITS + 1 + NONCE_DIGITS;
/// Stands between header and value, so that a value of no bytes is longer than a tombstone.
const SEPARATOR: u8 = b'\n';

/// A random number that tells one write from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonce(pub(super) u128);

impl Nonce {
    /// Stands for the write before the first.
    pub(super) const NONE: Self = Self(0);
    /// Stands for the write before one whose object is damaged.
    pub(super) const LOST: Self = Self(u128::MAX);
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Nonce {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.len() != NONCE_DIGITS || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(());
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| ())
    }
}

/// The two nonces of a header: of this write and of the one that it replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) nonce: Nonce,
    pub(super) previous: Nonce,
}

impl Header {
    /// Reads the first [`HEADER_LEN`] bytes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.get(..HEADER_LEN)?).ok()?;
        let (nonce, previous) = text.strip_prefix(MAGIC)?.split_once(' ')?;
        Some(Self {
            nonce: nonce.parse().ok()?,
            previous: previous.parse().ok()?,
        })
    }

    /// Reads the first [`HEADER_LEN`] bytes, or as many as there are, of an object that may be damaged: that is told
    /// from others by what these bytes are, so that it can be replaced like any other.
    pub(super) fn read(key: &StateKey, bytes: &[u8]) -> StateResult<Self> {
        if let Some(header) = Self::decode(bytes) {
            return Ok(header);
        }
        if is_of_another_form(bytes) {
            let message = format!("state object of another form than this release writes. key=`{key}`");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let head = bytes.get(..HEADER_LEN).unwrap_or(bytes);
        let nonce = Sha256::digest(head)
            .iter()
            .take(16)
            .fold(0, |n, byte| n << 8 | u128::from(*byte));
        Ok(Self {
            nonce: Nonce(nonce),
            previous: Nonce::LOST,
        })
    }

    /// The object of this write; `None` is a tombstone.
    pub(super) fn encode(self, value: Option<&[u8]>) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER_LEN + 1 + value.map_or(0, <[u8]>::len));
        bytes.extend_from_slice(format!("{MAGIC}{} {}", self.nonce, self.previous).as_bytes());
        if let Some(value) = value {
            bytes.extend_from_slice(&[SEPARATOR]);
            bytes.extend_from_slice(value);
        }
        bytes.freeze()
    }
}

/// A whole object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) header: Header,
    /// `None`: the key has been deleted.
    pub(super) value: Option<Bytes>,
}

impl Envelope {
    /// Reads an object. The value of one that is damaged is all it holds: whoever wrote the value finds that out.
    pub(super) fn read(key: &StateKey, bytes: &Bytes) -> StateResult<Self> {
        match Self::decode(bytes) {
            Some(envelope) => Ok(envelope),
            None => Ok(Self {
                header: Header::read(key, bytes)?,
                value: Some(bytes.clone()),
            }),
        }
    }

    /// Reads an object; `None` if it is not one of ours.
    fn decode(bytes: &Bytes) -> Option<Self> {
        let header = Header::decode(bytes)?;
        let value = match bytes.get(HEADER_LEN) {
            None => None,
            Some(&SEPARATOR) => Some(bytes.slice(HEADER_LEN + 1..)),
            Some(_) => return None,
        };
        Some(Self { header, value })
    }
}

/// Whether an object begins as those of another form do.
fn is_of_another_form(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(FAMILY.as_bytes()) else {
        return false;
    };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    digits > 0 && rest.get(digits) == Some(&b' ') && !bytes.starts_with(MAGIC.as_bytes())
}

/// Whether an object of this size is a tombstone.
pub(super) fn is_tombstone(size: u64) -> bool {
    size == HEADER_LEN as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_tombstones_round_trip_and_differ_in_length() {
        let header = Header {
            nonce: Nonce(7),
            previous: Nonce::NONE,
        };
        for value in [None, Some(&b""[..]), Some(b"\n"), Some(b"abc")] {
            let bytes = header.encode(value);
            assert_eq!(is_tombstone(bytes.len() as u64), value.is_none());
            let value = value.map(Bytes::copy_from_slice);
            assert_eq!(Envelope::decode(&bytes), Some(Envelope { header, value }));
        }
    }

    #[test]
    fn what_is_not_ours_is_not_read() {
        let good = Header {
            nonce: Nonce(7),
            previous: Nonce(8),
        }
        .encode(Some(b"x"));
        assert_eq!(Envelope::decode(&good.slice(..HEADER_LEN - 1)), None);
        assert_eq!(Envelope::decode(&Bytes::from_static(b"{}")), None);
        let mut other = good.to_vec();
        other[HEADER_LEN] = b' ';
        assert_eq!(Envelope::decode(&other.into()), None);
    }

    #[test]
    fn a_damaged_object_is_a_write_with_a_value_of_its_own_and_one_of_another_form_is_refused() {
        let key = StateKey::new(["k"]);
        for damaged in [&b""[..], b"{}", b"firnline-state 1 zz", &[0xff; 2 * HEADER_LEN]] {
            let bytes = Bytes::copy_from_slice(damaged);
            let envelope = Envelope::read(&key, &bytes).unwrap();
            assert_eq!(envelope.value.as_ref(), Some(&bytes));
            assert_eq!(envelope.header.previous, Nonce::LOST);
            let head = bytes.slice(..bytes.len().min(HEADER_LEN));
            assert_eq!(Header::read(&key, &head).unwrap(), envelope.header, "{damaged:?}");
        }
        let good = Header {
            nonce: Nonce(7),
            previous: Nonce(8),
        };
        let mut trailing = good.encode(Some(b"x")).to_vec();
        trailing[HEADER_LEN] = b' ';
        assert_eq!(Envelope::read(&key, &trailing.into()).unwrap().header, good);
        let later = Envelope::read(&key, &Bytes::from_static(b"firnline-state 2 abc")).unwrap_err();
        assert_eq!(later.kind(), ErrorKind::Unsupported);
    }
}
