#!/usr/bin/env python3
"""The same work as spec/bench/steps.lua in PyTorch: mini8's ViT, batch 128, float32, on the CPU.

Prints one JSON line: milliseconds (median of the repeats) of a forward pass, a fine-tuning step (cross-entropy, clip,
AdamW) and a distillation step (teacher forward, student forward and backward, KL at two temperatures, anchor, clip,
AdamW). Usage: torch_steps.py THREADS (0: PyTorch's default).
"""
import json
import os
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

threads = int(sys.argv[1]) if len(sys.argv) > 1 else 0
if threads:
    torch.set_num_threads(threads)
IMAGE, PATCH, WIDTH, LAYERS, HEADS, DIM, CLASSES, BATCH = 28, 7, 128, 4, 4, 128, 26, 128


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
        return x + self.c_proj(F.gelu(self.c_fc(self.ln_2(x))))


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        tokens = (IMAGE // PATCH) ** 2 + 1
        self.conv1 = nn.Linear(PATCH * PATCH, WIDTH, bias=False)
        self.cls, self.pos = nn.Parameter(torch.randn(WIDTH) * 0.02), nn.Parameter(torch.randn(tokens, WIDTH) * 0.02)
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.proj = nn.Parameter(torch.randn(WIDTH, DIM) * WIDTH ** -0.5)

    def forward(self, x):
        b, g = len(x), IMAGE // PATCH
        x = x.view(b, g, PATCH, g, PATCH).permute(0, 1, 3, 2, 4).reshape(b, g * g, PATCH * PATCH)
        x = torch.cat([self.cls.expand(b, 1, WIDTH), self.conv1(x)], 1) + self.pos
        return self.ln_post(self.blocks(self.ln_pre(x))[:, 0]) @ self.proj


torch.manual_seed(0)
model, teacher = ViT(), ViT()
head = 30 * F.normalize(torch.randn(CLASSES, DIM), dim=-1)
images, labels = torch.randn(BATCH, 1, IMAGE, IMAGE), torch.randint(0, CLASSES, (BATCH,))
anchor = [p.detach().clone() for p in model.parameters()]
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.1)


def logits(m):
    return F.normalize(m(images), dim=-1) @ head.T


def forward():
    with torch.no_grad():
        logits(model)


def train():
    optimizer.zero_grad()
    F.cross_entropy(logits(model), labels, label_smoothing=0.1).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def distil():
    with torch.no_grad():
        target = F.softmax(logits(teacher), -1)
    optimizer.zero_grad()
    (10.0 * F.kl_div(F.log_softmax(logits(model) / 10.0, -1), target, reduction="batchmean")).backward()
    with torch.no_grad():  # the anchor's gradient, added as the published code does
        for p, a in zip(model.parameters(), anchor):
            p.grad.add_(p - a, alpha=1.0)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def median_ms(work, repeats):
    for _ in range(5):
        work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)[len(times) // 2]


print(json.dumps({
    "engine": "PyTorch " + torch.__version__, "threads": threads or torch.get_num_threads(),
    "setting": " ".join(f"{k}={os.environ[k]}" for k in ("ATEN_CPU_CAPABILITY", "OPENBLAS_CORETYPE") if k in os.environ) or "as it comes",
    "blas": [line.strip() for line in torch.__config__.parallel_info().splitlines() if "MKL" in line or "OpenMP" in line][:1],
    "forward_ms": median_ms(forward, 30), "train_ms": median_ms(train, 30), "kd_ms": median_ms(distil, 30)}))
