//! What a new checkpoint has of the one before and of the commits since then (Delta protocol, "Action Reconciliation").

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StructArray, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use object_store::ObjectMeta;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::action::{Action, Add, DeletionVector, DomainMetadata, Metadata, Protocol, Remove, Txn, decode_path};
use super::checkpoint::{struct_column, value_of};
use super::checkpoint_schema::{checkpoint_schema, conform};
use super::error::unsupported;
use super::marker::PREFIX;
use super::options::parse_interval_ms;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Timestamp;

/// Tombstones are kept this long where no property says otherwise: a week.
const DEFAULT_TOMBSTONE_RETENTION_MS: u64 = 7 * 86_400_000;

/// The state of a table as a checkpoint keeps it, but for its files.
#[derive(Debug, Default)]
pub(super) struct Fold {
    protocol: Option<Protocol>,
    metadata: Option<Metadata>,
    txns: BTreeMap<String, Txn>,
    domains: BTreeMap<String, DomainMetadata>,
    /// Files that the commits name. All of them, also those whose tombstones have expired: the checkpoint before may
    /// have them still.
    files: BTreeMap<FileKey, Newest>,
    /// Tombstones that are older are dropped; `None` keeps all.
    tombstones_after: Option<i64>,
}

/// Of path and deletion vector, which tell one logical file from another: a digest, since there may be many.
type FileKey = [u8; 16];

/// The newest action of a file.
#[derive(Debug)]
struct Newest {
    commit: u64,
    is_live: bool,
    is_written: bool,
}

fn key_of(path: &str, vector: Option<&DeletionVector>) -> FileKey {
    let mut digest = Sha256::new();
    digest.update(decode_path(path));
    if let Some(vector) = vector {
        digest.update([0]);
        digest.update(vector.unique_id());
    }
    let mut key = FileKey::default();
    key.iter_mut().zip(digest.finalize()).for_each(|(to, from)| *to = from);
    key
}

impl Fold {
    /// Takes in an action of a commit, all of them in order.
    pub(super) fn apply(&mut self, commit: u64, action: Action) {
        let newest = |is_live: bool| Newest {
            commit,
            is_live,
            is_written: false,
        };
        match action {
            Action::Add(add) => {
                let key = key_of(&add.path, add.deletion_vector.as_ref());
                self.files.insert(key, newest(true));
            }
            Action::Remove(remove) => {
                let key = key_of(&remove.path, remove.deletion_vector.as_ref());
                // Removes come first, wherever they stand: a commit may describe a file anew.
                let is_added = |known: &Newest| known.commit == commit && known.is_live;
                if !self.files.get(&key).is_some_and(is_added) {
                    self.files.insert(key, newest(false));
                }
            }
            Action::MetaData(metadata) => self.metadata = Some(metadata),
            Action::Protocol(protocol) => self.protocol = Some(protocol),
            Action::Txn(txn) => {
                self.txns.insert(txn.app_id.clone(), txn);
            }
            Action::DomainMetadata(domain) if domain.removed => {
                self.domains.remove(&domain.domain);
            }
            Action::DomainMetadata(domain) => {
                self.domains.insert(domain.domain.clone(), domain);
            }
            Action::CommitInfo(_) => {}
        }
    }

    /// The row of a file's action, if that is its newest and to be kept.
    pub(super) fn newest_row(&mut self, commit: u64, action: Action) -> Option<Value> {
        let after = self.tombstones_after;
        let mut is_newest = |key: FileKey, is_live: bool| {
            let newest = self.files.get_mut(&key);
            let newest = newest.filter(|n| n.commit == commit && n.is_live == is_live && !n.is_written);
            newest.map(|newest| newest.is_written = true).is_some()
        };
        match action {
            Action::Add(add) if is_newest(key_of(&add.path, add.deletion_vector.as_ref()), true) => {
                let data_change = false;
                Some(json!({ "add": Add { data_change, ..add } }))
            }
            Action::Remove(remove)
                if kept(after, remove.deletion_timestamp)
                    && is_newest(key_of(&remove.path, remove.deletion_vector.as_ref()), false) =>
            {
                let data_change = false;
                Some(json!({ "remove": Remove { data_change, ..remove } }))
            }
            _ => None,
        }
    }

    /// The rows of all that is not a file.
    pub(super) fn state_rows(&self) -> impl Iterator<Item = Value> + '_ {
        let protocol = self.protocol.iter().map(|protocol| json!({ "protocol": protocol }));
        let metadata = self.metadata.iter().map(|metadata| json!({ "metaData": metadata }));
        let txns = self.txns.values().map(|txn| json!({ "txn": txn }));
        let domains = self.domains.values().map(|domain| json!({ "domainMetadata": domain }));
        protocol.chain(metadata).chain(txns).chain(domains)
    }

    /// That no checkpoint is made of a version before those for which only who knows all older features may make them
    /// (Delta protocol, "Checkpoint Protection").
    pub(super) fn check_protection(&self, version: u64) -> Result<()> {
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
    pub(super) fn expire(&mut self, now: Timestamp) -> Result<()> {
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
        Ok(())
    }

    /// The rows of the checkpoint before that no commit since then has touched.
    pub(super) fn surviving(&self, batch: &RecordBatch, object: &ObjectMeta) -> Result<Vec<RecordBatch>> {
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
}

/// Whether a tombstone is young enough; one without a time is not.
fn kept(after: Option<i64>, deleted: Option<i64>) -> bool {
    after.is_none_or(|after| deleted.unwrap_or(0) > after)
}
