//! The encoded keys of a batch of rows, which compare as the rows are ordered.

use std::cmp::Ordering;
use std::ops::Range;

use arrow::row::{OwnedRow, Row, Rows};

use crate::quarantine::QuarantineReason;

/// Keys of rows. Most comparisons end at the first bytes, which lie side by side.
#[derive(Debug)]
pub(super) struct Keys {
    rows: Rows,
    heads: Vec<u128>,
}

impl From<Rows> for Keys {
    fn from(rows: Rows) -> Self {
        let heads = rows.iter().map(|row| head(row.as_ref())).collect();
        Self { rows, heads }
    }
}

/// The first bytes of a key. Shorter ones are filled up with zeros, and then may equal a longer one.
fn head(bytes: &[u8]) -> u128 {
    if let Some(first) = bytes.first_chunk() {
        return u128::from_be_bytes(*first);
    }
    let mut first = [0; 16];
    for (to, from) in first.iter_mut().zip(bytes) {
        *to = *from;
    }
    u128::from_be_bytes(first)
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    pub(super) fn memory_size(&self) -> usize {
        self.rows.size() + self.heads.capacity() * size_of::<u128>()
    }

    /// The whole key of a row.
    pub(super) fn row(&self, row: usize) -> Row<'_> {
        self.rows.row(row)
    }

    pub(super) fn owned(&self, row: usize) -> OwnedRow {
        self.rows.row(row).owned()
    }

    /// Compares a row with one of `others`; both must be there.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "rows are asked for by numbers below the length")]
    pub(super) fn compare(&self, row: usize, others: &Self, other: usize) -> Ordering {
        let heads = self.heads[row].cmp(&others.heads[other]);
        heads.then_with(|| self.rows.row(row).cmp(&others.rows.row(other)))
    }

    /// The first one of `rows` that does not come before `bound`, the first column of a key; their end if all do.
    pub(super) fn first_from(&self, rows: Range<usize>, bound: Row<'_>) -> usize {
        let (mut first, mut end) = (rows.start, rows.end);
        while first < end {
            let middle = first + (end - first) / 2;
            if self.row(middle).as_ref() < bound.as_ref() {
                first = middle + 1;
            } else {
                end = middle;
            }
        }
        first
    }

    /// The first row that does not come after the one before it, if there is one.
    pub(super) fn first_inversion(&self) -> Option<usize> {
        let pairs = self.heads.windows(2).zip(1..);
        let mut inversions = pairs.filter(|(pair, row)| match pair {
            [before, after] if before != after => after < before,
            _ => self.rows.row(*row) < self.rows.row(row - 1),
        });
        inversions.next().map(|(_, row)| row)
    }
}

/// How far the keys of an input have been read, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct InOrder {
    /// Rows so far.
    pub(super) rows: u64,
    /// The last key.
    pub(super) last: Option<OwnedRow>,
}

impl InOrder {
    /// Adds the keys of the next rows, which must not come before those so far.
    pub(super) fn add(&mut self, keys: &Keys) -> Result<(), QuarantineReason> {
        let Some(end) = keys.len().checked_sub(1) else {
            return Ok(());
        };
        let first_inversion = match &self.last {
            Some(last) if keys.row(0) < last.row() => Some(0),
            _ => keys.first_inversion(),
        };
        if let Some(row) = first_inversion {
            return Err(QuarantineReason::Unsorted {
                row: self.rows + row as u64,
            });
        }
        self.rows += keys.len() as u64;
        self.last = Some(keys.owned(end));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::StringArray;
    use arrow::datatypes::DataType;
    use arrow::row::{RowConverter, SortField};

    use super::*;

    fn keys(values: &[&str]) -> Keys {
        let converter = RowConverter::new(vec![SortField::new(DataType::Utf8)]).unwrap();
        let values = Arc::new(StringArray::from(values.to_vec()));
        converter.convert_columns(&[values]).unwrap().into()
    }

    #[test]
    fn keys_compare_as_their_rows_however_long_they_are() {
        let mut values: Vec<String> = (0..40).map(|length| "a".repeat(length)).collect();
        values.extend((0..40).map(|length| format!("{}b", "a".repeat(length))));
        values.extend(["\0".to_owned(), "\0\0".to_owned(), "\u{10ffff}".to_owned()]);
        let all: Vec<&str> = values.iter().map(String::as_str).collect();
        let keys = keys(&all);
        for a in 0..all.len() {
            for b in 0..all.len() {
                assert_eq!(
                    keys.compare(a, &keys, b),
                    all[a].cmp(all[b]),
                    "{:?} {:?}",
                    all[a],
                    all[b]
                );
            }
        }
    }

    #[test]
    fn the_first_inversion_is_found_behind_equal_beginnings() {
        let long = "a".repeat(30);
        let (x, y) = (format!("{long}x"), format!("{long}y"));
        assert_eq!(keys(&[&x, &x, &y]).first_inversion(), None);
        assert_eq!(keys(&[&x, &y, &x, "a"]).first_inversion(), Some(2));
        assert_eq!(keys(&["b", "a"]).first_inversion(), Some(1));
        assert_eq!(keys(&[]).first_inversion(), None);
    }
}
