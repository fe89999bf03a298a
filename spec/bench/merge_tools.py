"""merge_tools.py: merging from files to a file beside mergekit and sd-mecha: wall time of the whole process and its peak
memory, and whether the outputs agree. Called by merge_tools.sh.
Needs: numpy, safetensors, PyYAML for itself; mergekit and sd-mecha in the interpreter that MERGE_TOOLS names.
usage: merge_tools.py run PROGRAM METHOD FOLDER BASE M1 ... MT     measures one method, prints lines of a table
       merge_tools.py sdmecha METHOD OUT BASE M1 ... MT           what is measured of sd-mecha
       merge_tools.py versions"""
import os
import subprocess
import sys
import time

# Of mergekit: parameters for all models and for the merge; then who has the same meaning as ours, element by
# element. sd-mecha has another formula for model_stock, and its TIES (with a drop-out of 0: the one without does
# not run on models that it has no configuration of) gives other numbers; random draws differ everywhere.
BOTH, ONE, NONE = ("mergekit", "sd-mecha"), ("mergekit",), ()
METHODS = {
    "linear": ({"weight": 1.0}, {}, BOTH),
    "task_arithmetic": ({"weight": 0.3}, {}, BOTH),
    "ties": ({"weight": 1.0, "density": 0.2}, {"lambda": 1.0}, ONE),
    "dare_ties": ({"weight": 1.0, "density": 0.5}, {"normalize": True}, NONE),
    "della": ({"weight": 1.0, "density": 0.5}, {"rescale": True}, NONE),
    "breadcrumbs": ({"weight": 0.3, "density": 0.5, "gamma": 0.01}, {}, ONE),
    "model_stock": ({}, {}, ONE),
    "slerp": ({}, {"t": 0.5}, BOTH),
}


def sdmecha(method, out, base, models):
    import sd_mecha

    b, ms = sd_mecha.model(base), [sd_mecha.model(m) for m in models]
    recipe = {
        "linear": lambda: sd_mecha.n_average(*ms),
        "task_arithmetic": lambda: sd_mecha.weighted_sum(b, sd_mecha.n_average(*ms), alpha=0.3 * len(ms)),
        "ties": lambda: sd_mecha.add_ties_with_dare(b, *ms, probability=0.0, rescale=False, k=0.2, vote_sgn=True,
                                                    seed=1),
        "dare_ties": lambda: sd_mecha.add_ties_with_dare(b, *ms, probability=0.5, k=1.0, seed=1),
        "model_stock": lambda: sd_mecha.n_model_stock(b, *ms),
        "slerp": lambda: sd_mecha.slerp(ms[0], ms[1], alpha=0.5),
    }.get(method)
    if not recipe:
        sys.exit("sd-mecha has no " + method)
    sd_mecha.merge(recipe(), output=out, merge_device="cpu", merge_dtype=None, output_dtype=None)


def config(method, path, base, models):
    import yaml

    own, common, _ = METHODS[method]
    text = {"merge_method": method, "dtype": "float32"}
    if method == "slerp":
        base, models = models[0], models[:2]
    if method != "linear":
        text["base_model"] = base
    text["models"] = [dict({"model": m}, **({"parameters": dict(own)} if own else {})) for m in models]
    if common:
        text["parameters"] = common
    with open(path, "w") as file:
        yaml.safe_dump(text, file, sort_keys=False)


def measure(words, log):
    """Seconds, peak bytes and the status of a process."""
    begun = time.monotonic()
    with open(log, "wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
    return time.monotonic() - begun, usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status)


def differences(one, other, base):
    """|one - other| / |other - base| over all elements, and the largest difference of one element."""
    import numpy as np
    from safetensors import safe_open

    square = norm = largest = 0.0
    with safe_open(one, "np") as a, safe_open(other, "np") as b, safe_open(base, "np") as c:
        for name in c.keys():
            x, y = a.get_tensor(name).astype(np.float64), b.get_tensor(name).astype(np.float64)
            d = x - y
            square += float((d * d).sum())
            norm += float(((y - c.get_tensor(name)) ** 2).sum())
            largest = max(largest, float(abs(d).max()))
    if not square <= 1e300:
        raise SystemExit("numbers that are not finite")
    return (square / norm) ** 0.5, largest


def run(program, method, folder, base, models):
    tools = os.environ["MERGE_TOOLS"]
    bin_folder = os.path.dirname(tools)
    used = models[:2] if method == "slerp" else models
    yml, ours = folder + "/config.yml", folder + "/distac.safetensors"
    config(method, yml, base, models)
    told = subprocess.run([program, "translate", yml], capture_output=True, text=True, check=True).stdout
    words = next(line for line in told.splitlines() if line.startswith("distac merge")).split()[1:]
    words[words.index("-o") + 1] = ours
    for path in [base] + used:
        with open(path, "rb") as file:  # warm
            while file.read(1 << 24):
                pass
    runs = [("distac", [program] + words + ["--force", "--quiet"], ours, int(os.environ.get("REPS", "3"))),
            ("mergekit", [bin_folder + "/mergekit-pytorch", "--quiet", yml, folder + "/mergekit"],
             folder + "/mergekit/model.safetensors", int(os.environ.get("PEER_REPS", "1"))),
            ("sd-mecha", [tools, os.path.abspath(__file__), "sdmecha", method, folder + "/sdmecha.safetensors",
                base]
             + used, folder + "/sdmecha.safetensors", int(os.environ.get("PEER_REPS", "1")))]
    for name, words, out, reps in runs:
        results = [measure(words, folder + "/log") for _ in range(reps)]
        if any(r[2] for r in results):
            with open(folder + "/log") as file:
                why = file.read().strip().splitlines()
            print(f"| {method} | {name} | - | - | {why[-1] if why else 'failed'} |")
            continue
        seconds = sorted(r[0] for r in results)[reps // 2]
        peak = max(r[1] for r in results)
        agree = ""
        if name in METHODS[method][2]:
            near, largest = differences(out, ours, models[0] if method == "slerp" else base)
            agree = f"{near:.1e}, {largest:.1e}"
        elif name != "distac":
            agree = "another meaning: not compared"
        print(f"| {method} | {name} | {seconds:.2f} | {peak / 2**30:.2f} | {agree} |", flush=True)


def versions():
    from importlib.metadata import version

    print(", ".join(f"{name} {version(name)}" for name in ("mergekit", "sd-mecha", "torch")))


if sys.argv[1] == "run":
    run(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5], sys.argv[6:])
elif sys.argv[1] == "sdmecha":
    sdmecha(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
else:
    versions()
