//! How a merge is to be done.

use crate::options::{
    Codec, DEFAULT_MEMORY_BUDGET_BYTES, DEFAULT_TARGET_FILE_SIZE_BYTES, OnUnsorted, SortField, with_methods,
};

/// Default of [`MergeOptions::max_row_group_rows`].
pub const DEFAULT_MAX_ROW_GROUP_ROWS: usize = 1 << 20;
/// Smallest [`MergeOptions::memory_budget_bytes`] that a merge accepts.
pub const MIN_MEMORY_BUDGET_BYTES: u64 = 16 << 20;

/// Settings of a [`ParquetMerger`](crate::ParquetMerger).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MergeOptions {
    /// The order of the rows of every input and of the outputs; empty: none, the inputs are concatenated.
    pub sort_order: Vec<SortField>,
    /// What to do about an input whose rows are not in that order. [`OnUnsorted::Resort`] needs a scratch place.
    pub on_unsorted: OnUnsorted,
    /// Memory that the merge may hold; at least [`MIN_MEMORY_BUDGET_BYTES`], 24 MiB with Zstandard of level 7 or 8, 63 MiB
    /// with higher ones. About half of it is for reading: a row group without page index that takes more is too large,
    /// by its compressed bytes, a page of every column and what its codec takes for each. Holes that an allocator
    /// keeps come on top.
    pub memory_budget_bytes: u64,
    /// Outputs are rolled at about this size, or at 2,048 parts of an eighth of the memory budget (32 GiB by default) if
    /// that is less.
    pub target_file_size_bytes: u64,
    /// The codec of the outputs.
    pub codec: Codec,
    /// Most rows in one row group.
    pub max_row_group_rows: usize,
    /// Whether row groups are copied as they are, nothing decoded but keys and floats whose NaNs have not been
    /// counted, where that is as good: all
    /// their keys come before those that are left of other inputs; they have the codec of the outputs, its columns in
    /// the same order and form, statistics and page indexes, and a quarter of the bytes that a row
    /// group may hold in memory here or half of its rows. The level of a codec is not told by files, and does not matter.
    /// Not where files are cut by partition, merged in passes, or read again. Their encodings and statistics are then
    /// those of their writer, and a page that cannot be decoded is not noticed.
    pub copy_row_groups: bool,
    /// Whether the outputs are read again and compared with the inputs.
    pub verify_reread: bool,
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self {
            sort_order: Vec::new(),
            on_unsorted: OnUnsorted::default(),
            memory_budget_bytes: DEFAULT_MEMORY_BUDGET_BYTES,
            target_file_size_bytes: DEFAULT_TARGET_FILE_SIZE_BYTES,
            codec: Codec::default(),
            max_row_group_rows: DEFAULT_MAX_ROW_GROUP_ROWS,
            copy_row_groups: true,
            verify_reread: false,
        }
    }
}

with_methods! { MergeOptions {
    with_sort_order: sort_order, Vec<SortField>;
    with_on_unsorted: on_unsorted, OnUnsorted;
    with_memory_budget_bytes: memory_budget_bytes, u64;
    with_target_file_size_bytes: target_file_size_bytes, u64;
    with_codec: codec, Codec;
    with_max_row_group_rows: max_row_group_rows, usize;
    with_copy_row_groups: copy_row_groups, bool;
    with_verify_reread: verify_reread, bool;
}}
