//! Ids of new columns of a table. Pure.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, Field, Fields};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

/// The id that a field carries.
pub(crate) fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

/// Gives ids to new columns of a table: their own, if they carry any that the table cannot have had.
#[derive(Debug)]
pub(crate) struct NewIds {
    /// The greatest that the table has ever had.
    floor: i32,
    /// The greatest that there is, or will be.
    last: i32,
    given: BTreeSet<i32>,
}

impl NewIds {
    /// Columns do not keep ids above it, so that others are left.
    const GREATEST: i32 = 1 << 30;

    /// For those of `columns` that are new in a table whose greatest id has been `floor`.
    pub(crate) fn after(floor: i32, columns: &Fields) -> Self {
        Self {
            floor,
            last: floor.max(greatest(columns)),
            given: BTreeSet::new(),
        }
    }

    /// The id of a column, which may carry its `own`.
    pub(crate) fn id(&mut self, own: Option<i32>) -> i32 {
        let free = own.filter(|own| *own > self.floor && *own <= Self::GREATEST);
        if let Some(own) = free.filter(|own| self.given.insert(*own)) {
            return own;
        }
        self.last = self.last.saturating_add(1);
        self.last
    }

    /// None is greater.
    pub(crate) fn last(&self) -> i32 {
        self.last
    }
}

/// The greatest id that may be kept.
fn greatest(fields: &Fields) -> i32 {
    let ids = fields.iter().map(|field| {
        let own = field_id(field).filter(|id| *id <= NewIds::GREATEST);
        let below = match field.data_type() {
            DataType::Struct(fields) => greatest(fields),
            DataType::List(part) | DataType::Map(part, _) => greatest(&vec![part.clone()].into()),
            _ => 0,
        };
        own.unwrap_or(0).max(below)
    });
    ids.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_keep_ids_that_the_table_cannot_have_had() {
        let carrying = |id: i32| {
            let metadata = [(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())];
            Field::new("c", DataType::Int64, true).with_metadata(metadata)
        };
        let columns: Fields = vec![carrying(3), carrying(9), carrying(7), carrying(i32::MAX)].into();
        let mut ids = NewIds::after(4, &columns);
        // 3 may have been another's, 9 is taken the second time, and nothing is left after the last.
        let own = [Some(3), Some(9), None, Some(7), Some(9), Some(i32::MAX), Some(-1)];
        assert_eq!(own.map(|own| ids.id(own)), [10, 9, 11, 7, 12, 13, 14]);
        assert_eq!(ids.last(), 14);
        assert_eq!(NewIds::after(i32::MAX, &columns).id(Some(5)), i32::MAX);
    }
}
