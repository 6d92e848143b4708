"""What is measured beside ours, each configured to write the same: zstd level 1, two threads, one file.

Usage: engines.py NAME SPEC OUT; the SPEC is a JSON file: `input` (a directory), `files` (in (writer, sequence) order),
`sort_key`, `writers`. Prints a JSON document with what is worth knowing. `engines.py NAME --start` only starts.
"""

import json
import pathlib
import shutil
import sys

THREADS = 2
# Set before the process starts, since some read them when they are imported.
ENVIRONMENT = {"POLARS_MAX_THREADS": "2", "RAYON_NUM_THREADS": "2", "TOKIO_WORKER_THREADS": "2", "OMP_NUM_THREADS": "2"}


def copy(spec, out):
    for file in spec["files"]:
        shutil.copyfile(file, out / pathlib.Path(file).name)


def datafusion_merge(spec, out):
    """As an expert would have it: the declared order of the files makes it a merge of as many streams as can be."""
    from datafusion import SessionConfig, SessionContext, col

    # Each partition is a chain of files that follow each other; there must be room for as many as it takes.
    partitions = max(8, spec["streams"])
    config = SessionConfig().with_target_partitions(partitions).with_repartition_file_scans(False)
    for key in ("execution.split_file_groups_by_statistics", "execution.collect_statistics"):
        config = config.set(f"datafusion.{key}", "true")
    config = config.set("datafusion.optimizer.prefer_existing_sort", "true")
    context = SessionContext(config)
    order = [[col(name).sort(ascending=True, nulls_first=False) for name in spec["sort_key"]]]
    context.register_listing_table("events", spec["input"], file_extension=".parquet", file_sort_order=order)
    return datafusion_copy(context, spec, out)


def datafusion_user(spec, out):
    """As the documentation has it."""
    from datafusion import SessionConfig, SessionContext

    context = SessionContext(SessionConfig().with_target_partitions(THREADS))
    context.register_parquet("events", spec["input"])
    return datafusion_copy(context, spec, out)


def datafusion_copy(context, spec, out):
    keys = ", ".join(f"{name} ASC NULLS LAST" for name in spec["sort_key"])
    query = (
        f"COPY (SELECT * FROM events ORDER BY {keys}) TO '{out}/out.parquet' "
        "STORED AS PARQUET OPTIONS (compression 'zstd(1)')"
    )
    plan = str(context.sql(f"EXPLAIN {query}").to_pydict())
    context.sql(query).collect()
    return {"merges": "SortPreservingMergeExec" in plan and "SortExec:" not in plan}


def duckdb(spec, out):
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {THREADS}")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET temp_directory = '{out}/tmp'")
    connection.execute(
        f"COPY (SELECT * FROM read_parquet($files) ORDER BY {', '.join(spec['sort_key'])}) "
        f"TO '{out}/out.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)",
        {"files": spec["files"]},
    )


def polars(spec, out):
    import polars

    scan = polars.scan_parquet(spec["files"])
    scan.sort(spec["sort_key"]).sink_parquet(out / "out.parquet", compression="zstd", compression_level=1)


def pyarrow(spec, out):
    import pyarrow
    import pyarrow.parquet as parquet

    pyarrow.set_cpu_count(THREADS)
    pyarrow.set_io_thread_count(THREADS)
    table = parquet.read_table(spec["files"])
    table = table.sort_by([(name, "ascending") for name in spec["sort_key"]])
    parquet.write_table(table, out / "out.parquet", compression="zstd", compression_level=1)


def deltalake(_spec, out):
    """Concatenates: it puts files together in the order in which it finds them, and sorts nothing."""
    from deltalake import DeltaTable, WriterProperties

    table = DeltaTable(out)
    properties = WriterProperties(compression="ZSTD", compression_level=1)
    table.optimize.compact(target_size=1 << 30, max_concurrent_tasks=THREADS, writer_properties=properties)
    return {"sorts": False}


def prepare_deltalake(spec, out):
    """The inputs as a table, before anything is measured."""
    from deltalake import convert_to_deltalake

    for file in spec["files"]:
        path = pathlib.Path(file)
        (out / path.name).hardlink_to(path)
    convert_to_deltalake(str(out))


ENGINES = {
    "copy": (copy, []),
    "datafusion-merge": (datafusion_merge, ["datafusion"]),
    "datafusion-user": (datafusion_user, ["datafusion"]),
    "deltalake": (deltalake, ["deltalake"]),
    "duckdb": (duckdb, ["duckdb"]),
    "polars": (polars, ["polars"]),
    "pyarrow": (pyarrow, ["pyarrow", "pyarrow.parquet"]),
}

if __name__ == "__main__":
    name, spec_path, *rest = sys.argv[1:]
    # This module has functions of the same names as the packages.
    engine, packages = ENGINES[name.removesuffix(":prepare")]
    if spec_path == "--start":
        for package in packages:
            __import__(package)
        sys.exit()
    asked, directory = json.loads(pathlib.Path(spec_path).read_text()), pathlib.Path(rest[0])
    said = prepare_deltalake(asked, directory) if name.endswith(":prepare") else engine(asked, directory)
    print(json.dumps(said or {}))
