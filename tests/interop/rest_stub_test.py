"""Proves with PyIceberg's client that `rest_stub.py` is a catalog, and that its faults are what they say.

    rest_stub_test.py        (or rest_stub.py --self-test)

Prints a line for each case; the exit code is 0 if all hold.
"""

import json
import pathlib
import shutil
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import CommitFailedException, TableAlreadyExistsError
from pyiceberg.schema import Schema
from pyiceberg.types import IntegerType, ListType, LongType, NestedField, StringType

from iceberg_lint import lint
from rest_stub import Stub

ROWS = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "l": pa.array([[1], [], None], pa.list_(pa.int32()))})


class Served:
    """A stub, its address, and clients of it."""

    def __init__(self, home, **options):
        self.stub = Stub(home, **options)
        self.server = self.stub.serve()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def client(self, **properties):
        return RestCatalog("client", uri=self.url, **properties)

    def table(self, name="n.t"):
        catalog = self.client()
        catalog.create_namespace_if_not_exists("n")
        return catalog.create_table(name, ROWS.schema)

    def call(self, method, path, document=None, **headers):
        """(status, document); status None without an answer."""
        data = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")
        except (ConnectionError, urllib.error.URLError, OSError):
            return None, None

    def faults(self, *faults):
        assert self.call("POST", "/control/faults", list(faults))[0] == 204

    def set_property(self, value, requirements=(), **headers):
        updates = [{"action": "set-properties", "updates": {"p": value}}]
        body = {"requirements": list(requirements), "updates": updates}
        return self.call("POST", "/v1/namespaces/n/tables/t", body, **headers)[0]

    def property(self):
        return self.client().load_table("n.t").properties.get("p")


def serves(served):
    """creates, appends, reads, lists, drops; what it wrote is as specified"""
    table = served.table()
    table.append(ROWS)
    table.append(ROWS)
    loaded = served.client().load_table("n.t")
    assert loaded.scan().to_arrow().num_rows == 6
    assert lint(loaded.metadata_location.removeprefix("file://"), foreign=True) == []
    assert served.client().list_tables("n") == [("n", "t")]
    assert served.client().list_namespaces() == [("n",)]
    assert served.client().table_exists("n.t") and not served.client().table_exists("n.u")
    try:
        served.table()
        raise AssertionError("created twice")
    except TableAlreadyExistsError:
        pass
    served.client().drop_table("n.t")
    assert served.client().list_tables("n") == []


def conflicts(served):
    """a stale snapshot or another table is 409, an unknown update or requirement 400, an unknown table 404"""
    mine, theirs = served.table(), served.client().load_table("n.t")
    theirs.append(ROWS)
    mine.append(ROWS)  # the client refreshes and tries again
    stale = {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": None}
    other = {"type": "assert-table-uuid", "uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1"}
    for requirement, status in ((stale, 409), (other, 409), ({"type": "assert-luck"}, 400)):
        assert served.set_property("x", [requirement]) == status, requirement
    body = {"requirements": [], "updates": [{"action": "do-nothing"}]}
    assert served.call("POST", "/v1/namespaces/n/tables/t", body)[0] == 400
    assert served.call("GET", "/v1/namespaces/n/tables/u")[0] == 404
    assert served.call("GET", "/v1/namespaces/m/tables")[0] == 404
    assert served.property() is None


def faults(served):
    """lost, dropped, late, delayed, and statuses with and without effect"""
    served.table()
    for do, applied, status in (
        ("lost", True, None),
        ("dropped", False, None),
        ("409", False, 409),
        ("500", False, 500),
        ("503", False, 503),
        ("502", True, 502),
        ("504", True, 504),
    ):
        served.faults({"kind": "commit", "nth": 2, "do": do, "applied": applied})
        assert served.set_property("before") == 200
        assert served.set_property(do) == status, do
        assert served.property() == (do if applied else "before"), do
        assert served.set_property("after") == 200
    assert served.set_property("single", **{"X-Fault": "500 applied"}) == 500
    assert served.property() == "single"
    served.faults({"kind": "commit", "do": "late", "ms": 300})
    start = time.monotonic()
    assert served.set_property("late") == 200 and time.monotonic() - start >= 0.3
    served.faults({"kind": "commit", "do": "delayed", "ms": 400})
    slow = threading.Thread(target=served.set_property, args=("slow",))
    slow.start()
    time.sleep(0.1)
    assert served.set_property("fast") == 200
    slow.join()
    assert served.property() == "slow"
    served.faults({"kind": "any", "times": 2, "do": "503"})
    assert [served.call("GET", "/v1/config")[0] for _ in range(3)] == [503, 503, 200]
    log = served.call("GET", "/control/log")[1]
    assert any(call["kind"] == "commit" and call["applied"] and call["status"] == 504 for call in log)


def client_meets_a_lost_answer(served):
    """after a lost answer PyIceberg does not know; the rows are there once"""
    table = served.table()
    served.faults({"kind": "commit", "do": "504", "applied": True})
    try:
        table.append(ROWS)
        raise AssertionError("the commit is said to have succeeded")
    except CommitFailedException:
        raise
    except Exception as error:
        assert "CommitStateUnknown" in type(error).__name__, repr(error)
    assert served.client().load_table("n.t").scan().to_arrow().num_rows == 3


def idempotent(served):
    """the same Idempotency-Key is applied once"""
    served.table()
    fresh = [{"type": "assert-table-uuid", "uuid": str(served.client().load_table("n.t").metadata.table_uuid)}]
    key = {"Idempotency-Key": "017F22E2-79B0-7CC3-98C4-DC0C0C07398F"}
    assert served.set_property("one", fresh, **key) == 200
    assert served.set_property("two", fresh, **key) == 200
    assert served.property() == "one"
    assert "idempotency-key-lifetime" in served.call("GET", "/v1/config")[1]
    served.call("POST", "/control/options", {"idempotency": False})
    assert served.set_property("two", fresh, **key) == 200
    assert served.property() == "two"


def options(served):
    """field ids as asked for or others; refusals; tokens; delegation; prefixes"""
    nested = ListType(element_id=70, element_type=IntegerType(), element_required=False)
    schema = Schema(
        NestedField(5, "id", LongType(), required=True),
        NestedField(9, "l", nested, required=False),
        NestedField(50, "s", StringType(), required=False),
        identifier_field_ids=[5],
    )
    body = {"name": "kept", "schema": json.loads(schema.model_dump_json())}
    served.client().create_namespace("n")
    path, ids = (
        "/v1/namespaces/n/tables",
        lambda answer: [f["id"] for f in answer[1]["metadata"]["schemas"][0]["fields"]],
    )
    assert ids(served.call("POST", path, body)) == [5, 9, 50]
    served.call("POST", "/control/options", {"reassign": True})
    answer = served.call("POST", path, {**body, "name": "given"})
    assert ids(answer) == [1005, 1009, 1050] and answer[1]["metadata"]["last-column-id"] == 1070
    table = served.client().load_table("n.given")
    rows = pa.table({"id": [1], "l": [[1]], "s": ["x"]}, table.schema().as_arrow())
    table.append(rows)
    assert lint(table.metadata_location.removeprefix("file://"), foreign=True) == []
    staged = {**body, "name": "staged", "stage-create": True}
    assert served.call("POST", path, staged)[0] == 200 and not served.client().table_exists("n.staged")
    served.call("POST", "/control/options", {"refuse_stage_create": True})
    assert served.call("POST", path, staged)[0] == 400
    served.call("POST", "/control/options", {"refuse_identifiers": True})
    assert served.call("POST", path, {**body, "name": "other"})[0] == 400
    served.call("POST", "/control/options", {"delegation": True})
    assert served.call("GET", f"{path}/given")[0] == 400
    assert served.call("GET", f"{path}/given", **{"X-Iceberg-Access-Delegation": "vended-credentials"})[0] == 200
    served.call("POST", "/control/options", {"token": "secret"})
    assert served.call("GET", path)[0] == 401
    served.call("POST", "/control/options", {"prefix": "a b"})
    assert sorted(served.client(token="secret").list_tables("n")) == [("n", "given"), ("n", "kept")]


def main():
    for case in (serves, conflicts, faults, client_meets_a_lost_answer, idempotent, options):
        home = pathlib.Path(tempfile.mkdtemp(prefix="firnline-rest-"))
        served = Served(home)
        try:
            case(served)
        finally:
            served.server.shutdown()
            served.server.server_close()
            shutil.rmtree(home, ignore_errors=True)
        print(f"ok  {case.__name__}: {case.__doc__}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
