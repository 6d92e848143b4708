//! Which window a timestamp belongs to.

use serde::{Deserialize, Serialize};

use crate::plan::Window;
use crate::time::Timestamp;

/// The lengths that the windows of a namespace have had.
///
/// Windows start at multiples of their length since the epoch and are cut off where the length changes, so
/// that the windows before a change stay what they were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowSizes {
    /// The length before the first change.
    pub initial_ms: u64,
    /// Changes, in any order; of two at the same instant the later entry holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<WindowSizeChange>,
}

/// A change of the length of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowSizeChange {
    /// The first timestamp that it applies to.
    pub from: Timestamp,
    /// The new length.
    pub size_ms: u64,
}

impl WindowSizes {
    /// Windows of one length for ever.
    pub fn fixed(size_ms: u64) -> Self {
        Self {
            initial_ms: size_ms,
            changes: Vec::new(),
        }
    }

    /// The window that `t` belongs to.
    pub fn window_of(&self, t: Timestamp) -> Window {
        let mut span_start = Timestamp::MIN;
        let mut span_end = Timestamp::MAX;
        let mut size_ms = self.initial_ms;
        for change in &self.changes {
            if change.from > t {
                span_end = span_end.min(change.from);
            } else if change.from >= span_start {
                span_start = change.from;
                size_ms = change.size_ms;
            }
        }
        let size_ms = size_ms.max(1);
        let start = t.floor_to(size_ms);
        Window {
            start: start.max(span_start),
            end: (start + size_ms).min(span_end),
        }
    }

    /// The length after the last change.
    pub fn latest_ms(&self) -> u64 {
        self.changes
            .iter()
            .max_by_key(|change| change.from)
            .map_or(self.initial_ms, |change| change.size_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(sizes: &WindowSizes, t: i64) -> (i64, i64) {
        let window = sizes.window_of(Timestamp::from_millis(t));
        (window.start.as_millis(), window.end.as_millis())
    }

    #[test]
    fn start_belongs_to_the_window_and_end_to_the_next_also_before_1970() {
        let sizes = WindowSizes::fixed(1_000);
        assert_eq!(window(&sizes, 0), (0, 1_000));
        assert_eq!(window(&sizes, 999), (0, 1_000));
        assert_eq!(window(&sizes, 1_000), (1_000, 2_000));
        assert_eq!(window(&sizes, -1), (-1_000, 0));
    }

    #[test]
    fn windows_are_cut_off_where_the_length_changes() {
        let change = |from, size_ms| WindowSizeChange {
            from: Timestamp::from_millis(from),
            size_ms,
        };
        let sizes = WindowSizes {
            initial_ms: 1_000,
            changes: vec![change(8_200, 500), change(2_500, 3_000)],
        };
        assert_eq!(window(&sizes, 2_499), (2_000, 2_500));
        assert_eq!(window(&sizes, 2_500), (2_500, 3_000));
        assert_eq!(window(&sizes, 3_000), (3_000, 6_000));
        assert_eq!(window(&sizes, 8_199), (6_000, 8_200));
        assert_eq!(window(&sizes, 8_200), (8_200, 8_500));
        assert_eq!(sizes.latest_ms(), 500);
    }

    proptest! {
        #[test]
        fn windows_partition_time(
            initial_ms in 1_u64..5_000,
            changes in proptest::collection::vec((-20_000_i64..20_000, 1_u64..5_000), 0..4),
            t in -30_000_i64..30_000,
        ) {
            let changes = changes.into_iter().map(|(from, size_ms)| WindowSizeChange { from: Timestamp::from_millis(from), size_ms });
            let sizes = WindowSizes { initial_ms, changes: changes.collect() };
            let (start, end) = window(&sizes, t);
            prop_assert!(start <= t && t < end);
            prop_assert_eq!(window(&sizes, start), (start, end));
            prop_assert_eq!(window(&sizes, end - 1), (start, end));
            prop_assert_eq!(window(&sizes, end).0, end);
        }
    }
}
