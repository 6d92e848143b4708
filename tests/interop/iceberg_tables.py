"""Iceberg tables made by PyIceberg, with most types, partitions, deletes, merged manifests, and changes of schema."""

import datetime as dt
import decimal
import json
import math
import pathlib
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table.sorting import NullOrder
from pyiceberg.table.statistics import StatisticsFile
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)
from pyiceberg.types import LongType, StringType

from iceberg_edit import Avro

UTC = dt.timezone.utc


def rows(start, count, times=True):
    """Rows sorted by id, with most types, nulls, NaN, negative zeros, long strings and dates before 1970."""
    ids = range(start, start + count)
    instants = [dt.datetime(1969, 12, 31, 12, tzinfo=UTC) + dt.timedelta(hours=7 * (i // 4)) for i in ids]
    made = pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "s": [None if i % 7 == 0 else "\u00e4\U0001f600" * (i % 30) + chr(97 + i % 26) for i in ids],
            "f": [math.nan if i % 5 == 0 else -0.0 if i % 5 == 1 else i / 3 for i in ids],
            "g": pa.array([i / 2 for i in ids], pa.float32()),
            "l": pa.array([[None, [], [i, None]][i % 3] for i in ids], pa.list_(pa.int64())),
            "m": pa.array([[None, [], [("k", i), ("j", None)]][i % 3] for i in ids], pa.map_(pa.string(), pa.int32())),
            "st": [None if i % 3 == 0 else {"a": i, "b": None if i % 2 else "z" * i, "c": [{"d": 1.5}]} for i in ids],
            "ts": pa.array(instants, pa.timestamp("us", "UTC")),
            "tn": pa.array([instant.replace(tzinfo=None) for instant in instants], pa.timestamp("us")),
            "t": pa.array([dt.time(i % 24, 1) for i in ids], pa.time64("us")),
            "d": pa.array([decimal.Decimal(i - 5).scaleb(-2) for i in ids], pa.decimal128(9, 2)),
            "e": pa.array([decimal.Decimal(i - 5).scaleb(18) for i in ids], pa.decimal128(30, 2)),
            "day": pa.array([dt.date(1970, 1, 1) + dt.timedelta(days=i - 4) for i in ids]),
            "b": [b"\xff" * (i % 20) for i in ids],
            "x": pa.array([bytes([i % 256] * 4) for i in ids], pa.binary(4)),
            "u": pa.array([bytes([0x80 - i % 256 & 0xFF] * 16) for i in ids], pa.uuid()),
            "flag": [i % 2 == 0 for i in ids],
            "kind": ["x" if i < start + count // 2 else "y" for i in ids],
            "n": pa.array(ids, pa.int32()),
        }
    )
    return made if times else made.drop_columns(["t"])


SPECS = {
    "parted": [
        ("ts", DayTransform()),
        ("id", BucketTransform(2)),
        ("s", TruncateTransform(1)),
        ("kind", IdentityTransform()),
    ],
    "hours": [("ts", HourTransform()), ("tn", MonthTransform()), ("d", TruncateTransform(50))],
    "buckets": [
        ("day", YearTransform()),
        ("u", BucketTransform(2)),
        ("b", BucketTransform(3)),
        ("e", BucketTransform(2)),
    ],
    "instants": [("ts", IdentityTransform())],
    "numbers": [("e", IdentityTransform()), ("x", IdentityTransform()), ("n", TruncateTransform(7))],
    "days": [
        ("day", IdentityTransform()),
        ("b", TruncateTransform(2)),
        ("flag", IdentityTransform()),
        ("t", IdentityTransform()),
    ],
}


# Partitions that PyIceberg makes, and whether it can write them itself. Most have a row or two each, so that every
# value of every transform is looked at.
PARTS = {
    "identities": ([(name, IdentityTransform()) for name in ("kind", "day", "flag", "n")], True),
    "texts": ([("s", IdentityTransform()), ("b", IdentityTransform())], False),
    "decimals": ([("d", IdentityTransform()), ("e", IdentityTransform()), ("x", IdentityTransform())], True),
    "floats": ([("f", IdentityTransform()), ("g", IdentityTransform())], False),
    "instants": ([("ts", IdentityTransform()), ("tn", IdentityTransform())], False),
    "hashes": ([(name, BucketTransform(3)) for name in ("id", "s", "ts", "tn", "d", "e", "day", "b", "x", "n")], True),
    "uuids": ([("u", IdentityTransform())], False),
    "uuid_hashes": ([("u", BucketTransform(4))], False),
    "cuts": ([("id", TruncateTransform(10)), ("s", TruncateTransform(2)), ("d", TruncateTransform(50))], True),
    "more_cuts": ([("n", TruncateTransform(7)), ("b", TruncateTransform(3)), ("e", TruncateTransform(9))], True),
    "years": ([("day", YearTransform()), ("ts", MonthTransform()), ("tn", HourTransform())], True),
    "months": ([("day", MonthTransform()), ("ts", HourTransform()), ("tn", YearTransform())], True),
    "days": ([("day", DayTransform()), ("ts", DayTransform()), ("tn", DayTransform())], True),
    "voids": ([("n", VoidTransform()), ("kind", IdentityTransform())], False),
    "gone": ([("kind", IdentityTransform()), ("gone", VoidTransform())], False),
    "nested": ([("st.a", TruncateTransform(10)), ("st.b", BucketTransform(3))], False),
    "clustered": ([("id", TruncateTransform(10))], True),
}


def partitioned(warehouse, name):
    """A table of `PARTS` at WAREHOUSE/NAME, out of its catalog: with a tag, a branch, an order, and statistics."""
    fields, has_rows = PARTS[name]
    home = warehouse.parent / f"{warehouse.name}-{name}"
    home.mkdir(parents=True)
    catalog = SqlCatalog("c", uri=f"sqlite:///{home}/catalog.db", warehouse=f"file://{home}")
    catalog.create_namespace("n")
    schema = rows(0, 9, times=False).schema
    schema = schema.append(pa.field("gone", pa.int32())) if name == "gone" else schema
    location = warehouse / name
    properties = {"owner": "them", "commit.manifest.min-count-to-merge": "2"}
    table = catalog.create_table("n.t", schema, location=f"file://{location}", properties=properties)
    with table.update_spec() as update:
        for column, transform in fields:
            update.add_field(column, transform, f"{column}_part")
    if name == "gone":
        with table.update_schema() as update:
            update.delete_column("gone")
    with table.update_sort_order() as update:
        update.asc("id", IdentityTransform(), NullOrder.NULLS_LAST)
    if has_rows:
        table.append(rows(0, 20, times=False))
        table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, "release").commit()
        table.manage_snapshots().create_branch(table.current_snapshot().snapshot_id, "audit").commit()
        table.delete("id >= 10")
        snapshot = table.current_snapshot()
        puffin = location / "metadata" / "1.stats"
        payload = b'{"blobs":[]}'
        footer = b"PFA1" + payload + len(payload).to_bytes(4, "little") + bytes(4) + b"PFA1"
        puffin.write_bytes(b"PFA1" + footer)
        statistics = StatisticsFile(
            snapshot_id=snapshot.snapshot_id,
            statistics_path=f"file://{puffin}",
            file_size_in_bytes=4 + len(footer),
            file_footer_size_in_bytes=len(footer),
            blob_metadata=[],
        )
        with table.update_statistics() as update:
            update.set_statistics(statistics)
    return pathlib.Path(table.metadata_location.removeprefix("file://"))


def delete_positions(location, positions):
    """Adds a snapshot to the metadata at `location` that deletes rows of the newest data file by position, as engines do
    that merge on read. For tables without partitions."""
    document = json.loads(location.read_text())
    parent = next(s for s in document["snapshots"] if s["snapshot-id"] == document["current-snapshot-id"])
    snapshot, sequence = parent["snapshot-id"] + 1, parent["sequence-number"] + 1
    at, uri = location.parent, f"file://{location.parent}"
    manifests = copied(parent["manifest-list"], at / "deletes-list.avro")
    newest = max(manifests.records, key=lambda record: record["sequence_number"])
    deletes = copied(newest["manifest_path"], at / "deletes.avro")
    entry = deletes.records[0]
    columns = [("file_path", pa.string(), 2147483546), ("pos", pa.int64(), 2147483545)]
    schema = pa.schema([pa.field(name, kind, False, {"PARQUET:field_id": str(id)}) for name, kind, id in columns])
    rows = [[entry["data_file"]["file_path"]] * len(positions), positions]
    path = at.parent / "data" / "deletes.parquet"
    pq.write_table(pa.table(rows, schema=schema), path)
    entry.update(status=1, snapshot_id=snapshot, sequence_number=None, file_sequence_number=None)
    optional = ("column_sizes", "value_counts", "null_value_counts", "nan_value_counts", "lower_bounds", "upper_bounds")
    entry["data_file"].update(dict.fromkeys([*optional, "split_offsets", "sort_order_id"]))
    size = path.stat().st_size
    entry["data_file"].update(
        content=1, file_path=f"file://{path}", record_count=len(positions), file_size_in_bytes=size
    )
    deletes.records, deletes.meta["content"] = [entry], "deletes"
    deletes.write()
    counts = {f"{kind}_{what}_count": 0 for kind in ("added", "existing", "deleted") for what in ("files", "rows")}
    counts.update(added_files_count=1, added_rows_count=len(positions))
    record = {**newest, **counts, "content": 1, "added_snapshot_id": snapshot}
    record.update(manifest_path=f"{uri}/deletes.avro", manifest_length=deletes.path.stat().st_size)
    record.update(sequence_number=sequence, min_sequence_number=sequence)
    manifests.records.insert(0, record)
    ids = {"snapshot-id": snapshot, "parent-snapshot-id": parent["snapshot-id"], "sequence-number": sequence}
    manifests.meta.update({key: str(value) for key, value in ids.items()})
    manifests.write()
    totals = {key: int(value) for key, value in parent["summary"].items() if key.startswith("total-")}
    totals["total-files-size"] += size
    totals.update({"total-delete-files": 1, "total-position-deletes": len(positions)})
    added = {"added-delete-files": 1, "added-position-delete-files": 1, "added-position-deletes": len(positions)}
    summary = {"operation": "delete", **{k: str(v) for k, v in {**totals, **added, "added-files-size": size}.items()}}
    now = document["last-updated-ms"] + 1
    made = {**ids, "timestamp-ms": now, "manifest-list": f"{uri}/deletes-list.avro", "summary": summary}
    document["snapshots"].append({**made, "schema-id": document["current-schema-id"]})
    document["snapshot-log"].append({"snapshot-id": snapshot, "timestamp-ms": now})
    document["refs"]["main"]["snapshot-id"] = snapshot
    document.update({"current-snapshot-id": snapshot, "last-sequence-number": sequence, "last-updated-ms": now})
    location.write_text(json.dumps(document))


def copied(source, path):
    """An Avro file of a table under another name, to be changed."""
    shutil.copy(source.removeprefix("file://"), path)
    return Avro(path)


def make(home, times=True):
    """Tables by PyIceberg: {name: metadata location}. Without `times` they have none of that type, which Spark lacks."""
    home.mkdir(parents=True)
    catalog = SqlCatalog("c", uri=f"sqlite:///{home}/catalog.db", warehouse=f"file://{home}/tables")
    catalog.create_namespace("n")
    made = {}
    schema = rows(0, 9, times).schema
    flat = catalog.create_table("n.flat", schema)
    with flat.update_sort_order() as update:
        update.asc("id", IdentityTransform())
    for start in (0, 40):
        flat.append(rows(start, 40, times))
    flat.delete("id < 5")
    flat.append(rows(100, 10, times))
    made["flat"] = flat
    for name, fields in SPECS.items():
        merging = {"commit.manifest-merge.enabled": "true", "commit.manifest.min-count-to-merge": "2"}
        table = catalog.create_table(f"n.{name}", schema, properties=merging)
        with table.update_spec() as update:
            for column, transform in fields if times else [f for f in fields if f[0] != "t"]:
                update.add_field(column, transform, None if transform == IdentityTransform() else f"{column}_part")
        for start in (0, 40, 50):
            table.append(rows(start, 5, times))
        table.delete("id = 3")
        table.append(rows(70, 5, times))
        made[name] = table
    evolved = catalog.create_table("n.evolved", schema)
    evolved.append(rows(0, 9, times))
    evolved.append(rows(9, 9, times))
    evolved.delete("id >= 9")
    evolved.overwrite(rows(20, 5, times))
    with evolved.update_schema() as update:
        update.add_column("new", StringType())
        update.update_column("n", LongType())
        update.rename_column("s", "text")
        update.delete_column("flag")
    with evolved.update_spec() as update:
        update.add_field("kind", IdentityTransform())
    later = rows(40, 9, times).drop_columns(["flag"]).append_column("new", pa.array(["n"] * 9))
    later = later.rename_columns([{"s": "text"}.get(name, name) for name in later.column_names])
    at = later.column_names.index("n")
    evolved.append(later.set_column(at, "n", later["n"].cast(pa.int64())))
    evolved.maintenance.expire_snapshots().by_id(evolved.snapshots()[0].snapshot_id).commit()
    made["evolved"] = evolved
    return {name: table.metadata_location for name, table in made.items()}
