"""Rules of data files: the Parquet schema, and what the manifests say of them against a scan of their rows."""

import pyarrow as pa
import pyarrow.parquet as pq

from .avro import unscaled
from .footer import iceberg_struct, read_footer
from .values import (
    DECIMAL,
    FIXED,
    TIMES,
    List,
    Map,
    Struct,
    decode,
    fields_of,
    is_nan,
    leaves,
    may_become,
    order,
    transform,
)

ROW_LINEAGE = {2147483540: "_row_id", 2147483539: "_last_updated_sequence_number"}
TRUNCATED = ("string", "binary")


def lint_data_file(table, entry, report):
    """A live data file of a table."""
    name = str(entry.path).rsplit("/", 1)[-1]
    path = report.local(entry.path, name)
    if not path:
        return
    size = path.stat().st_size
    report.check(entry.size == size, name, f"file_size_in_bytes is {entry.size}, the file has {size} bytes")
    if str(entry.file.get(101)).lower() != "parquet":
        report.add(name, f"file_format {entry.file.get(101)} is not looked into")
        return
    try:
        footer = read_footer(path)
        rows = pq.ParquetFile(path).read()
    except Exception as error:  # whatever the readers make of a broken file
        report.add(name, f"cannot be read: {error!r}")
        return
    report.check(
        entry.rows == footer.num_rows, name, f"record_count is {entry.rows}, the footer says {footer.num_rows}"
    )
    report.check(rows.num_rows == footer.num_rows, name, f"has {rows.num_rows} rows, the footer says {footer.num_rows}")
    starts = [group[0].start for group in footer.row_groups]
    offsets = entry.file.get(132)
    report.check(
        offsets is None or offsets == starts, name, f"split_offsets are {offsets}, row groups start at {starts}"
    )
    schema = lint_parquet_schema(table, footer, name, report)
    if schema is None:
        return
    columns = Columns(schema, rows)
    lint_metrics(table, entry, footer, columns, name, report)
    lint_partition(table, entry, columns, name, report)
    lint_order(table, entry, columns, name, report)
    lint_sorting(footer, columns, name, report)


class Columns:
    """The rows of a file as plain values by field id; columns are those of the file, not of the table."""

    def __init__(self, schema, rows):
        self.schema, self.rows = schema, rows
        self.leaves = list(leaves(schema))
        self.by_id = {leaf.field.id: leaf for leaf in self.leaves}
        self.cache = {}

    def values(self, leaf):
        """The values of a leaf. Inside lists and maps they are those of all elements."""
        if leaf.field.id not in self.cache:
            array = self.rows.column(leaf.path[0]).combine_chunks()
            self.cache[leaf.field.id] = plain_values(descend(array, leaf.path[1:]), leaf.field.type)
        return self.cache[leaf.field.id]


def descend(array, path):
    """The array below an array; values below a null are null, or none where it is a list or map."""
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    for position in path:
        if isinstance(array, pa.StructArray):
            array = array.flatten()[position]
        elif isinstance(array, pa.MapArray):
            array = array.items if position else array.keys
        else:
            array = array.flatten()
    return array


def plain_values(array, kind):
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if found := DECIMAL.match(kind):
        return [None if value is None else unscaled(value, int(found[2])) for value in array.to_pylist()]
    if kind in TIMES:
        unit = "us" if TIMES[kind] == 10**6 else "ns"
        return array.cast(pa.timestamp(unit, array.type.tz), safe=False).cast(pa.int64()).to_pylist()
    if kind == "time":
        return array.cast(pa.time64("us")).cast(pa.int64()).to_pylist()
    if kind == "date":
        return array.cast(pa.date32()).cast(pa.int32()).to_pylist()
    return array.to_pylist()


def lint_parquet_schema(table, footer, name, report):
    """The Iceberg type of a file's schema, which must be one of the table's."""
    problems = []
    found = iceberg_struct(footer.root, problems)
    for problem in problems:
        report.add(name, problem)
    ids = [field.id for field in fields_of(found)]
    if not report.check(len(set(ids)) == len(ids), name, f"field ids occur twice: {ids}"):
        return None
    lineage = [field for field in found.fields if field.id in ROW_LINEAGE]
    for field in lineage:
        report.check(table.version == 3, name, f"{field.name} is of version 3")
        report.check((field.name, field.type) == (ROW_LINEAGE[field.id], "long"), name, f"row lineage column {field}")
    data = Struct(tuple(field for field in found.fields if field.id not in ROW_LINEAGE))
    differences = [differing(data, schema) for schema in reversed(table.schemas.values())]
    if not any(difference == [] for difference in differences):
        fewest = min(differences, key=len)
        for difference in fewest:
            report.add(name, f"Parquet schema: {difference}")
    return found


def differing(found, wanted):
    """How the columns of a file are not those of a schema, by field ids."""
    here, there = ({field.id: field for field in fields_of(struct)} for struct in (found, wanted))
    messages = [f"has a field {i} ({here[i].name}) that the table has not" for i in here if i not in there]
    messages += [f"misses field {i} ({there[i].name})" for i in there if i not in here and there[i].type != "unknown"]
    for field_id in here.keys() & there.keys():
        mine, theirs = here[field_id], there[field_id]
        if isinstance(mine.type, str) or isinstance(theirs.type, str):
            if mine.type != theirs.type:
                messages.append(f"field {field_id} ({mine.name}) is {mine.type}, in the table {theirs.type}")
        elif type(mine.type) is not type(theirs.type) or ids_below(mine.type) != ids_below(theirs.type):
            messages.append(f"field {field_id} ({mine.name}) has other children than in the table")
    return messages


def ids_below(kind):
    children = {Struct: lambda: kind.fields, List: lambda: [kind.element], Map: lambda: [kind.key, kind.value]}
    return sorted(field.id for field in children[type(kind)]())


def lint_metrics(table, entry, footer, columns, name, report):
    file = entry.file
    sizes, counts, nulls, nans, lower, upper = (file.get(key) or {} for key in (108, 109, 110, 137, 125, 128))
    for what, ids in (
        ("column_sizes", sizes),
        ("value_counts", counts),
        ("null_value_counts", nulls),
        ("nan_value_counts", nans),
        ("lower_bounds", lower),
        ("upper_bounds", upper),
    ):
        strange = sorted(set(ids) - set(columns.by_id))
        report.check(not strange, name, f"{what} of fields that are no columns of the file: {strange}")
    for index, leaf in enumerate(columns.leaves):
        field_id, at = leaf.field.id, f"{name} column {leaf.name}"
        chunks = [group[index] for group in footer.row_groups]
        values = columns.values(leaf)
        present = [value for value in values if value is not None]
        stored = sum(chunk.num_values for chunk in chunks)
        size = sum(chunk.compressed for chunk in chunks)
        report.check(sizes.get(field_id, size) == size, at, f"column_sizes is {sizes.get(field_id)}, not {size}")
        # Inside lists and maps an empty or missing one may count as a null value, as Parquet stores it.
        totals = {len(values), stored} if leaf.repeated else {len(values)}
        report.check(
            counts.get(field_id, stored) in totals | {stored},
            at,
            f"value_counts is {counts.get(field_id)}, not {len(values)}",
        )
        missing = {total - len(present) for total in totals}
        report.check(
            nulls.get(field_id, stored - len(present)) in missing | {stored - len(present)},
            at,
            f"null_value_counts is {nulls.get(field_id)}, not {sorted(missing)}",
        )
        nan = sum(is_nan(value) for value in present)
        report.check(nans.get(field_id, nan) == nan, at, f"nan_value_counts is {nans.get(field_id)}, not {nan}")
        floating = leaf.field.type in ("float", "double")
        report.check(floating or field_id not in nans, at, "nan_value_counts of a type without NaN")
        wanted = table.field(field_id)
        if wanted and wanted.required and not leaf.repeated and not leaf.optional:
            report.check(len(present) == len(values), at, "is required but has nulls")
        if leaf.repeated:
            report.check(field_id not in lower and field_id not in upper, at, "has bounds inside a list or map")
            continue
        mode = metrics_mode(table, leaf)
        numbers = [value for value in present if not is_nan(value)]
        for bounds, is_upper in ((lower, False), (upper, True)):
            if field_id in bounds:
                lint_bound(bounds[field_id], is_upper, leaf, numbers, mode, at, report)


def metrics_mode(table, leaf):
    """The most code points or bytes of a bound, or None."""
    default = table.properties.get("write.metadata.metrics.default", "truncate(16)")
    mode = table.properties.get(f"write.metadata.metrics.column.{leaf.name}", default)
    return int(mode[9:-1]) if mode.startswith("truncate(") else None


def lint_bound(data, is_upper, leaf, numbers, limit, at, report):
    what, kind = ("upper" if is_upper else "lower") + " bound", leaf.field.type
    try:
        bound = data if FIXED.match(kind) else decode(kind, data)
    except ValueError as error:
        report.add(at, f"{what} {data.hex()} is no {kind}: {error}")
        return
    report.check(not is_nan(bound), at, f"{what} is NaN")
    report.strict(numbers, at, f"{what} {bound!r} of no values")
    report.check(
        not isinstance(bound, (str, bytes)) or kind == "uuid" or limit is None or len(bound) <= limit,
        at,
        f"{what} is longer than {limit}: {bound!r}",
    )
    if is_nan(bound) or not numbers:
        return
    keys = [order(value) for value in numbers]
    extreme = max(keys) if is_upper else min(keys)
    holds = order(bound) >= extreme if is_upper else order(bound) <= extreme
    report.check(
        holds,
        at,
        f"{what} {bound!r} does not bound the values, of which one is {(max if is_upper else min)(numbers, key=order)!r}",
    )
    exact = order(bound) == extreme
    report.strict(
        exact or kind in TRUNCATED or FIXED.match(kind) or bound in (0.0, -0.0),
        at,
        f"{what} {bound!r} is not tight, {(max if is_upper else min)(numbers, key=order)!r} is",
    )


def lint_partition(table, entry, columns, name, report):
    """The partition tuple against the transforms of all rows."""
    partition = entry.file.get(102) or {}
    for field in table.specs.get(entry.spec, []):
        at = f"{name} partition {field['name']}"
        if not report.check(field["field-id"] in partition, at, "is not in the tuple"):
            continue
        given = partition[field["field-id"]]
        leaf = columns.by_id.get(field.get("source-id"))
        if field["transform"] == "void" or leaf is None:
            report.check(
                leaf is not None or field["transform"] in ("identity", "void"), at, "its source is not in the file"
            )
            report.check(field["transform"] != "void" or given is None, at, f"is {given!r}, not null")
            continue
        kind = table.field(leaf.field.id).type if table.field(leaf.field.id) else leaf.field.type
        kind = kind if may_become(leaf.field.type, kind) and leaf.field.type != "date" else leaf.field.type
        results = {transform(field["transform"], kind, value) for value in set(columns.values(leaf))}
        same = results == {given} or (is_nan(given) and all(is_nan(result) for result in results))
        report.check(same, at, f"is {given!r}, its rows have {sorted(map(repr, results))[:4]}")


def sort_key(value, descending, nulls_first):
    """A key under which rows must not decrease. Values compare by `Reversed` where they descend."""
    if value is None:
        return (0 if nulls_first else 2, 0)
    key = order(value)
    return (1, Reversed(key) if descending else key)


class Reversed:
    """Compares the other way round."""

    def __init__(self, key):
        self.key = key

    def __eq__(self, other):
        return self.key == other.key

    def __lt__(self, other):
        return other.key < self.key


def first_disorder(columns_of_keys):
    """The index of the first row that is before the one before it, or None."""
    before = None
    for index, row in enumerate(zip(*columns_of_keys)):
        if before is not None and row < before:
            return index
        before = row
    return None


def lint_order(table, entry, columns, name, report):
    """A file with a sort order follows it."""
    fields, keys = table.orders.get(entry.file.get(140)) or [], []
    for field in fields:
        leaf = columns.by_id.get(field.get("source-id"))
        if not report.check(leaf, name, f"is sorted by field {field.get('source-id')} that it has not"):
            return
        results = (transform(field["transform"], leaf.field.type, value) for value in columns.values(leaf))
        keys.append(
            [sort_key(value, field["direction"] == "desc", field["null-order"] == "nulls-first") for value in results]
        )
    disorder = first_disorder(keys)
    report.check(disorder is None, name, f"has sort_order_id {entry.file.get(140)}, but row {disorder} is out of order")


def lint_sorting(footer, columns, name, report):
    """Row groups with `sorting_columns` follow them."""
    start = 0
    for sorting, rows in zip(footer.sorting, footer.group_rows):
        keys = []
        for column, descending, nulls_first in sorting:
            leaf = columns.leaves[column] if column < len(columns.leaves) else None
            if not report.check(leaf and not leaf.repeated, name, f"sorting_columns names column {column}"):
                return
            values = columns.values(leaf)[start : start + rows]
            if any(map(is_nan, values)):
                break  # Parquet leaves open where NaN is
            keys.append([sort_key(value, descending, nulls_first) for value in values])
        disorder = first_disorder(keys)
        report.check(disorder is None, name, f"sorting_columns do not hold at row {start + (disorder or 0)}")
        start += rows
