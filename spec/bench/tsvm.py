# Needs numpy, torch, safetensors. Times the TSVM merge of a ViT-B/32 layer (four matrices, eight task vectors)
# beside PyTorch's (full SVDs in float32, the published formulation without copies it does not need) in turn, and
# the error of both to float64.
#   env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python spec/bench/tsvm.py [--build build] [--threads 2] [--rounds 2]
#       [--spectra gauss,root,inverse,corr,lora] [--data FOLDER] [--precision fast] [--cpu] [--no-error] [--json FILE]
# --data keeps the matrices and the reference in FOLDER for the next time. --json appends a line per tool and
# spectrum.
# --cpu counts processor seconds instead of those of the clock: with --threads 1 a fair measure on a busy machine,
# where the waiting threads of OpenBLAS otherwise cost PyTorch up to a hundred times its own time.
# Spectra: gauss (independent normal numbers), root (singular values i^-0.5), inverse (1/i), corr (1/i, every task
# 60 % of one common matrix), lora (1/i, rank 128), low (1/i, rank 16: what is kept beyond is the rounding of
# float32). Error: |M - M64| / |M64| of the merged matrices, the largest of the four; M64 by SVDs in float64.
import argparse, json, os, subprocess, tempfile, time

parser = argparse.ArgumentParser()
parser.add_argument("--build", default="build")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=2)
parser.add_argument("--models", type=int, default=8)
parser.add_argument("--spectra", default="gauss")
parser.add_argument("--data")
parser.add_argument("--precision", default="")
parser.add_argument("--cpu", action="store_true")
parser.add_argument("--no-error", action="store_true")
parser.add_argument("--json")
args = parser.parse_args()
os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)

import numpy as np, torch
from safetensors.numpy import save_file, load_file

torch.set_num_threads(args.threads)
clock = time.process_time if args.cpu else time.perf_counter
T = args.models
SHAPES = {"in_proj": (2304, 768), "out_proj": (768, 768), "c_fc": (3072, 768), "c_proj": (768, 3072)}


def orthonormal(generator, m, n):
    return np.linalg.qr(generator.standard_normal((m, n)))[0]


def tasks(kind, m, n, seed):
    g = np.random.default_rng(seed)
    k = min(m, n)
    if kind == "gauss":
        return [g.standard_normal((m, n)).astype(np.float32) for _ in range(T)]
    values = np.arange(1, k + 1) ** (-0.5 if kind == "root" else -1.0)
    values[{"low": 16, "lora": 128}.get(kind, k):] = 0
    draw = lambda: (orthonormal(g, m, k) * values) @ orthonormal(g, n, k).T
    common = draw() if kind == "corr" else 0
    share = 0.6 if kind == "corr" else 0
    return [(share * common + (1 - share) * draw()).astype(np.float32) for _ in range(T)]


def make(kind, folder):
    os.makedirs(folder, exist_ok=True)
    files = [{} for _ in range(T)]
    for i, (name, (m, n)) in enumerate(SHAPES.items()):
        for file, array in zip(files, tasks(kind, m, n, 7 + i)):
            file[name] = array
    for t, file in enumerate(files):
        save_file(file, f"{folder}/{t + 1}.safetensors")


def merge(taus):
    m, n = taus[0].shape
    k = min(m, n)
    r = k // T
    U, S, V = taus[0].new_zeros(m, k), taus[0].new_zeros(k), taus[0].new_zeros(k, n)
    for t, tau in enumerate(taus):
        u, s, v = torch.linalg.svd(tau, full_matrices=False)
        U[:, t * r:(t + 1) * r], S[t * r:(t + 1) * r], V[t * r:(t + 1) * r] = u[:, :r], s[:r], v[:r]
    u, _, v = torch.linalg.svd(U, full_matrices=False)
    x, _, y = torch.linalg.svd(V, full_matrices=False)
    return torch.linalg.multi_dot((u, v, torch.diag(S), x, y))


def layer(files, names, dtype=torch.float32):
    return {n: merge([torch.from_numpy(f[n]).to(dtype) for f in files]).numpy() for n in names}


def error_of(got, want):
    return max(np.linalg.norm(got[n].astype(np.float64) - want[n]) / np.linalg.norm(want[n]) for n in want)


def bench(kind, folder):
    if not os.path.exists(f"{folder}/{T}.safetensors"):
        make(kind, folder)
    files = [load_file(f"{folder}/{t + 1}.safetensors") for t in range(T)]
    names = list(SHAPES)
    theirs, ours, peak = [], [], 0
    for _ in range(args.rounds):
        begun = clock()
        got = layer(files, names)
        theirs.append(clock() - begun)
        out = subprocess.run([f"{args.build}/distac", "spec/bench/tsvm.lua", str(args.threads), folder, str(T),
            args.precision,
                              "cpu" if args.cpu else "wall"], check=True, capture_output=True, text=True).stdout
        seconds, peak = map(float, out.split())
        ours.append(seconds)
    a, b = float(np.median(theirs)), float(np.median(ours))
    mine, error = load_file(f"{folder}/out.safetensors"), (None, None)
    os.remove(f"{folder}/out.safetensors")
    if not args.no_error:
        if not os.path.exists(f"{folder}/reference.safetensors"):
            save_file(layer(files, names, torch.float64), f"{folder}/reference.safetensors")
        want = load_file(f"{folder}/reference.safetensors")
        error = error_of(got, want), error_of(mine, want)
    shown = "".join(f"{'-' if e is None else format(e, '.2g'):>15}" for e in error)
    print(f"{kind:<9}{a:>11.3f}{b:>10.3f}{a / b:>7.2f}{shown}", flush=True)
    if args.json:
        with open(args.json, "a") as lines:
            for tool, seconds, off, memory in (("torch " + torch.__version__, theirs, error[0], None),
                                               ("distac", ours, error[1], peak / 1e9)):
                print(json.dumps({"tool": tool, "method": f"tsvm, {kind}", "where": "layer", "seconds": seconds,
                                  "error": off, "threads": args.threads, "peak_gb": memory}), file=lines)


print(f"torch {torch.__version__}, {args.threads} threads, OPENBLAS_CORETYPE {os.environ.get('OPENBLAS_CORETYPE', 'unset')}, "
      f"{'processor' if args.cpu else 'wall'} seconds, medians of {args.rounds} rounds in turn")
print(f"{'spectrum':<9}{'PyTorch s':>11}{'distac s':>10}{'ratio':>7}{'PyTorch error':>15}{'distac error':>15}")
for kind in args.spectra.split(","):
    if args.data:
        bench(kind, f"{args.data}/{kind}")
    else:
        with tempfile.TemporaryDirectory() as folder:
            bench(kind, folder)
