"""A small Iceberg REST catalog on the loopback address, made of PyIceberg's models and its SqlCatalog, with faults.

    rest_stub.py [--port N] [--warehouse DIR] [OPTION...]      serves until it is killed
    rest_stub.py --self-test                                   exit code 0 if PyIceberg's client is served well

Prints `listening on http://127.0.0.1:PORT`; tables are below DIR, `file://` locations, of which the catalog keeps the
metadata locations in sqlite. Serves /v1/config, namespaces (list, create, load, exists), and tables (list, create,
load, exists, drop, commit, also of a staged creation). Requirements and updates are PyIceberg's own: a requirement
that does not hold is answered with 409, one that is unknown with 400.

Options, also by POST /control/options with a JSON object of the names in brackets:
  --prefix P             [prefix] given in the answer to /v1/config, and needed in all other paths
  --reassign             [reassign] gives other field ids at creation, 1000 higher, than it was asked for
  --refuse-stage-create  [refuse_stage_create] answers 400 to stage-create
  --refuse-identifiers   [refuse_identifiers] answers 400 to schemas with identifier-field-ids
  --token T              [token] answers 401 without `Authorization: Bearer T`
  --delegation           [delegation] answers 400 to calls of tables without `X-Iceberg-Access-Delegation`
  --no-idempotency       [idempotency: false] ignores Idempotency-Key, and does not advertise it

Faults: POST /control/faults with a JSON list replaces all that are set, and counts calls from 1 again:
  {"kind": "commit", "nth": 2, "times": 1, "do": "lost", "applied": true, "ms": 500}
`kind` is config, namespace, create, load, commit or any; `nth` the first call of that kind, `times` how many. `do` is
  lost      applies the call, then closes the connection without an answer
  dropped   closes the connection without applying it
  late      applies the call and answers after `ms`
  delayed   waits `ms`, then applies the call and answers: a request that overtakes later ones
  409, 500, 502, 503, 504, 419, ...  that status; with `applied` the call is applied nevertheless
A single request can ask for one itself with the header `X-Fault: lost` or `X-Fault: 504 applied`, or the query
`?fault=`. GET /control/log lists all calls since the start: kind, method, path, headers, status, applied.
"""

import argparse
import json
import pathlib
import re
import shutil
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydantic import ValidationError
from pyiceberg import exceptions
from pyiceberg.catalog.rest import CreateTableRequest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.table import CommitTableRequest
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

OPTIONS = {
    "prefix": "",
    "reassign": False,
    "refuse_stage_create": False,
    "refuse_identifiers": False,
    "token": "",
    "delegation": False,
    "idempotency": True,
}
STATUS = {
    exceptions.NoSuchTableError: 404,
    exceptions.NoSuchNamespaceError: 404,
    exceptions.TableAlreadyExistsError: 409,
    exceptions.NamespaceAlreadyExistsError: 409,
    exceptions.CommitFailedException: 409,
    ValidationError: 400,
    ValueError: 400,
    KeyError: 400,
    NotImplementedError: 406,
}
REASSIGNED = 1000


class Answer(Exception):
    """A status that ends a call."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Stub:
    """The catalog, what is to go wrong with it, and what it was asked."""

    def __init__(self, warehouse, **options):
        pathlib.Path(warehouse).mkdir(parents=True, exist_ok=True)
        self.catalog = SqlCatalog("rest", uri=f"sqlite:///{warehouse}/catalog.db", warehouse=f"file://{warehouse}")
        self.options = {**OPTIONS, **options}
        self.lock, self.faults, self.counts, self.log, self.answered = threading.Lock(), [], {}, [], {}

    def serve(self, port=0):
        """A server that answers in threads of its own; `shutdown()` and `server_close()` end it."""
        server = ThreadingHTTPServer(("127.0.0.1", port), type("BoundHandler", (Handler,), {"stub": self}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def fault(self, kind):
        """The fault that strikes a call of a kind, which is thereby counted."""
        with self.lock:
            struck = None
            for key in (kind, "any"):
                self.counts[key] = self.counts.get(key, 0) + 1
                for fault in self.faults:
                    first = fault.get("nth", 1)
                    if fault["kind"] == key and first <= self.counts[key] < first + fault.get("times", 1):
                        struck = fault
            return struck

    def apply(self, kind, method, path, body, headers):
        """(status, document) of a call that is applied."""
        with self.lock:
            key = headers.get("Idempotency-Key") if self.options["idempotency"] else None
            if key and (kind, path, key) in self.answered:
                return self.answered[kind, path, key]
            try:
                answer = self.act(kind, method, path, body)
                if key:
                    self.answered[kind, path, key] = answer
                return answer
            except Answer as error:
                return error.status, failure(error.status, "BadRequestException", str(error))
            except Exception as error:
                status = next((code for kind_, code in STATUS.items() if isinstance(error, kind_)), 500)
                return status, failure(status, type(error).__name__, str(error))

    def act(self, kind, method, path, body):
        if kind == "config":
            lifetime = {"idempotency-key-lifetime": "PT30M"} if self.options["idempotency"] else {}
            overrides = {"prefix": self.options["prefix"]} if self.options["prefix"] else {}
            return 200, {"defaults": {}, "overrides": overrides, **lifetime}
        names = [tuple(part.split("\x1f")) for part in path.split("/")[1:]]
        if kind == "namespace":
            return self.namespace(method, names[0] if names else None, body)
        namespace, table = names[0], names[2] if len(names) > 2 else None
        if table is None and method == "GET":
            listed = self.catalog.list_tables(namespace)
            return 200, {"identifiers": [{"namespace": list(i[:-1]), "name": i[-1]} for i in listed]}
        if kind == "create":
            return 200, self.create(namespace, body)
        identifier = (*namespace, table[0])
        if kind == "commit":
            return 200, self.commit(identifier, body)
        loaded = self.catalog.load_table(identifier)
        if method == "DELETE":
            self.catalog.drop_table(identifier)
        if method in ("DELETE", "HEAD"):
            return 204, None
        return 200, described(loaded.metadata_location)

    def namespace(self, method, name, body):
        if method == "POST":
            self.catalog.create_namespace(tuple(body["namespace"]), body.get("properties") or {})
            return 200, {"namespace": body["namespace"], "properties": body.get("properties") or {}}
        if name is None:
            return 200, {"namespaces": [list(found) for found in self.catalog.list_namespaces()]}
        properties = self.catalog.load_namespace_properties(name)
        return (204, None) if method == "HEAD" else (200, {"namespace": list(name), "properties": properties})

    def create(self, namespace, body):
        request = CreateTableRequest.model_validate(
            {"location": None, "partition-spec": None, "write-order": None, **body}
        )
        if request.stage_create and self.options["refuse_stage_create"]:
            raise Answer(400, "stage-create is not supported")
        if body["schema"].get("identifier-field-ids") and self.options["refuse_identifiers"]:
            raise Answer(400, "identifier-field-ids are not supported")
        arguments = (
            (*namespace, request.name),
            request.table_schema,
            request.location,
            request.partition_spec or UNPARTITIONED_PARTITION_SPEC,
            request.write_order or UNSORTED_SORT_ORDER,
            request.properties,
        )
        if request.stage_create:
            if self.catalog.table_exists(arguments[0]):
                raise exceptions.TableAlreadyExistsError(f"{arguments[0]} exists")
            staged = self.catalog._create_staged_table(*arguments)
            return {"metadata": json.loads(staged.metadata.model_dump_json()), "config": {}}
        location = self.catalog.create_table(*arguments).metadata_location
        path = pathlib.Path(location.removeprefix("file://"))
        document = json.loads(path.read_text())
        asked = field_ids(body["schema"])
        wanted = [i + REASSIGNED for i in asked] if self.options["reassign"] else asked
        path.write_text(json.dumps(renumbered(document, wanted)))
        return described(location)

    def commit(self, identifier, body):
        request = CommitTableRequest.model_validate(
            {"identifier": {"namespace": identifier[:-1], "name": identifier[-1]}, **body}
        )
        try:
            table = self.catalog.load_table(identifier)
        except exceptions.NoSuchTableError:
            if not any(requirement.type == "assert-create" for requirement in request.requirements):
                raise
            table = type("Staged", (), {"name": lambda _: identifier})()
        answer = self.catalog.commit_table(table, request.requirements, request.updates)
        return described(answer.metadata_location)


def described(location):
    document = json.loads(pathlib.Path(location.removeprefix("file://")).read_text())
    return {"metadata-location": location, "metadata": document, "config": {}}


def failure(status, kind, message):
    return {"error": {"message": message, "type": kind, "code": status}}


def field_ids(node):
    """The ids of a schema's JSON, each field before what is below it."""
    found = []
    for field in node.get("fields", []) if isinstance(node, dict) else []:
        found += [field["id"], *field_ids(field["type"])]
    for name in ("element", "key", "value"):
        if isinstance(node, dict) and f"{name}-id" in node:
            found += [node[f"{name}-id"], *field_ids(node[name])]
    return found


def renumbered(document, wanted):
    """Table metadata whose only schema has other field ids."""
    (schema,) = document["schemas"]
    mapping = dict(zip(field_ids(schema), wanted))

    def walk(node):
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        ids = ("id", "element-id", "key-id", "value-id", "source-id")
        made = {key: mapping[value] if key in ids else walk(value) for key, value in node.items()}
        if made.get("identifier-field-ids"):
            made["identifier-field-ids"] = [mapping[i] for i in made["identifier-field-ids"]]
        return made

    changed = {key: walk(document[key]) for key in ("schemas", "partition-specs", "sort-orders")}
    return {**document, **changed, "last-column-id": max(wanted, default=0)}


def kind_of(method, path):
    """The kind of a call, by its path below the prefix."""
    if path == "config":
        return "config"
    if re.fullmatch(r"namespaces(/[^/]+)?", path):
        return "namespace"
    if re.fullmatch(r"namespaces/[^/]+/tables", path):
        return "create" if method == "POST" else "load"
    if re.fullmatch(r"namespaces/[^/]+/tables/[^/]+", path):
        return "commit" if method == "POST" else "load"
    return None


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    stub = None
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(self.path)
        if url.path.startswith("/control/"):
            return self.control(url.path, body)
        prefix = "/v1/"
        if self.stub.options["prefix"] and url.path != "/v1/config":
            prefix += urllib.parse.quote(self.stub.options["prefix"], safe="") + "/"
        # Separators of names are escaped, those of paths not.
        path = "/".join(map(urllib.parse.unquote, url.path.removeprefix(prefix).split("/")))
        kind = kind_of(self.command, path) if url.path.startswith(prefix) else None
        record = {
            "kind": kind,
            "method": self.command,
            "path": self.path,
            "headers": dict(self.headers),
            "applied": False,
        }
        self.stub.log.append(record)
        if kind is None:
            return self.answer(record, 404, failure(404, "NotFoundException", f"no such path: {self.path}"))
        if message := self.refused(kind):
            return self.answer(record, *message)
        given = self.headers.get("X-Fault") or (urllib.parse.parse_qs(url.query).get("fault") or [None])[0]
        fault = self.stub.fault(kind)
        if given:
            fault = {"do": given.split()[0], "applied": given.endswith(" applied")}
        return self.struck(record, kind, path, body, fault or {"do": "nothing"})

    do_GET = do_POST = do_HEAD = do_DELETE = do

    def refused(self, kind):
        token = self.stub.options["token"]
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            return 401, failure(401, "NotAuthorizedException", "no token, or a wrong one")
        delegated = "X-Iceberg-Access-Delegation" in self.headers or kind in ("config", "namespace")
        if self.stub.options["delegation"] and not delegated:
            return 400, failure(400, "BadRequestException", "X-Iceberg-Access-Delegation is needed")
        return None

    def struck(self, record, kind, path, body, fault):
        """Applies the call, or not, and answers it, or not."""
        do, seconds = str(fault["do"]), fault.get("ms", 500) / 1000
        if do == "delayed":
            time.sleep(seconds)
        status = int(do) if do.isdigit() else None
        if do != "dropped" and (status is None or fault.get("applied")):
            try:
                document = json.loads(body) if body else {}
            except ValueError:
                return self.answer(record, 400, failure(400, "BadRequestException", "the body is no JSON"))
            found = self.stub.apply(kind, self.command, path, document, self.headers)
            record["applied"] = found[0] < 300
        if do in ("lost", "dropped"):
            record["status"] = None
            self.close_connection = True
            return self.connection.close()
        if do == "late":
            time.sleep(seconds)
        if status is not None:
            found = (status, failure(status, "InjectedException", f"fault {do}"))
        return self.answer(record, *found)

    def control(self, path, body):
        stub, given = self.stub, json.loads(body) if body else None
        if path == "/control/log":
            return self.answer({}, 200, stub.log)
        with stub.lock:
            if path == "/control/faults":
                stub.faults, stub.counts = given or [], {}
            elif path == "/control/options" and set(given) <= set(OPTIONS):
                stub.options.update(given)
            else:
                return self.answer({}, 404, failure(404, "NotFoundException", path))
        return self.answer({}, 204, None)

    def answer(self, record, status, document):
        record["status"] = status
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--warehouse", type=pathlib.Path)
    parser.add_argument("--self-test", action="store_true")
    for name in ("prefix", "token"):
        parser.add_argument(f"--{name}", default="")
    for name in ("reassign", "refuse-stage-create", "refuse-identifiers", "delegation"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--no-idempotency", dest="idempotency", action="store_false")
    args = parser.parse_args()
    if args.self_test:
        import rest_stub_test

        return rest_stub_test.main()
    warehouse = args.warehouse or pathlib.Path(tempfile.mkdtemp(prefix="firnline-rest-"))
    server = Stub(warehouse.resolve(), **{name: getattr(args, name) for name in OPTIONS}).serve(args.port)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    try:
        threading.Event().wait()
    finally:
        server.shutdown()
        if not args.warehouse:
            shutil.rmtree(warehouse, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
