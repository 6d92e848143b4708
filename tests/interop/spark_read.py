"""Reads Iceberg tables with Spark and the reference implementation in Java, and compares their rows and filters.

    python3 -m venv venv && venv/bin/pip install -r tests/interop/requirements-spark.txt
    venv/bin/python tests/interop/spark_read.py [--jars-dir DIR] [--hadoop] [--parted] TABLE...

For each TABLE, a directory or metadata file: the rows of each snapshot, and for each primitive column the counts under
filters at, just below and just above each bound against counts over a full scan by Spark. Prints a line for each
comparison; the exit code is 0 if all agree, else 1. Needs Java 17 or 21. The runtime, 47 MB, is fetched once from Maven
Central into DIR, by default ~/.cache/firnline-jars, and its checksum is compared with the one published there.

Tables are loaded with `spark.read.format('iceberg').load(metadata file)`. With --hadoop a table is also loaded as one of
a HadoopCatalog, which finds the newest version by `version-hint.text` and the names `v{N}.metadata.json`; then its
directory must be as the catalog expects: WAREHOUSE/NAMESPACE/NAME. With --parted there are filters only on the columns
that a table was ever partitioned by, or on the first one if there are none.

What Spark cannot do, and is therefore not compared: tables with a column of type time, which it refuses; tables that
are partitioned by identity of a fixed, at whose snapshots by PyIceberg it fails (they are skipped); filters on
fixed; NaN, which it takes for greater than all numbers (filters exclude it); filters around 0.0, as bounds of -0.0 and
0.0 differ in Java but not in Spark; filters on uuid, whose bounds Java compares by signed halves, and so loses rows.
"""

import argparse
import functools
import hashlib
import pathlib
import sys
import urllib.request

from iceberg_readers import Table, canonical_rows, check_rows, probes, python_value
from iceberg_rules.values import DECIMAL, FIXED, TIMES

RUNTIME = "iceberg-spark-runtime-4.0_2.13"
VERSION = "1.10.2"
CENTRAL = f"https://repo1.maven.org/maven2/org/apache/iceberg/{RUNTIME}/{VERSION}/{RUNTIME}-{VERSION}.jar"


def runtime(directory):
    """The runtime's jar, fetched if it is not there."""
    directory.mkdir(parents=True, exist_ok=True)
    jar = directory / CENTRAL.rsplit("/", 1)[1]
    if not jar.exists():
        with urllib.request.urlopen(CENTRAL, timeout=300) as answer, urllib.request.urlopen(CENTRAL + ".sha1") as sums:
            body, expected = answer.read(), sums.read().decode().split()[0]
        if hashlib.sha1(body).hexdigest() != expected:
            sys.exit(f"{CENTRAL} has not the checksum that is published for it")
        jar.with_suffix(".part").write_bytes(body)
        jar.with_suffix(".part").rename(jar)
    return jar


def session(jar):
    from pyspark.sql import SparkSession

    settings = {
        "spark.jars": str(jar),
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.codegen.wholeStage": "false",  # which takes longer than it saves
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        # Else a table that was read is remembered by its location.
        "spark.sql.catalog.spark_catalog": "org.apache.iceberg.spark.SparkSessionCatalog",
        "spark.sql.catalog.spark_catalog.type": "hadoop",
        "spark.sql.catalog.spark_catalog.warehouse": "/nonexistent",
        "spark.sql.catalog.spark_catalog.cache-enabled": "false",
    }
    builder = SparkSession.builder.master("local[1]").appName("firnline")
    for key, value in settings.items():
        builder = builder.config(key, value)
    made = builder.getOrCreate()
    made.sparkContext.setLogLevel("ERROR")
    return made


class Spark:
    """A reader as those of `iceberg_readers`."""

    name = "spark"

    def __init__(self, spark, table, hadoop=False):
        self.spark, self.table, self.hadoop = spark, table, hadoop
        if hadoop:
            self.name = "spark, hadoop catalog"
            warehouse = table.directory.parents[1]
            self.catalog = "h" + hashlib.sha1(str(warehouse).encode()).hexdigest()[:8]
            spark.conf.set(f"spark.sql.catalog.{self.catalog}", "org.apache.iceberg.spark.SparkCatalog")
            spark.conf.set(f"spark.sql.catalog.{self.catalog}.type", "hadoop")
            spark.conf.set(f"spark.sql.catalog.{self.catalog}.warehouse", str(warehouse))

    @staticmethod
    def can_read(table):
        return not any(FIXED.match(leaf.field.type) and "identity" in table.transforms(leaf) for leaf in table.columns)

    def frame(self, snapshot_id=None):
        reader = self.spark.read.format("iceberg")
        reader = reader.option("snapshot-id", snapshot_id) if snapshot_id else reader
        if self.hadoop:
            return reader.table(f"{self.catalog}.`{self.table.directory.parent.name}`.`{self.table.directory.name}`")
        return reader.load(str(self.table.metadata))

    def rows(self, snapshot_id=None):
        return canonical_rows(self.frame(snapshot_id).toArrow(), self.table.schema_of(snapshot_id))

    def can_filter(self, leaf):
        return leaf.field.type not in ("time", "uuid") and not FIXED.match(leaf.field.type)

    def conditions(self, leaf, operators):
        """All filters of a column in Spark's SQL."""
        name = ".".join(f"`{part}`" for part in leaf.name.split("."))
        number = f" and not isnan({name})" if leaf.field.type in ("float", "double") else ""
        values = [
            self.literal(leaf.field.type, value)
            for value in probes(self.table, leaf)
            if value not in (0.0, -0.0) or not number
        ]
        compared = [f"{name} {operator} {value}{number}" for value in values for operator in operators]
        return [*compared, f"{name} is null", f"{name} is not null"]

    def check_filters(self, operators, columns=None):
        """As `iceberg_readers.check_filters`, with one job for all filters of a column."""
        copied, wrong, tried = self.spark.createDataFrame(self.frame().toArrow()).cache(), [], 0
        for leaf in filter(self.can_filter, columns or self.table.columns):
            conditions = self.conditions(leaf, operators)
            try:
                expected = list(copied.selectExpr(*(f"count_if({condition})" for condition in conditions)).first())
                counted = [
                    self.frame().where(condition).selectExpr(f"{number} as at", "count(1) as rows")
                    for number, condition in enumerate(conditions)
                ]
                rows = functools.reduce(lambda one, other: one.union(other), counted).collect()
                found = [row["rows"] for row in sorted(rows, key=lambda row: row["at"])]
            except Exception as error:
                wrong.append(f"{self.name}: {leaf.name}: {error!r}"[:400])
                continue
            tried += len(conditions)
            for condition, want, got in zip(conditions, expected, found):
                if want != got:
                    wrong.append(f"{self.name}: {condition}: {got} instead of {want}")
        return tried, wrong

    @staticmethod
    def literal(kind, value):
        if found := DECIMAL.match(kind):
            return f"cast('{python_value(kind, value)}' as decimal({found[1]},{found[2]}))"
        if kind in TIMES:
            made = f"timestamp_micros({value})"
            return made if kind.startswith("timestamptz") else f"cast({made} as timestamp_ntz)"
        if kind == "date":
            return f"date_from_unix_date({value})"
        if isinstance(value, bytes):
            return f"X'{value.hex()}'"
        if isinstance(value, str):
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        if isinstance(value, float):
            return f"cast('{value!r}' as {kind})"
        return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jars-dir", type=pathlib.Path, default=pathlib.Path.home() / ".cache" / "firnline-jars")
    parser.add_argument("--hadoop", action="store_true", help="also as tables of a HadoopCatalog")
    parser.add_argument("--parted", action="store_true", help="filters on the columns of partitions only")
    parser.add_argument("--operators", type=lambda text: text.split(","), default=("<", "=", ">"))
    parser.add_argument("tables", nargs="+", metavar="TABLE")
    args = parser.parse_args()
    spark, wrong = session(runtime(args.jars_dir)), []
    for path in map(pathlib.Path, args.tables):
        table = Table(path.parent.parent, path) if path.is_file() else Table(path)
        if not Spark.can_read(table):
            print(f"skip  {path.name}", flush=True)
            continue
        parted = [leaf for leaf in table.columns if table.transforms(leaf)] or table.columns[:1]
        for hadoop in (False, True) if args.hadoop else (False,):
            reader = Spark(spark, table, hadoop)
            found = check_rows(table, reader)
            print(
                f"{'FAIL' if found else 'ok  '}  {path.name}: {reader.name} reads {len(table.snapshots)} snapshots",
                flush=True,
            )
            wrong += found
            if not hadoop:
                tried, found = reader.check_filters(args.operators, parted if args.parted else None)
                print(
                    f"{'FAIL' if found else 'ok  '}  {path.name}: {reader.name} counts under {tried} filters",
                    flush=True,
                )
                wrong += found
    spark.stop()
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
