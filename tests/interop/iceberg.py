"""Compacts files of several writers into Iceberg tables, checks these strictly, and reads them with other engines.

Usage: iceberg.py [--full] [--release] [--keep DIR] [NAME...], names of scenarios; all of them without any.

Every table goes through `iceberg_lint`, its rows are compared with those of the sources, and all readers of
`iceberg_readers` that are installed have to agree on every snapshot and under filters around every bound. --full takes
all operators and the readers of requirements-full.txt. --keep leaves the tables in DIR, for `spark_read.py`.

The command can be replaced by the environment variable FIRNLINE_COMPACT, a program that takes its options.
"""

import argparse
import datetime as dt
import json
import pathlib
import shutil
import sys
import tempfile
import time

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from duckdb_extensions import import_extension
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import StaticTable

import iceberg_tables
import sources
from iceberg_lint import lint
from iceberg_readers import OPERATORS, Raw, Table, canonical_rows, compare, difference
from run import QUARANTINE, Host, assert_sorted, found

QUICK = {"readers": ["duckdb", "pyiceberg", "core"], "operators": ["="]}
FULL = {"readers": ["duckdb", "pyiceberg", "chdb", "core"], "operators": OPERATORS}
SCENARIOS = []


def scenario(run):
    SCENARIOS.append(run)
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all operators, all readers")
    parser.add_argument("--release", action="store_true", help="build the example with optimisation")
    parser.add_argument("--keep", type=pathlib.Path, metavar="DIR", help="leave the tables there")
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()
    for extension in ("avro", "iceberg"):
        import_extension(extension)
    directory = args.keep or pathlib.Path(tempfile.mkdtemp(prefix="firnline-iceberg-"))
    try:
        for run in SCENARIOS:
            if args.names and run.__name__ not in args.names:
                continue
            home = directory.resolve() / run.__name__
            began = time.monotonic()
            run(IcebergHost(home, args.release, FULL if args.full else QUICK))
            print(f"ok  {run.__name__}: {run.__doc__} ({time.monotonic() - began:.1f} s)", flush=True)
    finally:
        if not args.keep:
            shutil.rmtree(directory, ignore_errors=True)


class IcebergHost(Host):
    """A bucket, a place for tables, and how much is compared."""

    format = "iceberg"

    def __init__(self, home, release, effort, version=2):
        home.mkdir(parents=True, exist_ok=True)
        super().__init__(home, release)
        self.home, self.release, self.effort, self.version = home, release, effort, version

    def versions(self):
        """A host of its own for each format version that we write."""
        return [(IcebergHost(self.home / f"v{n}", self.release, self.effort, n), n) for n in (2, 3)]

    def compact(self, *options, **more):
        return super().compact("--iceberg-version", str(self.version), *options, **more)

    def check(self, namespace, expected, foreign=False):
        """The table is as specified, has the rows of an Arrow table, and all readers see them."""
        path = self.table(namespace)
        findings = lint(path, foreign)
        assert findings == [], "\n".join(findings)
        return check_rows(Table(path), expected, self.effort)


def check_rows(table, expected, effort):
    """All readers see the rows of an Arrow table, and agree on what is older."""
    rows = canonical_rows(expected, table.schema)
    different = difference(rows, Raw(table).rows())
    assert different is None, f"{table.directory}: {different}"
    wrong = compare(table, **effort, tell=lambda line: None)
    assert wrong == [], "\n".join(wrong)
    return table


@scenario
def compacted(host):
    """windows, a late file and another one in quarantine; each snapshot is what was there when it was made"""
    for one, version in host.versions():
        paths = sources.make(one.bucket, "users", files_per_hour=2, rows_per_file=100, seed=version)
        bad = paths.pop()
        bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
        document = one.compact("--grace", "1h", expect=QUARANTINE)
        assert found(document, "key") == [bad.relative_to(one.bucket).as_posix()], document
        first, before = sources.read(paths), Table(one.table("users"))
        assert before.version == version, before.version
        assert len(before.entries()) == 2, "one file for each window"
        one.compact("--grace", "1h", expect=QUARANTINE)
        assert Table(one.table("users")).metadata == before.metadata, "a second run commits nothing"
        late = sources.make(one.bucket, "users", hours=1, files_per_hour=1, rows_per_file=100, seed=7 + version)
        one.compact("--grace", "1h", expect=QUARANTINE)
        table = one.check("users", pa.concat_tables([first, sources.read(late)]))
        then = difference(canonical_rows(first, table.schema), Raw(table).rows(before.current))
        assert then is None, then
        for entry in table.entries():
            path = pathlib.Path(entry.path.removeprefix("file://"))
            assert_sorted(sources.read([path]), path)
        open_by_hint(table)


def open_by_hint(table):
    """As a person opens it: DuckDB by the directory, PyIceberg by the metadata file."""
    rows = len(Raw(table).rows())
    with duckdb.connect() as connection:
        connection.execute("load avro; load iceberg")
        query = f"select count(*) from iceberg_scan('{table.directory}')"
        assert connection.execute(query).fetchone() == (rows,), query
    assert StaticTable.from_metadata(str(table.metadata)).scan().to_arrow().num_rows == rows
    snapshots = sorted(snapshot["sequence-number"] for snapshot in table.snapshots)
    assert snapshots == list(range(1, len(snapshots) + 1)), snapshots


@scenario
def most_types(host):
    """most types of Arrow and Iceberg, nested ones too; without times for Spark, which lacks them"""
    for one, _ in host.versions():
        for namespace, times in (("types", True), ("timeless", False)):
            tables = [iceberg_tables.rows(start, 40, times) for start in (0, 40, 80)]
            for seq, table in enumerate(tables):
                write_source(one, namespace, seq, table)
        one.compact("--grace", "1h", sort_key="id")
        for namespace, times in (("types", True), ("timeless", False)):
            one.check(namespace, pa.concat_tables(iceberg_tables.rows(start, 40, times) for start in (0, 40, 80)))


def write_source(host, namespace, seq, table):
    path = host.bucket / "data" / namespace / f"{sources.START_MS + 60_000 + seq}-w-{seq}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


@scenario
def removed_after_grace(host):
    """sources are gone after the grace period, their rows stay"""
    paths = sources.make(host.bucket, "users", hours=1, files_per_hour=1, rows_per_file=50, seed=5)
    expected = sources.read(paths)
    host.compact("--grace", "0s")
    later = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)
    host.compact("--grace", "0s", now=later.strftime("%Y-%m-%dT%H:%M:%SZ"))
    left = [path.name for path in paths if path.exists()]
    assert left == [], f"sources are left: {left}"
    host.check("users", expected)


@scenario
def handed_over(host):
    """a table of ours is registered in a catalog by PyIceberg, which appends and deletes, and comes back to us"""
    ours, more = iceberg_tables.rows(0, 40, times=False), iceberg_tables.rows(100, 9, times=False)
    again = iceberg_tables.rows(200, 20, times=False)
    for one, version in host.versions():
        write_source(one, "users", 0, ours)
        one.compact("--grace", "1h", "--drain", sort_key="id")
        directory = one.table("users")
        catalog = SqlCatalog("c", uri=f"sqlite:///{one.home}/catalog.db", warehouse=f"file://{one.tables}")
        catalog.create_namespace("n")
        theirs = catalog.register_table("n.users", f"file://{Table(directory).metadata}")
        assert theirs.scan().to_arrow().num_rows == 40
        if version == 3:
            continue  # PyIceberg 0.12 reads them, and does not write them
        # A uuid in a source is 16 bytes in our tables.
        at = more.schema.get_field_index("u")
        theirs.append(more.set_column(at, "u", more["u"].cast(pa.binary(16))))
        theirs.delete("id < 10")
        location = pathlib.Path(theirs.metadata_location.removeprefix("file://"))
        findings = lint(location, foreign=True)
        assert findings == [], "\n".join(findings)
        left = pa.concat_tables([ours.slice(10), more])
        check_rows(Table(directory, location), left, one.effort)
        taken = int(Table(directory).metadata.name.split(".")[0].removeprefix("v"))
        shutil.copy(location, location.parent / f"v{taken + 1}.metadata.json")
        before = json.loads(location.read_text())
        write_source(one, "users", 1, again)
        one.compact("--grace", "1h", "--drain", sort_key="id")
        table = one.check("users", pa.concat_tables([left, again]), foreign=True)
        assert_kept(before, table.document, but_properties="firnline.lane.")
        assert table.metadata.name == f"v{taken + 2}.metadata.json", table.metadata


@scenario
def taken_over(host):
    """a table that PyIceberg has made, deleted from and taken out of its catalog is appended to"""
    home = host.home / "theirs"
    home.mkdir()
    catalog = SqlCatalog("c", uri=f"sqlite:///{home}/catalog.db", warehouse=f"file://{host.tables}")
    catalog.create_namespace("n")
    before, ours = iceberg_tables.rows(0, 30, times=False), iceberg_tables.rows(40, 30, times=False)
    theirs = catalog.create_table("n.users", before.schema, location=f"file://{host.table('users')}")
    theirs.append(before)
    theirs.delete("id >= 20")
    write_source(host, "users", 0, ours)
    document = host.compact("--grace", "1h", "--drain", sort_key="id", expect=QUARANTINE)
    assert "belongs to a catalog" in json.dumps(document), document
    location = pathlib.Path(theirs.metadata_location.removeprefix("file://"))
    shutil.copy(location, location.parent / "v1.metadata.json")
    host.compact("--grace", "1h", "--drain", sort_key="id")
    host.check("users", pa.concat_tables([before.slice(0, 20), ours]), foreign=True)


@scenario
def deleted_by_position(host):
    """a table from which another engine has deleted by position is appended to, and no row comes back"""
    home = host.home / "theirs"
    home.mkdir()
    catalog = SqlCatalog("c", uri=f"sqlite:///{home}/catalog.db", warehouse=f"file://{host.tables}")
    catalog.create_namespace("n")
    before, ours = iceberg_tables.rows(0, 30, times=False), iceberg_tables.rows(40, 30, times=False)
    # All manifests of data files become one.
    properties = {"commit.manifest.min-count-to-merge": "2"}
    location = f"file://{host.table('users')}"
    theirs = catalog.create_table("n.users", before.schema, location=location, properties=properties)
    theirs.append(before.slice(0, 20))
    theirs.append(before.slice(20))
    location = pathlib.Path(theirs.metadata_location.removeprefix("file://"))
    iceberg_tables.delete_positions(location, [0, 3, 9])
    shutil.copy(location, location.parent / "v1.metadata.json")
    gone = {20, 23, 29}
    left = before.filter(pa.array([id not in gone for id in before["id"].to_pylist()]))
    check_rows(Table(host.table("users")), left, host.effort)
    write_source(host, "users", 0, ours)
    host.compact("--grace", "1h", "--drain", sort_key="id")
    table = host.check("users", pa.concat_tables([left, ours]), foreign=True)
    assert len(table.deletes()) == 1 and len(table.entries()) == 3


@scenario
def partitioned(host):
    """tables that PyIceberg has partitioned in every way are appended to by partition, and keep all that they have"""
    ours = iceberg_tables.rows(20, 40, times=False)
    for one, version in host.versions():
        names = list(iceberg_tables.PARTS)
        for name in names if version == 2 or host.effort is FULL else names[::5]:
            location = iceberg_tables.partitioned(one.tables, name)
            before, has_rows = take_out(location, version), iceberg_tables.PARTS[name][1]
            write_source(one, name, 0, ours.slice(0, 25))
            write_source(one, name, 1, ours.slice(25))
            one.compact("--grace", "1h", "--drain", sort_key="id")
            findings = lint(one.table(name), foreign=True)
            assert findings == [], "\n".join(findings)
            table, theirs = Table(one.table(name)), iceberg_tables.rows(0, 20, times=False).slice(0, 10)
            expected = pa.concat_tables([theirs, ours] if has_rows else [ours])
            check_rows(table, expected, by_partition(table, effort_of(one, version)))
            assert_kept(before, table.document)
            mine = [entry for entry in table.entries() if entry.snapshot == table.current]
            assert {entry.spec for entry in mine} == {table.document["default-spec-id"]}, name
            # In the table's own order, which is ours.
            assert {entry.file[140] for entry in mine} == {1}, name


@scenario
def evolved(host):
    """tables of PyIceberg that have been partitioned in several ways, of changing columns, with merged manifests"""
    for one, version in host.versions() if host.effort is FULL else host.versions()[:1]:
        made = iceberg_tables.make(one.home / "theirs", times=False)
        one.tables = one.home / "theirs" / "tables" / "n"
        for name, location in made.items():
            location = pathlib.Path(location.removeprefix("file://"))
            before, ours = take_out(location, version), iceberg_tables.rows(200, 20, times=False)
            if name == "evolved":
                ours = ours.drop_columns(["flag"]).append_column("new", pa.array(["n"] * 20))
                ours = ours.rename_columns([{"s": "text"}.get(column, column) for column in ours.column_names])
                ours = ours.set_column(ours.column_names.index("n"), "n", ours["n"].cast(pa.int64()))
            rows_before = len(Raw(Table(one.table(name))).rows())
            write_source(one, name, 0, ours)
            one.compact("--grace", "1h", "--drain", sort_key="id")
            table = Table(one.table(name))
            findings = lint(one.table(name), foreign=True)
            assert findings == [], "\n".join(findings)
            assert_kept(before, table.document)
            assert len(Raw(table).rows()) == rows_before + 20, name
            wrong = compare(table, **by_partition(table, effort_of(one, version)), tell=lambda line: None)
            assert wrong == [], "\n".join(wrong)


def effort_of(host, version):
    """What partitions prune differs by version in nothing, and takes long to compare."""
    return host.effort if version == 2 else QUICK


def by_partition(table, effort):
    """Filters on the columns that a table was ever partitioned by; on one of them where little is compared."""
    parted = [leaf for leaf in table.columns if table.transforms(leaf)]
    parted = parted if effort is FULL else parted[:1]
    return {**effort, "columns": lambda leaf: leaf in parted}


def take_out(location, version):
    """Takes a table out of its catalog, and makes it one of a format version; its metadata."""
    document = json.loads(location.read_text())
    if version == 3:
        document.update({"format-version": 3, "next-row-id": 0})
    (location.parent / "v1.metadata.json").write_text(json.dumps(document))
    return document


def assert_kept(before, after, but_properties=None):
    """All that a table had is still there, but properties that begin so."""
    for key in ("table-uuid", "location", "schemas", "partition-specs", "sort-orders", "statistics", "format-version"):
        assert (after.get(key) or []) == (before.get(key) or []), f"{key}: {after.get(key)} instead of {before.get(key)}"
    for key in ("snapshots", "snapshot-log"):
        kept = before.get(key, [])
        assert after[key][: len(kept)] == kept and len(after[key]) == len(kept) + 1, key
    for key in ("current-schema-id", "default-spec-id", "default-sort-order-id", "last-partition-id", "last-column-id"):
        assert after[key] == before[key], key
    kept = {key: value for key, value in before["properties"].items() if not key.startswith(but_properties or "=")}
    assert kept.items() <= after["properties"].items(), after["properties"]
    theirs = {name: ref for name, ref in before.get("refs", {}).items() if name != "main"}
    assert theirs.items() <= after["refs"].items() and len(after["refs"]) == len(theirs) + 1, after["refs"]


if __name__ == "__main__":
    sys.exit(main())
