//! Writing manifests of v2 and v3.

use std::collections::BTreeMap;

use super::error::ManifestError;
use super::model::{EntryStatus, FileContent, ManifestDataFile, ManifestEntry};
use super::schema::{self, MapIds};
use crate::error::Result;
use crate::iceberg::avro::{AvroError, AvroWriter, Record, Value};
use crate::iceberg::datum::Datum;
use crate::iceberg::manifest_list::{ManifestContent, ManifestFile, SummaryBuilder};
use crate::iceberg::partition_column::PartitionColumn;

/// What all entries of a manifest have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHeader {
    /// The format version of the table, 2 or 3.
    pub format_version: u8,
    /// The snapshot that adds the manifest.
    pub snapshot_id: i64,
    /// The table's current schema, as JSON.
    pub schema: String,
    /// The id of that schema.
    pub schema_id: i32,
    /// The fields of the partition spec, as a JSON array.
    pub partition_spec: String,
    /// The id of that spec.
    pub partition_spec_id: i32,
    /// The fields of that spec, in its order.
    pub columns: Vec<PartitionColumn>,
}

/// A manifest of data files under construction.
///
/// Entries are encoded and compressed as they come; the file is held in memory until [`finish`](Self::finish).
/// After an error it is of no use.
#[derive(Debug)]
pub struct ManifestWriter {
    header: ManifestHeader,
    avro: AvroWriter,
    summaries: Vec<SummaryBuilder>,
    added: Count,
    existing: Count,
    deleted: Count,
    min_sequence_number: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    files: u32,
    rows: u64,
}

impl ManifestWriter {
    /// Starts a manifest.
    ///
    /// # Errors
    ///
    /// `Unsupported` if the format version cannot be written.
    pub fn new(header: ManifestHeader) -> Result<Self> {
        check_writable(header.format_version)?;
        let metadata = [
            ("schema", header.schema.clone()),
            ("schema-id", header.schema_id.to_string()),
            ("partition-spec", header.partition_spec.clone()),
            ("partition-spec-id", header.partition_spec_id.to_string()),
            ("format-version", header.format_version.to_string()),
            ("content", "data".to_owned()),
        ];
        let schema = schema::entry_schema(header.format_version, &header.columns);
        Ok(Self {
            avro: AvroWriter::new(&schema, &metadata).map_err(unwritable)?,
            summaries: header.columns.iter().map(|_| SummaryBuilder::default()).collect(),
            header,
            added: Count::default(),
            existing: Count::default(),
            deleted: Count::default(),
            min_sequence_number: None,
        })
    }

    /// Adds a file that this snapshot adds. Its sequence numbers and first row id are those that the manifest gets
    /// in a list, so that the manifest stays as it is when the commit is tried again.
    ///
    /// # Errors
    ///
    /// `Invalid` if the partition does not fit the spec, or the file is one of deletes.
    pub fn add(&mut self, file: ManifestDataFile) -> Result<()> {
        self.write(ManifestEntry {
            status: EntryStatus::Added,
            snapshot_id: self.header.snapshot_id,
            sequence_number: None,
            file_sequence_number: None,
            data_file: ManifestDataFile {
                first_row_id: None,
                ..file
            },
        })
    }

    /// Adds a file that this snapshot adds, as part of the table since `sequence_number`: deletes of later ones
    /// apply to its rows.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub fn add_since(&mut self, file: ManifestDataFile, sequence_number: i64) -> Result<()> {
        self.write(ManifestEntry {
            status: EntryStatus::Added,
            snapshot_id: self.header.snapshot_id,
            sequence_number: Some(sequence_number),
            file_sequence_number: None,
            data_file: ManifestDataFile {
                first_row_id: None,
                ..file
            },
        })
    }

    /// Adds a file that is already in the table, as it was read.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add); `Invalid` also if the entry has no sequence numbers.
    pub fn existing(&mut self, entry: ManifestEntry) -> Result<()> {
        self.write(ManifestEntry {
            status: EntryStatus::Existing,
            ..entry
        })
    }

    /// Adds a file that this snapshot removes, as it was read.
    ///
    /// # Errors
    ///
    /// As [`existing`](Self::existing).
    pub fn delete(&mut self, entry: ManifestEntry) -> Result<()> {
        self.write(ManifestEntry {
            status: EntryStatus::Deleted,
            snapshot_id: self.header.snapshot_id,
            ..entry
        })
    }

    /// How many entries it has.
    pub fn entries(&self) -> u64 {
        [self.added, self.existing, self.deleted]
            .iter()
            .map(|count| u64::from(count.files))
            .sum()
    }

    /// About how many bytes it has.
    pub fn size(&self) -> usize {
        self.avro.len()
    }

    /// The bytes of the manifest, and its description for a list once it lies at `path`.
    pub fn finish(self, path: String) -> (Vec<u8>, ManifestFile) {
        let bytes = self.avro.finish();
        let summaries = self.summaries.into_iter().zip(&self.header.columns);
        let file = ManifestFile {
            path,
            length: bytes.len().try_into().unwrap_or(u64::MAX),
            partition_spec_id: self.header.partition_spec_id,
            content: ManifestContent::Data,
            sequence_number: None,
            min_sequence_number: self.min_sequence_number,
            added_snapshot_id: self.header.snapshot_id,
            added_files_count: Some(self.added.files),
            existing_files_count: Some(self.existing.files),
            deleted_files_count: Some(self.deleted.files),
            added_rows_count: Some(self.added.rows),
            existing_rows_count: Some(self.existing.rows),
            deleted_rows_count: Some(self.deleted.rows),
            partitions: Some(summaries.map(|(summary, column)| summary.build(column)).collect()),
            key_metadata: None,
            first_row_id: None,
        };
        (bytes, file)
    }

    fn write(&mut self, entry: ManifestEntry) -> Result<()> {
        Ok(self.try_write(entry)?)
    }

    fn try_write(&mut self, entry: ManifestEntry) -> Result<(), ManifestError> {
        const TOO_MANY: ManifestError = ManifestError::Number { what: "its entries" };
        let has_numbers = entry.sequence_number.is_some() && entry.file_sequence_number.is_some();
        let is_new = entry.status == EntryStatus::Added && entry.snapshot_id == self.header.snapshot_id;
        if !has_numbers && !is_new {
            return Err(ManifestError::SequenceNumber {
                what: "file",
                object: entry.data_file.file_path,
            });
        }
        let count = match entry.status {
            EntryStatus::Added => &mut self.added,
            EntryStatus::Existing => &mut self.existing,
            EntryStatus::Deleted => &mut self.deleted,
        };
        count.files = count.files.checked_add(1).ok_or(TOO_MANY)?;
        count.rows = count.rows.checked_add(entry.data_file.record_count).ok_or(TOO_MANY)?;
        if entry.status != EntryStatus::Deleted
            && let Some(number) = entry.sequence_number
        {
            self.min_sequence_number = Some(self.min_sequence_number.map_or(number, |least| least.min(number)));
        }
        let mut record = Record::with_capacity(5);
        record.push(schema::STATUS, entry.status.code());
        record.push(schema::SNAPSHOT_ID, entry.snapshot_id);
        record.push(schema::SEQUENCE_NUMBER, entry.sequence_number);
        record.push(schema::FILE_SEQUENCE_NUMBER, entry.file_sequence_number);
        record.push(schema::DATA_FILE, self.data_file(entry.data_file)?);
        self.avro.push(record).map_err(unwritable)
    }

    fn data_file(&mut self, file: ManifestDataFile) -> Result<Record, ManifestError> {
        if file.content != FileContent::Data {
            return Err(ManifestError::Content {
                content: file.content.code(),
            });
        }
        let partition = self.partition(&file.partition)?;
        let mut record = Record::with_capacity(20);
        record.push(schema::CONTENT, file.content.code());
        record.push(schema::FILE_PATH, file.file_path);
        record.push(schema::FILE_FORMAT, file.file_format);
        record.push(schema::PARTITION, partition);
        record.push(schema::RECORD_COUNT, signed(file.record_count, "rows of a file")?);
        record.push(schema::FILE_SIZE, signed(file.file_size, "bytes of a file")?);
        record.push(schema::COLUMN_SIZES.map, map(file.column_sizes, schema::COLUMN_SIZES));
        record.push(schema::VALUE_COUNTS.map, map(file.value_counts, schema::VALUE_COUNTS));
        record.push(
            schema::NULL_VALUE_COUNTS.map,
            map(file.null_value_counts, schema::NULL_VALUE_COUNTS),
        );
        record.push(
            schema::NAN_VALUE_COUNTS.map,
            map(file.nan_value_counts, schema::NAN_VALUE_COUNTS),
        );
        record.push(schema::LOWER_BOUNDS.map, map(file.lower_bounds, schema::LOWER_BOUNDS));
        record.push(schema::UPPER_BOUNDS.map, map(file.upper_bounds, schema::UPPER_BOUNDS));
        record.push(schema::KEY_METADATA, file.key_metadata);
        let split_offsets = Some(file.split_offsets).filter(|offsets| !offsets.is_empty());
        record.push(schema::SPLIT_OFFSETS, split_offsets);
        record.push(schema::SORT_ORDER_ID, file.sort_order_id);
        record.push(schema::FIRST_ROW_ID, file.first_row_id);
        Ok(record)
    }

    fn partition(&mut self, values: &[Option<Datum>]) -> Result<Record, ManifestError> {
        let columns = &self.header.columns;
        if values.len() != columns.len() {
            return Err(ManifestError::PartitionLength {
                values: values.len(),
                columns: columns.len(),
                spec_id: self.header.partition_spec_id,
            });
        }
        let mut record = Record::with_capacity(columns.len());
        for ((column, value), summary) in columns.iter().zip(values).zip(&mut self.summaries) {
            let avro = value.as_ref().map(|value| {
                column.value(value).ok_or(ManifestError::Partition {
                    field_id: column.field_id,
                    spec_id: self.header.partition_spec_id,
                })
            });
            record.push(column.field_id, avro.transpose()?);
            summary.add(value.as_ref());
        }
        Ok(record)
    }
}

/// Refuses format versions that are not written.
pub(in crate::iceberg) fn check_writable(format_version: u8) -> Result<(), ManifestError> {
    match format_version {
        2 | 3 => Ok(()),
        _ => Err(ManifestError::FormatVersion { format_version }),
    }
}

/// A map of metrics; null if it is empty, as unknown metrics are.
fn map<V: Into<Value>>(values: BTreeMap<i32, V>, ids: MapIds) -> Option<Vec<Record>> {
    let pairs = values.into_iter().map(|(key, value)| {
        let mut pair = Record::with_capacity(2);
        pair.push(ids.key, key);
        pair.push(ids.value, value);
        pair
    });
    Some(pairs.collect::<Vec<_>>()).filter(|pairs| !pairs.is_empty())
}

fn signed(number: u64, what: &'static str) -> Result<i64, ManifestError> {
    i64::try_from(number).map_err(|_| ManifestError::Number { what })
}

fn unwritable(source: AvroError) -> ManifestError {
    ManifestError::Write {
        what: "manifest",
        source,
    }
}
