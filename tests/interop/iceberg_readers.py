"""Reads Iceberg tables on local disk with other engines, and compares what they see.

    iceberg_readers.py [--readers NAME,...] [--operators OP,...] TABLE...

Compares all readers for each TABLE, a directory or metadata file: the rows of every snapshot, the manifests, and for
each primitive column the counts under filters at, just below and just above each bound against counts over a full scan
of the same engine. Prints a line for each comparison; the exit code is 0 if all agree, else 1.

    from iceberg_readers import READERS, Table, compare
    assert compare(Table("/tmp/table")) == []

Needs the packages of requirements.txt and, for `chdb` and `core`, those of requirements-full.txt. A reader whose
package is not installed is skipped by `compare` unless it is named.

What the readers cannot do, and is therefore not compared:
  * DuckDB 1.5.5: NaN, which it takes for greater than all numbers but skips, as bounds leave it out (filters exclude
    it); loses rows under filters on columns that are partitioned by year, month, day or hour, of instants before
    1970, and by bucket of a uuid; fails under filters on negative decimals that are partitioned by truncate, and on
    any column where that of a void field is gone;
  * ClickHouse (chdb 4.4.0): loses rows before 1970 as DuckDB does; reads null lists, maps and structs as empty ones,
    and times as whole seconds; cannot filter on uuid, fixed, time and binary, nor on fields of structs in a table
    whose schema has changed; cannot read tables that are partitioned by identity of a uuid, which it takes for text, or
    by truncate of a decimal of more than 18 digits;
  * PyIceberg 0.12.0: filters on uuid, fixed, and fields of structs; loses rows under filters on doubles that are
    partitioned by identity, whose values it reads in single precision;
  * iceberg-rust (pyiceberg-core 0.11.0): manifests of uuids that are partitioned by identity, which it takes for text,
    of a void field whose column is gone, and in version 3 of fields whose names are no names in Avro.
"""

import argparse
import datetime as dt
import decimal
import importlib.util
import itertools
import math
import os
import pathlib
import re
import struct
import sys
import uuid

import pyarrow as pa
import pyarrow.parquet as pq

from iceberg_lint import find_metadata
from iceberg_rules.avro import unscaled
from iceberg_rules.files import plain_values
from iceberg_rules.footer import iceberg_struct, read_footer
from iceberg_rules.manifests import Tree
from iceberg_rules.metadata import lint_metadata
from iceberg_rules.report import Report
from iceberg_rules.values import DECIMAL, FIXED, TIMES, List, Map, Struct, decode, leaves

OPERATORS = ("<", "<=", "=", ">=", ">")


class Table:
    """A table at one of its metadata files, read by our own means."""

    def __init__(self, path, metadata=None):
        report = Report(foreign=True)
        self.metadata = (pathlib.Path(metadata) if metadata else find_metadata(pathlib.Path(path), report)).resolve()
        self.directory = self.metadata.parent.parent
        parsed = lint_metadata(self.metadata, report)
        self.document, self.version = parsed.document, parsed.version
        self.tree = Tree(parsed, report)
        self.tree.lint()
        self.schemas = parsed.schemas
        self.schema = parsed.schemas[parsed.get("current-schema-id")]
        self.columns = [leaf for leaf in leaves(self.schema) if not leaf.repeated]
        self.snapshots = sorted(parsed.snapshots.values(), key=lambda snapshot: snapshot["sequence-number"])
        self.current = parsed.get("current-snapshot-id")

    def schema_of(self, snapshot_id=None):
        """The schema with which readers show a snapshot: its own in time travel, else the table's."""
        snapshot = next((s for s in self.snapshots if s["snapshot-id"] == snapshot_id), {})
        return self.schemas.get(snapshot.get("schema-id"), self.schema)

    def entries(self, snapshot_id=None):
        """The live data files of a snapshot, as `iceberg_rules.manifests.Entry`."""
        live = self.tree.live.get(snapshot_id or self.current, {})
        return [entry for entry in live.values() if entry.content == 0]

    def deletes(self, snapshot_id=None):
        """The delete files of a snapshot."""
        live = self.tree.live.get(snapshot_id or self.current, {})
        return [entry for entry in live.values() if entry.content == 1]

    def has_uuid_partitions(self):
        """Whether files lie by the values of a uuid."""
        return any(leaf.field.type == "uuid" and "identity" in self.transforms(leaf) for leaf in self.columns)

    def lacks_sources(self):
        """Whether a column is gone that the table was ever partitioned by."""
        fields = [field for spec in self.document["partition-specs"] for field in spec["fields"]]
        return not {field.get("source-id") for field in fields} <= {leaf.field.id for leaf in self.columns}

    def transforms(self, leaf):
        """Names of the transforms by which the table was ever partitioned by a column."""
        specs = self.document["partition-specs"]
        fields = [field for spec in specs for field in spec["fields"] if field.get("source-id") == leaf.field.id]
        return {field["transform"].split("[")[0] for field in fields}

    def bounds(self, leaf):
        """All bounds of a column."""
        found = set()
        for entry in self.entries():
            for key in (125, 128):
                data = (entry.file.get(key) or {}).get(leaf.field.id)
                if data is not None:
                    found.add(widened(data, leaf.field.type))
        return sorted(found)


def widened(data, kind):
    """A bound, which may be of the type that a column had when it was written."""
    if kind == "long" and len(data) == 4:
        return decode("int", data)
    if kind == "double" and len(data) == 4:
        return decode("float", data)
    return decode(kind, data)


class Raw:
    """The data files themselves with pyarrow, columns by field id, and of deletes those by position."""

    name = "raw"

    def __init__(self, table):
        self.table = table

    def rows(self, snapshot_id=None):
        schema, rows, deleted = self.table.schema_of(snapshot_id), [], self.deleted(snapshot_id)
        for entry in self.table.entries(snapshot_id):
            path = pathlib.Path(entry.path.removeprefix("file://"))
            columns, file = {}, pq.ParquetFile(path).read()
            for field, column in zip(iceberg_struct(read_footer(path).root, []).fields, file.columns):
                columns[field.id] = canonical_column(column, field.type)
            nothing = [None] * file.num_rows
            found = zip(*(columns.get(field.id, nothing) for field in schema.fields))
            rows += (row for at, row in enumerate(found) if (entry.path, at) not in deleted)
        return rows

    def deleted(self, snapshot_id):
        """(path, position) of the rows that are deleted. All deletes are taken to be newer than their data files."""
        found = set()
        for entry in self.table.deletes(snapshot_id):
            assert entry.file[101].lower() == "parquet" and not entry.file.get(135), f"not by position: {entry.path}"
            file = pq.ParquetFile(entry.path.removeprefix("file://")).read()
            found.update(zip(file["file_path"].to_pylist(), file["pos"].to_pylist()))
        return found


class DuckDb:
    """DuckDB with its extensions iceberg and avro."""

    name = "duckdb"

    def __init__(self, table):
        import duckdb
        from duckdb_extensions import import_extension

        self.table = table
        for extension in ("avro", "iceberg"):
            import_extension(extension)
        self.connection = duckdb.connect()
        self.connection.execute("load avro; load iceberg; set timezone = 'UTC'")

    def source(self, snapshot_id=None):
        at = f", snapshot_from_id={snapshot_id}" if snapshot_id else ""
        return f"iceberg_scan('{self.table.metadata}'{at})"

    def rows(self, snapshot_id=None):
        result = self.connection.execute(f"select * from {self.source(snapshot_id)}").arrow()
        found = result.read_all() if isinstance(result, pa.RecordBatchReader) else result
        return canonical_rows(found, self.table.schema_of(snapshot_id))

    def can_filter(self, leaf):
        transforms = self.table.transforms(leaf)
        negative = any(not isinstance(bound, (str, bytes)) and bound < 0 for bound in self.table.bounds(leaf))
        wrong = negative and (before_epoch(transforms) or (DECIMAL.match(leaf.field.type) and "truncate" in transforms))
        return not wrong and not (leaf.field.type == "uuid" and "bucket" in transforms) and not self.table.lacks_sources()

    def counts(self, leaf, operator, value):
        """(rows that a filter finds in the table, rows that it finds in a copy of all rows)."""
        self.connection.execute(f"create table if not exists copied as select * from {self.source()}")
        name = ".".join(f'"{part}"' for part in leaf.name.split("."))
        where, values = f"{name} {operator}", []
        if value is not None:
            kind = {"float": "float", "double": "double"}.get(leaf.field.type)
            where, values = (
                f"{where} {f'$1::{kind} and not isnan({name})' if kind else '$1'}",
                [python_value(leaf.field.type, value)],
            )
        return tuple(
            self.connection.execute(f"select count(*) from {source} where {where}", values).fetchone()[0]
            for source in (self.source(), "copied")
        )


class PyIceberg:
    """PyIceberg's StaticTable."""

    name = "pyiceberg"

    def __init__(self, table):
        from pyiceberg.table import StaticTable

        self.table, self.static, self.copied = table, StaticTable.from_metadata(str(table.metadata)), None

    def rows(self, snapshot_id=None):
        found = self.static.scan(snapshot_id=snapshot_id).to_arrow()
        return canonical_rows(found, self.table.schema_of(snapshot_id))

    def can_filter(self, leaf):
        if leaf.field.type == "double" and "identity" in self.table.transforms(leaf):
            return False
        return leaf.field.type != "uuid" and not FIXED.match(leaf.field.type) and len(leaf.path) == 1

    def counts(self, leaf, operator, value):
        from pyiceberg import expressions
        from pyiceberg.expressions.visitors import bind
        from pyiceberg.io.pyarrow import expression_to_pyarrow

        names = {
            "<": "LessThan",
            "<=": "LessThanOrEqual",
            "=": "EqualTo",
            ">=": "GreaterThanOrEqual",
            ">": "GreaterThan",
        }
        if value is None:
            condition = (expressions.NotNull if "not" in operator else expressions.IsNull)(leaf.name)
        else:
            condition = getattr(expressions, names[operator])(leaf.name, self.literal(leaf.field.type, value))
        if self.copied is None:
            self.copied = self.static.scan().to_arrow()
        bound = expression_to_pyarrow(bind(self.static.schema(), condition, case_sensitive=True))
        return self.static.scan(row_filter=condition).to_arrow().num_rows, self.copied.filter(bound).num_rows

    @staticmethod
    def literal(kind, value):
        from pyiceberg.expressions import literals

        made = {
            "date": literals.DateLiteral,
            "time": literals.TimeLiteral,
            "timestamp": literals.TimestampLiteral,
            "timestamptz": literals.TimestampLiteral,
            "float": literals.DoubleLiteral,
            "double": literals.DoubleLiteral,
        }
        return made[kind](value) if kind in made else python_value(kind, value)


class ClickHouse:
    """ClickHouse, as chdb: one connection for the process."""

    name = "chdb"
    connection = None
    copies = itertools.count()

    def __init__(self, table):
        import chdb

        ClickHouse.connection = ClickHouse.connection or chdb.connect(":memory:")
        self.table, self.copied = table, None

    @staticmethod
    def can_read(table):
        def is_wide(leaf):
            found = DECIMAL.match(leaf.field.type)
            return found and int(found[1]) > 18 and any(kind.startswith("truncate") for kind in table.transforms(leaf))

        return not table.has_uuid_partitions() and not any(map(is_wide, table.columns))

    def source(self):
        metadata = self.table.metadata.relative_to(self.table.directory)
        return f"icebergLocal('{self.table.directory}/', SETTINGS iceberg_metadata_file_path = '{metadata}')"

    def query(self, sql, output="ArrowTable"):
        # It reads only what is below the working directory.
        before = os.getcwd()
        os.chdir("/")
        try:
            return self.connection.query(sql, output)
        finally:
            os.chdir(before)

    def rows(self, snapshot_id=None):
        at = f", iceberg_snapshot_id = {snapshot_id}" if snapshot_id else ""
        settings = f"settings output_format_arrow_string_as_string = 0{at}"  # a string may be no UTF-8
        found = self.query(f"select * from {self.source()} {settings}")
        return canonical_rows(found, self.table.schema_of(snapshot_id))

    def can_filter(self, leaf):
        if before_epoch(self.table.transforms(leaf)) and any(bound < 0 for bound in self.table.bounds(leaf)):
            return False
        if len(leaf.path) > 1 and len(self.table.schemas) > 1:
            return False
        return leaf.field.type not in ("uuid", "time", "binary") and not FIXED.match(leaf.field.type)

    def counts(self, leaf, operator, value):
        if self.copied is None:
            self.copied = f"copied_{next(ClickHouse.copies)}"
            self.query(f"create table {self.copied} engine = Memory as select * from {self.source()}", "CSV")
        name = ".".join(f"`{part}`" for part in leaf.name.split("."))
        where = f"{name} {operator} {'' if value is None else self.literal(leaf.field.type, value)}"
        sources = (self.source(), self.copied)
        return tuple(int(str(self.query(f"select count() from {s} where {where}", "CSV"))) for s in sources)

    @staticmethod
    def literal(kind, value):
        if found := DECIMAL.match(kind):
            return f"toDecimal128('{python_value(kind, value)}', {found[2]})"
        if kind in TIMES:
            unit, zone = (6, "'UTC'") if TIMES[kind] == 10**6 else (9, "'UTC'")
            digits = f"{value // 10**unit}.{value % 10**unit:0{unit}d}"
            return f"toDateTime64(toDecimal128('{digits}', {unit}), {unit}, {zone})"
        if kind == "date":
            return f"toDate32('{python_value(kind, value)}')"
        if isinstance(value, str):
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        if isinstance(value, float):
            return f"toFloat{32 if kind == 'float' else 64}('{value!r}')"
        return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def before_epoch(transforms):
    """Whether instants before 1970 are in partitions that some round towards zero, though the rule is to round down."""
    return bool(transforms & {"year", "month", "day", "hour"})


READERS = {"duckdb": (DuckDb, "duckdb_extensions"), "pyiceberg": (PyIceberg, "pyiceberg"), "chdb": (ClickHouse, "chdb")}


def python_value(kind, value):
    """The Python value of a plain one."""
    if found := DECIMAL.match(kind):
        return decimal.Decimal(value).scaleb(-int(found[2]), decimal.Context(prec=40))
    if kind == "date":
        return dt.date(1970, 1, 1) + dt.timedelta(days=value)
    if kind == "time":
        return (dt.datetime.min + dt.timedelta(microseconds=value)).time()
    if kind in ("timestamp", "timestamptz"):
        zone = dt.timezone.utc if kind == "timestamptz" else None
        return dt.datetime(1970, 1, 1, tzinfo=zone) + dt.timedelta(microseconds=value)
    return uuid.UUID(bytes=value) if kind == "uuid" else value


def canonical(value, kind):
    """A plain value of what readers return, the same for all of them."""
    if value is None:
        return None
    if isinstance(kind, Struct):
        return tuple(canonical(value.get(field.name), field.type) for field in kind.fields)
    if isinstance(kind, List):
        return [canonical(item, kind.element.type) for item in value]
    if isinstance(kind, Map):
        pairs = (
            value.items()
            if isinstance(value, dict)
            else (tuple(p.values()) if isinstance(p, dict) else p for p in value)
        )
        return sorted(((canonical(k, kind.key.type), canonical(v, kind.value.type)) for k, v in pairs), key=repr)
    if found := DECIMAL.match(kind):
        return unscaled(decimal.Decimal(value), int(found[2]))
    if isinstance(value, dt.datetime):
        return (value.replace(tzinfo=None) - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)
    if isinstance(value, dt.date):
        return (value - dt.date(1970, 1, 1)).days
    if isinstance(value, dt.time):
        return ((value.hour * 60 + value.minute) * 60 + value.second) * 10**6 + value.microsecond
    if isinstance(value, uuid.UUID):
        return value.bytes
    if kind == "uuid" and isinstance(value, str):
        return uuid.UUID(value).bytes
    if kind == "string" and isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str) and (kind == "binary" or FIXED.match(kind)):
        return value.encode("utf-8", "surrogateescape")
    return bool(value) if kind == "boolean" else value


def canonical_column(column, kind):
    chunks = column.combine_chunks()
    array = pa.concat_arrays(chunks.chunks) if isinstance(chunks, pa.ChunkedArray) else chunks
    if kind in TIMES and isinstance(kind, str) and pa.types.is_timestamp(array.type):
        return plain_values(array, kind)
    return [canonical(value, kind) for value in column.to_pylist()]


def canonical_rows(table, schema):
    """The rows of an Arrow table whose columns are named as those of the schema."""
    return list(zip(*(canonical_column(table.column(field.name), field.type) for field in schema.fields)))


def as_clickhouse(row, schema):
    """A row without what ClickHouse does not know: times, and null lists, maps and structs."""

    def filled(value, kind):
        if isinstance(kind, Struct):
            return tuple(filled(v, f.type) for v, f in zip(value or [None] * len(kind.fields), kind.fields))
        if isinstance(kind, List):
            return [filled(item, kind.element.type) for item in value or []]
        if isinstance(kind, Map):
            return [(key, filled(item, kind.value.type)) for key, item in value or []]
        return None if kind == "time" else value

    return tuple(filled(value, field.type) for value, field in zip(row, schema.fields))


def difference(expected, found):
    """What distinguishes two multisets of rows, or None."""
    want, got = sorted(map(repr, expected)), sorted(map(repr, found))
    if want == got:
        return None
    missing = [row for row in want if row not in set(got)][:1]
    extra = [row for row in got if row not in set(want)][:1]
    return f"{len(got)} rows instead of {len(want)}; missing {missing}; extra {extra}"[:900]


def below(kind, value):
    return step(kind, value, -1)


def above(kind, value):
    return step(kind, value, 1)


def step(kind, value, by):
    """The next value of a type in a direction, or None at its end."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        if kind == "double" or not math.isfinite(value):
            return math.nextafter(value, by * math.inf)
        return next_float(value, by)
    if isinstance(value, str):
        return value + "!" if by > 0 else value[:-1] if value else None
    if isinstance(value, bytes):
        if kind == "binary":
            return value + b"\0" if by > 0 else value[:-1] if value else None
        number = int.from_bytes(value, "big") + by
        return number.to_bytes(len(value), "big") if 0 <= number < 256 ** len(value) else None
    limits = {"int": 2**31, "date": 2**31, "time": 86_400 * 10**6}
    limit = 10 ** int(DECIMAL.match(kind)[1]) if DECIMAL.match(kind) else limits.get(kind, 2**63)
    least = 0 if kind == "time" else -limit + bool(DECIMAL.match(kind))
    return value + by if least <= value + by < limit else None


def next_float(value, by):
    """The next single-precision number."""
    (bits,) = struct.unpack("<i", struct.pack("<f", value))
    if value == 0:
        bits = 1 if by > 0 else -(2**31) + 1
    else:
        bits += by if value > 0 else -by
    return struct.unpack("<f", struct.pack("<i", bits))[0]


def probes(table, leaf, most=8):
    """Values at, below and above the bounds of a column; of many bounds the outermost and some between."""
    bounds, kind = table.bounds(leaf), leaf.field.type
    kept = (
        bounds if len(bounds) <= most else bounds[:2] + bounds[2:-2][:: max(1, len(bounds) // (most - 4))] + bounds[-2:]
    )
    found = []
    for bound in kept:
        for value in (bound, below(kind, bound), above(kind, bound)):
            if value is not None and value not in found:
                found.append(value)
    return found


def check_filters(table, reader, operators=OPERATORS, columns=None):
    """(number of filters tried, where the counts of a reader under a filter are not those over its full scan).

    Under filters on all columns, or on those of a function of them."""
    wrong, tried = [], 0
    for leaf in filter(columns, table.columns):
        if not reader.can_filter(leaf):
            continue
        conditions = [(op, value) for value in probes(table, leaf) for op in operators]
        for operator, value in [*conditions, ("is null", None), ("is not null", None)]:
            tried += 1
            try:
                found, expected = reader.counts(leaf, operator, value)
            except Exception as error:
                wrong.append(f"{reader.name}: {leaf.name} {operator} {value!r}: {error!r}"[:400])
                break
            if found != expected:
                wrong.append(f"{reader.name}: {leaf.name} {operator} {value!r}: {found} instead of {expected}")
    return tried, wrong


def check_rows(table, reader):
    """Where the rows of a reader, of the table and of each snapshot, are not those of the data files."""
    wrong = []
    for snapshot_id in [None, *(snapshot["snapshot-id"] for snapshot in table.snapshots)]:
        schema, expected = table.schema_of(snapshot_id), Raw(table).rows(snapshot_id)
        try:
            found = reader.rows(snapshot_id)
        except Exception as error:
            wrong.append(f"{reader.name}: snapshot {snapshot_id}: {error!r}"[:400])
            continue
        if isinstance(reader, ClickHouse):
            expected, found = ([as_clickhouse(row, schema) for row in rows] for rows in (expected, found))
        if message := difference(expected, found):
            wrong.append(f"{reader.name}: snapshot {snapshot_id}: {message}")
    return wrong


def check_manifests(table):
    """Where iceberg-rust (pyiceberg-core) reads the manifests of the current snapshot otherwise than we do."""
    from pyiceberg_core import manifest as core

    names = [field["name"] for spec in table.document["partition-specs"] for field in spec["fields"]]
    are_renamed = table.version == 3 and not all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) for name in names)
    if table.has_uuid_partitions() or are_renamed or table.lacks_sources():
        return []
    wrong = []
    snapshot = next((s for s in table.snapshots if s["snapshot-id"] == table.current), None)
    live = {}
    for listed in core.read_manifest_list(local(snapshot["manifest-list"])).entries() if snapshot else []:
        for entry in core.read_manifest_entries(local(listed.manifest_path)).entries():
            if int(entry.status) != 2:
                sequence = listed.sequence_number if entry.sequence_number is None else entry.sequence_number
                file = entry.data_file
                live[file.file_path] = (
                    sequence,
                    file.record_count,
                    file.file_size_in_bytes,
                    dict(file.lower_bounds or {}),
                    dict(file.upper_bounds or {}),
                    dict(file.null_value_counts or {}),
                    list(file.split_offsets or []),
                )
    expected = {
        entry.path: (
            entry.sequence,
            entry.rows,
            entry.size,
            *(entry.file.get(key) or {} for key in (125, 128, 110)),
            entry.file.get(132) or [],
        )
        for entry in [*table.entries(), *table.deletes()]
    }
    for path in sorted(live.keys() | expected.keys()):
        if live.get(path) != expected.get(path):
            wrong.append(f"core: {path}: {live.get(path)} instead of {expected.get(path)}"[:500])
    return wrong


def local(location):
    return pathlib.Path(location.removeprefix("file://")).read_bytes()


def compare(table, readers=None, operators=OPERATORS, tell=print, columns=None):
    """All that readers disagree on; `readers` are names of READERS, and `core`, `columns` as of `check_filters`."""
    wrong = []

    def told(what, found):
        tell(f"{'FAIL' if found else 'ok  '}  {table.directory.name}: {what}")
        wrong.extend(found)

    for name, (make, module) in READERS.items():
        if (readers and name not in readers) or (not readers and not importlib.util.find_spec(module)):
            continue
        if not getattr(make, "can_read", lambda _: True)(table):
            continue
        reader = make(table)
        told(f"{name} reads {len(table.snapshots)} snapshots", check_rows(table, reader))
        tried, found = check_filters(table, reader, operators, columns)
        told(f"{name} counts under {tried} filters", found)
    if "core" in (readers or ()) or (not readers and importlib.util.find_spec("pyiceberg_core")):
        told("core reads the manifests", check_manifests(table))
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=lambda text: text.split(","), help=f"of {','.join([*READERS, 'core'])}")
    parser.add_argument("--operators", type=lambda text: text.split(","), default=OPERATORS)
    parser.add_argument("tables", nargs="+", metavar="TABLE")
    args = parser.parse_args()
    wrong = []
    for path in map(pathlib.Path, args.tables):
        table = Table(path.parent.parent, path) if path.is_file() else Table(path)
        wrong += compare(table, args.readers, args.operators)
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
