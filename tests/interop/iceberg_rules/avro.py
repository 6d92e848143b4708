"""Avro files of manifests and manifest lists: their schemas, and their records with plain values."""

import datetime as dt
import decimal
import json
import uuid

import fastavro

from .values import DECIMAL, FIXED, PROMOTIONS

OPTIONAL = False
REQUIRED = True
STRING, INT, LONG, BYTES, BOOLEAN = "string", "int", "long", "bytes", "boolean"

SUMMARY = {
    509: ("contains_null", REQUIRED, BOOLEAN),
    518: ("contains_nan", OPTIONAL, BOOLEAN),
    510: ("lower_bound", OPTIONAL, BYTES),
    511: ("upper_bound", OPTIONAL, BYTES),
}
MANIFEST_FILE = {
    500: ("manifest_path", REQUIRED, STRING),
    501: ("manifest_length", REQUIRED, LONG),
    502: ("partition_spec_id", REQUIRED, INT),
    517: ("content", REQUIRED, INT),
    515: ("sequence_number", REQUIRED, LONG),
    516: ("min_sequence_number", REQUIRED, LONG),
    503: ("added_snapshot_id", REQUIRED, LONG),
    504: ("added_files_count", REQUIRED, INT),
    505: ("existing_files_count", REQUIRED, INT),
    506: ("deleted_files_count", REQUIRED, INT),
    512: ("added_rows_count", REQUIRED, LONG),
    513: ("existing_rows_count", REQUIRED, LONG),
    514: ("deleted_rows_count", REQUIRED, LONG),
    507: ("partitions", OPTIONAL, ("list", 508, ("r508", SUMMARY))),
    519: ("key_metadata", OPTIONAL, BYTES),
}
MANIFEST_FILE_V3 = {**MANIFEST_FILE, 520: ("first_row_id", OPTIONAL, LONG)}


def metric(key, kind):
    """The type of a map from column ids."""
    return ("map", key, key + 1, kind)


DATA_FILE = {
    134: ("content", REQUIRED, INT),
    100: ("file_path", REQUIRED, STRING),
    101: ("file_format", REQUIRED, STRING),
    103: ("record_count", REQUIRED, LONG),
    104: ("file_size_in_bytes", REQUIRED, LONG),
    108: ("column_sizes", OPTIONAL, metric(117, LONG)),
    109: ("value_counts", OPTIONAL, metric(119, LONG)),
    110: ("null_value_counts", OPTIONAL, metric(121, LONG)),
    137: ("nan_value_counts", OPTIONAL, metric(138, LONG)),
    125: ("lower_bounds", OPTIONAL, metric(126, BYTES)),
    128: ("upper_bounds", OPTIONAL, metric(129, BYTES)),
    131: ("key_metadata", OPTIONAL, BYTES),
    132: ("split_offsets", OPTIONAL, ("list", 133, LONG)),
    135: ("equality_ids", OPTIONAL, ("list", 136, INT)),
    140: ("sort_order_id", OPTIONAL, INT),
    143: ("referenced_data_file", OPTIONAL, STRING),
}
DATA_FILE_V3 = {
    **DATA_FILE,
    142: ("first_row_id", OPTIONAL, LONG),
    144: ("content_offset", OPTIONAL, LONG),
    145: ("content_size_in_bytes", OPTIONAL, LONG),
}


def manifest_entry(version, partition):
    """The expected fields of a manifest, of which `partition` are those of the partition tuple."""
    data_file = {**(DATA_FILE if version == 2 else DATA_FILE_V3), 102: ("partition", REQUIRED, ("r102", partition))}
    return {
        0: ("status", REQUIRED, INT),
        1: ("snapshot_id", OPTIONAL, LONG),
        3: ("sequence_number", OPTIONAL, LONG),
        4: ("file_sequence_number", OPTIONAL, LONG),
        2: ("data_file", REQUIRED, ("r2", data_file)),
    }


def avro_type(kind):
    """The Avro type of an Iceberg type, without names and documentation."""
    micros, nanos = ({"type": "long", "logicalType": f"timestamp-{unit}"} for unit in ("micros", "nanos"))
    special = {
        "binary": "bytes",
        "date": {"type": "int", "logicalType": "date"},
        "time": {"type": "long", "logicalType": "time-micros"},
        "timestamp": {**micros, "adjust-to-utc": False},
        "timestamptz": {**micros, "adjust-to-utc": True},
        "timestamp_ns": {**nanos, "adjust-to-utc": False},
        "timestamptz_ns": {**nanos, "adjust-to-utc": True},
        "uuid": {"type": "fixed", "size": 16, "logicalType": "uuid"},
    }
    if found := FIXED.match(kind):
        return {"type": "fixed", "size": int(found[1])}
    if found := DECIMAL.match(kind):
        precision, scale = int(found[1]), int(found[2])
        size = next(n for n in range(1, 17) if 2 ** (8 * n - 1) >= 10**precision)
        return {"type": "fixed", "size": size, "logicalType": "decimal", "precision": precision, "scale": scale}
    return special.get(kind, kind)


class AvroFile:
    """Header, schema and records of an Avro file; the records are {field id: value}."""

    def __init__(self, path):
        with path.open("rb") as file:
            reader = fastavro.reader(file)
            self.metadata = dict(reader.metadata)
            self.schema = json.loads(self.metadata.pop("avro.schema"))
            self.codec = self.metadata.pop("avro.codec", "null")
            records = list(reader)
        self.records = [by_id(self.schema, record) for record in records]


def optional(schema):
    """(the type in a union with null, whether it is one)."""
    if isinstance(schema, list):
        others = [kind for kind in schema if kind != "null"]
        return (others[0] if others else "null"), len(others) < len(schema)
    return schema, False


def by_id(schema, value):
    """A decoded value with field ids for names, maps of records as `dict`, and plain values."""
    schema, _ = optional(schema)
    kind = schema.get("type") if isinstance(schema, dict) else schema
    if value is None:
        return None
    if kind == "record":
        return {
            field.get("field-id", field["name"]): by_id(field["type"], value[field["name"]])
            for field in schema["fields"]
        }
    if kind == "array":
        items = schema["items"]
        if isinstance(items, dict) and [field["name"] for field in items.get("fields", [])] == ["key", "value"]:
            pairs = [(item["key"], by_id(items["fields"][1]["type"], item["value"])) for item in value]
            return dict(pairs) if len(dict(pairs)) == len(pairs) else {"twice": sorted(key for key, _ in pairs)}
        return [by_id(items, item) for item in value]
    return plain(schema, value)


def plain(schema, value):
    """fastavro decodes logical types, of which the rules want the numbers."""
    if isinstance(value, dt.datetime):
        since = value.replace(tzinfo=None) - dt.datetime(1970, 1, 1)
        return since // dt.timedelta(microseconds=1)
    if isinstance(value, dt.date):
        return (value - dt.date(1970, 1, 1)).days
    if isinstance(value, dt.time):
        return ((value.hour * 60 + value.minute) * 60 + value.second) * 10**6 + value.microsecond
    if isinstance(value, decimal.Decimal):
        return unscaled(value, schema.get("scale", 0))
    return value.bytes if isinstance(value, uuid.UUID) else value


def unscaled(value, scale):
    """The integer of a decimal, at any precision."""
    sign, digits, exponent = value.as_tuple()
    number = int("".join(map(str, digits))) * 10 ** (exponent + scale)
    return -number if sign else number


def lint_schema(schema, name, fields, where, report):
    """An Avro record against the expected fields {id: (name, required, type)}."""
    if not report.check(isinstance(schema, dict) and schema.get("type") == "record", where, f"{name} is no record"):
        return
    report.check(schema.get("name") == name, where, f"record is named {schema.get('name')}, not {name}")
    seen = set()
    for field in schema.get("fields", []):
        at, field_id = f"{where} field {field.get('name')}", field.get("field-id")
        if not report.check(type(field_id) is int, at, f"has the field-id {field_id!r}"):
            continue
        report.check(field_id not in seen, at, f"field-id {field_id} occurs twice")
        seen.add(field_id)
        if field_id not in fields:
            report.strict(False, at, f"field-id {field_id} is none of {name}")
            continue
        wanted, required, kind = fields[field_id]
        report.strict(field.get("name") == wanted, at, f"field {field_id} is {wanted}")
        inner, nullable = optional(field.get("type"))
        report.check(nullable != required, at, "is optional but required" if required else "is required but optional")
        if nullable:
            report.check(field["type"][0] == "null" and len(field["type"]) == 2, at, f"union is {field['type']}"[:200])
            report.check("default" in field and field["default"] is None, at, "has no default of null")
        lint_type(inner, kind, at, report)
    for field_id, (wanted, required, _) in fields.items():
        report.check(field_id in seen or not required, where, f"{name} has no field {field_id}, {wanted}")


def lint_type(schema, kind, at, report):
    """An Avro type against the expected one."""
    if isinstance(kind, tuple) and kind[0] == "list":
        if not report.check(isinstance(schema, dict) and schema.get("type") == "array", at, "is no array"):
            return
        report.check(
            schema.get("element-id") == kind[1], at, f"element-id is {schema.get('element-id')}, not {kind[1]}"
        )
        if isinstance(kind[2], tuple):
            lint_schema(schema["items"], *kind[2], at, report)
        elif not (report.foreign and (kind[2], schema["items"]) == (INT, LONG)):
            lint_type(schema["items"], kind[2], at, report)
    elif isinstance(kind, tuple) and kind[0] == "map":
        _, key, value, value_kind = kind
        if not report.check(isinstance(schema, dict) and schema.get("type") == "array", at, "is no array"):
            return
        report.check(schema.get("logicalType") == "map", at, f"logicalType is {schema.get('logicalType')}, not map")
        pair = {key: ("key", REQUIRED, INT), value: ("value", REQUIRED, value_kind)}
        lint_schema(schema["items"], f"k{key}_v{value}", pair, at, report)
    elif isinstance(kind, tuple):
        lint_schema(schema, *kind, at, report)
    else:
        wanted = avro_type(kind)
        found = without_names(schema)
        if isinstance(found, dict) and str(found.get("logicalType", "")).startswith("timestamp"):
            found = {"adjust-to-utc": False, **found}
        # The text of the specification gives `day` the type int, the reference implementation date.
        foreign = report.foreign and (kind == "date" and found == "int" or was_promoted(found, kind))
        report.check(found == wanted or foreign, at, f"is {json.dumps(found)}, not {json.dumps(wanted)}"[:200])


def was_promoted(found, kind):
    """Whether an Avro type is that of a column before it was promoted to the type."""
    if DECIMAL.match(kind) and isinstance(found, dict) and found.get("logicalType") == "decimal":
        return found.get("precision") < int(DECIMAL.match(kind)[1]) and found.get("scale") == int(DECIMAL.match(kind)[2])
    return any(new == kind and found == avro_type(old) for old, new in PROMOTIONS)


def without_names(schema):
    if not isinstance(schema, dict):
        return schema
    known = ("type", "size", "logicalType", "precision", "scale", "adjust-to-utc")
    kept = {key: value for key, value in schema.items() if key in known}
    return kept["type"] if list(kept) == ["type"] else kept
