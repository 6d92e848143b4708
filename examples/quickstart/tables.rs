//! The tables read back, by the metadata that they consist of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use firnline::TableFormat;
use firnline::iceberg::{EntryStatus, TableMetadata, read_manifest, read_manifest_list};
use firnline::parquet::file::reader::FileReader;
use firnline::parquet::file::serialized_reader::SerializedFileReader;

use crate::writers::Result;

/// A data file of a table.
#[derive(Clone, Debug)]
pub(crate) struct LiveFile {
    path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
}

/// The files that a table's metadata say are live.
pub(crate) fn live_files(table: &Path, format: TableFormat) -> Result<Vec<LiveFile>> {
    match format {
        TableFormat::Iceberg => iceberg_files(table),
        _ => delta_files(table),
    }
}

/// Adds less removes of all commits: a reader in a few lines.
fn delta_files(table: &Path) -> Result<Vec<LiveFile>> {
    let mut commits = files_below(&table.join("_delta_log"))?;
    commits.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    let mut live = BTreeMap::new();
    for commit in commits {
        for line in std::fs::read_to_string(commit)?.lines() {
            let action: serde_json::Value = serde_json::from_str(line)?;
            if let (Some(path), Some(bytes)) = (action["add"]["path"].as_str(), action["add"]["size"].as_u64()) {
                let path = table.join(path);
                let rows = SerializedFileReader::new(std::fs::File::open(&path)?)?
                    .metadata()
                    .file_metadata()
                    .num_rows();
                let rows = u64::try_from(rows)?;
                live.insert(path.clone(), LiveFile { path, bytes, rows });
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                live.remove(&table.join(path));
            }
        }
    }
    Ok(live.into_values().collect())
}

/// Metadata, list of manifests, manifests, with the crate's own readers. The table has no partitions.
fn iceberg_files(table: &Path) -> Result<Vec<LiveFile>> {
    let metadata = TableMetadata::parse(&std::fs::read(newest_metadata(table)?)?)?;
    let snapshot = metadata.current_snapshot().ok_or("the table is empty")?;
    let list = snapshot.manifest_list.as_deref().ok_or("a snapshot without list")?;
    let mut live = Vec::new();
    for manifest in read_manifest_list(&std::fs::read(local(list))?.into(), list)? {
        let bytes = std::fs::read(local(&manifest.path))?.into();
        for entry in read_manifest(&bytes, &manifest, &[])? {
            if entry.status != EntryStatus::Deleted {
                live.push(LiveFile {
                    path: local(&entry.data_file.file_path),
                    bytes: entry.data_file.file_size,
                    rows: entry.data_file.record_count,
                });
            }
        }
    }
    Ok(live)
}

/// The highest `metadata/v{N}.metadata.json`.
pub(crate) fn newest_metadata(table: &Path) -> Result<PathBuf> {
    let version = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix('v')?.split('.').next()?.parse::<u64>().ok()
    };
    let files = files_below(&table.join("metadata"))?;
    let newest = files
        .into_iter()
        .filter(|path| version(path).is_some())
        .max_by_key(version);
    Ok(newest.ok_or("a table without metadata")?)
}

fn local(uri: &str) -> PathBuf {
    PathBuf::from(uri.strip_prefix("file://").unwrap_or(uri))
}

pub(crate) fn distinct_ids(files: &[LiveFile]) -> Result<u64> {
    let mut ids = BTreeSet::new();
    for file in files {
        let reader = SerializedFileReader::new(std::fs::File::open(&file.path)?)?;
        for row in reader.get_row_iter(None)? {
            for (name, value) in row?.get_column_iter() {
                if name == "id" {
                    ids.insert(value.to_string());
                }
            }
        }
    }
    Ok(ids.len() as u64)
}

/// All files, in order.
pub(crate) fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
