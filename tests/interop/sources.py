"""Source files as different writers make them, each file sorted by (ts, id)."""

import datetime as dt
import decimal
import math
import pathlib
import random

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

HOUR_MS = 3_600_000
# 2024-11-14T10:00:00Z, the start of the first window.
START_MS = 1_731_578_400_000

SCHEMA = pa.schema(
    [
        ("ts", pa.timestamp("us", tz="UTC")),
        ("id", pa.int64()),
        ("name", pa.string()),
        ("amount", pa.decimal128(12, 2)),
        ("score", pa.float64()),
        ("ratio", pa.float64()),
        ("noise", pa.float64()),
        ("n", pa.int32()),
        ("big", pa.decimal128(20)),
        ("flag", pa.bool_()),
        ("day", pa.date32()),
        ("kind", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("pos", pa.struct([("x", pa.float64()), ("y", pa.int32())])),
    ]
)

# What an order by (ts, id) and a filter can compare.
SCALARS = ["ts", "id", "name", "amount", "score", "ratio", "noise", "n", "big", "flag", "day", "kind"]
SPECIALS = [math.nan, math.inf, -math.inf, 0.0, -0.0]


def rows(rng, start_ms, count):
    """Random rows of the hour from start_ms, sorted by (ts, id)."""
    made = []
    for _ in range(count):
        micros = start_ms * 1000 + rng.randrange(HOUR_MS * 1000)
        ts = dt.datetime.fromtimestamp(0, dt.timezone.utc) + dt.timedelta(microseconds=micros)
        made.append(
            {
                "ts": ts,
                "id": rng.randrange(-(2**62), 2**62),
                "name": rng.choice([None, "", "ü" * rng.randrange(40), f"name {rng.randrange(1000)}", "\U0001f600"]),
                "amount": decimal.Decimal(rng.randrange(-(10**12) + 1, 10**12)).scaleb(-2),
                "score": rng.choice([*SPECIALS, rng.uniform(-1e9, 1e9)]),
                "ratio": rng.uniform(-1, 1),
                "noise": rng.choice([None, math.nan]),
                "n": rng.choice([None, rng.randrange(-(2**31), 2**31)]),
                "big": rng.choice([None, decimal.Decimal(rng.choice([0, 2**63, 2**64 - 1, rng.randrange(2**64)]))]),
                "flag": rng.choice([None, False, True]),
                "day": ts.date(),
                "kind": rng.choice(["created", "deleted", "updated"]),
                "tags": rng.choice([None, [], [None], ["a", "b", None]]),
                "pos": rng.choice([None, {"x": 1.5, "y": None}, {"x": None, "y": 7}]),
            }
        )
    return sorted(made, key=lambda row: (row["ts"], row["id"]))


def unsigned(table):
    """The table with `big` as those who write have it: as 64 bits without sign, which no table has."""
    return table.set_column(table.schema.get_field_index("big"), "big", table["big"].cast(pa.uint64()))


def write_pyarrow(path, table, rng):
    """Dictionary-encoded `kind`, several row groups, changing codecs and page versions."""
    at = table.schema.get_field_index("kind")
    table = table.set_column(at, "kind", table["kind"].dictionary_encode())
    pq.write_table(
        table,
        path,
        compression=rng.choice(["snappy", "zstd", "gzip", "none"]),
        row_group_size=rng.choice([50, 1000]),
        data_page_version=rng.choice(["1.0", "2.0"]),
    )


def write_duckdb(path, table, rng):
    codec = rng.choice(["snappy", "zstd", "uncompressed"])
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register("source", table)
        connection.execute(f"copy (select * from source order by ts, id) to '{path}' (format parquet, codec '{codec}')")


def write_polars(path, table, rng):
    pl.from_arrow(table).write_parquet(path, compression=rng.choice(["zstd", "snappy", "lz4"]))


WRITERS = {"pyarrow": write_pyarrow, "duckdb": write_duckdb, "polars": write_polars}


def make(bucket, namespace, hours=2, files_per_hour=3, rows_per_file=200, seed=1):
    """Writes files of every writer under data/{namespace}/ and returns their paths."""
    rng = random.Random(seed)
    directory = pathlib.Path(bucket) / "data" / namespace
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    seq = dict.fromkeys(WRITERS, 0)
    for hour in range(hours):
        start = START_MS + hour * HOUR_MS
        for n in range(files_per_hour):
            for writer, write in WRITERS.items():
                table = pa.Table.from_pylist(rows(rng, start, rows_per_file), schema=SCHEMA)
                millis = start + (n + 1) * HOUR_MS // (files_per_hour + 1)
                path = directory / f"{millis}-{writer}-{seq[writer]}.parquet"
                write(str(path), unsigned(table), rng)
                seq[writer] += 1
                paths.append(path)
    return paths


def read(paths):
    """All rows of some Parquet files as one table of the common schema, whoever wrote them."""
    tables = []
    for path in paths:
        table = pq.ParquetFile(path).read()
        columns = [plain(table[field.name]).cast(field.type) for field in SCHEMA]
        tables.append(pa.table(columns, schema=SCHEMA))
    return pa.concat_tables(tables)


def plain(column):
    """A column without its dictionary."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
