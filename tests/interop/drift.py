"""Compacts files whose columns drift, and compares what independent readers see with what pyarrow sees in the files.

Usage: drift.py [--seeds N] [--filters N] [--release] [NAME...], names of cases; all of them without any.

Each case is files of an earlier and of a later window, in both formats: the table is made of the first and follows the
second. Then come tables of random columns, one for each of --seeds, of which DuckDB is asked the same in the table and
in the files, under --filters random filters.

The command can be replaced by the environment variable FIRNLINE_COMPACT, a program that takes its options.
"""

import argparse
import datetime as dt
import decimal
import json
import pathlib
import random
import shutil
import sys
import tempfile

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from duckdb_extensions import import_extension
from pyiceberg.table import StaticTable

from iceberg_lint import find_metadata, lint
from iceberg_rules.report import Report
from run import OK, QUARANTINE, Host
from sources import HOUR_MS, START_MS

BOTH = ("delta", "iceberg")
WIDEN = ("--evolve", "add-and-widen")
V3 = (*WIDEN, "--iceberg-version", "3")


class Table:
    """A table of a case as its readers see it."""

    def __init__(self, path, form):
        self.path, self.form = path, form
        self.metadata = find_metadata(path, Report(foreign=True)) if form == "iceberg" else None

    def scan(self):
        """It in DuckDB's SQL."""
        return f"iceberg_scan('{self.metadata}')" if self.metadata else f"delta_scan('{self.path}')"

    def readers(self, widened):
        """Name and rows by `ts` of every reader that can read it."""
        with connect(self.form) as connection:
            yield "DuckDB", table_of(connection, f"select * from {self.scan()}")
        if self.metadata:
            yield "PyIceberg", StaticTable.from_metadata(str(self.metadata)).scan().to_arrow()
        # deltalake 1.6 and Polars 2.1 know no tables with the feature `typeWidening`.
        elif not widened:
            yield "deltalake", DeltaTable(str(self.path)).to_pyarrow_table()
            yield "Polars", pl.read_delta(str(self.path)).to_arrow()


def connect(form):
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    connection.execute(f"load {form}")
    return connection


def table_of(connection, query):
    result = connection.execute(query).arrow()
    return result.read_all() if isinstance(result, pa.RecordBatchReader) else result


def files(*columns):
    """The columns of each file, beside its key."""
    return list(columns)


def column(values, data_type, nullable=True):
    return pa.array(values, data_type), nullable


def one(name, value, data_type):
    return {name: pa.array([value], data_type)}


POINT = pa.struct([("x", pa.int32())])
LARGER = pa.struct([("y", pa.string()), ("x", pa.int64())])
NS, US, INSTANT = pa.timestamp("ns"), pa.timestamp("us"), pa.timestamp("us", "UTC")
DAY = dt.date(2024, 2, 29)
NOON = dt.datetime(2024, 2, 29, 12)

# Name, files of the first window, of the second, what both are in the end (`None`: left out), options, formats.
CASES = [
    ("added", files(one("v", 1, pa.int64())), files({**one("v", 2, pa.int64()), **one("w", "a", pa.string())}),
     {"v": pa.int64(), "w": pa.string()}, (), BOTH),
    ("missing", files({**one("v", 1, pa.int64()), **one("w", "a", pa.string())}), files(one("v", 2, pa.int64())),
     {"v": pa.int64(), "w": pa.string()}, (), BOTH),
    ("reordered", files({**one("v", 1, pa.int64()), **one("w", "a", pa.string())}),
     files({**one("w", "b", pa.string()), **one("v", 2, pa.int64())}), {"v": pa.int64(), "w": pa.string()}, (), BOTH),
    ("int", files(one("v", 1, pa.int32())), files(one("v", 2**40, pa.int64())), {"v": pa.int64()}, WIDEN, BOTH),
    ("int_narrower", files(one("v", 2**40, pa.int64())), files(one("v", 1, pa.int32()), one("v", 3, pa.int16())),
     {"v": pa.int64()}, (), BOTH),
    ("float", files(one("v", 0.1, pa.float32())), files(one("v", 0.1, pa.float64())), {"v": pa.float64()}, WIDEN, BOTH),
    ("decimal", files(one("v", decimal.Decimal("1.25"), pa.decimal128(9, 2))),
     files(one("v", decimal.Decimal("-12345678901.25"), pa.decimal128(20, 2))), {"v": pa.decimal128(20, 2)},
     WIDEN, BOTH),
    ("scale", files(one("v", decimal.Decimal("1.25"), pa.decimal128(9, 2))),
     files(one("v", decimal.Decimal("1.2345"), pa.decimal128(9, 4))), {"v": pa.decimal128(11, 4)}, WIDEN, ("delta",)),
    ("date", files(one("v", DAY, pa.date32())), files(one("v", NOON, US)), {"v": US}, V3, ("delta",)),
    ("date_narrower", files(one("v", NOON, US)), files(one("v", DAY, pa.date32())), {"v": US}, (), BOTH),
    ("optional", files({"v": column([1], pa.int64(), False)}), files({"v": column([None], pa.int64())}, {}),
     {"v": pa.int64()}, WIDEN, BOTH),
    ("struct", files(one("v", {"x": 1}, POINT)), files(one("v", {"x": 2**40, "y": "a"}, LARGER)),
     {"v": pa.struct([("x", pa.int64()), ("y", pa.string())])}, WIDEN, BOTH),
    ("list", files(one("v", [{"x": 1}], pa.list_(POINT))),
     files(one("v", [{"x": 2**40, "y": "a"}, None], pa.list_(LARGER))),
     {"v": pa.list_(pa.struct([("x", pa.int64()), ("y", pa.string())]))}, WIDEN, BOTH),
    ("map", files(one("v", [("k", {"x": 1})], pa.map_(pa.string(), POINT))),
     files(one("v", [("k", {"x": 2**40, "y": "a"})], pa.map_(pa.string(), LARGER))),
     {"v": pa.map_(pa.string(), pa.struct([("x", pa.int64()), ("y", pa.string())]))}, WIDEN, BOTH),
    ("variants", files(one("v", "a", pa.string())),
     files({"v": pa.array(["b"]).dictionary_encode()}, one("v", "c", pa.large_string()),
           one("v", "d", pa.string_view())),
     {"v": pa.string()}, (), BOTH),
]
# What a file of the second type does to a column of the first: it is set aside, for a reason with these words.
REFUSED = [
    ("narrower", one("v", 1, pa.int32()), one("v", 2, pa.int64()), "narrower", (), BOTH),
    ("not_to_be_widened", one("v", 1, pa.int32()), one("v", 2, pa.int64()), "cannot be widened", WIDEN, ("delta",)),
    ("sign", one("v", 1, pa.int64()), one("v", 2, pa.uint64()), "type differs", WIDEN, BOTH),
    ("text_for_bytes", one("v", b"a", pa.binary()), one("v", "a", pa.string()), "type differs", WIDEN, BOTH),
    ("bytes_for_text", one("v", "a", pa.string()), one("v", b"a", pa.binary()), "type differs", WIDEN, BOTH),
    ("text_for_numbers", one("v", 1, pa.int64()), one("v", "1", pa.string()), "type differs", WIDEN, BOTH),
    ("numbers_for_text", one("v", "1", pa.string()), one("v", 1, pa.int64()), "type differs", WIDEN, BOTH),
    ("nanoseconds", one("v", NOON, US), one("v", 1_001, NS), "without loss", WIDEN, BOTH),
    ("local_for_instant", one("v", NOON, INSTANT), one("v", NOON, US), "type differs", WIDEN, BOTH),
    ("instant_for_local", one("v", NOON, US), one("v", NOON, INSTANT), "type differs", WIDEN, BOTH),
    ("null", {"v": column([1], pa.int64(), False)}, {"v": column([None], pa.int64())}, "NOT NULL broken", (), BOTH),
    ("never", one("v", 1, pa.int64()), {**one("v", 2, pa.int64()), **one("w", 1, pa.int64())}, "not in the table",
     ("--evolve", "never"), BOTH),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="tables of random columns in each format")
    parser.add_argument("--filters", type=int, default=50, help="random filters for each of them")
    parser.add_argument("--release", action="store_true", help="build the example with optimisation")
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()
    for extension in ("avro", "iceberg", "delta"):
        import_extension(extension)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="firnline-drift-"))
    try:

        def host(form, name):
            return DriftHost(directory / f"{form}-{name}", args.release, form)

        for name, first, second, columns, options, formats in CASES:
            for form in formats:
                if not args.names or name in args.names:
                    followed(host(form, name), first, second, columns, options)
                    print(f"ok  {name}, {form}", flush=True)
        for name, first, second, reason, options, formats in REFUSED:
            for form in formats:
                if not args.names or name in args.names:
                    set_aside(host(form, name), first, second, reason, options)
                    print(f"ok  {name} is set aside, {form}", flush=True)
        for seed in range(0 if args.names else args.seeds):
            for form in BOTH:
                differential(host(form, seed), seed, args.filters)
                print(f"ok  seed {seed}, {form}: {args.filters} answers", flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class DriftHost(Host):
    """A bucket and a place for tables of one format."""

    min_files = 1

    def __init__(self, home, release, form):
        home.mkdir(parents=True)
        super().__init__(home, release)
        self.format = form
        self.rows = 0

    def write(self, hour, tables):
        """A file for each table, with keys that no other has; what pyarrow sees in it."""
        directory = self.bucket / "data" / "users"
        directory.mkdir(parents=True, exist_ok=True)
        written = []
        for number, columns in enumerate(tables):
            keys = range(self.rows, self.rows + columns.num_rows)
            self.rows = keys.stop
            columns = columns.set_column(0, "ts", pa.array(keys, pa.int64()))
            path = directory / f"{START_MS + hour * HOUR_MS + number}-w{number}-{hour}.parquet"
            pq.write_table(columns, path)
            written.append(path)
        return written

    def run(self, *options, expect=OK):
        return self.compact("--grace", "1h", *options, expect=expect, sort_key="ts")


def tables(files):
    """Tables of columns that may say that they have no nulls."""
    made = []
    for columns in files:
        rows = max((len(value[0] if isinstance(value, tuple) else value) for value in columns.values()), default=1)
        arrays = {"ts": pa.array([0] * rows, pa.int64()), **columns}
        fields, values = [], []
        for name, value in arrays.items():
            array, nullable = value if isinstance(value, tuple) else (value, True)
            fields.append(pa.field(name, array.type, nullable))
            values.append(array)
        made.append(pa.table(values, schema=pa.schema(fields)))
    return made


def expected(paths, columns):
    """The rows of the files, with these columns and types, by key."""
    rows = []
    for path in paths:
        table = pq.read_table(path)
        arrays = [table["ts"]]
        for name, data_type in columns.items():
            missing = pa.nulls(table.num_rows, data_type)
            arrays.append(converted(table[name], data_type) if name in table.column_names else missing)
        rows.extend(pa.table(arrays, names=["ts", *columns]).to_pylist())
    return sorted(rows, key=lambda row: row["ts"])


def converted(array, data_type):
    """The values in a wider type; arrow casts no structs whose fields differ."""
    if pa.types.is_nested(data_type):
        return pa.array(array.to_pylist(), data_type)
    return array.cast(data_type)


def rows_of(table, columns):
    """What a reader sees, in the types that are expected."""
    table = table.select(["ts", *columns])
    arrays = [pa.chunked_array([converted(table[name].combine_chunks(), kind)]) for name, kind in columns.items()]
    rows = pa.table([table["ts"], *arrays], names=["ts", *columns]).to_pylist()
    return sorted(rows, key=lambda row: row["ts"])


def widening_delta_table(path):
    """A table as another writer makes it that lets its columns be widened."""
    features = ["timestampNtz", "typeWidening"]
    field = {"name": "ts", "type": "long", "nullable": True, "metadata": {}}
    metadata = {
        "id": "6a92d155-a59b-42ee-bd4b-b4ec7fd1f875",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": [field]}),
        "partitionColumns": [],
        "configuration": {"delta.enableTypeWidening": "true"},
    }
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    log = path / "_delta_log"
    log.mkdir(parents=True)
    lines = [json.dumps({"protocol": protocol}), json.dumps({"metaData": metadata})]
    (log / "00000000000000000000.json").write_text("\n".join(lines))


def followed(host, first, second, columns, options):
    widened = bool(options) and host.format == "delta"
    if widened:
        widening_delta_table(host.table("users"))
        options = options[:2]
    paths = host.write(0, tables(first))
    host.run(*options)
    paths += host.write(1, tables(second))
    host.run(*options)
    table = Table(host.table("users"), host.format)
    check(table, expected(paths, columns), columns, widened)
    # Both in one plan make the same.
    other = DriftHost(host.bucket.parent / "together", False, host.format)
    other.command = host.command
    if widened:
        widening_delta_table(other.table("users"))
    paths = other.write(0, tables([*first, *second]))
    other.run(*options)
    check(Table(other.table("users"), host.format), expected(paths, columns), columns, widened)


def check(table, rows, columns, widened):
    if table.metadata:
        findings = lint(table.path)
        assert findings == [], findings
    for name, found in table.readers(widened):
        got = rows_of(found, columns)
        assert got == rows, f"{name} reads {table.path}: {got} instead of {rows}"


def set_aside(host, first, second, reason, options):
    paths = host.write(0, tables([first]))
    host.run(*options)
    bad, good = host.write(1, tables([second, first]))
    document = host.run(*options, expect=QUARANTINE)
    text = json.dumps(document)
    assert reason in text and "`v`" in text.replace("`w`", "`v`"), text
    columns = {"v": pq.read_table(paths[0])["v"].type}
    table = Table(host.table("users"), host.format)
    check(table, expected([*paths, good], columns), columns, False)
    assert bad.exists(), "what is set aside stays in the bucket"


KINDS = [
    (pa.int16(), pa.int32(), pa.int64()),
    (pa.float32(), pa.float64()),
    (pa.decimal128(9, 2), pa.decimal128(18, 2)),
    (pa.string(), pa.large_string()),
    (pa.bool_(),),
    (pa.date32(),),
    (US,),
]


def value(rng, data_type):
    if rng.random() < 0.2:
        return None
    if pa.types.is_integer(data_type):
        return rng.choice([0, 1, -1, rng.randrange(-(2**15), 2**15)])
    if pa.types.is_floating(data_type):
        return rng.choice([0.0, -0.0, 1.5, float("nan"), float("inf"), float("-inf"), rng.randrange(-999, 999) / 8])
    if pa.types.is_decimal(data_type):
        return decimal.Decimal(rng.randrange(-(10**6), 10**6)).scaleb(-2)
    if pa.types.is_boolean(data_type):
        return rng.random() < 0.5
    if pa.types.is_date(data_type):
        return dt.date(1970, 1, 1) + dt.timedelta(days=rng.randrange(-9999, 9999))
    if pa.types.is_timestamp(data_type):
        return dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=rng.randrange(-(10**15), 10**15))
    return rng.choice(["", "a", "\u00e4" * rng.randrange(50), "z" * 40 + str(rng.random()), "\U0010ffff"])


def literal(number):
    if number is None:
        return "null"
    if isinstance(number, float):
        return f"'{number}'::double"
    if isinstance(number, (dt.date, dt.datetime)):
        return f"'{number}'::{'timestamp' if isinstance(number, dt.datetime) else 'date'}"
    return "'" + number.replace("'", "''") + "'" if isinstance(number, str) else str(number).lower()


def differential(host, seed, filters):
    """Files of random columns, window after window: DuckDB answers the same of them and of the table."""
    rng = random.Random(seed)
    names = {f"c{number}": rng.choice(KINDS) for number in range(rng.randrange(3, 9))}
    # A Delta table that is made without times without zone can never have them.
    if (US,) in names.values():
        names["c"] = (US,)
    # A column is born with its widest type, so that every later file fits it in both formats.
    widest = {name: kinds[-1] for name, kinds in names.items()}
    paths = []
    for hour in range(3):
        made = []
        there = sorted(names)[: len(names) // 2 + 1] if hour == 0 else sorted(names)
        for number in range(3):
            columns = rng.sample(there, rng.randrange(1, len(there) + 1))
            kinds = {name: rng.choice(names[name]) for name in columns}
            if number == 0:
                kinds = {name: widest[name] for name in there}
            count = rng.randrange(1, 200)
            arrays = {name: pa.array([value(rng, kind) for _ in range(count)], kind) for name, kind in kinds.items()}
            made.append(pa.table({"ts": pa.array([0] * count, pa.int64()), **arrays}))
        paths += host.write(hour, made)
        host.run()
    table = Table(host.table("users"), host.format)
    with connect(host.format) as connection:
        files = [str(path) for path in paths]
        connection.execute(f"create table sources as select * from read_parquet({files}, union_by_name=true)")
        for _ in range(filters):
            name = rng.choice(sorted(names))
            operator = rng.choice(["<", "<=", "=", ">=", ">", "is null", "is not null"])
            probe = value(rng, widest[name])
            where = f"{name} {operator}" + ("" if operator.startswith("is") else f" {literal(probe)}")
            query = "select count(*), sum(ts) from {} where " + where
            want, got = (connection.execute(query.format(of)).fetchone() for of in ("sources", table.scan()))
            assert want == got, f"seed {seed}, {host.format}: {query}: {got} instead of {want}"


if __name__ == "__main__":
    main()
