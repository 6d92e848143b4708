//! Object stores: those that tests run on, and one broken for each rule.

mod broken;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firnline::object_store::ObjectStore;
use firnline::object_store::local::LocalFileSystem;
use firnline::object_store::memory::InMemory;
use firnline::object_store::prefix::PrefixStore;
use firnline::testing::conformance::{self, OBJECT_STORE_RULES, ObjectStoreClaims};
use firnline::testing::{ClockedStore, FaultStore, Faults, Profile, ProfileStore, VirtualClock, YieldingStore};

use self::broken::{Broken, Flaw};
use super::{catches_all, wait};

fn keeps_the_contract(conditional_update: bool, make: impl Fn() -> Arc<dyn ObjectStore>) {
    let claims = ObjectStoreClaims::default().with_conditional_update(conditional_update);
    wait(conformance::object_store(claims, || async { make() }));
}

#[test]
fn memory_keeps_the_contract() {
    keeps_the_contract(true, || Arc::new(InMemory::new()));
    keeps_the_contract(true, || Arc::new(PrefixStore::new(InMemory::new(), "some/where")));
}

#[test]
fn the_local_file_system_keeps_the_contract_and_has_no_conditional_update() {
    let root = tempfile::tempdir().unwrap();
    let n = AtomicUsize::new(0);
    keeps_the_contract(false, || {
        let directory = root.path().join(n.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&directory).unwrap();
        Arc::new(LocalFileSystem::new_with_prefix(directory).unwrap())
    });
}

#[test]
fn the_wrappers_keep_what_the_store_in_them_keeps() {
    let memory = || Arc::new(InMemory::new()) as Arc<dyn ObjectStore>;
    keeps_the_contract(true, || Arc::new(YieldingStore::new(memory())));
    keeps_the_contract(true, || Arc::new(FaultStore::new(memory(), "memory", &Faults::none())));
    keeps_the_contract(true, || Arc::new(ProfileStore::new(memory(), Profile::Azure)));
    keeps_the_contract(true, || Arc::new(ProfileStore::new(memory(), Profile::R2)));
    keeps_the_contract(true, || Arc::new(ProfileStore::new(memory(), Profile::S3)));
    keeps_the_contract(false, || Arc::new(ProfileStore::new(memory(), Profile::Local)));
    keeps_the_contract(true, || {
        let now = firnline::Timestamp::from_millis(1_700_000_000_000);
        Arc::new(ClockedStore::new(memory(), &VirtualClock::new(now)))
    });
}

/// Each rule, and a store that breaks it.
const BROKEN: &[(&str, Flaw)] = &[
    ("an object is read as it was put, at once", Flaw::LateReads),
    ("a put replaces what was there", Flaw::KeepsTheFirst),
    ("an object of any size is read as it was put", Flaw::CutsOff),
    (
        "`PutMode::Create` creates an object where there is none, also where one was deleted",
        Flaw::RemembersDeleted,
    ),
    (
        "`PutMode::Create` where there is an object is `AlreadyExists` or `Precondition`, and changes nothing",
        Flaw::CreateOverwrites,
    ),
    (
        "of creates at the same time one at most succeeds, and its content is what is there",
        Flaw::LooksThenCreates,
    ),
    (
        "`PutMode::Update` with the newest tag replaces an object, where the store claims that it can",
        Flaw::UpdateNeverSucceeds,
    ),
    (
        "`PutMode::Update` with another tag than the newest, or of an object that is not there, is refused and changes \
             nothing",
        Flaw::ClaimedUpdateOverwrites,
    ),
    (
        "`PutMode::Update` is `NotImplemented` or `NotSupported` where the store does not claim it, and changes nothing",
        Flaw::UpdateOverwrites,
    ),
    (
        "whoever reads while an object is put sees the old content or the new one, whole",
        Flaw::PutsInTwoSteps,
    ),
    (
        "a put that is dropped is made or not, and leaves a store that can be used",
        Flaw::NewInTwoSteps,
    ),
    (
        "get and head of an object that is not there are `NotFound`",
        Flaw::HeadFails,
    ),
    ("get, head and list give an entity tag", Flaw::ListsWithoutTags),
    (
        "put, get, head and list give the same entity tag for the same content",
        Flaw::ListsOtherTags,
    ),
    ("another content has another entity tag", Flaw::TagIsSize),
    (
        "get, head and list give the size of an object, and its path",
        Flaw::ListsOtherSizes,
    ),
    (
        "an object says when it was written, and no later one was written long before",
        Flaw::NoTime,
    ),
    (
        "a range gives the bytes that were asked for, the place that they have, and the size of all",
        Flaw::IgnoresRanges,
    ),
    (
        "a suffix gives the last bytes, all of them where there are fewer, or is `NotSupported`",
        Flaw::LongSuffixFails,
    ),
    (
        "a range beyond the end gives what is there, or an error where nothing is",
        Flaw::LongRangeFails,
    ),
    (
        "a read with `if_match` of another tag than the object's is a `Precondition`",
        Flaw::IgnoresIfMatch,
    ),
    (
        "a completed upload is its parts in order, also over what was there",
        Flaw::PartsInReverse,
    ),
    (
        "nothing is seen of an upload before it is completed, nor of one that is dropped",
        Flaw::PartsAreSeen,
    ),
    (
        "an upload that is aborted leaves what was there before",
        Flaw::AbortCompletes,
    ),
    (
        "a listing shows all objects below a prefix, by whole segments, once, and no others",
        Flaw::ListsByCharacters,
    ),
    ("a listing shows an object as it was put last", Flaw::ListsOldSizes),
    (
        "a listing from an offset shows the objects after it",
        Flaw::OffsetIsListed,
    ),
    (
        "a listing of a directory shows its objects and the directories in it",
        Flaw::DirectoryIsDeep,
    ),
    ("a listing of more objects than a page shows all", Flaw::OnePage),
    (
        "a key comes back from a listing as it was put, and has an object of its own",
        Flaw::DecodesKeys,
    ),
    (
        "an object that was deleted is not found and not listed, and others stay",
        Flaw::DeleteDoesNothing,
    ),
    (
        "deleting what is not there is done or `NotFound`, and in a bulk keeps nothing else from being deleted",
        Flaw::BulkStops,
    ),
];

#[test]
fn each_rule_catches_a_store_that_breaks_it() {
    catches_all(OBJECT_STORE_RULES, BROKEN, |flaw| {
        let is_claimed = matches!(flaw, Flaw::UpdateNeverSucceeds | Flaw::ClaimedUpdateOverwrites);
        keeps_the_contract(is_claimed, || Arc::new(Broken::new(*flaw)));
    });
}
