#!/usr/bin/env python3
"""The same work as spec/bench/steps.lua in PyTorch, on the CPU. Prints one JSON line: milliseconds (median of the
repeats) of a forward pass, a fine-tuning step (cross-entropy, clip, AdamW) and a distillation step (teacher forward,
student forward and backward, KL at two temperatures, anchor, clip, AdamW).

  torch_steps.py [THREADS [SIZE [PRODUCTS [PARTS [REPEATS]]]]]

THREADS 0: PyTorch's default. SIZE: mini8 (batch 128) or b32 (CLIP's ViT-B/32, batch 32). PRODUCTS: f32, or bf16:
under autocast. PARTS: some of forward,train,kd; with one alone, rss_mb is its peak of resident memory.
"""
import json
import os
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

arguments = dict(enumerate(sys.argv))
threads, size = int(arguments.get(1, 0)), arguments.get(2, "mini8")
products, parts = arguments.get(3, "f32"), arguments.get(4, "forward,train,kd").split(",")
if threads:
    torch.set_num_threads(threads)
SIZES = {  # image, patch, channels, width, layers, heads, dim, classes, batch, repeats, activation
    "mini8": (28, 7, 1, 128, 4, 4, 128, 26, 128, 30, F.gelu),
    "b32": (224, 32, 3, 768, 12, 12, 512, 100, 32, 5, lambda x: x * torch.sigmoid(1.702 * x)),
}
IMAGE, PATCH, CHANNELS, WIDTH, LAYERS, HEADS, DIM, CLASSES, BATCH, REPEATS, ACT = SIZES[size]
REPEATS = int(arguments.get(5, REPEATS))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.c_fc, self.c_proj = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(self.ln_1(x)).view(b, n, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        p = torch.softmax((q * (WIDTH // HEADS) ** -0.5) @ k.transpose(-1, -2), -1)
        x = x + self.out((p @ v).transpose(1, 2).reshape(b, n, WIDTH))
        return x + self.c_proj(ACT(self.c_fc(self.ln_2(x))))


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        tokens = (IMAGE // PATCH) ** 2 + 1
        self.conv1 = nn.Linear(CHANNELS * PATCH * PATCH, WIDTH, bias=False)
        self.cls, self.pos = nn.Parameter(torch.randn(WIDTH) * 0.02), nn.Parameter(torch.randn(tokens,
            WIDTH) * 0.02)
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.proj = nn.Parameter(torch.randn(WIDTH, DIM) * WIDTH ** -0.5)

    def forward(self, x):
        b, g = len(x), IMAGE // PATCH
        x = x.view(b, CHANNELS, g, PATCH, g, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(b, g * g,
            CHANNELS * PATCH * PATCH)
        x = torch.cat([self.cls.expand(b, 1, WIDTH), self.conv1(x)], 1) + self.pos
        return self.ln_post(self.blocks(self.ln_pre(x))[:, 0]) @ self.proj


torch.manual_seed(0)
model = ViT()
head = 30 * F.normalize(torch.randn(CLASSES, DIM), dim=-1)
images, labels = torch.randn(BATCH, CHANNELS, IMAGE, IMAGE), torch.randint(0, CLASSES, (BATCH,))


def logits(m):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=products == "bf16"):
        features = m(images)
    return F.normalize(features.float(), dim=-1) @ head.T


def make_forward():
    def work():
        with torch.no_grad():
            logits(model)
    return work


def make_train():
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.1)

    def work():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits(model), labels, label_smoothing=0.1).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return work


def make_kd():
    teacher = ViT()
    anchor = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.1)

    def work():
        with torch.no_grad():
            target = F.softmax(logits(teacher), -1)
        optimizer.zero_grad(set_to_none=True)
        (10.0 * F.kl_div(F.log_softmax(logits(model) / 10.0, -1), target, reduction="batchmean")).backward()
        with torch.no_grad():  # the anchor's gradient, added as the published code does
            for p, a in zip(model.parameters(), anchor):
                p.grad.add_(p - a, alpha=1.0)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return work


def times_ms(work):
    warm = time.perf_counter()
    work()
    while time.perf_counter() - warm < 0.5:
        work()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)


result = {
    "engine": "PyTorch " + torch.__version__, "threads": threads or torch.get_num_threads(), "size": size,
    "products": products,
    "setting": " ".join(f"{k}={os.environ[k].split('/')[-1]}" for k in ("ATEN_CPU_CAPABILITY", "LD_LIBRARY_PATH",
                        "GLIBC_TUNABLES", "OMP_WAIT_POLICY", "OPENBLAS_CORETYPE") if k in os.environ) or "as it comes"}
for part in () if parts == ["none"] else parts:
    times = times_ms({"forward": make_forward, "train": make_train, "kd": make_kd}[part]())
    result[part + "_ms"], result[part + "_least_ms"] = times[len(times) // 2], times[0]
result["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
if __name__ == "__main__":
    print(json.dumps(result))
