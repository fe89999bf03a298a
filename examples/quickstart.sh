#!/usr/bin/env bash
# From a fresh clone to the paper's result: installs what is missing, builds, runs the low-confidence recipe on the
# embedded benchmark, prints the table, writes report and pictures to runs/low_confidence. Run it again: nothing
# is done twice.
set -euo pipefail
cd "$(dirname "$0")/.."

bash examples/install.sh
mkdir -p build
echo "building (log: build/build.log)" >&2
{ cmake -S . -B build -G Ninja && ninja -C build; } >build/build.log 2>&1 || { tail -n 60 build/build.log >&2; exit 1; }

build/distac run recipes/low_confidence.lua "$@"
