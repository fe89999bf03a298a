# Needs numpy, torch, safetensors. Times the TSVM merge of eight task matrices per shape beside PyTorch's (full SVDs in
# float32, the published formulation without copies it does not need) in turn, and the error of both to float64.
#   env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python spec/bench/tsvm.py [--build build] [--threads 2] [--rounds 2]
#       [--shapes 2304x768,768x768,3072x768,768x3072] [--spectra gauss,root,inverse,corr] [--precision fast] [--cpu]
# --cpu counts processor seconds instead of those of the clock: with --threads 1 a fair measure on a busy machine, where
# the waiting threads of OpenBLAS otherwise cost PyTorch up to a hundred times its own time.
# Spectra: gauss (independent normal numbers), root (singular values i^-0.5), inverse (1/i), corr (1/i, every task 60 % of
# one common matrix). Error: |M - M64| / |M64| of the merged matrix; M64 by SVDs in float64.
import argparse, os, subprocess, sys, tempfile, time

parser = argparse.ArgumentParser()
parser.add_argument("--build", default="build")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=2)
parser.add_argument("--models", type=int, default=8)
parser.add_argument("--shapes", default="2304x768,768x768,3072x768,768x3072")
parser.add_argument("--spectra", default="gauss")
parser.add_argument("--precision", default="")
parser.add_argument("--cpu", action="store_true")
parser.add_argument("--no-error", action="store_true")
args = parser.parse_args()
os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)

import numpy as np, torch
from safetensors.numpy import save_file, load_file

torch.set_num_threads(args.threads)
clock = time.process_time if args.cpu else time.perf_counter
T = args.models


def orthonormal(generator, m, n):
    return np.linalg.qr(generator.standard_normal((m, n)))[0]


def tasks(kind, m, n, seed):
    g = np.random.default_rng(seed)
    k = min(m, n)
    if kind == "gauss":
        return [g.standard_normal((m, n)).astype(np.float32) for _ in range(T)]
    values = np.arange(1, k + 1) ** (-0.5 if kind == "root" else -1.0)
    draw = lambda: (orthonormal(g, m, k) * values) @ orthonormal(g, n, k).T
    common = draw() if kind == "corr" else 0
    share = 0.6 if kind == "corr" else 0
    return [(share * common + (1 - share) * draw()).astype(np.float32) for _ in range(T)]


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


print(f"torch {torch.__version__}, {args.threads} threads, OPENBLAS_CORETYPE {os.environ.get('OPENBLAS_CORETYPE', 'unset')}, "
      f"{'processor' if args.cpu else 'wall'} seconds, "
      f"medians of {args.rounds} rounds in turn")
print(f"{'spectrum':<9}{'shape':>10}{'PyTorch s':>11}{'distac s':>10}{'ratio':>7}{'PyTorch error':>15}{'distac error':>14}")
total = {}
for kind in args.spectra.split(","):
    for shape in args.shapes.split(","):
        m, n = map(int, shape.split("x"))
        arrays = tasks(kind, m, n, 7)
        with tempfile.TemporaryDirectory() as folder:
            for t, a in enumerate(arrays):
                save_file({"w": a}, f"{folder}/{t + 1}.safetensors")
            taus = [torch.from_numpy(a) for a in arrays]
            theirs, ours = [], []
            for _ in range(args.rounds):
                start = clock()
                got = merge(taus)
                theirs.append(clock() - start)
                out = subprocess.run([f"{args.build}/distac", "spec/bench/tsvm.lua", str(args.threads), folder, str(T),
                                      args.precision, "cpu" if args.cpu else "wall"], check=True, capture_output=True, text=True).stdout
                ours.append(float(out))
            mine = load_file(f"{folder}/out.safetensors")["w"].astype(np.float64)
        a, b = float(np.median(theirs)), float(np.median(ours))
        errors = f"{'-':>15}{'-':>14}"
        if not args.no_error:
            want = merge([t.double() for t in taus]).numpy()
            error = lambda x: np.linalg.norm(x - want) / np.linalg.norm(want)
            errors = f"{error(got.double().numpy()):>15.2g}{error(mine):>14.2g}"
        print(f"{kind:<9}{shape:>10}{a:>11.3f}{b:>10.3f}{a / b:>7.2f}{errors}", flush=True)
        one = total.setdefault(kind, [0, 0])
        one[0] += a
        one[1] += b
    print(f"{kind:<9}{'all':>10}{total[kind][0]:>11.3f}{total[kind][1]:>10.3f}{total[kind][0] / total[kind][1]:>7.2f}")
