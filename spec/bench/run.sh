#!/usr/bin/env bash
# Times the engine beside PyTorch on the same work in the same minutes, three rounds in turn, and prints the table with
# the ratio against PyTorch's best setting. Needs python3-torch. Usage: spec/bench/run.sh [BUILD] [THREADS]
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build} threads=${2:-2}
command -v /usr/bin/python3 >/dev/null && /usr/bin/python3 -c 'import torch' 2>/dev/null || { echo "python3-torch is not installed" >&2; exit 1; }
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE || true
out=$(mktemp)
trap 'rm -f "$out"' EXIT
for _ in 1 2 3; do
    "$build/distac" spec/bench/steps.lua "$threads" >>"$out"
    /usr/bin/python3 spec/bench/torch_steps.py 0 >>"$out"
    /usr/bin/python3 spec/bench/torch_steps.py "$threads" >>"$out"
    ATEN_CPU_CAPABILITY=avx512 /usr/bin/python3 spec/bench/torch_steps.py 0 >>"$out"
    ATEN_CPU_CAPABILITY=avx512 OMP_WAIT_POLICY=passive /usr/bin/python3 spec/bench/torch_steps.py "$threads" >>"$out"
done
ninja -C "$build" bench_kernels >/dev/null
peak=$("$build/spec/bench_kernels" --peak "$threads" | awk '/multiply-adds/ { print $(NF-1) }')
/usr/bin/python3 - "$out" "$peak" <<'PY'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
groups = {}
for r in rows:
    groups.setdefault((r["engine"], r.get("setting", r.get("kernels")), r["threads"]), []).append(r)
median = lambda v: sorted(v)[len(v) // 2]
keys = ("forward_ms", "train_ms", "kd_ms")
best = {k: min(median([r[k] for r in g]) for name, g in groups.items() if name[0].startswith("PyTorch")) for k in keys}
print(f"{'engine':<18}{'setting':<44}{'threads':>8}" + "".join(f"{k:>12}" for k in keys))
for (engine, setting, threads), g in groups.items():
    print(f"{engine:<18}{setting:<44}{threads:>8}" + "".join(f"{median([r[k] for r in g]):>12.2f}" for k in keys))
ours = next(g for name, g in groups.items() if name[0].startswith("distac"))
print("ratio against PyTorch's best:" + "".join(f"  {k[:-3]} {best[k] / median([r[k] for r in ours]):.2f}x" for k in keys))
last = ours[-1]
print("distac: " + ", ".join(f"{k} {median([r[k] for r in ours]):.0f}" for k in ("forward_gflops", "train_gflops", "kd_gflops", "train_images_per_s", "kd_images_per_s")))
peak = float(sys.argv[2])
print(f"fp32 multiply-add peak of this run: {peak:.0f} GFLOP/s; share:" + "".join(
    f"  {k[:-7]} {100 * median([r[k] for r in ours]) / peak:.0f} %" for k in ("forward_gflops", "train_gflops", "kd_gflops")))
PY
