#!/usr/bin/env python3
"""The DisTaC step of bench_device.c, and TSVM, in PyTorch on a GPU. Needs torch 2 with CUDA. Prints JSON lines.

  torch_gpu.py step SIZE PRODUCTS WAY [BATCH [SECONDS]]   SIZE: b32, l14; PRODUCTS: f32, tf32, bf16; WAY: eager, or of
                                                          torch.compile: compile, graphs (CUDA graphs), autotune
  torch_gpu.py tsvm SIZE [MODELS [SECONDS]]               full SVDs in float32, the published formulation
  torch_gpu.py startup                                    importing torch, a tensor on the device
"""
import collections
import json
import sys
import time

begin = time.perf_counter()
import torch
import torch.nn.functional as F
from torch import nn

imported = time.perf_counter() - begin
SIZES = {"b32": (224, 32, 768, 12, 12, 512), "l14": (224, 14, 1024, 24, 16, 768)}


class Block(nn.Module):
    def __init__(self, W, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(W), nn.LayerNorm(W)
        self.qkv, self.out = nn.Linear(W, 3 * W), nn.Linear(W, W)
        self.c_fc, self.c_proj = nn.Linear(W, 4 * W), nn.Linear(4 * W, W)

    def forward(self, x):
        B, N, W = x.shape
        q, k, v = self.qkv(self.ln_1(x)).view(B, N, 3, self.heads, W // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, W))
        h = self.c_fc(self.ln_2(x))
        return x + self.c_proj(h * torch.sigmoid(1.702 * h))


class Encoder(nn.Module):
    def __init__(self, size):
        super().__init__()
        image, patch, W, layers, heads, dim = SIZES[size]
        self.conv = nn.Conv2d(3, W, patch, patch, bias=False)
        self.cls = nn.Parameter(0.02 * torch.randn(W))
        self.pos = nn.Parameter(0.02 * torch.randn((image // patch) ** 2 + 1, W))
        self.ln_pre, self.ln_post = nn.LayerNorm(W), nn.LayerNorm(W)
        self.blocks = nn.Sequential(*[Block(W, heads) for _ in range(layers)])
        self.proj = nn.Parameter(W**-0.5 * torch.randn(W, dim))

    def forward(self, images):
        x = self.conv(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.to(x.dtype).expand(x.shape[0], 1, -1), x], 1) + self.pos
        return self.ln_post(self.blocks(self.ln_pre(x))[:, 0]) @ self.proj


def step(size, products, mode, batch=128, seconds=20.0):
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = products == "tf32"
    student, teacher = Encoder(size).cuda(), Encoder(size).cuda().eval()
    anchor = [p.detach().clone() for p in student.parameters()]
    weight = torch.randn(100, SIZES[size][5], device="cuda")
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-5, weight_decay=0.0, fused=True)
    images = torch.randn(batch, 3, SIZES[size][0], SIZES[size][0], device="cuda")

    def loss_of(images):
        with torch.autocast("cuda", torch.bfloat16, enabled=products == "bf16"):
            with torch.no_grad():
                t = F.normalize(teacher(images).float(), dim=-1) @ weight.T
            s = F.normalize(student(images).float(), dim=-1) @ weight.T
        kl = 10.0 * F.kl_div(F.log_softmax(s / 10.0, -1), F.log_softmax(t, -1), log_target=True,
            reduction="batchmean")
        return kl + 0.5 * sum(((p - a) ** 2).sum() for p, a in zip(student.parameters(), anchor))

    modes = {"compile": None, "graphs": "reduce-overhead", "autotune": "max-autotune-no-cudagraphs"}
    run = loss_of if mode == "eager" else torch.compile(loss_of, mode=modes[mode])

    def once():
        if mode == "graphs":
            torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad(set_to_none=True)
        loss = run(images)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0, foreach=True)
        optimizer.step()
        return loss

    for _ in range(4):
        once()
    torch.cuda.synchronize()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(4):
            loss = once()
        done += 4
        torch.cuda.synchronize()
    spent = time.perf_counter() - start
    print(json.dumps({"who": "torch " + mode, "size": size, "products": products, "batch": batch, "steps": done,
                      "images_per_s": round(batch * done / spent, 1), "ms_per_step": round(spent * 1e3 / done, 3),
                      "memory_peak": torch.cuda.max_memory_allocated(), "loss": loss.item(),
                      "version": torch.__version__}))


def tsvm(size, models=8, seconds=300.0):
    """Every matrix of the encoder: the leading min(m,n)/T singular triplets of each task, joined and made orthogonal.
    Of each shape at least one is merged; when the seconds are over, the rest count as the mean of their shape."""
    torch.manual_seed(0)
    shapes = collections.Counter(tuple(p.shape) for p in Encoder(size).parameters() if p.dim() == 2)
    torch.linalg.svd(torch.randn(64, 64, device="cuda"))  # the libraries are open then

    def merge(m, n):
        keep = min(m, n) // models
        tasks = [1e-3 * torch.randn(m, n, device="cuda") for _ in range(models)]
        torch.cuda.synchronize()
        start = time.perf_counter()
        us, ss, vs = [], [], []
        for task in tasks:
            u, s, v = torch.linalg.svd(task, full_matrices=False)
            us.append(u[:, :keep]), ss.append(s[:keep]), vs.append(v[:keep])
        u, v = torch.cat(us, 1), torch.cat(vs, 0)
        pu, _, qu = torch.linalg.svd(u, full_matrices=False)
        pv, _, qv = torch.linalg.svd(v, full_matrices=False)
        (pu @ qu) @ torch.diag(torch.cat(ss)) @ (pv @ qv)
        torch.cuda.synchronize()
        return time.perf_counter() - start

    times = {shape: [] for shape in shapes}
    start = time.perf_counter()
    for turn in range(max(shapes.values())):
        for shape, count in shapes.items():
            if turn == 0 or (turn < count and time.perf_counter() - start < seconds):
                times[shape].append(merge(*shape))
    total = sum(count * sum(times[shape]) / len(times[shape]) for shape, count in shapes.items())
    print(json.dumps({"who": "torch", "what": "tsvm", "size": size, "models": models, "matrices": sum(shapes.values()),
                      "measured": sum(map(len, times.values())), "seconds": round(total, 3),
                      "version": torch.__version__}))


def startup():
    start = time.perf_counter()
    torch.zeros(1, device="cuda").item()
    print(json.dumps({"who": "torch", "what": "startup", "import_s": round(imported, 3),
                      "device_s": round(time.perf_counter() - start, 3), "version": torch.__version__}))


if not torch.cuda.is_available():
    print("torch_gpu.py: torch sees no GPU", file=sys.stderr)
    sys.exit(3)
a = sys.argv[1:]
if a[0] == "step":
    step(a[1], a[2], a[3], int(a[4]) if len(a) > 4 else 128, float(a[5]) if len(a) > 5 else 20.0)
elif a[0] == "tsvm":
    tsvm(a[1], int(a[2]) if len(a) > 2 else 8, float(a[3]) if len(a) > 3 else 300.0)
else:
    startup()
