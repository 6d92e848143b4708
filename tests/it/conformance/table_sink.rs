//! Table sinks: Delta, Iceberg over each catalog, and one broken for each rule.

mod broken;
mod trials;

use std::sync::Arc;

use firnline::object_store::ObjectStore;
use firnline::object_store::memory::InMemory;
use firnline::testing::YieldingStore;
use firnline::testing::conformance::{self, TABLE_SINK_RULES, TableTrial};

use self::broken::{BrokenTrial, Flaw};
use self::trials::{DeltaTrial, IcebergTrial};
use super::{catches_all, wait};

fn keeps_the_contract(make: impl Fn(Arc<dyn ObjectStore>) -> Arc<dyn TableTrial>) {
    let memory = || Arc::new(InMemory::new()) as Arc<dyn ObjectStore>;
    wait(conformance::table_sink(|| async { make(memory()) }));
    // Others act between any two requests, and calls stop at any of them.
    wait(conformance::table_sink(|| async {
        make(Arc::new(YieldingStore::new(memory())))
    }));
}

#[test]
fn delta_keeps_the_contract() {
    keeps_the_contract(|store| Arc::new(DeltaTrial::new(store)));
}

#[test]
fn delta_partitioned_by_somebody_else_keeps_the_contract() {
    keeps_the_contract(|store| Arc::new(DeltaTrial::new(store).partitioned()));
}

#[test]
fn iceberg_on_a_file_system_keeps_the_contract() {
    keeps_the_contract(|store| Arc::new(IcebergTrial::on_files(store)));
}

#[test]
fn iceberg_behind_a_pointer_keeps_the_contract() {
    keeps_the_contract(|store| Arc::new(IcebergTrial::behind_pointer(store)));
}

#[test]
fn iceberg_in_a_rest_catalog_keeps_the_contract() {
    keeps_the_contract(|store| Arc::new(IcebergTrial::in_rest_catalog(store)));
}

#[test]
fn iceberg_partitioned_by_somebody_else_keeps_the_contract() {
    keeps_the_contract(|store| Arc::new(IcebergTrial::on_files(store).partitioned()));
}

/// Each rule, and a sink that breaks it.
const BROKEN: &[(&str, Flaw)] = &[
    (
        "a canonical schema has the names of the source's columns in their order, and is its own canonical schema",
        Flaw::CanonicalIsReversed,
    ),
    ("a layout has the columns that were asked for", Flaw::LayoutLacksColumns),
    (
        "preparing writes nothing, but for a table without rows and entries",
        Flaw::PreparingWrites,
    ),
    (
        "the layout of a table that is there has the columns in the table's order",
        Flaw::LayoutIsInFileOrder,
    ),
    (
        "columns that the table cannot take are refused as `Invalid` or `Unsupported` before anything is written, and \
             never committed",
        Flaw::TakesAnyColumns,
    ),
    (
        "columns that may be added are added by the commit of their files",
        Flaw::NeverEvolves,
    ),
    (
        "a table that is not there says nothing of any lane",
        Flaw::AbsentIsSuperseded,
    ),
    (
        "a commit onto its base goes in, and answers with its own files",
        Flaw::AnswersWithoutFiles,
    ),
    (
        "readers see all files of a data entry, and files of nothing else",
        Flaw::CommitsOneFile,
    ),
    (
        "the table says of a lane which entry is its newest: seq, outcome, plan, attempt and files",
        Flaw::ForgetsTheAttempt,
    ),
    (
        "a commit that creates a table gives it the id that it was told",
        Flaw::OwnTableId,
    ),
    (
        "a commit that is in already is decided, with the entry that is there",
        Flaw::RepetitionDiverges,
    ),
    (
        "another attempt at a seq that is decided adds nothing, and is told the one that is in",
        Flaw::SecondAttemptGoesIn,
    ),
    ("an older seq is decided by the newest entry", Flaw::OlderDiverges),
    (
        "a void spends its seq, adds nothing, and is told from an entry without files",
        Flaw::VoidIsEmpty,
    ),
    ("what is void stays void", Flaw::VoidIsFilled),
    ("a void creates the table where there is none", Flaw::VoidCreatesNothing),
    ("an entry without files is data", Flaw::EmptyIsVoid),
    (
        "a commit onto another marker than its base diverges, names what is there, and changes nothing",
        Flaw::IgnoresBase,
    ),
    (
        "an entry that is in is confirmed, also an older one",
        Flaw::ConfirmsTheNewest,
    ),
    (
        "an entry that is not in, or that has another plan, attempt, outcome or file, is refuted",
        Flaw::ConfirmsAll,
    ),
    (
        "what one worker has committed another one sees, whatever it has seen before",
        Flaw::Caches,
    ),
    (
        "of two workers at one seq one commits, the other one is told, and adds nothing",
        Flaw::BothWin,
    ),
    (
        "a change by another writer is gone out of the way of",
        Flaw::GivesWayForEver,
    ),
    (
        "a lane's marker, and that its entries are in, outlives what others commit",
        Flaw::MarkerIsOfTheNewest,
    ),
    (
        "what others have put into the table stays there",
        Flaw::DropsWhatOthersPut,
    ),
    ("an entry that was taken back is refuted", Flaw::RemembersConfirmations),
    (
        "a commit that is dropped is in or not, whole, and the lane goes on",
        Flaw::StaysLocked,
    ),
    (
        "a table takes entries of one lane, and names it to others",
        Flaw::TakesAnyLane,
    ),
    (
        "an adoption marks the table with seq 0 of its lane, which goes on from there, and changes no row",
        Flaw::AdoptsNothing,
    ),
    ("an adoption that is in already is decided", Flaw::AdoptsTwice),
    (
        "an adoption supersedes the lanes that it names, and diverges where there is another one",
        Flaw::SupersedesAll,
    ),
    (
        "a lane that was superseded is told so, and never gets in again",
        Flaw::SupersededGoesOn,
    ),
];

#[test]
fn each_rule_catches_a_sink_that_breaks_it() {
    catches_all(TABLE_SINK_RULES, BROKEN, |flaw| {
        wait(conformance::table_sink(|| async {
            Arc::new(BrokenTrial::new(*flaw)) as Arc<dyn TableTrial>
        }));
    });
}
