//! What a merge holds, counted against its budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::basic::Compression;

use crate::options::Codec;

/// Counts bytes held, and the most that were held at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    held: AtomicU64,
    peak: AtomicU64,
}

impl Memory {
    /// Counts `bytes` until the reservation is dropped.
    pub(super) fn hold(&self, bytes: u64) -> Held {
        let mut held = Held {
            memory: self.clone(),
            bytes: 0,
        };
        held.resize(bytes);
        held
    }

    /// The most bytes held at once.
    pub(super) fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::Relaxed)
    }
}

/// Bytes that are counted as held.
#[derive(Debug)]
pub(super) struct Held {
    memory: Memory,
    bytes: u64,
}

impl Held {
    pub(super) fn resize(&mut self, bytes: u64) {
        let counts = &self.memory.0;
        if bytes >= self.bytes {
            let more = bytes - self.bytes;
            let held = counts.held.fetch_add(more, Ordering::Relaxed).saturating_add(more);
            counts.peak.fetch_max(held, Ordering::Relaxed);
        } else {
            counts.held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.resize(0);
    }
}

/// What an open decoder of a column chunk takes beside the chunk and its pages: the state of the codec, runs and
/// levels. Measured; the codecs that parquet uses keep their state for as long as a chunk is open.
pub(super) fn decoder_bytes(codec: Compression) -> u64 {
    let state = match codec {
        Compression::ZSTD(_) => 104 << 10,
        Compression::BROTLI(_) | Compression::GZIP(_) => 64 << 10,
        Compression::SNAPPY => 4 << 10,
        _ => 0,
    };
    state + (8 << 10)
}

/// What an open encoder of a column chunk takes beside the pages that it has: the state of the codec.
pub(super) fn encoder_bytes(codec: Codec) -> u64 {
    codec.encoder_bytes() + (16 << 10)
}

/// What of an allotment may be fetched and decompressed; the rest is for decoded rows and keys.
pub(super) fn fetch_limit(allotment: u64) -> u64 {
    allotment / 4 * 3
}

/// The allotment of which `cost` may be fetched and decompressed.
pub(super) fn allotment_for(cost: u64) -> u64 {
    cost.div_ceil(3).saturating_mul(4).saturating_add(4)
}

/// A count as Parquet has it, signed; what is negative has been refused with the footer.
pub(super) fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A size as `usize`; what does not fit is larger than any memory.
pub(super) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_outlives_what_is_released() {
        let memory = Memory::default();
        let mut first = memory.hold(10);
        let second = memory.hold(5);
        drop(second);
        first.resize(12);
        drop(first);
        assert_eq!(memory.peak(), 15);
        assert_eq!(memory.0.held.load(Ordering::Relaxed), 0);
    }
}
