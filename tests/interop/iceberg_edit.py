"""Copies of Iceberg tables whose metadata can be changed at will, down to the bytes of Avro headers.

Locations in a copy stay those of the original, so that readers need `Copy.mapping` to find its files.
"""

import copy
import io
import json
import os
import pathlib
import shutil
import zlib

import fastavro
import pyarrow.parquet as pq

SYNC = bytes(range(16))


class Avro:
    """An Avro file: `schema` is what its header says, `records` are written as the header said when it was read."""

    def __init__(self, path):
        self.path = path
        file = io.BytesIO(path.read_bytes())
        assert file.read(4) == b"Obj\x01", path
        header = fastavro.schemaless_reader(file, {"type": "map", "values": "bytes"})
        file.read(16)
        self.schema = json.loads(header.pop("avro.schema"))
        codec = header.pop("avro.codec", b"null")
        self.meta = {key: value.decode() for key, value in header.items()}
        self.encoding = without_logical_types(self.schema)
        self.records = []
        while file.tell() < path.stat().st_size:
            count, size = fastavro.schemaless_reader(file, "long"), fastavro.schemaless_reader(file, "long")
            block = file.read(size)
            block = io.BytesIO(zlib.decompress(block, -15) if codec == b"deflate" else block)
            self.records += [fastavro.schemaless_reader(block, self.encoding) for _ in range(count)]
            file.read(16)

    def reencode(self):
        """Writes the records as the schema says by now."""
        self.encoding = without_logical_types(self.schema)

    def write(self):
        block, out = io.BytesIO(), io.BytesIO()
        for record in self.records:
            fastavro.schemaless_writer(block, self.encoding, record)
        out.write(b"Obj\x01")
        header = {"avro.schema": json.dumps(self.schema), "avro.codec": "null", **self.meta}
        fastavro.schemaless_writer(out, {"type": "map", "values": "bytes"}, {k: v.encode() for k, v in header.items()})
        out.write(SYNC)
        for number in (len(self.records), len(block.getvalue())):
            fastavro.schemaless_writer(out, "long", number)
        out.write(block.getvalue() + SYNC)
        self.path.write_bytes(out.getvalue())


def without_logical_types(schema):
    if isinstance(schema, list):
        return [without_logical_types(kind) for kind in schema]
    if isinstance(schema, dict):
        return {
            k: without_logical_types(v) for k, v in schema.items() if k not in ("logicalType", "precision", "scale")
        }
    return schema


def field(schema, name):
    """The field of a name in an Avro schema, at any depth."""
    if isinstance(schema, list):
        return next(filter(None, (field(kind, name) for kind in schema)), None)
    if not isinstance(schema, dict):
        return None
    for candidate in schema.get("fields", []):
        if candidate["name"] == name:
            return candidate
        if found := field(candidate["type"], name):
            return found
    return field(schema.get("items"), name)


class Copy:
    """A copy of the table at `source` with the metadata file `metadata`, both below the directory `root`."""

    def __init__(self, root, metadata, target):
        root, target = pathlib.Path(root), pathlib.Path(target)
        shutil.copytree(root, target)
        self.target = target
        self.mapping = {f"file://{root}": str(target)}
        self.path = self.local(metadata)
        self.document = json.loads(self.path.read_text())
        snapshots = sorted(self.document["snapshots"], key=lambda snapshot: snapshot["sequence-number"])
        self.lists = [Avro(self.local(snapshot["manifest-list"])) for snapshot in snapshots]
        paths = [record["manifest_path"] for manifests in self.lists for record in manifests.records]
        self.manifests = {path: Avro(self.local(path)) for path in dict.fromkeys(paths)}
        self.deferred = []

    def local(self, location):
        prefix, path = next(iter(self.mapping.items()))
        return pathlib.Path(location.replace(prefix, path, 1))

    def snapshot(self):
        current = self.document["current-snapshot-id"]
        return next(snapshot for snapshot in self.document["snapshots"] if snapshot["snapshot-id"] == current)

    def list(self):
        """The manifest list of the newest snapshot."""
        return self.lists[-1]

    def listed(self):
        """The record of the newest manifest in it."""
        return max(self.list().records, key=lambda record: (record["sequence_number"], record["added_files_count"]))

    def manifest(self):
        return self.manifests[self.listed()["manifest_path"]]

    def entry(self, status=1):
        """The first entry of a status in the newest manifest that has one."""
        for manifest in [self.manifest(), *reversed(self.manifests.values())]:
            for entry in manifest.records:
                if entry["status"] == status:
                    return entry
        raise AssertionError(f"no entry of status {status}")

    def file(self):
        return self.entry()["data_file"]

    def parquet(self, change, **options):
        """Writes the first data file of the newest manifest anew, and drops what would then be wrong of it."""
        file = self.file()
        path = self.local(file["file_path"])
        table = change(pq.ParquetFile(path).read())
        pq.write_table(table, path, **{"store_decimal_as_integer": True, **options})
        file.update(column_sizes=None, split_offsets=None, file_size_in_bytes=os.path.getsize(path))
        for key in ("value_counts", "null_value_counts", "nan_value_counts", "lower_bounds", "upper_bounds"):
            file[key] = None

    def save(self):
        """Writes all, with the new lengths of the manifests; then the deferred changes."""
        for manifest in self.manifests.values():
            manifest.write()
        for manifests in self.lists:
            for record in manifests.records:
                if record["manifest_path"] in self.manifests:
                    record["manifest_length"] = self.manifests[record["manifest_path"]].path.stat().st_size
        for change in self.deferred:
            change(self)
        for manifests in self.lists:
            manifests.write()
        self.path.write_text(json.dumps(self.document))


def conforming(table):
    """Mends what PyIceberg 0.12 does not do as the specification says."""
    for manifest in table.manifests.values():
        schema = json.loads(manifest.meta["schema"])
        schema_id = table.document["current-schema-id"]
        manifest.meta["schema"] = json.dumps({**schema, "schema-id": schema_id})
        manifest.meta["schema-id"] = str(schema_id)
        field(manifest.schema, "equality_ids")["type"][1]["items"] = "int"
        manifest.reencode()


def sorted_files(table):
    """All files say that they follow the table's default sort order."""
    for manifest in table.manifests.values():
        for entry in manifest.records:
            entry["data_file"]["sort_order_id"] = table.document["default-sort-order-id"]


def version_3(table):
    """Upgrades all of a table, as if it had been of version 3 from its first snapshot, with names of a file system table."""
    document, following, rows_of, first_of = table.document, 0, {}, {}
    document["format-version"] = 3
    for manifest in table.manifests.values():
        manifest.meta["format-version"] = "3"
        extra = {"name": "first_row_id", "field-id": 142, "type": ["null", "long"], "default": None}
        field(manifest.schema, "data_file")["type"]["fields"].append(extra)
        manifest.reencode()
    snapshots = sorted(document["snapshots"], key=lambda snapshot: snapshot["sequence-number"])
    for snapshot, manifests in zip(snapshots, table.lists):
        snapshot["first-row-id"] = following
        manifests.meta.update({"format-version": "3", "first-row-id": str(following)})
        manifests.schema["fields"].append(
            {"name": "first_row_id", "field-id": 520, "type": ["null", "long"], "default": None}
        )
        manifests.reencode()
        for record in manifests.records:
            path = record["manifest_path"]
            if path not in first_of:
                first_of[path] = at = following
                following += record["added_rows_count"] + record["existing_rows_count"]
                for entry in table.manifests[path].records:
                    file = entry["data_file"]
                    if entry["status"] == 1:
                        rows_of[file["file_path"]] = at
                        at += file["record_count"]
                    file["first_row_id"] = None if entry["status"] == 1 else rows_of[file["file_path"]]
            record["first_row_id"] = first_of[path]
        snapshot["added-rows"] = following - snapshot["first-row-id"]
    document["next-row-id"] = following
    renamed = {}
    names = [entry["metadata-file"] for entry in document["metadata-log"]] + [f"/{table.path.name}"]
    for number, name in enumerate(names, 1):
        old = table.path.parent / name.rsplit("/", 1)[1]
        old.rename(table.path.parent / f"v{number}.metadata.json")
        renamed[name] = f"{name.rsplit('/', 1)[0]}/v{number}.metadata.json"
    for entry in document["metadata-log"]:
        entry["metadata-file"] = renamed[entry["metadata-file"]]
    table.path = table.path.parent / f"v{len(names)}.metadata.json"
    (table.path.parent / "version-hint.text").write_text(str(len(names) - 1))


def deep(value):
    return copy.deepcopy(value)
