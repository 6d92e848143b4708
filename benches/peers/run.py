"""Measures the merger beside its peers. `run.sh` makes what this needs."""

import argparse
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
from dataclasses import asdict

import cases
import engines
import report
from measure import Failed, run, two_cpus
from workloads import input_files

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HOME = ROOT / "target" / "peers"
OURS = "ours"
# What a quick run divides the rows of every file by.
QUICK = 8
BUDGET_MIB = 128
# glibc keeps the holes of many threads' arenas otherwise; see the documentation of `firnline::merge`.
TIGHT_MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "32768"}


def arguments():
    parser = argparse.ArgumentParser(prog="run.sh", description="Measures the merger beside its peers.")
    parser.add_argument("--quick", action="store_true", help="an eighth of the rows, two pairs")
    parser.add_argument("--case", nargs="+", default=[], metavar="NAME", choices=cases.NAMES, help=", ".join(cases.NAMES))
    parser.add_argument("--peer", nargs="+", default=[], metavar="NAME", choices=list(engines.ENGINES))
    parser.add_argument("--pairs", type=int, help="how often each pair is run (5; quick: 2)")
    parser.add_argument("--ours", type=pathlib.Path, help="a merge command built before, to be measured in its place")
    given = parser.parse_args()
    given.pairs = given.pairs or (2 if given.quick else 5)
    return given


def built():
    """The merge command, built once and then started without cargo."""
    build = ["cargo", "build", "--release", "--example", "merge", "--message-format", "json"]
    lines = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return next(path for path in map(lambda line: json.loads(line).get("executable"), lines) if path)


class Bench:
    def __init__(self, given):
        self.given = given
        self.ours = given.ours or built()
        self.cpus = two_cpus()
        self.out = HOME / "out"
        self.divisor = QUICK if given.quick else 1

    def python(self, script, *parts, **kwargs):
        """Runs one of the scripts beside this one; not to be measured."""
        command = [sys.executable, HERE / script, *parts]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **kwargs).stdout

    def prepare(self, workload):
        """The inputs of a case, what is asked of everyone, and what is expected of the outputs."""
        workload = workload.scaled(self.divisor) if self.divisor > 1 else workload
        # A concatenation takes the files of a sorted workload of the same name.
        made = asdict(workload) | {"sort_key": ("ts", "id")}
        directory = HOME / "data" / f"{workload.name}-{workload.rows}"
        self.python("workloads.py", directory, json.dumps(made))
        files = [str(path) for path in input_files(directory)]
        streams = len(files) if workload.late or workload.writers > 256 else workload.writers
        spec = {"input": f"{directory}/", "files": files, "sort_key": workload.sort_key, "streams": streams}
        kind = "sorted" if workload.sort_key else "concatenated"
        spec_path, expected = directory / f"{kind}.json", directory / f"{kind}-expected.json"
        text = json.dumps(spec)
        if not (expected.exists() and spec_path.exists() and spec_path.read_text() == text):
            spec_path.write_text(text)
            self.python("check.py", "expect", spec_path, expected)
        return {"workload": workload, "spec": spec, "spec_path": spec_path, "expected": expected}

    def once(self, engine, prepared, env=None, budget_mib=BUDGET_MIB):
        """One run in a process of its own; its output stays until the next one."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        spec = prepared["spec"]
        if engine == OURS:
            key = ["--sort-key", ",".join(spec["sort_key"])] if spec["sort_key"] else []
            sizes = ["--memory", f"{budget_mib}MiB", "--target-file-size", "1GiB"]
            sizes += ["--threads", str(prepared.get("threads", 2))]
            command = [self.ours, *key, *sizes, *prepared.get("options", ()), "--codec", "zstd(1)", "--json", "--output", self.out, *spec["files"]]
        else:
            if engine == "deltalake":
                self.python("engines.py", "deltalake:prepare", prepared["spec_path"], self.out)
            command = [sys.executable, HERE / "engines.py", engine, prepared["spec_path"], self.out]
        env = engines.ENVIRONMENT | {"PYTHONDONTWRITEBYTECODE": "1"} | (env or {})
        done = run(command, env, self.cpus)
        done.size_mb = sum(path.stat().st_size for path in self.outputs(engine, spec)) / 1e6
        return done

    def outputs(self, engine, spec):
        inputs = {pathlib.Path(file).name for file in spec["files"]} if engine == "deltalake" else ()
        return sorted(path for path in self.out.glob("*.parquet") if path.name not in inputs)

    def check(self, engine, prepared, workload):
        """What the last output is like; a peer need not sort, and need not keep the order of equal keys."""
        files = json.dumps([str(path) for path in self.outputs(engine, prepared["spec"])])
        found = json.loads(self.python("check.py", "output", prepared["spec_path"], prepared["expected"], files))
        wanted = {"rows", "content"}
        if engine not in ("copy", "deltalake"):
            wanted.add("order")
            if engine == OURS or not workload.ties:
                wanted.add("exact")
        wrong = sorted(what for what in wanted if found[what] is False)
        if wrong and engine == OURS:
            raise SystemExit(f"ours is wrong: {workload.name}: {', '.join(wrong)}")
        return {**found, "wrong": wrong}

    def pairs(self, case, peer, prepared, checks):
        """Both in turn, so that what slows the machine slows both."""
        runs = {OURS: [], peer: []}
        for pair in range(self.given.pairs):
            for engine in (OURS, peer):
                try:
                    runs[engine].append(self.once(engine, prepared))
                except Failed as failure:
                    raise Failed(f"{engine}: {failure}") from failure
                if engine not in checks:
                    checks[engine] = self.check(engine, prepared, prepared["workload"])
            print(f"  {case.name} {peer} {pair + 1}/{self.given.pairs}", file=sys.stderr, flush=True)
        return runs

    def case(self, case):
        own = {"threads": case.threads, "options": case.options}
        prepared, checks = self.prepare(case.workload) | own, {}
        spec = prepared["spec"]
        size_mb = sum(os.path.getsize(file) for file in spec["files"]) / 1e6
        result = {"name": case.name, "about": case.about, "rows": prepared["workload"].total_rows}
        result |= {"files": len(spec["files"]), "input_mb": size_mb, "peers": [], "checks": checks}
        for peer in case.peers:
            if self.given.peer and peer not in self.given.peer:
                continue
            try:
                runs = self.pairs(case, peer, prepared, checks)
                result["peers"].append({"name": peer, "pairs": report.pairs_of(runs, OURS, peer)})
            except Failed as failure:
                result["peers"].append({"name": peer, "failed": str(failure)})
        return result

    def memory(self):
        """Peak memory of our whole process, by fan-in and budget, with two settings of the allocator."""
        rows = []
        for name, budgets in cases.MEMORY.items():
            prepared = self.prepare(cases.BY_NAME[name].workload)
            for budget_mib in budgets:
                for malloc, env in (("default", {}), ("tight", TIGHT_MALLOC)):
                    done = self.once(OURS, prepared, env, budget_mib)
                    limit_mb = (budget_mib + cases.MEMORY_ALLOWANCE_MIB) * 1.048576
                    counted = done.said["peakMemoryBytes"] / 1e6
                    row = {"streams": prepared["workload"].writers, "budget_mib": budget_mib, "malloc": malloc}
                    row |= {"rss_mb": done.rss_mb, "counted_mb": counted, "limit_mb": limit_mb, "wall": done.wall}
                    rows.append(row)
                    print(f"  memory {name} {budget_mib} MiB {malloc}", file=sys.stderr, flush=True)
        return rows

    def starts(self, peers):
        """What a process of each takes before it has done anything; part of all figures."""
        env = engines.ENVIRONMENT
        commands = {peer: [sys.executable, HERE / "engines.py", peer, "--start"] for peer in peers}
        commands[OURS] = [self.ours, "--help"]
        best = {}
        for name, command in commands.items():
            if name == OURS:
                command = ["sh", "-c", f"'{self.ours}' --help > /dev/null"]
            runs = [run(command, env, self.cpus) for _ in range(3)]
            best[name] = {"wall": min(r.wall for r in runs), "cpu": min(r.cpu for r in runs), "rss_mb": runs[0].rss_mb}
        return best


def only_one():
    """Keeps others from measuring at the same time, which would measure each other, until the process ends."""
    HOME.mkdir(parents=True, exist_ok=True)
    lock = open(HOME / "lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("another run is under way in target/peers")
    return lock


def main():
    given = arguments()
    lock = only_one()
    bench = Bench(given)
    chosen, wants_memory = cases.chosen(given.case)
    results = {"quick": given.quick, "pairs": given.pairs, "load_before": os.getloadavg(), "cases": []}
    for case in chosen:
        results["cases"].append(bench.case(case))
        report.write(results, HOME)
    if wants_memory:
        results["memory"] = bench.memory()
    measured = {peer["name"] for case in results["cases"] for peer in case["peers"]}
    results["starts"] = bench.starts(sorted(measured))
    results["load_after"] = os.getloadavg()
    shutil.rmtree(bench.out, ignore_errors=True)
    print(report.write(results, HOME))
    lock.close()


if __name__ == "__main__":
    main()
