//! The guide's grammar: `{prefix}{namespace}/{timestamp}-{writerId}-{sequence}.parquet`.

use object_store::path::Path;

use super::{BadName, FileName, FileNameParser, Namespace, NotSourceFile, ObjectKey, WriterId};
use crate::options::{TimestampUnit, ValidOptions};
use crate::time::Timestamp;

/// The default grammar of source keys: `{prefix}{namespace}/{timestamp}-{writerId}-{sequence}.parquet`.
///
/// The timestamp ends at the first `-`, the sequence starts after the last one, and all between is the
/// writer id, which may contain `-`. The namespace may be nested. Keys are taken as they are, never decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultFileNames {
    prefix: String,
    unit: TimestampUnit,
}

impl DefaultFileNames {
    /// Keys under `prefix` (empty, or ending in `/`) with timestamps in `unit`.
    pub fn new(prefix: &str, unit: TimestampUnit) -> Self {
        Self {
            prefix: prefix.to_owned(),
            unit,
        }
    }

    /// The grammar that `namespacePrefix` and `timestampUnit` ask for.
    pub fn from_options(options: &ValidOptions) -> Self {
        Self::new(&options.namespace_prefix, options.timestamp_unit)
    }

    fn parse_ours(&self, key: &ObjectKey, below_prefix: &str) -> Result<FileName, BadName> {
        let (namespace, stem) = below_prefix.rsplit_once('/').unwrap_or(("", below_prefix));
        let namespace = parse_namespace(namespace)?;
        let shape = || BadName::BadShape {
            name: format!("{stem}{SUFFIX}"),
        };
        // The store could not be asked for a key that it would change or refuse.
        if Path::parse(key.as_str()).map_or(true, |path| path.as_ref() != key.as_str()) {
            return Err(shape());
        }
        let (timestamp, rest) = stem.split_once('-').ok_or_else(shape)?;
        let (writer, sequence) = rest.rsplit_once('-').ok_or_else(shape)?;
        Ok(FileName {
            namespace,
            timestamp: self.parse_timestamp(timestamp)?,
            writer: parse_writer(writer)?,
            sequence: parse_digits(sequence).ok_or_else(|| BadName::BadSequence {
                sequence: sequence.to_owned(),
            })?,
        })
    }

    fn parse_timestamp(&self, text: &str) -> Result<Timestamp, BadName> {
        let bad = |hint: String| BadName::BadTimestamp {
            timestamp: text.to_owned(),
            hint,
        };
        let value = parse_digits(text).ok_or_else(|| bad(format!("ASCII digits, at most {} (64 bits)", u64::MAX)))?;
        to_timestamp(value, self.unit).ok_or_else(|| {
            let units = [
                TimestampUnit::Seconds,
                TimestampUnit::Milliseconds,
                TimestampUnit::Microseconds,
            ];
            let unit = unit_name(self.unit);
            let fitting = units.into_iter().find(|unit| to_timestamp(value, *unit).is_some());
            bad(match fitting {
                Some(fits) => format!(
                    "not between 2000 and 2100 in the unit `{unit}`, but would be in `{}`",
                    unit_name(fits)
                ),
                None => format!("not between 2000 and 2100 in the unit `{unit}` or in any other"),
            })
        })
    }
}

impl FileNameParser for DefaultFileNames {
    fn parse(&self, key: &ObjectKey) -> Result<FileName, NotSourceFile> {
        let below_prefix = key
            .as_str()
            .strip_prefix(&self.prefix)
            .ok_or(NotSourceFile::OutsidePrefix)?;
        let stem = below_prefix.strip_suffix(SUFFIX).ok_or(NotSourceFile::Unrelated)?;
        self.parse_ours(key, stem).map_err(NotSourceFile::Malformed)
    }

    fn prefix(&self) -> &str {
        &self.prefix
    }

    fn prefix_of(&self, namespace: &Namespace) -> String {
        format!("{}{namespace}/", self.prefix)
    }

    fn grammar(&self) -> String {
        format!(
            "{}{{namespace}}/{{timestamp:{}}}-{{writerId}}-{{sequence}}{SUFFIX}",
            self.prefix,
            unit_name(self.unit)
        )
    }
}

fn parse_namespace(text: &str) -> Result<Namespace, BadName> {
    let bad = |rule: &str| BadName::BadNamespace {
        namespace: text.to_owned(),
        rule: rule.to_owned(),
    };
    for segment in text.split('/') {
        if segment.is_empty() {
            return Err(bad("must not be empty or have empty segments"));
        }
        if segment == "." || segment == ".." {
            return Err(bad("must not have the segments `.` or `..`"));
        }
        if RESERVED.contains(&segment) {
            return Err(bad("must not have the segments `_delta_log` or `metadata`"));
        }
        if segment.chars().any(char::is_control) {
            return Err(bad("must not have control characters"));
        }
    }
    Ok(Namespace::new(text))
}

fn parse_writer(text: &str) -> Result<WriterId, BadName> {
    if text.is_empty() || text.len() > MAX_WRITER_BYTES || text.chars().any(char::is_control) {
        return Err(BadName::BadWriter {
            writer: text.to_owned(),
        });
    }
    Ok(WriterId::new(text))
}

/// ASCII digits and nothing else: `u64::from_str` would also take a sign.
fn parse_digits(text: &str) -> Option<u64> {
    let digits = (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn to_timestamp(value: u64, unit: TimestampUnit) -> Option<Timestamp> {
    let millis = match unit {
        TimestampUnit::Seconds => value.checked_mul(1_000)?,
        TimestampUnit::Milliseconds => value,
        TimestampUnit::Microseconds => value / 1_000,
    };
    let millis = i64::try_from(millis).ok()?;
    (YEAR_2000..YEAR_2100)
        .contains(&millis)
        .then(|| Timestamp::from_millis(millis))
}

fn unit_name(unit: TimestampUnit) -> &'static str {
    match unit {
        TimestampUnit::Seconds => "s",
        TimestampUnit::Milliseconds => "ms",
        TimestampUnit::Microseconds => "us",
    }
}

const SUFFIX: &str = ".parquet";
/// Directories of the table formats.
const RESERVED: [&str; 2] = ["_delta_log", "metadata"];
const MAX_WRITER_BYTES: usize = 256;
const YEAR_2000: i64 = 946_684_800_000;
const YEAR_2100: i64 = 4_102_444_800_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse_in(unit: TimestampUnit, key: &str) -> Result<FileName, NotSourceFile> {
        DefaultFileNames::new("data/", unit).parse(&ObjectKey::new(key))
    }

    fn parse(key: &str) -> Result<FileName, NotSourceFile> {
        parse_in(TimestampUnit::Milliseconds, key)
    }

    fn malformed(key: &str) -> String {
        match parse(key) {
            Err(NotSourceFile::Malformed(bad)) => bad.to_string(),
            other => panic!("{key}: {other:?}"),
        }
    }

    #[test]
    fn the_guides_example_parses() {
        let name = parse("data/users/1700001235000-writer1-1.parquet").unwrap();
        assert_eq!(name.namespace.as_str(), "users");
        assert_eq!(name.timestamp, Timestamp::from_millis(1_700_001_235_000));
        assert_eq!(name.writer.as_str(), "writer1");
        assert_eq!(name.sequence, 1);
    }

    #[test]
    fn writer_ids_may_contain_dashes_and_namespaces_slashes() {
        let name = parse("data/eu/users/1700001235000-host-7--b-007.parquet").unwrap();
        assert_eq!(name.namespace.as_str(), "eu/users");
        assert_eq!(name.writer.as_str(), "host-7--b");
        assert_eq!(name.sequence, 7);
    }

    #[test]
    fn keys_are_never_decoded() {
        let name = parse("data/a%20b+c/1700001235000-w%2D1-1.parquet").unwrap();
        assert_eq!(name.namespace.as_str(), "a%20b+c");
        assert_eq!(name.writer.as_str(), "w%2D1");
    }

    #[test]
    fn what_is_not_ours_is_told_apart_from_what_is_wrong() {
        assert_eq!(parse("other/users/1-w-1.parquet"), Err(NotSourceFile::OutsidePrefix));
        assert_eq!(parse("data/users/readme.txt"), Err(NotSourceFile::Unrelated));
        assert_eq!(parse("data/"), Err(NotSourceFile::Unrelated));
        assert_eq!(
            malformed("data/users/x.parquet"),
            "bad name: must be {timestamp}-{writerId}-{sequence}.parquet. name=`x.parquet`"
        );
        assert_eq!(
            malformed("data/users/.parquet"),
            "bad name: must be {timestamp}-{writerId}-{sequence}.parquet. name=`.parquet`"
        );
        assert!(malformed("data/users/1700001235000-1.parquet").starts_with("bad name"));
    }

    #[test]
    fn bad_namespaces_name_the_rule() {
        for (key, rule) in [
            ("data/1700001235000-w-1.parquet", "empty"),
            ("data//1700001235000-w-1.parquet", "empty"),
            ("data/a//b/1700001235000-w-1.parquet", "empty"),
            ("data/../1700001235000-w-1.parquet", "`..`"),
            ("data/a/./1700001235000-w-1.parquet", "`.`"),
            ("data/t/_delta_log/1700001235000-w-1.parquet", "`_delta_log`"),
            ("data/metadata/1700001235000-w-1.parquet", "`metadata`"),
            ("data/a\u{7}/1700001235000-w-1.parquet", "control"),
            ("data/a\u{85}/1700001235000-w-1.parquet", "control"),
        ] {
            let message = malformed(key);
            assert!(
                message.starts_with("bad namespace") && message.contains(rule),
                "{key}: {message}"
            );
        }
    }

    #[test]
    fn writers_are_1_to_256_bytes() {
        assert!(malformed("data/u/1700001235000--1.parquet").starts_with("bad writer id"));
        let key = |n| format!("data/u/1700001235000-{}-1.parquet", "w".repeat(n));
        assert_eq!(parse(&key(256)).unwrap().writer.as_str().len(), 256);
        assert!(malformed(&key(257)).starts_with("bad writer id"));
        assert!(malformed("data/u/1700001235000-a\u{9b}b-1.parquet").starts_with("bad writer id"));
        assert!(malformed("data/u/1700001235000-a\nb-1.parquet").starts_with("bad name"));
    }

    #[test]
    fn numbers_are_ascii_digits_only() {
        for sequence in ["", "+1", "0x1", "\u{661}", "1.", "18446744073709551616"] {
            let message = malformed(&format!("data/u/1700001235000-w-{sequence}.parquet"));
            assert!(message.starts_with("bad sequence"), "{message}");
        }
        assert_eq!(
            malformed("data/u/1700001235000-w-99999999999999999999.parquet"),
            "bad sequence: ASCII digits, at most 18446744073709551615 (64 bits). sequence=`99999999999999999999`"
        );
        for timestamp in ["", "+1700001235000", "17000012e5000", "\u{661}"] {
            let message = malformed(&format!("data/u/{timestamp}-w-1.parquet"));
            assert!(message.starts_with("bad timestamp: ASCII digits"), "{message}");
        }
        let last = parse("data/u/1700001235000-w-18446744073709551615.parquet").unwrap();
        assert_eq!(last.sequence, u64::MAX);
    }

    #[test]
    fn a_timestamp_of_another_unit_is_refused_with_a_hint() {
        assert_eq!(
            malformed("data/u/1700001235-w-1.parquet"),
            "bad timestamp: not between 2000 and 2100 in the unit `ms`, but would be in `s`. timestamp=`1700001235`"
        );
        assert!(malformed("data/u/1700001235000000-w-1.parquet").contains("would be in `us`"));
        assert!(malformed("data/u/7-w-1.parquet").contains("or in any other"));
        assert!(malformed("data/u/99999999999999999999-w-1.parquet").contains("digits"));
    }

    #[test]
    fn the_century_is_half_open_in_every_unit() {
        for (unit, first, last) in [
            (TimestampUnit::Seconds, 946_684_800_u64, 4_102_444_799_u64),
            (TimestampUnit::Milliseconds, 946_684_800_000, 4_102_444_799_999),
            (TimestampUnit::Microseconds, 946_684_800_000_000, 4_102_444_799_999_999),
        ] {
            let ok = |value: u64| parse_in(unit, &format!("data/u/{value}-w-1.parquet")).is_ok();
            assert_eq!(
                (ok(first - 1), ok(first), ok(last), ok(last + 1)),
                (false, true, true, false)
            );
        }
        let name = parse_in(TimestampUnit::Microseconds, "data/u/1700001235000999-w-1.parquet").unwrap();
        assert_eq!(name.timestamp.as_millis(), 1_700_001_235_000);
    }

    #[test]
    fn a_key_that_the_store_would_change_is_malformed() {
        let names = DefaultFileNames::new("", TimestampUnit::Milliseconds);
        for key in ["/u/1700001235000-w-1.parquet", "u/1700001235000-w\u{7f}-1.parquet"] {
            assert!(matches!(
                names.parse(&ObjectKey::new(key)),
                Err(NotSourceFile::Malformed(_))
            ));
        }
        assert!(names.parse(&ObjectKey::new("u/1700001235000-w-1.parquet")).is_ok());
    }

    #[test]
    fn the_grammar_names_prefix_and_unit() {
        let names = DefaultFileNames::from_options(&ValidOptions::default());
        assert_eq!(
            names.grammar(),
            "data/{namespace}/{timestamp:ms}-{writerId}-{sequence}.parquet"
        );
        assert_eq!(names.prefix(), "data/");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in "\\PC*|(data/)?[a-z0-9./_\\-\u{0}-\u{20}\u{e9}]{0,40}(\\.parquet)?") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_composed_is_read_back(
            namespace in "[a-z]{1,8}(/[a-z]{1,8}){0,2}",
            timestamp in 946_684_800_000_i64..4_102_444_800_000,
            writer in "[ -.0-~]{1,40}",
            sequence: u64,
        ) {
            prop_assume!(!namespace.split('/').any(|segment| segment == "metadata"));
            let name = parse(&format!("data/{namespace}/{timestamp}-{writer}-{sequence}.parquet")).unwrap();
            prop_assert_eq!(name, FileName {
                namespace: Namespace::new(namespace),
                timestamp: Timestamp::from_millis(timestamp),
                writer: WriterId::new(writer),
                sequence,
            });
        }
    }
}
