"""Rules of manifest lists and manifests: headers, counts, inheritance, summaries, and what each snapshot holds."""

import json
from dataclasses import dataclass

from .avro import MANIFEST_FILE, MANIFEST_FILE_V3, AvroFile, lint_schema, manifest_entry
from .report import SCHEME
from .values import Struct, decode_promoted, fields_of, is_nan, order, parse_type, result_type

EXISTING, ADDED, DELETED = 0, 1, 2
COUNTS = {EXISTING: (505, 513), ADDED: (504, 512), DELETED: (506, 514)}
# Names of the fields of a manifest_file and a manifest_entry, for reading the records by field id.
PATH, LENGTH, SPEC, CONTENT, SEQUENCE, MIN_SEQUENCE, SNAPSHOT, PARTITIONS, FIRST_ROW = (
    500,
    501,
    502,
    517,
    515,
    516,
    503,
    507,
    520,
)


@dataclass
class Entry:
    """A manifest entry after inheritance. `file` is the data file by field ids."""

    status: int
    snapshot: int
    sequence: int
    file_sequence: int
    file: dict
    spec: int
    content: int

    @property
    def path(self):
        return self.file.get(100)

    @property
    def rows(self):
        return self.file.get(103) or 0

    @property
    def size(self):
        return self.file.get(104) or 0

    @property
    def key(self):
        """Deletion vectors share their file."""
        return (self.path, self.file.get(144))


class Tree:
    """The manifest lists and manifests of a table, each read once."""

    def __init__(self, table, report):
        self.table, self.report = table, report
        self.manifests = {}  # path -> (AvroFile, name) or None
        self.first_rows = {}  # manifest path -> first_row_id, which must never change
        self.row_ids_of = {}  # data file -> its first_row_id, likewise
        self.born = {}  # data file -> (data sequence number, file sequence number, rows, size), likewise
        self.live = {}  # snapshot id -> {key: Entry}
        self.changed = {}  # snapshot id -> entries that it added or deleted

    def lint(self):
        """Judges all snapshots, oldest first."""
        for snapshot in sorted(self.table.snapshots.values(), key=lambda snapshot: snapshot["sequence-number"]):
            self.snapshot(snapshot)
        for snapshot in self.table.snapshots.values():
            if snapshot["snapshot-id"] in self.live:
                lint_changes(self, snapshot)

    def snapshot(self, snapshot):
        snapshot_id, report = snapshot["snapshot-id"], self.report
        path = report.local(snapshot["manifest-list"], f"snapshot {snapshot_id} manifest-list")
        if not path:
            return
        where = path.name
        try:
            file = AvroFile(path)
        except Exception as error:  # whatever fastavro makes of a broken file
            report.add(where, f"cannot be read: {error!r}")
            return
        version = self.list_header(file, snapshot, where)
        lint_schema(file.schema, "manifest_file", MANIFEST_FILE if version == 2 else MANIFEST_FILE_V3, where, report)
        paths = [record.get(PATH) for record in file.records]
        report.check(len(set(paths)) == len(paths), where, f"names a manifest twice: {paths}")
        live, changed = {}, []
        for record in file.records:
            missing = [
                name for key, (name, required, _) in MANIFEST_FILE.items() if required and record.get(key) is None
            ]
            if not report.check(not missing, where, f"record without {missing}"):
                continue
            for entry in self.manifest(record, snapshot, where):
                if entry.status == DELETED:
                    changed += [entry] if entry.snapshot == snapshot_id else []
                    continue
                report.check(entry.key not in live, where, f"is live twice: {entry.path}")
                live[entry.key] = entry
                changed += [entry] if entry.status == ADDED and entry.snapshot == snapshot_id else []
        if version == 3:
            self.row_ids(file.records, snapshot, where)
        self.live[snapshot_id], self.changed[snapshot_id] = live, changed

    def list_header(self, file, snapshot, where):
        """The format version of a manifest list, which may be below the table's after an upgrade."""
        report, meta = self.report, file.metadata
        parent = snapshot.get("parent-snapshot-id")
        wanted = {
            "snapshot-id": str(snapshot["snapshot-id"]),
            "parent-snapshot-id": "null" if parent is None else str(parent),
            "sequence-number": str(snapshot["sequence-number"]),
        }
        if "first-row-id" in meta:
            wanted["first-row-id"] = str(snapshot.get("first-row-id"))
        if report.foreign and parent is None:
            del wanted["parent-snapshot-id"]  # PyIceberg forgets parents that it expires
        for key, value in wanted.items():
            if key in meta or not report.foreign:
                report.check(meta.get(key) == value, where, f"header {key} is {meta.get(key)}, not {value}")
        version = 3 if self.table.version == 3 and "first-row-id" in snapshot else 2
        if "format-version" in meta or not report.foreign:
            report.check(
                meta.get("format-version") == str(version),
                where,
                f"header format-version is {meta.get('format-version')}, not {version}",
            )
        return version

    def manifest(self, record, snapshot, where):
        """The entries of a manifest as this snapshot sees them, after all rules of both."""
        table, report = self.table, self.report
        location, sequence, added_by = record.get(PATH), record.get(SEQUENCE), record.get(SNAPSHOT)
        path = report.local(location, where)
        if not path:
            return []
        at = f"{where} {path.name}"
        length = path.stat().st_size
        report.check(
            record.get(LENGTH) == length, at, f"manifest_length is {record.get(LENGTH)}, the file has {length} bytes"
        )
        report.check(record.get(SPEC) in table.specs, at, f"partition_spec_id {record.get(SPEC)} is of no spec")
        report.check(record.get(CONTENT) in (0, 1), at, f"content is {record.get(CONTENT)}")
        own = added_by == snapshot["snapshot-id"]
        adder = table.snapshots.get(added_by)
        report.check(
            not own or sequence == snapshot["sequence-number"], at, f"sequence_number {sequence} is not the snapshot's"
        )
        report.check(sequence <= snapshot["sequence-number"], at, f"sequence_number {sequence} is above the snapshot's")
        report.check(
            not adder or sequence == adder["sequence-number"],
            at,
            f"sequence_number {sequence} is not of snapshot {added_by}",
        )
        if not own and added_by not in ancestors(table, snapshot["snapshot-id"]):
            expired = any(s.get("parent-snapshot-id") not in (None, *table.snapshots) for s in table.snapshots.values())
            report.check(
                (expired or report.foreign) and adder is None, at, f"added_snapshot_id {added_by} is no ancestor"
            )
        if path not in self.manifests:
            self.manifests[path] = self.open_manifest(path, record)
        file = self.manifests[path]
        if file is None:
            return []
        missing = [key for raw in file.records for key in (100, 101, 103, 104) if (raw.get(2) or {}).get(key) is None]
        if not report.check(not missing, at, f"data files without the fields {missing}"):
            return []
        entries = [self.entry(raw, record, at) for raw in file.records]
        lint_counts(entries, record, at, report)
        lint_summaries(table, entries, record, at, report)
        return entries

    def open_manifest(self, path, record):
        table, report, where = self.table, self.report, path.name
        try:
            file = AvroFile(path)
        except Exception as error:
            report.add(where, f"cannot be read: {error!r}")
            return None
        meta, spec = file.metadata, table.specs.get(record.get(SPEC), [])
        version = meta.get("format-version")
        report.check(
            version in ("2", "3") and int(version) <= table.version, where, f"header format-version is {version}"
        )
        report.check(
            meta.get("partition-spec-id") == str(record.get(SPEC)),
            where,
            f"header partition-spec-id is {meta.get('partition-spec-id')}",
        )
        content = {0: "data", 1: "deletes"}.get(record.get(CONTENT))
        report.check(meta.get("content") == content, where, f"header content is {meta.get('content')}, not {content}")
        lint_header_spec(meta.get("partition-spec"), spec, where, report)
        lint_header_schema(table, meta, where, report)
        partition = {}
        for field in spec:
            source = table.field(field.get("source-id"))
            kind = result_type(field["transform"], source.type) if source else "int"
            partition[field["field-id"]] = (field["name"], False, kind)
        lint_schema(file.schema, "manifest_entry", manifest_entry(3 if version == "3" else 2, partition), where, report)
        return file

    def entry(self, raw, record, at):
        """An entry after inheritance."""
        report, file = self.report, raw.get(2) or {}
        status, snapshot, sequence, file_sequence = raw.get(0), raw.get(1), raw.get(3), raw.get(4)
        name = f"{at} {str(file.get(100)).rsplit('/', 1)[-1]}"
        report.check(status in (EXISTING, ADDED, DELETED), name, f"status is {status}")
        if status == ADDED:
            report.check(
                file_sequence is None or file_sequence == record[SEQUENCE],
                name,
                f"file_sequence_number {file_sequence} is not inherited",
            )
            report.strict(file_sequence is None, name, "file_sequence_number of an added file is not null")
            report.check(
                sequence is None or sequence <= record[SEQUENCE],
                name,
                f"sequence_number {sequence} is above the manifest's",
            )
            sequence = record[SEQUENCE] if sequence is None else sequence
            file_sequence = record[SEQUENCE]
        else:
            for key, value in (
                ("snapshot_id", snapshot),
                ("sequence_number", sequence),
                ("file_sequence_number", file_sequence),
            ):
                report.check(value is not None, name, f"{key} is null but the status is {status}")
        snapshot = record[SNAPSHOT] if snapshot is None else snapshot
        report.check(
            status == EXISTING or snapshot == record[SNAPSHOT], name, f"snapshot_id {snapshot} is not the manifest's"
        )
        adder = self.table.snapshots.get(snapshot)
        if status == EXISTING and adder:
            report.check(
                adder["sequence-number"] == file_sequence,
                name,
                f"file_sequence_number {file_sequence} is not of snapshot {snapshot}",
            )
        entry = Entry(status, snapshot, sequence, file_sequence, file, record.get(SPEC), record.get(CONTENT))
        lint_file(self.table, entry, name, report)
        born = (sequence, file_sequence, entry.rows, entry.size)
        report.check(
            self.born.setdefault(entry.key, born) == born,
            name,
            f"(sequence numbers, rows, size) are {born}, were {self.born[entry.key]}",
        )
        return entry

    def row_ids(self, records, snapshot, where):
        """The assignment of row ids to manifests, in the order of the list."""
        report, start = self.report, snapshot.get("first-row-id")
        if type(start) is not int:
            return
        following = start
        for record in records:
            first, at = record.get(FIRST_ROW), f"{where} {str(record.get(PATH)).rsplit('/', 1)[-1]}"
            if record.get(CONTENT) == 1:
                report.check(first is None, at, f"first_row_id {first} of a delete manifest")
                continue
            if not report.check(first is not None, at, "has no first_row_id"):
                continue
            old = self.first_rows.setdefault(record[PATH], first)
            report.check(old == first, at, f"first_row_id is {first}, was {old}")
            file = self.manifests.get(self.report.local(record[PATH], at))
            assigned = self.file_row_ids(file.records, first, at) if file else first
            if first >= start:
                report.check(first >= following, at, f"first_row_id {first} is below {following}")
                following = assigned
        end = start + snapshot.get("added-rows", 0)
        report.check(
            following <= end, where, f"row ids are assigned up to {following}, but first-row-id + added-rows is {end}"
        )

    def file_row_ids(self, raws, following, at):
        """The first row id after those that the data files of a manifest inherit."""
        for raw in raws:
            status, file = raw[0], raw[2]
            key, given = (file.get(100), file.get(144)), file.get(142)
            name = f"{at} {str(file.get(100)).rsplit('/', 1)[-1]}"
            # What is not deleted may inherit its id again and again, as long as it is the same.
            self.report.check(
                given is not None or status != DELETED or key not in self.row_ids_of,
                name,
                f"first_row_id of status {status} is null, was {self.row_ids_of.get(key)}",
            )
            if given is None and status == DELETED:
                continue
            first = following if given is None else given
            following += (file.get(103) or 0) if given is None else 0
            old = self.row_ids_of.setdefault(key, first)
            self.report.check(old == first, name, f"first_row_id is {first}, was {old}")
        return following


def ancestors(table, snapshot_id):
    found = []
    while snapshot_id in table.snapshots and snapshot_id not in found:
        found.append(snapshot_id)
        snapshot_id = table.snapshots[snapshot_id].get("parent-snapshot-id")
    return found


def lint_header_spec(text, spec, where, report):
    """The header holds only the fields of the spec, as a list."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        report.add(where, f"header partition-spec is {text!r}")
        return
    if report.check(isinstance(found, list), where, "header partition-spec is no list of fields"):
        report.check(found == spec, where, f"header partition-spec is {found}, the table's {spec}")


def lint_header_schema(table, meta, where, report):
    try:
        document = json.loads(meta["schema"])
        found = parse_type(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        report.add(where, f"header schema cannot be parsed: {error!r}")
        return
    schema_id = meta.get("schema-id")
    report.strict(schema_id is not None, where, "header misses schema-id")
    report.strict(document.get("schema-id") is not None, where, "header schema misses its schema-id")
    given = [i for i in (schema_id, document.get("schema-id")) if i is not None]
    report.check(len({str(i) for i in given}) <= 1, where, f"header schema-id is {given}")
    schemas = [schema for key, schema in table.schemas.items() if not given or str(key) == str(given[0])]
    report.check(any(same_fields(found, schema) for schema in schemas), where, "header schema is not the table's")


def same_fields(one, other):
    return isinstance(one, Struct) and [*fields_of(one)] == [*fields_of(other)]


def lint_counts(entries, record, at, report):
    for status, (files, rows) in COUNTS.items():
        mine = [entry for entry in entries if entry.status == status]
        name = {EXISTING: "existing", ADDED: "added", DELETED: "deleted"}[status]
        report.check(record.get(files) == len(mine), at, f"{name}_files_count is {record.get(files)}, has {len(mine)}")
        total = sum(entry.rows for entry in mine)
        report.check(record.get(rows) == total, at, f"{name}_rows_count is {record.get(rows)}, has {total}")
    report.check(entries, at, "has no entries")
    sequences = [entry.sequence for entry in entries if entry.status != DELETED and entry.sequence is not None]
    least = min(sequences, default=None)
    # Nothing is said of manifests without live files.
    report.check(
        least is None or record.get(MIN_SEQUENCE) == least,
        at,
        f"min_sequence_number is {record.get(MIN_SEQUENCE)}, not {least}",
    )
    report.check(record.get(MIN_SEQUENCE) <= record.get(SEQUENCE), at, "min_sequence_number is above sequence_number")


def lint_summaries(table, entries, record, at, report):
    """The summary of each partition field equals that of all entries, or that of the live ones."""
    spec, summaries = table.specs.get(record.get(SPEC), []), record.get(PARTITIONS)
    if not report.check(
        len(summaries or []) == len(spec), at, f"has {len(summaries or [])} partition summaries for {len(spec)} fields"
    ):
        return
    for field, summary in zip(spec, summaries or []):
        source = table.field(field.get("source-id"))
        if not source:
            continue
        kind, name = result_type(field["transform"], source.type), f"{at} summary of {field['name']}"
        live = [entry for entry in entries if entry.status != DELETED]
        wanted = [summarise([(e.file.get(102) or {}).get(field["field-id"]) for e in some]) for some in (entries, live)]
        try:
            bounds = [None if summary[key] is None else decode_promoted(kind, summary[key]) for key in (510, 511)]
        except ValueError as error:
            report.add(name, f"bound cannot be decoded: {error}")
            continue
        found = (summary.get(509), summary.get(518), *(order(bound) for bound in bounds))
        if kind in ("float", "double"):
            wanted += [with_both_zeros(want) for want in wanted]
        exact = any(
            found == want or (found[1] is None and found[:1] + found[2:] == want[:1] + want[2:]) for want in wanted
        )
        report.check(exact, name, f"(null, NaN, lower, upper) is {found}, not {wanted[0]}")


def with_both_zeros(summary):
    """Bounds may include the other zero too: readers do not agree whether the two are one."""
    minus, plus = order(-0.0), order(0.0)
    null, nan, least, greatest = summary
    return null, nan, minus if least == plus else least, plus if greatest == minus else greatest


def summarise(values):
    """(contains null, contains NaN, least, greatest), the last two as sort keys."""
    keys = [order(value) for value in values if value is not None and not is_nan(value)]
    return (None in values, any(is_nan(value) for value in values), min(keys, default=None), max(keys, default=None))


def lint_file(table, entry, name, report):
    """The fields of a data file that can be judged without the file."""
    file = entry.file
    report.check(
        isinstance(entry.path, str) and SCHEME.match(entry.path), name, f"file_path without a scheme: {entry.path}"
    )
    report.check(
        str(file.get(101)).lower() in ("parquet", "avro", "orc", "puffin"), name, f"file_format is {file.get(101)}"
    )
    report.check(entry.rows > 0, name, f"record_count is {file.get(103)}")
    report.check(entry.size > 0, name, f"file_size_in_bytes is {file.get(104)}")
    for field_id in (108, 109, 110, 137, 125, 128):
        report.check(
            "twice" not in (file.get(field_id) or {}), name, f"map {field_id} has a key twice: {file.get(field_id)}"
        )
    offsets = file.get(132)
    report.check(offsets is None or offsets == sorted(offsets), name, f"split_offsets are not ascending: {offsets}")
    report.check(
        file.get(140) is None or file[140] in table.orders, name, f"sort_order_id {file.get(140)} is of no sort order"
    )
    kinds = (0,) if entry.content == 0 else (1, 2)
    report.check(file.get(134) in kinds, name, f"content is {file.get(134)} in a manifest of content {entry.content}")
    if file.get(134) == 0:
        for field_id in (135, 143, 144, 145):
            report.check(not file.get(field_id), name, f"field {field_id} of a data file is {file.get(field_id)}")
    if entry.status == ADDED:
        report.check(file.get(142) is None, name, f"first_row_id of an added file is {file.get(142)}")


def lint_changes(tree, snapshot):
    """A snapshot against its parent: what was added and deleted, and the totals of its summary."""
    report, snapshot_id, summary = tree.report, snapshot["snapshot-id"], snapshot["summary"]
    where, parent_id = f"snapshot {snapshot_id}", snapshot.get("parent-snapshot-id")
    live, changed = tree.live[snapshot_id], tree.changed[snapshot_id]
    added = {entry.key: entry for entry in changed if entry.status == ADDED}
    deleted = {entry.key: entry for entry in changed if entry.status == DELETED}
    first = {} if not report.foreign or snapshot["sequence-number"] == 1 else None
    parent = first if parent_id is None else tree.live.get(parent_id)
    if parent is not None:
        gone, new = set(parent) - set(live), set(live) - set(parent)
        report.check(new == set(added), where, f"new files are {names(new)}, those of status ADDED {names(added)}")
        report.check(
            gone == set(deleted),
            where,
            f"files that are gone are {names(gone)}, those of status DELETED {names(deleted)}",
        )
    operation, data = summary.get("operation"), [e for e in changed if e.content == 0]
    rows = {status: sum(e.rows for e in data if e.status == status) for status in (ADDED, DELETED)}
    report.check(operation != "append" or not deleted, where, f"operation append deletes {names(deleted)}")
    report.check(operation != "append" or all(e.content == 0 for e in changed), where, "operation append adds deletes")
    if operation == "replace" and all(e.content == 0 for e in live.values()):
        report.check(
            rows[ADDED] == rows[DELETED],
            where,
            f"operation replace adds {rows[ADDED]} rows and deletes {rows[DELETED]}",
        )
    lint_totals(tree, snapshot, where)


def names(keys):
    return sorted(str(path).rsplit("/", 1)[-1] for path, _ in keys)


def lint_totals(tree, snapshot, where):
    report, snapshot_id, summary = tree.report, snapshot["snapshot-id"], snapshot["summary"]
    live, changed = list(tree.live[snapshot_id].values()), tree.changed[snapshot_id]
    data = [
        [e for e in group if e.content == 0]
        for group in (live, *([e for e in changed if e.status == s] for s in (ADDED, DELETED)))
    ]
    now, added, deleted = data
    deletes = [e for e in live if e.content == 1]
    wanted = {
        "total-data-files": len(now),
        "total-records": sum(e.rows for e in now),
        "total-files-size": sum(e.size for e in live),
        "total-delete-files": len(deletes),
        "total-position-deletes": sum(e.rows for e in deletes if e.file.get(134) == 1),
        "total-equality-deletes": sum(e.rows for e in deletes if e.file.get(134) == 2),
        "added-data-files": len(added),
        "added-records": sum(e.rows for e in added),
        "added-files-size": sum(e.size for e in changed if e.status == ADDED),
        "deleted-data-files": len(deleted),
        "deleted-records": sum(e.rows for e in deleted),
        "removed-files-size": sum(e.size for e in changed if e.status == DELETED),
    }
    if changed:
        wanted["changed-partition-count"] = len({(e.spec, str(e.file.get(102))) for e in changed})
    parent = tree.table.snapshots.get(snapshot.get("parent-snapshot-id"), {}).get("summary")
    for key, value in wanted.items():
        if key not in summary:
            # Absent is right for what is nothing, for the optional count, and for totals that the parent does not know.
            unknown = key.startswith("total-") and parent is not None and key not in parent
            report.strict(
                (value == 0 and not key.startswith("total-")) or key == "changed-partition-count" or unknown,
                where,
                f"summary misses {key} = {value}",
            )
        else:
            report.check(summary[key] == str(value), where, f"summary {key} is {summary[key]}, not {value}")
