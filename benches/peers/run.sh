#!/usr/bin/env bash
# Measures the merger beside its peers; see README.md. `run.sh --help` lists the options.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

venv=target/peers/venv
requirements=benches/peers/requirements.txt
if ! cmp --silent "$requirements" "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --retries 5 -r "$requirements"
    cp "$requirements" "$venv/requirements.txt" # last, so that half an installation is not taken for a whole one
fi
exec "$venv/bin/python" benches/peers/run.py "$@"
