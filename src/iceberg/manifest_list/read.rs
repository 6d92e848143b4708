//! Reading manifest lists of any version and writer.

use bytes::Bytes;

use super::model::{FieldSummary, ManifestContent, ManifestFile};
use super::schema;
use crate::error::Result;
use crate::iceberg::avro::{AvroError, AvroReader, Record};
use crate::iceberg::manifest::{ManifestError, ReadError};

/// The manifests of a list, in its order, with the defaults of what v1 does not have. `object` is for errors.
///
/// # Errors
///
/// `Invalid` if the bytes are no manifest list: the table is damaged. `Unsupported` if they are compressed in a way
/// that is not known, or needs a feature of this crate.
pub fn read_manifest_list(bytes: &Bytes, object: &str) -> Result<Vec<ManifestFile>> {
    let read = || -> Result<Vec<ManifestFile>, ReadError> {
        AvroReader::new(bytes)?
            .map(|record| manifest_file(record.map_err(ReadError::from)?))
            .collect()
    };
    read().map_err(|source| {
        let error = ManifestError::Read {
            what: "manifest list",
            object: object.to_owned(),
            source: Box::new(source),
        };
        error.into()
    })
}

fn manifest_file(mut record: Record) -> Result<ManifestFile, ReadError> {
    let content = record.optional(schema::CONTENT)?.unwrap_or_default();
    let partitions = record.optional::<Vec<Record>>(schema::PARTITIONS)?;
    let partitions = partitions.map(|summaries| summaries.into_iter().map(summary).collect());
    Ok(ManifestFile {
        content: ManifestContent::parse(content).map_err(ReadError::Content)?,
        partitions: partitions.transpose()?,
        path: record.required(schema::PATH)?,
        length: record.required(schema::LENGTH)?,
        partition_spec_id: record.required(schema::SPEC_ID)?,
        sequence_number: Some(record.optional(schema::SEQUENCE_NUMBER)?.unwrap_or_default()),
        min_sequence_number: Some(record.optional(schema::MIN_SEQUENCE_NUMBER)?.unwrap_or_default()),
        added_snapshot_id: record.required(schema::ADDED_SNAPSHOT_ID)?,
        added_files_count: record.optional(schema::ADDED_FILES)?,
        existing_files_count: record.optional(schema::EXISTING_FILES)?,
        deleted_files_count: record.optional(schema::DELETED_FILES)?,
        added_rows_count: record.optional(schema::ADDED_ROWS)?,
        existing_rows_count: record.optional(schema::EXISTING_ROWS)?,
        deleted_rows_count: record.optional(schema::DELETED_ROWS)?,
        key_metadata: record.optional(schema::KEY_METADATA)?,
        first_row_id: record.optional(schema::FIRST_ROW_ID)?,
    })
}

fn summary(mut record: Record) -> Result<FieldSummary, AvroError> {
    Ok(FieldSummary {
        contains_null: record.required(schema::CONTAINS_NULL)?,
        contains_nan: record.optional(schema::CONTAINS_NAN)?,
        lower_bound: record.optional(schema::LOWER_BOUND)?,
        upper_bound: record.optional(schema::UPPER_BOUND)?,
    })
}
