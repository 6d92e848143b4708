//! What can be wrong with a manifest or a list of them, with fields; turned into [`Error`] at the edge of this room.

use crate::error::{Error, ErrorKind};
use crate::iceberg::avro::AvroError;

#[derive(Debug, thiserror::Error)]
pub(in crate::iceberg) enum ManifestError {
    #[error("entry of a manifest is not of data. content=`{content}`")]
    Content { content: i32 },
    #[error("manifest of an older table does not say how many files it has. object=`{object}`")]
    Counts { object: String },
    #[error("{what} is none of those that the specification knows. value=`{value}`")]
    Enum { what: &'static str, value: i32 },
    #[error("manifests of this format version cannot be written. format_version=`{format_version}`")]
    FormatVersion { format_version: u8 },
    #[error("number is too large for a manifest: {what}")]
    Number { what: &'static str },
    #[error("partition does not fit its spec. field_id=`{field_id}` spec_id=`{spec_id}`")]
    Partition { field_id: i32, spec_id: i32 },
    #[error("partition has not as many values as its spec. values=`{values}` columns=`{columns}` spec_id=`{spec_id}`")]
    PartitionLength {
        values: usize,
        columns: usize,
        spec_id: i32,
    },
    #[error("{what} cannot be read. object=`{object}`")]
    Read {
        what: &'static str,
        object: String,
        #[source]
        source: Box<ReadError>,
    },
    #[error("{what} of an earlier snapshot has no sequence number. object=`{object}`")]
    SequenceNumber { what: &'static str, object: String },
    #[error("{what} cannot be written")]
    Write {
        what: &'static str,
        #[source]
        source: AvroError,
    },
}

/// Why a manifest, or a list of them, cannot be read.
#[derive(Debug, thiserror::Error)]
pub(in crate::iceberg) enum ReadError {
    #[error(transparent)]
    Avro(#[from] AvroError),
    #[error(transparent)]
    Content(ManifestError),
}

impl From<ManifestError> for Error {
    fn from(error: ManifestError) -> Self {
        let kind = match &error {
            ManifestError::FormatVersion { .. } => ErrorKind::Unsupported,
            ManifestError::Read { source, .. } => match source.as_ref() {
                ReadError::Avro(AvroError::Codec { .. } | AvroError::CodecFeature { .. }) => ErrorKind::Unsupported,
                _ => ErrorKind::Invalid,
            },
            ManifestError::Write { .. } => ErrorKind::Internal,
            ManifestError::Content { .. }
            | ManifestError::Counts { .. }
            | ManifestError::Enum { .. }
            | ManifestError::Number { .. }
            | ManifestError::Partition { .. }
            | ManifestError::PartitionLength { .. }
            | ManifestError::SequenceNumber { .. } => ErrorKind::Invalid,
        };
        Self::wrap(kind, error)
    }
}
