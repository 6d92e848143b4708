//! Protocol and metadata of a table that is created. Pure.

use arrow::datatypes::Schema;

use super::action::{Metadata, Protocol};
use super::canonical::{canonical_schema, check_names};
use super::error::{invalid, unsupported};
use super::options::{DeltaOptions, parse_interval_ms};
use super::schema::{has_timestamp_ntz, schema_string, without_void};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::strip_metadata;
use crate::sink::TableCommit;

/// Table properties that a new table may have: those that need no table feature.
const NEW_TABLE_PROPERTIES: [&str; 13] = [
    "delta.appendOnly",
    "delta.checkpoint.writeStatsAsJson",
    "delta.checkpoint.writeStatsAsStruct",
    "delta.checkpointInterval",
    "delta.dataSkippingNumIndexedCols",
    "delta.dataSkippingStatsColumns",
    "delta.deletedFileRetentionDuration",
    "delta.enableExpiredLogCleanup",
    "delta.logRetentionDuration",
    "delta.parquet.compression.codec",
    "delta.setTransactionRetentionDuration",
    "delta.targetFileSize",
    "delta.tuneFileSizesForRewrites",
];

/// Protocol and metadata of a table that is created with the columns of a plan.
pub(super) fn new_table(schema: &Schema, commit: &TableCommit, options: &DeltaOptions) -> Result<(Protocol, Metadata)> {
    let stored = new_table_schema(schema, options)?;
    let protocol = if has_timestamp_ntz(stored.fields()) {
        let ntz = || "timestampNtz".to_owned();
        let append_only = options.configuration.contains_key("delta.appendOnly");
        Protocol {
            min_reader_version: 3,
            min_writer_version: 7,
            reader_features: Some(vec![ntz()]),
            writer_features: Some(
                append_only
                    .then(|| "appendOnly".to_owned())
                    .into_iter()
                    .chain([ntz()])
                    .collect(),
            ),
        }
    } else {
        Protocol {
            min_reader_version: 1,
            min_writer_version: 2,
            ..Protocol::default()
        }
    };
    let metadata = Metadata {
        id: commit.new_table_uuid.to_string(),
        schema_string: schema_string(&stored)?,
        created_time: Some(commit.now.as_millis()),
        configuration: options.configuration.clone(),
        ..Metadata::default()
    };
    Ok((protocol, metadata))
}

/// The columns of a table that is created with the columns of a plan.
pub(super) fn new_table_schema(schema: &Schema, options: &DeltaOptions) -> Result<Schema> {
    for (key, value) in &options.configuration {
        let interval = key.ends_with("Duration") && key.starts_with("delta.");
        if interval && parse_interval_ms(value).is_none() {
            return Err(invalid(format!("not an interval. property=`{key}` value=`{value}`")));
        }
        if key.starts_with("delta.") && !NEW_TABLE_PROPERTIES.contains(&key.as_str()) {
            return Err(unsupported(format!(
                "property cannot be set on a new table. property=`{key}`"
            )));
        }
    }
    let canonical = canonical_schema(&strip_metadata(schema))
        .and_then(|schema| check_names(&schema).map(|()| schema))
        .map_err(|reason| Error::new(ErrorKind::Unsupported, format!("no table can be made: {reason}")))?;
    let stored = without_void(&canonical);
    // Inside of lists and structs, nothing else says that a type is missing.
    schema_string(&stored)?;
    Ok(stored)
}
