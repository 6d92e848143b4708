//! Sources in every codec: those that are compiled in are checked page by page, all others are named.

use std::sync::Arc;

use firnline::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use firnline::parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use firnline::parquet::file::metadata::ParquetMetaDataReader;
use firnline::parquet::file::properties::WriterProperties;
use firnline::{MergeError, QuarantineReason, SortField, SourceError, read_footer};
use futures::executor::block_on;

use super::support::{encode, input, memory, merge, options, put, refooted};

/// Codecs with their names, the features that read them, and whether those are on.
fn codecs() -> Vec<(Compression, &'static str, &'static str, bool)> {
    vec![
        (
            Compression::BROTLI(BrotliLevel::default()),
            "brotli",
            "brotli",
            cfg!(feature = "brotli"),
        ),
        (
            Compression::GZIP(GzipLevel::default()),
            "gzip",
            "gzip",
            cfg!(feature = "gzip"),
        ),
        (Compression::LZ4, "lz4", "lz4", cfg!(feature = "lz4")),
        (Compression::LZ4_RAW, "lz4", "lz4", cfg!(feature = "lz4")),
        (Compression::LZO, "lzo", "none", false),
        (Compression::SNAPPY, "snappy", "snap", cfg!(feature = "snap")),
        (
            Compression::ZSTD(ZstdLevel::default()),
            "zstd",
            "zstd",
            cfg!(feature = "zstd"),
        ),
    ]
}

fn constant(rows: usize) -> RecordBatch {
    RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![7; rows])) as ArrayRef)]).unwrap()
}

#[test]
fn a_codec_that_is_not_compiled_in_is_named_with_its_feature() {
    block_on(async {
        let store = memory();
        for (compression, codec, feature, available) in codecs() {
            // No build can write what it cannot read: the footer alone says so.
            let file = encode(&constant(3), WriterProperties::default());
            let file = refooted(&file, |chunk| chunk.set_compression(compression));
            let path = put(&store, "in/a", file).await;
            match read_footer(&*store, &path, None).await {
                Ok(footer) => assert!(available && footer.rows == 3, "{codec}"),
                Err(SourceError::Bad(reason)) => {
                    let expected = QuarantineReason::CodecUnavailable {
                        codec: codec.to_owned(),
                        feature: feature.to_owned(),
                    };
                    assert_eq!((reason, available), (expected, false));
                }
                Err(other) => panic!("{codec}: {other}"),
            }
        }
    });
}

#[test]
fn a_page_that_inflates_past_its_claim_is_corrupt() {
    block_on(async {
        let store = memory();
        for (compression, codec, _, available) in codecs() {
            if !available {
                continue;
            }
            let properties = WriterProperties::builder()
                .set_compression(compression)
                .set_dictionary_enabled(false)
                .build();
            let rows = 1_000;
            let mut file = encode(&constant(rows), properties);
            let schema = constant(1).schema();
            let bytes = bytes::Bytes::from(file.clone());
            let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
            let start = usize::try_from(metadata.row_group(0).column(0).data_page_offset()).unwrap();
            // Page type, then the uncompressed size as a zigzag varint: 8,000 bytes become 7,936.
            assert_eq!(file[start..start + 5], [0x15, 0x00, 0x15, 0x80, 0x7d], "{codec}");
            let merged = |file: Vec<u8>| {
                let (store, schema) = (Arc::clone(&store), Arc::clone(&schema));
                async move {
                    let path = put(&store, "in/a", file).await;
                    let inputs = vec![input(&store, &path, "w", 1).await];
                    merge(&store, inputs, options(&[SortField::ascending("id")]), schema).await
                }
            };
            assert_eq!(merged(file.clone()).await.unwrap().rows, 1_000, "{codec}");
            file[start + 4] = 0x7c;
            let error = merged(file).await.unwrap_err();
            assert!(
                matches!(
                    &error,
                    MergeError::Source {
                        index: 0,
                        reason: QuarantineReason::Corrupt { .. }
                    }
                ),
                "{codec}: {error}"
            );
        }
    });
}
