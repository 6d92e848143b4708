"""Compacts files of several writers with the example `compact` and reads the tables back with other engines.

Usage: run.py [--release] [--keep] [--sources-only]

The command can be replaced by the environment variable FIRNLINE_COMPACT, a program that takes its options.
"""

import argparse
import datetime as dt
import decimal
import json
import math
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from duckdb_extensions import import_extension

import sources

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Every window has ended and waited long enough.
NOW = "2024-11-14T18:00:00Z"
OK, QUARANTINE = 0, 3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", action="store_true", help="build the example with optimisation")
    parser.add_argument("--keep", action="store_true", help="keep the directory")
    parser.add_argument("--sources-only", action="store_true", help="only write the sources and read them back")
    args = parser.parse_args()
    import_extension("delta")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="firnline-interop-"))
    try:
        scenarios = [sources_agree]
        if not args.sources_only:
            scenarios += [compacted, corrupt, appended, partitioned, contended, removed_after_grace]
        for scenario in scenarios:
            home = directory / scenario.__name__
            home.mkdir()
            scenario(Host(home, args.release))
            print(f"ok  {scenario.__name__}: {scenario.__doc__}", flush=True)
    finally:
        if args.keep:
            print(f"kept {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


class Host:
    """A bucket, a place for tables, and the command that compacts one into the other."""

    format = "delta"
    min_files = 2

    def __init__(self, home, release):
        self.bucket, self.tables, self.control = home / "bucket", home / "tables", home / "control"
        for path in (self.bucket, self.tables, self.control):
            path.mkdir()
        build = ["cargo", "run", "--quiet", *(["--release"] if release else []), "--example", "compact", "--"]
        given = os.environ.get("FIRNLINE_COMPACT")
        self.command = shlex.split(given) if given else build

    def compact(self, *options, expect=OK, now=NOW, sort_key="ts,id"):
        """Runs the command once and returns the document that it prints."""
        arguments = [
            *("--bucket", str(self.bucket), "--prefix", "data/", "--tables", str(self.tables)),
            *("--control", str(self.control), "--format", self.format, "--sort-key", sort_key),
            *("--window", "1h", "--min-files", str(self.min_files), "--max-wait", "5m", "--now", now),
            *("--once", "--json", *options),
        ]
        done = subprocess.run(self.command + arguments, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != expect:
            sys.exit(f"exit code {done.returncode} instead of {expect}\n{done.stdout}\n{done.stderr}")
        return json.loads(done.stdout)

    def table(self, namespace):
        return self.tables / namespace


def sources_agree(host):
    """every source file is sorted and reads the same with pyarrow and DuckDB"""
    for path in sources.make(host.bucket, "users"):
        table = sources.read([path])
        assert_sorted(table, path)
        with connect() as connection:
            other = arrow(connection, f"select * from read_parquet('{path}')")
            assert_same_rows(table, other, f"DuckDB reads {path}")


def compacted(host):
    """two namespaces are compacted, all readers agree, and a second run does nothing"""
    expected = {}
    for seed, namespace in enumerate(["users", "eu/orders"]):
        paths = sources.make(host.bucket, namespace, seed=seed)
        expected[namespace] = sources.read(paths)
    document = host.compact("--grace", "1h")
    assert found(document, "key") == [], f"nothing is in quarantine: {document}"
    versions = {}
    for namespace, rows in expected.items():
        check_table(host.table(namespace), rows)
        versions[namespace] = DeltaTable(str(host.table(namespace))).version()
        files = list(DeltaTable(str(host.table(namespace))).file_uris())
        assert len(files) == 2, f"one file for each window, not {files}"
    host.compact("--grace", "1h")
    for namespace, version in versions.items():
        again = DeltaTable(str(host.table(namespace))).version()
        assert again == version, f"a second run commits nothing: {version} -> {again}"


def corrupt(host):
    """corrupt files are listed and set aside, all others are compacted"""
    paths = sources.make(host.bucket, "users", hours=1)
    cut, flipped = paths.pop(), paths.pop()
    body = cut.read_bytes()
    cut.write_bytes(body[: len(body) // 2])
    # A value that has changed under way: only the checksum of its page tells.
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    pq.write_table(pq.read_table(flipped), flipped, **options)
    body = bytearray(flipped.read_bytes())
    body[len(body) // 2] ^= 1
    flipped.write_bytes(body)
    expected = sources.read(paths)
    document = host.compact("--grace", "1h", expect=QUARANTINE)
    keys = {bad.relative_to(host.bucket).as_posix() for bad in (cut, flipped)}
    assert set(found(document, "key")) == keys, f"{keys} are in quarantine: {document}"
    check_table(host.table("users"), expected)
    assert cut.exists() and flipped.exists(), "what is in quarantine stays in the bucket"


def appended(host):
    """a table that deltalake created is appended to, and deltalake appends to it again"""
    mine = sources.read(sources.make(host.bucket, "users", hours=1, seed=3))
    with tempfile.TemporaryDirectory() as elsewhere:
        theirs = sources.read(sources.make(elsewhere, "users", hours=1, seed=4))
    path = host.table("users")
    write_deltalake(str(path), theirs)
    host.compact("--grace", "1h")
    check_table(path, pa.concat_tables([theirs, mine]), all_ours=False)
    write_deltalake(str(path), theirs, mode="append")
    check_table(path, pa.concat_tables([theirs, mine, theirs]), all_ours=False)


def partitioned(host):
    """tables of others that are partitioned by columns of every type are appended to by partition"""
    regions = [None, "a", "a b", "%", "a=b/c:d#e?f", "\u00e9\U0001f600", "50%25", "'\"\\"]
    day, time = dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 1, 2, 3, 456789)
    utc = dt.timezone.utc
    others = {
        "flag": (pa.bool_(), [None, False, True]),
        "small": (pa.int8(), [None, -128, 127]),
        "n": (pa.int64(), [None, -(2**63), 2**63 - 1]),
        "ratio": (pa.float64(), [None, 0.1, -1e300, 1e7, math.inf, -0.0]),
        "amount": (pa.decimal128(12, 2), [None, decimal.Decimal("0.05"), decimal.Decimal("1234567890.10")]),
        "day": (pa.date32(), [None, day, dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
        "at": (pa.timestamp("us", "UTC"), [None, time.replace(tzinfo=utc), dt.datetime(1969, 12, 31, tzinfo=utc)]),
        "local": (pa.timestamp("us"), [None, time, dt.datetime(1969, 12, 31)]),
        "region": (pa.string(), regions),
    }
    for name, (data_type, values) in others.items():
        for columns in ([name], [name, "kind"]):
            namespace = "-".join(columns)
            rows = [{"ts": n, name: value, "kind": f"k{n % 2}", "v": n} for n, value in enumerate(values * 4)]
            fields = [("ts", pa.int64()), (name, data_type), ("kind", pa.string()), ("v", pa.int32())]
            table = pa.Table.from_pylist(rows, schema=pa.schema(fields))
            path = host.table(namespace)
            # deltalake 1.6 fails on long names, and on negative decimals, which it cannot read either.
            write_deltalake(str(path), table.slice(0, 2), partition_by=columns)
            bucket = host.bucket / "data" / namespace
            bucket.mkdir(parents=True)
            for writer in ("w0", "w1"):
                pq.write_table(table, bucket / f"{sources.START_MS}-{writer}-0.parquet")
            host.compact("--grace", "1h", sort_key="ts")
            want = sorted(map(repr, pa.concat_tables([table.slice(0, 2), table, table]).to_pylist()))
            files = DeltaTable(str(path)).get_add_actions(flatten=True)
            with connect() as connection:
                ours = arrow_of(connection, f"select * from delta_scan('{path}')")
            # Polars 2.1 reads no directory of deltalake's whose partition is null.
            for reader, found in {"deltalake": DeltaTable(str(path)).to_pyarrow_table(), "DuckDB": ours}.items():
                found = found.select(table.column_names).cast(table.schema)
                got = sorted(map(repr, found.to_pylist()))
                assert got == want, f"{reader}, {namespace}: {set(got) ^ set(want)} of {files}"


def contended(host):
    """three other processes append at the same time; nothing is lost and nothing is twice"""
    path, windows, commits = host.table("users"), 6, 12
    columns = lambda keys: pa.table({"ts": pa.array(keys, pa.int64()), "writer": pa.array(["w"] * len(keys))})
    write_deltalake(str(path), columns([-1]))
    appender = (
        "import sys, pyarrow as pa; from deltalake import write_deltalake\n"
        "path, first, commits = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])\n"
        "for key in range(first, first + commits):\n"
        "    write_deltalake(path, pa.table({'ts': pa.array([key]), 'writer': ['theirs']}), mode='append')\n"
    )
    starts = [10_000, 20_000, 30_000]
    others = [subprocess.Popen([sys.executable, "-c", appender, path, str(start), str(commits)]) for start in starts]
    expected = [-1, *(start + n for start in starts for n in range(commits))]
    bucket = host.bucket / "data" / "users"
    bucket.mkdir(parents=True)
    for window in range(windows):
        for writer in range(2):
            keys = [100 * window + 10 * writer + row for row in range(5)]
            name = f"{sources.START_MS + window * sources.HOUR_MS}-w{writer}-{window}.parquet"
            pq.write_table(columns(keys), bucket / name)
            expected += keys
        document = host.compact("--grace", "1h", sort_key="ts", now="2024-11-14T23:59:59Z")
        assert found(document, "key") == [], f"nothing is in quarantine: {document}"
    for other in others:
        assert other.wait() == 0, "an appender failed"
    # What found the table too busy is tried again.
    host.compact("--grace", "1h", sort_key="ts", now="2024-11-14T23:59:59Z")
    got = DeltaTable(str(path)).to_pyarrow_table()["ts"].to_pylist()
    assert sorted(got) == sorted(expected), f"{len(got)} rows instead of {len(expected)}"


def removed_after_grace(host):
    """sources are gone after the grace period, their rows stay"""
    paths = sources.make(host.bucket, "users", hours=1, seed=5)
    expected = sources.read(paths)
    # Grace counts from the store's own time, so a time in the future is past it.
    host.compact("--grace", "0s")
    later = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)
    host.compact("--grace", "0s", now=later.strftime("%Y-%m-%dT%H:%M:%SZ"))
    left = [path.name for path in paths if path.exists()]
    assert left == [], f"sources are left: {left}"
    check_table(host.table("users"), expected)


def check_table(path, expected, all_ours=True):
    """All readers see the rows of `expected`, also through filters at every bound."""
    delta = DeltaTable(str(path))
    assert_same_rows(expected, normal(delta.to_pyarrow_table()), f"deltalake reads {path}")
    with connect() as connection:
        scans = [f"delta_scan('{path}')"]
        if all_ours:
            # Without the table's statistics those of the footers decide what is skipped.
            files = [uri.removeprefix("file://") for uri in delta.file_uris()]
            scans.append(f"read_parquet({files})")
        for scan in scans:
            assert_same_rows(expected, arrow(connection, f"select * from {scan}"), f"DuckDB reads {scan}")
        # Copied, as a filter on an Arrow table is Arrow's own, to which no NaN is greater than a number.
        connection.register("given", expected)
        connection.execute("create table expected as select * from given")
        for column in sources.SCALARS:
            # deltalake 1.6 writes no bound of a decimal beyond 64 bits: the greatest of them stands in for those above.
            if column == "big" and not all_ours:
                continue
            for value in probes(expected, column):
                for operator in ("<", "<=", "=", ">=", ">"):
                    where = f"where {column} {operator} $1"
                    want, *counts = (
                        connection.execute(f"select count(*) from {source} {where}", [value]).fetchone()[0]
                        for source in ("expected", *scans)
                    )
                    assert counts == [want] * len(scans), f"DuckDB {path} {where} {value!r}: {counts} instead of {want}"
            for where in (f"where {column} is null", f"where {column} is not null"):
                want, *counts = (
                    connection.execute(f"select count(*) from {source} {where}").fetchone()[0]
                    for source in ("expected", *scans)
                )
                assert counts == [want] * len(scans), f"DuckDB {path} {where}: {counts} instead of {want}"
    filter_with_arrow(delta, expected, all_ours)
    if all_ours:
        for uri in delta.file_uris():
            assert_sorted(sources.read([uri.removeprefix("file://")]), uri)


def filter_with_arrow(delta, expected, all_ours):
    """The same through deltalake's data set, which skips files by their statistics."""
    theirs, ours = delta.to_pyarrow_dataset(), ds.dataset(expected)
    for column in sources.SCALARS:
        # Booleans have no order there. A column without bounds, as one with NaN or infinities must be, is given the
        # bound `null` by deltalake 1.6, which then skips every file; DuckDB has checked it.
        if column in ("flag", "noise", "score") or (column == "big" and not all_ours):
            continue
        for value in probes(expected, column):
            if isinstance(value, float) and math.isnan(value):
                continue  # Arrow takes `x <= bound` for a proof of `x < nan`
            scalar = pa.scalar(value, type=expected.schema.field(column).type)
            for compare in (pc.less, pc.less_equal, pc.equal, pc.greater_equal, pc.greater):
                predicate = compare(ds.field(column), scalar)
                want, got = ours.count_rows(filter=predicate), theirs.count_rows(filter=predicate)
                assert want == got, f"deltalake {predicate}: {got} instead of {want}"


def probes(table, column):
    """Values at, just below and just above the bounds of a column, and those that are no bounds."""
    values = [value for value in table[column].to_pylist() if value is not None]
    numbers = [value for value in values if not (isinstance(value, float) and math.isnan(value))]
    bounds = [min(numbers), max(numbers)] if numbers else [0.0, 5.0]
    decimals, digits = (0, 20) if column == "big" else (2, 10)
    steps = {
        bool: [],
        int: [-1, 1],
        decimal.Decimal: [decimal.Decimal(step).scaleb(-decimals) for step in (-1, 1)],
        dt.datetime: [dt.timedelta(microseconds=-1), dt.timedelta(microseconds=1)],
        dt.date: [dt.timedelta(days=-1), dt.timedelta(days=1)],
    }
    kind = type(bounds[0])
    if kind is float:
        near = [math.nextafter(bound, to) for bound in bounds for to in (-math.inf, math.inf)]
        near += [bounds[0] / 2, math.nan, math.inf, -math.inf, 0.0, -0.0]
    elif kind is str:
        near = ["", "a", "name 5", bounds[1] + "z", "\U0010ffff"]
    else:
        near = [bound + step for bound in bounds for step in steps[kind]]
    limits = (-(2**31), 2**31 - 1) if column == "n" else (-(2**63), 2**63 - 1)
    if kind is int:
        near = [value for value in near if limits[0] <= value <= limits[1]]
    if kind is decimal.Decimal:
        near = [value for value in near if abs(value) < 10**digits]
    return bounds + near


def connect():
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    connection.execute("load delta")
    return connection


def arrow(connection, query):
    return normal(arrow_of(connection, query))


def arrow_of(connection, query):
    result = connection.execute(query).arrow()
    return result.read_all() if isinstance(result, pa.RecordBatchReader) else result


def normal(table):
    """The table in the common schema, as readers differ in string and list types."""
    columns = [sources.plain(table[field.name]).cast(field.type) for field in sources.SCHEMA]
    return pa.table(columns, schema=sources.SCHEMA)


def assert_same_rows(expected, actual, what):
    want, got = (sorted(map(repr, table.to_pylist())) for table in (expected, actual))
    if want == got:
        return
    missing = [row for row in want if row not in set(got)]
    extra = [row for row in got if row not in set(want)]
    sys.exit(f"{what}: {len(got)} rows instead of {len(want)}\nmissing {missing[:2]}\nextra {extra[:2]}")


def assert_sorted(table, what):
    keys = list(zip(table["ts"].to_pylist(), table["id"].to_pylist()))
    assert keys == sorted(keys), f"{what} is not sorted"


def found(document, name):
    """All values of `name` below any `quarantine` of the document, in order, each once."""
    values = set()

    def walk(node, inside):
        if isinstance(node, dict):
            for key, value in node.items():
                if inside and key == name:
                    values.add(value)
                walk(value, inside or key == "quarantine")
        elif isinstance(node, list):
            for value in node:
                walk(value, inside)

    walk(document, False)
    return sorted(values)


if __name__ == "__main__":
    main()
