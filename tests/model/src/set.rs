//! Small sets and tables over numbered things, so that a state is a few hundred bytes without pointers.

use std::marker::PhantomData;
use std::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Index, IndexMut, Sub, SubAssign};

/// Something that is numbered from 0, up to 8 of a kind.
pub trait Ordinal: Copy {
    /// Its number.
    fn index(self) -> usize;
    /// The thing of a number.
    fn at(index: usize) -> Self;
}

/// A set of up to eight things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set<T> {
    bits: u8,
    of: PhantomData<T>,
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<T> Set<T> {
    /// Nothing.
    pub const EMPTY: Self = Self::from_bits(0);

    /// The things whose bits are set.
    pub const fn from_bits(bits: u8) -> Self {
        Self { bits, of: PhantomData }
    }

    /// A bit for each thing.
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// Whether the two have something in common.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "copied, which the lint does not see of any `T`"
    )]
    pub const fn meets(self, other: Self) -> bool {
        self.bits & other.bits != 0
    }

    /// Whether all of it is in the other.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "copied, which the lint does not see of any `T`"
    )]
    pub const fn is_within(self, other: Self) -> bool {
        self.bits & !other.bits == 0
    }
}

impl<T: Ordinal> Set<T> {
    /// One thing alone.
    pub fn one(thing: T) -> Self {
        Self::from_bits(1 << thing.index())
    }

    /// Whether it has the thing.
    pub fn has(self, thing: T) -> bool {
        self.meets(Self::one(thing))
    }

    /// Its things in their order.
    pub fn iter(self) -> impl Iterator<Item = T> {
        (0..8).filter(move |index| self.bits >> index & 1 == 1).map(T::at)
    }
}

impl<T: Ordinal> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(things: I) -> Self {
        things
            .into_iter()
            .fold(Self::EMPTY, |all, thing| all | Self::one(thing))
    }
}

impl<T> BitOr for Set<T> {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self::from_bits(self.bits | other.bits)
    }
}

impl<T> BitAnd for Set<T> {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self::from_bits(self.bits & other.bits)
    }
}

impl<T> Sub for Set<T> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self::from_bits(self.bits & !other.bits)
    }
}

impl<T> BitOrAssign for Set<T> {
    fn bitor_assign(&mut self, other: Self) {
        self.bits |= other.bits;
    }
}

impl<T> BitAndAssign for Set<T> {
    fn bitand_assign(&mut self, other: Self) {
        self.bits &= other.bits;
    }
}

impl<T> SubAssign for Set<T> {
    fn sub_assign(&mut self, other: Self) {
        self.bits &= !other.bits;
    }
}

/// One value for each of `N` numbered things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct By<K, V, const N: usize> {
    values: [V; N],
    by: PhantomData<K>,
}

impl<K, V, const N: usize> By<K, V, N> {
    /// These values, in the order of the things.
    pub const fn new(values: [V; N]) -> Self {
        Self {
            values,
            by: PhantomData,
        }
    }

    /// The values in the order of the things.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.values.iter()
    }

    /// The values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.values.iter_mut()
    }
}

impl<K, V: Ord, const N: usize> By<K, V, N> {
    /// Puts the greatest values first, where it does not matter whose they are.
    pub fn sort_down(&mut self) {
        self.values.sort_unstable_by(|a, b| b.cmp(a));
    }
}

impl<K: Ordinal, V, const N: usize> By<K, V, N> {
    /// Things and values.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.values
            .iter()
            .enumerate()
            .map(|(index, value)| (K::at(index), value))
    }
}

impl<K, V: Copy + Default, const N: usize> Default for By<K, V, N> {
    fn default() -> Self {
        Self::new([V::default(); N])
    }
}

impl<K: Ordinal, V, const N: usize> Index<K> for By<K, V, N> {
    type Output = V;
    #[expect(
        clippy::indexing_slicing,
        reason = "a model with a number out of range must not go on"
    )]
    fn index(&self, key: K) -> &V {
        &self.values[key.index()]
    }
}

impl<K: Ordinal, V, const N: usize> IndexMut<K> for By<K, V, N> {
    #[expect(
        clippy::indexing_slicing,
        reason = "a model with a number out of range must not go on"
    )]
    fn index_mut(&mut self, key: K) -> &mut V {
        &mut self.values[key.index()]
    }
}
