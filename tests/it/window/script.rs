//! Runs a script of commands against a tracker and compares what each block prints.
//!
//! A block is some commands, a line `----`, what they print, and an empty line. Times are of the first of
//! January 2024, later days as `1d+10:00`. With `FIRNLINE_REWRITE=1` the expected output is rewritten.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use firnline::{
    Arrival, ETag, FileName, Namespace, ObjectKey, Observed, Options, PlanDraft, SourceFile, Timestamp, TrackerKey,
    WindowSizeChange, WindowSizes, WindowTracker, WriterId,
};

pub(super) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/window/scripts")
}

pub(super) fn check(name: &str) {
    let path = directory().join(name).with_extension("txt");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut host = Host::default();
    let mut actual = String::new();
    for block in text.trim_end().split("\n\n") {
        let (commands, _) = block.split_once("\n----").unwrap_or((block, ""));
        writeln!(actual, "{commands}\n----").unwrap();
        for command in commands.lines().filter(|line| !line.starts_with('#')) {
            host.run(command, &mut actual);
        }
        actual.push('\n');
    }
    let actual = format!("{}\n", actual.trim_end());
    if std::env::var_os("FIRNLINE_REWRITE").is_some() {
        std::fs::write(path, actual).unwrap();
    } else {
        assert_eq!(text, actual, "{name}");
    }
}

struct Host {
    tracker: WindowTracker,
    options: Options,
    now: Timestamp,
    drafts: BTreeMap<Namespace, PlanDraft>,
}

impl Default for Host {
    fn default() -> Self {
        let options = Options::default();
        Self {
            tracker: WindowTracker::new(options.clone().validated().unwrap()),
            options,
            now: Timestamp::from_millis(DAY_ZERO),
            drafts: BTreeMap::new(),
        }
    }
}

impl Host {
    #[expect(clippy::too_many_lines, reason = "one arm per command")]
    fn run(&mut self, command: &str, out: &mut String) {
        let words: Vec<_> = command.split_whitespace().collect();
        let (verb, arguments) = words.split_first().unwrap();
        let mut settings = BTreeMap::new();
        let mut plain = Vec::new();
        for word in arguments {
            match word.split_once('=') {
                Some((name, value)) => _ = settings.insert(name, value),
                None => plain.push(*word),
            }
        }
        let namespace = plain.first().map(|name| Namespace::new(*name));
        match (*verb, plain.as_slice()) {
            ("options", []) => self.set_options(&settings),
            ("at", [t]) => self.now = time(t),
            ("advance", [span]) => self.now = self.now + millis(span),
            ("event", [namespace, writer, t]) => {
                let file = file(namespace, writer, t, &settings);
                let mut printed = String::new();
                for _ in 0..settings.get("times").map_or(1, |n| n.parse().unwrap()) {
                    printed = observed(self.tracker.handle_file(file.clone(), Arrival::Event, self.now));
                }
                writeln!(out, "{printed}").unwrap();
            }
            ("list", [namespace, writer, t]) => {
                let last_modified = time(settings["modified"]);
                let file = file(namespace, writer, t, &settings);
                let arrival = Arrival::Listing { last_modified };
                writeln!(out, "{}", observed(self.tracker.handle_file(file, arrival, self.now))).unwrap();
            }
            ("begin-listing", _) => self.tracker.begin_listing(&namespace.unwrap()),
            ("end-listing", _) => self.tracker.end_listing(&namespace.unwrap()),
            ("poll", []) => {
                let draft = self.tracker.poll_plan(self.now);
                writeln!(out, "{}", draft.as_ref().map_or_else(|| "none".to_owned(), draft_text)).unwrap();
                self.drafts.extend(draft.map(|draft| (draft.namespace.clone(), draft)));
            }
            ("deadline", []) => writeln!(out, "{}", deadline_text(self.deadline())).unwrap(),
            ("jump", []) => {
                let deadline = self.deadline();
                writeln!(out, "{}", deadline_text(deadline)).unwrap();
                self.now = deadline.unwrap_or(self.now);
            }
            // Every draft is committed at once, and then the deadline slept for, until there is none.
            ("run", []) => {
                for round in 0.. {
                    let Some(deadline) = self.deadline() else { break };
                    assert!(round < 1_000, "sent in circles");
                    self.now = deadline;
                    while let Some(draft) = self.tracker.poll_plan(self.now) {
                        writeln!(out, "{} {}", clock(self.now), draft_text(&draft)).unwrap();
                        let keys: Vec<_> = draft.files.into_iter().map(|file| file.key).collect();
                        self.tracker.committed(&draft.namespace, draft.window, &keys);
                    }
                }
            }
            ("committed", [name, rest @ ..]) => {
                let draft = self.drafts.remove(&Namespace::new(*name)).unwrap();
                let count = rest.first().map_or(draft.files.len(), |n| n.parse().unwrap());
                let keys: Vec<_> = draft.files[..count].iter().map(|file| file.key.clone()).collect();
                self.tracker.committed(&draft.namespace, draft.window, &keys);
            }
            ("voided", [name]) => {
                let draft = self.drafts.remove(&Namespace::new(*name)).unwrap();
                self.tracker.voided(&draft.namespace, draft.window);
            }
            ("abandoned", [name, rest @ ..]) => {
                let namespace = Namespace::new(*name);
                self.drafts.remove(&namespace);
                self.tracker.abandoned(&namespace, rest.first().map(|t| time(t)));
            }
            ("forget", [namespace, writer, t]) => {
                let file = file(namespace, writer, t, &settings);
                let forgotten = self.tracker.forget_file(&file.name.namespace, &file.key);
                writeln!(
                    out,
                    "{}",
                    forgotten.map_or_else(|| "not pending".to_owned(), |file| name(&file))
                )
                .unwrap();
            }
            ("pause", _) => self.tracker.pause(&namespace.unwrap(), true),
            ("resume", _) => self.tracker.pause(&namespace.unwrap(), false),
            ("drain", _) => self.tracker.drain(namespace.as_ref()),
            ("boundary", [name, t]) => self.tracker.set_boundary(&Namespace::new(*name), time(t)),
            ("below-boundary", _) => {
                for pending in self.tracker.below_boundary(&namespace.unwrap()) {
                    writeln!(out, "{}", name(&pending.file)).unwrap();
                }
            }
            ("generation", [name, t, number]) => {
                let namespace = Namespace::new(*name);
                let window = self.tracker.window_of(&namespace, time(t));
                self.tracker.set_generation(&namespace, window, number.parse().unwrap());
            }
            ("sizes", [name, initial, changes @ ..]) => {
                let changes = changes.iter().map(|change| {
                    let (from, size) = change.split_once('>').unwrap();
                    WindowSizeChange {
                        from: time(from),
                        size_ms: millis(size),
                    }
                });
                let sizes = WindowSizes {
                    initial_ms: millis(initial),
                    changes: changes.collect(),
                };
                self.tracker.set_window_sizes(&Namespace::new(*name), sizes);
            }
            ("dirty", []) => {
                for key in self.tracker.take_dirty() {
                    match key {
                        TrackerKey::Roster { namespace } => writeln!(out, "roster {namespace}").unwrap(),
                        TrackerKey::Window { namespace, start } => {
                            let record = self.tracker.window_record(&namespace, start);
                            let what = record.map_or_else(|| "gone".to_owned(), |r| format!("{} files", r.files.len()));
                            writeln!(out, "window {namespace} {}: {what}", clock(start)).unwrap();
                        }
                    }
                }
            }
            ("restart", _) => self.restart(&namespace.unwrap()),
            ("status", []) => self.status(out),
            _ => panic!("unknown command: {command}"),
        }
    }

    fn set_options(&mut self, settings: &BTreeMap<&str, &str>) {
        let mut json = serde_json::to_value(Options::default()).unwrap();
        for (name, value) in settings {
            json[*name] = match value.split_once(':') {
                Some((namespace, priority)) => serde_json::json!({ namespace: priority.parse::<u8>().unwrap() }),
                None => value.parse::<u64>().unwrap_or_else(|_| millis(value)).into(),
            };
        }
        self.options = serde_json::from_value(json).unwrap();
        self.tracker = WindowTracker::new(self.options.clone().validated().unwrap());
    }

    /// Whoever jumps from deadline to deadline must never be sent into the past, or in circles.
    fn deadline(&self) -> Option<Timestamp> {
        let deadline = self.tracker.poll_deadline(self.now);
        assert!(deadline.is_none_or(|t| t >= self.now));
        deadline
    }

    /// Goes through JSON, as a state store would.
    fn restart(&mut self, namespace: &Namespace) {
        let mut windows: Vec<_> = self
            .tracker
            .pending(namespace)
            .map(|pending| self.tracker.window_of(namespace, pending.file.name.timestamp).start)
            .collect();
        windows.dedup();
        let mut restarted = WindowTracker::new(self.options.clone().validated().unwrap());
        for start in windows {
            let record = self.tracker.window_record(namespace, start).unwrap();
            let json = serde_json::to_string(&record).unwrap();
            restarted.join_window(namespace, serde_json::from_str(&json).unwrap());
        }
        let json = serde_json::to_string(&self.tracker.roster_record(namespace)).unwrap();
        restarted.join_roster(namespace, &serde_json::from_str(&json).unwrap());
        self.tracker = restarted;
    }

    fn status(&self, out: &mut String) {
        let status = self.tracker.status(self.now);
        let list = |writers: &[WriterId]| writers.iter().map(WriterId::as_str).collect::<Vec<_>>().join(" ");
        writeln!(
            out,
            "known [{}] active [{}]",
            list(&status.known_writers),
            list(&status.active_writers)
        )
        .unwrap();
        for window in status.windows {
            let (namespace, _) = window.key.rsplit_once(':').unwrap();
            write!(
                out,
                "{namespace} {}-{} generation {}: {} files, {} bytes, writers [{}] missing [{}]",
                clock(window.window_start),
                clock(window.window_end),
                window.generation,
                window.file_count,
                window.total_size,
                list(&window.writers),
                list(&window.missing_writers)
            )
            .unwrap();
            if window.held > 0 {
                write!(out, ", {} held", window.held).unwrap();
            }
            if let Some(ready) = window.ready {
                write!(out, ", ready: {ready:?}").unwrap();
            }
            if let Some(waiting) = window.waiting_for {
                write!(out, ", waiting for: {waiting:?}").unwrap();
            }
            if let Some(until) = window.until {
                write!(out, ", until {}", clock(until)).unwrap();
            }
            out.push('\n');
        }
    }
}

fn file(namespace: &str, writer: &str, t: &str, settings: &BTreeMap<&str, &str>) -> SourceFile {
    let timestamp = time(t);
    let sequence = settings.get("seq").map_or(0, |n| n.parse().unwrap());
    SourceFile {
        key: ObjectKey::new(format!(
            "data/{namespace}/{}-{writer}-{sequence}.parquet",
            timestamp.as_millis()
        )),
        name: FileName {
            namespace: Namespace::new(namespace),
            timestamp,
            writer: WriterId::new(writer),
            sequence,
        },
        size: settings.get("size").map_or(10, |n| n.parse().unwrap()),
        etag: settings.get("etag").map(|etag| ETag::new(*etag)),
    }
}

fn observed(observed: Observed) -> String {
    match observed {
        Observed::AlreadyPending => "already pending".to_owned(),
        Observed::BelowBoundary { boundary } => format!("below boundary {}", clock(boundary)),
        Observed::Deferred => "deferred".to_owned(),
        Observed::Recorded => "recorded".to_owned(),
        Observed::Updated => "updated".to_owned(),
    }
}

fn draft_text(draft: &PlanDraft) -> String {
    let files: Vec<_> = draft.files.iter().map(name).collect();
    format!(
        "{} {}-{} generation {}, {:?}: {}",
        draft.namespace,
        clock(draft.window.start),
        clock(draft.window.end),
        draft.generation,
        draft.why,
        files.join(" ")
    )
}

fn deadline_text(deadline: Option<Timestamp>) -> String {
    deadline.map_or_else(|| "none".to_owned(), clock)
}

fn name(file: &SourceFile) -> String {
    let name = &file.name;
    format!("{}@{}#{}", name.writer, clock(name.timestamp), name.sequence)
}

const DAY_ZERO: i64 = 1_704_067_200_000;
const DAY_MS: i64 = 86_400_000;

fn time(text: &str) -> Timestamp {
    let (days, clock) = text.split_once("d+").unwrap_or(("0", text));
    let mut parts = clock.split(':').map(|part| part.parse::<i64>().unwrap());
    let mut next = || parts.next().unwrap_or(0);
    let seconds = next() * 3_600 + next() * 60 + next();
    Timestamp::from_millis(DAY_ZERO + days.parse::<i64>().unwrap() * DAY_MS + seconds * 1_000)
}

fn clock(t: Timestamp) -> String {
    let since = t.as_millis() - DAY_ZERO;
    let iso = t.to_iso();
    let of_day = iso[11..23].trim_end_matches(".000");
    let of_day = of_day.strip_suffix(":00").unwrap_or(of_day);
    match since.div_euclid(DAY_MS) {
        0 => of_day.to_owned(),
        days => format!("{days}d+{of_day}"),
    }
}

fn millis(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.find(char::is_alphabetic).unwrap());
    let factor = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => panic!("unknown unit: {text}"),
    };
    number.parse::<u64>().unwrap() * factor
}
