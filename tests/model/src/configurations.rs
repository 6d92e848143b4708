//! The configurations, from the smallest to the largest.

use crate::config::Config;
use crate::faults::Fault::{
    BrokenAttempt, ControlLoss, Crash, ForeignCommit, KeyRollback, LogCleaning, LostAnswer, Operator, PlansLoss,
    Redelivery, Replacement, Restore, StateLoss, TableRollback, Vacuum, Vanishing,
};
use crate::state::Door;

/// Every configuration.
pub const CONFIGS: &[Config] = &[
    Config {
        name: "rollback-sweep",
        about: "the table is set back while orphans are collected",
        files: &["AB"],
        late: "B",
        sweeps: true,
        faults: &[TableRollback],
        ..Config::PLAIN
    },
    Config {
        name: "three",
        about: "three workers",
        files: &["AB"],
        late: "B",
        workers: 3,
        ..Config::PLAIN
    },
    Config {
        name: "prune",
        about: "plans are pruned, the state store is lost",
        files: &["AB"],
        late: "B",
        seqs: 4,
        prunes: true,
        faults: &[Crash, StateLoss],
        ..Config::PLAIN
    },
    Config {
        name: "control-sweep",
        about: "the control prefix is lost while orphans are collected",
        files: &["AB"],
        late: "B",
        sweeps: true,
        faults: &[ControlLoss],
        ..Config::PLAIN
    },
    Config {
        name: "void-answer",
        about: "a bad file and a lost answer",
        files: &["AB"],
        late: "",
        bad: "B",
        faults: &[LostAnswer],
        ..Config::PLAIN
    },
    Config {
        name: "restore",
        about: "a RESTORE, and a cleaned log",
        files: &["AB"],
        late: "B",
        faults: &[Crash, LogCleaning, Restore],
        ..Config::PLAIN
    },
    Config {
        name: "view-void",
        about: "a reader beside void plans",
        files: &["AB"],
        late: "",
        bad: "B",
        has_grace: true,
        has_reader: true,
        faults: &[BrokenAttempt],
        ..Config::PLAIN
    },
    Config {
        name: "rollback-broken",
        about: "the table is set back where an attempt breaks",
        files: &["AB"],
        late: "B",
        faults: &[BrokenAttempt, TableRollback],
        ..Config::PLAIN
    },
    Config {
        name: "state",
        about: "the state store is lost",
        faults: &[Crash, ForeignCommit, StateLoss],
        ..Config::PLAIN
    },
    Config {
        name: "door-sweep",
        about: "an operator's door while orphans are collected",
        files: &["AB"],
        late: "B",
        sweeps: true,
        doors: &[Door::Adopt, Door::Replay],
        faults: &[ControlLoss, Operator],
        ..Config::PLAIN
    },
    Config {
        name: "replaced-appended",
        about: "a file is replaced at any time, and appended",
        files: &["AB"],
        late: "",
        seqs: 4,
        appends_replaced: true,
        faults: &[Replacement],
        ..Config::PLAIN
    },
    Config {
        name: "sweep-broken",
        about: "orphans where attempts break without a culprit",
        files: &["A"],
        late: "",
        sweeps: true,
        faults: &[BrokenAttempt, Crash, LostAnswer],
        ..Config::PLAIN
    },
    Config {
        name: "view-prune",
        about: "a reader beside pruning",
        files: &["AB"],
        late: "B",
        has_grace: true,
        has_reader: true,
        prunes: true,
        faults: &[Crash],
        ..Config::PLAIN
    },
    Config {
        name: "prune-answer",
        about: "plans are pruned while a request may still land",
        files: &["AB"],
        late: "B",
        seqs: 4,
        prunes: true,
        faults: &[Crash, LostAnswer],
        ..Config::PLAIN
    },
    Config {
        name: "four",
        about: "four files in two windows",
        files: &["AB", "CD"],
        late: "C",
        faults: &[],
        ..Config::PLAIN
    },
    Config {
        name: "door-rollback",
        about: "an operator's door after a table that was set back",
        files: &["AB"],
        late: "B",
        doors: &[Door::Adopt, Door::Replay],
        faults: &[Crash, Operator, TableRollback],
        ..Config::PLAIN
    },
    Config {
        name: "view",
        about: "a reader of table and raw files",
        files: &["AB"],
        late: "B",
        has_grace: true,
        has_reader: true,
        faults: &[LostAnswer],
        ..Config::PLAIN
    },
    Config {
        name: "door-plans",
        about: "an operator's door after plans and decisions are lost",
        files: &["AB"],
        late: "B",
        doors: &[Door::Adopt, Door::Replay],
        faults: &[Crash, Operator, PlansLoss],
        ..Config::PLAIN
    },
    Config {
        name: "grace",
        about: "reclaims that wait, beside later seqs in two windows",
        files: &["A", "BC"],
        has_grace: true,
        faults: &[],
        ..Config::PLAIN
    },
    Config {
        name: "plans",
        about: "plans and decisions are lost",
        files: &["AB"],
        late: "B",
        faults: &[LostAnswer, PlansLoss],
        ..Config::PLAIN
    },
    Config {
        name: "log",
        about: "the log is cleaned",
        files: &["AB"],
        late: "B",
        faults: &[Crash, LogCleaning, LostAnswer],
        ..Config::PLAIN
    },
    Config {
        name: "keys",
        about: "two windows whose keys go back one by one, and events again",
        files: &["AB", "C"],
        faults: &[Crash, KeyRollback, Redelivery],
        ..Config::PLAIN
    },
    Config {
        name: "void",
        about: "a bad file, and one that is late",
        files: &["ABC"],
        bad: "C",
        faults: &[Crash],
        late: "B",
        ..Config::PLAIN
    },
    Config {
        name: "prune-void",
        about: "void plans are pruned, events come again",
        files: &["AB"],
        late: "B",
        seqs: 4,
        prunes: true,
        faults: &[BrokenAttempt, Redelivery],
        ..Config::PLAIN
    },
    Config {
        name: "state-void",
        about: "the state store is lost, with a bad file",
        late: "B",
        bad: "C",
        faults: &[StateLoss],
        ..Config::PLAIN
    },
    Config {
        name: "plain",
        about: "crash, lost answer and foreign commit together",
        faults: &[Crash, LostAnswer, ForeignCommit],
        ..Config::PLAIN
    },
    Config {
        name: "control",
        about: "the control prefix is lost",
        files: &["AB"],
        late: "B",
        faults: &[ControlLoss, LostAnswer],
        ..Config::PLAIN
    },
    Config {
        name: "vacuum",
        about: "a cleaner of the table deletes files that are in no entry yet",
        files: &["AB"],
        late: "B",
        faults: &[Crash, LostAnswer, Vacuum],
        ..Config::PLAIN
    },
    Config {
        name: "sweep-void",
        about: "orphans of void seqs",
        files: &["AB"],
        late: "",
        bad: "B",
        sweeps: true,
        faults: &[Crash, LostAnswer],
        ..Config::PLAIN
    },
    Config {
        name: "rollback",
        about: "the table is set back with its marker",
        files: &["AB"],
        late: "B",
        faults: &[Crash, LostAnswer, TableRollback],
        ..Config::PLAIN
    },
    Config {
        name: "door-restore",
        about: "an operator's door after a RESTORE",
        files: &["AB"],
        late: "B",
        doors: &[Door::Adopt, Door::Replay],
        faults: &[LostAnswer, Operator, Restore],
        ..Config::PLAIN
    },
    Config {
        name: "two-bad",
        about: "two bad files, and a key of the state that goes back",
        late: "",
        bad: "BC",
        faults: &[KeyRollback, LostAnswer],
        ..Config::PLAIN
    },
    Config {
        name: "keys-void",
        about: "two windows, one with a bad file, whose keys go back",
        files: &["AB", "C"],
        bad: "B",
        faults: &[KeyRollback],
        ..Config::PLAIN
    },
    Config {
        name: "door-control",
        about: "an operator's door after the control prefix is lost",
        files: &["AB"],
        late: "B",
        doors: &[Door::Adopt, Door::Replay],
        faults: &[ControlLoss, LostAnswer, Operator],
        ..Config::PLAIN
    },
    Config {
        name: "keys-bad",
        about: "two windows of two files, one of them bad, whose keys go back",
        files: &["AB", "CD"],
        late: "",
        bad: "B",
        faults: &[KeyRollback],
        ..Config::PLAIN
    },
    Config {
        name: "control-state",
        about: "control prefix and state store are lost",
        files: &["AB"],
        late: "B",
        faults: &[ControlLoss, Crash, StateLoss],
        ..Config::PLAIN
    },
    Config {
        name: "vanished",
        about: "somebody deletes a file",
        files: &["AB"],
        late: "B",
        seqs: 4,
        faults: &[Crash, LostAnswer, Vanishing],
        ..Config::PLAIN
    },
    Config {
        name: "control-three",
        about: "the control prefix is lost, with three files",
        faults: &[ControlLoss, LostAnswer],
        ..Config::PLAIN
    },
    Config {
        name: "sweep",
        about: "orphans are collected beside everything",
        files: &["AB"],
        late: "B",
        sweeps: true,
        faults: &[Crash, LostAnswer],
        ..Config::PLAIN
    },
    Config {
        name: "broken",
        about: "an attempt that breaks, beside a lost answer and a foreign commit",
        files: &["AB"],
        late: "B",
        seqs: 4,
        faults: &[BrokenAttempt, ForeignCommit, LostAnswer],
        ..Config::PLAIN
    },
    Config {
        name: "control-log",
        about: "the control prefix is lost, and the log cleaned",
        faults: &[ControlLoss, Crash, LogCleaning],
        ..Config::PLAIN
    },
    Config {
        name: "replaced-view",
        about: "a reader beside replaced files",
        files: &["AB"],
        late: "",
        has_grace: true,
        has_reader: true,
        faults: &[Replacement],
        ..Config::PLAIN
    },
    Config {
        name: "replaced",
        about: "a file is replaced at any time, and set aside if its key was taken",
        files: &["AB"],
        late: "B",
        faults: &[Crash, Replacement],
        ..Config::PLAIN
    },
    Config {
        name: "replaced-twice",
        about: "both files are replaced",
        files: &["AB"],
        late: "",
        faults: &[Replacement, Replacement],
        ..Config::PLAIN
    },
];
