#!/usr/bin/env bash
# Times the engine beside PyTorch on the same work in the same minutes, three rounds in turn, and prints the table with
# the ratio against PyTorch's best setting. Needs python3-torch.
#   spec/bench/run.sh [BUILD [THREADS [SIZE]]]      SIZE: mini8 (the default) or b32, CLIP's ViT-B/32 at batch 32
# b32 times f32 and bfloat16 products, peaks of memory, and ends with a table of every kernel at these shapes. PyTorch is
# tuned with the OpenMP build of OpenBLAS if OPENBLAS_OPENMP (a folder with its libraries, by default the one that Debian
# installs) is there. PYTHON: the interpreter, ROUNDS: how often, 3 by default, REPEATS: of each
# measurement, 60 by default for mini8 and 5 for b32.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build} threads=${2:-2} size=${3:-mini8}
if [ "$size" = b32 ]; then repeats=${REPEATS:-5}; else repeats=${REPEATS:-60}; fi
python=${PYTHON:-/usr/bin/python3}
"$python" -c 'import torch' 2>/dev/null || { echo "$python has no torch: install python3-torch or set PYTHON" >&2; exit 1; }
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE || true
openmp=${OPENBLAS_OPENMP:-/usr/lib/$(uname -m)-linux-gnu/openblas-openmp}
# huge pages, and memory that was freed stays with the process: a tenth of PyTorch's training step in float32
kept=glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=34359738368
kept+=:glibc.malloc.top_pad=67108864
out=$(mktemp)
trap 'rm -f "$out"' EXIT
torch() { "$python" spec/bench/torch_steps.py "$@" >>"$out"; }
tuned() {
    local libraries=()
    if [ -d "$openmp" ]; then libraries=("LD_LIBRARY_PATH=$openmp"); fi
    env "${libraries[@]}" ATEN_CPU_CAPABILITY=avx512 GLIBC_TUNABLES="$kept" \
        "$python" spec/bench/torch_steps.py "$@" >>"$out"
}
ninja -C "$build" bench_kernels >/dev/null
for ((round = 0; round < ${ROUNDS:-3}; round++)); do
    if [ "$size" = b32 ]; then
        for products in f32 bf16; do
            for part in forward train kd; do
                "$build/distac" spec/bench/steps.lua "$threads" b32 $products $part "$repeats" >>"$out"
                tuned "$threads" b32 $products $part "$repeats"
            done
        done
    else
        "$build/distac" spec/bench/steps.lua "$threads" "$size" f32 forward,train,kd "$repeats" >>"$out"
        torch 0 "$size" f32 forward,train,kd "$repeats"
        torch "$threads" "$size" f32 forward,train,kd "$repeats"
        ATEN_CPU_CAPABILITY=avx512 torch 0 "$size" f32 forward,train,kd "$repeats"
        ATEN_CPU_CAPABILITY=avx512 OMP_WAIT_POLICY=passive torch "$threads" "$size" f32 forward,train,kd "$repeats"
        tuned "$threads" "$size" f32 forward,train,kd "$repeats"
    fi
done
if [ "$size" = b32 ]; then torch 0 b32 f32 forward,train 3; fi # as it comes
peak() { "$build/spec/bench_kernels" --peak "$@" "$threads" | awk '/multiply-adds/ { print $(NF-1) }'; }
"$python" - "$out" "$(peak)" "$(peak --bf16)" <<'PY'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
peaks = {"f32": float(sys.argv[2]), "bf16": float(sys.argv[3])}
median = lambda v: sorted(v)[len(v) // 2]
parts = ("forward", "train", "kd")
for products in ("f32", "bf16"):
    chosen = [r for r in rows if r["products"].split()[0] == products]
    if not chosen:
        continue
    values, memory = {}, {}
    for r in chosen:
        name = (r["engine"], r.get("setting", r.get("kernels")), r["threads"])
        alone = [p for p in parts if p + "_ms" in r]
        for p in alone:
            values.setdefault(name, {}).setdefault(p, []).append(r)
        if len(alone) == 1:
            memory.setdefault(name, {}).setdefault(alone[0], []).append(r["rss_mb"])
    wide = max(len(name[1]) for name in values) + 2
    print(f"{products} products\n{'engine':<18}{'setting':<{wide}}{'threads':>8}"
          + "".join(f"{p + ' ms':>12}" for p in parts))
    for name, of in values.items():
        cell = lambda p: f"{median([r[p + '_ms'] for r in of[p]]):>12.2f}" if p in of else f"{'':>12}"
        print(f"{name[0]:<18}{name[1]:<{wide}}{name[2]:>8}" + "".join(map(cell, parts)))
    ours = next(of for name, of in values.items() if name[0].startswith("distac"))
    for what, pick in (("medians", median), ("least", min)):
        key = "_ms" if what == "medians" else "_least_ms"
        line = f"ratio against PyTorch's best, {what}:"
        for p in parts:
            if p + key in rows[0] or what == "medians" or any(p + key in r for r in chosen):
                theirs = min(pick([r[p + key] for r in of[p]]) for name, of in values.items()
                             if name[0].startswith("PyTorch") and p in of)
                line += f"  {p} {theirs / pick([r[p + key] for r in ours[p]]):.2f}x"
        print(line)
    if rows[0]["size"] == "b32": # one setting, measured in turn
        theirs = next(of for name, of in values.items() if name[0].startswith("PyTorch"))
        for p in parts:
            ratios = [b[p + "_ms"] / a[p + "_ms"] for a, b in zip(ours[p], theirs[p])]
            print(f"ratios of the rounds, {p}: " + " ".join(f"{r:.2f}" for r in ratios))
    share = lambda p: 100 * max(r[p + "_gflops"] for r in ours[p]) / peaks[products]
    print(f"multiply-add peak of this run: {peaks[products]:.0f} GFLOP/s; share, counting what PyTorch computes:"
          + "".join(f"  {p} {share(p):.0f} %" for p in parts))
    for name, of in memory.items():
        print(f"peak of resident memory, {name[0]}:" + "".join(f"  {p} {median(of[p])} MB" for p in parts if p in of))
    print()
PY
if [ "$size" = b32 ]; then
    for products in "" --bf16; do "$build/spec/bench_kernels" $products "$threads" auto 768 12 50 32; done
fi
