//! What the schema says of the values of a column.

use bytes::Bytes;
use parquet::basic::{Encoding, Type as PhysicalType};
use parquet::column::page::Page;
use parquet::errors::ParquetError;
use parquet::schema::types::ColumnDescriptor;

use super::Result;

/// How values of a column are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    physical: PhysicalType,
    /// Bytes of a value in `PLAIN`, at least.
    least: u64,
    definition: i16,
    repetition: i16,
}

impl Shape {
    pub(super) fn of(column: &ColumnDescriptor) -> Self {
        let physical = column.physical_type();
        Self {
            physical,
            least: match physical {
                PhysicalType::BOOLEAN => 1,
                PhysicalType::INT32 | PhysicalType::FLOAT | PhysicalType::BYTE_ARRAY => 4,
                PhysicalType::INT64 | PhysicalType::DOUBLE => 8,
                PhysicalType::INT96 => 12,
                PhysicalType::FIXED_LEN_BYTE_ARRAY => u64::try_from(column.type_length()).unwrap_or(0).max(1),
            },
            definition: column.max_def_level(),
            repetition: column.max_rep_level(),
        }
    }

    pub(super) fn least(&self) -> u64 {
        self.least
    }

    /// Whether values are of any length.
    pub(super) fn is_bytes(&self) -> bool {
        self.physical == PhysicalType::BYTE_ARRAY
    }

    pub(super) fn is_list(&self) -> bool {
        self.repetition > 0
    }

    /// Bytes that a value of a list takes beside what its page has of it, which may be a bit, or nothing for a null.
    pub(super) fn beside(&self) -> u64 {
        // Two levels of 16 bits, in buffers that double as they grow.
        if self.is_list() { 2 * (4 + self.least) } else { 0 }
    }

    /// What of a data page comes after the levels.
    pub(super) fn values<'a>(&self, page: &'a Page) -> Result<&'a [u8]> {
        let after = match page {
            Page::DictionaryPage { buf, .. } => Some(buf.as_ref()),
            Page::DataPage {
                buf,
                num_values,
                def_level_encoding,
                rep_level_encoding,
                ..
            } => after_levels(buf, *num_values, self.repetition, *rep_level_encoding)
                .and_then(|rest| after_levels(rest, *num_values, self.definition, *def_level_encoding)),
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => after_both(buf, *def_levels_byte_len, *rep_levels_byte_len),
        };
        after.ok_or_else(|| ParquetError::EOF("levels longer than their page".to_owned()))
    }
}

/// What comes after levels of up to `most`.
fn after_levels(bytes: &[u8], count: u32, most: i16, encoding: Encoding) -> Option<&[u8]> {
    if most == 0 {
        return Some(bytes);
    }
    if encoding == Encoding::RLE {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        return rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..);
    }
    // Packed bits, in old files.
    let bits = u64::from(i16::BITS - most.leading_zeros());
    let length = (u64::from(count) * bits).div_ceil(8);
    bytes.get(usize::try_from(length).ok()?..)
}

fn after_both(buf: &Bytes, definition: u32, repetition: u32) -> Option<&[u8]> {
    buf.get(usize::try_from(u64::from(definition) + u64::from(repetition)).ok()?..)
}
