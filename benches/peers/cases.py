"""What is measured: workloads, and the peers that each is measured beside."""

from dataclasses import dataclass

from workloads import Workload

# Merges and sorts; the first is the one to beat.
SORTING = ("datafusion-merge", "duckdb", "polars")
EVERYONE = ("copy", "datafusion-merge", "datafusion-user", "duckdb", "polars", "pyarrow", "deltalake")


@dataclass(frozen=True)
class Case:
    name: str
    workload: Workload
    about: str
    peers: tuple[str, ...] = SORTING
    # Of ours alone.
    threads: int = 2
    options: tuple[str, ...] = ()


CASES = [
    Case("events", Workload("events"), "8 writers of 32 files each, interleaved row by row", EVERYONE),
    Case("one-thread", Workload("events"), "events, ours on one thread", ("datafusion-merge",), threads=1),
    Case(
        "disjoint",
        Workload("disjoint", files=2, rows=320_000, disjoint=True),
        "writers' times lie apart, large row groups, one to a file",
    ),
    Case("late", Workload("late", late=0.01), "1 % of the rows are older than their file"),
    Case("snappy", Workload("snappy", codec="snappy"), "inputs in snappy"),
    Case("narrow", Workload("narrow", shape="narrow"), "7 numeric columns"),
    Case("wide", Workload("wide", shape="wide", files=4, rows=8_000), "200 columns"),
    Case("ties", Workload("ties", ties=True), "each key in about six rows, of all writers"),
    Case(
        "unsorted",
        Workload("unsorted", shuffled=True),
        "rows of a file in no order: ours sorts each file first",
        ("datafusion-user", "duckdb", "polars"),
        options=("--unsorted", "resort"),
    ),
    Case("k64", Workload("k64", writers=64, files=4), "64 overlapping inputs, the same rows"),
    Case("k256", Workload("k256", writers=256, files=1), "256 overlapping inputs, the same rows"),
    Case("k1024", Workload("k1024", writers=1024, files=1, rows=5_000), "1,024 overlapping inputs, the same rows"),
    Case(
        "concat",
        Workload("events", sort_key=()),
        "no sort key: files one after the other",
        ("copy", "deltalake"),
    ),
    Case("size-1x", Workload("size-1x", files=8), "a quarter of events", ("datafusion-merge",)),
    Case("size-4x", Workload("events"), "events", ("datafusion-merge",)),
    Case("size-16x", Workload("size-16x", files=128), "four times events", ("datafusion-merge",)),
]

# Of ours alone: peak memory of the whole process by the number of overlapping inputs and the budget, in MiB.
MEMORY = {"events": (64, 128, 256), "k64": (64, 128, 256), "k256": (64, 128, 256), "k1024": (64, 128, 256)}
MEMORY_ALLOWANCE_MIB = 64

BY_NAME = {case.name: case for case in CASES}
# What has its own tables; `size` stands for its three cases.
NAMES = [*(case.name for case in CASES if not case.name.startswith("size-")), "size", "memory"]


def chosen(names):
    """The cases of these names, and whether memory is asked for."""
    names = names or NAMES
    cases = [case for case in CASES if case.name in names or ("size" in names and case.name.startswith("size-"))]
    return cases, "memory" in names
