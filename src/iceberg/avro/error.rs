//! What can be wrong with an Avro file, with fields; turned into [`Error`] at the edge of this room.

use crate::error::{Error, ErrorKind};

#[derive(Debug, thiserror::Error)]
pub(in crate::iceberg) enum AvroError {
    #[error("avro file is compressed in an unknown way. codec=`{codec}`")]
    Codec { codec: String },
    #[error("avro file is compressed in a way that this build cannot read. codec=`{codec}` feature=`{feature}`")]
    #[cfg_attr(
        all(feature = "snap", feature = "zstd"),
        expect(dead_code, reason = "a build that has all codecs misses none")
    )]
    CodecFeature { codec: &'static str, feature: &'static str },
    #[error("block of an avro file cannot be decompressed. codec=`{codec}`")]
    Compressed { codec: &'static str },
    #[error("avro file is cut or damaged: {what}")]
    Damaged { what: &'static str },
    #[error("avro record has no value where one is required. field_id=`{field_id}`")]
    Missing { field_id: i32 },
    #[error("avro schema cannot be understood: {what}")]
    Schema { what: &'static str },
    #[error("avro schema is not JSON")]
    SchemaJson {
        #[source]
        source: serde_json::Error,
    },
    #[error("avro file asks for more than is given to it: {what}. limit=`{limit}`")]
    TooLarge { what: &'static str, limit: usize },
    #[error("avro value does not fit its field. field_id=`{field_id}`")]
    Type { field_id: i32 },
    #[error("value does not fit the avro schema it is written with: {what}")]
    Unwritable { what: &'static str },
}

impl From<AvroError> for Error {
    fn from(error: AvroError) -> Self {
        let kind = match error {
            AvroError::Codec { .. } | AvroError::CodecFeature { .. } => ErrorKind::Unsupported,
            AvroError::Unwritable { .. } => ErrorKind::Internal,
            AvroError::Compressed { .. }
            | AvroError::Damaged { .. }
            | AvroError::Missing { .. }
            | AvroError::Schema { .. }
            | AvroError::SchemaJson { .. }
            | AvroError::TooLarge { .. }
            | AvroError::Type { .. } => ErrorKind::Invalid,
        };
        Self::wrap(kind, error)
    }
}
