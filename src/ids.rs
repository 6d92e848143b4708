//! Identifiers of the lane protocol, and where their randomness comes from.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind};

/// Source of randomness for lane and attempt ids. A simulator or a wasm host replaces it.
pub trait Randomness: fmt::Debug + Send + Sync + 'static {
    /// 128 bits that nobody else will draw.
    fn random_u128(&self) -> u128;
}

impl<T: Randomness + ?Sized> Randomness for Arc<T> {
    fn random_u128(&self) -> u128 {
        (**self).random_u128()
    }
}

/// The system's source of randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn random_u128(&self) -> u128 {
        // Six bits of a version 4 UUID are fixed; two of them give all 128.
        let (a, b) = (uuid::Uuid::new_v4().as_u128(), uuid::Uuid::new_v4().as_u128());
        a ^ b.rotate_left(64)
    }
}

/// Place of a plan in its lane: 1, 2, 3, … 0 stands before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    /// Before the first plan.
    pub const ZERO: Self = Self(0);

    /// The seq of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The seq after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The seq before this one; that of 0 is 0.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! hex_newtype {
    ($(#[$doc:meta])* $name:ident, $int:ty, $digits:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{:0", $digits, "x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                let lower_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
                <$int>::from_str_radix(text, 16)
                    .ok()
                    .filter(|_| text.len() == $digits && text.chars().all(lower_hex))
                    .map(Self)
                    .ok_or_else(|| {
                        Error::new(
                            ErrorKind::Invalid,
                            format!(concat!("not an id of ", $digits, " lower-case hex digits. value=`{}`"), text),
                        )
                    })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_newtype! {
    /// The random id of a lane: a new register never mistakes an old one's objects for its own.
    LaneId, u128, 32
}

hex_newtype! {
    /// The random id of one try at carrying out a plan; part of the names of its files. 63 bits, so that a
    /// table that can only hold a signed number can hold it.
    AttemptId, u64, 16
}

hex_newtype! {
    /// The first 63 bits of a [`PlanHash`], which is what every table format can carry.
    HashPrefix, u64, 16
}

impl LaneId {
    /// The lane id of this number.
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }

    /// Draws a new lane id.
    pub fn random(randomness: &dyn Randomness) -> Self {
        Self(randomness.random_u128())
    }
}

impl AttemptId {
    /// The attempt id of the lower 63 bits of `number`.
    pub const fn from_u64(number: u64) -> Self {
        Self(number & (u64::MAX >> 1))
    }

    /// Draws a new attempt id.
    pub fn random(randomness: &dyn Randomness) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the lower bits are as random as the upper"
        )]
        Self::from_u64(randomness.random_u128() as u64)
    }

    /// As a non-negative number.
    pub const fn as_i64(self) -> i64 {
        self.0.cast_signed()
    }
}

impl HashPrefix {
    /// The prefix of the lower 63 bits of `number`.
    pub const fn from_u64(number: u64) -> Self {
        Self(number & (u64::MAX >> 1))
    }

    /// As a non-negative number.
    pub const fn as_i64(self) -> i64 {
        self.0.cast_signed()
    }
}

/// SHA-256 of some bytes, in lower-case hex where it is written down.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// An id that is the same for the same digest: of its first half.
    #[cfg(feature = "delta")]
    pub(crate) fn uuid(self) -> uuid::Uuid {
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// The bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256Digest({self})")
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Vec<u8> = text
            .chars()
            .map_while(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
            .collect();
        let mut bytes = [0; 32];
        if digits.len() != 64 || text.len() != 64 {
            return Err(serde::de::Error::custom("not a SHA-256 digest of 64 hex digits"));
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |value, digit| value << 4 | digit);
        }
        Ok(Self(bytes))
    }
}

/// The hash of a plan object's bytes. Each plan names that of the plan before it, so plans form a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanHash(Sha256Digest);

impl PlanHash {
    /// The hash of an encoded plan.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256Digest::of(bytes))
    }

    /// The first 63 bits.
    pub fn prefix(&self) -> HashPrefix {
        let first = self
            .0
            .0
            .iter()
            .take(8)
            .fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        HashPrefix(first >> 1)
    }
}

impl fmt::Display for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_as_fixed_hex() {
        let lane = LaneId::from_u128(0xab);
        assert_eq!(lane.to_string(), "000000000000000000000000000000ab");
        assert_eq!(lane.to_string().parse::<LaneId>().unwrap(), lane);
        assert!("AB".parse::<LaneId>().is_err());
        assert!("000000000000000000000000000000AB".parse::<LaneId>().is_err());
        assert!("+0000000000000ab".parse::<AttemptId>().is_err());
        assert!(AttemptId::from_u64(u64::MAX).as_i64() >= 0);
    }

    #[test]
    fn a_plan_hash_round_trips_and_has_a_prefix_of_63_bits() {
        let hash = PlanHash::of(b"plan");
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(serde_json::from_str::<PlanHash>(&json).unwrap(), hash);
        let first = u64::from_str_radix(&hash.to_string()[..16], 16).unwrap();
        assert_eq!(hash.prefix().as_i64(), (first >> 1).cast_signed());
        assert!(serde_json::from_str::<PlanHash>("\"é\"").is_err());
    }
}
