//! Iceberg's log: numbered metadata files, and Avro below them, read without a schema of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apache_avro::types::Value as Avro;
use firnline::TableProvider;
use firnline::iceberg::{IcebergOptions, IcebergTables};
use firnline::object_store::path::Path;
use serde_json::{Value, json};

use super::{Entry, Store, TakeOut, list, read, write};

/// The least that a manifest of another writer needs, in format version 2.
const MANIFEST: &str = r#"{"type":"record","name":"manifest_entry","fields":[
    {"name":"status","type":"int","field-id":0},
    {"name":"snapshot_id","type":["null","long"],"default":null,"field-id":1},
    {"name":"sequence_number","type":["null","long"],"default":null,"field-id":3},
    {"name":"file_sequence_number","type":["null","long"],"default":null,"field-id":4},
    {"name":"data_file","field-id":2,"type":{"type":"record","name":"r2","fields":[
        {"name":"content","type":"int","field-id":134},
        {"name":"file_path","type":"string","field-id":100},
        {"name":"file_format","type":"string","field-id":101},
        {"name":"partition","field-id":102,"type":{"type":"record","name":"r102","fields":[]}},
        {"name":"record_count","type":"long","field-id":103},
        {"name":"file_size_in_bytes","type":"long","field-id":104}]}}]}"#;

pub(super) fn tables(url: &str, store: &Store) -> Arc<dyn TableProvider> {
    let store = Arc::clone(store);
    Arc::new(IcebergTables::new(
        url,
        store,
        Path::default(),
        IcebergOptions::default(),
    ))
}

/// The metadata files, oldest first.
fn numbered(store: &Store, namespace: &str) -> Vec<Path> {
    let there: BTreeSet<Path> = list(store, &Path::from(format!("{namespace}/metadata")))
        .into_iter()
        .collect();
    (1..=there.len())
        .map(|version| Path::from(format!("{namespace}/metadata/v{version}.metadata.json")))
        .take_while(|path| there.contains(path))
        .collect()
}

/// The versions of the metadata, oldest first.
fn versions(store: &Store, namespace: &str) -> Vec<(String, Value)> {
    let parsed = |path: Path| (path.to_string(), serde_json::from_slice(&read(store, &path)).unwrap());
    numbered(store, namespace).into_iter().map(parsed).collect()
}

/// The newest version and its number.
fn newest(store: &Store, namespace: &str) -> Option<(usize, Value)> {
    let all = numbered(store, namespace);
    let path = all.last()?;
    Some((all.len(), serde_json::from_slice(&read(store, path)).unwrap()))
}

pub(super) fn entries(store: &Store, namespace: &str) -> Vec<Entry> {
    let versions = versions(store, namespace);
    let before = std::iter::once(&Value::Null).chain(versions.iter().map(|(_, metadata)| metadata));
    let entries = versions.iter().zip(before);
    entries
        .flat_map(|((commit, metadata), before)| entries_in(commit, metadata, before))
        .collect()
}

/// The entries that a version makes, after the one `before`.
pub(crate) fn entries_in(commit: &str, metadata: &Value, before: &Value) -> Vec<Entry> {
    let properties = metadata["properties"].as_object().unwrap();
    let entries = properties.iter().filter_map(|(key, value)| {
        let lane = key.strip_prefix("firnline.lane.")?;
        if before["properties"].get(key) == Some(value) {
            return None;
        }
        let parts: Vec<&str> = value.as_str().unwrap().split(':').collect();
        Some(Entry {
            lane: lane.to_owned(),
            seq: parts[0].parse().unwrap(),
            void: parts[1] == "void",
            commit: commit.to_owned(),
        })
    });
    entries.collect()
}

/// The store's path of a URI of the table.
fn path_of(namespace: &str, metadata: &Value, uri: &str) -> Path {
    let location = metadata["location"].as_str().unwrap();
    let below = uri.strip_prefix(location).unwrap();
    Path::from(format!("{namespace}{below}"))
}

fn avro(store: &Store, path: &Path) -> Vec<BTreeMap<String, Avro>> {
    let bytes = read(store, path);
    let reader = apache_avro::Reader::new(bytes.as_ref()).unwrap();
    reader.map(|record| fields(record.unwrap())).collect()
}

fn fields(value: Avro) -> BTreeMap<String, Avro> {
    match value {
        Avro::Record(fields) => fields.into_iter().collect(),
        other => panic!("not a record: {other:?}"),
    }
}

fn text(value: &Avro) -> &str {
    match value {
        Avro::String(text) => text,
        other => panic!("not a string: {other:?}"),
    }
}

fn int(value: &Avro) -> i64 {
    match value {
        Avro::Int(number) => i64::from(*number),
        Avro::Long(number) => *number,
        other => panic!("not a number: {other:?}"),
    }
}

/// Status and path of all files in the manifests of a snapshot.
fn files(store: &Store, namespace: &str, metadata: &Value, snapshot: &Value) -> Vec<(i64, Path)> {
    let list = path_of(namespace, metadata, snapshot["manifest-list"].as_str().unwrap());
    let mut files = Vec::new();
    for manifest in avro(store, &list) {
        let path = path_of(namespace, metadata, text(&manifest["manifest_path"]));
        files.extend(entries_of(store, namespace, metadata, &path));
    }
    files
}

/// Status and path of all files in a manifest.
fn entries_of(store: &Store, namespace: &str, metadata: &Value, manifest: &Path) -> Vec<(i64, Path)> {
    let entry = |entry: BTreeMap<String, Avro>| {
        let file = fields(entry["data_file"].clone());
        (
            int(&entry["status"]),
            path_of(namespace, metadata, text(&file["file_path"])),
        )
    };
    avro(store, manifest).into_iter().map(entry).collect()
}

fn snapshots(metadata: &Value) -> &[Value] {
    metadata["snapshots"].as_array().map_or(&[], Vec::as_slice)
}

fn current(metadata: &Value) -> Option<&Value> {
    let id = metadata["current-snapshot-id"].as_i64()?;
    snapshots(metadata)
        .iter()
        .find(|snapshot| snapshot["snapshot-id"].as_i64() == Some(id))
}

pub(crate) fn live_files(store: &Store, namespace: &str) -> Vec<Path> {
    newest(store, namespace).map_or_else(Vec::new, |(_, metadata)| live(store, namespace, &metadata))
}

pub(super) fn files_at(store: &Store, namespace: &str, metadata: &Path) -> Vec<Path> {
    live(
        store,
        namespace,
        &serde_json::from_slice(&read(store, metadata)).unwrap(),
    )
}

/// The data files of a table with these metadata.
pub(crate) fn live(store: &Store, namespace: &str, metadata: &Value) -> Vec<Path> {
    let Some(snapshot) = current(metadata) else {
        return Vec::new();
    };
    let all = files(store, namespace, metadata, snapshot);
    let mut live: Vec<Path> = all
        .into_iter()
        .filter(|(status, _)| *status != 2)
        .map(|(_, path)| path)
        .collect();
    live.sort();
    let count = live.len();
    live.dedup();
    assert_eq!(live.len(), count, "a file is in the table twice");
    live
}

pub(super) fn added_files(store: &Store, namespace: &str) -> BTreeSet<String> {
    let Some((_, metadata)) = newest(store, namespace) else {
        return BTreeSet::new();
    };
    let (mut lists, mut manifests) = (BTreeSet::new(), BTreeSet::new());
    for snapshot in snapshots(&metadata) {
        let list = path_of(namespace, &metadata, snapshot["manifest-list"].as_str().unwrap());
        let listed = avro(store, &list);
        manifests.extend(
            listed
                .iter()
                .map(|m| path_of(namespace, &metadata, text(&m["manifest_path"]))),
        );
        lists.insert(list);
    }
    let data = manifests
        .iter()
        .flat_map(|manifest| entries_of(store, namespace, &metadata, manifest));
    let data: Vec<Path> = data.map(|(_, path)| path).collect();
    lists
        .into_iter()
        .chain(manifests)
        .chain(data)
        .map(String::from)
        .collect()
}

pub(super) fn files_of(store: &Store, namespace: &str, commit: &str) -> Vec<Path> {
    let all = versions(store, namespace);
    let at = all.iter().position(|(name, _)| name == commit).unwrap();
    let live = |at: usize| -> BTreeSet<Path> {
        let (_, metadata) = &all[at];
        let files = current(metadata).map(|snapshot| files(store, namespace, metadata, snapshot));
        files.unwrap_or_default().into_iter().map(|(_, path)| path).collect()
    };
    let before = at.checked_sub(1).map(live).unwrap_or_default();
    live(at).difference(&before).cloned().collect()
}

/// The data files that the current snapshot of a version adds, and the objects of metadata that came with it.
pub(crate) fn added_by(store: &Store, namespace: &str, metadata: &Value) -> (Vec<Path>, Vec<Path>) {
    let Some(snapshot) = current(metadata) else {
        return (Vec::new(), Vec::new());
    };
    let list = path_of(namespace, metadata, snapshot["manifest-list"].as_str().unwrap());
    let (mut added, mut kept) = (Vec::new(), vec![list.clone()]);
    for manifest in avro(store, &list) {
        if Some(int(&manifest["added_snapshot_id"])) == snapshot["snapshot-id"].as_i64() {
            let path = path_of(namespace, metadata, text(&manifest["manifest_path"]));
            let files = entries_of(store, namespace, metadata, &path).into_iter();
            added.extend(files.filter(|(status, _)| *status == 1).map(|(_, file)| file));
            kept.push(path);
        }
    }
    (added, kept)
}

/// Publishes the next version with a snapshot of these manifests.
fn publish(store: &Store, namespace: &str, operation: &str, manifests: &dyn Fn(i64, i64) -> Vec<Avro>) {
    let (number, mut metadata) = newest(store, namespace).unwrap();
    let number = number + 1;
    let sequence = metadata["last-sequence-number"].as_i64().unwrap() + 1;
    let id = 7_000_000 + sequence;
    let parent = metadata["current-snapshot-id"].clone();
    let schema_text = manifest_list_schema(store, namespace, &metadata);
    let schema = apache_avro::Schema::parse_str(&schema_text).unwrap();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new());
    for manifest in manifests(id, sequence) {
        writer.append(manifest).unwrap();
    }
    let name = format!("foreign-snap-{id}.avro");
    write(
        store,
        &Path::from(format!("{namespace}/metadata/{name}")),
        writer.into_inner().unwrap(),
    );
    let location = metadata["location"].as_str().unwrap().to_owned();
    let now = metadata["last-updated-ms"].as_i64().unwrap() + 1;
    let schema_id = metadata["current-schema-id"].clone();
    metadata["snapshots"].as_array_mut().unwrap().push(json!({
        "snapshot-id": id, "parent-snapshot-id": parent, "sequence-number": sequence, "timestamp-ms": now,
        "manifest-list": format!("{location}/metadata/{name}"), "schema-id": schema_id,
        "summary": {"operation": operation}}));
    metadata["last-sequence-number"] = json!(sequence);
    set_current(store, namespace, number, metadata, id, now);
}

fn set_current(store: &Store, namespace: &str, number: usize, mut metadata: Value, id: i64, now: i64) {
    metadata["last-updated-ms"] = json!(now);
    metadata["current-snapshot-id"] = json!(id);
    metadata["refs"] = json!({"main": {"snapshot-id": id, "type": "branch"}});
    let log = metadata["snapshot-log"].as_array_mut().unwrap();
    log.push(json!({"snapshot-id": id, "timestamp-ms": now}));
    let path = Path::from(format!("{namespace}/metadata/v{number}.metadata.json"));
    write(store, &path, metadata.to_string());
}

/// The schema by which the table's newest list was written.
fn manifest_list_schema(store: &Store, namespace: &str, metadata: &Value) -> String {
    let list = path_of(
        namespace,
        metadata,
        current(metadata).unwrap()["manifest-list"].as_str().unwrap(),
    );
    let bytes = read(store, &list);
    let reader = apache_avro::Reader::new(bytes.as_ref()).unwrap();
    serde_json::to_string(reader.writer_schema()).unwrap()
}

/// The manifests of the current snapshot, as their list has them.
fn listed(store: &Store, namespace: &str) -> Vec<Avro> {
    let (_, metadata) = newest(store, namespace).unwrap();
    let Some(snapshot) = current(&metadata) else {
        return Vec::new();
    };
    let list = path_of(namespace, &metadata, snapshot["manifest-list"].as_str().unwrap());
    let bytes = read(store, &list);
    let records = apache_avro::Reader::new(bytes.as_ref()).unwrap();
    records.map(Result::unwrap).collect()
}

pub(crate) fn append(store: &Store, namespace: &str, name: &str, bytes: Vec<u8>, rows: usize) -> bool {
    replace(store, namespace, "append", &[], Some((name, bytes, rows)))
}

pub(crate) fn delete(store: &Store, namespace: &str, files: &[Path]) -> bool {
    replace(store, namespace, "delete", files, None)
}

pub(crate) fn optimize(
    store: &Store,
    namespace: &str,
    files: &[Path],
    name: &str,
    bytes: Vec<u8>,
    rows: usize,
) -> bool {
    replace(store, namespace, "replace", files, Some((name, bytes, rows)))
}

/// Forgets all snapshots but the current one.
pub(crate) fn expire(store: &Store, namespace: &str) -> bool {
    let Some((number, mut metadata)) = newest(store, namespace) else {
        return false;
    };
    let Some(current) = current(&metadata).cloned() else {
        return false;
    };
    let id = current["snapshot-id"].clone();
    metadata["snapshots"] = json!([current]);
    let log = metadata["snapshot-log"].as_array_mut().unwrap();
    log.retain(|entry| entry["snapshot-id"] == id);
    let path = Path::from(format!("{namespace}/metadata/v{}.metadata.json", number + 1));
    write(store, &path, metadata.to_string());
    true
}

/// A snapshot without some files, and with another.
fn replace(
    store: &Store,
    namespace: &str,
    operation: &str,
    removed: &[Path],
    added: Option<(&str, Vec<u8>, usize)>,
) -> bool {
    let Some((_, metadata)) = newest(store, namespace) else {
        return false;
    };
    // Another writer that waits until there is something to copy its schema from.
    if current(&metadata).is_none() {
        return false;
    }
    let location = metadata["location"].as_str().unwrap();
    let added = added.map(|(name, bytes, rows)| {
        let size = bytes.len();
        write(store, &Path::from(format!("{namespace}/{name}")), bytes);
        (
            format!("{location}/{name}"),
            rows.try_into().unwrap(),
            size.try_into().unwrap(),
        )
    });
    let before = listed(store, namespace);
    let Some(template) = before.first() else {
        return false;
    };
    publish(store, namespace, operation, &|id, sequence| {
        let mut manifests = before.clone();
        // Those of other manifests stay where they are.
        let mut kept = Vec::new();
        manifests.retain(|manifest| {
            let fields = fields(manifest.clone());
            let path = path_of(namespace, &metadata, text(&fields["manifest_path"]));
            let files = avro(store, &path)
                .into_iter()
                .map(|entry| (int(&entry["status"]), described(&entry)));
            let live: Vec<File> = files.filter(|(status, _)| *status != 2).map(|(_, file)| file).collect();
            let is_gone = |file: &File| removed.contains(&path_of(namespace, &metadata, &file.0));
            if !live.iter().any(is_gone) {
                return true;
            }
            kept.extend(live.into_iter().filter(|file| !is_gone(file)));
            false
        });
        let name = format!("foreign-{id}.avro");
        let new = manifest(&metadata, id, sequence, &kept, added.as_ref());
        let counts = Counts {
            added: added.iter().map(|file| file.1).collect(),
            kept: kept.iter().map(|file| file.1).collect(),
        };
        if !counts.added.is_empty() || !counts.kept.is_empty() {
            let uri = format!("{location}/metadata/{name}");
            manifests.insert(0, listing(template, &uri, new.len(), (id, sequence), &counts));
            write(store, &Path::from(format!("{namespace}/metadata/{name}")), new);
        }
        manifests
    });
    true
}

/// URI, rows and bytes of a data file.
type File = (String, i64, i64);

fn described(entry: &BTreeMap<String, Avro>) -> File {
    let file = fields(entry["data_file"].clone());
    (
        text(&file["file_path"]).to_owned(),
        int(&file["record_count"]),
        int(&file["file_size_in_bytes"]),
    )
}

/// The rows of files.
struct Counts {
    added: Vec<i64>,
    kept: Vec<i64>,
}

/// A manifest of files that were there before, and one that was not.
fn manifest(metadata: &Value, id: i64, sequence: i64, kept: &[File], added: Option<&File>) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(MANIFEST).unwrap();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new());
    let table_schema = metadata["schemas"][0].to_string();
    for (key, value) in [
        ("schema", table_schema.as_str()),
        ("schema-id", "0"),
        ("partition-spec", "[]"),
        ("partition-spec-id", "0"),
        ("format-version", "2"),
        ("content", "data"),
    ] {
        writer.add_user_metadata(key.to_owned(), value).unwrap();
    }
    let record = |fields: Vec<(&str, Avro)>| {
        let named = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        Avro::Record(named.collect())
    };
    let null = || Avro::Union(0, Box::new(Avro::Null));
    let long = |value: i64| Avro::Union(1, Box::new(Avro::Long(value)));
    let entries = kept.iter().map(|file| (0, file)).chain(added.map(|file| (1, file)));
    for (status, (uri, rows, size)) in entries {
        let file = record(vec![
            ("content", Avro::Int(0)),
            ("file_path", Avro::String(uri.clone())),
            ("file_format", Avro::String("PARQUET".to_owned())),
            ("partition", record(Vec::new())),
            ("record_count", Avro::Long(*rows)),
            ("file_size_in_bytes", Avro::Long(*size)),
        ]);
        // Those that are added take the numbers of their manifest.
        let number = || if status == 0 { long(sequence) } else { null() };
        let entry = record(vec![
            ("status", Avro::Int(status)),
            ("snapshot_id", long(id)),
            ("sequence_number", number()),
            ("file_sequence_number", number()),
            ("data_file", file),
        ]);
        writer.append(entry).unwrap();
    }
    writer.into_inner().unwrap()
}

/// What the list says of a manifest: as of one of the table's own, with other numbers.
fn listing(template: &Avro, uri: &str, length: usize, (id, sequence): (i64, i64), counts: &Counts) -> Avro {
    let Avro::Record(mut listed) = template.clone() else {
        panic!("not a record")
    };
    for (field, value) in &mut listed {
        let number = match field.as_str() {
            "manifest_path" => {
                *value = Avro::String(uri.to_owned());
                continue;
            }
            "manifest_length" => length.try_into().unwrap(),
            "sequence_number" | "min_sequence_number" => sequence,
            "added_snapshot_id" => id,
            "added_files_count" => counts.added.len().try_into().unwrap(),
            "added_rows_count" => counts.added.iter().sum(),
            "existing_files_count" => counts.kept.len().try_into().unwrap(),
            "existing_rows_count" => counts.kept.iter().sum(),
            "deleted_files_count" | "deleted_rows_count" => 0,
            _ => continue,
        };
        *value = match value {
            Avro::Int(_) => Avro::Int(number.try_into().unwrap()),
            _ => Avro::Long(number),
        };
    }
    Avro::Record(listed)
}

pub(super) fn take_out(store: &Store, namespace: &str, how: TakeOut, keep: &[Path]) {
    let (number, metadata) = newest(store, namespace).unwrap();
    let number = number + 1;
    let holds_just_these = |snapshot: &&Value| {
        let mut files: Vec<Path> = files(store, namespace, &metadata, snapshot)
            .into_iter()
            .map(|(_, p)| p)
            .collect();
        files.sort();
        files == keep
    };
    match how {
        TakeOut::Restore if keep.is_empty() => {
            let mut metadata = metadata.clone();
            metadata["refs"] = json!({});
            metadata.as_object_mut().unwrap().remove("current-snapshot-id");
            let path = Path::from(format!("{namespace}/metadata/v{number}.metadata.json"));
            write(store, &path, metadata.to_string());
        }
        TakeOut::Restore => {
            let snapshot = snapshots(&metadata).iter().find(holds_just_these).unwrap();
            let id = snapshot["snapshot-id"].as_i64().unwrap();
            let now = metadata["last-updated-ms"].as_i64().unwrap() + 1;
            set_current(store, namespace, number, metadata.clone(), id, now);
        }
        TakeOut::Delete => {
            let mut gone = live_files(store, namespace);
            gone.retain(|file| !keep.contains(file));
            assert!(delete(store, namespace, &gone));
        }
        other => panic!("not a change of an Iceberg table: {other:?} {keep:?}"),
    }
}
