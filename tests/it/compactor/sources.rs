//! Every way in which a source can be bad: it is set aside with its reason, and the rest is committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use firnline::parquet::arrow::ArrowWriter;
use firnline::{EventOutcome, ObjectEvent, ObjectEventKind, OnReplaced, Options, Seq};
use futures::executor::block_on;

use super::support::{
    DAY, END, HookStore, MINUTE, Moment, commits, delete, errors, object_key, put, quarantine, sorted, tell, two_good,
    voids,
};
use crate::world::{HOUR, Row, World, at, parquet_of, work, work_until};

pub(super) fn bad_key() -> String {
    format!("data/users/{}-w3-0.parquet", HOUR + 3_000)
}

/// Commits two good files beside one that is `bytes`; says how the bad one ended.
fn beside_good_ones(bytes: Vec<u8>) -> (Vec<(String, String)>, Vec<(u64, u64, usize, u64)>, Vec<u64>) {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let event = put(&world.bucket, &bad_key(), bytes);
    assert_eq!(tell(&mut compactor, &[event], at(END)), [Ok(EventOutcome::Recorded)]);
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(errors(&reports), Vec::<String>::new());
    assert_eq!(world.table_rows("users"), rows);
    assert_eq!(world.sources(), [bad_key()], "the bad one stays in the bucket");
    let set_aside = quarantine(&compactor, at(END));
    // A restart knows it still, and a listing does not bring it back.
    let mut again = world.open(at(END + 20 * MINUTE));
    let listed = block_on(again.reconcile(at(END + 20 * MINUTE))).unwrap();
    assert_eq!((listed.recorded, listed.set_aside), (0, 0));
    assert_eq!(quarantine(&again, at(END)), set_aside);
    assert_eq!(
        commits(&work_until(&mut again, at(END + 20 * MINUTE), at(END + 90 * MINUTE))),
        []
    );
    assert_eq!(world.table_rows("users"), rows);
    (set_aside, commits(&reports), voids(&reports))
}

#[cfg(feature = "testing")]
#[test]
fn a_bucket_without_ranges_from_the_end_is_read_by_the_sizes_of_its_files() {
    use firnline::testing::{Profile, ProfileStore};

    let mut world = World::new();
    world.bucket = Arc::new(ProfileStore::new(Arc::clone(&world.bucket), Profile::Azure));
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let empty = put(&world.bucket, &bad_key(), Vec::new());
    assert_eq!(tell(&mut compactor, &[empty], at(END)), [Ok(EventOutcome::Recorded)]);
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(errors(&reports), Vec::<String>::new());
    assert_eq!(world.table_rows("users"), rows);
    assert_eq!(quarantine(&compactor, at(END)), [(bad_key(), "corrupt".to_owned())]);
}

fn corrupt_without_void(bytes: Vec<u8>) {
    let (set_aside, commits, voids) = beside_good_ones(bytes);
    assert_eq!(set_aside, [(bad_key(), "corrupt".to_owned())]);
    assert_eq!((commits, voids), (vec![(1, 0, 2, 40)], vec![]));
}

fn good_bytes() -> Vec<u8> {
    parquet_of(&rows_of_writer("w3", 20))
}

/// A file of more than what is read of it when it is planned.
fn large_bytes() -> Vec<u8> {
    parquet_of(&rows_of_writer("w3", 20_000))
}

fn rows_of_writer(writer: &str, count: i64) -> Vec<Row> {
    (0..count)
        .map(|i| ((HOUR + 3_000 + i) * 1_000, format!("{writer}-{i:05}"), i))
        .collect()
}

/// A file whose footer is right and whose pages are garbage.
pub(super) fn garbage_pages() -> Vec<u8> {
    let mut bytes = good_bytes();
    let footer = u32::from_le_bytes(bytes[bytes.len() - 8..bytes.len() - 4].try_into().unwrap()) as usize;
    let pages = 4..bytes.len() - 8 - footer;
    bytes[pages].fill(0xff);
    bytes
}

fn parquet_from(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
    let batch = batch.unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn ts(rows: &[Row]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.0)).with_timezone("UTC"))
}

fn ids(rows: &[Row]) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.1)))
}

#[test]
fn a_file_with_a_broken_footer_is_set_aside() {
    let mut bytes = good_bytes();
    let from = bytes.len() - 40;
    let to = bytes.len() - 8;
    bytes[from..to].fill(0xff);
    corrupt_without_void(bytes);
}

#[test]
fn an_empty_object_is_set_aside() {
    corrupt_without_void(Vec::new());
}

#[test]
fn a_truncated_file_is_set_aside() {
    let bytes = good_bytes();
    corrupt_without_void(bytes[..bytes.len() - 100].to_vec());
}

#[test]
fn garbage_that_only_the_merge_finds_voids_the_plan_once_and_the_rest_follows_at_once() {
    let (set_aside, commits, voids) = beside_good_ones(garbage_pages());
    assert_eq!(set_aside, [(bad_key(), "corrupt".to_owned())]);
    assert_eq!((commits, voids), (vec![(2, 0, 2, 40)], vec![1]));
}

#[test]
fn two_culprits_of_one_plan_cost_one_void() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let other = format!("data/users/{}-w4-0.parquet", HOUR + 500);
    let events = [
        put(&world.bucket, &bad_key(), garbage_pages()),
        put(&world.bucket, &other, garbage_pages()),
    ];
    tell(&mut compactor, &events, at(END));
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(voids(&reports), [1]);
    assert_eq!(commits(&reports), [(2, 0, 2, 40)]);
    let quarantined: Vec<_> = reports
        .iter()
        .flat_map(|r| &r.quarantined)
        .map(|(k, _)| k.as_str())
        .collect();
    assert_eq!(quarantined, [other.as_str(), bad_key().as_str()]);
    assert_eq!(world.table_rows("users"), rows);
}

#[test]
fn a_worker_that_finds_anothers_void_does_not_try_its_culprits_again() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let event = put(&world.bucket, &bad_key(), garbage_pages());
    tell(&mut compactor, &[event], at(END));
    let job = compactor.poll_job(at(END + MINUTE)).unwrap();
    // The process dies after the void was recorded and before the state was saved.
    drop(block_on(job.run()));
    drop(compactor);
    let mut compactor = world.open(at(END + MINUTE));
    let reports = work_until(&mut compactor, at(END + MINUTE), at(END + 10 * MINUTE));
    assert_eq!(voids(&reports), Vec::<u64>::new());
    assert_eq!(commits(&reports), [(2, 0, 2, 40)]);
    assert_eq!(quarantine(&compactor, at(END)), [(bad_key(), "corrupt".to_owned())]);
    assert_eq!(world.table_rows("users"), rows);
}

#[test]
fn a_file_that_vanished_before_it_was_drafted_is_set_aside_until_it_comes_back() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, mut rows) = two_good(&world, &mut compactor);
    let event = put(&world.bucket, &bad_key(), good_bytes());
    tell(&mut compactor, &[event], at(END));
    delete(&world.bucket, &bad_key());
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 2, 40)]);
    assert_eq!(quarantine(&compactor, at(END)), [(bad_key(), "vanished".to_owned())]);
    assert_eq!(world.table_rows("users"), rows);
    let event = put(&world.bucket, &bad_key(), good_bytes());
    assert_eq!(
        tell(&mut compactor, &[event], at(END + 20 * MINUTE)),
        [Ok(EventOutcome::Recorded)]
    );
    assert_eq!(quarantine(&compactor, at(END)), []);
    let reports = work_until(&mut compactor, at(END + 20 * MINUTE), at(END + 20 * MINUTE + DAY));
    assert_eq!(commits(&reports), [(2, 1, 1, 20)]);
    rows = sorted(&[&rows, &rows_of_writer("w3", 20)]);
    assert_eq!(world.table_rows("users"), rows);
}

#[test]
fn a_bad_file_announced_without_an_etag_is_judged_anew_when_it_is_replaced() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    two_good(&world, &mut compactor);
    let _ = put(&world.bucket, &bad_key(), b"garbage".to_vec());
    let without_etag = ObjectEvent::created(bad_key());
    tell(&mut compactor, &[without_etag.clone()], at(END));
    work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(quarantine(&compactor, at(END)), [(bad_key(), "corrupt".to_owned())]);
    assert_eq!(
        tell(&mut compactor, &[without_etag.clone()], at(END + 10 * MINUTE)),
        [Ok(EventOutcome::Duplicate)]
    );
    let _ = put(&world.bucket, &bad_key(), good_bytes());
    assert_eq!(
        tell(&mut compactor, &[without_etag], at(END + 10 * MINUTE)),
        [Ok(EventOutcome::Recorded)]
    );
    assert_eq!(quarantine(&compactor, at(END)), []);
}

#[test]
fn a_file_replaced_before_it_is_drafted_is_merged_as_it_is_then() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let first = put(&world.bucket, &bad_key(), parquet_of(&rows_of_writer("old", 5)));
    tell(&mut compactor, &[first], at(END));
    let _ = put(&world.bucket, &bad_key(), good_bytes());
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 3, 60)]);
    assert_eq!(world.table_rows("users"), sorted(&[&rows, &rows_of_writer("w3", 20)]));
    assert_eq!(world.sources(), Vec::<String>::new());
}

/// Replaces the third file when its plan has just been written.
fn replaced_after_planning(world: &mut World) {
    let (bucket, done) = (Arc::clone(&world.bucket), AtomicBool::new(false));
    world.control = HookStore::new(&world.control, move |moment, operation, path| {
        let planned = (moment, operation) == (Moment::After, "put") && path.as_ref().ends_with("plans/1.json");
        if planned && !done.swap(true, Ordering::SeqCst) {
            put(&bucket, &bad_key(), parquet_of(&rows_of_writer("new", 7)));
        }
        Ok(())
    });
}

#[test]
fn a_file_replaced_between_plan_and_merge_voids_the_plan_and_goes_to_quarantine() {
    let mut world = World::new();
    replaced_after_planning(&mut world);
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let event = put(&world.bucket, &bad_key(), large_bytes());
    tell(&mut compactor, &[event], at(END));
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!((voids(&reports), commits(&reports)), (vec![1], vec![(2, 0, 2, 40)]));
    assert_eq!(quarantine(&compactor, at(END)), [(bad_key(), "replaced".to_owned())]);
    assert_eq!(world.table_rows("users"), rows);
    // The new content is judged anew as soon as it is heard of: nothing of this key is in the table.
    let listed = block_on(compactor.reconcile(at(END + 10 * MINUTE))).unwrap();
    assert_eq!((listed.recorded, quarantine(&compactor, at(END))), (1, vec![]));
    let later = at(END + 10 * MINUTE + DAY);
    assert_eq!(
        commits(&work_until(&mut compactor, at(END + 10 * MINUTE), later)),
        [(3, 1, 1, 7)]
    );
    assert_eq!(world.table_rows("users"), sorted(&[&rows, &rows_of_writer("new", 7)]));
}

/// Replaces the third file after the merge has read it and before its commit, and tells of it while the job runs.
fn replaced_while_merged(on_replaced: OnReplaced) -> (World, firnline::Compactor, Vec<Row>) {
    let mut world = World::new();
    world.options = world.options.with_on_replaced(on_replaced);
    let (bucket, done) = (Arc::clone(&world.bucket), AtomicBool::new(false));
    world.tables = HookStore::new(&world.tables, move |moment, operation, path| {
        let uploaded = (moment, operation) == (Moment::After, "put") && path.as_ref().ends_with(".parquet");
        if uploaded && !done.swap(true, Ordering::SeqCst) {
            put(&bucket, &bad_key(), parquet_of(&rows_of_writer("new", 7)));
        }
        Ok(())
    });
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let event = put(&world.bucket, &bad_key(), good_bytes());
    tell(&mut compactor, &[event], at(END));
    let job = compactor.poll_job(at(END + MINUTE)).unwrap();
    let outcome = block_on(job.run());
    let found = firnline::object_store::path::Path::parse(bad_key()).unwrap();
    let meta = block_on(firnline::object_store::ObjectStoreExt::head(&world.bucket, &found)).unwrap();
    let event = ObjectEvent::created(bad_key())
        .with_size(meta.size)
        .with_etag(meta.e_tag.unwrap());
    assert_eq!(
        tell(&mut compactor, &[event], at(END + MINUTE)),
        [Ok(EventOutcome::Recorded)]
    );
    let report = block_on(compactor.finish_job(outcome, at(END + MINUTE))).unwrap();
    assert_eq!(commits(&[report]), [(1, 0, 3, 60)]);
    (world, compactor, sorted(&[&rows, &rows_of_writer("w3", 20)]))
}

#[test]
fn new_content_announced_while_the_old_is_merged_is_not_forgotten_but_set_aside() {
    let (world, mut compactor, rows) = replaced_while_merged(OnReplaced::Quarantine);
    work_until(&mut compactor, at(END + MINUTE), at(END + 10 * MINUTE));
    assert_eq!(quarantine(&compactor, at(END)), [(bad_key(), "replaced".to_owned())]);
    assert_eq!(world.table_rows("users"), rows);
    assert_eq!(world.sources(), [bad_key()]);
}

#[test]
fn new_content_announced_while_the_old_is_merged_is_appended_where_the_policy_says_so() {
    let (world, mut compactor, rows) = replaced_while_merged(OnReplaced::Append);
    let reports = work_until(&mut compactor, at(END + MINUTE), at(END + DAY * 2));
    assert_eq!(commits(&reports), [(2, 1, 1, 7)]);
    assert_eq!(world.table_rows("users"), sorted(&[&rows, &rows_of_writer("new", 7)]));
    assert_eq!(world.sources(), Vec::<String>::new());
}

fn with_grace(options: Options) -> Options {
    options.with_delete_grace_ms(3_600_000)
}

/// Commits three files, replaces the third within the grace, and tells of it or not.
fn replaced_after_commit(on_replaced: OnReplaced, told: bool) -> (World, firnline::Compactor, Vec<Row>) {
    let mut world = World::new();
    world.options = with_grace(world.options).with_on_replaced(on_replaced);
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let event = put(&world.bucket, &bad_key(), good_bytes());
    tell(&mut compactor, &[event], at(END));
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 3, 60)]);
    let event = put(&world.bucket, &bad_key(), parquet_of(&rows_of_writer("new", 7)));
    if told {
        let expected = match on_replaced {
            OnReplaced::Append => EventOutcome::Recorded,
            OnReplaced::Quarantine => EventOutcome::SetAside,
        };
        assert_eq!(tell(&mut compactor, &[event], at(END + 11 * MINUTE)), [Ok(expected)]);
    }
    (world, compactor, sorted(&[&rows, &rows_of_writer("w3", 20)]))
}

#[test]
fn a_file_replaced_after_its_commit_is_kept_and_set_aside() {
    let (world, mut compactor, rows) = replaced_after_commit(OnReplaced::Quarantine, true);
    work_until(&mut compactor, at(END + 11 * MINUTE), at(END + 120 * MINUTE));
    assert_eq!(world.sources(), [bad_key()]);
    assert_eq!(quarantine(&compactor, at(END)), [(bad_key(), "replaced".to_owned())]);
    assert_eq!(world.table_rows("users"), rows);
}

#[test]
fn a_file_replaced_after_its_commit_is_appended_where_the_policy_says_so() {
    let (world, mut compactor, rows) = replaced_after_commit(OnReplaced::Append, true);
    let reports = work_until(&mut compactor, at(END + 11 * MINUTE), at(END + 2 * DAY));
    assert_eq!(commits(&reports), [(2, 1, 1, 7)]);
    assert_eq!(world.table_rows("users"), sorted(&[&rows, &rows_of_writer("new", 7)]));
    assert_eq!(world.sources(), Vec::<String>::new());
}

#[test]
fn a_replacement_that_nobody_told_of_is_seen_at_the_reclaim_and_set_aside() {
    let (world, mut compactor, rows) = replaced_after_commit(OnReplaced::Quarantine, false);
    work_until(&mut compactor, at(END + 11 * MINUTE), at(END + 2 * DAY));
    assert_eq!(world.sources(), [bad_key()]);
    assert_eq!(quarantine(&compactor, at(END)), [(bad_key(), "replaced".to_owned())]);
    assert_eq!(world.table_rows("users"), rows);
}

#[test]
fn a_replacement_that_nobody_told_of_is_seen_at_the_reclaim_and_appended() {
    let (world, mut compactor, rows) = replaced_after_commit(OnReplaced::Append, false);
    let reports = work_until(&mut compactor, at(END + 11 * MINUTE), at(END + 2 * DAY));
    assert_eq!(commits(&reports), [(2, 1, 1, 7)]);
    assert_eq!(world.table_rows("users"), sorted(&[&rows, &rows_of_writer("new", 7)]));
    assert_eq!(world.sources(), Vec::<String>::new());
}

#[test]
fn a_source_that_somebody_deletes_just_before_its_reclaim_is_gone_all_the_same() {
    let mut world = World::new();
    let inner = Arc::clone(&world.bucket);
    world.bucket = HookStore::new(&world.bucket, move |moment, operation, path| {
        if (moment, operation) != (Moment::Before, "delete") {
            return Ok(());
        }
        delete(&inner, path.as_ref());
        Err(firnline::object_store::Error::NotFound {
            path: path.to_string(),
            source: "gone".into(),
        })
    });
    let mut compactor = world.open(at(END));
    two_good(&world, &mut compactor);
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(
        (commits(&reports), errors(&reports)),
        (vec![(1, 0, 2, 40)], Vec::<String>::new())
    );
    // Nothing is left to be done, though none of it was deleted by us.
    assert_eq!(reports.iter().map(|report| report.reclaimed_sources).sum::<usize>(), 0);
    assert_eq!(world.sources(), Vec::<String>::new());
    assert_eq!(compactor.status(at(END + 10 * MINUTE)).plans.len(), 0);
}

#[test]
fn the_same_content_uploaded_again_is_the_same_source() {
    let mut world = World::new();
    world.options = with_grace(world.options);
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let first = put(&world.bucket, &bad_key(), good_bytes());
    let second = put(&world.bucket, &bad_key(), good_bytes());
    assert_ne!(first.etag, second.etag);
    tell(&mut compactor, &[first, second], at(END));
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 3, 60)]);
    let third = put(&world.bucket, &bad_key(), good_bytes());
    assert_eq!(
        tell(&mut compactor, &[third], at(END + 11 * MINUTE)),
        [Ok(EventOutcome::Duplicate)]
    );
    let listed = block_on(compactor.reconcile(at(END + 12 * MINUTE))).unwrap();
    assert_eq!((listed.recorded, listed.set_aside), (0, 0));
    let later = at(END + 2 * DAY);
    assert_eq!(commits(&work_until(&mut compactor, at(END + 12 * MINUTE), later)), []);
    assert_eq!(world.table_rows("users"), sorted(&[&rows, &rows_of_writer("w3", 20)]));
    // It is not deleted, since only its size and footer have been compared; nor is it forgotten.
    assert_eq!(world.sources(), [bad_key()]);
    let set_aside = [(bad_key(), "uploadedAgain".to_owned())];
    assert_eq!(quarantine(&compactor, later), set_aside);
    // However much time goes by.
    let much_later = at(END + 60 * DAY);
    assert_eq!(commits(&work_until(&mut compactor, later, much_later)), []);
    let listed = block_on(compactor.reconcile(much_later)).unwrap();
    assert_eq!((listed.recorded, listed.set_aside), (0, 0));
    assert_eq!(quarantine(&compactor, much_later), set_aside);
}

#[test]
fn a_source_uploaded_again_after_its_reclaim_is_set_aside_and_not_forgotten() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let first = put(&world.bucket, &bad_key(), good_bytes());
    tell(&mut compactor, &[first.clone()], at(END));
    let now = at(END + 10 * MINUTE);
    assert_eq!(commits(&work_until(&mut compactor, at(END), now)), [(1, 0, 3, 60)]);
    assert_eq!(world.sources(), Vec::<String>::new());
    // A notification that comes late tells nothing.
    assert_eq!(tell(&mut compactor, &[first], now), [Ok(EventOutcome::Duplicate)]);
    let again = put(&world.bucket, &bad_key(), good_bytes());
    assert_eq!(tell(&mut compactor, &[again], now), [Ok(EventOutcome::SetAside)]);
    assert_eq!(quarantine(&compactor, now).len(), 1);
    let listed = block_on(compactor.reconcile(now)).unwrap();
    assert_eq!((listed.recorded, listed.set_aside), (0, 0));
    assert_eq!(world.table_rows("users"), sorted(&[&rows, &rows_of_writer("w3", 20)]));
}

#[test]
fn a_file_without_rows_is_consumed_and_reclaimed() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let event = put(&world.bucket, &bad_key(), parquet_of(&[]));
    tell(&mut compactor, &[event], at(END));
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 3, 40)]);
    assert_eq!(world.table_rows("users"), rows);
    assert_eq!(world.sources(), Vec::<String>::new());
}

#[test]
fn a_window_of_files_without_rows_is_committed_without_files_and_reclaimed() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let events = [
        world.write("users", HOUR + 1, "w1", 0, &[]),
        world.write("users", HOUR + 2, "w2", 0, &[]),
    ];
    tell(&mut compactor, &events, at(END));
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 2, 0)]);
    assert_eq!(
        reports
            .iter()
            .flat_map(|r| &r.committed)
            .map(|p| p.outputs.len())
            .sum::<usize>(),
        0
    );
    assert_eq!(world.live_files("users").len(), 0);
    assert_eq!(world.sources(), Vec::<String>::new());
    // The next plan follows it.
    let (event, rows) = world.write_some("users", HOUR + 3, "w1", 1, 4);
    tell(&mut compactor, &[event], at(END + 20 * MINUTE));
    let reports = work_until(&mut compactor, at(END + 20 * MINUTE), at(END + 2 * DAY));
    assert_eq!(commits(&reports), [(2, 1, 1, 4)]);
    assert_eq!(world.table_rows("users"), rows);
}

#[test]
fn columns_in_another_order_and_a_missing_nullable_column_are_taken() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let full = |writer: &str| -> Vec<u8> {
        let rows = rows_of_writer(writer, 3);
        parquet_from(vec![
            ("ts", ts(&rows)),
            ("id", ids(&rows)),
            ("n", Arc::new(Int64Array::from_iter_values(0..3))),
        ])
    };
    let reordered = rows_of_writer("b", 3);
    let short = rows_of_writer("c", 3);
    let events = [
        put(
            &world.bucket,
            &format!("data/users/{}-a-0.parquet", HOUR + 1),
            full("a"),
        ),
        put(
            &world.bucket,
            &format!("data/users/{}-b-0.parquet", HOUR + 2),
            parquet_from(vec![
                ("n", Arc::new(Int64Array::from_iter_values(0..3))),
                ("id", ids(&reordered)),
                ("ts", ts(&reordered)),
            ]),
        ),
        put(
            &world.bucket,
            // The first in order is the one that is short of a column.
            &format!("data/users/{HOUR}-c-0.parquet"),
            parquet_from(vec![("ts", ts(&short)), ("id", ids(&short))]),
        ),
    ];
    tell(&mut compactor, &events, at(END));
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 3, 9)]);
    assert_eq!(quarantine(&compactor, at(END)), []);
    let table = world.table_rows("users");
    assert_eq!(table.len(), 9);
    assert_eq!(
        table
            .iter()
            .filter(|row| row.1.starts_with("b-"))
            .map(|row| row.2)
            .collect::<Vec<_>>(),
        [0, 1, 2]
    );
}

#[test]
fn a_column_of_another_kind_is_schema_drift_and_the_rest_is_committed() {
    let rows = rows_of_writer("w3", 3);
    let (set_aside, commits, voids) = beside_good_ones(parquet_from(vec![
        ("ts", ts(&rows)),
        ("id", ids(&rows)),
        ("n", Arc::new(StringArray::from(vec!["x", "y", "z"]))),
    ]));
    assert_eq!(set_aside, [(bad_key(), "schemaDrift".to_owned())]);
    assert_eq!((commits, voids), (vec![(1, 0, 2, 40)], vec![]));
    let (set_aside, commits, _) = beside_good_ones(parquet_from(vec![
        ("ts", ts(&rows)),
        ("id", ids(&rows)),
        ("n", Arc::new(Float64Array::from(vec![0.5, 1.0, 2.0]))),
    ]));
    assert_eq!(set_aside, [(bad_key(), "schemaDrift".to_owned())]);
    assert_eq!(commits, [(1, 0, 2, 40)]);
    let (set_aside, commits, _) = beside_good_ones(parquet_from(vec![
        ("ts", ts(&rows)),
        ("id", ids(&rows)),
        ("n", Arc::new(BooleanArray::from(vec![true, false, true]))),
    ]));
    assert_eq!(set_aside, [(bad_key(), "schemaDrift".to_owned())]);
    assert_eq!(commits, [(1, 0, 2, 40)]);
}

#[test]
fn a_file_without_a_column_of_the_sort_order_is_set_aside() {
    let rows = rows_of_writer("w3", 3);
    let (set_aside, commits, voids) = beside_good_ones(parquet_from(vec![
        ("ts", ts(&rows)),
        ("n", Arc::new(Int64Array::from_iter_values(0..3))),
    ]));
    assert_eq!(set_aside, [(bad_key(), "schemaDrift".to_owned())]);
    assert_eq!((commits, voids), (vec![(1, 0, 2, 40)], vec![]));
}

#[test]
fn a_file_that_is_not_in_order_is_set_aside_by_its_first_inversion() {
    let mut rows = rows_of_writer("w3", 9);
    rows.swap(5, 6);
    let (set_aside, commits, voids) = beside_good_ones(parquet_of(&rows));
    assert_eq!(set_aside, [(bad_key(), "unsorted".to_owned())]);
    assert_eq!((commits, voids), (vec![(2, 0, 2, 40)], vec![1]));
}

#[test]
fn a_malformed_key_is_set_aside_and_its_release_says_what_to_do() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let bad = "data/users/nonsense.parquet";
    let event = put(&world.bucket, bad, good_bytes());
    assert_eq!(
        tell(&mut compactor, &[event.clone(), event], at(END)),
        [Ok(EventOutcome::SetAside), Ok(EventOutcome::Duplicate)]
    );
    assert_eq!(
        quarantine(&compactor, at(END)),
        [(bad.to_owned(), "malformed".to_owned())]
    );
    let refused = compactor.release(&object_key(bad)).unwrap_err();
    assert_eq!(refused.kind(), firnline::ErrorKind::Invalid);
    assert_eq!(
        refused.to_string(),
        "a key that does not parse cannot be released: copy the object to a right name. \
         key=`data/users/nonsense.parquet`"
    );
    let again = world.open(at(END));
    assert_eq!(quarantine(&again, at(END)), [(bad.to_owned(), "malformed".to_owned())]);
    assert_eq!(again.status(at(END)).quarantine.files[0].since, at(END));
}

#[test]
fn what_is_not_a_new_source_file_of_this_bucket_is_ignored() {
    let world = World::new();
    let mut compactor = block_on(world.builder().with_bucket_name("ours").open(at(END))).unwrap();
    let good = put(&world.bucket, &bad_key(), good_bytes());
    let mut deleted = good.clone();
    deleted.kind = ObjectEventKind::Deleted;
    let mut elsewhere = good.clone();
    elsewhere.bucket = Some("theirs".to_owned());
    let mut here = good.clone();
    here.bucket = Some("ours".to_owned());
    let told = tell(
        &mut compactor,
        &[
            ObjectEvent::created(format!("other/users/{HOUR}-w1-0.parquet")),
            ObjectEvent::created("data/users/readme.txt"),
            deleted,
            elsewhere,
            here,
        ],
        at(END),
    );
    assert_eq!(
        told,
        [
            Ok(EventOutcome::Ignored),
            Ok(EventOutcome::Ignored),
            Ok(EventOutcome::Ignored),
            Ok(EventOutcome::Ignored),
            Ok(EventOutcome::Recorded)
        ]
    );
    let status = compactor.status(at(END));
    assert_eq!((status.active_windows, status.windows[0].file_count), (1, 1));
    assert_eq!(
        (status.counters.events_received, status.counters.unrelated_keys),
        (5, 4)
    );
}

#[test]
fn an_event_of_an_object_that_never_was_disturbs_nothing() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let forged = ObjectEvent::created(bad_key()).with_size(1 << 40).with_etag("forged");
    assert_eq!(tell(&mut compactor, &[forged], at(END)), [Ok(EventOutcome::Recorded)]);
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 2, 40)]);
    assert_eq!(quarantine(&compactor, at(END)), [(bad_key(), "vanished".to_owned())]);
    assert_eq!(world.table_rows("users"), rows);
}

#[test]
fn an_event_with_a_wrong_size_and_etag_is_corrected_by_the_store() {
    let world = World::new();
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let _ = put(&world.bucket, &bad_key(), good_bytes());
    let wrong = ObjectEvent::created(bad_key()).with_size(3).with_etag("wrong");
    assert_eq!(
        tell(&mut compactor, &[wrong.clone()], at(END)),
        [Ok(EventOutcome::Recorded)]
    );
    let reports = work_until(&mut compactor, at(END), at(END + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 3, 60)]);
    assert_eq!(reports[0].committed[0].seq, Seq::new(1));
    assert_eq!(
        tell(&mut compactor, &[wrong], at(END + 10 * MINUTE)),
        [Ok(EventOutcome::Duplicate)]
    );
    assert_eq!(work(&mut compactor, at(END + 10 * MINUTE)).len(), 0);
    assert_eq!(world.table_rows("users"), sorted(&[&rows, &rows_of_writer("w3", 20)]));
}

#[test]
fn a_file_that_alone_cannot_be_read_is_set_aside_after_a_day_tried_daily_and_holds_up_nothing() {
    let mut world = World::new();
    let away = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&away);
    let inner = Arc::clone(&world.bucket);
    world.bucket = HookStore::new(&inner, move |moment, operation, path| {
        let read = (moment, operation) == (Moment::Before, "get") && path.as_ref().ends_with("-w3-0.parquet");
        if read && flag.load(Ordering::SeqCst) {
            return Err(super::support::away());
        }
        Ok(())
    });
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    tell(&mut compactor, &[put(&inner, &bad_key(), good_bytes())], at(END));
    let reports = work_until(&mut compactor, at(END), at(END + DAY - MINUTE));
    assert_eq!(
        (commits(&reports), quarantine(&compactor, at(END))),
        (vec![], vec![]),
        "waited for"
    );
    let reports = work_until(&mut compactor, at(END + DAY - MINUTE), at(END + DAY + 10 * MINUTE));
    assert_eq!((commits(&reports), voids(&reports)), (vec![(1, 0, 2, 40)], vec![]));
    assert_eq!(quarantine(&compactor, at(END)), [(bad_key(), "unreadable".to_owned())]);
    // It is tried again by itself every day, alone in its window, while other windows go on.
    let mut all = rows;
    let mut events = Vec::new();
    for writer in ["w1", "w2"] {
        let (event, more) = world.write_some("users", HOUR + 4 * DAY, writer, 9, 3);
        events.push(event);
        all.extend(more);
    }
    work_until(&mut compactor, at(END + DAY + 10 * MINUTE), at(END + 4 * DAY));
    tell(&mut compactor, &events, at(END + 4 * DAY));
    let reports = work_until(&mut compactor, at(END + 4 * DAY), at(END + 7 * DAY));
    assert_eq!(commits(&reports), [(2, 0, 2, 6)]);
    all.sort();
    assert_eq!(world.table_rows("users"), all);
    assert_eq!(world.sources(), [bad_key()]);
    away.store(false, Ordering::SeqCst);
    let reports = work_until(&mut compactor, at(END + 7 * DAY), at(END + 10 * DAY));
    assert_eq!(commits(&reports), [(3, 1, 1, 20)]);
    assert_eq!(world.table_rows("users"), sorted(&[&all, &rows_of_writer("w3", 20)]));
    assert_eq!((world.sources().len(), quarantine(&compactor, at(END))), (0, vec![]));
}

#[test]
fn a_planned_file_that_alone_cannot_be_read_is_waited_for_a_day_and_costs_one_void() {
    let mut world = World::new();
    let planned = Arc::new(AtomicBool::new(false));
    let (told, asked) = (Arc::clone(&planned), planned);
    world.control = HookStore::new(&world.control, move |moment, operation, path| {
        if (moment, operation) == (Moment::After, "put") && path.as_ref().ends_with("plans/1.json") {
            told.store(true, Ordering::SeqCst);
        }
        Ok(())
    });
    let inner = Arc::clone(&world.bucket);
    world.bucket = HookStore::new(&inner, move |moment, operation, path| {
        let read = (moment, operation) == (Moment::Before, "get") && path.as_ref().ends_with("-w3-0.parquet");
        if read && asked.load(Ordering::SeqCst) {
            return Err(super::support::away());
        }
        Ok(())
    });
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    tell(&mut compactor, &[put(&inner, &bad_key(), large_bytes())], at(END));
    let reports = work_until(&mut compactor, at(END), at(END + DAY - MINUTE));
    assert_eq!(
        (commits(&reports), voids(&reports), quarantine(&compactor, at(END))),
        (vec![], vec![], vec![]),
        "waited for"
    );
    let reports = work_until(&mut compactor, at(END + DAY - MINUTE), at(END + DAY + 10 * MINUTE));
    assert_eq!((commits(&reports), voids(&reports)), (vec![(2, 0, 2, 40)], vec![1]));
    assert_eq!(quarantine(&compactor, at(END)), [(bad_key(), "unreadable".to_owned())]);
    assert_eq!(world.table_rows("users"), rows);
    assert_eq!(world.sources(), [bad_key()]);
}

#[test]
fn while_the_whole_store_is_away_nothing_is_set_aside() {
    let mut world = World::new();
    let away = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&away);
    world.bucket = HookStore::new(&world.bucket, move |moment, _, _| {
        if moment == Moment::Before && flag.load(Ordering::SeqCst) {
            return Err(super::support::away());
        }
        Ok(())
    });
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    away.store(true, Ordering::SeqCst);
    let reports = work_until(&mut compactor, at(END), at(END + 3 * DAY));
    assert_eq!((commits(&reports), quarantine(&compactor, at(END))), (vec![], vec![]));
    away.store(false, Ordering::SeqCst);
    let reports = work_until(&mut compactor, at(END + 3 * DAY), at(END + 3 * DAY + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 2, 40)]);
    assert_eq!(world.table_rows("users"), rows);
}
