//! What the protocol numbers: sources, windows, seqs, lanes, attempts, workers.

use std::fmt;

use crate::set::{Ordinal, Set};

/// Most windows.
pub const WINDOWS: usize = 2;
/// Most seqs of a lane.
pub const SEQS: usize = 4;
/// Most lane ids: the first, the one made after the manifest was lost, and the one an operator's door makes.
pub const LANES: usize = 3;
/// Most workers.
pub const WORKERS: usize = 3;

/// One content of one source file: a key has a first and perhaps a second content, told apart by their etags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(u8);

impl Source {
    /// What the writer put under the same key later on.
    #[must_use]
    pub fn second(self) -> Self {
        Self(self.0 % 4 + 4)
    }

    /// Whether it is the first content of its key.
    pub fn is_first(self) -> bool {
        self.0 < 4
    }
}

impl Ordinal for Source {
    fn index(self) -> usize {
        usize::from(self.0)
    }

    fn at(index: usize) -> Self {
        Self(number(index))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = char::from(b'A' + self.0 % 4);
        let etag = if self.is_first() { "" } else { "'" };
        write!(f, "{key}{etag}")
    }
}

/// A set of sources.
pub type Sources = Set<Source>;

impl Sources {
    /// Everything under the keys of these sources, in whatever content.
    #[must_use]
    pub fn of_same_keys(self) -> Self {
        let keys = (self.bits() | self.bits() >> 4) & 0xf;
        Self::from_bits(keys | keys << 4)
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        self.iter().try_for_each(|source| write!(f, "{source}"))
    }
}

/// A window; its state is one key of the state store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window(u8);

impl Ordinal for Window {
    fn index(self) -> usize {
        usize::from(self.0)
    }

    fn at(index: usize) -> Self {
        Self(number(index))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 + 1)
    }
}

/// A place in the order of a lane's plans, from 1; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u8);

impl Seq {
    /// Before the first.
    pub const ZERO: Self = Self(0);

    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The one before it.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Every seq that a model has room for.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..SEQS).map(Self::at)
    }

    /// Whether the model has room for it.
    pub fn is_in_range(self) -> bool {
        (1..=SEQS).contains(&usize::from(self.0))
    }

    /// Whether it is one of the first `count` seqs.
    pub fn is_up_to(self, count: u8) -> bool {
        self.0 <= count
    }
}

impl Ordinal for Seq {
    fn index(self) -> usize {
        usize::from(self.0) - 1
    }

    fn at(index: usize) -> Self {
        Self(number(index) + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The id of a lane, in the order in which they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(u8);

impl Lane {
    /// The lane that everything begins with.
    pub const FIRST: Self = Self(0);

    /// Every lane id.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..LANES).map(Self::at)
    }

    /// The next id, if the model has room for it.
    pub fn next(self) -> Option<Self> {
        (usize::from(self.0) + 1 < LANES).then_some(Self(self.0 + 1))
    }
}

impl Ordinal for Lane {
    fn index(self) -> usize {
        usize::from(self.0)
    }

    fn at(index: usize) -> Self {
        Self(number(index))
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lane {}", self.0 + 1)
    }
}

/// The random id of an attempt. Only whether two differ counts, so a new one is the lowest that nobody has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(u8);

impl Ordinal for Attempt {
    fn index(self) -> usize {
        usize::from(self.0)
    }

    fn at(index: usize) -> Self {
        Self(number(index))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 + 1)
    }
}

/// A set of attempts.
pub type Attempts = Set<Attempt>;

impl Attempts {
    /// The lowest attempt that is not in it, if the model has room for one.
    pub fn lowest_free(self) -> Option<Attempt> {
        (0..8).map(Attempt::at).find(|attempt| !self.has(*attempt))
    }
}

/// Any process that works on the lane. Which one does a step does not matter, so they are kept in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(u8);

impl Ordinal for WorkerId {
    fn index(self) -> usize {
        usize::from(self.0)
    }

    fn at(index: usize) -> Self {
        Self(number(index))
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", self.0 + 1)
    }
}

/// Everything that is numbered is few.
fn number(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}
