"""How much memory the example `compact` takes, told by the kernel, against the budget that it is given.

Usage: memory.py [--full] [--keep] [NAME...], names of shapes; the quick ones without any, all with --full.

Every shape must be compacted completely, nothing in quarantine, and its peak (VmHWM) must stay within the budget
and a constant for the program itself. The allocator of glibc is told to give back what is freed; left alone it keeps
holes, and the peak was up to three times the budget where columns are many. The command can be replaced by the environment variable
FIRNLINE_COMPACT, a program that takes its options.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from cli import NOW, OK, START_MS, WRONG, command, data_files, quarantined

MIB = 1 << 20
# The program itself, and holes between what is held.
BEYOND_THE_BUDGET = 32 * MIB
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "32768", "MALLOC_TRIM_THRESHOLD_": "131072"}
SHAPES = {}


def shape(*budgets, quick=False, **options):
    """Registers a function that writes the files of a shape, to be merged in each of the budgets (MiB)."""

    def register(write):
        for budget in budgets:
            SHAPES[f"{write.__name__}@{budget}"] = (write, budget, quick, options)
        return write

    return register


def table(rows, seed, columns, kind="int"):
    """Rows of one hour, sorted by (ts, id), with so many more columns."""
    rng = random.Random(seed)
    micros = pa.array(sorted(rng.choices(range(START_MS * 1000, START_MS * 1000 + 3_600_000_000), k=rows)))
    data = {"ts": micros.cast(pa.timestamp("us", tz="UTC")), "id": pa.array(range(seed << 24, (seed << 24) + rows))}
    for column in range(columns):
        if kind == "int":
            numbers = pa.Array.from_buffers(pa.int64(), rows, [None, pa.py_buffer(rng.randbytes(8 * rows))])
            data[f"c{column}"] = pc.bit_wise_and(numbers, pa.scalar(0x1_FFFF))
        else:
            offsets = pa.array(range(0, 32 * (rows + 1), 32), pa.int32()).buffers()[1]
            digits = pa.py_buffer(rng.randbytes(16 * rows).hex().encode())
            data[f"c{column}"] = pa.StringArray.from_buffers(rows, offsets, digits)
    return pa.table(data)


def put(bucket, number, rows, writer=None, **options):
    writer = number if writer is None else writer
    path = bucket / f"data/n/{START_MS + number}-w{writer:04}-{number}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, **options)


@shape(128, 32)
def wide_snappy(bucket):
    for number in range(200):
        put(bucket, number, table(100, number, 200))


@shape(128, 32, quick=True)
def wide_zstd(bucket):
    for number in range(200):
        put(bucket, number, table(100, number, 200), compression="zstd")


@shape(128, 16, quick=True)
def many_zstd(bucket):
    for number in range(1000):
        put(bucket, number, table(50, number, 20), writer=number % 100, compression="zstd")


@shape(64, 128, quick=True)
def alike(bucket):
    same = table(3000, 1, 150, "text")
    for number in range(16):
        put(bucket, number, same, row_group_size=500)


@shape(16, 64)
def small_groups(bucket):
    for number in range(48):
        put(bucket, number, table(20_000, number, 4, "text"), row_group_size=2000)


@shape(32, 128)
def ordinary(bucket):
    for number in range(64):
        put(bucket, number, table(20_000, number, 4, "text"))


@shape(128)
def indexed(bucket):
    put(bucket, 0, table(1_000_000, 1, 7, "text"), write_page_index=True)
    put(bucket, 1, table(1000, 2, 7, "text"))


@shape(128, too_large={0})
def one_group(bucket):
    put(bucket, 0, table(1_000_000, 1, 7, "text"))
    put(bucket, 1, table(1000, 2, 7, "text"))


@shape(128)
def wide_long(bucket):
    for number in range(8):
        put(bucket, number, table(20_000, number, 200), compression="zstd")


@shape(32, table=300_000)
def of_a_large_table(bucket):
    for number in range(16):
        put(bucket, number, table(5_000, number, 4, "text"))


def large_table(path, files):
    """A table of so many files, none of which is there, whose next commit is due for a checkpoint."""
    log = path / "_delta_log"
    log.mkdir(parents=True)
    fields = [("ts", "timestamp"), ("id", "long"), *((f"c{column}", "string") for column in range(4))]
    fields = [{"name": name, "type": kind, "nullable": True, "metadata": {}} for name, kind in fields]
    metadata = {"id": "t", "format": {"provider": "parquet", "options": {}}, "partitionColumns": [], "configuration": {},
                "schemaString": json.dumps({"type": "struct", "fields": fields})}
    created = [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, {"metaData": metadata}]
    per_commit = 1_000
    for version in range(files // per_commit):
        adds = []
        for number in range(version * per_commit, (version + 1) * per_commit):
            bounds = {"ts": "2024-01-01T00:00:00.000Z", "id": number, "c0": f"{number:032}"}
            stats = {"numRecords": 9, "minValues": bounds, "maxValues": bounds, "nullCount": {"ts": 0, "id": 0, "c0": 0}}
            adds.append({"add": {"path": f"gone/{number:032}.parquet", "partitionValues": {}, "size": number,
                                 "modificationTime": number, "dataChange": True, "stats": json.dumps(stats)}})
        actions = created + adds if version == 0 else adds
        (log / f"{version:020}.json").write_text("\n".join(map(json.dumps, actions)))
    DeltaTable(str(path)).create_checkpoint()


def measure(arguments):
    """Runs a command; its exit code, output, peak of resident bytes and seconds."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(arguments, stdout=out, stderr=err, env={**os.environ, **ALLOCATOR})
        peak = 0

        def watch():
            nonlocal peak
            while process.poll() is None:
                try:
                    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                except OSError:
                    break
                found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
                peak = max([peak, *(int(kib) << 10 for kib in found)])
                time.sleep(0.005)

        watcher = threading.Thread(target=watch)
        watcher.start()
        process.wait()
        watcher.join()
        out.seek(0), err.seek(0)
        return process.returncode, out.read(), err.read(), peak, time.monotonic() - began


def check(program, name, directory):
    write, budget, _, options = SHAPES[name]
    bucket, tables = directory / "bucket", directory / "tables"
    write(bucket)
    if "table" in options:
        large_table(tables / "n", options["table"])
    files = list(bucket.rglob("*.parquet"))
    # By number; what a budget is too small for is set aside, and nothing else is.
    too_large = {file.name for file in files if int(file.stem.rsplit("-", 1)[1]) in options.get("too_large", ())}
    rows = sum(pq.read_metadata(file).num_rows for file in files if file.name not in too_large)
    size = sum(os.path.getsize(file) for file in files)
    arguments = [*program, "--bucket", str(bucket), "--tables", str(tables), "--now", NOW, "--sort-key", "ts,id"]
    arguments += ["--drain", "--json", "--memory", f"{budget}MiB"]
    code, out, err, peak, seconds = measure(arguments)
    document = json.loads(out)
    wrong = []
    held = quarantined(document)
    if code != (WRONG if too_large else OK) or {pathlib.Path(key).name for key in held} != too_large:
        wrong.append(f"exit code {code}: {document['errors']} {list(held.values())[:3]} ({len(held)}) {err[-500:]}")
    else:
        found = [pq.ParquetFile(file) for file in data_files(tables / "n") if pathlib.Path(file).exists()]
        count = sum(file.metadata.num_rows for file in found)
        groups = sum(file.metadata.num_row_groups for file in found)
        if count != rows:
            wrong.append(f"{count} rows of {rows}")
        for file in found:
            keys = file.read(["ts", "id"])
            if keys != keys.sort_by([("ts", "ascending"), ("id", "ascending")]):
                wrong.append("not sorted")
    if peak > budget * MIB + BEYOND_THE_BUDGET:
        wrong.append("beyond the budget")
    more = "" if wrong else f", {len(found)} files of {groups} row groups"
    told = f"{name}: {len(files)} files of {size >> 20} MiB, peak {peak >> 20} MiB, {seconds:.1f} s{more}"
    print(("FAIL " if wrong else "ok  ") + told, *wrong, sep="\n     ", flush=True)
    return not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all shapes")
    parser.add_argument("--keep", action="store_true", help="keep the directory")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    program = command()
    chosen = [n for n in SHAPES if (n in args.names or n.split("@")[0] in args.names if args.names else args.full or SHAPES[n][2])]
    directory = pathlib.Path(tempfile.mkdtemp(prefix="firnline-memory-"))
    try:
        well = True
        for name in chosen:
            well &= check(program, name, directory / name)
            if not args.keep:
                shutil.rmtree(directory / name)
    finally:
        if args.keep:
            print(f"kept {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
