"""Proves that `iceberg_lint.py` finds faults: tables of PyIceberg are clean, and each of MUTANTS is not.

    iceberg_mutants.py [--keep] [NAME...]

Needs pyiceberg[sql-sqlite,pyarrow] and fastavro. Prints a line for each mutant; the exit code is 0 if all are found
for the reason that stands beside them. With NAMEs only the mutants whose names contain one of them are tried.

Clean must be, with `foreign`, tables as PyIceberg leaves them after appends, deletes, overwrites, merges of manifests,
changes of schema and spec, and expiry; and, without it, what `iceberg_edit.conforming` makes of some of them:

  flat    appends and deletes, nested columns, a sort order that the files follow
  parted  partitioned by day, bucket, truncate and identity, with EXISTING and DELETED entries
  v3      flat as version 3, as a file system table
"""

import argparse
import json
import math
import pathlib
import shutil
import struct
import sys
import tempfile
import warnings

import pyarrow as pa
from pyarrow.parquet import SortingColumn

from iceberg_edit import Copy, conforming, deep, field, sorted_files, version_3
from iceberg_lint import lint
from iceberg_tables import make

# Changes, each a function of a `Copy`. A function as value gets the old value.


def change(record, key, value):
    record[key] = value(record.get(key)) if callable(value) else value


def plus(number):
    return lambda old: old + number


def in_document(*path):
    """In metadata.json: keys, and the new value last."""

    def apply(table):
        node = table.document
        for key in path[:-2]:
            node = node[key]
        change(node, path[-2], path[-1])

    return apply


def without(*path):
    def apply(table):
        node = table.document
        for key in path[:-1]:
            node = node[key]
        del node[path[-1]]

    return apply


def in_snapshot(key, value):
    return lambda table: change(table.snapshot(), key, value)


def in_summary(key, value):
    return lambda table: change(table.snapshot()["summary"], key, value)


def in_listed(key, value):
    """In the record of the newest manifest in the newest manifest list, after all else."""
    return lambda table: table.deferred.append(lambda copy: change(copy.listed(), key, value))


def in_partitions(index, key, value):
    return lambda table: change(table.listed()["partitions"][index], key, value)


def in_entry(status, key, value):
    return lambda table: change(table.entry(status), key, value)


def in_file(key, value):
    return lambda table: change(table.file(), key, value)


def in_tuple(name, value):
    return lambda table: change(table.file()["partition"], name, value)


def in_map(name, column, value):
    """In a metrics map of the first added file: the entry of a column id, given as bytes or number, None to drop it."""

    def apply(table):
        pairs = {pair["key"]: pair["value"] for pair in table.file()[name] or []}
        change(pairs, column, value)
        table.file()[name] = [{"key": k, "value": v} for k, v in pairs.items() if v is not None]

    return apply


def in_header(key, value):
    return lambda table: change(table.manifest().meta, key, value)


def no_header(key):
    return lambda table: table.manifest().meta.pop(key)


def in_list_header(key, value):
    return lambda table: change(table.list().meta, key, value)


def in_schema(name, key, value):
    """In the Avro schema of the newest manifest: an attribute of a field, None to drop it. The data stays as it is."""

    def apply(table):
        target = field(table.manifest().schema, name) if name else table.manifest().schema
        change(target, key, value)
        if target[key] is None:
            del target[key]

    return apply


def in_list_schema(name, key, value):
    def apply(table):
        target = field(table.list().schema, name) if name else table.list().schema
        change(target, key, value)
        if target[key] is None:
            del target[key]

    return apply


def in_type(name, key, value):
    """In the Avro type of a field of the newest manifest, inside its union with null."""

    def apply(table):
        kind = field(table.manifest().schema, name)["type"]
        kind = kind[1] if isinstance(kind, list) else kind
        change(kind, key, value)
        if kind[key] is None:
            del kind[key]

    return apply


def no_list_field(name):
    """A manifest list without a field, also in its records."""

    def apply(table):
        schema = table.list().schema
        schema["fields"] = [candidate for candidate in schema["fields"] if candidate["name"] != name]
        table.list().reencode()

    return apply


def optional_count(table):
    field(table.list().schema, "added_rows_count")["type"] = ["null", "long"]
    table.list().reencode()


def in_parquet(change_table, **options):
    return lambda table: table.parquet(change_table, **options)


def column(name, replace):
    """A Parquet file with another column in the place of one."""

    def apply(table):
        at = table.schema.get_field_index(name)
        old = table.schema.field(at)
        new, kind = replace(table.column(at)), None
        kind = pa.field(name, new.type, old.nullable, old.metadata)
        return table.set_column(at, kind, new)

    return apply


def without_ids(table):
    return pa.table([column.cast(plain(column.type)) for column in table.columns], names=table.column_names)


def plain(kind):
    """A type without field ids below it."""
    if pa.types.is_list(kind):
        return pa.list_(plain(kind.value_type))
    if pa.types.is_map(kind):
        return pa.map_(plain(kind.key_type), plain(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([(kind.field(i).name, plain(kind.field(i).type)) for i in range(kind.num_fields)])
    return kind


def duplicate_live(table):
    table.manifest().records.append(deep(table.entry()))
    change_counts(table)


def change_counts(table):
    record, entries = table.listed(), table.manifest().records
    added = [entry["data_file"] for entry in entries if entry["status"] == 1]
    record.update(added_files_count=len(added), added_rows_count=sum(file["record_count"] for file in added))


def drop_file(table):
    """A data file of a snapshot before is not in this one, and no entry says so."""
    table.list().records.pop()


def swap_rows(table):
    return table.take([1, 0, *range(2, table.num_rows)])


def long(number):
    return struct.pack("<q", number)


STATISTICS = {
    "snapshot-id": 1,
    "statistics-path": "file:///none.puffin",
    "file-size-in-bytes": 1,
    "file-footer-size-in-bytes": 1,
    "blob-metadata": [],
}
NAN = struct.pack("<d", math.nan)
# Ids of columns of `rows`, as PyIceberg assigns them: all of a level first.
ID, S, F, L, M, TS, DAY = 1, 2, 3, 5, 6, 8, 13
ELEMENT, KEY = 20, 21

# (table, what is changed, part of the finding that is expected, change)
# fmt: off
MUTANTS = [
    ("flat", "unknown format version", "format-version 9 is unknown", in_document("format-version", 9)),
    ("flat", "no table-uuid", "misses table-uuid", without("table-uuid")),
    ("flat", "no last-sequence-number", "misses last-sequence-number", without("last-sequence-number")),
    ("flat", "no last-partition-id", "misses last-partition-id", without("last-partition-id")),
    ("flat", "no sort-orders", "misses sort-orders", without("sort-orders")),
    ("flat", "no sort order 0", "has no sort order 0", in_document("sort-orders", lambda old: [order for order in old if order["order-id"] != 0])),
    ("flat", "default-sort-order-id of nothing", "default-sort-order-id", in_document("default-sort-order-id", 7)),
    ("flat", "version 1's key schema", "key of version 1: schema", in_document("schema", {})),
    ("flat", "version 1's key partition-spec", "key of version 1: partition-spec", in_document("partition-spec", [])),
    ("flat", "next-row-id in version 2", "key of version 3: next-row-id", in_document("next-row-id", 1)),
    ("flat", "times as floats", "last-updated-ms is", in_document("last-updated-ms", lambda old: old + 0.5)),
    ("flat", "ids as strings", "current-schema-id is", in_document("current-schema-id", "0")),
    ("flat", "location without scheme", "location without a scheme", in_document("location", "/tmp/x")),
    ("flat", "last-column-id too low", "last-column-id", in_document("last-column-id", 5)),
    ("flat", "field id twice", "field ids occur twice", in_document("schemas", 0, "fields", 1, "id", 1)),
    ("flat", "unknown type", "cannot be parsed", in_document("schemas", 0, "fields", 1, "type", "varchar")),
    ("flat", "a type of version 3", "type of version 3", in_document("schemas", 0, "fields", 8, "type", "timestamptz_ns")),
    ("flat", "list without element-id", "element-id is None", without("schemas", 0, "fields", 4, "type", "element-id")),
    ("flat", "optional identifier field", "cannot be identifiers", in_document("schemas", 0, "identifier-field-ids", [1])),
    ("flat", "property that is a number", "no string", in_document("properties", "write.x", 1)),
    ("flat", "last-updated-ms goes backwards", "metadata-log and last-updated-ms go backwards", in_document("last-updated-ms", plus(-10**6))),
    ("flat", "metadata-log with another time", "was updated at", in_document("metadata-log", -1, "timestamp-ms", plus(-1))),
    ("flat", "metadata-log with a lost file", "does not exist", in_document("metadata-log", -1, "metadata-file", lambda old: old + "x")),
    ("flat", "metadata-log without the last version", "not the version before", in_document("metadata-log", lambda old: old[:-1])),
    ("flat", "current-snapshot-id of nothing", "current-snapshot-id 1 is of no snapshot", in_document("current-snapshot-id", 1)),
    ("flat", "refs.main left behind", "refs.main is", lambda t: change(t.document["refs"]["main"], "snapshot-id", t.document["snapshots"][0]["snapshot-id"])),
    ("flat", "snapshot-log left behind", "snapshot-log ends with", in_document("snapshot-log", lambda old: old[:-1])),
    ("flat", "snapshot-log goes backwards", "snapshot-log and last-updated-ms go backwards", in_document("snapshot-log", 0, "timestamp-ms", plus(10**9))),
    ("flat", "snapshot older than its parent", "before the parent's", in_snapshot("timestamp-ms", 1)),
    ("flat", "parent that does not exist", "parent 5 does not exist", in_snapshot("parent-snapshot-id", 5)),
    ("flat", "snapshot sequence number", "sequence_number", in_snapshot("sequence-number", plus(1))),
    ("flat", "last-sequence-number too low", "last-sequence-number", in_document("last-sequence-number", plus(-1))),
    ("flat", "operation that is none", "operation compact", in_summary("operation", "compact")),
    ("flat", "append called replace", "operation replace adds", in_summary("operation", "replace")),
    ("flat", "summary with a number", "no string", in_summary("total-records", lambda old: int(old))),
    ("flat", "wrong total-records", "summary total-records", in_summary("total-records", lambda old: str(int(old) + 1))),
    ("flat", "wrong total-data-files", "summary total-data-files", in_summary("total-data-files", "1")),
    ("flat", "wrong total-files-size", "summary total-files-size", in_summary("total-files-size", "1")),
    ("flat", "wrong added-records", "summary added-records", in_summary("added-records", "9")),
    ("flat", "no total-data-files", "summary misses total-data-files", lambda t: t.snapshot()["summary"].pop("total-data-files")),
    ("flat", "statistics that do not exist", "does not exist", in_document("statistics", [STATISTICS])),
    ("flat", "manifest list without scheme", "location without a scheme", in_snapshot("manifest-list", lambda old: old.removeprefix("file://"))),
    ("flat", "manifest list header of another snapshot", "header snapshot-id", in_list_header("snapshot-id", "1")),
    ("flat", "manifest list of another record name", "record is named manifests", in_list_schema(None, "name", "manifests")),
    ("flat", "manifest list field without id", "has the field-id None", in_list_schema("added_files_count", "field-id", None)),
    ("flat", "manifest list without min_sequence_number", "has no field 516", no_list_field("min_sequence_number")),
    ("flat", "manifest list with an optional count", "is optional but required", optional_count),
    ("flat", "wrong manifest_length", "manifest_length is", in_listed("manifest_length", plus(1))),
    ("flat", "wrong added_files_count", "added_files_count is", in_listed("added_files_count", plus(1))),
    ("flat", "wrong added_rows_count", "added_rows_count is", in_listed("added_rows_count", plus(-1))),
    ("flat", "wrong existing_files_count", "existing_files_count is", in_listed("existing_files_count", 1)),
    ("flat", "wrong min_sequence_number", "min_sequence_number is", in_listed("min_sequence_number", 1)),
    ("flat", "wrong manifest sequence_number", "sequence_number 1 is not the snapshot's", in_listed("sequence_number", 1)),
    ("flat", "added_snapshot_id of nothing", "is no ancestor", in_listed("added_snapshot_id", 77)),
    ("flat", "partition_spec_id of nothing", "partition_spec_id 3 is of no spec", in_listed("partition_spec_id", 3)),
    ("flat", "manifest_path without scheme", "location without a scheme", in_listed("manifest_path", lambda old: old.removeprefix("file://"))),
    ("flat", "manifest twice in a list", "names a manifest twice", lambda t: t.list().records.append(deep(t.listed()))),
    ("flat", "manifest forgotten", "files that are gone", drop_file),
    ("flat", "wrong Avro record name", "record is named entry", in_schema(None, "name", "entry")),
    ("flat", "wrong name of data_file's record", "record is named data_file, not r2", in_type("data_file", "name", "data_file")),
    ("flat", "wrong name of a map's record", "record is named kv", lambda t: field(t.manifest().schema, "value_counts")["type"][1]["items"].update(name="kv")),
    ("parted", "wrong name of the partition's record", "record is named p, not r102", in_type("partition", "name", "p")),
    ("flat", "field without id", "has the field-id None", in_schema("file_path", "field-id", None)),
    ("flat", "wrong field id", "field-id 999 is none", in_schema("record_count", "field-id", 999)),
    ("flat", "key of a map without id", "has the field-id None", lambda t: field(t.manifest().schema, "lower_bounds")["type"][1]["items"]["fields"][0].pop("field-id")),
    ("flat", "list without element-id", "element-id is None", in_type("split_offsets", "element-id", None)),
    ("flat", "map without logicalType", "logicalType is None, not map", in_type("column_sizes", "logicalType", None)),
    ("flat", "optional field without default", "has no default of null", lambda t: field(t.manifest().schema, "snapshot_id").pop("default")),
    ("flat", "deprecated field", "field-id 111 is none", in_schema("key_metadata", "field-id", 111)),
    ("parted", "day without logicalType date", "field ts_part: is \"int\"", in_type("ts_part", "logicalType", None)),
    ("parted", "partition field of another id", "field-id 1077 is none", in_schema("id_part", "field-id", 1077)),
    ("flat", "no header schema", "header schema cannot be parsed", no_header("schema")),
    ("flat", "no header schema-id", "header misses schema-id", no_header("schema-id")),
    ("flat", "no header partition-spec", "header partition-spec is None", no_header("partition-spec")),
    ("flat", "no header partition-spec-id", "header partition-spec-id is None", no_header("partition-spec-id")),
    ("flat", "no header format-version", "header format-version is None", no_header("format-version")),
    ("flat", "no header content", "header content is None", no_header("content")),
    ("parted", "header partition-spec is the whole object", "is no list of fields", in_header("partition-spec", lambda old: json.dumps({"spec-id": 1, "fields": json.loads(old)}))),
    ("parted", "header partition-spec of other fields", "header partition-spec is", in_header("partition-spec", lambda old: json.dumps(json.loads(old)[1:]))),
    ("flat", "header schema with a field less", "header schema is not the table's", in_header("schema", lambda old: json.dumps({**json.loads(old), "fields": json.loads(old)["fields"][1:]}))),
    ("parted", "wrong contains_null", "(null, NaN, lower, upper)", in_partitions(1, "contains_null", lambda old: not old)),
    ("parted", "summary bound too high", "(null, NaN, lower, upper)", in_partitions(0, "lower_bound", struct.pack("<i", 2**30))),
    ("parted", "summary bound of another size", "bound cannot be decoded", in_partitions(0, "upper_bound", long(2**30))),
    ("parted", "no partition summaries", "partition summaries for", in_listed("partitions", None)),
    ("flat", "ADDED with a wrong file sequence number", "is not inherited", in_entry(1, "file_sequence_number", 1)),
    ("flat", "ADDED with a sequence number from the future", "above the manifest's", in_entry(1, "sequence_number", 99)),
    ("flat", "ADDED by another snapshot", "snapshot_id 1 is not the manifest's", in_entry(1, "snapshot_id", 1)),
    ("parted", "EXISTING without sequence number", "sequence_number is null but", in_entry(0, "sequence_number", None)),
    ("parted", "EXISTING without snapshot id", "snapshot_id is null but", in_entry(0, "snapshot_id", None)),
    ("parted", "EXISTING with another sequence number", "were (", in_entry(0, "sequence_number", plus(1))),
    ("parted", "DELETED without file sequence number", "file_sequence_number is null but", in_entry(2, "file_sequence_number", None)),
    ("flat", "status that is none", "status is 3", in_entry(1, "status", 3)),
    ("flat", "file live twice", "is live twice", duplicate_live),
    ("flat", "file_path without scheme", "file_path without a scheme", in_file("file_path", lambda old: old.removeprefix("file://"))),
    ("flat", "file that does not exist", "does not exist", in_file("file_path", lambda old: old + "x")),
    ("flat", "unknown file format", "file_format is csv", in_file("file_format", "csv")),
    ("flat", "content is deletes", "content is 1 in a manifest of content 0", in_file("content", 1)),
    ("flat", "wrong record_count", "record_count is 11, the footer says 10", in_file("record_count", 11)),
    ("flat", "wrong file size", "file_size_in_bytes is", in_file("file_size_in_bytes", plus(1))),
    ("flat", "wrong split offsets", "split_offsets are", in_file("split_offsets", [5])),
    ("flat", "split offsets descend", "are not ascending", in_file("split_offsets", [9, 4])),
    ("flat", "equality ids of a data file", "field 135 of a data file", in_file("equality_ids", [1])),
    ("flat", "sort order of nothing", "is of no sort order", in_file("sort_order_id", 9)),
    ("flat", "sort order of an unsorted file", "is out of order", in_parquet(swap_rows)),
    ("flat", "sort order that descends", "is out of order", lambda t: change(t.document["sort-orders"][-1]["fields"][0], "direction", "desc")),
    ("flat", "Parquet's sorting_columns of an unsorted file", "sorting_columns do not hold", in_parquet(swap_rows, sorting_columns=[SortingColumn(0)])),
    ("flat", "wrong column_sizes", "column_sizes is", in_map("column_sizes", ID, plus(1))),
    ("flat", "wrong value_counts", "value_counts is", in_map("value_counts", ID, plus(1))),
    ("flat", "wrong null_value_counts", "null_value_counts is", in_map("null_value_counts", S, plus(1))),
    ("flat", "wrong nan_value_counts", "nan_value_counts is", in_map("nan_value_counts", F, 7)),
    ("flat", "nan_value_counts of integers", "type without NaN", in_map("nan_value_counts", ID, 0)),
    ("flat", "metrics of a list", "no columns of the file", in_map("value_counts", L, 10)),
    ("flat", "bound is NaN", "upper bound is NaN", in_map("upper_bounds", F, NAN)),
    ("flat", "upper bound too low", "upper bound 105 does not bound", in_map("upper_bounds", ID, long(105))),
    ("flat", "lower bound too high", "lower bound 105 does not bound", in_map("lower_bounds", ID, long(105))),
    ("flat", "lower bound 0.0 above -0.0", "lower bound 0.0 does not bound", in_map("lower_bounds", F, struct.pack("<d", 0.0))),
    ("flat", "upper bound truncated, not incremented", "does not bound", in_map("upper_bounds", S, ("\u00e4\U0001f600" * 8).encode())),
    ("flat", "string bound too long", "is longer than 16", in_map("upper_bounds", S, ("\U0001f601" * 17).encode())),
    ("flat", "string bound cut inside a character", "is no string", in_map("lower_bounds", S, b"\xc3")),
    ("flat", "bound inside a list", "has bounds inside a list or map", in_map("lower_bounds", ELEMENT, long(0))),
    ("flat", "bound inside a map", "has bounds inside a list or map", in_map("upper_bounds", KEY, b"k")),
    ("flat", "bound of another size", "is no long", in_map("lower_bounds", ID, b"\0\0\0\0")),
    ("flat", "decimal bound padded", "not the fewest", in_map("upper_bounds", 11, b"\0\0\x40")),
    ("flat", "big-endian bound", "does not bound", in_map("lower_bounds", ID, lambda old: old[::-1])),
    ("flat", "metrics map with a key twice", "has a key twice", lambda t: t.file()["value_counts"].append(t.file()["value_counts"][0])),
    ("flat", "Parquet without field ids", "has no field id", in_parquet(without_ids)),
    ("flat", "Parquet without field ids inside a list", "node element has no field id", in_parquet(column("l", lambda c: c.cast(pa.list_(pa.int64()))))),
    ("flat", "INT96", "is INT96", in_parquet(lambda t: t, use_deprecated_int96_timestamps=True)),
    ("flat", "timestamps in milliseconds", "timestamp unit 1", in_parquet(lambda t: t, coerce_timestamps="ms")),
    ("flat", "decimals as fixed", "is stored as type 7", in_parquet(lambda t: t, store_decimal_as_integer=False)),
    ("flat", "column of another type", "is int, in the table long", in_parquet(column("id", lambda c: c.cast(pa.int32())))),
    ("flat", "timestamp without zone", "in the table timestamptz", in_parquet(column("ts", lambda c: c.cast(pa.timestamp("us"))))),
    ("flat", "column missing", "misses field 19", in_parquet(lambda t: t.drop_columns(["n"]))),
    ("flat", "column that the table has not", "that the table has not", in_parquet(lambda t: t.append_column(pa.field("q", pa.int32(), metadata={"PARQUET:field_id": "99"}), pa.array([1] * t.num_rows, pa.int32())))),
    ("flat", "rows lost", "the footer says 9", in_parquet(lambda t: t.slice(1))),
    ("flat", "not Parquet", "cannot be read", lambda t: t.local(t.file()["file_path"]).write_bytes(b"PAR1" * 9)),
    ("parted", "partition value of another day", "partition ts_part", in_tuple("ts_part", plus(1))),
    ("parted", "partition value of another bucket", "partition id_part", in_tuple("id_part", lambda old: 1 - old)),
    ("parted", "partition value that is null", "partition kind", in_tuple("kind", None)),
    ("parted", "rows of two partitions", "partition id_part", in_parquet(column("id", lambda c: pa.chunked_array([range(c.length())], pa.int64())))),
    ("parted", "unknown transform", "unknown transform", in_document("partition-specs", -1, "fields", 0, "transform", "week")),
    ("parted", "transform that cannot be applied", "cannot be applied", in_document("partition-specs", -1, "fields", 0, "transform", "truncate[3]")),
    ("parted", "partition by a list", "is no primitive field", in_document("partition-specs", -1, "fields", 1, "source-id", L)),
    ("parted", "last-partition-id too low", "last-partition-id", in_document("last-partition-id", 1000)),
    ("parted", "wrong changed-partition-count", "summary changed-partition-count", in_summary("changed-partition-count", "99")),
    ("v3", "version 3 without next-row-id", "misses next-row-id", without("next-row-id")),
    ("v3", "next-row-id too low", "next-row-id", in_document("next-row-id", plus(-1))),
    ("v3", "snapshot without first-row-id", "misses first-row-id", lambda t: t.snapshot().pop("first-row-id")),
    ("v3", "snapshot without added-rows", "misses added-rows", lambda t: t.snapshot().pop("added-rows")),
    ("v3", "first-row-id given before", "is below", in_snapshot("first-row-id", plus(-1))),
    ("v3", "manifest without first_row_id", "has no first_row_id", in_listed("first_row_id", None)),
    ("v3", "first_row_id of a manifest changes", "first_row_id is", lambda t: change(min(t.list().records, key=lambda r: r["sequence_number"]), "first_row_id", plus(1))),
    ("v3", "ADDED with a first_row_id", "first_row_id of an added file", in_file("first_row_id", 3)),
    ("v3", "DELETED without its first_row_id", "first_row_id of status 2 is null", lambda t: change(t.entry(2)["data_file"], "first_row_id", None)),
    ("v3", "added-rows too low", "row ids are assigned up to", in_snapshot("added-rows", plus(-1))),
    ("v3", "hint of a version that is not", "version-hint.text is", lambda t: (t.path.parent / "version-hint.text").write_text("99")),
    ("v3", "hint that is no number", "version-hint.text is", lambda t: (t.path.parent / "version-hint.text").write_text("v2")),
    ("v3", "gap in the versions", "versions have gaps", lambda t: (t.path.parent / "v2.metadata.json").unlink()),
]
# fmt: on


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="keep the directory")
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # of PyIceberg, that a delete matches no rows
    home, failures = pathlib.Path(tempfile.mkdtemp(prefix="firnline-mutants-")), 0
    try:
        locations = make(home / "made")
        failures += clean(home, locations)
        chosen = [m for m in MUTANTS if not args.names or any(name in m[1] for name in args.names)]
        for base, title, expected, apply in chosen:
            table = mend(home, locations, base)
            apply(table)
            table.save()
            findings = lint(table.path if base != "v3" else table.target, mapping=table.mapping)
            found = any(expected in finding for finding in findings)
            print(f"{'ok  ' if found else 'FAIL'}  {base}: {title}", flush=True)
            if not found:
                failures += 1
                print(*(f"        {finding}" for finding in findings), f"        expected: {expected}", sep="\n")
            shutil.rmtree(table.target)
        print(f"{len(chosen)} mutants, {failures} failures")
    finally:
        if args.keep:
            print(f"kept {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    return 1 if failures else 0


def clean(home, locations):
    """The number of tables that should be clean and are not."""
    failures = 0
    for name, location in locations.items():
        findings = {"foreign": lint(location.removeprefix("file://"), foreign=True)}
        if name in ("flat", "parted"):
            for base in (name, "v3") if name == "flat" else (name,):
                table = mend(home, locations, base)
                table.save()
                findings[f"strict {base}"] = lint(table.path if base != "v3" else table.target, mapping=table.mapping)
                shutil.rmtree(table.target)
        for how, found in findings.items():
            print(f"{'FAIL' if found else 'ok  '}  clean: {name}, {how}", flush=True)
            print(*(f"        {finding}\n" for finding in found), sep="", end="")
            failures += bool(found)
    return failures


def mend(home, locations, base):
    """A copy of a table that is as specified."""
    location = locations["flat" if base == "v3" else base]
    table = Copy(pathlib.Path(location.removeprefix("file://")).parents[1], location, home / "mutant")
    conforming(table)
    if base != "parted":
        sorted_files(table)
    if base == "v3":
        version_3(table)
    return table


if __name__ == "__main__":
    sys.exit(main())
