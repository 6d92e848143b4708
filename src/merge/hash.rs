//! A hash of rows that does not depend on their order.

use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::row::{RowConverter, SortField};

use super::error::MergeError;

/// Sum of the hashes of all rows added. Equal multisets of rows have equal sums; bits count, so -0.0 and 0.0
/// differ, as they must not be turned into each other.
#[derive(Debug)]
pub(super) struct RowHash {
    converter: RowConverter,
    /// The columns that count.
    columns: Vec<usize>,
    sum: u128,
    rows: u64,
}

impl RowHash {
    /// Of rows with the columns of `schema`, as far as they are `stored`.
    pub(super) fn new(schema: &Schema, stored: &Schema) -> Result<Self, MergeError> {
        let stored = stored.fields().iter();
        let columns = stored.map(|field| schema.index_of(field.name()).map_err(MergeError::internal));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let fields = columns
            .iter()
            .map(|column| SortField::new(schema.field(*column).data_type().clone()));
        let converter = RowConverter::new(fields.collect()).map_err(|e| MergeError::Invalid {
            detail: format!("rows cannot be hashed: {e}"),
        })?;
        Ok(Self {
            converter,
            columns,
            sum: 0,
            rows: 0,
        })
    }

    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), MergeError> {
        self.rows += batch.num_rows() as u64;
        let columns = self.columns.iter().filter_map(|column| batch.columns().get(*column));
        let columns: Vec<_> = columns.cloned().collect();
        let rows = self.converter.convert_columns(&columns).map_err(MergeError::internal)?;
        for row in &rows {
            let mut halves = [0_u64; 2];
            for (salt, half) in (0_u8..).zip(&mut halves) {
                let mut hasher = DefaultHasher::new();
                (salt, row.data()).hash(&mut hasher);
                *half = hasher.finish();
            }
            let [high, low] = halves;
            self.sum = self.sum.wrapping_add(u128::from(high) << 64 | u128::from(low));
        }
        Ok(())
    }

    /// The sum and the number of rows.
    pub(super) fn digest(&self) -> (u128, u64) {
        (self.sum, self.rows)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int32Array;

    use super::*;

    #[test]
    fn order_does_not_count_but_multiplicity_does() {
        let batch =
            |values: Vec<i32>| RecordBatch::try_from_iter([("a", Arc::new(Int32Array::from(values)) as _)]).unwrap();
        let digest = |values| {
            let batch = batch(values);
            let mut hash = RowHash::new(&batch.schema(), &batch.schema()).unwrap();
            hash.add(&batch).unwrap();
            hash.digest()
        };
        assert_eq!(digest(vec![1, 2, 2]), digest(vec![2, 1, 2]));
        assert_ne!(digest(vec![1, 2, 2]), digest(vec![1, 1, 2]));
    }
}
