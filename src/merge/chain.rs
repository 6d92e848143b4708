//! Inputs whose keys do not overlap are read one after the other, as one. Pure.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{OwnedRow, Row};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::decode::guarded;
use super::order::KeyEncoder;
use crate::options::SortField;
use crate::schema::Caster;

/// The least and the greatest first key column of an input or a row group, as its footer tells. A footer can lie, so whoever
/// reads a chain checks that each input continues it.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) first: OwnedRow,
    pub(super) last: OwnedRow,
}

impl Span {
    /// Whether all its keys come before `key`, which is a whole key or the first column of one.
    pub(super) fn is_before(&self, key: Row<'_>) -> bool {
        let (last, key) = (self.last.row(), key.as_ref());
        last.as_ref() < key && !key.starts_with(last.as_ref())
    }

    /// Whether `key`, a whole one, is among its keys as far as it knows them.
    pub(super) fn holds(&self, key: Row<'_>) -> bool {
        !self.is_before(key) && self.first.as_ref() <= key.as_ref()
    }
}

/// An input to be put into a chain.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// Place among the inputs.
    pub(super) index: usize,
    /// Place among equal keys.
    pub(super) rank: u32,
    /// `None`: unknown, so it overlaps everything.
    pub(super) span: Option<Span>,
}

impl Link {
    fn first(&self) -> Option<&OwnedRow> {
        self.span.as_ref().map(|span| &span.first)
    }
}

/// Puts inputs into as few chains as possible.
///
/// An input may follow another if all its keys are greater, or, where the first key column is the `whole_key`, if
/// they are not less and its rank is greater.
pub(super) fn chains(mut links: Vec<Link>, whole_key: bool) -> Vec<Vec<usize>> {
    links.sort_by(|a, b| (a.first(), a.rank).cmp(&(b.first(), b.rank)));
    let mut chains: Vec<(Option<OwnedRow>, u32, Vec<usize>)> = Vec::new();
    for link in links {
        let Some(span) = link.span else {
            chains.push((None, link.rank, vec![link.index]));
            continue;
        };
        let follows = |last: &OwnedRow, rank: u32| match last.cmp(&span.first) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => whole_key && rank < link.rank,
            std::cmp::Ordering::Greater => false,
        };
        // The chain that ends last of those that fit leaves the others for inputs to come.
        let best = chains
            .iter_mut()
            .filter(|(last, rank, _)| last.as_ref().is_some_and(|last| follows(last, *rank)))
            .max_by(|a, b| a.0.cmp(&b.0));
        match best {
            Some((last, rank, indices)) => {
                *last = Some(span.last);
                *rank = link.rank;
                indices.push(link.index);
            }
            None => chains.push((Some(span.last), link.rank, vec![link.index])),
        }
    }
    chains.into_iter().map(|(_, _, indices)| indices).collect()
}

/// The span of a file, `None` where its footer does not tell it reliably.
pub(super) fn span(metadata: &ParquetMetaData, source: &SchemaRef, plan: &Schema, order: &[SortField]) -> Option<Span> {
    span_of(metadata.row_groups(), source, plan, order)
}

/// As [`span`], of some row groups of a file.
pub(super) fn span_of(
    groups: &[RowGroupMetaData],
    source: &SchemaRef,
    plan: &Schema,
    order: &[SortField],
) -> Option<Span> {
    // Statistics of a broken file may be of any length, and their conversion asserts that they are not.
    let span = guarded("statistics broke their conversion", || {
        told_span(groups, source, plan, order)
    });
    span.ok().flatten()
}

fn told_span(groups: &[RowGroupMetaData], source: &SchemaRef, plan: &Schema, order: &[SortField]) -> Option<Span> {
    let key = order.first()?;
    let target = plan.field_with_name(&key.column).ok()?;
    // Statistics leave NaN out.
    if matches!(
        target.data_type(),
        DataType::Float16 | DataType::Float32 | DataType::Float64
    ) {
        return None;
    }
    let groups: Vec<&RowGroupMetaData> = groups.iter().filter(|group| group.num_rows() > 0).collect();
    let parquet = groups.first()?.schema_descr();
    let converter = StatisticsConverter::try_new(&key.column, source, parquet).ok()?;
    let column = converter.parquet_column_index()?;
    // The fields that `min` and `max` were before they had a defined order.
    let deprecated = groups.iter().any(|group| {
        let statistics = group.columns().get(column).and_then(|chunk| chunk.statistics());
        statistics.is_none_or(parquet::file::statistics::Statistics::is_min_max_deprecated)
    });
    let converter = converter.with_missing_null_counts_as_zero(false);
    let nulls = converter.row_group_null_counts(groups.iter().copied()).ok()?;
    if deprecated || nulls.null_count() > 0 || nulls.values().iter().any(|count| *count > 0) {
        return None;
    }
    let mins = converter.row_group_mins(groups.iter().copied()).ok()?;
    let maxes = converter.row_group_maxes(groups.iter().copied()).ok()?;
    if mins.null_count() > 0 || maxes.null_count() > 0 || mins.is_empty() {
        return None;
    }
    let from = Arc::new(Schema::new(vec![Field::new(
        &key.column,
        mins.data_type().clone(),
        true,
    )]));
    let to: SchemaRef = Arc::new(Schema::new(vec![target.clone()]));
    let caster = Caster::new(&from, &to).ok()?;
    let encoder = KeyEncoder::new(&to, std::slice::from_ref(key)).ok()??;
    let mut keys = Vec::new();
    for values in [mins, maxes] {
        let batch = RecordBatch::try_new(Arc::clone(&from), vec![values]).ok()?;
        let rows = encoder.encode(&caster.cast(&batch).ok()?).ok()?;
        keys.extend((0..rows.len()).map(|row| rows.owned(row)));
    }
    let (least, greatest) = keys.split_at(keys.len() / 2);
    let is_turned = |(least, greatest)| {
        if key.descending {
            least < greatest
        } else {
            least > greatest
        }
    };
    if least.iter().zip(greatest).any(is_turned) {
        return None;
    }
    // Descending keys turn the statistics' least into the last.
    let first = keys.iter().min()?.clone();
    let last = keys.into_iter().max()?;
    Some(Span { first, last })
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;
    use arrow::row::{RowConverter, SortField as RowField};

    use super::*;

    fn links(spans: &[(i32, i32)]) -> Vec<Link> {
        let converter = RowConverter::new(vec![RowField::new(DataType::Int32)]).unwrap();
        let row = |value| {
            converter
                .convert_columns(&[Arc::new(Int32Array::from(vec![value]))])
                .unwrap()
                .row(0)
                .owned()
        };
        (0..)
            .zip(spans.iter().enumerate())
            .map(|(rank, (index, (first, last)))| Link {
                index,
                rank,
                span: Some(Span {
                    first: row(*first),
                    last: row(*last),
                }),
            })
            .collect()
    }

    #[test]
    fn disjoint_inputs_make_one_chain_and_overlapping_ones_do_not() {
        assert_eq!(chains(links(&[(0, 9), (10, 19), (20, 29)]), false), vec![vec![0, 1, 2]]);
        assert_eq!(
            chains(links(&[(0, 10), (5, 15), (16, 20), (11, 30)]), false),
            vec![vec![0, 3], vec![1, 2]]
        );
    }

    #[test]
    fn a_touching_key_continues_a_chain_only_if_it_is_whole_and_the_rank_is_greater() {
        assert_eq!(chains(links(&[(0, 10), (10, 20)]), true), vec![vec![0, 1]]);
        assert_eq!(chains(links(&[(0, 10), (10, 20)]), false), vec![vec![0], vec![1]]);
        assert_eq!(chains(links(&[(10, 20), (0, 10)]), true), vec![vec![1], vec![0]]);
    }

    #[test]
    fn an_unknown_span_stands_alone() {
        let mut links = links(&[(0, 1), (2, 3)]);
        links[1].span = None;
        assert_eq!(chains(links, true), vec![vec![1], vec![0]]);
    }
}
