#!/usr/bin/env bash
# Runs every fuzz target for so many seconds (60), one after the other; ends at the first finding.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
seconds=${1:-60}
for target in fuzz_targets/*.rs; do
    name=$(basename "$target" .rs)
    echo "=== $name"
    cargo +nightly fuzz run --fuzz-dir . --sanitizer none "$name" -- \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1
done
