//! How long the values of a page are, told before they are decoded: encodings that repeat values or parts of them come
//! to far more bytes than their page has, and their decoders allocate by counts that they do not check.
//!
//! Encodings as parquet-format's `Encodings.md` has them.

use parquet::errors::ParquetError;

/// Checks that numbers in `DELTA_BINARY_PACKED` are no more than `most`, as their head says.
pub(super) fn check_delta(bytes: &[u8], most: u64) -> Result<(), ParquetError> {
    Head::read(bytes, &mut 0, most).map(|_| ())
}

/// Hands out numbers in `DELTA_BINARY_PACKED`, of which there may be `most`. Where they end.
pub(super) fn walk_delta(bytes: &[u8], most: u64, mut visit: impl FnMut(i32)) -> Result<usize, ParquetError> {
    let mut at = 0;
    let Head {
        part,
        parts,
        count,
        first,
    } = Head::read(bytes, &mut at, most)?;
    if count == 0 {
        return Ok(at);
    }
    let mut last = first;
    visit(last);
    let mut left = count - 1;
    while left > 0 {
        let step = zigzag(varint(bytes, &mut at)?);
        for width in take(bytes, &mut at, parts)? {
            if left == 0 {
                break;
            }
            // The last part of all is written in full too.
            let packed = take(bytes, &mut at, u64::from(*width).saturating_mul(part) / 8)?;
            let here = part.min(left);
            left -= here;
            for index in 0..here {
                last = last
                    .wrapping_add(step)
                    .wrapping_add(unpack(packed, index, *width)?.cast_signed());
                visit(last);
            }
        }
    }
    Ok(at)
}

/// How numbers in `DELTA_BINARY_PACKED` begin.
struct Head {
    /// Numbers in a part of a block.
    part: u64,
    /// Parts of a block.
    parts: u64,
    /// Of all numbers.
    count: u64,
    first: i32,
}

impl Head {
    fn read(bytes: &[u8], at: &mut usize, most: u64) -> Result<Self, ParquetError> {
        let block = varint(bytes, at)?;
        let parts = varint(bytes, at)?;
        let count = varint(bytes, at)?;
        let first = zigzag(varint(bytes, at)?);
        if count > most {
            return Err(broken("more lengths than values"));
        }
        let part = block.checked_div(parts).filter(|part| *part > 0 && part % 32 == 0);
        let part = part.ok_or_else(|| broken("a block of no size"))?;
        Ok(Self {
            part,
            parts,
            count,
            first,
        })
    }
}

/// Hands out the indexes of a page with a dictionary, of which there may be `most`.
pub(super) fn walk_indexes(bytes: &[u8], most: u64, mut visit: impl FnMut(u32, u64)) -> Result<(), ParquetError> {
    let (Some(&width), mut at, mut left) = (bytes.first(), 1, most) else {
        return Ok(());
    };
    while left > 0 && at < bytes.len() {
        let head = varint(bytes, &mut at)?;
        if head & 1 == 0 {
            let value = unpack(take(bytes, &mut at, u64::from(width).div_ceil(8))?, 0, width)?;
            let times = (head >> 1).min(left);
            visit(value, times);
            left -= times;
        } else {
            // The last group may end with the values that there are.
            let there = bytes.get(at..).unwrap_or_default();
            let told = (head >> 1).saturating_mul(u64::from(width));
            let packed = take(bytes, &mut at, told.min(there.len() as u64))?;
            let numbers = (packed.len() as u64 * 8).checked_div(u64::from(width)).unwrap_or(left);
            let here = (head >> 1).saturating_mul(8).min(numbers).min(left);
            for index in 0..here {
                visit(unpack(packed, index, width)?, 1);
            }
            left -= here;
        }
    }
    Ok(())
}

/// The lengths of `count` byte arrays in `PLAIN`.
pub(super) fn plain_lengths(bytes: &[u8], count: u64) -> impl Iterator<Item = u32> + '_ {
    let mut rest = bytes;
    (0..count).map_while(move |_| {
        let (length, values) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        rest = usize::try_from(length).ok().and_then(|length| values.get(length..))?;
        Some(length)
    })
}

/// The number at `index` among numbers of `width` bits: lengths and indexes have 32 at most, and so their differences.
fn unpack(packed: &[u8], index: u64, width: u8) -> Result<u32, ParquetError> {
    if width == 0 {
        return Ok(0);
    }
    if width > 32 {
        return Err(broken("lengths of more than 32 bits"));
    }
    let bit = index.saturating_mul(u64::from(width));
    let at = usize::try_from(bit / 8).map_err(|_| ends_early())?;
    let rest = packed.get(at..).unwrap_or_default();
    let mut word = [0; 8];
    match rest.first_chunk::<8>() {
        Some(whole) => word = *whole,
        // The last few.
        None => word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from),
    }
    Ok(low(u64::from_le_bytes(word) >> (bit % 8)) & (u32::MAX >> (32 - width)))
}

fn take<'a>(bytes: &'a [u8], at: &mut usize, count: u64) -> Result<&'a [u8], ParquetError> {
    let end = usize::try_from(count).ok().and_then(|count| at.checked_add(count));
    let taken = end.and_then(|end| bytes.get(*at..end)).ok_or_else(ends_early)?;
    *at += taken.len();
    Ok(taken)
}

fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, ParquetError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or_else(ends_early)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(broken("a number of more than 64 bits"))
}

/// As the decoder takes a number that should have 32 bits.
fn zigzag(raw: u64) -> i32 {
    low((raw >> 1) ^ (raw & 1).wrapping_neg()).cast_signed()
}

#[expect(clippy::cast_possible_truncation, reason = "the lower bits are what is asked for")]
fn low(word: u64) -> u32 {
    word as u32
}

fn ends_early() -> ParquetError {
    ParquetError::EOF("a page ends within its lengths".to_owned())
}

fn broken(detail: &str) -> ParquetError {
    ParquetError::General(detail.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(bytes: &[u8], most: u64) -> Result<(Vec<i32>, usize), ParquetError> {
        let mut numbers = Vec::new();
        let end = walk_delta(bytes, most, |number| numbers.push(number))?;
        Ok((numbers, end))
    }

    #[test]
    fn numbers_are_those_that_were_packed() {
        // A block of 128 in 4 parts, 3 numbers from 7 on: step -1, one width of 2 bits, then 0, 3.
        let mut bytes = vec![0x80, 0x01, 4, 3, 14, 1, 2, 0, 0, 0, 0b1100];
        bytes.extend([0; 7]);
        assert_eq!(delta(&bytes, 3).unwrap(), (vec![7, 6, 8], bytes.len()));
        assert!(delta(&bytes, 2).is_err());
        for end in 0..bytes.len() {
            assert!(delta(&bytes[..end], 3).is_err(), "{end}");
        }
    }

    #[test]
    fn counts_beyond_all_measure_are_refused_at_once() {
        let many = [0x80, 0x01, 4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0];
        assert!(delta(&many, 1000).is_err());
        let blocks = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 3, 0, 0, 33];
        assert!(delta(&blocks, 3).is_err());
        assert!(delta(&[0, 0, 3, 0], 3).is_err());
    }

    #[test]
    fn indexes_are_runs_and_packed_groups() {
        let walk = |bytes: &[u8], most| {
            let mut seen = Vec::new();
            walk_indexes(bytes, most, |index, times| seen.push((index, times))).map(|()| seen)
        };
        // Width 2: five times 3, then one group of eight.
        let bytes = [2, 10, 3, 3, 0b1110_0100, 0b1110_0100];
        let group = [0, 1, 2, 3].map(|index| (index, 1));
        let expected = [vec![(3, 5)], group.to_vec(), group.to_vec()].concat();
        assert_eq!(walk(&bytes, 13).unwrap(), expected);
        assert_eq!(walk(&bytes, 6).unwrap(), expected[..2]);
        let endless = [1, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1];
        assert_eq!(walk(&endless, 100).unwrap(), [(1, 100)]);
        assert!(walk(&[40, 3, 0, 0, 0, 0, 0], 8).is_err());
        assert_eq!(walk(&[], 8).unwrap(), []);
    }

    #[test]
    fn lengths_in_plain_end_with_the_page() {
        let bytes = [1, 0, 0, 0, b'a', 0, 0, 0, 0, 9, 0, 0, 0, b'b'];
        assert_eq!(plain_lengths(&bytes, 9).collect::<Vec<_>>(), [1, 0]);
    }
}
