//! Files that were uploaded are committed only if they are still there, whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use firnline::object_store::ObjectMeta;
use futures::{FutureExt, TryStreamExt};

use super::support::{
    END, HookStore, MINUTE, Moment, commits, content, delete, errors, failing_commits, put, two_good,
};
use crate::world::{World, at, work, work_until};

fn uploaded(world: &World) -> Vec<String> {
    let paths = content(&world.tables).into_iter().map(|(path, _)| path);
    paths.filter(|path| path.ends_with(".parquet")).collect()
}

/// Two files are merged, their commit fails, and the uploaded file suffers `damage` before the next attempt.
fn damaged_before_the_commit(damage: impl Fn(&World, &str)) {
    let mut world = World::new();
    let left = failing_commits(&mut world, 1);
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let reports = work(&mut compactor, at(END + MINUTE));
    assert_eq!((commits(&reports), errors(&reports).len()), (vec![], 1));
    assert_eq!(left.load(Ordering::SeqCst), 0);
    let [file] = &uploaded(&world)[..] else {
        panic!("not one file")
    };
    damage(&world, file);
    let reports = work_until(&mut compactor, at(END + MINUTE), at(END + 10 * MINUTE));
    assert_eq!(commits(&reports), [(1, 0, 2, 40)]);
    assert_eq!(world.table_rows("users"), rows);
    assert!(world.live_files("users").iter().all(|live| live.as_ref() != file));
    assert_eq!(world.sources(), Vec::<String>::new());
}

#[test]
fn a_file_that_is_gone_before_its_commit_is_made_again() {
    damaged_before_the_commit(|world, file| delete(&world.tables, file));
}

#[test]
fn a_file_that_was_cut_short_before_its_commit_is_made_again() {
    damaged_before_the_commit(|world, file| {
        let (_, bytes) = content(&world.tables)
            .into_iter()
            .find(|(path, _)| path == file)
            .unwrap();
        let _ = put(&world.tables, file, bytes.slice(..bytes.len() - 1));
    });
}

#[test]
fn a_file_that_goes_between_upload_and_commit_is_made_again_in_the_same_turn() {
    let mut world = World::new();
    let (tables, done) = (Arc::clone(&world.tables), AtomicBool::new(false));
    world.control = HookStore::new(&world.control, move |moment, operation, path| {
        let noted = (moment, operation) == (Moment::After, "put") && path.as_ref().contains("/attempts/");
        if noted && !done.swap(true, Ordering::SeqCst) {
            // No executor may run here; stores in memory never wait.
            let listed: Vec<_> = tables.list(None).try_collect().now_or_never().unwrap().unwrap();
            let paths = listed.into_iter().map(|meta: ObjectMeta| meta.location.to_string());
            paths
                .filter(|path| path.ends_with(".parquet"))
                .for_each(|file| delete(&tables, &file));
        }
        Ok(())
    });
    let mut compactor = world.open(at(END));
    let (_, rows) = two_good(&world, &mut compactor);
    let reports = work(&mut compactor, at(END + MINUTE));
    assert_eq!((commits(&reports), errors(&reports).len()), (vec![(1, 0, 2, 40)], 0));
    assert_eq!(world.table_rows("users"), rows);
}
