//! The immutable decision what to merge.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::ipc::convert::{IpcSchemaEncoder, try_fb_to_schema};
use arrow::ipc::root_as_schema_with_opts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use flatbuffers::VerifierOptions;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind, Result};
use crate::ids::{LaneId, PlanHash, Seq, Sha256Digest};
use crate::naming::{ETag, FileName, Namespace, ObjectKey, SourceFile};
use crate::options::{Evolve, SortField};
use crate::time::Timestamp;

/// A half-open span `[start, end)` of file timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    /// Belongs to this window.
    pub start: Timestamp,
    /// Belongs to the next one.
    pub end: Timestamp,
}

impl Window {
    /// The key of this window in `namespace`: `{namespace}:{start ms}`.
    pub fn key(&self, namespace: &Namespace) -> String {
        format!("{namespace}:{}", self.start.as_millis())
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// One source of a plan, with its identity as the object store and its footer gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedSource {
    /// The whole key.
    pub key: ObjectKey,
    /// What the key says.
    #[serde(flatten)]
    pub name: FileName,
    /// Bytes.
    pub size: u64,
    /// The entity tag of the content that is meant.
    pub etag: ETag,
    /// Rows, from the footer.
    pub rows: u64,
    /// SHA-256 of the footer.
    pub footer: Sha256Digest,
}

impl From<PlannedSource> for SourceFile {
    fn from(source: PlannedSource) -> Self {
        Self {
            key: source.key,
            name: source.name,
            size: source.size,
            etag: Some(source.etag),
        }
    }
}

/// What to merge: immutable once its object has been created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Version of this document; 1.
    pub version: u32,
    /// The lane.
    pub lane: LaneId,
    /// Place in the lane.
    pub seq: Seq,
    /// Hash of the plan before, `None` for the first of a lane or the first above the floor's record.
    pub previous: Option<PlanHash>,
    /// The namespace.
    pub namespace: Namespace,
    /// The window.
    pub window: Window,
    /// How often the window had been planned before.
    pub generation: u64,
    /// What to merge, in (timestamp, writer, sequence) order.
    pub sources: Vec<PlannedSource>,
    /// The schema of the outputs; where columns are matched by ids, with those that are known of them.
    #[serde(with = "schema_as_ipc")]
    pub schema: SchemaRef,
    /// The order of the rows of sources and outputs.
    pub sort_order: Vec<SortField>,
    /// How far the table's columns may be changed to be those of the schema.
    #[serde(default = "never")]
    pub evolve: Evolve,
    /// Whether columns are matched by the ids that files carry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub match_field_ids: bool,
}

/// Plans of versions that changed no table do not say so.
fn never() -> Evolve {
    Evolve::Never
}

impl Plan {
    /// The version that [`Plan::encode`] writes.
    pub const VERSION: u32 = 1;

    /// The bytes of the plan object. The same plan gives the same bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] when the schema cannot be encoded: a bug.
    pub fn encode(&self) -> Result<Bytes> {
        serde_json::to_vec(self)
            .map(Bytes::from)
            .map_err(|e| Error::new(ErrorKind::Internal, "plan cannot be encoded").with_source(e))
    }

    /// Reads a plan object.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Data`] when it is not a plan, [`ErrorKind::Unsupported`] when a later version of this
    /// crate has written it.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let data = |e| Error::new(ErrorKind::Data, "not a plan object").with_source(e);
        let Version { version } = serde_json::from_slice(bytes).map_err(data)?;
        if version > Self::VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "plan object of a later version. version=`{version}` known=`{}`",
                    Self::VERSION
                ),
            ));
        }
        serde_json::from_slice(bytes).map_err(data)
    }

    /// Rows of all sources.
    pub fn rows(&self) -> u64 {
        self.sources
            .iter()
            .fold(0, |sum, source| sum.saturating_add(source.rows))
    }

    /// Bytes of all sources.
    pub fn bytes(&self) -> u64 {
        self.sources
            .iter()
            .fold(0, |sum, source| sum.saturating_add(source.size))
    }
}

/// An Arrow schema as base64 of its IPC flatbuffer: a form with a specification of its own.
///
/// Metadata is a hash map whose order is not fixed, so plans carry schemas with at most one entry per map.
mod schema_as_ipc {
    use super::{
        Arc, BASE64, Deserialize, Deserializer, Engine, IpcSchemaEncoder, SchemaRef, Serializer, VerifierOptions,
        root_as_schema_with_opts, try_fb_to_schema,
    };

    /// A map takes two levels for its own.
    const MAX_TABLE_DEPTH: usize = 160;

    pub(super) fn serialize<S: Serializer>(schema: &SchemaRef, serializer: S) -> Result<S::Ok, S::Error> {
        let flatbuffer = IpcSchemaEncoder::new().schema_to_fb(schema);
        serializer.serialize_str(&BASE64.encode(flatbuffer.finished_data()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SchemaRef, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text).map_err(D::Error::custom)?;
        // A column of 64 levels takes some more tables than the verifier lets nest by itself.
        let options = VerifierOptions {
            max_depth: MAX_TABLE_DEPTH,
            ..VerifierOptions::default()
        };
        let flatbuffer = root_as_schema_with_opts(&options, &bytes).map_err(D::Error::custom)?;
        try_fb_to_schema(flatbuffer).map(Arc::new).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

    use super::*;

    fn plan() -> Plan {
        let item = Field::new("element", DataType::Float64, true);
        Plan {
            version: Plan::VERSION,
            lane: LaneId::from_u128(1),
            seq: Seq::new(2),
            previous: Some(PlanHash::of(b"one")),
            namespace: Namespace::new("eu/users"),
            window: Window {
                start: Timestamp::from_millis(0),
                end: Timestamp::from_millis(3_600_000),
            },
            generation: 0,
            sources: vec![PlannedSource {
                key: ObjectKey::new("data/eu/users/1700000000000-w-1.parquet"),
                name: FileName {
                    namespace: Namespace::new("eu/users"),
                    timestamp: Timestamp::from_millis(1_700_000_000_000),
                    writer: crate::naming::WriterId::new("w"),
                    sequence: 1,
                },
                size: 10,
                etag: ETag::new("\"abc\""),
                rows: 3,
                footer: Sha256Digest::of(b"footer"),
            }],
            schema: Arc::new(Schema::new(vec![
                Field::new(
                    "ts",
                    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                    false,
                ),
                Field::new("list", DataType::List(Arc::new(item)), true),
            ])),
            sort_order: vec![SortField::descending("ts")],
            evolve: Evolve::AddColumns,
            match_field_ids: false,
        }
    }

    #[test]
    fn a_plan_round_trips_to_the_same_bytes() {
        let bytes = plan().encode().unwrap();
        let again = Plan::decode(&bytes).unwrap();
        assert_eq!(again, plan());
        assert_eq!(again.encode().unwrap(), bytes);
        assert_eq!(again.rows(), 3);
    }

    #[test]
    fn a_plan_may_have_as_deep_columns_as_files() {
        let field = |name: &str, data_type| Arc::new(Field::new(name, data_type, true));
        let levels: [&dyn Fn(DataType) -> DataType; 3] = [
            &|inner| DataType::Struct(vec![field("x", inner)].into()),
            &|inner| DataType::List(field("element", inner)),
            &|inner| crate::schema::canonical::map_of(field("key", DataType::Utf8), field("value", inner)),
        ];
        for level in levels {
            let data_type = (0..64).fold(DataType::Int8, |inner, _| level(inner));
            let mut deep = plan();
            deep.schema = Arc::new(Schema::new(vec![Field::new("deep", data_type, true)]));
            assert_eq!(Plan::decode(&deep.encode().unwrap()).unwrap(), deep);
        }
    }

    #[test]
    fn a_plan_of_a_later_version_is_unsupported_and_garbage_is_data() {
        let mut later = plan();
        later.version = 2;
        let error = Plan::decode(&later.encode().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(Plan::decode(b"{").unwrap_err().kind(), ErrorKind::Data);
    }
}
