//! Settings of Iceberg tables.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::options::with_methods;

/// Default of [`IcebergOptions::max_commit_races`].
pub const DEFAULT_MAX_COMMIT_RACES: u32 = 20;

/// Settings of [`IcebergSink`](super::IcebergSink) and [`IcebergTables`](super::IcebergTables).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[non_exhaustive]
pub struct IcebergOptions {
    /// The format version of a table that is created: 2, or 3 for row lineage and nanoseconds.
    pub format_version: u8,
    /// How many commits of others one call goes out of the way of before it reports
    /// [`Contended`](crate::CommitOutcome::Contended).
    pub max_commit_races: u32,
    /// What names the writer in the snapshots' summaries, `engine-name`.
    pub engine_name: String,
    /// Table properties of a table that is created.
    pub properties: BTreeMap<String, String>,
}

impl Default for IcebergOptions {
    fn default() -> Self {
        Self {
            format_version: 2,
            max_commit_races: DEFAULT_MAX_COMMIT_RACES,
            engine_name: env!("CARGO_PKG_NAME").to_owned(),
            properties: BTreeMap::new(),
        }
    }
}

with_methods! { IcebergOptions {
    with_format_version: format_version, u8;
    with_max_commit_races: max_commit_races, u32;
    with_engine_name: engine_name, String;
    with_properties: properties, BTreeMap<String, String>;
}}
