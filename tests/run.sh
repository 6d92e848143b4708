#!/usr/bin/env bash
# Runs all tests: those in Rust, then the tables that we write read back by deltalake, DuckDB and PyIceberg.
#
# Needs cargo, a C compiler and Python 3.10 or later with venv; the Python packages are installed under target/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Optimised, the tests take a quarter of the time, which is more than they take longer to compile.
export CARGO_PROFILE_DEV_OPT_LEVEL=1
export FIRNLINE_EVERY=1
cargo test --all-features
# What a compactor promises, and whole runs under every fault, once more at the end of which are Iceberg tables.
FIRNLINE_FORMAT=iceberg cargo test --all-features --test it -- faults:: compactor:: \
    --skip compactor::schemas --skip compactor::types --skip delta:: --skip merge:: --skip state_faults::

venv=target/ci-venv
requirements=tests/interop/requirements.txt
if ! cmp --silent "$requirements" "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    for attempt in 1 2 3; do
        "$venv/bin/pip" install --quiet --disable-pip-version-check --retries 5 -r "$requirements" && break
        [ "$attempt" -lt 3 ] || exit 1
        sleep $((attempt * 10))
    done
    cp "$requirements" "$venv/requirements.txt" # last, so that half an installation is not taken for a whole one
fi
"$venv/bin/python" tests/interop/run.py "$@"
"$venv/bin/python" tests/interop/iceberg.py
"$venv/bin/python" tests/interop/drift.py
"$venv/bin/python" tests/interop/fidelity.py
"$venv/bin/python" tests/interop/cli.py
"$venv/bin/python" tests/interop/kill.py --rounds 4
"$venv/bin/python" tests/interop/kill.py --rounds 4 --format iceberg
