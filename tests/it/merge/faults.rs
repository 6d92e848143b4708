//! Whatever is wrong with an input, the merge names the input and the reason, and never panics.

use std::sync::Arc;

use firnline::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::parquet::basic::Compression;
use firnline::parquet::file::properties::WriterProperties;
use firnline::{
    ErrorKind, MergeError, MergeOptions, ParquetMerger, QuarantineReason, SortField, SourceError, read_footer,
};
use futures::TryStreamExt;
use futures::executor::block_on;

use super::recording::{Recording, Request};
use super::support::{LIGHT, Random, Row, batch, compare, encode, input, memory, merge, options, put, schema};

fn ids(values: Vec<i64>) -> RecordBatch {
    let text: StringArray = values.iter().map(|value| Some(format!("text {value}"))).collect();
    let ids: ArrayRef = Arc::new(Int64Array::from(values));
    RecordBatch::try_from_iter([("id", ids), ("text", Arc::new(text) as ArrayRef)]).unwrap()
}

fn by_id() -> MergeOptions {
    options(&[SortField::ascending("id")])
}

async fn reason(store: &Arc<dyn ObjectStore>, bytes: Vec<u8>) -> QuarantineReason {
    let path = put(store, "bad", bytes).await;
    match read_footer(&**store, &path, None).await {
        Err(SourceError::Bad(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_parquet_is_corrupt_and_what_is_encrypted_says_so() {
    block_on(async {
        let store = memory();
        let file = encode(&ids(vec![1, 2, 3]), WriterProperties::default());
        let corrupt = |detail: &str| QuarantineReason::corrupt(detail);
        assert!(matches!(
            reason(&store, Vec::new()).await,
            QuarantineReason::Corrupt { .. }
        ));
        assert_eq!(
            reason(&store, b"PAR1".to_vec()).await,
            corrupt("too short to be Parquet")
        );
        let truncated = file[..file.len() - 1].to_vec();
        assert_eq!(reason(&store, truncated).await, corrupt("no Parquet magic at the end"));
        let mut encrypted = file.clone();
        let length = encrypted.len();
        encrypted[length - 4..].copy_from_slice(b"PARE");
        assert_eq!(reason(&store, encrypted).await, QuarantineReason::Encrypted);
        let mut long = file.clone();
        long[length - 8..length - 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let too_large = QuarantineReason::TooLarge {
            what: "footer bytes".into(),
            value: u64::from(u32::MAX),
            limit: 16 << 20,
        };
        assert_eq!(reason(&store, long).await, too_large);
        let mut longer = file;
        longer[length - 8..length - 4].copy_from_slice(&1_000_000_u32.to_le_bytes());
        assert_eq!(reason(&store, longer).await, corrupt("footer longer than the file"));
    });
}

#[test]
fn a_vanished_or_replaced_source_is_named_by_index() {
    block_on(async {
        let store = memory();
        let good = put(&store, "a", encode(&ids(vec![1]), WriterProperties::default())).await;
        // Larger than what the first request holds.
        let large = || ids((0..20_000).map(|i| i * 7).collect());
        let uncompressed = || WriterProperties::builder().set_dictionary_enabled(false).build();
        let bad = put(&store, "b", encode(&large(), uncompressed())).await;
        let inputs = vec![input(&store, &good, "a", 1).await, input(&store, &bad, "b", 1).await];
        store.delete(&bad).await.unwrap();
        let error = merge(&store, inputs.clone(), by_id(), large().schema())
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                MergeError::Source {
                    index: 1,
                    reason: QuarantineReason::Vanished
                }
            ),
            "{error}"
        );
        put(&store, "b", encode(&large(), uncompressed())).await;
        let error = merge(&store, inputs, by_id(), large().schema()).await.unwrap_err();
        assert!(
            matches!(
                &error,
                MergeError::Source {
                    index: 1,
                    reason: QuarantineReason::Replaced { .. }
                }
            ),
            "{error}"
        );
        let planned = firnline::ETag::new("\"other\"");
        let error = read_footer(&*store, &good, Some(&planned)).await.unwrap_err();
        assert!(
            matches!(error, SourceError::Bad(QuarantineReason::Replaced { .. })),
            "{error}"
        );
    });
}

#[test]
fn the_first_inversion_is_named_by_row() {
    block_on(async {
        let store = memory();
        let good = put(&store, "a", encode(&ids(vec![1, 5]), WriterProperties::default())).await;
        let bad = put(
            &store,
            "b",
            encode(&ids(vec![2, 3, 9, 8, 10]), WriterProperties::default()),
        )
        .await;
        let inputs = vec![input(&store, &good, "a", 1).await, input(&store, &bad, "b", 1).await];
        let schema = ids(vec![]).schema();
        let error = merge(&store, inputs.clone(), by_id(), Arc::clone(&schema))
            .await
            .unwrap_err();
        let unsorted = QuarantineReason::Unsorted { row: 3 };
        assert!(
            matches!(&error, MergeError::Source { index: 1, reason } if *reason == unsorted),
            "{error}"
        );
        let merger = ParquetMerger::new(by_id());
        merger.verify_source(&store, &inputs[0], &schema).await.unwrap();
        let error = merger.verify_source(&store, &inputs[1], &schema).await.unwrap_err();
        assert!(
            matches!(&error, MergeError::Source { index: 0, reason } if *reason == unsorted),
            "{error}"
        );
        assert_eq!(error.kind(), ErrorKind::Data);
        // Without an order there is none to be broken.
        let output = merge(&store, inputs, options(&[]), schema).await.unwrap();
        assert_eq!((output.rows, output.files[0].sorted), (7, false));
    });
}

#[test]
fn a_lossy_value_is_found_while_merging() {
    block_on(async {
        let store = memory();
        let nanos = firnline::arrow::array::TimestampNanosecondArray::from(vec![1_000, 1_001]);
        let source = RecordBatch::try_from_iter([("id", Arc::new(nanos) as ArrayRef)]).unwrap();
        let path = put(&store, "a", encode(&source, WriterProperties::default())).await;
        let micros = firnline::arrow::array::TimestampMicrosecondArray::from(vec![0]);
        let schema = RecordBatch::try_from_iter([("id", Arc::new(micros) as ArrayRef)])
            .unwrap()
            .schema();
        let inputs = vec![input(&store, &path, "a", 1).await];
        let error = merge(&store, inputs, by_id(), schema).await.unwrap_err();
        let MergeError::Source {
            index: 0,
            reason: QuarantineReason::LossyValue { column, value, .. },
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((column.as_str(), value.as_str()), ("id", "1001"));
    });
}

#[test]
fn a_store_that_fails_is_not_the_fault_of_the_source() {
    block_on(async {
        let recording = Recording::default();
        let store: Arc<dyn ObjectStore> = Arc::new(recording.clone());
        let path = put(&store, "a", encode(&ids(vec![1]), WriterProperties::default())).await;
        let mut source = input(&store, &path, "a", 1).await;
        source.footer = source.footer.without_content();
        recording.fail_in(Some(0));
        let schema = ids(vec![]).schema();
        let error = merge(&store, vec![source.clone()], by_id(), Arc::clone(&schema))
            .await
            .unwrap_err();
        assert!(
            matches!(error, MergeError::SourceUnavailable { index: 0, .. }),
            "{error}"
        );
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        recording.fail_in(Some(1));
        let error = merge(&store, vec![source], by_id(), schema).await.unwrap_err();
        assert!(matches!(error, MergeError::Output { .. }), "{error}");
        recording.fail_in(Some(0));
        let error = read_footer(&*store, &path, None).await.unwrap_err();
        assert!(matches!(error, SourceError::Unavailable(_)), "{error}");
    });
}

#[test]
fn a_small_source_takes_one_request_and_none_to_merge() {
    block_on(async {
        let recording = Recording::default();
        let store: Arc<dyn ObjectStore> = Arc::new(recording.clone());
        let small = put(&store, "a", encode(&ids(vec![1]), WriterProperties::default())).await;
        let several = WriterProperties::builder()
            .set_max_row_group_row_count(Some(3_000))
            .set_dictionary_enabled(false)
            .build();
        let medium = put(&store, "b", encode(&ids((0..20_000).collect()), several)).await;
        recording.clear();
        let inputs = vec![
            input(&store, &small, "a", 1).await,
            input(&store, &medium, "b", 1).await,
        ];
        let get = |path: &str, conditional| Request::Get {
            path: path.to_owned(),
            conditional,
        };
        assert_eq!(recording.log(), vec![get("a", false), get("b", false)]);
        assert!(inputs[1].footer.size > 100_000);
        recording.clear();
        merge(&store, inputs, by_id(), ids(vec![]).schema()).await.unwrap();
        let gets: Vec<Request> = recording
            .log()
            .into_iter()
            .filter(|r| matches!(r, Request::Get { .. }))
            .collect();
        assert_eq!(gets, vec![get("b", true)]);
    });
}

/// A file with nested columns, several pages and row groups.
fn rich(seed: u64, compression: Compression) -> Vec<u8> {
    let mut random = Random::new(seed);
    let order = [SortField::ascending("t")];
    let mut rows: Vec<Row> = (0..120).map(|id| Row::random(&mut random, id)).collect();
    rows.sort_by(|a, b| compare(&order, a, b));
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(50))
        .set_data_page_row_count_limit(20)
        .set_write_batch_size(8)
        .set_compression(compression)
        .build();
    encode(&batch(&rows), properties)
}

#[test]
fn a_flipped_bit_never_panics() {
    block_on(async {
        let mut random = Random::new(7);
        let (mut footers, mut merges, mut unharmed) = (0, 0, 0);
        for compression in [Compression::UNCOMPRESSED, LIGHT] {
            let file = rich(3, compression);
            for round in 0..700 {
                let mut broken = file.clone();
                // Half of them in the footer, which is the more dangerous part.
                let length = broken.len();
                let at = if round % 2 == 0 {
                    random.size(length)
                } else {
                    length - 1 - random.size(length / 4)
                };
                broken[at] ^= 1 << random.below(8);
                if round % 5 == 0 {
                    let more = random.size(length);
                    broken[more] = u8::try_from(random.below(256)).unwrap();
                }
                let store = memory();
                let path = put(&store, "a", broken).await;
                let footer = match read_footer(&*store, &path, None).await {
                    Ok(footer) => footer,
                    Err(SourceError::Bad(_)) => {
                        footers += 1;
                        continue;
                    }
                    Err(other) => panic!("byte {at}: {other}"),
                };
                let source = firnline::MergeInput {
                    footer,
                    writer: firnline::WriterId::new("w"),
                    sequence: 1,
                };
                let options = options(&[SortField::ascending("t")]);
                match merge(&store, vec![source], options, schema()).await {
                    Ok(_) => unharmed += 1,
                    Err(MergeError::Source { index: 0, .. }) => merges += 1,
                    Err(other) => panic!("byte {at}: {other}"),
                }
            }
        }
        assert_eq!(footers + merges + unharmed, 1400);
        assert!(footers > 100 && merges > 100, "{footers} {merges} {unharmed}");
    });
}

#[test]
fn a_merge_that_failed_leaves_no_file_behind() {
    block_on(async {
        let store = memory();
        let good = put(
            &store,
            "in/a",
            encode(&ids((0..5_000).collect()), WriterProperties::default()),
        )
        .await;
        let mut values: Vec<i64> = (0..5_000).collect();
        values[4_999] = 0;
        let bad = put(&store, "in/b", encode(&ids(values), WriterProperties::default())).await;
        let inputs = vec![input(&store, &good, "a", 1).await, input(&store, &bad, "b", 1).await];
        let options = by_id().with_max_row_group_rows(500).with_target_file_size_bytes(3_000);
        let error = merge(&store, inputs, options, ids(vec![]).schema()).await.unwrap_err();
        assert!(matches!(error, MergeError::Source { index: 1, .. }), "{error}");
        let left: Vec<_> = store
            .list(None)
            .map_ok(|meta| meta.location.to_string())
            .try_collect()
            .await
            .unwrap();
        assert_eq!(left, vec!["in/a", "in/b"]);
    });
}
