"""Appends to Delta tables that Spark has made with the reference implementation, one for each table feature, and reads them.

    python3 -m venv venv && venv/bin/pip install -r tests/interop/requirements-spark.txt
    venv/bin/python tests/interop/delta_spark.py [--release] [--jars-dir DIR] [NAME...], names of cases; all without any

For each case Spark makes a table, `compact` appends a window of files, Spark reads all rows and counts them under filters
on every column, goes on writing, and `compact` appends the next window, of files with one more column. DuckDB and
deltalake, where they can read such a table, are asked too. Tables that must be refused are named by the feature that is
in the way, and a listing of their directory before and after is the same. Needs Java 17 or 21. Two jars are fetched once
from Maven Central into DIR, by default ~/.cache/firnline-jars, and compared with the checksums published there.
"""

import argparse
import datetime as dt
import functools
import hashlib
import json
import pathlib
import shutil
import sys
import tempfile
import urllib.request
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from duckdb_extensions import import_extension

from run import Host
from sources import HOUR_MS, START_MS

VERSION = "4.0.1"
CENTRAL = "https://repo1.maven.org/maven2/io/delta"
JARS = (f"delta-spark_2.13/{VERSION}/delta-spark_2.13-{VERSION}.jar", f"delta-storage/{VERSION}/delta-storage-{VERSION}.jar")
OK, HALTED = 0, 3
SCHEMA = pa.schema([("ts", pa.int64()), ("name", pa.string()), ("n", pa.int32()), ("day", pa.date32())])
COLUMNS = "ts long, name string, n int, day date"
FEATURE = "'delta.feature.{}' = 'supported'"


@dataclass
class Case:
    """How Spark makes a table, and what becomes of it; `{t}` stands for the table in statements."""

    name: str
    properties: dict = field(default_factory=dict)
    columns: str = COLUMNS
    partition: str = ""
    # After the table is made and has rows, and between our appends.
    before: tuple = ()
    between: tuple = ()
    # Name, type and rule of a column that Spark's SQL cannot declare.
    computed: tuple = ()
    # What the refusal names; none: it is appended to.
    refused: str = ""
    # Readers that cannot read the table, beside Spark.
    not_read_by: tuple = ()
    # Columns of the sources that have other names or types.
    schema: pa.Schema = SCHEMA
    # Spark's settings while the table is made.
    settings: dict = field(default_factory=dict)
    # Whether a new column of the second window comes into the table.
    evolves: bool = True
    check: object = None


def property_of(feature):
    return {f"delta.feature.{feature}": "supported"}


MAPPED = {"delta.columnMapping.mode": "name"}
WRITES = ("insert into {t} (ts, name, n, day) values (900, 'later', 9, date'2024-02-29')", "optimize {t}")
RENAMED = ("alter table {t} rename column name to label", "alter table {t} drop column n", "alter table {t} add column n int")
RENAMED_SCHEMA = pa.schema([("ts", pa.int64()), ("label", pa.string()), ("n", pa.int32()), ("day", pa.date32())])
RENAMED_WRITES = tuple(write.replace("name", "label") for write in WRITES)
# deltalake 1.6 gives columns the names that they have in files.
UNMAPPED = ("deltalake",)


def row_ids_are_unique(spark, path):
    ids = [row[0] for row in spark.sql(f"select _metadata.row_id from delta.`{path}`").collect()]
    assert None not in ids and len(ids) == len(set(ids)), f"row ids: {sorted(ids)}"


def times_grow(spark, path):
    times = [row[0] for row in spark.sql(f"describe history delta.`{path}`").select("timestamp").collect()]
    assert times == sorted(set(times), reverse=True), times


def changes_are_told(spark, path):
    query = f"select _change_type, count(*) from table_changes_by_path('{path}', 0) group by 1"
    counts = dict(spark.sql(query).collect())
    rows = spark.read.format("delta").load(str(path)).count()
    assert counts["insert"] - counts.get("delete", 0) == rows, counts


CASES = [
    Case("plain", between=WRITES),
    Case("partitioned", partition="partitioned by (name, day)", between=WRITES),
    Case("append_only", {"delta.appendOnly": "true"}, between=WRITES[:1]),
    Case("change_data_feed", {"delta.enableChangeDataFeed": "true"}, between=(*WRITES, "delete from {t} where ts = 3"),
         check=changes_are_told),
    Case("mapped_by_name", MAPPED, before=RENAMED, between=RENAMED_WRITES, schema=RENAMED_SCHEMA, not_read_by=UNMAPPED),
    Case("mapped_by_id", {"delta.columnMapping.mode": "id"}, before=RENAMED, between=RENAMED_WRITES,
         schema=RENAMED_SCHEMA, not_read_by=UNMAPPED),
    Case("mapped_later", before=("alter table {t} set tblproperties ('delta.columnMapping.mode' = 'name', "
         "'delta.minReaderVersion' = '2', 'delta.minWriterVersion' = '5')", *RENAMED), between=RENAMED_WRITES,
         schema=RENAMED_SCHEMA, not_read_by=UNMAPPED),
    Case("mapped_partitioned", MAPPED, partition="partitioned by (name)", between=RENAMED_WRITES,
         before=("alter table {t} rename column name to label",), schema=RENAMED_SCHEMA,
         # DuckDB 1.5 gives null for partition columns that are mapped, in files of Spark's too.
         not_read_by=("DuckDB", *UNMAPPED)),
    Case("deletion_vectors", {"delta.enableDeletionVectors": "true"}, before=("delete from {t} where ts = 1",),
         between=("delete from {t} where ts = 3", *WRITES[:1]), not_read_by=("deltalake",)),
    Case("row_tracking", {"delta.enableRowTracking": "true"}, between=WRITES, check=row_ids_are_unique),
    Case("clustered", partition="cluster by (day, n)", between=WRITES),
    Case("in_commit_timestamps", {"delta.enableInCommitTimestamps": "true"}, between=WRITES, check=times_grow),
    Case("v2_checkpoints", {"delta.checkpointPolicy": "v2", "delta.checkpointInterval": "2"}, between=(*WRITES, *WRITES[:1]),
         not_read_by=("deltalake",)),
    Case("v2_checkpoints_in_json", {"delta.checkpointPolicy": "v2", "delta.checkpointInterval": "2"},
         between=(*WRITES, *WRITES[:1]), not_read_by=("deltalake",),
         settings={"spark.databricks.delta.checkpointV2.topLevelFileFormat": "json"}),
    Case("checkpoints_in_parts", {"delta.checkpointInterval": "2"}, between=(*WRITES, *WRITES[:1]),
         settings={"spark.databricks.delta.checkpoint.partSize": "2"}),
    Case("local_times", {}, f"{COLUMNS}, at timestamp_ntz", between=WRITES),
    Case("widened", {"delta.enableTypeWidening": "true"}, before=("alter table {t} alter column n type bigint",),
         between=WRITES, not_read_by=("deltalake",)),
    Case("vacuum_checks", property_of("vacuumProtocolCheck"), between=WRITES, not_read_by=("deltalake",)),
    Case("protected_checkpoints", property_of("checkpointProtection"), between=WRITES),
    Case("not_null", {}, "ts long not null, name string, n int, day date", between=WRITES),
    Case("statistics_of_few", {"delta.dataSkippingStatsColumns": "n"}, between=WRITES),
    Case("statistics_in_columns", {"delta.checkpoint.writeStatsAsStruct": "true", "delta.checkpointInterval": "2"},
         between=(*WRITES, *WRITES[:1])),
    *(Case(f"writer_version_{writer}", {"delta.minReaderVersion": "1" if writer < 5 else "2",
                                        "delta.minWriterVersion": str(writer)}, between=WRITES) for writer in range(2, 7)),
    Case("constrained", before=("alter table {t} add constraint positive check (ts >= 0)",), refused="delta.constraints.positive"),
    Case("generated", computed=("twice", "int", ("generatedAlwaysAs", "n * 2")),
         refused="delta.generationExpression on twice"),
    Case("identity", computed=("number", "bigint", ("generatedAlwaysAsIdentity",)), refused="delta.identity.start on number"),
    Case("defaults", property_of("allowColumnDefaults"), "ts long, name string default 'x', n int, day date",
         refused="CURRENT_DEFAULT on name"),
    Case("iceberg_compat", {"delta.enableIcebergCompatV2": "true", "delta.columnMapping.mode": "name"},
         refused="icebergCompatV2"),
    Case("variants", {}, f"{COLUMNS}, v variant", refused="variant"),
]


def jars(directory):
    directory.mkdir(parents=True, exist_ok=True)
    for name in JARS:
        jar = directory / name.rsplit("/", 1)[1]
        if not jar.exists():
            with urllib.request.urlopen(f"{CENTRAL}/{name}", timeout=300) as answer:
                body = answer.read()
            with urllib.request.urlopen(f"{CENTRAL}/{name}.sha1") as sums:
                if hashlib.sha1(body).hexdigest() != sums.read().decode().split()[0]:
                    sys.exit(f"{jar.name} has not the checksum that is published for it")
            jar.with_suffix(".part").write_bytes(body)
            jar.with_suffix(".part").rename(jar)
        yield str(jar)


def session(directory):
    from pyspark.sql import SparkSession

    settings = {
        "spark.jars": ",".join(jars(directory)),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.databricks.delta.changeDataFeed.timestampOutOfRange.enabled": "true",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.sql.warehouse.dir": "/nonexistent",
    }
    builder = SparkSession.builder.master("local[2]").appName("firnline")
    for key, value in settings.items():
        builder = builder.config(key, value)
    made = builder.getOrCreate()
    made.sparkContext.setLogLevel("ERROR")
    return made


def window(host, case, number, more=()):
    """Files of two writers in a window, of which the second has `more` columns; their rows."""
    directory = host.bucket / "data" / case.name
    directory.mkdir(parents=True, exist_ok=True)
    tables = []
    for writer in range(2):
        keys = [100 * number + 10 * writer + row for row in range(5)]
        day = dt.date(2024, 2, 28)
        values = [keys, [None, "a", "a b=%/\u00e9", "x" * 40, "c"], [None, -1, 0, 7, 2**31 - 1],
                  [day, None, day, dt.date(1969, 12, 31), day]]
        table = pa.table([pa.array(column, kind) for column, kind in zip(values, case.schema.types)], schema=case.schema)
        for name, kind, value in more if writer else ():
            table = table.append_column(name, pa.array([value] * 5, kind))
        start = START_MS + number * HOUR_MS
        pq.write_table(table, directory / f"{start + writer}-w{writer}-{number}.parquet")
        tables.append(table)
    return pa.concat_tables(tables, promote_options="default").to_pylist()


def listing(path):
    return sorted((str(file.relative_to(path)), file.read_bytes()) for file in path.rglob("*") if file.is_file())


def of_spark(spark, path):
    """Rows by Spark; a table is listed anew each time."""
    return [row.asDict(recursive=True) for row in spark.read.format("delta").load(str(path)).collect()]


def same(found, expected, what):
    """As far as rows have values: a column that a row lacks is null."""
    plain = lambda rows: sorted(repr(sorted((k, v) for k, v in row.items() if v is not None)) for row in rows)
    want, got = plain(expected), plain(found)
    assert got == want, f"{what}: {len(got)} rows instead of {len(want)}, e.g. {sorted(set(got) ^ set(want))[:3]}"


def check_filters(spark, path, rows):
    """Statistics never hide a row: Spark's counts under filters on every column against Python's."""
    frame = spark.read.format("delta").load(str(path))
    columns = [name for name, kind in frame.dtypes if kind in ("bigint", "int", "string", "date", "timestamp_ntz")]
    filters = []
    for name in columns:
        values = {row.get(name) for row in rows} - {None}
        for value in sorted(values)[:: max(1, len(values) // 4)]:
            literal = f"'{value}'" if isinstance(value, (str, dt.date)) else value
            for operator, holds in (("<", value.__gt__), ("=", value.__eq__), (">", value.__lt__)):
                want = sum(1 for row in rows if row.get(name) is not None and holds(row[name]))
                filters.append((f"`{name}` {operator} {literal}", want))
    # One job for all; each prunes files for itself.
    counts = [frame.where(text).selectExpr(f"{n} as at", "count(1) as rows") for n, (text, _) in enumerate(filters)]
    found = {row["at"]: row["rows"] for row in functools.reduce(lambda one, other: one.union(other), counts).collect()}
    for number, (text, want) in enumerate(filters):
        assert found[number] == want, f"{text}: {found[number]} instead of {want}"
    return len(filters)


def others(case, path):
    """Rows by the readers that can read such a table."""
    if "DuckDB" not in case.not_read_by:
        with duckdb.connect() as connection:
            connection.execute("set timezone = 'UTC'")
            connection.execute("load delta")
            yield "DuckDB", connection.execute(f"select * from delta_scan('{path}')").to_arrow_table().to_pylist()
    if "deltalake" not in case.not_read_by:
        yield "deltalake", DeltaTable(str(path)).to_pyarrow_table().to_pylist()


def make_computed(spark, case, path):
    """By way of Java."""
    tables, (name, data_type, (rule, *arguments)) = spark._jvm.io.delta.tables.DeltaTable, case.computed
    builder = tables.create(spark._jsparkSession).location(str(path))
    for column in case.columns.split(", "):
        builder = builder.addColumn(*column.split(" "))
    computed = tables.columnBuilder(spark._jsparkSession, name).dataType(data_type)
    builder.addColumn(getattr(computed, rule)(*arguments).build()).execute()


def make(spark, case, path):
    for key, value in case.settings.items():
        spark.conf.set(key, value)
    properties = ", ".join(f"'{key}' = '{value}'" for key, value in case.properties.items())
    properties = f"tblproperties ({properties})" if properties else ""
    if case.computed:
        make_computed(spark, case, path)
    else:
        spark.sql(f"create table delta.`{path}` ({case.columns}) using delta {case.partition} {properties}")
    rows = "(1, 'theirs', 1, date'2024-02-28'), (2, null, null, null), (3, 'z', 3, date'2024-01-01')"
    spark.sql(f"insert into delta.`{path}` (ts, name, n, day) values {rows}")
    for statement in case.before:
        spark.sql(statement.replace("{t}", f"delta.`{path}`"))


def run(spark, case, home, release):
    home.mkdir()
    host = Host(home, release)
    path = host.table(case.name)
    make(spark, case, path)
    first = window(host, case, 0)
    if case.refused:
        before = listing(path)
        document = host.compact("--grace", "1h", sort_key="ts", expect=HALTED)
        assert case.refused in json.dumps(document), f"{case.refused} is not named: {document}"
        assert listing(path) == before, "a refused table is changed"
        return f"refused: {case.refused}"
    expected = of_spark(spark, path) + first
    options = ("--grace", "1h", "--evolve", "add-columns")
    host.compact(*options, sort_key="ts")
    same(of_spark(spark, path), expected, "Spark, after the first append")
    for statement in case.between:
        spark.sql(statement.replace("{t}", f"delta.`{path}`"))
    point = pa.struct([("x", pa.int64())])
    more = (("more", pa.string(), "m"), ("point", pa.list_(point), [{"x": 5}])) if case.evolves else ()
    expected = of_spark(spark, path) + window(host, case, 1, more)
    host.compact(*options, sort_key="ts")
    same(of_spark(spark, path), expected, "Spark, after the second append")
    tried = check_filters(spark, path, expected)
    readers = ["Spark"]
    for name, rows in others(case, path):
        same(rows, expected, name)
        readers.append(name)
    for statement in WRITES[1:] if not case.properties.get("delta.appendOnly") else ():
        spark.sql(statement.replace("{t}", f"delta.`{path}`"))
    same(of_spark(spark, path), expected, "Spark, after it has rewritten the files")
    if case.check:
        case.check(spark, path)
    return f"{len(expected)} rows, {tried} filters, read by {', '.join(readers)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jars-dir", type=pathlib.Path, default=pathlib.Path.home() / ".cache" / "firnline-jars")
    parser.add_argument("--release", action="store_true", help="build the example with optimisation")
    parser.add_argument("cases", nargs="*", metavar="NAME")
    args = parser.parse_args()
    import_extension("delta")
    directory, failed = pathlib.Path(tempfile.mkdtemp(prefix="firnline-delta-spark-")), []
    spark = session(args.jars_dir)
    try:
        for case in CASES:
            if args.cases and case.name not in args.cases:
                continue
            try:
                print(f"ok    {case.name}: {run(spark, case, directory / case.name, args.release)}", flush=True)
            except (Exception, SystemExit) as error:
                failed.append(case.name)
                print(f"FAIL  {case.name}: {type(error).__name__} {str(error)[:1500]}", flush=True)
            for key in case.settings:
                spark.conf.unset(key)
    finally:
        spark.stop()
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{len(failed)} failures: {failed}" if failed else "all well")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
