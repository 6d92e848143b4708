"""Workloads: directories of sorted Parquet files, made once and the same on every machine.

Usage: workloads.py DIR JSON, where the JSON is a Workload. Writes `DIR/{timestampMs}-{writer}-{sequence}.parquet`.
"""

import hashlib
import json
import os
import pathlib
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass

START_US = 1_731_578_400_000_000
# Of a writer's rows, on average.
STEP_US = 2_000
SEED = 20_241_114


@dataclass(frozen=True)
class Workload:
    name: str
    shape: str = "events"
    writers: int = 8
    # Of each writer.
    files: int = 32
    # Of each file.
    rows: int = 20_000
    # Whether the writers' times lie apart.
    disjoint: bool = False
    # The share of rows that are older than their file, by up to three files.
    late: float = 0.0
    # Whether many rows of all writers have the same key.
    ties: bool = False
    # Whether the rows of a file are in no order at all.
    shuffled: bool = False
    codec: str = "zstd"
    sort_key: tuple[str, ...] = ("ts", "id")

    @property
    def total_rows(self):
        return self.writers * self.files * self.rows

    @property
    def total_files(self):
        return self.writers * self.files

    def scaled(self, divisor):
        return Workload(**{**asdict(self), "rows": max(self.rows // divisor, 100), "sort_key": self.sort_key})


def input_files(directory):
    """The files of a workload in (writer, sequence) order."""

    def place(path):
        _, writer, sequence = path.stem.split("-")
        return writer, int(sequence)

    return sorted(pathlib.Path(directory).glob("*.parquet"), key=place)


def make(workload, directory):
    """Writes a workload, unless it is there as this program makes it."""
    directory = pathlib.Path(directory)
    done = directory / "workload.json"
    sources = [pathlib.Path(__file__).with_name(name).read_bytes() for name in ("columns.py", "workloads.py")]
    made_by = hashlib.sha256(b"".join(sources)).hexdigest()
    wanted = json.dumps(asdict(workload) | {"made_by": made_by}, sort_keys=True)
    if done.exists() and done.read_text() == wanted:
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with ProcessPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        places = [(w, f) for w in range(workload.writers) for f in range(workload.files)]
        list(pool.map(write_file, [workload] * len(places), [str(directory)] * len(places), places, chunksize=4))
    done.write_text(wanted)


def micros_of(random, workload, writer, sequence):
    """The times of a file's rows, ascending: those of the writers interleave row by row, or lie apart."""
    import numpy as np

    span = workload.rows * STEP_US
    start = START_US + sequence * span
    if workload.disjoint:
        start += writer * workload.files * span
    micros = start + np.arange(workload.rows, dtype=np.int64) * STEP_US
    micros += random.integers(0, STEP_US, workload.rows)
    if workload.late:
        late = np.flatnonzero(random.random(workload.rows) < workload.late)
        micros[late] -= random.integers(0, 3 * span, len(late))
    if workload.ties:
        micros -= micros % 100_000
    return np.sort(micros)


def write_file(workload, directory, place):
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    import columns

    pa.set_cpu_count(1)
    writer, sequence = place
    random = np.random.default_rng([SEED, writer, sequence])
    micros = micros_of(random, workload, writer, sequence)
    ids = columns.few_ids(random, len(micros), 64) if workload.ties else columns.ulids(random, micros)
    table = pa.table(columns.SHAPES[workload.shape](random, micros, ids))
    if workload.sort_key:
        table = table.take(pc.sort_indices(table, [(name, "ascending") for name in workload.sort_key]))
    if workload.shuffled:
        table = table.take(random.permutation(table.num_rows))
    millis = int(micros[-1]) // 1000
    path = pathlib.Path(directory, f"{millis}-w{writer:04d}-{sequence}.parquet")
    pq.write_table(
        table,
        path,
        compression=workload.codec,
        compression_level=1 if workload.codec == "zstd" else None,
        row_group_size=workload.rows,
        write_page_index=True,
        store_schema=False,
    )


if __name__ == "__main__":
    asked = json.loads(sys.argv[2])
    asked["sort_key"] = tuple(asked["sort_key"])
    make(Workload(**asked), sys.argv[1])
