"""Types, single values, their order, and partition transforms, after Appendices A to D of the specification.

Values are plain: `int` for numbers, days, micro- and nanoseconds and unscaled decimals, `float`, `bool`, `str`, and
`bytes` for uuid, fixed and binary.
"""

import math
import re
import struct
from dataclasses import dataclass

MAX_FIELD_ID = 2147483447
SIMPLE = [
    "boolean",
    "int",
    "long",
    "float",
    "double",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "string",
    "uuid",
    "binary",
]
SINCE_V3 = ["timestamp_ns", "timestamptz_ns", "unknown", "variant"]
DECIMAL = re.compile(r"^decimal\((\d+), ?(\d+)\)$")
FIXED = re.compile(r"^fixed\[(\d+)\]$")
FORMATS = {"int": "<i", "date": "<i", "float": "<f", "double": "<d"}
LONGS = ["long", "time", "timestamp", "timestamptz", "timestamp_ns", "timestamptz_ns"]
TIMES = {"timestamp": 10**6, "timestamptz": 10**6, "timestamp_ns": 10**9, "timestamptz_ns": 10**9}
PROMOTIONS = {("int", "long"), ("float", "double"), ("date", "timestamp"), ("date", "timestamp_ns")}


@dataclass(frozen=True)
class Field:
    """A field of a struct, or the element, key or value of a list or map. `type` is a string, or one of the below."""

    id: int
    name: str
    required: bool
    type: object


@dataclass(frozen=True)
class Struct:
    fields: tuple


@dataclass(frozen=True)
class List:
    element: Field


@dataclass(frozen=True)
class Map:
    key: Field
    value: Field


@dataclass(frozen=True)
class Leaf:
    """A primitive field with what surrounds it."""

    field: Field
    path: tuple  # of positions: of a field in its struct, 0 for an element or key, 1 for a value
    repeated: bool  # inside a list or map
    optional: bool  # it, or a struct around it
    name: str


def parse_type(json_type):
    """The type of its JSON form; raises ValueError where that is not as the specification says."""
    if isinstance(json_type, str):
        if json_type in SIMPLE + SINCE_V3 or FIXED.match(json_type):
            return json_type
        if found := DECIMAL.match(json_type):
            precision, scale = int(found[1]), int(found[2])
            if not 0 < precision <= 38 or scale > precision:
                raise ValueError(f"impossible {json_type}")
            return f"decimal({precision},{scale})"
        raise ValueError(f"unknown type {json_type!r}")
    kind = json_type.get("type") if isinstance(json_type, dict) else None
    if kind == "struct":
        return Struct(tuple(parse_field(field) for field in json_type["fields"]))
    if kind == "list":
        return List(child(json_type, "element", "element-required"))
    if kind == "map":
        return Map(child(json_type, "key", None), child(json_type, "value", "value-required"))
    raise ValueError(f"unknown type {json_type!r}")


def parse_field(field):
    typed(field.get("id"), int, "field id")
    typed(field.get("name"), str, "field name")
    typed(field.get("required"), bool, f"`required` of {field['name']}")
    return Field(field["id"], field["name"], field["required"], parse_type(field.get("type")))


def child(json_type, name, required_key):
    typed(json_type.get(f"{name}-id"), int, f"{name}-id")
    required = True
    if required_key:
        required = json_type.get(required_key)
        typed(required, bool, required_key)
    return Field(json_type[f"{name}-id"], name, required, parse_type(json_type.get(name)))


def typed(value, kind, what):
    if type(value) is not kind:
        raise ValueError(f"{what} is {value!r}, not of type {kind.__name__}")


def fields_of(node):
    """All fields below a type, at any depth, each before what is below it."""
    children = {Struct: lambda: node.fields, List: lambda: [node.element], Map: lambda: [node.key, node.value]}
    for field in children.get(type(node), list)():
        yield field
        yield from fields_of(field.type)


def leaves(node, path=(), repeated=False, optional=False, prefix=""):
    """All primitive fields below a type."""
    if isinstance(node, Struct):
        children = list(node.fields)
    elif isinstance(node, List):
        children, repeated = [node.element], True
    else:
        children, repeated = [node.key, node.value], True
    for position, field in enumerate(children):
        at, maybe, name = (*path, position), optional or not field.required, f"{prefix}{field.name}"
        if isinstance(field.type, str):
            yield Leaf(field, at, repeated, maybe, name)
        else:
            yield from leaves(field.type, at, repeated, maybe, f"{name}.")


def may_become(old, new):
    """Whether values of a type may be read as another, after the table's schema has changed."""
    was, becomes = (DECIMAL.match(kind) if isinstance(kind, str) else None for kind in (old, new))
    if was and becomes:
        return int(was[1]) <= int(becomes[1]) and was[2] == becomes[2]
    return old == new or (old, new) in PROMOTIONS


def decode(kind, data):
    """The single value of its binary form; raises ValueError where that is no value of the type."""
    if kind == "boolean" and len(data) == 1:
        return data != b"\0"
    if kind in FORMATS or kind in LONGS:
        layout = FORMATS.get(kind, "<q")
        if len(data) != struct.calcsize(layout):
            raise ValueError(f"{len(data)} bytes for {kind}")
        return struct.unpack(layout, data)[0]
    if kind == "string":
        return data.decode("utf-8")
    if kind == "uuid" and len(data) != 16:
        raise ValueError(f"{len(data)} bytes for uuid")
    if kind in ("binary", "uuid") or FIXED.match(kind):
        return data
    if found := DECIMAL.match(kind):
        number = int.from_bytes(data, "big", signed=True)
        if not data or data != minimal(number):
            raise ValueError(f"decimal of {len(data)} bytes, which are not the fewest")
        if len(str(abs(number))) > int(found[1]):
            raise ValueError(f"{number} is too long for {kind}")
        return number
    raise ValueError(f"{len(data)} bytes for {kind}")


def decode_promoted(kind, data):
    """As `decode`, of what may have been written before its column was promoted to the type."""
    old = {"long": "int", "double": "float"}.get(kind)
    if old and len(data) == struct.calcsize(FORMATS[old]):
        return decode(old, data)
    return decode(kind, data)


def minimal(number):
    """The fewest bytes of an integer in two's complement, big-endian."""
    bits = number.bit_length() if number >= 0 else (number + 1).bit_length()
    return number.to_bytes(bits // 8 + 1, "big", signed=True)


def order(value):
    """A key that sorts values as the specification does: floats by IEEE 754 total order, all others as they are."""
    if isinstance(value, float):
        bits = struct.unpack(">q", struct.pack(">d", value))[0]
        return bits if bits >= 0 else bits ^ 0x7FFFFFFFFFFFFFFF
    return value


def is_nan(value):
    return isinstance(value, float) and math.isnan(value)


def parse_transform(text):
    """(name, argument) of a transform; raises ValueError for an unknown one."""
    found = re.match(r"^(identity|year|month|day|hour|void)$|^(bucket|truncate)\[(\d+)\]$", str(text))
    if not found or (found[3] and int(found[3]) == 0):
        raise ValueError(f"unknown transform {text!r}")
    return (found[1], None) if found[1] else (found[2], int(found[3]))


def result_type(text, kind):
    """The type that a transform makes of a type; raises ValueError where it cannot be applied."""
    name, _ = parse_transform(text)
    decimal = bool(DECIMAL.match(kind))
    allowed = {
        "identity": kind not in ("variant",),
        "void": True,
        "bucket": decimal
        or bool(FIXED.match(kind))
        or kind not in ("boolean", "float", "double", "unknown", "variant"),
        "truncate": decimal or kind in ("int", "long", "string", "binary"),
        "hour": kind in TIMES,
    }
    if not allowed.get(name, kind in TIMES or kind == "date"):
        raise ValueError(f"{text} of {kind}")
    if name == "day":
        return "date"  # the text says int, all writers and Java's readers say date
    return kind if name in ("identity", "truncate", "void") else "int"


def transform(text, kind, value):
    """The partition value of a value."""
    name, argument = parse_transform(text)
    if value is None or name == "void":
        return None
    if name == "identity":
        return value
    if name == "bucket":
        return (murmur3(hashed(kind, value)) & 0x7FFFFFFF) % argument
    if name == "truncate":
        return value[:argument] if isinstance(value, (str, bytes)) else value - value % argument
    seconds = value * 86_400 if kind == "date" else value // TIMES[kind]
    if name == "hour":
        return seconds // 3_600
    days = seconds // 86_400
    if name == "day":
        return days
    year, month = year_and_month(days)
    return year - 1970 if name == "year" else (year - 1970) * 12 + month - 1


def year_and_month(days):
    """Of a day of the proleptic Gregorian calendar, also before the year 1 (algorithm: civil from days)."""
    days += 719_468
    era, of_era = divmod(days, 146_097)
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    day_of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153
    month = month + 3 if month < 10 else month - 9
    return era * 400 + year + (month <= 2), month


def hashed(kind, value):
    """The bytes that are hashed for a bucket."""
    if kind in ("timestamp_ns", "timestamptz_ns"):
        value //= 1000
    if isinstance(value, str):
        return value.encode()
    if DECIMAL.match(kind):
        return minimal(value)
    return value if isinstance(value, bytes) else struct.pack("<q", value)


def murmur3(data):
    """The 32-bit x86 variant with seed 0."""
    mask, hash_ = 0xFFFFFFFF, 0

    def mixed(word):
        word = word * 0xCC9E2D51 & mask
        return ((word << 15 | word >> 17) & mask) * 0x1B873593 & mask

    whole = len(data) // 4 * 4
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        hash_ ^= mixed(word)
        hash_ = ((hash_ << 13 | hash_ >> 19) & mask) * 5 + 0xE6546B64 & mask
    if data[whole:]:
        hash_ ^= mixed(int.from_bytes(data[whole:], "little"))
    hash_ ^= len(data)
    hash_ = (hash_ ^ hash_ >> 16) * 0x85EBCA6B & mask
    hash_ = (hash_ ^ hash_ >> 13) * 0xC2B2AE35 & mask
    return hash_ ^ hash_ >> 16
