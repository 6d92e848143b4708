//! Which tables can be appended to: what asks for more is refused by name, before anything is uploaded.

use super::error::unsupported;
use super::metadata::TableMetadata;
use super::partitioner::SpecPartitioner;
use super::snapshot::MAIN_BRANCH;
use super::version::FormatVersion;
use crate::error::Result;

/// Refuses a table that an append would harm, or that asks for what is not done here.
pub(super) fn check_append(table: &TableMetadata) -> Result<()> {
    let refuse = |what: &str, value: &str| {
        Err(unsupported(format!(
            "the table asks for what is not done here: {what}. table=`{}` value=`{value}`",
            table.location()
        )))
    };
    if table.format_version() < FormatVersion::V2 {
        return refuse("appending to format version 1, upgrade it to 2", "1");
    }
    let defaults = table.schema().fields_with_defaults();
    if !defaults.is_empty() {
        return refuse("default values of columns", &defaults.join(", "));
    }
    for key in ["encryption.key-id", "write.metadata.path"] {
        if let Some(value) = table.properties().get(key) {
            return refuse(key, value);
        }
    }
    if table.extra().contains_key("encryption-keys") {
        return refuse("encryption", "encryption-keys");
    }
    let main = table.refs().get(MAIN_BRANCH).map(|main| main.snapshot_id);
    let current = table.current_snapshot().map(|snapshot| snapshot.snapshot_id);
    if main != current {
        return refuse("a current snapshot that is not that of main", &format!("{current:?}"));
    }
    // Both name a transform that is not known here.
    SpecPartitioner::of(table)?;
    table.default_sort_order().check_transforms()?;
    Ok(())
}
