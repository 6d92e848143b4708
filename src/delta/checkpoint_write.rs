//! Writes classic single-file checkpoints (Delta protocol, "Checkpoints", "V1 Spec"), which every reader
//! takes and every table may have.
//!
//! The files of the checkpoint before flow through batch by batch, those of the commits since then line by line: the
//! commits are read twice, first to see which action of a file is its newest. What is held in memory is what tells
//! that (`checkpoint_fold`), and the compressed checkpoint itself, which has to be put in one piece.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use object_store::path::Path;
use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use super::checkpoint::{file_objects, struct_column};
use super::checkpoint_fold::Fold;
use super::checkpoint_schema::{FILE_COLUMNS, array_of, checkpoint_schema};
use super::error::unsupported;
use super::hint;
use super::log::Log;
use super::parquet_stream::{ParquetStream, read_object};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Timestamp;

/// Rows written at once.
const BATCH_ROWS: usize = 4_096;
/// Rows of a row group.
const ROW_GROUP_ROWS: usize = 65_536;

/// Writes the checkpoint of `version`, unless there is one, and then the hint that names it.
pub(super) async fn write_checkpoint(log: &Log, version: u64, now: Timestamp) -> Result<()> {
    let Some(segment) = log.segment(Some(version)).await? else {
        return Err(Error::new(ErrorKind::Unavailable, "the log is not there"));
    };
    let gone = |commit: u64| {
        let message = format!("a commit went away while the log was read. version=`{commit}`");
        Error::new(ErrorKind::Unavailable, message)
    };
    let mut fold = Fold::default();
    let mut objects = Vec::new();
    if let Some((checkpoint, state)) = segment.checkpoint {
        if checkpoint.version == version {
            return Ok(());
        }
        objects = file_objects(log.store(), &log.dir(), &checkpoint, &state).await?;
        for action in state.actions {
            fold.apply(checkpoint.version, action);
        }
    }
    for (commit, _) in &segment.commits {
        let each = log.each_action(*commit, |action| {
            fold.apply(*commit, action);
            Ok(())
        });
        each.await?.ok_or_else(|| gone(*commit))?;
    }
    fold.check_protection(version)?;
    fold.expire(now)?;

    let mut writer = Writer::new()?;
    for row in fold.state_rows() {
        writer.write_row(row)?;
    }
    for object in objects {
        let mut stream = ParquetStream::open(log.store().clone(), object.clone(), &FILE_COLUMNS).await?;
        if stream.has_column("add.stats_parsed") && !stream.has_column("add.stats") {
            return Err(unsupported(format!(
                "statistics of the checkpoint before are not kept as JSON. object=`{}`",
                object.location
            )));
        }
        while let Some(batch) = stream.next().await? {
            for batch in fold.surviving(&batch, &object)? {
                writer.write(&batch)?;
            }
        }
    }
    for (commit, _) in &segment.commits {
        let each = log.each_action(*commit, |action| {
            let row = fold.newest_row(*commit, action);
            row.map_or(Ok(()), |row| writer.write_row(row))
        });
        each.await?.ok_or_else(|| gone(*commit))?;
    }
    publish(log, version, writer.finish()?).await
}

/// A checkpoint in the making.
struct Writer {
    parquet: ArrowWriter<Vec<u8>>,
    schema: SchemaRef,
    /// Rows that are still to be written.
    rows: Vec<Value>,
    actions: u64,
    adds: u64,
}

/// A finished checkpoint.
struct Finished {
    bytes: Vec<u8>,
    actions: u64,
    adds: u64,
}

fn write_failed(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Internal, "checkpoint cannot be encoded").with_source(source)
}

impl Writer {
    fn new() -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(compression())
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        // Readers are to see the types of the protocol, not Arrow's.
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true);
        let schema = checkpoint_schema();
        let parquet = ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), options).map_err(write_failed)?;
        Ok(Self {
            parquet,
            schema,
            rows: Vec::new(),
            actions: 0,
            adds: 0,
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let count = |rows: usize| u64::try_from(rows).unwrap_or(u64::MAX);
        self.actions += count(batch.num_rows());
        self.adds += struct_column(batch, "add").map_or(0, |adds| count(adds.len() - adds.null_count()));
        self.parquet.write(batch).map_err(write_failed)
    }

    fn write_row(&mut self, row: Value) -> Result<()> {
        self.rows.push(row);
        if self.rows.len() < BATCH_ROWS {
            Ok(())
        } else {
            self.write_rows()
        }
    }

    fn write_rows(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let columns = self.schema.fields().iter().map(|field| {
            let values: Vec<_> = rows
                .iter()
                .map(|row| row.get(field.name()).unwrap_or(&Value::Null))
                .collect();
            array_of(&values, field.data_type())
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>().map_err(write_failed)?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(write_failed)?;
        self.write(&batch)
    }

    fn finish(mut self) -> Result<Finished> {
        self.write_rows()?;
        Ok(Finished {
            bytes: self.parquet.into_inner().map_err(write_failed)?,
            actions: self.actions,
            adds: self.adds,
        })
    }
}

/// The first codec that this build has, by how many readers know it.
fn compression() -> Compression {
    if cfg!(feature = "snap") {
        Compression::SNAPPY
    } else if cfg!(feature = "zstd") {
        Compression::ZSTD(parquet::basic::ZstdLevel::default())
    } else {
        Compression::UNCOMPRESSED
    }
}

/// Puts a checkpoint where there is none, looks whether it is there, and only then names it in the hint:
/// readers fail on a hint that dangles.
async fn publish(log: &Log, version: u64, checkpoint: Finished) -> Result<()> {
    let path = log.dir().join(format!("{version:020}.checkpoint.parquet"));
    let size = u64::try_from(checkpoint.bytes.len()).unwrap_or(u64::MAX);
    let put = PutOptions::from(PutMode::Create);
    match log
        .store()
        .put_opts(&path, PutPayload::from(checkpoint.bytes), put)
        .await
    {
        Ok(_) => {}
        // Somebody else's, who names it too.
        Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => return Ok(()),
        Err(e) => return Err(Error::from_store("put", &path, e)),
    }
    let found = log
        .store()
        .head(&path)
        .await
        .map_err(|e| Error::from_store("head", &path, e))?;
    if found.size != size {
        return Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "checkpoint is not what was put. object=`{path}` size=`{}` put=`{size}`",
                found.size
            ),
        ));
    }
    let text = hint::encode_hint(version, checkpoint.actions, size, checkpoint.adds);
    name_checkpoint(log.store(), &log.dir().join(hint::NAME), version, text).await
}

/// Writes the hint, unless it names the same version or a later one.
async fn name_checkpoint(store: &Arc<dyn ObjectStore>, path: &Path, version: u64, text: String) -> Result<()> {
    let mode = match read_object(store, path).await? {
        None => PutMode::Create,
        Some((bytes, _)) if hint::parse_hint(&bytes) >= Some(version) => return Ok(()),
        Some((_, meta)) => PutMode::Update(UpdateVersion {
            e_tag: meta.e_tag,
            version: meta.version,
        }),
    };
    let put = |mode: PutMode| {
        let payload = PutPayload::from(text.clone().into_bytes());
        store.put_opts(path, payload, PutOptions::from(mode))
    };
    let mut written = put(mode).await;
    if let Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) = written {
        // No compare-and-swap there: at worst an older hint wins, and a reader lists a little more.
        written = put(PutMode::Overwrite).await;
    }
    match written {
        Ok(_) | Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(()),
        Err(e) => Err(Error::from_store("put", path, e)),
    }
}
