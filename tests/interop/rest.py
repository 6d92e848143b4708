"""A host whose tables are in a REST catalog, which fails at any of its calls; PyIceberg reads the tables.

    rest.py [--host COMMAND] [--full]        (--full: all kinds of faults, in minutes)

Builds `examples/rest` unless it is given, and runs it against `rest_stub.py`: it creates a table and appends to it
twice, each time in a process of its own, while one call fails. Every row must be in the table once, also where the
catalog gives other field ids, wants a token, delegation and a prefix. Prints a line for each case.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.rest import RestCatalog

from iceberg_lint import lint
from rest_stub import Stub

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOUR_MS = 3_600_000
START_MS = 1_699_999_200_000
FAULTS = [
    {"do": "lost"},
    {"do": "dropped"},
    {"do": "late", "ms": 50},
    {"do": "409"},
    {"do": "409", "applied": True},
    {"do": "500", "applied": True},
    {"do": "502", "applied": True},
    {"do": "503"},
    {"do": "504", "applied": True},
    {"do": "504"},
    {"do": "419"},
    {"do": "429"},
]
# (kind, nth) of the calls of the first process that are struck; the second and third are struck at their first ones.
CALLS = [("config", 1), ("load", 1), ("load", 2), ("load", 3), ("create", 1), ("commit", 1), ("load", 4)]
LATER = [("load", 1), ("load", 2), ("commit", 1)]


class Case:
    """A catalog, a bucket, and a host that is run again and again."""

    def __init__(self, host, **options):
        self.host = host
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="firnline-rest-"))
        self.options = options
        self.stub = Stub(self.home / "tables", **options)
        self.server = self.stub.serve()
        self.uri = f"http://127.0.0.1:{self.server.server_port}"
        self.stub.catalog.create_namespace(("app", "eu"))
        self.expected = set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        shutil.rmtree(self.home, ignore_errors=True)

    def write(self, hour):
        """Two writers' files of an hour."""
        for writer in ("w1", "w2"):
            ids = [f"{hour}-{writer}-{n:02}" for n in range(20)]
            table = pa.table({"id": ids, "n": list(range(20)), "l": [[n] for n in range(20)]})
            path = self.home / f"bucket/data/users/{START_MS + hour * HOUR_MS + 1_000}-{writer}-{hour}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path)
            self.expected |= set(ids)

    def run(self, hour, fault=None):
        """Does the work of an hour while a call fails."""
        with self.stub.lock:
            self.stub.faults, self.stub.counts = [fault] if fault else [], {}
        now = START_MS + (hour + 1) * HOUR_MS
        environment = {**os.environ, "TOKEN": self.options.get("token", "")}
        command = [*self.host, str(self.home), self.uri, "app.eu", str(now)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode == 0, f"{fault}: {done.stdout}{done.stderr}"
        return [json.loads(line) for line in done.stdout.splitlines()]

    def struck(self, fault):
        """Whether the call was made at all."""
        return self.stub.counts.get(fault["kind"], 0) >= fault["nth"]

    def keys(self):
        """The idempotency keys of the host's commits."""
        commits = [call for call in self.stub.log if call["kind"] == "commit"]
        headers = [{name.lower(): value for name, value in call["headers"].items()} for call in commits]
        return [found["idempotency-key"] for found in headers if "idempotency-key" in found]

    def table(self):
        headers = {"header.X-Iceberg-Access-Delegation": "vended-credentials"}
        client = RestCatalog("client", uri=self.uri, token=self.options.get("token") or None, **headers)
        return client.load_table(("app", "eu", "users"))

    def check(self, snapshots):
        self.stub.faults = []
        table = self.table()
        found = table.scan().to_arrow()
        ids = found["id"].to_pylist()
        assert len(ids) == len(self.expected) and set(ids) == self.expected, f"{len(ids)} rows, {len(set(ids))} distinct"
        assert all([n] == l for n, l in zip(found["n"].to_pylist(), found["l"].to_pylist()))
        assert len(table.metadata.snapshots) == snapshots, f"{len(table.metadata.snapshots)} snapshots"
        assert lint(table.metadata_location.removeprefix("file://"), foreign=True) == []
        left = [path.name for path in (self.home / "bucket").rglob("*.parquet")]
        assert left == [], f"sources are left: {left}"
        return table


def strikes(host, full):
    """every row is in the table once, whichever call fails and however"""
    struck = 0
    faults = FAULTS if full else [{"do": "lost"}, {"do": "dropped"}, {"do": "409"}]
    for fault in faults:
        for at, hour in [(call, 0) for call in CALLS] + [(call, 1) for call in LATER]:
            what = {**fault, "kind": at[0], "nth": at[1]}
            with Case(host) as case:
                for now in range(3):
                    case.write(now)
                    case.run(now, what if now == hour else None)
                    struck += now == hour and case.struck(what)
                case.check(snapshots=3)
    assert struck >= len(faults) * 8, f"only {struck} calls were struck"
    return f"{struck} calls struck"


def reassigned(host, _):
    """files have the ids that the catalog has given at creation"""
    with Case(host, reassign=True) as case:
        for hour in range(2):
            case.write(hour)
            case.run(hour)
        table = case.check(snapshots=2)
        assert [field.field_id for field in table.schema().fields] == [1001, 1002, 1003]
        (order,) = [order for order in table.metadata.sort_orders if order.fields]
        assert [field.source_id for field in order.fields] == [1001]
        files = table.inspect.files()
        assert set(files["sort_order_id"].to_pylist()) == {order.order_id}
        for path in files["file_path"].to_pylist():
            schema = pq.read_schema(path.removeprefix("file://"))
            ids = [int(field.metadata[b"PARQUET:field_id"]) for field in schema]
            assert ids == [1001, 1002, 1003], ids
        written = list((case.home / "tables/users/data").glob("*.parquet"))
        assert len(written) == files.num_rows, "files were written twice"


def guarded(host, _):
    """a catalog that wants a token, delegation and a prefix, and neither staging nor idempotency"""
    options = {"token": "secret", "delegation": True, "prefix": "a b", "refuse_stage_create": True}
    with Case(host, **options, refuse_identifiers=True, idempotency=False) as case:
        for hour in range(2):
            case.write(hour)
            case.run(hour)
        case.check(snapshots=2)
        assert case.keys() == []


def shared(host, _):
    """PyIceberg appends in between, and both are read"""
    with Case(host) as case:
        case.write(0)
        case.run(0)
        table = case.table()
        rows = pa.table({"id": ["theirs"], "n": [7], "l": [[7]]}, schema=table.schema().as_arrow())
        table.append(rows)
        case.expected.add("theirs")
        case.write(1)
        case.run(1)
        case.check(snapshots=3)
        assert len(set(case.keys())) == len(case.keys()) >= 2


def built():
    """The command of the host, built where the library's own artifacts are."""
    manifest = ROOT / "examples/rest/Cargo.toml"
    command = ["cargo", "build", "--locked", "--manifest-path", str(manifest), "--target-dir", str(ROOT / "target")]
    subprocess.run(command, check=True)
    return [str(ROOT / "target/debug/firnline-rest-example")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", type=pathlib.Path)
    parser.add_argument("--full", action="store_true")
    args = parser.parse_args()
    host = [str(args.host)] if args.host else built()
    for case in (guarded, reassigned, shared, strikes):
        began = time.monotonic()
        said = case(host, args.full)
        print(f"ok  {case.__name__}: {case.__doc__} ({said or ''} {time.monotonic() - began:.1f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
