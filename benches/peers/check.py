"""Whether an output holds the rows of the inputs, in order. Never timed.

Usage: check.py expect SPEC EXPECTED: writes what is to be expected of the inputs.
       check.py output SPEC EXPECTED FILES: compares a JSON list of files; prints what was found.

Rows are hashed by DuckDB over all columns and sorted by pyarrow, neither of which knows anything of the merger.
"""

import hashlib
import json
import pathlib
import sys

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Beyond, the exact order is not compared, only that it is one.
MOST_ROWS_TO_SORT = 6_000_000


def rows_of(files, columns, sort_key):
    """Keys and hash of every row, in the order of the files."""
    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    connection.execute("SET TimeZone = 'UTC'")
    quoted = ", ".join(f'"{name}"' for name in columns)
    keys = "".join(f'"{name}", ' for name in sort_key)
    query = f"SELECT {keys}hash({quoted}) AS hash FROM read_parquet($files)"
    return connection.sql(query, params={"files": [str(file) for file in files]}).to_arrow_table()


def columns_of(file):
    import pyarrow.parquet as pq

    return pq.read_schema(file).names


def in_order(rows, sort_key):
    """Whether no row is less than the one before it."""
    if rows.num_rows < 2:
        return True
    before, after = rows.slice(0, rows.num_rows - 1), rows.slice(1)
    good = pa.array(np.ones(before.num_rows, dtype=bool))
    for name in reversed(sort_key):
        a, b = before[name], after[name]
        good = pc.or_(pc.less(a, b), pc.and_(pc.equal(a, b), good))
    return pc.all(good).as_py()


def sums(hashes):
    """The same in any order of the rows."""
    with np.errstate(over="ignore"):
        mixed = hashes * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        return [int(np.sum(hashes, dtype=np.uint64)), int(np.sum(mixed * mixed, dtype=np.uint64))]


def digest(hashes):
    return hashlib.sha256(np.ascontiguousarray(hashes).tobytes()).hexdigest()


def hashes_of(rows):
    return rows["hash"].to_numpy().astype(np.uint64, copy=False)


def expect(spec):
    rows = rows_of(spec["files"], columns_of(spec["files"][0]), spec["sort_key"])
    hashes = hashes_of(rows)
    expected = {"rows": rows.num_rows, "sums": sums(hashes), "digest": None, "columns": columns_of(spec["files"][0])}
    if not spec["sort_key"]:
        return expected
    if rows.num_rows <= MOST_ROWS_TO_SORT:
        # Stable, and the files come in (writer, sequence) order: rows of equal keys stay in that order.
        order = pc.sort_indices(rows, [(name, "ascending") for name in spec["sort_key"]])
        expected["digest"] = digest(hashes[order.to_numpy()])
    return expected


def check(spec, expected, files):
    rows = rows_of(files, expected["columns"], spec["sort_key"])
    hashes = hashes_of(rows)
    found = {
        "rows": rows.num_rows == expected["rows"],
        "content": sums(hashes) == expected["sums"],
        "order": in_order(rows, spec["sort_key"]) if spec["sort_key"] else None,
        "exact": digest(hashes) == expected["digest"] if expected["digest"] else None,
    }
    return found


if __name__ == "__main__":
    what, spec_path, expected_path, *rest = sys.argv[1:]
    asked, place = json.loads(pathlib.Path(spec_path).read_text()), pathlib.Path(expected_path)
    if what == "expect":
        place.write_text(json.dumps(expect(asked)))
    else:
        print(json.dumps(check(asked, json.loads(place.read_text()), json.loads(rest[0]))))
