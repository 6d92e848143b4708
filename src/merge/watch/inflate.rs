//! Decompresses pages of the codecs whose decoders go on to the end of their input, whatever a page is said to inflate
//! to: gzip, Brotli and framed LZ4. Here they end where the page should.

use std::io::Read;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::errors::ParquetError;

/// How LZ4's own frames begin (LZ4 frame format); old writers put pages into them.
#[cfg(feature = "lz4")]
const LZ4_FRAME: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// What is read of the input at a time.
#[cfg(any(feature = "brotli", feature = "lz4"))]
const STEP_BYTES: usize = 64 << 10;

/// Whether pages of this codec are to be decompressed here.
pub(super) fn is_unbounded(codec: Compression) -> bool {
    matches!(codec, Compression::GZIP(_) | Compression::BROTLI(_))
}

/// Decompresses `page`, all but the `levels` in front, which must come to exactly `size` bytes with them.
pub(super) fn inflate(codec: Compression, page: &[u8], levels: usize, size: usize) -> Result<Bytes, ParquetError> {
    let broken = || ParquetError::General("levels longer than their page".to_owned());
    let (levels, packed) = page.split_at_checked(levels).ok_or_else(broken)?;
    let left = size.checked_sub(levels.len()).ok_or_else(broken)?;
    // One more, by which a longer page is told.
    let mut inflated = Vec::with_capacity(size.saturating_add(1));
    inflated.extend_from_slice(levels);
    if left == 0 {
        // A page without values, of whatever bytes.
        return Ok(inflated.into());
    }
    decoder(codec, packed)?
        .take(left as u64 + 1)
        .read_to_end(&mut inflated)?;
    check_size(inflated.len() as u64, size)?;
    Ok(inflated.into())
}

fn decoder(codec: Compression, packed: &[u8]) -> Result<Box<dyn Read + '_>, ParquetError> {
    match codec {
        #[cfg(feature = "gzip")]
        Compression::GZIP(_) => Ok(Box::new(flate2::read::MultiGzDecoder::new(packed))),
        #[cfg(feature = "brotli")]
        Compression::BROTLI(_) => {
            let step = STEP_BYTES.min(packed.len()).max(1);
            Ok(Box::new(brotli::Decompressor::new(packed, step)))
        }
        other => {
            let length = packed.len();
            Err(ParquetError::NYI(format!("{length} bytes of a page in {other}")))
        }
    }
}

/// Refuses a page that is an LZ4 frame of another size than it is said to be. Other forms of LZ4 have no such.
#[cfg(feature = "lz4")]
pub(super) fn check_lz4_frame(input: &[u8], size: usize) -> Result<(), ParquetError> {
    if !input.starts_with(&LZ4_FRAME) {
        return Ok(());
    }
    let frame = lz4_flex::frame::FrameDecoder::new(input).take(size as u64 + 1);
    let mut frame = std::io::BufReader::with_capacity(STEP_BYTES, frame);
    let inflated = std::io::copy(&mut frame, &mut std::io::sink())?;
    check_size(inflated, size)
}

/// Without its decoder.
#[cfg(not(feature = "lz4"))]
pub(super) fn check_lz4_frame(_: &[u8], size: usize) -> Result<(), ParquetError> {
    Err(ParquetError::NYI(format!("a page of {size} bytes in LZ4")))
}

fn check_size(inflated: u64, size: usize) -> Result<(), ParquetError> {
    if inflated == size as u64 {
        return Ok(());
    }
    Err(ParquetError::General(format!(
        "a page of another size than its header says. size=`{size}`"
    )))
}

#[cfg(all(test, feature = "gzip", feature = "brotli", feature = "lz4"))]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn gzip_ends_where_the_page_should() {
        let zeros = vec![0; 10 << 20];
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(&zeros).unwrap();
        let packed = packed.finish().unwrap();
        let codec = Compression::GZIP(parquet::basic::GzipLevel::default());
        assert_eq!(inflate(codec, &packed, 0, zeros.len()).unwrap(), zeros);
        assert!(inflate(codec, &packed, 0, 1000).is_err());
        assert!(inflate(codec, &packed, 0, zeros.len() + 1).is_err());
        assert!(inflate(codec, &packed[..packed.len() / 2], 0, zeros.len()).is_err());
    }

    #[test]
    fn brotli_ends_where_the_page_should() {
        let zeros = vec![0; 10 << 20];
        let mut packed = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
        packed.write_all(&zeros).unwrap();
        let packed = packed.into_inner();
        let codec = Compression::BROTLI(parquet::basic::BrotliLevel::default());
        assert_eq!(inflate(codec, &packed, 0, zeros.len()).unwrap(), zeros);
        assert!(inflate(codec, &packed, 0, 1000).is_err());
        assert!(inflate(codec, &packed, 0, 1).is_err());
    }

    #[test]
    fn a_frame_of_lz4_is_as_long_as_its_page() {
        let zeros = vec![0; 10 << 20];
        let mut packed = lz4_flex::frame::FrameEncoder::new(Vec::new());
        packed.write_all(&zeros).unwrap();
        let packed = packed.finish().unwrap();
        check_lz4_frame(&packed, zeros.len()).unwrap();
        assert!(check_lz4_frame(&packed, 1000).is_err());
        // Without a frame, the decoder fills a page of the given size.
        check_lz4_frame(&[0; 100], 1000).unwrap();
    }
}
