//! The k-way merge: from the keys of each head, the runs of rows in merged order. Pure.

use std::cmp::Ordering;
use std::ops::Range;

use super::keys::Keys;

/// Consecutive rows of one head that are consecutive in the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Which head.
    pub(super) head: usize,
    /// First row.
    pub(super) start: usize,
    /// Rows.
    pub(super) len: usize,
}

/// The rows that a cursor has at hand.
#[derive(Debug)]
pub(super) struct Head<'a> {
    /// Keys of the batch; only without an order there are none.
    pub(super) keys: Option<&'a Keys>,
    /// Place among equal keys of other heads.
    pub(super) rank: u32,
    /// The rows that have not been merged yet.
    pub(super) rows: Range<usize>,
}

/// Merges until a head is used up or `max_rows` are in the runs. A head that is `None` has no more rows at all.
/// Advances the heads past what is in the runs.
pub(super) fn merge(heads: &mut [Option<Head<'_>>], max_rows: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut left = max_rows;
    let mut tree = LoserTree::new(heads);
    while left > 0 {
        let (winner, runner_up) = tree.first_two(heads);
        let end = run_end(heads, winner, runner_up);
        let Some(Some(head)) = heads.get_mut(winner) else {
            break;
        };
        let len = (end - head.rows.start).min(left);
        match runs.last_mut() {
            Some(last) if last.head == winner => last.len += len,
            _ => runs.push(Run {
                head: winner,
                start: head.rows.start,
                len,
            }),
        }
        head.rows.start += len;
        left -= len;
        if head.rows.is_empty() {
            break;
        }
        tree.replay(heads, winner);
    }
    runs
}

/// Where the rows of `winner` stop coming before the first one of `runner_up`.
fn run_end(heads: &[Option<Head<'_>>], winner: usize, runner_up: Option<usize>) -> usize {
    let Some(Some(head)) = heads.get(winner) else {
        return 0;
    };
    let bound = runner_up.and_then(|index| heads.get(index)).and_then(Option::as_ref);
    let (Some(keys), Some((bound, Some(bound_keys)))) = (head.keys, bound.map(|bound| (bound, bound.keys))) else {
        return head.rows.end;
    };
    let comes_first = |row: usize| match keys.compare(row, bound_keys, bound.rows.start) {
        Ordering::Equal => head.rank < bound.rank,
        order => order == Ordering::Less,
    };
    // Doubling, then halving: a run of n rows costs about 2 log n comparisons.
    let (mut first, mut step) = (head.rows.start + 1, 1);
    let mut end = first;
    while end < head.rows.end && comes_first(end) {
        first = end + 1;
        end = end.saturating_add(step).min(head.rows.end);
        step *= 2;
    }
    let mut last = end.min(head.rows.end);
    while first < last {
        let middle = first + (last - first) / 2;
        if comes_first(middle) {
            first = middle + 1;
        } else {
            last = middle;
        }
    }
    first.min(head.rows.end)
}

/// A tournament whose inner nodes hold who lost there: `nodes[0]` is the winner, `nodes[1..]` the inner nodes of
/// a complete binary tree with the heads as its leaves.
struct LoserTree {
    nodes: Vec<usize>,
}

#[expect(
    clippy::indexing_slicing,
    reason = "nodes has one entry per head, and a parent's number is smaller than its child's"
)]
impl LoserTree {
    fn new(heads: &[Option<Head<'_>>]) -> Self {
        let count = heads.len();
        let mut nodes = vec![0; count];
        // Winners of the subtrees; leaf i is node count + i.
        let mut winners: Vec<usize> = vec![0; count];
        winners.extend(0..count);
        for node in (1..count).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            let (winner, loser) = if less(heads, right, left) {
                (right, left)
            } else {
                (left, right)
            };
            winners[node] = winner;
            nodes[node] = loser;
        }
        if count > 1 {
            nodes[0] = winners[1];
        }
        Self { nodes }
    }

    /// The head with the least row, and the one with the least row of the others.
    fn first_two(&self, heads: &[Option<Head<'_>>]) -> (usize, Option<usize>) {
        let Some(winner) = self.nodes.first().copied() else {
            return (0, None);
        };
        // Whoever is second has lost against the winner.
        let mut second: Option<usize> = None;
        let mut node = usize::midpoint(winner, self.nodes.len());
        while node > 0 {
            let loser = self.nodes[node];
            if second.is_none_or(|second| less(heads, loser, second)) {
                second = Some(loser);
            }
            node /= 2;
        }
        (winner, second)
    }

    /// Restores the tree after the head of `leaf`, the last winner, has advanced.
    fn replay(&mut self, heads: &[Option<Head<'_>>], leaf: usize) {
        let mut winner = leaf;
        let mut node = usize::midpoint(leaf, self.nodes.len());
        while node > 0 {
            if less(heads, self.nodes[node], winner) {
                std::mem::swap(&mut self.nodes[node], &mut winner);
            }
            node /= 2;
        }
        if let Some(first) = self.nodes.first_mut() {
            *first = winner;
        }
    }
}

/// Whether the first row of head `a` comes before that of head `b`; no row comes last.
fn less(heads: &[Option<Head<'_>>], a: usize, b: usize) -> bool {
    let head = |index: usize| heads.get(index).and_then(Option::as_ref);
    match (head(a), head(b)) {
        (Some(a), Some(b)) => {
            let order = match (a.keys, b.keys) {
                (Some(a_keys), Some(b_keys)) => a_keys.compare(a.rows.start, b_keys, b.rows.start),
                _ => Ordering::Equal,
            };
            order.then(a.rank.cmp(&b.rank)) == Ordering::Less
        }
        (Some(_), None) => true,
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int32Array;
    use arrow::datatypes::DataType;
    use arrow::row::{RowConverter, SortField};

    use super::*;

    fn rows(values: &[i32]) -> Keys {
        let converter = RowConverter::new(vec![SortField::new(DataType::Int32)]).unwrap();
        converter
            .convert_columns(&[Arc::new(Int32Array::from(values.to_vec()))])
            .unwrap()
            .into()
    }

    /// Merges all of `inputs`; a head that is used up is followed by nothing.
    fn merged(inputs: &[Vec<i32>], max_rows: usize) -> Vec<(usize, i32)> {
        let keys: Vec<Keys> = inputs.iter().map(|values| rows(values)).collect();
        let mut heads: Vec<Option<Head<'_>>> = (0..)
            .zip(&keys)
            .map(|(rank, keys)| {
                (keys.len() > 0).then(|| Head {
                    keys: Some(keys),
                    rank,
                    rows: 0..keys.len(),
                })
            })
            .collect();
        let mut out = Vec::new();
        loop {
            let runs = merge(&mut heads, max_rows);
            if runs.is_empty() {
                return out;
            }
            for run in runs {
                let values = &inputs[run.head][run.start..run.start + run.len];
                out.extend(values.iter().map(|value| (run.head, *value)));
            }
            for head in &mut heads {
                head.take_if(|head| head.rows.is_empty());
            }
        }
    }

    #[test]
    fn every_number_of_heads_merges_stably() {
        let mut seed = 1_u64;
        let mut next = |limit: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % limit
        };
        for count in 0..20 {
            for max_rows in [1, 3, 1000] {
                let inputs: Vec<Vec<i32>> = (0..count)
                    .map(|_| {
                        let mut values: Vec<i32> = (0..next(40)).map(|_| i32::try_from(next(12)).unwrap()).collect();
                        values.sort_unstable();
                        values
                    })
                    .collect();
                let mut expected: Vec<(usize, i32)> = inputs
                    .iter()
                    .enumerate()
                    .flat_map(|(i, values)| values.iter().map(move |v| (i, *v)))
                    .collect();
                expected.sort_by_key(|(_, value)| *value);
                assert_eq!(merged(&inputs, max_rows), expected, "{count} heads, {max_rows} rows");
            }
        }
    }

    #[test]
    fn a_long_run_is_one_run() {
        let (a, b) = (rows(&(0..100).collect::<Vec<_>>()), rows(&[50, 200]));
        let head = |keys, rank| {
            let rows = 0..Keys::len(keys);
            Some(Head {
                keys: Some(keys),
                rank,
                rows,
            })
        };
        let runs = merge(&mut [head(&a, 0), head(&b, 1)], 1000);
        let run = |head, start, len| Run { head, start, len };
        assert_eq!(runs, vec![run(0, 0, 51), run(1, 0, 1), run(0, 51, 49)]);
    }
}
