"""Kills the example `compact` at random moments, again and again: every row is in the table once in the end.

Usage: kill.py [--rounds N] [--seed N] [--format delta|iceberg]

The seed is printed. The command can be replaced by the environment variable FIRNLINE_COMPACT.
"""

import argparse
import datetime as dt
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from duckdb_extensions import import_extension

import cli
from cli import FAILED, OK, WRONG, Home, data_files, duckdb_ids, quarantined
from iceberg_lint import lint

NAMESPACES = ["users", "eu/orders"]
GRACE_MS = 3_600_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="kills of each scenario")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--format", choices=["delta", "iceberg"], default="delta", help="of the tables")
    parser.add_argument("--keep", action="store_true", help="keep the directory of a failure")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)
    for extension in ("delta", "avro", "iceberg"):
        import_extension(extension)
    Home.program, Home.format = cli.command(), args.format
    directory = pathlib.Path(tempfile.mkdtemp(prefix="firnline-kill-"))
    try:
        for run in [at_work_without_grace, at_work_with_grace, while_adopting, while_replaying]:
            began = time.monotonic()
            killed = run(Home(directory / run.__name__), random.Random(f"{seed} {run.__name__}"), args.rounds)
            print(f"ok  {run.__name__}: {run.__doc__} ({killed} killed, {time.monotonic() - began:.1f} s)", flush=True)
    except BaseException:
        print(f"seed {seed}; {directory}", file=sys.stderr)
        raise
    else:
        args.keep = False
    finally:
        if not args.keep:
            shutil.rmtree(directory, ignore_errors=True)


def at_work_without_grace(home, rng, rounds):
    """several processes are killed while writers go on; with no grace sources go at once"""
    return at_work(home, rng, rounds, "0s")


def at_work_with_grace(home, rng, rounds):
    """the same with a grace, and clocks that are hours apart"""
    return at_work(home, rng, rounds, "1h")


def at_work(home, rng, rounds, grace):
    for _ in range(8):
        write(home, rng)
    bad = f"data/users/{cli.START_MS + 1}-bad-1.parquet"
    (home.bucket / bad).write_bytes(b"PAR1 but no more of it PAR1")
    killed = 0
    for _ in range(rounds):
        stop = threading.Event()
        # A generator of its own, so that timing does not change what the others draw.
        writer = threading.Thread(target=keep_writing, args=(home, random.Random(rng.random()), stop))
        writer.start()
        killed += kill_some(home, rng, [options(rng, grace) for _ in range(rng.randint(1, 3))])
        stop.set()
        writer.join()
    for attempt in range(6):
        document = home.json("--drain", "--grace", grace, now=later(days=0, hours=2 + attempt), expect=(OK, WRONG))
        assert document["status"]["halts"] == [], document
        left = sorted(path.relative_to(home.bucket).as_posix() for path in home.bucket.rglob("*.parquet"))
        if left == [bad] and not document["status"]["plans"]:
            break
    assert left == [bad], f"{len(left)} sources are left: {left[:5]}"
    assert list(quarantined(document)) == [bad], document
    for namespace in NAMESPACES:
        check(home, namespace)
    # What killed attempts have left goes after days, and nothing else.
    home.json("--grace", grace, now=later(days=5), expect=WRONG)
    for namespace in NAMESPACES:
        there = {path.name for path in (home.tables / namespace / "data").glob("*.parquet")}
        live = {pathlib.Path(name).name for name in data_files(home.tables / namespace)}
        assert there == live, f"{len(there - live)} orphans, {len(live - there)} missing in {namespace}"
        check(home, namespace)
    return killed


def while_adopting(home, rng, rounds):
    """--adopt after the control directory was lost, killed again and again, and at last not"""
    killed = 0
    for _ in range(max(1, rounds // 3)):
        write(home, rng, "users")
        home.json("--drain", "--grace", "1h", expect=(OK, WRONG), now=None)
        before = duckdb_ids(home.tables / "users")
        shutil.rmtree(home.control)
        home.json("--grace", "1h", expect=WRONG, now=None)
        for _ in range(3):
            killed += kill_some(home, rng, [["--adopt", "users", "--grace", "1h"]])
        document = home.json("--grace", "1h", expect=WRONG, now=None)
        if document["status"]["halts"]:
            document = home.json("--adopt", "users", "--grace", "1h", expect=WRONG, now=None)
        assert document["status"]["halts"] == [], document
        assert duckdb_ids(home.tables / "users") == before, "nothing is put in twice"
        decide(home, document)
        for path in home.bucket.rglob("*.parquet"):
            path.unlink()
        check(home, "users")
    return killed


def while_replaying(home, rng, rounds):
    """--replay of a table that was lost or rolled back, killed again and again, and at last not"""
    killed = 0
    for number in range(max(1, rounds // 3)):
        for _ in range(2):
            write(home, rng, "users")
        home.json("--drain", "--grace", "1h", now=None)
        table = home.tables / "users"
        log = versions(table)
        if number % 2 or len(log) < 3:
            shutil.rmtree(table)
        else:
            log[-1].unlink()
        home.json("--grace", "1h", expect=WRONG, now=None)
        for _ in range(3):
            killed += kill_some(home, rng, [["--replay", "users", "--drain", "--grace", "1h"] for _ in range(rng.randint(1, 2))])
        document = home.json("--drain", "--grace", "1h", expect=(OK, WRONG), now=None)
        if document["status"]["halts"]:
            document = home.json("--replay", "users", "--drain", "--grace", "1h", expect=(OK, WRONG), now=None)
        decide(home, document)
        check(home, "users")
    return killed


def versions(table):
    """The files that make up a table's history, oldest first."""
    if Home.format == "delta":
        return sorted((table / "_delta_log").glob("*.json"))
    return sorted((table / "metadata").glob("v*.json"), key=lambda path: int(path.name[1:].split(".")[0]))


def decide(home, document):
    """What nobody could tell, the operator looks up: it is discarded where its rows are in, else released."""
    there = set(duckdb_ids(home.tables / "users"))
    doors = []
    for key, reason in quarantined(document).items():
        assert "cannot be told" in reason, document
        doors += ["--discard" if there >= set(home.rows["users"][key]) else "--release", key]
    assert document["status"]["halts"] == [], document
    home.json("--drain", "--grace", "1h", *doors, now=None)


def options(rng, grace):
    chosen = ["--grace", grace, "--memory", rng.choice(["16MiB", "128MiB"]), "--target-file-size", "1MiB"]
    chosen += rng.choice([[], ["--drain"], ["--watch"], ["--watch", "--drain"]])
    if grace != "0s":
        chosen += rng.choice([[], ["--now", later(hours=2)]])
    return chosen


def later(days=0, hours=0):
    """A time from now on; grace and ages count from the file system's own times."""
    return (dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=days, hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(home, rng, namespace=None):
    namespace = namespace or rng.choice(NAMESPACES)
    options = {"writer": rng.choice(["a", "b-1", "c"]), "hour": rng.randrange(3), "minute": rng.randrange(60)}
    rows = rng.choice([0, 1, 100, 3000])
    # Renamed into place, as an object appears in a bucket: whole.
    scratch = Home.__new__(Home)
    scratch.bucket, scratch.rows = home.path / "being-written", {}
    key = scratch.write(namespace, rows=rows, **options)
    home.rows.setdefault(namespace, {})[key] = scratch.rows[namespace][key]
    (home.bucket / key).parent.mkdir(parents=True, exist_ok=True)
    (scratch.bucket / key).rename(home.bucket / key)


def keep_writing(home, rng, stop):
    while not stop.wait(rng.uniform(0, 0.3)):
        write(home, rng)


def kill_some(home, rng, commands):
    """Starts commands nearly at once and kills each at a moment of its own; returns how many were still running."""
    running = []
    for options in commands:
        arguments = home.arguments(*options, now=None)
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        running.append((time.monotonic() + rng.choice([0.02, 0.1, 0.5, 1.5]) * rng.random(), process))
    killed = 0
    for at, process in sorted(running, key=lambda pair: pair[0]):
        time.sleep(max(0, at - time.monotonic()))
        process.kill()
        told = process.communicate()[1]
        killed += process.returncode == -9
        assert "panicked" not in told, told
        # Two who go through one door at the same time: the second is told to look again.
        too_late = process.returncode == FAILED and "while the door was gone through" in told
        assert too_late or process.returncode in (-9, OK, WRONG), (process.args, process.returncode, told)
    return killed


def check(home, namespace):
    """Each row of every source is there once, and every file that the log names."""
    expected = home.ids(namespace)
    if not expected and not (home.tables / namespace).exists():
        return
    found = duckdb_ids(home.tables / namespace)
    if found != expected:
        extra = len(found) - len(set(found))
        missing = sorted(set(expected) - set(found))
        lost = [key for key, ids in home.rows[namespace].items() if set(ids) & set(missing)]
        raise AssertionError(f"{namespace}: {extra} rows twice, {len(missing)} missing, of {lost[:5]}")
    for name in data_files(home.tables / namespace):
        assert pathlib.Path(name).is_file(), f"{name} is in the log and not there"
    if Home.format == "iceberg":
        assert lint(home.tables / namespace) == [], lint(home.tables / namespace)
    for log in (home.tables / namespace / "_delta_log").glob("*.json"):
        for line in log.read_text().splitlines():
            added = json.loads(line).get("add")
            assert not added or (home.tables / namespace / added["path"]).is_file(), added


if __name__ == "__main__":
    main()
