//! Writing manifest lists of v2 and v3.

use super::model::{FieldSummary, ManifestContent, ManifestFile};
use super::schema;
use crate::error::Result;
use crate::iceberg::avro::{AvroWriter, Record};
use crate::iceberg::manifest::{ManifestError, check_writable};

/// The list of a snapshot's manifests, before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestList {
    /// The format version of the table, 2 or 3.
    pub format_version: u8,
    /// The snapshot.
    pub snapshot_id: i64,
    /// The snapshot it follows.
    pub parent_snapshot_id: Option<i64>,
    /// The sequence number of the snapshot.
    pub sequence_number: i64,
    /// The table's `next-row-id` (v3).
    pub first_row_id: u64,
    /// The manifests, the newest first.
    pub manifests: Vec<ManifestFile>,
}

/// A list as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenManifestList {
    /// The bytes of the object.
    pub bytes: Vec<u8>,
    /// The manifests as a reader of the list sees them.
    pub manifests: Vec<ManifestFile>,
    /// How far the table's `next-row-id` moves on (v3).
    pub assigned_rows: u64,
}

impl ManifestList {
    /// Writes the list. Manifests that are new get the snapshot's sequence number and, in v3, their first row ids
    /// (Iceberg specification, "First Row ID Assignment"), as all do that come from an older version.
    ///
    /// # Errors
    ///
    /// `Invalid` if a manifest of another snapshot has no sequence number, or one of v1 has no counts: it has to be
    /// read and written again. `Unsupported` if the format version cannot be written.
    pub fn write(mut self) -> Result<WrittenManifestList> {
        check_writable(self.format_version)?;
        self.assign_sequence_numbers()?;
        let assigned_rows = if self.format_version >= 3 {
            self.assign_first_row_ids()?
        } else {
            0
        };
        let parent = self
            .parent_snapshot_id
            .map_or_else(|| "null".to_owned(), |id| id.to_string());
        let mut metadata = vec![
            ("snapshot-id", self.snapshot_id.to_string()),
            ("parent-snapshot-id", parent),
            ("sequence-number", self.sequence_number.to_string()),
            ("format-version", self.format_version.to_string()),
        ];
        if self.format_version >= 3 {
            metadata.push(("first-row-id", self.first_row_id.to_string()));
        }
        let unwritable = |source| ManifestError::Write {
            what: "manifest list",
            source,
        };
        let schema = schema::list_schema(self.format_version);
        let mut writer = AvroWriter::new(&schema, &metadata).map_err(unwritable)?;
        for manifest in &self.manifests {
            writer.push(record(manifest)?).map_err(unwritable)?;
        }
        Ok(WrittenManifestList {
            bytes: writer.finish(),
            manifests: self.manifests,
            assigned_rows,
        })
    }

    fn assign_sequence_numbers(&mut self) -> Result<(), ManifestError> {
        for manifest in &mut self.manifests {
            let is_new = manifest.added_snapshot_id == self.snapshot_id;
            let assigned = is_new.then_some(self.sequence_number);
            let number = manifest.sequence_number.or(assigned);
            if number.is_none() {
                return Err(ManifestError::SequenceNumber {
                    what: "manifest",
                    object: manifest.path.clone(),
                });
            }
            manifest.sequence_number = number;
            manifest.min_sequence_number = manifest.min_sequence_number.or(number);
        }
        Ok(())
    }

    /// Room is left for all live rows of a manifest, since some of its files may have ids and others not.
    fn assign_first_row_ids(&mut self) -> Result<u64, ManifestError> {
        const TOO_MANY: ManifestError = ManifestError::Number { what: "row ids" };
        let mut next = self.first_row_id;
        for manifest in &mut self.manifests {
            if manifest.first_row_id.is_some() || manifest.content != ManifestContent::Data {
                continue;
            }
            manifest.first_row_id = Some(i64::try_from(next).map_err(|_| TOO_MANY)?);
            let rows = known(manifest, manifest.added_rows_count)?
                .checked_add(known(manifest, manifest.existing_rows_count)?)
                .ok_or(TOO_MANY)?;
            next = next.checked_add(rows).ok_or(TOO_MANY)?;
        }
        i64::try_from(next).map_err(|_| TOO_MANY)?;
        Ok(next - self.first_row_id)
    }
}

fn record(manifest: &ManifestFile) -> Result<Record, ManifestError> {
    let mut record = Record::with_capacity(16);
    record.push(schema::PATH, manifest.path.clone());
    record.push(schema::LENGTH, signed(manifest.length, "bytes of a manifest")?);
    record.push(schema::SPEC_ID, manifest.partition_spec_id);
    record.push(schema::CONTENT, manifest.content.code());
    record.push(schema::SEQUENCE_NUMBER, manifest.sequence_number);
    record.push(schema::MIN_SEQUENCE_NUMBER, manifest.min_sequence_number);
    record.push(schema::ADDED_SNAPSHOT_ID, manifest.added_snapshot_id);
    for (field_id, files) in [
        (schema::ADDED_FILES, manifest.added_files_count),
        (schema::EXISTING_FILES, manifest.existing_files_count),
        (schema::DELETED_FILES, manifest.deleted_files_count),
    ] {
        record.push(field_id, signed(known(manifest, files)?.into(), "files of a manifest")?);
    }
    for (field_id, rows) in [
        (schema::ADDED_ROWS, manifest.added_rows_count),
        (schema::EXISTING_ROWS, manifest.existing_rows_count),
        (schema::DELETED_ROWS, manifest.deleted_rows_count),
    ] {
        record.push(field_id, signed(known(manifest, rows)?, "rows of a manifest")?);
    }
    let summaries = manifest.partitions.as_ref();
    record.push(
        schema::PARTITIONS,
        summaries.map(|summaries| summaries.iter().map(summary).collect::<Vec<_>>()),
    );
    record.push(schema::KEY_METADATA, manifest.key_metadata.clone());
    record.push(schema::FIRST_ROW_ID, manifest.first_row_id);
    Ok(record)
}

fn summary(summary: &FieldSummary) -> Record {
    let mut record = Record::with_capacity(4);
    record.push(schema::CONTAINS_NULL, summary.contains_null);
    record.push(schema::CONTAINS_NAN, summary.contains_nan);
    record.push(schema::LOWER_BOUND, summary.lower_bound.clone());
    record.push(schema::UPPER_BOUND, summary.upper_bound.clone());
    record
}

fn known<T>(manifest: &ManifestFile, count: Option<T>) -> Result<T, ManifestError> {
    count.ok_or_else(|| ManifestError::Counts {
        object: manifest.path.clone(),
    })
}

fn signed(number: u64, what: &'static str) -> Result<i64, ManifestError> {
    i64::try_from(number).map_err(|_| ManifestError::Number { what })
}
