//! The summary of a snapshot: what it did, and what the table is since (Iceberg specification, appendix F).

use std::collections::BTreeMap;

use crate::data_file::DataFile;

/// The summary of a snapshot that adds `files` to the table whose current snapshot has the summary `parent`.
///
/// A total that the parent does not have is not made up.
pub(super) fn append_summary(
    parent: Option<&BTreeMap<String, String>>,
    files: &[DataFile],
    partitions: usize,
) -> BTreeMap<String, String> {
    let sum = |value: fn(&DataFile) -> u64| files.iter().map(value).fold(0, u64::saturating_add);
    let (records, bytes) = (sum(|file| file.rows), sum(|file| file.size));
    let count = files.len() as u64;
    let mut summary = BTreeMap::from([("operation".to_owned(), "append".to_owned())]);
    let mut put = |key: &str, value: u64| {
        summary.insert(key.to_owned(), value.to_string());
    };
    if count > 0 {
        put("added-data-files", count);
        put("added-records", records);
        put("added-files-size", bytes);
    }
    put("changed-partition-count", partitions as u64);
    for (total, added) in [
        ("total-data-files", count),
        ("total-records", records),
        ("total-files-size", bytes),
        ("total-delete-files", 0),
        ("total-position-deletes", 0),
        ("total-equality-deletes", 0),
    ] {
        let before = match parent {
            None => Some(0),
            Some(parent) => parent.get(total).and_then(|text| text.parse::<u64>().ok()),
        };
        if let Some(now) = before.and_then(|before| before.checked_add(added)) {
            put(total, now);
        }
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(rows: u64, size: u64) -> DataFile {
        DataFile {
            path: String::new(),
            size,
            rows,
            columns: Vec::new(),
            split_offsets: Vec::new(),
            sorted: false,
            partition: None,
        }
    }

    #[test]
    fn totals_go_on_from_the_parent_and_are_never_made_up() {
        let first = append_summary(None, &[file(3, 100), file(4, 50)], 1);
        let get = |summary: &BTreeMap<String, String>, key: &str| summary.get(key).cloned();
        assert_eq!(get(&first, "added-records").as_deref(), Some("7"));
        assert_eq!(get(&first, "total-files-size").as_deref(), Some("150"));
        let mut parent = first.clone();
        parent.remove("total-records");
        let second = append_summary(Some(&parent), &[], 0);
        assert_eq!(get(&second, "total-data-files").as_deref(), Some("2"));
        assert_eq!(get(&second, "total-records"), None);
        assert_eq!(get(&second, "added-data-files"), None);
    }
}
