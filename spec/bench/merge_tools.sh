#!/usr/bin/env bash
# Merges of files beside mergekit and sd-mecha, warm: seconds and peak GiB of the whole process (mapped file pages
# included, ours too), and how far the outputs are apart: |theirs - ours| / |ours - base|, largest of one element.
#   spec/bench/merge_tools.sh FOLDER METHOD...     FOLDER: base.safetensors, m1.safetensors ... (make_models.lua)
# MERGE_TOOLS names a Python interpreter with mergekit, sd-mecha, numpy, safetensors; REPS and PEER_REPS how often.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${MERGE_TOOLS:?names a Python interpreter with mergekit and sd-mecha}"
export MERGE_TOOLS
unset OPENBLAS_CORETYPE
models=$1
shift
work=$(mktemp -d "${WORK:-/tmp}/merge_tools-XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "distac $("$here/../../build/distac" version | sed -n '1s/^distac //p'), $("$MERGE_TOOLS" "$here/merge_tools.py" versions)"
echo "| method | tool | seconds | peak, GiB | to distac's: relative, largest |"
echo "|---|---|---|---|---|"
for method in "$@"; do
    "$MERGE_TOOLS" "$here/merge_tools.py" run "$here/../../build/distac" "$method" "$work" "$models/base.safetensors" "$models"/m[0-9]*.safetensors
done
