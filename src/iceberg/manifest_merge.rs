//! Merging small manifests into larger ones, so that their number does not grow with that of the commits. Pure.
//!
//! What is merged, and when, is what Java's `ManifestMergeManager` does with the same properties.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::manifest::{EntryStatus, ManifestEntry, ManifestWriter};
use super::manifest_list::{ManifestContent, ManifestFile};
use crate::error::Result;

/// How large a merged manifest should be, where a table says nothing.
pub const DEFAULT_MANIFEST_TARGET_BYTES: u64 = 8 << 20;

/// How many manifests wait before the newest is merged with them, where a table says nothing.
pub const DEFAULT_MANIFEST_MIN_COUNT: usize = 100;

const ENABLED_KEY: &str = "commit.manifest-merge.enabled";
const TARGET_KEY: &str = "commit.manifest.target-size-bytes";
const MIN_COUNT_KEY: &str = "commit.manifest.min-count-to-merge";

/// When manifests are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestMergeConfig {
    /// Whether they are at all.
    pub enabled: bool,
    /// How many bytes of manifests become one.
    pub target_bytes: u64,
    /// How many manifests wait before the newest is merged with them.
    pub min_count: usize,
}

impl Default for ManifestMergeConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            target_bytes: DEFAULT_MANIFEST_TARGET_BYTES,
            min_count: DEFAULT_MANIFEST_MIN_COUNT,
        }
    }
}

impl ManifestMergeConfig {
    /// What the table's properties ask for (`commit.manifest*`). What cannot be understood is as if not there.
    pub fn from_properties(properties: &BTreeMap<String, String>) -> Self {
        let default = Self::default();
        let enabled = properties.get(ENABLED_KEY);
        Self {
            enabled: enabled.is_none_or(|text| text.trim().eq_ignore_ascii_case("true")),
            target_bytes: number(properties, TARGET_KEY).unwrap_or(default.target_bytes),
            min_count: number(properties, MIN_COUNT_KEY).unwrap_or(default.min_count),
        }
    }
}

fn number<T: std::str::FromStr>(properties: &BTreeMap<String, String>, key: &str) -> Option<T> {
    properties.get(key)?.trim().parse().ok()
}

/// What becomes of manifests in the next list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestBin {
    /// This one stays as it is.
    Keep(ManifestFile),
    /// These, the newest first, become one; they are of one partition spec.
    Merge(Vec<ManifestFile>),
}

/// Decides which of a snapshot's manifests become one. `manifests` are the newest first, the one that this commit
/// has written at the front.
///
/// Manifests of data files with the same partition spec are put into bins of the target size, from the oldest on;
/// each bin of more than one is merged, but that of the newest manifest only once it has the least count. The rest
/// stays: manifests of deletes, encrypted ones, and those of a bin of their own. Merging is an option, never a duty:
/// each bin may as well be kept.
pub fn plan_manifest_merge(manifests: Vec<ManifestFile>, config: &ManifestMergeConfig) -> Vec<ManifestBin> {
    if !config.enabled {
        return manifests.into_iter().map(ManifestBin::Keep).collect();
    }
    let newest = manifests.first().map(|manifest| manifest.path.clone());
    let mut specs: BTreeMap<Reverse<i32>, Vec<ManifestFile>> = BTreeMap::new();
    let mut others = Vec::new();
    for manifest in manifests {
        if manifest.content == ManifestContent::Data && manifest.key_metadata.is_none() {
            specs
                .entry(Reverse(manifest.partition_spec_id))
                .or_default()
                .push(manifest);
        } else {
            others.push(ManifestBin::Keep(manifest));
        }
    }
    let bins = specs
        .into_values()
        .flat_map(|group| pack_from_end(group, config.target_bytes));
    bins.flat_map(|bin| {
        let waits = bin.len() < config.min_count && bin.iter().any(|manifest| Some(&manifest.path) == newest.as_ref());
        if bin.len() < 2 || waits {
            bin.into_iter().map(ManifestBin::Keep).collect()
        } else {
            vec![ManifestBin::Merge(bin)]
        }
    })
    .chain(others)
    .collect()
}

/// Fills one bin after the other from the end, so that the one at the front, which grows with the next commit, is
/// the one that is not full. The order of the manifests stays.
fn pack_from_end(manifests: Vec<ManifestFile>, target_bytes: u64) -> Vec<Vec<ManifestFile>> {
    let mut bins: Vec<Vec<ManifestFile>> = Vec::new();
    let mut size = 0_u64;
    for manifest in manifests.into_iter().rev() {
        let grown = size.saturating_add(manifest.length);
        match bins.last_mut() {
            Some(bin) if grown <= target_bytes => {
                size = grown;
                bin.push(manifest);
            }
            _ => {
                size = manifest.length;
                bins.push(vec![manifest]);
            }
        }
    }
    for bin in &mut bins {
        bin.reverse();
    }
    bins.reverse();
    bins
}

/// Moves the entries of manifests into the one that takes their place, which `snapshot_id` adds.
///
/// What that snapshot itself has added or removed stays so, files of earlier ones are existing, and what earlier
/// ones have removed is gone. Call it for one manifest after the other, the newest first.
///
/// # Errors
///
/// Those of `entries`, and those of [`ManifestWriter::existing`].
pub fn merge_manifest_entries(
    writer: &mut ManifestWriter,
    entries: impl IntoIterator<Item = Result<ManifestEntry>>,
    snapshot_id: i64,
) -> Result<()> {
    for entry in entries {
        let entry = entry?;
        let is_of_this_snapshot = entry.snapshot_id == snapshot_id;
        match entry.status {
            EntryStatus::Deleted if is_of_this_snapshot => writer.delete(entry)?,
            EntryStatus::Deleted => {}
            EntryStatus::Added if is_of_this_snapshot => match entry.sequence_number {
                // A number that the reader has filled in is inherited again.
                Some(number) if entry.file_sequence_number != Some(number) => {
                    writer.add_since(entry.data_file, number)?;
                }
                _ => writer.add(entry.data_file)?,
            },
            EntryStatus::Added | EntryStatus::Existing => writer.existing(entry)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iceberg::{ManifestDataFile, ManifestHeader, read_manifest};

    fn manifest(path: &str, length: u64) -> ManifestFile {
        ManifestFile {
            path: path.to_owned(),
            length,
            partition_spec_id: 0,
            content: ManifestContent::Data,
            sequence_number: Some(1),
            min_sequence_number: Some(1),
            added_snapshot_id: 1,
            added_files_count: Some(1),
            existing_files_count: Some(0),
            deleted_files_count: Some(0),
            added_rows_count: Some(1),
            existing_rows_count: Some(0),
            deleted_rows_count: Some(0),
            partitions: None,
            key_metadata: None,
            first_row_id: None,
        }
    }

    fn of_spec(path: &str, partition_spec_id: i32) -> ManifestFile {
        ManifestFile {
            partition_spec_id,
            ..manifest(path, 10)
        }
    }

    /// Merged manifests in brackets.
    fn planned(manifests: Vec<ManifestFile>, target_bytes: u64, min_count: usize) -> String {
        let config = ManifestMergeConfig {
            target_bytes,
            min_count,
            ..ManifestMergeConfig::default()
        };
        let bins = plan_manifest_merge(manifests, &config)
            .into_iter()
            .map(|bin| match bin {
                ManifestBin::Keep(manifest) => manifest.path,
                ManifestBin::Merge(manifests) => {
                    let paths: Vec<_> = manifests.into_iter().map(|manifest| manifest.path).collect();
                    format!("({})", paths.join(" "))
                }
            });
        bins.collect::<Vec<_>>().join(" ")
    }

    fn sized(sizes: &[(&str, u64)]) -> Vec<ManifestFile> {
        sizes.iter().map(|(path, length)| manifest(path, *length)).collect()
    }

    #[test]
    fn bins_are_filled_from_the_oldest_and_the_newest_waits_for_company() {
        let manifests = || sized(&[("e", 10), ("d", 10), ("c", 10), ("b", 10), ("a", 10)]);
        assert_eq!(planned(manifests(), 20, 3), "e (d c) (b a)");
        assert_eq!(planned(manifests(), 30, 3), "e d (c b a)");
        assert_eq!(planned(manifests(), 30, 2), "(e d) (c b a)");
        assert_eq!(planned(manifests(), 50, 5), "(e d c b a)");
        assert_eq!(planned(manifests(), 50, 6), "e d c b a");
        assert_eq!(planned(Vec::new(), 50, 6), "");
    }

    #[test]
    fn large_manifests_stay_and_end_their_bin() {
        let manifests = sized(&[("d", 10), ("c", 10), ("large", 100), ("b", 10), ("a", 10)]);
        assert_eq!(planned(manifests, 20, 2), "(d c) large (b a)");
    }

    #[test]
    fn specs_deletes_and_encrypted_ones_are_kept_apart() {
        let deletes = ManifestFile {
            content: ManifestContent::Deletes,
            ..manifest("deletes", 1)
        };
        let encrypted = ManifestFile {
            key_metadata: Some(vec![1]),
            ..manifest("encrypted", 1)
        };
        let manifests = vec![
            of_spec("new", 0),
            deletes,
            of_spec("b1", 1),
            encrypted,
            of_spec("a0", 0),
            of_spec("a1", 1),
        ];
        assert_eq!(planned(manifests, 100, 3), "(b1 a1) new a0 deletes encrypted");
    }

    #[test]
    fn properties_are_those_of_java() {
        let of = |properties: &[(&str, &str)]| {
            let properties = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            ManifestMergeConfig::from_properties(&properties.collect())
        };
        assert_eq!(of(&[]), ManifestMergeConfig::default());
        let given = of(&[(ENABLED_KEY, "false"), (TARGET_KEY, "1000"), (MIN_COUNT_KEY, "7")]);
        assert_eq!(
            given,
            ManifestMergeConfig {
                enabled: false,
                target_bytes: 1000,
                min_count: 7,
            }
        );
        assert_eq!(
            plan_manifest_merge(sized(&[("b", 1), ("a", 1)]), &given),
            [ManifestBin::Keep(manifest("b", 1)), ManifestBin::Keep(manifest("a", 1))]
        );
    }

    #[test]
    fn entries_are_what_they_are_to_the_new_snapshot() {
        let header = |snapshot_id| ManifestHeader {
            format_version: 3,
            snapshot_id,
            schema: "{}".to_owned(),
            schema_id: 0,
            partition_spec: "[]".to_owned(),
            partition_spec_id: 0,
            columns: Vec::new(),
        };
        let entry = |path: &str, status, snapshot_id, numbers: (Option<i64>, Option<i64>), row_id| ManifestEntry {
            status,
            snapshot_id,
            sequence_number: numbers.0,
            file_sequence_number: numbers.1,
            data_file: ManifestDataFile {
                file_path: path.to_owned(),
                file_format: "PARQUET".to_owned(),
                record_count: 10,
                file_size: 100,
                first_row_id: row_id,
                ..ManifestDataFile::default()
            },
        };
        let old = (Some(3), Some(4));
        let mut writer = ManifestWriter::new(header(9)).unwrap();
        let entries = [
            entry("new", EntryStatus::Added, 9, (None, None), None),
            entry("rewritten", EntryStatus::Added, 9, (Some(2), None), None),
            entry("read back", EntryStatus::Added, 9, (Some(8), Some(8)), Some(77)),
            entry("removed", EntryStatus::Deleted, 9, old, Some(20)),
            entry("added before", EntryStatus::Added, 7, old, Some(30)),
            entry("removed before", EntryStatus::Deleted, 7, old, Some(40)),
            entry("old", EntryStatus::Existing, 5, old, Some(50)),
        ];
        merge_manifest_entries(&mut writer, entries.map(Ok), 9).unwrap();
        let (bytes, mut merged) = writer.finish("m".to_owned());
        assert_eq!(merged.min_sequence_number, Some(2));
        merged.sequence_number = Some(10);
        merged.first_row_id = Some(1000);
        let new = (Some(10), Some(10));
        assert_eq!(
            read_manifest(&bytes.into(), &merged, &[]).unwrap(),
            [
                entry("new", EntryStatus::Added, 9, new, Some(1000)),
                entry("rewritten", EntryStatus::Added, 9, (Some(2), Some(10)), Some(1010)),
                entry("read back", EntryStatus::Added, 9, new, Some(1020)),
                entry("removed", EntryStatus::Deleted, 9, old, Some(20)),
                entry("added before", EntryStatus::Existing, 7, old, Some(30)),
                entry("old", EntryStatus::Existing, 5, old, Some(50)),
            ]
        );
    }
}
