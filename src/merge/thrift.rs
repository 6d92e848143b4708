//! Walks Thrift's compact protocol without building anything, so that what a file claims can be checked before
//! memory is given to it (Thrift compact protocol; parquet-format, `parquet.thrift`).

use super::forms::{Fields, Form};

/// Deepest nesting of containers and structs that is walked.
const MAX_DEPTH: u32 = 32;

/// A place in a Thrift struct.
#[derive(Clone, Debug)]
pub(super) struct Walker<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Elements of lists that were skipped.
    skipped: u64,
}

/// Not Thrift, or not what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("ends early")]
    EndsEarly,
    #[error("nested too deeply")]
    TooDeep,
    #[error("unknown type or number out of range")]
    Unknown,
}

type Result<T> = std::result::Result<T, Malformed>;

/// Type of a field or an element, as the compact protocol numbers them.
pub(super) type Kind = u8;
pub(super) const BINARY: Kind = 8;
pub(super) const LIST: Kind = 9;
pub(super) const STRUCT: Kind = 12;
pub(super) const I8: Kind = 3;
pub(super) const I16: Kind = 4;
pub(super) const I64: Kind = 6;
pub(super) const DOUBLE: Kind = 7;

impl<'a> Walker<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            skipped: 0,
        }
    }

    /// Bytes walked.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Elements of all lists that were skipped: what parses them allocates for each.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Calls `visit` for each field of the struct that starts here, up to and with its end. What `visit` answers
    /// `false` to is passed over; what it answers `true` to, it has consumed. Those of the `known` fields that are of
    /// another type than they should be are refused.
    pub(super) fn fields(
        &mut self,
        known: Fields,
        mut visit: impl FnMut(&mut Self, i16, Kind) -> Result<bool>,
    ) -> Result<()> {
        let mut id = 0_i16;
        while let Some((next, kind)) = self.field(id)? {
            id = next;
            let form = known.iter().find(|(known, _)| *known == id).map(|(_, form)| form);
            if form.is_some_and(|form| !form.is(kind)) {
                return Err(Malformed::Unknown);
            }
            if !visit(self, id, kind)? {
                match form {
                    Some(form) => self.pass(kind, form)?,
                    None => self.skip(kind, MAX_DEPTH)?,
                }
            }
        }
        Ok(())
    }

    /// Passes over a value of a type that is known.
    fn pass(&mut self, kind: Kind, form: &Form) -> Result<()> {
        match form {
            Form::List(of) => {
                let (count, element) = self.list()?;
                if count > 0 && !of.is(element) {
                    return Err(Malformed::Unknown);
                }
                self.skipped += count as u64;
                match of {
                    // In a list a boolean takes a byte.
                    Form::Bool => self.advance(count),
                    of => (0..count).try_for_each(|_| self.pass(element, of)),
                }
            }
            Form::Struct(fields) => self.fields(fields, |_, _, _| Ok(false)),
            Form::Bool | Form::Byte | Form::Double | Form::Int | Form::Text => self.skip(kind, MAX_DEPTH),
        }
    }

    /// The elements of the list that starts here: how many, and their type.
    pub(super) fn list(&mut self) -> Result<(usize, Kind)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => usize::try_from(self.varint()?).map_err(|_| Malformed::Unknown)?,
            short => usize::from(short),
        };
        // Every element takes a byte at least, so a longer list is a lie.
        if count > self.bytes.len().saturating_sub(self.at) {
            return Err(Malformed::EndsEarly);
        }
        Ok((count, head & 0x0f))
    }

    /// The integer that starts here.
    pub(super) fn int(&mut self, kind: Kind) -> Result<i64> {
        match kind {
            I8 => Ok(i64::from(self.byte()?.cast_signed())),
            I16..=I64 => {
                let raw = self.varint()?;
                Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
            }
            _ => Err(Malformed::Unknown),
        }
    }

    /// Passes over the text that starts here; how long it is.
    pub(super) fn binary(&mut self) -> Result<usize> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Unknown)?;
        self.advance(length)?;
        Ok(length)
    }

    fn field(&mut self, last: i16) -> Result<Option<(i16, Kind)>> {
        let head = self.byte()?;
        let kind = head & 0x0f;
        if kind == 0 {
            return Ok(None);
        }
        let id = match head >> 4 {
            0 => i16::try_from(self.int(4)?).map_err(|_| Malformed::Unknown)?,
            delta => last.checked_add(i16::from(delta)).ok_or(Malformed::Unknown)?,
        };
        Ok(Some((id, kind)))
    }

    /// Passes over a value of which nothing is known.
    fn skip(&mut self, kind: Kind, depth: u32) -> Result<()> {
        let depth = depth.checked_sub(1).ok_or(Malformed::TooDeep)?;
        match kind {
            // A boolean field's value is its type.
            1 | 2 => Ok(()),
            I8 => self.advance(1),
            I16..=I64 => self.varint().map(|_| ()),
            DOUBLE => self.advance(8),
            BINARY => self.binary().map(|_| ()),
            LIST | 10 => {
                let (count, element) = self.list()?;
                self.skipped += count as u64;
                (0..count).try_for_each(|_| self.skip_element(element, depth))
            }
            11 => {
                let count = self.varint()?;
                if count == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                for _ in 0..count {
                    self.skip_element(kinds >> 4, depth)?;
                    self.skip_element(kinds & 0x0f, depth)?;
                }
                Ok(())
            }
            STRUCT => {
                let mut id = 0;
                while let Some((next, kind)) = self.field(id)? {
                    id = next;
                    self.skip(kind, depth)?;
                }
                Ok(())
            }
            13 => self.advance(16),
            _ => Err(Malformed::Unknown),
        }
    }

    fn skip_element(&mut self, kind: Kind, depth: u32) -> Result<()> {
        match kind {
            // It takes a byte, of which the parser that comes after us knows nothing.
            1 | 2 => Err(Malformed::Unknown),
            _ => self.skip(kind, depth),
        }
    }

    fn advance(&mut self, count: usize) -> Result<()> {
        let end = self.at.checked_add(count).ok_or(Malformed::EndsEarly)?;
        if end > self.bytes.len() {
            return Err(Malformed::EndsEarly);
        }
        self.at = end;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed::EndsEarly)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_visited_and_the_rest_is_skipped() {
        // 1: i32 = 5, 2: binary "ab", 4: list of two i64, end, then a byte that is not part of it.
        let bytes = [0x15, 0x0a, 0x18, 2, b'a', b'b', 0x29, 0x26, 2, 4, 0, 0xff];
        let mut walker = Walker::new(&bytes);
        let mut seen = Vec::new();
        walker
            .fields(&[], |walker, id, kind| {
                seen.push(id);
                if id == 1 {
                    assert_eq!(walker.int(kind)?, 5);
                    return Ok(true);
                }
                Ok(false)
            })
            .unwrap();
        assert_eq!(seen, vec![1, 2, 4]);
        assert_eq!(walker.position(), 11);
    }

    #[test]
    fn lists_longer_than_the_bytes_left_and_deep_nesting_are_refused() {
        let long = [0x19, 0xf5, 0xff, 0xff, 0x03, 0];
        assert_eq!(
            Walker::new(&long).fields(&[], |_, _, _| Ok(false)),
            Err(Malformed::EndsEarly)
        );
        let deep = [0x1c_u8; 100];
        assert_eq!(
            Walker::new(&deep).fields(&[], |_, _, _| Ok(false)),
            Err(Malformed::TooDeep)
        );
        assert_eq!(
            Walker::new(&[0x15, 0x80]).fields(&[], |_, _, _| Ok(false)),
            Err(Malformed::EndsEarly)
        );
    }

    #[test]
    fn what_the_parser_would_read_in_another_way_is_refused() {
        const KNOWN: Fields = &[
            (1, Form::Int),
            (2, Form::List(&Form::Bool)),
            (3, Form::List(&Form::Int)),
        ];
        let walk = |known, bytes: &[u8]| Walker::new(bytes).fields(known, |_, _, _| Ok(false));
        assert_eq!(walk(KNOWN, &[0x15, 2, 0x19, 0x21, 1, 2, 0x19, 0x15, 2, 0]), Ok(()));
        // A text where a number should be, a list of others than it should have, a list of booleans that nobody knows.
        for other in [
            [0x18, 1, 0x15, 0].as_slice(),
            &[0x39, 0x18, 0, 0],
            &[0x49, 0x11, 1, 0],
            &[0x4b, 1, 0x11, 1, 1, 0],
        ] {
            assert_eq!(walk(KNOWN, other), Err(Malformed::Unknown), "{other:x?}");
        }
        // Without elements, their type does not matter.
        assert_eq!(walk(KNOWN, &[0x39, 0x01, 0]), Ok(()));
    }
}
