//! Reading manifests of any version and writer.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::error::{ManifestError, ReadError};
use super::model::{EntryStatus, FileContent, ManifestDataFile, ManifestEntry};
use super::schema::{self, MapIds};
use crate::error::Result;
use crate::iceberg::avro::{AvroError, AvroReader, FromValue, Record};
use crate::iceberg::manifest_list::ManifestFile;
use crate::iceberg::partition_column::PartitionColumn;

/// The entries of a manifest, in order, each with what it inherits (Iceberg specification, "Inheritance").
///
/// `file` is the manifest as its list describes it, `columns` are the fields of the partition spec that it names.
///
/// # Errors
///
/// `Invalid` if the bytes are no manifest of that spec: the table is damaged. `Unsupported` if they are compressed
/// in a way that is not known, or needs a feature of this crate.
pub fn read_manifest(bytes: &Bytes, file: &ManifestFile, columns: &[PartitionColumn]) -> Result<Vec<ManifestEntry>> {
    ManifestReader::new(bytes, file, columns)?.collect()
}

/// Reads a manifest entry by entry; as [`read_manifest`], without holding all entries at once.
#[derive(Debug)]
pub struct ManifestReader<'a> {
    records: AvroReader,
    file: &'a ManifestFile,
    columns: &'a [PartitionColumn],
    next_row_id: Option<i64>,
}

impl<'a> ManifestReader<'a> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// As [`read_manifest`].
    pub fn new(bytes: &Bytes, file: &'a ManifestFile, columns: &'a [PartitionColumn]) -> Result<Self> {
        let records = AvroReader::new(bytes).map_err(|error| unreadable(file, error))?;
        Ok(Self {
            records,
            file,
            columns,
            next_row_id: file.first_row_id,
        })
    }

    fn entry(&mut self, mut record: Record) -> Result<ManifestEntry, ReadError> {
        let status = EntryStatus::parse(record.required(schema::STATUS)?).map_err(ReadError::Content)?;
        let sequence_number = record.optional(schema::SEQUENCE_NUMBER)?;
        let file_sequence_number = record.optional(schema::FILE_SEQUENCE_NUMBER)?;
        let mut data_file = self.data_file(record.required(schema::DATA_FILE)?)?;
        if data_file.content == FileContent::Data {
            self.assign_first_row_id(status, &mut data_file);
        }
        // What v1 has written has no sequence numbers; all of it counts as 0.
        let inherited = match (status, self.file.sequence_number) {
            (EntryStatus::Added, number) | (_, number @ Some(0)) => number,
            _ => None,
        };
        Ok(ManifestEntry {
            status,
            snapshot_id: record
                .optional(schema::SNAPSHOT_ID)?
                .unwrap_or(self.file.added_snapshot_id),
            sequence_number: sequence_number.or(inherited),
            file_sequence_number: file_sequence_number.or(inherited),
            data_file,
        })
    }

    /// A file without a first row id comes after those before it; in a manifest without one, none has one
    /// (Iceberg specification, "First Row ID Inheritance").
    fn assign_first_row_id(&mut self, status: EntryStatus, data_file: &mut ManifestDataFile) {
        let Some(next) = self.next_row_id else {
            data_file.first_row_id = None;
            return;
        };
        if status != EntryStatus::Deleted && data_file.first_row_id.is_none() {
            data_file.first_row_id = Some(next);
            let rows = i64::try_from(data_file.record_count).unwrap_or(i64::MAX);
            self.next_row_id = Some(next.saturating_add(rows));
        }
    }

    fn data_file(&self, mut record: Record) -> Result<ManifestDataFile, ReadError> {
        let content = record.optional(schema::CONTENT)?.unwrap_or_default();
        let mut partition = record.optional::<Record>(schema::PARTITION)?.unwrap_or_default();
        let partition = self.columns.iter().map(|column| match partition.take(column.field_id) {
            None => Ok(None),
            Some(value) => column
                .datum(value)
                .map(Some)
                .ok_or(ReadError::Content(ManifestError::Partition {
                    field_id: column.field_id,
                    spec_id: self.file.partition_spec_id,
                })),
        });
        Ok(ManifestDataFile {
            content: FileContent::parse(content).map_err(ReadError::Content)?,
            partition: partition.collect::<Result<_, _>>()?,
            file_path: record.required(schema::FILE_PATH)?,
            file_format: record.required(schema::FILE_FORMAT)?,
            record_count: record.required(schema::RECORD_COUNT)?,
            file_size: record.required(schema::FILE_SIZE)?,
            column_sizes: map(&mut record, schema::COLUMN_SIZES)?,
            value_counts: map(&mut record, schema::VALUE_COUNTS)?,
            null_value_counts: map(&mut record, schema::NULL_VALUE_COUNTS)?,
            nan_value_counts: map(&mut record, schema::NAN_VALUE_COUNTS)?,
            lower_bounds: map(&mut record, schema::LOWER_BOUNDS)?,
            upper_bounds: map(&mut record, schema::UPPER_BOUNDS)?,
            key_metadata: record.optional(schema::KEY_METADATA)?,
            split_offsets: record.optional(schema::SPLIT_OFFSETS)?.unwrap_or_default(),
            equality_ids: record.optional(schema::EQUALITY_IDS)?.unwrap_or_default(),
            sort_order_id: record.optional(schema::SORT_ORDER_ID)?,
            first_row_id: record.optional(schema::FIRST_ROW_ID)?,
            referenced_data_file: record.optional(schema::REFERENCED_DATA_FILE)?,
            content_offset: record.optional(schema::CONTENT_OFFSET)?,
            content_size_in_bytes: record.optional(schema::CONTENT_SIZE)?,
        })
    }
}

impl Iterator for ManifestReader<'_> {
    type Item = Result<ManifestEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.records.next()?;
        let entry = record.map_err(ReadError::from).and_then(|record| self.entry(record));
        Some(entry.map_err(|error| unreadable(self.file, error)))
    }
}

fn map<V: FromValue>(record: &mut Record, ids: MapIds) -> Result<BTreeMap<i32, V>, AvroError> {
    record
        .optional::<Vec<Record>>(ids.map)?
        .unwrap_or_default()
        .into_iter()
        .map(|mut pair| Ok((pair.required(ids.key)?, pair.required(ids.value)?)))
        .collect()
}

fn unreadable(file: &ManifestFile, error: impl Into<ReadError>) -> crate::error::Error {
    let error = ManifestError::Read {
        what: "manifest",
        object: file.path.clone(),
        source: Box::new(error.into()),
    };
    error.into()
}
