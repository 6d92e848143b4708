//! Ids of rows, where a table keeps them (Delta protocol, "Row Tracking"). Pure.

use serde_json::{Value, json};

use super::action::{Add, DomainMetadata};
use super::commit::signed;
use super::error::unsupported;
use super::snapshot::Snapshot;
use crate::data_file::DataFile;
use crate::error::{Error, Result};

/// The metadata domain that knows the highest id.
const DOMAIN: &str = "delta.rowTracking";
/// So many ids are left, or a table is refused before anything is uploaded: no commit has as many rows.
const LEAST_LEFT: i64 = 1 << 48;

/// What is in the way of giving ids to the rows of a table that keeps them.
pub(super) fn obstacle(table: &Snapshot) -> Option<String> {
    let text = table.domain(DOMAIN).filter(|_| is_tracked(table))?;
    match high_water_mark(text) {
        Some(high) if high.checked_add(LEAST_LEFT).is_some() => None,
        _ => Some(format!("domain {DOMAIN} = {text}")),
    }
}

/// Gives the rows of new files ids, and says what the domain has then.
pub(super) fn assigned(
    table: &Snapshot,
    version: u64,
    mut adds: Vec<Add>,
    files: &[DataFile],
) -> Result<(Vec<Add>, Option<DomainMetadata>)> {
    if adds.is_empty() || !is_tracked(table) {
        return Ok((adds, None));
    }
    let mut high = match table.domain(DOMAIN) {
        None => -1,
        Some(text) => high_water_mark(text)
            .ok_or_else(|| unsupported(format!("row ids cannot be assigned. domain=`{DOMAIN}` value=`{text}`")))?,
    };
    for (add, file) in adds.iter_mut().zip(files) {
        add.base_row_id = Some(high.checked_add(1).ok_or_else(exhausted)?);
        add.default_row_commit_version = Some(signed("version", version)?);
        high = high
            .checked_add(signed("rows of a data file", file.rows)?)
            .ok_or_else(exhausted)?;
    }
    let domain = DomainMetadata {
        domain: DOMAIN.to_owned(),
        configuration: json!({ "rowIdHighWaterMark": high }).to_string(),
        removed: false,
    };
    Ok((adds, Some(domain)))
}

fn is_tracked(table: &Snapshot) -> bool {
    table.protocol().lists_writer_feature("rowTracking") && !table.metadata().flag("delta.rowTrackingSuspended")
}

fn high_water_mark(configuration: &str) -> Option<i64> {
    let configuration: Value = serde_json::from_str(configuration).ok()?;
    configuration.get("rowIdHighWaterMark")?.as_i64()
}

fn exhausted() -> Error {
    unsupported("row ids are exhausted")
}
