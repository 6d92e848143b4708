"""Compacts a column of every type that Parquet has, and compares it bit by bit with what pyarrow sees in the sources.

Usage: fidelity.py [--release] [NAME...], names of types; all of them without any

Each type is a namespace with two files, in Delta tables and in Iceberg tables of both versions. What a table cannot hold
without loss must be set aside, naming the column. The command can be replaced by the environment variable
FIRNLINE_COMPACT, a program that takes its options.
"""

import argparse
import datetime as dt
import decimal
import json
import pathlib
import shutil
import sys
import tempfile
import uuid
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from duckdb_extensions import import_extension
from pyiceberg.table import StaticTable

from iceberg_lint import find_metadata
from iceberg_rules.report import Report
from run import OK, QUARANTINE, Host
from sources import START_MS

FORMATS = {"delta": ("delta", ()), "iceberg": ("iceberg", ()), "iceberg 3": ("iceberg", ("--iceberg-version", "3"))}
SAME, REFUSED = "same", "refused"
decimal.getcontext().prec = 100


@dataclass
class Type:
    """Values of a type, and what they are in tables of each format: a type, SAME, or REFUSED."""

    name: str
    data_type: pa.DataType
    values: list
    delta: object = SAME
    iceberg: object = SAME
    # Where version 3 has more.
    iceberg_3: object = None
    # How pyarrow writes the files.
    options: dict = field(default_factory=dict)
    # Readers that fail on such columns.
    not_read_by: tuple = ()

    def target(self, form):
        target = self.delta if form == "delta" else self.iceberg
        if form == "iceberg 3" and self.iceberg_3 is not None:
            target = self.iceberg_3
        return self.data_type if target is SAME else target


def d(text):
    return decimal.Decimal(text)


def at(*parts):
    return dt.datetime(*parts)


def digits(precision, scale):
    """The extreme values of a decimal, and some between."""
    most = d("9" * precision).scaleb(-scale)
    return [most, -most, d(0), d(1).scaleb(-scale), d(-1).scaleb(-scale), None]


def nested(data_type, value, depth):
    for level in range(depth):
        data_type, value = pa.struct([(f"s{level}", data_type)]), {f"s{level}": value}
    return data_type, value


US, UTC = pa.timestamp("us"), pa.timestamp("us", "UTC")
NS, NS_UTC = pa.timestamp("ns"), pa.timestamp("ns", "UTC")
WIDE_TIMES = [at(1, 1, 1), at(1582, 10, 4, 23, 59, 59, 999_999), at(1969, 12, 31, 23, 59, 59, 999_999), at(9999, 12, 31), None]
TIMES = [at(1900, 1, 1), at(1969, 12, 31, 23, 59, 59, 999_999), at(2024, 2, 29, 1, 2, 3, 456_789), at(2200, 1, 1), None]
MILLIS = [at(1900, 1, 1), at(1969, 12, 31, 23, 59, 59, 999_000), at(2024, 2, 29, 1, 2, 3, 456_000), None]
SECONDS = [at(1900, 1, 1), at(1969, 12, 31, 23, 59, 59), at(2024, 2, 29, 1, 2, 3), None]
DATES = [dt.date(1, 1, 1), dt.date(1582, 10, 4), dt.date(1969, 12, 31), dt.date(9999, 12, 31), None]
FLOATS = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1.5, None]
TEXTS = ["", "a", "\u00e9\U0001f600", "x" * 5_000, "\0", None]
BYTES = [b"", b"\0\xff", b"x" * 5_000, None]
UUIDS = [uuid.UUID(int=0).bytes, uuid.UUID(int=2**128 - 1).bytes, uuid.UUID(int=5).bytes, None]
POINT = pa.struct([("x", pa.int32()), ("y", pa.string())])
POINTS = [{"x": 1, "y": "a"}, {"x": None, "y": None}, None, {"x": -1, "y": ""}]
LISTS = [[1, None, 3], [], None, [None], [2**31 - 1]]
MAPS = [[("a", 1), ("b", None)], [], None, [("", -1)]]
DEEP_TYPE, DEEP_VALUE = nested(pa.int32(), 7, 62)
# `pyarrow` reads no deeper ones.
DEEP_LIST, DEEP_ITEM = pa.int32(), 7
DEEP_MAP, DEEP_ENTRY = pa.int32(), 7
for _ in range(45):
    DEEP_LIST, DEEP_ITEM = pa.list_(DEEP_LIST), [DEEP_ITEM]
    DEEP_MAP, DEEP_ENTRY = pa.map_(pa.string(), DEEP_MAP), [("k", DEEP_ENTRY)]
NANO = [pa.scalar(value, NS) for value in (1, -1, 1_700_000_000_123_456_789)]
TIME_OF_DAY = [dt.time(0, 0), dt.time(23, 59, 59, 999_000), None]


def signed(bits):
    return [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0, -1, None]


def unsigned(bits):
    return [0, 2**bits - 1, 2 ** (bits - 1), None]


def decimals():
    for precision, scale in ((1, 0), (4, 4), (9, 2), (10, 0), (18, 18), (19, 3), (28, 9), (38, 0), (38, 38)):
        data_type = pa.decimal128(precision, scale)
        yield Type(f"decimal_{precision}_{scale}", data_type, digits(precision, scale))
        if precision <= 18:
            options = {"store_decimal_as_integer": True}
            yield Type(f"decimal_{precision}_{scale}_as_integer", data_type, digits(precision, scale), options=options)
    yield Type("decimal32", pa.decimal32(9, 2), digits(9, 2), pa.decimal128(9, 2), pa.decimal128(9, 2))
    yield Type("decimal64", pa.decimal64(18, 2), digits(18, 2), pa.decimal128(18, 2), pa.decimal128(18, 2))
    yield Type("decimal256", pa.decimal256(38, 4), digits(38, 4), pa.decimal128(38, 4), pa.decimal128(38, 4))
    yield Type("decimal256_wide", pa.decimal256(76, 4), digits(76, 4), REFUSED, REFUSED)


def instants():
    for unit, values in (("s", SECONDS), ("ms", MILLIS), ("us", TIMES), ("ns", TIMES)):
        for label, zone in (("local", None), ("utc", "UTC"), ("offset", "+05:30"), ("berlin", "Europe/Berlin")):
            target = pa.timestamp("us", "UTC" if zone else None)
            finer = pa.timestamp("ns", "UTC" if zone else None) if unit == "ns" else None
            # DuckDB 1.5 does not know Iceberg's `timestamptz_ns`.
            unread = ("DuckDB",) if unit == "ns" and zone else ()
            data_type = pa.timestamp(unit, zone)
            yield Type(f"timestamp_{unit}_{label}", data_type, values, target, target, finer, not_read_by=unread)
    yield Type("timestamp_wide", US, WIDE_TIMES)
    yield Type("timestamp_nanos", NS, NANO, REFUSED, REFUSED, NS)
    yield Type("int96", US, TIMES, options={"use_deprecated_int96_timestamps": True})
    yield Type("int96_nanos", NS, NANO, REFUSED, REFUSED, options={"use_deprecated_int96_timestamps": True})
    yield Type("int96_wide", US, WIDE_TIMES, options={"use_deprecated_int96_timestamps": True})


TYPES = [
    Type("bool", pa.bool_(), [True, False, None]),
    Type("int8", pa.int8(), signed(8), iceberg=pa.int32()),
    Type("int16", pa.int16(), signed(16), iceberg=pa.int32()),
    Type("int32", pa.int32(), signed(32)),
    Type("int64", pa.int64(), signed(64)),
    Type("uint8", pa.uint8(), unsigned(8), pa.int16(), pa.int32()),
    Type("uint16", pa.uint16(), unsigned(16), pa.int32(), pa.int32()),
    Type("uint32", pa.uint32(), unsigned(32), pa.int64(), pa.int64()),
    Type("uint64", pa.uint64(), unsigned(64), pa.decimal128(20), pa.decimal128(20)),
    Type("float16", pa.float16(), FLOATS, pa.float32(), pa.float32()),
    Type("float32", pa.float32(), [*FLOATS, 1.4e-45, 3.4028234663852886e38]),
    Type("float64", pa.float64(), [*FLOATS, 5e-324, 1.7976931348623157e308]),
    Type("split_bytes", pa.float64(), FLOATS, options={"use_byte_stream_split": True, "use_dictionary": False}),
    *decimals(),
    Type("date32", pa.date32(), DATES),
    Type("date64", pa.date64(), DATES, pa.date32(), pa.date32()),
    *instants(),
    Type("time_ms", pa.time32("ms"), TIME_OF_DAY, REFUSED, pa.time64("us")),
    Type("time_us", pa.time64("us"), [*TIME_OF_DAY, dt.time(1, 2, 3, 456_789)], REFUSED),
    Type("time_ns", pa.time64("ns"), TIME_OF_DAY, REFUSED, pa.time64("us")),
    Type("time_nanos", pa.time64("ns"), [pa.scalar(1, pa.time64("ns"))], REFUSED, REFUSED),
    Type("duration", pa.duration("us"), [dt.timedelta(days=-1), dt.timedelta(microseconds=1), None], pa.int64(), pa.int64()),
    Type("string", pa.string(), TEXTS),
    Type("large_string", pa.large_string(), TEXTS, pa.string(), pa.string()),
    Type("string_view", pa.string_view(), TEXTS, pa.string(), pa.string()),
    Type("dictionary", pa.dictionary(pa.int16(), pa.string()), TEXTS, pa.string(), pa.string()),
    Type("json", pa.json_(), ["{}", '{"a": [1]}', None], pa.string(), pa.string()),
    Type("delta_strings", pa.string(), TEXTS, options={"use_dictionary": False, "column_encoding": {"c": "DELTA_BYTE_ARRAY"}}),
    Type("binary", pa.binary(), BYTES),
    Type("large_binary", pa.large_binary(), BYTES, pa.binary(), pa.binary()),
    Type("binary_view", pa.binary_view(), BYTES, pa.binary(), pa.binary()),
    Type("fixed", pa.binary(3), [b"\0\0\0", b"abc", None], pa.binary()),
    Type("uuid", pa.uuid(), UUIDS, pa.binary(), pa.binary(16)),
    Type("pages_2", pa.list_(pa.int32()), LISTS, options={"data_page_version": "2.0"}),
    Type("list", pa.list_(pa.int32()), LISTS),
    Type("large_list", pa.large_list(pa.int32()), LISTS, pa.list_(pa.int32()), pa.list_(pa.int32())),
    Type("fixed_list", pa.list_(pa.int32(), 2), [[1, None], [2, 3]], pa.list_(pa.int32()), pa.list_(pa.int32())),
    Type("legacy_list", pa.list_(pa.int32()), LISTS, options={"use_compliant_nested_type": False}),
    Type("list_of_lists", pa.list_(pa.list_(pa.string())), [[["a"], [], None], [], None, [[None]]]),
    Type("struct", POINT, POINTS),
    # PyIceberg 0.12 takes null for empty where items or keys are structs.
    Type("list_of_structs", pa.list_(POINT), [POINTS, [], None, [None]], not_read_by=("PyIceberg",)),
    Type("struct_of_lists", pa.struct([("l", pa.list_(pa.int32()))]), [{"l": value} for value in LISTS] + [None]),
    Type("map", pa.map_(pa.string(), pa.int32()), MAPS),
    Type("map_of_lists", pa.map_(pa.int32(), pa.list_(pa.string())), [[(1, ["a", None]), (2, None)], [], None, [(3, [])]]),
    Type("map_by_structs", pa.map_(POINT, POINT), [[(POINTS[0], POINTS[1])], [], None], not_read_by=("PyIceberg",)),
    # What is built on the Delta kernel takes 128 levels of JSON, three for each of a schema.
    Type("deep", DEEP_TYPE, [DEEP_VALUE, None], not_read_by=("deltalake", "DuckDB")),
    Type("deep_list", DEEP_LIST, [DEEP_ITEM, None], not_read_by=("deltalake", "DuckDB")),
    Type("deep_map", DEEP_MAP, [DEEP_ENTRY, None], not_read_by=("deltalake", "DuckDB")),
]


def column_of(case):
    """Rows enough for values to stand in pages of their own, and to repeat."""
    values = (case.values * 3)[: max(12, len(case.values))]
    if any(isinstance(value, pa.Scalar) for value in values):
        return pa.array([value.value for value in values], pa.int64()).view(case.data_type)
    return pa.array(values, case.data_type)


def write(host, case):
    directory = host.bucket / "data" / case.name
    directory.mkdir(parents=True)
    column = column_of(case)
    for writer in range(2):
        keys = pa.array(range(writer, 2 * len(column), 2), pa.int64())
        table = pa.table({"ts": keys, "c": column})
        pq.write_table(table, directory / f"{START_MS + writer}-w{writer}-0.parquet", **case.options)


def read_sources(host, case):
    """The files as pyarrow sees them."""
    paths = sorted((host.bucket / "data" / case.name).glob("*.parquet"))
    options = {"coerce_int96_timestamp_unit": case.data_type.unit} if case.name.startswith("int96") else {}
    return pa.concat_tables([pq.ParquetFile(path, **options).read() for path in paths])


def plain(column, target):
    """The column in the type that the table has for it; without loss."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    column = column.storage if isinstance(column, pa.ExtensionArray) else column
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_duration(column.type):
        return column.view(pa.int64())
    if pa.types.is_float16(column.type) and target == pa.float32():
        return pa.array([None if v is None else float(v) for v in column.to_pylist()], target)
    return column if column.type == target else column.cast(target)


def told(column):
    """Values that are equal only if all their bits are."""
    if pa.types.is_floating(column.type):
        return column.view({32: pa.int32(), 64: pa.int64()}[column.type.bit_width]).to_pylist()
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).to_pylist()
    return column.to_pylist()


def by_key(table, target):
    """What is told of the column, by `ts`."""
    pairs = zip(table["ts"].to_pylist(), told(plain(table["c"], target)))
    return [value for _, value in sorted(pairs, key=lambda pair: pair[0])]


def files_of(path, form):
    """The data files of a table."""
    if form == "delta":
        actions = [json.loads(line) for log in path.glob("_delta_log/*.json") for line in log.read_text().splitlines()]
        return [path / action["add"]["path"] for action in actions if "add" in action]
    metadata = find_metadata(path, Report(foreign=True))
    files = StaticTable.from_metadata(str(metadata)).scan().plan_files()
    return [task.file.file_path.removeprefix("file://") for task in files]


def readers(path, form):
    """Name and table of every reader."""
    yield "pyarrow", lambda: pa.concat_tables([pq.ParquetFile(file).read() for file in files_of(path, form)])
    scan = f"delta_scan('{path}')"
    if form == "delta":
        yield "deltalake", lambda: DeltaTable(str(path)).to_pyarrow_table()
    else:
        metadata = find_metadata(path, Report(foreign=True))
        scan = f"iceberg_scan('{metadata}')"
        yield "PyIceberg", lambda: StaticTable.from_metadata(str(metadata)).scan().to_arrow()

    def duck():
        with duckdb.connect() as connection:
            connection.execute("set timezone = 'UTC'")
            connection.execute(f"load {form.split()[0]}")
            return connection.execute(f"select * from {scan}").to_arrow_table()

    yield "DuckDB", duck


def check(host, form, case, quarantined):
    target, path = case.target(form), host.table(case.name)
    if target is REFUSED:
        reasons = [file for file in quarantined if file["key"].startswith(f"data/{case.name}/")]
        assert len(reasons) == 2 and all(file["reason"]["column"] == "c" for file in reasons), f"not refused: {reasons}"
        assert not path.exists() or files_of(path, form) == [], "rows are in the table nevertheless"
        return "refused"
    expected = by_key(read_sources(host, case), target)
    agreed = []
    for name, read in readers(path, form):
        if name in case.not_read_by:
            continue
        try:
            found = by_key(read(), target)
        except Exception as error:
            raise AssertionError(f"{name}: {type(error).__name__} {error}") from error
        assert found == expected, f"{name}: {found} instead of {expected}"
        agreed.append(name)
    return ", ".join(agreed)


def quarantined_of(document):
    found = []

    def walk(node):
        if isinstance(node, dict):
            if "key" in node and "reason" in node:
                found.append(node)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)
    unique = {(file["key"], str(file)): file for file in found}
    return list({key: file for (key, _), file in unique.items()}.values())


def many_columns(host):
    """A file of 5,000 columns."""
    directory = host.bucket / "data" / "many"
    directory.mkdir(parents=True)
    for writer in range(2):
        table = pa.table({"ts": pa.array([writer, writer + 2], pa.int64())} | {
            f"c{n}": pa.array([n, -n] if n % 2 else [None, str(n)], pa.int64() if n % 2 else pa.string()) for n in range(5_000)
        })
        pq.write_table(table, directory / f"{START_MS + writer}-w{writer}-0.parquet")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", action="store_true", help="build the example with optimisation")
    parser.add_argument("types", nargs="*", metavar="NAME")
    args = parser.parse_args()
    for extension in ("delta", "avro", "iceberg"):
        import_extension(extension)
    directory, failed = pathlib.Path(tempfile.mkdtemp(prefix="firnline-fidelity-")), 0
    chosen = [case for case in TYPES if not args.types or case.name in args.types]
    try:
        for form, (base, options) in FORMATS.items():
            home = directory / form.replace(" ", "-")
            home.mkdir()
            host = Host(home, args.release)
            host.format = base
            for case in chosen:
                write(host, case)
            if not args.types:
                many_columns(host)
            refuses = any(case.target(form) is REFUSED for case in chosen)
            document = host.compact("--grace", "1h", *options, sort_key="ts", expect=QUARANTINE if refuses else OK)
            quarantined = quarantined_of(document)
            for case in chosen:
                try:
                    print(f"ok    {form}: {case.name}: {check(host, form, case, quarantined)}", flush=True)
                except AssertionError as error:
                    failed += 1
                    reasons = [file for file in quarantined if file["key"].startswith(f"data/{case.name}/")]
                    print(f"FAIL  {form}: {case.name}: {str(error)[:600]} {str(reasons)[:600]}", flush=True)
            if not args.types:
                read = dict(readers(host.table("many"), form))
                table = read["deltalake" if form == "delta" else "PyIceberg"]().sort_by("ts")
                assert table.num_columns == 5_001 and table["c4999"].to_pylist() == [4999, 4999, -4999, -4999]
                print(f"ok    {form}: 5,000 columns")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{failed} failures" if failed else "all well")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
