#!/usr/bin/env python3
"""Makes spec/golden/vit_{gelu,quick_gelu}.safetensors with PyTorch, in float64.

Each file holds a tiny CLIP image encoder with random weights, a batch, a head, and what PyTorch computes from them:
features, logits, cross-entropy with label smoothing and every parameter's gradient, the weights after ten fine-tuning
steps (AdamW, warm-up and cosine, clipping) and after ten distillation steps (DisTaC's Algorithm 1). The encoder is
written with PyTorch's own modules, so that nothing is shared with the engine but the mathematics.

Needs python3-torch only (made with 1.13.1). Run it again to get the same files up to PyTorch's version.
"""
import json
import math
import os
import struct

import torch
import torch.nn.functional as F
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(20)
HERE = os.path.dirname(os.path.abspath(__file__))
IMAGE, PATCH, CHANNELS, WIDTH, LAYERS, HEADS, MLP, DIM, CLASSES, BATCH = 8, 4, 3, 16, 2, 2, 32, 8, 5, 6
STEPS, WARMUP, LR, WEIGHT_DECAY, CLIP, SMOOTHING = 10, 3, 1e-3, 0.1, 1.0, 0.1
KAPPA, BETA = 0.6, 0.5


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.ln_1 = nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.ln_2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(WIDTH, MLP))
        self.mlp.add_module("gelu", activation)
        self.mlp.add_module("c_proj", nn.Linear(MLP, WIDTH))

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.resblocks = nn.Sequential(*[Block(activation) for _ in range(LAYERS)])


class Encoder(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, WIDTH, PATCH, PATCH, bias=False)
        tokens = (IMAGE // PATCH) ** 2 + 1
        self.class_embedding = nn.Parameter(torch.zeros(WIDTH))
        self.positional_embedding = nn.Parameter(torch.zeros(tokens, WIDTH))
        self.ln_pre = nn.LayerNorm(WIDTH)
        self.transformer = Transformer(activation)
        self.ln_post = nn.LayerNorm(WIDTH)
        self.proj = nn.Parameter(torch.zeros(WIDTH, DIM))

    def forward(self, images):
        x = self.conv1(images).flatten(2).transpose(1, 2)
        cls = self.class_embedding.expand(len(x), 1, WIDTH)
        x = self.ln_pre(torch.cat([cls, x], 1) + self.positional_embedding)
        x = self.transformer.resblocks(x)
        return self.ln_post(x[:, 0]) @ self.proj


def save(path, tensors, metadata):
    header, offset, blobs = {"__metadata__": metadata}, 0, []
    for name in sorted(tensors):
        t = tensors[name].detach().contiguous()
        kind = {torch.float64: "F64", torch.int64: "I64"}[t.dtype]
        blob = t.numpy().tobytes()
        header[name] = {"dtype": kind, "shape": list(t.shape), "data_offsets": [offset, offset + len(blob)]}
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def rate(step):
    if step < WARMUP:
        return LR * (step + 1) / WARMUP
    return 0.5 * LR * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


def logits_of(model, images, head):
    return F.normalize(model(images), dim=-1, eps=0.0) @ head.T


def make(activation_name, activation):
    out = {}
    model = Encoder(activation)
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale = 0.3 if p.dim() > 1 else 0.2
            p.copy_(torch.randn_like(p) * scale)
            if ".ln_" in "." + name and name.endswith("weight"):
                p.add_(1.0)
    base = {n: p.detach().clone() for n, p in model.named_parameters()}
    tau = {n: 0.05 * torch.randn_like(p) for n, p in base.items()}
    images = torch.randn(BATCH, CHANNELS, IMAGE, IMAGE)
    labels = torch.randint(0, CLASSES, (BATCH,))
    head = 6.0 * F.normalize(torch.randn(CLASSES, DIM), dim=-1)
    out.update({"images": images, "labels": labels, "head": head})

    def restore(weights):
        with torch.no_grad():
            for n, p in model.named_parameters():
                p.copy_(weights[n])

    # one forward and backward
    features = model(images)
    features.retain_grad()
    logits = F.normalize(features, dim=-1, eps=0.0) @ head.T
    loss = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
    loss.backward()
    out.update({"features": features, "logits": logits, "loss": loss.reshape(1)})
    for n, p in model.named_parameters():
        out["grad.visual." + n] = p.grad.clone()
        out["base.visual." + n] = base[n]
        out["tau.visual." + n] = tau[n]

    # ten fine-tuning steps
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    losses, norms = [], []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.zero_grad()
        loss = F.cross_entropy(logits_of(model, images, head), labels, label_smoothing=SMOOTHING)
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)))
        optimizer.step()
        losses.append(float(loss))
    out["train.losses"], out["train.grad_norms"] = torch.tensor(losses), torch.tensor(norms)
    for n, p in model.named_parameters():
        out["train.visual." + n] = p.detach().clone()

    # ten distillation steps, for both of the paper's temperature pairs
    restore({n: base[n] + tau[n] for n in base})
    with torch.no_grad():
        teacher = logits_of(model, images, head)
    out["teacher"] = teacher
    for label, kappa, t_teacher, t_student in (("norm", KAPPA, 10.0, 10.0), ("confidence", 1.0, 1.0, 10.0)):
        anchor = {n: base[n] + kappa * tau[n] for n in base}
        restore(anchor)
        optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
        losses, norms = [], []
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
            optimizer.zero_grad()
            student = logits_of(model, images, head)
            kd = t_teacher * t_student * F.kl_div(
                F.log_softmax(student / t_student, -1), F.softmax(teacher / t_teacher, -1), reduction="batchmean")
            pull = sum(((p - anchor[n]) ** 2).sum() for n, p in model.named_parameters())
            (kd + BETA * pull).backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)))
            optimizer.step()
            losses.append(float(kd))
        out[f"kd_{label}.losses"], out[f"kd_{label}.grad_norms"] = torch.tensor(losses), torch.tensor(norms)
        for n, p in model.named_parameters():
            out[f"kd_{label}.visual." + n] = p.detach().clone()

    save(os.path.join(HERE, f"vit_{activation_name}.safetensors"), out, {
        "vit.activation": activation_name, "vit.heads": str(HEADS), "torch": torch.__version__,
        "steps": str(STEPS), "warmup": str(WARMUP), "lr": repr(LR), "weight_decay": repr(WEIGHT_DECAY),
        "clip": repr(CLIP), "label_smoothing": repr(SMOOTHING), "kappa": repr(KAPPA), "beta": repr(BETA),
    })


make("gelu", nn.GELU())
make("quick_gelu", QuickGELU())
