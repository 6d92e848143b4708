//! Writes classic single-file checkpoints (Delta protocol, "Checkpoints", "V1 Spec"), which every reader
//! takes and every table may have.
//!
//! The files of the checkpoint before flow through batch by batch. What is held in memory are the actions
//! of the commits since then, and the compressed checkpoint itself, which has to be put in one piece.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StructArray, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, SchemaRef};
use object_store::path::Path;
use object_store::{
    Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use super::action::{Action, Add, DeletionVector, DomainMetadata, Metadata, Protocol, Remove, Txn, decode_path};
use super::checkpoint::{file_objects, struct_column, value_of};
use super::checkpoint_schema::{FILE_COLUMNS, array_of, checkpoint_schema, conform};
use super::error::unsupported;
use super::hint;
use super::log::Log;
use super::marker::PREFIX;
use super::options::parse_interval_ms;
use super::parquet_stream::{ParquetStream, read_object};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Timestamp;

/// Tombstones are kept this long where no property says otherwise: a week.
const DEFAULT_TOMBSTONE_RETENTION_MS: u64 = 7 * 86_400_000;
/// Rows written at once.
const BATCH_ROWS: usize = 4_096;
/// Rows of a row group.
const ROW_GROUP_ROWS: usize = 65_536;

/// Writes the checkpoint of `version`, unless there is one, and then the hint that names it.
pub(super) async fn write_checkpoint(log: &Log, version: u64, now: Timestamp) -> Result<()> {
    let Some(segment) = log.segment(Some(version)).await? else {
        return Err(Error::new(ErrorKind::Unavailable, "the log is not there"));
    };
    let mut fold = Fold::default();
    let mut objects = Vec::new();
    if let Some((checkpoint, state)) = &segment.checkpoint {
        if checkpoint.version == version {
            return Ok(());
        }
        state.actions.iter().for_each(|action| fold.apply(action));
        objects = file_objects(log.store(), &log.dir(), checkpoint, state).await?;
    }
    for (commit, _) in &segment.commits {
        let Some(actions) = log.commit(*commit).await? else {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("a commit went away while the log was read. version=`{commit}`"),
            ));
        };
        // Removes first: a commit may move a file to another deletion vector.
        let (removes, others): (Vec<_>, Vec<_>) = actions.iter().partition(|a| matches!(a, Action::Remove(_)));
        removes.into_iter().chain(others).for_each(|action| fold.apply(action));
    }
    fold.check_protection(version)?;
    fold.expire(now)?;

    let mut writer = Writer::new()?;
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
    let mut rows = fold.into_rows().peekable();
    while rows.peek().is_some() {
        let chunk: Vec<Value> = rows.by_ref().take(BATCH_ROWS).collect();
        writer.write_rows(&chunk)?;
    }
    publish(log, version, writer.finish()?).await
}

/// The state of a table as a checkpoint keeps it, but for the files of the checkpoint before.
#[derive(Debug, Default)]
struct Fold {
    protocol: Option<Protocol>,
    metadata: Option<Metadata>,
    txns: BTreeMap<String, Txn>,
    domains: BTreeMap<String, DomainMetadata>,
    files: BTreeMap<FileKey, FileState>,
    /// Tombstones that are older are dropped; `None` keeps all.
    tombstones_after: Option<i64>,
}

/// Path and deletion vector: what tells one logical file from another.
type FileKey = (String, Option<String>);

#[derive(Debug)]
enum FileState {
    Live(Add),
    Tombstone(Remove),
}

fn key_of(path: &str, vector: Option<&DeletionVector>) -> FileKey {
    (decode_path(path), vector.map(DeletionVector::unique_id))
}

impl Fold {
    fn apply(&mut self, action: &Action) {
        match action {
            Action::Add(add) => {
                let add = Add {
                    data_change: false,
                    ..add.clone()
                };
                let key = key_of(&add.path, add.deletion_vector.as_ref());
                self.files.insert(key, FileState::Live(add));
            }
            Action::Remove(remove) => {
                let remove = Remove {
                    data_change: false,
                    ..remove.clone()
                };
                let key = key_of(&remove.path, remove.deletion_vector.as_ref());
                self.files.insert(key, FileState::Tombstone(remove));
            }
            Action::MetaData(metadata) => self.metadata = Some(metadata.clone()),
            Action::Protocol(protocol) => self.protocol = Some(protocol.clone()),
            Action::Txn(txn) => {
                self.txns.insert(txn.app_id.clone(), txn.clone());
            }
            Action::DomainMetadata(domain) if domain.removed => {
                self.domains.remove(&domain.domain);
            }
            Action::DomainMetadata(domain) => {
                self.domains.insert(domain.domain.clone(), domain.clone());
            }
            Action::CommitInfo(_) => {}
        }
    }

    /// That no checkpoint is made of a version before those for which only who knows all older features may make them
    /// (Delta protocol, "Checkpoint Protection").
    fn check_protection(&self, version: u64) -> Result<()> {
        let metadata = self.metadata.as_ref();
        let protected = metadata.and_then(|table| {
            table
                .configuration
                .get("delta.requireCheckpointProtectionBeforeVersion")
        });
        let protected = protected.and_then(|before| before.trim().parse::<u64>().ok());
        match protected.filter(|before| version < *before) {
            Some(before) => Err(unsupported(format!(
                "checkpoints before version {before} are protected"
            ))),
            None => Ok(()),
        }
    }

    /// Drops what need not be kept any more, and refuses what has to be kept in another form.
    fn expire(&mut self, now: Timestamp) -> Result<()> {
        let Some(metadata) = &self.metadata else {
            return Err(Error::new(ErrorKind::Invalid, "the log holds no metaData"));
        };
        let property = |key: &str| metadata.configuration.get(key);
        let is = |key, value: &str| property(key).is_some_and(|found| found.eq_ignore_ascii_case(value));
        if is("delta.checkpoint.writeStatsAsStruct", "true") || is("delta.checkpoint.writeStatsAsJson", "false") {
            return Err(unsupported("the table wants statistics as structs in its checkpoints"));
        }
        let before = |millis: u64| (now - millis).as_millis();
        let retention = match property("delta.deletedFileRetentionDuration") {
            Some(text) => parse_interval_ms(text),
            None => Some(DEFAULT_TOMBSTONE_RETENTION_MS),
        };
        self.tombstones_after = retention.map(before);
        let txns_after = property("delta.setTransactionRetentionDuration").and_then(|text| parse_interval_ms(text));
        if let Some(after) = txns_after.map(before) {
            // A lane's marker is for ever; one without a time never expires.
            self.txns.retain(|app_id, txn| {
                app_id.starts_with(PREFIX) || txn.last_updated.is_none_or(|updated| updated > after)
            });
        }
        let after = self.tombstones_after;
        self.files.retain(|_, file| match file {
            FileState::Live(_) => true,
            FileState::Tombstone(remove) => kept(after, remove.deletion_timestamp),
        });
        Ok(())
    }

    /// The rows of the checkpoint before that no commit since then has touched.
    fn surviving(&self, batch: &RecordBatch, object: &ObjectMeta) -> Result<Vec<RecordBatch>> {
        let schema = checkpoint_schema();
        let mut batches = Vec::new();
        for name in ["add", "remove"] {
            let Some(actions) = struct_column(batch, name) else {
                continue;
            };
            let keep = self.survivors(actions, name == "remove");
            let failed = |e: arrow::error::ArrowError| {
                let message = format!("checkpoint cannot be carried on. object=`{}`", object.location);
                Error::new(ErrorKind::Invalid, message).with_source(e)
            };
            let columns: Result<Vec<ArrayRef>, _> = schema
                .fields()
                .iter()
                .map(|field| {
                    if field.name() == name {
                        conform(&(Arc::new(actions.clone()) as ArrayRef), field.data_type())
                    } else {
                        Ok(new_null_array(field.data_type(), actions.len()))
                    }
                })
                .collect();
            let rows = RecordBatch::try_new(schema.clone(), columns.map_err(failed)?).map_err(failed)?;
            batches.push(filter_record_batch(&rows, &keep).map_err(failed)?);
        }
        Ok(batches)
    }

    fn survivors(&self, actions: &StructArray, tombstones: bool) -> BooleanArray {
        let paths = actions.column_by_name("path").and_then(|c| c.as_string_opt::<i32>());
        let vectors = actions.column_by_name("deletionVector");
        let deleted = actions
            .column_by_name("deletionTimestamp")
            .and_then(|c| c.as_primitive_opt::<Int64Type>());
        (0..actions.len())
            .map(|row| {
                let path = paths.filter(|paths| actions.is_valid(row) && paths.is_valid(row));
                let Some(path) = path.map(|paths| paths.value(row)) else {
                    return Some(false);
                };
                let vector = vectors.map(|vectors| value_of(vectors, row));
                let vector = vector.and_then(|value| serde_json::from_value::<Option<DeletionVector>>(value).ok()?);
                let deleted = deleted.and_then(|times| times.is_valid(row).then(|| times.value(row)));
                let expired = tombstones && !kept(self.tombstones_after, deleted);
                Some(!expired && !self.files.contains_key(&key_of(path, vector.as_ref())))
            })
            .collect()
    }

    fn into_rows(self) -> impl Iterator<Item = Value> {
        let one = |name: &'static str, value: Value| json!({ name: value });
        let files = self.files.into_values().map(move |file| match file {
            FileState::Live(add) => one("add", json!(add)),
            FileState::Tombstone(remove) => one("remove", json!(remove)),
        });
        self.protocol
            .map(|protocol| one("protocol", json!(protocol)))
            .into_iter()
            .chain(self.metadata.map(|metadata| one("metaData", json!(metadata))))
            .chain(self.txns.into_values().map(move |txn| one("txn", json!(txn))))
            .chain(
                self.domains
                    .into_values()
                    .map(move |domain| one("domainMetadata", json!(domain))),
            )
            .chain(files)
    }
}

/// Whether a tombstone is young enough; one without a time is not.
fn kept(after: Option<i64>, deleted: Option<i64>) -> bool {
    after.is_none_or(|after| deleted.unwrap_or(0) > after)
}

/// A checkpoint in the making.
struct Writer {
    parquet: ArrowWriter<Vec<u8>>,
    schema: SchemaRef,
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

    fn write_rows(&mut self, rows: &[Value]) -> Result<()> {
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

    fn finish(self) -> Result<Finished> {
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
