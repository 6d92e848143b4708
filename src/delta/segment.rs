//! The objects of a log, and which of them make up the table. Pure.

use std::collections::BTreeMap;

use object_store::ObjectMeta;
use object_store::path::Path;

use super::error::LogError;

/// An object of a log that is known by its name (Delta protocol, "Delta Log Entries", "Checkpoints").
#[derive(Clone, Debug, PartialEq, Eq)]
enum LogFile {
    Checkpoint(CheckpointName),
    Commit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum CheckpointName {
    Classic,
    Part { part: u32, parts: u32 },
    Uuid,
}

fn parse_name(name: &str) -> Option<(u64, LogFile)> {
    let (version, rest) = name.split_at_checked(20)?;
    let version = digits(version)?;
    let file = match rest {
        ".json" => LogFile::Commit,
        ".checkpoint.parquet" => LogFile::Checkpoint(CheckpointName::Classic),
        _ => {
            let stem = rest.strip_prefix(".checkpoint.")?;
            if let Some(parts) = stem.strip_suffix(".parquet")
                && let Some((part, parts)) = parts.split_once('.')
                && part.len() == 10
                && parts.len() == 10
            {
                let part = u32::try_from(digits(part)?).ok()?;
                let parts = u32::try_from(digits(parts)?).ok()?;
                (1..=parts).contains(&part).then_some(())?;
                LogFile::Checkpoint(CheckpointName::Part { part, parts })
            } else {
                let id = stem.strip_suffix(".parquet").or_else(|| stem.strip_suffix(".json"))?;
                uuid::Uuid::try_parse(id).ok()?;
                LogFile::Checkpoint(CheckpointName::Uuid)
            }
        }
    };
    Some((version, file))
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A complete checkpoint: its objects in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CheckpointFiles {
    pub(super) version: u64,
    pub(super) files: Vec<ObjectMeta>,
}

/// What a listing of a log says.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    commits: BTreeMap<u64, ObjectMeta>,
    checkpoints: BTreeMap<u64, Vec<(CheckpointName, ObjectMeta)>>,
}

impl Listing {
    /// Takes in an object under `log_dir`; what is not known by its name, or lies deeper, is passed over.
    pub(super) fn push(&mut self, log_dir: &Path, object: ObjectMeta) {
        let Some(name) = object
            .location
            .as_ref()
            .strip_prefix(log_dir.as_ref())
            .and_then(|rest| rest.strip_prefix('/'))
        else {
            return;
        };
        match parse_name(name) {
            Some((version, LogFile::Commit)) => {
                self.commits.insert(version, object);
            }
            Some((version, LogFile::Checkpoint(name))) => {
                self.checkpoints.entry(version).or_default().push((name, object));
            }
            None => {}
        }
    }

    /// The newest version that a commit or a complete checkpoint makes.
    pub(super) fn newest(&self) -> Option<u64> {
        let checkpoint = self.checkpoints_newest_first().first().map(|c| c.version);
        self.commits.keys().next_back().copied().max(checkpoint)
    }

    /// The object of a commit.
    pub(super) fn commit(&self, version: u64) -> Option<&ObjectMeta> {
        self.commits.get(&version)
    }

    /// All complete checkpoints, the newest first. Of several at one version the choice is always the same:
    /// a single file before parts before a uuid-named one.
    pub(super) fn checkpoints_newest_first(&self) -> Vec<CheckpointFiles> {
        let mut found = Vec::new();
        for (&version, files) in self.checkpoints.iter().rev() {
            let mut singles: Vec<_> = Vec::new();
            let mut by_parts: BTreeMap<u32, BTreeMap<u32, ObjectMeta>> = BTreeMap::new();
            for (name, object) in files {
                match name {
                    CheckpointName::Classic => singles.push((0, object)),
                    CheckpointName::Uuid => singles.push((1, object)),
                    CheckpointName::Part { part, parts } => {
                        by_parts.entry(*parts).or_default().insert(*part, object.clone());
                    }
                }
            }
            singles.sort_by(|(rank, a), (other, b)| (rank, &a.location).cmp(&(other, &b.location)));
            let single = |wanted: u8| {
                singles
                    .iter()
                    .filter(move |(rank, _)| *rank == wanted)
                    .map(|(_, object)| vec![(*object).clone()])
            };
            let complete = by_parts
                .into_iter()
                .filter(|(parts, found)| usize::try_from(*parts).is_ok_and(|parts| found.len() == parts))
                .map(|(_, found)| found.into_values().collect());
            found.extend(
                single(0)
                    .chain(complete)
                    .chain(single(1))
                    .map(|files| CheckpointFiles { version, files }),
            );
        }
        found
    }

    /// The commits after `checkpoint` (`None`: all from 0 on) up to `newest`.
    ///
    /// # Errors
    ///
    /// A gap, which a listing that was overtaken by writers can show too.
    pub(super) fn commits_after(
        &self,
        checkpoint: Option<u64>,
        newest: u64,
    ) -> Result<Vec<(u64, ObjectMeta)>, LogError> {
        let mut expected = checkpoint.map_or(0, |version| version.saturating_add(1));
        let mut commits = Vec::new();
        for (&version, object) in self.commits.range(expected..) {
            if version > newest {
                break;
            }
            if version != expected {
                return Err(LogError::Gap {
                    missing: expected,
                    newest,
                });
            }
            commits.push((version, object.clone()));
            expected = expected.saturating_add(1);
        }
        if expected <= newest && checkpoint != Some(newest) {
            return Err(LogError::Gap {
                missing: expected,
                newest,
            });
        }
        Ok(commits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &[&str]) -> Listing {
        let dir = Path::from("t/_delta_log");
        let mut listing = Listing::default();
        for name in names {
            let object = ObjectMeta {
                location: Path::parse(format!("t/_delta_log/{name}")).unwrap(),
                last_modified: chrono::DateTime::UNIX_EPOCH,
                size: 1,
                e_tag: None,
                version: None,
            };
            listing.push(&dir, object);
        }
        listing
    }

    fn name(kind: &str, version: u64) -> String {
        format!("{version:020}.{kind}")
    }

    #[test]
    fn only_the_names_of_the_protocol_are_known() {
        let uuid = "3a0d65cd-4056-49b8-937b-95f9e3ee90e5";
        for (text, known) in [
            ("00000000000000000001.json".to_owned(), true),
            (name("checkpoint.parquet", 1), true),
            (name("checkpoint.0000000001.0000000002.parquet", 1), true),
            (name("checkpoint.0000000003.0000000002.parquet", 1), false),
            (name("checkpoint.0000000000.0000000002.parquet", 1), false),
            (name("checkpoint.1.2.parquet", 1), false),
            (name(&format!("checkpoint.{uuid}.parquet"), 1), true),
            (name(&format!("checkpoint.{uuid}.json"), 1), true),
            ("0000000000000000001.json".to_owned(), false),
            ("+0000000000000000001.json".to_owned(), false),
            (name("json.tmp", 1), false),
            (name("00000000000000000004.compacted.json", 1), false),
            (name("crc", 1), false),
            ("_last_checkpoint".to_owned(), false),
            (".s3-optimization-0".to_owned(), false),
            ("99999999999999999999.json".to_owned(), false),
        ] {
            assert_eq!(parse_name(&text).is_some(), known, "{text}");
        }
        let deep = listing(&["_staged_commits/00000000000000000001.json"]);
        assert_eq!(deep.newest(), None);
    }

    #[test]
    fn incomplete_parts_are_no_checkpoint_and_a_single_file_comes_first() {
        let names = [
            name("checkpoint.0000000001.0000000002.parquet", 8),
            name("checkpoint.0000000002.0000000002.parquet", 5),
            name("checkpoint.0000000001.0000000002.parquet", 5),
            name("checkpoint.parquet", 5),
            name("checkpoint.parquet", 2),
        ];
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let found: Vec<_> = listing(&names)
            .checkpoints_newest_first()
            .into_iter()
            .map(|c| (c.version, c.files.len()))
            .collect();
        assert_eq!(found, [(5, 1), (5, 2), (2, 1)]);
    }

    #[test]
    fn commits_after_a_checkpoint_are_without_a_gap() {
        let names: Vec<_> = [3, 4, 6].iter().map(|v| name("json", *v)).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let log = listing(&names);
        let versions = |checkpoint, newest| {
            log.commits_after(checkpoint, newest)
                .map(|commits| commits.into_iter().map(|(v, _)| v).collect::<Vec<_>>())
                .map_err(|e| e.to_string())
        };
        assert_eq!(versions(Some(2), 4), Ok(vec![3, 4]));
        assert_eq!(versions(Some(6), 6), Ok(vec![]));
        assert_eq!(
            versions(Some(2), 6),
            Err("the table's log has a gap. missing=`5` newest=`6`".to_owned())
        );
        assert_eq!(
            versions(None, 6),
            Err("the table's log has a gap. missing=`0` newest=`6`".to_owned())
        );
        assert_eq!(
            versions(Some(4), 5),
            Err("the table's log has a gap. missing=`5` newest=`5`".to_owned())
        );
    }
}
