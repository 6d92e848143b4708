"""Parquet footers, from the bytes: what pyarrow does not show, as the field ids of every node."""

import struct
from dataclasses import dataclass, field

from .values import Field, List, Map, Struct

BOOLEAN, INT32, INT64, INT96, FLOAT, DOUBLE, BYTE_ARRAY, FIXED = range(8)
REQUIRED, OPTIONAL, REPEATED = range(3)


@dataclass
class Node:
    """A node of a Parquet schema, in the terms of parquet.thrift."""

    name: str
    id: int
    repetition: int
    physical: int
    length: int
    converted: int
    logical: dict
    precision: int
    scale: int
    children: list = field(default_factory=list)


@dataclass
class Chunk:
    """A column chunk."""

    num_values: int
    compressed: int
    start: int


@dataclass
class Footer:
    root: Node
    num_rows: int
    row_groups: list  # of lists of chunks, in the order of the leaves
    sorting: list  # for each row group, of (leaf, descending, nulls first)
    group_rows: list


def read_footer(path):
    """The footer of a Parquet file; raises ValueError where it is none."""
    data = path.read_bytes()
    if len(data) < 12 or data[:4] != b"PAR1" or data[-4:] != b"PAR1":
        raise ValueError("is no Parquet file")
    size = struct.unpack("<I", data[-8:-4])[0]
    meta = Thrift(data[-8 - size : -8]).read_struct()
    elements = iter(meta[2])
    groups = []
    for group in meta[4]:
        columns = [column[3] for column in group[1]]
        starts = [min(c[9], c.get(11) or c[9]) for c in columns]
        groups.append([Chunk(c[5], c[7], start) for c, start in zip(columns, starts)])
    sorting = [[(s[1], s[2], s[3]) for s in group.get(4, [])] for group in meta[4]]
    return Footer(node(next(elements), elements), meta[3], groups, sorting, [group[3] for group in meta[4]])


def node(element, rest):
    made = Node(
        name=element[4].decode(),
        id=element.get(9, -1),
        repetition=element.get(3, REQUIRED),
        physical=element.get(1, -1),
        length=element.get(2, 0),
        converted=element.get(6, -1),
        logical=element.get(10, {}),
        precision=element.get(8, 0),
        scale=element.get(7, 0),
    )
    made.children = [node(next(rest), rest) for _ in range(element.get(5, 0))]
    return made


def iceberg_struct(root, problems):
    """The Iceberg type of a Parquet schema; what cannot be one is added to `problems`."""
    return Struct(tuple(iceberg_field(child, problems) for child in root.children))


def iceberg_field(node_, problems):
    if node_.id < 0:
        problems.append(f"node {node_.name} has no field id")
    if node_.repetition == REPEATED:
        problems.append(f"node {node_.name} is repeated outside a list or map")
    return Field(node_.id, node_.name, node_.repetition == REQUIRED, iceberg_type(node_, problems))


def iceberg_type(node_, problems):
    if not node_.children:
        return primitive(node_, problems)
    inner = node_.children[0]
    if 3 in node_.logical or node_.converted == 3:
        if inner.repetition != REPEATED or len(inner.children) != 1:
            problems.append(f"list {node_.name} is not of three levels")
            return List(iceberg_field(inner, []))
        return List(iceberg_field(inner.children[0], problems))
    if 2 in node_.logical or node_.converted in (1, 2):
        if inner.repetition != REPEATED or len(inner.children) != 2:
            problems.append(f"map {node_.name} is not of three levels")
            return Struct(())
        key, value = (iceberg_field(child, problems) for child in inner.children)
        if not key.required:
            problems.append(f"map {node_.name} has optional keys")
        return Map(key, value)
    return iceberg_struct(node_, problems)


def primitive(node_, problems):
    """The Iceberg type of a primitive column, or `parquet(...)` where there is none."""
    logical, physical, converted = node_.logical, node_.physical, node_.converted
    if 5 in logical or converted == 5:
        want = INT32 if node_.precision <= 9 else INT64 if node_.precision <= 18 else FIXED
        if physical != want or (physical == FIXED and node_.length != decimal_length(node_.precision)):
            problems.append(f"decimal {node_.name} of precision {node_.precision} is stored as type {physical}")
        return f"decimal({node_.precision},{node_.scale})"
    if (8 in logical or 7 in logical) and physical in (INT32, INT64):
        time = logical.get(8) or logical[7]
        unit, utc = next(iter(time[2])), time[1]
        if 7 in logical:
            return "time" if (unit, utc) == (2, False) else f"parquet(time unit {unit} utc {utc})"
        return {
            (2, False): "timestamp",
            (2, True): "timestamptz",
            (3, False): "timestamp_ns",
            (3, True): "timestamptz_ns",
        }.get((unit, utc), f"parquet(timestamp unit {unit} utc {utc})")
    plain = not logical and converted < 0
    kinds = {
        (BOOLEAN, plain): "boolean",
        (INT32, plain or integer(node_, 32)): "int",
        (INT32, 6 in logical or converted == 6): "date",
        (INT64, plain or integer(node_, 64)): "long",
        (FLOAT, plain): "float",
        (DOUBLE, plain): "double",
        (BYTE_ARRAY, plain): "binary",
        (BYTE_ARRAY, 1 in logical or converted == 0): "string",
        (FIXED, plain): f"fixed[{node_.length}]",
        (FIXED, 14 in logical): "uuid",
    }
    if physical == INT96:
        problems.append(f"column {node_.name} is INT96")
    return kinds.get((physical, True), f"parquet(type {physical}, logical {logical or converted})")


def integer(node_, bits):
    """Whether it is annotated as the signed integer that it is."""
    return node_.logical.get(10) == {1: bits, 2: True} or (
        not node_.logical and node_.converted == {32: 17, 64: 18}[bits]
    )


def decimal_length(precision):
    """The fewest bytes that hold every decimal of a precision."""
    length = 1
    while 2 ** (8 * length - 1) - 1 < 10**precision - 1:
        length += 1
    return length


class Thrift:
    """Reads the compact protocol into {field id: value}."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def byte(self):
        self.at += 1
        return self.data[self.at - 1]

    def varint(self):
        shift = result = 0
        while True:
            byte = self.byte()
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result
            shift += 7

    def zigzag(self):
        number = self.varint()
        return number >> 1 ^ -(number & 1)

    def read_struct(self):
        fields, last = {}, 0
        while head := self.byte():
            last = last + (head >> 4) if head >> 4 else self.zigzag()
            fields[last] = self.value(head & 15)
        return fields

    def value(self, kind, in_list=False):
        if kind in (1, 2):
            return self.byte() == 1 if in_list else kind == 1
        if kind == 3:
            return struct.unpack("b", bytes([self.byte()]))[0]
        if kind in (4, 5, 6):
            return self.zigzag()
        if kind == 7:
            self.at += 8
            return struct.unpack("<d", self.data[self.at - 8 : self.at])[0]
        if kind == 8:
            size = self.varint()
            self.at += size
            return bytes(self.data[self.at - size : self.at])
        if kind in (9, 10):
            head = self.byte()
            size = head >> 4 if head >> 4 < 15 else self.varint()
            return [self.value(head & 15, in_list=True) for _ in range(size)]
        if kind == 12:
            return self.read_struct()
        raise ValueError(f"thrift type {kind}")
