"""Rules of `metadata.json`: required keys and types, ids, references between its parts, and its history."""

import gzip
import json
import re
import uuid

from .report import SCHEME
from .values import (
    MAX_FIELD_ID,
    SINCE_V3,
    Struct,
    fields_of,
    leaves,
    may_become,
    parse_transform,
    parse_type,
    result_type,
)

REQUIRED = {
    "table-uuid": str,
    "location": str,
    "last-sequence-number": int,
    "last-updated-ms": int,
    "last-column-id": int,
    "schemas": list,
    "current-schema-id": int,
    "partition-specs": list,
    "default-spec-id": int,
    "last-partition-id": int,
    "sort-orders": list,
    "default-sort-order-id": int,
}
OPTIONAL = {
    "properties": dict,
    "snapshots": list,
    "snapshot-log": list,
    "metadata-log": list,
    "refs": dict,
    "statistics": list,
    "partition-statistics": list,
}
SNAPSHOT = {"snapshot-id": int, "sequence-number": int, "timestamp-ms": int, "manifest-list": str, "summary": dict}
ROW_LINEAGE = {"first-row-id": int, "added-rows": int}
STATISTICS = {"snapshot-id": int, "statistics-path": str, "file-size-in-bytes": int}
OPERATIONS = ("append", "replace", "overwrite", "delete")


class Metadata:
    """A parsed metadata file; `usable` only if its parts can be looked up."""

    def __init__(self, document):
        self.document = document
        self.version = document.get("format-version")
        self.schemas, self.specs, self.orders = {}, {}, {}
        self.snapshots = {}
        self.usable = False

    def get(self, key, default=None):
        value = self.document.get(key)
        return default if value is None else value

    @property
    def properties(self):
        return self.get("properties", {})

    def field(self, field_id):
        """A field by its id, of the current schema or else of any."""
        current = self.schemas.get(self.get("current-schema-id"))
        for schema in [current, *reversed(self.schemas.values())]:
            for field in fields_of(schema) if schema else ():
                if field.id == field_id:
                    return field
        return None


def read_json(path):
    data = path.read_bytes()
    if path.name.endswith((".gz.metadata.json", ".metadata.json.gz")):
        data = gzip.decompress(data)
    return json.loads(data)


def lint_metadata(path, report):
    """The parsed metadata file after all rules of its own."""
    where = path.name
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        report.add(where, f"cannot be read: {error}")
        return Metadata({})
    if not report.check(isinstance(document, dict), where, "is no JSON object"):
        return Metadata({})
    table = Metadata(document)
    if not report.check(
        type(table.version) is int and table.version in (2, 3), where, f"format-version {table.version!r} is unknown"
    ):
        return table
    fine = keys(document, REQUIRED, where, report)
    fine &= keys(document, OPTIONAL, where, report, required=False)
    for key in ("schema", "partition-spec"):
        report.check(key not in document, where, f"key of version 1: {key}")
    if table.version == 3:
        fine &= keys(document, {"next-row-id": int}, where, report)
    else:
        for key in ("next-row-id", "encryption-keys"):
            report.check(key not in document, where, f"key of version 3: {key}")
    if not fine:
        return table
    scalars(table, where, report)
    lint_schemas(table, where, report)
    lint_specs(table, where, report)
    lint_orders(table, where, report)
    lint_snapshots(table, where, report)
    lint_refs(table, where, report)
    if table.version == 3:
        lint_row_ids(table, where, report)
    lint_history(table, path, where, report)
    lint_statistics(table, where, report)
    table.usable = bool(table.schemas and table.specs and table.orders)
    return table


def keys(document, kinds, where, report, required=True):
    """Whether keys are there and of their types; null counts as absent."""
    fine = True
    for key, kind in kinds.items():
        value = document.get(key)
        if value is None:
            fine &= report.check(not required, where, f"misses {key}")
        else:
            fine &= report.check(type(value) is kind, where, f"{key} is {value!r}, not of type {kind.__name__}"[:200])
    return fine


def scalars(table, where, report):
    value = table.get("table-uuid")
    try:
        report.check(str(uuid.UUID(value)) == value, where, f"table-uuid is not in its usual form: {value}")
    except ValueError:
        report.add(where, f"table-uuid is no UUID: {value}")
    location = table.get("location")
    report.check(SCHEME.match(location), where, f"location without a scheme: {location}")
    report.strict(not location.endswith("/"), where, f"location ends with a slash: {location}")
    for key, value in table.properties.items():
        report.check(isinstance(value, str), where, f"property {key} is {value!r}, no string")


def lint_schemas(table, where, report):
    highest = 0
    for schema in table.get("schemas"):
        at = f"{where} schema {schema.get('schema-id')}"
        try:
            parsed = parse_type(schema)
            report.check(isinstance(parsed, Struct), at, "is no struct")
        except (ValueError, KeyError, AttributeError) as error:
            report.add(at, f"cannot be parsed: {error}")
            continue
        report.check(type(schema.get("schema-id")) is int, at, "has no schema-id")
        report.check(schema.get("schema-id") not in table.schemas, at, "occurs twice")
        table.schemas[schema.get("schema-id")] = parsed
        ids = [field.id for field in fields_of(parsed)]
        report.check(len(set(ids)) == len(ids), at, f"field ids occur twice: {sorted(ids)}")
        report.check(all(0 < i <= MAX_FIELD_ID for i in ids), at, "field ids out of range")
        highest = max([highest, *ids])
        for struct in [parsed, *(f.type for f in fields_of(parsed) if isinstance(f.type, Struct))]:
            names = [field.name for field in struct.fields]
            report.check(len(set(names)) == len(names), at, f"names occur twice: {names}")
        for field in fields_of(parsed):
            report.check(
                table.version > 2 or field.type not in SINCE_V3,
                at,
                f"{field.name} is of a type of version 3: {field.type}",
            )
        report.check(table.version > 2 or '-default"' not in json.dumps(schema), at, "default values are of version 3")
        lint_identifiers(schema.get("identifier-field-ids") or [], parsed, at, report)
    report.check(table.get("current-schema-id") in table.schemas, where, "current-schema-id is of no schema")
    report.check(
        table.get("last-column-id") >= highest,
        where,
        f"last-column-id {table.get('last-column-id')} is below {highest}",
    )
    seen = {}
    for schema_id, schema in table.schemas.items():
        for field in fields_of(schema):
            old = seen.setdefault(field.id, field.type)
            same = (
                may_become(old, field.type) or may_become(field.type, old)
                if isinstance(old, str)
                else type(old) is type(field.type)
            )
            report.check(same, where, f"field {field.id} is {old} and, in schema {schema_id}, {field.type}")


def lint_identifiers(ids, schema, at, report):
    fit = {
        l.field.id
        for l in leaves(schema)
        if not l.repeated and not l.optional and l.field.type not in ("float", "double")
    }
    report.check(set(ids) <= fit, at, f"fields that cannot be identifiers: {sorted(set(ids) - fit)}")


def lint_transform(field, schema, at, report):
    """The field of a partition spec or sort order: its source and transform."""
    sources = field.get("source-ids") or [field.get("source-id")]
    report.check(("source-id" in field) != ("source-ids" in field), at, "needs one of source-id and source-ids")
    try:
        parse_transform(field.get("transform"))
    except ValueError as error:
        report.add(at, str(error))
        return
    found = {leaf.field.id: leaf for leaf in leaves(schema)} if schema else {}
    for source in sources:
        leaf = found.get(source)
        if field.get("transform") == "void" and leaf is None:
            continue
        if report.check(
            leaf and not leaf.repeated, at, f"source {source} is no primitive field outside lists and maps"
        ):
            try:
                result_type(field["transform"], leaf.field.type)
            except ValueError as error:
                report.add(at, f"cannot be applied: {error}")


def whole(table):
    """All fields that ever were, as specs and orders may refer to columns that were dropped."""
    fields = {}
    for schema in table.schemas.values():
        fields.update({field.id: field for field in schema.fields})
    return Struct(tuple(fields.values()))


def lint_specs(table, where, report):
    known = {}
    for spec in table.get("partition-specs"):
        at = f"{where} spec {spec.get('spec-id')}"
        if not keys(spec, {"spec-id": int, "fields": list}, at, report):
            continue
        report.check(spec["spec-id"] not in table.specs, at, "occurs twice")
        table.specs[spec["spec-id"]] = spec["fields"]
        names = [field.get("name") for field in spec["fields"]]
        report.check(len(set(names)) == len(names), at, f"names occur twice: {names}")
        current = spec["spec-id"] == table.get("default-spec-id")
        schema = table.schemas.get(table.get("current-schema-id")) if current else whole(table)
        for field in spec["fields"]:
            if not keys(field, {"field-id": int, "name": str, "transform": str}, at, report):
                continue
            lint_transform(field, schema, f"{at} field {field['name']}", report)
            report.check(field["field-id"] >= 1000, at, f"field-id {field['field-id']} is below 1000")
            what = (field.get("source-id"), field["transform"])
            report.check(
                known.setdefault(field["field-id"], what) == what or "void" in (what[1], known[field["field-id"]][1]),
                at,
                f"field-id {field['field-id']} is of two fields",
            )
            column = next((f for f in schema.fields if f.name == field["name"]), None) if schema else None
            report.check(
                not current or column is None or what == (column.id, "identity"),
                at,
                f"name of a column: {field['name']}",
            )
    report.check(table.get("default-spec-id") in table.specs, where, "default-spec-id is of no spec")
    highest = max([999, *known])
    report.check(
        table.get("last-partition-id") >= highest,
        where,
        f"last-partition-id {table.get('last-partition-id')} is below {highest}",
    )


def lint_orders(table, where, report):
    for order in table.get("sort-orders"):
        at = f"{where} sort order {order.get('order-id')}"
        if not keys(order, {"order-id": int, "fields": list}, at, report):
            continue
        report.check(order["order-id"] not in table.orders, at, "occurs twice")
        table.orders[order["order-id"]] = order["fields"]
        report.check((order["order-id"] == 0) == (not order["fields"]), at, "order 0, and only it, has no fields")
        current = order["order-id"] == table.get("default-sort-order-id")
        schema = table.schemas.get(table.get("current-schema-id")) if current else whole(table)
        for field in order["fields"]:
            report.check(field.get("direction") in ("asc", "desc"), at, f"direction {field.get('direction')}")
            report.check(
                field.get("null-order") in ("nulls-first", "nulls-last"), at, f"null-order {field.get('null-order')}"
            )
            lint_transform(field, schema, at, report)
    report.strict(0 in table.orders, where, "has no sort order 0")
    report.check(table.get("default-sort-order-id") in table.orders, where, "default-sort-order-id is of no sort order")


def lint_snapshots(table, where, report):
    for snapshot in table.get("snapshots", []):
        at = f"{where} snapshot {snapshot.get('snapshot-id')}"
        if not keys(snapshot, SNAPSHOT, at, report):
            continue
        report.check(snapshot["snapshot-id"] not in table.snapshots, at, "occurs twice")
        report.check(snapshot["snapshot-id"] > 0, at, "has an id that is not positive")
        table.snapshots[snapshot["snapshot-id"]] = snapshot
        report.check("manifests" not in snapshot, at, "key of version 1: manifests")
        report.check(
            snapshot["summary"].get("operation") in OPERATIONS, at, f"operation {snapshot['summary'].get('operation')}"
        )
        for key, value in snapshot["summary"].items():
            report.check(isinstance(value, str), at, f"summary {key} is {value!r}, no string")
        report.strict(
            snapshot.get("schema-id") in table.schemas, at, f"schema-id {snapshot.get('schema-id')} is of no schema"
        )
        report.check(snapshot["timestamp-ms"] <= table.get("last-updated-ms"), at, "is newer than last-updated-ms")
        if table.version == 2:
            report.check(not set(ROW_LINEAGE) & set(snapshot), at, "row ids are of version 3")
    numbers = [snapshot["sequence-number"] for snapshot in table.snapshots.values()]
    report.check(len(set(numbers)) == len(numbers), where, f"sequence numbers occur twice: {numbers}")
    last, highest, complete = table.get("last-sequence-number"), max(numbers, default=0), True
    for snapshot in table.snapshots.values():
        at, parent = f"{where} snapshot {snapshot['snapshot-id']}", snapshot.get("parent-snapshot-id")
        if parent is None:
            continue
        complete &= parent in table.snapshots
        if (
            report.strict(parent in table.snapshots, at, f"parent {parent} does not exist")
            and parent in table.snapshots
        ):
            older = table.snapshots[parent]
            report.check(
                older["sequence-number"] < snapshot["sequence-number"], at, "sequence-number is not above the parent's"
            )
            report.check(older["timestamp-ms"] <= snapshot["timestamp-ms"], at, "timestamp-ms is before the parent's")
    # Higher only once snapshots have been removed.
    report.check(
        last == highest or (last > highest and (report.foreign or not complete)),
        where,
        f"last-sequence-number {last} but snapshots to {highest}",
    )


def lint_refs(table, where, report):
    current, refs = table.get("current-snapshot-id"), table.get("refs", {})
    current = None if current == -1 else current
    report.check(current is None or type(current) is int, where, f"current-snapshot-id is {current!r}")
    report.check(
        current is None or current in table.snapshots, where, f"current-snapshot-id {current} is of no snapshot"
    )
    main = refs.get("main", {}).get("snapshot-id")
    report.check(main == current, where, f"refs.main is {main}, current-snapshot-id {current}")
    report.check(refs.get("main", {}).get("type", "branch") == "branch", where, "refs.main is no branch")
    for name, ref in refs.items():
        report.check(
            ref.get("snapshot-id") in table.snapshots, where, f"ref {name} is of no snapshot: {ref.get('snapshot-id')}"
        )
        report.check(ref.get("type") in ("branch", "tag"), where, f"ref {name} is of type {ref.get('type')}")
    log = table.get("snapshot-log", [])
    report.strict((current is None) == (not log), where, "snapshot-log is empty, or no snapshot current, but not both")
    for entry in log:
        if keys(entry, {"snapshot-id": int, "timestamp-ms": int}, f"{where} snapshot-log", report):
            snapshot = table.snapshots.get(entry["snapshot-id"])
            report.strict(snapshot, where, f"snapshot-log names no snapshot: {entry['snapshot-id']}")
            report.check(
                not snapshot or entry["timestamp-ms"] >= snapshot["timestamp-ms"],
                where,
                f"snapshot-log is before its snapshot {entry['snapshot-id']}",
            )
    ascending(
        [entry.get("timestamp-ms", 0) for entry in log] + [table.get("last-updated-ms")], "snapshot-log", where, report
    )
    report.check(
        not log or log[-1].get("snapshot-id") == current,
        where,
        f"snapshot-log ends with {log[-1:]}, current is {current}",
    )


def ascending(times, name, where, report):
    report.check(times == sorted(times), where, f"times of {name} and last-updated-ms go backwards: {times}")


def lint_row_ids(table, where, report):
    snapshots = sorted(table.snapshots.values(), key=lambda snapshot: snapshot["sequence-number"])
    end, started = 0, False
    for snapshot in snapshots:
        at = f"{where} snapshot {snapshot['snapshot-id']}"
        if not started and not set(ROW_LINEAGE) & set(snapshot) and len(table.get("metadata-log", [])) > 0:
            continue  # from before an upgrade; the format-version of its manifest list tells
        started = True
        if not keys(snapshot, ROW_LINEAGE, at, report):
            continue
        report.check(
            snapshot["first-row-id"] >= end,
            at,
            f"first-row-id {snapshot['first-row-id']} is below {end}, the end of the one before",
        )
        report.check(snapshot["added-rows"] >= 0, at, "added-rows is negative")
        end = max(end, snapshot["first-row-id"] + snapshot["added-rows"])
    following = table.get("next-row-id")
    report.check(following >= end, where, f"next-row-id {following} is below {end}")
    report.strict(following == end or not started, where, f"next-row-id {following} is not {end}")


def lint_history(table, path, where, report):
    """The metadata-log: it ends with the version before this one, and nothing went backwards."""
    log = table.get("metadata-log", [])
    if not all(
        [keys(entry, {"metadata-file": str, "timestamp-ms": int}, f"{where} metadata-log", report) for entry in log]
    ):
        return
    ascending([entry["timestamp-ms"] for entry in log] + [table.get("last-updated-ms")], "metadata-log", where, report)
    limit = int(table.properties.get("write.metadata.previous-versions-max", "100"))
    report.check(len(log) <= limit, where, f"metadata-log has {len(log)} entries, more than {limit}")
    report.check(len({entry["metadata-file"] for entry in log}) == len(log), where, "metadata-log names a file twice")
    if found := re.match(r"^v?(\d+)[.-]", path.name):
        before = log[-1]["metadata-file"].rsplit("/", 1)[-1] if log else None
        number = re.match(r"^v?(\d+)[.-]", before or "")
        first = path.name.startswith("v1.") or int(found[1]) == 0
        report.strict(first == (before is None) or limit == 0, where, f"metadata-log ends with {before}")
        report.check(
            not number or int(number[1]) == int(found[1]) - 1,
            where,
            f"metadata-log ends with {before}, not the version before",
        )
    for entry in log:
        at = f"{where} metadata-log"
        old_path = report.local(entry["metadata-file"], at)
        if not old_path:
            continue
        try:
            old = read_json(old_path)
        except ValueError as error:
            report.add(at, f"{old_path.name} cannot be read: {error}")
            continue
        report.check(
            old.get("last-updated-ms") == entry["timestamp-ms"],
            at,
            f"{old_path.name} was updated at {old.get('last-updated-ms')}, not {entry['timestamp-ms']}",
        )
        report.check(old.get("table-uuid") == table.get("table-uuid"), at, f"{old_path.name} is of another table")
        for key in (
            "format-version",
            "last-updated-ms",
            "last-sequence-number",
            "last-column-id",
            "last-partition-id",
            "next-row-id",
        ):
            report.check((old.get(key) or 0) <= table.get(key, 0), at, f"{key} went backwards since {old_path.name}")


def lint_statistics(table, where, report):
    for key in ("statistics", "partition-statistics"):
        entries = table.get(key, [])
        ids = [entry.get("snapshot-id") for entry in entries]
        report.check(len(set(ids)) == len(ids), where, f"{key} has two files of a snapshot")
        for entry in entries:
            at = f"{where} {key} of {entry.get('snapshot-id')}"
            puffin = {"file-footer-size-in-bytes": int, "blob-metadata": list} if key == "statistics" else {}
            if not keys(entry, {**STATISTICS, **puffin}, at, report):
                continue
            report.check(entry["snapshot-id"] in table.snapshots, at, "is of no snapshot")
            path = report.local(entry["statistics-path"], at)
            if not path:
                continue
            report.check(
                path.stat().st_size == entry["file-size-in-bytes"],
                at,
                f"is {path.stat().st_size} bytes long, not {entry['file-size-in-bytes']}",
            )
            if puffin:
                data = path.read_bytes()
                report.check(data[:4] == data[-4:] == b"PFA1", at, "is no Puffin file")
                report.check(
                    data[-entry["file-footer-size-in-bytes"] :][:4] == b"PFA1", at, "has a footer of another size"
                )
