//! How values are written on a command line.

use std::io;
use std::sync::Arc;

use bytesize::ByteSize;
use firnline::{Codec, OnUnsorted, QuarantineReason, SortField};
use futures::executor::ThreadPool;

/// A column, descending with a `-` in front.
pub(crate) fn sort_field(text: &str) -> Result<SortField, String> {
    let text = text.trim();
    match text.strip_prefix('-') {
        // An option that was taken for the value.
        _ if text.starts_with("--") => Err("a column is needed, such as ts or -ts".to_owned()),
        _ if text.trim_start_matches('-').is_empty() => Err("a column is needed, such as ts or -ts".to_owned()),
        Some(column) => Ok(SortField::descending(column)),
        None => Ok(SortField::ascending(text)),
    }
}

/// A number of bytes, with or without a unit.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    // What is too large is taken for the largest.
    match text.parse::<ByteSize>().map(|size| size.as_u64()) {
        Ok(bytes) if bytes < u64::MAX => Ok(bytes),
        _ => Err("a number of bytes below 16 EiB is needed, with or without a unit, such as 128MiB".to_owned()),
    }
}

/// Why a source is bad; the order that was asked for is told where it is not in it.
pub(crate) fn reason(reason: &QuarantineReason, order: &[SortField]) -> String {
    match reason {
        QuarantineReason::Unsorted { .. } => {
            let sign = |field: &SortField| if field.descending { "-" } else { "" };
            let order: Vec<String> = order
                .iter()
                .map(|field| format!("{}{}", sign(field), field.column))
                .collect();
            format!("{reason} order=`{}`", order.join(","))
        }
        QuarantineReason::TooLarge { what, .. } if what.contains("memoryBudgetBytes") => {
            format!("{reason}; more --memory may suffice")
        }
        _ => reason.to_string(),
    }
}

/// What to do about files that are not in order.
pub(crate) fn on_unsorted(text: &str) -> Result<OnUnsorted, String> {
    match text {
        "quarantine" => Ok(OnUnsorted::Quarantine),
        "resort" => Ok(OnUnsorted::Resort),
        _ => Err("quarantine or resort".to_owned()),
    }
}

/// A codec, with its level where it has one.
pub(crate) fn codec(text: &str) -> Result<Codec, String> {
    let level = |text: &str| text.strip_prefix("zstd(")?.strip_suffix(')')?.trim().parse().ok();
    match text {
        "none" => Ok(Codec::None),
        "snappy" => Ok(Codec::Snappy),
        "lz4" => Ok(Codec::Lz4),
        "zstd" => Ok(Codec::Zstd(1)),
        _ => level(text)
            .map(Codec::Zstd)
            .ok_or_else(|| "zstd(1) to zstd(22), snappy, lz4 or none".to_owned()),
    }
}

/// A number of threads.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err("a number from 1 to 1024".to_owned()),
    }
}

/// Threads that decode and encode beside the one that merges; none if it is to do all itself.
pub(crate) fn helpers(threads: usize) -> io::Result<Option<Arc<ThreadPool>>> {
    let pool = (threads > 1).then(|| ThreadPool::builder().pool_size(threads).create());
    Ok(pool.transpose()?.map(Arc::new))
}
