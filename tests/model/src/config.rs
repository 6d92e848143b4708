//! What a configuration is: what there is, and which faults come together.

use crate::configurations::CONFIGS;
use crate::faults::{Budget, Fault, USUAL_WORKERS};
use crate::names::{Sources, Window};
use crate::set::Ordinal;
use crate::state::Door;

/// One configuration.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "parts of the protocol that a configuration has or has not"
)]
pub struct Config {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// The files of each window; a letter each.
    pub files: &'static [&'static str],
    /// Files that land only later.
    pub late: &'static str,
    /// Files that cannot be read.
    pub bad: &'static str,
    /// How many seqs a lane has.
    pub seqs: u8,
    /// How many workers there are.
    pub workers: usize,
    /// Each fault as often as it may happen.
    pub faults: &'static [Fault],
    /// Whether the end of the grace is a step of its own.
    pub has_grace: bool,
    /// Whether there is a reader of table and raw files together.
    pub has_reader: bool,
    /// Whether orphans are collected.
    pub sweeps: bool,
    /// Whether old plans are pruned.
    pub prunes: bool,
    /// Whether other content under a taken key is appended, and not set aside.
    pub appends_replaced: bool,
    /// The doors that an operator may go through.
    pub doors: &'static [Door],
}

impl Config {
    /// Two workers that merge files A, B and, late, C of one window; nothing goes wrong.
    pub(crate) const PLAIN: Self = Self {
        name: "",
        about: "",
        files: &["ABC"],
        late: "C",
        bad: "",
        seqs: 3,
        workers: USUAL_WORKERS,
        faults: &[],
        has_grace: false,
        has_reader: false,
        sweeps: false,
        prunes: false,
        appends_replaced: false,
        doors: &[],
    };

    /// A configuration by its name.
    pub fn named(name: &str) -> Option<&'static Self> {
        CONFIGS.iter().find(|config| config.name == name)
    }

    /// How often each fault may happen.
    pub fn budget(&self) -> Budget {
        Budget::of(self.faults)
    }

    /// Whether a fault may happen at all.
    pub fn may(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Its windows.
    pub fn windows(&self) -> impl Iterator<Item = Window> + use<> {
        (0..self.files.len()).map(Window::at)
    }

    /// The files of a window, in whatever content.
    pub fn sources_of(&self, window: Window) -> Sources {
        let letters = self.files.get(window.index());
        letters.map_or(Sources::EMPTY, |letters| sources(letters).of_same_keys())
    }

    /// The files that are there from the beginning.
    pub fn first_files(&self) -> Sources {
        let all = self.files.iter();
        all.fold(Sources::EMPTY, |all, letters| all | sources(letters)) - self.late_files()
    }

    /// The files that land later.
    pub fn late_files(&self) -> Sources {
        sources(self.late)
    }

    /// The files that cannot be read.
    pub fn bad_files(&self) -> Sources {
        sources(self.bad)
    }
}

fn sources(letters: &str) -> Sources {
    let number = |letter: u8| usize::from(letter.saturating_sub(b'A'));
    letters.bytes().map(|letter| Ordinal::at(number(letter))).collect()
}
