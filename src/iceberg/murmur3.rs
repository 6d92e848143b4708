//! The hash of bucket partitions: Murmur3, 32 bits, x86 variant, seed 0 (Iceberg specification, appendix B).

const C1: u32 = 0xcc9e_2d51;
const C2: u32 = 0x1b87_3593;

/// The hash of `bytes`, as the signed number of the specification's examples.
pub(super) fn murmur3_x86_32(bytes: &[u8]) -> i32 {
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut hash = 0_u32;
    for block in blocks {
        hash ^= mix(u32::from_le_bytes(*block));
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    if !tail.is_empty() {
        let rest = tail.iter().rev().fold(0, |rest, byte| rest << 8 | u32::from(*byte));
        hash ^= mix(rest);
    }
    // The length counts modulo 2^32.
    hash ^= u32::try_from(bytes.len() & 0xffff_ffff).unwrap_or(u32::MAX);
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^= hash >> 16;
    hash.cast_signed()
}

fn mix(block: u32) -> u32 {
    block.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_specification() {
        assert_eq!(murmur3_x86_32(&34_i64.to_le_bytes()), 2_017_239_379);
        assert_eq!(murmur3_x86_32(b"iceberg"), 1_210_000_089);
        assert_eq!(murmur3_x86_32(&[0, 1, 2, 3]), -188_683_207);
        assert_eq!(murmur3_x86_32(&[]), 0);
    }
}
