#!/usr/bin/env bash
# Merges beside the lean PyTorch formulation in one run: prints one table with the seconds of both, the ratio, both errors to
# float64 and the engine's peak of memory. Needs python3 with torch, numpy and safetensors.
#   spec/bench/merge.sh [BUILD [THREADS [FOLDER]]]
# FOLDER holds, or is filled with, base and eight models of a ViT-B/32 (3.2 GB) and the layers of the TSVM benchmark; by
# default a temporary one. PARTS: memory, tsvm, steps (where the time goes), all by default; files: what merging files holds
# beside file pages, of models in FOLDER, or in PEAKS, a folder with base and eight of a ViT-L/14 (12 GB, make_models.lua l14).
# REPS: of each measurement, 3. SPECTRA: see tsvm.py. PYTHON: the interpreter. PyTorch is tuned with the OpenMP build of
# OpenBLAS if OPENBLAS_OPENMP (a folder with its libraries, by default
# the one that Debian installs) is there. Errors of the elementwise methods: spec/golden/check_merge.py.
# memory: task vectors in memory to the merged one in memory. tsvm: the four matrices of a layer, in memory.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build} threads=${2:-2} folder=${3:-}
python=${PYTHON:-python3} reps=${REPS:-3}
"$python" -c 'import torch, safetensors' || { echo "$python has no torch or safetensors: set PYTHON" >&2; exit 1; }
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE || true
lines=$(mktemp)
made=
trap 'rm -rf "$lines" $made' EXIT
if [ -z "$folder" ]; then made=$(mktemp -d) folder=$made; fi
tuned=(env ATEN_CPU_CAPABILITY=avx512 GLIBC_TUNABLES=glibc.malloc.hugetlb=1 THREADS="$threads" REPS="$reps")
openmp=${OPENBLAS_OPENMP:-/usr/lib/$(uname -m)-linux-gnu/openblas-openmp}
if [ -d "$openmp" ]; then tuned+=("LD_LIBRARY_PATH=$openmp"); fi
for part in ${PARTS:-memory tsvm steps}; do
    if [ "$part" = steps ]; then continue; fi
    if [ "$part" = files ]; then
        [ -f "${PEAKS:-$folder}/m8.safetensors" ] || "$build/distac" spec/bench/make_models.lua b32 "$folder" 8
        "$python" spec/bench/merge_peaks.py "$build/distac" "${PEAKS:-$folder}" "$folder" average task_arithmetic ties ties:4 \
            ties:2 consensus_ta tall_mask dare dare_ties lines slerp nuslerp model_stock breadcrumbs della pcb tsvm
    elif [ "$part" = memory ]; then
        [ -f "$folder/m8.safetensors" ] || "$build/distac" spec/bench/make_models.lua b32 "$folder" 8
        "${tuned[@]}" BUILD="$build" METHODS="consensus_ta ties" "$python" spec/bench/merge_peers.py "$folder/base.safetensors" \
            "$folder"/m[1-8].safetensors >>"$lines"
    else
        "${tuned[@]}" "$python" spec/bench/tsvm.py --build "$build" --threads "$threads" --rounds "$reps" --json "$lines" \
            --spectra "${SPECTRA:-gauss,root,inverse,corr}" --data "$folder" >/dev/null
    fi
done
"$python" - "$lines" <<'PY'
import json, sys
rows = {}
for line in open(sys.argv[1]):
    row = json.loads(line)
    rows.setdefault(row["method"], {})["distac" if row["tool"].startswith("distac") else "torch"] = row
if not rows:
    sys.exit()
median = lambda v: sorted(v)[len(v) // 2]
show = lambda v, form: "-" if v is None else format(v, form)
print(f"{'method':<16}{'distac s':>10}{'PyTorch s':>11}{'ratio':>8}{'distac error':>14}{'PyTorch error':>15}{'distac GB':>11}")
for method, pair in rows.items():
    a, b = pair["distac"], pair["torch"]
    ours, theirs = median(a["seconds"]), median(b["seconds"])
    print(f"{method:<16}{ours:>10.3f}{theirs:>11.3f}{theirs / ours:>8.1f}{show(a.get('error'), '.2g'):>14}"
          f"{show(b.get('error'), '.2g'):>15}{show(a.get('peak_gb'), '.2f'):>11}")
PY
[[ " ${PARTS:-memory tsvm steps} " == *" steps "* ]] || exit 0
cmake --build "$build" --target bench_merge_memory bench_tsvm >/dev/null
"$build/spec/bench_merge_memory" "$threads" 8 "$((2 * reps + 1))"
for kind in inverse corr; do
    if [ -f "$folder/$kind/8.safetensors" ]; then "$build/spec/bench_tsvm" "$folder/$kind" "$threads" 8 "$reps"; fi
done
