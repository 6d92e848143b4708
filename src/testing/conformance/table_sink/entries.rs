//! The entries of one lane by one worker.

use super::TableTrial;
use super::desk::{
    LANE, NEW_TABLE, append, columns, commit, committed, decision, found_marker, marker, objects, outcome, outputs,
    paths, plan, prepared, shows, state, void,
};
use crate::ids::AttemptId;
use crate::options::Evolve;
use crate::sink::{
    CommitOutcome, Confirmation, Decided, Decision, Entry, Outcome, OutputFile, TableChange, TableCommit,
};
use crate::testing::conformance::{answered, keep};

pub(super) const ABSENT: &str = "a table that is not there says nothing of any lane";
pub(super) const COMMITTED: &str = "a commit onto its base goes in, and answers with its own files";
pub(super) const VISIBLE: &str = "readers see all files of a data entry, and files of nothing else";
pub(super) const MARKED: &str =
    "the table says of a lane which entry is its newest: seq, outcome, plan, attempt and files";
pub(super) const TABLE_ID: &str = "a commit that creates a table gives it the id that it was told";
pub(super) const AGAIN: &str = "a commit that is in already is decided, with the entry that is there";
pub(super) const ONCE: &str = "another attempt at a seq that is decided adds nothing, and is told the one that is in";
pub(super) const OLDER: &str = "an older seq is decided by the newest entry";
pub(super) const VOID: &str = "a void spends its seq, adds nothing, and is told from an entry without files";
pub(super) const SPENT: &str = "what is void stays void";
pub(super) const VOID_CREATES: &str = "a void creates the table where there is none";
pub(super) const EMPTY: &str = "an entry without files is data";
pub(super) const BASE: &str =
    "a commit onto another marker than its base diverges, names what is there, and changes nothing";
pub(super) const CONFIRMED: &str = "an entry that is in is confirmed, also an older one";
pub(super) const REFUTED: &str =
    "an entry that is not in, or that has another plan, attempt, outcome or file, is refuted";

pub(super) async fn nothing_is_there(trial: &dyn TableTrial) {
    let sink = trial.sink();
    let first = state(ABSENT, &*sink, LANE).await;
    let says_nothing = first.decided.is_none() && first.other_lanes.is_empty() && !first.superseded;
    keep(ABSENT, says_nothing, &first);
    shows(ABSENT, trial, &[]).await;
    let layout = prepared(BASE, &*sink, &columns(), Evolve::Never).await;
    let before = objects(BASE, &layout).await;
    let later = append(BASE, &*sink, LANE, 2, 2).await;
    let outcome = outcome(BASE, &*sink, &later).await;
    keep(BASE, outcome == CommitOutcome::Diverged { found: None }, outcome);
    let after = objects(BASE, &layout).await;
    let written = after.iter().filter(|(path, ..)| !paths(&later).contains(path));
    keep(BASE, written.eq(&before), (before, &after));
    let entry = Entry {
        version: 1,
        outputs: outputs(&later),
    };
    is_refuted(trial, &decision(&later, &entry)).await;
}

pub(super) async fn a_lane(trial: &dyn TableTrial) {
    let sink = trial.sink();
    let first = append(COMMITTED, &*sink, LANE, 1, 1).await;
    let creates = state(MARKED, &*sink, LANE).await.table.is_none();
    let first_entry = goes_in(trial, &first).await;
    let found = state(MARKED, &*trial.sink(), LANE).await;
    let uuid = found.table.map(|table| table.uuid).unwrap_or_default();
    keep(TABLE_ID, !creates || uuid == NEW_TABLE.to_string(), uuid);
    shows(VISIBLE, trial, &paths(&first)).await;

    let second = append(COMMITTED, &*sink, LANE, 2, 2).await;
    let second_entry = goes_in(trial, &second).await;
    let mut live = [paths(&first), paths(&second)].concat();
    shows(VISIBLE, trial, &live).await;
    is_decided(AGAIN, trial, &second, &second, &second_entry).await;
    let rival = append(ONCE, &*sink, LANE, 2, 99).await;
    is_decided(ONCE, trial, &rival, &second, &second_entry).await;
    shows(ONCE, trial, &live).await;
    is_decided(OLDER, trial, &first, &second, &second_entry).await;
    shows(OLDER, trial, &live).await;

    let third = void(VOID, &*sink, 3, 3).await;
    let third_entry = goes_in_as(VOID, trial, &third).await;
    shows(VOID, trial, &live).await;
    let late = append(SPENT, &*sink, LANE, 3, 33).await;
    is_decided(SPENT, trial, &late, &third, &third_entry).await;
    shows(SPENT, trial, &live).await;

    let schema = prepared(EMPTY, &*sink, &columns(), Evolve::Never).await.schema;
    let empty = TableChange::Append {
        schema,
        evolve: Evolve::Never,
        files: Vec::new(),
    };
    let fourth = commit(LANE, 4, 4, empty);
    let fourth_entry = goes_in_as(EMPTY, trial, &fourth).await;
    shows(EMPTY, trial, &live).await;

    bases(trial, &fourth).await;
    shows(BASE, trial, &live).await;

    let fifth = append(COMMITTED, &*sink, LANE, 5, 5).await;
    let fifth_entry = goes_in(trial, &fifth).await;
    live.extend(paths(&fifth));
    shows(VISIBLE, trial, &live).await;
    let all = [
        decision(&first, &first_entry),
        decision(&second, &second_entry),
        decision(&third, &third_entry),
        decision(&fourth, &fourth_entry),
        decision(&fifth, &fifth_entry),
    ];
    for decision in &all {
        is_confirmed(CONFIRMED, trial, decision).await;
    }
    let [.., newest] = all;
    what_differs_is_refuted(trial, &newest).await;
}

/// Commits that do not follow the newest one.
async fn bases(trial: &dyn TableTrial, newest: &TableCommit) {
    let sink = trial.sink();
    let gap = append(BASE, &*sink, LANE, 6, 6).await;
    let other_plan = TableCommit {
        base: Some((newest.seq, plan(4_000).prefix())),
        ..append(BASE, &*sink, LANE, 5, 6).await
    };
    for commit in [gap, other_plan] {
        let outcome = outcome(BASE, &*sink, &commit).await;
        let found = Some(marker(newest));
        keep(BASE, outcome == CommitOutcome::Diverged { found }, outcome);
        let found = found_marker(BASE, trial, LANE).await;
        keep(BASE, found == Some(marker(newest)), found);
    }
}

pub(super) async fn a_void_comes_first(trial: &dyn TableTrial) {
    let sink = trial.sink();
    let first = void(VOID_CREATES, &*sink, 1, 1).await;
    committed(VOID_CREATES, &*sink, &first).await;
    let found = state(VOID_CREATES, &*trial.sink(), LANE).await;
    let names: Option<Vec<_>> = found.table.as_ref().map(|table| {
        let fields = table.schema.fields().iter();
        fields.map(|field| field.name().clone()).collect()
    });
    let is_there = names == Some(vec!["id".to_owned(), "name".to_owned()]);
    let is_marked = found.decided.as_ref().map(|decided| decided.marker) == Some(marker(&first));
    keep(VOID_CREATES, is_there && is_marked, &found);
    let second = append(COMMITTED, &*sink, LANE, 2, 2).await;
    goes_in(trial, &second).await;
    shows(VISIBLE, trial, &paths(&second)).await;
}

/// Commits with a new sink, and looks at the table with another one.
async fn goes_in(trial: &dyn TableTrial, commit: &TableCommit) -> Entry {
    let entry = committed(COMMITTED, &*trial.sink(), commit).await;
    keep(
        COMMITTED,
        same_files(&entry.outputs, &outputs(commit)),
        (&entry, outputs(commit)),
    );
    says(MARKED, trial, commit, &entry).await;
    entry
}

/// The same of an entry without files, by its own rule.
async fn goes_in_as(rule: &str, trial: &dyn TableTrial, commit: &TableCommit) -> Entry {
    let entry = committed(rule, &*trial.sink(), commit).await;
    keep(rule, entry.outputs.is_empty(), &entry);
    says(rule, trial, commit, &entry).await;
    entry
}

async fn says(rule: &str, trial: &dyn TableTrial, commit: &TableCommit, entry: &Entry) {
    let found = state(rule, &*trial.sink(), LANE).await.decided;
    let is_it = found.as_ref().is_some_and(|found| is_entry(found, commit, entry));
    keep(rule, is_it, (found, marker(commit)));
}

/// Whether `found` is an entry, whose log may have been cleaned.
fn is_entry(found: &Decided, commit: &TableCommit, entry: &Entry) -> bool {
    let is_same = |found: &Entry| found.version == entry.version && same_files(&found.outputs, &entry.outputs);
    found.marker == marker(commit) && found.entry.as_ref().is_none_or(is_same)
}

fn same_files(a: &[OutputFile], b: &[OutputFile]) -> bool {
    let [a, b] = [a, b].map(|files| {
        let mut files: Vec<_> = files.iter().map(|file| (&file.path, file.size, file.rows)).collect();
        files.sort();
        files
    });
    a == b
}

/// A commit of which the table says that `newest` is in.
async fn is_decided(rule: &str, trial: &dyn TableTrial, commit: &TableCommit, newest: &TableCommit, entry: &Entry) {
    let outcome = outcome(rule, &*trial.sink(), commit).await;
    let is_it = matches!(&outcome, CommitOutcome::Decided(found) if is_entry(found, newest, entry));
    keep(rule, is_it, outcome);
}

pub(super) async fn is_confirmed(rule: &str, trial: &dyn TableTrial, decision: &Decision) {
    // Of an entry that was found by its marker alone nobody knows the version.
    let without_version = Decision {
        table_version: None,
        ..decision.clone()
    };
    for decision in [decision, &without_version] {
        let confirmation = answered(rule, trial.sink().confirm(decision).await);
        keep(
            rule,
            confirmation == Confirmation::Confirmed,
            (decision.seq, confirmation),
        );
    }
}

async fn is_refuted(trial: &dyn TableTrial, decision: &Decision) {
    let confirmation = answered(REFUTED, trial.sink().confirm(decision).await);
    keep(
        REFUTED,
        matches!(confirmation, Confirmation::Refuted { .. }),
        (decision, confirmation),
    );
}

async fn what_differs_is_refuted(trial: &dyn TableTrial, newest: &Decision) {
    let mut others = vec![newest.clone(); 5];
    if let [plan_differs, attempt_differs, is_void, has_other_file, is_later] = others.as_mut_slice() {
        plan_differs.plan_hash = plan(4_000);
        attempt_differs.attempt = AttemptId::from_u64(4_000);
        is_void.outcome = Outcome::Void;
        is_void.outputs.clear();
        has_other_file
            .outputs
            .iter_mut()
            .for_each(|output| output.path.push('x'));
        is_later.seq = newest.seq.next();
        is_later.table_version = None;
    }
    for other in &others {
        is_refuted(trial, other).await;
    }
}
