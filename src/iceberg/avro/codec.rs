//! How the blocks of a file are compressed.

use bytes::Bytes;

use super::error::AvroError;

/// A codec that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Deflate,
    Null,
    #[cfg(feature = "snap")]
    Snappy,
    #[cfg(feature = "zstd")]
    Zstandard,
}

/// Blocks that become larger are refused. Writers close a block long before.
const MAX_BLOCK: usize = 256 << 20;

/// Between speed and size, zlib's own choice.
const DEFLATE_LEVEL: u8 = 6;

impl Codec {
    pub(super) fn parse(name: Option<&[u8]>) -> Result<Self, AvroError> {
        match name {
            None | Some(b"null") => Ok(Self::Null),
            Some(b"deflate") => Ok(Self::Deflate),
            #[cfg(feature = "snap")]
            Some(b"snappy") => Ok(Self::Snappy),
            #[cfg(not(feature = "snap"))]
            Some(b"snappy") => Err(AvroError::CodecFeature {
                codec: "snappy",
                feature: "snap",
            }),
            #[cfg(feature = "zstd")]
            Some(b"zstandard") => Ok(Self::Zstandard),
            #[cfg(not(feature = "zstd"))]
            Some(b"zstandard") => Err(AvroError::CodecFeature {
                codec: "zstandard",
                feature: "zstd",
            }),
            Some(name) => Err(AvroError::Codec {
                codec: String::from_utf8_lossy(name.get(..32).unwrap_or(name)).into_owned(),
            }),
        }
    }

    pub(super) fn decompress(self, block: Bytes) -> Result<Bytes, AvroError> {
        self.decompress_within(block, MAX_BLOCK)
    }

    fn decompress_within(self, block: Bytes, limit: usize) -> Result<Bytes, AvroError> {
        match self {
            Self::Null => Ok(block),
            Self::Deflate => miniz_oxide::inflate::decompress_to_vec_with_limit(&block, limit)
                .map(Bytes::from)
                .map_err(|error| match error.status {
                    miniz_oxide::inflate::TINFLStatus::HasMoreOutput => too_large(limit),
                    _ => AvroError::Compressed { codec: "deflate" },
                }),
            #[cfg(feature = "snap")]
            Self::Snappy => decompress_snappy(block, limit),
            #[cfg(feature = "zstd")]
            Self::Zstandard => decompress_zstandard(block, limit),
        }
    }
}

/// The block in the codec that is written, `deflate`.
pub(super) fn compress(block: &[u8]) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec(block, DEFLATE_LEVEL)
}

fn too_large(limit: usize) -> AvroError {
    AvroError::TooLarge {
        what: "bytes of a block",
        limit,
    }
}

/// The library trusts the length that the block declares, and that there is a checksum behind it.
#[cfg(feature = "snap")]
fn decompress_snappy(block: Bytes, limit: usize) -> Result<Bytes, AvroError> {
    const CHECKSUM: usize = 4;
    if block.len() < CHECKSUM {
        return Err(AvroError::Damaged {
            what: "a block is shorter than its checksum",
        });
    }
    let declared = block.iter().take(5).enumerate().try_fold(0_u64, |length, (at, byte)| {
        let length = length | u64::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 { Err(length) } else { Ok(length) }
    });
    match declared {
        Err(length) if usize::try_from(length).is_ok_and(|length| length <= limit) => {
            decompress_with_library(apache_avro::Codec::Snappy, "snappy", block)
        }
        _ => Err(too_large(limit)),
    }
}

/// The library decompresses to the end, however far that is, so the frames are measured first.
#[cfg(feature = "zstd")]
fn decompress_zstandard(block: Bytes, limit: usize) -> Result<Bytes, AvroError> {
    match zstandard_size_limit(&block) {
        Some(size) if size <= limit => {
            let codec = apache_avro::Codec::Zstandard(apache_avro::ZstandardSettings::default());
            decompress_with_library(codec, "zstandard", block)
        }
        Some(_) => Err(too_large(limit)),
        None => Err(AvroError::Compressed { codec: "zstandard" }),
    }
}

/// What the frames can become at most: no block of a frame becomes larger than 128 KiB (RFC 8878, section 3.1.1.2).
#[cfg(feature = "zstd")]
fn zstandard_size_limit(mut bytes: &[u8]) -> Option<usize> {
    const MAX_ZSTANDARD_BLOCK: usize = 128 << 10;
    let mut limit = 0_usize;
    while !bytes.is_empty() {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let magic = u32::from_le_bytes(*magic);
        if magic & 0xFFFF_FFF0 == 0x184D_2A50 {
            let (size, rest) = rest.split_first_chunk::<4>()?;
            bytes = rest.get(usize::try_from(u32::from_le_bytes(*size)).ok()?..)?;
            continue;
        }
        if magic != 0xFD2F_B528 {
            return None;
        }
        let (&descriptor, rest) = rest.split_first()?;
        let is_single_segment = descriptor & 0x20 != 0;
        let window = usize::from(!is_single_segment);
        let dictionary = match descriptor & 3 {
            3 => 4,
            size => usize::from(size),
        };
        let content_size = match descriptor >> 6 {
            0 => usize::from(is_single_segment),
            size => 1 << size,
        };
        let mut blocks = rest.get(window + dictionary + content_size..)?;
        loop {
            let (&[a, b, c], rest) = blocks.split_first_chunk::<3>()?;
            let header = u32::from_le_bytes([a, b, c, 0]);
            let size = usize::try_from(header >> 3).ok()?;
            limit = limit.checked_add(MAX_ZSTANDARD_BLOCK)?;
            // A run of one byte lies there as that byte.
            let is_run = (header >> 1) & 3 == 1;
            blocks = rest.get(if is_run { 1 } else { size }..)?;
            if header & 1 != 0 {
                break;
            }
        }
        let checksum = if descriptor & 4 == 0 { 0 } else { 4 };
        bytes = blocks.get(checksum..)?;
    }
    Some(limit)
}

#[cfg(any(feature = "snap", feature = "zstd"))]
fn decompress_with_library(library: apache_avro::Codec, codec: &'static str, block: Bytes) -> Result<Bytes, AvroError> {
    let mut block = Vec::from(block);
    library
        .decompress(&mut block)
        .map_err(|_| AvroError::Compressed { codec })?;
    Ok(block.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_comes_back() {
        let block = b"firn".repeat(1000);
        let compressed = compress(&block);
        assert_eq!(Codec::Deflate.decompress(compressed.into()).unwrap(), block);
    }

    #[test]
    fn unknown_codecs_are_named() {
        assert_eq!(Codec::parse(None).unwrap(), Codec::Null);
        let error = Codec::parse(Some(b"xz")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "avro file is compressed in an unknown way. codec=`xz`"
        );
    }

    #[cfg(not(feature = "zstd"))]
    #[test]
    fn codecs_that_need_a_feature_name_it() {
        let error = Codec::parse(Some(b"zstandard")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "avro file is compressed in a way that this build cannot read. codec=`zstandard` feature=`zstd`"
        );
    }

    #[test]
    fn blocks_that_become_too_large_are_refused() {
        let block = Bytes::from(compress(&[0; 1001]));
        let error = Codec::Deflate.decompress_within(block.clone(), 1000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "avro file asks for more than is given to it: bytes of a block. limit=`1000`"
        );
        assert_eq!(
            Codec::Deflate.decompress_within(block, 1001).unwrap(),
            [0; 1001].as_slice()
        );
    }

    #[cfg(feature = "snap")]
    #[test]
    fn snappy_blocks_are_checked_before_they_are_read() {
        let mut block = b"firn".repeat(1000);
        apache_avro::Codec::Snappy.compress(&mut block).unwrap();
        assert_eq!(
            Codec::Snappy.decompress(block.clone().into()).unwrap(),
            b"firn".repeat(1000)
        );
        for bytes in [
            &b""[..],
            b"abc",
            &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0, 0, 0, 0],
            &[0x80; 9],
        ] {
            assert!(Codec::Snappy.decompress(Bytes::copy_from_slice(bytes)).is_err());
        }
        block.truncate(block.len() - 1);
        assert!(Codec::Snappy.decompress(block.into()).is_err());
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn zstandard_frames_are_measured_before_they_are_read() {
        let codec = apache_avro::Codec::Zstandard(apache_avro::ZstandardSettings::default());
        for (length, limit) in [(0, 1), (1000, 1), (300_000, 3)] {
            let original: Vec<u8> = (0..length).map(|i: u32| i.to_le_bytes()[0]).collect();
            let mut block = original.clone();
            codec.compress(&mut block).unwrap();
            let found = zstandard_size_limit(&block).unwrap();
            assert!(
                found >= limit * (128 << 10) && found <= (limit + 1) * (128 << 10),
                "{found}"
            );
            assert_eq!(Codec::Zstandard.decompress(block.clone().into()).unwrap(), original);
            for end in 1..block.len().min(300) {
                let cut = Bytes::copy_from_slice(&block[..end]);
                assert!(Codec::Zstandard.decompress(cut).is_err(), "{length} {end}");
            }
        }
        let mut block = vec![0; 1 << 20];
        codec.compress(&mut block).unwrap();
        let error = Codec::Zstandard.decompress_within(block.into(), (1 << 20) - 1);
        assert!(matches!(error, Err(AvroError::TooLarge { .. })), "{error:?}");
    }
}
