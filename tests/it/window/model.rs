//! The tracker against a reference that keeps a plain list of files and asks each rule at one instant.

use std::collections::{BTreeMap, BTreeSet};

use firnline::{
    Arrival, ArrivedBy, ETag, FileName, Namespace, ObjectKey, Observed, Options, Readiness, SourceFile, Timestamp,
    ValidOptions, Window, WindowTracker, WriterId,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const START: i64 = 1_700_000_000_000;
const WINDOW: u64 = 10_000;

fn options() -> ValidOptions {
    Options::default()
        .with_window_size_ms(WINDOW)
        .with_min_files_to_compact(3)
        .with_max_wait_time_ms(3_000)
        .with_settle_ms(1_000)
        .with_writer_inactive_threshold_ms(5_000)
        .with_max_window_age_ms(40_000)
        .with_max_future_skew_ms(4_000)
        .with_max_plan_files(4)
        .with_max_plan_bytes(60)
        .validated()
        .unwrap()
}

/// One step of a host. Times are in tenths of a second.
#[derive(Clone, Debug)]
enum Step {
    Abandon,
    Advance(u64),
    BeginListing,
    Commit(usize),
    Drain,
    EndListing,
    Event { file: usize },
    Forget { file: usize },
    List { file: usize, age: u64 },
    Sleep,
    Void,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::Abandon),
        6 => (0_u64..60).prop_map(Step::Advance),
        1 => Just(Step::BeginListing),
        4 => (1_usize..5).prop_map(Step::Commit),
        1 => Just(Step::Drain),
        2 => Just(Step::EndListing),
        14 => (0_usize..FILES).prop_map(|file| Step::Event { file }),
        1 => (0_usize..FILES).prop_map(|file| Step::Forget { file }),
        4 => (0_usize..FILES, 0_u64..200).prop_map(|(file, age)| Step::List { file, age }),
        6 => Just(Step::Sleep),
        1 => Just(Step::Void),
    ];
    proptest::collection::vec(step, 1..60)
}

const FILES: usize = 60;

/// A fixed population of files: five windows, four writers, some far ahead of the clock.
fn file(index: usize) -> SourceFile {
    let number = i64::try_from(index).unwrap();
    let timestamp = Timestamp::from_millis(START + number * 7_919 % 100 * 500);
    let writer = WriterId::new(format!("w{}", index % 4));
    SourceFile {
        key: ObjectKey::new(format!("data/ns/{}-{writer}-{index}.parquet", timestamp.as_millis())),
        name: FileName {
            namespace: namespace(),
            timestamp,
            writer,
            sequence: u64::try_from(index).unwrap(),
        },
        size: u64::try_from(index % 4 + 1).unwrap() * 10,
        etag: Some(ETag::new("e")),
    }
}

fn namespace() -> Namespace {
    Namespace::new("ns")
}

struct Pending {
    file: SourceFile,
    seen: Timestamp,
    by: ArrivedBy,
    drained: bool,
}

#[derive(Clone, Copy, Default)]
struct Flags {
    exempt: bool,
    rest_of: Option<Readiness>,
    voided: bool,
    listed_until: Option<Timestamp>,
}

/// The page's rules, word by word, without any sum or index.
struct Reference {
    options: ValidOptions,
    files: BTreeMap<ObjectKey, Pending>,
    last_seen: BTreeMap<WriterId, Timestamp>,
    shown: BTreeSet<(WriterId, Timestamp)>,
    flags: BTreeMap<Window, Flags>,
    listing: bool,
    drafted: Option<(Window, Vec<ObjectKey>, bool, Readiness)>,
}

impl Reference {
    fn window_of(file: &SourceFile) -> Window {
        let start = file.name.timestamp.floor_to(WINDOW);
        Window {
            start,
            end: start + WINDOW,
        }
    }

    fn of(&self, window: Window) -> Vec<&Pending> {
        let mut files: Vec<_> = self
            .files
            .values()
            .filter(|pending| Self::window_of(&pending.file) == window)
            .collect();
        files.sort_by(|a, b| a.file.order().cmp(&b.file.order()));
        files
    }

    fn windows(&self) -> BTreeSet<Window> {
        self.files
            .values()
            .map(|pending| Self::window_of(&pending.file))
            .collect()
    }

    fn record(&mut self, file: SourceFile, seen: Timestamp, by: ArrivedBy) -> bool {
        if self.files.contains_key(&file.key) {
            return false;
        }
        let last_seen = self.last_seen.entry(file.name.writer.clone()).or_insert(seen);
        *last_seen = seen.max(*last_seen);
        self.shown.insert((file.name.writer.clone(), file.name.timestamp));
        let pending = Pending {
            file,
            seen,
            by,
            drained: false,
        };
        self.files.insert(pending.file.key.clone(), pending);
        true
    }

    fn remove(&mut self, key: &ObjectKey) {
        self.files.remove(key);
        let windows = self.windows();
        self.flags.retain(|window, _| windows.contains(window));
    }

    fn ready(&self, window: Window, now: Timestamp) -> Option<Readiness> {
        let options = &self.options;
        let files = self.of(window);
        let flags = self.flags.get(&window).copied().unwrap_or_default();
        let from_future = |file: &SourceFile| file.name.timestamp > now + options.max_future_skew_ms;
        let visible: Vec<_> = files.iter().filter(|pending| !from_future(&pending.file)).collect();
        if visible.is_empty() {
            return None;
        }
        if files.iter().any(|pending| pending.drained) {
            return Some(Readiness::Drained);
        }
        if flags.voided {
            return Some(Readiness::Voided);
        }
        if flags.rest_of.is_some() {
            return flags.rest_of;
        }
        let open = files.iter().map(|pending| pending.seen).min()?;
        let last = files.iter().map(|pending| pending.seen).max()?;
        let ended = now >= window.end;
        let due = window.end.max(open);
        let settled = now >= last + options.settle_ms || flags.listed_until >= Some(last);
        let active_ms = options
            .writer_inactive_threshold_ms
            .max(options.window_size_ms + options.max_wait_time_ms);
        let mut active = self
            .last_seen
            .iter()
            .filter(|(_, seen)| now < **seen + active_ms)
            .map(|(writer, _)| writer);
        if flags.exempt || files.len() >= options.min_files_to_compact {
            let is_past = |writer: &WriterId| {
                let mut shown = self.shown.iter().filter(|(id, _)| id == writer).map(|(_, t)| *t);
                shown.any(|t| t >= window.end && t <= now + options.max_future_skew_ms)
            };
            let is_present = |writer: &WriterId| files.iter().any(|pending| pending.file.name.writer == *writer);
            if settled && ended && active.clone().all(is_past) {
                return Some(Readiness::WatermarkQuorum);
            }
            if settled && ended && active.all(is_present) {
                return Some(Readiness::PresenceQuorum);
            }
            if settled && now >= due + options.max_wait_time_ms {
                return Some(Readiness::Timeout);
            }
            if now >= due + 2 * options.max_wait_time_ms {
                return Some(Readiness::UnsettledTimeout);
            }
        } else if now >= due + options.max_window_age_ms {
            return Some(Readiness::Age);
        }
        let bytes: u64 = visible.iter().map(|pending| pending.file.size).sum();
        (bytes > options.max_plan_bytes).then_some(Readiness::Full)
    }

    fn draft(&self, now: Timestamp) -> Option<(Window, Readiness, Vec<ObjectKey>, bool)> {
        if self.listing || self.drafted.is_some() {
            return None;
        }
        let (window, why) = self
            .windows()
            .into_iter()
            .find_map(|window| Some((window, self.ready(window, now)?)))?;
        let mut files: Vec<_> = self.of(window).iter().map(|pending| pending.file.clone()).collect();
        files.retain(|file| file.name.timestamp <= now + self.options.max_future_skew_ms);
        let fits = |count: usize| {
            let bytes: u64 = files[..count].iter().map(|file| file.size).sum();
            count <= self.options.max_plan_files && bytes <= self.options.max_plan_bytes
        };
        let count = (1..=files.len()).rev().find(|count| fits(*count)).unwrap_or(1);
        let keys = files[..count].iter().map(|file| file.key.clone()).collect();
        Some((window, why, keys, count < files.len()))
    }

    fn end_listing(&mut self) {
        self.listing = false;
        for window in self.windows() {
            let newest = self.of(window).iter().map(|pending| (pending.seen, pending.by)).max();
            if let Some((seen, ArrivedBy::Listing)) = newest {
                self.flags.entry(window).or_default().listed_until = Some(seen);
            }
        }
    }
}

/// Both, side by side.
struct Pair {
    tracker: WindowTracker,
    reference: Reference,
    now: Timestamp,
}

impl Pair {
    fn new() -> Self {
        Self {
            tracker: WindowTracker::new(options()),
            reference: Reference {
                options: options(),
                files: BTreeMap::new(),
                last_seen: BTreeMap::new(),
                shown: BTreeSet::new(),
                flags: BTreeMap::new(),
                listing: false,
                drafted: None,
            },
            now: Timestamp::from_millis(START),
        }
    }

    fn run(&mut self, step: &Step) {
        let (tracker, reference, namespace) = (&mut self.tracker, &mut self.reference, namespace());
        match *step {
            Step::Abandon => {
                tracker.abandoned(&namespace, None);
                reference.drafted = None;
            }
            Step::Advance(tenths) => self.now = self.now + tenths * 100,
            Step::BeginListing => {
                tracker.begin_listing(&namespace);
                reference.listing = true;
            }
            Step::Commit(count) => {
                if let Some((window, mut keys, rest, why)) = reference.drafted.take() {
                    let left = keys.split_off(count.min(keys.len()));
                    tracker.committed(&namespace, window, &keys);
                    for key in &keys {
                        reference.remove(key);
                    }
                    let still = left.iter().any(|key| reference.files.contains_key(key));
                    if !reference.of(window).is_empty() {
                        let flags = reference.flags.entry(window).or_default();
                        flags.exempt = rest || still;
                        flags.rest_of = (rest && why != Readiness::Full).then_some(why);
                        flags.voided = false;
                    }
                }
            }
            Step::Drain => {
                tracker.drain(None);
                for pending in reference.files.values_mut() {
                    pending.drained = true;
                }
            }
            Step::EndListing => {
                tracker.end_listing(&namespace);
                reference.end_listing();
            }
            Step::Event { file: index } => {
                let observed = tracker.handle_file(file(index), Arrival::Event, self.now);
                let new = reference.record(file(index), self.now, ArrivedBy::Event);
                assert_eq!(observed, expected(new));
            }
            Step::Forget { file: index } => {
                let key = file(index).key;
                let forgotten = tracker.forget_file(&namespace, &key);
                assert_eq!(forgotten.is_some(), reference.files.contains_key(&key));
                if let Some(file) = forgotten {
                    reference.remove(&key);
                    // A watermark that the clock had not reached is forgotten with its file.
                    if file.name.timestamp > self.now + reference.options.max_future_skew_ms {
                        reference.shown.remove(&(file.name.writer, file.name.timestamp));
                    }
                }
            }
            Step::List { file: index, age } => {
                let last_modified = self.now - age * 100;
                let observed = tracker.handle_file(file(index), Arrival::Listing { last_modified }, self.now);
                let new = reference.record(file(index), last_modified, ArrivedBy::Listing);
                assert_eq!(observed, expected(new));
            }
            Step::Sleep => {
                if let Some(deadline) = tracker.poll_deadline(self.now) {
                    self.now = deadline;
                }
            }
            Step::Void => {
                if let Some((window, ..)) = reference.drafted.take() {
                    tracker.voided(&namespace, window);
                    if !reference.of(window).is_empty() {
                        let flags = reference.flags.entry(window).or_default();
                        (flags.voided, flags.exempt) = (true, true);
                    }
                }
            }
        }
    }

    /// Both draft the same, and nothing becomes ready before the deadline.
    fn compare(&mut self) {
        let expected = self.reference.draft(self.now);
        let draft = self.tracker.poll_plan(self.now);
        if let Some(draft) = draft {
            let keys: Vec<_> = draft.files.iter().map(|file| file.key.clone()).collect();
            let (window, why, files, rest) = expected.expect("nothing is ready");
            assert_eq!((draft.window, draft.why, &keys), (window, why, &files));
            if rest {
                let flags = self.reference.flags.entry(window).or_default();
                flags.exempt = true;
                flags.rest_of = (why != Readiness::Full).then_some(why);
            }
            self.reference.drafted = Some((window, keys, rest, why));
            return;
        }
        assert_eq!(expected, None);
        let deadline = self.tracker.poll_deadline(self.now);
        let end = deadline.unwrap_or(self.now + 200_000);
        assert!(end > self.now, "a deadline in the past while nothing is ready");
        let span = end.millis_since(self.now);
        let between = (1..=20).map(|n| self.now + span * n / 21).chain([end - 1]);
        for t in between {
            assert_eq!(self.reference.draft(t), None, "ready before the deadline {end} at {t}");
        }
        if deadline.is_some() && self.reference.draft(end).is_none() {
            let watermark = |(_, t): &(WriterId, Timestamp)| *t - self.reference.options.max_future_skew_ms == end;
            assert!(self.reference.shown.iter().any(watermark), "woken for nothing at {end}");
        }
    }
}

fn expected(new: bool) -> Observed {
    if new {
        Observed::Recorded
    } else {
        Observed::AlreadyPending
    }
}

/// The same cases every time; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_240_101),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_tracker_drafts_what_the_rules_say_and_names_the_instant(steps in steps()) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.run(step);
            pair.compare();
        }
    }

    #[test]
    fn sleeping_from_deadline_to_deadline_drains_everything(steps in steps()) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.run(step);
            pair.compare();
        }
        pair.run(&Step::Abandon);
        pair.run(&Step::EndListing);
        let end = pair.now + 40_000 + 60_000;
        pair.compare();
        for _ in 0..500 {
            pair.run(&Step::Commit(usize::MAX));
            pair.compare();
            if pair.reference.files.is_empty() {
                break;
            }
            if pair.reference.drafted.is_none() {
                pair.run(&Step::Sleep);
                pair.compare();
            }
        }
        prop_assert_eq!(pair.tracker.pending(&namespace()).count(), 0);
        prop_assert!(pair.now <= end);
    }

    #[test]
    fn the_order_of_files_and_their_duplicates_do_not_matter(
        files in proptest::collection::vec((0_usize..FILES, 0_u64..3), 0..40),
        order in any::<prop::sample::Index>(),
    ) {
        let observe = |files: &[(usize, u64)]| {
            let mut tracker = WindowTracker::new(options());
            let now = Timestamp::from_millis(START + 30_000);
            for (index, version) in files {
                let mut file = file(*index);
                file.etag = Some(ETag::new(version.to_string()));
                let age = u64::try_from(index * 100).unwrap();
                let arrival = match index % 3 {
                    0 => Arrival::Listing { last_modified: now - age },
                    _ => Arrival::Event,
                };
                let _ = tracker.handle_file(file, arrival, now);
            }
            let starts: BTreeSet<_> = tracker
                .pending(&namespace())
                .map(|pending| tracker.window_of(&namespace(), pending.file.name.timestamp).start)
                .collect();
            let records: Vec<_> = starts.iter().map(|start| tracker.window_record(&namespace(), *start)).collect();
            (records, tracker.roster_record(&namespace()), tracker.status(now), tracker.poll_deadline(now), tracker.poll_plan(now))
        };
        let mut other = files.clone();
        other.rotate_left(if files.is_empty() { 0 } else { order.index(files.len()) });
        other.reverse();
        other.extend(files.clone());
        prop_assert_eq!(observe(&files), observe(&other));
    }

    #[test]
    fn joining_saved_records_is_commutative_and_idempotent(
        ours in proptest::collection::vec((0_usize..FILES, 0_u64..3, 0_u64..300), 0..20),
        theirs in proptest::collection::vec((0_usize..FILES, 0_u64..3, 0_u64..300), 0..20),
    ) {
        type Observation = (usize, u64, u64);
        let namespace = namespace();
        let build = |files: &[Observation]| {
            let mut tracker = WindowTracker::new(options());
            for (index, version, tenths) in files {
                let mut file = file(*index);
                file.etag = Some(ETag::new(version.to_string()));
                let _ = tracker.handle_file(file, Arrival::Event, Timestamp::from_millis(START) + tenths * 100);
            }
            tracker
        };
        let starts = |tracker: &WindowTracker| -> BTreeSet<Timestamp> {
            tracker.pending(&namespace).map(|pending| tracker.window_of(&namespace, pending.file.name.timestamp).start).collect()
        };
        let join = |into: &mut WindowTracker, from: &WindowTracker| {
            for start in starts(from) {
                into.join_window(&namespace, from.window_record(&namespace, start).unwrap());
            }
            into.join_roster(&namespace, &from.roster_record(&namespace));
        };
        let all = |tracker: &WindowTracker| {
            let windows: Vec<_> = starts(tracker).iter().map(|start| tracker.window_record(&namespace, *start)).collect();
            (windows, tracker.roster_record(&namespace))
        };
        let (mut a, mut b) = (build(&ours), build(&theirs));
        join(&mut a, &build(&theirs));
        join(&mut b, &build(&ours));
        prop_assert_eq!(all(&a), all(&b));

        a.take_dirty();
        join(&mut a, &b);
        prop_assert_eq!(all(&a), all(&b));
        prop_assert!(a.take_dirty().is_empty(), "what is saved need not be saved again");
    }
}
