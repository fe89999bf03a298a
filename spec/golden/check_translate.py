#!/usr/bin/env python3
"""Recipes of mergekit beside what `distac translate` makes of them, on small random models, on request.

  check_translate.py [--distac build/distac] [--out DIR]

For every recipe: the largest over all tensors of |theirs - ours| / |ours - base|. Those that draw at random are held to
their laws instead, both sides: what is left of a tensor is its own numbers times one factor, and its sum of magnitudes is
what it was. Then the causes of what remains between both on models that were tuned a little: TIES and Model Stock. It ends
with status 1 if a recipe differs by more than 1e-5 or a cause does not explain a difference.

Needs numpy, safetensors, PyYAML and mergekit (made with 0.1.5, torch 2.9.1).
"""
import argparse
import glob
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import yaml
from mergekit.scripts.merge_raw_pytorch import main as mergekit
from safetensors.numpy import load_file, save_file

SHAPES = {"embed": (120, 64), "layers.0.w": (96, 130), "layers.0.b": (300,), "conv": (16, 3, 4, 5), "one": (257,)}
NEAR = 1e-5


def each(*parameters):
    return [dict(p) for p in parameters]


# name, method, parameters of each model, common parameters, "drawn" where the draws differ
RECIPES = [
    ("linear, weights", "linear", each({"weight": 1.0}, {"weight": 3.0}, {"weight": 0.5}), {}, None),
    ("task_arithmetic, weights", "task_arithmetic", each({"weight": 1.0}, {"weight": -0.5}, {"weight": 2.0}), {"lambda": 0.7}, None),
    ("task_arithmetic, normalised", "task_arithmetic", each({"weight": 1.0}, {"weight": 0.5}, {"weight": 2.0}), {"normalize": True}, None),
    ("ties", "ties", each(*[{"weight": 1.0, "density": 0.2}] * 3), {}, None),
    ("ties, weights and densities", "ties", each({"weight": 1.0, "density": 0.5}, {"weight": 0.3, "density": 0.2}, {"weight": 2.0, "density": 0.9}), {"lambda": 1.1}, None),
    ("ties, not normalised", "ties", each({"weight": 1.0, "density": 0.5}, {"weight": 0.3, "density": 0.2}, {"weight": -1.0, "density": 1.0}), {"normalize": False}, None),
    ("dare_linear, nothing dropped", "dare_linear", each({"weight": 1.0, "density": 1.0}, {"weight": 0.3, "density": 1.0}), {}, None),
    ("dare_ties, nothing dropped", "dare_ties", each({"weight": 1.0, "density": 1.0}, {"weight": 0.3, "density": 1.0}, {"weight": 2.0, "density": 1.0}), {"normalize": True}, None),
    ("dare_linear", "dare_linear", each({"weight": 1.0, "density": 0.4}), {}, "drawn"),
    ("dare_ties", "dare_ties", each({"weight": 1.0, "density": 0.4}), {"normalize": True}, "drawn"),
    ("della", "della", each({"weight": 1.0, "density": 0.5}), {"epsilon": 0.1}, "drawn"),
    ("della_linear", "della_linear", each({"weight": 1.0, "density": 0.6}), {}, "drawn"),
    ("della, nothing dropped", "della", each({"weight": 1.0, "density": 1.0}, {"weight": 0.3, "density": 1.0}, {"weight": 2.0, "density": 1.0}), {}, None),
    ("breadcrumbs", "breadcrumbs", each(*[{"weight": 0.4, "density": 0.9, "gamma": 0.02}] * 3), {}, None),
    ("breadcrumbs, no room for outliers", "breadcrumbs", each(*[{"weight": 0.4, "density": 0.9, "gamma": 0.3}] * 3), {}, None),
    ("breadcrumbs, of each model its own", "breadcrumbs", each({"weight": 1.0, "density": 0.9, "gamma": 0.02}, {"weight": 0.3, "density": 0.5, "gamma": 0.1}, {"weight": -1.0, "density": 0.3, "gamma": 0.01}), {"rescale": True}, None),
    ("breadcrumbs_ties", "breadcrumbs_ties", each({"weight": 1.0, "density": 0.9, "gamma": 0.02}, {"weight": 0.3, "density": 0.5, "gamma": 0.1}, {"weight": 2.0, "density": 0.3, "gamma": 0.01}), {"rescale": True, "normalize": True}, None),
    ("model_stock", "model_stock", each({}, {}, {}), {}, None),
    ("model_stock, filter_wise", "model_stock", each({}, {}, {}), {"filter_wise": True}, None),
    ("slerp", "slerp", each({}, {}), {"t": 0.3}, None),
    ("nuslerp", "nuslerp", each({"weight": 1.0}, {"weight": 3.0}), {}, None),
    ("nuslerp, flatten", "nuslerp", each({"weight": 1.0}, {"weight": 3.0}), {"nuslerp_flatten": True}, None),
    ("nuslerp, last dimension", "nuslerp", each({"weight": 1.0}, {"weight": 3.0}), {"nuslerp_flatten": False}, None),
    ("nuslerp, row_wise", "nuslerp", each({"weight": 1.0}, {"weight": 3.0}), {"nuslerp_flatten": False, "nuslerp_row_wise": True}, None),
    ("nuslerp, no base", "nuslerp", each({"weight": 1.0}, {"weight": 3.0}), {"nuslerp_flatten": False, "no base": True}, None),
]


def make(folder, count, scale, shapes):
    random = np.random.default_rng(7)
    base = {k: random.standard_normal(s).astype(np.float32) for k, s in shapes.items()}
    save_file(base, folder + "/base.safetensors")
    common = {k: random.standard_normal(s) for k, s in shapes.items()}
    for i in range(count):
        model = {k: (v + scale * (0.5 * common[k] + random.standard_normal(v.shape))).astype(np.float32) for k, v in base.items()}
        save_file(model, f"{folder}/m{i + 1}.safetensors")


def merge(arguments, folder, method, own, common):
    """Both outputs, in double."""
    base, common = folder + "/base.safetensors", dict(common)
    models = [f"{folder}/m{i + 1}.safetensors" for i in range(len(own))]
    text = {"merge_method": method, "dtype": "float32"}
    free = common.pop("no base", False) or method == "linear"
    if not free:
        text["base_model"] = models[0] if method == "slerp" else base
    text["models"] = [dict({"model": m}, **({"parameters": p} if p else {})) for m, p in zip(models, own)]
    if common:
        text["parameters"] = common
    yml, ours = folder + "/config.yml", folder + "/ours.safetensors"
    with open(yml, "w") as file:
        yaml.safe_dump(text, file, sort_keys=False)
    told = subprocess.run([arguments.distac, "translate", yml], capture_output=True, text=True, check=True).stdout
    words = next(line for line in told.splitlines() if line.startswith("distac merge")).split()[1:]
    words[words.index("-o") + 1] = ours
    subprocess.run([arguments.distac] + words + ["--force", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(folder + "/theirs", ignore_errors=True)
    mergekit(["--quiet", yml, folder + "/theirs"], standalone_mode=False)
    double = lambda path: {k: v.astype(np.float64) for k, v in load_file(path).items()}
    theirs = {}
    for path in glob.glob(folder + "/theirs/*.safetensors"):
        theirs.update(double(path))
    return theirs, double(ours), double(base), [double(m) for m in models]


def norm(x):
    return float(np.sqrt((x * x).sum()))


def law(change, tau):
    """How far from "some of the numbers, times one factor, with the same sum of magnitudes" it is."""
    kept = np.abs(change) > 1e-12
    if not kept.any() or kept.all():
        return np.inf
    factor = np.abs(tau).sum() / np.abs(tau[kept]).sum()
    return norm(change[kept] - factor * tau[kept]) / norm(change[kept])


def recipes(arguments, folder):
    failed = False
    make(folder, 3, 1.0, SHAPES)
    print("| recipe | largest difference of a tensor | |\n|---|---|---|")
    for name, method, own, common, drawn in RECIPES:
        theirs, ours, base, models = merge(arguments, folder, method, own, common)
        note, worst = "", 0.0
        for k in SHAPES:
            if drawn:
                tau = models[0][k] - base[k]
                far = max(law(theirs[k] - base[k], tau), law(ours[k] - base[k], tau))
            else:
                change = norm(ours[k] - base[k])
                far = norm(theirs[k] - ours[k]) / change if change else norm(theirs[k] - base[k])
            if not far <= worst:
                worst, note = far, k
        bad = not worst <= NEAR
        failed = failed or bad
        print(f"| {name} | {worst:.1e} | {'held to its law, both' if drawn else ''}{' **' + note + '**' if bad else ''} |", flush=True)
    return failed


def causes(arguments, folder):
    """Models tuned by a thousandth: float32 changes have few digits left."""
    shapes = {"a": (700, 800), "b": (512, 300)}
    make(folder, 3, 0.001, shapes)
    keep = 0.2
    theirs, ours, base, models = merge(arguments, folder, "ties", each(*[{"weight": 1.0, "density": keep}] * 3), {})
    apart = explained = 0
    for k in shapes:
        where = np.abs(theirs[k] - ours[k]) > 1e-6
        level = np.zeros(where.shape, bool)
        for m in models:
            tau = np.abs(m[k] - base[k])
            rough = np.abs(m[k].astype(np.float32) - base[k].astype(np.float32)).astype(np.float64)
            for magnitudes in (tau, rough):
                rank = int(keep * tau.size)
                bound = np.partition(magnitudes.reshape(-1), tau.size - rank)[tau.size - rank]
                level |= magnitudes == bound
        apart += int(where.sum())
        explained += int((where & level).sum())
    print(f"TIES: {apart} elements differ, {explained} of them have a magnitude equal to a model's threshold")
    theirs, ours, base, models = merge(arguments, folder, "model_stock", each({}, {}, {}), {})
    failed = explained != apart
    for k in shapes:
        taus = [m[k] - base[k] for m in models]
        cosines = [(x * y).sum() / norm(x) / norm(y) for i, x in enumerate(taus) for y in taus[i + 1:]]
        c, n = np.mean(cosines), len(taus)
        exact = base[k] + n * c / (1 + (n - 1) * c) * sum(taus) / n
        size = norm(exact - base[k])
        rounding = norm(exact.astype(np.float32) - exact) / size
        far = [norm(x[k] - exact) / size for x in (theirs, ours)]
        print(f"Model Stock, {k}: error to float64 {far[0]:.1e} (mergekit), {far[1]:.1e} (distac); rounding the result to float32 alone "
              f"costs {rounding:.1e}")
        failed = failed or not far[1] <= 1.01 * rounding or not norm(theirs[k] - ours[k]) / size <= far[0] + far[1]
    return failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--distac", default="build/distac")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    failed = False
    for part in (recipes, causes):
        with tempfile.TemporaryDirectory(dir=arguments.out) as folder:
            failed = part(arguments, folder) or failed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
