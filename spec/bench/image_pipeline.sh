#!/usr/bin/env bash
# JPEG files to normalised float tensors [3,224,224], one core: the engine beside Pillow, on made photos of three sizes
# and, where DISTAC_TEST_DATA names it, on real ones. Prints images per second and where the time goes.
#   spec/bench/image_pipeline.sh [SECONDS-PER-SET]      needs build/, python3-pil and
# python3-numpy; PYTHON names the interpreter
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-2}
python=${PYTHON:-python3}
ninja -C build bench_images >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" spec/bench/pillow_images.py make "$work"
core=$("$python" -c 'import os; print(max(os.sched_getaffinity(0)))')

beside() { # NAME FILE...
    local name=$1
    shift
    [ $# -gt 0 ] && [ -e "$1" ] || return 0
    echo "== $name: $# files"
    taskset -c "$core" build/spec/bench_images "$seconds" "$@" | tee "$work/ours"
    taskset -c "$core" "$python" spec/bench/pillow_images.py "$seconds" "$@" | tee "$work/theirs"
    paste "$work/ours" "$work/theirs" | sed -E 's/.* ([0-9]+) images\/s.* ([0-9]+) images\/s.*/\1 \2/' |
        awk '{ printf "ratio %.2f\n", $1 / $2 }'
}

for size in 1600x1200 500x375 256x256 64x64; do beside "made $size" "$work/$size"/*.jpg; done
data=${DISTAC_TEST_DATA:-}
if [ -n "$data" ]; then
    shopt -s nullglob globstar
    for set in dtd cars eurosat; do
        files=("$data/$set"/**/*.jpg)
        beside "$set" "${files[@]:0:200}"
    done
fi
