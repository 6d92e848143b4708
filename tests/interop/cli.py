"""The examples `compact` and `merge` as a newcomer and as a careless one use them: options, messages, exit codes, what
is left.

Usage: cli.py [NAME...], names of scenarios; all of them without any.

The commands can be replaced by the environment variables FIRNLINE_COMPACT and FIRNLINE_MERGE, programs that take their
options.
"""

import datetime as dt
import itertools
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from duckdb_extensions import import_extension

from iceberg_lint import lint
from iceberg_readers import Table

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOUR_MS = 3_600_000
# 2024-11-14T10:00:00Z, the start of the first window.
START_MS = 1_731_578_400_000
# Every window has ended and waited long enough.
NOW = "2024-11-14T18:00:00Z"
OK, FAILED, USAGE, WRONG = 0, 1, 2, 3
SCHEMA = pa.schema([("ts", pa.timestamp("us", tz="UTC")), ("id", pa.int64()), ("name", pa.string())])
SCENARIOS = []
IDS = itertools.count(1)


def scenario(run):
    SCENARIOS.append(run)
    return run


def command(example="compact"):
    """The program, built once and then started without cargo."""
    given = os.environ.get(f"FIRNLINE_{example.upper()}")
    if given:
        return shlex.split(given)
    build = ["cargo", "build", "--quiet", "--example", example, "--message-format", "json"]
    lines = subprocess.run(build, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [next(path for path in map(lambda line: json.loads(line).get("executable"), lines) if path)]


class Home:
    """A bucket, a place for tables, and the rows that have been written."""

    program = None
    merge = None
    format = "delta"

    def __init__(self, directory):
        self.path = directory
        self.bucket, self.tables, self.control = (directory / name for name in ("bucket", "tables", "tables-control"))
        self.bucket.mkdir(parents=True)
        self.rows = {}

    def write(self, namespace, writer="w", hour=0, minute=10, seq=None, rows=20, where=None, order=lambda row: row):
        """Writes one sorted file, remembers its rows, and returns its key."""
        ids = [next(IDS) for _ in range(rows)]
        start = START_MS + hour * HOUR_MS
        made = [
            (dt.datetime.fromtimestamp(start / 1000 + (i * 7919) % 3600, dt.timezone.utc), i, f"name {i}") for i in ids
        ]
        made.sort(key=order)
        table = pa.table([[row[n] for row in made] for n in range(len(SCHEMA))], schema=SCHEMA)
        seq = next(IDS) if seq is None else seq
        key = where or f"data/{namespace}/{start + minute * 60_000}-{writer}-{seq}.parquet"
        path = self.bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        self.rows.setdefault(namespace, {})[key] = ids
        return key

    def arguments(self, *options, now=NOW, sort="ts,id"):
        given = [
            *("--bucket", str(self.bucket), "--tables", str(self.tables)),
            *([] if "--min-files" in options else ["--min-files", "1"]),
            *(["--now", now] if now else []),
            *(["--sort-key", sort] if sort else []),
            *([] if "--format" in options else ["--format", self.format]),
        ]
        return Home.program + given + [str(option) for option in options]

    def run(self, *options, expect=OK, give=None, **more):
        """Runs the command to its end; its output is checked for panics."""
        return checked(self.arguments(*options, **more), expect, give)

    def json(self, *options, **more):
        """Runs it with --json and returns the one document that it prints."""
        done = self.run("--json", *options, **more)
        document = json.loads(done.stdout)
        assert document["exitCode"] == done.returncode, document
        return document

    def ids(self, namespace):
        return sorted(itertools.chain(*self.rows.get(namespace, {}).values()))

    def check(self, namespace, ids=None, sort=("ts", "id"), duck=True):
        """deltalake and DuckDB read each row once, and every file is in order."""
        path = self.tables / namespace
        expected = self.ids(namespace) if ids is None else sorted(ids)
        table = DeltaTable(str(path))
        found = sorted(pa.table(table.to_pyarrow_table())["id"].to_pylist())
        assert found == expected, f"deltalake reads {len(found)} rows of {path}, not {len(expected)}"
        if duck:
            found = duckdb_ids(path)
            assert found == expected, f"DuckDB reads {len(found)} rows of {path}, not {len(expected)}"
        for name in data_files(path):
            rows = pq.ParquetFile(name).read().to_pylist()
            keys = [tuple(row[column] for column in sort) for row in rows]
            assert keys == sorted(keys), f"{name} is not sorted by {sort}"


def checked(arguments, expect, give=None):
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, check=False, input=give, timeout=120)
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    told = f"{shlex.join(arguments)}\n-> {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "panicked" not in done.stderr, told
    assert done.returncode in (expect if isinstance(expect, tuple) else (expect,)), f"expected exit code {expect}: {told}"
    return done


def duckdb_ids(table):
    is_delta = (table / "_delta_log").exists()
    url = str(table if is_delta else Table(table).metadata).replace("'", "''")
    scan = f"delta_scan('{url}')" if is_delta else f"iceberg_scan('{url}')"
    with duckdb.connect() as connection:
        connection.execute("load delta" if is_delta else "load avro; load iceberg")
        return [row[0] for row in connection.execute(f"select id from {scan} order by id").fetchall()]


def data_files(table):
    if not (table / "_delta_log").exists():
        return [entry.path.removeprefix("file://") for entry in Table(table).entries()]
    return [unquote(uri.removeprefix("file://")) for uri in DeltaTable(str(table)).file_uris()]


def tree(*paths):
    """Everything below some directories with size and time, to see that nothing was touched."""
    return sorted(
        (str(path), stat.st_size if path.is_file() else None, stat.st_mtime_ns)
        for base in paths
        for path in [base, *base.rglob("*")]
        if base.exists()
        for stat in [path.stat()]
    )


def quarantined(document):
    """key -> reason, of all namespaces."""
    entries = [entry for doc in document["namespaces"].values() for entry in doc["quarantine"]]
    return {entry["key"]: entry["reason"] for entry in entries + document["quarantine"]}


def plans(document, namespace="users"):
    return document["namespaces"].get(namespace, {}).get("plans", [])


def event(key, size=None, action="PutObject", etag=None):
    fields = {"key": key, "size": size, "eTag": etag}
    found = {name: value for name, value in fields.items() if value is not None}
    return json.dumps({"action": action, "bucket": "raw", "object": found, "eventTime": "2024-11-14T10:00:00Z"})


@scenario
def bad_usage(home):
    """a bad value is refused with option, value and rule, and creates nothing"""
    home.write("users")
    before = tree(home.path)
    a_file = home.path / "bucket" / home.write("users")
    before = tree(home.path)
    cases = [
        (["--window", "1x"], ["--window", "1x", "1h"]),
        (["--window", "0s"], ["--window", "`0`", "at least 1000"]),
        (["--window", "-1h"], ["--window", "-1h"]),
        (["--window", "99999y"], ["--window", "hundred years"]),
        (["--max-wait", "soon"], ["--max-wait", "soon"]),
        (["--max-wait", "-5m"], ["--max-wait", "-5m"]),
        (["--grace", "10"], ["--grace", "10"]),
        (["--grace", "99999y"], ["--grace", "hundred years"]),
        (["--min-files", "0"], ["--min-files", "`0`", "at least 1"]),
        (["--min-files", "-1"], ["-1"]),
        (["--min-files", "many"], ["--min-files", "many"]),
        (["--memory", "much"], ["--memory", "much", "128MiB"]),
        (["--memory", "99999999999999999999"], ["--memory", "99999999999999999999", "below 16 EiB", "128MiB"]),
        (["--memory", "99999999999999999999B"], ["--memory", "99999999999999999999B", "below 16 EiB"]),
        (["--memory", "1MiB"], ["--memory", "1048576", "at least 16777216"]),
        (["--memory", "0"], ["--memory", "`0`"]),
        (["--memory", "-1"], ["--memory", "-1"]),
        (["--target-file-size", "1KiB"], ["--target-file-size", "1024", "1048576"]),
        (["--codec", "lzo"], ["--codec", "lzo", "snappy"]),
        (["--codec", "zstd(23)"], ["--codec", "23", "1 to 22"]),
        (["--codec", "zstd(-1)"], ["--codec", "-1"]),
        (["--sort-key", ""], ["--sort-key", "ts or -ts"]),
        (["--sort-key", "ts,,id"], ["--sort-key", "ts or -ts"]),
        (["--sort-key", "-"], ["--sort-key", "ts or -ts"]),
        (["--sort-key", "--once"], ["--sort-key", "--once"]),
        (["--sort-key", "ts,-ts"], ["--sort-key", "once", "`ts`"]),
        (["--prefix", "/data"], ["--prefix", "/data/"]),
        (["--prefix", "../data"], ["--prefix", "../data/", "`..`"]),
        (["--prefix", "a//b"], ["--prefix", "a//b/"]),
        (["--now", "yesterday"], ["--now", "yesterday", "2024-"]),
        (["--now", "2024-11-14"], ["--now", "2024-11-14", "RFC 3339"]),
        (["--iceberg-version", "4"], ["--iceberg-version", "4", "2..=3"]),
        (["--format", "hudi"], ["--format", "hudi", "delta"]),
        (["--bucket", "s3://raw"], ["--bucket", "s3://", "example"]),
        (["--tables", "gs://t/x"], ["--tables", "gs://", "example"]),
        (["--control", "az://c"], ["--control", "az://", "example"]),
        (["--bucket", "file://raw"], ["--bucket", "file:///"]),
        (["--bucket", ""], ["--bucket", "directory"]),
        (["--bucket", home.path / "none"], ["--bucket", "none"]),
        (["--bucket", a_file], ["--bucket", "not a directory", a_file.name]),
        (["--tables", a_file], ["--tables", "not a directory", a_file.name]),
        (["--control", a_file], ["--control", "not a directory", a_file.name]),
        (["--tables", home.bucket], ["--tables", "--bucket", "apart"]),
        (["--tables", home.bucket / "data/t"], ["--tables", "--bucket", "apart"]),
        (["--control", home.tables], ["--tables", "--control", "apart"]),
        (["--control", home.tables / "c"], ["--tables", "--control", "apart"]),
        (["--control", home.bucket / "data/c"], ["--control", "--bucket", "apart"]),
        (["--events", home.path / "none"], ["--events", "none"]),
        (["--once", "--watch"], ["--once", "--watch"]),
        (["--status", "--drain"], ["--status", "--drain"]),
        (["--status", "--release", "k"], ["--status", "--release"]),
        (["--status", "--watch"], ["--status", "--watch"]),
        (["--release", "k", "--discard", "j", "--discard", "k"], ["--release", "--discard", "same key", ": k"]),
        (["--replay", "users", "--adopt", "users"], ["--replay", "--adopt", "same namespace", "users"]),
        (["--release", "data/users/1731578400000-w-1.parquet", "--adopt", "users"], ["--release", "--adopt", "another run"]),
        (["--release", "data/eu/a/1731578400000-w-1.parquet", "--replay", "eu/a"], ["--release", "--replay", "another run"]),
        (["--bucket", "file:///a%ff"], ["--bucket", "UTF-8"]),
        (["--no-such"], ["--no-such"]),
        (["stray"], ["stray"]),
    ]
    fixed = ["--bucket", home.bucket, "--tables", home.tables]
    for options, words in cases:
        given = list(map(str, [*(pair for at in (0, 2) if fixed[at] not in options for pair in fixed[at : at + 2]), *options]))
        done = checked([*Home.program, *given, "--json"], USAGE)
        document = json.loads(done.stdout)
        assert document["exitCode"] == USAGE, document
        for word in words:
            assert word in done.stderr, f"{given}: {word!r} is not in {done.stderr}"
            assert word in document["error"], f"{given}: {word!r} is not in {document}"
        assert checked([*Home.program, *given], USAGE).stdout == ""
        assert tree(home.path) == before, f"{given} touched something"
    document = json.loads(checked([*Home.program, "--json"], USAGE).stdout)
    assert "--bucket" in document["error"] and "--tables" in document["error"], document


@scenario
def help_is_there(home):
    """--help names every option and the exit codes"""
    told = checked([*Home.program, "--help"], OK).stdout
    options = "bucket prefix tables format sort-key window min-files max-wait grace memory target-file-size codec control unsorted no-copy threads"
    options += " now events once watch drain status release discard replay adopt json"
    for word in [f"--{name}" for name in options.split()] + ["Exit codes", "zstd(1)", "128MiB", "256MiB", "file://"]:
        assert word in told, f"{word} is not in --help"
    assert max(map(len, told.splitlines())) <= 120, "--help fits a terminal"


@scenario
def nothing_there(home):
    """--status of nothing creates nothing; an empty bucket is fine"""
    before = tree(home.path)
    status = json.loads(home.run("--status").stdout)
    assert status["activeWindows"] == 0 and status["windows"] == [], status
    document = home.json("--status")
    assert document["namespaces"] == {} and document["status"]["halts"] == [], document
    assert tree(home.path) == before, "--status touched something"
    assert home.json()["namespaces"] == {}
    assert home.json("--drain")["namespaces"] == {}
    assert "0 plans" in home.run().stdout


@scenario
def status_of_a_live_state(home):
    """--status reads what a run left, pending files and all, and touches nothing"""
    home.write("users")
    home.write("users", hour=5)
    # Within the second window.
    document = home.json("--grace", "1h", now="2024-11-14T15:30:00Z")
    assert [plan["windowKey"] for plan in plans(document)] == [f"users:{START_MS}"], document
    assert document["namespaces"]["users"]["pending"] == 1, document
    before = tree(home.path)
    document = home.json("--status", "--grace", "1h", now="2024-11-14T15:31:00Z")
    assert tree(home.path) == before, "--status touched something"
    assert document["namespaces"]["users"]["pending"] == 1, document
    status = json.loads(home.run("--status", now="2024-11-14T15:31:00Z").stdout)
    window = status["windows"][0]
    assert window["key"] == f"users:{START_MS + 5 * HOUR_MS}" and window["fileCount"] == 1, window
    assert window["waitingFor"]["kind"] == "windowEnd", window
    home.json(now=NOW)
    home.check("users")


@scenario
def the_document(home):
    """--json has all that is promised, and the sizes and counts are right"""
    keys = [home.write("users", seq=n, minute=n, rows=10) for n in range(3)]
    size = sum((home.bucket / key).stat().st_size for key in keys)
    document = home.json("--grace", "0s")
    (plan,) = plans(document)
    assert set(plan) >= {"seq", "windowKey", "generation", "sources", "rows", "bytesIn", "bytesOut", "outputs", "ms"}, plan
    assert (plan["seq"], plan["windowKey"], plan["generation"]) == (1, f"users:{START_MS}", 0), plan
    assert (plan["sources"], plan["rows"], plan["bytesIn"]) == (3, 30, size), plan
    (output,) = data_files(home.tables / "users")
    assert [pathlib.Path(path).name for path in plan["outputs"]] == [pathlib.Path(output).name], plan
    assert plan["bytesOut"] == pathlib.Path(output).stat().st_size, plan
    assert document["namespaces"]["users"]["pending"] == 0 and quarantined(document) == {}, document
    assert document["status"]["halts"] == [] and document["errors"] == [], document
    home.check("users")
    assert plans(home.json("--grace", "0s")) == []


@scenario
def iceberg_tables(home):
    """--format iceberg makes an Iceberg table; a second run commits nothing, and the format cannot be changed"""
    for minute in (10, 20):
        home.write("users", minute=minute)
    document = home.json("--format", "iceberg", "--grace", "1h")
    assert [plan["rows"] for plan in plans(document)] == [40], document
    table = home.tables / "users"
    for _ in range(2):
        assert lint(table) == [], lint(table)
        assert duckdb_ids(table) == home.ids("users")
        names = sorted(path.name for path in (table / "metadata").glob("*.json"))
        assert names == ["v1.metadata.json", "v2.metadata.json"], names
        assert (table / "metadata" / "version-hint.text").read_text() == "2"
        home.json("--format", "iceberg", "--grace", "1h")
    home.write("users", hour=1)
    document = home.json("--format", "delta", "--grace", "1h", expect=WRONG)
    assert "tableFormat" in document["status"]["halts"][0]["reason"], document
    assert not (table / "_delta_log").exists(), document
    home.json("--format", "iceberg", "--grace", "1h")
    assert duckdb_ids(table) == home.ids("users")


@scenario
def windows_and_minimum(home):
    """--window, --min-files and --max-wait decide what is ready; --drain takes all"""
    for hour in range(2):
        home.write("users", hour=hour, minute=5)
        home.write("users", hour=hour, minute=35)
    quiet = home.run("--window", "30m", "--min-files", "2", now="2024-11-14T12:10:00Z")
    assert "0 plans" in quiet.stdout and "4 files pending in 4 windows" in quiet.stdout, quiet.stdout
    home.run("--window", "30m", "--drain", "--min-files", "9", now="2024-11-14T12:10:00Z")
    home.check("users")
    assert len(data_files(home.tables / "users")) == 4
    home.write("users", hour=30)
    document = home.json("--window", "30m", "--min-files", "9", now="2024-11-15T16:11:00Z")
    assert document["namespaces"]["users"]["pending"] == 1, document


@scenario
def urls_and_relative_paths(home):
    """file:// URLs and paths relative to the working directory are the same places"""
    home.write("users")
    urls = ["--bucket", f"file://{home.bucket}", "--tables", f"file://{home.tables}", "--now", NOW]
    checked([*Home.program, *urls, "--sort-key", "ts,id", "--min-files", "1", "--grace", "1h"], OK)
    home.check("users")
    before = tree(home.tables)
    relative = [os.path.relpath(path, ROOT) for path in (home.bucket, home.tables)]
    given = ["--bucket", relative[0], "--tables", relative[1] + "/", "--now", NOW, "--sort-key", "ts,id", "--grace", "1h"]
    document = json.loads(checked([*Home.program, *given, "--json", "--control", f"file://{home.control}"], OK).stdout)
    assert plans(document) == [], document
    assert tree(home.tables) == before
    # What a URL cannot hold is written with percent signs.
    odd = Home(home.path / "a b ü")
    odd.write("users")
    urls = ["--bucket", odd.bucket.as_uri(), "--tables", odd.tables.as_uri(), "--now", NOW, "--sort-key", "ts,id"]
    checked([*Home.program, *urls, "--min-files", "1"], OK)
    odd.check("users")
    assert sorted(path.name for path in home.path.iterdir()) == ["a b ü", "bucket", "tables", "tables-control"]


@scenario
def the_control_directory(home):
    """it lies beside the tables however these are written, and never where they were not asked for"""
    for number, (tables, cwd) in enumerate([("tables/", "."), ("./tables//", "."), ("tables/.", "."), (".", "tables"), ("./", "tables")]):
        parts = Home(home.path / str(number))
        parts.write("users")
        parts.tables.mkdir()
        given = ["--bucket", parts.bucket, "--tables", tables, "--now", NOW, "--sort-key", "ts,id", "--min-files", "1"]
        done = subprocess.run([*Home.program, *given], cwd=parts.path / cwd, capture_output=True, check=False, text=True)
        assert done.returncode == OK, (tables, done.stderr)
        parts.check("users")
        assert sorted(path.name for path in parts.path.iterdir()) == ["bucket", "tables", "tables-control"], tables


@scenario
def other_prefixes(home):
    """--prefix with and without its slash, and none"""
    for number, prefix in enumerate(["raw/new", "raw/other/", "", "/"]):
        parts = Home(home.path / str(number))
        at = prefix.strip("/") + "/" if prefix.strip("/") else ""
        parts.write("eu/users", where=f"{at}eu/users/{START_MS + 60_000}-w-1.parquet")
        document = parts.json("--prefix", prefix)
        assert len(plans(document, "eu/users")) == 1, (prefix, document)
        parts.check("eu/users")


@scenario
def events(home):
    """--events of a file and of standard input: bad lines, duplicates and forged keys do no harm"""
    a, b = home.write("users", seq=1), home.write("users", seq=2, minute=20)
    size = (home.bucket / a).stat().st_size
    lines = [
        event(a, size),
        "",
        "no json",
        '{"action": "PutObject"}',
        event(a, size),
        event(b, 7, etag="forged"),
        event(b),
        event("elsewhere/users/1731578400000-w-1.parquet", 1),
        event("data/users/notes.txt", 1),
        event("data/users/1731578400000-w-9.parquet", 1, action="DeleteObject"),
        "[" + event(a) + "," + event(b) + "]",
        event(a, size) + "\r",
    ]
    body = "\n".join(lines).encode() + b"\n\xff\xfe not UTF-8\n" + event(b).encode()
    file = home.path / "events.jsonl"
    file.write_bytes(body)
    document = home.json("--events", file, "--grace", "1h")
    assert [plan["sources"] for plan in plans(document)] == [2], document
    assert document["skippedLines"] == 3, document
    home.check("users")
    done = home.run("--events", "-", "--grace", "1h", give=body)
    assert done.stderr.count("skipped: line") == 3 and "line 3:" in done.stderr, done.stderr
    home.check("users")
    # A namespace that is known: only what is announced is taken in, and the store is the authority.
    c = home.write("users", seq=3, minute=30)
    document = home.json("--events", "-", "--grace", "1h", give=b"")
    assert plans(document) == [] and document["namespaces"]["users"]["pending"] == 0, document
    forged = ["data/users/1731580000000-ghost-1.parquet", "data/users/../../../etc/passwd.parquet", "data/x.parquet"]
    given = "\n".join([event(c, 1, etag="wrong"), *map(event, forged)]).encode()
    document = home.json("--events", "-", "--grace", "1h", give=given, expect=WRONG)
    home.check("users")
    reasons = quarantined(document)
    assert set(reasons) == set(forged), document
    assert "vanished" in reasons[forged[0]], reasons
    for key in forged:
        home.run("--discard", key, "--events", "-", give=b"", expect=WRONG if key != forged[-1] else OK)
    home.json("--grace", "1h")
    home.check("users")


@scenario
def a_name_that_is_none(home):
    """a file whose name the store cannot tell is an error that stops nothing"""
    for namespace in ("aardvark", "users", "zebra"):
        home.write(namespace)
    strange = home.bucket / "data/users/x\ty.tmp"
    strange.write_bytes(b"")
    for _ in range(2):
        document = home.json("--drain", expect=FAILED)
        assert "illegal character" in " ".join(document["errors"]), document
        for namespace in ("aardvark", "users", "zebra"):
            home.check(namespace)
        home.write("users")
    strange.unlink()
    home.run("--drain")
    home.check("users")


@scenario
def corrupt_and_repaired(home):
    """a corrupt file is set aside; repaired under its key it is judged anew, released or just listed"""
    for number, release in enumerate([True, False]):
        parts = Home(home.path / str(number))
        good, bad = parts.write("users", seq=1), parts.write("users", seq=2)
        path = parts.bucket / bad
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        document = parts.json(expect=WRONG)
        assert list(quarantined(document)) == [bad] and "corrupt" in quarantined(document)[bad], document
        assert list(quarantined(parts.json("--status", expect=WRONG))) == [bad]
        assert parts.run(expect=WRONG).stdout.count(bad) == 1
        # Released without being repaired it goes straight back.
        assert list(quarantined(parts.json("--release", bad, expect=WRONG))) == [bad]
        path.write_bytes(whole)
        document = parts.json(*(["--release", bad] if release else []))
        assert len(plans(document)) == 1, document
        parts.check("users")
        assert not path.exists() and not (parts.bucket / good).exists(), "with no grace sources are gone"
        told = parts.json("--release", bad, expect=USAGE)["error"]
        assert "not in quarantine" in told and bad in told, told


@scenario
def decoders_that_panic(home):
    """bytes on which a decoder panics set their file aside, and nobody sees a panic"""
    text = pa.table({"ts": pa.array(range(50)), "name": [f"name {i % 7}" for i in range(50)]})
    encoding = {"use_dictionary": False, "column_encoding": {"ts": "PLAIN", "name": "DELTA_BYTE_ARRAY"}}
    path = home.path / "whole.parquet"
    pq.write_table(text, path, compression="none", **encoding)
    whole, column = path.read_bytes(), pq.ParquetFile(path).metadata.row_group(0).column(1)
    start = column.data_page_offset
    for at in range(start, start + column.total_compressed_size):
        for byte in (0, 128):
            at_hand = home.bucket / f"data/{at}-{byte}/{START_MS + 60_000}-w-1.parquet"
            at_hand.parent.mkdir(parents=True)
            at_hand.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
    document = home.json(sort="ts", expect=WRONG)
    assert len(quarantined(document)) > 10, document


@scenario
def discarded(home):
    """what is discarded stays in the bucket, out of sight"""
    home.write("users")
    key = "data/users/1731578400000-w-2.parquet"
    (home.bucket / key).write_bytes(b"PAR1 no")
    malformed = "data/users/yesterday-w-3.parquet"
    (home.bucket / malformed).write_bytes(b"?")
    assert set(quarantined(home.json(expect=WRONG))) == {key, malformed}
    assert "copy the object" in home.json("--release", malformed, expect=USAGE)["error"]
    document = home.json("--discard", key, "--discard", malformed)
    assert len(document["doors"]) == 2 and quarantined(document) == {}, document
    home.json()
    assert (home.bucket / key).exists() and (home.bucket / malformed).exists()
    home.check("users")
    assert "not in quarantine" in home.json("--discard", key, expect=USAGE)["error"]
    assert "no such namespace" in home.json("--adopt", "nobody", expect=USAGE)["error"]
    assert "no such namespace" in home.json("--replay", "nobody", expect=USAGE)["error"]


@scenario
def adopted(home):
    """a lost control directory halts; --adopt goes on with the table as it is"""
    home.write("users", hour=0)
    home.json()
    shutil.rmtree(home.control)
    home.write("users", hour=1)
    document = home.json(expect=WRONG)
    assert "adopt" in document["namespaces"]["users"]["halted"], document
    home.check("users", ids=home.ids("users")[:20])
    told = home.run("--adopt", "users", expect=WRONG).stdout
    assert "adopt" in told and "quarantine" in told, told
    # Nobody can tell whether the second file is in: the operator knows that it is not.
    key = max(home.rows["users"])
    document = home.json("--release", key, "--grace", "1h")
    home.check("users")
    home.json("--grace", "1h")
    home.write("users", hour=2)
    home.json("--grace", "1h")
    home.check("users")
    # Adopted without need, and twice: what is in stays in, once.
    for door in ("--adopt", "--adopt", "--replay", "--adopt"):
        home.json(door, "users", "--grace", "1h")
        home.check("users")


@scenario
def replayed(home):
    """a lost table halts before anything is deleted; --replay puts in again what is still there"""
    home.write("users", hour=0)
    home.write("users", hour=1)
    home.json("--grace", "1h")
    shutil.rmtree(home.tables / "users")
    document = home.json("--grace", "0s", expect=WRONG)
    assert "replay" in document["namespaces"]["users"]["halted"], document
    assert len(list(home.bucket.rglob("*.parquet"))) == 2, "nothing is deleted"
    document = home.json("--grace", "1h", "--replay", "users")
    assert sum(plan["rows"] for plan in plans(document)) == 40, document
    home.check("users")
    home.json("--grace", "0s")
    home.check("users")
    later = (dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    home.json("--grace", "0s", now=later)
    assert not list(home.bucket.rglob("*.parquet")), "committed sources are deleted at last"
    home.check("users")


@scenario
def settings_changed(home):
    """another sort key halts the namespace, names the field and touches neither bucket nor table"""
    home.write("users")
    home.json("--grace", "1h")
    home.write("users", hour=1)
    before = tree(home.bucket, home.tables)
    for sort in ("id", "-ts,id", None):
        document = home.json("--grace", "1h", sort=sort, expect=WRONG)
        halted = document["namespaces"]["users"]["halted"]
        assert "sortOrder" in halted and "ts" in halted, halted
        assert document["namespaces"]["users"]["pending"] == 2, "a lane that is not opened is not looked into"
        told = home.run("--grace", "1h", sort=sort, expect=WRONG).stdout
        assert "sortOrder" in told, told
        assert home.json("--status", sort=sort, expect=WRONG)["status"]["halts"], "--status shows it too"
    assert tree(home.bucket, home.tables) == before, "nothing has changed"
    # What may change: window, codec, memory, sizes, waits.
    home.json("--grace", "2h", "--window", "2h", "--codec", "snappy", "--memory", "32MiB", "--max-wait", "1m")
    home.check("users")


@scenario
def nested_namespaces(home):
    """`eu` and `eu/users` cannot both have a table there: the second is set aside as a whole, `us` goes on"""
    home.write("eu")
    home.write("us")
    home.json()
    key = home.write("eu/users")
    document = home.json(expect=WRONG)
    assert list(quarantined(document)) == [key] and "overlap" in quarantined(document)[key], document
    assert "eu" in quarantined(document)[key], document
    home.write("eu", hour=1)
    home.write("us", hour=1)
    home.json(expect=WRONG)
    home.check("eu")
    home.check("us")
    assert (home.bucket / key).exists()


@scenario
def orders(home):
    """descending, by strings, and none at all"""
    micros = lambda row: row[0].timestamp()
    for number, (sort, order) in enumerate(
        [("-ts,id", lambda r: (-micros(r), r[1])), ("name", lambda r: r[2]), ("-id", lambda r: -r[1]), (None, lambda r: r)]
    ):
        parts = Home(home.path / str(number))
        for n in range(3):
            parts.write("users", seq=n, order=order)
        parts.json(sort=sort)
        parts.check("users", sort=())
        if sort:
            (file,) = data_files(parts.tables / "users")
            rows = [tuple(row.values()) for row in pq.ParquetFile(file).read().to_pylist()]
            assert rows == sorted(rows, key=order), f"{sort}: {file} is not sorted"


@scenario
def wrong_order(home):
    """a file that is not in the declared order is told, or sorted if that is asked for; a column that is not there is told"""
    key = home.write("users", order=lambda row: -row[1])
    home.write("users")
    document = home.json(expect=WRONG)
    told = quarantined(document)[key]
    assert all(words in told for words in ("sort order", "nulls are last", "row=`", "order=`ts,id`")), told
    home.check("users", ids=[i for k, ids in home.rows["users"].items() if k != key for i in ids])
    home.json("--unsorted", "resort", "--release", key)
    home.check("users")
    parts = Home(home.path / "typo")
    key = parts.write("users")
    document = parts.json(sort="TS,id", expect=WRONG)
    told = json.dumps([quarantined(document), document["status"]["halts"]])
    assert "TS" in told, document


@scenario
def codecs_sizes_and_memory(home):
    """--codec, --target-file-size and --memory do what they say"""
    for codec, expected in [("none", "UNCOMPRESSED"), ("snappy", "SNAPPY"), ("lz4", "LZ4"), ("zstd(9)", "ZSTD"), ("zstd", "ZSTD")]:
        parts = Home(home.path / codec)
        for n in range(2):
            parts.write("users", seq=n)
        parts.json("--codec", codec)
        (file,) = data_files(parts.tables / "users")
        assert pq.ParquetFile(file).metadata.row_group(0).column(1).compression == expected, codec
        parts.check("users")
    for memory in ("16MiB", "64MiB"):
        parts = Home(home.path / memory)
        for n in range(12):
            parts.write("users", seq=n, rows=5_000)
        parts.json("--memory", memory, "--target-file-size", "1MiB", "--codec", "none")
        files = data_files(parts.tables / "users")
        assert len(files) > 1, f"{len(files)} files of 1 MiB"
        assert all(os.path.getsize(file) < 2 << 20 for file in files), [os.path.getsize(file) for file in files]
        parts.check("users")


@scenario
def odd_names(home):
    """spaces, %, umlauts, = and the like in keys, namespaces and directories, end to end"""
    parts = Home(home.path / "a b ü=")
    namespaces = ["users eu", "50%", "a%20b", "größe", "day=2024-11-14/x", "a+b&c", "q?x", "h#1", "x'y", "日本"]
    writers = ["w", "a b", "50%", "%2F", "ü", "k=v", "host-1-2", "a+b", "#1", "it's"]
    for namespace, writer in itertools.product(namespaces, writers):
        parts.write(namespace, writer=writer, rows=2)
    for writer in ["e\u0301", "~", "$x", "@", "{}", "[1]", "<>", "^", "`", "|", "\\", "*", ":"]:
        parts.write("misc", writer=writer, rows=2)
    keys = [key for of_one in parts.rows.values() for key in of_one]
    document = parts.json()
    assert quarantined(document) == {} and document["status"]["halts"] == [], document
    for namespace in [*namespaces, "misc"]:
        assert len(plans(document, namespace)) == 1, (namespace, document)
        assert plans(document, namespace)[0]["sources"] == len(parts.rows[namespace]), (namespace, document)
        table = parts.tables / namespace
        if "%20" in namespace:
            # deltalake and DuckDB look for ` `, also where they have written themselves.
            files = [pq.ParquetFile(name) for name in (table / "data").iterdir()]
            assert sorted(i for file in files for i in file.read()["id"].to_pylist()) == parts.ids(namespace)
        else:
            # DuckDB takes % for a format and loses 日本, also in tables that deltalake has written.
            parts.check(namespace, duck=namespace not in ("50%", "日本"))
    left = [key for key in keys if (parts.bucket / key).exists()]
    assert left == [], left
    assert plans(parts.json(), "misc") == []


@scenario
def foreign_files(home):
    """files that are not Parquet by name are left alone; files of the future wait"""
    home.write("users")
    for name in ("_SUCCESS", "notes.txt", "x.parquet.tmp", ".hidden", "1731578400000-w-1.PARQUET"):
        (home.bucket / "data/users" / name).write_text("not ours")
    (home.bucket / "data/empty").mkdir()
    future = home.write("users", hour=24 * 365)
    document = home.json()
    assert len(plans(document)) == 1 and document["namespaces"]["users"]["pending"] == 1, document
    assert document["status"]["windows"][0]["held"] == 1, document
    assert (home.bucket / future).exists()
    assert len(list((home.bucket / "data/users").iterdir())) == 6
    home.json(now="2025-11-15T00:00:00Z")
    home.check("users")


@scenario
def tables_in_the_way(home):
    """a file where a table or its log should be is told, and other namespaces go on"""
    home.write("users")
    home.write("good")
    home.tables.mkdir()
    (home.tables / "users").write_text("in the way")
    document = home.json(expect=FAILED)
    told = json.dumps([document["errors"], document["status"]["halts"]])
    assert "users" in told, document
    home.check("good")
    assert list(home.bucket.rglob("data/users/*.parquet")), "nothing is lost"
    (home.tables / "users").unlink()
    home.json(now="2024-11-14T19:00:00Z")
    home.check("users")


@scenario
def told_once(home):
    """a quarantined file and the cause of a failure are told once"""
    home.write("users")
    bad = "data/users/1731578400000-w-2.parquet"
    (home.bucket / bad).write_bytes(b"PAR1 no")
    told = home.run(expect=WRONG).stdout
    assert told.count(bad) == 1 and "1 file in quarantine" in told, told
    home.write("users", hour=1)
    (home.tables / "users/_delta_log").rename(home.tables / "log")
    (home.tables / "users/_delta_log").write_text("in the way")
    document = home.json("--grace", "1h", expect=(FAILED, WRONG))
    for line in [*document["errors"], *(halt["reason"] for halt in document["status"]["halts"])]:
        assert line.count("os error") <= 1, line


@scenario
def full_disk(home):
    """a document that cannot be written is a failure, whatever else went well"""
    home.write("users")
    a_file = home.bucket / home.write("users", hour=1)
    commands = [home.arguments(*options) for options in (["--grace", "1h"], ["--json"], ["--status"], ["--status", "--json"])]
    merge = [*Home.merge, "--sort-key", "ts,id", str(a_file), "--output"]
    commands = [[*merge, str(home.path / "m1")], [*merge, str(home.path / "m2"), "--json"], *commands]
    for arguments in commands:
        with open("/dev/full", "wb") as full:
            done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, check=False, text=True)
        assert done.returncode == FAILED, (arguments, done)
        assert "standard output" in done.stderr and done.stderr.count("No space left") == 1, (arguments, done)
    home.check("users")


@scenario
def broken_pipe(home):
    """a reader that closes the pipe early stops nothing"""
    for hour in range(3):
        home.write("users", hour=hour)
    for options in ([], ["--status"], ["--json"], ["--help"]):
        process = subprocess.Popen(home.arguments(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        told = process.stderr.read().decode()
        assert process.wait(60) == OK and told == "", (options, process.returncode, told)
    home.check("users")


@scenario
def watch_events(home):
    """--watch --events - ends by itself when the events end, and tells all that it did"""
    a, b = home.write("users", seq=1), home.write("users", seq=2, hour=1)
    given = "\n".join(map(event, [a, b, a])).encode()
    document = home.json("--watch", "--events", "-", give=given)
    assert sum(plan["rows"] for plan in plans(document)) == 40, document
    home.check("users")
    home.json("--watch", "--drain", "--events", "-", give=b"")
    bad = "data/users/1731578400000-w-77.parquet"
    document = home.json("--watch", "--events", "-", give=event(bad).encode(), expect=WRONG)
    assert list(quarantined(document)) == [bad], document


@scenario
def watch_a_directory(home):
    """--watch picks up new files within seconds, and stops on a signal without harm"""
    for which in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(home.arguments("--watch"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert "watching" in process.stdout.readline()
            began = time.monotonic()
            key = home.write("users", hour=1 if which == signal.SIGINT else 2)
            while (home.bucket / key).exists():
                assert process.poll() is None and time.monotonic() - began < 10, "not picked up"
                time.sleep(0.05)
            assert "20 rows" in process.stdout.readline(), "a commit is told"
        finally:
            process.send_signal(which)
        out, told = process.communicate(timeout=10)
        assert process.returncode == OK and told == "", (process.returncode, told)
        assert "1 plans committed" in out, out
        home.check("users")
    assert plans(home.json()) == []


@scenario
def interrupted(home):
    """a signal ends with the whole document and the usual exit code, also while events are waited for"""
    bad = "data/users/1731578400000-w-1.parquet"
    for which in (signal.SIGINT, signal.SIGTERM):
        for options in (["--watch"], ["--watch", "--events", "-"], ["--events", "-"]):
            parts = Home(home.path / f"{which.name}{len(options)}{options[0]}")
            (parts.bucket / bad).parent.mkdir(parents=True)
            (parts.bucket / bad).write_bytes(b"PAR1 no")
            key = parts.write("users", seq=2)
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            process = subprocess.Popen(parts.arguments("--json", *options), text=True, **pipes)
            process.stdin.write(event(key) + "\n" + event(bad) + "\n")
            process.stdin.flush()
            began = time.monotonic()
            # Without --watch events are compacted once they have ended.
            while options[0] == "--watch" and (parts.bucket / key).exists():
                assert process.poll() is None and time.monotonic() - began < 20, "not picked up"
                time.sleep(0.05)
            time.sleep(0.5)
            process.send_signal(which)
            process.wait(10)
            out, told = process.stdout.read(), process.stderr.read()
            document = json.loads(out)
            watched = options[0] == "--watch"
            assert process.returncode == document["exitCode"] == (WRONG if watched else OK), (options, told, out)
            assert sum(plan["rows"] for plan in plans(document)) == (20 if watched else 0), document
            process.stdin.close()


@scenario
def interrupted_twice(home):
    """the second signal ends at once, in the middle of whatever it is, and the next run goes on from there"""
    for n in range(3):
        home.write("users", seq=n, rows=200_000)
    process = subprocess.Popen(home.arguments("--grace", "1h"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    began = time.monotonic()
    # The merge has begun once its plan is there.
    while not list(home.control.glob("lanes/users/*/plans/*.json")) and time.monotonic() - began < 20:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=30)
    assert process.returncode == 130 and told == "" and "plans committed" not in out, (process.returncode, told, out)
    home.json("--grace", "1h")
    home.check("users")


def merged(home, *options, expect=OK):
    """Runs the merge command with --json and returns its document and what it told."""
    done = checked([*Home.merge, "--json", *map(str, options)], expect)
    document = json.loads(done.stdout)
    assert document["exitCode"] == done.returncode, document
    return document, done.stderr


@scenario
def merge_bad_usage(home):
    """merge: a bad value is refused with option, value and rule, and creates nothing"""
    a, b = (home.bucket / home.write("users", seq=n) for n in range(2))
    taken = home.path / "taken"
    taken.mkdir()
    (taken / "merged-00000.parquet").write_text("somebody's")
    before = tree(home.path)
    out = home.path / "out"
    cases = [
        (["--memory", "much"], ["--memory", "much", "128MiB"]),
        (["--memory", "99999999999999999999"], ["--memory", "99999999999999999999", "below 16 EiB"]),
        (["--memory", "1MiB"], ["--memory", "1MiB", "at least 16 MiB"]),
        (["--target-file-size", "-1"], ["--target-file-size", "-1", "128MiB"]),
        (["--codec", "lzo"], ["--codec", "lzo", "snappy"]),
        (["--codec", "zstd(23)"], ["--codec", "zstd(23)", "zstd(22)"]),
        (["--sort-key", "ts,,id"], ["--sort-key", "ts or -ts"]),
        (["--sort-key", "ts,-ts"], ["--sort-key", "twice", "ts"]),
        (["--sort-key", "--verify"], ["--sort-key", "--verify"]),
        (["--threads", "0"], ["--threads", "0", "1 to 1024"]),
        (["--threads", "many"], ["--threads", "many", "1 to 1024"]),
        (["--stem", "a/b"], ["--stem", "a/b", "letters"]),
        (["--output", taken], ["--output", "taken", "merged-00000.parquet"]),
        (["--output", a], ["--output", "not a directory", a.name]),
        ([home.path / "none.parquet"], ["none.parquet"]),
        ([home.bucket], ["not a file", "bucket"]),
        ([a], ["given twice", a.name]),
        (["--no-such"], ["--no-such"]),
    ]
    for options, words in cases:
        given = [*([] if "--output" in options else ["--output", out]), *options, a, b]
        document, told = merged(home, *given, expect=USAGE)
        for word in words:
            assert word in told and word in document["error"], f"{options}: {word!r} is not in {told} or {document}"
        assert checked([*Home.merge, *map(str, given)], USAGE).stdout == ""
        assert tree(home.path) == before, f"{options} touched something"
    document, _ = merged(home, "--output", out, expect=USAGE)
    assert "FILES" in document["error"], document


@scenario
def merge_bad_inputs(home):
    """merge: an input that is unsorted or no Parquet ends with 3, is named with the reason, and leaves no output"""
    good = home.bucket / home.write("users")
    unsorted = home.bucket / home.write("users", order=lambda row: -row[1])
    corrupt = home.bucket / "corrupt.parquet"
    corrupt.write_bytes(b"PAR1 no")
    before = tree(home.bucket)
    for bad, words in [(unsorted, ["sort order", "nulls are last", "row=`", "order=`-ts,id`"]), (corrupt, ["corrupt"])]:
        given = ["--output", home.path / "out", "--sort-key", "-ts,id" if bad == unsorted else "ts,id"]
        files = [bad] if bad == unsorted else [good, bad]
        document, told = merged(home, *given, *files, expect=WRONG)
        for word in [bad.name, *words]:
            assert word in told and word in document["error"], (word, told, document)
        assert tree(home.bucket) == before and not (home.path / "out").exists(), f"{bad} left something"


@scenario
def merge_of_files(home):
    """merge: the sorted union of the inputs, read by pyarrow; the document says what it holds"""
    files = [home.bucket / home.write("users", seq=n, rows=3_000) for n in range(4)]
    for sort, key in [("ts,id", lambda r: (r["ts"], r["id"])), ("id", lambda r: r["id"])]:
        if sort == "id":
            files = [home.bucket / home.write("other", seq=n, rows=500, order=lambda row: row[1]) for n in range(3)]
        out = home.path / sort
        document, _ = merged(home, "--verify", "--sort-key", sort, "--output", out, *files)
        paths = [pathlib.Path(file["path"]) for file in document["files"]]
        assert sorted(out.iterdir()) == paths, (document, list(out.iterdir()))
        rows = [row for path in paths for row in pq.ParquetFile(path).read().to_pylist()]
        expected = sorted((row for file in files for row in pq.ParquetFile(file).read().to_pylist()), key=key)
        assert rows == expected, f"{len(rows)} rows by {sort}, not {len(expected)}"
        assert (document["sources"], document["rows"]) == (len(files), len(rows)), document
        assert document["bytesIn"] == sum(file.stat().st_size for file in files), document
        assert document["bytesOut"] == sum(path.stat().st_size for path in paths), document
        told = checked([*Home.merge, "--sort-key", sort, "--output", str(home.path / f"{sort} text"), *map(str, files)], OK)
        assert f"{len(rows)} rows" in told.stdout and told.stderr == "", told


def main():
    # A shell's background jobs are started deaf to SIGINT, and so would be what is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for extension in ("delta", "avro", "iceberg"):
        import_extension(extension)
    Home.program, Home.merge = command(), command("merge")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="firnline-cli-"))
    chosen = [run for run in SCENARIOS if not sys.argv[1:] or run.__name__ in sys.argv[1:]]
    chosen.sort(key=lambda run: run is not tables_in_the_way)  # waits longest
    try:
        with ThreadPoolExecutor(max_workers=4) as pool:
            began = {pool.submit(run, Home(directory / run.__name__)): run for run in chosen}
            for done in as_completed(began):
                done.result()
                print(f"ok  {began[done].__name__}: {began[done].__doc__}", flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
