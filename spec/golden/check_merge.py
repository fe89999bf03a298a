#!/usr/bin/env python3
"""Merges of a full-size model against float64, on request: `distac merge` beside the lean PyTorch formulation in float32.

  check_merge.py [--distac build/distac] [--out DIR] [--methods average,...] [--models 8] [--only PATTERN]
                 [--exact] FOLDER

FOLDER holds base.safetensors and m1.safetensors … m8.safetensors (`distac spec/bench/make_models.lua b32 FOLDER`). For
each method: the largest over all tensors of |got - reference| / |reference - base|, of the engine's output, of PyTorch's,
and of the reference itself rounded to the output's type. It ends with status 1 unless the engine keeps to 1e-6 beyond
that rounding (elementwise methods) and 1e-4 (tsvm). The tsvm of a ViT-B/32 takes some ten minutes, nearly all of it the
reference's decompositions in double; 1 GB of memory a model. --only merges the tensors of that pattern alone, as "*.5.*" one
block, and with --exact tsvm is taken with precision = exact and held to 1e-6 beyond the rounding.

Needs torch, numpy and safetensors (made with 1.13, 1.26, 0.4).
"""
import argparse
import fnmatch
import os
import subprocess
import sys
import time

import numpy as np
import torch
from safetensors import safe_open

ELEMENTWISE, TSVM = 1e-6, 1e-4
TALL, K, KEEP = 0.4, 2, 0.2


def tsvm(taus):
    if taus[0].dim() != 2:
        return sum(taus) / len(taus)
    m, n = taus[0].shape
    k = min(m, n)
    r = k // len(taus)
    U, S, V = taus[0].new_zeros(m, k), taus[0].new_zeros(k), taus[0].new_zeros(k, n)
    for t, tau in enumerate(taus):
        u, s, v = torch.linalg.svd(tau, full_matrices=False)
        part = slice(t * r, (t + 1) * r)
        U[:, part], S[part], V[part] = u[:, :r], s[:r], v[:r]
    u, _, v = torch.linalg.svd(U, full_matrices=False)
    x, _, y = torch.linalg.svd(V, full_matrices=False)
    return torch.linalg.multi_dot((u, v, torch.diag(S), x, y))


def consensus(taus):
    total = sum(taus)
    votes = sum((t.abs() > TALL * (total - t).abs()).to(torch.int8) for t in taus)
    return total * (votes >= K)


def ties(taus, thresholds, majority):
    kept = [t * (t.abs() >= c) for t, c in zip(taus, thresholds)]
    sign = sum(kept).sign()
    sign[sign == 0] = majority
    agreeing = [k * (k * sign > 0) for k in kept]
    count = sum((a != 0).to(a.dtype) for a in agreeing)
    return sum(agreeing) / count.clamp(min=1)


def looks(read, names, models):
    """Thresholds of all models and the majority of the elected signs."""
    thresholds = []
    for i in range(models):
        flat = np.concatenate([np.abs(read(n)[i].numpy()).reshape(-1) for n in names])
        place = flat.size - int(KEEP * flat.size)
        thresholds.append(float(np.partition(flat, place)[place]))
    lead = 0
    for n in names:
        taus = read(n)
        lead += sum(t * (t.abs() >= c) for t, c in zip(taus, thresholds)).sign().sum().item()
    return thresholds, float(np.sign(lead))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--distac", default="build/distac")
    parser.add_argument("--out")
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--methods", default="average,task_arithmetic,ties,consensus_ta,tsvm")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only")
    parser.add_argument("--exact", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    T, out = arguments.models, os.path.join(arguments.out or arguments.folder, "check_merge.safetensors")
    paths = [os.path.join(arguments.folder, f"m{i + 1}.safetensors") for i in range(T)]
    base_path = os.path.join(arguments.folder, "base.safetensors")
    base = safe_open(base_path, "pt")
    files = [safe_open(p, "pt") for p in paths]
    names = [n for n in base.keys() if not arguments.only or fnmatch.fnmatchcase(n, arguments.only)]

    def read(name, dtype=torch.float64):
        b = base.get_tensor(name).to(dtype)
        return [f.get_tensor(name).to(dtype) - b for f in files]

    works = {
        "average": lambda taus, found: sum(taus) / T,
        "task_arithmetic": lambda taus, found: 0.3 * sum(taus),
        "consensus_ta": lambda taus, found: 0.3 * consensus(taus),
        "ties": lambda taus, found: ties(taus, *found),
        "tsvm": lambda taus, found: tsvm(taus),
    }
    lambdas = {"task_arithmetic": 0.3, "consensus_ta": 0.3}
    failed = False
    print(f"torch {torch.__version__}, {T} models, {len(names)} tensors")
    print(f"{'method':<16}{'engine s':>10}{'engine':>10}{'PyTorch':>10}{'rounding':>10}  worst tensor of the engine", flush=True)
    for method in arguments.methods.split(","):
        command = [arguments.distac, "merge", "--base", base_path, "--method", method, "--force", "-o", out] + paths
        if method in lambdas:
            command += ["--lambda", str(lambdas[method])]
        if arguments.only:
            command += ["--only", arguments.only]
        exact = method == "tsvm" and arguments.exact
        if exact:
            command += ["--precision", "exact"]
        begun = time.time()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.time() - begun
        found, rough = None, None
        if method == "ties":
            found = looks(read, names, T)
            rough = looks(lambda n: read(n, torch.float32), names, T)
        worst = {"engine": (0, ""), "torch": (0, ""), "rounding": (0, "")}
        with safe_open(out, "pt") as merged:
            for name in names:
                b = base.get_tensor(name).double()
                delta = works[method](read(name), found)
                peer = base.get_tensor(name) + works[method](read(name, torch.float32), rough)
                size = delta.norm().item()
                for who, got in (("engine", merged.get_tensor(name)), ("torch", peer),
                    ("rounding", (b + delta).float())):
                    off = (got.double() - (b + delta)).norm().item()
                    error = off / size if size else off
                    if not error <= worst[who][0]:
                        worst[who] = (error, name)
        os.remove(out)
        engine, rounding = worst["engine"][0], worst["rounding"][0]
        fine = engine <= (TSVM if method == "tsvm" and not exact else rounding + ELEMENTWISE)
        failed = failed or not fine
        print(f"{method:<16}{seconds:>10.2f}{engine:>10.2g}{worst['torch'][0]:>10.2g}{rounding:>10.2g}  "
              f"{worst['engine'][1]}{'' if fine else '  TOO FAR'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
