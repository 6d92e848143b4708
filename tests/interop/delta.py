"""Reads our Delta tables with other readers, and lets us append to theirs.

    python3 -m venv venv
    venv/bin/pip install deltalake polars pyarrow duckdb==1.5.5 \
        duckdb-extensions==1.5.5 duckdb-extension-delta==1.5.5
    venv/bin/python tests/interop/delta.py

Every table is compared, row by row, with its own data files read as plain Parquet, and every column is
filtered at, below and above each of its values: a wrong bound in the statistics hides rows only then.
"""

import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from duckdb_extensions import import_extension

ROOT = Path(__file__).resolve().parents[2]
FAILURES = []


def check(name, found, expected):
    if found != expected:
        FAILURES.append(f"{name}: found {found!r}, expected {expected!r}"[:600])


def write_foreign(directory):
    """Tables made by deltalake, before we append to them."""

    def rows(start):
        ids = list(range(start, start + 5))
        return pa.table({"id": pa.array(ids, pa.int64()), "name": [f"theirs-{i}" for i in ids]})

    write_deltalake(directory / "foreign", rows(0))
    write_deltalake(directory / "foreign", rows(10), mode="append")

    checkpointed = directory / "foreign_checkpointed"
    for start in range(0, 50, 10):
        write_deltalake(checkpointed, rows(start), mode="append")
    table = DeltaTable(checkpointed)
    table.delete("id = 3")
    table.optimize.compact()
    table.create_checkpoint()
    # Only the checkpoint says what the table is now.
    for commit in (checkpointed / "_delta_log").glob("*.json"):
        if int(commit.stem) < table.version():
            commit.unlink()

    configuration = {"delta.appendOnly": "true", "delta.enableChangeDataFeed": "true"}
    write_deltalake(directory / "foreign_features", rows(0), configuration=configuration)


def live_files(directory):
    """Data files by our own reading of the log: adds less removes, from checkpoint and commits."""
    return [Path(p.removeprefix("file://")) for p in DeltaTable(directory).file_uris()]


def normal(value):
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, dict):
        return {k: normal(v) for k, v in value.items()}
    if isinstance(value, list):
        return [normal(v) for v in value]
    return value


def sorted_rows(table):
    table = table.select(sorted(table.column_names))
    return sorted((str([normal(v) for v in row.values()]) for row in table.to_pylist()))


def in_utc(table):
    """One name for UTC and one width for strings."""
    fields = []
    for field in table.schema:
        kind = field.type
        if pa.types.is_timestamp(kind):
            kind = pa.timestamp("us", "UTC" if kind.tz else None)
        fields.append(pa.field(field.name, kind))
    return table.cast(pa.schema(fields))


def compare(directory, expected_rows):
    name = directory.name
    files = live_files(directory)
    raw = pa.concat_tables([pq.ParquetFile(f).read() for f in files], promote_options="default")
    raw = in_utc(raw)
    check(f"{name}: rows of the data files", raw.num_rows, expected_rows)
    expected = sorted_rows(raw)

    table = DeltaTable(directory)
    check(f"{name}: deltalake", sorted_rows(in_utc(pa.table(table.to_pyarrow_table()))), expected)
    frame = polars.scan_delta(str(directory)).collect()
    check(f"{name}: polars", len(frame), expected_rows)

    db = duckdb.connect()
    db.execute("LOAD delta; SET TimeZone = 'UTC'")
    db.register("raw_arrow", raw)
    db.execute("CREATE TABLE raw AS SELECT * FROM raw_arrow")
    # One snapshot for all queries, else each reads the log anew.
    db.execute(f"ATTACH '{directory}' AS pinned (TYPE delta, PIN_SNAPSHOT)")
    scan = "pinned"
    found = db.execute(f"SELECT * FROM {scan}").to_arrow_table()
    check(f"{name}: duckdb", sorted_rows(in_utc(found)), expected)

    filters = 0
    columns = [f.name for f in raw.schema if not pa.types.is_nested(f.type)]
    if "st" in raw.column_names:
        columns += ["st.a", "st.b"]
    for column in columns:
        db.execute(f"CREATE OR REPLACE TABLE vals AS SELECT DISTINCT {column} AS v FROM raw WHERE {column} IS NOT NULL")
        literals = [
            r[0]
            for r in db.execute(
                "SELECT CASE WHEN typeof(v) = 'BLOB' THEN '''' || v::VARCHAR || '''::BLOB' "
                "ELSE '''' || replace(v::VARCHAR, '''', '''''') || '''::' || typeof(v) END FROM vals ORDER BY v"
            ).fetchall()
        ]
        kind = db.execute("SELECT typeof(v) FROM vals LIMIT 1").fetchone()
        # Just beside every value too, where a bound that was cut too short shows.
        if kind and kind[0].startswith("TIMESTAMP"):
            literals += [f"({v} + INTERVAL 1 MICROSECOND)" for v in literals] + [
                f"({v} - INTERVAL 1 MICROSECOND)" for v in literals
            ]
        for literal in literals:
            for op in ("=", "<", "<=", ">", ">="):
                where = f"{column} {op} {literal}"
                want = db.execute(f"SELECT count(*) FROM raw WHERE {where}").fetchone()[0]
                got = db.execute(f"SELECT count(*) FROM {scan} WHERE {where}").fetchone()[0]
                check(f"{name}: duckdb WHERE {where}", got, want)
                filters += 1
        for where in (f"{column} IS NULL", f"{column} IS NOT NULL"):
            want = db.execute(f"SELECT count(*) FROM raw WHERE {where}").fetchone()[0]
            got = db.execute(f"SELECT count(*) FROM {scan} WHERE {where}").fetchone()[0]
            check(f"{name}: duckdb WHERE {where}", got, want)
            filters += 1
    filters += pyarrow_filters(directory, raw)
    filters += polars_filters(directory, raw)
    print(f"{name}: {expected_rows} rows, {len(files)} files, {filters} filters, {len(FAILURES)} failures", flush=True)


def flat_columns(raw):
    skip = lambda t: pa.types.is_nested(t) or pa.types.is_binary(t) or pa.types.is_null(t)
    return [f.name for f in raw.schema if not skip(f.type)]


def pyarrow_filters(directory, raw):
    import pyarrow.compute as pc

    dataset = DeltaTable(directory).to_pyarrow_dataset()
    count = 0
    guarantees = [str(f.partition_expression) for f in dataset.get_fragments()]
    for column in flat_columns(raw):
        # deltalake 1.6.6 makes a bound that is absent into `column <= null`, which hides the whole file:
        # of columns without bounds in every file, such as Spark's booleans, it cannot filter.
        if any(f"({column} {op} null[" in g for g in guarantees for op in ("<=", ">=")):
            continue
        values = [v for v in pc.unique(raw[column]) if v.is_valid]
        for value in values[:: max(1, len(values) // 12)]:
            for op in ("equal", "less", "less_equal", "greater", "greater_equal"):
                want = pc.sum(getattr(pc, op)(raw[column], value)).as_py() or 0
                got = dataset.count_rows(filter=getattr(pc, op)(pc.field(column), value))
                check(f"{directory.name}: pyarrow {column} {op} {value}", got, want)
                count += 1
    return count


def polars_filters(directory, raw):
    frame = polars.from_arrow(raw.select(flat_columns(raw)))
    lazy = polars.scan_delta(str(directory))
    count = 0
    for column in frame.columns:
        values = frame[column].drop_nulls().unique().to_list()
        for value in values[:: max(1, len(values) // 8)]:
            literal = polars.lit(value, dtype=frame.schema[column])
            for op in ("__eq__", "__lt__", "__le__", "__gt__", "__ge__"):
                want = frame.filter(getattr(polars.col(column), op)(literal)).height
                got = lazy.filter(getattr(polars.col(column), op)(literal)).select(polars.len()).collect().item()
                check(f"{directory.name}: polars {column} {op} {value!r}", got, want)
                count += 1
    return count


def main():
    import_extension("delta")
    keep = len(sys.argv) > 1
    directory = Path(sys.argv[1] if keep else tempfile.mkdtemp(prefix="firnline-delta-")).resolve()
    if keep:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    try:
        write_foreign(directory)
        env = dict(os.environ, FIRNLINE_INTEROP_DIR=str(directory))
        command = ["cargo", "test", "--quiet", "--all-features", "--test", "it", "tables_for_other_readers_are_written"]
        subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL)
        for name in ("plain", "checkpointed", "local_times"):
            compare(directory / name, 65)
        compare(directory / "foreign", 75)
        compare(directory / "foreign_checkpointed", 89)
        compare(directory / "foreign_features", 70)
        # They go on where we have written, and read what both have.
        more = pa.table({"id": pa.array([7_000], pa.int64()), "name": ["theirs again"]})
        for name, rows in (("foreign", 76), ("foreign_checkpointed", 90)):
            write_deltalake(directory / name, more, mode="append")
            DeltaTable(directory / name).create_checkpoint()
            compare(directory / name, rows)
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    for failure in FAILURES[:40]:
        print("FAILED", failure)
    print(f"{len(FAILURES)} failures")
    sys.exit(bool(FAILURES))


if __name__ == "__main__":
    main()
