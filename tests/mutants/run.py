"""Proves that the tests find defects: each patch beside this file is one, and the tests that it names must fail.

    run.py [--list] [NAME...]

With NAMEs only the patches of these names are tried. What `git apply` ignores before a patch's first file says

    # defect: what is wrong, in a sentence
    # tests: arguments of `cargo test`: the fewest tests that must fail
    # env: NAME=value, for these tests (may be left out)

Without any patch all these tests must pass. Then each patch is applied to a copy of the tracked files in
`target/mutants/tree` and built, its tests are run, and it is taken back; what they say is in
`target/mutants/NAME.txt`. The exit code is 0 if every defect is caught. A patch that does not apply or compile is not;
tests that take longer than TIMEOUT have found something.
"""

import argparse
import collections
import os
import pathlib
import shlex
import signal
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "target" / "mutants"
TREE = WORK / "tree"
CARGO = ["cargo", "test", "--locked", "--all-features", "--quiet"]
TIMEOUT = 600
UNPATCHED_TIMEOUT = 3_600

CAUGHT, MISSED, DOES_NOT_APPLY, DOES_NOT_COMPILE = "caught", "MISSED", "does not apply", "does not compile"

Mutant = collections.namedtuple("Mutant", "name path defect tests env")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the defects, and try none")
    args = parser.parse_args()
    mutants = {path.stem: read(path) for path in sorted(HERE.glob("*.patch"))}
    if unknown := [name for name in args.names if name not in mutants]:
        parser.error(f"no such mutant: {', '.join(unknown)}")
    chosen = [mutants[name] for name in args.names] or list(mutants.values())
    if args.list:
        for mutant in chosen:
            print(f"{mutant.name}: {mutant.defect}")
        return 0
    copy_tree()
    if not unpatched(chosen):
        return 1
    results = collections.Counter()
    for mutant in chosen:
        result = attempt(mutant)
        results[result] += 1
        print(result, mutant.name, flush=True)
    print(f"{len(chosen)} mutants, {results[CAUGHT]} caught, {results[MISSED]} missed")
    return 0 if results[CAUGHT] == len(chosen) else 1


def read(path):
    head = {"env": ""}
    for line in path.read_text().splitlines():
        if not line.startswith("# "):
            break
        key, _, value = line[2:].partition(": ")
        head[key] = value
    if missing := {"defect", "tests"} - head.keys():
        sys.exit(f"{path.name} does not say: {', '.join(sorted(missing))}")
    env = tuple(tuple(pair.split("=", 1)) for pair in shlex.split(head["env"]))
    return Mutant(path.stem, path, head["defect"], tuple(shlex.split(head["tests"])), env)


def copy_tree():
    """What has not changed keeps its time, so that cargo builds no more than it must."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    wanted = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    for name in wanted:
        content, copy = (ROOT / name).read_bytes(), TREE / name
        if not copy.is_file() or copy.read_bytes() != content:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
    for copy in TREE.rglob("*"):
        if copy.is_file() and str(copy.relative_to(TREE)) not in wanted:
            copy.unlink()


def unpatched(mutants):
    """Whether the tests that any of the mutants names pass as they should."""
    filters = {}
    for mutant in mutants:
        target, names = split(mutant.tests)
        filters.setdefault((target, mutant.env), set()).update(names or [""])
    for (target, env), names in filters.items():
        tests = [*target, "--", *([] if "" in names else sorted(names))]
        said = WORK / "unpatched.txt"
        built = cargo([*target, "--no-run"], env, UNPATCHED_TIMEOUT, said) == 0
        if not built or cargo(tests, env, UNPATCHED_TIMEOUT, said) != 0:
            print(said.read_text(), file=sys.stderr)
            print(f"without any patch this fails: {' '.join(CARGO + tests)}", file=sys.stderr)
            return False
    return True


def split(tests):
    """The target of `cargo test`, and the names of tests or parts of them."""
    if "--" in tests:
        at = tests.index("--")
        return tests[:at], tests[at + 1 :]
    options = tuple(word for word in tests if word.startswith("-"))
    return options, tuple(word for word in tests if not word.startswith("-"))


def attempt(mutant):
    if not git_apply(mutant.path):
        return DOES_NOT_APPLY
    said = WORK / f"{mutant.name}.txt"
    try:
        target, _ = split(mutant.tests)
        if cargo([*target, "--no-run"], mutant.env, UNPATCHED_TIMEOUT, said) != 0:
            print(said.read_text(), file=sys.stderr)
            return DOES_NOT_COMPILE
        return MISSED if cargo(mutant.tests, mutant.env, TIMEOUT, said) == 0 else CAUGHT
    finally:
        if not git_apply(mutant.path, "--reverse"):
            sys.exit(f"cannot be taken back: {mutant.name}")


def git_apply(patch, *options):
    # Outside of the repository that the tree lies in, whose index would decide what is there.
    env = os.environ | {"GIT_CEILING_DIRECTORIES": str(WORK)}
    done = subprocess.run(["git", "apply", *options, str(patch)], cwd=TREE, env=env, stderr=subprocess.DEVNULL)
    return done.returncode == 0


def cargo(arguments, env, timeout, said):
    """The exit code of `cargo test`, or of the signal that ends it when its time is over."""
    ours = ("FIRNLINE_", "CARGO_PROFILE_", "CARGO_TARGET_DIR")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    settings = {"CARGO_TARGET_DIR": str(WORK / "target"), "CARGO_INCREMENTAL": "1", "CARGO_PROFILE_DEV_DEBUG": "0"}
    env = inherited | settings | dict(env)
    with open(said, "w") as output:
        process = subprocess.Popen(
            [*CARGO, *arguments], cwd=TREE, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


if __name__ == "__main__":
    sys.exit(main())
