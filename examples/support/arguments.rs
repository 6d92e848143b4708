//! How values are written on a command line.

use bytesize::ByteSize;
use firnline::{Codec, SortField};

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
    text.parse::<ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|e| format!("{e}, such as 128MiB"))
}

/// A codec, with its level where it has one.
pub(crate) fn codec(text: &str) -> Result<Codec, String> {
    let level = |text: &str| text.strip_prefix("zstd(")?.strip_suffix(')')?.trim().parse().ok();
    match text {
        "none" => Ok(Codec::None),
        "snappy" => Ok(Codec::Snappy),
        "zstd" => Ok(Codec::Zstd(1)),
        _ => level(text)
            .map(Codec::Zstd)
            .ok_or_else(|| "zstd(1) to zstd(22), snappy or none".to_owned()),
    }
}
