//! Cuts merged rows by partition. Pure.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::row::{RowConverter, Rows, SortField as RowField};

use super::error::MergeError;
use crate::data_file::FilePartition;
use crate::options::SortField;
use crate::partitioning::{Partitioner, partition_value};

/// Says which partition rows belong to, and which of its fields the merge order visits one value after the other.
#[derive(Debug)]
pub(super) struct Cutter {
    partitioner: Arc<dyn Partitioner>,
    keys: RowConverter,
    /// Fields that follow the first sort column, where others do not.
    clusters: Option<(Vec<usize>, RowConverter)>,
    is_clustered: bool,
}

/// The partitions of some rows.
pub(super) struct Cut {
    columns: Vec<ArrayRef>,
    keys: Rows,
    clusters: Option<Rows>,
}

/// Rows of one partition, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) key: Vec<u8>,
    pub(super) rows: Vec<u32>,
}

impl Cutter {
    pub(super) fn new(partitioner: Arc<dyn Partitioner>, order: &[SortField]) -> Result<Self, MergeError> {
        let fields = partitioner.fields();
        let first = order.first().map(|field| field.column.as_str());
        let following: Vec<usize> = (0..fields.len())
            .filter(|field| first.is_some_and(|column| partitioner.follows(*field, column)))
            .collect();
        let converter = |places: &[usize]| {
            let fields = places.iter().filter_map(|place| fields.get(*place));
            let fields = fields.map(|field| RowField::new(field.data_type().clone()));
            RowConverter::new(fields.collect()).map_err(MergeError::internal)
        };
        let is_clustered = following.len() == fields.len();
        let keys = converter(&(0..fields.len()).collect::<Vec<_>>())?;
        let clusters = if is_clustered || following.is_empty() {
            None
        } else {
            let converter = converter(&following)?;
            Some((following, converter))
        };
        Ok(Self {
            partitioner,
            keys,
            clusters,
            is_clustered,
        })
    }

    /// Whether a partition that the rows have left does not come again, so that one at a time is enough.
    pub(super) fn is_clustered(&self) -> bool {
        self.is_clustered
    }

    /// Rows of which [`Cut::size`] is about `bytes` at most, where a row takes `width` bytes.
    pub(super) fn rows_within(&self, bytes: u64, width: u64) -> u64 {
        // Once as values and once as keys, each with offsets.
        let fields = self.partitioner.fields().len() as u64;
        bytes / (2 * (width + 16) * fields.max(1))
    }

    pub(super) fn cut(&self, rows: &RecordBatch) -> Result<Cut, MergeError> {
        let columns = self.partitioner.columns(rows);
        let columns = columns.map_err(|source| MergeError::Partition { source })?;
        if columns.len() != self.partitioner.fields().len() || columns.iter().any(|c| c.len() != rows.num_rows()) {
            return Err(MergeError::internal("partition columns are not those of the rows"));
        }
        let keys = self.keys.convert_columns(&columns).map_err(MergeError::internal)?;
        let clusters = match &self.clusters {
            Some((places, converter)) => {
                let columns = places.iter().filter_map(|place| columns.get(*place)).cloned();
                let columns: Vec<_> = columns.collect();
                Some(converter.convert_columns(&columns).map_err(MergeError::internal)?)
            }
            None => None,
        };
        Ok(Cut {
            columns,
            keys,
            clusters,
        })
    }

    /// The partition of a row.
    pub(super) fn partition(&self, cut: &Cut, row: usize) -> Result<FilePartition, MergeError> {
        let values = cut.columns.iter().map(|column| partition_value(column, row));
        Ok(FilePartition {
            spec: self.partitioner.id().to_owned(),
            values: values
                .collect::<Result<_, _>>()
                .map_err(|source| MergeError::Partition { source })?,
        })
    }
}

impl Cut {
    /// Bytes held.
    pub(super) fn size(&self) -> u64 {
        let columns = self.columns.iter().map(|column| {
            let data = column.to_data();
            data.get_slice_memory_size()
                .unwrap_or_else(|_| data.get_array_memory_size())
        });
        let keys = self.keys.size() + self.clusters.as_ref().map_or(0, Rows::size);
        (columns.sum::<usize>() + keys) as u64
    }

    /// Rows next to each other in one partition, and the key of it.
    pub(super) fn runs(&self) -> Vec<(&[u8], Range<usize>)> {
        runs(&self.keys)
    }

    /// Rows next to each other that agree in the fields that the merge order visits one value after the other, and
    /// the key of those; all rows where there are none.
    pub(super) fn clusters(&self) -> Vec<(&[u8], Range<usize>)> {
        match &self.clusters {
            Some(clusters) => runs(clusters),
            None => vec![(&[], 0..self.keys.num_rows())],
        }
    }

    /// Rows of a range by partition, the one that comes first at the front.
    pub(super) fn groups(&self, rows: Range<usize>) -> Vec<Group> {
        let mut places: BTreeMap<&[u8], usize> = BTreeMap::new();
        let mut groups: Vec<Group> = Vec::new();
        for row in rows {
            let key = self.keys.row(row).data();
            let Ok(number) = u32::try_from(row) else { break };
            let place = *places.entry(key).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.rows.push(number),
                None => groups.push(Group {
                    key: key.to_vec(),
                    rows: vec![number],
                }),
            }
        }
        groups
    }
}

fn runs(keys: &Rows) -> Vec<(&[u8], Range<usize>)> {
    let mut runs: Vec<(&[u8], Range<usize>)> = Vec::new();
    for row in 0..keys.num_rows() {
        let key = keys.row(row).data();
        match runs.last_mut() {
            Some((last, rows)) if *last == key => rows.end = row + 1,
            _ => runs.push((key, row..row + 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, StringArray};
    use arrow::datatypes::{DataType, Field, Fields};

    use super::*;
    use crate::data_file::Datum;
    use crate::error::Result;

    /// Partitions by `a`, which follows itself, and by `b`, which follows nothing.
    #[derive(Debug)]
    struct ByColumns(Fields);

    impl Partitioner for ByColumns {
        fn id(&self) -> &'static str {
            "by columns"
        }

        fn fields(&self) -> &Fields {
            &self.0
        }

        fn columns(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
            let named = self.0.iter().filter_map(|field| rows.column_by_name(field.name()));
            Ok(named.cloned().collect())
        }

        fn follows(&self, field: usize, column: &str) -> bool {
            column == "a" && self.0.get(field).is_some_and(|field| field.name() == "a")
        }
    }

    fn cutter(fields: &[&str], order: &[SortField]) -> Cutter {
        let of = |name: &&str| match *name {
            "a" => Field::new("a", DataType::Int32, true),
            name => Field::new(name, DataType::Utf8, true),
        };
        Cutter::new(Arc::new(ByColumns(fields.iter().map(of).collect())), order).unwrap()
    }

    fn rows() -> RecordBatch {
        RecordBatch::try_from_iter([
            (
                "a",
                Arc::new(Int32Array::from(vec![None, Some(1), Some(1), Some(1), Some(2)])) as ArrayRef,
            ),
            (
                "b",
                Arc::new(StringArray::from(vec![
                    Some("x"),
                    Some("x"),
                    None,
                    Some("x"),
                    Some("x"),
                ])) as ArrayRef,
            ),
        ])
        .unwrap()
    }

    #[test]
    fn fields_that_follow_the_order_are_cut_into_runs() {
        let cutter = cutter(&["a"], &[SortField::ascending("a")]);
        assert!(cutter.is_clustered());
        let cut = cutter.cut(&rows()).unwrap();
        let ranges: Vec<_> = cut.runs().into_iter().map(|(_, range)| range).collect();
        assert_eq!(ranges, [0..1, 1..4, 4..5]);
        let partition = cutter.partition(&cut, 1).unwrap();
        assert_eq!(partition.values, [Some(Datum::Int32(1))]);
        assert_eq!(partition.spec, "by columns");
    }

    #[test]
    fn others_are_gathered_within_the_runs_of_those() {
        let cutter = cutter(&["a", "b"], &[SortField::ascending("a"), SortField::ascending("b")]);
        assert!(!cutter.is_clustered());
        let cut = cutter.cut(&rows()).unwrap();
        let clusters: Vec<_> = cut.clusters().into_iter().map(|(_, range)| range).collect();
        assert_eq!(clusters, [0..1, 1..4, 4..5]);
        let groups = |range| -> Vec<Vec<u32>> { cut.groups(range).into_iter().map(|group| group.rows).collect() };
        assert_eq!(groups(1..4), [vec![1, 3], vec![2]]);
    }

    #[test]
    fn without_an_order_nothing_follows() {
        for order in [vec![], vec![SortField::ascending("b")]] {
            let cutter = cutter(&["a", "b"], &order);
            let cut = cutter.cut(&rows()).unwrap();
            assert_eq!(cut.clusters(), [(&[][..], 0..5)]);
            let groups: Vec<_> = cut.groups(0..5).into_iter().map(|group| group.rows).collect();
            assert_eq!(groups, [vec![0], vec![1, 3], vec![2], vec![4]]);
        }
    }
}
