"""merge_peers.py: merging beside the lean PyTorch formulation, in memory and from files, in one run.
Needs: torch, safetensors, numpy. usage: merge_peers.py BASE M1 ... MT   (safetensors, f32)
With BUILD=build and the models in one folder as base, m1 ... mT, distac merges in turn with it, in a process of its own.
Times of every repetition and the error of the merged change to the same formula in float64 over all elements together,
|got - ref| / |ref - base| (ERRORS=1: slow, and takes as much memory again). Prints JSON lines."""
import json, os, resource, subprocess, sys, time
os.environ.pop("OPENBLAS_CORETYPE", None)
os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx512")
import torch
from safetensors.torch import load_file

torch.set_num_threads(int(os.environ.get("THREADS", "2")))
reps = int(os.environ.get("REPS", "3"))
base_path, paths = sys.argv[1], sys.argv[2:]
methods = os.environ.get("METHODS", "task_arithmetic consensus_ta ties").split()


def flat(path):
    tensors = load_file(path)
    return torch.cat([tensors[name].reshape(-1).float() for name in sorted(tensors)])


base = flat(base_path)
taus = [flat(p).sub_(base) for p in paths]


# The lean forms: in place, one model at a time, nothing of all models side by side beyond the task vectors.
def task_arithmetic(taus, base):
    out = base.clone()
    for t in taus:
        out.add_(t)
    return out


def consensus_ta(taus, base, tall=0.4, k=2):
    total = taus[0].clone()
    for t in taus[1:]:
        total.add_(t)
    votes = torch.zeros_like(total, dtype=torch.int8)
    rest = torch.empty_like(total)
    for t in taus:
        torch.sub(total, t, out=rest)
        rest.abs_().mul_(tall)
        votes.add_(t.abs() > rest)
    total.mul_(votes >= k)
    return total.add_(base)


def ties(taus, base, keep=0.2):
    d = base.numel()
    rank = int(keep * d)
    total = torch.zeros_like(base)
    thresholds = []
    for t in taus:
        magnitude = t.abs()
        threshold = magnitude.kthvalue(d - rank + 1).values
        thresholds.append(threshold)
        total.add_(t * (magnitude >= threshold))
    sign = total.sign_()
    majority = sign.sum().sign()
    sign[sign == 0] = majority
    out, count = torch.zeros_like(base), torch.zeros_like(base)
    for t, threshold in zip(taus, thresholds):
        agreeing = (t.abs() >= threshold) & (t * sign > 0)
        out.add_(t * agreeing)
        count.add_(agreeing)
    return out.div_(count.clamp_(min=1)).add_(base)


engine = None
if os.environ.get("BUILD"):
    engine = subprocess.Popen([os.environ["BUILD"] + "/distac", "spec/bench/merge_memory.lua",
        str(torch.get_num_threads()),
                               os.path.dirname(base_path), str(len(paths)), "-", "change"], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert engine.stdout.readline() == "ready\n"


def ours(name):
    engine.stdin.write(name + "\n")
    engine.stdin.flush()
    return float(engine.stdout.readline())


for name in methods:
    work, times, other, got = globals()[name], [], [], None
    if engine:
        ours(name)  # touches the memory, which is kept
    for _ in range(reps if name != "ties" else int(os.environ.get("TIES_REPS", min(reps, 2)))):
        got = None
        begun = time.perf_counter()
        got = work(taus, base)
        times.append(time.perf_counter() - begun)
        if engine:
            other += [ours(name) for _ in range(2)]
    error = None
    if os.environ.get("ERRORS"):
        change = work([t.double() for t in taus], base.double()).sub_(base)
        error = ((got.double() - base - change).norm() / change.norm()).item()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    line = {"tool": "torch " + torch.__version__, "method": name, "seconds": sorted(round(t, 3) for t in times),
            "error": error, "threads": torch.get_num_threads(), "peak_gb": round(peak, 2)}
    print(json.dumps(line), flush=True)
    if engine:
        print(json.dumps({"tool": "distac", "method": name, "seconds": sorted(other), "threads": line["threads"]}),
            flush=True)
